"""`vcbench study check | run | status | collect | replay` and `vcbench report`."""

import contextlib
import json as jsonlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vcbench.cli.verdicts import exit_code

SHOWN = 10  # acceptance checks that fell short, listed at the end of a run

SpecFile = Annotated[str, Parameter(help="A study: a TOML file, or a name in simulations/.")]
Folder = Annotated[Path, Parameter(help="A run folder.")]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print the result as JSON.")]
Reps = Annotated[int | None, Parameter(help="Replicates, instead of the specification's; more tops a run up.")]


def check(spec: SpecFile, /, *, reps: Reps = None, json: Json = False) -> int:
    """Validate a study and say what it will cost; nothing is run."""
    from vcbench.numbers import count, seconds
    from vcbench.study.mutant_runs import trials_of
    from vcbench.study.mutants import wrong_in
    from vcbench.study.price import expected_replicates
    from vcbench.study.study import Study
    from vcbench.summary import columns

    study = Study.from_toml(spec)
    table, prices = study.spec.table, study.price(reps)
    fits, cost = sum(price.fits for price in prices), sum(price.seconds for price in prices)
    if json:
        methods = [{"method": p.method.label, "fits": p.fits, "cpu_seconds": p.seconds} for p in prices]
        ends = {"n_max": table.n_max, "expected_replicates": expected_replicates(study.spec)}
        _print_json("study-check", title=table.title, spec_hash=study.spec.spec_hash, seed=table.seed,
                    conditions=len(study.spec.conditions), fits=fits, cpu_seconds=cost, methods=methods,
                    **(ends if table.open_ended else {}))  # fmt: skip
        return 0
    print(f"{table.title}\n{table.question}\n")
    print(f"{len(study.spec.conditions)} conditions · {count(fits)} fits · roughly {seconds(cost)} of one processor")
    rows = [[p.method.label, p.method.criterion or "", count(p.fits), seconds(p.seconds)] for p in prices]
    print(*columns(["method", "criterion", "fits", "time"], rows, left=(0, 1)), sep="\n")
    if reps is None and (table.rule == "sequential" or table.replicates is None):
        most = study.price(table.n_max)
        until = "its checks are decided" if table.rule == "sequential" else "its Monte Carlo errors are small enough"
        print(f"\nIt goes on until {until}, or {count(table.n_max)} replicates: {count(sum(p.fits for p in most))} fits"
              f" at most, roughly {seconds(sum(p.seconds for p in most))}.")  # fmt: skip
        _print_expected(study)
    if wrong := wrong_in(study.spec):
        print(f"\nThis study is {wrong}.")
    if table.mutants is not None:
        print(f"\n`study run` runs it with each mutant and without any: {len(trials_of(study.spec))} runs.")
    print("\nThe specification holds. Nothing was run.")
    return 0


def _print_expected(study: Any) -> None:
    """How many replicates the precision targets of coverage take, and what these cost."""
    from vcbench.numbers import count, seconds
    from vcbench.study.price import expected_replicates

    n, most = expected_replicates(study.spec), study.spec.table.n_max
    if n is None:
        return
    if n > most:
        print(f"Coverage as claimed needs {count(n)} replicates for its target: n_max = {most} ends the run before.")
        return
    prices = study.price(n)
    print(f"Coverage as claimed reaches its target at {count(n)} replicates: {count(sum(p.fits for p in prices))} fits,"
          f" roughly {seconds(sum(p.seconds for p in prices))}.")  # fmt: skip


