"""Genetic correlation: GEMMA's bivariate answer, the dense 2n × 2n likelihood, all pairs by moments, edges, missing
cells."""

import numpy as np
import oracle
import pytest
from genetics import mouse
from scipy.optimize import minimize

import vcbench as vc
from vcbench.errors import DataError, MethodError
from vcbench.genetics.correlation import genetic_correlation
from vcbench.genetics.eigen import decompose, decompose_thin
from vcbench.genetics.heritability import heritability
from vcbench.genetics.pair_kernel import UNITS, PairKernel
from vcbench.genetics.pair_moments import PAIRS, Traces, pair_covariance, solve_moments
from vcbench.genetics.pairs import THETA

G0 = np.array([[0.5, 0.2], [0.2, 0.4]])
E0 = np.array([[0.5, -0.1], [-0.1, 0.6]])


def markers(rng, n=60, p=40):
    W = rng.standard_normal((n, p))
    return W - W.mean(axis=0)


def relationship(rng, n=60, p=40):
    W = markers(rng, n, p)
    return W @ W.T / p


def draw(rng, K, G=G0, E=E0, size=1):
    """(n, 2 · size) phenotypes in pairs."""
    n = len(K)
    root = np.linalg.cholesky(K + 1e-10 * np.eye(n))
    out = []
    for _ in range(size):
        g = root @ rng.standard_normal((n, 2)) @ np.linalg.cholesky(G).T
        out.append(g + rng.standard_normal((n, 2)) @ np.linalg.cholesky(E).T)
    return np.hstack(out)


def stacked(K, X1, X2):
    """V_a of θ = (G_11, G_21, G_22, E_11, E_21, E_22) and X, both phenotypes one below the other."""
    n = len(K)
    Vs = np.array([np.kron(B, K) for B in UNITS] + [np.kron(B, np.eye(n)) for B in UNITS])
    X = np.zeros((2 * n, X1.shape[1] + X2.shape[1]))
    X[:n, : X1.shape[1]], X[n:, X1.shape[1] :] = X1, X2
    return Vs, X


# --- likelihood ---


@pytest.mark.parametrize("p", [90, 12])
@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_pair_kernel__is_the_dense_likelihood_with_its_derivatives(rng, p, criterion):
    """p = 12 < n: most rows lie outside K."""
    W = markers(rng, n=40, p=p)
    K = W @ W.T / p
    X1 = np.column_stack([np.ones(40), rng.standard_normal(40)])
    X2 = np.column_stack([np.ones(40), rng.standard_normal((40, 2))])
    Y = rng.standard_normal((40, 2))
    kernel = PairKernel.build(decompose(K) if p > 40 else decompose_thin(W, p), (X1, X2), Y)
    Vs, X = stacked(K, X1, X2)
    theta = np.array([0.5, 0.2, 0.4, 0.5, -0.1, 0.6])
    at = oracle.plain_of(Y.T.ravel(), X, Vs, theta, criterion)
    ours = kernel.evaluate(G0, E0, ("score", "average", "expected", "beta"), criterion)
    assert ours.loglik == pytest.approx(at.loglik, abs=1e-10)
    for name in ("score", "average", "expected", "observed", "beta", "beta_cov"):
        assert getattr(ours, name) == pytest.approx(getattr(at, name), rel=1e-9, abs=1e-11), name


def test_mouse__gemmas_bivariate_answer():
    """GEMMA 0.98.5, `gemma -g mouse_hs1940.geno.txt.gz -p mouse_hs1940.pheno.txt -n 1 6 -k k.cXX.txt -lmm`: Vg, Ve
    and their standard errors (observed information) in its log, 1197 animals with both; logl −2855.17 lacks
    log|XᵀX|."""
    found = genetic_correlation(
        mouse.phenotypes()[:, [0, 5]], K=mouse.gemma_K(), names=["CD8", "MCH"], method="reml", rows="common"
    )
    pair = found["CD8", "MCH"]
    assert pair.n == 1197
    digits = ("1.39398", "-0.226714", "2.08168", "0.348882", "0.0490525", "0.414433")
    assert [f"{v:.6g}" for v in pair.theta] == list(digits)
    errors = ("0.156662", "0.136321", "0.23586", "0.0206226", "0.0166233", "0.0266869")
    theirs = (0.156661, 0.136319, 0.235858, 0.0206226, 0.0166233, 0.0266869)
    ours = [pair.se(name, "observed") for name in ("G11", "G21", "G22", "E11", "E21", "E22")]
    assert ours == pytest.approx(theirs, rel=2e-5), errors  # GEMMA's own stop rule
    assert round(pair.rho_g, 4) == -0.1331
    assert pair.loglik + np.log(1197) == pytest.approx(-2855.17, abs=0.005)
    lower, upper = pair.interval("rho_g")
    assert lower < -0.1331 < upper
    assert 0.05 < pair.zero.p < 0.2
    assert pair.one.p < 1e-50


