"""Rows from anywhere: a study's own, or a data frame that another program or language wrote."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError, did_you_mean
from vcbench.study.groups import NUMBERS

NEEDED = ("method", "estimate", "truth")
ALSO = ("se", "lower", "upper", "condition", "parameter", "replicate", "status", "p_value", "level")
SPELLINGS = {  # what rsimsum, simsum, simhelpers, SimDesign, broom and plain habit call a column
    "method": ("model", "estimator", "methodvar", "procedure", "algorithm", "technique"),
    "estimate": ("theta", "est", "b", "beta", "coef", "thetahat", "theta_hat", "value", "estvarname"),
    "truth": ("true", "true_value", "true_param", "true_theta", "theta0", "parameter_value", "target"),
    "se": ("std.error", "std_error", "stderr", "model_se", "std_err", "sd"),
    "lower": ("conf.low", "conf_low", "lower_ci", "ci_lower", "lci", "lb", "lower_bound", "ci.lower"),
    "upper": ("conf.high", "conf_high", "upper_ci", "ci_upper", "uci", "ub", "upper_bound", "ci.upper"),
    "condition": ("dgm", "scenario", "design", "setting"),
    "parameter": ("term", "param", "estimand"),
    "replicate": ("dataset", "rep", "rep_id", "repno", "iteration", "iter", "sim", "simulation", "i"),
    "status": ("convergence", "converged"),
    "p_value": ("p.value", "pvalue", "p", "pval"),
}


def read_frame(rows: Any) -> pd.DataFrame:
    """A pandas frame of the rows, numbers as floats. DataError names each column that is missing and the nearest."""
    if isinstance(rows, Mapping):
        rows = pd.DataFrame(rows)
    elif not isinstance(rows, pd.DataFrame):
        import narwhals as nw

        try:
            rows = nw.from_native(rows, eager_only=True).to_pandas()
        except TypeError:
            raise DataError(
                f"rows must be a data frame (pandas, polars, pyarrow) or a mapping of columns,"
                f" not {type(rows).__name__}."
            ) from None
    columns = [str(name) for name in rows.columns]
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"rows lack the column{'s' if len(missing) > 1 else ''} {', '.join(f'`{m}`' for m in missing)}."
            f" They have {', '.join(columns)}.{_remedy(missing, columns)}"
        )
    frame = rows.copy(deep=False)
    for name in NUMBERS:
        if name in frame:
            try:
                frame[name] = pd.to_numeric(frame[name]).astype(np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(f"column `{name}` of the rows must hold numbers: {error}.") from None
    frame["method"] = frame["method"].astype(str)
    return frame.reset_index(drop=True)


def nearest_column(name: str, columns: Iterable[str]) -> str | None:
    """The column that most likely is `name` under another spelling; None where none comes near."""
    folded = {column.lower().replace(" ", "_"): column for column in columns}
    for spelling in (name, *SPELLINGS.get(name, ())):
        if spelling in folded:
            return folded[spelling]
    hint = did_you_mean(name, folded)
    return folded[hint.split("`")[1]] if hint else None


def _remedy(missing: list[str], columns: list[str]) -> str:
    """How to get there: renames for what has another spelling, a constant for what is not there at all."""
    free = [column for column in columns if column not in (*NEEDED, *ALSO)]
    found: dict[str, str] = {}
    for name in missing:
        near = nearest_column(name, [column for column in free if column not in found.values()])
        if near is not None:
            found[name] = near
    text = ""
    if found:
        pairs = ", ".join(f"`{near}` for `{name}`" for name, near in found.items())
        text += f" Did you mean {pairs}? Rename {'it' if len(found) == 1 else 'them'}."
    absent = [name for name in missing if name not in found]
    if "truth" in absent:
        text += " `truth` may be one number for all rows, or null where it is not known."
    if "method" in absent:
        text += " Rows of one method still name it: add a column `method`."
    return text
