"""ANOVA estimators: sums of squares by least squares on the columns themselves, closed forms of balanced layouts."""

import itertools

import numpy as np
import pytest
from classics import dyestuff, dyestuff2
from hypothesis import given, reject
from hypothesis import strategies as st
from oracle import derivatives
from strategies import draw_problem, problems

import vcbench as vc
from vcbench import Status
from vcbench.errors import MethodError, ModelError

SLOPES = ("slope-diag", "slope-only", "slope-two-terms")
SCALAR = ("one-way", "one-way-unbalanced", *SLOPES, "Z-narrow", "two-Z", "crossed", "nested")
TYPES = (1, 2, 3)


def projection(*columns):
    """On the range of the columns."""
    A = np.hstack(columns)
    u, s, _ = np.linalg.svd(A, full_matrices=False)
    u = u[:, s > 1e-9 * s[0]]
    return u @ u.T


def layout(cells, n_a, n_b, seed=0):
    """(y, a, b) of a two-way layout with `cells[i][j]` observations."""
    rng = np.random.default_rng(seed)
    a = np.repeat(np.repeat(np.arange(n_a), n_b), np.ravel(cells))
    b = np.repeat(np.tile(np.arange(n_b), n_a), np.ravel(cells))
    y = rng.normal(size=n_a)[a] + rng.normal(size=n_b)[b] + rng.normal(size=(n_a, n_b))[a, b] + rng.normal(size=len(a))
    return y, a, b


def factorial(y, a, b, order="a b ab"):
    """The model y ~ 1 + (1|a) + (1|b) + (1|a:b)."""
    one = np.ones(len(y))
    groups = {"a": a, "b": b, "ab": a * 1000 + b}
    return vc.Model(y, None, [vc.Component(one, name=name, group=groups[name]) for name in order.split()])


def rows(fit):
    return {row["term"]: row for row in fit.extra["anova"]}


def test_anova__type_1_is_sequential_and_its_equations_are_the_expectations():
    y, a, b = layout([[1, 2, 3], [4, 1, 2], [2, 2, 5], [3, 1, 1]], 4, 3)
    m = factorial(y, a, b)
    Z = {name: np.eye(c.codes.max() + 1)[c.codes] for name, c in zip(("a", "b", "ab"), m.components, strict=True)}
    last = factorial(y, a, b, "ab a b")  # ab holds a and b: it comes last in the table all the same
    fits = [vc.fit(m, "anova", type=1), vc.fit(last, "anova")]
    before, V = [m.X], derivatives(m.components, m.n_obs)
    A = {}
    for name in ("a", "b", "ab"):
        A[name] = projection(*before, Z[name]) - projection(*before)
        before.append(Z[name])
    A["residual"] = np.eye(m.n_obs) - projection(*before)
    for fit in fits:
        assert list(rows(fit)) == ["a", "b", "ab", "residual"]
        for name, row in rows(fit).items():
            assert row["df"] == round(np.trace(A[name]))
            assert row["ss"] == pytest.approx(y @ A[name] @ y, rel=1e-10)
            assert row["ms"] == row["ss"] / row["df"]
            got = [row["ems"].get(k, 0.0) * row["df"] for k in m.theta_names]
            assert got == pytest.approx([np.sum(A[name] * Vj) for Vj in V], rel=1e-10, abs=1e-10)
    C = np.array([[np.sum(Am * Vj) for Vj in V] for Am in A.values()])
    assert fits[0].theta_values == pytest.approx(np.linalg.solve(C, [y @ Am @ y for Am in A.values()]), rel=1e-9)
    W = np.tensordot(fits[0].theta_values, V, axes=1)
    Sigma = np.array([[2 * np.trace(Am @ W @ Bm @ W) for Bm in A.values()] for Am in A.values()])
    cov = np.linalg.solve(C, np.linalg.solve(C, Sigma).T)
    assert fits[0].theta_cov() == pytest.approx(cov, rel=1e-8, abs=1e-10 * np.abs(cov).max())


