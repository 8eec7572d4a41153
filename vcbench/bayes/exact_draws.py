"""Independent draws from an exact posterior: cells of the quadrature's grid, smoothed by rejection.

A cell is chosen with its weight and a point within it uniformly; it is kept with probability p(point)/(B p(node)), B
above the largest such ratio where the posterior has mass. β follows by composition: N(GLS(θ), (XᵀV⁻¹X)⁻¹).
"""

import numpy as np

from vcbench.bayes.margins import Margins
from vcbench.bayes.posterior import Posterior

BOUND = 4.0  # a step of the grid is a quarter of an SD: the ratio exceeds 4 beyond five SDs


def exact_draws(posterior: Posterior, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(θ (n, p), β (n, d)): n independent draws of a posterior of `quadrature`, natural units."""
    margins: Margins = posterior.marginals
    F = margins.grid.F + margins.grid.slope
    weight = np.exp(F - F.max()).ravel()
    cumulative = np.cumsum(weight)
    steps = [a[1] - a[0] for a in (*margins.z, margins.s)]
    theta, beta = [], []
    left = n
    while left > 0:
        m = int(2.5 * left) + 20
        cells = np.minimum(np.searchsorted(cumulative, rng.random(m) * cumulative[-1]), len(weight) - 1)
        places = np.unravel_index(cells, F.shape)
        point = [
            a[i] + h * (rng.random(m) - 0.5) for a, i, h in zip((*margins.z, margins.s), places, steps, strict=True)
        ]
        keep_at = rng.random(m) * BOUND
        log_p, t, v, gamma = _density(margins, point, rng)
        keep = np.flatnonzero(np.log(keep_at) < log_p - F.ravel()[cells])[:left]
        theta.append(margins.density.ratios.natural([v_k[keep] for v_k in v], t[keep]))
        beta.append(gamma[keep])
        left -= len(keep)
    reduced = margins.density.ratios.reduced
    return np.concatenate(theta), reduced.beta_of(np.concatenate(beta))


def _density(
    margins: Margins, point: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """(log p in (z…, s), t = log σ_e, v, a draw of γ = T(β − β_0)) at points given by their coordinates (m,) each."""
    density, z, s = margins.density, point[:-1], point[-1]
    v = [q.u(x) for q, x in zip(margins.squeezes, z, strict=True)]
    D, q, centre, A = density.ratios.rows(v)
    if not v:
        D, q, centre, A = (np.repeat(a, len(s), axis=0) for a in (D, q, centre, A))
    t = 0.5 * np.log(q / density.nu) + s
    log_p = density.at(D, q, v, t)
    for squeeze, x in zip(margins.squeezes, z, strict=True):
        log_p = log_p + np.log(squeeze.slope(x))
    normal = rng.standard_normal(centre.shape)
    if centre.shape[1]:
        L = np.linalg.cholesky(A)
        normal = np.linalg.solve(L.transpose(0, 2, 1), normal[..., None])[..., 0]
    return log_p, t, v, centre + np.exp(t)[:, None] * normal
