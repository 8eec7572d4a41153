"""Numbers for the packed data: few digits, null where there is none."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

DIGITS = 5


def short(value: Any, digits: int = DIGITS) -> float | int | None:
    """`value` to a few significant digits; None where it is absent or infinite."""
    if value is None or not isfinite(value):
        return None
    rounded = float(f"{float(value):.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def shorts(values: Iterable[Any], digits: int = DIGITS) -> list[float | int | None]:
    return [short(v, digits) for v in values]
