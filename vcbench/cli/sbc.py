"""`vcbench sbc`: is a method, on a card's design and prior, what it claims to be?"""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vcbench.cli.verdicts import exit_code

Scale = Literal["var", "sd", "log"]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print the result as JSON.")]


def sbc(
    card: Annotated[str, Parameter(help="A model card: a name, or a TOML file.")],
    /,
    *,
    method: Annotated[
        str, Parameter(help="nuts, pathfinder, laplace, advi, quadrature, or an estimator: ai, em, …")
    ] = "nuts",
    n: Annotated[int, Parameter(help="Replicates; more of them in the same folder top a run up.")] = 500,
    out: Annotated[Path | None, Parameter(help="Where rows go. Default: runs/sbc/<card>.")] = None,
    workers: Annotated[int, Parameter(help="Processes.")] = 1,
    seed: Annotated[int, Parameter(help="Of truths, data and draws.")] = 0,
    criterion: Annotated[Literal["ml", "reml"] | None, Parameter(help="Of an estimator.")] = None,
    scale: Annotated[tuple[Scale, ...], Parameter(help="Of an estimator's normal approximation.")] = (
        "var",
        "sd",
        "log",
    ),
    quantity: Annotated[tuple[str, ...], Parameter(help="Further quantities, e.g. 'cv = sqrt(residual)'.")] = (),
    alarm: Annotated[float, Parameter(help="Chance of a false FAIL, of all quantities together.")] = 1e-3,
    stop: Annotated[bool, Parameter(negative="", show_default=False, help="End at the first alarm.")] = False,
    mutant: Annotated[str, Parameter(help="A planted bug, which should be found: D1, D2, D3.")] = "",
    inconclusive: Annotated[Literal["fail", "ok"], Parameter(help="Whether INCONCLUSIVE exits with 3.")] = "fail",
    json: Json = False,
    quiet: Annotated[bool, Parameter(negative="", show_default=False, help="No progress on stderr.")] = False,
) -> int:
    """Calibrate a method by simulation: truths from the card's prior, data at them, and the place of each truth.

    Ctrl-C stops it cleanly; the same command continues. Exit 0 if every quantity is calibrated, 1 if one is not, 3 if
    none fails but there are too few replicates to tell.
    """
    from vcbench.cards import load_card
    from vcbench.study.sbc import sbc as calibrate
    from vcbench.study.sbc_words import lines_of

    known = load_card(card)
    folder = out or Path("runs") / "sbc" / known.name.replace(":", "-")
    found = calibrate(
        known.model(), method, n, known.priors, seed, quantity, folder, workers=workers, criterion=criterion,
        scales=scale, alarm=alarm, stop=stop, mutant=mutant, name=known.name, progress=not quiet,
    )  # fmt: skip
    table = found.table()
    if json:
        rows = jsonlib.loads(table.reset_index().to_json(orient="records"))
        head = {"schema": "vcbench/sbc/1", "card": known.name, "method": found.method, "n": found.n}
        print(jsonlib.dumps({**head, "verdict": found.verdict, "folder": str(folder), "quantities": rows}, indent=1))
    else:
        from vcbench.cli.render import coloured, console

        screen = console()
        for line in lines_of(found):
            screen.print(coloured(line))
        print(f"\nresults  {folder}")
    return exit_code([{"verdict": word} for word in table["verdict"]], inconclusive)
