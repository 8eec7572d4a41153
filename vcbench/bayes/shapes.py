"""The free coordinates of each family of covariance matrices, in the order of its natural parameters.

A structure with a family of its own is one case of `shape_of`; kinds of coordinate: `coordinates`. `Shape.forward` is
written once for numbers and for PyTensor expressions: `xp` is `numpy` or `pytensor.tensor`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.structures import (
    AnteDependence,
    Ar1,
    Arma11,
    Banded,
    CompoundSymmetry,
    Decay,
    Family,
    FreeCorrelation,
    Heterogeneous,
    MovingAverage,
    Patterned,
    Product,
    Separate,
    Toeplitz,
    Unstructured,
)
from vcbench.model.structures.family import ATANH_EDGE, EDGE, LOGIT_EDGE

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """One coordinate of a structure. lkj: (size of the matrix, effects given) of a partial correlation."""

    kind: str
    label: str = ""
    lkj: Pair | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The coordinates of one family, in the order of its natural parameters.

    forward(xp, x) gives (σ², φ), σ² None where the family carries no variance; inverse(σ², φ) gives x back.
    """

    axes: tuple[Axis, ...]
    forward: Callable[[Any, Sequence[Any]], tuple[Any, list[Any]]]
    inverse: Callable[[float, np.ndarray], list[float]]


def logit(xp: Any, p: Any) -> Any:
    """log p/(1 − p), p kept 1e-12 away from 0 and 1: samplers look beyond."""
    p = xp.clip(p, EDGE, 1.0 - EDGE)
    return xp.log(p) - xp.log1p(-p)


def expit(value: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -value)))


def shape_of(family: Family, relative: bool = False) -> Shape:
    """The coordinates of a family; `relative`: as the second factor of a product, its first variance being 1.

    A family that is none of the table's, without variances of its own, takes its φ by their limits: atanh or logit.
    Raises ModelError for one that has them.
    """
    match family:
        case Heterogeneous():
            return _heterogeneous(family, relative)
        case Separate():
            return _separate(family, relative)
        case Product():
            return _product(family, relative)
        case Unstructured():
            return _unstructured(family, relative)
        case AnteDependence():
            halves = [Axis("unit")] * (family.n_levels - 1)
            return _by_level(family.levels, halves, [0.5] * len(halves), relative)
        case Patterned():
            free = [(i, j) for j in range(family.n_levels) for i in range(j + 1, family.n_levels) if family.mask[i][j]]
            return _patterned(family, free)
        case FreeCorrelation():
            return _free_correlation(family)
        case Decay():
            return _decay(family)
        case CompoundSymmetry():
            return _units([1.0])
        case Ar1():
            return _units([0.5 if family.whole else 1.0])
        case Toeplitz() | Banded() | MovingAverage():
            return _units([0.5] * family.n_phi)
        case Arma11():
            return _units([0.5, 1.0])
    limits = family.limits()
    if family.carries_variance or family.n_natural != family.n_phi or not set(limits) <= {ATANH_EDGE, LOGIT_EDGE}:
        raise ModelError(f"the structure `{type(family).__name__}` has no coordinates in `vcbench.bayes.shapes`.")
    return _units([0.5 if edge == ATANH_EDGE else 1.0 for edge in limits])


def _units(factors: Sequence[float]) -> Shape:
    """φ = factor · logit p: ½ for φ = atanh ρ, 1 for a logit."""
    return Shape(
        tuple(Axis("unit") for _ in factors),
        lambda xp, x: (None, [f * logit(xp, p) for f, p in zip(factors, x, strict=True)]),
        lambda scale, phi: [expit(v / f) for f, v in zip(factors, phi, strict=True)],
    )


def _decay(family: Decay) -> Shape:
    """φ = −log(e^r − 1), r = (unit/range)^power."""
    unit, power = family.unit, family.power

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        rate = xp.clip((unit / x[0]) ** power, 1e-12, 500.0)
        return None, [-rate - xp.log(-xp.expm1(-rate))]

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        return [unit * float(np.logaddexp(0.0, -phi[0])) ** (-1.0 / power)]

    return Shape((Axis("range"),), forward, inverse)


