"""Several relationship matrices: the genomic kernel against the dense oracle, all methods, moments, tests, low rank,
bins."""

import numpy as np
import oracle
import pytest

import vcbench as vc
from vcbench.errors import DataError, MethodError
from vcbench.genetics.dominance import dominance_matrix
from vcbench.genetics.genomic_kernel import GenomicKernel
from vcbench.genetics.heritability import heritability
from vcbench.genetics.hsq import hsq_text
from vcbench.genetics.several import split
from vcbench.kernels import build

METHODS = ("ai", "newton", "fisher", "lbfgs", "px-em", "px-em-component", "em", "ecme", "squarem", "daarem")


def sample(rng, n=90, sizes=(100, 130), shares=(0.4, 0.3)):
    """K_1, K_2, …, X and y."""
    W = [rng.standard_normal((n, p)) for p in sizes]
    X = rng.standard_normal((n, 1))
    g = sum(w @ rng.standard_normal(w.shape[1]) * np.sqrt(h / w.shape[1]) for w, h in zip(W, shares, strict=True))
    y = X[:, 0] + g + np.sqrt(1 - sum(shares)) * rng.standard_normal(n)
    return [w @ w.T / w.shape[1] for w in W], X, y


def with_ones(X):
    return np.column_stack([np.ones(len(X)), X])


@pytest.mark.parametrize("criterion", ["reml", "ml"])
@pytest.mark.parametrize("theta", [(0.3, 0.2, 0.5), (0.0, 0.0, 0.7)])
@pytest.mark.parametrize("given", [False, True])
def test_genomic_kernel__answers_what_the_dense_kernel_answers(rng, criterion, theta, given):
    """Every answer, E-step moments too; without `whole_moments` the sum of F is right."""
    K, X, y = sample(rng)
    model = vc.Model(y, with_ones(X), [vc.Component(K=k, name=f"G{j}") for j, k in enumerate(K)])
    dense = build(model, "dense")
    gamma = np.array([0.1, -0.2]) if given else None
    need = ("score", "average", "expected", "moments")
    a = dense.evaluate(theta, need, criterion, gamma=gamma)
    whole = GenomicKernel.build(model, K, whole_moments=True).evaluate(theta, need, criterion, gamma=gamma)
    for name in ("loglik", "gamma", "beta", "QtVinvQ", "score", "average", "expected", "observed", "score_gamma"):
        theirs, ours = getattr(a, name), getattr(whole, name)
        assert (theirs is None) == (ours is None), name
        assert theirs is None or ours == pytest.approx(theirs, rel=1e-9, abs=1e-11), name
    for name in ("F", "Wty", "XtW", "S", "yty", "f", "E0", "logdet"):
        assert getattr(whole.moments, name) == pytest.approx(getattr(a.moments, name), rel=1e-9, abs=1e-10), name
    part = GenomicKernel.build(model, K).evaluate(theta, ("moments",), criterion, gamma=gamma)
    assert part.moments.F.sum() == pytest.approx(a.moments.F.sum(), rel=1e-9, abs=1e-10)


def test_genomic_kernel__takes_single_precision_and_remembers_a_state(rng):
    K, X, y = sample(rng)
    model = vc.Model(y, with_ones(X), [vc.Component(K=k, name=f"G{j}") for j, k in enumerate(K)])
    single = GenomicKernel.build(model, [k.astype(np.float32) for k in K])
    double = GenomicKernel.build(model, K)
    theta = np.array([0.3, 0.2, 0.5])
    assert single.evaluate(theta).loglik == pytest.approx(double.evaluate(theta).loglik, abs=1e-4)
    first = double.evaluate(theta, ("score", "average"))
    assert double.evaluate(theta, ("average",)) is first
    assert double.evaluate(theta, ("expected",)).average is first.average  # joined, not lost
    assert double.bind(y[::-1].copy()).evaluate(theta).loglik != first.loglik


