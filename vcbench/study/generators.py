"""Generators: designs with a known truth, by name.

A generator is a frozen table of settings (pydantic: unknown keys and wrong values are said by name) with one method,
`build(rng)`, which makes the design and returns its Simulator (of several traits, its Traits). The design is drawn once
per condition, from its own stream, unless `redraw` asks for a new one with every replicate.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError, model_validator

from vcbench.errors import DataError, VcbenchError, did_you_mean
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.study.by_formula import ByFormula
from vcbench.study.genomic import Snp, SnpTraits
from vcbench.study.incomplete import Incomplete, Thinned, incomplete
from vcbench.study.missing import Missing
from vcbench.study.said import Said, said_by_card
from vcbench.study.seeds import DATA, DESIGN, condition_key, generator
from vcbench.study.settings import Count, Generator, Positive, Shaped, Share, Variance, placeholder
from vcbench.study.simulate import Simulator, build_simulator
from vcbench.study.traits import Traits

__all__ = [
    "GENERATORS", "ByFormula", "FromCard", "Generator", "OneWay", "RandomSlope", "Snp", "SnpTraits",
    "VarianceComponents", "draw_card", "find_generator",
]  # fmt: skip


def _two_groups(n_groups: int) -> int:
    if n_groups < 2:
        raise ValueError(f"must be at least 2, not {n_groups}: one group has no between-group variance")
    return n_groups


Groups = Annotated[int, AfterValidator(_two_groups)]


class OneWay(Shaped):
    """y_ij = mean + u_i + e_ij: groups of `group_size` rows, or `sizes`; variances `sigma2`, `sigma2_e`, or `icc`.

    The total variance is 1 where `icc` is given.

    `balance` < 1 makes sizes unequal at the same total: from `balance` to 2 − `balance` times `group_size`, evenly.

    Covariates, of effect 0: `n_between` that are constant in each group, and `n_within` that sum to 0 in each. In
    groups of one size each kind takes its degrees of freedom from one mean square, and the maxima have closed forms.
    """

    n_groups: Groups = 10
    group_size: Count = 5
    sizes: list[Count] | None = None
    balance: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: float = 0.0
    sigma2: Variance = 1.0
    sigma2_e: Positive = 1.0
    icc: Share | None = None
    n_between: Annotated[int, Field(ge=0)] = 0
    n_within: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> "OneWay":
        self._either(("icc",), ("sigma2", "sigma2_e"))
        self._either(("sizes",), ("n_groups", "group_size", "balance"))
        sizes = self._sizes()
        if len(sizes) < 2:
            raise ValueError("`sizes` must list at least 2 groups: one group has no between-group variance")
        if max(sizes) < 2:
            raise ValueError("groups of one row each cannot tell the group variance from the residual's")
        for key, free in (("n_between", len(sizes) - 1), ("n_within", sum(sizes) - len(sizes))):
            if getattr(self, key) and getattr(self, key) >= free:
                raise ValueError(f"`{key}` = {getattr(self, key)} leaves nothing of {free} degrees of freedom")
        return self

    def _sizes(self) -> list[int]:
        if self.sizes is not None:
            return self.sizes
        share = self.balance + 2 * (1 - self.balance) * np.arange(self.n_groups) / (self.n_groups - 1)
        ends = np.round(np.cumsum(share * self.group_size))
        return [max(1, int(size)) for size in np.diff(ends, prepend=0)]

    def build(self, rng: np.random.Generator) -> Simulator:
        sizes = self._sizes()
        codes = np.repeat(np.arange(len(sizes)), sizes)
        groups = [_grouped(np.ones((len(codes), 1)), codes, ("(Intercept)",))]
        theta = (self.sigma2, self.sigma2_e) if self.icc is None else (self.icc, 1 - self.icc)
        if not (self.n_between or self.n_within):
            model = Model(placeholder(len(codes)), None, groups)
            return build_simulator(model, theta, [self.mean], self.laws, said_by_columns("1", "1", codes, {}))
        between = rng.standard_normal((len(sizes), self.n_between))[codes]
        within = rng.standard_normal((len(codes), self.n_within))
        starts = np.cumsum([0, *sizes[:-1]])
        within -= (np.add.reduceat(within, starts) / np.reshape(sizes, (-1, 1)))[codes]
        X = np.column_stack([np.ones(len(codes)), between, within])
        names = ["(Intercept)", *(f"b{j + 1}" for j in range(self.n_between))]
        names += [f"w{j + 1}" for j in range(self.n_within)]
        model = Model(placeholder(len(codes)), X, groups, X_names=tuple(names))
        columns = dict(zip(names[1:], X.T[1:], strict=True))
        said = said_by_columns(" + ".join(columns), "1", codes, columns)
        return build_simulator(model, theta, [self.mean, *[0.0] * (len(names) - 1)], self.laws, said)


class RandomSlope(Shaped):
    """y_ij = β_0 + β_1 t_j + b_0i + b_1i t_j + e_ij, b_i ~ N(0, Ω): every group is seen at the same `times`."""

    n_groups: Groups = 18
    times: list[float] = Field(default=[float(t) for t in range(10)], min_length=2)
    beta: list[float] = Field(default=[250.0, 10.0], min_length=2, max_length=2)
    Omega: list[list[float]] = Field(default=[[600.0, 10.0], [10.0, 35.0]], min_length=2, max_length=2)
    sigma2_e: Positive = 650.0

    @model_validator(mode="after")
    def _check(self) -> "RandomSlope":
        if any(len(row) != 2 for row in self.Omega) or self.Omega[0][1] != self.Omega[1][0]:
            raise ValueError(f"`Omega` must be a symmetric 2 × 2 matrix, not {self.Omega}")
        if float(np.linalg.eigvalsh(self.Omega)[0]) < -1e-10 * abs(self.Omega[0][0]):
            raise ValueError(f"`Omega` must be positive semi-definite, not {self.Omega}")
        if len(set(self.times)) < 2:
            raise ValueError("`times` must hold at least 2 different values: one time has no slope")
        return self

    def build(self, rng: np.random.Generator) -> Simulator:
        t = np.tile(self.times, self.n_groups)
        A = np.column_stack([np.ones_like(t), t])
        codes = np.repeat(np.arange(self.n_groups), len(self.times))
        names = ("(Intercept)", "time")
        model = Model(placeholder(len(t)), A, [_grouped(A, codes, names)], X_names=names)
        (a, b), (_, c) = self.Omega
        said = said_by_columns("time", "time", codes, {"time": t})
        return build_simulator(model, (a, b, c, self.sigma2_e), self.beta, self.laws, said)


class VarianceComponents(Shaped):
    """y = Xβ + Σ_k Z_k u_k + e, u_k ~ N(0, σ_k² I): the K-component model of dense predictors.

    Z_k (n, q_k) holds N(0, 1/q_k) numbers, so that σ_k² is the variance that component k gives to one observation.
    Sizes are `q`, or `q_over_n` with `n_components` of equal size. Variances are `sigma2` and `sigma2_e`, or `share`:
    the signal's part of a total variance of 1, split evenly. X is an intercept and `n_covariates` standard normal
    columns, all β = `beta`.
    """

    n: Annotated[int, Field(ge=3)] = 200
    q: list[Count] = Field(default=[60, 90], min_length=1)
    q_over_n: Positive | None = None
    n_components: Count = 2
    sigma2: list[Variance] = Field(default=[0.5, 0.5], min_length=1)
    sigma2_e: Positive = 1.0
    share: Share | None = None
    n_covariates: Annotated[int, Field(ge=0)] = 1
    beta: float = 1.0
    redraw: bool = False

    @model_validator(mode="after")
    def _check(self) -> "VarianceComponents":
        self._either(("share",), ("sigma2", "sigma2_e"))
        self._either(("q",), ("q_over_n", "n_components"))
        if self.share is None and len(self.sigma2) != len(self._q()):
            raise ValueError(f"`sigma2` has {len(self.sigma2)} variances for {len(self._q())} components")
        if self.n_covariates + 1 >= self.n:
            raise ValueError(f"`n_covariates` = {self.n_covariates} leaves nothing of n = {self.n} rows")
        return self

    def _q(self) -> list[int]:
        if self.q_over_n is None:
            return self.q
        return [max(1, round(self.q_over_n * self.n / self.n_components))] * self.n_components

    def build(self, rng: np.random.Generator) -> Simulator:
        q = self._q()
        X = np.column_stack([np.ones(self.n), rng.standard_normal((self.n, self.n_covariates))])
        components = [
            Component(rng.standard_normal((self.n, q_k)) / np.sqrt(q_k), name=f"x{k}")
            for k, q_k in enumerate(q, start=1)
        ]
        names = ("(Intercept)", *(f"c{j + 1}" for j in range(self.n_covariates)))
        if self.share is None:
            theta = [*self.sigma2, self.sigma2_e]
        else:
            theta = [*[self.share / len(q)] * len(q), 1 - self.share]
        model = Model(placeholder(self.n), X, components, X_names=names)
        return build_simulator(model, theta, [self.beta] * len(names), self.laws)


class FromCard(Shaped):
    """The real design of a card, its truth the card's own REML or ML fit, or given by name in `theta` and `beta`.

    `missing`: how rows are lost (`missing`).
    """

    card: str
    truth: Literal["reml", "ml"] = "reml"
    theta: dict[str, float] | None = None
    beta: dict[str, float] | None = None
    missing: Missing | None = None

    def check_names(self) -> None:
        """ValueError for a name in `theta` or `beta` that the card's model does not have."""
        from vcbench.cards import load_card

        model = load_card(self.card).model()
        for key, given, known in (("theta", self.theta, model.theta_names), ("beta", self.beta, model.X_names or ())):
            for name in given or {}:
                if name not in known:
                    hint = did_you_mean(name, known)
                    raise ValueError(f"`{key}` names `{name}`; the card's model has {', '.join(known)}.{hint}")

    def build(self, rng: np.random.Generator) -> Simulator | Thinned | Incomplete:
        from vcbench.cards import load_card
        from vcbench.fit import fit

        card = load_card(self.card)
        said = said_by_card(card)
        model = card.model() if said is None else said.model()
        values = {}
        if self.theta is None or self.beta is None:
            fitted = fit(model, criterion=self.truth)
            values = {**fitted.theta.to_dict(), **fitted.beta.to_dict()}
        values |= {**(self.theta or {}), **(self.beta or {})}
        for name in (*model.theta_names, *(model.X_names or ())):
            if name not in values:
                raise DataError(f"card `{self.card}`: the truth lacks `{name}`. Give it in `theta` or `beta`.")
        fixed = [values[name] for name in model.X_names or ()]
        return incomplete(build_simulator(model, values, fixed, self.laws, said), self.missing, rng)


