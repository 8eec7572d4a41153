"""Families made of families: variances by level, parameters by level, Kronecker products."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vcbench.model.jets import Jet, concatenate, constant, exp, stack
from vcbench.model.structures.family import NO_EDGE, Family, Natural
from vcbench.model.structures.levels import ByLevel, log_ratios


@dataclass(frozen=True, slots=True, eq=False)
class Heterogeneous(ByLevel):
    """D C D, D = diag(σ_level)/σ_first, over any family C: the variances differ by the level of the row."""

    inner: Family = field(default_factory=Family)

    @property
    def carries_variance(self) -> bool:
        return True

    @property
    def is_diagonal(self) -> bool:
        return self.inner.is_diagonal

    def index(self, rows: np.ndarray) -> np.ndarray:
        own = ByLevel.index(self, rows)
        return own * self.inner.size + self.inner.index(rows)

    def _sd(self, phi: Sequence[Jet], k: int) -> Jet:
        return stack([constant(1.0, k), *(exp(f) for f in phi[: self.n_levels - 1])])

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        sd = self._sd(phi, k)
        pairs = sd.reshape(-1, 1) * sd.reshape(1, -1)
        inner = self.inner.table(phi[self.n_levels - 1 :], k)
        return (pairs.reshape(-1, 1) * inner.reshape(1, -1)).reshape(-1)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        sd = self._sd(phi, k)
        first = [Natural(f"var({a})", sd[j] * sd[j], 1, True) for j, a in enumerate(self.levels)]
        return first + self.inner.natural(phi[self.n_levels - 1 :], k)

    def limits(self) -> np.ndarray:
        return np.append(np.full(self.n_levels - 1, NO_EDGE), self.inner.limits())

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        _, inner = self.inner.working(natural[m:])
        return float(natural[0]), np.append(log_ratios(natural[:m], self.levels), inner)

    def start(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), self.inner.start())

    def neutral(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), self.inner.neutral())


@dataclass(frozen=True, slots=True, eq=False)
class Separate(ByLevel):
    """A family of its own for each level of a factor that is constant within units (SAS's GROUP=)."""

    parts: tuple[Family, ...] = ()

    @property
    def carries_variance(self) -> bool:
        return True

    def index(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), len(rows)), np.int64)  # pairs of different levels belong to different units
        for level in np.unique(self.codes[rows]):
            at = np.flatnonzero(self.codes[rows] == level)
            out[np.ix_(at, at)] = self.parts[level].index(rows[at]) + self._starts()[level]
        return out

    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([f.size for f in self.parts])])

    def _split(self, phi: Sequence[Jet], k: int) -> list[tuple[Family, Jet, Sequence[Jet]]]:
        out, at = [], len(self.parts) - 1
        for j, f in enumerate(self.parts):
            size = constant(1.0, k) if j == 0 else exp(2.0 * phi[j - 1])
            out.append((f, size, phi[at : at + f.n_phi]))
            at += f.n_phi
        return out

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return concatenate([size * f.table(own, k) for f, size, own in self._split(phi, k)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        out = []
        for level, (f, size, own) in zip(self.levels, self._split(phi, k), strict=True):
            inner = f.natural(own, k)
            if not f.carries_variance:
                out.append(Natural(f"var({level})", size, 1, True))
            for item in inner:
                value = size * item.value if item.power else item.value
                out.append(Natural(_within(item.name, level), value, item.power, item.is_variance))
        return out

    def limits(self) -> np.ndarray:
        return np.concatenate([np.full(len(self.parts) - 1, NO_EDGE), *(f.limits() for f in self.parts)])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        sizes, phis, at = [], [], 0
        for f in self.parts:
            own = 0 if f.carries_variance else 1
            count = f.n_natural
            values = natural[at + own : at + own + count]
            scale, phi = f.working(values)
            sizes.append(scale if f.carries_variance else natural[at])
            phis.append(phi)
            at += own + count
        return float(sizes[0]), np.concatenate([log_ratios(sizes, self.levels), *phis])

    def start(self) -> np.ndarray:
        return np.concatenate([np.zeros(len(self.parts) - 1), *(f.start() for f in self.parts)])

    def neutral(self) -> np.ndarray:
        return np.concatenate([np.zeros(len(self.parts) - 1), *(f.neutral() for f in self.parts)])


@dataclass(frozen=True, slots=True, eq=False)
class Product(Family):
    """The Kronecker product of two families, by labels: C_ij = A(a_i, a_j) B(b_i, b_j); missing cells are left out."""

    left: Family = field(default_factory=Family)
    right: Family = field(default_factory=Family)
    suffixes: tuple[str, str] = ("_1", "_2")

    @property
    def carries_variance(self) -> bool:
        return self.left.carries_variance or self.right.carries_variance

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        a, b = self.left.table(phi[: self.left.n_phi], k), self.right.table(phi[self.left.n_phi :], k)
        return (a.reshape(-1, 1) * b.reshape(1, -1)).reshape(-1)

    def index(self, rows: np.ndarray) -> np.ndarray:
        return self.left.index(rows) * self.right.size + self.right.index(rows)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        """Variances of the first factor that has some are in the units of y; those of the other are ratios."""
        a, b = self.left.natural(phi[: self.left.n_phi], k), self.right.natural(phi[self.left.n_phi :], k)
        out = []
        for items, suffix, in_units in (
            (a, self.suffixes[0], True),
            (b, self.suffixes[1], not self.left.carries_variance),
        ):
            for item in items:
                power = item.power if in_units else 0
                if item.power and not in_units and np.ndim(item.value.d) and not item.value.d.any():
                    continue  # the ratio of the first level to itself
                name = item.name if item.power else item.name + suffix
                if item.power and not in_units:
                    name = item.name.replace("var(", "ratio(").replace("cov(", "coratio(")
                out.append(Natural(name, item.value, power, item.is_variance and in_units))
        return out

    def limits(self) -> np.ndarray:
        return np.concatenate([self.left.limits(), self.right.limits()])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        count = self.left.n_natural
        scale, left = self.left.working(natural[:count])
        rest = list(natural[count:])
        if self.left.carries_variance and self.right.carries_variance:
            rest = [1.0, *rest]
        other, right = self.right.working(rest)
        return (scale if self.left.carries_variance else other), np.concatenate([left, right])

    def start(self) -> np.ndarray:
        return np.concatenate([self.left.start(), self.right.start()])

    def neutral(self) -> np.ndarray:
        return np.concatenate([self.left.neutral(), self.right.neutral()])


def _within(name: str, level: str) -> str:
    return f"{name[:-1]}|{level})" if name.endswith(")") else f"{name}({level})"
