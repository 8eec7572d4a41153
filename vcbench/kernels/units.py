"""Kernel for residual structures: V block diagonal over the units that random effects and residuals join.

Rows are joined where they share a level of a grouping factor or a unit of the residual; a relationship matrix joins
all. Each block is a dense matrix, factorised once for each class of blocks that are alike: O(Σ m_c³ p) an evaluation,
m_c the size of a block of class c; one block of n rows where everything is joined.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.protocol import Basis
from vcbench.model.jets import concatenate, constant, variables
from vcbench.model.model import Model
from vcbench.model.noise import Noise

MEMORY = 12  # GB that the matrices of all classes may take


@dataclass(frozen=True, slots=True, eq=False)
class UnitAnswer:
    """What `evaluate_units` returns, by name; `G` one (m, m) array a class."""

    ok: bool
    loglik: float
    gamma: np.ndarray
    QtVinvQ: np.ndarray
    score_gamma: np.ndarray
    score: np.ndarray
    expected: np.ndarray
    average: np.ndarray
    curvature: np.ndarray
    G: np.ndarray
    g: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The blocks of a model with a structured residual, in coordinates τ = (pairs and nugget, φ, σ²).

    `order` puts rows of a block, and blocks of a class, side by side; X and y are in that order.
    """

    model: Model  # the relaxed model: every Ω free
    noise: Noise = field(repr=False)
    basis: Basis = field(repr=False)
    order: np.ndarray = field(repr=False)
    row_ptr: np.ndarray = field(repr=False)
    class_ptr: np.ndarray = field(repr=False)
    mat_ptr: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)
    index: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    beta0: np.ndarray = field(repr=False)
    sd: float
    layout: Layout

    @classmethod
    def build(cls, model: Model, noise: Noise, whole: bool = False) -> "Units":
        """Blocks, classes and their matrices. `model` is relaxed; `noise` is the true residual; `whole`: one block.

        Raises ModelError where the matrices would not fit in memory.
        """
        assert model.X is not None
        label = np.zeros(model.n_obs, np.int64) if whole else _joined(model, noise)
        order = np.argsort(label, kind="stable")
        sizes = np.bincount(label)
        n_lin = sum(len(c.index) for c in model.components) + int(noise.has_nugget)
        gigabytes = (n_lin + 6 + 2 * noise.family.n_phi) * float(max(sizes)) ** 2 * 8 / 1e9
        if gigabytes > MEMORY:
            raise ModelError(
                f"residual structure `{noise.spec}` joins {max(sizes)} rows into one block, whose matrices need "
                f"{gigabytes:.0f} GB (limit {MEMORY}). Name smaller units in `group=`."
            )
        maker = _Maker(model, noise)
        blocks = np.split(order, np.cumsum(sizes)[:-1])
        classes: dict[bytes, list[int]] = {}
        made: list[tuple[np.ndarray, np.ndarray]] = []
        for i, rows in enumerate(blocks):
            parts, index = maker.block(rows)
            key = parts.tobytes() + index.tobytes()
            if key not in classes:
                classes[key] = []
                made.append((parts, index))
            classes[key].append(i)
        sequence = [i for members in classes.values() for i in members]
        order = np.concatenate([blocks[i] for i in sequence])
        counts = [len(members) for members in classes.values()]
        basis = Basis.of(model.X)
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(basis, y)
        units = cls(
            model,
            noise,
            basis,
            order,
            np.concatenate([[0], np.cumsum([len(blocks[i]) for i in sequence])]),
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([[0], np.cumsum([len(index) for _, index in made])]),
            np.ascontiguousarray(np.concatenate([parts for parts, _ in made], axis=1)),
            np.concatenate([index for _, index in made]),
            np.ascontiguousarray(basis.Q[order]),
            np.zeros(len(order)),
            np.zeros(model.n_fixed),
            1.0,
            Layout.of(model, maker.sizes(), sd),
        )
        return units._with(y, sd)

    def _with(self, y: np.ndarray, sd: float) -> "Units":
        return replace(
            self,
            y=np.ascontiguousarray(self.basis.residual(y)[self.order]),
            beta0=self.basis.ols(y),
            sd=sd,
            layout=self.layout if self.sd == 1.0 else self.layout.with_scale(sd / self.sd),
        )

    def bind(self, y: np.ndarray) -> "Units":
        """The same design with another response."""
        model = self.model.replace(y=y)
        y = model.y if model.offset is None else model.y - model.offset
        return replace(self._with(y, _residual_sd(self.basis, y)), model=model)

    @property
    def n_blocks(self) -> int:
        """Number of independent blocks."""
        return len(self.row_ptr) - 1

    @property
    def n_classes(self) -> int:
        """Number of different blocks."""
        return len(self.class_ptr) - 1

    @property
    def largest(self) -> int:
        """Rows of the largest block."""
        return int(np.diff(self.row_ptr).max())

    def evaluate(self, tau: np.ndarray, want: int, reml: bool, gamma: np.ndarray | None) -> UnitAnswer:
        """The answers at τ; `want` as in `block_core`; β profiled, or `gamma` given."""
        from vcbench.kernels.units_core import evaluate_units

        k = self.noise.family.n_phi
        n_lin = len(tau) - k - 1
        phi = variables(tau[n_lin : n_lin + k])
        table = concatenate([self.noise.family.table(phi, k), constant([0.0], k)])  # the last for rows of other units
        out = evaluate_units(
            self.row_ptr,
            self.class_ptr,
            self.mat_ptr,
            self.parts,
            self.index,
            self.X,
            self.y,
            np.ascontiguousarray(tau[:n_lin]),
            float(tau[-1]),
            np.ascontiguousarray(table.v),
            np.ascontiguousarray(table.d),
            np.ascontiguousarray(table.dd),
            np.zeros(self.X.shape[1]) if gamma is None else np.asarray(gamma, float),
            gamma is None,
            reml,
            want,
        )
        return UnitAnswer(*out)

    def matrices(self, flat: np.ndarray) -> list[np.ndarray]:
        """A flat array of all classes as one (m, m) array a class."""
        out = []
        for c in range(self.n_classes):
            m = int(self.row_ptr[self.class_ptr[c] + 1] - self.row_ptr[self.class_ptr[c]])
            out.append(flat[self.mat_ptr[c] : self.mat_ptr[c + 1]].reshape(m, m))
        return out

    def blup(self, g: np.ndarray, Omegas: list[np.ndarray]) -> list[np.ndarray]:
        """û = G Zᵀ g of each component, g = V⁻¹(y − Xβ) in the blocks' order."""
        own = np.empty(len(g))
        own[self.order] = g
        out = []
        for c, Omega in zip(self.model.components, Omegas, strict=True):
            if c.is_grouped:
                w = np.zeros((len(c.levels), c.n_effects))
                np.add.at(w, np.asarray(c.codes), np.asarray(c.Z) * own[:, None])
            else:
                w = np.column_stack([F.T @ own for F in c.factors()])
            out.append(c.effects_of(w @ Omega))
        return out


