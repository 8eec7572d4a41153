"""What a study says about its measures: figures of its answer, acceptance checks and precision targets."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vcbench.study.conditions import Condition
from vcbench.study.measures import MEASURES
from vcbench.study.mutants import MUTANTS

TOLERANCES: Mapping[str, tuple[float, str]] = {  # by measure: how far, and in which unit, where a check does not say
    "coverage": (0.02, "measure"),
    "be_coverage": (0.02, "measure"),
    "bias": (0.1, "empirical_se"),
    "model_se_error": (10.0, "measure"),
}
TARGETS: Mapping[str, float] = {"variance_ratio": 1.0, "share_equal": 1.0, "convergence_rate": 1.0}
NO_ERROR = ("max_abs_difference", "n_valid")  # a maximum and a count have no Monte Carlo error


class Table(BaseModel):
    """A table of a study's TOML: no key that is not known, no value of another type, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class About(Table):
    """A measure, of `method` for `parameter` (all of them where not named).

    `data` and `where` (a factor's value, or a list of them) name the conditions that it speaks of; without them, all
    that are simulated.
    """

    measure: Literal[MEASURES]  # type: ignore[valid-type]
    method: str | list[str] | None = None
    parameter: str | list[str] | None = None
    data: str | list[str] | None = None
    where: dict[str, Any] = {}

    def speaks_of(self, condition: Condition) -> bool:
        """True for the conditions that it is about."""
        named = [self.data] if isinstance(self.data, str) else self.data
        if condition.real if named is None else condition.entry not in named:
            return False
        for factor, values in self.where.items():
            if condition.factors.get(factor) not in (values if isinstance(values, list) else [values]):
                return False
        return True


class Check(About):
    """One acceptance check: a measure in the region `target` ± `tolerance`.

    `unit` says what a tolerance is counted in: "measure", the measure's own unit, or, for a bias or a paired
    difference, "empirical_se", the method's empirical SE. Where there is no tolerance, it is .02 for a coverage, .1
    empirical SE for a bias and 10 % for the error of model SEs. The target is the level for a coverage; 1 for
    variance_ratio, share_equal and convergence_rate; else 0. `share` is the check's part of the study's `alarm`; what
    is left is shared equally by the comparisons of all other checks.
    """

    tolerance: Annotated[float, Field(ge=0)] | None = None
    target: float | None = None
    unit: Literal["measure", "empirical_se"] | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _known_unit(self) -> "Check":
        if self.tolerance is None and self.measure not in TOLERANCES:
            raise ValueError(f"must say its `tolerance`: only {', '.join(TOLERANCES)} have one by default")
        if self.tolerance is None and self.unit is not None:
            raise ValueError("must say its `tolerance` where it says the `unit`")
        if self.unit == "empirical_se" and self.measure not in ("bias", "paired_difference"):
            raise ValueError(f"must have its tolerance in its own unit: {self.measure} is no difference of estimates")
        return self

    def centre(self, level: float) -> float:
        """The target of a study at that confidence level."""
        if self.target is not None:
            return self.target
        return level if self.measure in ("coverage", "be_coverage") else TARGETS.get(self.measure, 0.0)

    @property
    def slack(self) -> tuple[float, str]:
        """The tolerance and its unit."""
        if self.tolerance is None:
            return TOLERANCES[self.measure]
        return self.tolerance, self.unit or "measure"


class Target(About):
    """A precision target: the Monte Carlo standard error of a measure at most `mcse`."""

    mcse: Annotated[float, Field(gt=0)]

    @field_validator("measure")
    @classmethod
    def _has_error(cls, measure: str) -> str:
        if measure in NO_ERROR:
            raise ValueError(f"must be a measure with a Monte Carlo error: {measure} has none")
        return measure


class MutantRuns(Table):
    """Runs of a study with each of the mutants `names` (all of them where none is named), with `seeds` seeds each, and
    `clean` runs without any: seeds 1, 2, …"""

    names: list[Literal[tuple(MUTANTS)]] | None = None  # type: ignore[valid-type]
    seeds: Annotated[int, Field(ge=1)] = 3
    clean: Annotated[int, Field(ge=0)] = 200


def _spelled_out(said: Any) -> Any:
    """`coverage = 0.005` as `coverage = { mcse = 0.005 }`, and each with its measure."""
    if not isinstance(said, dict):
        return said
    return {
        name: {"measure": name} | (asked if isinstance(asked, dict) else {"mcse": asked})
        for name, asked in said.items()
    }


Targets = Annotated[dict[str, Target], BeforeValidator(_spelled_out)]
