"""Stochastic AI-REML and moments by probes against exact fits: estimates within Monte Carlo error, SEs, boundaries."""

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.sparse import csr_array
from scipy.stats import chi2

import vcbench as vc
from vcbench.errors import DataError, MethodError, ModelError
from vcbench.genetics.annotations import Bins
from vcbench.genetics.conjugate import Columns, solve_columns
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.products import MatrixProducts, SnpProducts
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_phenotypes
from vcbench.genetics.standardise import Standardisation
from vcbench.genetics.stochastic import stochastic_reml
from vcbench.genetics.streamed import Stream
from vcbench.status import Status


def dense(calls):
    """W (n, p), standardised by hand, missing calls at the mean."""
    G = np.where(calls < 0, np.nan, calls.astype(float))
    G = np.where(np.isnan(G), np.nanmean(G, axis=0), G)
    return (G - G.mean(axis=0)) / G.std(axis=0)


@pytest.fixture(scope="module")
def data():
    """200 samples, 350 SNPs: calls, two covariates with a constant, two phenotypes of which one has h² = 0."""
    calls = simulate_genotypes(200, 350, seed=4, rho=0.5, missing=0.02).read(None, slice(None))
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(200), rng.standard_normal((200, 2))])
    noise = rng.standard_normal(200)
    W = dense(calls)
    y0 = noise - W @ np.linalg.lstsq(W.T @ W + 200 * np.eye(350), W.T @ noise, rcond=None)[0]  # less than nothing in K
    Y = np.column_stack([simulate_phenotypes(calls, 0.6, seed=6).Y[0, :, 0], y0]) + X @ rng.standard_normal((3, 2))
    return calls, X, Y


def stream(calls, bins=None, size=None, blocks=5):
    G = Genotypes.open(calls)
    return SnpProducts.of(Stream.of(G, Standardisation.of("unit"), Bins.of(bins, G.variants), blocks, size))


def test_products__of_snps_are_those_of_their_matrices(data):
    calls, X, _ = data
    W, labels = dense(calls), np.arange(350) % 2
    Ks = tuple(W[:, labels == k] @ W[:, labels == k].T / 175 for k in range(2))
    snps, matrices = stream(calls, labels, 16), MatrixProducts(200, ("a", "b"), Ks, (False, False))
    factors = (csr_array(W[:, labels == 0] / np.sqrt(175)), W[:, labels == 1] / np.sqrt(175))
    by_factor = MatrixProducts(200, ("a", "b"), factors, (True, True))
    T, weights = np.random.default_rng(1).standard_normal((200, 4)), np.random.default_rng(2).random((2, 4))
    want = np.stack([K @ T for K in Ks])
    seen = np.arange(200) != 7
    sides = [Side.of(X, np.ones(200, bool)), Side.of(X, seen)]
    traces = np.array([[np.trace(s.project(s.project(K).T)) for s in sides] for K in Ks])
    for products, tol in ((snps, 1e-5), (matrices, 1e-12), (by_factor, 1e-12)):
        assert products.each(T) == pytest.approx(want, abs=10 * tol)
        assert products.combine(T, weights) == pytest.approx(np.einsum("kc,knc->nc", weights, want), abs=10 * tol)
        got = products.traces([s.Q for s in sides], [np.ones(200, bool), seen])
        assert got == pytest.approx(traces, rel=tol)
    assert snps.mean_diagonal == pytest.approx([np.trace(K) / 200 for K in Ks], rel=1e-6)


