"""Runs of a study with each mutant and without any: `[mutants]` in its TOML, `vcbench study run`.

A trial is the study with one mutant (or none) and one seed. It goes on as the sequential rule does, looking after every
block, until the check that has to notice the mutant fails, or every check is decided, or `n_max` replicates; a trial
without a mutant, until any check fails. What a trial found is one line of `trials.jsonl`; rows are not kept: the same
seed and mutant give them again. Trials that are there are not run again.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import vcbench
from vcbench.errors import SpecError, StoreError
from vcbench.study import harness_checks, pool, store
from vcbench.study.acceptance import Verdict, check_rows
from vcbench.study.mutants import MUTANTS, Checks, switched_in
from vcbench.study.parts import FrameRows
from vcbench.study.plan import plan_tasks
from vcbench.study.progress import now
from vcbench.study.rows import KEYS
from vcbench.study.seeds import digest, method_stream
from vcbench.study.spec import Spec, reseeded
from vcbench.study.work import provenance, run_task, use_one_thread

KIND, TRIALS = "mutants", "trials.jsonl"
LOOKS = (25, 50, 100, 200, 300, 450, 600, 800, 1000, 1200, 1400)  # rows worked out; verdicts are of every block
QUIET = (50, 200, 450, 550, 700, 850, 1000, 1400)  # where nothing is looked for
BY_MEASURE: Mapping[str, Checks] = {
    "bias": "bias", "coverage": "coverage", "interval_width": "interval width", "share_equal": "agreement",
    "failure_rate": "monotonicity", "convergence_rate": "monotonicity",
}  # fmt: skip
BY_IDENTITY: Mapping[str, Checks] = {
    "ascent": "monotonicity", "one-step map": "one-step map", "ELBO": "ELBO", "log-density": "log-density",
}  # fmt: skip
READ = [
    "condition", "replicate", "method", "criterion", "parameter", "truth", "estimate", "se", "lower", "upper",
    "interval", "level", "p_value", "loglik", "status",
]  # fmt: skip
MOST_ALARMS = 2  # of runs without a mutant, 200 of them


@dataclass(frozen=True, slots=True)
class Trial:
    """The study with this mutant ("": none) and seed."""

    mutant: str
    seed: int
    methods: tuple[int, ...] = ()  # of a study's task: none is long


@dataclass(frozen=True, slots=True)
class Alarm:
    """A check that failed, after so many replicates, and what it saw."""

    check: str
    n: int
    detail: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a trial found. `caught`: the failure of the check that has to notice, where it did; `first`: the first of
    any check; `passed`, `open`: the acceptance checks that passed, and those without a verdict at the end."""

    task: Trial
    caught: Alarm | None
    first: Alarm | None
    passed: int
    open: int
    replicates: int
    cpu_seconds: float

    def line(self) -> dict[str, Any]:
        """As JSON can hold it."""
        told = {
            key: None if alarm is None else asdict(alarm)
            for key, alarm in (("caught", self.caught), ("first", self.first))
        }
        return {"mutant": self.task.mutant, "seed": self.task.seed, **told, "passed": self.passed, "open": self.open,
                "replicates": self.replicates, "cpu_seconds": round(self.cpu_seconds, 3)}  # fmt: skip


def trials_of(spec: Spec) -> list[Trial]:
    """The trials that `[mutants]` asks for. Raises SpecError where the study has no such table or no checks."""
    asked = spec.table.mutants
    if asked is None or not spec.table.acceptance or spec.table.rule != "sequential":
        raise SpecError(
            f'{spec.name} needs  [mutants] , `[[acceptance]]` checks and  rule = "sequential" , which find errors.'
        )
    names = list(MUTANTS) if asked.names is None else asked.names
    wrong = [Trial(name, seed) for name in names for seed in range(1, asked.seeds + 1)]
    return wrong + [Trial("", seed) for seed in range(1, asked.clean + 1)]


