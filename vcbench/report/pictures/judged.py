"""Bias, standard errors and coverage of one parameter, a panel a condition."""

from collections.abc import Iterator

import pandas as pd

from vcbench import numbers as num
from vcbench.report.findings import NEAR, Findings, slug, worst_first
from vcbench.report.pictures.base import PANELS, Figure, chance, condition_panels, domain_of, figure, left_out
from vcbench.report.tables import Cell, cut, head

WILD = 2.0  # times the largest scatter: where an absurd model SE is drawn, so that the others can be told apart


def bias(found: Findings, parameter: str) -> Iterator[Figure]:
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells["bias"].notna()]
    if cells.empty:
        return
    relative = bool(cells["relative_bias"].notna().all())
    value, factor = ("relative_bias", 100.0) if relative else ("bias", 1.0)
    shown, some = worst_first(found, parameter, "bias", "bias_mcse", 0.0, PANELS)
    frame = pd.DataFrame({"condition": cells["condition"], "method": cells["method"], "x": factor * cells[value]})
    frame["lo"] = frame["x"] - 2 * factor * cells[f"{value}_mcse"]
    frame["hi"] = frame["x"] + 2 * factor * cells[f"{value}_mcse"]
    frame["flag"] = cells["bias_off"]
    unit = " %" if relative else ""
    frame["tip"] = [
        f"{m}: {num.plus_minus(factor * v, factor * s)}{unit}"
        for m, v, s in zip(cells["method"], cells[value], cells[f"{value}_mcse"], strict=True)
    ]
    rows = [
        (
            head(found.label(r.condition), r.condition),
            head(r.method),
            Cell(num.count(r.n_valid), r.n_valid),
            Cell(num.significant(r.truth, 5), r.truth),
            Cell(num.plus_minus(r.bias, r.bias_mcse), r.bias, "off" if r.bias_off else ""),
            Cell(num.plus_minus(100 * r.relative_bias, 100 * r.relative_bias_mcse), r.relative_bias),
            Cell(num.plus_minus(r.rmse, r.rmse_mcse), r.rmse),
        )
        for r in cells.itertuples()
    ]
    name = f"bias-{slug(parameter)}"
    columns = ("condition", "method", "fits", "truth", "bias ± MCSE", "relative bias, % ± MCSE", "RMSE ± MCSE")
    table = cut(name, f"Bias of {parameter} by condition and method", columns, rows, heads=2)
    what = "in per cent of the truth" if relative else "in the parameter's unit"
    caption = (
        f"Bias of {parameter} {what}, bars ± 2 MCSE, line at 0. {chance(int(cells['bias_off'].sum()), len(cells))}"
        f"{left_out(some, 'bias')}"
    )
    domain = domain_of([frame["lo"], frame["hi"]], 0.0)
    draw = condition_panels(found, frame, shown, domain, "relative bias, %" if relative else "bias", reference=0.0)
    yield figure(name, "bias", f"Bias of {parameter}", caption, table, draw, parameter=parameter)


def errors(found: Findings, parameter: str) -> Iterator[Figure]:
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells["empirical_se"].notna()]
    if cells.empty or cells["model_se"].isna().all():
        return
    shown, some = worst_first(found, parameter, "model_se_error", "model_se_error_mcse", 0.0, PANELS)
    shown = shown or worst_first(found, parameter, "empirical_se", "empirical_se_mcse", 0.0, PANELS)[0]
    frame = pd.DataFrame(
        {
            "condition": cells["condition"],
            "method": cells["method"],
            "x": cells["empirical_se"],
            "lo": cells["empirical_se"] - 2 * cells["empirical_se_mcse"],
            "hi": cells["empirical_se"] + 2 * cells["empirical_se_mcse"],
            "x2": cells["model_se"],
            "flag": cells["se_off"],
        }
    )
    frame["tip"] = [
        f"{r.method}: empirical {num.plus_minus(r.empirical_se, r.empirical_se_mcse)}, "
        f"model {num.plus_minus(r.model_se, r.model_se_mcse)}"
        for r in cells.itertuples()
    ]
    rows = [
        (
            head(found.label(r.condition), r.condition),
            head(r.method),
            Cell(num.plus_minus(r.empirical_se, r.empirical_se_mcse), r.empirical_se),
            Cell(num.plus_minus(r.model_se, r.model_se_mcse), r.model_se),
            Cell(num.plus_minus(r.model_se_error, r.model_se_error_mcse), r.model_se_error, "off" if r.se_off else ""),
        )
        for r in cells.itertuples()
    ]
    name = f"se-{slug(parameter)}"
    columns = ("condition", "method", "empirical SE ± MCSE", "model SE ± MCSE", "model SE off by, % ± MCSE")
    table = cut(name, f"Empirical against model standard error of {parameter}", columns, rows, heads=2)
    judged = cells["model_se_error"].notna()
    caption = (
        f"Filled symbol: how much the estimates of {parameter} really scatter (empirical SE, bars ± 2 MCSE). "
        f"Open diamond: what the methods claim (model SE). {chance(int(cells['se_off'].sum()), int(judged.sum()))}"
        f"{left_out(some, 'the model SE')}"
    )
    most = WILD * float(frame["x"].max())
    if (frame["x2"] > most).any():
        caption += f" Model SEs above {num.significant(most, 2)} are drawn at the right edge."
        frame["x2"] = frame["x2"].clip(upper=most)
    domain = domain_of([frame["lo"], frame["hi"], frame["x2"]])
    draw = condition_panels(found, frame, shown, domain, "standard error", second=True)
    yield figure(name, "errors", f"Empirical and model SE of {parameter}", caption, table, draw, parameter=parameter)


