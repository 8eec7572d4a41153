"""The maximum about which a fit is profiled: the fit's own, made exact, or that of the other criterion."""

from functools import cached_property
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.inference.constrained import Peak, peak
from vcbench.inference.roots import Likelihood, Roots
from vcbench.kernels.choose import build
from vcbench.kernels.low_rank import n_columns
from vcbench.model.model import Model
from vcbench.solvers.solve import solve

TOL = 1e-6  # distance to the maximum, in standard errors
SHORT = 1e-6  # times √(1 + |ℓ|): a fit whose ℓ lies further below the maximum next to it has stopped short
SMALL = 100  # columns of Z up to which `low_rank` takes the place of `crossed`


class Reference:
    """The maximum about which a fit is profiled, under one criterion: kernel, likelihood, θ̂, ℓ̂."""

    def __init__(self, fit: Any, criterion: str) -> None:
        model = fit._need_model("a profile")
        self.kernel: Any = build(model, _kernel_name(model, fit.kernel or "auto"))
        self.criterion = criterion
        self.f = Likelihood(self.kernel, criterion)
        near = not fit.is_moments and fit.is_estimate
        own = near and criterion == fit.criterion
        top = peak(self.f, None, 0.0, self.f.r(fit.theta_values), TOL) if near else None
        if top is None:
            theta = solve(self.kernel, "auto", criterion, trace=False).theta
            top = peak(self.f, None, 0.0, self.f.r(theta), TOL)
        if top is None:
            raise MethodError(
                f"no maximum of ℓ_{criterion.upper()} was found near the fit ({fit.status}): there is nothing to "
                "profile about. Fit again, with other starts (`n_starts=`) or another method."
            )
        self.top: Peak = top
        self.higher = ""  # what was said of a higher maximum, once a profile came upon one
        self.short = own and top.loglik - fit.loglik > SHORT * (1.0 + abs(top.loglik)) ** 0.5
        self.theta = fit.theta_values if own and not self.short else self.f.theta(top.r)

    @cached_property
    def beta(self) -> np.ndarray:
        """β̂ at θ̂."""
        return self.kernel.evaluate(self.theta, ("loglik",), self.criterion).beta

    def seen(self, first: tuple[int, ...]) -> tuple[Likelihood, Peak]:
        """The likelihood and its maximum in coordinates with these effects first."""
        if all(len(c) == 1 for c in self.f.roots.cones):
            f, r = Likelihood(self.kernel, self.criterion, self.f.roots), self.top.r
        else:
            f = Likelihood(self.kernel, self.criterion, Roots.of(self.f.view.layout, first))
            r = f.roots.of_x(self.f.roots.x(self.top.r))
        top = peak(f, None, 0.0, r)
        assert top is not None
        return f, top


def _kernel_name(model: Model, name: str) -> str:
    """The fit's kernel; `low_rank` for a small crossed design, whose second derivatives it answers in half the time."""
    small = name == "crossed" and n_columns(model) <= min(SMALL, model.n_obs - model.n_fixed - 1)
    return "low_rank" if small else name


def reference(fit: Any, criterion: str) -> Reference:
    """`Reference`, kept with the fit."""
    key = f"profile:{criterion}"
    if key not in fit.cache:
        fit.cache[key] = Reference(fit, criterion)
    return fit.cache[key]
