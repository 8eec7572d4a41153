"""Draws from the prior: parameters, and responses at them (the prior predictive distribution)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.build import safe
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.priors import Flat, Priors
from vcbench.bayes.twin import Twin
from vcbench.errors import MethodError, ModelError
from vcbench.model.model import Model

if TYPE_CHECKING:
    import xarray as xr

ATTEMPTS = 200  # rounds in which draws that give no positive definite R are replaced


def prior_predictive(twin: Twin, n: int = 500, seed: Any = None, beta: Any = None) -> "xr.DataTree":
    """n draws of (θ, β) from the twin's priors and a response y (n_obs,) from the model at each, as a DataTree.

    Groups: `prior` (θ by our names, `beta`), `prior_predictive` (`y`), `observed_data` (`y`), one chain. What y does
    under the prior is what the prior says: compare its SD, range and the shares of variance with what is plausible.

    β that has a flat prior cannot be drawn: pass `beta` (d,), at which it is then held (the estimates of a fit, or 0),
    or give it a prior by `priors={"beta": Normal(scale)}` and criterion "ml". seed: int, SeedSequence or None.
    Raises ModelError for a flat prior of a variance and for `beta` left out or of the wrong length, MethodError for n.
    """
    import arviz as az

    from vcbench.inference.simulation import simulate

    if int(n) != n or n < 1:
        raise MethodError(f"`n` is {n!r}; it must be a whole number of draws, 1 or more.")
    model, n = twin.source, int(n)
    check_proper(twin.priors)
    rng = np.random.default_rng(seed)
    B = _coefficients(twin, n, beta, rng)
    theta = draw_theta(model, twin.priors, n, rng)
    Y = np.stack([simulate(model, t, b, 1, rng)[:, 0] for t, b in zip(theta, B, strict=True)])
    prior = {safe(name): theta[None, :, j] for j, name in enumerate(model.theta_names)} | {"beta": B[None]}
    return az.from_dict(
        {"prior": prior, "prior_predictive": {"y": Y[None]}, "observed_data": {"y": model.y}},
        dims={"beta": ["fixed"], "y": ["row"]},
        coords={"fixed": list(model.X_names), "row": np.arange(model.n_obs)},  # type: ignore[arg-type]
    )


def check_proper(priors: Priors) -> None:
    """ModelError naming the first variance with a flat prior."""
    flat = [name for name, prior in priors.sd.items() if isinstance(prior, Flat)]
    if flat:
        raise ModelError(
            f"`{flat[0]}` has a flat prior, which is no distribution: nothing can be drawn from it. Give it a proper "
            'one, such as "half-normal" or "pc".'
        )


def draw_theta(model: Model, priors: Priors, n: int, rng: np.random.Generator) -> np.ndarray:
    """θ (n, p), natural units, from priors that are all proper.

    Coordinates are drawn independently (`coordinates`): SDs by their families or a split of the total variance, partial
    correlations by LKJ, parameters of structures by theirs. A draw at which a matrix is not positive definite (bands
    and patterns, whose priors hold within what is) is drawn again.
    """
    coordinates = Coordinates.of(model)
    out = np.empty((n, model.n_theta))
    left = np.arange(n)
    for _ in range(ATTEMPTS):
        X = _coordinates(coordinates, priors, len(left), rng)
        for i, x in zip(left, X, strict=True):
            out[i] = coordinates.theta(x)
        left = left[[not _valid(model, out[i]) for i in left]]
        if not len(left):
            return out
    raise ModelError(
        f"{len(left)} of {n} draws from the prior gave no positive definite matrix in {ATTEMPTS} rounds. Give the "
        "correlations priors nearer to 0."
    )


def _coordinates(coordinates: Coordinates, priors: Priors, n: int, rng: np.random.Generator) -> np.ndarray:
    """x (n, p)."""
    split = {} if priors.split is None else dict(zip(priors.split.names, priors.split.draw(rng, n).T, strict=True))
    X = np.empty((n, len(coordinates.items)))
    for j, item in enumerate(coordinates.items):
        if item.axis.kind == "sd":
            if split:
                X[:, j] = np.sqrt(split[item.name])
                continue
            prior = priors.sd[item.name]
            drawn = prior.draw(rng, n)
            X[:, j] = np.sqrt(drawn) if prior.on == "var" else drawn
        elif item.axis.lkj is not None and item.axis.kind == "partial":
            b = priors.lkj[item.owner].shape(*item.axis.lkj)
            X[:, j] = rng.beta(b, b, n)
        else:
            X[:, j] = priors.shape[item.name].draw(rng, n)
    return X


def _valid(model: Model, theta: np.ndarray) -> bool:
    """Whether every Ω and R at θ is positive definite."""
    from vcbench.errors import DataError
    from vcbench.inference.simulation import simulate

    try:
        simulate(model, theta, np.zeros(model.n_fixed), 1, 0)
    except DataError:
        return False
    return True


def _coefficients(twin: Twin, n: int, beta: Any, rng: np.random.Generator) -> np.ndarray:
    """β (n, d): drawn where it has a prior, else held at `beta`."""
    d = twin.source.n_fixed
    if twin.priors.beta is not None:
        if beta is not None:
            raise ModelError("β has a prior of its own: leave out `beta`.")
        return twin.priors.beta.draw(rng, n, d)
    if beta is None:
        raise ModelError(
            "β has a flat prior, which is no distribution: pass `beta=` to hold it at a value (as fit.beta), or "
            '`priors={"beta": Normal(scale)}` with criterion="ml".'
        )
    held = np.asarray(beta, float)
    if held.shape != (d,) or not np.isfinite(held).all():
        names = ", ".join(twin.source.X_names or ())
        raise ModelError(f"`beta` has shape {held.shape}; it must hold {d} finite numbers: {names}.")
    return np.tile(held, (n, 1))