def test_conjugate_gradients__solve_each_column_with_its_own_variances_and_samples(data):
    calls, X, _ = data
    W = dense(calls)
    K = W @ W.T / 350
    products = MatrixProducts(200, ("a",), (K,), (False,))
    whole, part = Side.of(X, np.ones(200, bool)), Side.of(X, np.arange(200) > 20)
    b = np.random.default_rng(3).standard_normal((200, 5))
    groups = [
        Columns(np.array([1.0, 0.5]), whole, np.array([0, 1])),
        Columns(np.array([0.3, 2.0]), part, np.array([2, 3, 4])),
    ]
    want = np.empty_like(b)
    for g in groups:
        b[:, g.at] = g.side.project(b[:, g.at])
        seen = np.arange(200) if g.side.observed is None else np.flatnonzero(g.side.observed)
        V = g.theta[0] * K[np.ix_(seen, seen)] + g.theta[1] * np.eye(len(seen))
        Vi, Xo = np.linalg.inv(V), X[seen]
        P = Vi - Vi @ Xo @ np.linalg.solve(Xo.T @ Vi @ Xo, Xo.T @ Vi)
        want[:, g.at] = 0.0
        want[np.ix_(seen, g.at)] = P @ b[np.ix_(seen, g.at)]
    got = solve_columns(products, b, groups, np.zeros_like(b), 1e-10, 300)
    assert got.x == pytest.approx(want, abs=1e-8)
    assert (got.residual <= 1e-10).all()
    again = solve_columns(products, b, groups, want, 1e-8, 300)
    assert again.n_iter <= 2


@pytest.mark.parametrize("n_bins", [1, 2])
def test_reml__is_within_its_monte_carlo_error_of_the_exact_fit(data, n_bins):
    """40 seeds: Σ z² of the free parameters lies in its range, with its own degrees of freedom (z is t, B − 1)."""
    calls, X, Y = data
    W, labels = dense(calls), np.arange(350) % n_bins
    Ks = tuple(W[:, labels == k] @ W[:, labels == k].T / (labels == k).sum() for k in range(n_bins))
    model = vc.Model(Y[:, 0], X, [vc.Component(K=K, name=f"g{k}") for k, K in enumerate(Ks)])
    exact = vc.fit(model, "ai")
    products = MatrixProducts(200, tuple(f"g{k}" for k in range(n_bins)), Ks, (False,) * n_bins)
    seeds, B, z = 40, 30, []
    for seed in range(seeds):
        (got,) = stochastic_reml(products, Y[:, :1], X, vectors=B, seed=seed, cg_tol=1e-8)
        assert got.status is Status.CONVERGED
        z.append((got.theta - exact.theta_values) / np.sqrt(np.diag(got.monte_carlo)))
    low, high = chi2.ppf([0.0005, 0.9995], seeds)
    for j in range(n_bins + 1):
        spread = (np.array(z)[:, j] ** 2).sum() * (B - 3) / (B - 1)
        assert low / 1.25 < spread < high * 1.25  # heavier tails than χ² has
    at = exact.theta_cov("average")
    assert np.sqrt(np.diag(got.covariance)) == pytest.approx(np.sqrt(np.diag(at)), rel=0.1)


def test_reml__with_all_probes_is_the_exact_fit(data, monkeypatch):
    """The columns of a Hadamard matrix as probes leave no Monte Carlo error: Σ zzᵀ/B = I."""
    calls, X, Y = data
    W = dense(calls)[:128]
    K, y, X = W @ W.T / 350, Y[:128, 0], X[:128]
    exact = vc.fit(vc.Model(y, X, [vc.Component(K=K, name="g")]), "ai")
    products = MatrixProducts(128, ("g",), (K,), (False,))
    monkeypatch.setattr("vcbench.genetics.stochastic.draw_probes", lambda n, B, seed: hadamard(128).astype(float))
    (got,) = stochastic_reml(products, y[:, None], X, vectors=128, tol=1e-9, cg_tol=1e-11)
    assert got.theta == pytest.approx(exact.theta_values, rel=1e-6)
    assert got.covariance == pytest.approx(exact.theta_cov("average"), rel=1e-5)
    assert got.beta == pytest.approx(exact.beta_values, rel=1e-6)
    assert got.beta_covariance == pytest.approx(exact.beta_cov(), rel=1e-5)


