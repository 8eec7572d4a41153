"""`vcbench check`: do the cards give their published answers, do the runs hold their acceptance; `vcbench explain`."""

import json as jsonlib
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vcbench.cli.verdicts import annotating, annotations, exit_code, junit, step_summary, write_whole

Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print the result as JSON.")]


def check(
    *targets: Annotated[
        str, Parameter(help="Run folders, model cards, or folders of cards. Default: all known cards.")
    ],
    inconclusive: Annotated[Literal["fail", "ok"], Parameter(help="Whether INCONCLUSIVE checks exit with 3.")] = "fail",
    junit_file: Annotated[Path | None, Parameter(name="--junit", help="Write JUnit XML to this file too.")] = None,
    annotate: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Annotate as GitHub Actions reads it, and add to the step's summary. There it is the default.",
        ),
    ] = False,
    posterior: Annotated[
        Path | None,
        Parameter(help="Instead place every point method in the posterior of each card; write the report here."),
    ] = None,
    json: Json = False,
) -> int:
    """Hold cards to their published answers, finished studies to their acceptance rules, calibrations to uniformity.

    A card whose data are absent is skipped and counted. Exit 0 if nothing fails, 1 if something does, 3 if nothing
    fails but something is inconclusive. With --posterior FOLDER, FOLDER/posterior_checks gets a picture, a verdict and
    the numbers of every card: exact posteriors by quadrature, by NUTS beyond three parameters.
    """
    if posterior is not None:
        from vcbench.cli.posteriors import posterior_checks

        return posterior_checks(targets, posterior)
    from vcbench.study.verdicts import target_verdicts

    if not targets:
        from vcbench.cards import find_cards

        targets = tuple(find_cards())
    verdicts = [verdict for target in targets for verdict in target_verdicts(target)]
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    if junit_file is not None:
        write_whole(junit_file, junit(verdicts, inconclusive))
    if annotating(annotate):
        print(*annotations(verdicts), sep="\n", end="\n" if exit_code(verdicts) else "", file=sys.stderr)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with open(summary, "a", encoding="utf-8") as file:
                file.write(step_summary(verdicts))
    if json:
        print(jsonlib.dumps({"schema": "vcbench/check/1", "counts": counts, "verdicts": verdicts}, indent=1))
    else:
        from vcbench.cli.render import verdict_table

        verdict_table(verdicts, counts)
    return exit_code(verdicts, inconclusive)


def explain(
    code: Annotated[str, Parameter(help="A code (VC-BOUNDARY), a status (AT_BOUNDARY) or an error (DataError).")],
    /,
    *,
    json: Json = False,
) -> int:
    """Say what a status or an error means and what to do."""
    from vcbench.cli.explain import explanation

    item = explanation(code)
    if json:
        print(jsonlib.dumps({"schema": "vcbench/explanation/1", **asdict(item)}, indent=1))
    else:
        from vcbench.cli.render import paragraph

        paragraph(item)
    return 0