def test_reml__is_the_maximum_of_the_dense_likelihood_with_covariates_of_each(rng):
    K = relationship(rng)
    Y = draw(rng, K)
    X1, X2 = rng.standard_normal((60, 1)), rng.standard_normal((60, 2))
    found = genetic_correlation(Y, K=K, X={"y1": X1, "y2": X2}, method="reml")[0]
    ones = np.ones((60, 1))
    Vs, X = stacked(K, np.hstack([ones, X1]), np.hstack([ones, X2]))

    def dense(psi):
        L, M = (np.array([[a, 0], [b, c]]) for a, b, c in (psi[:3], psi[3:]))
        theta = np.concatenate([(F @ F.T)[[0, 1, 1], [0, 0, 1]] for F in (L, M)])
        return -oracle.loglik_of(Y.T.ravel(), X, Vs, theta)

    best = minimize(dense, [0.7, 0.2, 0.6, 0.7, 0.0, 0.7], method="BFGS")
    assert found.status is vc.Status.CONVERGED
    assert found.loglik == pytest.approx(-best.fun, abs=1e-5)
    at = oracle.plain_of(Y.T.ravel(), X, Vs, found.theta)
    assert at.loglik == pytest.approx(found.loglik, abs=1e-8)
    assert np.sqrt(at.score @ np.linalg.solve(at.expected, at.score)) < 1e-6  # standard errors from the optimum
    for name in ("average", "observed", "expected"):
        assert found.covariances[name] == pytest.approx(np.linalg.inv(getattr(at, name)), rel=1e-6), name


def test_missing_cells__are_integrated_out_exactly(rng):
    """θ̂ and ℓ of rows="all" are those of the dense likelihood of the cells that were measured."""
    K = relationship(rng, n=80)
    Y = draw(rng, K)
    Y[:3, 0] = Y[2:6, 1] = np.nan  # row 2 has neither
    found = genetic_correlation(Y, K=K, method="reml", profile=False)[0]
    assert (found.n, found.n_first, found.n_second) == (74, 77, 76)
    Vs, X = stacked(K, np.ones((80, 1)), np.ones((80, 1)))
    seen = np.isfinite(Y.T.ravel())
    at = oracle.plain_of(Y.T.ravel()[seen], X[seen], Vs[:, seen][:, :, seen], found.theta)
    assert at.loglik == pytest.approx(found.loglik, abs=1e-8)
    assert np.sqrt(at.score @ np.linalg.solve(at.expected, at.score)) < 1e-6
    assert found.covariances["average"] == pytest.approx(np.linalg.inv(at.average), rel=1e-6)
    common = genetic_correlation(Y, K=K, method="reml", rows="common", profile=False)[0]
    both = np.isfinite(Y).all(axis=1)
    alone = genetic_correlation(Y[both], K=K[np.ix_(both, both)], method="reml", profile=False)[0]
    assert common.theta == pytest.approx(alone.theta, rel=1e-6, abs=1e-8)


def test_profile__and_tests_are_constrained_dense_maxima(rng):
    K = relationship(rng, n=40)
    Y = draw(rng, K)
    found = genetic_correlation(Y, K=K, method="reml")[0]
    Vs, X = stacked(K, np.ones((40, 1)), np.ones((40, 1)))

    def dense(rho):
        def f(psi):
            a, b = np.exp(psi[:2])
            M = np.array([[psi[2], 0], [psi[3], psi[4]]])
            theta = np.concatenate([[a * a, rho * a * b, b * b], (M @ M.T)[[0, 1, 1], [0, 0, 1]]])
            return -oracle.plain_of(Y.T.ravel(), X, Vs, theta).loglik

        return -min(minimize(f, [*start, 0.7, 0.0, 0.7], method="BFGS").fun for start in ([-0.3, -0.4], [-1.5, -0.4]))

    assert found.zero.statistic == pytest.approx(2 * (found.loglik - dense(0.0)), abs=1e-4)
    side = np.sign(found.rho_g)
    assert found.one.statistic == pytest.approx(2 * (found.loglik - dense(side)), abs=1e-4)
    for limit in found.interval("rho_g"):
        drop = 2 * (found.loglik - dense(limit))
        assert drop == pytest.approx(3.8415, abs=2e-3) if abs(limit) < 1 else drop < 3.8415


