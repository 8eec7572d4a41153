"""`vcbench fit` and `vcbench compare`: one model by one method, or by many."""

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vcbench.cli.reading import read_model

Criterion = Literal["ml", "reml"]
CardName = Annotated[str | None, Parameter(help="A model card: its name (random_slope, rat_weight:sex) or its path.")]
Data = Annotated[Path | None, Parameter(help="A data file: .csv, .tsv, .txt (white space) or .parquet.")]
Formula = Annotated[str | None, Parameter(help='An lme4 formula, e.g. "Reaction ~ Days + (Days | Subject)".')]
Residual = Annotated[
    str | None,
    Parameter(help='The residual structure, e.g. "ar1(visit, group=subject)" or "ar1(row) * ar1(col) + nugget".'),
]
Cov = Annotated[
    tuple[str, ...], Parameter(help="GROUP=STRUCTURE of a random term, e.g. Subject=ar1; once for each term.")
]
Which = Annotated[Criterion | None, Parameter(help="Default: the card's, else reml where the method has it.")]
Plots = Annotated[
    Path | None,
    Parameter(
        help="Write pictures into this folder, as SVG: convergence; of a fit also ranef (BLUPs), profile, contour, "
        "residuals, acf, variogram, influence, those that apply; of a comparison also contour with each method's path."
    ),
]
Seed = Annotated[int | None, Parameter(help="Seed of the methods that draw at random.")]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print the result as JSON.")]
Quiet = Annotated[bool, Parameter(negative="", show_default=False, help="Say nothing on stderr but errors.")]
MaxIter = Annotated[int | None, Parameter(help="Iterations a method may use.")]
Tol = Annotated[float | None, Parameter(help="Distance to the optimum at which a method stops, in standard errors.")]
Prior = Annotated[str | None, Parameter(help='Of minque: the variances its weights are taken at, 0, 1 or "iterated".')]
Type = Annotated[int | None, Parameter(help="Of anova: the type of its sums of squares, 1, 2 or 3.")]
Start = Annotated[str | None, Parameter(help='"auto", or "unit": least squares, variances 1.')]


