"""Null distributions of variance tests against independent simulation: nothing of vcbench's likelihoods is used here.

Finite samples: responses drawn by numpy, −2ℓ profiled over λ with dense matrices. Large samples: balanced layouts,
where mean squares are sufficient and the maxima of ℓ have closed forms, with degrees of freedom in the millions.
A p-value must lie within 4 standard errors of the simulated share; several thresholds a case.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import nnls

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.cones import boundary_null, orthant_probability, orthant_weights, squared_projections
from vcbench.inference.exact_null import ExactNull
from vcbench.inference.likelihood_ratio import mixture_null
from vcbench.inference.nesting import extension
from vcbench.inference.quadratic_forms import positive_probability

THRESHOLDS = (0.05, 0.5, 1.0, 2.0, 3.5, 6.0)
QUICK, FULL = 20_000, 100_000


def agree(null, draws, thresholds=THRESHOLDS, bias=0.0):
    """p-values equal the shares of draws within 4 standard errors, the null's own Monte Carlo error among them."""
    for t in thresholds:
        share = (draws >= t).mean()
        error = np.sqrt(share * (1 - share) / len(draws) + null.mcse(t) ** 2)
        assert abs(null.p_value(t) - share) < 4 * error + bias, (t, null.p_value(t), share, error)


# --- finite samples ---
def unbalanced():
    """7 groups of 1 to 6 rows, a covariate."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(7), [1, 6, 2, 3, 5, 2, 4])
    X = np.column_stack([np.ones(len(g)), rng.normal(size=len(g))])
    return X, np.equal.outer(g, np.arange(7)).astype(float), vc.Component(np.ones(len(g)), name="g", group=g)


def related():
    """20 rows with a relationship matrix of full rank."""
    W = np.random.default_rng(9).normal(size=(20, 30))
    K = W @ W.T / 30
    return np.ones((20, 1)), np.linalg.cholesky(K), vc.Component(K=K, name="a")


def profile(X, Z, Y, criterion, lam):
    """−2ℓ but for constants, (λ, responses): V = I + λZZᵀ, σ² and β at their maxima."""
    n, d = X.shape
    out = np.empty((len(lam), Y.shape[1]))
    for i, value in enumerate(lam):
        V = np.eye(n) + value * Z @ Z.T
        Vi = np.linalg.inv(V)
        A = X.T @ Vi @ X
        P = Vi - Vi @ X @ np.linalg.solve(A, X.T @ Vi)
        quadratic = np.einsum("ij,ij->j", Y, P @ Y)
        m = n - d if criterion == "reml" else n
        out[i] = m * np.log(quadratic) + np.linalg.slogdet(V)[1]
        if criterion == "reml":
            out[i] += np.linalg.slogdet(A)[1]
    return out


def simulated(X, Z, criterion, n_sim, dropped=0):
    """LRT of n_sim responses drawn under the null (0 and a grid of λ, then a parabola through the best three), and
    whether ℓ falls from λ = 0."""
    Y = np.random.default_rng(77).standard_normal((len(X), n_sim))
    step = 0.1
    lam = np.exp(np.arange(-9.0, 9.0, step))
    values = -profile(X, Z, Y, criterion, lam)
    at = values.argmax(axis=0)
    best = values.max(axis=0)
    inner = np.flatnonzero((at > 0) & (at < len(lam) - 1))
    a, b, c = (values[at[inner] + k, inner] for k in (-1, 0, 1))
    best[inner] = b - (c - a) ** 2 / (8 * (a - 2 * b + c))
    X0 = X[:, : X.shape[1] - dropped]
    null = profile(X0, Z, Y, criterion, [0.0])[0]
    zero, beside = -profile(X, Z, Y, criterion, [0.0, 1e-6])
    return null + np.maximum(best, zero), beside <= zero


CASES = [
    ("reml", 0, unbalanced),
    ("ml", 0, unbalanced),
    ("ml", 1, unbalanced),
    ("reml", 0, related),
    ("ml", 0, related),
]


@pytest.mark.parametrize(("criterion", "dropped", "design"), CASES)
@pytest.mark.parametrize("n_sim", [QUICK, pytest.param(FULL, marks=pytest.mark.slow)])
def test_exact_null__equals_simulated_likelihood_ratios(criterion, dropped, design, n_sim):
    """Crainiceanu & Ruppert 2004; with one fixed effect dropped beside the variance under ML."""
    X, Z, component = design()
    model = vc.Model(np.random.default_rng(1).normal(size=len(X)), X, [component])
    null = ExactNull.of(model, criterion, dropped, n_sim=n_sim, seed=3)
    draws, falls = simulated(X, Z, criterion, n_sim, dropped)
    agree(null, draws)
    error = np.sqrt(0.25 / n_sim)
    assert abs(null.mass_at_zero - falls.mean()) < 4 * error
    assert abs((null.draws == 0).mean() - (draws < 1e-9).mean()) < 6 * error  # none with a fixed effect dropped too


def one_way(levels, rows=5, seed=1):
    g = np.repeat(np.arange(levels), rows)
    return vc.Model(
        np.random.default_rng(seed).normal(size=len(g)), None, [vc.Component(np.ones(len(g)), name="g", group=g)]
    )


@pytest.mark.parametrize(("levels", "ml", "reml"), [(5, 0.68, 0.57), (10, 0.62, 0.54), (50, 0.55, 0.52)])
def test_mass_at_zero__is_the_table_of_math_6(levels, ml, reml):
    """And, balanced, P(F ≤ 1) under REML and P(F ≤ a/(a−1)) under ML, a the number of levels."""
    model = one_way(levels)
    nulls = {c: ExactNull.of(model, c) for c in ("ml", "reml")}
    assert nulls["ml"].mass_at_zero == pytest.approx(ml, abs=5e-3)
    assert nulls["reml"].mass_at_zero == pytest.approx(reml, abs=5e-3)
    law = stats.f(levels - 1, 4 * levels)
    assert nulls["reml"].mass_at_zero == pytest.approx(law.cdf(1.0), abs=1e-9)
    assert nulls["ml"].mass_at_zero == pytest.approx(law.cdf(levels / (levels - 1)), abs=1e-9)


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_exact_null__of_a_balanced_layout_is_the_f_test(criterion):
    model = one_way(6, seed=4)
    y = model.y.reshape(6, 5) + np.array([[0.0, 1.5, -1, 0.5, 2, -2]]).T
    F = 5 * y.mean(axis=1).var(ddof=1) / y.var(axis=1, ddof=1).mean()
    model = model.replace(y=y.ravel())
    fits = [vc.fit(m, criterion=criterion) for m in (vc.Model(y.ravel()), model)]
    null = ExactNull.of(model, criterion)
    assert null.p_value(2 * (fits[1].loglik - fits[0].loglik)) == pytest.approx(stats.f.sf(F, 5, 24), rel=1e-7)
    assert (null.mcse(3.0), len(null.draws)) == (0.0, 0)
    draws = null.simulate(QUICK, np.random.default_rng(2))
    agree(null, draws)


def test_exact_null__belongs_to_the_design_not_the_response_and_is_made_once():
    X, _, component = unbalanced()
    model = vc.Model(np.random.default_rng(1).normal(size=len(X)), X, [component])
    null = ExactNull.of(model, "reml", n_sim=1000)
    assert ExactNull.of(model.replace(y=model.y**2), "reml", n_sim=1000) is null
    assert ExactNull.of(model, "reml", n_sim=2000) is not null
    weighted = vc.Model(model.y, X, [component], residual=vc.residual.weights(np.full(len(X), 3.0)))
    np.testing.assert_allclose(ExactNull.of(weighted, "reml", n_sim=1000).draws, null.draws, atol=1e-9)


def test_exact_null__says_where_it_does_not_apply():
    X, _, component = unbalanced()
    y = np.random.default_rng(1).normal(size=len(X))
    slope = vc.Component(X[:, 1], name="h", group=np.arange(len(X)) % 4)
    with pytest.raises(MethodError, match=r"one variance beside σ² only.*bootstrap"):
        ExactNull.of(vc.Model(y, X, [component, slope]), "reml")
    model = vc.Model(y, X, [component])
    with pytest.raises(MethodError, match="REML likelihoods of different fixed effects"):
        ExactNull.of(model, "reml", 1)
    with pytest.raises(MethodError, match="`n_sim` is 5"):
        ExactNull.of(model, "reml", n_sim=5)


# --- large samples, mean squares ---
def pooled(S, df):
    """−2ℓ but for constants at its maximum under τ_1 ≥ τ_2 ≥ …, Σ df log τ̂, of sums of squares S (k, m): the best
    pooling of neighbours."""
    k = len(df)
    best = np.full(S.shape[1], np.inf)
    for cut in range(2 ** (k - 1)):
        groups = np.split(np.arange(k), [j + 1 for j in range(k - 1) if cut >> j & 1])
        tau = [S[g].sum(axis=0) / df[g].sum() for g in groups]
        ok = np.all([a >= b for a, b in pairwise(tau)], axis=0) if len(tau) > 1 else True
        value = sum(df[g].sum() * np.log(t) for g, t in zip(groups, tau, strict=True))
        best = np.where(ok, np.minimum(best, value), best)
    return best


def nested_layout(*sizes):
    """Balanced nested factors a/b/…/rows: model, and degrees of freedom of the mean squares, rows last."""
    counts = np.cumprod(sizes)
    n = int(counts[-1])
    components, df, before = [], [], 1
    for k, levels in enumerate(counts[:-1]):
        components.append(vc.Component(np.ones(n), name=f"f{k}", group=np.repeat(np.arange(levels), n // levels)))
        df.append(levels - before)
        before = levels
    return vc.Model(np.random.default_rng(3).normal(size=n), None, components), np.array([*df, n - before], float)


@pytest.mark.parametrize("sizes", [(12, 3), (8, 3, 2), (6, 2, 3), (5, 2, 2, 2), (4, 2, 2, 2, 2)])
def test_mixture__of_several_variances_equals_simulated_likelihood_ratios(sizes):
    """REML of balanced nested layouts: mean squares in the order τ_1 ≥ τ_2 ≥ …, all equal under the null. Weights are
    those of the small layout; it is drawn with a million times its degrees of freedom. One to four variances."""
    model, df = nested_layout(*sizes)
    null = vc.Model(model.y)
    fits = [vc.fit(m) for m in (null, model)]
    added = extension(null, fits[0].theta_values, model, fits[1].theta_values)
    assert (added.free, added.sizes) == (0, (1,) * (len(sizes) - 1))
    law = mixture_null(added, model, fits[1])
    rng, big = np.random.default_rng(5), 1e6 * df
    S = rng.chisquare(big[:, None], (len(df), FULL))
    draws = big.sum() * np.log(S.sum(axis=0) / big.sum()) - pooled(S, big)
    agree(law, draws, bias=2e-4)  # orthants of four by quasi-Monte Carlo
    assert abs((draws < 1e-9).mean() - law.weights[0]) < 4 * np.sqrt(0.25 / FULL) + 2e-4


def eigen2(S):
    """Eigenvalues (2, m) of symmetric (a, b, c), largest first."""
    a, b, c = S
    r = np.sqrt((a - c) ** 2 / 4 + b**2)
    return (a + c) / 2 + r, (a + c) / 2 - r


def wishart2(df, m, seed):
    """(a, b, c) of m Wishart matrices with unit scale, by Bartlett's factor."""
    rng = np.random.default_rng(seed)
    t11, t22, t21 = np.sqrt(rng.chisquare(df, m)), np.sqrt(rng.chisquare(df - 1, m)), rng.standard_normal(m)
    return np.array([t11**2, t11 * t21, t21**2 + t22**2])


