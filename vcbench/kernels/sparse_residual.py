"""The residuals that kernel `sparse` takes: R = σ²I, or small blocks over units, R = σ²C(φ) + τ²I within each.

What the kernel asks of R at one θ: R⁻¹x, ZᵀR⁻¹Z where M has entries, log|R|, ∂R/∂τ_j x, and the residual's part of the
score. The parameters stand in the order of τ (`model.working`): nugget, φ, σ². Units whose rows are alike form a class:
R of a class is inverted once, and all sums over units are sums over classes, held flat, class after class.

    ZᵀR⁻¹Z = S r⁻¹,   Σ_units (ZΛM⁻¹ΛᵀZᵀ)_uu = Sᵀ c     S sparse, r⁻¹ the blocks of R⁻¹, c = ΛM⁻¹Λᵀ, M's entries alone
    ∂ℓ/∂τ_j = ½ Σ_classes tr(G ∂R/∂τ_j),   G = Σ_units (ggᵀ − T_uu),   T_uu = R⁻¹ − R⁻¹(ZΛM⁻¹ΛᵀZᵀ)_uu R⁻¹ less β's part
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from vcbench.errors import ModelError
from vcbench.kernels.traces import both, pair_traces
from vcbench.model.jets import Jet, variables
from vcbench.model.noise import Noise
from vcbench.model.structures import ByLevel, Family

PRODUCTS = 200_000_000  # products of Z's entries within units, all units together: more is no small block
MEMORY = 4  # GB that the expected information may take
CHUNK = 4_000_000  # of them worked out at a time


@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """R = σ²I at one σ²."""

    n: int
    sigma2: float

    @property
    def logdet(self) -> float:
        """log|R|."""
        return self.n * float(np.log(self.sigma2))

    def solve(self, x: np.ndarray) -> np.ndarray:
        """R⁻¹x."""
        return x / self.sigma2

    def products(self, B: np.ndarray) -> tuple[np.ndarray, float]:
        """(b, s) with ZᵀR⁻¹Z = b/s where M has entries; B are those of ZᵀZ."""
        return B, self.sigma2

    def derivatives(self, g: np.ndarray) -> np.ndarray:
        """∂R/∂τ_j g (n, 1)."""
        return g[:, None]

    def residue(self, at: Any, g: np.ndarray, half: np.ndarray) -> np.ndarray:
        """gᵀg − tr T (1,), T = V⁻¹ − half halfᵀ; tr V⁻¹ = (n − q + tr(P M⁻¹))/σ²."""
        trace = at.trace - float(np.vdot(half, half))
        return np.array([g @ g - trace])

    def score(self, G: np.ndarray) -> np.ndarray:
        """½[gᵀg − tr T]."""
        return 0.5 * G

    def curvature(self, G: np.ndarray) -> None:
        """V is linear in σ²."""


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Units of rows that are correlated, and how their rows meet in R.

    row, column (nnz,): the pairs of rows of one unit, row after row (`indptr`); `take` (nnz,) their place in the flat
    array of all classes' blocks. Of a flat entry: `count` units of its class, `mirror` the place of its transpose,
    `diagonal` 1 or 0, `table` where in the family's table its value of C is. `stacks`: for each size m where the blocks
    of that size are (classes, m²).
    """

    noise: Noise
    indptr: np.ndarray = field(repr=False)
    row: np.ndarray = field(repr=False)
    column: np.ndarray = field(repr=False)
    take: np.ndarray = field(repr=False)
    count: np.ndarray = field(repr=False)
    mirror: np.ndarray = field(repr=False)
    diagonal: np.ndarray = field(repr=False)
    table: np.ndarray = field(repr=False)
    stacks: tuple[tuple[int, np.ndarray], ...] = field(repr=False)

    @classmethod
    def of(cls, noise: Noise) -> "Classes":
        """The units of a residual structure, alike ones in one class."""
        n, unit = len(noise.units), noise.units
        order = np.argsort(unit, kind="stable")
        ends = np.cumsum(np.bincount(unit))
        kinds: dict[bytes, int] = {}
        places: list[np.ndarray] = []
        kind = np.empty(len(ends), np.int64)  # class of each unit
        for u, rows in enumerate(np.split(order, ends[:-1])):
            place = noise.family.index(rows)
            kind[u] = kinds.setdefault(place.tobytes(), len(places))
            if kind[u] == len(places):
                places.append(place)
        size = np.array([len(place) for place in places])
        start = np.concatenate([[0], np.cumsum(size**2)])
        first = ends - size[kind]
        within = np.empty(n, np.int64)  # place of each row in its unit
        within[order] = np.arange(n) - np.repeat(first, size[kind])
        width = size[kind[unit]]
        indptr = np.concatenate([[0], np.cumsum(width)])
        row = np.repeat(np.arange(n), width)
        other = np.arange(indptr[-1]) - np.repeat(indptr[:-1], width)  # place of the column's row in the unit
        column = order[first[unit][row] + other]
        take = start[kind[unit]][row] + within[row] * width[row] + other
        of = np.repeat(np.arange(len(size)), size**2)
        inner = np.arange(start[-1]) - start[of]
        mirror = start[of] + (inner % size[of]) * size[of] + inner // size[of]
        return cls(
            noise, indptr, row, column, take,
            count=np.bincount(kind, minlength=len(size))[of].astype(float),
            mirror=mirror,
            diagonal=(mirror == np.arange(len(mirror))).astype(float),
            table=np.concatenate([place.ravel() for place in places]),
            stacks=tuple((int(m), start[:-1][size == m][:, None] + np.arange(m * m)) for m in np.unique(size)),
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.indptr) - 1

    @property
    def n_parameters(self) -> int:
        """Parameters of R: the nugget, φ, σ²."""
        return int(self.noise.has_nugget) + self.noise.family.n_phi + 1

    def laid(self, flat: np.ndarray) -> csr_matrix:
        """The (n, n) matrix whose blocks are those of the classes."""
        return csr_matrix((flat[self.take], self.column, self.indptr), shape=(self.n, self.n))

    def summed(self, x: np.ndarray) -> np.ndarray:
        """Σ over units of the blocks of xxᵀ (flat), x (n, m)."""
        total = np.zeros(len(self.row))
        for column in x.T:
            total += column[self.row] * column[self.column]
        return np.bincount(self.take, total, len(self.table))

    def times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Blocks of the product of two block matrices (flat)."""
        out = np.empty_like(a)
        for m, at in self.stacks:
            out[at] = (a[at].reshape(-1, m, m) @ b[at].reshape(-1, m, m)).reshape(len(at), -1)
        return out

    def inverse(self, flat: np.ndarray) -> tuple[np.ndarray, float] | None:
        """(blocks of the inverse (flat), log-determinant over all units), or None if one is not positive definite."""
        out, logdet = np.empty_like(flat), 0.0
        for m, at in self.stacks:
            try:
                Li = np.linalg.inv(np.linalg.cholesky(flat[at].reshape(-1, m, m)))
            except np.linalg.LinAlgError:
                return None
            out[at] = (np.swapaxes(Li, 1, 2) @ Li).reshape(len(at), -1)
            logs = np.log(np.diagonal(Li, axis1=1, axis2=2)).sum(axis=1)
            logdet -= 2.0 * float(self.count[at[:, 0]] @ logs)
        return (out, logdet) if np.isfinite(logdet) else None


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """R of classes of units at one τ: C (flat) with its derivatives in φ, the blocks of R⁻¹ (flat), R⁻¹ (n, n)."""

    classes: Classes
    joins: csr_matrix = field(repr=False)  # S
    sigma2: float
    C: Jet = field(repr=False)
    blocks: np.ndarray = field(repr=False)
    inverse: csr_matrix = field(repr=False)
    logdet: float

    @classmethod
    def at(cls, classes: Classes, joins: csr_matrix, tail: np.ndarray) -> "Blocks | None":
        """R at (nugget, φ, σ²); None where it is not positive definite."""
        nugget, k = int(classes.noise.has_nugget), classes.noise.family.n_phi
        extra, sigma2 = float(tail[0]) if nugget else 0.0, float(tail[-1])
        if not np.isfinite(tail).all() or sigma2 <= 0:
            return None
        C = classes.noise.family.table(variables(tail[nugget : nugget + k]), k)[classes.table]
        found = classes.inverse(sigma2 * C.v + extra * classes.diagonal)
        return None if found is None else cls(classes, joins, sigma2, C, found[0], classes.laid(found[0]), found[1])

    def solve(self, x: np.ndarray) -> np.ndarray:
        """R⁻¹x."""
        return self.inverse @ x

    def products(self, B: np.ndarray) -> tuple[np.ndarray, float]:
        """(b, 1) with b = ZᵀR⁻¹Z where M has entries."""
        return self.joins @ self.blocks, 1.0

    def parts(self) -> list[np.ndarray]:
        """∂R/∂τ_j (flat)."""
        nugget = [self.classes.diagonal] if self.classes.noise.has_nugget else []
        return [*nugget, *(self.sigma2 * d for d in self.C.d), self.C.v]

    def derivatives(self, g: np.ndarray) -> np.ndarray:
        """∂R/∂τ_j g (n, parameters)."""
        return np.column_stack([self.classes.laid(part) @ g for part in self.parts()])

    def within(self, c: np.ndarray, same: np.ndarray) -> np.ndarray:
        """Σ over units of (ZXZᵀ)_uu (flat), X given as c where M has entries; `same`: those of a node with itself."""
        return self.joins.T @ c + (self.joins.T @ np.where(same, 0.0, c))[self.classes.mirror]

    def residue(self, at: Any, g: np.ndarray, half: np.ndarray) -> np.ndarray:
        """G = Σ over units of (ggᵀ − T_uu) (flat), T = V⁻¹ − half halfᵀ."""
        k, W = self.classes, self.blocks
        T = k.count * W - k.times(W, k.times(self.within(at.covariances(), at.design.pairs.same_entries), W))
        return k.summed(np.column_stack([g, half])) - T

    def score(self, G: np.ndarray) -> np.ndarray:
        """½ Σ tr(G ∂R/∂τ_j)."""
        return 0.5 * np.array([G @ part for part in self.parts()])

    def curvature(self, G: np.ndarray) -> np.ndarray:
        """½[tr(T V_jk) − gᵀV_jk g] = −½ Σ tr(G ∂²R/∂τ_j∂τ_k)."""
        first, p = int(self.classes.noise.has_nugget), self.classes.n_parameters
        out = np.zeros((p, p))
        out[first:-1, first:-1] = -0.5 * self.sigma2 * (self.C.dd @ G)
        out[first:-1, -1] = out[-1, first:-1] = -0.5 * (self.C.d @ G)
        return out

    def expected(self, at: Any, U: np.ndarray, wQ: np.ndarray, M: np.ndarray | None) -> np.ndarray:
        """½ tr(T V_i T V_j) from T (n, n) and A ZᵀT (q, n) in full; T = V⁻¹, or P where M = (QᵀV⁻¹Q)⁻¹ is given.

        Raises ModelError where these are too large.
        """
        d, lay, n = at.design, at.layout, self.classes.n
        check_memory((3 + self.classes.n_parameters) * n**2 + 2 * n * d.q + 2 * d.q**2, d.q)
        w = at.solve(np.eye(n))
        T, AZT = self.solve(np.eye(n) - at.spread(w)), at.unscaled(w)
        if M is not None:
            T -= U @ M @ U.T
            AZT -= at.unscaled(wQ) @ M @ U.T
        turned = [self.classes.laid(part) @ T for part in self.parts()]  # ∂R T
        rows = [at.rows(a) for a in range(int(d.size.sum()))]
        pairs = list(zip(lay.pa, lay.pb, strict=True))
        out = np.empty((len(pairs) + len(turned),) * 2)
        out[: len(pairs), : len(pairs)] = pair_traces(AZT @ d.Z, rows, lay.pa, lay.pb)
        for i, DT in enumerate(turned, len(pairs)):
            inner = (AZT @ DT) @ d.Z  # A ZᵀT ∂R TZ
            for j, pair in enumerate(pairs):
                out[j, i] = out[i, j] = sum(np.trace(inner[rows[b], rows[a]]) for a, b in both(*pair))
            for j, other in enumerate(turned, len(pairs)):
                out[i, j] = np.vdot(DT, other.T)
        return 0.5 * out


def level_start(family: Family, r: np.ndarray) -> np.ndarray:
    """φ to start from: the variances of a family that has one for each level are those of the OLS residuals r there."""
    phi = family.start()
    if not (isinstance(family, ByLevel) and family.carries_variance):
        return phi
    natural = family.natural(variables(phi), family.n_phi)
    mean = np.bincount(family.codes, r**2, family.n_levels) / np.bincount(family.codes, minlength=family.n_levels)
    if sum(p.is_variance for p in natural) != family.n_levels or not (mean > 0).all():
        return phi
    own = iter(mean)
    values = [float(next(own)) if p.is_variance else 0.0 if p.power else float(p.value.v) for p in natural]
    return family.working(values)[1]


def check_memory(numbers: int, q: int) -> None:
    """ModelError where the expected information would hold more numbers than MEMORY allows."""
    gigabytes = numbers * 8 / 1e9
    if gigabytes > MEMORY:
        raise ModelError(
            f"the expected information of {q} random effects with a sparse precision would need {gigabytes:.0f} GB "
            f'(the limit is {MEMORY} GB). Use the average information: `method="ai"`, `cov_type="average"`.'
        )


def joins_of(
    classes: Classes, Z: csr_matrix, node: np.ndarray, effect: np.ndarray, rank: np.ndarray, target: Any, size: int
) -> csr_matrix:
    """S (size, flat): entry by entry of ZᵀR⁻¹Z the products of Z's entries within a unit, by the place in R's blocks.

    node, effect: of each column of Z; rank: a node's place in M's order; target(i, j, a, c): where the product of
    effect a of node i and c of node j is, rank[i] ≥ rank[j]. ModelError where units are too large for that.
    """
    Z = csr_matrix(Z)
    Z.eliminate_zeros()
    entries = np.diff(Z.indptr).astype(np.int64)
    each = entries[classes.row] * entries[classes.column]
    total = np.concatenate([[0], np.cumsum(each)])
    if total[-1] > PRODUCTS:
        raise ModelError(
            f"kernel `sparse` takes small units of residuals; those of `{classes.noise.spec}` join {total[-1]:,} pairs "
            f"of effects (limit {PRODUCTS:,}). Name smaller units in `group=`."
        )
    out = csr_matrix((size, len(classes.table)))
    lo = 0
    while lo < len(each):
        hi = max(int(np.searchsorted(total, total[lo] + CHUNK, side="right")) - 1, lo + 1)
        pair = np.repeat(np.arange(lo, hi), each[lo:hi])
        inner = np.arange(total[lo], total[hi]) - total[pair]
        width = entries[classes.column[pair]]
        e = Z.indptr[classes.row[pair]] + inner // width
        f = Z.indptr[classes.column[pair]] + inner % width
        i, j = node[Z.indices[e]], node[Z.indices[f]]
        low = rank[i] >= rank[j]
        e, f, pair = e[low], f[low], pair[low]
        at = target(i[low], j[low], effect[Z.indices[e]], effect[Z.indices[f]])
        out = out + csr_matrix((Z.data[e] * Z.data[f], (at, classes.take[pair])), shape=out.shape)
        lo = hi
    return out
