"""A study in N parts, for machines that share nothing but a file system: `--shard I/N`, then `vcbench study collect`.

Part I does the I-th, (I + N)-th, … of the study's tasks, whatever the other parts do, in a run folder of its own:

    OUT/shards/<I>-of-<N>/

Parts are numbered 1 … N, as a SLURM array `--array=1-N` numbers its jobs. What OUT itself holds (parts collected
before) is not made again. The number of replicates has to be known before: no part sees what the others found.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vcbench.errors import SpecError
from vcbench.study.plan import plan_tasks
from vcbench.study.pool import is_long
from vcbench.study.seeds import method_stream
from vcbench.study.spec import Spec
from vcbench.study.stopping import goes_on
from vcbench.study.work import Task

SHARDS = "shards"
Done = Mapping[tuple[str, int], set[int]]


@dataclass(frozen=True, slots=True)
class Part:
    """Part `index` of `of`, from 1."""

    index: int
    of: int

    @classmethod
    def read(cls, said: str) -> "Part":
        """`I/N`. Raises SpecError for anything else, and unless 1 ≤ I ≤ N."""
        found = re.fullmatch(r"(\d+)/(\d+)", said.strip())
        if found is None:
            raise SpecError(f"shard is `{said}`; it must be I/N, such as 3/10 or ${{SLURM_ARRAY_TASK_ID}}/10.")
        index, of = int(found[1]), int(found[2])
        if not 1 <= index <= of:
            raise SpecError(
                f"shard {index}/{of} is not there: shards are numbered 1/{of} … {of}/{of}. Number a SLURM array alike:"
                f" --array=1-{of}."
            )
        return cls(index, of)

    @property
    def name(self) -> str:
        """`03-of-10`."""
        return f"{self.index:0{len(str(self.of))}d}-of-{self.of}"

    def folder(self, out: Path) -> Path:
        """The part's run folder within that of the study."""
        return out / SHARDS / self.name

    def tasks(self, spec: Spec, sizes: Mapping[str, int], own: Done, collected: Done) -> tuple[list[Task], int]:
        """The tasks left to this part, and how many fits it has, those in its folder included."""
        owners = _owners(spec, sizes, self.of)
        have = {where: own.get(where, set()) | collected.get(where, set()) for where in {*own, *collected}}
        left = []
        for task in plan_tasks(spec, have, sizes)[0]:
            block = task.first // spec.table.block_size
            mine = tuple(m for m in task.methods if owners[task.condition, m, block] == self.index)
            if mine:
                left.append(Task(task.condition, mine, task.first, task.n))
        return left, sum(map(len, own.values())) + sum(task.n * len(task.methods) for task in left)


def check_fixed(spec: Spec, reps: int | None, until_mcse: bool) -> None:
    """Raise SpecError for a study whose parts would have to look at each other."""
    if goes_on(spec, reps, until_mcse):
        why = "its checks are decided" if spec.table.rule == "sequential" else "its Monte Carlo errors are small enough"
        raise SpecError(
            f"{spec.name} goes on until {why}, which no shard can see. Say how many replicates with --reps, or run it"
            " on one machine, or on a cluster with --dask."
        )


def owner_of(spec: Spec, sizes: Mapping[str, int], of: int, condition: str, method: str, replicate: int) -> Part:
    """The part that makes a replicate."""
    c = [one.id for one in spec.conditions].index(condition)
    m = [one.label for one in spec.methods].index(method)
    return Part(_owners(spec, sizes, of)[c, m, replicate // spec.table.block_size], of)


def planned(spec: Spec, sizes: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """Replicates by (condition id, method stream), of a study with these replicates by condition."""
    return {
        (c.id, method_stream(m.label)): n
        for c in spec.conditions
        for m in spec.methods
        if (n := spec.replicates(c, m, sizes[c.id]))
    }


def _owners(spec: Spec, sizes: Mapping[str, int], of: int) -> dict[tuple[int, int, int], int]:
    """The part that makes each (condition, method, block): dealt out in turn, long tasks first, so that each has some
    of every kind."""
    tasks = sorted(plan_tasks(spec, {}, sizes)[0], key=lambda task: not is_long(spec, task))
    block = spec.table.block_size
    return {(t.condition, m, t.first // block): 1 + i % of for i, t in enumerate(tasks) for m in t.methods}
