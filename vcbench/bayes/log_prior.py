"""The prior as quadrature sees it: a log density in unbounded coordinates, Jacobians included.

    kind    coordinate                    prior
    sd      u = log σ                     a family on σ, σ² or log σ; or all σ² together a split of their total
    unit    z = logit p                   Beta(a, b) on p: a log p + b log(1 − p) − log B(a, b)
    range   u = log r                     a family on r > 0

Standard deviations enter as v_k = log(σ_k/σ_e) + t with t = log σ_e the coordinate of the last axis. A split of the
total variance has, with ℓ_k = log(s_k σ_k²), L = log Σ_k e^ℓ_k = 2 log T and shares w_k = e^(ℓ_k − L),

    log p(u) = log p(log T) + (K − 1) log 2 + Σ_k α_k log w_k − Σ_k log Γ(α_k) + log Γ(Σ_k α_k),

since |∂(L, w_1, …, w_(K−1))/∂ℓ| = Π_k w_k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln, log_expit

from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.priors import Beta, Priors, SdPrior, logpdf_log
from vcbench.bayes.split import Split

POWER = {"log": 0.0, "sd": 1.0, "var": 2.0}


@dataclass(frozen=True, slots=True)
class PriorAxis:
    """One coordinate: its kind, and its prior; None where a split of the total variance stands for it."""

    kind: str
    prior: Any

    def log_jacobian(self, x: Any, scale: str) -> Any:
        """log |d value/d coordinate| at x, the coordinate (log σ, logit p, log r), for the density in `scale`.

        "log" is the coordinate itself, "prior" what the prior is stated in; p and r have no other than themselves.
        """
        if self.kind == "sd":
            on = scale if scale != "prior" else "var" if self.prior is None else self.prior.on
            return POWER[on] * x
        if scale == "log":
            return 0.0 * x
        return x if self.kind == "range" else log_expit(x) + log_expit(-np.asarray(x))


@dataclass(frozen=True, slots=True)
class LogPrior:
    """log p(v, t): `axes` in the order of v, the reference standard deviation (coordinate t) last."""

    axes: tuple[PriorAxis, ...]
    split: Split | None = None

    @classmethod
    def of(cls, coordinates: Coordinates, priors: Priors, order: Sequence[int]) -> "LogPrior":
        """The prior of the coordinates of a model, in `order`."""
        axes = []
        for j in order:
            item = coordinates.items[j]
            if item.axis.kind == "sd":
                axes.append(PriorAxis("sd", None if priors.split is not None else priors.sd[item.name]))
            elif item.axis.kind == "partial":
                assert item.axis.lkj is not None
                b = priors.lkj[item.owner].shape(*item.axis.lkj)
                axes.append(PriorAxis("unit", Beta(b, b)))
            else:
                axes.append(PriorAxis("range" if item.axis.kind == "range" else "unit", priors.shape[item.name]))
        names = [coordinates.items[j].name for j in order if coordinates.items[j].axis.kind == "sd"]
        return cls(tuple(axes), None if priors.split is None else _in_order(priors.split, names))

    @classmethod
    def of_variances(cls, priors: Sequence[SdPrior]) -> "LogPrior":
        """Independent priors of standard deviations alone."""
        return cls(tuple(PriorAxis("sd", p) for p in priors))

    def values(self, v: Sequence[Any], t: Any) -> list[Any]:
        """The coordinates: log σ_k = v_k + t, logit p and log r as they are, t last."""
        own = [v_k + t if axis.kind == "sd" else v_k for v_k, axis in zip(v, self.axes, strict=False)]
        return [*own, t]

    def __call__(self, v: Sequence[Any], t: Any) -> Any:
        """log p; v and t broadcast."""
        x = self.values(v, t)
        out: Any = 0.0
        for axis, x_k in zip(self.axes, x, strict=True):
            if axis.kind == "unit":
                a, b = axis.prior.a, axis.prior.b
                out = out + a * log_expit(x_k) + b * log_expit(-np.asarray(x_k)) - betaln(a, b)
            elif axis.prior is not None:
                out = out + logpdf_log(axis.prior, x_k)
        if self.split is not None:
            out = out + log_split(
                self.split, [x_k for axis, x_k in zip(self.axes, x, strict=True) if axis.kind == "sd"]
            )
        return out


def log_split(split: Split, u: Sequence[Any]) -> Any:
    """log p of u_k = log σ_k under a split, in the order of its names."""
    parts = [2 * u_k + math.log(s) for u_k, s in zip(u, split.sizes, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = np.logaddexp(total, part)
    alpha = split.alphas
    constant = float(gammaln(alpha.sum()) - gammaln(alpha).sum()) + (len(alpha) - 1) * math.log(2)
    out = logpdf_log(split.total, 0.5 * total) + constant
    for a, part in zip(alpha, parts, strict=True):
        out = out + a * (part - total)
    return out


def _in_order(split: Split, names: Sequence[str]) -> Split:
    """The same split with its variances in the order of `names`."""
    at = [split.names.index(name) for name in names]
    return Split(
        tuple(float(split.alphas[i]) for i in at), split.total, tuple(names), tuple(split.sizes[i] for i in at)
    )
