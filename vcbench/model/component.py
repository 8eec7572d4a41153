"""A random component: what multiplies its effects, and what covariance they have."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vcbench.errors import DataError, ModelError
from vcbench.model.covariance import Block, Covariance, pairs, parameter_names, scalar, un

ASYMMETRY = 1e-6  # of max|K|: more than this is no relationship matrix
NEGATIVE = 1e-4  # of λ_max: an eigenvalue below −NEGATIVE·λ_max is an error, a smaller negative one is clipped
ROUNDING = 1e-10  # of λ_max: an eigenvalue below is 0 up to the rounding of K itself
ROUNDING = 1e-12  # of λ_max: a negative eigenvalue above −ROUNDING·λ_max is a 0, not one that was clipped
RANK = 1e-6  # of λ_max: eigenvalues above count towards the rank (the EM divisor q)


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One random term Z_k u_k of y = Xβ + Σ_k Z_k u_k + e.

    | given | meaning |
    | --- | --- |
    | `Z` (n, r) and `group` (n,) | rows A_i of each level; b_i ~ N(0, Ω) independently per level, Ω (r, r) by `cov`
    (default `un()`) |
    | `Z` (n, q) | u ~ N(0, σ² I_q), V_k = σ² Z Zᵀ; with `cov=diag()` or `un()` Ω is (q, q) over the columns |
    | `K` (n, n) | a known relationship matrix: V_k = σ² K |
    | `Z` (n, m) and `K` (m, m) | V_k = σ² Z K Zᵀ, Z an incidence matrix |

    `q` overrides the EM divisor (MATH: columns of Z, levels of a group, rank of K). `columns` names the effects.
    Raises ModelError or DataError naming the component for shapes that disagree, values that are not finite, a level or
    column without observations, and a K that is not symmetric positive semi-definite.
    """

    Z: np.ndarray | None = None
    name: str = ""
    cov: Covariance | None = None
    group: object = None
    K: np.ndarray | None = None
    columns: Sequence[str] | None = None
    q: int | None = None
    codes: np.ndarray | None = field(init=False, default=None)
    levels: tuple[str, ...] = field(init=False, default=())
    effects: tuple[str, ...] = field(init=False, default=())
    partition: tuple[Block, ...] = field(init=False, default=())
    K_values: np.ndarray | None = field(init=False, default=None)
    K_vectors: np.ndarray | None = field(init=False, default=None)
    n_clipped: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 - frozen: set once, here
        if not self.name:
            raise ModelError("a component has no name. Pass `name=`.")
        if self.Z is None and self.K is None:
            raise ModelError(f"component `{self.name}` has neither Z nor K. Give one of them.")
        if self.Z is not None:
            Z = np.asarray(self.Z.toarray() if hasattr(self.Z, "toarray") else self.Z, float)
            Z = np.ascontiguousarray(Z[:, None] if Z.ndim == 1 else Z)
            if Z.ndim != 2 or Z.size == 0:
                raise ModelError(f"`Z` of component `{self.name}` has shape {Z.shape}; it must be (n, q).")
            if not np.isfinite(Z).all():
                bad = np.argwhere(~np.isfinite(Z))[0]
                raise DataError(f"`Z` of component `{self.name}` is {Z[tuple(bad)]} in row {bad[0]}, column {bad[1]}.")
            put("Z", Z)
        if self.group is not None:
            self._take_groups(put)
        elif self.K is not None:
            self._take_relationship(put)
        else:
            self._take_columns(put)
        if self.q is not None and self.q < 1:
            raise ModelError(f"`q` of component `{self.name}` is {self.q}; it must be at least 1.")

    def _take_groups(self, put) -> None:
        if self.Z is None or self.K is not None:
            raise ModelError(f"component `{self.name}`: `group` goes with `Z` (n, r), and not with `K`.")
        codes, levels = factorize(self.group, self.name)
        if len(codes) != len(self.Z):
            raise ModelError(
                f"component `{self.name}`: `group` has {len(codes)} values but `Z` has {len(self.Z)} rows."
            )
        r = self.Z.shape[1]
        absent = np.flatnonzero(~self.Z.any(axis=0))
        if len(absent):
            effect = self._names(r, [f"z{a + 1}" for a in range(r)])[absent[0]]
            raise DataError(
                f"effect `{effect}` of component `{self.name}` is zero in every row: these data say nothing of its "
                "variance. Leave it out."
            )
        put("codes", codes)
        put("levels", levels)
        put("effects", self._names(r, ["(Intercept)"] if r == 1 else [f"z{a + 1}" for a in range(r)]))
        put("cov", self.cov or (scalar() if r == 1 else un()))
        put("partition", self.cov.sized(r))  # type: ignore[union-attr]

    def _take_columns(self, put) -> None:
        assert self.Z is not None
        empty = np.flatnonzero(~self.Z.any(axis=0))
        if len(empty):
            raise DataError(
                f"column {empty[0]} of `Z` of component `{self.name}` is all zero: a level without observations "
                f"({len(empty)} such). Leave it out."
            )
        put("cov", self.cov or scalar())
        q = self.Z.shape[1]
        if self.is_plain:
            put("effects", (self.name,))
            put("partition", ((0,),))
        else:
            put("effects", self._names(q, [f"z{a + 1}" for a in range(q)]))
            put("partition", self.cov.sized(q))  # type: ignore[union-attr]

    def _take_relationship(self, put) -> None:
        K = np.asarray(self.K, float)
        if K.ndim != 2 or K.shape[0] != K.shape[1]:
            raise ModelError(f"`K` of component `{self.name}` has shape {K.shape}; it must be square.")
        if self.Z is not None and self.Z.shape[1] != len(K):
            raise ModelError(f"component `{self.name}`: Z has {self.Z.shape[1]} columns but K is {K.shape}.")
        if self.cov is not None and self.cov.kind != "scalar":
            raise ModelError(
                f"component `{self.name}`: a known K takes one variance (`scalar()`), not `{self.cov.kind}`."
            )
        if not np.isfinite(K).all():
            bad = np.argwhere(~np.isfinite(K))[0]
            raise DataError(f"`K` of component `{self.name}` is {K[tuple(bad)]} at [{bad[0]}, {bad[1]}].")
        asymmetry, size = float(np.abs(K - K.T).max()), float(np.abs(K).max())
        if asymmetry > ASYMMETRY * size:
            i, j = np.unravel_index(np.abs(K - K.T).argmax(), K.shape)
            raise ModelError(
                f"`K` of component `{self.name}` is not symmetric: K[{i}, {j}] = {K[i, j]:g} but K[{j}, {i}] = "
                f"{K[j, i]:g}. "
                "Pass (K + K.T) / 2 if that is what you mean."
            )
        K = (K + K.T) / 2
        values, vectors = np.linalg.eigh(K)
        if values[-1] <= 0 or values[0] < -NEGATIVE * values[-1]:
            raise ModelError(
                f"`K` of component `{self.name}` is not positive semi-definite: its eigenvalues run from "
                f"{values[0]:.6g} to "
                f"{values[-1]:.6g}. A relationship matrix has none below 0; check how it was made."
            )
        put("n_clipped", int((values < -ROUNDING * values[-1]).sum()))
        put("K", K)
        put("K_values", np.where(values > ROUNDING * values[-1], values, 0.0))
        put("K_vectors", vectors)
        put("cov", scalar())
        put("effects", (self.name,))
        put("partition", ((0,),))

    def _names(self, r: int, default: list[str]) -> tuple[str, ...]:
        if self.columns is None:
            return tuple(default)
        if len(self.columns) != r:
            raise ModelError(f"component `{self.name}` has {r} effects but {len(self.columns)} names in `columns`.")
        return tuple(str(c) for c in self.columns)

    @property
    def is_grouped(self) -> bool:
        """True for rows A_i of levels of a grouping factor."""
        return self.codes is not None

    @property
    def is_plain(self) -> bool:
        """True where Ω is one variance that multiplies Z Zᵀ or K."""
        return not self.is_grouped and (self.K is not None or self.cov is None or self.cov.kind == "scalar")

    @property
    def n_obs(self) -> int:
        """Rows of the data that this component covers."""
        return len(self.Z) if self.Z is not None else len(self.K)  # type: ignore[arg-type]

    @property
    def n_effects(self) -> int:
        """r: the size of Ω."""
        return len(self.effects)

    @property
    def n_levels(self) -> int:
        """q_k, the EM divisor: levels of the group, columns of Z, rank of K (Z K Zᵀ: rank of K), or `q`."""
        if self.q is not None:
            return self.q
        if self.is_grouped:
            return len(self.levels)
        if self.K_values is not None:
            return int((self.K_values > RANK * self.K_values[-1]).sum())
        return self.Z.shape[1] if self.is_plain else 1  # type: ignore[union-attr]

    @property
    def index(self) -> list[tuple[int, int]]:
        """(row, column) in Ω of each parameter."""
        return pairs(self.partition)

    @property
    def theta_names(self) -> list[str]:
        """Names of the parameters of Ω, natural units."""
        return parameter_names(self.name, self.effects, self.partition, self.is_plain)

    def factors(self) -> list[np.ndarray]:
        """Z^(a) (n, N) for each effect a: V_k = Σ_ab Ω_ab Z^(a) Z^(b)ᵀ. Dense; what the oracle computes with."""
        if self.is_grouped:
            assert self.codes is not None
            assert self.Z is not None
            incidence = np.zeros((len(self.codes), len(self.levels)))
            incidence[np.arange(len(self.codes)), self.codes] = 1.0
            return [incidence * self.Z[:, [a]] for a in range(self.n_effects)]
        if self.K is not None:
            assert self.K_values is not None
            assert self.K_vectors is not None
            keep = self.K_values > 0
            L = self.K_vectors[:, keep] * np.sqrt(self.K_values[keep])
            return [L if self.Z is None else self.Z @ L]
        assert self.Z is not None
        return [self.Z] if self.is_plain else [self.Z[:, [a]] for a in range(self.n_effects)]


def factorize(labels, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and level labels of a grouping factor; a Categorical keeps its order, other labels are sorted.

    Raises DataError for a missing label and for a level without observations.
    """
    import pandas as pd

    if isinstance(getattr(labels, "dtype", None), pd.CategoricalDtype):
        cat = labels.array if isinstance(labels, pd.Series) else labels
        codes, values = np.asarray(cat.codes, np.int64), [str(v) for v in cat.categories]
        empty = sorted(set(range(len(values))) - set(codes.tolist()))
        if empty:
            raise DataError(
                f"grouping factor `{name}`: level `{values[empty[0]]}` is an empty group ({len(empty)} such). "
                "Drop unused levels (`cat.remove_unused_categories()`)."
            )
    else:
        codes, uniques = pd.factorize(np.asarray(labels), sort=True)
        codes, values = np.asarray(codes, np.int64), [str(v) for v in uniques]
    if (codes < 0).any():
        raise DataError(f"grouping factor `{name}` is missing in row {int(np.flatnonzero(codes < 0)[0])}.")
    return codes, tuple(values)