def test_heritability__streams_what_the_matrix_would_say(data):
    calls, X, Y = data
    Y = Y.copy()
    Y[:15, 0] = np.nan
    exact = vc.heritability(Y, calls, X)
    got = vc.heritability(Y, calls, X, method="ai-stochastic", vectors=60)
    for one, want in zip(got, exact, strict=True):
        assert one.status is want.status
        error = np.nan_to_num(np.sqrt(np.diag(one.covariance("monte-carlo"))))
        assert (np.abs(one.theta - want.theta) <= 4 * error + 1e-4 * want.Vp).all()
        assert list(one.beta.values()) == pytest.approx(list(want.beta.values()), abs=0.02)
        assert list(one.beta_se.values()) == pytest.approx(list(want.beta_se.values()), rel=0.05)
        assert one.expected_se == pytest.approx(want.expected_se, rel=0.1)
        assert one.rows.tolist() == want.rows.tolist()
    assert got[1].status is Status.AT_BOUNDARY
    assert "Monte Carlo SE of h²" in got.summary(0)
    again = vc.heritability(Y, calls, X, method="ai-stochastic", vectors=60, workers=3)
    assert (again[0].theta == got[0].theta).all()


@pytest.mark.slow
def test_heritability__of_a_thousand_in_bins_from_a_file(tmp_path):
    """n = 1000, p = 1500 in two bins, streamed from a .bed, against REML with both matrices: within 4 of its Monte
    Carlo SEs, which are a tenth of the sampling errors; the same sampling errors."""
    prefix = simulate_genotypes(1000, 1500, seed=4, rho=0.5).write(tmp_path / "thousand")
    y = simulate_phenotypes(prefix, 0.5, seed=6).Y[0, :, 0]
    W, labels = dense(Genotypes.open(prefix).source.read(None, slice(None))), np.arange(1500) >= 500
    Ks = [W[:, labels == k] @ W[:, labels == k].T / (labels == k).sum() for k in (0, 1)]
    exact = vc.fit(vc.Model(y, None, [vc.Component(K=K, name=f"g{k}") for k, K in enumerate(Ks)]), "ai")
    (got,) = vc.heritability(y, prefix, method="ai-stochastic", annotations=labels, seed=2)
    error = np.sqrt(np.diag(got.covariance("monte-carlo")))
    assert got.status is Status.CONVERGED
    assert (np.abs(got.theta - exact.theta_values) < 4 * error).all()
    se = np.sqrt(np.diag(got.covariance()))
    assert (error < 0.15 * se).all()
    assert se == pytest.approx(np.sqrt(np.diag(exact.theta_cov("average"))), rel=0.05)


def test_heritability__moments_by_probes_have_both_errors(data):
    calls, X, Y = data
    exact = vc.heritability(Y, calls, X, method="moments")
    streamed = vc.heritability(Y, calls, X, method="moments-randomised", vectors=400, blocks=20)
    W = dense(calls)
    given = vc.heritability(Y, K=W @ W.T / 350, X=X, method="moments-randomised", vectors=400)
    for j, want in enumerate(exact):
        for got in (streamed[j], given[j]):
            error = np.sqrt(np.diag(got.covariance("monte-carlo")))
            assert (np.abs(got.theta - want.theta) <= 4 * error).all()
            assert got.se("h2") == pytest.approx(want.se("h2"), rel=0.05)
        assert streamed[j].theta == pytest.approx(given[j].theta, rel=1e-3), "the same probes"
        assert streamed[j].se("h2", "jackknife") > 0
    bins = vc.heritability(Y, calls, X, method="moments-randomised", annotations=np.arange(350) % 2, blocks=20)
    assert bins[0].components == ("V(0)", "V(1)")
    assert bins[0].definition == "jackknife"
    assert (
        vc.heritability(Y, calls, X, method="moments-randomised", blocks=20, se="jackknife")[0].definition
        == "jackknife"
    )


