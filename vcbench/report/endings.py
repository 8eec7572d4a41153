"""How fits ended and what they cost: counts by status, missing results with the command that replays one, quantiles."""

import numpy as np
import pandas as pd

from vcbench.report.evidence import GOOD, Evidence

ORDER = ("CONVERGED", "AT_BOUNDARY", "MAX_ITER", "SINGULAR_V", "FAILED", "TIMEOUT", "SKIPPED")


BAD = ["condition", "method", "status", "message", "n", "row"]


def count_endings(fits: pd.DataFrame) -> pd.DataFrame:
    """Counts of one condition: condition, method, status, n."""
    return fits.groupby(["condition", "method", "status"], sort=False).size().rename("n").reset_index()


def arrange_endings(counted: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """The counts of all conditions in the report's order."""
    rank = {s: i for i, s in enumerate(ORDER)}
    places = {m: i for i, m in enumerate(evidence.methods)}
    key = counted.assign(a=counted["method"].map(places), b=counted["status"].map(rank).fillna(len(rank)))
    return counted.loc[key.sort_values(["condition", "a", "b", "status"]).index].reset_index(drop=True)


def count_bad(fits: pd.DataFrame) -> pd.DataFrame:
    """Fits of one condition that are no answer: condition, method, status, message, n, row (one to replay)."""
    bad = fits[~fits["status"].isin([*GOOD, "SKIPPED"])]
    out = []
    for (condition, method, status, message), part in bad.groupby(["condition", "method", "status", "message"]):
        row = f"{condition}/{int(part['replicate'].min())}/{method}"
        out.append((condition, method, status, message, len(part), row))
    return pd.DataFrame(out, columns=BAD)


def missing(bad: pd.DataFrame) -> pd.DataFrame:
    """Fits that are no answer, most frequent first: method, status, message, n, conditions, row (one to replay)."""
    out = []
    for (method, status, message), part in bad.groupby(["method", "status", "message"], sort=True):
        conditions = tuple(sorted(part["condition"].unique()))
        out.append((method, status, message, int(part["n"].sum()), conditions, part["row"].iloc[0]))
    frame = pd.DataFrame(out, columns=["method", "status", "message", "n", "conditions", "row"])
    return frame.sort_values(["n", "method", "status"], ascending=[False, True, True], kind="stable").reset_index(
        drop=True
    )


def cost(fits: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Of one condition, a row a method: median, 10th and 90th percentile of iterations and times of fits that ran."""
    fits = fits[fits["status"] != "SKIPPED"]
    grouped = fits.groupby(["condition", "method"], sort=False)
    out = pd.DataFrame({"n": grouped.size()})
    for column in ("n_iter", "n_eval", "cpu_seconds", "seconds"):
        for name, q in (("", 0.5), ("_p10", 0.1), ("_p90", 0.9)):
            out[f"{column}{name}"] = grouped[column].quantile(q)
    out = out.reset_index()
    places = {m: i for i, m in enumerate(evidence.methods)}
    return out.loc[out.assign(a=out["method"].map(places)).sort_values(["condition", "a"]).index].reset_index(drop=True)


def typical(frame: pd.DataFrame, column: str) -> pd.Series:
    """Per method the median over conditions of a column of `cost`; methods without it are left out."""
    values = frame.dropna(subset=[column]).groupby("method", sort=False)[column].median()
    return values[np.isfinite(values)]


def zip_lines(evidence: Evidence, condition: str, parameter: str, method: str, most: int = 100) -> pd.DataFrame:
    """The intervals of a zip plot at up to `most` evenly spaced centiles of |θ̂ − θ|/SE: centile, lower, upper, covers.

    Not the rows: an order statistic is drawn for each centile, largest |z| at centile 100.
    """
    rows = evidence.rows(condition)
    rows = rows[(rows["parameter"] == parameter) & (rows["method"] == method)]
    rows = rows.dropna(subset=["estimate", "truth", "lower", "upper"])
    width = rows["se"].where(rows["se"] > 0, (rows["upper"] - rows["lower"]) / 4)
    z = ((rows["estimate"] - rows["truth"]) / width.where(width > 0)).abs().fillna(np.inf)
    rows = rows.assign(z=z).sort_values(["z", "replicate"], kind="stable")
    n = len(rows)
    if n == 0:
        return pd.DataFrame(columns=["centile", "lower", "upper", "covers"])
    take = np.arange(n) if n <= most else np.unique(np.round((np.arange(most) + 0.5) / most * n - 0.5).astype(int))
    part = rows.iloc[take]
    covers = (part["lower"] <= part["truth"]) & (part["truth"] <= part["upper"])
    return pd.DataFrame(
        {
            "centile": 100 * (take + 0.5) / n,
            "lower": part["lower"].to_numpy(),
            "upper": part["upper"].to_numpy(),
            "covers": covers.to_numpy(),
        }
    )


def thin_trace(trace: pd.DataFrame, most: int = 60) -> pd.DataFrame:
    """At most about `most` iterations of one trace, evenly spaced on a log scale, first and last kept."""
    trace = trace.sort_values("iteration")
    n = len(trace)
    if n <= most:
        return trace
    places = np.unique(np.concatenate([[0, n - 1], np.round(np.geomspace(1, n, most)).astype(int) - 1]))
    return trace.iloc[places]
