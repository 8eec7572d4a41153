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

Of each family: `shapes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.bayes.shapes import Axis, Pair, Shape, shape_of
from vcbench.errors import ModelError
from vcbench.model.model import Model
from vcbench.model.structures import Family


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
