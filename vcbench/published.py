"""Published answers: numbers printed for a fit, and whether a fit reproduces them to their printed digits."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vcbench.errors import CardError


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
    `bic`, `n_obs`, `status`, `beta[week]`, `beta_se[week]`, `theta[id:var(week)]`, `theta_se[...]`, and `sd[...]` for
    the square root of a variance. The tolerance is half a unit of the last printed digit unless said.
    """

    criterion: Literal["ml", "reml"] | None = None
    method: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    values: dict[str, str]
    tolerance: float | None = None
    citation: str

    def answers(self, fit: Any) -> list[Answer]:
        """The published numbers beside those of a `fit` made with this entry's method, criterion and options."""
        return [self._answer(quantity, text, fit) for quantity, text in self.values.items()]

    def _answer(self, quantity: str, text: str, fit: Any) -> Answer:
        computed = _quantity(fit, quantity)
        if isinstance(computed, str):
            return Answer(quantity, text, computed, 0.0, computed == text)
        tolerance = half_unit(text) if self.tolerance is None else self.tolerance
        return Answer(quantity, text, computed, tolerance, abs(computed - float(text)) <= tolerance)


def half_unit(text: str) -> float:
    """Half a unit of the last digit of a printed number (a hair more, for numbers printed from a rounded one)."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return 0.51 * 10.0**-decimals


def _quantity(fit: Any, quantity: str) -> float | str:
    name, _, rest = quantity.partition("[")
    key = rest.removesuffix("]")
    if name == "status":
        return str(fit.status)
    if name == "n_obs":
        return float(fit.model.n_obs)
    if not rest:
        return float(getattr(fit, name))
    series = fit.theta if name == "sd" else getattr(fit, name)
    if key not in series.index:
        raise CardError(
            f"published quantity `{quantity}`: the fit has no `{key}`. It has {', '.join(map(str, series.index))}."
        )
    value = float(series[key])
    return math.sqrt(value) if name == "sd" else value
