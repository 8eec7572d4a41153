"""What a calibration run is: a model, the prior that parameters are drawn from, and the methods that are judged by it.

    θ ~ π,   β ~ N(m, s²I) or fixed,   y ~ N(Xβ, V(θ)),   posterior of (θ, β) given y by a method, rank of the truth

The prior's scales are fixed numbers, taken from the model's own y once: a prior that followed the y just drawn would be
another prior for each, and no posterior under it is calibrated.

**Flat β.** It cannot be drawn, and need not be. Under y → y + Xb the posterior of β under a flat prior moves by b, that
of θ not at all, and the law of y given θ is invariant: the rank of θ, of any linear function of β and of ℓ(β, θ; y)
does not depend on the β that y was drawn with. So it is uniform for any fixed one: it is for β uniform on a box, up to
what happens at its faces, which vanishes as the box grows, and all of the box gives the same rank. β is therefore kept
at the OLS estimate of the model's own y. Other functions of β are not invariant, and are refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from vcbench.bayes.prior_choice import resolve
from vcbench.bayes.priors import Flat, Priors
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.model import Model
from vcbench.study.conditions import Condition
from vcbench.study.entries import MethodEntry
from vcbench.study.seeds import canonical_json, digest

BLOCK = 25  # replicates of a task; belongs to the run, because a block is fitted together
SCALES = ("var", "sd", "log")


@dataclass(frozen=True)
class Plan:
    """One model with its prior. Methods are no part of it: they may be added to a folder later and see the same data.

    beta (d,): the fixed β, None where it has a prior. said: the quantities asked for beside the default ones.
    """

    name: str
    model: Model = field(repr=False)
    priors: Priors
    seed: int
    beta: np.ndarray | None
    said: tuple[Any, ...] = ()
    block_size: int = BLOCK

    @cached_property
    def data_hash(self) -> str:
        """What determines the truths and the data, as hexadecimal digits."""
        return digest([fingerprint(self.model), self._beta(), self.priors.explain()])

    @cached_property
    def spec_hash(self) -> str:
        """What determines the rows of a method."""
        return digest([self.data_hash, self.seed, self.block_size, [_name(q) for q in self.said]])

    @property
    def text(self) -> str:
        """The run in a few lines of TOML, kept beside its rows."""
        lines = [f"name = {json.dumps(self.name, ensure_ascii=False)}", f"seed = {self.seed}"]
        lines.append(f"block_size = {self.block_size}")
        said = json.dumps([_name(q) for q in self.said], ensure_ascii=False)
        lines.append(f"quantities = {said}")
        lines.append(f'priors = """\n{self.priors.explain()}\n"""')
        return "\n".join(lines) + "\n"

    @cached_property
    def condition(self) -> Condition:
        """The one condition, whose key is part of every seed."""
        return Condition("000", self.name, None, f"sbc {self.data_hash}", {}, {})

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """As a study has them."""
        return (self.condition,)

    def _beta(self) -> list[float] | None:
        return None if self.beta is None else [float(f"{b:.12g}") for b in self.beta]


@dataclass(frozen=True, slots=True)
class Judged:
    """A method as it is judged. kind: "sampled", "exact" or "normal"; scales: of a normal approximation."""

    name: str
    criterion: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scales: tuple[str, ...] = ()
    mutant: str = ""

    @property
    def label(self) -> str:
        """The name, and whatever differs from the defaults."""
        extra = [f"{key}={value}" for key, value in sorted(self.options.items())]
        if self.kind == "normal" and self.criterion == "ml":
            extra.insert(0, "ml")
        if self.mutant:
            extra.append(f"mutant {self.mutant}")
        return self.name + (f" ({', '.join(extra)})" if extra else "")

    @property
    def entry(self) -> MethodEntry:
        """As the store knows it."""
        return MethodEntry(self.label, self.name, self.criterion, dict(self.options), None, None, self.kind)


def build_plan(
    model: Model, priors: Any = None, seed: int = 0, quantities: Sequence[Any] = (), name: str = "", block: int = BLOCK
) -> Plan:
    """The plan of a model. Raises ModelError for a prior that is improper on a parameter of θ."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise MethodError(f"`seed` is {seed!r}; it must be a whole number, 0 or more.")
    known = resolve(model, priors)
    flat = [n for n, p in known.sd.items() if isinstance(p, Flat)]
    if flat:
        raise ModelError(
            f"the prior of `{flat[0]}` is flat: it has no draws, so that nothing can be calibrated against it. Give it "
            "a proper prior, such as HalfNormal()."
        )
    beta = None
    if known.beta is None:
        y = model.y if model.offset is None else model.y - model.offset
        beta = np.linalg.lstsq(model.X, y, rcond=None)[0]  # type: ignore[arg-type]
    said = (quantities,) if isinstance(quantities, str) or callable(quantities) else tuple(quantities)
    return Plan(name or model.name or model.formula or "model", model, known, seed, beta, said, block)