def coverage(found: Findings, parameter: str) -> Iterator[Figure]:
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells["coverage"].notna()]
    if cells.empty:
        return
    level = found.level
    shown, some = worst_first(found, parameter, "coverage", "coverage_mcse", level, PANELS)
    frame = pd.DataFrame({"condition": cells["condition"], "method": cells["method"], "x": 100 * cells["coverage"]})
    frame["lo"] = (frame["x"] - 200 * cells["coverage_mcse"]).clip(lower=0)
    frame["hi"] = (frame["x"] + 200 * cells["coverage_mcse"]).clip(upper=100)
    frame["flag"] = cells["coverage_off"]
    missed = cells["no_interval_rate"] > 0
    frame["x2"] = 100 * cells["coverage_penalised"].where(missed)
    frame["tip"] = [
        f"{r.method}: {num.plus_minus(100 * r.coverage, 100 * r.coverage_mcse)} %" for r in cells.itertuples()
    ]
    rows = [
        (
            head(found.label(r.condition), r.condition),
            head(r.method),
            Cell(num.plus_minus(100 * r.coverage, 100 * r.coverage_mcse), r.coverage, "off" if r.coverage_off else ""),
            Cell(num.percent(r.no_interval_rate), r.no_interval_rate),
            Cell(num.plus_minus(100 * r.coverage_penalised, 100 * r.coverage_penalised_mcse), r.coverage_penalised),
            Cell(num.plus_minus(100 * r.be_coverage, 100 * r.be_coverage_mcse), r.be_coverage),
            Cell(num.plus_minus(r.interval_width_median, r.interval_width_median_mcse), r.interval_width_median),
            Cell(num.plus_minus(r.interval_width, r.interval_width_mcse), r.interval_width),
        )
        for r in cells.itertuples()
    ]
    name = f"coverage-{slug(parameter)}"
    columns = (
        "condition", "method", "coverage, % ± MCSE", "no interval", "coverage, no interval being a miss, %",
        "bias-eliminated coverage, %", "median width ± MCSE", "mean width ± MCSE",
    )  # fmt: skip
    table = cut(name, f"Coverage of {100 * level:g} % intervals for {parameter}", columns, rows, heads=2)
    caption = (
        f"Share of {100 * level:g} % intervals that hold the true {parameter}, bars ± 2 MCSE, line at the nominal "
        f"level, shaded within {100 * NEAR:g} points of it. "
        f"{'Open diamond: with a fit that gives no interval counted as a miss. ' if missed.any() else ''}"
        f"{chance(int(cells['coverage_off'].sum()), len(cells))}{left_out(some, 'coverage')}"
    )
    low = max(0.0, min(float(frame["lo"].min()), 100 * level - 8), 100 * level - 35)
    if float(frame[["x", "x2"]].min().min()) < low:
        caption += f" Values below {low:g} are drawn at the left edge."
    frame["beside"] = [num.percent(x / 100, 0) if x < low else "" for x in frame["x"]]
    for column in ("x", "lo", "x2"):
        frame[column] = frame[column].clip(lower=low)
    draw = condition_panels(
        found, frame, shown, [low - 1.5 if low > 0 else 0.0, 100.0], "coverage, %", reference=100 * level,
        band=(100 * (level - NEAR), min(100 * (level + NEAR), 100.0)), second=bool(missed.any()),
    )  # fmt: skip
    yield figure(name, "coverage", f"Coverage for {parameter}", caption, table, draw, parameter=parameter)
