"""Functions of the parameters as rows of their own: `derive = ["h2 = snp / total"]` in a study.

The estimate is the function at (θ̂, β̂), its standard error and limits those of `fit.derive`: delta method, or a profile
where the method was asked for one. The truth is the function at the true values. A posterior's median of a function is
not the function of its medians: those methods have no such row.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from vcbench.errors import VcbenchError
from vcbench.fit import FitMany
from vcbench.fitted import Facts
from vcbench.inference.quantities import quantity_of
from vcbench.model.model import Model
from vcbench.study.entries import MethodEntry
from vcbench.study.rows import PER_PARAMETER, BlockFit


def name_of(said: str) -> str:
    """The name before the `=`."""
    return said.partition("=")[0].strip()


def true_values(model: Model, truth: Mapping[str, float], derive: Sequence[str]) -> dict[str, float]:
    """The functions at the true values, by name. Raises what `fit.derive` raises for one that it does not know."""
    theta = np.array([truth[name] for name in model.theta_names])
    beta = np.array([truth[name] for name in model.X_names or ()])
    return {name_of(said): float(quantity_of(Facts.of(model), said).jet(theta, beta)[0]) for said in derive}


def _known(model: Model, derive: Sequence[str]) -> list[str]:
    """The functions that a model which is not the data's own has: those of parameters that both share."""
    found = []
    for said in derive:
        with suppress(VcbenchError):
            quantity_of(Facts.of(model), said)
            found.append(said)
    return found


def with_derived(fit: BlockFit, many: FitMany, method: MethodEntry, level: float) -> BlockFit:
    """The block with the functions that the method's study asks for behind its parameters."""
    if not method.derive or method.kind == "bayes":
        return fit
    derive = method.derive if method.model is None else _known(many.model, method.derive)
    if not derive:
        return fit
    kind = "wald" if method.interval is None else method.interval.kind
    way = "profile" if kind == "profile" else "delta"
    values = np.full((len(PER_PARAMETER), len(many), len(derive)), np.nan)
    for r in range(len(many)):
        if np.isnan(fit.estimate[r]).all():
            continue
        one = many[r]
        for j, said in enumerate(derive):
            row = one.derive(said, way, level)
            values[:4, r, j] = row["estimate"], row["se"], row["lower"], row["upper"]
    if kind not in ("wald", "profile") or method.test is not None:
        values[2:4] = np.nan
    parameters = (*fit.parameters, *map(name_of, derive))
    more: dict[str, Any] = {
        name: np.hstack([getattr(fit, name), part]) for name, part in zip(PER_PARAMETER, values, strict=True)
    }
    return replace(fit, parameters=parameters, **more)