def build_judged(
    plan: Plan, method: str, criterion: str | None, scales: Sequence[str], mutant: str, options: Mapping[str, Any]
) -> Judged:
    """The method as it will be judged. Raises MethodError for what it is not, or cannot give."""
    from vcbench.methods import check_method, check_options
    from vcbench.study.sbc_methods import EXACT, SAMPLED
    from vcbench.study.sbc_mutants import check_mutant

    known = check_method(method, criterion)
    check_options(known, options)
    own = [key for key in ("priors", "seed", "estimate") if key in options]
    if own:
        raise MethodError(f"`{own[0]}` is no option of a calibrated method: the calibration has its own.")
    if mutant:
        check_mutant(mutant, plan.model)
    if method in EXACT or method in SAMPLED:
        if plan.priors.beta is not None and (method in EXACT or criterion == "reml"):
            what = f"method `{method}` takes" if method in EXACT else 'criterion "reml" has'
            raise MethodError(f"{what} a flat β; this prior has a normal one. Choose `nuts` under ml.")
        kind = "exact" if method in EXACT else "sampled"
        return Judged(method, criterion or ("reml" if plan.beta is not None else "ml"), kind, dict(options), (), mutant)
    if known.kind not in ("solver", "moments"):
        raise MethodError(
            f"method `{method}` gives neither a posterior nor an estimate with a covariance matrix. Choose "
            f"{', '.join((*SAMPLED, *EXACT))}, or a solver such as ai."
        )
    unknown = [s for s in scales if s not in SCALES]
    if unknown or not scales:
        raise MethodError(
            f"unknown scale `{unknown[0] if unknown else ''}`. Choose from {', '.join(SCALES)}."
            f"{did_you_mean(unknown[0], SCALES) if unknown else ''}"
        )
    return Judged(method, criterion or known.criteria[0], "normal", dict(options), tuple(scales), mutant)


def _name(quantity: Any) -> str:
    return str(getattr(quantity, "__qualname__", quantity))


def fingerprint(model: Model) -> str:
    """BLAKE2b of what defines the design: names, X, offset, and every component's matrices. y is no part of it."""
    out = hashlib.blake2b(digest_size=10)

    def add(value: Any) -> None:
        if value is None:
            return
        if sparse.issparse(value):
            value = value.tocsr()
            for part in (value.indptr, value.indices, value.data):
                add(part)
            return
        a = np.ascontiguousarray(value)
        out.update(f"{a.shape}{a.dtype.kind}".encode())
        out.update(a.tobytes() if a.dtype.kind in "fiub" else repr(a.tolist()).encode())

    noise = model.noise
    out.update(canonical_json([list(model.theta_names), list(model.X_names or ()), str(model.residual)]).encode())
    for value in (model.X, model.offset, noise.units, noise.weights):
        add(value)
    for c in model.components:
        out.update(repr((c.name, c.n_effects, c.partition)).encode())
        add(c.Z)
        add(c.codes)
        if c.relation is not None:
            add(c.relation.precision if c.relation.precision is not None else c.K)
    out.update(repr(noise.family).encode())
    return out.hexdigest()