GENERATORS: dict[str, type[Generator]] = {
    "one_way": OneWay,
    "random_slope": RandomSlope,
    "variance_components": VarianceComponents,
    "snp": Snp,
    "snp_traits": SnpTraits,
    "from_card": FromCard,
    "model": ByFormula,
}


def find_generator(name: str) -> type[Generator]:
    """The generator of that name. DataError, with the nearest name, if there is none."""
    if name not in GENERATORS:
        raise DataError(
            f"unknown generator `{name}`. Choose from {', '.join(GENERATORS)}.{did_you_mean(name, GENERATORS)}"
        )
    return GENERATORS[name]


def draw_card(name: str, settings: Mapping[str, Any], seed: int) -> tuple[Model, dict[str, float]]:
    """A simulated card's Model, its y the first replicate, and its truth by name.

    Raises DataError for an unknown generator or setting.
    """
    table = find_generator(name)
    try:
        made = table(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or name
        hint = did_you_mean(key, table.model_fields) if first["type"] == "extra_forbidden" else ""
        raise DataError(f"generator `{name}`, `{key}`: {first['msg'].removeprefix('Value error, ')}.{hint}") from error
    key_ = condition_key({"generator": name, **dict(settings)})
    simulator = made.build(generator(seed, key_, DESIGN))
    if isinstance(simulator, Traits):
        raise DataError(f"generator `{name}` draws several traits; a card has one response. Take `snp`.")
    if isinstance(simulator, Incomplete):
        drawn, _ = simulator.draw_one(generator(seed, key_, 0, DATA))
        if isinstance(drawn, VcbenchError):
            raise drawn
        return drawn, simulator.truth
    y = simulator.draw([generator(seed, key_, 0, DATA)])[:, 0]
    return simulator.model.replace(y=y), simulator.truth


def said_by_columns(fixed: str, random: str, codes: np.ndarray, columns: Mapping[str, np.ndarray]) -> Said:
    """How the model of grouped rows is said, for what fits their data otherwise: rows count from 1 within `row`."""
    import pandas as pd

    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    row = np.empty(len(codes))
    row[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes)))) + 1
    frame = pd.DataFrame({"group": codes, "row": row, **columns, "y": placeholder(len(codes))})
    return Said(f"y ~ {fixed} + ({random} | group)", frame)


def _grouped(A: np.ndarray, codes: np.ndarray, effects: tuple[str, ...]) -> Component:
    return Component(A, name="group", group=codes, columns=effects)
