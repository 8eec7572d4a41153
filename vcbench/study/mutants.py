"""Mutants: the seeds' printed errors (MATH §12), switched in to test the tests. None is a method of the registry.

A harness is worth what it finds. Each mutant replaces one right formula, while `switched_in` is open and in this
process only, and something has to notice:

    M1  seed 000 (8)   σ_e² = (1/n)‖·‖² + δ² tr(ZᵀZΣ̃)     1/n over the first term only     ℓ falls
    M2  seed 000 (8)   σ_k² = (1/q_k) μ_kᵀμ_k + tr Σ̃_kk    1/q_k over the first term only   ℓ falls
    M8  seed 002 §2.1  ELBO = Q + ½ log|2πΣ̃|               half the number of effects lost  ELBO ≠ ℓ

M1 and M2 live in `px_step`, PX-EM's M-step written out densely from its formulas, which without a mutant is the kit's
own to rounding: a second oracle of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from vcbench.errors import DataError, did_you_mean
from vcbench.fit import FitMany, fit
from vcbench.solvers import codes, run, solve
from vcbench.solvers import elbo as bound

MUTANTS = {
    "M1": "1/n over the first term of the residual variance only",
    "M2": "1/q over the first term of a component's variance only",
    "M8": "the entropy without its p/2",
}


def px_step(kernel: Any, theta: np.ndarray, gamma: np.ndarray, mutant: str = "") -> tuple[np.ndarray, np.ndarray]:
    """(θ′, γ′): one ML step of PX-EM with one δ, for components of one variance each (MATH §3), mutated or not.

    X is the orthonormal Q of the kernel's basis and y the response less its OLS fit at γ = 0; posterior of u at (γ, θ):

        Σ̃⁻¹ = ZᵀZ/σ_e² + G⁻¹,  μ = Σ̃Zᵀ(y − Qγ)/σ_e²,  δ = (y − Qγ)ᵀZμ / [μᵀZᵀZμ + tr(ZᵀZΣ̃)],  γ′ = Qᵀ(y − δZμ)
        σ_e² = (1/n)[‖y − Qγ′ − δZμ‖² + δ² tr(ZᵀZΣ̃)],   σ_k² = δ²(1/q_k)[μ_kᵀμ_k + tr Σ̃_kk]
    """
    model = kernel.model
    Q, n = kernel.basis.Q, model.n_obs
    y = model.y - (0.0 if model.offset is None else model.offset) - model.X @ kernel.beta0
    factors = [component.factors()[0] for component in model.components]
    q = [component.n_levels for component in model.components]
    Z = np.hstack(factors)
    sigma2, G = theta[-1], np.repeat(theta[:-1], [factor.shape[1] for factor in factors])
    V = (Z * G) @ Z.T + sigma2 * np.eye(n)
    e = y - Q @ gamma
    GZt = G[:, None] * Z.T
    mu = GZt @ np.linalg.solve(V, e)
    Sigma = np.diag(G) - GZt @ np.linalg.solve(V, GZt.T)
    Zmu, spread = Z @ mu, float(np.sum((Z @ Sigma) * Z))
    delta = (e @ Zmu) / (Zmu @ Zmu + spread)
    new_gamma = Q.T @ (y - delta * Zmu)
    left = y - Q @ new_gamma - delta * Zmu
    residual = left @ left / n + delta**2 * spread if mutant == "M1" else (left @ left + delta**2 * spread) / n
    variances, at = [], 0
    for factor, q_k in zip(factors, q, strict=True):
        part = slice(at, at + factor.shape[1])
        at = part.stop
        squares, trace = float(mu[part] @ mu[part]), float(np.trace(Sigma[part, part]))
        variances.append(delta**2 * (squares / q_k + trace if mutant == "M2" else (squares + trace) / q_k))
    return np.array([*variances, residual]), new_gamma


@contextmanager
def switched_in(mutant: str) -> Iterator[None]:
    """While open, `px-em` under ML (M1, M2) or the ELBO (M8) of this process is the mutant's, run interpreted.

    An empty name switches in nothing, by the same path: the control. Raises DataError for an unknown mutant.
    """
    if mutant and mutant not in MUTANTS:
        raise DataError(f"unknown mutant `{mutant}`. Choose from {', '.join(MUTANTS)}.{did_you_mean(mutant, MUTANTS)}")
    if mutant == "M8":
        with mock.patch.object(bound, "entropy", _entropy_without_half_p):
            yield
        return
    kernels: list[Any] = []
    own_run: Any = solve._run
    own_step: Any = run.em_step

    def run_interpreted(kernel: Any, *arguments: Any) -> tuple:
        kernels.append(kernel)
        try:
            return own_run(kernel, *arguments[:-1], False)
        finally:
            kernels.pop()

    def step(code: int, reml: bool, theta: np.ndarray, scale: np.ndarray, gamma: np.ndarray, *more: Any) -> tuple:
        simple = all(component.n_effects == 1 for component in kernels[-1].model.components)
        if code == codes.PX and not reml and simple:
            return px_step(kernels[-1], theta, gamma, mutant)
        return own_step(code, reml, theta, scale, gamma, *more)

    from vcbench.study import fitting

    with (
        mock.patch.object(solve, "_run", run_interpreted),
        mock.patch.object(run, "em_step", step),
        mock.patch.object(fitting, "fit_many", _fit_one_by_one),
    ):
        yield


def _fit_one_by_one(
    model: Any, Y: np.ndarray, method: str, criterion: str | None = None, seed: Any = None, **options: Any
) -> FitMany:
    """`fit_many` by way of `fit`, whose loop can be interpreted."""
    fits = [fit(model.replace(y=Y[:, j]), method, criterion, **options) for j in range(Y.shape[1])]
    return FitMany.of(model, Y, method, fits[0].criterion, fits)


def _entropy_without_half_p(kernel: Any, theta: np.ndarray, moments: Any) -> float:
    """½ log|2πΣ̃|, as printed."""
    effects = sum(component.n_levels * component.n_effects for component in kernel.model.components)
    return float(_entropy(kernel, theta, moments)) - 0.5 * effects


_entropy = bound.entropy
