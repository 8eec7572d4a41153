"""The exact posterior of up to three variance parameters, on a grid.

Everything happens in u = log σ (density × Jacobian). With v_k = u_k − u_e = ½ log γ_k the likelihood depends on the
overall scale in closed form, V = σ_e² H(γ):

    ℓ_REML = −½ [ ν(log 2π + 2u_e) + D(v) + q(v) e^(−2u_e) ],    ν = n − d,
    D = log|H| + log|XᵀH⁻¹X|,  q = yᵀP_H y,

so that matrices are factorised on the grid of v only, and a shear s = u_e − ½ log(q/ν) (unit Jacobian) makes v and s
nearly independent. The trapezoid rule on a box that leaves out e⁻³² of the peak converges exponentially; every axis is
doubled until log Z moves by less than 1e-8.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import logsumexp

from vcbench.bayes.posterior import Marginal, Mixture, Posterior
from vcbench.bayes.prior_choice import prior_scales, resolve
from vcbench.bayes.priors import Flat, Priors, SdPrior, logpdf_log
from vcbench.bayes.reduced import Reduced, gls
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.model import Model
from vcbench.status import Status

DEPTH = 32.0  # the box leaves out what lies more than e^-DEPTH below the peak
TOLERANCE = 1e-8  # of log Z, per doubling
REACH = 120.0  # log units: a posterior wider than this on the log scale is taken for improper
MOST = (6, 4096, 256)  # doublings, and nodes of one axis with one and with two ratios


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """D(v), q(v) and what β needs, on product grids of v; factorisations of one axis are kept."""

    reduced: Reduced
    kept: dict[float, tuple] = field(default_factory=dict, repr=False)
    points: list[int] = field(default_factory=lambda: [0], repr=False)

    def grid(self, axes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(D, q, γ̂ (…, d), A = QᵀH⁻¹Q (…, d, d)) on the product of `axes`."""
        shape = tuple(len(a) for a in axes)
        if not self.reduced.small and len(axes) == 2:
            logdet, G = self._two_matrices(*axes)
        else:
            mesh = np.meshgrid(*axes, indexing="ij") if axes else []
            gamma = [np.exp(2 * m.ravel()) for m in mesh]
            theta = np.column_stack([*gamma, np.ones(math.prod(shape))])
            logdet, G = self.reduced.evaluate(theta)
            self.points[0] += len(theta)
        A, q, centre = gls(G)
        D = logdet + np.linalg.slogdet(A)[1] + self.reduced.logdet_xx
        d = self.reduced.n_fixed
        return D.reshape(shape), q.reshape(shape), centre.reshape(*shape, d), A.reshape(*shape, d, d)

    def _two_matrices(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """H = γ_1 S_1 + (γ_2 S_2 + I): for each γ_2 one eigendecomposition serves every γ_1."""
        r = self.reduced
        low = np.tril_indices(r.n_fixed + 1)
        d1 = r.n_fixed + 1
        gamma = np.exp(2 * first)
        logdet, G = np.empty((len(first), len(second))), np.empty((len(first), len(second), d1, d1))
        for j, v in enumerate(second):
            if v not in self.kept:
                L = np.linalg.cholesky(np.exp(2 * v) * r.S[1, 0] + np.eye(r.m))
                half = np.linalg.solve(L, r.S[0, 0])
                values, vectors = np.linalg.eigh(np.linalg.solve(L, half.T))
                U = vectors.T @ np.linalg.solve(L, r.cross[0])
                products = (U[:, :, None] * U[:, None, :])[:, low[0], low[1]]
                self.kept[v] = 2 * np.log(np.diag(L)).sum(), np.maximum(values, 0.0), products
                self.points[0] += 1
            base, values, products = self.kept[v]
            inflate = 1 + gamma[:, None] * values
            logdet[:, j] = base + np.log(inflate).sum(axis=1)
            g = (1 / inflate) @ products + r.within
            G[:, j, low[0], low[1]] = g
            G[:, j, low[1], low[0]] = g
        return logdet.ravel(), G.reshape(-1, d1, d1)


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """The log posterior in (v, u_e): ℓ_REML + log prior + Jacobians."""

    ratios: Ratios
    priors: tuple[SdPrior, ...]
    nu: int

    def at(self, D: np.ndarray, q: np.ndarray, v: Sequence[np.ndarray], t: np.ndarray) -> np.ndarray:
        """log p at u_e = t and u_k = v_k + t; D, q and v broadcast against t."""
        out = -0.5 * (self.nu * (math.log(2 * math.pi) + 2 * t) + D + q * np.exp(-2 * t)) + logpdf_log(self.priors[-1], t)
        for prior, v_k in zip(self.priors, v, strict=False):
            out = out + logpdf_log(prior, v_k + t)
        return out

    def on(self, axes: Sequence[np.ndarray], s: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
        """(log p, u_e, what `Ratios.grid` gave) on the product of `axes` and the sheared scale s."""
        D, q, centre, A = self.ratios.grid(axes)
        t = 0.5 * np.log(q / self.nu)[..., None] + s
        v = [a.reshape([-1 if i == k else 1 for i in range(len(axes) + 1)]) for k, a in enumerate(axes)]
        with np.errstate(over="ignore"):
            return self.at(D[..., None], q[..., None], v, t), t, (D, q, centre, A)


def quadrature(model: Model, priors: Any = None, criterion: str = "reml") -> Posterior:
    """The exact posterior of a model with up to three variance parameters and independent effects.

    priors: as for `twin` (β flat). Under criterion "reml" and "ml" the posterior of θ and of β is the same, β being
    flat; `Posterior.mode` differs: "ml" maximises jointly over (β, θ).

    Raises ModelError for more parameters, for correlated effects, for a prior on β, and for flat priors that make the
    posterior improper; MethodError for an unknown criterion.
    """
    return integrate(Reduced.of(check(model, priors, criterion)), model, priors, criterion)


def check(model: Model, priors: Any, criterion: str) -> Model:
    """The model, if quadrature can be asked for it; else the errors of `quadrature`."""
    if criterion not in ("reml", "ml"):
        raise MethodError(
            f'unknown criterion `{criterion}`. Choose "reml" or "ml".{did_you_mean(criterion, ("reml", "ml"))}'
        )
    correlated = [c.name for c in model.components if any(len(block) > 1 for block in c.partition)]
    if correlated or model.n_theta > 3:
        what = f"the effects of `{correlated[0]}` are correlated" if correlated else "this model has more"
        raise ModelError(
            f"quadrature integrates up to three variances of independent effects: {what} ({model.n_theta} parameters). "
            "Use `vcbench.bayes.sample(vcbench.bayes.twin(model))`, or method `nuts`."
        )
    if resolve(model, priors).beta is not None:
        raise ModelError("quadrature integrates β under a flat prior. Leave `beta` out of `priors`, or use method `nuts`.")
    return model
