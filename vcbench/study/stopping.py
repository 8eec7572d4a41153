"""How many replicates a run makes: as many as said, or as many as its checks and precision targets turn out to need.

A run that may go on looks after each whole block at the replicates 0 … n − 1 of every condition, whatever else its
folder holds, so that where it stops depends on the study alone: a run that was killed, topped up or moved ends with
the same rows. A condition goes on, with all its methods, while a sequential check or a precision target that speaks of
it is open, until `n_max`; one that nothing is open about stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from vcbench.errors import SpecError
from vcbench.study.acceptance import check_rows, select
from vcbench.study.conditions import Condition
from vcbench.study.parts import Rows, as_parts, measure_parts
from vcbench.study.spec import Spec

Sizes = Mapping[str, int]  # replicates by condition id


@dataclass(frozen=True, slots=True)
class Standing:
    """How a precision target stands for one condition, method and parameter; `mcse` NaN where it is undefined."""

    measure: str
    condition: str
    method: str
    parameter: str
    n: int
    mcse: float
    target: float

    @property
    def holds(self) -> bool:
        """True if the Monte Carlo error is as small as wanted."""
        return self.mcse <= self.target


def goes_on(spec: Spec, reps: int | None = None, until_mcse: bool = False) -> bool:
    """True for a run that looks at what it has and may make more; `reps` makes exactly that many."""
    return reps is None and (spec.table.rule == "sequential" or until_mcse or spec.table.replicates is None)


def first_sizes(spec: Spec, reps: int | None = None, until_mcse: bool = False) -> dict[str, int]:
    """The replicates of each condition before the first look: in whole blocks, where the run may go on."""
    n, block = reps or spec.table.first, spec.table.block_size
    if goes_on(spec, reps, until_mcse):
        n = max(n, min(-(-n // block) * block, spec.table.n_max))
    return {c.id: 1 if c.real else n for c in spec.conditions}


def check_until(spec: Spec, reps: int | None, until_mcse: bool) -> None:
    """Raise SpecError where a run cannot go on until its targets hold."""
    if until_mcse and not spec.table.precision:
        raise SpecError(
            f"{spec.name} names no Monte Carlo errors to reach. Add a table  [precision]  with, e.g.,  coverage = 0.005"
        )
    if until_mcse and reps is not None:
        raise SpecError("give either a number of replicates or until_mcse: a run cannot keep to both.")


def standings(spec: Spec, rows: pd.DataFrame | Rows) -> list[Standing]:
    """How the targets of `[precision]` stand, one a condition, method and parameter they speak of."""
    targets, rows = spec.table.precision, as_parts(rows)
    if not targets or not rows.conditions:
        return []
    only = {target.measure for target in targets.values()}
    found = measure_parts(rows, level=spec.table.level, reference=spec.table.reference, only=only)
    return [
        Standing(target.measure, str(row.condition), str(row.method), str(row.parameter), int(row.n), float(row.mcse),
                 target.mcse)
        for name, target in targets.items()
        for row in select(spec, target, f"precision.{name}", found).itertuples()
    ]  # fmt: skip


def next_sizes(spec: Spec, rows: pd.DataFrame | Rows, at: Sizes, until_mcse: bool = False) -> dict[str, int]:
    """The conditions that go on from `at`, and to how many replicates; empty once the run may stop.

    A target's next look is where √n says that it will hold, in whole blocks and at least one.
    """
    table = spec.table
    here = as_parts(rows).below(at)
    conditions = {c.id: c for c in spec.conditions}
    caps = {m.label: m.replicates for m in spec.methods}
    open_: dict[str, float] = {}

    def want(condition: str, method: str, n: float) -> None:
        most = _most(spec, conditions[condition])
        if at[condition] < min(most, caps[method] or most):
            open_[condition] = max(open_.get(condition, 0.0), n)

    if table.rule == "sequential":
        for v in check_rows(spec, here):
            if v.verdict == "INCONCLUSIVE" and v.n:
                want(v.condition, v.method, 0.0)
    if until_mcse or table.replicates is None:
        for s in standings(spec, here):
            if s.n and not s.holds:
                want(s.condition, s.method, at[s.condition] * (s.mcse / s.target) ** 2 if s.mcse > 0 else 0.0)
    block = table.block_size
    return {
        id: min(_most(spec, conditions[id]), max((at[id] // block + 1) * block, int(min(n, 1e12)) // block * block))
        for id, n in open_.items()
    }


def _most(spec: Spec, condition: Condition) -> int:
    if condition.real:
        return 1
    return min(spec.table.n_max, condition.replicates or spec.table.n_max)


def target_lines(spec: Spec, rows: pd.DataFrame | Rows) -> list[str]:
    """How many of the precision targets hold, one line a target."""
    found = standings(spec, rows)
    lines = []
    for target in spec.table.precision.values():
        of_it = [s for s in found if s.measure == target.measure and s.mcse == s.mcse]
        reached, undefined = sum(s.holds for s in of_it), sum(s.measure == target.measure for s in found) - len(of_it)
        line = f" target MCSE({target.measure}) ≤ {target.mcse:g}: {reached} of {len(of_it)} reached"
        lines.append(line + (f", {undefined} without an MCSE" if undefined else ""))
    if any(s.mcse > s.target for s in found) and spec.table.replicates is not None:
        lines.append(f" continue with: vcbench study run {spec.name} --until-mcse")
    return lines