def test_perfect_correlation__is_an_answer_on_the_edge():
    """The same genetic values in both: at the maximum ρ_g = 1, tested by ½χ²_0 + ½χ²_1."""
    rng = np.random.default_rng(8)
    W = markers(rng, n=300, p=400)
    K = W @ W.T / 400
    g = W @ rng.standard_normal(400) / 20
    Y = np.column_stack([g, 0.7 * g]) + 0.7 * rng.standard_normal((300, 2))
    found = genetic_correlation(Y, K=K, method="reml")
    pair = found[0]
    assert pair.status is vc.Status.AT_BOUNDARY
    assert pair.rho_g == pytest.approx(1, abs=1e-12)
    assert np.isnan(pair.se("rho_g"))
    assert np.isfinite(pair.se("rho_e"))
    assert pair.one.p == 1.0
    lower, upper = pair.interval("rho_g")
    assert 0.5 < lower < upper == 1
    assert "edge of the parameter space" in found.summary().replace("\n", " ")


# --- moments ---


def test_traces__by_matrix_by_eigenvalues_and_by_powers(rng):
    W = markers(rng, n=50, p=30)
    K = W @ W.T / 30
    X = np.column_stack([np.ones(50), W[:, 0], rng.standard_normal(50)])
    M = np.eye(50) - X @ np.linalg.pinv(X)
    A = M @ K @ M
    powers = [47.0, *(np.trace(np.linalg.matrix_power(A, k)) for k in (1, 2, 3, 4))]
    assert Traces.of_matrix(K, X).a == pytest.approx(powers, rel=1e-11)
    assert Traces.of_eigen(decompose(K), X).a == pytest.approx(powers, rel=1e-10)


def test_moments__all_pairs_solve_the_dense_normal_equations(rng):
    """θ minimises ‖(Ny)(Ny)ᵀ − Σ θ_a N V_a N‖² over the stacked pair (MATH §5), for every pair in one pass."""
    K = relationship(rng, n=50)
    Y, X = draw(rng, K, size=2)[:, :3], rng.standard_normal((50, 2))
    found = genetic_correlation(Y, K=K, X=X)
    Z = np.column_stack([np.ones(50), X])
    M = np.eye(50) - Z @ np.linalg.pinv(Z)
    for pair, (a, b) in zip(found, [(0, 1), (0, 2), (1, 2)], strict=True):
        y = np.concatenate([M @ Y[:, a], M @ Y[:, b]])
        parts = [np.kron(B, M @ S @ M) for S in (K, np.eye(50)) for B in UNITS]
        S = np.array([[np.vdot(u, v) for v in parts] for u in parts])
        theta = np.linalg.solve(S, [y @ u @ y for u in parts])
        assert pair.theta == pytest.approx(theta, rel=1e-9)
    same = genetic_correlation(Y, K=decompose(K), X=X)
    assert same[1].theta == pytest.approx(found[1].theta, rel=1e-8)
    assert same[1].covariances["sandwich"] == pytest.approx(found[1].covariances["sandwich"], rel=1e-8)


def test_moments__variances_and_their_errors_are_those_of_one_phenotype(rng):
    K = relationship(rng)
    Y = draw(rng, K)
    pair = genetic_correlation(Y, K=K)[0]
    one = heritability(Y, K=K, method="moments")[0]
    assert pair.theta[[0, 3]] == pytest.approx(one.theta, rel=1e-8)
    assert pair.se("G11") == pytest.approx(one.se("V(G)"), rel=1e-7)
    assert pair.se("h2_first") == pytest.approx(one.se("h2"), rel=1e-7)


