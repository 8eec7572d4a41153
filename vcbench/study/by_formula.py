"""The generator `model`: any model that a formula and structures say, on a stated design, at a stated θ and β.

    [[data]]
    generator = "model"
    design = { subject = [10, 40], time = { count = 6 } }
    formula = "y ~ time + (1 | subject)"
    residual = "ar1(time, group=subject)"
    theta = { "subject:var((Intercept))" = 1.0, "residual:var" = 2.0, "residual:rho" = [0.0, 0.3, 0.6] }

Lists in the place of a value, of the design or of θ and β, are axes of the grid, as those of settings are.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from vcbench.errors import DataError, did_you_mean
from vcbench.model.model import Model
from vcbench.study.designs import Design, build_design, check_design
from vcbench.study.laws import Laws, LawText
from vcbench.study.said import Said, check_cov, check_formula, check_residual
from vcbench.study.seeds import canonical_json
from vcbench.study.settings import Generator, placeholder
from vcbench.study.simulate import Simulator, build_simulator


def _with_response(text: str) -> str:
    if not text.partition("~")[0].strip().isidentifier():
        raise ValueError(
            f"must have a name left of `~` for the response, such as  y ~ {text.partition('~')[2].strip()}"
        )
    return check_formula(text)


def _designed(design: Design) -> Design:
    check_design(design)
    return design


class ByFormula(Generator):
    """y = Xβ + Zu + e of a formula in lme4's grammar and structures for residual and effects, on a stated `design`.

    `theta` names every parameter of the model as a fit of it does, natural units; `beta` fixed effects, 0 where not
    named. `residual` and `cov` are structures as in cards: "ar1(time, group=subject)", { subject = "diag" }; `equal`
    lists components that share their parameters. Laws of `effects` and `errors`: see `laws`. `redraw`: the design is
    drawn anew with every replicate.
    """

    design: Annotated[Design, AfterValidator(_designed)] = Field(min_length=1)
    formula: Annotated[str, AfterValidator(_with_response)]
    residual: Annotated[str | None, AfterValidator(check_residual)] = None
    cov: Annotated[dict[str, str] | None, AfterValidator(check_cov)] = None
    equal: list[list[str]] = Field(default_factory=list)
    theta: dict[str, float]
    beta: dict[str, float] = Field(default_factory=dict)
    effects: dict[str, LawText] | LawText = "normal"
    errors: LawText = "normal"
    redraw: bool = False

    def said(self, rng: np.random.Generator) -> Said:
        """The model on a design drawn with `rng`. Raises DataError for a design that cannot be."""
        import pandas as pd

        try:
            columns = build_design(self.design, rng)
        except ValueError as error:
            raise DataError(f"`design`: {error}.") from error
        response = self.formula.partition("~")[0].strip()
        if response in columns:
            raise DataError(f"the response `{response}` is a column of the design: give one of them another name.")
        frame = pd.DataFrame({**columns, response: placeholder(len(next(iter(columns.values()))))})
        return Said(self.formula, frame, self.residual, self.cov or {}, tuple(map(tuple, self.equal)))

    def check(self) -> None:
        """Raises VcbenchError for a model that cannot be built, names in θ and β that it lacks, and an impossible θ."""
        self._simulator(*self.sketch())

    def sketch(self) -> tuple[Said, Model]:
        """The model on a design of its own, which is not that of the condition: for its names and structure."""
        shape = self.model_dump(exclude_unset=True, exclude={"theta", "beta", "effects", "errors"})
        return _sketch(canonical_json(shape))

    def build(self, rng: np.random.Generator) -> Simulator:
        said = self.said(rng)
        return self._simulator(said, said.model())

    def _simulator(self, said: Said, model: Model) -> Simulator:
        theta = _by_name("theta", self.theta, model.theta_names)
        lacks = [name for name in model.theta_names if name not in theta]
        if lacks:
            raise DataError(f"`theta` lacks `{lacks[0]}`; the model has {', '.join(model.theta_names)}.")
        beta = _by_name("beta", self.beta, model.X_names or ())
        fixed = [beta.get(name, 0.0) for name in model.X_names or ()]
        return build_simulator(model, theta, fixed, Laws(self.effects, self.errors), said)


def _by_name(key: str, given: Mapping[str, float], known: Any) -> Mapping[str, float]:
    for name in given:
        if name not in known:
            raise DataError(f"`{key}` names `{name}`; the model has {', '.join(known)}.{did_you_mean(name, known)}")
    return given


@lru_cache(maxsize=64)
def _sketch(shape: str) -> tuple[Said, Model]:
    """The model of a generator without its truth: the same whatever θ is asked for, on a design of its own."""
    import json

    made = ByFormula(**json.loads(shape), theta={})
    said = made.said(np.random.default_rng(0))
    return said, said.model()
