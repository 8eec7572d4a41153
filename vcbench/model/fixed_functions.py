"""The functions an expression in a formula may call, with R's names and arguments; nothing else can be called.

Those that learn from the data (`poly`, `scale`, `mean`, …) are formulaic's stateful transforms or built like them:
what they learned from the rows used is kept and applied to new data. This module loads formulaic; import it when
needed only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from formulaic.transforms.poly import poly as _poly
from formulaic.transforms.scale import scale as _scale
from formulaic.utils.stateful_transforms import stateful_transform


def log(x, base=None):
    return np.log(x) if base is None else np.log(x) / np.log(base)


def as_numeric(x):
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise ValueError("as.numeric() takes numbers; the column has levels")
    return x.astype(float)


def is_in(x, table):
    return np.isin(x, np.asarray(table, dtype=object) if np.asarray(x).dtype == object else table)


def power(x, exponent):
    return np.asarray(x, dtype=float) ** exponent


@stateful_transform
def poly(x, degree=1, raw=False, _state=None):
    """R's poly(): columns of degree 1, 2, …, orthonormal and orthogonal to the constant unless `raw`."""
    k = int(degree)
    if k != degree or k < 1:
        raise ValueError(f"the degree of poly() must be a whole number ≥ 1, not {degree}")
    if not raw and "alpha" not in _state and np.unique(x).size <= k:
        raise ValueError(f"poly() of degree {k} needs more than {k} distinct values; there are {np.unique(x).size}")
    return _poly(np.asarray(x, dtype=float), k, raw=bool(raw), _state=_state)


@stateful_transform
def scale(x, center=True, scale=True, _state=None):
    """R's scale(): (x − mean)/sd; a number or FALSE instead of either."""
    return _scale(np.asarray(x, dtype=float), center=center, scale=scale, _state=_state)


def _summary(function: Callable[..., Any]) -> Callable[..., Any]:
    """A number of the rows used, kept for new data."""

    @stateful_transform
    def summary(x, _state=None):
        if "value" not in _state:
            _state["value"] = float(function(np.asarray(x, dtype=float)))
        return _state["value"]

    return summary


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "I": lambda x: x,
    "log": log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "floor": np.floor,
    "ceiling": np.ceil,
    "trunc": np.trunc,
    "round": lambda x, digits=0: np.round(x, int(digits)),
    "sign": np.sign,
    "pmin": lambda *x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "pmax": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "ifelse": lambda test, yes, no: np.where(test, yes, no),
    "as.numeric": as_numeric,
    "poly": poly,
    "scale": scale,
    "mean": _summary(np.mean),
    "median": _summary(np.median),
    "sd": _summary(lambda x: np.std(x, ddof=1)),
    "var": _summary(lambda x: np.var(x, ddof=1)),
    "min": _summary(np.min),
    "max": _summary(np.max),
    "sum": _summary(np.sum),
}
OPERATORS: dict[str, Callable[..., Any]] = {
    "!": np.logical_not,
    "&": np.logical_and,
    "|": np.logical_or,
    "%in%": is_in,
    "^": power,
}
