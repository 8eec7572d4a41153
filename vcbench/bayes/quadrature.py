"""The exact posterior of up to three parameters of a covariance, on a grid.

Everything happens in u = log σ (density × Jacobian). With v_k = u_k − u_e = ½ log γ_k the likelihood depends on the
overall scale in closed form, V = σ_e² H(γ):

    ℓ_REML = −½ [ ν(log 2π + 2u_e) + D(v) + q(v) e^(−2u_e) ],    ν = n − d,
    D = log|H| + log|XᵀH⁻¹X|,  q = yᵀP_H y,

so that matrices are factorised on the grid of v only, and a shear s = u_e − ½ log(q/ν) (unit Jacobian) makes v and s
nearly independent. The trapezoid rule on a box that leaves out e⁻³² of the peak converges exponentially; every axis is
doubled until log Z moves by less than 1e-8. Correlations enter by their logit on the range left for them, ranges of a
distance decay by their log. D and q come from sufficient statistics (`density.Ratios`) where all parameters are
variances that V is linear in, else from the model's own kernel (`kernel_ratios`).
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from vcbench import kernels
from vcbench.bayes.by_kernel import ByKernel, TwinLikelihood, likelihood_of
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.density import DEPTH, TOLERANCE, Density, Grid, Ratios, Squeeze, along, cell, halve
from vcbench.bayes.kernel_ratios import KernelRatios
from vcbench.bayes.log_prior import LogPrior
from vcbench.bayes.margins import Margins
from vcbench.bayes.modes import Modes
from vcbench.bayes.posterior import Mixture, Posterior
from vcbench.bayes.prior_choice import prior_scales, resolve
from vcbench.bayes.priors import Flat, Priors
from vcbench.bayes.reduced import LIMIT, Reduced
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.fitted import Facts
from vcbench.model.model import Model
from vcbench.status import Status

REACH = 200.0  # log units: a posterior wider than this on the log scale is taken for improper
# Where the box is looked for first: log SD ratios by a kernel, and logits. It grows as far as the posterior reaches; V
# loses its digits where several of them are far out together.
SCAN, UNIT_SCAN = (-9.0, 7.0), (-6.0, 6.0)
MOST_PARAMETERS = 3
IMPROPER = 'the posterior under `Flat("{on}")` on `{name}` is improper {why}. Give it a proper prior.'
MOST = 4096, 256  # nodes of one axis, with one ratio and with two


def quadrature(model: Model, priors: Any = None, criterion: str = "reml") -> Posterior:
    """The exact posterior of a model with up to three parameters in θ, of any structure.

    priors: as for `twin` (β flat). Under criterion "reml" and "ml" the posterior of θ and of β is the same, β being
    flat; `Posterior.mode` differs: "ml" maximises jointly over (β, θ).

    Raises ModelError for more parameters, for a covariance fixed beforehand, for a prior on β, and for flat priors that
    make the posterior improper; MethodError for an unknown criterion.
    """
    return integrate(check_model(model, priors, criterion), model, priors, criterion)


def check_model(model: Model, priors: Any, criterion: str) -> TwinLikelihood:
    """The model's likelihood, if quadrature can be asked for it; else the errors of `quadrature`."""
    if criterion not in ("reml", "ml"):
        raise MethodError(
            f'unknown criterion `{criterion}`. Choose "reml" or "ml".{did_you_mean(criterion, ("reml", "ml"))}'
        )
    if model.n_theta > MOST_PARAMETERS:
        raise ModelError(
            "quadrature integrates up to three variances, correlations or ranges; this model has "
            f"{model.n_theta} parameters: {', '.join(model.theta_names)}. Use "
            "`vcbench.bayes.sample(vcbench.bayes.twin(model))`, or method `nuts`."
        )
    known = resolve(model, priors)
    if known.beta is not None:
        raise ModelError(
            "quadrature integrates β under a flat prior. Leave `beta` out of `priors`, or use method `nuts`."
        )
    likelihood = _likelihood(model)
    if isinstance(likelihood, Reduced):
        _check_proper(likelihood, known)
    else:
        ratios = KernelRatios.of(likelihood, model, 1.0)
        reference = model.theta_names[ratios.places[-1]]
        for name, prior in known.sd.items():
            if isinstance(prior, Flat) and prior.on == "log" and name != reference:
                raise ModelError(IMPROPER.format(on="log", name=name, why="whatever the data"))
    return likelihood


