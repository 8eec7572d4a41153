"""The evidence lower bound after the E-step: Q + entropy, equal to ℓ_ML(β, θ) (MATH §3): an exact check."""

import math
from typing import Any

import numpy as np

from vcbench.kernels.protocol import Moments


def expected_complete_loglik(kernel: Any, theta: np.ndarray, moments: Moments) -> float:
    """Q = E[log p(y | u) + log p(u)] under the posterior of u at (β, θ); Ω must be positive definite.

    −½[n log 2πσ² + E‖y − Xβ − Zu‖²/σ²] − ½ Σ_k [q_k r_k log 2π + q_k log|Ω_k| + tr(Ω_k⁻¹ S_k)]
    """
    model, sigma2 = kernel.model, float(theta[-1])
    alpha = (moments.features[:, 0] == moments.features[:, 1]).astype(float)
    residual = moments.E0 - 2.0 * alpha @ moments.f + alpha @ moments.F @ alpha
    out = -0.5 * (model.n_obs * math.log(2 * math.pi * sigma2) + residual / sigma2)
    at = 0
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        S = moments.S[at : at + c.n_effects, at : at + c.n_effects]
        q, r = c.n_levels, c.n_effects
        out -= 0.5 * (
            q * r * math.log(2 * math.pi) + q * np.linalg.slogdet(Omega)[1] + np.trace(np.linalg.solve(Omega, S))
        )
        at += r
    return float(out)


def entropy(kernel: Any, theta: np.ndarray, moments: Moments) -> float:
    """½ log|2πe Σ̃| = ½ [Σ_k q_k r_k (1 + log 2π) + Σ_k q_k log|Ω_k| − log|I + GZᵀZ/σ²|]."""
    model = kernel.model
    out = -moments.logdet
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        out += c.n_levels * (c.n_effects * (1 + math.log(2 * math.pi)) + np.linalg.slogdet(Omega)[1])
    return 0.5 * float(out)


def elbo(kernel: Any, theta: np.ndarray, beta: np.ndarray | None = None) -> float:
    """Q + entropy at (β, θ), β at its GLS value unless given. Raises nothing; θ must be strictly inside."""
    at = kernel.evaluate(theta, ("moments",), "ml", beta=beta)
    return expected_complete_loglik(kernel, theta, at.moments) + entropy(kernel, theta, at.moments)
