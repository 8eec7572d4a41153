"""The noise level by the scaled lasso (Sun & Zhang 2012, Biometrika 99:879): σ_e² with no model of effect sizes.

    minimise over b, σ    ‖M(y − Wb)‖²/(2Nσ) + σ/2 + λ_0 ‖b‖_1,     N = n − d,  columns of MW of mean square 1

by turns (it is convex in both): σ̂ = ‖M(y − Wb̂)‖/√N, then a lasso at penalty σ̂λ_0, by scikit-learn's coordinate descent
from the b̂ before. λ_0 = √(2 log p / N) by default. Covariates are projected out, M = I − X(XᵀX)⁻¹Xᵀ.

Where signals are few, s log p ≪ √N of them, √N(σ̂/σ − 1) → N(0, ½): SE(σ̂²) = σ̂²√(2/N). That is the only standard error
here, and it is one of sparse signals alone. Where every SNP has a small effect none passes the penalty, b̂ is near 0 and
σ̂² is the variance of the phenotype: the lasso then tells nothing of h².
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.phenotypes import Phenotypes
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.relationship import check_used
from vcbench.genetics.traits import Trait
from vcbench.model.model import Model
from vcbench.status import Status

MEMORY = 4e9  # bytes of W that are held
FLAT = 1e-8  # of a column's variance: what X leaves of one that it absorbs
OVERFIT = 1e-6  # of the variance of y: σ̂² below it means that W explains all


@dataclass(frozen=True, slots=True, eq=False)
class ScaledLasso:
    """sigma2: σ̂² of the noise; se under sparse signals; total: yᵀMy/N; coefficients (p,) of columns of mean square 1,
    0 for those that X absorbs; n_selected of them not 0; lambda0; df: N."""

    sigma2: float
    se: float
    total: float
    coefficients: np.ndarray = field(repr=False)
    n_selected: int
    lambda0: float
    df: int
    status: Status
    message: str
    n_iter: int


def standardised(W: np.ndarray, side: Side) -> np.ndarray:
    """MW with columns of mean square 1 over N, in place; what X absorbs becomes 0. W (n, p), Fortran order."""
    if side.observed is not None:
        W[~side.observed] = 0.0
    before = np.einsum("ij,ij->j", W, W)
    W -= side.Q.astype(W.dtype) @ (side.Q.T.astype(W.dtype) @ W)
    size = np.einsum("ij,ij->j", W, W)
    kept = size > FLAT * np.maximum(before, np.finfo(W.dtype).tiny)
    W *= np.where(kept, np.sqrt(side.df / np.where(kept, size, 1.0)), 0.0).astype(W.dtype)
    return W


def scaled_lasso(
    W: np.ndarray, y: np.ndarray, df: int, lambda0: float | None = None, tol: float = 1e-6, max_iter: int = 100
) -> ScaledLasso:
    """σ̂² of y = My (n,) on W (n, p) from `standardised`, N = df. It has converged when σ̂ changes by tol or less, as a
    share of it."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    n, p = W.shape
    lam = float(np.sqrt(2.0 * np.log(p) / df)) if lambda0 is None else float(lambda0)
    total = float(y @ y) / df
    unit = np.asarray(y / np.sqrt(total), W.dtype)  # of variance 1, for the tolerances of coordinate descent
    share = 1.0  # σ̂² of it
    model = Lasso(fit_intercept=False, copy_X=False, warm_start=True, tol=1e-6, max_iter=10_000)
    status, message = Status.MAX_ITER, f"stopped at {max_iter} turns of σ̂ and the lasso"
    n_iter = 0
    while n_iter < max_iter:
        n_iter += 1
        model.alpha = float(np.sqrt(share)) * lam * df / n  # scikit-learn divides by 2n
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(W, unit)
        if any(issubclass(w.category, ConvergenceWarning) for w in caught):
            status, message = Status.FAILED, "coordinate descent did not converge"
            break
        rest = unit - W @ model.coef_
        before, share = share, float(rest.astype(float) @ rest.astype(float)) / df
        if share <= OVERFIT:
            status = Status.FAILED
            message = f"the columns explain all of y at λ_0 = {lam:.3g}: no noise is left. Raise `lambda0`"
            break
        if abs(np.sqrt(share / before) - 1.0) <= tol:
            status, message = Status.CONVERGED, ""
            break
    coefficients = np.asarray(model.coef_, float) * np.sqrt(total)
    sigma2, selected = share * total, int((model.coef_ != 0).sum())
    if status is Status.CONVERGED and selected == 0:
        message = "no column passes the penalty: σ̂² is the variance of y"
    return ScaledLasso(
        sigma2, sigma2 * float(np.sqrt(2.0 / df)), total, coefficients, selected, lam, df, status, message, n_iter
    )


