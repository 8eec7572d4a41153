"""Which kernel answers for a model, and why."""

from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import ModelError, did_you_mean
from vcbench.kernels.blocks import BlockKernel, Blocks, shared_groups
from vcbench.kernels.dense import DenseKernel
from vcbench.kernels.low_rank import LowRankKernel, n_columns
from vcbench.kernels.structured import StructuredKernel
from vcbench.kernels.units import Units
from vcbench.model.component import Component
from vcbench.model.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcbench.kernels.protocol import Kernel

KERNELS = ("crossed", "dense", "grouped", "low_rank", "sparse", "spectral")
FEW = 200  # observations below which a relationship matrix is no burden, its precision given or not
SMALL = 50  # rows of a unit of correlated residuals, on average over rows, that kernel `sparse` takes
SATURATED = 2000  # rows up to which a design with as many effects as observations is left to `dense`
CONFOUNDED = 1e-10  # reciprocal condition of the scaled Gram matrix tr(V_i V_j) below which parameters are confounded


def choose(model: Model) -> tuple[str, str]:
    """(kernel, reason): the cheapest that is exact for this structure."""
    if not model.noise.is_plain:
        if _is_sparse(model) and _has_small_units(model):
            return "sparse", (f"{_sparse_reason(model)}, and residual `{model.residual}` joins rows of small units")
        units = _units(model, whole=False)
        if units.n_blocks > 1:
            return (
                "grouped",
                f"residual `{model.residual}`: V is block diagonal, {units.n_blocks} blocks of {units.n_classes} kinds",
            )
        return "dense", f"residual `{model.residual}` and the random effects join all rows: V is one block"
    if model.is_structured:
        return choose(model.relaxed())
    if not model.components:
        return "dense", "the model has no random component"
    if shared_groups(model) is not None:
        names = {c.name for c in model.components}
        return (
            "grouped",
            f"all random effects belong to one grouping factor ({', '.join(sorted(names))}): V is block diagonal",
        )
    if _is_sparse(model):
        return "sparse", f"{_sparse_reason(model)}: nothing dense is formed"
    if len(model.components) == 1 and model.components[0].n_effects == 1:
        return (
            "spectral",
            "one variance multiplies one known matrix: an eigendecomposition, done once, makes V diagonal",
        )
    q = n_columns(model)
    # where the effects reach all of y, σ² may end near 0, and what is worked out in their space cancels there
    if all(c.is_grouped for c in model.components) and (q < model.n_obs - model.n_fixed or model.n_obs > SATURATED):
        return (
            "crossed",
            "several grouping factors: the largest is eliminated level by level, the others are factorised as a whole",
        )
    if q < model.n_obs:
        return "low_rank", f"several terms with q = {q} columns together: V is factorised in the space that they span"
    return "dense", "several grouping factors or matrices: V is factorised as a whole, O(n³) an iteration"


def _precise(model: Model) -> list[str]:
    """Components whose levels are related by a sparse precision."""
    return [c.name for c in model.components if c.relation is not None and c.relation.precision is not None]


def _is_sparse(model: Model) -> bool:
    """Whether a precision is given, no relationship is dense, and there are rows enough for that to matter."""
    dense = any(c.relation is not None and c.relation.precision is None for c in model.components)
    return bool(_precise(model)) and not dense and model.n_obs > FEW


def _sparse_reason(model: Model) -> str:
    return f"the inverse of the relationship of {', '.join(_precise(model))} is sparse"


def _has_small_units(model: Model) -> bool:
    """Whether the units of the residuals have few rows each: R's blocks hold no more than SMALL numbers a row."""
    return bool((np.bincount(model.noise.units) ** 2.0).sum() <= SMALL * model.n_obs)


