"""What is left to do: the replicates a specification asks for, less those in the store, cut into tasks."""

from collections.abc import Iterable, Mapping

from vcbench.study.seeds import method_stream
from vcbench.study.spec import Spec
from vcbench.study.work import Task

Done = Mapping[tuple[str, int], set[int]]


def plan_tasks(spec: Spec, done: Done, sizes: Mapping[str, int] | None = None) -> tuple[list[Task], int]:
    """The tasks left, and the number of fits the study has in all; `sizes` are replicates by condition.

    A block belongs to the specification: replicates k·block_size … (k+1)·block_size − 1, cut where the study ends.
    Quick methods share a task, and with it the data; a long one has tasks of its own.

    The last bits of replicates that are fitted together depend on how many they are. So a block that the study's end
    cut short, and that has more replicates now, is fitted again as a whole, and its new shard takes the place of the
    old: topping up gives what one run of that size gives, for at most block_size − 1 fits a condition and method made
    twice. What is fitted one by one (a long method, a design of each replicate's own) is made where it is missing only.
    """
    tasks: list[Task] = []
    total = 0
    for c, condition in enumerate(spec.conditions):
        together: dict[tuple[int, int], list[int]] = {}
        for m, method in enumerate(spec.methods):
            planned = spec.replicates(condition, method, sizes[condition.id] if sizes else None)
            total += planned
            have = done.get((condition.id, method_stream(method.label)), set())
            alone = method.long or (condition.generator is not None and condition.generator.redraws)
            for first, n in (gaps if alone else short_blocks)(planned, spec.table.block_size, have):
                if method.long:
                    tasks.append(Task(c, (m,), first, n))
                else:
                    together.setdefault((first, n), []).append(m)
        tasks += [Task(c, tuple(methods), first, n) for (first, n), methods in together.items()]
    return tasks, total


def gaps(planned: int, block_size: int, have: set[int]) -> Iterable[tuple[int, int]]:
    """(first, n) of each unbroken run of missing replicates within a block."""
    for start in range(0, planned, block_size):
        first = None
        for r in range(start, min(start + block_size, planned) + 1):
            inside = r < min(start + block_size, planned) and r not in have
            if inside and first is None:
                first = r
            elif not inside and first is not None:
                yield first, r - first
                first = None


def short_blocks(planned: int, block_size: int, have: set[int]) -> Iterable[tuple[int, int]]:
    """(first, n) of each block with a missing replicate."""
    for start in range(0, planned, block_size):
        n = min(block_size, planned - start)
        if not have.issuperset(range(start, start + n)):
            yield start, n
