"""Families over the levels of a label, with a variance for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.jets import Jet, constant, exp, sqrt, stack, tanh
from vcbench.model.structures.family import ATANH_EDGE, EDGE, NO_EDGE, Family, Natural, atanh_of, log_of


@dataclass(frozen=True, slots=True, eq=False)
class ByLevel(Family):
    """The base of families over L levels, one a row: table (L, L), index by the codes of the rows."""

    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    levels: tuple[str, ...] = ()

    def index(self, rows: np.ndarray) -> np.ndarray:
        c = self.codes[rows]
        return c[:, None] * len(self.levels) + c[None, :]

    @property
    def n_levels(self) -> int:
        """L."""
        return len(self.levels)


@dataclass(frozen=True, slots=True, eq=False)
class Unstructured(ByLevel):
    """σ²C = any positive definite matrix over the levels; C = LLᵀ, L_11 = 1, log L_jj and L_ij/L_ii free, by column.

    φ does not change with the unit of a level, but for log L_jj by a constant.
    """

    @property
    def carries_variance(self) -> bool:
        return True

    def _entries(self) -> list[tuple[int, int]]:
        m = self.n_levels
        return [(i, j) for j in range(m) for i in range(j, m)]

    def _factor(self, phi: Sequence[Jet], k: int) -> Jet:
        m = self.n_levels
        v, d, dd = np.zeros((m, m)), np.zeros((k, m, m)), np.zeros((k, k, m, m))
        v[0, 0] = 1.0
        own = dict(zip(self._entries()[1:], phi, strict=True))
        for (i, j), f in own.items():
            e = exp(own[i, i]) * (1.0 if i == j else f)
            v[i, j], d[:, i, j], dd[:, :, i, j] = e.v, e.d, e.dd
        return Jet(v, d, dd)

    def _matrix(self, phi: Sequence[Jet], k: int) -> Jet:
        L = self._factor(phi, k)
        turn = lambda a: np.swapaxes(a, -1, -2)  # noqa: E731 - the transpose of each matrix of a stack
        d = L.d @ L.v.T
        cross = L.d[:, None] @ turn(L.d)[None, :]
        dd = L.dd @ L.v.T
        return Jet(L.v @ L.v.T, d + turn(d), dd + turn(dd) + cross + turn(cross))

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return self._matrix(phi, k).reshape(-1)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        C, names = self._matrix(phi, k), self.levels
        return [
            Natural(f"var({names[i]})" if i == j else f"cov({names[j]},{names[i]})", C[i, j], 1, i == j)
            for i, j in self._entries()
        ]

    def limits(self) -> np.ndarray:
        return np.full(self.n_phi, NO_EDGE)

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        S = np.zeros((m, m))
        for value, (i, j) in zip(natural, self._entries(), strict=True):
            S[i, j] = S[j, i] = value
        try:
            L = np.linalg.cholesky(S)
        except np.linalg.LinAlgError:
            raise ModelError(
                f"the unstructured covariance over {', '.join(self.levels)} is not positive definite: its smallest "
                f"eigenvalue is {np.linalg.eigvalsh(S)[0]:.3g}."
            ) from None
        L = L / L[0, 0]
        entries = self._entries()[1:]
        return float(S[0, 0]), np.array([np.log(L[i, j]) if i == j else L[i, j] / L[i, i] for i, j in entries])


@dataclass(frozen=True, slots=True, eq=False)
class FreeCorrelation(ByLevel):
    """One variance, every correlation free (nlme's corSymm): C = LLᵀ with rows of length 1.

    L_ij = z_ij √(1 − Σ_{k<j} L_ik²), z = tanh φ the canonical partial correlations: onto all correlation matrices
    (Lewandowski, Kurowicka & Joe 2009).
    """

    def _pairs(self) -> list[tuple[int, int]]:
        m = self.n_levels
        return [(i, j) for i in range(1, m) for j in range(i)]

    def _matrix(self, phi: Sequence[Jet], k: int) -> list[list[Any]]:
        m = self.n_levels
        z = {pair: tanh(f) for pair, f in zip(self._pairs(), phi, strict=True)}
        L: list[list[Any]] = [[constant(1.0, k)]]
        for i in range(1, m):
            row, left = [], constant(1.0, k)
            for j in range(i):
                row.append(z[i, j] * sqrt(left))
                left = left * (1.0 - z[i, j] * z[i, j])
            L.append([*row, sqrt(left)])
        C: list[list[Any]] = [[constant(1.0, k)] * m for _ in range(m)]
        for i, j in self._pairs():
            total: Any = 0.0
            for h in range(j + 1):
                total = total + L[i][h] * L[j][h]
            C[i][j] = C[j][i] = total
        return C

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return stack([c for row in self._matrix(phi, k) for c in row])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        C, names, m = self._matrix(phi, k), self.levels, self.n_levels
        return [Natural(f"cor({names[j]},{names[i]})", C[i][j]) for j in range(m) for i in range(j + 1, m)]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        C = np.eye(m)
        by_column = [(i, j) for j in range(m) for i in range(j + 1, m)]
        for value, (a, b) in zip(natural, by_column, strict=True):
            C[a, b] = C[b, a] = value
        try:
            L = np.linalg.cholesky(C + EDGE * np.eye(m))
        except np.linalg.LinAlgError:
            raise ModelError(
                f"the correlations over {', '.join(self.levels)} are not those of a positive definite matrix: its "
                f"smallest eigenvalue is {np.linalg.eigvalsh(C)[0]:.3g}."
            ) from None
        phi = []
        for i, j in self._pairs():
            left = np.sqrt(max(1.0 - (L[i, :j] ** 2).sum(), EDGE))
            phi.append(atanh_of(float(np.clip(L[i, j] / left, -1.0, 1.0)), f"cor({self.levels[j]},{self.levels[i]})"))
        return 1.0, np.array(phi)


@dataclass(frozen=True, slots=True, eq=False)
class AnteDependence(ByLevel):
    """C_ij = d_i d_j Π_{i≤k<j} ρ_k: heterogeneous variances, first-order dependence that changes with time."""

    @property
    def carries_variance(self) -> bool:
        return True

    def _parts(self, phi: Sequence[Jet], k: int) -> tuple[list[Jet], list[Jet]]:
        m = self.n_levels
        return [constant(1.0, k), *(exp(f) for f in phi[: m - 1])], [tanh(f) for f in phi[m - 1 :]]

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        sd, rho = self._parts(phi, k)
        m = self.n_levels
        C: list[list[Any]] = [[None] * m for _ in range(m)]
        for i in range(m):
            run: Any = constant(1.0, k)
            C[i][i] = sd[i] * sd[i]
            for j in range(i + 1, m):
                run = run * rho[j - 1]
                C[i][j] = C[j][i] = sd[i] * sd[j] * run
        return stack([c for row in C for c in row])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        sd, rho = self._parts(phi, k)
        first = [Natural(f"var({a})", s * s, 1, True) for a, s in zip(self.levels, sd, strict=True)]
        return first + [Natural(f"rho{j + 1}", r) for j, r in enumerate(rho)]

    def limits(self) -> np.ndarray:
        m = self.n_levels
        return np.append(np.full(m - 1, NO_EDGE), np.full(m - 1, ATANH_EDGE))

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        ratios = log_ratios(natural[:m], self.levels)
        return float(natural[0]), np.append(ratios, [atanh_of(r, f"rho{j + 1}") for j, r in enumerate(natural[m:])])

    def start(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), np.full(self.n_levels - 1, 0.2))


@dataclass(frozen=True, slots=True, eq=False)
class Patterned(ByLevel):
    """D C D with correlations free where `mask` is 1 and 0 elsewhere, for patterns that are not blocks; by Cholesky."""

    mask: tuple[tuple[int, ...], ...] = ()

    @property
    def carries_variance(self) -> bool:
        return True

    def _free(self) -> list[tuple[int, int]]:
        m = self.n_levels
        return [(i, j) for j in range(m) for i in range(j + 1, m) if self.mask[i][j]]

    def _matrix(self, phi: Sequence[Jet], k: int) -> dict[tuple[int, int], Jet]:
        m = self.n_levels
        sd = [constant(1.0, k), *(exp(f) for f in phi[: m - 1])]
        C = {(i, i): sd[i] * sd[i] for i in range(m)}
        for f, (i, j) in zip(phi[m - 1 :], self._free(), strict=True):
            C[i, j] = C[j, i] = sd[i] * sd[j] * tanh(f)
        return C

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        C, m = self._matrix(phi, k), self.n_levels
        return stack([C.get((i, j), constant(0.0, k)) for i in range(m) for j in range(m)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        C, names = self._matrix(phi, k), self.levels
        return [
            Natural(f"var({names[i]})" if i == j else f"cov({names[j]},{names[i]})", C[i, j], 1, i == j)
            for j in range(self.n_levels)
            for i in range(j, self.n_levels)
            if (i, j) in C
        ]

    def limits(self) -> np.ndarray:
        m = self.n_levels
        return np.append(np.full(m - 1, NO_EDGE), np.full(len(self._free()), ATANH_EDGE))

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        where = [(i, j) for j in range(m) for i in range(j, m) if i == j or self.mask[i][j]]
        S = dict(zip(where, natural, strict=True))
        ratios = log_ratios([S[i, i] for i in range(m)], self.levels)
        free = [
            atanh_of(S[i, j] / np.sqrt(S[i, i] * S[j, j]), f"cor({self.levels[j]},{self.levels[i]})")
            for i, j in self._free()
        ]
        return float(S[0, 0]), np.append(ratios, free)


def log_ratios(variances: Sequence[float], levels: Sequence[str]) -> np.ndarray:
    """½ log(σ_j²/σ_1²), j ≥ 2."""
    logs = np.array([log_of(v, f"var({a})") for v, a in zip(variances, levels, strict=True)])
    return 0.5 * (logs[1:] - logs[0])