def slopes(formula0, formula1, levels=30):
    """Fits of two models on a balanced layout of x = −1, 0, 1, 2 in each group."""
    rng = np.random.default_rng(2)
    d = {"g": np.repeat(np.arange(levels), 4), "x": np.tile([-1.5, -0.5, 0.5, 1.5], levels)}
    d["y"] = np.repeat(rng.normal(0, 3, levels), 4) + rng.normal(size=4 * levels)
    return [vc.fit(vc.Model.from_formula(f, d)) for f in (formula0, formula1)]


def test_mixture__of_one_more_effect_in_an_unstructured_omega_equals_simulated_likelihood_ratios():
    """(1 | g) in (x | g), REML, X = A: the least-squares coefficients of N groups are a Wishart matrix with scale
    Ω + σ²(AᵀA)⁻¹, here diag(ω + 1, 1) once scaled; with eigenvalues l of S/m the maximum has W = S/m, or the smaller
    pooled with SSE. N = 10⁶."""
    f0, f1 = slopes("y ~ x + (1 | g)", "y ~ x + (x | g)")
    assert vc.lrt(f0, f1, "mixture").null == "½χ²_1 + ½χ²_2"
    m, nu = 1e6, 2e6
    S = wishart2(m, FULL, 4) * np.array([[9.0], [3.0], [1.0]])  # ω + 1 = 9
    E = np.random.default_rng(6).chisquare(nu, FULL)
    small = m * np.log(S[0] / m) + (m + nu) * np.log((S[2] + E) / (m + nu))
    l1, l2 = eigen2(S / m)
    apart = m * (np.log(l1) + np.log(l2)) + nu * np.log(E / nu)
    pool = m * np.log(l1) + (m + nu) * np.log((E + m * l2) / (m + nu))
    draws = small - np.where(l2 >= E / nu, apart, pool)
    agree(boundary_null((1,), None, 1), draws)


