"""The generator `model`: any model that a formula and structures say, on a stated design, at a stated θ and β.

    [[data]]
    generator = "model"
    design = { subject = [10, 40], time = { count = 6 } }
    formula = "y ~ time + (1 | subject)"
    residual = "ar1(time, group=subject)"
    theta = { "subject:var((Intercept))" = 1.0, "residual:var" = 2.0, "residual:rho" = [0.0, 0.3, 0.6] }

Lists in the place of a value, of the design or of θ and β, are axes of the grid, as those of settings are.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from vcbench.cards import prepare
from vcbench.errors import DataError, did_you_mean
from vcbench.model.model import Model
from vcbench.model.pedigree import as_label
from vcbench.study.data_sets import read_data
from vcbench.study.designs import Design, build_design, check_design
from vcbench.study.incomplete import Incomplete, Thinned, incomplete
from vcbench.study.missing import Missing
from vcbench.study.relatives import Related
from vcbench.study.said import Said, check_cov, check_formula, check_residual
from vcbench.study.settings import Shaped, placeholder
from vcbench.study.simulate import Simulator, build_simulator

TRUTH = ("truth", "theta", "beta", "effects", "errors", "missing")  # what the shape of a model does not depend on


def _with_response(text: str) -> str:
    if not text.partition("~")[0].strip():
        raise ValueError(f"must have a name left of `~` for the response, such as  y {text.strip()}")
    return check_formula(text)


def _designed(design: Design) -> Design:
    check_design(design)
    return design


class ByFormula(Shaped):
    """y = Xβ + Zu + e of a formula in lme4's grammar and structures for residual and effects, at a stated truth.

    Rows are those of a `design` (`designs`) or of `data`, a CSV file or a data set's name, with `columns` added by
    expressions and the `rows` chosen for which one holds, as in cards.

    `theta` names the parameters of the model as a fit of it does, natural units, and `beta` fixed effects, 0 where not
    named. Of `data`, `truth` = "reml" or "ml" takes what they do not name from that fit to the data's own response.
    `residual` and `cov` are structures as in cards: "ar1(time, group=subject)", { subject = "diag" }; `equal` lists
    components that share their parameters; `related` says how levels of a factor are (`relatives`). `missing`: how rows
    are lost (`missing`). `redraw`: the design is drawn anew with every replicate.
    """

    design: Annotated[Design, AfterValidator(_designed)] | None = Field(default=None, min_length=1)
    data: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    rows: str | None = None
    formula: Annotated[str, AfterValidator(_with_response)]
    residual: Annotated[str | None, AfterValidator(check_residual)] = None
    cov: Annotated[dict[str, str] | None, AfterValidator(check_cov)] = None
    equal: list[list[str]] = Field(default_factory=list)
    related: dict[str, Related] = Field(default_factory=dict)
    truth: Literal["reml", "ml"] | None = None
    theta: dict[str, float] = Field(default_factory=dict)
    beta: dict[str, float] = Field(default_factory=dict)
    missing: Missing | None = None
    redraw: bool = False

    @model_validator(mode="after")
    def _check(self) -> "ByFormula":
        if (self.design is None) == (self.data is None):
            raise ValueError("say either a `design` or the `data` whose rows are taken")
        for key in ("columns", "rows", "truth"):
            if key in self.model_fields_set and self.data is None:
                raise ValueError(f"`{key}` goes with `data`, which is not said")
        if self.redraw and self.design is None:
            raise ValueError("`redraw` draws a `design` anew; these are rows of data")
        if self.design is not None and not self.formula.partition("~")[0].strip().isidentifier():
            raise ValueError("`formula` must have a name left of `~` for the response that is drawn")
        return self

    def said(self, rng: np.random.Generator, sketch: bool = False) -> Said:
        """The model on a design drawn with `rng`; a `sketch` of it leaves out who is related to whom.

        Raises DataError for a design that cannot be, CardError for data that are absent.
        """
        import pandas as pd

        response = self.formula.partition("~")[0].strip()
        if self.data is not None:
            frame = prepare(read_data(self.data), self.columns, self.rows, f"`{self.data}`: an expression")
        else:
            assert self.design is not None
            if response in self.design:
                raise DataError(f"the response `{response}` is a column of the design: give one of them another name.")
            try:
                columns = build_design(self.design, rng)
            except ValueError as error:
                raise DataError(f"`design`: {error}.") from error
            frame = pd.DataFrame({**columns, response: placeholder(len(next(iter(columns.values()))))})
        cov: dict[str, Any] = dict(self.cov or {})
        for group, related in sorted(self.related.items()):
            if group in cov or group not in frame.columns:
                why = "has a `cov` too" if group in cov else f"is no column: {', '.join(map(str, frame.columns))}"
                raise DataError(f"`related` names `{group}`, which {why}.")
            levels = np.unique([as_label(value) for value in frame[group].dropna()])
            cov[group] = related.sketch(levels) if sketch else related.known(levels, rng)
        return Said(self.formula, frame, self.residual, cov, tuple(map(tuple, self.equal)))

    def check(self) -> None:
        """Raises VcbenchError for a model that cannot be built, names in θ and β that it lacks, and an impossible θ."""
        said, model = self.sketch()
        if self.truth is None:
            self._simulator(said, model)
        else:
            _by_name("theta", self.theta, model.theta_names)
            _by_name("beta", self.beta, model.X_names or ())
        if self.missing is not None:
            self.missing.kept(said.frame, said.response, np.zeros(len(said.frame)), np.random.default_rng(0))

    def sketch(self) -> tuple[Said, Model]:
        """The model on a design of its own, which is not that of the condition: for its names and structure."""
        shape = self.model_dump(exclude_unset=True, exclude=set(TRUTH))
        return _sketch(json.dumps(shape, ensure_ascii=False))  # not canonical: the order of a design's columns counts

    def build(self, rng: np.random.Generator) -> Simulator | Thinned | Incomplete:
        said = self.said(rng)
        return incomplete(self._simulator(said, said.model()), self.missing, rng)

    def _simulator(self, said: Said, model: Model) -> Simulator:
        theta: Mapping[str, float] = _by_name("theta", self.theta, model.theta_names)
        beta = _by_name("beta", self.beta, model.X_names or ())
        if self.truth is not None:
            from vcbench.fit import fit

            fitted = fit(model, criterion=self.truth)
            theta, beta = {**fitted.theta.to_dict(), **theta}, {**fitted.beta.to_dict(), **beta}
        lacks = [name for name in model.theta_names if name not in theta]
        if lacks:
            raise DataError(f"`theta` lacks `{lacks[0]}`; the model has {', '.join(model.theta_names)}.")
        fixed = [beta.get(name, 0.0) for name in model.X_names or ()]
        try:
            return build_simulator(model, theta, fixed, self.laws, said)
        except DataError as error:
            text = str(error)
            raise DataError(text if text.startswith("`effects`") else f"`theta`: {text}") from error


def _by_name(key: str, given: Mapping[str, float], known: Any) -> Mapping[str, float]:
    for name in given:
        if name not in known:
            raise DataError(f"`{key}` names `{name}`; the model has {', '.join(known)}.{did_you_mean(name, known)}")
    return given


@lru_cache(maxsize=64)
def _sketch(shape: str) -> tuple[Said, Model]:
    """The model of a generator without its truth: the same whatever θ is asked for, on a design of its own."""
    made = ByFormula(**json.loads(shape))
    said = made.said(np.random.default_rng(0), sketch=True)
    return said, said.model()