def test_methods__reach_one_optimum(rng):
    K, X, y = sample(rng)
    found = {m: heritability(y, K=K, X=X, method=m)[0] for m in METHODS}
    best = found["ai"]
    at = oracle.plain_of(y, with_ones(X), np.array([*K, np.eye(len(y))]), best.theta)
    assert np.sqrt(at.score @ np.linalg.solve(at.expected, at.score)) < 2e-6  # the stop rule is by average information
    assert best.loglik == pytest.approx(at.loglik, abs=1e-9)
    assert best.covariance("average") == pytest.approx(np.linalg.inv(at.average), rel=1e-5)
    for name, t in found.items():
        assert t.status is vc.Status.CONVERGED, name
        assert t.theta == pytest.approx(best.theta, rel=1e-5), name
        assert t.loglik == pytest.approx(best.loglik, abs=1e-9), name
        assert t.beta == pytest.approx(best.beta, rel=1e-6), name


def test_shares__and_their_errors_are_by_the_delta_method(rng):
    K, X, y = sample(rng)
    t = heritability(y, K={"a": K[0], "b": K[1]}, X=X)[0]
    total, cov = t.theta.sum(), t.covariance()
    assert t.h2 == pytest.approx(t.theta[:2].sum() / total)
    names = ("h2:a", "h2:b", "h2")
    for name, own in zip(names, ([1, 0, 0], [0, 1, 0], [1, 1, 0]), strict=True):
        g = (np.array(own) - t.quantities()[name][0]) / total
        assert t.se(name) == pytest.approx(np.sqrt(g @ cov @ g), rel=1e-9)


def test_moments__are_the_normal_equations_with_their_sandwich(rng):
    K, X, y = sample(rng)
    t = heritability(y, K=K, X=X, method="moments")[0]
    Z = with_ones(X)
    M = np.eye(len(y)) - Z @ np.linalg.pinv(Z)
    parts = [M @ k @ M for k in (*K, np.eye(len(y)))]
    S = np.array([[np.vdot(a, b) for b in parts] for a in parts])
    theta = np.linalg.solve(S, [y @ a @ y for a in parts])
    V = sum(v * k for v, k in zip(theta, (*K, np.eye(len(y))), strict=True))
    Sigma = np.array([[2 * np.trace(a @ V @ b @ V) for b in parts] for a in parts])
    assert t.theta == pytest.approx(theta, rel=1e-9)
    assert t.covariance() == pytest.approx(np.linalg.inv(S) @ Sigma @ np.linalg.inv(S), rel=1e-8)


def test_joint_test__is_a_mixture_with_the_nulls_own_weights(rng):
    """Two variances: w_2 = arccos(r)/2π, r the correlation of their information at the null (MATH §6)."""
    K, X, y = sample(rng)
    t = heritability(y, K=K, X=X)[0]
    Z = with_ones(X)
    r = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
    s2 = r @ r / (len(y) - 2)
    at = oracle.plain_of(y, Z, np.array([*K, np.eye(len(y))]), [0, 0, s2])
    info = at.expected[:2, :2] - np.outer(at.expected[:2, 2], at.expected[2, :2]) / at.expected[2, 2]
    w2 = np.arccos(info[0, 1] / np.sqrt(info[0, 0] * info[1, 1])) / (2 * np.pi)
    from scipy.stats import chi2

    assert t.test.statistic == pytest.approx(2 * (t.loglik - at.loglik), abs=1e-8)
    assert t.test.p == pytest.approx(0.5 * chi2.sf(t.test.statistic, 1) + w2 * chi2.sf(t.test.statistic, 2), rel=1e-6)


def test_component_at_zero__is_said_and_the_others_have_errors_on_that_face():
    rng = np.random.default_rng(0)
    K, X, y = sample(rng, n=150, sizes=(200, 200), shares=(0.6, 0.0))
    found = heritability(y, K=K, X=X)
    t = found[0]
    assert t.status is vc.Status.AT_BOUNDARY
    assert t.theta[1] == 0
    alone = heritability(y, K=K[0], X=X)[0]
    assert t.theta[[0, 2]] == pytest.approx(alone.theta, rel=1e-6)
    assert t.se("V(G1)") == pytest.approx(alone.se("V(G)"), rel=1e-6)
    assert t.se("h2") == pytest.approx(alone.se("h2"), rel=1e-6)
    assert np.isnan(t.se("V(G2)"))
    assert "V(G2) is 0 at the maximum" in found.summary()
    assert "Sum of V(G)/Vp" in hsq_text(t)


