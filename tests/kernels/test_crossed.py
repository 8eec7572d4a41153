"""`crossed` gives the dense kernel's answers on every layout of grouping factors, at every kind of θ."""

import numpy as np
import pytest
from strategies import _theta

import vcbench as vc
from vcbench import kernels
from vcbench.errors import ModelError
from vcbench.inference.standard_errors import theta_covariance
from vcbench.kernels import crossed, crossed_design, crossed_solve
from vcbench.kernels.crossed import CrossedKernel
from vcbench.kernels.dense import DenseKernel
from vcbench.solvers.solve import solve

REL = 1e-8
LAYOUTS = ("three crossed", "partially crossed", "three nested", "vectors", "blocks and shared", "singletons")
POINTS = ("inside", "singular", "no leading variance", "no dense variance", "tiny", "zero", "negative")


def codes(rng, n, levels, prefix):
    """n labels, every level among them."""
    return np.array([f"{prefix}{i}" for i in rng.permutation(np.arange(n) % levels)])


def build_model(layout, seed, n=70):
    rng = np.random.default_rng(seed)
    C, cov = vc.Component, vc.covariance
    one, x, w = np.ones(n), rng.normal(1.0, 1.5, n), rng.normal(0, 0.7, n)
    g, h, k = codes(rng, n, 9, "g"), codes(rng, n, 6, "h"), codes(rng, n, 4, "k")
    match layout:
        case "three crossed":
            terms = [C(one, name="k", group=k), C(one, name="g", group=g), C(one, name="h", group=h)]
        case "partially crossed":  # most levels of g meet two levels of h, a few meet all
            h = np.array([f"h{(int(a[1:]) + rng.integers(2)) % 6}" for a in g])
            h[:6] = [f"h{i}" for i in range(6)]
            terms = [C(one, name="g", group=g), C(one, name="h", group=h)]
        case "three nested":
            upper = np.array([f"a{int(a[1:]) % 3}" for a in g])
            inner = np.array([f"{a}:{b}" for a, b in zip(g, rng.integers(0, 3, n), strict=True)])
            terms = [C(one, name="a", group=upper), C(one, name="i", group=inner), C(one, name="g", group=g)]
        case "vectors":
            terms = [
                C(np.column_stack([one, x]), name="g", group=g),
                C(np.column_stack([one, x]), name="h", group=h),
                C(np.column_stack([one, w]), name="k", group=k, cov=cov.diag()),
            ]
        case "blocks and shared":
            terms = [
                C(one, name="h", group=h),
                C(np.column_stack([one, x, w]), name="k", group=k, cov=cov.blocks([[0, 2], [1]])),
                C(w, name="h.1", group=h, columns=["w"]),
                C(one, name="g", group=g),
            ]
        case "singletons":  # levels of one row, and almost as many effects as rows
            terms = [C(one, name="g", group=codes(rng, n, n - 25, "g")), C(one, name="h", group=codes(rng, n, 20, "h"))]
    return vc.Model(rng.normal(size=n) + 5 + x, np.column_stack([one, x]), terms, offset=w)


def point(model, where, seed):
    rng = np.random.default_rng(1000 + seed)
    theta = _theta(model.components, rng, singular=where == "singular")
    lead = max(model.components, key=lambda c: len(c.levels) * c.n_effects)
    at = 0
    for c in model.components:
        mine = slice(at, at + len(c.index))
        at += len(c.index)
        if where == ("no leading variance" if c is lead else "no dense variance"):
            theta[mine] = 0.0
    if where in ("tiny", "zero"):
        theta[:-1] *= 1e-10 * (where == "tiny")
    if where == "negative":  # as moment estimates may be: V is positive definite all the same
        theta[:-1] *= -1e-3
        theta[0] *= -1e3
    return theta


def near(got, want, size, what):
    assert np.all(np.abs(np.asarray(got) - want) <= REL * size), f"{what}: {got} is not {want}"


