"""The Laplace approximation of a twin's posterior: a Gaussian at its mode on the unconstrained scale.

    x* = argmax log p(x | y),   H = −∂² log p(x*)/∂x∂xᵀ,   x ~ N(x*, H⁻¹)

in x = (log σ, logit of correlations, β), whose density holds the Jacobians, and θ = θ(x) for each draw (Tierney &
Kadane 1986, JASA 81, 82–86, for the method). With few groups log σ has a long lower tail that a Gaussian lacks.
"""

import numpy as np

from vcbench.bayes.approximation import Approximation
from vcbench.bayes.unconstrained import Unconstrained
from vcbench.status import Status

TOL = 1e-8  # of the gradient in the metric H⁻¹: the squared distance to the mode in SDs


def laplace(density: Unconstrained, draws: int, rng: np.random.Generator) -> Approximation:
    """`draws` points of the Gaussian at the mode.

    The mode is found by L-BFGS from the centre of the starting box, then Newton steps on central differences of the
    gradient until gᵀH⁻¹g < 1e-8: status MAX_ITER if that is not reached, SINGULAR_V if −H is not positive definite
    there (a ridge, or a posterior without a mode), in which case there are no draws.
    """
    from scipy.optimize import minimize

    first = minimize(density.negative, density.centre, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    x, steps = np.asarray(first.x), int(first.nit)
    value = -float(first.fun)
    for _ in range(50):
        gradient, H = density(x)[1], -density.hessian(x)
        scales, axes = np.linalg.eigh(H)
        if not np.isfinite(scales).all():
            break
        size = np.maximum(np.abs(scales), 1e-8 * np.abs(scales).max())
        step = axes @ ((axes.T @ gradient) / size)
        if gradient @ step < TOL and scales[0] > 0:
            return _gaussian(density, x, scales, axes, draws, rng, steps)
        length, moved = 1.0, False
        while length > 1e-6 and not moved:
            trial = density(x + length * step)[0]
            moved = trial > value - 1e-12 * (1 + abs(value))
            length = length if moved else length / 2
        if not moved:
            break
        x, value, steps = x + length * step, trial, steps + 1
    if scales[0] <= 0:
        message = f"the log density is not concave at its highest point: curvature {scales[0]:.2g} in one direction"
        return Approximation.none(Status.SINGULAR_V, message, steps)
    message = f"the mode was not reached: gᵀH⁻¹g is {gradient @ step:.1e}, above {TOL:g}"
    out = _gaussian(density, x, scales, axes, draws, rng, steps)
    return Approximation(out.x, out.log_ratio, Status.MAX_ITER, message, steps, out.extra)


def _gaussian(
    density: Unconstrained,
    mode: np.ndarray,
    scales: np.ndarray,
    axes: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    steps: int,
) -> Approximation:
    z = rng.standard_normal((draws, len(mode)))
    x = mode + (z / np.sqrt(scales)) @ axes.T
    log_q = -0.5 * (z**2).sum(axis=1) + 0.5 * np.log(scales).sum() - 0.5 * len(mode) * np.log(2 * np.pi)
    ratio = np.array([density(row)[0] for row in x]) - log_q
    peak = density(mode)[0]
    evidence = peak - 0.5 * np.log(scales).sum() + 0.5 * len(mode) * np.log(2 * np.pi)
    extra = {"log_density_at_mode": peak, "log_evidence": float(evidence), "mode": mode.tolist()}
    return Approximation(x, ratio, Status.CONVERGED, "", steps, extra)
