"""Which prior each parameter of a model gets: the defaults, and what a user, a card or a study wrote.

A scale that was not given is the standard deviation of y over the root mean square of what multiplies the effect, so
that a change of units changes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from vcbench.bayes.priors import (
    FAMILIES,
    LKJ,
    PC,
    SHORT,
    Beta,
    Flat,
    HalfNormal,
    HalfT,
    InverseGamma,
    Normal,
    Priors,
    SdPrior,
    ShapePrior,
)
from vcbench.bayes.split import Split
from vcbench.errors import ModelError, did_you_mean
from vcbench.model.model import Model
from vcbench.model.structures import Decay

SPLITS = ("total", "default")  # keys that may hold a split of the total variance


def defaults(model: Model) -> Priors:
    """Half-normal on every σ; for free correlation matrices LKJ(2), and half-t(3) on their σ; uniform on correlations
    of a structure, half-normal on the range of a distance decay. Scales: see the module."""
    return resolve(model, None)


def resolve(model: Model, priors: Any = None) -> Priors:
    """The priors of `model` from what a user, a card or a study wrote.

    priors: None (the defaults), `Priors`, one family for every σ (a value such as `PC()`, or its name: "half-normal",
    "half-t", "pc", "flat-var", "flat-sd", "flat-log"; "dirichlet" splits the total variance), or a mapping. Its keys
    are a component (`Subject`), one parameter (`Subject:var(Days)`, `residual:rho`), `residual`, `default`, `total` (a
    `Split`), `beta`; its values families, names, or tables such as `{"family": "half-t", "df": 4, "scale": 10}`. A
    component may also map to an `LKJ` or a `Beta`, for its correlations, or to a list of them.
    Raises ModelError for what it cannot read.
    """
    if isinstance(priors, Priors):
        _check_same(model, priors)
        return priors
    said = _read(model, priors)
    owners, units = _owners(model), prior_scales(model)
    kinds = {name: _kind(model, name, owner) for name, owner in owners.items()}
    correlated = _correlated(model, kinds)
    found = said.get("total", ()) or tuple(p for p in said.get("default", ()) if isinstance(p, Split))
    split = None
    if found:
        _check_split(said, owners, kinds)
        sizes = {n: _sd_y(model) ** 2 / unit**2 for n, unit in units.items()}
        split = found[0].of(tuple(sizes), tuple(sizes.values()), _sd_y(model))
    sd: dict[str, SdPrior] = {}
    shape: dict[str, ShapePrior] = {}
    for name, kind in kinds.items():
        keys = (name, owners[name], "default")
        if kind == "var" and split is None:
            default: Any = HalfT() if name in correlated else HalfNormal()
            sd[name] = _scaled(_first(said, keys, SdPrior) or default, units[name])
        elif kind == "shape":
            shape[name] = _first(said, keys, Beta) or Beta()
        elif kind == "range":
            shape[name] = _scaled(_first(said, keys[:1], HalfNormal | HalfT | PC) or HalfNormal(), _longest(model))
    lkj = {owner: _first(said, (owner, "default"), LKJ) or LKJ() for owner in _matrices(model, kinds, owners)}
    _check_used(said, owners, kinds, lkj)
    flat = [n for n in correlated if isinstance(sd.get(n), Flat) and sd[n].on != "sd"]
    if flat:
        raise ModelError(
            f'`{flat[0]}` belongs to correlated effects: its prior is stated on the SD. Use `Flat("sd")` or a proper '
            "family with an LKJ prior."
        )
    return Priors(sd, lkj, said.get("beta", (None,))[0], shape, split)


def prior_scales(model: Model) -> dict[str, float]:
    """sd(y)/rms of what multiplies each effect, by variance name; sd(y) for an intercept and for the residual.

    A structured Ω with one variance for several effects takes the mean square over them.
    """
    sd_y = _sd_y(model)
    out = {}
    for c, part in zip(model.components, model.working.parts, strict=True):
        if c.is_grouped:
            size = (c.Z**2).mean(axis=0)  # type: ignore[operator]
        elif c.relation is not None:
            size = np.array([(Z**2).sum() / model.n_obs for Z in c.factors()])
        else:
            Z: Any = c.Z
            size = np.array([(Z**2).sum() / model.n_obs]) if c.is_plain else (Z**2).mean(axis=0)
        for name, is_variance in zip(part.names, part.is_variance, strict=True):
            if is_variance:
                own = [s for s, effect in zip(size, c.effects, strict=False) if name == f"{c.name}:var({effect})"]
                out[name] = sd_y / math.sqrt(own[0] if own else size.mean())
    noise = model.noise
    return out | {name: sd_y for name, v in zip(noise.names, noise.is_variance, strict=True) if v}


def _sd_y(model: Model) -> float:
    return float(np.std(model.y if model.offset is None else model.y - model.offset, ddof=1))


def _longest(model: Model) -> float:
    """The largest distance between rows of one unit, of the distance decays in the residual."""
    found: list[float] = []

    def walk(family: Any) -> None:
        if isinstance(family, Decay):
            found.append(float(family.lags[-1]))
        for inner in (*getattr(family, "parts", ()), *(getattr(family, k, None) for k in ("inner", "left", "right"))):
            if inner is not None:
                walk(inner)

    walk(model.noise.family)
    return max(found)


def _owners(model: Model) -> dict[str, str]:
    """{parameter name: component, or "residual"}, in the order of θ."""
    out = {name: c.name for c, part in zip(model.components, model.working.parts, strict=True) for name in part.names}
    return out | {name: "residual" for name in model.noise.names}


def _kind(model: Model, name: str, owner: str) -> str:
    """ "var", "matrix" (an entry of a free covariance or correlation matrix), "range" or "shape"."""
    if model.working.is_variance[model.theta_names.index(name)]:
        return "var"
    own = name.removeprefix(f"{owner}:")
    return "matrix" if own.startswith(("cov(", "cor(")) else "range" if own.startswith("range") else "shape"


def _matrices(model: Model, kinds: Mapping[str, str], owners: Mapping[str, str]) -> list[str]:
    """Owners of free covariance or correlation matrices."""
    return list(dict.fromkeys(owners[name] for name, kind in kinds.items() if kind == "matrix"))


def _correlated(model: Model, kinds: Mapping[str, str]) -> set[str]:
    """Variances of effects that share a free covariance matrix with others."""
    out = set()
    for c, part in zip(model.components, model.working.parts, strict=True):
        if part.family is None and part.names:
            many = {a for block in c.partition if len(block) > 1 for a in block}
            out |= {name for name, (a, b) in zip(part.names, c.index, strict=True) if a == b and a in many}
        elif any(kinds[n] == "matrix" for n in part.names):
            out |= {n for n in part.names if kinds[n] == "var"}
    noise = [n for n in model.noise.names if kinds[n] == "var"]
    return out | (set(noise) if any(n.startswith("residual:cov(") for n in model.noise.names) else set())


def _first(said: Mapping[str, tuple[Any, ...]], keys: Sequence[str], families: Any) -> Any:
    """The first family of the kinds asked for, the most specific key first."""
    return next((p for key in keys for p in said.get(key, ()) if isinstance(p, families)), None)


def _scaled(prior: Any, unit: float) -> Any:
    """The prior with its scale, in units of the data where none was given."""
    if isinstance(prior, Flat) or prior.scale is not None:
        return prior
    return replace(prior, scale=(prior.shape + 1) * unit**2 if isinstance(prior, InverseGamma) else unit)


def _check_same(model: Model, priors: Priors) -> None:
    kinds = {name: _kind(model, name, owner) for name, owner in _owners(model).items()}
    variances = {n for n, kind in kinds.items() if kind == "var"}
    unknown = set(priors.sd or (priors.split.names if priors.split else ())) ^ variances
    unknown |= set(priors.shape) ^ {n for n, kind in kinds.items() if kind in ("shape", "range")}
    if unknown:
        raise ModelError(f"the priors are of another model: `{sorted(unknown)[0]}` is in one of the two only.")


def _check_split(said: Mapping[str, tuple[Any, ...]], owners: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    for key, items in said.items():
        if key not in ("total", "beta") and any(isinstance(p, SdPrior) for p in items) and kinds.get(key) != "range":
            raise ModelError(
                f"`priors`: a Dirichlet split gives every variance its prior; `{key}` has one of its own. Leave it out."
            )


def _check_used(
    said: Mapping[str, tuple[Any, ...]], owners: Mapping[str, str], kinds: Mapping[str, str], lkj: Mapping[str, LKJ]
) -> None:
    """ModelError for a family that nothing of what it was given for can take."""
    for key, items in said.items():
        if key in ("default", "total", "beta"):
            continue
        own = {kinds[key]} if key in kinds else {kinds[n] for n, owner in owners.items() if owner == key}
        for p in items:
            if isinstance(p, LKJ) and key not in lkj:
                raise ModelError(f"component `{key}` has no correlated effects: it takes no LKJ prior.")
            if isinstance(p, Beta) and "shape" not in own:
                raise ModelError(f"`{key}` has no correlation parameter of a structure: it takes no Beta prior.")
            if isinstance(p, SdPrior) and not own & {"var", "range"}:
                raise ModelError(f"the prior of `{key}`, {p!r}, is for a standard deviation. Use `Beta(a, b)`.")
            if isinstance(p, Flat | InverseGamma) and own == {"range"}:
                raise ModelError(f"the prior of `{key}` is {p!r}; choose half-normal, half-t or pc.")


def _read(model: Model, priors: Any) -> dict[str, tuple[Any, ...]]:
    """What was written, by key, as families."""
    keys = [*_owners(model), *(c.name for c in model.components), "residual", "default", "total", "beta"]
    for key in _tables(priors):
        if key not in keys:
            raise ModelError(
                f"`priors` names `{key}`, which the model does not have. It has {', '.join(keys)}."
                f"{did_you_mean(key, keys)}"
            )
    return read_families(priors)


def _tables(priors: Any) -> Mapping[str, Any]:
    """What was written, by key."""
    if priors is None:
        return {}
    if not isinstance(priors, Mapping) or "family" in priors:
        return {"default": priors}
    return priors


def read_families(priors: Any) -> dict[str, tuple[Any, ...]]:
    """What was written, by key, as families, whatever the model. Raises ModelError for what is no prior."""
    if isinstance(priors, Priors):
        return {}
    out: dict[str, tuple[Any, ...]] = {}
    for key, value in _tables(priors).items():
        items = tuple(_family(key, v) for v in (value if isinstance(value, list | tuple) else [value]))
        if key == "beta":
            if items == (None,):
                continue
            if not isinstance(items[0], Normal):
                raise ModelError(f"the prior of β is {items[0]!r}; it must be `Normal(scale)` or None (flat).")
        elif key == "total" and not isinstance(items[0], Split):
            raise ModelError(f'the prior of `total` is {items[0]!r}; it must be `Split(…)`, or family "dirichlet".')
        elif any(isinstance(p, Normal) or p is None or (isinstance(p, Split) and key not in SPLITS) for p in items):
            raise ModelError(f"the prior of `{key}` must be on a standard deviation, not {items!r}.")
        out[key] = items
    return out


def _family(key: str, value: Any) -> Any:
    if value is None or isinstance(value, SdPrior | Beta | LKJ | Normal | Split):
        return value
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = dict(value)
        value = options.pop("family", None)
    if not options and value in SHORT:
        return SHORT[value]
    if not options and key == "beta" and value == "flat":
        return None
    if value == "dirichlet":
        return _split(key, options)
    if value not in FAMILIES:
        known = [*FAMILIES, "dirichlet", *SHORT]
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
        if (option in ("scale", "df", "eta", "shape", "a", "b") and number <= 0) or (
            option == "tail" and not 0 < number < 1
        ):
            raise ModelError(f"`priors`: `{option}` of `{key}` is {number!r}, outside its range.")
    if value == "normal" and "scale" not in options:
        raise ModelError(f"`priors`: the normal prior of `{key}` has no `scale`.")
    if value == "inverse-gamma" and "shape" not in options:
        raise ModelError(f"`priors`: the inverse-gamma prior of `{key}` has no `shape`.")
    return family(**options)


def _split(key: str, options: Mapping[str, Any]) -> Split:
    """A Dirichlet split as a table: `{"family": "dirichlet", "alpha": [1, 2], "total": "half-t"}`."""
    for option in options:
        if option not in ("alpha", "total"):
            raise ModelError(f"`priors`: `dirichlet` has no `{option}`. It has alpha, total.")
    alpha = options.get("alpha", 1.0)
    try:
        alpha = tuple(map(float, alpha)) if isinstance(alpha, list | tuple) else float(alpha)
    except (TypeError, ValueError):
        raise ModelError(
            f"`priors`: `alpha` of `{key}` is {alpha!r}; it must be a number, or one a variance."
        ) from None
    return Split(alpha, _family(key, options.get("total", "half-normal")))