def build(model: Model, kernel: str = "auto") -> "Kernel":
    """The kernel of the model, bound to its y. Kernels are kept with the design, so that a new y costs no design work.

    Raises ModelError for an unknown kernel, one that does not fit the structure, and for variance parameters that no
    data could tell apart (their V_j are linearly dependent).
    """
    if kernel == "auto":
        kernel = choose(model)[0]
    if kernel not in KERNELS:
        raise ModelError(
            f"unknown kernel `{kernel}`. Choose from auto, {', '.join(KERNELS)}.{did_you_mean(kernel, KERNELS)}"
        )
    built: Kernel | None = model.design.kernels.get(kernel)
    if built is None:
        built = _structured(model, kernel) if model.is_structured else _builder(kernel)(model, kernel)
        _check_identified(built)
        model.design.kernels[kernel] = built
        return built
    return built if built.model.y is model.y else built.bind(model.y)


def _builder(kernel: str) -> "Callable[[Model, str], Kernel]":
    if kernel == "crossed":  # these files compile, so that they are read when they are needed
        from vcbench.kernels.crossed import CrossedKernel

        return CrossedKernel.build
    if kernel == "sparse":
        from vcbench.kernels.sparse import SparseKernel

        return SparseKernel.build
    if kernel == "low_rank":
        return LowRankKernel.build
    return DenseKernel.build if kernel == "dense" else BlockKernel.build


def _structured(model: Model, kernel: str) -> StructuredKernel:
    """A linear kernel on the relaxed model, or one that takes a residual structure, seen through the model's maps."""
    if model.noise.is_plain:
        return StructuredKernel.build(model, kernel, _builder(kernel)(model.relaxed(), kernel))
    if kernel == "sparse":
        from vcbench.kernels.sparse import SparseKernel

        return StructuredKernel.build(model, kernel, SparseKernel.build(model.relaxed(), kernel, model.noise))
    if kernel not in ("grouped", "dense"):
        raise ModelError(
            f"kernel `{kernel}` takes independent residuals, not `{model.residual}`. Use `grouped`, `dense`, or "
            "`sparse` (pedigrees and other sparse precisions)."
        )
    return StructuredKernel.build(model, kernel, _units(model, whole=kernel == "dense"))


def _units(model: Model, whole: bool) -> Units:
    """The blocks of a model with a residual structure, kept with its design; `whole`: as one block."""
    key = f"units:{'whole' if whole else 'blocks'}"
    known: Units | None = model.design.kernels.get(key)
    if known is None:
        known = Units.build(model.relaxed(), model.noise, whole)
        model.design.kernels[key] = known
    return known


def reduce(model: Model) -> Blocks:
    """The reduced form of a grouped or spectral model; ModelError if it has none."""
    name = choose(model)[0]
    if name not in ("grouped", "spectral"):
        raise ModelError("this model has no block-diagonal reduced form: it has several grouping factors or matrices.")
    kernel = build(model, name)
    assert isinstance(kernel, BlockKernel)
    return kernel.blocks


def _check_identified(kernel: "Kernel") -> None:
    """tr(V_i V_j), the ML information at V = I up to 2, must have full rank."""
    model = kernel.model
    to_theta = np.eye(model.n_theta)
    if isinstance(kernel, StructuredKernel):
        work = model.working
        w = np.concatenate([kernel.layout.scale[: work.n_linear], kernel.view.smooth_start(), kernel.layout.scale[-1:]])
        if model.noise.has_nugget:
            w[work.n_linear - 1] *= 0.5
        what = kernel.view.stop_information
        at = kernel.view.evaluate(w, (what,), "ml")
        to_theta = work.theta_jacobian(w)[1]
        if not np.isfinite(at.loglik):
            return
        gram = getattr(at, what)
    else:
        theta = np.zeros(model.n_theta)
        theta[-1] = 1.0
        what = getattr(kernel, "start_information", "expected")
        gram = getattr(kernel.evaluate(theta, need=(what,), criterion="ml"), what)
    assert gram is not None
    size = np.sqrt(np.diag(gram))
    if not (size > 0).all():
        unseen = np.abs(to_theta[:, size == 0]).sum(axis=1) > 0
        raise ModelError(
            f"the data say nothing of {', '.join(f'`{model.theta_names[j]}`' for j in np.flatnonzero(unseen))}: no two "
            "rows tell its value. Choose a simpler structure, or collect observations that do."
        )
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    if values[0] < CONFOUNDED * values[-1]:
        weight = np.abs(to_theta @ vectors[:, 0])
        names = [model.theta_names[j] for j in np.flatnonzero(weight > 0.1 * weight.max())]
        raise ModelError(
            f"the parameters {', '.join(f'`{a}`' for a in names)} cannot be told apart by these data: their "
            f"parts of V are "
            "linearly dependent. Leave a component out, or collect observations that separate them."
        )


