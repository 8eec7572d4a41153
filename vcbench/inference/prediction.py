"""Prediction error variances of random effects, Var(û − u) = G − G Zᵀ P Z G: the diagonal of C_22 (MATH §8).

With MZ = QS and P = Q W⁻¹ Qᵀ + … (`solvers.moment_space`) it is G − G Sᵀ W⁻¹ S G: no inverse of G, which does not exist
where a variance is 0, and β's own uncertainty is in it. For R = σ²I or σ²/weights. O(q³) a fit; kernel `sparse`
has its own way.
"""

from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from vcbench.errors import ModelError
from vcbench.kernels.choose import build, choose
from vcbench.model.model import Model
from vcbench.solvers.moment_space import MomentSpace


def prediction_errors(model: Model, theta: np.ndarray) -> list[np.ndarray]:
    """Var(û − u) (levels, r) of each component, at known θ. ModelError where residuals are correlated; NaN where V is
    not positive definite."""
    if not model.noise.is_plain:
        raise ModelError(
            f"prediction errors need independent residuals of one variance; this model has `{model.residual}`."
        )
    if choose(model)[0] == "sparse":
        kernel: Any = build(model, "sparse")
        if hasattr(kernel, "prediction_errors"):
            return kernel.prediction_errors(theta)
    space = MomentSpace.of(model)
    Omegas = model.Omegas(theta)
    W, at = float(theta[-1]) * np.eye(space.rho), 0
    for Omega in Omegas:
        S = space.S[at : at + len(Omega)]
        for a, row in enumerate(Omega):
            W += S[a] @ sum(v * S[b] for b, v in enumerate(row)).T
        at += len(Omega)
    try:
        L = cholesky(W, lower=True)
    except np.linalg.LinAlgError:
        return [np.full((_levels(c), len(Omega)), np.nan) for c, Omega in zip(model.components, Omegas, strict=True)]
    out, at = [], 0
    for c, Omega in zip(model.components, Omegas, strict=True):
        half = [solve_triangular(L, S, lower=True) for S in space.S[at : at + len(Omega)]]
        root = None if c.relation is None else c.relation.root
        own = np.ones(_levels(c)) if root is None else (root**2).sum(axis=1)
        errors = np.empty((len(own), len(Omega)))
        for a, row in enumerate(Omega):
            H = sum(v * h for v, h in zip(row, half, strict=True))
            H = H if root is None else H @ root.T
            errors[:, a] = row[a] * own - (H**2).sum(axis=0)
        out.append(np.maximum(errors, 0.0))
        at += len(Omega)
    return out


def _levels(component) -> int:
    """Levels that have an effect of their own: columns of Z for a component of plain columns."""
    if component.relation is not None:
        return component.relation.m
    return len(component.levels) if component.is_grouped else component.factors()[0].shape[1]
