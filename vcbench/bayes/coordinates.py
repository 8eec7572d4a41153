"""The free coordinates of a model: one for each entry of θ, each on a range of its own, whatever the others are.

    x  →  w = (entries of Ω, v of Ω = v·C(φ), nugget;  φ of all structures;  σ²)  →  θ          (`model.working`)

Priors are independent in x, and samplers move in log x or logit x. Kinds of coordinate:

| kind | x | stands for |
| --- | --- | --- |
| sd | σ > 0 | a variance σ² |
| unit | p in (0, 1) | a correlation on the range left for it, ρ = low + (high − low) p; partial autocorrelations |
| partial | p in (0, 1) | a canonical partial correlation 2p − 1 of a free matrix, for LKJ priors |
| ratio | p in (0, 1) | an SD ratio p/(1 − p), of the second factor of a Kronecker product |
| range | > 0 | the range of a distance decay, in its own units |

`Shape.forward` is written once for numbers and for PyTensor expressions: `xp` is `numpy` or `pytensor.tensor`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.model import Model
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


# --- families ---


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
        raise ModelError(f"the structure `{type(family).__name__}` has no coordinates in `vcbench.bayes.coordinates`.")
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


# --- a model ---


@dataclass(frozen=True, slots=True)
class Coordinate:
    """One coordinate of a model: the entry of θ that it stands for, its owner (a component or "residual"), its axis."""

    name: str
    owner: str
    axis: Axis
    is_entry: bool = False  # of an unstructured Ω: θ is linear in w

    @property
    def free_name(self) -> str:
        """The name of the free variable, but for SDs, which take the scale of their prior."""
        own = self.name.removeprefix(f"{self.owner}:")
        match self.axis.kind:
            case "partial":
                return f"{self.owner}:partial({self.axis.label})"
            case "unit" | "ratio":
                return f"{self.owner}:unit({own})"
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """The coordinates x of a model, in the order of θ."""

    model: Model
    items: tuple[Coordinate, ...]
    shapes: tuple[Shape | None, ...]  # one a component, None without a family; the residual's last

    @classmethod
    def of(cls, model: Model) -> "Coordinates":
        """The coordinates of a model. ModelError for a structure that has none."""
        items: list[Coordinate] = []
        shapes: list[Shape | None] = []
        for c, part in zip(model.components, model.working.parts, strict=True):
            shape = None if part.family is None else shape_of(part.family)
            shapes.append(shape)
            if not part.names:
                continue
            axes = _block_axes(c) if shape is None else _with_variance(shape, part.family)
            items += [Coordinate(n, c.name, a, shape is None) for n, a in zip(part.names, axes, strict=True)]
        noise = model.noise
        own = [Axis("sd")]
        shapes.append(None)
        if not noise.is_plain:
            shapes[-1] = shape_of(noise.family)
            own = _with_variance(shapes[-1], noise.family) + [Axis("sd")] * noise.has_nugget
        items += [Coordinate(n, "residual", a) for n, a in zip(noise.names, own, strict=True)]
        return cls(model, tuple(items), tuple(shapes))

    def w(self, x: Any, xp: Any = np) -> list[Any]:
        """w of `model.working` at x (p,): numbers or PyTensor expressions."""
        work = self.model.working
        w: list[Any] = [None] * work.n_w
        at = 0
        for c, part, shape in zip(self.model.components, work.parts, self.shapes, strict=False):
            own = x[at : at + len(part.names)]
            at += len(part.names)
            if not part.names:
                continue
            if shape is None:
                put(w, part.linear, _entries(c, own, xp))
            else:
                v, phi = _scaled(shape, xp, own)
                put(w, part.linear, [v])
                put(w, part.smooth, phi)
        residual = self.shapes[-1]
        if residual is None:
            w[-1] = x[at] ** 2
            return w
        end = len(x) - int(self.model.noise.has_nugget)
        w[-1], phi = _scaled(residual, xp, x[at:end])
        put(w, np.arange(work.n_w)[work.residual_phi], phi)
        if self.model.noise.has_nugget:
            w[work.n_linear - 1] = x[-1] ** 2
        return w

    def values(self, w: np.ndarray) -> np.ndarray:
        """x (p,) of w. ModelError where a variance is not positive or a free Ω not positive definite."""
        work = self.model.working
        x: list[float] = []
        for c, part, shape in zip(self.model.components, work.parts, self.shapes, strict=False):
            if not part.names:
                continue
            if shape is None:
                x += _coordinates_of_entries(c, w[part.linear])
            else:
                x += _unscaled(shape, float(w[part.linear[0]]), w[part.smooth])
        residual = self.shapes[-1]
        if residual is None:
            x.append(_root(float(w[-1])))
        else:
            x += _unscaled(residual, float(w[-1]), w[work.residual_phi])
            if self.model.noise.has_nugget:
                x.append(_root(float(w[work.n_linear - 1])))
        return np.array(x)

    def theta(self, x: Sequence[float] | np.ndarray) -> np.ndarray:
        """θ (p,) at x: what a draw from the prior of the coordinates means."""
        return self.model.working.theta(np.array(self.w(list(x)), float))

    @property
    def form(self) -> tuple:
        """All that the graph of w depends on beside numbers."""
        ties = tuple(tuple(p.linear.tolist()) for p in self.model.working.parts)
        blocks = tuple(c.partition for c in self.model.components)
        return tuple((i.axis.kind, i.axis.lkj, i.is_entry) for i in self.items), ties, blocks

    @property
    def start(self) -> np.ndarray:
        """x (p,) with every structure where solvers start it, SDs 1 and free matrices without correlation."""
        work = self.model.working
        w = np.ones(work.n_w)
        w[work.n_linear : -1] = work.smooth_start()
        for part in work.parts:
            if part.family is None and part.names:
                w[part.linear] = [float(a == b) for a, b in part.index]
        return self.values(w)


def put(w: list[Any], where: np.ndarray, values: Sequence[Any]) -> None:
    """w[where] = values, for lists."""
    for at, value in zip(where, values, strict=True):
        w[int(at)] = value


def _with_variance(shape: Shape | None, family: Family | None) -> list[Axis]:
    assert shape is not None
    assert family is not None
    return list(shape.axes) if family.carries_variance else [Axis("sd"), *shape.axes]


def _scaled(shape: Shape, xp: Any, x: Sequence[Any]) -> tuple[Any, list[Any]]:
    """(σ², φ); σ is the first coordinate where the family carries no variance."""
    if len(x) == len(shape.axes):
        return shape.forward(xp, x)
    return x[0] ** 2, shape.forward(xp, x[1:])[1]


def _unscaled(shape: Shape, scale: float, phi: np.ndarray) -> list[float]:
    _root(scale)
    x = shape.inverse(scale, phi)
    return x if any(axis.kind == "sd" for axis in shape.axes) else [_root(scale), *x]


def _root(variance: float) -> float:
    if not variance > 0:
        raise ModelError(f"a variance is {variance:g}; the twin's density is defined for positive variances.")
    return float(np.sqrt(variance))


def _block_axes(c: Any) -> list[Axis]:
    """Coordinates of the blocks of an unstructured Ω, by column: SDs, and partial correlations below them."""
    out = []
    for a, b in c.index:
        block = next(block for block in c.partition if a in block)
        if a == b:
            out.append(Axis("sd"))
        else:
            out.append(Axis("partial", f"{c.effects[a]},{c.effects[b]}", (len(block), block.index(b))))
    return out


def _entries(c: Any, x: Sequence[Any], xp: Any) -> list[Any]:
    """The parameters of Ω = LLᵀ in the order of θ: L_ab = σ_a ρ_ab √Π_{e<b}(1 − ρ_ae²) within each block."""
    own = dict(zip(c.index, x, strict=True))
    L: dict[Pair, Any] = {}
    for block in c.partition:
        for i, a in enumerate(block):
            left: Any = 1.0
            for b in block[:i]:
                rho = 2 * own[a, b] - 1
                L[a, b] = own[a, a] * rho * xp.sqrt(left)
                left = left * (1 - rho**2)
            L[a, a] = own[a, a] * xp.sqrt(left) if i else own[a, a]
    out = []
    for a, b in c.index:
        block = next(block for block in c.partition if a in block)
        if a == b:
            out.append(own[a, a] ** 2)
        else:
            out.append(sum(L[a, e] * L[b, e] for e in block[: min(block.index(a), block.index(b)) + 1]))
    return out


def _coordinates_of_entries(c: Any, values: np.ndarray) -> list[float]:
    from vcbench.bayes.priors import partial_correlations

    Omega = np.zeros((c.n_effects, c.n_effects))
    for value, (a, b) in zip(values, c.index, strict=True):
        Omega[a, b] = Omega[b, a] = value
    own: dict[Pair, float] = {}
    for block in c.partition:
        for a in block:
            own[a, a] = _root(float(Omega[a, a]))
        if len(block) > 1:
            _, rho = partial_correlations(Omega[np.ix_(block, block)])
            own |= {(block[i], block[j]): 0.5 * (1 + r) for (i, j), r in rho.items()}
    return [own[pair] for pair in c.index]