def test_pair_covariance__is_that_of_quadratic_forms_of_the_stacked_pair(rng):
    """2 tr(B_x V B_y V) with B_x, V of both phenotypes one below the other."""
    K = relationship(rng, n=30, p=20)
    X = np.column_stack([np.ones(30), rng.standard_normal(30)])
    M = np.eye(30) - X @ np.linalg.pinv(X)
    V = np.kron(G0, K) + np.kron(E0, np.eye(30))
    forms = []
    for S in (K, np.eye(30)):
        for a, b in PAIRS:
            unit = np.zeros((2, 2))
            unit[a, b] += 0.5
            unit[b, a] += 0.5
            forms.append(np.kron(unit, M @ S @ M))
    q = np.array([[2 * np.trace(u @ V @ v @ V) for v in forms] for u in forms])
    traces = Traces.of_matrix(K, X)
    inverse = np.kron(np.linalg.inv(traces.S), np.eye(3))
    assert pair_covariance(traces, G0, E0) == pytest.approx(inverse @ q @ inverse.T, rel=1e-10)


def test_standard_errors__are_by_the_delta_method(rng):
    """Gradients of ρ_g, ρ_e and h² by central differences of the quantity itself."""
    from dataclasses import replace

    K = relationship(rng)
    pair = genetic_correlation(draw(rng, K), K=K, method="reml", profile=False, scale="trace")[0]
    cov = pair.covariances["average"]
    for name in ("rho_g", "rho_e", "h2_first", "h2_second", "G21"):
        g = np.empty(6)
        for j in range(6):
            step = 1e-6 * np.eye(6)[j]
            up, down = (replace(pair, theta=pair.theta + sign * step).value(name) for sign in (1, -1))
            g[j] = (up - down) / 2e-6
        assert pair.se(name) == pytest.approx(np.sqrt(g @ cov @ g), rel=1e-6), name
    assert pair.rho_g == pytest.approx(pair.theta[1] / np.sqrt(pair.theta[0] * pair.theta[2]))


def test_moments__sampling_covariance_holds_in_simulation():
    """2000 draws: mean of θ̂ within 4 Monte Carlo errors of the truth, covariance within 4 of the sandwich's
    diagonal."""
    rng = np.random.default_rng(20261121)
    K = relationship(rng, n=60)
    R = 2000
    Y = draw(rng, K, size=R)
    traces = Traces.of_matrix(K, np.ones((60, 1)))
    MY = Y - Y.mean(axis=0)
    KY = K @ MY
    theta = np.empty((R, 6))
    for r in range(R):
        own = slice(2 * r, 2 * r + 2)
        G, E = solve_moments(traces, MY[:, own].T @ KY[:, own], MY[:, own].T @ MY[:, own])
        theta[r] = G[0, 0], G[1, 0], G[1, 1], E[0, 0], E[1, 0], E[1, 1]
    truth = np.array([0.5, 0.2, 0.4, 0.5, -0.1, 0.6])
    cov = pair_covariance(traces, G0, E0)
    assert (np.abs(theta.mean(axis=0) - truth) < 4 * np.sqrt(np.diag(cov) / R)).all()
    variance = theta.var(axis=0, ddof=1)
    kurtosis = ((theta - theta.mean(axis=0)) ** 4).mean(axis=0) / variance**2
    assert (np.abs(variance - np.diag(cov)) < 4 * np.diag(cov) * np.sqrt((kurtosis - 1) / R)).all()


def test_negative_variance__means_no_correlation_and_says_so():
    rng = np.random.default_rng(3)
    K = relationship(rng, n=100)
    Y = rng.standard_normal((100, 4))
    found = genetic_correlation(Y, K=K)
    seen = 0
    for pair in found:
        if min(pair.theta[[0, 2]]) <= 0:
            seen += 1
            assert np.isnan(pair.rho_g)
            assert "no genetic correlation exists" in pair.explanation
            assert pair.row()["message"]
        else:
            assert np.isfinite(pair.rho_g)
    assert seen


def test_correlation_beyond_one__is_reported_raw_and_explained():
    rng = np.random.default_rng(0)
    W = markers(rng, n=200, p=400)
    K = W @ W.T / 400
    g = W @ rng.standard_normal(400) / 20
    Y = g[:, None] + rng.standard_normal((200, 6))
    raw = [pair for pair in genetic_correlation(Y, K=K) if abs(pair.rho_g) > 1]
    assert raw
    assert "not held to [−1, 1]" in raw[0].explanation
    assert np.isfinite(raw[0].se("rho_g"))


