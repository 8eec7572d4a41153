"""Several grouping factors reduced to sums over levels: what `crossed` needs of a design, formed once.

Effects u are stacked factor by factor, level by level, effect by effect: (q,). The *leading* factor, the one with most
effects, comes first; the others are *dense*: their q1 columns fill a matrix. ZᵀZ is held as the blocks of each level
with itself, and as crosses: the leading factor with all others, each dense factor with the dense ones before it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.kernels.crossed_core import down, meet, sort_rows, sum_levels, up
from vcbench.model.model import Model

MEMORY = 12  # GB that the dense part and its copies may take
COPIES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A grouping factor with the effects of every component that belongs to it: rows A (n, r), codes (n,).

    Its q = N·r effects begin at `at` among all; `effects` (r,) are those of a level in the order of the components.
    """

    codes: np.ndarray = field(repr=False)
    A: np.ndarray = field(repr=False)
    n_levels: int
    effects: np.ndarray
    at: int = 0
    block: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)  # where its effects meet in Ω (R, R)

    r: int = field(init=False)
    q: int = field(init=False)

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 - frozen: set once, here
        put("block", np.ix_(self.effects, self.effects))
        put("r", self.A.shape[1])
        put("q", self.n_levels * self.r)

    def part(self, C: np.ndarray, skip: int = 0) -> np.ndarray:
        """Its rows of C (q, m), as (N, r, m); a view. `skip`: the leading rows that C lacks."""
        at = self.at - skip
        return C[at : at + self.q].reshape(self.n_levels, self.r, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Cross:
    """Z_rᵀZ_c of one factor with dense ones, without its zeros; see `crossed_core`."""

    row: Factor
    ptr: np.ndarray
    idx: np.ndarray
    val: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """The row's level of each entry."""
        return np.repeat(np.arange(self.row.n_levels), np.diff(self.ptr))


@dataclass(frozen=True, eq=False)
class CrossedDesign:
    """Factors, leading first; own blocks (N, r, r) of each; crosses, the leading factor's first; ZᵀQ (q, d).

    For each dense column `base` is the first column of its level and `effect` the effect it belongs to.
    """

    n_obs: int
    factors: tuple[Factor, ...]
    own: tuple[np.ndarray, ...] = field(repr=False)
    crosses: tuple[Cross, ...] = field(repr=False)
    base: np.ndarray = field(repr=False)
    effect: np.ndarray = field(repr=False)
    ZX: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, model: Model, Q: np.ndarray) -> "CrossedDesign":
        """Reduce a model of grouped components; Q (n, d) is the basis of X.

        Raises ModelError for a single factor, and where the dense part would not fit into memory.
        """
        factors = _factors(model)
        if len(factors) == 1:
            raise ModelError('kernel `crossed` needs more than one grouping factor. Use `kernel="grouped"`.')
        q1 = sum(f.q for f in factors[1:])
        gigabytes = COPIES * q1**2 * 8 / 1e9
        if gigabytes > MEMORY:
            raise ModelError(
                f"kernel `crossed` would need {gigabytes:.0f} GB for the {q1} effects outside the largest grouping "
                f"factor (its limit is {MEMORY} GB). Leave a large grouping factor out, or group it more coarsely."
            )
        own = tuple(sum_levels(f.codes, f.n_levels, f.A, f.A) for f in factors)
        crosses = []
        for k, f in enumerate(factors):
            others = factors[1:] if k == 0 else factors[1:k]
            if not others:
                continue
            start, order = sort_rows(f.codes, f.n_levels)
            first = np.array([g.at - factors[0].q for g in others])
            width = np.array([g.r for g in others])
            B = others[0].A if len(others) == 1 else np.hstack([g.A for g in others])
            codes = np.stack([g.codes for g in others])
            crosses.append(Cross(f, *meet(start, order, f.A, codes, B, width, first, q1)))
        base = np.concatenate([np.repeat(np.arange(g.n_levels) * g.r + g.at, g.r) for g in factors[1:]])
        effect = np.concatenate([np.tile(g.effects, g.n_levels) for g in factors[1:]])
        at_rows = cls(model.n_obs, factors, own, tuple(crosses), base - factors[0].q, effect, np.zeros((0, 0)))
        object.__setattr__(at_rows, "ZX", at_rows.reduce(Q))
        return at_rows

    def reduce(self, C: np.ndarray) -> np.ndarray:
        """ZᵀC (q, m) of C (n, m)."""
        return np.concatenate([sum_levels(f.codes, f.n_levels, f.A, C).reshape(f.q, -1) for f in self.factors])

    @property
    def lead(self) -> Factor:
        """The factor that is eliminated level by level."""
        return self.factors[0]

    @property
    def dense(self) -> tuple[Factor, ...]:
        """The other factors."""
        return self.factors[1:]

    @cached_property
    def q(self) -> int:
        """Effects of all factors."""
        return sum(f.q for f in self.factors)

    @property
    def q1(self) -> int:
        """Effects of the dense factors: the size of the Schur complement."""
        return self.q - self.lead.q

    @cached_property
    def n_effects(self) -> int:
        """R: effects of all components."""
        return sum(f.r for f in self.factors)

    @cached_property
    def work(self) -> int:
        """Multiplications of one log-likelihood: Cholesky factor of the dense part, scatter-add into it."""
        cross = self.crosses[0]
        return self.q1**3 // 3 + int((np.diff(cross.ptr) ** 2).sum()) * self.lead.r**2

    @cached_property
    def exact_work(self) -> int:
        """Multiplications of one exact expected information: a solution for each of q right-hand sides."""
        nnz = sum(len(c.idx) * c.row.r for c in self.crosses)
        return 2 * self.q * (self.q1**2 + 2 * nnz)

    def explain(self, names: list[str]) -> list[str]:
        """Sizes and the cost of an iteration, in words; `names` is the component of each effect."""
        said = lambda f: f"{' + '.join(dict.fromkeys(names[e] for e in f.effects))} ({f.q:,} effects)"  # noqa: E731
        return [
            f"{said(self.lead)} is eliminated level by level; {', '.join(map(said, self.dense))} make the Schur "
            f"complement, {self.q1:,} × {self.q1:,}, {8 * self.q1**2 / 1e6:,.1f} MB.",
            f"one iteration: ≈ {self.work:,} multiplications for the log-likelihood, three times that with its "
            f"derivatives, whatever n is.",
        ]

    def times(self, U: np.ndarray) -> np.ndarray:
        """ZᵀZ U (q, m)."""
        out = np.empty_like(U)
        for f, own in zip(self.factors, self.own, strict=True):
            f.part(out)[:] = blockwise(own, f.part(U))
        q0 = self.lead.q
        for c in self.crosses:
            up(c.ptr, c.idx, c.val, U[q0:], c.row.part(out))
            down(c.ptr, c.idx, c.val, c.row.part(U), out[q0:])
        return out

    @cached_property
    def matrix(self) -> Any:
        """ZᵀZ (q, q), sparse by columns."""
        from scipy.sparse import coo_array

        rows, columns, values = [], [], []
        for f, own in zip(self.factors, self.own, strict=True):
            at = f.at + np.arange(f.q).reshape(f.n_levels, f.r)
            rows.append(np.broadcast_to(at[:, :, None], own.shape).ravel())
            columns.append(np.broadcast_to(at[:, None, :], own.shape).ravel())
            values.append(own.ravel())
        for c in self.crosses:
            row = (c.row.at + c.level[:, None] * c.row.r + np.arange(c.row.r)).ravel()
            column = np.repeat(c.idx + self.lead.q, c.row.r)
            rows += [row, column]
            columns += [column, row]
            values += [c.val.ravel()] * 2
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return coo_array(entries, shape=(self.q, self.q)).tocsc()


