"""`vcbench measures`: the performance measures of any simulation's results, as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vcbench.errors import DataError


def measures(
    file: Annotated[Path, Parameter(help="A table with one row a replicate and method, or a study's run folder.")],
    /,
    *,
    format: Annotated[
        Literal["text", "markdown", "html", "latex", "csv"] | None,
        Parameter(help="Of the table. Default: by the ending of --out, else text."),
    ] = None,
    out: Annotated[Path | None, Parameter(help="A file for the table; without it, it is printed.")] = None,
    column: Annotated[
        tuple[str, ...],
        Parameter(help="NAME=COLUMN, what the file calls a column: --column estimate=theta.", negative=""),
    ] = (),
    truth: Annotated[float | None, Parameter(help="The true value, where the file has no column of it.")] = None,
    only: Annotated[tuple[str, ...], Parameter(help="Measures, by name; repeat it.", negative="")] = (),
    by: Annotated[tuple[str, ...], Parameter(help="Grouping columns; repeat it.", negative="")] = (),
    reference: Annotated[str | None, Parameter(help="The method that others are compared with.")] = None,
    level: Annotated[float, Parameter(help="Confidence level of the intervals.")] = 0.95,
    null: Annotated[float, Parameter(help="The value that rejection is of.")] = 0.0,
    mcse: Annotated[
        Literal["jackknife", "normal"], Parameter(help="Monte Carlo errors; normal is what simsum and rsimsum print.")
    ] = "jackknife",
    failures: Annotated[
        Literal["available", "complete", "penalised"], Parameter(help="What a replicate without an estimate counts.")
    ] = "available",
    winsorise: Annotated[
        float | None, Parameter(help="Clip at the quartiles, this many interquartile ranges out.")
    ] = None,
) -> int:
    """Bias, empirical SE, coverage and the other measures of a file of results, with Monte Carlo standard errors.

    The file (CSV, TSV, Parquet, written by any program; or a run folder) has the columns method, estimate and truth,
    and those of se, lower, upper, condition, parameter, replicate and status that are known.
    """
    from vcbench.study.measures import measures as measure
    from vcbench.study.parts import measure_parts, read_parts
    from vcbench.study.tables import measures_table

    if file.is_dir() and truth is None and not (column or by):  # a run folder is read a condition at a time
        found = measure_parts(read_parts(file), only=only or None, level=level, null=null, reference=reference,
                              mcse=mcse, failures=failures, winsorise=winsorise)  # fmt: skip
    else:
        rows = _rows(file, column, truth)
        found = measure(rows, level, null, reference, mcse, failures, by or None, only or None, winsorise)
    text = measures_table(found, format, only=only or None, out=out)
    if out is None:
        print(text, end="")
    return 0


def _rows(file: Path, column: Sequence[str], truth: float | None) -> Any:
    """The rows of a file under our names. DataError for a column that it does not have."""
    from vcbench.errors import did_you_mean

    if file.is_dir():
        from vcbench.study.store import read_rows

        rows = read_rows(file)
    else:
        from vcbench.cli.reading import read_frame

        rows = read_frame(file)
    for text in column:
        name, sign, theirs = (part.strip() for part in text.partition("="))
        if not (name and sign and theirs):
            raise DataError(f"--column is `{text}`; write NAME=COLUMN, e.g. --column estimate=theta.")
        if theirs not in rows:
            columns = [str(c) for c in rows.columns]
            raise DataError(
                f"--column {text}: {file} has no column `{theirs}`. It has {', '.join(columns)}."
                f"{did_you_mean(theirs, columns)}"
            )
        rows = rows.drop(columns=[name] if name in rows and name != theirs else []).rename(columns={theirs: name})
    return rows if truth is None else rows.assign(truth=truth)
