"""`vc.Study`: a study read from its TOML, checked, priced, run, resumed and held to its acceptance rules."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import vcbench
from vcbench.errors import SpecError, did_you_mean
from vcbench.study import pool
from vcbench.study.acceptance import Verdict, check_rows
from vcbench.study.cluster import executor_of, size_of
from vcbench.study.measures import measures
from vcbench.study.mutants import switched_in
from vcbench.study.parts import measure_parts, read_parts
from vcbench.study.plan import plan_tasks
from vcbench.study.price import Price, price_study
from vcbench.study.progress import choose_progress, now
from vcbench.study.record import describe
from vcbench.study.sharding import Part, check_fixed
from vcbench.study.spec import Spec, read_spec, reseeded
from vcbench.study.stopping import check_until, first_sizes, goes_on, next_sizes, target_lines
from vcbench.study.store import Store, open_store, read_rows, read_traces
from vcbench.study.summary import Summary, end_lines, summarise
from vcbench.study.tally import Tally
from vcbench.study.work import Result, Task

PACKAGE = Path(vcbench.__file__).resolve().parent
POOL_PAYS = 6.0  # seconds of work below which starting processes costs more than it saves


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder of a study, finished or not."""

    folder: Path
    spec: Spec
    report: Path | None = None

    @property
    def rows(self) -> pd.DataFrame:
        """One row a (condition, replicate, method, parameter), sorted."""
        return read_rows(self.folder)

    @property
    def traces(self) -> pd.DataFrame:
        """Log-likelihood against iteration, where kept."""
        return read_traces(self.folder)

    @property
    def summary(self) -> Summary:
        """How the fits ended, by method."""
        return summarise(self.folder)

    def measures(self, **options: Any) -> pd.DataFrame:
        """`vcbench.measures` of the rows, at the study's level and reference unless said."""
        defaults: dict[str, Any] = {"level": self.spec.table.level, "reference": self.spec.table.reference}
        if self.spec.table.measures:
            defaults["only"] = self.spec.table.measures
        asked = {**defaults, **options}
        if asked.get("by") is not None:
            return measures(self.rows, **asked)
        return measure_parts(read_parts(self.folder), **asked)


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is known to be well specified: `Study.from_toml`. `stem` names its results."""

    spec: Spec
    stem: str

    @classmethod
    def from_toml(cls, path: str | Path) -> "Study":
        """The study of a TOML file, or of a name in `simulations/`. Raises SpecError with every problem in it."""
        found = find_study(path)
        try:
            text = found.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{found} cannot be read: {error}.") from error
        return cls(read_spec(text, str(path)), found.stem)

    @classmethod
    def from_text(cls, text: str, stem: str = "study") -> "Study":
        """The study of a TOML text."""
        return cls(read_spec(text, f"{stem}.toml"), stem)

    def price(self, reps: int | None = None) -> list[Price]:
        """Fits and rough processor seconds of each method."""
        return price_study(self.spec, reps)

    def run(
        self,
        out: str | Path | None = None,
        executor: Executor | Any | None = None,
        workers: int | None = None,
        reps: int | None = None,
        progress: str = "auto",
        report: bool = True,
        until_mcse: bool = False,
        shard: str | None = None,
    ) -> Run:
        """Run what is not yet in the folder `out` (default `runs/<stem>`), and render its report.

        executor: any `concurrent.futures.Executor` whose workers can import vcbench and read the files that the
        specification names, or a Dask Client; a process of it does one task at a time, with one BLAS thread. None is a
        pool of `workers` spawned processes (default: the processors there are; 1 runs here). reps: replicates, for the
        specification's. progress: "auto", "plain", "json" or "none", on stderr. shard: "I/N" makes the I-th of N parts,
        in a folder of its own within `out`, for `collect` (`sharding`); it renders nothing. Results are the same to the
        last bit whatever runs them.

        A study with `rule = "sequential"` goes on until its checks are decided; one with `[precision]` and no
        `replicates`, or any with `[precision]` where `until_mcse`, until its targets hold (`stopping`). `reps` makes
        exactly that many.

        Raises StoreError for a folder of another specification or one that is being run; RunStopped where the disk is
        full or the executor's workers are gone, and KeyboardInterrupt on Ctrl-C or SIGTERM, both with everything
        finished so far in the folder: the same call continues.
        """
        for name, value in (("reps", reps), ("workers", workers)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SpecError(f"{name} must be a whole number of at least 1, not {value!r}.")
        check_until(self.spec, reps, until_mcse)
        executor = None if executor is None else executor_of(executor)
        display = choose_progress(progress)
        folder = whole = Path("runs") / self.stem if out is None else Path(out)
        part = None if shard is None else Part.read(shard)
        if part is not None:
            check_fixed(self.spec, reps, until_mcse)
            folder = part.folder(whole)
        with switched_in(self.spec.table.mutant), open_store(folder, self.spec) as held:
            sizes = first_sizes(self.spec, reps, until_mcse)
            if part is None:
                tasks, total = plan_tasks(self.spec, held.done(), sizes)
            else:
                tasks, total = part.tasks(self.spec, sizes, held.done(), Store(whole, self.spec).done())
            n = workers or self._workers(len(tasks), reps, executor)
            began = held.known().get("started") or now()
            held.note(**describe(self.spec, self.stem), n_planned=total, started=began, finished=None)
            if part is not None:
                held.note(shard={"index": part.index, "of": part.of, "replicates": sizes})
            tally = Tally.of(self.spec, tasks, total, n)
            display.start(tally, self.spec.table.title, self.spec.table.seed)
            interrupted, finished = True, set[Task]()
            looked: dict[Any, Any] = {}  # what earlier looks found of conditions that do not grow
            try:
                with _interrupts() as asked:
                    while True:
                        # a generator, annotated as the iterator that callers need
                        with contextlib.closing(self._results(tasks, executor, n)) as results:  # type: ignore[type-var]
                            for result in results:
                                if result is not None and result.task not in finished:  # some deliver twice
                                    finished.add(result.task)
                                    self._keep(held, result)
                                    tally.add(result)
                                display.advance(tally, result)
                                if asked.is_set():
                                    raise KeyboardInterrupt
                        more = goes_on(self.spec, reps, until_mcse)
                        grown = next_sizes(self.spec, read_parts(folder, looked), sizes, until_mcse) if more else {}
                        if not grown:
                            break
                        sizes |= grown
                        tasks, total = plan_tasks(self.spec, held.done(), sizes)
                        n = workers or self._workers(len(tasks), max(grown.values()), executor)
                        held.note(n_planned=total)
                        tally.grow(tasks, total)
                interrupted = False
                held.note(finished=now(), warnings=dict(tally.warnings))
            finally:
                lines = (
                    []
                    if progress in ("none", "json")
                    else end_lines(summarise(folder), tally.elapsed, folder, interrupted)
                )
                if lines and not interrupted:
                    lines += target_lines(self.spec, read_parts(folder))
                display.end(tally, lines, interrupted)
        return Run(folder, self.spec, self._render(folder) if report and part is None else None)

    def check(self, run: Run | str | Path) -> list[Verdict]:
        """The verdicts of the specification's acceptance checks on a run."""
        folder = run.folder if isinstance(run, Run) else Path(run)
        return check_rows(self.spec, read_parts(folder))

    def with_seed(self, seed: int) -> "Study":
        """The same study from another seed: other data, and another `spec_hash`."""
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise SpecError(f"seed must be a whole number of at least 0, not {seed!r}.")
        return Study(reseeded(self.spec, seed), self.stem)

    def _results(self, tasks: list[Task], executor: Executor | None, n: int) -> Iterator[Result | None]:
        """Tasks as they finish, wherever they run."""
        if executor is not None:
            return pool.run_on(self.spec, self.stem, tasks, executor, n)
        if n == 1 or not tasks:
            return pool.run_here(self.spec, self.stem, tasks)
        return pool.run_pool(self.spec, self.stem, tasks, n)

    def _workers(self, tasks: int, reps: int | None, executor: Executor | None) -> int:
        """Those of the executor, or the processes worth starting: one for each processor, unless the work is done
        sooner than they are."""
        if executor is not None:
            return size_of(executor)
        work = sum(price.seconds for price in self.price(reps))
        return 1 if work < POOL_PAYS else max(1, min(pool.available_processors(), tasks))

    def _keep(self, held: Store, result: Result) -> None:
        condition = self.spec.conditions[result.task.condition]
        for part in result.parts:
            method = self.spec.methods[part.method]
            held.write(condition, method, result.task.first, part.rows, result.task.n, part.trace)

    def _render(self, folder: Path) -> Path:
        from vcbench.report import render

        return render(folder)


def find_study(path: str | Path) -> Path:
    """The file of a study: a path, or a name among the working directory's, the checkout's and the package's own."""
    given = Path(path)
    if given.suffix == ".toml" or len(given.parts) > 1:
        if given.is_file():
            return given
        raise SpecError(
            f"there is no study file `{path}`. Name a file, or one of: {', '.join(known_studies()) or 'none'}."
        )
    known = known_studies()
    if str(path) not in known:
        raise SpecError(
            f"unknown study `{path}`. Choose from {', '.join(known) or 'none'}, or name a TOML file."
            f"{did_you_mean(str(path), known)}"
        )
    return known[str(path)]


def known_studies() -> dict[str, Path]:
    """Studies by name."""
    folders = [Path("simulations"), PACKAGE.parent / "simulations", PACKAGE / "_content" / "simulations"]
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM (a batch system's walltime) stop a run; the event is set when one was asked for.

    An exception that is raised while a library's callback runs is swallowed there, so the run looks at the event too.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def interrupt(*_: object) -> None:
        asked.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
