"""Heritability by several relationship matrices: chromosomes, bins of SNPs, additive and dominance, any K_1 … K_m.

Likelihood methods run on the dense kernel of `genomic_kernel`, or, where the SNPs of all matrices together are fewer
than the samples, on the kernel `low_rank` of their columns. The method of moments solves

    Sθ = q,  S_ij = tr MK_iMK_j,  q_i = yᵀMK_iMy,      Cov θ̂ = S⁻¹ΣS⁻¹,  Σ_ij = 2 tr K_iWK_jW,  W = MVM

(M itself for the residual): O(m²n²) for the estimates, a product K_kW of 2n³ flop a matrix for the standard errors.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh

from vcbench.errors import MethodError, ModelError
from vcbench.genetics.genomic_kernel import GenomicKernel
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.phenotypes import Phenotypes, share
from vcbench.genetics.traits import FULL, Test, Trait
from vcbench.inference.cones import boundary_null
from vcbench.inference.standard_errors import COV_TYPES, theta_covariance
from vcbench.kernels import build
from vcbench.model.component import Component
from vcbench.model.model import Model, full_rank
from vcbench.model.relationship import RANK, Known, Relationship
from vcbench.solvers.moments import moment_covariance, moments
from vcbench.solvers.solve import solve
from vcbench.status import Status

SECOND_ORDER = ("auto", "ai", "newton", "fisher", "lbfgs")
SMALL = 1000  # rows up to which observed and expected information are worked out unasked
SINGULAR = 1e-10
HELD = 8  # matrices up to which the products K_kW are held together


def several_matrices(phenotypes: Phenotypes, matrices: Sequence[Matrix], asked: Any, kind: str) -> list[Trait]:
    """A `Trait` for each phenotype; those of the same rows share the matrices of these rows."""
    if kind == "bayes" or asked.method in ("minque", "anova"):
        raise MethodError(
            f"method `{asked.method}` is for one relationship matrix; {len(matrices)} were given. Use ai, em, px-em, "
            "moments or another likelihood method."
        )
    found: dict[int, Trait] = {}
    for group in share(phenotypes.observed, 0.0):
        rows = group.rows
        X, kept, _ = full_rank(np.ascontiguousarray(phenotypes.X[rows]), list(phenotypes.X_names), "drop")
        Y = phenotypes.values[np.ix_(rows, group.columns)]
        kernel, how = _kernel(matrices, rows, phenotypes.n, X, kept, Y[:, 0], asked.method, kind)
        for j, y in zip(group.columns, Y.T, strict=True):
            own = kernel if y is Y[:, 0] else kernel.bind(np.ascontiguousarray(y))
            make = _by_moments if kind == "moments" else _by_likelihood
            found[j] = make(phenotypes.names[j], own, rows, matrices, asked, how)
    return [found[j] for j in range(len(phenotypes.names))]


def _kernel(
    matrices: Sequence[Matrix],
    rows: np.ndarray,
    n: int,
    X: np.ndarray,
    names: Sequence[str],
    y: np.ndarray,
    method: str,
    kind: str,
) -> tuple[Any, str]:
    """The kernel of these rows, and in words what it works on."""
    thin = all(m.is_thin for m in matrices)
    n_snps = sum(m.given.n_variants for m in matrices if isinstance(m.given, Genotypes))
    if thin and n_snps < len(rows):
        components = []
        for m in matrices:
            W, divisor = m.W()
            components.append(Component(W[rows] / np.sqrt(divisor), name=m.name))
        model = Model(y, X, components, X_names=names)
        return build(model, "low_rank"), f"{n_snps} columns of SNPs, fewer than the {len(rows)} rows"
    K = [m.K() if len(rows) == n else m.K()[np.ix_(rows, rows)] for m in matrices]
    divisor = kind == "moments" or method in SECOND_ORDER  # no EM: what q is does not matter
    model = Model(y, X, [_component(m.name, k, divisor) for m, k in zip(matrices, K, strict=True)], X_names=names)
    kernel = GenomicKernel.build(model, K, whole_moments=method in ("px-em-component", "px-em-full"))
    _check_identified(kernel, [m.name for m in matrices])
    return kernel, f"Cholesky factors of V, {len(rows)} × {len(rows)}, one an iteration"


def _check_identified(kernel: GenomicKernel, names: Sequence[str]) -> None:
    """ModelError for matrices that these data cannot tell apart: tr MK_iMK_j must have full rank."""
    size = np.sqrt(np.maximum(np.diag(kernel.gram), 1e-300))
    values, vectors = np.linalg.eigh(kernel.gram / np.outer(size, size))
    if values[0] < SINGULAR * values[-1]:
        weight = np.abs(vectors[:, 0])
        which = [f"`{n}`" for n, w in zip([*names, "residual"], weight, strict=True) if w > 0.1 * weight.max()]
        raise ModelError(
            f"the variances of {' and '.join(which)} cannot be told apart by these data: once X is taken out, their "
            "matrices are linearly dependent. Leave one out."
        )


def _component(name: str, K: np.ndarray, plain: bool) -> Component:
    """A component of K as it is; its EM divisor is the rank of K, or n where no EM asks for it."""
    q = len(K)
    if not plain:
        values = eigvalsh(K, check_finite=False)
        q = int((values > RANK * values[-1]).sum())
    relation = Relationship(name, K=K)
    return Component(name=name, cov=Known("known", lambda _: relation), q=q)


def _by_likelihood(
    name: str, kernel: Any, rows: np.ndarray, matrices: Sequence[Matrix], asked: Any, how: str
) -> Trait:  # fmt: skip
    from vcbench.methods import METHODS

    criterion = asked.criterion or METHODS[asked.method].criteria[0]
    options = {k: v for k, v in asked.options.items() if k not in ("kernel", "trace")}
    found = solve(kernel, asked.method, criterion, **options)
    m = len(matrices)
    theta, sizes = found.theta.copy(), _sizes(kernel, asked.scale, m)
    ok = np.isfinite(found.loglik)
    wanted = dict.fromkeys(["average", asked.se or "average", *(COV_TYPES if len(rows) <= SMALL else ())])
    covariances = {key: np.full((m + 1, m + 1), np.nan) for key in wanted}
    loglik, test, loglik0 = found.loglik, None, _null_loglik(kernel, criterion)
    if ok:
        for key in wanted:
            cov, used = theta_covariance(kernel, found.theta, criterion, found.rank, key)
            covariances[key] = cov if used == key else covariances[key]
        test = joint_test(kernel, 2.0 * (loglik - loglik0), m)
    if theta[-1] <= FULL * float(sizes @ theta[:-1] + theta[-1]):
        theta[-1] = 0.0
    beta = kernel.basis.beta(found.gamma, kernel.beta0)
    rows_of_trace = found.trace
    d = len(beta)
    if len(rows_of_trace):
        rows_of_trace[:, 1 + m + 1 : 2 + m + d] = (
            kernel.beta0 + rows_of_trace[:, 2 + m : 2 + m + d] @ np.linalg.inv(kernel.basis.T).T
        )
    cov_beta = _beta_covariance(kernel, found.theta, criterion) if ok else np.full((d, d), np.nan)
    names, own = kernel.model.X_names, tuple(f"V({matrix.name})" for matrix in matrices)
    beta_se = np.sqrt(np.diag(cov_beta))
    return Trait(
        name, own, rows, d, theta, sizes, covariances, asked.se or "average", {}, asked.level, loglik, loglik0, test,
        dict(zip(names, beta.tolist(), strict=True)), dict(zip(names, beta_se.tolist(), strict=True)),
        asked.method, criterion, found.status, found.message, found.n_iter, found.seconds, how,
        null_se(kernel, sizes), unconstrained=_unconstrained(kernel, found.theta, criterion) if ok else None,
        trace_rows=rows_of_trace,
    )  # fmt: skip


def _by_moments(
    name: str, kernel: Any, rows: np.ndarray, matrices: Sequence[Matrix], asked: Any, how: str
) -> Trait:  # fmt: skip
    begin = time.perf_counter()
    m = len(matrices)
    if isinstance(kernel, GenomicKernel):
        theta, cov = haseman_elston(kernel)
    else:
        theta = moments(kernel)
        cov = moment_covariance(kernel, theta)
    at = kernel.evaluate(theta, ("loglik",), "reml")
    ok = bool(np.isfinite(at.loglik))
    sizes, d = _sizes(kernel, asked.scale, m), len(kernel.beta0)
    beta_se = np.sqrt(np.diag(_beta_covariance(kernel, theta))) if ok else np.full(d, np.nan)
    beta = at.beta if ok else np.full(d, np.nan)
    names = kernel.model.X_names
    return Trait(
        name, tuple(f"V({mat.name})" for mat in matrices), rows, d, theta, sizes, {"sandwich": cov}, "sandwich", {},
        asked.level, float(at.loglik) if ok else float("nan"), _null_loglik(kernel, "reml"), None,
        dict(zip(names, beta.tolist(), strict=True)), dict(zip(names, beta_se.tolist(), strict=True)),
        "moments", "none", Status.CONVERGED, "", 1, time.perf_counter() - begin, how, null_se(kernel, sizes),
    )  # fmt: skip


def haseman_elston(kernel: GenomicKernel) -> tuple[np.ndarray, np.ndarray]:
    """(θ̂ (m + 1,), sandwich covariance) by moments, raw."""
    S, Q, y, m = kernel.gram, kernel.basis.Q, kernel.y, len(kernel.K)
    theta = np.linalg.solve(S, np.array([*(y @ (K @ y) for K in kernel.K), y @ y]))
    W = kernel.V(theta)  # then M V M
    for _ in (0, 1):
        W = (W - Q @ (Q.T @ W)).T
    Sigma = np.empty((m + 1, m + 1))
    held = [*(K @ W for K in kernel.K), W] if m <= HELD else []
    for i in range(m + 1):
        B = held[i] if held else W if i == m else kernel.K[i] @ W
        for j in range(i + 1):
            other = held[j] if held else W if j == m else B if j == i else kernel.K[j] @ W
            Sigma[i, j] = Sigma[j, i] = 2.0 * float(np.einsum("ij,ji->", B, other))
    inverse = np.linalg.inv(S)
    return theta, inverse @ Sigma @ inverse


def joint_test(kernel: Any, statistic: float, m: int) -> Test:
    """V(G_1) = … = V(G_m) = 0 at once: a mixture of χ²_0 … χ²_m, its weights by the information at the null."""
    statistic = max(statistic, 0.0)
    law = boundary_null((1,) * m, np.linalg.inv(_null_information(kernel)), 0)
    return Test(statistic, law.p_value(statistic) if statistic > 0 else 1.0, law.text, m)


def _null_information(kernel: Any) -> np.ndarray:
    """I_gg − I_ge I_eg/I_ee of V(G)/σ² at V(G) = 0 (m, m)."""
    theta = np.zeros(kernel.model.n_theta)
    theta[-1] = kernel.layout.scale[-1]
    at = kernel.evaluate(theta, ("expected",), "reml").expected * theta[-1] ** 2
    return at[:-1, :-1] - np.outer(at[:-1, -1], at[-1, :-1]) / at[-1, -1]


def null_se(kernel: Any, sizes: np.ndarray) -> float:
    """SE(h²) at h² = 0 by expected information, of all matrices together."""
    return float(np.sqrt(sizes @ np.linalg.solve(_null_information(kernel), sizes)))


def _null_loglik(kernel: Any, criterion: str) -> float:
    """ℓ of least squares."""
    n, d = kernel.model.n_obs, kernel.model.n_fixed
    theta = np.zeros(kernel.model.n_theta)
    theta[-1] = kernel.layout.scale[-1] * ((n - d) / n if criterion == "ml" else 1.0)
    return float(kernel.evaluate(theta, ("loglik",), criterion).loglik)


def _unconstrained(kernel: Any, theta: np.ndarray, criterion: str) -> np.ndarray:
    from vcbench.genetics.heritability import unconstrained

    return unconstrained(kernel, theta, criterion)


def _beta_covariance(kernel: Any, theta: np.ndarray, criterion: str = "reml") -> np.ndarray:
    """(XᵀV⁻¹X)⁻¹."""
    at = kernel.evaluate(theta, ("loglik",), criterion)
    Ti = np.linalg.inv(kernel.basis.T)
    return Ti @ np.linalg.inv(at.QtVinvQ) @ Ti.T


def _sizes(kernel: Any, scale: str, m: int) -> np.ndarray:
    """k (m,): 1, or tr(CK_kC)/n."""
    if scale == "unit":
        return np.ones(m)
    n = kernel.model.n_obs
    if isinstance(kernel, GenomicKernel):
        return np.array([(np.trace(K, dtype=float) - K.sum(dtype=float) / n) / n for K in kernel.K])
    out = []
    for c in kernel.model.components:
        Z = np.asarray(c.Z)
        out.append(float(((Z - Z.mean(axis=0)) ** 2).sum()) / n)
    return np.array(out)


def split(genotypes: Any, by: Any = "chromosome", **options: Any) -> dict[str, Genotypes]:
    """Genotypes in parts, for one variance each: by "chromosome", by MAF edges `("maf", [0.01, 0.05, 0.2])`, by
    labels (p,) or a mapping of names to SNPs (masks, ids, positions).

    MAF bins take one pass over the file; SNPs rarer than the first edge belong to none. options: of `Genotypes.open`.
    """
    opened = Genotypes.open(genotypes, **options)
    if isinstance(by, Mapping):
        return {str(name): opened.select(variants=chosen) for name, chosen in by.items()}
    if isinstance(by, str) and by == "chromosome":
        labels = opened.variants["chrom"].astype(str).to_numpy()
        prefix = "chr"
    elif isinstance(by, tuple) and len(by) == 2 and by[0] == "maf":
        edges = np.asarray(by[1], float)
        if edges.ndim != 1 or len(edges) < 1 or (np.diff(edges) <= 0).any() or edges[0] < 0 or edges[-1] >= 0.5:
            raise MethodError(f'by=("maf", edges) needs rising edges between 0 and 0.5; they are {by[1]!r}.')
        maf, bins = opened.scan().facts.maf, [*edges, 0.5]
        parts = {}
        for low, high in pairwise(bins):
            inside = (maf >= low) & ((maf < high) if high < 0.5 else (maf <= 0.5)) & opened.scan().kept
            if inside.any():
                parts[f"maf{low:g}-{high:g}"] = opened.select(variants=inside)
        return parts
    else:
        labels, prefix = np.asarray(by).astype(str), ""
        if labels.shape != (opened.n_variants,):
            raise MethodError(
                f'`by` is {by!r}: "chromosome", ("maf", edges), a mapping, or a label for each of the '
                f"{opened.n_variants:,} SNPs was expected."
            )
    names = list(dict.fromkeys(labels))
    return {f"{prefix}{name}": opened.select(variants=labels == name) for name in names}