def _likelihood(model: Model) -> TwinLikelihood:
    """Sufficient statistics where V is linear in free variances, a closed form where one is known, else the kernel."""
    variances = all(item.axis.kind == "sd" for item in Coordinates.of(model).items)
    if variances and Reduced.why_not(model) is None and not _large(model):
        return Reduced.of(model)
    own = None if model.components else likelihood_of(model)
    return own if isinstance(own, ClosedForm) else ByKernel.of(model)


def _large(model: Model) -> bool:
    """Whether the sufficient statistics would be one block too large for them."""
    if kernels.choose(model)[0] in ("grouped", "spectral") or not model.components:
        return False
    return min(sum(Z.shape[1] for c in model.components for Z in c.factors()), model.n_obs) > LIMIT


def integrate(likelihood: TwinLikelihood, model: Model, priors: Any = None, criterion: str = "reml") -> Posterior:
    """`quadrature` of a model already reduced and checked (many responses of one design pay for the design once)."""
    wall, cpu = time.perf_counter(), time.process_time()
    known, units = resolve(model, priors), prior_scales(model)
    coordinates = Coordinates.of(model)
    ratios: Any
    if isinstance(likelihood, Reduced):
        ratios = Ratios(likelihood)
    else:
        ratios = KernelRatios.of(likelihood, model, units[model.theta_names[_reference(coordinates)]])
    density = Density(ratios, LogPrior.of(coordinates, known, ratios.places))
    box, s, heavy = _box(density, _start(density, coordinates, units))
    squeezes = _squeezes(density, box, s)
    z = [np.linspace(q.z(a[0]), q.z(a[-1]), 33) for q, a in zip(squeezes, box, strict=True)]
    z, s, grid, log_z, error, doublings = _double(density, squeezes, z, s)
    axes = [q.u(x) for q, x in zip(squeezes, z, strict=True)]
    weight = np.exp(grid.F + grid.slope - log_z) * cell(z, s)
    edge = _edge_mass(weight, [*z, s])
    base, degree = ratios.scaled(axes)
    theta = [b[..., None] * np.exp(n * grid.t) for b, n in zip(base, degree, strict=True)]
    theta_mean, theta_cov = _moments(weight, theta)
    is_variance = np.array(model.working.is_variance)
    sd_mean, sd_cov = _moments(
        weight, [np.sqrt(x) if v else x * np.nan for x, v in zip(theta, is_variance, strict=True)]
    )
    for k, (mean, variance) in heavy.items():
        at = ratios.places[k]
        if variance:
            theta_cov[at, :] = theta_cov[:, at] = np.nan
        if mean:
            theta_mean[at] = np.nan
    beta_mean, beta_cov, mixtures = _beta(likelihood, grid, weight)
    margins = Margins(density, grid, squeezes, z, s, model.theta_names, dict(zip(model.X_names, mixtures, strict=True)))  # type: ignore[arg-type]
    converged = error < TOLERANCE
    message = "" if converged else f"log Z still moves by {error:.1e} after {doublings} doublings"
    return Posterior(
        model.theta_names,
        tuple(model.X_names),  # type: ignore[arg-type]
        criterion,
        theta_mean,
        np.sqrt(np.diag(theta_cov)),
        theta_cov,
        sd_mean,
        np.sqrt(np.diag(sd_cov)),
        beta_mean,
        beta_cov,
        float(log_z),
        error,
        edge,
        ratios.points[0],
        weight.size,
        doublings,
        time.perf_counter() - wall,
        time.process_time() - cpu,
        Status.CONVERGED if converged else Status.MAX_ITER,
        message,
        margins,
        Modes(density, axes, grid, weight, criterion),
        Facts.of(model),
    )


def _reference(coordinates: Coordinates) -> int:
    """The residual's first variance."""
    items = coordinates.items
    return next(j for j, item in enumerate(items) if item.owner == "residual" and item.axis.kind == "sd")


def _start(density: Density, coordinates: Coordinates, units: Mapping[str, float]) -> list[np.ndarray]:
    """Axes to scan first: SD ratios about those of the prior's scales, correlations about their start."""
    ratios, start = density.ratios, coordinates.start
    names = [item.name for item in coordinates.items]
    by_kernel = isinstance(ratios, KernelRatios)
    reach = SCAN if by_kernel else (-40.0, 20.0)
    axes = []
    for k, j in enumerate(ratios.places[:-1]):
        kind, prior = ratios.kind(k), density.prior.axes[k].prior
        if kind == "sd":
            centre = math.log(units[names[j]] / units[names[ratios.places[-1]]])
        elif kind == "range":
            centre = math.log(prior.scale)
        else:
            centre = math.log(start[j] / (1 - start[j]))
        coarse = 51 if len(ratios.places) < 3 else 21 if by_kernel else 26
        axes.append(centre + np.linspace(*reach, coarse))
    return axes


