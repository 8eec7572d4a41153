"""`vcbench study run` of a study with `[mutants]`: with each deliberate error, and without any."""

from pathlib import Path
from typing import Any


def run_mutants(study: Any, out: Path | None, workers: int | None, report: bool, quiet: bool, json: bool) -> int:
    """Run what is left of the trials, render their report, and print what was found: exit 0 if every mutant was found
    in every run and there are no more alarms without one than may be, else 1."""
    import json as jsonlib

    from vcbench.cli.render import verdict_table
    from vcbench.cli.verdicts import exit_code
    from vcbench.report.mutants import render_mutants
    from vcbench.study.mutant_runs import run_mutants as run_trials
    from vcbench.study.pool import available_processors
    from vcbench.study.verdicts import run_verdicts

    folder = Path("runs") / study.stem if out is None else out
    run_trials(study.spec, study.stem, folder, workers or available_processors(), progress=not quiet)
    page = render_mutants(folder) if report else None
    verdicts = run_verdicts(folder)
    if json:
        said = {
            "schema": "vcbench/mutants/1",
            "folder": str(folder),
            "report": page and str(page),
            "verdicts": verdicts,
        }
        print(jsonlib.dumps(said, indent=1, ensure_ascii=False))
        return exit_code(verdicts)
    words = [verdict["verdict"] for verdict in verdicts]
    verdict_table([v for v in verdicts if v["verdict"] != "PASS"], {word: words.count(word) for word in set(words)})
    print(f"results  {folder}")
    if page is not None:
        print(f"report   {page}")
    return exit_code(verdicts)
