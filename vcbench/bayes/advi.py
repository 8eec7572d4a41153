"""Mean-field variational inference: the Gaussian with independent coordinates that is nearest to the posterior.

    maximise  ELBO(μ, ω) = E log p(μ + e^ω ε | y) + Σ_j ω_j,    ε ~ N(0, I),

over means and log SDs on the unconstrained scale: the family and objective of automatic differentiation variational
inference (Kucukelbir, Tran, Ranganath, Gelman & Blei 2017, JMLR 18(14)). The expectation is over a fixed set of N
scrambled Sobol points, as Giordano, Ingram & Broderick (2024, JMLR 25(18)) propose: a smooth function that L-BFGS takes
to its optimum, where stochastic gradients never say whether they have arrived.
"""

import numpy as np

from vcbench.bayes.approximation import Approximation, normal_points
from vcbench.bayes.unconstrained import Unconstrained
from vcbench.errors import MethodError
from vcbench.status import Status

FIRST = 32  # points of the first round
TOL = 0.02  # movement of the optimum, in SDs and in log SDs, when the points are doubled


def advi(density: Unconstrained, draws: int, rng: np.random.Generator, max_draws: int = 1024) -> Approximation:
    """`draws` points of the mean-field Gaussian.

    N is doubled from 32; CONVERGED when from N to 2N points no mean moves by more than 0.02 SD and no log SD by more
    than 0.02, and L-BFGS ended at a gradient below 1e-4 in those units; MAX_ITER when `max_draws` points did not
    suffice, with what still moved. Raises MethodError for `max_draws` below 64.
    """
    if int(max_draws) != max_draws or max_draws < 2 * FIRST:
        raise MethodError(f"`max_draws` is {max_draws!r}; it must be a whole number, {2 * FIRST} or more.")
    k = density.n_dim
    every = normal_points(k, int(max_draws), rng)
    points = every[:FIRST]
    at = np.concatenate([np.zeros(k), np.full(k, np.log(0.1))])
    at, elbo, settled, steps = _climb(density, points, at)
    moved = np.inf
    while 2 * len(points) <= max_draws:
        points, before = every[: 2 * len(points)], at
        at, elbo, settled, more = _climb(density, points, at)
        steps += more
        moved = max(np.abs((at - before)[:k] / np.exp(at[k:])).max(), np.abs((at - before)[k:]).max())
        if settled and moved < TOL:
            break
    mean, sd = density.centre + density.reach * at[:k], density.reach * np.exp(at[k:])
    z = rng.standard_normal((draws, k))
    x = mean + sd * z
    log_q = -0.5 * (z**2).sum(axis=1) - np.log(sd).sum() - 0.5 * k * np.log(2 * np.pi)
    ratio = np.array([density(row)[0] for row in x]) - log_q
    status, message = Status.CONVERGED, ""
    if not np.isfinite(elbo):
        return Approximation.none(Status.FAILED, "the density is not finite around the start", steps)
    if not settled:
        status, message = Status.MAX_ITER, f"L-BFGS did not reach its tolerance on {len(points)} points"
    elif moved >= TOL:
        status = Status.MAX_ITER
        message = f"the optimum still moved by {moved:.2g} SD when the points were doubled to {len(points)}"
    return Approximation(
        x, ratio, status, message, steps, {"elbo": float(elbo), "points": len(points), "moved": float(moved)}
    )


def _climb(density: Unconstrained, points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float, bool, int]:
    """(optimum of the ELBO over `points`, the ELBO, whether its gradient vanished, L-BFGS steps).

    In units of `reach`: μ = centre + reach · m, e^ω = reach · e^o.
    """
    from scipy.optimize import minimize

    k, reach = density.n_dim, density.reach
    constant = np.log(reach).sum() + 0.5 * k * (1 + np.log(2 * np.pi))

    def negative(at: np.ndarray) -> tuple[float, np.ndarray]:
        m, o = at[:k], np.clip(at[k:], -50.0, 50.0)
        value, to_mean, to_scale = 0.0, np.zeros(k), np.zeros(k)
        for e in points:
            own, gradient = density(density.centre + reach * (m + np.exp(o) * e))
            if own == -np.inf:
                return 1e100, np.zeros(2 * k)
            value += own
            to_mean += gradient
            to_scale += gradient * e
        n = len(points)
        return -(value / n + o.sum()), -np.concatenate([reach * to_mean / n, reach * np.exp(o) * to_scale / n + 1])

    options = {"maxiter": 500, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-7}
    found = minimize(negative, start, jac=True, method="L-BFGS-B", options=options)
    gradient = np.asarray(found.jac) * np.concatenate([np.exp(found.x[k:]), np.ones(k)])
    arrived = bool(found.fun < 1e99 and np.abs(gradient).max() < 1e-4)
    return np.asarray(found.x), -float(found.fun) + constant if found.fun < 1e99 else -np.inf, arrived, int(found.nit)
