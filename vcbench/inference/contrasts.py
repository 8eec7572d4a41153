"""Linear hypotheses about β, L β = r, from numbers, names or text.

    [0, 1, 0]  or  [[0, 1, 0], [0, 0, 1]]            rows of L
    {"nitro0.2": 1, "nitro0.4": -1}                   one row by names
    "Days"   "nitro0.4 - nitro0.2"   "2 * a = b + 1"  linear text; what is right of `=` goes over to the left
    ["a - b", {"c": 1}]                               rows of any of these

Names are those of `fit.beta`; in text they may stand as they are, `VarietyVictory:nitro0.2` and `(Intercept)` too,
or in backquotes.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean

RANK = 1e-10  # of what is left of a row beside the others, for hypotheses that contradict


@dataclass(frozen=True, slots=True, eq=False)
class Hypotheses:
    """L (q, d), r (q,) and a label for each row."""

    L: np.ndarray
    value: np.ndarray
    labels: tuple[str, ...]

    @classmethod
    def read(cls, given: Any, names: Sequence[str]) -> "Hypotheses":
        """Hypotheses in β's `names` (d,). MethodError for an unknown name, text that is not linear, a wrong number of
        columns, a row of zeros, and rows that contradict each other."""
        if isinstance(given, cls):
            return given
        rows = [_row(item, names) for item in _items(given, names)]
        if not rows:
            raise MethodError("the contrast has no rows. Pass coefficients, a mapping by name, or text.")
        L = np.array([row for row, _, _ in rows])
        value = np.array([constant for _, constant, _ in rows])
        if not np.isfinite(L).all() or not np.isfinite(value).all():
            raise MethodError("a contrast's coefficients must be finite numbers.")
        labels = tuple(text or combination(row, names) or "0" for row, _, text in rows)
        out = cls(L, value, labels)
        out._check()
        return out

    def _check(self) -> None:
        empty = np.flatnonzero(~self.L.any(axis=1))
        if empty.size:
            raise MethodError(f"row {empty[0]} of the contrast (`{self.labels[empty[0]]}`) has no coefficient but 0.")
        size = np.linalg.norm(self.L, axis=1)
        A = self.L / size[:, None]
        left = self.value / size
        fitted = A @ np.linalg.lstsq(A, left, rcond=None)[0]
        if np.abs(left - fitted).max() > 1e-8 * max(np.abs(left).max(), RANK):
            raise MethodError(f"the hypotheses {', '.join(f'`{x}`' for x in self.labels)} contradict each other.")


def combination(row: np.ndarray, names: Sequence[str]) -> str:
    """`nitro0.4 - 2 nitro0.2`: a row in words."""
    out = ""
    for c, name in zip(row, names, strict=True):
        if c:
            sign = ("-" if c < 0 else "") if not out else (" - " if c < 0 else " + ")
            out += sign + ("" if abs(c) == 1 else f"{abs(c):.6g} ") + name
    return out


def _items(given: Any, names: Sequence[str]) -> Iterable[Any]:
    """The rows of what was given, not read yet."""
    if isinstance(given, str | Mapping):
        return [given]
    if isinstance(given, Sequence) and any(isinstance(item, str | Mapping) for item in given):
        return given
    try:
        L = np.asarray(given, float)
    except (TypeError, ValueError):
        raise MethodError(
            f"`{given!r}` is no contrast. Pass {len(names)} coefficients (or rows of them), a mapping by name, or text "
            "such as `a - b`."
        ) from None
    if L.ndim not in (1, 2) or L.shape[-1] != len(names):
        raise MethodError(f"the contrast has shape {L.shape}; its rows need {len(names)} coefficients: {_some(names)}.")
    return np.atleast_2d(L)


def _row(item: Any, names: Sequence[str]) -> tuple[np.ndarray, float, str]:
    """(coefficients, value, text) of one row."""
    if isinstance(item, str):
        return (*_linear(item, names), item.strip())
    if isinstance(item, Mapping):
        row = np.zeros(len(names))
        for name, coefficient in item.items():
            row[_position(str(name), names)] = float(coefficient)
        return row, 0.0, ""
    row = np.asarray(item, float)
    if row.shape != (len(names),):
        raise MethodError(f"a row of the contrast has shape {row.shape}; it needs {len(names)} coefficients.")
    return row, 0.0, ""


def _position(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise MethodError(
            f"unknown fixed effect `{name}`.{did_you_mean(name, names)} There are: {_some(names)} (the reference level "
            "of a factor has none)."
        )
    return list(names).index(name)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown}, … ({len(names)})"


def _linear(text: str, names: Sequence[str]) -> tuple[np.ndarray, float]:
    """(coefficients, value) of `a - 2 * b = c + 1`."""
    table: dict[str, str] = {}

    def stand_in(match: re.Match) -> str:
        key = f"name{len(table)}_"
        table[key] = match.group(0) if match.group(1) is None else match.group(1)
        return f" {key} "

    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    coded = re.sub(rf"`([^`]+)`|(?<![\w.:])(?:{known})(?![\w.:(])", stand_in, text)
    sides = re.split("==?", coded)
    if len(sides) > 2:
        raise MethodError(f"`{text}` holds more than one equation. Pass a list with one text for each.")
    form = _Form(text.strip(), table, names)
    total = form.read(sides[0])
    if len(sides) == 2:
        total = total - form.read(sides[1])
    elif total[-1]:
        raise MethodError(
            f"`{text}` adds the constant {total[-1]:g} to its effects. A hypothesis about a value has an equals sign: "
            "`a - b = 3`."
        )
    return total[:-1], -float(total[-1])


@dataclass(frozen=True, slots=True)
class _Form:
    """Reads one side of a hypothesis as coefficients and, last, a constant (d + 1,)."""

    text: str
    table: Mapping[str, str]  # stand-in -> name
    names: Sequence[str]

    def read(self, side: str) -> np.ndarray:
        try:
            return self.value(ast.parse(side.strip(), mode="eval").body)
        except SyntaxError:
            raise MethodError(
                f"cannot read `{self.text}`. Write sums of effects with numbers, e.g. `2 * a - b`, or `a = b`; "
                f"the effects are {_some(self.names)}."
            ) from None

    def value(self, node: ast.AST) -> np.ndarray:
        d = len(self.names)
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return np.append(np.zeros(d), float(number))
            case ast.Name(id=name):
                return np.append(np.eye(d)[_position(self.table.get(name, name), self.names)], 0.0)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self.value(inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.value(inner)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = self.value(a), self.value(b)
                match op:
                    case ast.Add():
                        return x + y
                    case ast.Sub():
                        return x - y
                    case ast.Mult() if not x[:-1].any():
                        return x[-1] * y
                    case ast.Mult() if not y[:-1].any():
                        return y[-1] * x
                    case ast.Div() if not y[:-1].any() and y[-1]:
                        return x / y[-1]
        raise MethodError(f"`{self.text}` is not linear in the fixed effects. Use + and -, and * or / by numbers.")
