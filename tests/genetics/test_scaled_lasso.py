"""The scaled lasso: a certificate of the joint optimum, what it sees of sparse and of dense signals, bad input."""

import numpy as np
import pytest

import vcbench as vc
from vcbench.errors import MethodError, ModelError
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.scaled_lasso import scaled_lasso, standardised
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_phenotypes
from vcbench.status import Status


def draw(rng, n, p, s, signal=1.0):
    """W of unit variance, y = W b + e with s effects of equal size, var(Wb) ≈ signal, σ_e² = 1."""
    W = rng.standard_normal((n, p))
    W = (W - W.mean(axis=0)) / W.std(axis=0)
    b = np.zeros(p)
    b[:s] = np.sqrt(signal / s) * rng.choice([-1.0, 1.0], s)
    return W, W @ b + rng.standard_normal(n)


@pytest.mark.parametrize(("s", "lambda0"), [(3, None), (30, None), (30, 0.05)])
def test_solution__meets_the_conditions_of_the_joint_optimum(rng, s, lambda0):
    """0 ∈ ∂f: W_jᵀr = Nσ̂λ_0 sign(b_j) where b_j ≠ 0, |W_jᵀr| ≤ Nσ̂λ_0 elsewhere, σ̂ = ‖r‖/√N; f is convex."""
    W, y = draw(rng, 300, 150, s)
    X = np.column_stack([np.ones(300), rng.standard_normal((300, 2))])
    side = Side.of(X, np.ones(300, bool))
    M = np.eye(300) - X @ np.linalg.pinv(X)
    MW, My = M @ W, M @ (y + X @ [5.0, -2.0, 1.0])
    MW *= np.sqrt(297 / (MW**2).sum(axis=0))
    A = standardised(np.asfortranarray(W), side)
    np.testing.assert_allclose(A, MW, atol=1e-10)
    found = scaled_lasso(A, My, side.df, lambda0)
    r = My - MW @ found.coefficients
    lam = np.sqrt(2 * np.log(150) / 297) if lambda0 is None else lambda0
    assert found.status is Status.CONVERGED
    assert found.sigma2 == pytest.approx(r @ r / 297, rel=1e-6)
    pull = MW.T @ r / (297 * np.sqrt(r @ r / 297) * lam)
    on = found.coefficients != 0
    assert 0 < on.sum() == found.n_selected
    assert pull[on] == pytest.approx(np.sign(found.coefficients[on]), abs=2e-3)
    assert np.abs(pull).max() < 1.002


def test_noise_level__is_found_under_sparse_signals_and_is_the_phenotype_s_under_dense_ones(rng):
    """What seed 002 saw: σ̂² near the variance of y is the mark of a polygenic trait."""
    sparse, dense = [], []
    for _ in range(30):
        W, y = draw(rng, 400, 800, 2, signal=2.0)
        side = Side.of(np.ones((400, 1)), np.ones(400, bool))
        A = standardised(np.asfortranarray(W), side)
        sparse.append(scaled_lasso(A, side.project(y[:, None])[:, 0], side.df))
        y = W @ rng.standard_normal(800) / np.sqrt(800) + rng.standard_normal(400)
        dense.append(scaled_lasso(A, side.project(y[:, None])[:, 0], side.df))
    sigma2 = np.array([f.sigma2 for f in sparse])
    # selected effects are shrunk by σλ_0 each: σ̂² is above 1 by about s λ_0²
    bias = 2 * sparse[0].lambda0 ** 2
    assert sigma2.mean() == pytest.approx(1 + bias, abs=0.03 + 4 * sigma2.std() / np.sqrt(30))
    assert sigma2.std(ddof=1) == pytest.approx(np.mean([f.se for f in sparse]), rel=0.45)
    share = np.array([f.sigma2 / f.total for f in dense])
    assert share.mean() > 0.95  # of a phenotype whose noise is half