def test_anova__type_2_leaves_out_the_terms_that_contain_it():
    y, a, b = layout([[1, 2, 3], [4, 1, 2], [2, 2, 5], [3, 1, 1]], 4, 3, seed=1)
    m = factorial(y, a, b)
    one, Za, Zb = m.X, np.eye(4)[a], np.eye(3)[b]
    got = rows(vc.fit(m, "anova", type=2))
    assert got["a"]["ss"] == pytest.approx(y @ (projection(one, Za, Zb) - projection(one, Zb)) @ y, rel=1e-10)
    assert got["b"]["ss"] == pytest.approx(y @ (projection(one, Za, Zb) - projection(one, Za)) @ y, rel=1e-10)


def test_anova__type_3_is_the_contrast_of_unweighted_cell_means():
    """Yates's weighted squares of means: with all cells filled, the sum of squares of a is that of the hypothesis that
    the unweighted means over b of the cell means are equal."""
    cells = np.array([[1, 2, 3], [4, 1, 2], [2, 2, 5], [3, 1, 1]])
    y, a, b = layout(cells, 4, 3, seed=2)
    means = np.array([[y[(a == i) & (b == j)].mean() for j in range(3)] for i in range(4)])
    got = rows(vc.fit(factorial(y, a, b), "anova", type=3))
    for name, axis in (("a", 1), ("b", 0)):
        table, w = means.mean(axis), cells.shape[axis] ** 2 / (1 / cells).sum(axis)
        assert got[name]["ss"] == pytest.approx((w * (table - w @ table / w.sum()) ** 2).sum(), rel=1e-10)


def test_anova__type_3_of_a_nested_term_takes_means_of_subclasses_with_equal_weight():
    rng = np.random.default_rng(5)
    inner = np.repeat(np.arange(9), [2, 3, 1, 4, 2, 2, 5, 1, 2])
    outer = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3])[inner]
    y = rng.normal(size=len(inner)) + outer
    one = np.ones(len(y))
    m = vc.Model(y, None, [vc.Component(one, name="inner", group=inner), vc.Component(one, name="outer", group=outer)])
    got = rows(vc.fit(m, "anova", type=3))
    means, n = np.array([y[inner == k].mean() for k in range(9)]), np.bincount(inner)
    held = [np.flatnonzero([outer[inner == k][0] == g for k in range(9)]) for g in range(4)]
    table = np.array([means[k].mean() for k in held])
    w = 1 / np.array([(1 / n[k]).sum() / len(k) ** 2 for k in held])
    assert got["outer"]["ss"] == pytest.approx((w * (table - w @ table / w.sum()) ** 2).sum(), rel=1e-10)
    assert [got[k]["df"] for k in ("outer", "inner", "residual")] == [3, 5, len(y) - 9]


def test_anova__a_fixed_factor_is_held_as_a_random_one_is():
    """y ~ a + (1|b) + (1|a:b): the interaction lies within levels of a too, which X holds."""
    y, a, b = layout([[1, 2, 3], [4, 1, 2], [2, 2, 5], [3, 1, 1]], 4, 3, seed=3)
    X, one = np.eye(4)[a], np.ones(len(y))
    groups = [vc.Component(one, name="b", group=b), vc.Component(one, name="ab", group=a * 10 + b)]
    fixed = rows(vc.fit(vc.Model(y, X, groups), "anova", type=3))
    random = rows(vc.fit(factorial(y, a, b), "anova", type=3))
    for term in ("b", "ab", "residual"):
        assert fixed[term]["ss"] == pytest.approx(random[term]["ss"], rel=1e-10)
        assert fixed[term]["df"] == random[term]["df"]


