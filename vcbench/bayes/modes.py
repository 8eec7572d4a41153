"""The joint mode of an exact posterior, in any scale: the best node of the grid, then Newton steps on the density."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.bayes.density import OFF, Density, Grid, along

LIKELIHOOD = "likelihood"  # the scale of ℓ itself, no prior and no Jacobian
FLAT = (
    1e-9  # a rise towards σ_k = 0 that the density has stopped making: the mode is at 0 unless a node beats it by this
)
STENCIL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))  # first derivative, error O(h⁸)


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """θ at the joint mode by scale. grid, weight: those that `quadrature` ended with.

    Under criterion "ml" the density of (β, θ) is maximised: ℓ_ML at β's GLS value is
    ℓ_REML + ½ log|XᵀV⁻¹X| − (d/2) log 2π.
    """

    density: Density
    axes: list[np.ndarray]
    grid: Grid
    weight: np.ndarray
    criterion: str

    def __call__(self, scale: str) -> np.ndarray:
        x, free = self._top(scale, self.criterion)
        return self._theta(x[None], free)[0]

    def likelihood(self, criterion: str) -> tuple[np.ndarray, np.ndarray]:
        """(θ̂ (p,), Cov (p, p)) at the maximum of ℓ_REML ("reml": the β-marginal mode) or ℓ_ML ("ml": the joint mode).

        No Jacobian is in it. Cov is the inverse observed information, NaN for a variance of 0: −∂²ℓ in the free
        coordinates by central differences, turned to θ, which at a maximum needs first derivatives alone.
        """
        x, free = self._top(LIKELIHOOD, criterion)
        theta = self._theta(x[None], free)[0]
        n, h = len(x), 0.01 * self._widths(free)
        unit = np.diag(h)
        pairs = [(i, j) for i in range(n) for j in range(i + 1)]

        def curvature(m: float) -> np.ndarray:
            signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            rows = np.array([x + m * (a * unit[i] + b * unit[j]) for i, j in pairs for a, b in signs])
            f = self._objective(rows, free, LIKELIHOOD, criterion).reshape(len(pairs), 4)
            H = np.zeros((n, n))
            for (i, j), (pp, pm, mp, mm) in zip(pairs, f, strict=True):
                H[i, j] = H[j, i] = (pp - pm - mp + mm) / (4 * m * m * h[i] * h[j])
            return H

        H = (4 * curvature(2.0) - curvature(4.0)) / 3
        ends = self._theta(np.concatenate([x + unit, x - unit, x + 2 * unit, x - 2 * unit]), free).reshape(4, n, -1)
        J = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * h[:, None])
        cov = J.T @ np.linalg.pinv(-H, hermitian=True) @ J
        dropped = theta == 0
        cov[dropped] = cov[:, dropped] = np.nan
        return theta, cov

    def _top(self, scale: str, criterion: str) -> tuple[np.ndarray, list[int]]:
        """(free v and u_e at the maximum, which v are free)."""
        K = len(self.axes)
        v, t = [along(a, k, K + 1) for k, a in enumerate(self.axes)], self.grid.t
        J = self.grid.F - self._taken(v, t, scale)
        if criterion == "ml":
            J = J + self._kept(np.linalg.slogdet(self.grid.A)[1][..., None], t)
        best = np.unravel_index(int(J.argmax()), J.shape)
        top = float(J[best])
        free = [
            k
            for k in range(K)
            if self.density.ratios.kind(k) != "sd" or top - float(np.take(J, 0, axis=k).max()) > FLAT * (1 + abs(top))
        ]
        start = np.array([*(self.axes[k][best[k]] for k in free), np.broadcast_to(t, J.shape)[best]])
        width = self._widths(free)
        return climb(lambda rows: self._objective(rows, free, scale, criterion), start, width), free

    def _widths(self, free: list[int]) -> np.ndarray:
        K, shape = len(self.axes), self.grid.F.shape
        own = [*(along(self.axes[k], k, K + 1) for k in free), self.grid.t]
        return np.array([self._width(np.broadcast_to(x, shape)) for x in own])

    def _theta(self, x: np.ndarray, free: list[int]) -> np.ndarray:
        """θ (M, p) at rows of (free v, u_e), the other variances 0."""
        K, ratios = len(self.axes), self.density.ratios
        v = [x[:, free.index(k)] if k in free else np.full(len(x), OFF) for k in range(K)]
        theta = ratios.natural(v, x[:, -1])
        theta[:, [ratios.places[k] for k in range(K) if k not in free]] = 0.0
        return theta

    def _taken(self, v: list[np.ndarray], t: np.ndarray, scale: str) -> Any:
        """What is taken off the log density in (log σ, logit p, …): Jacobians of `scale`, or all but ℓ."""
        prior = self.density.prior
        if scale == LIKELIHOOD:
            return prior(v, t)
        return sum(axis.log_jacobian(x, scale) for axis, x in zip(prior.axes, prior.values(v, t), strict=True))

    def beta(self, theta: np.ndarray) -> np.ndarray:
        """β's GLS value at θ (p,)."""
        likelihood = self.density.ratios.reduced
        return likelihood.beta_of(likelihood.centre(theta)[1])[0]

    def _objective(self, x: np.ndarray, free: list[int], scale: str, criterion: str) -> np.ndarray:
        """Log density in `scale` at the rows (v of the free axes, u_e) of x, the other σ_k standing at 0."""
        t = x[:, -1]
        v = [x[:, free.index(k)] if k in free else np.full(len(x), OFF) for k in range(len(self.axes))]
        D, q, _, A = self.density.ratios.rows(v)
        if not len(v):
            D, q, A = (np.repeat(a, len(x), axis=0) for a in (D, q, A))
        out = self.density.at(D, q, v, t) - self._taken(v, t, scale)
        return out + self._kept(np.linalg.slogdet(A)[1], t) if criterion == "ml" else out

    def _kept(self, logdet_A: np.ndarray, t: np.ndarray) -> np.ndarray:
        ratios = self.density.ratios
        d = ratios.reduced.n_fixed
        return 0.5 * (logdet_A + ratios.logdet_xx - 2 * d * t - d * math.log(2 * math.pi))

    def _width(self, x: np.ndarray) -> float:
        w = self.weight / self.weight.sum()
        mean = float((w * x).sum())
        return math.sqrt(float((w * (x - mean) ** 2).sum())) or 1.0