def test_seed_s_step__without_its_half_would_halve_the_penalty(rng):
    """MATH M16: the lasso on ‖·‖²/n + σ̂λ_0‖b‖ is that at λ_0/2, and σ̂ falls."""
    W, y = draw(rng, 300, 600, 40)
    side = Side.of(np.ones((300, 1)), np.ones(300, bool))
    A, My = standardised(np.asfortranarray(W), side), side.project(y[:, None])[:, 0]
    right = scaled_lasso(A, My, side.df)
    assert scaled_lasso(A, My, side.df, right.lambda0 / 2).sigma2 < 0.85 * right.sigma2


def test_method__fits_models_with_columns_and_says_what_it_does_not_estimate(rng):
    W, y = draw(rng, 300, 400, 3, signal=2.0)
    one = vc.fit(vc.Model(y, None, [vc.Component(W / 20, name="snp")]), "scaled-lasso")
    assert one.status is Status.CONVERGED
    assert one.theta_values[1] == pytest.approx(1.0, abs=0.4)
    assert one.theta_values.sum() == pytest.approx(y.var(ddof=1), rel=0.01)  # tr(MZZᵀ)/N = 1 here
    assert one.theta_se["residual:var"] == pytest.approx(one.theta_values[1] * np.sqrt(2 / 299))
    assert np.isnan(one.theta_se["snp:var"])
    assert one.extra["n_selected"] >= 3
    parts = [vc.Component(W[:, :200], name="a"), vc.Component(W[:, 200:], name="b")]
    two = vc.fit(vc.Model(y, None, parts), "scaled-lasso")
    assert two.theta_values[-1] == pytest.approx(one.theta_values[-1], rel=1e-6)
    assert np.isnan(two.theta_values[:2]).all()
    with pytest.raises(ModelError, match="`k` has none"):
        vc.fit(vc.Model(y, None, [vc.Component(K=W @ W.T / 400, name="k")]), "scaled-lasso")


def test_heritability__by_the_lasso_of_genotypes(rng):
    G = simulate_genotypes(500, 300, seed=2, missing=0.01).read(None, slice(None))
    Y = simulate_phenotypes(G, [0.6, 0.6], seed=3, causal=3).Y[0]
    Y[:30, 1] = np.nan
    X = rng.standard_normal((500, 2))
    got = vc.heritability(Y, G, X, method="scaled-lasso")
    for j, t in enumerate(got):
        seen = np.isfinite(Y[:, j])
        M = np.eye(seen.sum()) - (Z := np.column_stack([np.ones(seen.sum()), X[seen]])) @ np.linalg.pinv(Z)
        y = M @ Y[seen, j]
        assert t.Vp == pytest.approx(y @ y / (seen.sum() - 3), rel=1e-6)
        assert t.h2 == pytest.approx(1 - t.theta[1] / t.Vp)
        assert t.se("V(e)") == pytest.approx(t.theta[1] * np.sqrt(2 / (seen.sum() - 3)))
        assert np.isnan([t.se("V(G)"), t.se("Vp"), t.se("h2")]).all()
    assert "scaled lasso" in got.summary(0)


def test_bad_input__is_an_error_before_the_work(rng):
    W, y = draw(rng, 60, 40, 2)
    G = simulate_genotypes(60, 40, seed=2).read(None, slice(None))
    for said, call in (
        ("lambda0", lambda: vc.heritability(y, G, method="scaled-lasso", lambda0=-1.0)),
        ("give it one set of genotypes", lambda: vc.heritability(y, K=np.eye(60), method="scaled-lasso")),
        ("above `memory` = 1e-06 GB", lambda: vc.heritability(y, G, method="scaled-lasso", memory=1e3)),
    ):
        with pytest.raises(MethodError, match=said):
            call()
    none_left = vc.fit(vc.Model(W[:, 0].copy(), None, [vc.Component(W, name="w")]), "scaled-lasso", lambda0=1e-5)
    assert none_left.status is Status.FAILED
    assert "no noise is left" in none_left.message
