"""The likelihood of one relationship matrix by (h, σ²), in the eigenbasis: V = σ² [h K/k + (1 − h) I].

σ² is the total variance and h the share of K in it; k is the size that K is given: 1, so that V(G) = hσ² stands beside
V(e) as in GCTA, or tr(CKC)/n, so that hσ² is what K adds to the variance of the sample (GEMMA's pve). At each h

    ℓ(h, σ²) = L(h) − ½ [N log σ² + Q(h)/σ²],    N = n (ML) or n − d (REML),  Q = yᵀP y at σ² = 1

so that σ̂² = Q/N, and the two σ² at which ℓ has a given value are −Q/(N·W(−e^−a)), W the two real branches of
Lambert's function, a = C/N − log(Q/N), C = 2(L − ℓ). The region {θ: ℓ(θ) ≥ ℓ̂ − χ²/2} is therefore known column by
column in h, and the profile interval of any of h, V(G), V(e) and Vp is the range of that quantity over it: a search
in one dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import lambertw

from vcbench.kernels.blocks import BlockKernel

EDGE = 1e-8  # 1 − h at which V(e) counts as 0: V is singular beyond, if K is


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """ℓ(h, σ²) of one phenotype, from its kernel: `Shares.of(kernel, criterion, k)`.

    d (B,) eigenvalues/k, X (B, D) and y (B,) in the eigenbasis; TX, t, tau2, n_outside: the rows that K does not reach.
    """

    reml: bool
    k: float
    N: int
    n_outside: int
    d: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    TX: np.ndarray = field(repr=False)
    t: np.ndarray = field(repr=False)
    tau2: float
    logdet: float

    @classmethod
    def of(cls, kernel: BlockKernel, criterion: str = "reml", k: float = 1.0) -> "Shares":
        """From a spectral kernel with its response bound."""
        b = kernel.blocks
        reml = criterion == "reml"
        d = b.R[:, 0, 0] ** 2 / k
        N = b.n_obs - (b.X.shape[2] if reml else 0)
        return cls(reml, k, N, b.n_within, d, b.X[:, 0], b.y[:, 0], b.TX, b.t, b.tau2, b.basis.logdet)

    def at(self, h: float) -> tuple[float, float]:
        """(L, Q) at h, 0 ≤ h ≤ 1 − EDGE."""
        v, v0 = h * self.d + (1.0 - h), 1.0 - h
        Xv = self.X / v[:, None]
        A = Xv.T @ self.X + self.TX.T @ self.TX / v0
        b = Xv.T @ self.y + self.TX.T @ self.t / v0
        Q = float(self.y @ (self.y / v) + (self.t @ self.t + self.tau2) / v0 - b @ np.linalg.solve(A, b))
        logdet = float(np.log(v).sum()) + self.n_outside * np.log(v0)
        if self.reml:
            logdet += float(np.linalg.slogdet(A)[1]) + self.logdet
        return -0.5 * (self.N * np.log(2.0 * np.pi) + logdet), Q

    @property
    def unbounded(self) -> bool:
        """True where ℓ_ML has no maximum: X holds all that K does not reach, so that −½ log V(e) grows without end as
        V(e) falls to 0 (a centred K and a constant in X). ℓ_REML is free of it."""
        if self.reml or self.n_outside <= 0:
            return False
        rest = float(np.linalg.norm(self.TX)) ** 2 + float(self.t @ self.t) + self.tau2
        return len(self.TX) >= self.n_outside and self.tau2 <= 1e-20 * rest

    def loglik(self, h: float, sigma2: float | None = None) -> float:
        """ℓ(h, σ²), σ² = σ̂²(h) if it is not given."""
        L, Q = self.at(h)
        sigma2 = Q / self.N if sigma2 is None else sigma2
        return L - 0.5 * (self.N * np.log(sigma2) + Q / sigma2)

    def best(self, near: float | None = None) -> tuple[float, float]:
        """(ĥ, ℓ̂) over [0, 1 − EDGE], the search around `near` where the maximum is known about to lie."""
        top = 1.0 - EDGE
        grid = np.unique(
            np.clip([0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, top, *([] if near is None else [near])], 0, top)
        )
        values = [self.loglik(h) for h in grid]
        i = int(np.argmax(values))
        low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        found = minimize_scalar(
            lambda h: -self.loglik(h), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
        )
        return (float(found.x), float(-found.fun)) if -found.fun > values[i] else (float(grid[i]), float(values[i]))

    def slope(self, h: float = 0.0, step: float = 1e-5) -> float:
        """dℓ/dh of the profile, from the right."""
        a, b, c = (self.loglik(h + j * step) for j in (0, 1, 2))
        return float((-3.0 * a + 4.0 * b - c) / (2.0 * step))

    def intervals(self, h_hat: float, loglik: float, chi2: float) -> dict[str, tuple[float, float]]:
        """Profile intervals {θ: 2(ℓ̂ − ℓ) ≤ chi2} of "h2", "V(G)", "V(e)" and "Vp", within the parameter space.

        A limit of h at 0 or 1 means that the data do not exclude it.
        """
        target = loglik - 0.5 * chi2
        top = 1.0 - EDGE
        h_hat = min(max(h_hat, 0.0), top)
        gap = lambda h: self.loglik(h) - target  # noqa: E731
        low = 0.0 if gap(0.0) >= 0 else brentq(gap, 0.0, h_hat, xtol=1e-10, rtol=1e-10)
        if self.unbounded and h_hat < top:  # up to the valley before ℓ rises again
            steps = 1.0 - np.geomspace(1.0 - h_hat, EDGE, 60)
            top = float(steps[int(np.argmin([gap(h) for h in steps]))])
        high = top if gap(top) >= 0 else brentq(gap, h_hat, top, xtol=1e-10, rtol=1e-10)
        out = {"h2": (float(low), 1.0 if high == top else float(high))}

        def sigma2(h: float, branch: int) -> float:
            L, Q = self.at(h)
            a = 2.0 * (L - target) / self.N - np.log(Q / self.N)
            if a <= 1.0 + 1e-14:  # the two meet at a limit of h
                return Q / self.N
            return float(-Q / (self.N * lambertw(-np.exp(-a), branch).real))

        for name, at_0, at_1 in (("V(G)", 0.0, 1.0 / self.k), ("V(e)", 1.0, 0.0), ("Vp", 1.0, 1.0)):

            def of(h: float, branch: int, at_0: float = at_0, at_1: float = at_1) -> float:
                return (at_0 + h * (at_1 - at_0)) * sigma2(h, branch)

            least = _least(lambda h, of=of: of(h, -1), low, high)  # type: ignore[misc]
            out[name] = least, -_least(lambda h, of=of: -of(h, 0), low, high)  # type: ignore[misc]
        if low == 0.0:
            out["V(G)"] = (0.0, out["V(G)"][1])
        if high == top:
            out["V(e)"] = (0.0, out["V(e)"][1])
        return out

    def curve(self, h_hat: float, low: float, high: float, n_points: int = 121) -> np.ndarray:
        """(m, 2): h ascending over [0, 1 − EDGE] and ℓ at its best there, half of the points about the interval [low,
        high], ĥ and the limits among them."""
        top, width = 1.0 - EDGE, high - low
        near = np.linspace(max(low - 0.6 * width, 0.0), min(high + 0.6 * width, top), n_points // 2)
        h = np.unique(np.clip([*np.linspace(0.0, top, n_points // 2), *near, h_hat, low, high], 0.0, top))
        return np.column_stack([h, [self.loglik(value) for value in h]])


def _least(f: Callable[[float], float], low: float, high: float) -> float:
    """The least value of f on [low, high], ends included; f has one valley there."""
    ends = min(f(low), f(high))
    if not high > low:
        return ends
    found = minimize_scalar(f, bounds=(low, high), method="bounded", options={"xatol": 1e-9 * (high - low)})
    return float(min(ends, found.fun))
