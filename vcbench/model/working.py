"""Three coordinates of one covariance: θ natural and named, w for the solvers, τ for the kernels.

    w = (linear: Ω's own entries, or v of Ω = v·C(φ), and the nugget;  φ of all structures;  σ²)
    τ = (pairs of every Ω, nugget;  φ of the residual;  σ²)      V is linear in the pairs
    θ = natural parameters by component, then the residual's

Unstructured blocks of Ω are the same in all three. A structured component maps (v, φ) to τ = v·C(φ); components said to
be equal share their w; a fixed one has none. J = ∂τ/∂w turns scores and informations: s_w = Jᵀs_τ, I_w = JᵀI_τJ,
observed information less Σ s_τ ∂²τ/∂w∂wᵀ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.jets import Jet, constant, variables
from vcbench.model.structures import Family, Natural


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One component: its pairs in τ, and where it sits in w. `family` None: the pairs themselves; `value`: fixed."""

    pairs: np.ndarray  # positions in τ
    index: tuple[tuple[int, int], ...]  # (row, column) of each pair
    linear: np.ndarray  # positions in w of the pairs, or of v
    smooth: np.ndarray  # positions in w of φ
    family: Family | None
    value: np.ndarray | None
    names: tuple[str, ...]  # natural names; empty for a component equal to an earlier one, or fixed
    is_variance: tuple[bool, ...]

    @property
    def table_at(self) -> np.ndarray:
        """Positions of the pairs in the family's table."""
        assert self.family is not None
        r = max(a for a, _ in self.index) + 1
        where = self.family.index(np.arange(r))
        return np.array([where[a, b] for a, b in self.index], int)

    def natural(self, phi: np.ndarray) -> list[Natural]:
        """Natural parameters of a structured component."""
        assert self.family is not None
        k = self.family.n_phi
        own = self.family.natural(variables(phi), k)
        return own if self.family.carries_variance else [Natural("var", constant(1.0, k), 1, True), *own]