def fit_scaled_lasso(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """The method for models whose components are given by columns Z: σ_e², and of one component what is left of the
    variance, (yᵀMy/N − σ̂²)/c, c = tr(MZZᵀ)/N; β̂ is by OLS. Deterministic: `seed` is not used."""
    for c in model.components:
        if c.relation is not None or c.is_grouped or c.Z is None:
            raise ModelError(
                f"method `scaled-lasso` selects columns of Z; component `{c.name}` has none. Give `Component(Z)` with "
                "the standardised genotypes in its columns."
            )
    if not model.components or not model.noise.is_plain or model.noise.weights is not None:
        raise ModelError("method `scaled-lasso` takes components with Z and independent residuals of one variance.")
    own = _own_options(options)
    assert model.X is not None
    side = Side.of(model.X, np.ones(model.n_obs, bool))
    kept = model.design.kernels
    if "lasso" not in kept:
        Z = np.asfortranarray(np.hstack([np.asarray(c.Z, float) for c in model.components]))
        size = float(np.einsum("ij,ij->", MZ := side.project(Z), MZ)) / side.df
        kept["lasso"] = standardised(Z.copy(order="F"), side), size
    W, size = kept["lasso"]
    inverse, rows = np.linalg.pinv(model.X), []
    for y in Y.T:
        wall, cpu = time.perf_counter(), time.process_time()
        y = y if model.offset is None else y - model.offset
        found = scaled_lasso(W, side.project(y[:, None])[:, 0], side.df, **own)
        theta = np.full(model.n_theta, np.nan)
        theta[-1] = found.sigma2
        if model.n_theta == 2:
            theta[0] = (found.total - found.sigma2) / size
        cov = np.full((model.n_theta, model.n_theta), np.nan)
        cov[-1, -1] = found.se**2
        rows.append(
            {
                "theta": theta, "theta_cov": cov, "beta": inverse @ y, "status": found.status, "message": found.message,
                "n_iter": found.n_iter, "n_eval": found.n_iter, "seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "extra": {"n_selected": found.n_selected, "lambda0": found.lambda0, "total": found.total},
            }
        )  # fmt: skip
    return rows


def lasso_traits(
    phenotypes: Phenotypes, matrices: Sequence[Matrix], asked: Any, progress: Progress = False
) -> list[Trait]:
    """`heritability` by the scaled lasso: h² = 1 − σ̂²/Vp, Vp = yᵀMy/N; W is held in memory, up to MEMORY bytes.

    MethodError for anything but one set of genotypes, and for one that does not fit.
    """
    genotypes = matrices[0].given
    if len(matrices) > 1 or not isinstance(genotypes, Genotypes):
        raise MethodError(
            "method `scaled-lasso` selects SNPs: give it one set of genotypes, not relationship matrices."
        )
    own, n, p = _own_options(asked.options), genotypes.n, genotypes.p
    check_used(p, genotypes.n_variants, genotypes.scan().dropped)
    memory = float(asked.options.get("memory", MEMORY))
    if 4.0 * n * p > memory:
        raise MethodError(
            f"the lasso holds all standardised genotypes, {4e-9 * n * p:.3g} GB for {n:,} samples and {p:,} SNPs, "
            f"above `memory` = {memory * 1e-9:.3g} GB. Raise it, or use fewer SNPs (`maf`, pruning)."
        )
    W, at = np.empty((n, p), np.float32, order="F"), 0
    with track(progress, genotypes.n_variants, "reading") as advance:
        for block in genotypes.blocks(standardise=matrices[0].scaling, reuse=True):
            W[:, at : at + block.W.shape[1]] = block.W
            at += block.W.shape[1]
            advance(block.variants.stop - block.variants.start)
    matrices[0].facts.update(n_snps=p, mean_diagonal=1.0)
    out: dict[int, Trait] = {}
    patterns: dict[bytes, list[int]] = {}
    for j in range(len(phenotypes.names)):
        patterns.setdefault(phenotypes.observed[:, j].tobytes(), []).append(j)
    for columns in patterns.values():
        side = Side.of(phenotypes.X, phenotypes.observed[:, columns[0]])
        MW = standardised(W if len(patterns) == 1 else W.copy(order="F"), side)
        for j in columns:
            begin = time.perf_counter()
            y = side.project(np.nan_to_num(phenotypes.values[:, [j]]))[:, 0]
            out[j] = _trait(phenotypes, j, scaled_lasso(MW, y, side.df, **own), asked, time.perf_counter() - begin)
    return [out[j] for j in range(len(phenotypes.names))]


def _trait(phenotypes: Phenotypes, j: int, found: ScaledLasso, asked: Any, seconds: float) -> Trait:
    theta = np.array([found.total - found.sigma2, found.sigma2])
    cov = np.array([[np.inf, np.nan], [np.nan, found.se**2]])  # nothing is known of V(G)'s
    nan = float("nan")
    return Trait(
        phenotypes.names[j], ("V(G)",), np.flatnonzero(phenotypes.observed[:, j]), phenotypes.X.shape[1], theta,
        np.ones(1), {"sparse": cov}, "sparse", {}, asked.level, nan, nan, None, {}, {}, asked.method, "none",
        found.status, found.message, found.n_iter, seconds,
        f"none: lasso of {found.n_selected:,} of {len(found.coefficients):,} SNPs", nan,
    )  # fmt: skip


def _own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """lambda0, tol, max_iter. MethodError for a penalty that is not positive."""
    own = {key: options[key] for key in ("lambda0", "tol", "max_iter") if options.get(key) is not None}
    if "lambda0" in own and not own["lambda0"] > 0:
        raise MethodError(f"`lambda0` is {own['lambda0']!r}; it must be positive (default √(2 log p / N)).")
    return own
