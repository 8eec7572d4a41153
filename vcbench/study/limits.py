"""The intervals that a method entry asks for, on a block of replicates: limits, their cost, and why there are none.

The point estimates and their errors are those of the block, fitted together; what is worked out replicate by replicate
(a profile, refits) uses the kernel of the design, which the replicates share.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench.errors import VcbenchError
from vcbench.fit import FitMany, fit_many
from vcbench.inference.bootstrap import Bootstrap, bootstrap
from vcbench.inference.intervals import quantile, wald_limits
from vcbench.inference.profile import profile_interval
from vcbench.inference.variances import on_boundary, rows_of
from vcbench.status import Status
from vcbench.study.asked import IntervalTable
from vcbench.study.rows import BlockFit

Seeds = Sequence[np.random.SeedSequence]


@dataclass(slots=True)
class Limits:
    """(R, P) limits, NaN where there are none, the seconds (R,) they took, and a word (R,) where they are missing."""

    lower: np.ndarray
    upper: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    message: list[str] = field(default_factory=list)

    @classmethod
    def none(cls, R: int, P: int) -> "Limits":
        """No limits at all."""
        return cls(np.full((R, P), np.nan), np.full((R, P), np.nan), np.zeros(R), np.zeros(R), [""] * R)

    def on(self, fit: BlockFit, interval: IntervalTable, level: float) -> BlockFit:
        """The block with these limits, for the parameters asked for, and with their cost added to its own."""
        places = interval.places(fit.parameters)
        lower, upper = np.full_like(fit.lower, np.nan), np.full_like(fit.upper, np.nan)
        lower[:, places], upper[:, places] = self.lower[:, places], self.upper[:, places]
        lost = np.isnan(fit.estimate).all(axis=1)
        lower[lost], upper[lost] = np.nan, np.nan
        message = ["; ".join(m for m in both if m) for both in zip(fit.message, self.message, strict=True)]
        return replace(
            fit, lower=lower, upper=upper, interval=interval.name, level=level, message=message,
            seconds=fit.seconds + self.seconds, cpu_seconds=fit.cpu_seconds + self.cpu_seconds,
        )  # fmt: skip


def limits_of(
    interval: IntervalTable,
    many: FitMany,
    level: float,
    options: Mapping[str, Any],
    seeds: Seeds,
    kept: dict[Any, Any],
) -> Limits:
    """The limits of θ and β of a block's fits.

    `options` are the method's own, with which it refits; a replicate draws from its seed. `kept` hands the refits of a
    task to its next method, if that has the same seeds.
    """
    if interval.kind == "wald":
        return _wald(many, level, interval.symmetric_on)
    if interval.kind == "posterior":
        return _posterior(many, seeds)
    if interval.kind == "profile":
        return _profile(many, level, interval)
    return _bootstrap(many, level, interval, options, seeds, kept)


def _wald(many: FitMany, level: float, symmetric_on: str) -> Limits:
    """θ̂ ± z·se on the scale asked for; none for parameters on the boundary."""
    model, z = many.model, quantile(level)
    kinds = [row.kind for row in rows_of(model.theta_names, model.working.is_variance)]
    kinds += ["fixed"] * many.beta.shape[1]
    estimate, se = np.hstack([many.theta, many.beta]), np.hstack([many.theta_se, many.beta_se])
    out = Limits.none(*estimate.shape)
    for r in range(len(estimate)):
        limits = [wald_limits(*one, z, symmetric_on) for one in zip(kinds, estimate[r], se[r], strict=True)]
        out.lower[r], out.upper[r] = np.transpose(limits)
        if many.status[r] is Status.AT_BOUNDARY:
            edge = np.flatnonzero(on_boundary(many[r]))
            out.lower[r, edge] = out.upper[r, edge] = np.nan
    return out


def _posterior(many: FitMany, seeds: Seeds) -> Limits:
    """The fits' own limits, else those of the twin's posterior under default priors, as `fit.confint` has them."""
    if many.lower is not None and many.upper is not None:
        out = Limits.none(*many.lower.shape)
        out.lower, out.upper = many.lower, many.upper
        return out
    method = "quadrature" if many.model.n_theta <= 3 else "nuts"
    criterion = many.criterion if many.criterion in ("ml", "reml") else None
    found = fit_many(many.model, many.Y, method, criterion, seed=list(seeds))
    assert found.lower is not None
    assert found.upper is not None
    return Limits(found.lower, found.upper, found.seconds, found.cpu_seconds, [*found.message])


def _profile(many: FitMany, level: float, interval: IntervalTable) -> Limits:
    """Profile-likelihood limits of the parameters asked for."""

    def one(r: int, name: str) -> tuple[float, float, str]:
        found = profile_interval(many[r], name, level, interval.criterion)
        return found.lower, found.upper, found.note

    return _each(many, interval, one)


def _bootstrap(
    many: FitMany, level: float, interval: IntervalTable, options: Mapping[str, Any], seeds: Seeds, kept: dict[Any, Any]
) -> Limits:
    """Parametric bootstrap limits. Each method of a task that uses the same refits is charged for them."""

    def refits(r: int) -> tuple[Bootstrap, float, float]:
        key = seeds[r].spawn_key
        if key not in kept:
            wall, cpu = time.perf_counter(), time.process_time()
            seed = int(seeds[r].generate_state(1, np.uint64)[0] >> np.uint64(1))
            made = bootstrap(many[r], interval.n, seed, **options)
            kept[key] = made, time.perf_counter() - wall, time.process_time() - cpu
        return kept[key]

    def one(r: int, name: str) -> tuple[float, float, str]:
        found = refits(r)[0].interval(name, interval.type, level)
        return float(found["lower"]), float(found["upper"]), found.attrs["note"]

    made_before = {r for r, seed in enumerate(seeds) if seed.spawn_key in kept}
    out = _each(many, interval, one)
    for r in made_before:
        _, wall, cpu = kept[seeds[r].spawn_key]
        out.seconds[r] += wall
        out.cpu_seconds[r] += cpu
    return out


def _each(many: FitMany, interval: IntervalTable, one: Callable[[int, str], tuple[float, float, str]]) -> Limits:
    """Limits of one replicate and parameter after the other, timed. A fit that is no maximum has none; what stands
    against an interval is said, and the estimate stays."""
    names = (*many.model.theta_names, *(many.model.X_names or ()))
    out = Limits.none(len(many), len(names))
    for r, status in enumerate(many.status):
        if not status.ok:
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        said = []
        for j in interval.places(names):
            try:
                out.lower[r, j], out.upper[r, j], note = one(r, names[j])
            except VcbenchError as error:
                note = str(error)
            if np.isnan(out.lower[r, j]) or np.isnan(out.upper[r, j]):
                said.append(f"no {interval.kind} interval for {names[j]}: {note}")
        out.message[r] = "; ".join(said)
        out.seconds[r], out.cpu_seconds[r] = time.perf_counter() - wall, time.process_time() - cpu
    return out
