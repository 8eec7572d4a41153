"""Which prior each parameter of a model gets: the defaults, and what a user, a card or a study wrote.

A scale that was not given is the standard deviation of y over the root mean square of what multiplies the effect, so
that a change of units changes nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from vcbench.bayes.priors import FAMILIES, LKJ, SHORT, Flat, HalfNormal, HalfT, Normal, Priors, SdPrior
from vcbench.errors import ModelError, did_you_mean
from vcbench.model.model import Model


def defaults(model: Model) -> Priors:
    """Half-normal on every σ; for correlated effects LKJ(2) and half-t(3) on theirs. Scales: see the module."""
    return resolve(model, None)


def resolve(model: Model, priors: Any = None) -> Priors:
    """The priors of `model` from what a user, a card or a study wrote.

    priors: None (the defaults), `Priors`, one family for every σ (a value such as `PC()`, or its name: "half-normal",
    "half-t", "pc", "flat-var", "flat-sd", "flat-log"), or a mapping. Its keys are a component (`Subject`), one variance
    (`Subject:var(Days)`), `residual`, `default`, `beta`; its values families, names, or tables such as
    `{"family": "half-t", "df": 4, "scale": 10}`. A component may also map to an `LKJ`, or to a list of both.
    Raises ModelError for what it cannot read.
    """
    if isinstance(priors, Priors):
        unknown = set(priors.sd) ^ set(_variances(model))
        if unknown:
            raise ModelError(f"the priors are of another model: `{sorted(unknown)[0]}` is in one of the two only.")
        return priors
    said = _read(model, priors)
    units = prior_scales(model)
    sd: dict[str, SdPrior] = {}
    lkj: dict[str, LKJ] = {}
    for name, owner in _variances(model).items():
        default: SdPrior = HalfT() if name in _correlated(model) else HalfNormal()
        prior = next((p for key in (name, owner, "default") for p in said.get(key, ()) if not _is_lkj(p)), default)
        if prior.scale is None and not isinstance(prior, Flat):
            prior = replace(prior, scale=units[name])
        sd[name] = prior
    for c in model.components:
        if any(len(block) > 1 for block in c.partition):
            lkj[c.name] = next((p for key in (c.name, "default") for p in said.get(key, ()) if _is_lkj(p)), LKJ())
        elif any(_is_lkj(p) for p in said.get(c.name, ())):
            raise ModelError(f"component `{c.name}` has no correlated effects: it takes no LKJ prior.")
    flat = [n for n in _correlated(model) if isinstance(sd[n], Flat) and sd[n].on != "sd"]
    if flat:
        raise ModelError(
            f'`{flat[0]}` belongs to correlated effects: its prior is stated on the SD. Use `Flat("sd")` or a proper '
            "family with an LKJ prior."
        )
    beta = said.get("beta", (None,))[0]
    return Priors(sd, lkj, beta)


def prior_scales(model: Model) -> dict[str, float]:
    """sd(y)/rms of what multiplies each effect, by variance name; sd(y) for an intercept and for the residual."""
    y = model.y if model.offset is None else model.y - model.offset
    sd_y = float(np.std(y, ddof=1))
    out = {}
    for c in model.components:
        names = [name for name, (a, b) in zip(c.theta_names, c.index, strict=True) if a == b]
        effects = [a for a, b in c.index if a == b]
        if c.is_grouped:
            size = (c.Z**2).mean(axis=0)  # type: ignore[operator]
        elif c.relation is not None:
            size = np.array([(Z**2).sum() / model.n_obs for Z in c.factors()])
        else:
            Z: Any = c.Z
            size = np.array([(Z**2).sum() / model.n_obs]) if c.is_plain else (Z**2).mean(axis=0)
        out.update({name: sd_y / math.sqrt(size[a]) for name, a in zip(names, effects, strict=True)})
    return out | {name: sd_y for name in model.noise.names}  # type: ignore[union-attr]


def _variances(model: Model) -> dict[str, str]:
    """{variance name: component}, in the order of θ."""
    out = {}
    for c in model.components:
        out.update({name: c.name for name, (a, b) in zip(c.theta_names, c.index, strict=True) if a == b})
    return out | {name: "residual" for name in model.noise.names}  # type: ignore[union-attr]


def _correlated(model: Model) -> set[str]:
    """Variances of effects that share a block of Ω with others."""
    out = set()
    for c in model.components:
        many = {a for block in c.partition if len(block) > 1 for a in block}
        out |= {name for name, (a, b) in zip(c.theta_names, c.index, strict=True) if a == b and a in many}
    return out


def _read(model: Model, priors: Any) -> dict[str, tuple[Any, ...]]:
    """What was written, by key, as families."""
    if priors is None:
        return {}
    if not isinstance(priors, Mapping) or "family" in priors:
        priors = {"default": priors}
    keys = [*_variances(model), *(c.name for c in model.components), "residual", "default", "beta"]
    out: dict[str, tuple[Any, ...]] = {}
    for key, value in priors.items():
        if key not in keys:
            raise ModelError(
                f"`priors` names `{key}`, which the model does not have. It has {', '.join(keys)}."
                f"{did_you_mean(key, keys)}"
            )
        items = tuple(_family(key, v) for v in (value if isinstance(value, list | tuple) else [value]))
        if key == "beta":
            if items == (None,):
                continue
            if not isinstance(items[0], Normal):
                raise ModelError(f"the prior of β is {items[0]!r}; it must be `Normal(scale)` or None (flat).")
        elif any(isinstance(p, Normal) or p is None for p in items):
            raise ModelError(f"the prior of `{key}` must be on a standard deviation, not {items!r}.")
        out[key] = items
    return out


def _family(key: str, value: Any) -> Any:
    if value is None or isinstance(value, SdPrior | LKJ | Normal):
        return value
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = dict(value)
        value = options.pop("family", None)
    if not options and value in SHORT:
        return SHORT[value]
    if not options and key == "beta" and value == "flat":
        return None
    if value not in FAMILIES:
        known = [*FAMILIES, *SHORT]
        raise ModelError(
            f"`priors`: unknown family {value!r} for `{key}`. Choose from {', '.join(known)}."
            f"{did_you_mean(str(value), known)}"
        )
    family = FAMILIES[value]
    allowed = [f.name for f in fields(family)]
    for option, number in options.items():
        if option not in allowed:
            raise ModelError(f"`priors`: `{value}` has no `{option}`. It has {', '.join(allowed)}.")
        if option != "on" and not (isinstance(number, int | float) and math.isfinite(number)):
            raise ModelError(f"`priors`: `{option}` of `{key}` is {number!r}; it must be a number.")
        if (option in ("scale", "df", "eta") and number <= 0) or (option == "tail" and not 0 < number < 1):
            raise ModelError(f"`priors`: `{option}` of `{key}` is {number!r}, outside its range.")
    if value == "normal" and "scale" not in options:
        raise ModelError(f"`priors`: the normal prior of `{key}` has no `scale`.")
    return family(**options)


def _is_lkj(prior: Any) -> bool:
    return isinstance(prior, LKJ)