def _joined(model: Model, noise: Noise) -> np.ndarray:
    """(n,) label of the block of each row: connected components of shared levels and units."""
    n = model.n_obs
    if any(not c.is_grouped for c in model.components):
        return np.zeros(n, np.int64)
    rows, columns, at = [np.arange(n)], [noise.units], int(noise.units.max()) + 1
    for c in model.components:
        rows.append(np.arange(n))
        columns.append(np.asarray(c.codes) + at)
        at += len(c.levels)
    edges = coo_matrix((np.ones(n * len(rows)), (np.concatenate(rows), n + np.concatenate(columns))), (n + at, n + at))
    return np.unique(connected_components(edges, directed=False)[1][:n], return_inverse=True)[1].ravel()


class _Maker:
    """Matrices of a block: ∂V/∂τ of every pair, and where each entry of C sits in the family's table."""

    def __init__(self, model: Model, noise: Noise) -> None:
        self.model, self.noise = model, noise
        self.factors = [None if c.is_grouped else c.factors() for c in model.components]
        self.size = noise.family.size

    def block(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(parts (n_lin, m²), index (m²,))."""
        m = len(rows)
        parts = []
        for c, factors in zip(self.model.components, self.factors, strict=True):
            if c.is_grouped:
                Z = np.asarray(c.Z)[rows]
                same = np.equal.outer(np.asarray(c.codes)[rows], np.asarray(c.codes)[rows])
                halves = [(Z[:, a], Z[:, b]) for a, b in c.index]
                found = [np.outer(u, v) * same for u, v in halves]
            else:
                assert factors is not None
                found = [factors[a][rows] @ factors[b][rows].T for a, b in c.index]
            parts += [P if a == b else P + P.T for P, (a, b) in zip(found, c.index, strict=True)]
        if self.noise.has_nugget:
            parts.append(np.eye(m))
        flat = np.array([P.ravel() for P in parts]) if parts else np.zeros((0, m * m))
        return flat, self._index(rows).ravel()

    def _index(self, rows: np.ndarray) -> np.ndarray:
        """The table's entry for each pair of rows; the last entry, 0, for rows of different units."""
        units = self.noise.units[rows]
        out = self.noise.family.index(rows)
        if not (units == units[0]).all():
            out = np.where(np.equal.outer(units, units), out, self.size)
        return out

    def sizes(self) -> list[np.ndarray]:
        """Per component, the mean over rows of each effect's squared row norm."""
        out: list[Any] = []
        for c, factors in zip(self.model.components, self.factors, strict=True):
            columns = list(np.asarray(c.Z).T) if c.is_grouped else factors
            assert columns is not None
            out.append(np.array([(np.asarray(F) ** 2).sum() / self.model.n_obs for F in columns]))
        return out
