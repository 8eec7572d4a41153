"""Planted bugs that calibration must find, and the setting a posterior is computed in: right, or with one of them.

    D1  degrees of freedom   those that the effects use up stay with the residual: a posterior of σ_e that is too low
                             and too narrow, with nothing to be seen on β
    D2  prior mismatch       truths come from the prior, the posterior takes half its scales
    D3  ignored data         the posterior is that of the data without one group: right for what it saw, so that every
                             parameter passes, and the log-likelihood of all data does not

They are reached through `vc.bayes.sbc(…, mutant=…)` alone; none is a method.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vcbench.bayes.priors import Priors
from vcbench.errors import DataError, ModelError, did_you_mean
from vcbench.model.model import Model

MUTANTS = {
    "D1": "the residual's degrees of freedom without those that the effects use up",
    "D2": "a posterior whose prior has half the scales of the one that truths come from",
    "D3": "a posterior that ignores the data of one group",
}
SHARE = 0.2  # of the rows, where there are no groups


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The model, prior and rows that the posterior is made from; `extra` degrees of freedom of the residual."""

    model: Model
    priors: Priors
    rows: np.ndarray | None = None
    extra: float = 0.0

    def response(self, y: np.ndarray) -> np.ndarray:
        """What the posterior sees of y (n,)."""
        return y if self.rows is None else y[self.rows]

    def twin(self, criterion: str) -> Any:
        """The twin that is sampled."""
        from vcbench.bayes.twin import twin

        made = twin(self.model, self.priors, criterion)
        return made if not self.extra else replace(made, reduced=_wrong(made.reduced, self.extra))

    def quadrature(self, y: np.ndarray, criterion: str) -> Any:
        """The exact posterior given y (n,)."""
        from vcbench.bayes.quadrature import check_model, integrate

        own = self.response(y)
        model = self.model.replace(y=own)
        reduced = check_model(self.model, self.priors, criterion)
        reduced = reduced.bind(own if model.offset is None else own - model.offset)
        return integrate(_wrong(reduced, self.extra) if self.extra else reduced, model, self.priors, criterion)


def check_mutant(mutant: str, model: Model) -> None:
    """DataError for an unknown mutant."""
    if mutant not in MUTANTS:
        raise DataError(f"unknown mutant `{mutant}`. Choose from {', '.join(MUTANTS)}.{did_you_mean(mutant, MUTANTS)}")


def build_setting(plan: Any, mutant: str = "") -> Setting:
    """The setting of a plan, with a bug or without."""
    model, priors = plan.model, plan.priors
    if mutant == "D1":
        effects = sum(len(c.levels) * c.n_effects if c.is_grouped else 0 for c in model.components)
        return Setting(model, priors, None, float(effects or 0.2 * model.n_obs))
    if mutant == "D2":
        halved = {name: replace(p, scale=0.5 * p.scale) for name, p in priors.sd.items()}  # type: ignore[call-arg, operator]
        return Setting(model, replace(priors, sd=halved))
    if mutant == "D3":
        from vcbench.model.subset import subset

        rows = _without_one_group(model)
        return Setting(subset(model, rows), priors, rows)
    return Setting(model, priors)


def _without_one_group(model: Model) -> np.ndarray:
    """The rows of all but the first level of the first grouping factor; all but the first fifth where there is none."""
    grouped = next((c for c in model.components if c.codes is not None), None)
    if grouped is not None:
        return np.flatnonzero(grouped.codes != 0)
    units = np.asarray(model.noise.units)
    if len(np.unique(units)) not in (1, model.n_obs):
        return np.flatnonzero(units != units[0])
    return np.arange(model.n_obs) >= round(SHARE * model.n_obs)


def _wrong(reduced: Any, extra: float) -> Any:
    if not hasattr(reduced, "n_within"):
        raise ModelError("this twin has no sufficient statistics whose degrees of freedom could be wrong.")
    return replace(reduced, n_within=reduced.n_within + extra, n_obs=reduced.n_obs + extra)
