"""Residuals of a fit, raw and on scales of their own, and leverage.

With ê = y − Xβ̂ − Zû = RPy, H = ∂ŷ/∂y = I − RP = [X Z] C [X Z]ᵀR⁻¹ and Q = [X Z] C [X Z]ᵀ = Var(ŷ − Xβ − Zu):

| kind | residual | covariance under the model (θ known) |
| --- | --- | --- |
| conditional | ê | Var(ê) = RPR = R − Q |
| marginal | y − Xβ̂ | V − X C_11 Xᵀ |
| pearson | ê_i/√R_ii | not 1: less by the leverage |
| standardized | ê_i/√(R − Q)_ii | 1 each, correlated ("internally studentized") |
| standardized-marginal | (y − Xβ̂)_i/√(V − X C_11 Xᵀ)_ii | 1 each, correlated |
| normalized | L⁻¹ê, R = LLᵀ | nlme's `normalized`: what correlated residuals leave |
| scaled | L⁻¹(y − Xβ̂), V = LLᵀ | near I: for QQ plots (SAS' VCIRY; Fitzmaurice, Laird & Ware 2011, ch. 10) |

L is the lower Cholesky factor with rows in the order of the data. θ is taken as known, β at its estimate.
"""

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix, spmatrix
from scipy.sparse.csgraph import connected_components

from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.blups import errors_of
from vcbench.inference.inverse import dense_blocks
from vcbench.inference.prediction import level_variance, predict
from vcbench.inference.prediction_rows import Rows

KINDS = (
    "conditional",
    "marginal",
    "pearson",
    "standardized",
    "standardized-marginal",
    "normalized",
    "scaled",
)
LARGEST = 6000  # rows that V may join in one block to be whitened
NOTHING = 1e-10  # of its model variance: a residual whose own is less is 0 whatever y is


def residuals(fit: Any, kind: str = "conditional") -> np.ndarray:
    """Residuals (n,) of a kind; NaN where a standardised one has no variance (a row that is always fitted exactly).

    Raises MethodError for an unknown kind, ModelError where V joins more rows than can be whitened.
    """
    if kind not in KINDS:
        raise MethodError(f"unknown residuals `{kind}`. Choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    model = fit._need_model("residuals()")
    of_mean = kind in ("marginal", "standardized-marginal", "scaled")
    raw = np.asarray(model.y - predict(fit, random=not of_mean))
    if kind in ("conditional", "marginal"):
        return raw
    errors = errors_of(fit, f"residuals({kind!r})")
    own = errors.R.matrix()
    match kind:
        case "pearson":
            return raw / np.sqrt(own.diagonal())
        case "standardized":
            model_variance = own.diagonal()
            return _over(raw, model_variance - errors.variance(model.X, errors.ZL), model_variance)
        case "standardized-marginal":
            model_variance = own.diagonal() + _effects_variance(errors)
            return _over(raw, model_variance - errors.fixed_variance(model.X), model_variance)
        case "normalized":
            return whiten(own, raw)
    return whiten(marginal_covariance(errors), raw)


def leverage(fit: Any, random: bool = True) -> np.ndarray:
    """∂ŷ_i/∂y_i (n,): of Xβ̂ + Zû, the diagonal of I − RP, or of Xβ̂ (`random=False`), that of X C_11 XᵀV⁻¹.

    Its sum is the effective number of parameters ρ (Hodges & Sargent 2001), between d and d + Σ q_k; d for Xβ̂. θ is
    taken as known.
    """
    errors = errors_of(fit, "leverage()")
    Q = errors.basis.Q
    if errors.inverse is None or not random:
        E = Q if errors.inverse is None else Q - errors.ZL @ errors.W
        return np.einsum("ij,ij->i", Q @ errors.H, (errors.Ri @ E) @ errors.H)
    half = (Q - errors.ZL @ errors.W) @ errors.H
    effects = errors.inverse.bilinear(errors.ZL, errors.Ri @ errors.ZL)
    return effects + np.einsum("ij,ij->i", half, errors.Ri @ half)


def marginal_covariance(errors: BlupErrors) -> Any:
    """V (n, n), sparse where no relationship joins all rows. ModelError for more rows than can be whitened then."""
    V = errors.R.matrix()
    for k, t in enumerate(errors.terms):
        ZL = csr_matrix(errors.ZL[:, errors.start[k] : errors.start[k + 1]])
        if t.precision is None:
            V = V + ZL @ ZL.T
            continue
        if len(errors.model.y) > LARGEST:
            raise _too_many(len(errors.model.y))
        r = len(t.root)
        related = np.hstack([t.related(ZL[:, a::r].T.toarray()) for a in range(r)])
        n = V.shape[0]
        V = V + csr_matrix(sum(ZL[:, a::r] @ related[:, a * n : (a + 1) * n] for a in range(r)))
    return V


def whiten(V: spmatrix, r: np.ndarray) -> np.ndarray:
    """L⁻¹r, V = LLᵀ, block by block of rows that V joins; blocks of one size at once."""
    V = csr_matrix(V)
    _, label = connected_components(V, directed=False)
    largest = int(np.bincount(label).max())
    if largest > LARGEST:
        raise _too_many(largest)
    out = np.empty(len(r))
    for rows, blocks in dense_blocks(V, label):
        L = np.linalg.cholesky(blocks)
        if len(rows) == 1:
            out[rows[0]] = solve_triangular(L[0], r[rows[0]], lower=True)
        else:
            out[rows] = np.linalg.solve(L, r[rows][..., None])[..., 0]
    return out


def _effects_variance(errors: BlupErrors) -> np.ndarray:
    """(Σ_k Z_k G_k Z_kᵀ)_ii of the data's rows."""
    rows = Rows.of_data(errors.model)
    total = np.zeros(errors.model.n_obs)
    for k, c in enumerate(errors.model.components):
        total += level_variance(errors, k, *rows.effects[c.name])
    return total


def _over(raw: np.ndarray, variance: np.ndarray, model_variance: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > NOTHING * model_variance, raw / np.sqrt(np.maximum(variance, 0.0)), np.nan)


def _too_many(n: int) -> ModelError:
    return ModelError(
        f'residuals "scaled" and "normalized" need the Cholesky factor of {n} rows that are joined, more than '
        f'{LARGEST}. Ask for "standardized" ones.'
    )
