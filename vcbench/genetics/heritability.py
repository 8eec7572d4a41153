"""`heritability`: the variance that a relationship matrix explains, for any number of phenotypes, by any method."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.fit import fit
from vcbench.fitted import Fit
from vcbench.genetics.alignment import aligned
from vcbench.genetics.eigen import Eigen
from vcbench.genetics.liability import liability_of
from vcbench.genetics.matrices import Matrix, check_rows, matrices_of
from vcbench.genetics.phenotypes import Group, Phenotypes, share, take, with_missing
from vcbench.genetics.progress import Progress
from vcbench.genetics.results import Heritability
from vcbench.genetics.shares import Shares
from vcbench.genetics.traits import FULL, Test, Trait
from vcbench.inference.standard_errors import COV_TYPES, theta_covariance
from vcbench.kernels import build
from vcbench.kernels.blocks import BlockKernel
from vcbench.methods import check_method, check_options
from vcbench.model.model import Model, full_rank
from vcbench.solvers.moments import moments
from vcbench.status import Status

SCALES = ("unit", "trace")
MISSING_QUICK, MISSING_EM = 0.1, 0.01  # of the rows: missing phenotypes up to which a decomposition is shared
FEW_STEPS = ("auto", "ai", "newton", "fisher", "lbfgs", "moments", "minque")


def heritability(
    Y: Any,
    genotypes: Any = None,
    X: Any = None,
    method: str = "auto",
    criterion: str | None = None,
    standardise: Any = "unit",
    prevalence: float | Mapping[str, float] | None = None,
    sample_prevalence: float | Mapping[str, float] | None = None,
    level: float = 0.95,
    *,
    K: Any = None,
    missing: str = "mean",
    count_monomorphic: bool = False,
    scale: str = "unit",
    se: str | None = None,
    names: Sequence[str] | None = None,
    X_names: Sequence[str] | None = None,
    cache: Any = None,
    profiles: bool = False,
    progress: Progress = False,
    **options: Any,
) -> Heritability:
    """The heritability of each column of Y: y = Xβ + g + e, g ~ N(0, V(G) K), e ~ N(0, V(e) I), h² = V(G)/Vp.

        K = W Wᵀ/s (n, n), W (n, p) standardised genotypes;  of several K_k: h²_k = V(G_k)/Vp,  Vp = Σ V(G_k) + V(e)
        likelihood: ℓ_REML or ℓ_ML in the eigenbasis of K;  moments: S θ = q,  S_ij = tr(MV_iMV_j),  q_i = yᵀMV_iMy,
        V_i = K, I,  M = I − X(XᵀX)⁻¹Xᵀ (Haseman–Elston regression with covariates)
        SE(h²)² = gᵀ Cov(θ̂) g,  g = (V(e), −V(G))/Vp²

    Y (n,) or (n, P), NaN where a phenotype is missing, in the order of the samples; or a file or frame of FID IID and
    values, matched to them. X likewise: (n, c) covariates, a constant is added unless it is there.
    genotypes: a `Genotypes`, PLINK prefix, array of 0/1/2 or Zarr array, or a GRM; `K=` instead: a relationship
    matrix (n, n), a GRM or an `Eigen`; a list or mapping of several gives one variance each. standardise, missing:
    how genotypes become K (`relationship_matrix`); count_monomorphic: its divisor counts SNPs that do not vary too, as
    GCTA's does.

    One eigendecomposition serves all phenotypes, those that lack some rows too (see `phenotypes`); where p < n it is
    that of the thin side. cache: a folder where decompositions are kept and found again.

    method, criterion, options: any of `vcbench.METHODS` that this model has ("auto", "ai", "em", "px-em", "moments",
    …). se: the definition of standard errors that is shown, "average" (default; GCTA's), "observed" or "expected"; of
    moments "sandwich". scale: "unit" takes h² = V(G)/(V(G) + V(e)), as GCTA; "trace" counts V(G)·tr(CKC)/n, what K adds
    to the variance in the sample, as GEMMA's pve. level: of the profile intervals of V(G), V(e), Vp and h² (within [0,
    1]); profiles: keep the curve, for `Heritability.profile` and `plot`. prevalence: of a binary phenotype, for h² on
    the liability scale; sample_prevalence: its proportion of cases (default: that of the data). Both may be given by
    phenotype.

    Returns a `Heritability`: `frame`, `summary()`, `to_hsq()`, `to_json()`, by phenotype `result["height"].h2`. An
    estimate on or beyond the edge of [0, 1] is an answer with a status and a sentence, never an error.

    Raises, before any work: DataError for files that do not fit together, ids that repeat or are shared by none, values
    that are not finite, a phenotype that is constant or measured in too few rows; ModelError for neither or both of
    `genotypes` and `K`, a K of other rows than Y or that is not symmetric positive semi-definite; MethodError for a
    method, option, criterion, scale or level that does not exist here.

    Yang et al. 2011 (GCTA, Am J Hum Genet 88:76); Zhou & Stephens 2012 (GEMMA, Nat Genet 44:821); liability scale: Lee
    et al. 2011 (Am J Hum Genet 88:294); null distribution at the boundary: Self & Liang 1987 (JASA 82:605).
    """
    known = check_method(method, criterion)
    check_options(known, options)
    if known.kind == "peer" or method == "anova":
        raise MethodError(f"method `{method}` does not fit a relationship matrix. Use auto, px-em, moments, …")
    if scale not in SCALES:
        raise MethodError(f'unknown scale `{scale}`. Choose "unit" (V(G) as it is) or "trace" (times tr(CKC)/n).')
    if not 0.0 < level < 1.0:
        raise MethodError(f"`level` is {level!r}; a confidence level lies between 0 and 1, such as 0.95.")
    if se is not None and se not in COV_TYPES and known.kind not in ("stochastic", "lasso"):
        raise MethodError(f"unknown definition of standard errors `{se}`. Choose from {', '.join(COV_TYPES)}.")
    begin = time.perf_counter()
    matrices = matrices_of(genotypes, K, None, standardise, missing, count_monomorphic, progress)
    Y, X = aligned(Y, X, matrices)
    phenotypes = take(Y, X, names, X_names)
    check_rows(matrices, phenotypes.n)
    binary = {name: _of(prevalence, name) for name in phenotypes.names}
    cases = {name: _of(sample_prevalence, name) for name in phenotypes.names}
    liability = {
        name: liability_of(column[np.isfinite(column)], value, cases[name], name)
        for (name, value), column in zip(binary.items(), phenotypes.values.T, strict=True)
        if value is not None
    }
    asked = _Asked(method, criterion, dict(options), scale, se, level, profiles)
    if known.kind == "stochastic":
        from vcbench.genetics.without_matrix import without_matrix

        traits, prepared = without_matrix(phenotypes, matrices, asked, cache, progress), 0.0
    elif known.kind == "lasso":
        from vcbench.genetics.scaled_lasso import lasso_traits

        traits, prepared = lasso_traits(phenotypes, matrices, asked, progress), 0.0
    elif len(matrices) > 1:
        from vcbench.genetics.several import several_matrices

        traits, prepared = several_matrices(phenotypes, matrices, asked, known.kind), 0.0
    else:
        traits, prepared = _one_matrix(phenotypes, matrices[0], asked, known.kind, cache)
    traits = [replace(t, liability=liability.get(t.name)) for t in traits]
    seconds = time.perf_counter() - begin
    return Heritability(tuple(traits), tuple(matrices), scale, level, seconds, prepared)


class _Asked:
    """What was asked of every phenotype."""

    __slots__ = ("criterion", "level", "method", "options", "profiles", "scale", "se")

    def __init__(self, method, criterion, options, scale, se, level, profiles=False) -> None:
        self.method, self.criterion, self.options = method, criterion, options
        self.scale, self.se, self.level, self.profiles = scale, se, level, profiles


def _of(value: float | Mapping[str, float] | None, name: str) -> float | None:
    return value.get(name) if isinstance(value, Mapping) else value


def _one_matrix(
    phenotypes: Phenotypes, matrix: Matrix, asked: _Asked, kind: str, cache: Any
) -> tuple[list[Trait], float]:
    """Every phenotype on as few decompositions as there must be; and the seconds that those took."""
    restricted = asked.criterion == "ml" or kind == "bayes"
    most = 0.0 if restricted else MISSING_QUICK if asked.method in FEW_STEPS else MISSING_EM
    found: dict[int, Trait] = {}
    seconds = 0.0
    groups = _on_given(phenotypes, most) if matrix.decomposed is not None else share(phenotypes.observed, most)
    for group in groups:
        begin = time.perf_counter()
        whole = len(group.rows) == phenotypes.n
        eigen = matrix.eigen(None if whole else group.rows, cache, last=group is groups[-1])
        seconds += time.perf_counter() - begin
        for column, trait in _fit_group(phenotypes, group, eigen, asked, kind).items():
            found[column] = trait
    return [found[j] for j in range(len(phenotypes.names))], seconds


def _on_given(phenotypes: Phenotypes, most: float) -> list[Group]:
    """Groups on a decomposition of all rows where phenotypes lack few of them, else on their own rows."""
    observed = phenotypes.observed
    few = (~observed).mean(axis=0) <= most
    rows = np.arange(phenotypes.n)
    shared = np.flatnonzero(few)
    out = []
    if len(shared):
        out.append(Group(rows, tuple(shared.tolist()), tuple(np.flatnonzero(~observed[:, j]) for j in shared)))
    rest = np.flatnonzero(~few)
    for group in share(observed[:, rest], most) if len(rest) else []:
        out.append(Group(group.rows, tuple(int(rest[j]) for j in group.columns), group.missing))
    return out


def _fit_group(phenotypes: Phenotypes, group: Group, eigen: Eigen, asked: _Asked, kind: str) -> dict[int, Trait]:
    """The traits of a group, by column: the response of those without missing rows is rotated for all at once."""
    component = eigen.component("G")
    X, names = phenotypes.X[group.rows], phenotypes.X_names
    Y = phenotypes.values[group.rows]
    whole = [j for j, gone in zip(group.columns, group.missing, strict=True) if not len(gone)]
    out = {}
    if whole:
        model = Model(Y[:, whole[0]], X, [component], X_names=names)
        for j, kernel in zip(whole, _bound(model, Y[:, whole]), strict=True):
            model.design.kernels["spectral"] = kernel
            out[j] = _trait(phenotypes.names[j], group.rows, kernel, eigen, asked, kind, None)
    for j, gone in zip(group.columns, group.missing, strict=True):
        if not len(gone):
            continue
        seen = np.ones(len(group.rows), bool)
        seen[gone] = False
        _, kept, _ = full_rank(np.ascontiguousarray(X[seen]), list(names), "drop")
        own = with_missing(X[:, [names.index(name) for name in kept]], gone)
        y = np.where(seen, Y[:, j], Y[seen, j].mean())
        model = Model(y, own, [component], X_names=[*kept, *(f"missing {i}" for i in gone)])
        built = build(model, "spectral")
        assert isinstance(built, BlockKernel)
        out[j] = _trait(phenotypes.names[j], group.rows[seen], built, eigen, asked, kind, seen)
    return out


def _bound(model: Model, Y: np.ndarray) -> list[BlockKernel]:
    """The kernel of the model with each response bound; all rotated together."""
    kernel = build(model, "spectral")
    assert isinstance(kernel, BlockKernel)  # what `spectral` is
    b = kernel.blocks
    yb, t, tau2, beta0 = b.reduce(Y)
    df = b.n_obs - b.X.shape[2]
    out = []
    for j in range(Y.shape[1]):
        sd = float(np.sqrt(((yb[j] ** 2).sum() + (t[j] ** 2).sum() + tau2[j]) / df)) or 1.0
        blocks = replace(b, y=yb[j], t=t[j], tau2=float(tau2[j]), beta0=beta0[j], sd=sd)
        rows = kernel.rows.copy()
        rows[-1:] = yb[j].T
        layout = kernel.layout.with_scale(sd / b.sd)
        out.append(BlockKernel(kernel.name, model.replace(y=Y[:, j]), blocks, layout, kernel.work, rows))
    return out


def _trait(
    name: str, rows: np.ndarray, kernel: BlockKernel, eigen: Eigen, asked: _Asked, kind: str, seen: np.ndarray | None
) -> Trait:
    """One phenotype: fit, covariances, null model, profile intervals. seen: who has it among the rows, None for all."""
    n_missing = 0 if seen is None else int((~seen).sum())
    options = {"trace": True, **asked.options} if kind == "solver" else asked.options
    found = fit(kernel.model, asked.method, asked.criterion, **options)
    criterion = "ml" if found.criterion == "ml" and kind != "moments" else "reml"
    k = eigen_size(eigen, seen) if asked.scale == "trace" else 1.0
    theta = found.theta_values.copy()
    if kind != "moments" and theta[-1] <= FULL * (k * theta[0] + theta[-1]):
        theta[-1] = 0.0
    by_h = Shares.of(kernel, criterion, k)
    loglik0 = by_h.loglik(0.0)
    d = kernel.model.n_fixed - n_missing
    covariances, definition = _covariances(found, kernel, criterion, kind, asked.se)
    test, limits, slope, raw, curve = None, {}, float("nan"), None, None
    status, message = found.status, found.message
    if kind == "solver" and np.isfinite(found.loglik):
        share = k * theta[0] / (k * theta[0] + theta[-1])
        test = one_variance(2.0 * (found.loglik - loglik0))
        limits = by_h.intervals(share, found.loglik, chi2_quantile(asked.level))
        if asked.profiles:
            curve = by_h.curve(share, *limits["h2"])
        if status is Status.AT_BOUNDARY:
            slope = by_h.slope() if theta[0] == 0 else slope
            raw = moments(kernel)
    elif kind == "bayes" and found.limits is not None:
        for j, what in enumerate(("V(G)", "V(e)")):
            limits[what] = float(found.limits["theta_lower"][j]), float(found.limits["theta_upper"][j])
    gcta = None
    if kind == "solver" and np.isfinite(found.loglik):
        gcta = unconstrained(kernel, found.theta_values, criterion)
    names = kernel.model.X_names or ()
    return Trait(
        name, ("V(G)",), rows, d, theta, np.array([k]), covariances, definition, limits, asked.level,
        found.loglik, loglik0, test,
        dict(zip(names[:d], found.beta_values[:d].tolist(), strict=True)),
        dict(zip(names[:d], found.beta_se.to_numpy()[:d].tolist(), strict=True)),
        found.method, found.criterion, status, message, found.n_iter, found.seconds,
        _shared(eigen, n_missing), expected_se(kernel, np.array([k])), slope, raw,
        unconstrained=gcta, trace_rows=found.trace_rows, profile_rows=curve,
    )  # fmt: skip


def eigen_size(eigen: Eigen, seen: np.ndarray | None) -> float:
    """tr(CKC)/n over the rows that were `seen` (n,), None for all."""
    if seen is None:
        return eigen.centred_trace / eigen.n
    U = eigen.vectors[seen]
    along = U.sum(axis=0)
    return float(((U**2).sum(axis=0) - along**2 / seen.sum()) @ eigen.values) / int(seen.sum())


def _shared(eigen: Eigen, n_missing: int) -> str:
    """On which decomposition, in words."""
    where = f"one of {eigen.n} rows" + (", read from the cache" if eigen.cached else "")
    return where + (f"; {n_missing} of them without this phenotype, taken out as fixed effects" if n_missing else "")


def _covariances(
    found: Fit, kernel: BlockKernel, criterion: str, kind: str, definition: str | None
) -> tuple[dict[str, np.ndarray], str]:
    """Cov(θ̂) by definition, and the name of the one shown."""
    if kind == "moments":
        return {"sandwich": found.theta_cov()}, "sandwich"
    if kind == "bayes":
        return {"posterior": found.theta_cov()}, "posterior"
    p = len(found.theta_values)
    if found.rank is None or not np.isfinite(found.loglik):
        return {name: np.full((p, p), np.nan) for name in COV_TYPES}, definition or "average"
    out = {}
    for name in COV_TYPES:
        cov, used = theta_covariance(kernel, found.theta_values, criterion, found.rank, name)
        out[name] = cov if used == name else np.full((p, p), np.nan)
    return out, definition or "average"


def unconstrained(kernel: Any, theta: np.ndarray, criterion: str) -> np.ndarray:
    """The inverse average information of all parameters, as if none were on a boundary: GCTA's Cov(θ̂)."""
    at = kernel.evaluate(theta, ("average",), criterion)
    p = len(theta)
    if at.average is None:
        return np.full((p, p), np.nan)
    size = np.sqrt(np.maximum(np.diag(at.average), 1e-300))
    return np.linalg.pinv(at.average / np.outer(size, size), hermitian=True) / np.outer(size, size)


