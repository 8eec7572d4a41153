"""What has been done and what is left while a study runs: counts by method and ending, and the time it will take."""

import time
from collections import Counter
from dataclasses import dataclass, field

from vcbench.study.price import seconds_per_fit
from vcbench.study.spec import Spec
from vcbench.study.work import Result, Task


@dataclass(slots=True)
class Tally:
    """Counts of a run. `left` is by (condition, method) place; `endings` and `pace` (fits, seconds) by label."""

    spec: Spec
    total: int
    left: dict[tuple[int, int], int]
    workers: int = 1
    began: float = field(default_factory=time.monotonic)
    endings: dict[str, Counter[str]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    pace: dict[str, tuple[int, float]] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)
    current: int = 0
    failed: int = 0
    resumed: int = 0

    @classmethod
    def of(cls, spec: Spec, tasks: list[Task], total: int, workers: int) -> "Tally":
        """The tally at the start of a run that has these tasks left."""
        tally = cls(spec, total, {}, workers)
        tally.grow(tasks, total)
        tally.resumed = tally.done
        return tally

    def grow(self, tasks: list[Task], total: int) -> None:
        """The run goes on: these tasks are left of `total` fits."""
        left: Counter[tuple[int, int]] = Counter()
        for task in tasks:
            left.update({(task.condition, i): task.n for i in task.methods})
        self.total, self.left = total, dict(left)

    @property
    def done(self) -> int:
        """Fits in hand, earlier runs included."""
        return self.total - sum(self.left.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def add(self, result: Result) -> None:
        """Count a finished task."""
        self.current = result.task.condition
        self.warnings.update(result.warnings)
        for part in result.parts:
            label = self.spec.methods[part.method].label
            self.endings.setdefault(label, Counter()).update(part.endings)
            self.parts[label] = self.parts.get(label, 0) + 1
            if self.parts[label] > self.workers:  # each worker compiles what it meets first
                fits, spent = self.pace.get(label, (0, 0.0))
                self.pace[label] = fits + result.task.n, spent + part.seconds
            self.left[result.task.condition, part.method] -= result.task.n
            self.failed += len(part.failures)

    def condition_done(self, condition: int) -> bool:
        """True once nothing is left of a condition."""
        return not any(n for (c, _), n in self.left.items() if c == condition)

    def eta(self) -> float | None:
        """Seconds left, at this run's own pace where a method has shown one; None before the first task is done."""
        if not self.endings:
            return None
        return sum(self._cost(where, n) for where, n in self.left.items()) / self.workers

    def _cost(self, where: tuple[int, int], n: int) -> float:
        """Seconds of n fits: measured, or priced where the method has only been warming up."""
        if not n:
            return 0.0
        condition, method = self.spec.conditions[where[0]], self.spec.methods[where[1]]
        fits, spent = self.pace.get(method.label, (0, 0.0))
        if fits:
            return n * spent / fits
        once, each = seconds_per_fit(condition, method)
        return once + n * each
