"""The kinds of diagnostic pictures: what each shows, and why one does not apply to a fit."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np

from vcbench.errors import MethodError, VcbenchError, did_you_mean
from vcbench.report.marks import Spec

ROWS = 3000  # rows up to which single rows are left out one by one, unasked


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its picture is the function of its name in `module`; `refuses` says why a fit has none, or "".

    unasked: the same with what is not drawn unless it is asked for: pictures that take long, or say little.
    """

    name: str
    module: str
    shows: str
    refuses: Callable[[Any], str]
    unasked: Callable[[Any], str]
    aliases: tuple[str, ...] = ()

    def spec(self, fit: Any, **options: Any) -> Spec:
        """The picture. MethodError where it does not apply, and for an option that it does not have."""
        reason = self.refuses(fit)
        if reason:
            raise MethodError(f'plot("{self.name}"): {reason}')
        function = getattr(import_module(f"vcbench.report.diagnostics.{self.module}"), self.name)
        known = [p for p in signature(function).parameters if p != "fit"]
        for option in options:
            if option not in known:
                raise MethodError(
                    f'plot("{self.name}") has no option `{option}`.{did_you_mean(option, known)} It has: '
                    f"{', '.join(known) or 'none'}."
                )
        return function(fit, **options)


def kind_of(name: str) -> Kind:
    """The kind of that name or alias. MethodError with all names for another."""
    for kind in KINDS:
        if name in (kind.name, *kind.aliases):
            return kind
    names = [n for kind in KINDS for n in (kind.name, *kind.aliases)]
    listed = ", ".join(f'"{kind.name}"' for kind in KINDS)
    raise MethodError(f"unknown plot `{name}`. Choose from {listed}.{did_you_mean(name, names)}")


def _no_trace(fit: Any) -> str:
    if fit.trace_rows is None or not len(fit.trace_rows):
        return f"method `{fit.method}` kept no trace: it does not iterate, or `trace=False` was asked for."
    return ""


def _no_data(fit: Any) -> str:
    if fit.model is None:
        return "this fit was read from JSON, which keeps no data. Fit the model again."
    if not fit.is_estimate:
        return f"the fit ended {fit.status} without an estimate. Fit by another method."
    return ""


def _no_covariance(fit: Any) -> str:
    """Why residuals and BLUPs have no distribution under the fit."""
    reason = _no_data(fit)
    if reason:
        return reason
    for c, Omega in zip(fit.model.components, fit.model.Omegas(fit.theta_values), strict=True):
        values = np.linalg.eigvalsh(Omega)
        if values[0] < -1e-10 * np.abs(values).max():
            return (
                f"the variance of `{c.name}` is estimated as {values[0]:.4g}, below 0, which no random effect has. "
                'Fit by a likelihood method, such as method="ai".'
            )
    if not fit.theta_values[-1] > 0 and fit.model.noise.is_plain:
        return "the residual variance is 0: there is nothing to look at. Fit a smaller model."
    return ""


def _no_effects(fit: Any) -> str:
    reason = _no_covariance(fit)
    if not reason and not fit.model.components:
        return 'the model has no random effects. plot("residuals") shows its residuals.'
    return reason


def _no_maximum(fit: Any) -> str:
    reason = _no_data(fit)
    if not reason and (fit.is_moments or fit.limits is not None or fit.criterion not in ("ml", "reml")):
        return f'a fit by `{fit.method}` maximises no likelihood. Fit by one that does, such as method="ai".'
    return reason


def _no_surface(fit: Any) -> str:
    reason = _no_maximum(fit)
    if not reason and len(fit.theta_values) < 2:
        return f"it needs two variance parameters; this model has one, `{fit.facts.theta_names[0]}`."
    return reason


def _no_order(fit: Any) -> str:
    reason = _no_covariance(fit)
    if reason:
        return reason
    from vcbench.inference.row_order import row_order

    try:
        row_order(fit.model)
    except VcbenchError as error:
        return str(error)
    return ""


def _no_lags(fit: Any) -> str:
    reason = _no_order(fit)
    if reason:
        return reason
    from vcbench.inference.residual_correlation import no_lags
    from vcbench.inference.row_order import row_order

    return no_lags(row_order(fit.model))


def _no_distances(fit: Any) -> str:
    """Why a semivariogram is not drawn unasked: rows in regular order have their autocorrelation."""
    reason = _no_order(fit)
    if reason:
        return reason
    from vcbench.inference.row_order import row_order

    order = row_order(fit.model)
    if order.gap is not None and order.source != "labels":
        return "lags are equal: the autocorrelation says the same."
    return ""


def _no_fixed(fit: Any) -> str:
    reason = _no_covariance(fit)
    if not reason and not len(fit.beta_values):
        return "the model has no fixed effects to be influenced."
    return reason


def _no_groups(fit: Any) -> str:
    reason = _no_fixed(fit)
    if not reason and all(c.codes is None for c in fit.model.components) and fit.model.n_obs > ROWS:
        return f"the model has no groups, and {fit.model.n_obs} single rows are many to leave out."
    return reason


def _dear(refuses: Callable[[Any], str]) -> Callable[[Any], str]:
    """Those reasons, and that the model is large."""

    def reason(fit: Any) -> str:
        from vcbench.kernels import build

        said = refuses(fit)
        if not said and getattr(build(fit.model, fit.kernel), "standard_information", "observed") == "average":
            return "the model is large; it is drawn where it is asked for by name."
        return said

    return reason


KINDS = (
    Kind("trace", "trace", "log-likelihood by iteration", _no_trace, _no_trace, ("convergence",)),
    Kind("ranef", "ranef", "BLUPs of every level with 95 % intervals, sorted", _no_effects, _no_effects,
         ("caterpillar", "blup")),
    Kind("profile", "profile", "likelihood profiles ζ and |ζ| of every parameter", _no_maximum, _dear(_no_maximum)),
    Kind("contour", "contour", "likelihood regions of two parameters, with methods' paths", _no_surface,
         _dear(_no_surface)),
    Kind("residuals", "residuals", "residuals against fitted values, their size, quantiles, by group", _no_covariance,
         _no_covariance),
    Kind("qq", "qq", "normal quantile plots of residuals and BLUPs", _no_covariance,
         lambda fit: _no_covariance(fit) or "the residual panels hold it."),
    Kind("acf", "correlation", "autocorrelation of normalized residuals by lag", _no_lags, _no_lags,
         ("autocorrelation",)),
    Kind("variogram", "correlation", "semivariogram of residuals by distance", _no_order, _no_distances,
         ("semivariogram",)),
    Kind("influence", "influence", "Cook's distance and DFBETAS of each group", _no_fixed, _no_groups),
)  # fmt: skip