def test_moments__missing_rows_are_left_out_by_pair(rng):
    K = relationship(rng)
    Y = draw(rng, K, size=2)[:, :3]
    Y[:5, 0] = Y[3:9, 2] = np.nan
    found = genetic_correlation(Y, K=K)
    assert [pair.n for pair in found] == [55, 51, 54]
    both = np.isfinite(Y[:, [0, 2]]).all(axis=1)
    alone = genetic_correlation(Y[both][:, [0, 2]], K=K[np.ix_(both, both)])[0]
    assert found["y1", "y3"].theta == pytest.approx(alone.theta, rel=1e-10)


def test_jackknife__leaves_out_blocks_of_snps(rng):
    """By hand: the moment estimates of K from the other SNPs, block by block."""
    G = rng.binomial(2, rng.uniform(0.1, 0.5, 60), (80, 60)).astype(np.int8)
    W = (G - G.mean(axis=0)) / G.std(axis=0)
    K = W @ W.T / 60
    Y = draw(rng, K)
    pair = genetic_correlation(Y, G, jackknife=6)[0]
    values = []
    for block in np.array_split(np.arange(60), 6):
        rest = np.delete(W, block, axis=1)
        values.append(genetic_correlation(Y, K=rest @ rest.T / rest.shape[1])[0].theta)
    errors = np.sqrt(5 / 6 * ((values - np.mean(values, axis=0)) ** 2).sum(axis=0))
    assert [pair.se(name, "jackknife") for name in THETA] == pytest.approx(errors, rel=1e-4)  # W is float32
    assert pair.row()["rho_g_jackknife_se"] == pair.se("rho_g", "jackknife")


def test_jackknife__agrees_with_the_sandwich():
    """50 blocks tell a standard error to about 1/√(2·50) = 10 %: within four of these."""
    rng = np.random.default_rng(4)
    G = rng.binomial(2, 0.3, (1000, 1500)).astype(np.int8)
    W = (G - G.mean(axis=0)) / G.std(axis=0)
    u = rng.standard_normal((1500, 2)) @ np.linalg.cholesky(G0).T
    Y = W @ u / np.sqrt(1500) + rng.standard_normal((1000, 2)) @ np.linalg.cholesky(E0).T
    pair = genetic_correlation(Y, G, jackknife=50)[0]
    assert pair.se("rho_g", "jackknife") == pytest.approx(pair.se("rho_g"), rel=0.4)


def test_matrix__is_symmetric_with_the_pairs_values(rng):
    K = relationship(rng)
    found = genetic_correlation(draw(rng, K, size=2), K=K, pairs=[("y1", "y3"), ("y4", "y1")])
    assert len(found) == 2
    square = found.matrix("G21")
    assert square.loc["y3", "y1"] == square.loc["y1", "y3"] == found["y1", "y3"].theta[1]
    assert np.isnan(square.loc["y2", "y3"])
    assert len(found.frame) == 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(method="mvlmm"), MethodError, "Did you mean `reml`"),
        (dict(rows="any"), MethodError, "unknown rows"),
        (dict(rows="all"), MethodError, "takes the rows that both"),
        (dict(se="observed"), MethodError, "`se` is"),
        (dict(jackknife=20), MethodError, "pass genotypes"),
        (dict(pairs=[("y1", "z")]), DataError, "no phenotype `z`"),
        (dict(X={"y1": np.ones((60, 1))}), DataError, "one matrix for each"),
        (dict(level=0), MethodError, "level"),
    ],
)
def test_bad_input__is_named_before_any_work(rng, change, error, words):
    K = relationship(rng)
    with pytest.raises(error, match=words):
        genetic_correlation(draw(rng, K), **(dict(K=K) | change))


def test_one_phenotype__or_none_in_common_is_an_error(rng):
    K = relationship(rng)
    with pytest.raises(DataError, match="two phenotypes"):
        genetic_correlation(rng.standard_normal(60), K=K)
    Y = rng.standard_normal((60, 2))
    Y[:30, 0] = Y[30:, 1] = np.nan
    with pytest.raises(DataError, match="both measured in 0 rows"):
        genetic_correlation(Y, K=K, method="reml")
