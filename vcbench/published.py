"""Published answers: numbers printed for a fit, and whether a fit reproduces them to their printed digits."""

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vcbench.errors import CardError

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "tanh": math.tanh,
    "atanh": math.atanh,
}
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class Table(BaseModel):
    """A table of a card: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """One published number beside the fit's: `holds` if they differ by no more than `tolerance`."""

    quantity: str
    published: str
    computed: float | str
    tolerance: float
    holds: bool


class Published(Table):
    """Numbers printed somewhere for one fit of the card, as text, so that the printed digits count.

    A quantity is an attribute of the Fit, with the name of an entry in brackets where it has several: `loglik`, `aic`,
    `bic`, `n_obs`, `n_fixed`, `status`, `beta[week]`, `beta_se[week]`, `theta[id:var(week)]`, `theta_se[...]`, and
    `sd[...]` for the square root of a variance, `ranef[id|17]`, `ranef_se[id|17]` for a random effect; or arithmetic on
    them: `loglik + (n_obs - n_fixed) / 2 * log(2 * pi)`. The tolerance is half a unit of the last printed digit unless
    said.
    """

    criterion: Literal["ml", "reml"] | None = None
    method: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    values: dict[str, str]
    tolerance: float | None = None
    citation: str

    def answers(self, fit: Any) -> list[Answer]:
        """The published numbers beside those of a `fit` made with this entry's method, criterion and options."""
        return [self._answer(said, text, fit) for said, text in self.values.items()]

    def _answer(self, said: str, text: str, fit: Any) -> Answer:
        computed = quantity(fit, said)
        if isinstance(computed, str):
            return Answer(said, text, computed, 0.0, computed == text)
        tolerance = half_unit(text) if self.tolerance is None else self.tolerance
        return Answer(said, text, computed, tolerance, abs(computed - float(text)) <= tolerance)


def half_unit(text: str) -> float:
    """Half a unit of the last digit of a printed number (a hair more, for numbers printed from a rounded one)."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return 0.51 * 10.0**-decimals


def quantity(fit: Any, text: str) -> float | str:
    """The value of a quantity, as `Published` says it, of a fit. Raises CardError for what the fit does not have."""
    if text == "status":
        return str(fit.status)
    entries: dict[str, float] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"entry{len(entries)}_"
        entries[name] = _entry(fit, match[1], match[2], text)
        return name

    coded = re.sub(r"(\w+)\[([^\]]*)\]", stand_in, text)
    try:
        return _value(ast.parse(coded, mode="eval").body, entries, fit, text)
    except SyntaxError:
        raise CardError(f"published quantity `{text}` is no arithmetic on quantities of a fit.") from None
    except (ValueError, ZeroDivisionError, OverflowError):  # the root of a negative variance: it does not exist
        return math.nan


def _entry(fit: Any, name: str, key: str, text: str) -> float:
    """`name[key]`: an entry of a series, or of the random effects (`component|level`, `component|level|effect`)."""
    if name in ("ranef", "ranef_se"):
        component, level, *effect = key.split("|")
        table = getattr(fit, name)()
        if component not in table or level not in map(str, table[component].index):
            raise CardError(f"published quantity `{text}`: the fit has no level `{level}` of `{component}`.")
        row = table[component].set_axis([str(v) for v in table[component].index]).loc[level]
        return float(row[effect[0]] if effect else row.iloc[0])
    if name not in ("beta", "beta_se", "theta", "theta_se", "sd"):
        raise CardError(f"published quantity `{text}`: a fit has no `{name}[…]`.")
    series = fit.theta if name == "sd" else getattr(fit, name)
    if key not in series.index:
        raise CardError(
            f"published quantity `{text}`: the fit has no `{key}`. It has {', '.join(map(str, series.index))}."
        )
    return math.sqrt(float(series[key])) if name == "sd" else float(series[key])


def _value(node: ast.AST, entries: dict[str, float], fit: Any, text: str) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in entries:
            return entries[name]
        case ast.Name(id="pi"):
            return math.pi
        case ast.Name(id="n_obs" | "n_fixed" as name):
            return float(getattr(fit.model, name))
        case ast.Name(id="loglik" | "aic" | "bic" as name):
            return float(getattr(fit, name))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, entries, fit, text)
        case ast.BinOp(left=a, op=op, right=b) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(a, entries, fit, text), _value(b, entries, fit, text))
        case ast.Call(func=ast.Name(id=name), args=[inner]) if name in FUNCTIONS:
            return FUNCTIONS[name](_value(inner, entries, fit, text))
    raise CardError(
        f"published quantity `{text}`: `{ast.unparse(node)}` is not known. Use loglik, aic, bic, n_obs, n_fixed, pi, "
        f"beta[…], theta[…], …, + - * / ** and {', '.join(FUNCTIONS)}."
    )