def test_mixture__of_a_whole_unstructured_omega_equals_simulated_likelihood_ratios():
    """No random effect in (x | g): the cone of 2 × 2 matrices, projected on at random; the layout as above, Ω = 0."""
    f0, f1 = slopes("y ~ x", "y ~ x + (x | g)")
    added = extension(f0.model, f0.theta_values, f1.model, f1.theta_values)
    assert (added.free, added.sizes) == (0, (2,))
    law = mixture_null(added, f1.model, f1, n_sim=FULL)
    m, nu = 1e5 * 29, 1e5 * 60  # 30 groups, with 10⁵ times their degrees of freedom
    S = wishart2(m, FULL, 4)
    E = np.random.default_rng(6).chisquare(nu, FULL)
    l1, l2 = eigen2(S / m)
    everything = (2 * m + nu) * np.log((S[0] + S[2] + E) / (2 * m + nu))
    both = m * (np.log(l1) + np.log(l2)) + nu * np.log(E / nu)
    sigma2 = (E + m * l2) / (m + nu)
    one = m * np.log(l1) + (m + nu) * np.log(sigma2)
    best = np.where(l2 >= E / nu, both, np.where(l1 >= sigma2, one, everything))
    agree(law, everything - best)
    assert law.text == "χ̄² from χ²_0 to χ²_3"


