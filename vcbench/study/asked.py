"""What a `[[methods]]` entry is asked besides its estimate: an interval of a chosen kind, or a test of a component.

    interval = "profile"                                        the same as  { kind = "profile" }
    interval = { kind = "wald", symmetric_on = "log" }          options are those of `fit.confint(kind, …)`
    interval = { kind = "bootstrap", n = 500, type = "bca", parameters = "group:var((Intercept))" }
    test = { kind = "mixture", drop = "group" }                 of the model against the one without `drop`

An entry without either has what it always had: a posterior its own limits, every other method Wald limits on the
natural scale. One with a `test` and no `interval` has no limits.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1)]
ALWAYS = ("kind", "parameters", "drop")
OWN = {  # the options of each kind
    "wald": ("symmetric_on",),
    "profile": ("criterion",),
    "bootstrap": ("n", "type"),
    "posterior": (),
    "chi2": (),
    "mixture": (),
    "exact": ("n",),
}
REFITS = 999
DRAWS = {"exact": 100_000, "bootstrap": REFITS}  # an error of the exact null is common to all replicates of a design


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: str

    @model_validator(mode="after")
    def _check(self) -> "_Asked":
        for key in self.model_fields_set - set(ALWAYS):
            if key not in OWN[self.kind]:
                has = " and ".join(f"`{name}`" for name in OWN[self.kind] if name in type(self).model_fields)
                raise ValueError(f'kind "{self.kind}" takes no `{key}`{f"; it takes {has}" if has else ""}')
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The keys that the specification gives."""
        return {key: value for key, value in self.model_dump().items() if key in self.model_fields_set}


class IntervalTable(_Asked):
    """Intervals at the study's level of `parameters` (all of them where none is named).

    `symmetric_on` is the scale that a Wald interval is symmetric on, `criterion` that of a profile (default: the
    method's own), `n` and `type` the refits of a bootstrap and what is made of them.
    """

    kind: Literal["wald", "profile", "bootstrap", "posterior"]
    parameters: list[Text] | Text | None = None
    symmetric_on: Literal["var", "sd", "log"] = "var"
    criterion: Literal["ml", "reml"] | None = None
    n: Annotated[int, Field(ge=20)] = REFITS
    type: Literal["percentile", "basic", "bca"] = "percentile"

    @property
    def name(self) -> str:
        """The rows' `interval`: wald, wald-sd, wald-log, profile, bootstrap-bca, …, eti (a posterior's equal tails)."""
        if self.kind == "wald":
            return "wald" if self.symmetric_on == "var" else f"wald-{self.symmetric_on}"
        return {"bootstrap": f"bootstrap-{self.type}", "posterior": "eti"}.get(self.kind, self.kind)

    def places(self, parameters: Sequence[str]) -> list[int]:
        """Where the parameters that get limits stand."""
        given = [self.parameters] if isinstance(self.parameters, str) else self.parameters
        return [j for j, name in enumerate(parameters) if given is None or name in given]


class TestTable(_Asked):
    """A likelihood-ratio test of the component `drop`: its p-value by χ², a mixture, the exact null or a bootstrap.

    `n` counts the draws of a design's exact null distribution, where it must be simulated, or the refits of a
    bootstrap.
    """

    __test__ = False  # of the statistician's, not of pytest's

    kind: Literal["chi2", "mixture", "exact", "bootstrap"]
    drop: Text
    n: Annotated[int, Field(ge=100)] | None = None

    @property
    def draws(self) -> int | None:
        """`n` or its default; None where nothing is drawn for sure."""
        return self.n or DRAWS.get(self.kind)


def _spelled_out(said: Any) -> Any:
    """A kind by itself is short for a table."""
    return {"kind": said} if isinstance(said, str) else said


Interval = Annotated[IntervalTable | None, BeforeValidator(_spelled_out)]
Test = Annotated[TestTable | None, BeforeValidator(_spelled_out)]
KEYS: Mapping[str, tuple[str, ...]] = {
    "interval": tuple(IntervalTable.model_fields),
    "test": tuple(TestTable.model_fields),
}
