"""`heritability` by the methods that need no relationship matrix: `moments-randomised` and `ai-stochastic`.

Genotypes are streamed; matrices, where those are given instead, are multiplied.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.genetics.annotations import Bins
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.phenotypes import Phenotypes
from vcbench.genetics.probed import moments_by_probes
from vcbench.genetics.products import MatrixProducts, Products, SnpProducts
from vcbench.genetics.progress import Progress
from vcbench.genetics.randomised import VECTORS, draw_probes, randomised_moments
from vcbench.genetics.randomised_results import RandomisedMoments
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.stochastic import StochasticFit, stochastic_reml
from vcbench.genetics.stochastic_methods import PROBES, check_vectors
from vcbench.genetics.streamed import Stream
from vcbench.genetics.traits import Trait
from vcbench.status import Status

BLOCKS = 32  # tasks a pass, at most
TASK = 500  # SNPs a task, at least
DEFINITIONS = ("average", "sandwich", "jackknife", "monte-carlo")


def without_matrix(
    phenotypes: Phenotypes, matrices: Sequence[Matrix], asked: Any, cache: Any = None, progress: Progress = False
) -> list[Trait]:
    """A `Trait` for each phenotype. asked: method, options, scale, se, level, as `heritability` was asked.

    MethodError for several sets of genotypes (`annotations=` makes bins of one), GCTA's treatment of missing calls, and
    options that go with genotypes given with a matrix.
    """
    options = dict(asked.options)
    check_vectors(options.get("vectors", VECTORS))
    first = matrices[0]
    if isinstance(first.given, Genotypes):
        if len(matrices) > 1:
            raise MethodError(
                f"method `{asked.method}` streams one set of genotypes; {len(matrices)} were given. Put their SNPs in "
                "one, and pass `annotations=` for a variance each."
            )
        if first.missing != "mean" or first.count_monomorphic:
            raise MethodError(
                f'method `{asked.method}` takes missing="mean" and counts SNPs that vary: no other matrix is a product '
                "of standardised genotypes."
            )
        if asked.method == "moments-randomised":
            return _streamed_moments(phenotypes, first, asked, options, cache, progress)
        products: Products = _snp_products(first, options, progress)
    else:
        odd = next((key for key in options if key in ("annotations", "blocks", "dask", "size", "workers")), None)
        if odd is not None:
            raise MethodError(f"`{odd}` goes with genotypes; a relationship matrix was given.")
        if any(isinstance(m.given, Genotypes) for m in matrices):
            raise MethodError(f"method `{asked.method}` takes genotypes or matrices, not both.")
        K = tuple(m.K() for m in matrices)
        products = MatrixProducts(phenotypes.n, tuple(m.name for m in matrices), K, (False,) * len(K))
    if asked.method == "moments-randomised":
        return _matrix_moments(phenotypes, products, asked, options)
    return _reml(phenotypes, products, asked, options)


def _snp_products(matrix: Matrix, options: dict[str, Any], progress: Progress) -> SnpProducts:
    assert isinstance(matrix.given, Genotypes)
    assert matrix.scaling is not None
    bins = Bins.of(options.pop("annotations", None), matrix.given.variants)
    p = matrix.given.n_variants
    blocks = min(p, int(np.clip(p // TASK, 4, BLOCKS)))
    out = SnpProducts.of(
        Stream.of(matrix.given, matrix.scaling, bins, blocks, None), options.pop("workers", None), progress
    )
    matrix.facts.update(n_snps=int(out.m.sum()), mean_diagonal=float(out.mean_diagonal.mean()))
    return out


def _streamed_moments(
    phenotypes: Phenotypes, matrix: Matrix, asked: Any, options: dict[str, Any], cache: Any, progress: Progress
) -> list[Trait]:
    """By `randomised_moments`: jackknife and, of one bin, sandwich."""
    found = randomised_moments(
        phenotypes.values, matrix.given, phenotypes.X, standardise=matrix.scaling, cache=cache, names=phenotypes.names,
        X_names=phenotypes.X_names, level=asked.level, progress=progress, **options,
    )  # fmt: skip
    matrix.facts.update(n_snps=int(found.n_snps.sum()), mean_diagonal=float(found.traces[0].sizes.mean()))
    return [_moment_trait(found, j, asked, phenotypes) for j in range(len(phenotypes.names))]


def _moment_trait(found: RandomisedMoments, j: int, asked: Any, phenotypes: Phenotypes) -> Trait:
    one, side = len(found.bins) == 1, found.traces[found.of[j]]
    kinds = ("sandwich", "jackknife", "monte-carlo") if one else ("jackknife", "monte-carlo")
    covariances = {kind: found.covariance(j, kind) for kind in kinds}
    theta = found.theta[:, j, j]
    _, _, D = side.equations()
    sizes = side.sizes if asked.scale == "trace" else np.ones(len(found.bins))
    how = f"none: SNPs streamed, {found.n_probes} probes" + (", traces from the cache" if found.cached[0] else "")
    return _trait(
        phenotypes, j, found.parameters[:-1], theta, sizes, covariances, asked, "none", Status.CONVERGED, "", 1,
        found.seconds, how, D.mean(axis=2), None, None,
    )  # fmt: skip


def _matrix_moments(phenotypes: Phenotypes, products: Products, asked: Any, options: dict[str, Any]) -> list[Trait]:
    """By `moments_by_probes`, one phenotype after the other."""
    vectors, out = options.get("vectors", VECTORS), []
    Z = draw_probes(phenotypes.n, vectors, options.get("seed", 0))
    for j in range(len(phenotypes.names)):
        begin = time.perf_counter()
        side = Side.of(phenotypes.X, phenotypes.observed[:, j])
        found = moments_by_probes(products, phenotypes.values[:, j], side, Z)
        out.append(
            _trait(
                phenotypes, j, _names(products), found.theta, _sizes(products, phenotypes, j, asked),
                {"sandwich": found.sandwich, "monte-carlo": found.monte_carlo}, asked, "none", Status.CONVERGED, "", 1,
                time.perf_counter() - begin, f"none: {vectors} probes", found.D, None, None,
            )
        )  # fmt: skip
    return out


def _reml(phenotypes: Phenotypes, products: Products, asked: Any, options: dict[str, Any]) -> list[Trait]:
    """By `stochastic_reml`, all phenotypes in the same passes."""
    begin = time.perf_counter()
    vectors = options.pop("vectors", PROBES)
    fits = stochastic_reml(products, phenotypes.values, phenotypes.X, phenotypes.observed, vectors=vectors, **options)
    seconds = time.perf_counter() - begin
    return [
        _trait(
            phenotypes, j, _names(products), f.theta, _sizes(products, phenotypes, j, asked),
            {"average": f.covariance, "monte-carlo": f.monte_carlo}, asked, "reml", f.status, f.message, f.n_iter,
            seconds, f"none: conjugate gradients, {vectors} probes", f.D, f, f.moments,
        )
        for j, f in enumerate(fits)
    ]  # fmt: skip


def _names(products: Products) -> tuple[str, ...]:
    return ("V(G)",) if len(products.names) == 1 else tuple(f"V({name})" for name in products.names)


def _sizes(products: Products, phenotypes: Phenotypes, j: int, asked: Any) -> np.ndarray:
    """1, or tr(CK_kC)/n over the samples observed."""
    if asked.scale != "trace":
        return np.ones(len(products.names))
    seen = phenotypes.observed[:, j]
    one = seen[:, None] / np.sqrt(seen.sum())
    return products.traces([one], [seen])[:, 0] / seen.sum()


def _trait(
    phenotypes: Phenotypes,
    j: int,
    components: tuple[str, ...],
    theta: np.ndarray,
    sizes: np.ndarray,
    covariances: dict[str, np.ndarray],
    asked: Any,
    criterion: str,
    status: Status,
    message: str,
    n_iter: int,
    seconds: float,
    how: str,
    D: np.ndarray,
    fit: StochasticFit | None,
    raw: np.ndarray | None,
) -> Trait:
    if asked.se is not None and asked.se not in covariances:
        raise MethodError(
            f"standard errors by `{asked.se}` are not defined for method `{asked.method}`. Choose from "
            f"{', '.join(covariances)}."
        )
    nan, X_names, rows = float("nan"), phenotypes.X_names, np.flatnonzero(phenotypes.observed[:, j])
    expected = float(np.sqrt(2.0 * sizes @ np.linalg.solve(D, sizes)))
    beta, beta_se, trace = {}, {}, None
    if fit is not None:
        beta = dict(zip(X_names, fit.beta.tolist(), strict=True))
        beta_se = dict(zip(X_names, np.sqrt(np.diag(fit.beta_covariance)).tolist(), strict=True))
        trace = np.column_stack([np.full(len(fit.trace), nan), fit.trace[:, :-1], np.full(len(fit.trace), nan)])
    return Trait(
        phenotypes.names[j], components, rows, phenotypes.X.shape[1], theta, sizes, covariances,
        asked.se or next(iter(covariances)), {}, asked.level, nan, nan, None, beta, beta_se, asked.method, criterion,
        status, message, n_iter, seconds, how, expected, moments=raw, trace_rows=trace,
    )  # fmt: skip
