"""Pathfinder: the best Gaussian met on the way to the mode, from several starts (Zhang, Carpenter, Gelman & Vehtari
2022, JMLR 23(306)).

L-BFGS climbs from each start. At every iterate x_l the pairs s = x_l − x_{l−1}, z = g_{l−1} − g_l (g = ∇ log p) seen so
far give an inverse Hessian Σ_l, hence a Gaussian q_l with mean x_l + Σ_l g_l; the one with the highest ELBO is the
path's. All ELBOs are taken on the same 64 normal points: with fresh ones for each the largest is often the luckiest.
Draws of all paths are pooled and resampled with Pareto-smoothed importance weights p/q, q the equal mixture of their
Gaussians.

Written on the twin's compiled density, which another response reuses; the matrices are k × k, k being a handful here.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vcbench.bayes.approximation import Approximation, normal_points, psis
from vcbench.bayes.unconstrained import Unconstrained
from vcbench.errors import MethodError
from vcbench.status import Status

HISTORY = 6  # pairs kept, as in the paper
ELBO_POINTS = 64
CURVATURE = 1e-12  # zᵀs/zᵀz below which a pair says nothing of the curvature


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """N(mean, LLᵀ) (k), and the ELBO it was chosen by."""

    mean: np.ndarray
    L: np.ndarray
    elbo: float

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density at the rows of x (n, k)."""
        z = np.linalg.solve(self.L, (x - self.mean).T)
        constant = np.log(np.diag(self.L)).sum() + 0.5 * len(self.mean) * np.log(2 * np.pi)
        return -0.5 * (z**2).sum(axis=0) - constant

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws (n, k)."""
        return self.mean + rng.standard_normal((n, len(self.mean))) @ self.L.T


def pathfinder(density: Unconstrained, draws: int, rng: np.random.Generator, paths: int = 8) -> Approximation:
    """`draws` points resampled from the Gaussians of `paths` paths.

    Paths that meet no finite density are dropped; status FAILED if all are. Raises MethodError for `paths` below 1.
    """
    if int(paths) != paths or paths < 1:
        raise MethodError(f"`paths` is {paths!r}; it must be a whole number, 1 or more.")
    points = normal_points(density.n_dim, ELBO_POINTS, rng)
    found, steps, lost = [], 0, 0
    for own in rng.spawn(int(paths)):
        trajectory = climb(density, density.centre + density.reach * own.uniform(-1, 1, density.n_dim))
        steps += len(trajectory)
        best = best_on(density, trajectory, points)
        found += [] if best is None else [best]
        lost += best is None
    if not found:
        return Approximation.none(Status.FAILED, f"none of {paths} paths met a density that could be used", steps)
    sizes = np.diff(np.linspace(0, draws, len(found) + 1).round().astype(int))
    pool = np.concatenate([q.draw(int(n), rng) for q, n in zip(found, sizes, strict=True)])
    log_q = np.logaddexp.reduce([q.logpdf(pool) for q in found], axis=0) - np.log(len(found))
    ratio = np.array([density(x)[0] for x in pool]) - log_q
    weights, _ = psis(ratio)
    x = pool[rng.choice(len(pool), draws, p=weights)]
    extra = {"paths": len(found), "elbo": max(q.elbo for q in found), "importance_ess": float(1 / (weights**2).sum())}
    return Approximation(x, ratio, Status.CONVERGED, f"{lost} of {paths} paths failed" if lost else "", steps, extra)


def climb(density: Unconstrained, start: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The iterates of L-BFGS from `start`, with their gradients: [(x, ∇ log p), …]."""
    from scipy.optimize import minimize

    path = [(start, density(start)[1])]

    def record(x: np.ndarray) -> None:
        path.append((x.copy(), density(x)[1]))

    minimize(
        density.negative, start, jac=True, method="L-BFGS-B", callback=record,
        options={"maxcor": HISTORY, "maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8},
    )  # fmt: skip
    return path


def best_on(density: Unconstrained, path: list[tuple[np.ndarray, np.ndarray]], points: np.ndarray) -> Gaussian | None:
    """The Gaussian of the highest ELBO along a path, on the normal `points` (n, k); None if no iterate has one."""
    best: Gaussian | None = None
    alpha = density.reach**2
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for (x0, g0), (x, g) in pairwise(path):
        s, z = x - x0, g0 - g
        if z @ s > CURVATURE * (z @ z):
            alpha = diagonal(alpha, s, z)
            pairs = [*pairs, (s, z)][-HISTORY:]
        if not pairs:
            continue
        Sigma = inverse_hessian(alpha, pairs)
        try:
            L = np.linalg.cholesky(Sigma)
        except np.linalg.LinAlgError:
            continue
        q = Gaussian(x + Sigma @ g, L, -np.inf)
        at = q.mean + points @ L.T
        elbo = float(np.mean([density(p)[0] for p in at] - q.logpdf(at)))
        if np.isfinite(elbo) and (best is None or elbo > best.elbo):
            best = Gaussian(q.mean, L, elbo)
    return best


def diagonal(alpha: np.ndarray, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The diagonal that inverse Hessians start from, updated by one pair (Gilbert & Lemaréchal 1989; the paper's
    Algorithm 3)."""
    a, b, c = z @ (alpha * z), z @ s, s @ (s / alpha)
    return 1.0 / (a / (b * alpha) + z**2 / b - a * s**2 / (b * c * alpha**2))


def inverse_hessian(alpha: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """BFGS from diag(α): H ← (I − ρszᵀ) H (I − ρzsᵀ) + ρssᵀ, ρ = 1/zᵀs, for each pair, oldest first."""
    H = np.diag(alpha)
    for s, z in pairs:
        rho = 1.0 / (z @ s)
        turn = np.eye(len(s)) - rho * np.outer(s, z)
        H = turn @ H @ turn.T + rho * np.outer(s, s)
    return 0.5 * (H + H.T)