def _check_proper(reduced: Reduced, priors: Priors) -> None:
    """MATH §10: with m = rank[X Z] − rank X, flat on σ is proper for m ≥ 2, on σ² for m ≥ 3, on log σ never."""
    flat = {n: p for n, p in list(priors.sd.items())[:-1] if isinstance(p, Flat)}
    if not flat:
        return
    d = reduced.n_fixed
    within = np.zeros((d + 1, d + 1))
    low = np.tril_indices(d + 1)
    within[low] = within[low[1], low[0]] = reduced.within
    seen = int(reduced.count.sum()) * reduced.m if len(reduced.S) else 0
    m = seen + int(np.linalg.matrix_rank(within[:d, :d], tol=1e-9)) - d
    for name, prior in flat.items():
        least = {"sd": 2, "var": 3, "log": None}[prior.on]
        if least is None or m < least:
            why = "whatever the data" if least is None else f"with rank[X Z] − rank X = {m}, below {least}"
            raise ModelError(IMPROPER.format(on=prior.on, name=name, why=why))


def _box(density: Density, axes: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray, dict[int, tuple[bool, bool]]]:
    """Scanning grids shrunk and stretched until they just hold what lies within e^-DEPTH of the peak.

    Also what the second moments of σ² need; by axis of an SD: (mean, variance), true where its tail is too heavy.
    """
    tau = 1 / math.sqrt(2 * density.nu)
    s = tau * np.sinh(np.linspace(math.asinh(-12 / tau), math.asinh(40 / tau), 65))
    axes, s = _fit_box(density, axes, s, None)
    heavy = {}
    for k in range(len(axes) + 1):
        if k < len(axes) and density.ratios.kind(k) != "sd":
            continue
        marks = []
        for power in (2.0, 4.0):
            try:
                axes, s = _fit_box(density, axes, s, (k, power))
                marks.append(False)
            except ModelError:
                marks.append(True)
        heavy[k] = (marks[0], marks[1])
    return axes, s, heavy


