"""Mutants of single formulas outside a solver's step: each opens by its name in `FORMULAS`."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from vcbench.genetics import pairs, scaled_lasso
from vcbench.kernels.dense import DenseKernel
from vcbench.kernels.protocol import Evaluation
from vcbench.model import jets
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.model.structures.lagged import MovingAverage
from vcbench.solvers import elbo as bound
from vcbench.solvers import moments
from vcbench.solvers.anova import Anova
from vcbench.study import fitting

Open = AbstractContextManager[None]


@contextmanager
def _exchanged(where: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """`where.name` is make(what it was), while open."""
    with mock.patch.object(where, name, make(getattr(where, name))):
        yield


def _m8(own: Any) -> Any:
    """½ log|2πΣ̃|, as printed."""

    def without_half_p(kernel: Any, theta: np.ndarray, moments: Any) -> float:
        effects = sum(component.n_levels * component.n_effects for component in kernel.model.components)
        return float(own(kernel, theta, moments)) - 0.5 * effects

    return without_half_p


def _m9(own: Any) -> Any:
    """The residual covariance as ρ_e σ_u1 σ_u2: the correlation is taken of the genetic standard deviations."""

    def correlation(t: np.ndarray, at: int) -> tuple[float, np.ndarray]:
        return own(np.array([*t[:3], t[0], t[4], t[2]]) if at == 3 else t, at)

    return correlation


def _with_columns(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Open:
    """Methods are given another Z of every ungrouped component; the data are those of the right one."""

    def changed(model: Model) -> Model:
        made = model.design.kernels
        if name not in made:
            parts = [
                c if c.is_grouped or c.Z is None else Component(change(np.asarray(c.Z, float)), name=c.name)
                for c in model.components
            ]
            made[name] = Model(model.y, model.X, parts, X_names=model.X_names, offset=model.offset)
        return made[name]

    def make(own: Any) -> Any:
        return lambda model, Y, *arguments, **options: own(changed(model), Y, *arguments, **options)

    return _exchanged(fitting, "fit_many", make)


def _uncentred(W: np.ndarray) -> np.ndarray:
    """Columns counted from their smallest value, the genotype without a minor allele."""
    return W - W.min(axis=0)


def _m14a(own: Any) -> Any:
    """ML where REML is asked for."""

    def by_ml(model: Model, Y: np.ndarray, method: str, criterion: str | None = None, **options: Any) -> Any:
        return own(model, Y, method, "ml" if criterion == "reml" else criterion, **options)

    return by_ml


def _m14c(own: Any) -> Any:
    """The residual's mean square over all degrees of freedom, not its own."""

    def estimate(table: Anova, ss: np.ndarray) -> np.ndarray:
        C = table.C.copy()
        C[-1, -1] = table.df.sum()
        return np.linalg.solve(C, ss)

    return estimate


def _m15(own: Any) -> Any:
    """−(p/2) log(2πσ_u²) for −(p/2) log(2πσ_u²/p) in log p(u)."""

    def without_log_p(kernel: Any, theta: np.ndarray, moments: Any) -> float:
        sizes = [component.n_levels * component.n_effects for component in kernel.model.components]
        return float(own(kernel, theta, moments)) - 0.5 * sum(p * math.log(p) for p in sizes)

    return without_log_p


def _m16(own: Any) -> Any:
    """The lasso on ‖y − Xb‖²/n, which halves its penalty."""

    def half_penalty(W: np.ndarray, y: np.ndarray, df: int, lambda0: float | None = None, **more: Any) -> Any:
        full = math.sqrt(2.0 * math.log(W.shape[1]) / df) if lambda0 is None else lambda0
        return own(W, y, df, full / 2, **more)

    return half_penalty


def _m19(own: Any) -> Any:
    """log(det V): −∞ where the determinant underflows."""

    def evaluate(kernel: DenseKernel, theta: np.ndarray, *arguments: Any, **options: Any) -> Evaluation:
        at = own(kernel, theta, *arguments, **options)
        if not np.isfinite(at.loglik):
            return at
        V = np.tensordot(np.asarray(theta, float), kernel.V, axes=1)
        with np.errstate(divide="ignore", under="ignore", over="ignore"):
            return replace(at, loglik=float(at.loglik + 0.5 * (np.linalg.slogdet(V)[1] - np.log(np.linalg.det(V)))))

    return evaluate


def _m24(own: Any) -> Any:
    """ρ_k = tanh φ_k: every band between −1 and 1, as if each were a moving average's."""
    return lambda structure, phi, k: [jets.tanh(f) for f in phi]


def _o16(own: Any) -> Any:
    """ℓ_REML without ½ log|XᵀV⁻¹X|."""

    def evaluate(
        kernel: DenseKernel,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        **more: Any,
    ) -> Evaluation:
        at = own(kernel, theta, need, criterion, **more)
        if at.criterion != "reml" or not np.isfinite(at.loglik):
            return at
        return replace(at, loglik=float(at.loglik + 0.5 * np.linalg.slogdet(at.QtVinvQ)[1]))

    return evaluate


def _o17(own: Any) -> Any:
    """S_ij = tr(V_iV_j): what X takes out of the expected squares is left in."""

    def minque(kernel: Any, prior: Any = 0, **more: Any) -> Any:
        found = own(kernel, prior, **more)
        if prior != 0:
            return found
        model = kernel.model
        V = np.array([*(F @ F.T for c in model.components for F in c.factors()), np.eye(model.n_obs)])
        y = model.y if model.offset is None else model.y - model.offset
        r = y - model.X @ np.linalg.lstsq(model.X, y, rcond=None)[0]
        S = np.einsum("iab,jab->ij", V, V)
        return replace(found, theta=np.linalg.solve(S, np.array([r @ Vi @ r for Vi in V])))

    return minque


FORMULAS: dict[str, Callable[[], Open]] = {
    "M8": partial(_exchanged, bound, "entropy", _m8),
    "M9": partial(_exchanged, pairs, "_correlation", _m9),
    "M10": partial(_with_columns, "M10", lambda Z: Z * math.sqrt(Z.shape[1])),
    "M14a": partial(_exchanged, fitting, "fit_many", _m14a),
    "M14b": partial(_with_columns, "M14b", _uncentred),
    "M14c": partial(_exchanged, Anova, "estimate", _m14c),
    "M15": partial(_exchanged, bound, "expected_complete_loglik", _m15),
    "M16": partial(_exchanged, scaled_lasso, "scaled_lasso", _m16),
    "M19": partial(_exchanged, DenseKernel, "evaluate", _m19),
    "M24": partial(_exchanged, MovingAverage, "_rhos", _m24),
    "O16": partial(_exchanged, DenseKernel, "evaluate", _o16),
    "O17": partial(_exchanged, moments, "minque", _o17),
}
