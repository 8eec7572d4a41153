"""Structures of Ω over several kernels: ℓ is the normal density of a V written by hand, derivatives are differences."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import vcbench as vc
from vcbench.errors import ModelError
from vcbench.kernels import build

COV = vc.covariance


def lots(seed: int = 2) -> pd.DataFrame:
    """14 subjects under 4 treatments at 5 sites, unbalanced, in no order."""
    rng = np.random.default_rng(seed)
    rows = [(f"s{i}", f"t{t}", f"c{rng.integers(5)}") for i in range(14) for t in range(1, 5) for _ in range(2)]
    d = pd.DataFrame(rows, columns=["subject", "trt", "site"]).sample(frac=0.85, random_state=seed)
    d["x"] = rng.normal(size=len(d))
    return d.reset_index(drop=True)


def corr(rho: np.ndarray) -> np.ndarray:
    """Toeplitz matrix of 1, ρ_1, …"""
    full = np.concatenate([[1.0], rho])
    return full[np.abs(np.subtract.outer(range(len(full)), range(len(full))))]


MASK = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
UN2 = np.array([[2.0, 0.6], [0.6, 1.5]])
# structure, its natural parameters, Ω of them
CASES = {
    "cs": (COV.cs(), [1.5, -0.2], 1.5 * corr(np.full(3, -0.2))),
    "ar1": (COV.ar1(), [1.5, 0.6], 1.5 * corr(0.6 ** np.arange(1, 4))),
    "toeplitz": (COV.toeplitz(), [1.5, 0.5, 0.3, -0.1], 1.5 * corr(np.array([0.5, 0.3, -0.1]))),
    "kron": (COV.kron(COV.un(), COV.ar1()), [2.0, 0.6, 1.5, 0.4], np.kron(UN2, corr(np.array([0.4])))),
    "kron-diag": (
        COV.kron(COV.cs(), COV.diag(), (2, 2)),
        [0.3, 2.0, 1.0],
        np.kron(corr(np.array([0.3])), np.diag([2.0, 1.0])),
    ),
    "pattern": (
        COV.pattern(MASK),
        [1.0, 0.3, 2.0, 0.5, 1.5, -0.4, 1.2],
        np.array([[1, 0.3, 0, 0], [0.3, 2, 0.5, 0], [0, 0.5, 1.5, -0.4], [0, 0, -0.4, 1.2]]),
    ),
    "fixed": (COV.fixed(1.5), [], 1.5 * np.eye(4)),
}  # fmt: skip


def case(name: str, random: str = ""):
    """(model with y drawn at θ, θ, V); `random` adds a second term of variance 0.7."""
    structure, natural, Omega = CASES[name]
    d = lots()
    d["y"] = np.arange(len(d), dtype=float)
    model = vc.Model.from_formula(f"y ~ x + (0 + trt | subject){random}", d, cov={"subject": structure})
    theta = np.array([*natural, *([0.7] if random else []), 0.8])
    if random and name == "kron-diag":
        assert model.n_theta == len(theta), model.theta_names
    V = 0.8 * np.eye(len(d))
    c = model.components[0]
    V += (c.Z @ Omega @ c.Z.T) * np.equal.outer(c.codes, c.codes)
    for other in model.components[1:]:
        V += 0.7 * np.equal.outer(other.codes, other.codes)
    y = model.X @ [3.0, 1.0] + np.linalg.cholesky(V) @ np.random.default_rng(8).standard_normal(len(d))
    return model.replace(y=y), theta, V


def density(y, X, V, reml):
    T = np.linalg.inv(V)
    A = X.T @ T @ X
    beta = np.linalg.solve(A, X.T @ T @ y)
    out = multivariate_normal(X @ beta, V).logpdf(y)
    return out + (0.5 * (X.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(A)[1]) if reml else 0.0)


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize(
    ("random", "kernels"), [("", ("grouped", "dense", "low_rank")), (" + (1 | site)", ("crossed", "dense", "low_rank"))]
)
@pytest.mark.parametrize("name", CASES)
def test_structured_effects__are_the_normal_density_on_every_kernel(name, random, kernels, criterion):
    model, theta, V = case(name, random)
    expected = density(model.y, model.X, V, criterion == "reml")
    for kernel in kernels:
        k = build(model, kernel)
        at = k.evaluate(theta, ("score", "observed"), criterion)
        assert at.loglik == pytest.approx(expected, rel=1e-10), kernel
        for j, h in enumerate(1e-5 * np.eye(len(theta))):
            up, down = (k.evaluate(theta + step, ("score",), criterion) for step in (h, -h))
            assert at.score[j] == pytest.approx((up.loglik - down.loglik) / 2e-5, rel=1e-5, abs=1e-5)
            np.testing.assert_allclose(at.observed[j], -(up.score - down.score) / 2e-5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["em", "px-em", "px-em-component", "ecme", "squarem", "newton", "fisher", "lbfgs"])
@pytest.mark.parametrize("name", CASES)
def test_structured_effects__every_method_climbs_to_one_maximum(name, method):
    model, _, _ = case(name, " + (1 | site)")
    best = vc.fit(model, "auto", "reml")
    assert best.status.ok
    fit = vc.fit(model, method, "reml", max_iter=400)
    path = fit.trace["loglik"].to_numpy()
    assert (np.diff(path) >= -1e-9 * (1 + np.abs(path[1:]))).all()
    assert fit.loglik <= best.loglik + 1e-7
    if fit.status.ok:
        assert fit.loglik == pytest.approx(best.loglik, abs=1e-6)
    if method in ("newton", "fisher", "lbfgs"):
        assert fit.status.ok


def test_pattern__of_blocks_is_blocks_and_other_masks_are_refused():
    assert COV.pattern([[1, 0, 1], [0, 1, 0], [1, 0, 1]]) == COV.blocks([[0, 2], [1]])
    with pytest.raises(ModelError, match="symmetric with ones on its diagonal"):
        COV.pattern([[1, 0], [1, 1]])


def test_equal__ties_components_and_counts_them_once():
    d = lots()
    d["y"] = np.random.default_rng(1).normal(size=len(d))
    formula = "y ~ x + (1 | subject) + (1 | site)"
    tied = vc.Model.from_formula(formula, d, equal=[["subject", "site"]])
    free = vc.Model.from_formula(formula, d)
    assert tied.theta_names == ("subject:var((Intercept))", "residual:var")
    for criterion in ("ml", "reml"):
        ll = [
            build(m).evaluate(t, criterion=criterion).loglik for m, t in ((tied, [0.4, 1.1]), (free, [0.4, 0.4, 1.1]))
        ]
        assert ll[0] == pytest.approx(ll[1], rel=1e-13)
        at = build(tied).evaluate(np.array([0.4, 1.1]), ("score",), criterion)
        apart = build(free).evaluate(np.array([0.4, 0.4, 1.1]), ("score",), criterion)
        np.testing.assert_allclose(at.score, [apart.score[:2].sum(), apart.score[2]], rtol=1e-10)
    assert vc.fit(tied, "em").loglik == pytest.approx(vc.fit(tied).loglik, abs=1e-8)


def test_compound_symmetry__by_residual_and_by_random_effect_have_one_loglik():
    """ρ ≥ 0: R = CS is iid plus a random unit effect (MATH §9), on the blocks of `units` and on `grouped`."""
    model, _, _ = case("cs")
    d = lots()
    d["y"] = model.y
    by_residual = vc.Model.from_formula("y ~ x", d, residual="cs(group=subject)")
    by_effect = vc.Model.from_formula("y ~ x + (1 | subject)", d)
    for criterion in ("ml", "reml"):
        for v, s2 in ((0.3, 1.2), (2.0, 0.4)):
            a = build(by_residual).evaluate(np.array([v + s2, v / (v + s2)]), criterion=criterion).loglik
            b = build(by_effect).evaluate(np.array([v, s2]), criterion=criterion).loglik
            assert a == pytest.approx(b, abs=1e-9)
        fits = vc.fit(by_residual, criterion=criterion), vc.fit(by_effect, criterion=criterion)
        if fits[1].theta.iloc[0] > 0:
            assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-9)
            assert fits[0].theta["residual:rho"] == pytest.approx(fits[1].theta.iloc[0] / fits[1].theta.sum(), rel=1e-5)


def test_fixed__of_all_components_leaves_the_residual_alone():
    model, _, _ = case("fixed")
    assert model.theta_names == ("residual:var",)
    fit = vc.fit(model, "em", "ml")
    assert fit.status.ok
    assert fit.loglik == pytest.approx(vc.fit(model, criterion="ml").loglik, abs=1e-8)
    assert "subject" in fit.ranef()


@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_weights__are_variances_divided_by_them(criterion):
    d = lots()
    rng = np.random.default_rng(4)
    d["w"], d["y"] = rng.uniform(0.2, 4.0, len(d)), rng.normal(size=len(d))
    model = vc.Model.from_formula("y ~ x + (1 | subject) + (1 | site)", d, residual="weights(w)")
    theta = np.array([0.5, 0.3, 1.4])
    V = np.diag(1.4 / d.w)
    for value, c in zip(theta[:2], model.components, strict=True):
        V += value * np.equal.outer(c.codes, c.codes)
    expected = density(model.y, model.X, V, criterion == "reml")
    for kernel in ("crossed", "dense", "low_rank"):
        k = build(model, kernel)
        assert k.evaluate(theta, criterion=criterion).loglik == pytest.approx(expected, rel=1e-11)
        T = np.linalg.inv(V)
        beta = np.linalg.solve(model.X.T @ T @ model.X, model.X.T @ T @ model.y)
        u = k.blup(theta, beta)
        for value, c, found in zip(theta[:2], model.components, u, strict=True):
            Z = np.equal.outer(c.codes, np.arange(len(c.levels))).astype(float)
            np.testing.assert_allclose(found[:, 0], value * Z.T @ T @ (model.y - model.X @ beta), rtol=1e-8, atol=1e-10)
