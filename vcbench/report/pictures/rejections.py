"""How often tests reject: their size where the variance is 0, their power where it is not, a panel a condition."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.findings import Findings, slug, worst_first
from vcbench.report.pictures.base import PANELS, Figure, chance, condition_panels, domain_of, figure, left_out
from vcbench.report.tables import Cell, Table, cut, head


def size(found: Findings, parameter: str) -> Iterator[Figure]:
    """Type-I error against the nominal level."""
    cells = _cells(found, parameter, null=True)
    if cells.empty:
        return
    alpha = 1 - found.level
    among = found.cells["truth"] == 0
    shown, some = worst_first(found, parameter, "rejection", "rejection_mcse", alpha, PANELS, among)
    frame = _frame(cells)
    frame["flag"] = cells["rejection_off"]
    caption = (
        f"Share of tests of {parameter} that reject at {100 * alpha:g} % although it is 0, bars ± 2 MCSE, line at the "
        f"nominal level. {chance(int(cells['rejection_off'].sum()), len(cells))}{left_out(some, 'size')}"
    )
    domain = [0.0, domain_of([frame["hi"]], 100 * alpha)[1]]
    draw = condition_panels(found, frame, shown, domain, "type-I error, %", reference=100 * alpha)
    name = f"size-{slug(parameter)}"
    table = _table(found, cells, name, f"Type-I error of tests of {parameter} at {100 * alpha:g} %")
    yield figure(name, "rejection", f"Type-I error of tests of {parameter}", caption, table, draw, parameter=parameter)


def power(found: Findings, parameter: str) -> Iterator[Figure]:
    """How often a variance that is not 0 is found."""
    cells = _cells(found, parameter, null=False)
    if cells.empty:
        return
    among = found.cells["truth"] != 0
    shown, some = worst_first(found, parameter, "rejection", "rejection_mcse", 1.0, PANELS, among)
    frame = _frame(cells)
    frame["flag"] = False
    alpha = 1 - found.level
    caption = (
        f"Share of tests of {parameter} that reject at {100 * alpha:g} % where it is not 0, bars ± 2 MCSE. A test that "
        f"does not keep its size has no claim to its power.{left_out(some, 'power')}"
    )
    domain = domain_of([frame["lo"], frame["hi"]])
    draw = condition_panels(found, frame, shown, [max(domain[0], 0.0), min(domain[1], 100.0)], "power, %")
    name = f"power-{slug(parameter)}"
    table = _table(found, cells, name, f"Power of tests of {parameter} at {100 * alpha:g} %")
    yield figure(name, "rejection", f"Power of tests of {parameter}", caption, table, draw, parameter=parameter)


def _cells(found: Findings, parameter: str, null: bool) -> pd.DataFrame:
    """Cells of the methods that test."""
    tests = [m for m, (what, _) in found.evidence.asked.items() if what == "test"]
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells["method"].isin(tests)]
    return cells[cells["rejection"].notna() & ((cells["truth"] == 0) == null)]


def _frame(cells: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame({"condition": cells["condition"], "method": cells["method"], "x": 100 * cells["rejection"]})
    half = 200 * cells["rejection_mcse"]
    frame["lo"], frame["hi"] = np.maximum(frame["x"] - half, 0.0), np.minimum(frame["x"] + half, 100.0)
    frame["tip"] = [
        f"{r.method}: {num.plus_minus(100 * r.rejection, 100 * r.rejection_mcse)} %" for r in cells.itertuples()
    ]
    return frame


def _table(found: Findings, cells: pd.DataFrame, name: str, caption: str) -> Table:
    rows = [
        (
            head(found.label(r.condition), r.condition),
            head(r.method),
            Cell(num.count(r.n_valid), r.n_valid),
            Cell(num.significant(r.truth, 5), r.truth),
            Cell(
                num.plus_minus(100 * r.rejection, 100 * r.rejection_mcse), r.rejection, "off" if r.rejection_off else ""
            ),
        )
        for r in cells.itertuples()
    ]
    return cut(name, caption, ("condition", "method", "fits", "truth", "rejected, % ± MCSE"), rows, heads=2)