def _levels(levels: Sequence[str], relative: bool) -> list[Axis]:
    return [Axis("ratio" if relative else "sd") for _ in levels[1 if relative else 0 :]]


def _ratios(xp: Any, x: Sequence[Any], relative: bool) -> tuple[Any, list[Any]]:
    """(σ_1², log σ_j/σ_1 for j > 1) from the coordinates of the levels."""
    if relative:
        return None, [logit(xp, p) for p in x]
    return x[0] ** 2, [xp.log(s) - xp.log(x[0]) for s in x[1:]]


def _sizes(scale: float, logs: np.ndarray, relative: bool) -> list[float]:
    if relative:
        return [expit(v) for v in logs]
    return [float(np.sqrt(scale)), *(float(np.sqrt(scale) * np.exp(v)) for v in logs)]


def _by_level(levels: Sequence[str], axes: list[Axis], factors: Sequence[float], relative: bool) -> Shape:
    """A variance for each level, then correlations with φ = factor · logit p."""
    own, m = _levels(levels, relative), len(levels)
    inner = _units(factors)

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        scale, logs = _ratios(xp, x[: len(own)], relative)
        return scale, [*logs, *inner.forward(xp, x[len(own) :])[1]]

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        return [*_sizes(scale, phi[: m - 1], relative), *inner.inverse(1.0, phi[m - 1 :])]

    return Shape((*own, *axes), forward, inverse)


def _permuted(shape: Shape, order: Sequence[int]) -> Shape:
    """The same coordinates in another order: place k holds what was at order[k]."""
    back = np.argsort(order)

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        x = shape.inverse(scale, phi)
        return [x[k] for k in order]

    return Shape(tuple(shape.axes[k] for k in order), lambda xp, x: shape.forward(xp, [x[k] for k in back]), inverse)


def _patterned(family: Patterned, free: list[Pair]) -> Shape:
    """SDs and free correlations 2p − 1, whose prior is the margin of an LKJ law, within what is positive definite."""
    m, names = family.n_levels, family.levels
    axes = [Axis("partial", f"{names[i]},{names[j]}", (m, 0)) for i, j in free]
    natural: list[Pair] = [(i, j) for j in range(m) for i in range(j, m) if i == j or (i, j) in free]
    order = [i if i == j else m + free.index((i, j)) for i, j in natural]
    return _permuted(_by_level(names, axes, [0.5] * len(free), False), order)


def _free_correlation(family: FreeCorrelation) -> Shape:
    m, names = family.n_levels, family.levels
    by_row = [(i, j) for i in range(1, m) for j in range(i)]
    by_column = [(i, j) for j in range(m) for i in range(j + 1, m)]
    inner = _units([0.5] * len(by_row))
    axes = tuple(Axis("partial", f"{names[i]},{names[j]}", (m, j)) for i, j in by_row)
    return _permuted(Shape(axes, inner.forward, inner.inverse), [by_row.index(pair) for pair in by_column])


