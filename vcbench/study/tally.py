"""What has been done and what is left while a study runs: counts by method and ending, and the time it will take."""

import time
from collections import Counter
from dataclasses import dataclass, field

from vcbench.study.price import seconds_per_fit
from vcbench.study.spec import Spec
from vcbench.study.work import Result, Task


@dataclass(slots=True)
class Tally:
    """Counts of a run. `left` is by (condition, method) place; `endings` and `seconds` by method label, of this run."""

    spec: Spec
    total: int
    left: dict[tuple[int, int], int]
    workers: int = 1
    began: float = field(default_factory=time.monotonic)
    endings: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)
    current: int = 0
    failed: int = 0
    resumed: int = 0

    @classmethod
    def of(cls, spec: Spec, tasks: list[Task], total: int, workers: int) -> "Tally":
        """The tally at the start of a run that has these tasks left."""
        left: Counter[tuple[int, int]] = Counter()
        for task in tasks:
            left.update({(task.condition, i): task.n for i in task.methods})
        return cls(spec, total, dict(left), workers, resumed=total - left.total())

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
            self.seconds[label] = self.seconds.get(label, 0.0) + part.seconds
            self.left[result.task.condition, part.method] -= result.task.n
            self.failed += len(part.failures)

    def condition_done(self, condition: int) -> bool:
        """True once nothing is left of a condition."""
        return not any(n for (c, _), n in self.left.items() if c == condition)

    def eta(self) -> float | None:
        """Seconds left: the price of what is left, at this run's own rate once it has one."""
        rate = self._correction()
        return (
            None if rate is None else rate * sum(self._price(where, n) for where, n in self.left.items()) / self.workers
        )

    def _correction(self) -> float | None:
        """Wall time × workers spent so far over what was priced for it."""
        fits = {label: counts.total() for label, counts in self.endings.items()}
        if not fits:
            return None
        spent = sum(self.seconds.values())
        return max(self.elapsed * self.workers, spent) / max(spent, 1e-9)

    def _price(self, where: tuple[int, int], n: int) -> float:
        """Seconds of n fits: measured of this method where there is a measurement, else the estimate."""
        if not n:
            return 0.0
        condition, method = self.spec.conditions[where[0]], self.spec.methods[where[1]]
        counts = self.endings.get(method.label)
        if counts:
            return n * self.seconds[method.label] / counts.total()
        once, each = seconds_per_fit(condition, method)
        return once + n * each