def blockwise(M: np.ndarray, x: np.ndarray) -> np.ndarray:
    """M_l x_l of blocks M (N, r, r) and x (N, r, m)."""
    return M * x if M.shape[1] == 1 else M @ x


def _factors(model: Model) -> tuple[Factor, ...]:
    """The distinct grouping factors of a model, the one with most effects first."""
    found: list[tuple[np.ndarray, list[np.ndarray], list[int]]] = []
    effect = 0
    for c in model.components:
        codes, Z = np.asarray(c.codes, np.int64), np.asarray(c.Z, float)
        mine = list(range(effect, effect + c.n_effects))
        effect += c.n_effects
        for known, parts, effects in found:
            if known is codes or (known[-1] == codes[-1] and np.array_equal(known, codes)):
                parts.append(Z)
                effects += mine
                break
        else:
            found.append((codes, [Z], mine))
    factors = [
        Factor(codes, parts[0] if len(parts) == 1 else np.hstack(parts), int(codes.max()) + 1, np.array(effects))
        for codes, parts, effects in found
    ]
    lead = max(range(len(factors)), key=lambda k: factors[k].q)
    factors.insert(0, factors.pop(lead))
    at, placed = 0, []
    for f in factors:
        placed.append(Factor(f.codes, f.A, f.n_levels, f.effects, at))
        at += f.q
    return tuple(placed)