def run(
    spec: SpecFile,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Where results go. Default: runs/<name of the study>[-<seed, if given>].")
    ] = None,
    workers: Annotated[int | None, Parameter(help="Processes. Default: the processors there are.")] = None,
    dask: Annotated[
        str | None,
        Parameter(help="Run on the workers of a Dask scheduler: its address, or a scheduler file (*.json)."),
    ] = None,
    shard: Annotated[
        str | None,
        Parameter(help="Make part I of N only, as I/N from 1/N to N/N: the jobs of an array. Then `study collect`."),
    ] = None,
    reps: Reps = None,
    until_mcse: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Go on until the targets of [precision] hold, or n_max."),
    ] = False,
    seed: Annotated[
        str | None, Parameter(help="A seed instead of the specification's: a number, or `date` for today's (UTC).")
    ] = None,
    report: Annotated[bool, Parameter(negative="--no-report", help="Render the report at the end.")] = True,
    progress: Annotated[
        Literal["auto", "plain", "json", "none"], Parameter(help="What to show on stderr while it runs.")
    ] = "auto",
    inconclusive: Annotated[Literal["fail", "ok"], Parameter(help="Whether INCONCLUSIVE checks exit with 3.")] = "fail",
    json: Json = False,
    quiet: Annotated[bool, Parameter(negative="", show_default=False, help="The same as --progress none.")] = False,
) -> int:
    """Run a study, or what is left of it, and render its report.

    A study with a table [mutants] is run with each deliberate error and without any, or, given --seed or --reps, once.

    Ctrl-C stops it cleanly; the same command continues. Exit 0 if every acceptance check passes (or there is none), 1
    if one fails, 3 if none fails but one is inconclusive; 130 if it was stopped (Ctrl-C, a walltime, a full disk,
    workers that are gone) and the same command continues it. A part (--shard) is not judged and has no report.
    """
    from vcbench.study.study import Study

    _one_of(workers=workers, dask=dask)
    _one_of(shard=shard, dask=dask)
    study = Study.from_toml(spec)
    from vcbench.study.mutants import wrong_in

    if study.spec.table.mutants is not None and reps is None and seed is None and not until_mcse:
        from vcbench.cli.mutants import run_mutants

        return run_mutants(study, out, workers, report, quiet or progress == "none", json)
    if wrong := wrong_in(study.spec):
        print(f"This study is {wrong}.", file=sys.stderr)
    if seed is not None:
        study = study.with_seed(read_seed(seed))
        out = out or Path("runs") / f"{study.stem}-{study.spec.table.seed}"
    shown: Literal["auto", "plain", "json", "none"] = "none" if quiet else progress
    with _executor(dask) as executor:
        done = study.run(out, executor, workers, reps, shown, report, until_mcse, shard)
    if shard is not None:
        if json:
            _print_json("run", folder=str(done.folder), shard=shard, **_status(done.folder))
        else:
            print(
                f"results  {done.folder}\nThen, with all shards there:  vcbench study collect {done.folder.parents[1]}"
            )
        return 0
    return _said(done.folder, done.report, inconclusive, json)


def collect(
    *folders: Annotated[Path, Parameter(help="The --out of the shards, or their folders.")],
    out: Annotated[
        Path | None, Parameter(help="Where all rows go. Default: the folder given, or runs/<name of the study>.")
    ] = None,
    report: Annotated[bool, Parameter(negative="--no-report", help="Render the report at the end.")] = True,
    inconclusive: Annotated[Literal["fail", "ok"], Parameter(help="Whether INCONCLUSIVE checks exit with 3.")] = "fail",
    json: Json = False,
) -> int:
    """Put the parts of a study (`study run --shard`) together, check that they are whole, and render the report.

    Parts of another specification, missing replicates, and replicates that two parts have made with different results
    are refused by name, before anything is written. Exit codes are those of `study run`.
    """
    from vcbench.errors import StoreError
    from vcbench.report import render
    from vcbench.study.collect import collect as put_together

    if not folders:
        raise StoreError("name the folder that the shards were run into (their --out, by default runs/<study>).")
    done = put_together(folders, out)
    if not json:
        from vcbench.numbers import count, plural

        print(f"{count(done.fits)} fits of {plural(done.parts, 'run folder')}, made on"
              f" {plural(len(done.processors), 'kind')} of processor")  # fmt: skip
    return _said(done.folder, render(done.folder) if report else None, inconclusive, json)


def _said(folder: Path, page: Path | None, inconclusive: Literal["fail", "ok"], json: bool) -> int:
    """Print what came of a run, and return its exit code."""
    from vcbench.study.verdicts import run_verdicts

    verdicts = run_verdicts(folder)
    if json:
        _print_json("run", folder=str(folder), report=None if page is None else str(page), verdicts=verdicts,
                    **_status(folder))  # fmt: skip
    else:
        _print_verdicts(verdicts)
        print(f"results  {folder}")
        if page is not None:
            print(f"report   {page}")
    return exit_code(verdicts, inconclusive)


def _one_of(**said: Any) -> None:
    """Raise SpecError for two options that exclude each other."""
    from vcbench.errors import SpecError

    given = [f"--{name}" for name, value in said.items() if value is not None]
    if len(given) > 1:
        raise SpecError(f"give either {given[0]} or {given[1]}: they say two ways to run.")