def test_moments__of_a_model_with_all_probes_are_the_exact_ones(data, monkeypatch):
    """Hadamard probes: estimates, and the sandwich of two matrices, without Monte Carlo error."""
    calls, X, Y = data
    W, labels, X, y = dense(calls)[:128], np.arange(350) % 2, X[:128], Y[:128, 0]
    parts = [W[:, labels == k] / np.sqrt(175) for k in range(2)]
    model = vc.Model(y, X, [vc.Component(parts[0], name="a"), vc.Component(K=parts[1] @ parts[1].T, name="b")])
    exact = vc.fit(model, "moments")
    monkeypatch.setattr(
        "vcbench.genetics.stochastic_methods.draw_probes", lambda n, B, seed: hadamard(128).astype(float)
    )
    got = vc.fit(model, "moments-randomised", vectors=128)
    assert got.theta_values == pytest.approx(exact.theta_values, rel=1e-8)
    assert got.theta_cov() == pytest.approx(exact.theta_cov(), rel=1e-8)
    assert got.is_moments
    assert got.beta_values == pytest.approx(np.linalg.lstsq(X, y, rcond=None)[0])
    inverse, (a, b, e) = np.linalg.pinv(X), exact.theta_values
    V = a * parts[0] @ parts[0].T + b * parts[1] @ parts[1].T + e * np.eye(128)
    assert got.beta_cov() == pytest.approx(inverse @ V @ inverse.T, rel=1e-8)


def test_fits__repeat_with_the_seed_and_differ_by_response(data):
    calls, X, Y = data
    W = dense(calls)
    model = vc.Model(Y[:, 0], X, [vc.Component(W / np.sqrt(350), name="g")])
    for method in ("moments-randomised", "ai-stochastic"):
        a, b, c = (vc.fit(model, method, seed=s).theta_values for s in (1, 1, 2))
        assert (a == b).all()
        assert (a != c).any()
        seeds = np.random.SeedSequence(9).spawn(2)
        many = vc.fit_many(model, np.column_stack([Y[:, 0], Y[:, 0]]), method, seed=seeds)
        assert (many.theta[0] != many.theta[1]).any()
    assert vc.fit(model, "ai-stochastic").criterion == "reml"


def test_ai_stochastic__says_where_it_stopped(data):
    calls, X, Y = data
    W = dense(calls)
    model = vc.Model(Y[:, 0], X, [vc.Component(W / np.sqrt(350), name="g")])
    short = vc.fit(model, "ai-stochastic", max_iter=1)
    assert short.status is Status.MAX_ITER
    assert "standard errors from the root" in short.message
    y = W @ np.random.default_rng(3).standard_normal(350)  # all of it in K
    full = vc.fit(model.replace(y=y), "ai-stochastic")
    assert full.status is Status.AT_BOUNDARY
    assert "least value that is looked at" in full.message
    assert full.theta_values[1] / full.theta_values.sum() < 2e-3


def test_bad_input__is_an_error_before_the_work(data):
    calls, X, Y = data
    W = dense(calls)
    K = W @ W.T / 350
    for said, call in (
        ("at least 2 probes", lambda: vc.heritability(Y, calls, method="ai-stochastic", vectors=1)),
        ("goes with genotypes", lambda: vc.heritability(Y, K=K, method="ai-stochastic", annotations="chromosome")),
        ("2 were given", lambda: vc.heritability(Y, {"a": calls, "b": calls}, method="ai-stochastic")),
        ("not both", lambda: vc.heritability(Y, {"a": vc_grm(K), "b": calls}, method="ai-stochastic")),
        ('missing="mean"', lambda: vc.heritability(Y, calls, method="ai-stochastic", missing="pairs")),
        ("not defined", lambda: vc.heritability(Y, calls, method="ai-stochastic", se="jackknife")),
        ("no option `blocks`", lambda: vc.heritability(Y, calls, method="ai-stochastic", blocks=3)),
        ("exists under reml only", lambda: vc.heritability(Y, calls, method="ai-stochastic", criterion="ml")),
    ):
        with pytest.raises(MethodError, match=said):
            call()
    rare = calls.copy()
    rare[:, 0] = 0
    with pytest.raises(DataError, match="no SNP of bin `x` passes"):
        stream(rare, {"x": np.arange(350) == 0, "y": np.arange(350) > 0})
    model = vc.Model(Y[:, 0], X, [vc.Component(X[:, 1:], name="g", group=np.arange(200) // 10)])
    with pytest.raises(ModelError, match="one variance each"):
        vc.fit(model, "moments-randomised")


def vc_grm(K):
    from vcbench.genetics.relationship import GRM

    return GRM.of(K)