def one_variance(statistic: float) -> Test:
    """The LRT of one variance at its boundary: ½χ²_0 + ½χ²_1 (Self & Liang 1987)."""
    from scipy.special import chdtrc

    statistic = max(statistic, 0.0)
    return Test(statistic, 0.5 * float(chdtrc(1, statistic)) if statistic > 0 else 1.0, "½χ²₀ + ½χ²₁")


def expected_se(kernel: Any, sizes: np.ndarray) -> float:
    """SE(h²) at h² = 0 by expected information: √(kᵀ S⁻¹ k), S = σ⁴(I_gg − I_ge I_eg/I_ee) ≈ n²·var(K_ij)/2 for one K.

    It depends on K, X and n alone: what the data could tell before they were seen (Visscher et al. 2014).
    """
    theta = np.zeros(len(sizes) + 1)
    theta[-1] = kernel.layout.scale[-1]
    at = kernel.evaluate(theta, ("expected",), "reml").expected * theta[-1] ** 2
    S = at[:-1, :-1] - np.outer(at[:-1, -1], at[-1, :-1]) / at[-1, -1]
    try:
        return float(np.sqrt(sizes @ np.linalg.solve(S, sizes)))
    except np.linalg.LinAlgError:
        return float("nan")


def chi2_quantile(level: float) -> float:
    """The quantile of χ²_1 that profile limits are cut at."""
    from scipy.special import chdtri

    return float(chdtri(1, 1.0 - level))
