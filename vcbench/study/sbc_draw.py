"""Truths from the prior, and data from the model at them: one replicate from its own stream."""

import math
from dataclasses import dataclass

import numpy as np

from vcbench.bayes.priors import Priors, SdPrior
from vcbench.inference.simulation import simulate
from vcbench.model.model import Model
from vcbench.study.sbc_plan import Plan
from vcbench.study.seeds import DATA, generator


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """θ (p,), β (d,) and the y (n,) drawn at them."""

    theta: np.ndarray
    beta: np.ndarray
    y: np.ndarray


def draw_truth(plan: Plan, replicate: int) -> Truth:
    """(θ, β, y) of one replicate: the same for every method, whatever else is run."""
    rng = generator(plan.seed, plan.condition.key, replicate, DATA)
    theta = draw_theta(plan.model, plan.priors, rng)
    if plan.priors.beta is not None:
        beta = plan.priors.beta.draw(rng, 1, plan.model.n_fixed)[0]
    else:
        assert plan.beta is not None
        beta = plan.beta
    return Truth(theta, beta, simulate(plan.model, theta, beta, 1, rng)[:, 0])


def draw_theta(model: Model, priors: Priors, rng: np.random.Generator) -> np.ndarray:
    """θ (p,) from its prior, natural units.

    Ω = diag(σ) C diag(σ) by blocks, σ of each family, C of the LKJ law; σ² of a split of the total variance where the
    prior is one; the parameters of structures by their coordinates (`bayes.coordinates`), which are independent.
    """
    linear = all(c.cov.is_linear for c in model.components)  # type: ignore[union-attr]
    if not (model.noise.is_plain and linear):
        return _structured(model, priors, rng)
    if priors.split is not None:
        sd = dict(zip(priors.split.names, np.sqrt(priors.split.draw(rng, 1)[0]), strict=True))
    else:
        sd = {name: draw_sd(prior, rng) for name, prior in priors.sd.items()}
    theta = {name: value**2 for name, value in sd.items()}
    for c in model.components:
        at = {pair: name for name, pair in zip(c.theta_names, c.index, strict=True)}
        for block in c.partition:
            if len(block) == 1:
                continue
            C = priors.lkj[c.name].draw(rng, 1, len(block))[0]
            for i, a in enumerate(block):
                for j, b in enumerate(block[:i]):
                    name = at.get((a, b)) or at[b, a]
                    theta[name] = C[i, j] * sd[at[a, a]] * sd[at[b, b]]
    return np.array([theta[name] for name in model.theta_names])


def draw_sd(prior: SdPrior, rng: np.random.Generator) -> float:
    """σ from a family that is stated on σ, σ² or log σ."""
    x = float(prior.draw(rng, 1)[0])
    return {"sd": lambda: x, "var": lambda: math.sqrt(x), "log": lambda: math.exp(x)}[prior.on]()


def _structured(model: Model, priors: Priors, rng: np.random.Generator) -> np.ndarray:
    from vcbench.bayes.coordinates import Coordinates

    coordinates = Coordinates.of(model)
    variances = {} if priors.split is None else dict(
        zip(priors.split.names, priors.split.draw(rng, 1)[0], strict=True)
    )  # fmt: skip
    x = []
    for item in coordinates.items:
        if item.axis.lkj is not None:
            b = priors.lkj[item.owner].shape(*item.axis.lkj)
            x.append(float(rng.beta(b, b)))
        elif item.axis.kind == "sd":
            x.append(math.sqrt(variances[item.name]) if variances else draw_sd(priors.sd[item.name], rng))
        else:
            x.append(float(priors.shape[item.name].draw(rng, 1)[0]))
    return coordinates.theta(x)