def check(got, want):
    """Two evaluations, in the units of `test_agreement`: standard errors."""
    near(got.loglik, want.loglik, 1 + abs(want.loglik), "loglik")
    unit = np.sqrt(np.diag(want.expected))
    near(got.score, want.score, unit + np.abs(want.score), "score")
    wide = np.outer(unit, unit)
    near(got.expected, want.expected, wide, "expected")
    wide = wide + np.sqrt(np.outer(np.diag(want.average), np.diag(want.average)))
    near(got.average, want.average, wide, "average")
    near(got.observed, want.observed, wide, "observed")
    unit = np.sqrt(np.diag(want.QtVinvQ))
    near(got.gamma, want.gamma, 1 / unit + np.abs(want.gamma), "gamma")
    near(got.QtVinvQ, want.QtVinvQ, np.outer(unit, unit), "QtVinvQ")
    if want.score_gamma is not None:
        near(got.score_gamma, want.score_gamma, unit + np.abs(want.score_gamma), "score of gamma")
    if want.moments is not None:
        for name in ("F", "Wty", "XtW", "S", "f", "E0", "yty", "logdet"):
            a, b = getattr(got.moments, name), getattr(want.moments, name)
            near(a, b, np.abs(b).max() + 1e-8 * want.moments.E0, name)