def _unstructured(family: Unstructured, relative: bool) -> Shape:
    """SDs and canonical partial correlations z; with s_ij = √Π_{k<j}(1 − z_ik²), Λ_ij = σ_i z_ij s_ij, Λ_ii = σ_i s_ii:
    φ = log Λ_ii/Λ_11 and Λ_ij/Λ_ii = z_ij s_ij/s_ii."""
    m, names = family.n_levels, family.levels
    entries = [(i, j) for j in range(m) for i in range(j, m)][1 if relative else 0 :]
    axes = [
        Axis("ratio" if relative else "sd") if i == j else
        Axis("unit" if relative else "partial", f"{names[i]},{names[j]}", (m, j))
        for i, j in entries
    ]  # fmt: skip

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        own = dict(zip(entries, x, strict=True))
        scale, logs = _ratios(xp, [own[i, i] for i in range(1 if relative else 0, m)], relative)
        log_sd = [0.0, *logs]
        s: dict[Pair, Any] = {}
        z: dict[Pair, Any] = {}
        for i in range(m):
            left: Any = 1.0
            for j in range(i):
                s[i, j] = xp.sqrt(left)
                z[i, j] = 2 * xp.clip(own[i, j], EDGE, 1.0 - EDGE) - 1
                left = left * (1 - z[i, j] ** 2)
            s[i, i] = xp.sqrt(left)
        phi = [
            log_sd[i] + xp.log(s[i, i]) if i == j else z[i, j] * s[i, j] / s[i, i]
            for i, j in [(i, j) for j in range(m) for i in range(j, m)][1:]
        ]
        return scale, phi

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        L = np.zeros((m, m))
        L[0, 0] = 1.0
        places = [(i, j) for j in range(m) for i in range(j, m)][1:]
        for (i, j), value in zip(places, phi, strict=True):
            if i == j:
                L[i, i] = np.exp(value)
        for (i, j), value in zip(places, phi, strict=True):
            if i != j:
                L[i, j] = value * L[i, i]
        sd = np.sqrt((L**2).sum(axis=1))
        out = []
        for i, j in entries:
            if i == j:
                out.append(float(sd[i] / (sd[i] + 1.0)) if relative else float(np.sqrt(scale) * sd[i]))
            else:
                left = (L[i, j : i + 1] ** 2).sum()  # σ_i² Π_{k<j}(1 − z_ik²)
                out.append(float(0.5 * (1 + L[i, j] / np.sqrt(left))))
        return out

    return Shape(tuple(axes), forward, inverse)


def _heterogeneous(family: Heterogeneous, relative: bool) -> Shape:
    if family.inner.carries_variance:
        raise ModelError("a variance by level around a structure with variances of its own cannot be told from it.")
    inner, own, m = shape_of(family.inner), _levels(family.levels, relative), family.n_levels

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        scale, logs = _ratios(xp, x[: len(own)], relative)
        return scale, [*logs, *inner.forward(xp, x[len(own) :])[1]]

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        return [*_sizes(scale, phi[: m - 1], relative), *inner.inverse(1.0, phi[m - 1 :])]

    return Shape((*own, *inner.axes), forward, inverse)


def _separate(family: Separate, relative: bool) -> Shape:
    if relative:
        raise ModelError("separate parameters by level cannot be a factor of a Kronecker product.")
    shapes = [shape_of(f) for f in family.parts]
    heads = [() if f.carries_variance else (Axis("sd"),) for f in family.parts]

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        scales, phis, at = [], [], 0
        for shape, head in zip(shapes, heads, strict=True):
            end = at + len(head) + len(shape.axes)
            scale, phi = shape.forward(xp, x[at + len(head) : end])
            scales.append(x[at] ** 2 if head else scale)
            phis += phi
            at = end
        return scales[0], [*(0.5 * (xp.log(s) - xp.log(scales[0])) for s in scales[1:]), *phis]

    def inverse(scale: float, phi: np.ndarray) -> list[float]:
        sizes = scale * np.exp(2 * np.concatenate([[0.0], phi[: len(shapes) - 1]]))
        out, at = [], len(shapes) - 1
        for size, f, shape, head in zip(sizes, family.parts, shapes, heads, strict=True):
            out += [float(np.sqrt(size))] if head else []
            out += shape.inverse(float(size), phi[at : at + f.n_phi])
            at += f.n_phi
        return out

    axes = [axis for head, shape in zip(heads, shapes, strict=True) for axis in (*head, *shape.axes)]
    return Shape(tuple(axes), forward, inverse)


def _product(family: Product, relative: bool) -> Shape:
    """Variances of the first factor that has some are in the units of y, those of the other ratios."""
    left = shape_of(family.left, relative)
    right = shape_of(family.right, relative or family.left.carries_variance)
    k, n = len(left.axes), family.left.n_phi

    def forward(xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
        first, a = left.forward(xp, x[:k])
        second, b = right.forward(xp, x[k:])
        return second if first is None else first, [*a, *b]

    return Shape(
        (*left.axes, *right.axes),
        forward,
        lambda scale, phi: [*left.inverse(scale, phi[:n]), *right.inverse(scale, phi[n:])],
    )
