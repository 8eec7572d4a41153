"""Kernel `sparse` with residuals that are correlated within small units: held to V written out, and to `dense`."""

import numpy as np
import pandas as pd
import pytest
from oracle import central_difference, plain_of

import vcbench as vc
from vcbench import kernels
from vcbench.errors import ModelError
from vcbench.kernels import sparse_residual
from vcbench.model.pedigree import Pedigree
from vcbench.solvers import codes
from vcbench.solvers.gem import m_step

NEEDS = ("score", "expected", "average", "observed")
ANSWERS = ("loglik", "beta", "score", "expected", "average", "observed", "QtVinvQ")


def pedigree(m, rng, reach=12):
    """m animals a0, a1, …, each after the fourth with parents among the `reach` before: much inbreeding."""
    sire, dam = np.full(m, "", object), np.full(m, "", object)
    for i in range(4, m):
        sire[i], dam[i] = (f"a{j}" for j in rng.integers(max(0, i - reach), i, 2))
    return Pedigree.of({"id": [f"a{i}" for i in range(m)], "sire": sire, "dam": dam})


def traits(m, rng, n_traits=2, share=0.8):
    """Long form, rows shuffled: traits t0, t1, … of the later animals, some of them twice, some traits missing."""
    record = np.arange(m // 3, m).repeat(rng.integers(1, 3, m - m // 3))
    rows = [
        (f"a{a}", f"t{t}", i, f"h{i % 4}", float(rng.normal()))
        for i, a in enumerate(record)
        for t in range(n_traits)
        if rng.random() < share
    ]
    d = pd.DataFrame(rows, columns=["animal", "trait", "record", "herd", "x"])
    d["y"] = rng.normal(size=len(d)) * (1.0 + 2.0 * (d.trait == "t1")) + d.x
    return d.sample(frac=1.0, random_state=int(rng.integers(1000))).reset_index(drop=True)


def bivariate(rng, m=24):
    d, P = traits(m, rng), pedigree(m, rng)
    formula = "y ~ 0 + trait + x + (0 + trait | animal) + (0 + trait | herd)"
    cov = {"animal": vc.covariance.pedigree(P)}
    return vc.Model.from_formula(formula, d, cov=cov, residual="un(trait, group=record)"), d, P


def written_out(model, d, P):
    """∂V/∂θ_j of the bivariate model, entry by entry."""
    A, n = P.relationship(), len(d)
    at = {label: i for i, label in enumerate(P.ids)}
    where = [at[a] for a in d.animal]
    out = np.zeros((9, n, n))
    for i in range(n):
        for j in range(n):
            a, b = sorted((d.trait[i], d.trait[j]))
            k = {("t0", "t0"): 0, ("t0", "t1"): 1, ("t1", "t1"): 2}[a, b]
            out[k, i, j] = A[where[i], where[j]]
            out[3 + k, i, j] = d.herd[i] == d.herd[j]
            out[6 + k, i, j] = d.record[i] == d.record[j]
    return out


def near(got, want, names=ANSWERS):
    for name in names:
        value = np.asarray(getattr(want, name))
        assert getattr(got, name) == pytest.approx(value, rel=1e-8, abs=1e-8 * np.abs(value).max()), name


INSIDE = [1.3, 0.4, 0.9, 0.5, -0.2, 0.6, 1.1, 0.3, 2.0]


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("seed", range(3))
def test_bivariate__is_the_normal_density_and_its_informations(criterion, seed):
    model, d, P = bivariate(np.random.default_rng(seed))
    assert model.theta_names[-3:] == ("residual:var(t0)", "residual:cov(t0,t1)", "residual:var(t1)")
    Vs, k = written_out(model, d, P), kernels.build(model, "sparse")
    for theta in (
        INSIDE,
        [1.3, 0.4, 0.9, 0.0, 0.0, 0.0, 1.1, -0.9, 2.0],
        [1.0, 2.0, 4.0, 0.5, 0.0, 0.0, 1.1, 0.3, 2.0],
    ):  # inside; a component at 0; an Ω of rank 1
        at = k.evaluate(np.array(theta), NEEDS, criterion)
        near(at, plain_of(model.y, model.X, Vs, np.array(theta), criterion), ANSWERS[:-1])


@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_bivariate__at_a_given_beta(criterion):
    model, d, P = bivariate(np.random.default_rng(4))
    beta = np.array([0.3, -0.2, 0.8])
    at = kernels.build(model, "sparse").evaluate(np.array(INSIDE), NEEDS, criterion, beta=beta)
    near(at, plain_of(model.y, model.X, written_out(model, d, P), np.array(INSIDE), "ml", beta), ANSWERS[:-1])


STRUCTURES = {
    "un(trait, group=record)": [1.0, 0.2, -0.1, 2.0, 0.3, 1.5],
    "by(trait)": [1.0, 2.0, 1.5],
    "csh(trait, group=record)": [1.0, 2.0, 1.5, 0.3],
    "ar1(time, group=animal) + nugget()": [1.0, 0.6, 0.4],
    "weights(w) * toeplitz(time, group=animal)": [1.0, 0.3, 0.1, 0.05],
    "exponential(day, group=animal)": [1.0, 2.0],
}


@pytest.mark.parametrize("text", STRUCTURES)
@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_structures__are_those_of_the_dense_kernel(text, criterion, rng):
    """Every kind of R: one class of units or many, a nugget, weights, distances; a slope, a group beside it."""
    if "trait" in text:
        d = traits(24, rng, 3)
    else:
        d = pd.DataFrame([(f"a{a}", t) for a in range(8, 24) for t in range(1, 5)], columns=["animal", "time"])
        d = d.sample(frac=0.8, random_state=1).reset_index(drop=True)
        d["x"], d["w"], d["y"] = rng.normal(size=len(d)), rng.uniform(0.5, 2, len(d)), rng.normal(size=len(d))
        d["day"], d["herd"] = d.time + 0.3 * rng.random(len(d)), rng.choice(list("pqr"), len(d))
    cov = {"animal": vc.covariance.pedigree(pedigree(24, rng)), "herd": "cs"}
    model = vc.Model.from_formula("y ~ x + (x | animal) + (x | herd)", d, cov=cov, residual=text)
    both = [kernels.build(model, name) for name in ("sparse", "dense")]
    for Omega in ([1.0, 0.3, 0.5, 0.4, 0.2], [0.0, 0.0, 0.5, 0.4, 0.2], [1.0, 0.5, 0.25, 0.4, 0.2]):
        theta = np.array([*Omega, *STRUCTURES[text]])
        near(*(k.evaluate(theta, NEEDS, criterion) for k in both))
    for ours, theirs in zip(*(k.blup(theta, np.array([0.1, 1.0])) for k in both), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-10)
    again = model.y[::-1].copy()
    near(*(k.bind(again).evaluate(theta, NEEDS, criterion) for k in both))


@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_score__is_the_slope_of_the_likelihood(criterion, rng):
    model, _, _ = bivariate(rng)
    k = kernels.build(model, "sparse")
    slope = central_difference(lambda t: k.evaluate(t, ("loglik",), criterion).loglik, np.array(INSIDE), [1e-3] * 9)
    assert k.evaluate(np.array(INSIDE), ("score",), criterion).score == pytest.approx(slope, rel=1e-7, abs=1e-7)


def test_fit__traits_of_very_different_units(rng):
    """A trait in other units is the same model: Ω and R scale, ℓ shifts by log of the unit, no step more is needed."""
    _, d, P = bivariate(np.random.default_rng(5), 90)
    cov = {"animal": vc.covariance.pedigree(P)}
    formula, residual = "y ~ 0 + trait + trait:x + (0 + trait | animal)", "un(trait, group=record)"
    unit = np.where(d.trait == "t0", 1e-3, 1e4)
    one, other = (
        vc.fit(vc.Model.from_formula(formula, d.assign(y=y), cov=cov, residual=residual), "ai", kernel="sparse")
        for y in (d.y, d.y * unit)
    )
    assert (one.status.ok, other.status.ok) == (True, True)
    scale = np.array([1e-6, 10.0, 1e8])
    assert other.theta.to_numpy() == pytest.approx(one.theta.to_numpy() * np.tile(scale, 2), rel=1e-4)
    shift = np.log(unit).sum() - 2 * np.log(1e-3) - 2 * np.log(1e4)  # X has two columns a trait
    assert other.loglik + shift == pytest.approx(one.loglik, abs=1e-6)
    assert other.n_iter == one.n_iter


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("code", [codes.BY_SCORE, codes.EM, codes.PX, codes.PX_COMPONENT])
def test_em__takes_the_step_that_the_dense_kernel_takes(criterion, code, rng):
    model, _, _ = bivariate(rng)
    profile = criterion == "reml" or code == codes.BY_SCORE
    gamma = None if profile else np.array([0.5, -0.3, 0.2])
    steps = []
    for name in ("sparse", "dense"):
        view = kernels.build(model, name).view
        w = view.maps.w(INSIDE)
        at = view.evaluate(w, ("score", "moments"), criterion, gamma=gamma)
        full = np.array([2, 2, 1])
        steps.append(m_step(view, code, criterion == "reml", w, at.gamma, profile, full, at.moments))
    for ours, theirs in zip(*steps, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("method", ["em", "px-em", "px-em-component"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_em__with_a_nugget_rises_and_stays_where_ai_ends(method, criterion, rng):
    d = pd.DataFrame([(f"a{a}", t) for a in range(30) for t in range(1, 6)], columns=["animal", "time"])
    P = pedigree(30, rng)
    L = np.linalg.cholesky(P.relationship())
    R = np.linalg.cholesky(0.7 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    at = [P.ids.index(a) for a in d.animal]
    d["y"] = 2 * (L @ rng.normal(size=30))[at] + (rng.normal(size=(30, 5)) @ R.T).ravel() + rng.normal(size=150)
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("y ~ 1 + (1 | animal)", d, cov=cov, residual="ar1(time, group=animal) + nugget()")
    best = vc.fit(model, "ai", criterion=criterion, kernel="sparse")
    assert best.status.ok
    em = vc.fit(model, method, criterion=criterion, kernel="sparse", max_iter=40)
    rise = np.diff(em.trace["loglik"].to_numpy())
    assert rise.min() >= -1e-9 * (1 + abs(em.loglik))
    assert em.loglik <= best.loglik + 1e-9
    start = {**best.theta, **best.beta}
    stays = vc.fit(model, method, criterion=criterion, kernel="sparse", max_iter=5, start=start)
    assert stays.theta.to_numpy() == pytest.approx(best.theta.to_numpy(), rel=1e-5)


def test_choose__a_pedigree_with_small_units_is_sparse(rng):
    d, P = traits(150, rng), pedigree(150, rng)
    cov = {"animal": vc.covariance.pedigree(P)}
    formula = "y ~ 0 + trait + (0 + trait | animal)"
    model = vc.Model.from_formula(formula, d, cov=cov, residual="un(trait, group=record)")
    assert kernels.choose(model)[0] == "sparse"
    text = model.explain()
    assert "residual `un(trait, group=record)` joins rows of small units" in text
    assert "a sparse Cholesky factor of 300 rows" in text
    whole = vc.Model.from_formula(formula, d, cov=cov, residual="ar1(record)") if len(d) < 60 else None
    assert whole is None or kernels.choose(whole)[0] == "dense"
    with pytest.raises(ModelError, match="kernel `crossed` takes independent residuals"):
        kernels.build(model, "crossed")


def test_build__units_too_large_are_refused(rng, monkeypatch):
    monkeypatch.setattr(sparse_residual, "PRODUCTS", 50)
    model, _, _ = bivariate(rng)
    with pytest.raises(ModelError, match=r"takes small units of residuals; .* Name smaller units in `group=`"):
        kernels.build(model, "sparse")