def explain(model: Model) -> str:
    """Kernel, reason, sizes and the cost of one iteration, in words."""
    name, why = choose(model)
    n, d = model.n_obs, model.n_fixed
    lines = [
        f"kernel `{name}`: {why}.",
        f"n = {n} observations, d = {d} fixed effects, {model.n_theta} variance parameters.",
    ]
    for c in model.components:
        lines.append(f"  {c.name}: {_what(c)}, {c.n_effects} effect(s), Ω {c.cov.kind}, EM divisor q = {c.n_levels}.")  # type: ignore[union-attr]
        if c.n_clipped:
            lines.append(f"    {c.n_clipped} eigenvalue(s) of K slightly below 0 were set to 0.")
    if model.residual.kind != "iid" or model.noise.has_nugget:  # type: ignore[union-attr]
        lines.append(f"  residual: {model.residual}, {len(model.noise.names)} parameter(s).")
    for group in model.equal:
        lines.append(f"  {' and '.join(group)} share their parameters.")
    if not model.noise.is_plain and name != "sparse":
        units = _units(model, whole=name == "dense")
        cost = int((np.diff(units.row_ptr)[units.class_ptr[:-1]] ** 3).sum()) * (model.n_theta + 2)
        lines.append(
            f"one iteration: O(p Σ m³) ≈ {cost:,} multiplications over {units.n_classes} kind(s) of blocks, the "
            f"largest of m = {units.largest} rows."
        )
    elif name == "grouped":
        r = sum(c.n_effects for c in model.components)
        B = len(model.components[0].levels)
        lines.append(f"one iteration: O(levels · r² (r + d)) ≈ {B * r * r * (r + d):,} multiplications, whatever n is.")
    elif name == "spectral":
        lines.append(f"one iteration: O(n d²) ≈ {n * (d + 2) ** 2:,} multiplications after one eigendecomposition.")
    elif name == "crossed":
        inner: Any = build(model, name)
        inner = inner.view.inner if isinstance(inner, StructuredKernel) else inner
        lines += inner.design.explain([c.name for c in model.components for _ in c.effects])
    elif name == "sparse":
        inner = build(model, name)
        design = (inner.view.inner if isinstance(inner, StructuredKernel) else inner).design
        lines.append(
            f"one iteration: a sparse Cholesky factor of {design.q} rows with {design.fronts.n_nonzero:,} entries "
            f"(the coefficient matrix has {design.n_entries:,}) ≈ {design.fronts.flops:,} multiplications, its inverse "
            "at those entries about three times as many."
        )
    elif name == "low_rank":
        q = n_columns(model)
        lines.append(f"one iteration: O(q³) ≈ {2 * q**3:,} multiplications, whatever n is, after one QR of Z.")
    else:
        lines.append(f"one iteration: O(n³) ≈ {n**3:,} multiplications.")
    return "\n".join(lines)


def _what(c: Component) -> str:
    """What a component is, in words."""
    if c.is_grouped:
        return f"{len(c.levels)} levels"
    if c.K is not None:
        return f"K {c.K.shape[0]} × {c.K.shape[0]}"
    if c.relation is not None:
        P = c.relation.precision
        return f"precision {c.relation.m} × {c.relation.m}" + ("" if P is None else f", {P.nnz:,} entries")
    return f"Z {c.Z.shape[0]} × {c.Z.shape[1]}"