def run_mutants(spec: Spec, stem: str, folder: Path, workers: int = 1, progress: bool = True) -> Path:
    """Run the trials that the folder lacks. Returns the folder; raises StoreError for one of another study."""
    trials, key = trials_of(spec), digest([spec.spec_hash, [check.model_dump() for check in spec.table.acceptance]])
    folder.mkdir(parents=True, exist_ok=True)
    with store.locked(folder):
        known = store.read_run(folder) if (folder / store.RUN).is_file() else {}
        if known and (known.get("kind"), known.get("key")) != (KIND, key):
            raise StoreError(f"`{folder}` holds other runs than those of {spec.name}. Name another with --out.")
        note = {"kind": KIND, "key": key, "study": stem, "title": spec.table.title, "question": spec.table.question,
                "spec_hash": spec.spec_hash, "version": vcbench.__version__, "alarm": spec.table.alarm,
                "n_max": spec.table.n_max, "block_size": spec.table.block_size, "provenance": provenance(),
                "started": known.get("started") or now(), "trials": len(trials)}  # fmt: skip
        (folder / store.SPEC).write_text(spec.text, encoding="utf-8")
        (folder / store.RUN).write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        have = {(line["mutant"], line["seed"]) for line in read_trials(folder)}
        left = [trial for trial in trials if (trial.mutant, trial.seed) not in have]
        with (folder / TRIALS).open("a", encoding="utf-8") as file:
            for found in _results(spec, stem, left, workers):
                file.write(json.dumps(found.line(), ensure_ascii=False) + "\n")
                file.flush()
                if progress:
                    _tell(found)
    return folder


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """The lines of `trials.jsonl`, by mutant and seed; a last line that a killed run left unfinished is dropped."""
    path = folder / TRIALS
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    order = {name: i for i, name in enumerate(MUTANTS)}
    found = [json.loads(line) for line in whole.splitlines()]
    return sorted(found, key=lambda line: (order.get(line["mutant"], len(order)), line["seed"]))


def _results(spec: Spec, stem: str, left: list[Trial], workers: int) -> Iterator[Found]:
    if workers == 1 or len(left) < 2:
        yield from pool.run_here(spec, stem, left, run_trial)
        return
    for found in pool.run_pool(spec, stem, left, workers, run_trial, _lost):
        if found is not None:
            yield found


def _lost(spec: Spec, stem: str, trial: Trial, status: Any, why: str) -> Found:
    raise StoreError(f"the process of the run with mutant `{trial.mutant}` and seed {trial.seed} died twice: {why}.")


def _tell(found: Found) -> None:
    import sys

    alarm = found.caught or found.first
    said = f"{alarm.check} after {alarm.n}" if alarm else f"no alarm, {found.passed} checks passed, {found.open} open"
    print(f"{found.task.mutant or 'clean':<6} seed {found.task.seed:<4} {said}", file=sys.stderr, flush=True)


def run_trial(spec: Spec, stem: str, trial: Trial) -> Found:
    """The study with the trial's mutant and seed."""
    use_one_thread()
    began = time.process_time()
    own = reseeded(spec, trial.seed)
    own = replace(own, table=own.table.model_copy(update={"mutant": trial.mutant or None}))
    wanted = MUTANTS[trial.mutant].check if trial.mutant else None
    with switched_in(trial.mutant):
        alarms = _before(own, trial)
        passed, left, n = 0, 0, 0
        if not _enough(alarms, wanted):
            alarms, passed, left, n = _study(own, stem, wanted, alarms)
    caught = [a for a in alarms if a.check == wanted]
    return Found(trial, min(caught, key=_after, default=None), min(alarms, key=_after, default=None), passed, left,
                 n, time.process_time() - began)  # fmt: skip


def _after(alarm: Alarm) -> int:
    return alarm.n


def _enough(alarms: list[Alarm], wanted: str | None) -> bool:
    return any(wanted in (None, alarm.check) for alarm in alarms)


