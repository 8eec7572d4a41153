"""Tests of a component by the likelihood ratio, on a block of replicates: a p-value beside each estimate.

    LRT = 2(ℓ_1 − ℓ_0),     ℓ_0 the maximum without the component, by the same method and criterion

Both models are fitted to the whole block at once, and an exact null distribution is worked out once for a design.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vcbench.errors import ModelError, did_you_mean
from vcbench.fit import FitMany, fit_many
from vcbench.inference.likelihood_ratio import lrt
from vcbench.model.model import Model
from vcbench.study.asked import TestTable
from vcbench.study.rows import BlockFit

SAME = 1e-9  # of 1 + |ℓ|: a difference of two maxima that is rounding


def test_component(
    test: TestTable,
    many: FitMany,
    fit: BlockFit,
    options: Mapping[str, Any],
    seeds: Sequence[np.random.SeedSequence],
    design: np.random.SeedSequence,
) -> BlockFit:
    """The block with p-values in the rows of the component's parameters, and with what they cost.

    `options` are the method's own; a replicate's bootstrap draws from its seed, the null distribution of the design
    from the design's. Where one of the two fits is no maximum there is no p-value, and the message says so.
    """
    smaller = without(many.model, test.drop)
    null = fit_many(smaller, many.Y, many.method, many.criterion, **options)
    shared = _whole(design)
    p, message = np.full(len(many), np.nan), [*fit.message]
    wall, cpu = fit.seconds + null.seconds, fit.cpu_seconds + null.cpu_seconds
    for r, (one, other) in enumerate(zip(many.status, null.status, strict=True)):
        if not (one.ok and other.ok):
            said = f"no p-value: the fit {'with' if not one.ok else 'without'} {test.drop} is no maximum"
            message[r] = "; ".join(m for m in (message[r], said) if m)
            continue
        at = time.perf_counter(), time.process_time()
        if 2.0 * (many.loglik[r] - null.loglik[r]) <= SAME * (1.0 + abs(many.loglik[r])):
            p[r] = 1.0  # whatever the null distribution
        else:
            seed = _whole(seeds[r]) if test.kind == "bootstrap" else shared
            p[r] = lrt(null[r], many[r], test.kind, test.draws, seed).p
        wall[r] += time.perf_counter() - at[0]
        cpu[r] += time.process_time() - at[1]
    own = [j for j, name in enumerate(fit.parameters) if name in _parameters(many.model, test.drop)]
    p_value = fit.p_value.copy()
    p_value[:, own] = p[:, None]
    return replace(fit, p_value=p_value, message=message, seconds=wall, cpu_seconds=cpu)


def _whole(seed: np.random.SeedSequence) -> int:
    """A seed as the whole number that `lrt` takes."""
    return int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))


def without(model: Model, name: str) -> Model:
    """The model without its component `name`, kept with the design. ModelError if it has none of that name."""
    kept = [c for c in model.components if c.name != name]
    if len(kept) == len(model.components):
        known = [c.name for c in model.components]
        raise ModelError(
            f"`drop` names `{name}`, which is no component of the model.{did_you_mean(name, known)} It has "
            f"{', '.join(known) or 'none'}."
        )
    made = model.design.kernels
    key = f"without:{name}"
    if key not in made:
        made[key] = Model(
            model.y, model.X, kept, X_names=model.X_names, residual=model.residual, noise=model.noise,
            offset=model.offset, equal=[group for group in model.equal if name not in group],
        )  # fmt: skip
    return made[key]


def _parameters(model: Model, name: str) -> set[str]:
    """θ names of a component."""
    return {theta for c in model.components if c.name == name for theta in c.theta_names}
