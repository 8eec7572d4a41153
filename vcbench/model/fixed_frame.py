"""Columns of any data frame, as numbers or as levels: the one place where a frame's own types are met.

pandas, polars and pyarrow tables come in through narwhals, a mapping of arrays as it is. A column becomes a `Column`:
numbers keep their type, texts and categoricals become integer codes with the labels of their levels. Levels are
ordered as R orders them: a categorical keeps its order, numbers ascend, texts follow R's collation in a UTF-8 locale
(case counts last).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vcbench.errors import DataError, did_you_mean
from vcbench.model.rlang import format_number

_PUNCTUATION = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"  # in the order of the Unicode collation algorithm
_RANKS = {ord(char): i + 1 for i, char in enumerate(_PUNCTUATION)}  # all before the digits, whose code is 48


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    kind "number" or "logical": `values` (n,), missing as NaN (a logical with missing values is float);
    kind "factor": `codes` int64 (n,), −1 where missing, into `levels`, which are labels; `ordered` as in R's ordered();
    kind "other": dates and the like, good for grouping only; codes and levels as for a factor.
    """

    name: str
    kind: Literal["number", "logical", "factor", "other"]
    values: np.ndarray
    levels: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def missing(self) -> np.ndarray | None:
        """(n,) True where the value is missing, or None where none can be."""
        if self.kind in ("factor", "other"):
            return self.values < 0
        return np.isnan(self.values) if self.values.dtype.kind == "f" else None

    def take(self, rows: np.ndarray) -> "Column":
        """The rows used, ascending, where nothing is missing; all of them are the column itself."""
        values = self.values if rows.size == self.values.size else self.values[rows]
        if self.kind == "logical":
            values = values.astype(bool)
        return self if values is self.values else replace(self, values=values)

    def numbers(self) -> np.ndarray:
        """float64 (n,); logicals are 0 and 1. Raises DataError for levels and for infinite values."""
        if self.kind not in ("number", "logical"):
            what = "is no number" if self.kind == "other" else f"has levels ({some_of(self.levels)}) and is no number"
            raise DataError(
                f"column `{self.name}` {what}; a numeric column was expected here. Convert it in the data first."
            )
        values = np.asarray(self.values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise DataError(non_finite(f"column `{self.name}`", values))
        return values

    def as_factor(self) -> "Column":
        """The same column as codes and levels, levels without rows left in; numbers become labels (`3`, not `3.0`)."""
        if self.kind in ("factor", "other"):
            return self
        codes, levels = factorize(self.values)
        return Column(self.name, "factor", codes, levels)


def non_finite(what: str, values: np.ndarray) -> str:
    bad = np.flatnonzero(~np.isfinite(values))
    return (
        f"{what} has {bad.size} value(s) that are not finite, the first ({values[bad[0]]}) in row {bad[0] + 1} of the "
        f"{values.size} rows used. Remove these rows or mark them as missing."
    )


def some_of(levels: Sequence[str], most: int = 4) -> str:
    return ", ".join(levels[:most]) + (", …" if len(levels) > most else "")


def factorize(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,), ascending labels of numbers or logicals; NaN gets −1. Logicals have both levels always, as in R."""
    import pandas as pd

    if values.dtype.kind == "b":
        return values.astype(np.int64), ("FALSE", "TRUE")
    codes, uniques = pd.factorize(values, sort=True)
    return np.asarray(codes, dtype=np.int64), tuple(number_label(value) for value in uniques.tolist())


def number_label(value: float) -> str:
    """3.0 is `3`, as a column of whole numbers prints; others have R's 15 significant digits."""
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else format_number(value)


def collation_key(text: str) -> tuple[str, str, str]:
    """Sorts as R in a UTF-8 locale: punctuation, digits, letters without case and accent; then accents; then case."""
    if text.isascii():
        return text.lower().translate(_RANKS), "", text.swapcase()
    parts = unicodedata.normalize("NFD", text.casefold())
    accents = "".join(char for char in parts if unicodedata.combining(char))
    return "".join(c for c in parts if not unicodedata.combining(c)).translate(_RANKS), accents, text.swapcase()


def sort_labels(labels: Sequence[str]) -> list[str]:
    joined = "".join(labels)
    plain = joined.isascii() and joined.isalnum() and (joined == joined.upper() or joined == joined.lower())
    return sorted(labels) if plain else sorted(labels, key=collation_key)


class Frame:
    """The columns of `data`, converted when asked for.

    Raises DataError for what is no table, for unknown columns (naming the nearest) and for lengths that disagree.
    """

    def __init__(self, data: Any) -> None:
        self._seen: dict[str, Column] = {}
        self._polars = False
        if isinstance(data, Mapping):
            self._data: Any = {str(name): values for name, values in data.items()}
            self.names = tuple(self._data)
            first = next(iter(self._data.values()), ())
            self.n_rows = len(first) if np.ndim(first) else 0
            return
        import narwhals as nw

        try:
            self._data = nw.from_native(data, eager_only=True)
        except TypeError as error:
            lazy = hasattr(data, "collect")
            remedy = "Call .collect() first." if lazy else "Pass a pandas, polars or pyarrow table or a dict of arrays."
            raise DataError(f"data of type {type(data).__name__} cannot be read as a table. {remedy}") from error
        except Exception as error:
            raise DataError(f"the table cannot be read: {error}") from error
        self.names = tuple(str(name) for name in self._data.columns)
        self.n_rows = self._data.shape[0]
        self._polars = self._data.implementation.name == "POLARS"  # an Enum's levels always have an order: no ordered()

    def column(self, name: str) -> Column:
        if name not in self._seen:
            if name not in self.names:
                hint = did_you_mean(name, self.names) or f" The columns are {some_of(self.names, 12)}."
                raise DataError(f"column `{name}` is not in the data.{hint}")
            column = _convert(name, self._pandas(name), self.n_rows)
            self._seen[name] = replace(column, ordered=column.ordered and not self._polars)
        return self._seen[name]

    def _pandas(self, name: str) -> Any:
        import pandas as pd

        if isinstance(self._data, dict):
            values = self._data[name]
            if np.ndim(values) != 1 and not isinstance(values, pd.Categorical):
                raise DataError(f"column `{name}` has shape {np.shape(values)}; one value a row was expected.")
            return pd.Series(values)
        series = self._data[self._data.columns[self.names.index(name)]]
        if self._polars and str(series.dtype) == "Categorical":  # its order is that of first sight anywhere: no order
            import narwhals as nw

            series = series.cast(nw.String)
        native = series.to_native()
        # pyarrow's own conversion: through narwhals 2.28 the nulls of a dictionary column become its last level
        return native.to_pandas() if hasattr(native, "to_pandas") else series.to_pandas()


def _convert(name: str, series: Any, n_rows: int) -> Column:
    """A pandas series as a Column."""
    import pandas as pd

    if len(series) != n_rows:
        raise DataError(f"column `{name}` has {len(series)} rows where the first column has {n_rows}.")
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = dtype.categories.to_numpy(object).tolist()
        kinds = set(map(type, values))
        levels = tuple(values if kinds == {str} else map(str if kinds == {int} else _label, values))
        return Column(name, "factor", series.cat.codes.to_numpy().astype(np.int64), levels, bool(dtype.ordered))
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return Column(name, "logical" if dtype.kind == "b" else "number", series.to_numpy())
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("boolean", "integer", "floating", "mixed-integer-float", "decimal"):
        if not pd.isna(series).any():
            values = series.to_numpy(dtype={"boolean": bool, "integer": np.int64}.get(kind, np.float64))
        else:
            values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return Column(name, "logical" if kind == "boolean" else "number", values)
    if kind == "empty":
        return Column(name, "number", np.full(n_rows, np.nan))
    if kind in ("complex", "bytes", "mixed"):
        raise DataError(f"column `{name}` holds {kind} values; numbers, texts or categories were expected.")
    codes, uniques = pd.factorize(series)
    labels = [_label(value) for value in uniques.tolist()]
    if kind not in ("string", "mixed-integer"):
        order: Any = np.argsort(uniques) if len(labels) else []
        levels, kind = tuple(labels[i] for i in order), "other"
    else:
        levels, kind = tuple(sort_labels(list(dict.fromkeys(labels)))), "factor"
    at = {label: i for i, label in enumerate(levels)}
    recode = np.array([at[label] for label in labels] + [-1], dtype=np.int64)  # the last stands for missing, code −1
    return Column(name, "factor" if kind == "factor" else "other", recode[codes], levels)


def _label(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float | np.number):
        return number_label(value.item() if isinstance(value, np.number) else value)
    return str(value)
