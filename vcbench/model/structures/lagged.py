"""Families in which a correlation depends on the lag or the distance between two rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.jets import Jet, concatenate, constant, exp, log1p, logistic, stack, tanh
from vcbench.model.structures.family import (
    ATANH_EDGE,
    EDGE,
    LOGIT_EDGE,
    ROUNDING,
    Family,
    Natural,
    atanh_of,
    distances,
    log_of,
    logit_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Lagged(Family):
    """The base of families in which C_ij depends on a lag |t_i − t_j|: `lags` (L,) distinct lags, `t` (n,) times.

    Whole-number times are lags themselves; others are looked up among the distinct gaps.
    """

    t: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lags: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def index(self, rows: np.ndarray) -> np.ndarray:
        t = self.t[rows]
        gap = np.abs(t[:, None] - t[None, :])
        if self.whole:
            return np.rint(gap).astype(np.int64)
        return np.minimum(np.searchsorted(self.lags, gap - 1e-9 * (1.0 + gap)), len(self.lags) - 1)

    @property
    def whole(self) -> bool:
        """True where times are whole numbers, and position in `lags` is the lag."""
        return bool((self.lags == np.arange(len(self.lags))).all())

    @property
    def unit(self) -> float:
        """The shortest lag, no less than the middle one by 1e4; 1 where times are whole numbers."""
        lags = self.lags[self.lags > 0]
        return 1.0 if self.whole or not len(lags) else float(max(lags.min(), np.median(lags) / 1e4))


@dataclass(frozen=True, slots=True, eq=False)
class Ar1(Lagged):
    """C_ij = ρ^|t_i − t_j|. Where times are not whole numbers ρ > 0 and φ = logit ρ^`unit`: ρ is that of one unit of
    time, which puts it next to 0 in years and next to 1 in seconds."""

    n_phi: int = 1

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return tanh(phi[0]) ** self.lags if self.whole else logistic(phi[0]) ** (self.lags / self.unit)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural("rho", tanh(phi[0]) if self.whole else logistic(phi[0]) ** (1.0 / self.unit))]

    def limits(self) -> np.ndarray:
        return np.array([ATANH_EDGE if self.whole else LOGIT_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        rho = natural[0]
        if self.whole:
            return 1.0, np.array([atanh_of(rho, "rho")])
        return 1.0, np.array([logit_of(rho**self.unit if rho > 0 else rho, "rho", rho, "(0, 1)")])

    def start(self) -> np.ndarray:
        if self.whole:
            return np.array([0.2])
        middle = np.median(self.lags[self.lags > 0])
        return self.working([0.2 ** (1.0 / middle)])[1]

    def neutral(self) -> np.ndarray:
        return np.array([0.0]) if self.whole else self.working([1e-3 ** (1.0 / self.lags[self.lags > 0].min())])[1]


@dataclass(frozen=True, slots=True, eq=False)
class Decay(Lagged):
    """C_ij = exp(−(d_ij/range)^power), power 1 (exponential) or 2 (Gaussian); d Euclidean over `points` (n, c).

    φ = logit c, c = exp(−(`unit`/range)^power) the correlation at the shortest distance: that of independence lies at
    the limit of φ.
    """

    n_phi: int = 1
    power: int = 1
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))

    def index(self, rows: np.ndarray) -> np.ndarray:
        gap = distances(self.points[rows])
        return np.minimum(np.searchsorted(self.lags, gap - 1e-9 * (1.0 + gap)), len(self.lags) - 1)

    def _rate(self, phi: Jet) -> Jet:
        """(unit/range)^power = −log c."""
        return log1p(exp(-phi))

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return exp(-(((self.lags / self.unit) ** self.power) * self._rate(phi[0])))

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural("range", self.unit * self._rate(phi[0]) ** (-1.0 / self.power))]

    def limits(self) -> np.ndarray:
        return np.array([LOGIT_EDGE * self.power])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        rate = math.exp(self.power * (math.log(self.unit) - log_of(natural[0], "range")))
        return 1.0, np.array([-math.log(math.expm1(rate)) if rate < 30.0 else -min(rate, 1e3)])

    def start(self) -> np.ndarray:
        return self.working([np.median(self.lags[self.lags > 0]) / 2.0])[1]

    def neutral(self) -> np.ndarray:
        return self.working([self.lags[self.lags > 0].min() / 7.0])[1]


@dataclass(frozen=True, slots=True, eq=False)
class Toeplitz(Lagged):
    """C_ij = ρ_|i−j|, all lags free: Durbin–Levinson from partial autocorrelations, a bijection onto the valid set."""

    def _autocorrelations(self, phi: Sequence[Jet], k: int) -> list[Jet]:
        rho: list[Jet] = []
        a: list[Jet] = []  # coefficients of the best predictor of the next from the j before
        v: Any = constant(1.0, k)
        for j, f in enumerate(phi):
            pi = tanh(f)
            r = pi * v
            for i in range(j):
                r = r + a[i] * rho[j - 1 - i]
            rho.append(r)
            a = [a[i] - pi * a[j - 1 - i] for i in range(j)] + [pi]
            v = v * (1.0 - pi * pi)
        return rho

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return stack([constant(1.0, k), *self._autocorrelations(phi, k)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", r) for j, r in enumerate(self._autocorrelations(phi, k))]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        pis, a, v = [], np.zeros(0), 1.0
        for j, r in enumerate(natural):
            pi = (r - a @ np.array(natural[:j])[::-1]) / v
            if 1.0 < abs(pi) < 1.0 + ROUNDING / v:  # the earlier ones leave so little that this is rounding
                pi = np.sign(pi)
            pis.append(atanh_of(pi, f"rho{j + 1} (its partial autocorrelation)"))
            a = np.append(a - pi * a[::-1], pi)
            v = max(v * (1.0 - pi * pi), EDGE)
        return 1.0, np.array(pis)

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.2, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Banded(Lagged):
    """C_ij = ρ_|i−j| up to lag k, 0 beyond: any ρ for which V is positive definite (a larger set than MA(k)'s)."""

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        beyond = constant(np.zeros(len(self.lags) - 1 - self.n_phi), k)
        return concatenate([constant([1.0], k), stack([tanh(f) for f in phi]), beyond])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", tanh(f)) for j, f in enumerate(phi)]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        return 1.0, np.array([atanh_of(r, f"rho{j + 1}") for j, r in enumerate(natural)])

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.1, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class MovingAverage(Lagged):
    """ρ_k = Σ_j θ_jθ_{j+k} / Σ_j θ_j², θ_0 = 1, invertible: θ from the partial autocorrelations of its polynomial."""

    def _rhos(self, phi: Sequence[Jet], k: int) -> list[Jet]:
        theta: list[Jet] = []
        for j, f in enumerate(phi):
            pi = tanh(f)
            theta = [theta[i] + pi * theta[j - 1 - i] for i in range(j)] + [pi]
        weights = [constant(1.0, k), *theta]
        products = []
        for lag in range(len(weights)):
            total: Any = 0.0
            for i in range(len(weights) - lag):
                total = total + weights[i] * weights[i + lag]
            products.append(total)
        return [p / products[0] for p in products[1:]]

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        beyond = constant(np.zeros(max(len(self.lags) - 1 - self.n_phi, 0)), k)
        return concatenate([constant([1.0], k), stack(self._rhos(phi, k)), beyond])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", r) for j, r in enumerate(self._rhos(phi, k))]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        """θ by spectral factorisation: the roots of Σ ρ_|k| z^k outside the unit circle."""
        q = len(natural)
        roots = np.roots([*natural[::-1], 1.0, *natural])
        outside = roots[np.argsort(-np.abs(roots))][: len(roots) // 2]
        spectrum = 1.0 + 2.0 * np.cos(np.outer(np.linspace(0.0, np.pi, 257), np.arange(1, q + 1))) @ np.asarray(natural)
        if spectrum.min() < -1e-9:
            raise ModelError(
                f"rho = {tuple(float(f'{r:.6g}') for r in natural)} is no autocorrelation of an MA({q}): its spectrum "
                f"falls to {spectrum.min():.3g}. MATH: MA(1) needs |ρ| ≤ 1/2."
            )
        a = np.zeros(q)
        a[: len(outside)] = np.real(np.poly(1.0 / outside))[1:]  # Π(1 − B/root): θ(B)
        phi = []
        for j in range(q, 0, -1):
            pi = float(np.clip(a[j - 1], -1.0 + EDGE, 1.0 - EDGE))
            phi.append(np.arctanh(pi))
            if j > 1:
                a = (a[: j - 1] - pi * a[: j - 1][::-1]) / (1.0 - pi * pi)
        return 1.0, np.array(phi[::-1])

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.1, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Arma11(Lagged):
    """C_k = γρ^(k−1); γ = s − (1−ρ)/2, s ∈ (0, 1), is the whole admissible range."""

    n_phi: int = 2

    def _rho_gamma(self, phi: Sequence[Jet]) -> tuple[Jet, Jet]:
        rho = tanh(phi[0])
        return rho, logistic(phi[1]) - 0.5 * (1.0 - rho)

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        rho, gamma = self._rho_gamma(phi)
        return concatenate([constant([1.0], k), gamma * rho ** (self.lags[1:] - 1.0)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        rho, gamma = self._rho_gamma(phi)
        return [Natural("rho", rho), Natural("gamma", gamma)]

    def limits(self) -> np.ndarray:
        return np.array([ATANH_EDGE, LOGIT_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        rho, gamma = natural
        s = gamma + 0.5 * (1.0 - rho)
        limits = f"({-0.5 * (1 - rho):.4g}, {0.5 * (1 + rho):.4g})"
        return 1.0, np.array([atanh_of(rho, "rho"), logit_of(s, "gamma", gamma, limits)])

    def start(self) -> np.ndarray:
        return self.working([0.4, 0.25])[1]

    def neutral(self) -> np.ndarray:
        return self.working([0.2, 0.0])[1]