@pytest.mark.parametrize("where", POINTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_crossed__gives_what_the_dense_kernel_gives(layout, where):
    for seed in range(3):
        model = build_model(layout, seed)
        theta = point(model, where, seed)
        ours, dense = CrossedKernel.build(model), DenseKernel.build(model)
        needs = kernels.protocol.NEEDS[: -1 if where == "negative" else None]  # no E-step of an indefinite Ω
        beta = np.random.default_rng(seed).normal(4.0, 2.0, model.n_fixed)
        for criterion, given in (("ml", None), ("reml", None), ("reml", beta)):
            want = dense.evaluate(theta, needs, criterion, beta=given)
            assert np.isfinite(want.loglik)
            check(ours.evaluate(theta, needs, criterion, beta=given), want)
        for u, v in zip(ours.blup(theta, beta), dense.blup(theta, beta), strict=True):
            near(u, v, np.abs(v).max() + 1e-300, "blup")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crossed__each_need_alone_is_the_same_answer(layout):
    """What is asked together does not change what is answered: S⁻¹ takes the place of S midway."""
    model = build_model(layout, 5)
    k, theta = CrossedKernel.build(model), point(model, "inside", 5)
    everything = k.evaluate(theta, kernels.protocol.NEEDS)
    for need in ("score", "expected", "average"):
        got = getattr(k.evaluate(theta, (need,)), need)
        assert (got == getattr(everything, need)).all()
    assert (k.evaluate(theta, ("moments",)).moments.F == everything.moments.F).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crossed__a_log_likelihood_is_gone_on_from_at_its_own_theta_only(layout, monkeypatch):
    model = build_model(layout, 6)
    here, there = point(model, "inside", 6), point(model, "inside", 7)
    needs = ("score", "average", "moments")
    want = {id(t): CrossedKernel.build(model).evaluate(t, (*needs, "expected")) for t in (here, there)}
    k, built = CrossedKernel.build(model), []
    monkeypatch.setattr(
        crossed_solve.Factorised, "_factorise", lambda s, f=crossed_solve.Factorised._factorise: built.append(1) or f(s)
    )
    for first, then, factors in ((here, here, 1), (here, there, 2), (there, here, 2), (there, there, 1)):
        built.clear()
        assert k.evaluate(first).loglik == want[id(first)].loglik
        got = k.evaluate(then, needs)
        assert len(built) == factors
        assert (got.score == want[id(then)].score).all()
        assert (got.average == want[id(then)].average).all()
        assert (got.moments.F == want[id(then)].moments.F).all()
    k.evaluate(here)
    assert k.bind(model.y * 2.0).evaluate(here).loglik != want[id(here)].loglik  # another response begins anew


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crossed__V_not_positive_definite_is_minus_infinity(layout):
    model = build_model(layout, 1)
    ours, dense = CrossedKernel.build(model), DenseKernel.build(model)
    theta = point(model, "inside", 1)
    for j in range(model.n_theta):
        if j == model.n_theta - 1 or ours.layout.pa[j] == ours.layout.pb[j]:
            bad = theta.copy()
            bad[j] = -3.0 * theta[:-1].sum() if j < model.n_theta - 1 else 0.0
            assert dense.evaluate(bad).loglik == ours.evaluate(bad).loglik == -np.inf
    singular = theta.copy()  # σ²I + A_lΩ_0 = 0 at a level of the leading factor
    D = ours.design
    singular[:-1][(ours.layout.pa == D.lead.effects[0]) & (ours.layout.pb == D.lead.effects[0])] = (
        -theta[-1] / D.own[0][0, 0, 0]
    )
    assert ours.evaluate(singular).loglik == -np.inf or D.lead.r > 1
    with pytest.raises(ModelError, match="not positive definite"):
        ours.blup(bad, np.zeros(model.n_fixed))


def test_crossed__bind_equals_building_anew():
    model = build_model("vectors", 2)
    y = np.random.default_rng(8).normal(3.0, 10.0, model.n_obs)
    bound, theta = CrossedKernel.build(model).bind(y), point(model, "inside", 2)
    anew = CrossedKernel.build(vc.Model(y, model.X, model.components, offset=model.offset))
    check(bound.evaluate(theta, kernels.protocol.NEEDS), anew.evaluate(theta, kernels.protocol.NEEDS))
    assert bound.layout.scale == pytest.approx(anew.layout.scale, rel=1e-12)


def test_crossed__the_factor_with_most_effects_leads():
    """4 levels of 3 effects and 9 of one: 12 effects lead, 9 + … make the Schur complement."""
    model = build_model("blocks and shared", 0)
    D = CrossedKernel.build(model).design
    assert [f.q for f in D.factors] == [12, 12, 9]
    assert D.q1 == 21
    said = model.explain()
    assert "Schur complement, 21 × 21" in said
    assert "h + h.1 (12 effects) is eliminated level by level" in said


def test_crossed__a_cross_holds_the_levels_that_meet_and_no_others():
    model = build_model("three nested", 3)
    D = CrossedKernel.build(model).design
    inner, outer = D.crosses
    assert (np.diff(inner.ptr) == 2).all()  # each inner level lies in one level of either of the others
    assert (np.diff(outer.ptr) == 1).all()
    Z = [np.eye(f.n_levels)[f.codes] for f in D.factors]
    assert D.matrix.toarray() == pytest.approx(np.hstack(Z).T @ np.hstack(Z))


def test_crossed__refuses_what_it_is_not_for(monkeypatch):
    model = build_model("three crossed", 0)
    with pytest.raises(ModelError, match=r"more than one grouping factor\. Use `kernel=\"grouped\"`"):
        CrossedKernel.build(vc.Model(model.y, model.X, model.components[:1]))
    K = vc.Component(K=np.cov(np.random.default_rng(0).normal(size=(70, 99))), name="a")
    with pytest.raises(ModelError, match=r"all grouped\. Use `kernel=\"dense\"`"):
        CrossedKernel.build(vc.Model(model.y, model.X, [*model.components, K]))
    monkeypatch.setattr(crossed_design, "MEMORY", 1e-7)
    with pytest.raises(ModelError, match=r"the 10 effects outside the largest grouping factor"):
        CrossedKernel.build(model)


@pytest.mark.parametrize("method", ["ai", "em", "lbfgs", "px-em-full"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_crossed__a_stop_by_average_information_ends_at_the_same_optimum(method, criterion, monkeypatch):
    """As for large designs, where the exact expected information is not asked for at all."""
    model = build_model("three crossed", 4)
    kernel = CrossedKernel.build(model)
    assert kernel.stop_information == "expected"
    want = solve(kernel, "newton", criterion, tol=1e-9)
    monkeypatch.setattr(crossed, "FEW", 0)
    assert kernel.stop_information == "average"
    monkeypatch.setattr(crossed_solve.Factorised, "squares", None)
    got = solve(kernel, method, criterion, max_iter=5000, start="unit")
    assert got.status is want.status
    assert got.loglik == pytest.approx(want.loglik, abs=1e-9)


def test_crossed__standard_errors_are_by_average_information_where_the_exact_is_dear(monkeypatch):
    model = build_model("three crossed", 0)
    kernel = CrossedKernel.build(model)
    end = solve(kernel, "ai")
    assert theta_covariance(kernel, end.theta, "reml", end.rank)[1] == "observed"
    monkeypatch.setattr(crossed, "DEAR", 0.0)
    cov, used = theta_covariance(kernel, end.theta, "reml", end.rank)
    assert used == "average"
    free = ~np.isnan(np.diag(cov))
    average = kernel.evaluate(end.theta, ("average",)).average[np.ix_(free, free)]
    assert cov[np.ix_(free, free)] == pytest.approx(np.linalg.inv(average), rel=1e-6)
    assert theta_covariance(kernel, end.theta, "reml", end.rank, "expected")[1] == "expected"
    assert "SE are by average information" in str(vc.fit(model).summary())
