"""The posterior density of up to three parameters as quadrature sees it, in ratios v and the scale u_e = log σ_e."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import wrightomega

from vcbench.bayes.gram import gls
from vcbench.bayes.log_prior import LogPrior
from vcbench.bayes.reduced import Reduced

DEPTH = 32.0  # what lies more than e^-DEPTH below the peak is left out
TOLERANCE = 1e-8  # of log Z, and of a marginal density relative to its peak, per doubling
OFF = -250.0  # log σ that stands for σ = 0
Answer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """D(v), q(v) and what β needs, from sufficient statistics; v_k = log(σ_k/σ_e). Some factorisations are kept."""

    reduced: Reduced
    kept: dict[float, tuple] = field(default_factory=dict, repr=False)
    points: list[int] = field(default_factory=lambda: [0], repr=False)

    @property
    def nu(self) -> int:
        """n − d."""
        return self.reduced.n_obs - self.reduced.n_fixed

    @property
    def log_weights(self) -> float:
        """Σ log weight of the observations."""
        return self.reduced.log_weights

    @property
    def logdet_xx(self) -> float:
        """log|XᵀX|."""
        return self.reduced.logdet_xx

    @property
    def places(self) -> tuple[int, ...]:
        """Where each v, and the reference last, stands in θ."""
        return tuple(range(self.reduced.n_theta))

    def kind(self, k: int) -> str:
        """ "sd": every coordinate is a log σ."""
        return "sd"

    def natural(self, v: Sequence[np.ndarray], t: np.ndarray) -> np.ndarray:
        """θ (M, p) at M points."""
        return np.exp(2 * np.column_stack([*(v_k + t for v_k in v), t]))

    def scaled(self, axes: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """(θ_j at σ_e = 1 on the product of `axes`, broadcastable; the degree of each: θ_j σ_e^degree is θ_j)."""
        n = len(axes)
        base = [*(along(np.exp(2 * a), k, n) for k, a in enumerate(axes)), np.ones((1,) * n)]
        return base, np.full(n + 1, 2)

    def own_axis(self, j: int) -> int | None:
        """The axis whose coordinate is log σ of θ_j; None where θ_j is no variance with an axis of its own."""
        return j

    def dear(self, k: int) -> bool:
        """Whether another node along axis k costs factorisations."""
        return not self.reduced.small and k != 0

    def fine(self, *_: Any) -> "Ratios":
        """What answers on finer grids than quadrature needed: itself."""
        return self

    def rows(self, v: Sequence[np.ndarray]) -> Answer:
        """(D (M,), q (M,), γ̂ (M, d), A = QᵀH⁻¹Q (M, d, d)) at M points, each v_k (M,)."""
        M = len(v[0]) if len(v) else 1
        logdet, G = self.reduced.evaluate(np.column_stack([*(np.exp(2 * v_k) for v_k in v), np.ones(M)]))
        lost = ~(np.isfinite(logdet) & np.isfinite(G).all(axis=(1, 2)))
        if lost.any():  # γ so large that rounding ate the rest of H: nothing of the posterior lies there
            logdet[lost], G[lost] = np.inf, np.eye(self.reduced.n_fixed + 1)
        self.points[0] += M
        return self._answer(logdet, G)

    def grid(self, axes: Sequence[np.ndarray]) -> Answer:
        """`rows` on the product of `axes`, in its shape."""
        shape, d = tuple(len(a) for a in axes), self.reduced.n_fixed
        if not self.reduced.small and len(axes) == 2:
            D, q, centre, A = self._answer(*self._two_matrices(*axes))
        else:
            D, q, centre, A = self.rows([m.ravel() for m in np.meshgrid(*axes, indexing="ij")] if axes else [])
        return D.reshape(shape), q.reshape(shape), centre.reshape(*shape, d), A.reshape(*shape, d, d)

    def _answer(self, logdet: np.ndarray, G: np.ndarray) -> Answer:
        A, q, centre = gls(G)
        return logdet + np.linalg.slogdet(A)[1] + self.reduced.logdet_xx, q, centre, A

    def _two_matrices(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """H = γ_1 S_1 + (γ_2 S_2 + I): for each γ_2 one eigendecomposition serves every γ_1."""
        r = self.reduced
        low = np.tril_indices(r.n_fixed + 1)
        d1 = r.n_fixed + 1
        gamma = np.exp(2 * first)
        logdet, G = np.empty((len(first), len(second))), np.empty((len(first), len(second), d1, d1))
        for j, v in enumerate(second):
            if v not in self.kept:
                self.kept[v] = self._one_matrix(np.exp(2 * v))
                self.points[0] += 1
            base, values, products = self.kept[v]
            inflate = 1 + gamma[:, None] * values
            logdet[:, j] = base + np.log(inflate).sum(axis=1)
            g = (1 / inflate) @ products + r.within
            G[:, j, low[0], low[1]] = g
            G[:, j, low[1], low[0]] = g
            if not np.isfinite(base):
                G[:, j] = np.eye(d1)
        return logdet.ravel(), G.reshape(-1, d1, d1)

    def _one_matrix(self, gamma: float) -> tuple[float, np.ndarray, np.ndarray]:
        """log|B|, eigenvalues of S_1 in the metric of B = γ_2 S_2 + I, and the cross-products of U in that basis."""
        r = self.reduced
        low = np.tril_indices(r.n_fixed + 1)
        try:
            L = np.linalg.cholesky(gamma * r.S[1, 0] + np.eye(r.m))
        except np.linalg.LinAlgError:  # as above: γ too large
            return np.inf, np.zeros(r.m), np.zeros((r.m, len(low[0])))
        half = np.linalg.solve(L, r.S[0, 0])
        values, vectors = np.linalg.eigh(np.linalg.solve(L, half.T))
        U = vectors.T @ np.linalg.solve(L, r.cross[0])
        products = (U[:, :, None] * U[:, None, :])[:, low[0], low[1]]
        return 2 * np.log(np.diag(L)).sum(), np.maximum(values, 0.0), products


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """The log posterior in (v, u_e): ℓ_REML + log prior + Jacobians. `ratios`: `Ratios` or `KernelRatios`."""

    ratios: Any
    prior: LogPrior

    @property
    def nu(self) -> int:
        """n − d."""
        return self.ratios.nu

    def at(self, D: np.ndarray, q: np.ndarray, v: Sequence[np.ndarray], t: np.ndarray) -> np.ndarray:
        """log p at (v, u_e = t); D, q and v broadcast against t."""
        constant = self.nu * math.log(2 * math.pi) - self.ratios.log_weights
        return self.prior(v, t) - 0.5 * (constant + 2 * self.nu * t + D + q * np.exp(-2 * t))

    def on(self, axes: Sequence[np.ndarray], s: np.ndarray) -> "Grid":
        """The density on the product of `axes` (the v) and the sheared scale s = u_e − ½ log(q/ν)."""
        D, q, centre, A = self.ratios.grid(axes)
        t = 0.5 * np.log(q / self.nu)[..., None] + s
        v = [along(a, k, len(axes) + 1) for k, a in enumerate(axes)]
        with np.errstate(over="ignore"):
            F = self.at(D[..., None], q[..., None], v, t)
        return Grid(F, t, D, q, centre, A, np.zeros(()), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """log p (v…, s) as F, u_e as t, what `Ratios.grid` gave, log du/dz where the axes are squeezed, log Z."""

    F: np.ndarray
    t: np.ndarray
    D: np.ndarray
    q: np.ndarray
    centre: np.ndarray
    A: np.ndarray
    slope: np.ndarray
    log_z: float


def along(a: np.ndarray, k: int, ndim: int) -> np.ndarray:
    """The vector a along axis k of an array of `ndim` axes."""
    return a.reshape([-1 if i == k else 1 for i in range(ndim)])


@dataclass(frozen=True, slots=True)
class Squeeze:
    """u = z − w e^(−(z−a)/w): for z above a hardly a change, below it ever longer strides towards −∞.

    A prior with density at σ = 0 leaves a tail e^u in u = log σ, thirty units long and empty of detail; on an even grid
    of z it costs a few nodes, and the trapezoid rule stays exponentially accurate. w = 0 is the identity.
    """

    a: float = 0.0
    w: float = 0.0

    def u(self, z: np.ndarray) -> np.ndarray:
        """u(z)."""
        return z - self.w * np.exp(-(z - self.a) / self.w) if self.w else np.asarray(z, float)

    def slope(self, z: np.ndarray) -> np.ndarray:
        """du/dz."""
        return 1 + np.exp(-(z - self.a) / self.w) if self.w else np.ones(np.shape(z))

    def z(self, u: np.ndarray | float) -> np.ndarray:
        """The inverse: z = u + w ω(x) = a − w log ω(x), x = (a − u)/w, ω the Wright omega function (ω + log ω = x)."""
        u = np.asarray(u, float)
        if not self.w:
            return u
        x = (self.a - u) / self.w
        omega = wrightomega(x)
        return np.where(x > 1, self.a - self.w * np.log(np.maximum(omega, 1e-300)), u + self.w * omega)


def halve(a: np.ndarray) -> np.ndarray:
    """The same interval with half the step; old nodes keep their bits."""
    out = np.empty(2 * len(a) - 1)
    out[::2] = a
    out[1::2] = 0.5 * (a[1:] + a[:-1])
    return out


def cell(axes: Sequence[np.ndarray], s: np.ndarray) -> float:
    return math.prod((a[-1] - a[0]) / (len(a) - 1) for a in (*axes, s))