@dataclass(frozen=True, slots=True, eq=False)
class Working:
    """The maps between θ, w and τ of one model."""

    parts: tuple[Part, ...]
    noise: Any = field(repr=False)
    n_pairs: int  # of τ, the nugget among them
    n_linear: int  # of w
    n_free_effects: int
    n_free_residual: int

    @property
    def n_w(self) -> int:
        """Length of w."""
        return self.n_linear + self.n_free_effects + self.n_free_residual + 1

    @property
    def n_tau(self) -> int:
        """Length of τ."""
        return self.n_pairs + self.n_free_residual + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of θ."""
        return (*(n for p in self.parts for n in p.names), *self.noise.names)

    @property
    def is_variance(self) -> tuple[bool, ...]:
        """Which entries of θ are variances."""
        return (*(v for p in self.parts for v in p.is_variance), *self.noise.is_variance)

    @property
    def residual_phi(self) -> slice:
        """Where φ of the residual sits in w."""
        return slice(self.n_linear + self.n_free_effects, self.n_w - 1)

    # --- w → τ ---
    def tau(self, w: np.ndarray) -> np.ndarray:
        """τ at w."""
        return self._tau(w, 0)[0]

    def jacobian(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(τ, J = ∂τ/∂w)."""
        return self._tau(w, 1)[:2]

    def curvature(self, w: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Σ_i score_i ∂²τ_i/∂w∂wᵀ."""
        return self._tau(w, 2, score)[2]

    def _tau(self, w: np.ndarray, order: int, score: np.ndarray | None = None) -> tuple[np.ndarray, Any, Any]:
        tau, J = np.zeros(self.n_tau), np.zeros((self.n_tau, self.n_w))
        H = np.zeros((self.n_w, self.n_w)) if order > 1 else None
        for p in self.parts:
            if p.value is not None:
                tau[p.pairs] = [p.value[a, b] for a, b in p.index]
            elif p.family is None:
                tau[p.pairs] = w[p.linear]
                J[p.pairs, p.linear] = 1.0
            else:
                at, v = p.table_at, w[p.linear[0]]
                table = p.family.table(variables(w[p.smooth]), len(p.smooth))
                tau[p.pairs] = v * table.v[at]
                J[p.pairs, p.linear[0]] = table.v[at]
                J[np.ix_(p.pairs, p.smooth)] = v * table.d[:, at].T
                if H is not None and score is not None:
                    s = score[p.pairs]
                    cross = table.d[:, at] @ s
                    H[p.linear[0], p.smooth] += cross
                    H[p.smooth, p.linear[0]] += cross
                    H[np.ix_(p.smooth, p.smooth)] += v * (table.dd[:, :, at] @ s)
        if self.noise.has_nugget:
            tau[self.n_pairs - 1] = w[self.n_linear - 1]
            J[self.n_pairs - 1, self.n_linear - 1] = 1.0
        for i in range(self.n_free_residual + 1):
            a, b = self.n_tau - 1 - i, self.n_w - 1 - i
            tau[a], J[a, b] = w[b], 1.0
        return tau, J, H

    # --- w ↔ θ ---
    def theta(self, w: np.ndarray) -> np.ndarray:
        """θ at w."""
        return self.theta_jacobian(w)[0]

    def theta_jacobian(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(θ, D = ∂θ/∂w)."""
        values, rows = [], []

        def put(items: Sequence[Natural], scale_at: int, smooth: np.ndarray) -> None:
            for item in items:
                row = np.zeros(self.n_w)
                factor = w[scale_at] if item.power else 1.0
                row[smooth] = factor * item.value.d
                if item.power:
                    row[scale_at] = item.value.v
                values.append(factor * float(item.value.v))
                rows.append(row)

        unit = np.eye(self.n_w)
        for p in self.parts:
            if not p.names:
                continue
            if p.family is None:
                values.extend(w[p.linear])
                rows.extend(unit[p.linear])
            else:
                put(p.natural(w[p.smooth]), int(p.linear[0]), p.smooth)
        if self.noise.is_plain:
            values.append(w[-1])
            rows.append(unit[-1])
        else:
            at = np.arange(self.n_w)[self.residual_phi]
            put(self.noise.natural(w[at]), self.n_w - 1, at)
            if self.noise.has_nugget:
                values.append(w[self.n_linear - 1])
                rows.append(unit[self.n_linear - 1])
        return np.array(values), np.array(rows)

    def theta_curvature(self, w: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Σ_i score_i ∂²θ_i/∂w∂wᵀ."""
        H, at = np.zeros((self.n_w, self.n_w)), 0

        def put(items: Sequence[Natural], scale_at: int, smooth: np.ndarray, s: np.ndarray) -> None:
            for item, value in zip(items, s, strict=True):
                H[np.ix_(smooth, smooth)] += value * (w[scale_at] if item.power else 1.0) * item.value.dd
                if item.power:
                    H[scale_at, smooth] += value * item.value.d
                    H[smooth, scale_at] += value * item.value.d

        for p in self.parts:
            if p.names and p.family is not None:
                put(p.natural(w[p.smooth]), int(p.linear[0]), p.smooth, score[at : at + len(p.names)])
            at += len(p.names)
        if not self.noise.is_plain:
            where = np.arange(self.n_w)[self.residual_phi]
            items = self.noise.natural(w[where])
            put(items, self.n_w - 1, where, score[at : at + len(items)])
        return H

    def w(self, theta: np.ndarray) -> np.ndarray:
        """w of θ. Raises ModelError naming the parameter that lies outside its range."""
        theta = np.asarray(theta, float)
        if theta.shape != (len(self.names),):
            raise ModelError(f"θ has shape {theta.shape}; there are {len(self.names)} parameters: {self.names}.")
        w, at = np.zeros(self.n_w), 0
        for p in self.parts:
            own = theta[at : at + len(p.names)]
            at += len(p.names)
            if not p.names:
                continue
            if p.family is None:
                w[p.linear] = own
            else:
                w[p.linear[0]], w[p.smooth] = _scaled(p.family, own)
        if self.noise.is_plain:
            w[-1] = theta[at]
            return w
        count = len(theta) - at - int(self.noise.has_nugget)
        w[-1], w[self.residual_phi] = _scaled(self.noise.family, theta[at : at + count])
        if self.noise.has_nugget:
            w[self.n_linear - 1] = theta[-1]
        return w

    def limits(self) -> np.ndarray:
        """|φ| of all structures beyond which a parameter lies at the edge of its range."""
        own = [p.family.limits() for p in self.parts if p.family is not None and p.names]
        return np.concatenate([*own, self.noise.family.limits()])

    def inside(self, w: np.ndarray) -> np.ndarray:
        """w with every φ within its limits."""
        limits = self.limits()
        out = w.copy()
        out[self.n_linear : -1] = np.clip(w[self.n_linear : -1], -limits, limits)
        return out

    def at_edge(self, w: np.ndarray, share: float = 1.0) -> bool:
        """True where some φ lies beyond `share` of its limit."""
        return bool((np.abs(w[self.n_linear : -1]) >= share * self.limits()).any())

    def smooth_start(self, neutral: bool = False) -> np.ndarray:
        """φ of all structures at their start, or where they are nearest to no correlation."""
        out = []
        for p in self.parts:
            if p.family is not None and p.names:
                out.append(p.family.neutral() if neutral else p.family.start())
        out.append(self.noise.family.neutral() if neutral else self.noise.family.start())
        return np.concatenate(out) if out else np.zeros(0)

    def Omegas(self, theta: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Ω (r, r) of each component at θ; `sizes` their r."""
        tau = self.tau(self.w(theta))
        out = []
        for p, r in zip(self.parts, sizes, strict=True):
            Omega = np.zeros((r, r))
            for value, (a, b) in zip(tau[p.pairs], p.index, strict=True):
                Omega[a, b] = Omega[b, a] = value
            out.append(Omega)
        return out


def _scaled(family: Family, natural: np.ndarray) -> tuple[float, np.ndarray]:
    """(v, φ) from natural parameters, the single variance first where the family carries none."""
    if family.carries_variance:
        return family.working(list(natural))
    return float(natural[0]), family.working(list(natural[1:]))[1]


def working_of(components: Sequence[Any], noise: Any, equal: Sequence[Sequence[str]] = ()) -> Working:
    """The maps of a model. `equal`: names of components that share their parameters.

    Raises ModelError for an unknown name in `equal`, and for equal components of different structure or size.
    """
    names = [c.name for c in components]
    first: dict[int, int] = {}  # component -> the one that it equals
    for group in equal:
        for name in group:
            if name not in names:
                raise ModelError(f"`equal` names `{name}`, which is no component. Choose from {', '.join(names)}.")
        lead = components[names.index(group[0])]
        for name in group[1:]:
            c = components[names.index(name)]
            if c.n_effects != lead.n_effects or c.cov.kind != lead.cov.kind or c.partition != lead.partition:
                raise ModelError(
                    f"`equal`: `{name}` ({c.cov.kind}, {c.n_effects} effects) and `{lead.name}` ({lead.cov.kind}, "
                    f"{lead.n_effects}) have different structures; only like components can be equal."
                )
            first[names.index(name)] = names.index(group[0])
    linear, smooth, pairs = 0, 0, 0
    plans: list[tuple[Any, np.ndarray, Any, Any]] = []
    places: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k, c in enumerate(components):
        here = np.arange(pairs, pairs + len(c.index))
        pairs += len(c.index)
        family, value = c.cov.family(c.effects), c.cov.fixed_value(c.n_effects)
        if k in first:
            plans.append((c, here, family, value))
            continue
        n_linear = 0 if value is not None else 1 if family is not None else len(c.index)
        n_smooth = family.n_phi if family is not None else 0
        places[k] = np.arange(linear, linear + n_linear), np.arange(smooth, smooth + n_smooth)
        linear, smooth = linear + n_linear, smooth + n_smooth
        plans.append((c, here, family, value))
    if noise.has_nugget:
        linear, pairs = linear + 1, pairs + 1
    parts = []
    for k, (c, here, family, value) in enumerate(plans):
        at, phi = places[first.get(k, k)]
        own = () if k in first or value is not None else tuple(c.theta_names)
        flags: tuple[bool, ...] = tuple(a == b for a, b in c.index)
        if family is not None:
            probe = Part(here, (), at, phi, family, None, (), ())
            flags = tuple(item.is_variance for item in probe.natural(family.start()))
        parts.append(Part(here, tuple(c.index), at, phi + linear, family, value, own, flags if own else ()))
    n_free_residual = 0 if noise.is_plain else noise.family.n_phi
    return Working(tuple(parts), noise, pairs, linear, smooth, n_free_residual)


def table_jet(family: Family, phi: np.ndarray) -> Jet:
    """The family's table with derivatives in φ."""
    return family.table(variables(phi), len(phi))