def test_mixture__of_an_effect_and_a_fixed_effect_at_once_counts_both():
    f0, f1 = slopes("y ~ 1 + (1 | g)", "y ~ x + (x | g)")
    ml = [vc.fit(f.model, criterion="ml") for f in (f0, f1)]
    test = vc.lrt(*ml, "mixture")
    assert (test.null, test.df, test.weights, test.weights_df) == ("½χ²_2 + ½χ²_3", 3, (0.5, 0.5), (2, 3))
    t = test.statistic
    assert test.p == pytest.approx(0.5 * stats.chi2.sf(t, 2) + 0.5 * stats.chi2.sf(t, 3), rel=1e-12)


# --- the pieces ---
def covariance(k, seed):
    A = np.random.default_rng(seed).normal(size=(k, k + 1))
    return A @ A.T


def test_two_variances__have_the_weights_of_math_6():
    Sigma = covariance(2, 1)
    information = np.linalg.inv(Sigma)
    r = information[0, 1] / np.sqrt(information[0, 0] * information[1, 1])
    w2 = np.arccos(r) / (2 * np.pi)
    np.testing.assert_allclose(orthant_weights(Sigma), [0.5 - w2, 0.5, w2], atol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_orthant_weights__are_shares_of_faces(k):
    """Against non-negative least squares, draw by draw."""
    Sigma, n = covariance(k, k), 4000
    L = np.linalg.cholesky(np.linalg.inv(Sigma)).T
    Z = np.random.default_rng(0).multivariate_normal(np.zeros(k), Sigma, n)
    sizes = [int((nnls(L, L @ z)[0] > 1e-9).sum()) for z in Z]
    share = np.bincount(sizes, minlength=k + 1) / n
    error = np.sqrt(share * (1 - share) / n) + 1 / n
    assert (np.abs(orthant_weights(Sigma) - share) < 4 * error).all()


def test_orthant_probability__of_independent_variables():
    for k in range(6):
        assert orthant_probability(np.diag(np.arange(1.0, k + 1))) == pytest.approx(0.5**k, abs=1e-5)


def test_projection__on_the_orthant_is_that_of_non_negative_least_squares():
    Sigma = covariance(5, 3)
    M = np.linalg.inv(Sigma)
    L = np.linalg.cholesky(M).T
    Z = np.random.default_rng(0).multivariate_normal(np.zeros(5), Sigma, 300)
    expected = [np.sum((L @ nnls(L, L @ z)[0]) ** 2) for z in Z]
    np.testing.assert_allclose(
        squared_projections(Z, M, (1,) * 5), expected, atol=3e-7 * np.sum((Z @ L.T) ** 2, 1).max()
    )


@pytest.mark.parametrize("k", [2, 3])
def test_projection__on_matrices_in_the_frobenius_metric_keeps_positive_eigenvalues(k):
    """And in any metric it meets the conditions of a projection: here Σλ₊² for the identity."""
    i, j = np.tril_indices(k)
    order = np.lexsort((i, j))  # lower triangle by column
    i, j = i[order], j[order]
    Z = np.random.default_rng(1).normal(size=(200, len(i)))
    M = np.diag(np.where(i == j, 1.0, 2.0))
    full = np.zeros((200, k, k))
    full[:, i, j] = full[:, j, i] = Z
    expected = (np.maximum(np.linalg.eigvalsh(full), 0.0) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared_projections(Z, M, (k,)), expected, rtol=1e-6, atol=1e-6)


def test_cone__of_scalars_by_projection_agrees_with_its_weights():
    """Seven variances are projected; six, the same less one that is independent, have weights."""
    Sigma = np.eye(7)
    Sigma[:6, :6] = covariance(6, 2)
    projected = boundary_null((1,) * 7, Sigma, 1)
    known = boundary_null((1,) * 6, Sigma[:6, :6], 1)
    for t in (1.0, 4.0, 9.0):
        expected = 0.5 * known.p_value(t) + 0.5 * sum(
            w * stats.chi2.sf(t, d + 1) for w, d in zip(known.weights, known.df, strict=True)
        )
        assert abs(projected.p_value(t) - expected) < 4 * projected.mcse(t) + 1e-4


def test_quadratic_form__is_positive_as_often_as_an_f_ratio_says():
    for a, b, ratio in ((3, 4, 2.0), (1, 1, 2.0), (5, 1000, 0.01), (40, 2, 1.3)):
        expected = stats.f.sf(ratio * b / a, a, b)
        assert positive_probability([1.0, -ratio], [a, b]) == pytest.approx(expected, abs=1e-8)
    assert positive_probability([1.0, 2.0], [3, 4]) == 1.0
    assert positive_probability([-1.0, 0.0], [3, 4]) == 0.0