@contextlib.contextmanager
def _executor(dask: str | None) -> Iterator[Any]:
    """The workers of a Dask scheduler, or None."""
    if dask is None:
        yield None
        return
    from vcbench.study.cluster import dask_executor

    with dask_executor(dask) as executor:
        yield executor


def read_seed(text: str) -> int:
    """A seed as said on the command line: a whole number, or `date` for today's date, UTC, as YYYYMMDD."""
    from datetime import UTC, datetime

    from vcbench.errors import SpecError

    if text == "date":
        return int(f"{datetime.now(UTC):%Y%m%d}")
    if not text.isdecimal():
        raise SpecError(f"--seed must be a whole number of at least 0, or `date`, not `{text}`.")
    return int(text)


def status(folder: Folder, /, *, json: Json = False) -> int:
    """Say how far a run is, or each shard of one, and how its fits ended."""
    from vcbench.study.collect import shard_lines

    if lines := [] if json else shard_lines(folder):
        print(*lines, sep="\n")
        if not (folder / "run.json").is_file():
            return 0
    if json:
        _print_json("run-status", folder=str(folder), **_status(folder))
        return 0
    from vcbench.study.summary import end_lines, summarise

    print(*end_lines(summarise(folder), folder=folder)[1:], sep="\n")
    return 0


def replay(
    folder: Folder,
    /,
    *,
    row: Annotated[str, Parameter(help="CONDITION/REPLICATE/METHOD, as the report names it.")],
    json: Json = False,
) -> int:
    """Make one fit of a run again from its seed and compare it with what was stored.

    Exit 0 if every number is the same to the last bit, 1 if not.
    """
    from vcbench.study.replay import replay as make_again

    result = make_again(folder, row)
    said = ["parameter", "truth", "estimate", "se", "lower", "upper"]
    if json:
        again = jsonlib.loads(result.again.to_json(orient="records"))
        _print_json("replay", row=row, identical=result.identical, differences=result.differences, again=again)
        return 0 if result.identical else 1
    first = result.again.iloc[0]
    print(f"{row}  {first['status']}  {first['message'] or ''}".rstrip())
    print(f"log-likelihood {first['loglik']:.6f}, {first['n_iter']} iterations, {first['seconds']:.2g} s\n")
    print(result.again[said].to_string(index=False, na_rep="–"))
    print(f"\n{'identical to the stored rows' if result.identical else 'DIFFERS from the stored rows:'}")
    print(*result.differences, sep="\n", end="\n" if result.differences else "")
    return 0 if result.identical else 1


def report(
    folder: Folder,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Where the page goes. Default: report/ in the run folder.")] = None,
    publish: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Write reports/<name of the study>/ too, to be committed."),
    ] = False,
    pdf: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Print report.pdf beside the page too, by Chromium."),
    ] = False,
) -> int:
    """Render the report of a run from its rows and print its path."""
    from vcbench.report import publish as write
    from vcbench.report import render

    if pdf:
        from vcbench.report.pdf import find_browser, print_pdf

        find_browser()  # before any work
    page = render(folder, out)
    print(page)
    if pdf:
        print(print_pdf(page))
    if publish:
        print(write(folder, Path("reports")))
    return 0


def _status(folder: Path) -> dict[str, Any]:
    from vcbench.study.summary import summarise

    summary = summarise(folder)
    methods = jsonlib.loads(summary.methods.reset_index().to_json(orient="records"))
    return {"planned": summary.planned, "done": summary.done, "missing": summary.missing,
            "complete": summary.complete, "methods": methods}  # fmt: skip


def _print_verdicts(verdicts: list[dict[str, Any]]) -> None:
    """What fell short, the worst first and ten at most, and the counts."""
    from vcbench.cli.render import verdict_table

    counts = Counter(verdict["verdict"] for verdict in verdicts if verdict["verdict"] != "SKIPPED")
    short = sorted(
        (v for v in verdicts if v["verdict"] in ("FAIL", "INCONCLUSIVE")), key=lambda v: v["verdict"] != "FAIL"
    )
    if counts:
        verdict_table(short[:SHOWN], counts, n_more=len(short) - SHOWN)


def _print_json(kind: str, **values: Any) -> None:
    print(jsonlib.dumps({"schema": f"vcbench/{kind}/1", **values}, indent=1, ensure_ascii=False))