@pytest.mark.parametrize("type", TYPES)
def test_anova__of_a_balanced_layout_is_the_classical_table_and_reml(type):
    y, a, b = layout(np.full((4, 3), 2), 4, 3, seed=17)
    fit = vc.fit(factorial(y, a, b), "anova", type=type)
    ms = {k: r["ms"] for k, r in rows(fit).items()}
    means = y.reshape(4, 3, 2).mean(2)
    assert ms["a"] == pytest.approx(6 * means.mean(1).var(ddof=1), rel=1e-12)
    assert ms["b"] == pytest.approx(8 * means.mean(0).var(ddof=1), rel=1e-12)
    assert ms["residual"] == pytest.approx(y.reshape(12, 2).var(axis=1, ddof=1).mean(), rel=1e-12)
    want = [(ms["a"] - ms["ab"]) / 6, (ms["b"] - ms["ab"]) / 8, (ms["ab"] - ms["residual"]) / 2, ms["residual"]]
    assert fit.theta_values == pytest.approx(want, rel=1e-10)
    assert fit.theta_values.min() > 0
    reml = vc.fit(factorial(y, a, b), "ai")
    assert fit.theta_values == pytest.approx(reml.theta_values, rel=1e-5)
    assert fit.loglik == pytest.approx(reml.loglik, abs=1e-8)
    # independent mean squares: variances 2·ms²/df
    df = {k: r["df"] for k, r in rows(fit).items()}
    var_a = (2 * ms["a"] ** 2 / df["a"] + 2 * ms["ab"] ** 2 / df["ab"]) / 36
    assert fit.theta_se.iloc[0] == pytest.approx(np.sqrt(var_a), rel=1e-10)


@given(problems(SCALAR), st.sampled_from(TYPES))
def test_anova__is_unbiased(p, type):
    """E[θ̂] is linear in V: at V = V_j the equations give the unit vector e_j."""
    try:
        fit = vc.fit(p.model, "anova", type=type)
    except ModelError as error:
        if "has no degree of freedom left" not in str(error):
            raise
        reject()  # a small layout may leave a term none: another is drawn
    assert fit.status is Status.CONVERGED
    assert fit.criterion == "none"
    from vcbench.solvers.anova import Anova

    table = Anova.of(p.model, type)
    V, y = derivatives(p.model.components, p.model.n_obs), np.eye(p.model.n_obs)
    parts = [table.space.project(e) for e in y]  # A_s applied to every unit vector, by linearity of Qᵀ
    Q = np.array([t for t, _ in parts])
    X = np.linalg.qr(p.model.X)[0]
    A = [Q @ B @ B.T @ Q.T for B in table.B] + [np.eye(len(y)) - X @ X.T - Q @ Q.T]
    C = np.array([[np.sum(As * Vj) for Vj in V] for As in A])
    assert np.linalg.solve(table.C, C) == pytest.approx(np.eye(len(V)), abs=1e-6)
    offset = 0.0 if p.model.offset is None else p.model.offset
    r = p.model.y - offset
    ss = [rows(fit)[name]["ss"] for name in (*table.names, "residual")]
    assert ss == pytest.approx([r @ As @ r for As in A], rel=1e-6, abs=1e-8 * (r @ r))


def test_anova__reports_a_negative_estimate_raw():
    fit = vc.fit(dyestuff2(), "anova")
    assert fit.theta_values == pytest.approx(vc.fit(dyestuff2(), "moments").theta_values, rel=1e-10)
    assert fit.theta_values[0] < 0
    assert "negative estimate of `Batch:var((Intercept))`, reported raw" in fit.message


def test_anova__shows_its_table():
    """Dyestuff: Davies and Goldsmith's mean squares 11271.5 (5 df) and 2451.25 (24 df)."""
    fit = vc.fit(dyestuff(), "anova")
    lines = fit.summary().splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("Analysis of variance, type 1"))
    assert lines[at + 1].split() == ["term", "df", "SS", "MS", "E[MS]"]
    assert lines[at + 2].split()[:4] == ["Batch", "5", "56357.5", "11271.5"]
    assert lines[at + 2].endswith("5 Batch:var((Intercept)) + residual:var")
    assert lines[at + 3].split()[:4] == ["residual", "24", "58830.0", "2451.25"]
    assert vc.Fit.from_json(fit.to_json()).summary() == fit.summary()