def fit(
    card: CardName = None,
    /,
    *,
    data: Data = None,
    formula: Formula = None,
    method: Annotated[str, Parameter(help="The method; an unknown name lists them all.")] = "auto",
    criterion: Which = None,
    residual: Residual = None,
    cov: Cov = (),
    max_iter: MaxIter = None,
    tol: Tol = None,
    start: Start = None,
    prior: Prior = None,
    type: Type = None,
    seed: Seed = None,
    plots: Plots = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Fit one model by one method and print its summary.

    The model is a CARD, or --data with --formula. Exit 0 if the fit converged or ended on the boundary, else 1.
    """
    from vcbench.fit import fit as fit_one

    asked = read_model(card, data, formula, residual, cov)
    priors = asked.priors if _takes(method, "priors") else None
    weights: Any = int(prior) if prior in ("0", "1") else prior
    options = _options(max_iter=max_iter, tol=tol, start=start, prior=weights, type=type, seed=seed, priors=priors)
    result = fit_one(asked.model, method=method, criterion=criterion or _usual([method], asked.criterion), **options)
    print(result.to_json(indent=1) if json else result.summary())
    if plots is not None:
        from vcbench.report import diagnostics

        _said(diagnostics.save_all(result, plots), quiet)
    return 0 if result.status.ok else 1


def compare(
    card: CardName = None,
    /,
    *,
    data: Data = None,
    formula: Formula = None,
    methods: Annotated[str | None, Parameter(help='Methods by name, with commas; "all": every likelihood one.')] = None,
    criterion: Which = None,
    residual: Residual = None,
    cov: Cov = (),
    max_iter: MaxIter = None,
    tol: Annotated[float | None, Parameter(help="Relative difference that still counts as agreement.")] = None,
    start: Start = None,
    seed: Seed = None,
    plots: Plots = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Fit one model by many methods and say whether they agree.

    The model is a CARD, or --data with --formula. Exit 0 if the likelihood methods that ended at their optimum agree,
    1 if they disagree.
    """
    from vcbench.fit import compare as fit_all

    asked = read_model(card, data, formula, residual, cov)
    names = _named(methods, criterion or asked.criterion)
    wanted = criterion or _usual(names, asked.criterion)
    priors = asked.priors if any(_takes(name, "priors") for name in names) else None
    options = _options(max_iter=max_iter, tol=tol, start=start, seed=seed, priors=priors)
    chosen: dict[str, Any] = {"methods": names} if names else {}
    result = fit_all(asked.model, criterion=wanted, **chosen, **options)
    if json:
        print(jsonlib.dumps(_compared(result), indent=1))
    else:
        from vcbench.cli.render import coloured, console

        out = console()
        for line in str(result).splitlines():
            out.print(coloured(line))
    if plots is not None:
        for known in sorted({f.criterion for f in result.fits.values()} - {"none"}):
            traces = {label: f.trace for label, f in result.fits.items() if f.criterion == known and len(f.trace)}
            _said(_drawn(traces, known, plots) + _contour(result, known, plots), quiet)
    return 0 if result.agree else 1


def _named(methods: str | None, criterion: str | None) -> list[str]:
    """The methods named, none of them twice; `all` is every solver that exists under the criterion, and the moments."""
    from vcbench.methods import METHODS

    if methods == "all":
        likelihood = [m.name for m in METHODS.values() if m.kind == "solver" and m.name != "auto"]
        return [name for name in likelihood if (criterion or "reml") in METHODS[name].criteria] + ["moments"]
    return list(dict.fromkeys(name.strip() for name in (methods or "").split(",") if name.strip()))


def _compared(result: Any) -> dict[str, Any]:
    """A comparison as JSON: the verdict, and every fit as `vcbench fit --json` gives it."""
    return {
        "schema": "vcbench/compare/1",
        "verdict": "AGREE" if result.agree else "DISAGREE",
        "text": result.verdict,
        "max_difference": {c: result.max_difference(c) for c in ("reml", "ml") if result.settled(c)},
        "fits": {label: f.to_dict() for label, f in result.fits.items()},
        "errors": dict(result.errors),
    }


def _options(**given: Any) -> dict[str, Any]:
    """The options that were given: a method is asked for nothing else."""
    return {key: value for key, value in given.items() if value is not None}


def _takes(method: str, option: str) -> bool:
    from vcbench.methods import METHODS

    return method in METHODS and option in METHODS[method].options


def _usual(methods: Sequence[str], criterion: str | None) -> Any:
    """The card's criterion where the methods named have it, else None: each takes its own default.

    The method of moments has none and stands in nobody's way, but alone it takes none.
    """
    from vcbench.methods import METHODS

    known = [METHODS[method].criteria for method in methods if method in METHODS]
    if known and all(criteria == ("none",) for criteria in known):
        return None
    return criterion if all(criterion in (*criteria, None) or criteria == ("none",) for criteria in known) else None


def _drawn(traces: dict[str, Any], criterion: str, folder: Path) -> list[Path]:
    """The convergence picture of some fits, where any of them kept a path."""
    kept = {label: trace for label, trace in traces.items() if len(trace)}
    if not kept:
        return []
    from vcbench.report import plots

    folder.mkdir(parents=True, exist_ok=True)
    return [plots.save(plots.convergence_plot(kept, criterion=criterion), folder / f"convergence-{criterion}.svg")]


def _contour(result: Any, criterion: str, folder: Path) -> list[Path]:
    """Likelihood contours with the path of every method under a criterion, where there are two parameters."""
    fits = {label: f for label, f in result.fits.items() if f.criterion == criterion and len(f.trace)}
    if not result.settled(criterion):
        return []
    from vcbench.report import diagnostics

    return diagnostics.save_contour(fits, folder / f"contour-{criterion}.svg")


def _said(paths: Sequence[Path], quiet: bool) -> None:
    for path in paths if not quiet else ():
        print(f"wrote {path}", file=sys.stderr)