def _fit_box(
    density: Density, axes: list[np.ndarray], s: np.ndarray, moment: tuple[int, float] | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """The box of the density, or of density × σ_k^power; in the second case it only grows."""
    low0, high0 = [a[0] for a in (*axes, s)], [a[-1] for a in (*axes, s)]
    top = -math.inf
    for _ in range(40):
        grid = density.on(axes, s)
        F = grid.F
        if moment is not None:
            k, power = moment
            F = F + power * ((along(axes[k], k, len(axes) + 1) if k < len(axes) else 0.0) + grid.t)
        top = max(top, float(F.max()))
        keep = top - DEPTH < F
        if not keep.any():  # a peak narrower than the new step: back to its neighbourhood
            keep = F.max() <= F
        new, moved = [], False
        for j, a in enumerate((*axes, s)):
            inside = np.flatnonzero(keep.any(axis=tuple(i for i in range(F.ndim) if i != j)))
            low, high = a[max(inside[0] - 1, 0)], a[min(inside[-1] + 1, len(a) - 1)]
            length = high - low
            if inside[0] == 0:
                low -= 0.25 * length + 1
            if inside[-1] == len(a) - 1:
                high += 0.25 * length + 1
            if moment is not None:
                low, high = min(low, low0[j]), max(high, high0[j])
            if high - low > REACH:
                raise ModelError(
                    "the posterior does not fall off on the log scale of the variances: under these priors it is "
                    "improper, or has no such moment. Use proper priors."
                )
            old = a[-1] - a[0]
            moved |= not 0.8 * old <= high - low <= old * 1.0000001
            new.append(np.linspace(low, high, 33))
        axes, s = new[:-1], new[-1]
        if not moved:
            break
    if min(a[-1] - a[0] for a in (*axes, s)) < 1e-6:
        raise ModelError(
            "the posterior has no box: its density rises without end towards a singular V. Use proper priors, or fewer "
            "parameters."
        )
    return axes, s


def _squeezes(density: Density, axes: list[np.ndarray], s: np.ndarray) -> list[Squeeze]:
    """For each ratio the map that shortens its tail towards 0, if the tail is long against the peak."""
    grid = density.on(axes, s)
    out = []
    for k, a in enumerate(axes):
        profile = grid.F.max(axis=tuple(i for i in range(grid.F.ndim) if i != k))
        top = int(profile.argmax())
        left = np.flatnonzero(profile[: top + 1] < profile[top] - 2)
        width = min(1.0, float(a[top] - a[left[-1]])) if len(left) else 1.0
        out.append(Squeeze(float(a[top]) - 2 * width, width) if a[top] - a[0] > 10 * width else Squeeze())
    return out


def _double(density: Density, squeezes: list[Squeeze], z: list[np.ndarray], s: np.ndarray) -> tuple:
    """Double the axes that still move log Z, until none does by TOLERANCE."""
    most = MOST[0] if len(z) < 2 else MOST[1]
    for doubling in range(1, 30):
        grid = density.on([q.u(x) for q, x in zip(squeezes, z, strict=True)], s)
        slope = sum(along(np.log(q.slope(x)), k, len(z) + 1) for k, (q, x) in enumerate(zip(squeezes, z, strict=True)))
        grid = replace(grid, slope=np.asarray(slope))
        F = grid.F + slope
        log_z = _log_z(F, z, s)
        moves = []
        for j in range(F.ndim):
            every = [slice(None, None, 2) if i == j else slice(None) for i in range(F.ndim)]
            thin = [a[e] for a, e in zip((*z, s), every, strict=True)]
            moves.append(abs(_log_z(F[tuple(every)], thin[:-1], thin[-1]) - log_z))
        wanted = [m > TOLERANCE and len(a) < most for m, a in zip(moves, (*z, s), strict=True)]
        if not any(wanted):
            return z, s, replace(grid, log_z=log_z), log_z, max(moves), doubling
        grown = [halve(a) if w else a for a, w in zip((*z, s), wanted, strict=True)]
        z, s = grown[:-1], grown[-1]
    raise AssertionError("an axis doubled 30 times")


def _log_z(F: np.ndarray, axes: Sequence[np.ndarray], s: np.ndarray) -> float:
    return float(logsumexp(F)) + math.log(cell(axes, s))


def _edge_mass(weight: np.ndarray, axes: Sequence[np.ndarray]) -> float:
    """Mass beyond the faces of the box, were the density to fall off there by e per unit; in truth it does faster."""
    total = 0.0
    for j, a in enumerate(axes):
        h = a[1] - a[0]
        faces = np.take(weight, [0, -1], axis=j).sum()
        total += float(faces) / float(h)
    return total


def _moments(weight: np.ndarray, x: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the x_k, which broadcast against the weights."""
    total = weight.sum()
    mean = np.array([(weight * x_k).sum() / total for x_k in x])
    cov = np.empty((len(x), len(x)))
    for i in range(len(x)):
        for j in range(i + 1):
            cov[i, j] = cov[j, i] = (weight * (x[i] - mean[i]) * (x[j] - mean[j])).sum() / total
    return mean, cov


def _beta(reduced: TwinLikelihood, grid: Grid, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """Mean and covariance of β, and its marginals: mixtures of N(GLS(v), σ_e² (XᵀH⁻¹X)⁻¹) over the grid."""
    d = reduced.n_fixed
    if not d:
        return np.zeros(0), np.zeros((0, 0)), []
    inverse = np.linalg.inv(reduced.T)
    cov = inverse @ np.linalg.inv(grid.A) @ inverse.T
    centre = reduced.beta0 + grid.centre @ inverse.T
    total = weight.sum()
    row = weight.sum(axis=-1) / total
    scale = (weight * np.exp(2 * grid.t)).sum(axis=-1) / total
    mean = np.tensordot(row, centre, axes=row.ndim)
    gap = centre - mean
    spread = np.einsum("m,mi,mj->ij", row.ravel(), gap.reshape(-1, d), gap.reshape(-1, d))
    beta_cov = spread + np.tensordot(scale, cov, axes=scale.ndim)
    keep = weight > weight.max() * 1e-12
    w = weight[keep] / weight[keep].sum()
    sigma = np.exp(grid.t[keep])
    out = []
    for j in range(d):
        c = np.broadcast_to(centre[..., j, None], weight.shape)[keep]
        sd = sigma * np.sqrt(np.broadcast_to(cov[..., j, j, None], weight.shape)[keep])
        out.append(Mixture(w, c, sd))
    return mean, beta_cov, out