def test_few_snps__go_by_their_columns_and_give_what_the_matrices_give(rng):
    G = [rng.binomial(2, 0.3, (120, p)).astype(np.int8) for p in (30, 40)]
    W = [(g - g.mean(axis=0)) / g.std(axis=0) for g in G]
    y = W[0] @ rng.standard_normal(30) / 6 + W[1] @ rng.standard_normal(40) / 8 + rng.standard_normal(120)
    thin = heritability(y, G)[0]
    whole = heritability(y, K=[w @ w.T / w.shape[1] for w in W])[0]
    assert "columns of SNPs" in thin.decomposition
    assert thin.theta == pytest.approx(whole.theta, rel=1e-5)  # W is float32
    assert thin.loglik == pytest.approx(whole.loglik, abs=1e-4)
    by_moments = heritability(y, G, method="moments")[0]
    assert by_moments.theta == pytest.approx(
        heritability(y, K=[w @ w.T / w.shape[1] for w in W], method="moments")[0].theta, rel=1e-4
    )


def test_missing_phenotypes__take_the_rows_that_they_have(rng):
    K, X, y = sample(rng)
    holes = y.copy()
    holes[:4] = np.nan
    found = heritability(np.column_stack([y, holes]), K=K, X=X)
    alone = heritability(y[4:], K=[k[4:, 4:] for k in K], X=X[4:])[0]
    assert found["y2"].theta == pytest.approx(alone.theta, rel=1e-6)
    assert found["y2"].n == 86


def test_split__by_chromosome_maf_and_labels(rng):
    G = rng.binomial(2, np.repeat([0.05, 0.2, 0.45], 20), (300, 60)).astype(np.int8)
    parts = split(G, ("maf", [0.01, 0.1, 0.3]))
    assert sum(part.n_variants for part in parts.values()) == 60
    for name, part in parts.items():
        low, high = (float(v) for v in name.removeprefix("maf").split("-"))
        assert ((part.scan().facts.maf >= low) & (part.scan().facts.maf <= high)).all()
    labels = np.repeat(["x", "y"], 30)
    assert [part.n_variants for part in split(G, labels).values()] == [30, 30]
    assert list(split(G)) == ["chr1"]
    with pytest.raises(MethodError, match="rising edges"):
        split(G, ("maf", [0.2, 0.1]))
    with pytest.raises(MethodError, match="label for each"):
        split(G, "chromosomes")


def test_dominance__is_uncorrelated_with_the_additive_count_under_hardy_weinberg(rng):
    """W_d by hand, and its mean product with the counts over many samples within 4 Monte Carlo errors of 0."""
    f = rng.uniform(0.2, 0.8, 200)
    G = rng.binomial(2, f, (400, 200)).astype(np.int8)
    K = dominance_matrix(G).K
    q = G.mean(axis=0) / 2
    W = np.where(G == 0, -q / (1 - q), np.where(G == 1, 1.0, -(1 - q) / q))
    assert pytest.approx(W @ W.T / 200, abs=1e-5) == K
    product = (W * (G - 2 * q)).ravel()
    assert abs(product.mean()) < 4 * product.std() / np.sqrt(len(product))
    assert np.trace(K) / 400 == pytest.approx(1, abs=0.05)
    with pytest.raises(DataError, match="dosages"):
        dominance_matrix(G + 0.1 * (G == 0))


def test_methods_for_one_matrix__are_refused(rng):
    K, X, y = sample(rng)
    for method in ("minque", "quadrature"):
        with pytest.raises(MethodError, match="for one relationship matrix"):
            heritability(y, K=K, X=X, method=method)
