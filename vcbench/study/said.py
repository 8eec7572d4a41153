"""A model as it is said: formula, data frame and structures. The same data can be said otherwise, and fitted so.

    [[methods]]
    name = "ai"
    label = "AR(1) ignored"
    model = { residual = "iid" }       what the method fits, where that is not what the data are drawn from

What `model` does not name (formula, residual, cov) stays as the data's own. All methods see the same rows and
responses. Parameters that both models have are judged by the truth of the data; what only the fitted one has, has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from vcbench.errors import DataError, VcbenchError
from vcbench.model.covariance_text import parse_covariance
from vcbench.model.formula import parse_formula
from vcbench.model.model import Model
from vcbench.model.residual_text import parse_residual
from vcbench.model.rlang import parse


def check_formula(text: str) -> str:
    """The formula, if it can be read. ValueError where not; a response left of `~` is not needed."""
    right = text.partition("~")[2]
    try:
        if not right.strip():
            raise DataError(f"formula `{text}` has no `~` with terms right of it. Write `y ~ x + (1 | g)`.")
        parse(f"y ~ {right}")
    except VcbenchError as error:
        raise ValueError(str(error)) from error
    return text


def check_residual(text: str | None) -> str | None:
    """The residual structure's text, if it can be read. ValueError where not."""
    try:
        if text is not None:
            parse_residual(text)
    except VcbenchError as error:
        raise ValueError(str(error)) from error
    return text


def check_cov(said: dict[str, str] | None) -> dict[str, str] | None:
    """The covariance structures by grouping factor, if they can be read. ValueError where not."""
    try:
        for group, text in (said or {}).items():
            parse_covariance(text, f"cov.{group}")
    except VcbenchError as error:
        raise ValueError(str(error)) from error
    return said


class ModelTable(BaseModel):
    """What a `[[methods]]` entry fits instead of the data's own model: a formula, a residual, structures of effects.

    The formula's response is the data's own: `~ time + (1 | subject)` or `y ~ time + (1 | subject)`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    formula: str | None = None
    residual: str | None = None
    cov: dict[str, str] | None = None

    _formula = field_validator("formula")(lambda text: None if text is None else check_formula(text))
    _residual = field_validator("residual")(check_residual)
    _cov = field_validator("cov")(check_cov)

    @property
    def given(self) -> dict[str, Any]:
        """The keys that the specification gives."""
        return {key: value for key, value in self.model_dump().items() if key in self.model_fields_set}


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Formula, frame, residual structure and structures of effects by grouping factor, which together are a Model."""

    formula: str
    frame: Any = field(repr=False)
    residual: str | None = None
    cov: Mapping[str, Any] = field(default_factory=dict)
    equal: tuple[tuple[str, ...], ...] = ()
    name: str | None = None

    @property
    def response(self) -> str:
        """What stands left of `~`."""
        return self.formula.partition("~")[0].strip()

    def model(self) -> Model:
        """The Model. Raises FormulaError, DataError, ModelError."""
        return Model.from_formula(
            self.formula, self.frame, residual=self.residual, cov=self.cov, equal=self.equal, name=self.name
        )

    def otherwise(self, table: ModelTable, drawn: Model) -> Model:
        """The Model of the same rows under what `table` says instead; `drawn` is the data's own Model.

        Raises DataError where the formula leaves other rows than the data have, and what `model` raises.
        """
        formula = self.formula
        if table.formula is not None:
            own, left = self.response, table.formula.partition("~")[0].strip()
            if left not in ("", own):
                raise DataError(
                    f"the formula `{table.formula}` has the response `{left}`; that of the data is `{own}`."
                )
            formula = f"{own} ~ {table.formula.partition('~')[2].strip()}"
        groups = {term.group for term in parse_formula(formula, self.frame).random}
        cov = {group: how for group, how in self.cov.items() if group in groups} | (table.cov or {})
        residual = self.residual if table.residual is None else table.residual
        equal = tuple(group for group in self.equal if groups.issuperset(group))
        said = Said(formula, self.frame, residual, cov, equal, self.name)
        model = said.model()
        rows = np.arange(drawn.n_obs) if drawn.parsed is None else drawn.parsed.rows_used
        if not np.array_equal(model.parsed.rows_used, rows):
            raise DataError(
                f"`{formula}` is fitted to {model.n_obs} rows, the data's own model `{self.formula}` to {drawn.n_obs}:"
                " a column that one of them reads has missing values. Leave such rows out of the data."
            )
        return model


def said_by_card(card: Any) -> Said | None:
    """How a card says its model; None for a simulated card and for several traits. Raises CardError."""
    if not isinstance(card.formula, str):
        return None
    return Said(card.formula, card.data(), card.residual, {**card.cov, **card.relationships()}, (), card.name)
