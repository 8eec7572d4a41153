"""Tests of a component by the likelihood ratio, on a block of replicates: a p-value beside each estimate.

    LRT = 2(ℓ_1 − ℓ_0),     ℓ_0 the maximum without the component, by the same method and criterion

Both models are fitted to the whole block at once, and an exact null distribution is worked out once for a design.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import chdtrc

from vcbench.errors import ModelError, did_you_mean
from vcbench.fit import FitMany, fit_many
from vcbench.inference.exact_null import ExactNull
from vcbench.model.model import Model
from vcbench.study.asked import TestTable
from vcbench.study.rows import BlockFit


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
    wall, cpu = fit.seconds + null.seconds, fit.cpu_seconds + null.cpu_seconds
    at = time.perf_counter(), time.process_time()
    p_of = _null_distribution(test, many, null, seeds, design)
    once = (time.perf_counter() - at[0]) / len(many), (time.process_time() - at[1]) / len(many)
    p, message = np.full(len(many), np.nan), [*fit.message]
    for r, (one, other) in enumerate(zip(many.status, null.status, strict=True)):
        if not (one.ok and other.ok):
            said = f"no p-value: the fit without {test.drop} ended {other}" if one.ok else "no p-value"
            message[r] = "; ".join(m for m in (message[r], said) if m)
            continue
        at = time.perf_counter(), time.process_time()
        p[r] = p_of(r, max(2.0 * float(many.loglik[r] - null.loglik[r]), 0.0))
        wall[r] += time.perf_counter() - at[0] + once[0]
        cpu[r] += time.process_time() - at[1] + once[1]
    own = [j for j, name in enumerate(fit.parameters) if name in _parameters(many.model, test.drop)]
    p_value = fit.p_value.copy()
    p_value[:, own] = p[:, None]
    return replace(fit, p_value=p_value, message=message, seconds=wall, cpu_seconds=cpu)


def _null_distribution(
    test: TestTable,
    many: FitMany,
    null: FitMany,
    seeds: Sequence[np.random.SeedSequence],
    design: np.random.SeedSequence,
) -> Callable[[int, float], float]:
    """p(r, LRT) of the replicates, with what the design alone determines worked out."""
    if test.kind == "chi2":
        df = many.theta.shape[1] - null.theta.shape[1]
        return lambda r, statistic: float(chdtrc(df, statistic))
    if test.kind == "exact":
        seed = int(design.generate_state(1)[0])
        exact = ExactNull.of(many.model, many.criterion, n_sim=test.draws, seed=seed)
        return lambda r, statistic: exact.p_value(statistic)
    raise NotImplementedError


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