def _before(spec: Spec, trial: Trial) -> list[Alarm]:
    """The harness checks that need none of the study's rows."""
    seed = spec.table.seed
    said = [
        Alarm("resuming", harness_checks.WHOLE, harness_checks.resuming(seed, trial.mutant)),
        Alarm("range", harness_checks.DRAWS, harness_checks.structure_range(seed)),
    ]
    return [alarm for alarm in said if alarm.detail]


def _study(spec: Spec, stem: str, wanted: str | None, before: list[Alarm]) -> tuple[list[Alarm], int, int, int]:
    """(alarms, acceptance checks that passed, those still open, replicates): the study, look by look."""
    block, most = spec.table.block_size, spec.table.n_max
    looks = sorted({*(max(block, n // block * block) for n in (LOOKS if wanted else QUIET) if n < most), most})
    sizes = {c.id: 0 for c in spec.conditions}
    going = set(sizes)
    done: dict[tuple[str, int], set[int]] = {}
    frames: list[pd.DataFrame] = []
    kept: dict[Any, Any] = {}  # of conditions that do not grow any more
    alarms: list[Alarm] = []
    passed = left = n = 0
    for n in looks:
        sizes |= {c.id: min(n, c.replicates or n) for c in spec.conditions if c.id in going}
        for task in plan_tasks(spec, done, sizes)[0]:
            for part in run_task(spec, stem, task).parts:
                method = spec.methods[part.method]
                where = spec.conditions[task.condition].id, method_stream(method.label)
                done.setdefault(where, set()).update(range(task.first, task.first + task.n))
                frames.append(_frame(part.rows))
        rows = pd.concat(frames, ignore_index=True).sort_values(list(KEYS), kind="stable", ignore_index=True)
        frames = [rows]
        verdicts = check_rows(spec, FrameRows(rows, kept, tuple(sizes.items())))
        alarms = [*before, *_alarms(spec, rows, verdicts, sizes, n)]
        words = [v.verdict for v in verdicts]
        passed, left = words.count("PASS"), words.count("INCONCLUSIVE")
        going = {v.condition for v in verdicts if v.verdict == "INCONCLUSIVE" and _grows(spec, v, sizes[v.condition])}
        if _enough(alarms, wanted) or not going:
            break
    return alarms, passed, left, n


def _frame(rows: Any) -> pd.DataFrame:
    """The columns that checks read; text as Python's own, which is looked at again and again."""
    frame = rows.select(READ).to_pandas()
    return frame.astype({name: object for name in frame.columns if isinstance(frame[name].dtype, pd.StringDtype)})


def _grows(spec: Spec, v: Verdict, size: int) -> bool:
    """True where more replicates of the verdict's condition and method are to be had."""
    condition = next(c for c in spec.conditions if c.id == v.condition)
    method = next(m for m in spec.methods if m.label == v.method)
    caps = [cap for cap in (condition.replicates, method.replicates) if cap is not None]
    return size < min([spec.table.n_max, *caps])


def _alarms(spec: Spec, rows: pd.DataFrame, verdicts: list[Verdict], sizes: Mapping[str, int], n: int) -> list[Alarm]:
    """Checks that failed; those of the harness on the rows of this look."""
    said = {"rows": harness_checks.missing_rows(spec, rows, sizes),
            "reference": harness_checks.reference(rows, spec.table.level),
            "independence": harness_checks.independence(spec, rows)}  # fmt: skip
    block = spec.table.block_size
    failed = [
        Alarm(
            _check_of(v),
            -(-v.n // block) * block,
            f"{spec.conditions[int(v.condition)].entry}, {v.method}, {v.parameter}: {v.detail}",
        )
        for v in verdicts
        if v.verdict == "FAIL"
    ]
    return failed + [Alarm(check, n, words) for check, words in said.items() if words]


def _check_of(v: Verdict) -> str:
    """The name of a check as `Mutant.check` has it."""
    return BY_IDENTITY.get(v.parameter, v.measure) if v.measure == "rejection" else BY_MEASURE.get(v.measure, v.measure)
