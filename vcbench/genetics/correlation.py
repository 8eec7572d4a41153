"""`genetic_correlation`: how far the same effects, and the same residuals, act on pairs of phenotypes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from vcbench.errors import DataError, MethodError, did_you_mean
from vcbench.genetics.alignment import aligned, has_ids
from vcbench.genetics.correlation_results import GeneticCorrelation
from vcbench.genetics.eigen import Eigen
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.heritability import SCALES, chi2_quantile, eigen_size, one_variance
from vcbench.genetics.matrices import Matrix, check_rows, matrices_of
from vcbench.genetics.pair_fit import ROUGH, Climber, PairFit
from vcbench.genetics.pair_kernel import PairKernel, Turned
from vcbench.genetics.pair_moments import Traces, pair_covariance, solve_moments
from vcbench.genetics.pairs import Pair
from vcbench.genetics.phenotypes import Phenotypes, share, take, with_missing
from vcbench.genetics.progress import Progress
from vcbench.genetics.traits import Test
from vcbench.inference.standard_errors import COV_TYPES
from vcbench.model.model import full_rank
from vcbench.status import Status

METHODS = ("moments", "reml", "ml")
ALIASES = {
    "mom": "moments",
    "he": "moments",
    "haseman-elston": "moments",
    "ai": "reml",
    "auto": "reml",
    "mvlmm": "reml",
}
ROWS = ("all", "common")
MISSING = 0.1  # of the rows: up to which a pair shares a larger decomposition


def genetic_correlation(
    Y: Any,
    genotypes: Any = None,
    X: Any = None,
    method: str = "moments",
    standardise: Any = "unit",
    level: float = 0.95,
    *,
    K: Any = None,
    rows: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    se: str | None = None,
    profile: bool = True,
    jackknife: int = 0,
    scale: str = "unit",
    missing: str = "mean",
    count_monomorphic: bool = False,
    names: Sequence[str] | None = None,
    X_names: Sequence[str] | None = None,
    cache: Any = None,
    progress: Progress = False,
) -> GeneticCorrelation:
    """Genetic and residual correlations of all pairs of the columns of Y (or of `pairs`), by one relationship matrix.

        (y_1, y_2) = Xβ + g + e,  Cov(g) = G ⊗ K,  Cov(e) = E ⊗ I;   ρ_g = G_12/√(G_11 G_22),  ρ_e = E_12/√(E_11 E_22)
        moments: S (G_ab, E_ab) = (y_aᵀM K M y_b, y_aᵀM y_b),  S_ij = tr(M V_i M V_j),  V_i = K, I,  for a, b = 1 … P

    Y (n, P), NaN where missing (or a file or frame with ids); genotypes or `K=`, standardise, missing, scale, cache:
    as in `heritability`.

    method "moments" solves the normal equations of all pairs at once (no eigendecomposition), with sandwich and delta
    method for the standard errors, on the rows that both phenotypes of a pair have. "reml" and "ml" maximise the
    likelihood of each pair in the eigenbasis over positive semi-definite G and E: standard errors by `se` "average"
    (default), "observed" (GEMMA's) or "expected"; profile limits of ρ_g; likelihood-ratio tests of ρ_g = 0 (χ²_1) and
    of |ρ_g| = 1 on the side of the estimate (½χ²_0 + ½χ²_1).

    rows: "all" uses every row where one of the two was measured (REML; missing cells are integrated out exactly),
    "common" those with both, as GEMMA does. X: one matrix for all phenotypes, or a mapping from name to matrix, each
    with its own. jackknife: blocks of SNPs to leave out in turn for standard errors of the moment estimates
    (genotypes only).

    A correlation with a variance estimated ≤ 0 does not exist: it is NaN with a sentence that says why; |ρ_g| > 1 by
    moments is reported raw. Returns a `GeneticCorrelation`: `frame`, `matrix()`, `summary()`, `to_json()`.

    Raises, before any work: DataError for fewer than two phenotypes, pairs with too few rows in common and what
    `heritability` raises it for; ModelError for neither or both of `genotypes` and `K`, or a K of other rows than Y;
    MethodError for several matrices, and for a method, option, scale or level that does not exist here.

    Zhou & Stephens 2014 (GEMMA's bivariate likelihood, Nat Methods 11:407).
    """
    if method not in METHODS:
        raise MethodError(
            f"unknown method `{method}` of genetic correlation. Choose from {', '.join(METHODS)}."
            f"{did_you_mean(method, METHODS, ALIASES)}"
        )
    rows = rows or ("all" if method == "reml" else "common")
    if rows not in ROWS:
        raise MethodError(f'unknown rows `{rows}`. Choose "all" (measured in one or both) or "common" (in both).')
    if rows == "all" and method != "reml":
        raise MethodError(f'rows="all" is for method="reml"; `{method}` takes the rows that both phenotypes have.')
    if se is not None and (method == "moments" or se not in COV_TYPES):
        raise MethodError(
            f"`se` is {se!r}; with reml and ml choose from {', '.join(COV_TYPES)}, with moments leave it out."
        )
    if scale not in SCALES:
        raise MethodError(f'unknown scale `{scale}`. Choose "unit" (V(G) as it is) or "trace" (times tr(CKC)/n).')
    if not 0.0 < level < 1.0:
        raise MethodError(f"`level` is {level!r}; a confidence level lies between 0 and 1, such as 0.95.")
    if jackknife and (method != "moments" or jackknife < 2):
        raise MethodError(f"`jackknife` is {jackknife}; it is the number of SNP blocks, 2 or more, for method moments.")
    begin = time.perf_counter()
    by_name = X if isinstance(X, Mapping) else None
    (matrix,) = _one(matrices_of(genotypes, K, None, standardise, missing, count_monomorphic, progress))
    if by_name is None or has_ids(Y):
        Y, X = aligned(Y, X, [matrix])
    phenotypes = take(Y, None if by_name is not None else X, names, X_names)
    if len(phenotypes.names) < 2:
        raise DataError("a correlation needs two phenotypes; Y has one column.")
    check_rows([matrix], phenotypes.n)
    designs = _designs(Y, by_name, phenotypes)
    if by_name is not None and method == "moments":
        raise MethodError('the moment equations of all pairs share one X. Pass one matrix, or use method="reml".')
    wanted = _wanted(pairs, phenotypes.names)
    observed = phenotypes.observed
    for a, b in wanted:
        both = int((observed[:, a] & observed[:, b]).sum())
        if both < designs[a].shape[1] + designs[b].shape[1] + 6:
            raise DataError(
                f"phenotypes `{phenotypes.names[a]}` and `{phenotypes.names[b]}` were both measured in {both} rows "
                "only: too few for a correlation."
            )
    if jackknife and not isinstance(matrix.given, Genotypes):
        raise MethodError("the jackknife leaves out blocks of SNPs: pass genotypes, not K.")
    if method == "moments":
        found = _by_moments(phenotypes, matrix, wanted, scale, level)
        if jackknife:
            from vcbench.genetics.jackknife import with_jackknife

            found = with_jackknife(found, phenotypes, matrix, wanted, jackknife)
    else:
        how = (method, rows == "all", se or "average", profile, scale, level)
        found = _by_likelihood(phenotypes, designs, matrix, wanted, how, cache)
    return GeneticCorrelation(tuple(found), phenotypes.names, method, level, time.perf_counter() - begin, (matrix,))


def _designs(Y: Any, by_name: Mapping | None, phenotypes: Phenotypes) -> list[np.ndarray]:
    """X of each phenotype."""
    if by_name is None:
        return [phenotypes.X] * len(phenotypes.names)
    lost = [name for name in by_name if name not in phenotypes.names]
    if lost or len(by_name) < len(phenotypes.names):
        raise DataError(
            f"X by name must hold one matrix for each of {', '.join(phenotypes.names)}; it has {list(by_name)}."
        )
    values = phenotypes.values
    return [take(values[:, [j]], by_name[name], [name]).X for j, name in enumerate(phenotypes.names)]


def _wanted(pairs: Sequence[tuple[str, str]] | None, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Positions of the pairs asked for, all of them by default."""
    if pairs is None:
        return list(combinations(range(len(names)), 2))
    out = []
    for pair in pairs:
        for name in pair:
            if name not in names:
                raise DataError(f"there is no phenotype `{name}`.{did_you_mean(name, names)}")
        if len(pair) != 2 or pair[0] == pair[1]:
            raise DataError(f"`{pair}` is not a pair of two phenotypes.")
        out.append((names.index(pair[0]), names.index(pair[1])))
    return out


def _one(found: list[Matrix]) -> list[Matrix]:
    if len(found) != 1:
        raise MethodError("correlations are by one relationship matrix; several were given. Pass one of them.")
    return found


def _by_moments(
    phenotypes: Phenotypes, matrix: Matrix, wanted: list[tuple[int, int]], scale: str, level: float
) -> list[Pair]:
    """All pairs of the same rows share traces and products."""
    observed = phenotypes.observed
    patterns: dict[bytes, list[int]] = {}
    for j, (a, b) in enumerate(wanted):
        patterns.setdefault((observed[:, a] & observed[:, b]).tobytes(), []).append(j)
    found: dict[int, Pair] = {}
    for members in patterns.values():
        begin = time.perf_counter()
        a, b = wanted[members[0]]
        at = np.flatnonzero(observed[:, a] & observed[:, b])
        chosen = sorted({t for j in members for t in wanted[j]})
        traces, G, E, k = moments_of_rows(phenotypes, matrix, at, chosen)
        size = k if scale == "trace" else 1.0
        seconds = (time.perf_counter() - begin) / len(members)
        for j in members:
            a, b = wanted[j]
            own = np.ix_([chosen.index(a), chosen.index(b)], [chosen.index(a), chosen.index(b)])
            theta = np.array([G[own][0, 0], G[own][1, 0], G[own][1, 1], E[own][0, 0], E[own][1, 0], E[own][1, 1]])
            cov = pair_covariance(traces, G[own], E[own])
            found[j] = Pair(
                phenotypes.names[a], phenotypes.names[b], len(at), len(at), len(at), theta, size, {"sandwich": cov},
                "sandwich", level, Status.CONVERGED, "", float("nan"), seconds=seconds,
            )  # fmt: skip
    return [found[j] for j in range(len(wanted))]


def moments_of_rows(
    phenotypes: Phenotypes, matrix: Matrix, at: np.ndarray, chosen: list[int]
) -> tuple[Traces, np.ndarray, np.ndarray, float]:
    """(traces, Γ_g, Γ_e, tr(CKC)/n) of the phenotypes `chosen` on the rows `at`, where all of them were measured."""
    Y = phenotypes.values[np.ix_(at, chosen)]
    X = full_rank(np.ascontiguousarray(phenotypes.X[at]), list(phenotypes.X_names), "drop")[0]
    Q = np.linalg.qr(X)[0]
    MY = Y - Q @ (Q.T @ Y)
    whole = len(at) == phenotypes.n
    if matrix.is_thin or (matrix.decomposed is not None and whole):
        eigen = matrix.eigen(None if whole else at)
        traces = Traces.of_eigen(eigen, X)
        UY = eigen.vectors.T @ MY
        Qg = UY.T @ (eigen.values[:, None] * UY)
        k = eigen.centred_trace / len(at)
    else:
        K = matrix.K()
        K = K if whole else K[np.ix_(at, at)]
        traces = Traces.of_matrix(K, X)
        Qg = MY.T @ K @ MY
        k = (float(np.trace(K)) - float(K.sum()) / len(at)) / len(at)
    G, E = solve_moments(traces, Qg, MY.T @ MY)
    return traces, (G + G.T) / 2, (E + E.T) / 2, k


def _by_likelihood(
    phenotypes: Phenotypes,
    designs: list[np.ndarray],
    matrix: Matrix,
    wanted: list[tuple[int, int]],
    how: tuple,
    cache: Any,
) -> list[Pair]:
    """Every pair in the eigenbasis; pairs whose rows differ little share a decomposition under REML."""
    method, all_rows, *_ = how
    observed = phenotypes.observed
    used = np.column_stack(
        [observed[:, a] | observed[:, b] if all_rows else observed[:, a] & observed[:, b] for a, b in wanted]
    )
    if matrix.decomposed is not None and method == "reml" and (~used).mean(axis=0).max() <= MISSING:
        used = np.column_stack([used, np.ones(len(used), bool)])  # the decomposition given holds them all
    groups = share(used, MISSING if method == "reml" else 0.0)
    found: dict[int, Pair] = {}
    for group in groups:
        whole = len(group.rows) == phenotypes.n
        eigen = matrix.eigen(None if whole else group.rows, cache, last=group is groups[-1])
        turned: dict[int, Turned] = {}  # phenotypes measured in all of these rows, by design: each is turned once
        for j, outside in zip(group.columns, group.missing, strict=True):
            if j < len(wanted):
                found[j] = _fit_pair(phenotypes, designs, group.rows, outside, eigen, wanted[j], how, turned)
    return [found[j] for j in range(len(wanted))]


def _fit_pair(
    phenotypes: Phenotypes,
    designs: list[np.ndarray],
    rows: np.ndarray,
    outside: np.ndarray,
    eigen: Eigen,
    pair: tuple[int, int],
    how: tuple,
    turned: dict[int, Turned],
) -> Pair:
    method, _, definition, profile, scale, level = how
    begin = time.perf_counter()
    within = np.ones(len(rows), bool)
    within[outside] = False
    parts, n_seen, gone = [], [], 0
    for j in pair:
        y = phenotypes.values[rows, j]
        seen = np.isfinite(y) & within
        n_seen.append(int(seen.sum()))
        gone += int((~seen).sum())
        if seen.all() and j in turned:
            parts.append(turned[j])
            continue
        X = designs[j][rows]
        _, kept, _ = full_rank(np.ascontiguousarray(X[seen]), [str(c) for c in range(X.shape[1])], "drop")
        own = with_missing(X[:, [int(c) for c in kept]], np.flatnonzero(~seen))
        part = Turned.of(eigen, own, np.where(seen, y, y[seen].mean()))
        if seen.all():
            turned[j] = part
        parts.append(part)
    both = int(np.isfinite(phenotypes.values[np.ix_(rows[within], pair)]).all(axis=1).sum())
    kernel = PairKernel.of_turned(parts[0], parts[1])
    climber = Climber.of(kernel, method)
    fit = climber.best(_starts(kernel, climber))
    covariances = {name: climber.covariance(fit, name) for name in COV_TYPES}
    zero = one = limits = None
    if fit.status.ok and np.isfinite(fit.rho_g):
        zero, one = _tests(climber, fit)
        limits = climber.profile(fit, chi2_quantile(level)) if profile else None
    size = eigen_size(eigen, within if len(outside) else None) if scale == "trace" else 1.0
    said = f"one of {eigen.n} rows" + (", read from the cache" if eigen.cached else "")
    said += f"; {gone} missing cells taken out as fixed effects" if gone else ""
    names = phenotypes.names
    return Pair(
        names[pair[0]], names[pair[1]], both, n_seen[0], n_seen[1], fit.theta, size, covariances, definition, level,
        fit.status, _named(fit.message, names[pair[0]], names[pair[1]]), fit.loglik, limits, zero, one, None,
        fit.n_iter, time.perf_counter() - begin, said,
    )  # fmt: skip


def _named(message: str, first: str, second: str) -> str:
    return message.replace("the first phenotype", first).replace("the second phenotype", second)


def _starts(kernel: PairKernel, climber: Climber) -> list[np.ndarray]:
    """Half of each residual variance to G; the residual correlation in both, or in E alone."""
    y = kernel.y
    r = float(y[:, 0] @ y[:, 1] / np.sqrt((y[:, 0] @ y[:, 0]) * (y[:, 1] @ y[:, 1])))
    half = np.array([0.5, 0.5 * r, 0.5, 0.5, 0.5 * r, 0.5])
    apart = np.array([0.2, 0.0, 0.2, 0.8, 0.8 * r, 0.8])
    return [half * climber.scale, apart * climber.scale]


def _tests(climber: Climber, fit: PairFit) -> tuple[Test, Test]:
    """ρ_g = 0: χ²_1. |ρ_g| = 1, on the side of the estimate, where G has rank 1 and may only move inwards: ½χ²_0 +
    ½χ²_1."""
    from scipy.special import chdtrc

    zero = climber.climb(fit.theta, 0.0, ROUGH)
    statistic = max(2.0 * (fit.loglik - zero.loglik), 0.0)
    edge = climber.climb(fit.theta, -1.0 if fit.rho_g < 0 else 1.0, ROUGH)
    at_edge = fit.status is Status.AT_BOUNDARY and "genetic correlation" in fit.message
    one = one_variance(0.0 if at_edge else 2.0 * (fit.loglik - edge.loglik))
    return Test(statistic, float(chdtrc(1, statistic)) if statistic > 0 else 1.0, "χ²₁"), replace(one)