def climb(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """The maximum of a smooth f near x: Newton steps, derivatives by central differences in units of `width`."""
    n = len(x)
    unit = np.eye(n)
    value = float(f(x[None])[0])
    for _ in range(50):
        rows = [x + sign * m * 0.05 * width[i] * unit[i] for i in range(n) for m, _ in STENCIL for sign in (1, -1)]
        at = f(np.array(rows)).reshape(n, len(STENCIL), 2)
        gradient = np.array(
            [sum(c * (at[i, m, 0] - at[i, m, 1]) for m, (_, c) in enumerate(STENCIL)) for i in range(n)]
        )
        gradient /= 0.05
        H = np.empty((n, n))
        h = 0.1 * width
        for i in range(n):
            for j in range(i + 1):
                signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
                corner = f(np.array([x + a * h[i] * unit[i] + b * h[j] * unit[j] for a, b in signs]))
                H[i, j] = H[j, i] = (corner[0] - corner[1] - corner[2] + corner[3]) / 0.04
        values, vectors = np.linalg.eigh(-H)
        step = vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-3 * np.abs(values).max())) * width
        while True:
            new = float(f((x + step)[None])[0])
            if new >= value - 1e-12 * (1 + abs(value)) or np.abs(step / width).max() < 1e-13:
                break
            step = step / 2
        x, value = x + step, max(new, value)
        if np.abs(step / width).max() < 1e-10:
            break
    return x