def test_anova__of_many_responses_does_the_design_once(monkeypatch):
    from vcbench.solvers import anova, moment_space

    p = draw_problem("crossed", 6, 4, seed=3, offset=True)
    Y = p.draw_y(np.random.default_rng(1), 4)
    built = []
    for room, name in ((anova.Anova, "_build"), (moment_space.MomentSpace, "_build")):
        plain = getattr(room, name)
        monkeypatch.setattr(room, name, lambda *a, plain=plain, name=name: (built.append(name), plain(*a))[1])
    many = vc.fit_many(p.model, Y, "anova", type=2)
    assert len(built) == 2
    for j in range(4):
        one = vc.fit(p.model.replace(y=Y[:, j]), "anova", type=2)
        assert many.theta[j] == pytest.approx(one.theta_values, rel=1e-12)


@pytest.mark.parametrize("type", [0, 4, "1", True])
def test_anova__another_type_is_refused(type):
    with pytest.raises(MethodError, match=r"`type` is .*; it must be 1, 2 or 3"):
        vc.fit(dyestuff(), "anova", type=type)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("slope-un", r"component `g` has correlated effects \(z1, z2\): a sum of squares says nothing of a covariance"),
        ("K", "component `a` has a known relationship matrix: an analysis of variance needs independent levels"),
        ("Z-wide", "term `residual` has no degree of freedom left in the type 1 analysis"),
    ],
)
def test_anova__what_has_no_table_is_refused(kind, message):
    with pytest.raises(ModelError, match=message):
        vc.fit(draw_problem(kind, seed=2).model, "anova")


def test_anova__a_term_that_another_explains_is_named():
    g = np.repeat(np.arange(5), 4)
    h = np.array([3, 1, 4, 2, 0])[g]  # the same groups under other names
    y = np.random.default_rng(1).normal(size=20)
    c = [vc.Component(np.column_stack([np.ones(20), np.arange(20.0)]), name="g", group=g, cov=vc.covariance.diag())]
    X = np.column_stack([np.ones(20), *(h == k for k in range(4))])
    for type in TYPES:
        with pytest.raises(ModelError, match=r"cannot be told apart|`g:z1` has no degree of freedom"):
            vc.fit(vc.Model(y, X, c), "anova", type=type)


def test_anova__large_one_way_layouts_cost_their_levels_only():
    n = 100_000
    group = np.arange(n) % 9
    y = 1e9 + np.random.default_rng(1).normal(size=n) + group
    fit = vc.fit(vc.Model(y, None, [vc.Component(np.ones(n), name="g", group=group)]), "anova")
    y = y - 1e9
    means = np.array([y[group == k].mean() for k in range(9)])
    within = sum(((y[group == k] - means[k]) ** 2).sum() for k in range(9))
    table = list(itertools.chain(fit.extra["anova"]))
    assert table[1]["ss"] == pytest.approx(within, rel=1e-12)


def test_anova__takes_known_weights_of_the_residual():
    y, a, b = layout([[1, 2, 3], [4, 1, 2], [2, 2, 5], [3, 1, 1]], 4, 3, seed=4)
    w = np.random.default_rng(5).uniform(0.5, 3.0, len(y))
    plain = factorial(y, a, b)
    got = rows(vc.fit(vc.Model(y, None, plain.components, residual=vc.residual.weights(w)), "anova"))
    before, r = [np.sqrt(w)[:, None]], y * np.sqrt(w)
    for name, c in zip(("a", "b", "ab"), plain.components, strict=True):
        Z = np.sqrt(w)[:, None] * np.eye(c.codes.max() + 1)[c.codes]
        A = projection(*before, Z) - projection(*before)
        assert got[name]["ss"] == pytest.approx(r @ A @ r, rel=1e-10)
        before.append(Z)
