"""Generators: designs with a known truth, by name.

A generator is a frozen table of settings (pydantic: unknown keys and wrong values are said by name) with one method,
`build(rng)`, which makes the design and returns its Simulator. The design is drawn once per condition, from its own
stream, unless `redraw` asks for a new one with every replicate.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from vcbench.errors import DataError, did_you_mean
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.study.seeds import DATA, DESIGN, condition_key, generator
from vcbench.study.simulate import Simulator, build_simulator

Share = Annotated[float, Field(ge=0, lt=1)]
Variance = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _two_groups(n_groups: int) -> int:
    if n_groups < 2:
        raise ValueError(f"must be at least 2, not {n_groups}: one group has no between-group variance")
    return n_groups


Groups = Annotated[int, AfterValidator(_two_groups)]


class Generator(BaseModel):
    """Settings of one condition. `build(rng)` draws the design."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
    real: ClassVar[bool] = False

    @property
    def redraws(self) -> bool:
        """True where every replicate has a design of its own."""
        return bool(getattr(self, "redraw", False))

    def build(self, rng: np.random.Generator) -> Simulator:
        """The design, drawn with `rng`, with its truth."""
        raise NotImplementedError

    def _either(self, *groups: tuple[str, ...]) -> None:
        """ValueError unless settings come from one of the groups only."""
        used = [[name for name in group if name in self.model_fields_set] for group in groups]
        used = [names for names in used if names]
        if len(used) > 1:
            raise ValueError(f"`{used[0][0]}` and `{used[1][0]}` say the same thing twice: keep one of them")


class OneWay(Generator):
    """y_ij = mean + u_i + e_ij: groups of `group_size` rows, or `sizes`; variances `sigma2`, `sigma2_e`, or `icc`.

    The total variance is 1 where `icc` is given.

    `balance` < 1 makes sizes unequal at the same total: from `balance` to 2 − `balance` times `group_size`, evenly.
    """

    n_groups: Groups = 10
    group_size: Count = 5
    sizes: list[Count] | None = None
    balance: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: float = 0.0
    sigma2: Variance = 1.0
    sigma2_e: Positive = 1.0
    icc: Share | None = None

    @model_validator(mode="after")
    def _check(self) -> "OneWay":
        self._either(("icc",), ("sigma2", "sigma2_e"))
        self._either(("sizes",), ("n_groups", "group_size", "balance"))
        sizes = self._sizes()
        if len(sizes) < 2:
            raise ValueError("`sizes` must list at least 2 groups: one group has no between-group variance")
        if max(sizes) < 2:
            raise ValueError("groups of one row each cannot tell the group variance from the residual's")
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
        model = Model(_placeholder(len(codes)), None, [_grouped(np.ones((len(codes), 1)), codes, ("(Intercept)",))])
        theta = (self.sigma2, self.sigma2_e) if self.icc is None else (self.icc, 1 - self.icc)
        return build_simulator(model, theta, [self.mean])


class RandomSlope(Generator):
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
        model = Model(_placeholder(len(t)), A, [_grouped(A, codes, names)], X_names=names)
        (a, b), (_, c) = self.Omega
        return build_simulator(model, (a, b, c, self.sigma2_e), self.beta)


class VarianceComponents(Generator):
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
        model = Model(_placeholder(self.n), X, components, X_names=names)
        return build_simulator(model, theta, [self.beta] * len(names))


class Snp(Generator):
    """A polygenic trait: n people, p unlinked markers, K = WWᵀ/p of standardised genotypes, σ_u² = h2·total.

    Minor allele frequencies are uniform on `maf`; markers without variation are drawn again. K is centred, of rank ≤
    n − 1. `n_causal`: as many markers have an effect, the same ones in every replicate, of the same variance in all;
    the model is still that of all markers. `columns`: the model is given W/√p in the place of K, for methods that
    select markers.
    """

    n: Annotated[int, Field(ge=3)] = 300
    p: Count = 600
    h2: Share = 0.5
    total: Positive = 1.0
    mean: float = 0.0
    maf: list[Annotated[float, Field(gt=0, le=0.5)]] = Field(default=[0.05, 0.5], min_length=2, max_length=2)
    n_causal: Count | None = None
    columns: bool = False
    redraw: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Snp":
        if self.n_causal is not None and self.n_causal > self.p:
            raise ValueError(f"`n_causal` = {self.n_causal} is more than the p = {self.p} markers")
        if self.maf[0] > self.maf[1]:
            raise ValueError(f"`maf` must rise, not {self.maf}")
        return self

    def genotypes(self, rng: np.random.Generator) -> np.ndarray:
        """W (n, p): minor allele counts, each column with mean 0 and variance 1 in the sample."""
        low, high = self.maf
        counts = rng.binomial(2, rng.uniform(low, high, self.p), (self.n, self.p))
        while len(fixed := np.flatnonzero(np.ptp(counts, axis=0) == 0)):
            counts[:, fixed] = rng.binomial(2, rng.uniform(low, high, len(fixed)), (self.n, len(fixed)))
        return (counts - counts.mean(axis=0)) / counts.std(axis=0)

    def build(self, rng: np.random.Generator) -> Simulator:
        W = self.genotypes(rng)
        snp = Component(W / np.sqrt(self.p), name="snp") if self.columns else Component(K=W @ W.T / self.p, name="snp")
        model = Model(_placeholder(self.n), None, [snp])
        made = build_simulator(model, (self.h2 * self.total, (1 - self.h2) * self.total), [self.mean])
        if self.n_causal is None:
            return made
        causal = W[:, np.sort(rng.choice(self.p, self.n_causal, replace=False))]
        return replace(made, roots=(np.sqrt(self.h2 * self.total / self.n_causal) * causal,))


class FromCard(Generator):
    """The real design of a card, its truth the card's own REML or ML fit, or given by name in `theta` and `beta`."""

    card: str
    truth: Literal["reml", "ml"] = "reml"
    theta: dict[str, float] | None = None
    beta: dict[str, float] | None = None

    def check_names(self) -> None:
        """ValueError for a name in `theta` or `beta` that the card's model does not have."""
        from vcbench.cards import load_card

        model = load_card(self.card).model()
        for key, given, known in (("theta", self.theta, model.theta_names), ("beta", self.beta, model.X_names or ())):
            for name in given or {}:
                if name not in known:
                    hint = did_you_mean(name, known)
                    raise ValueError(f"`{key}` names `{name}`; the card's model has {', '.join(known)}.{hint}")

    def build(self, rng: np.random.Generator) -> Simulator:
        from vcbench.cards import load_card
        from vcbench.fit import fit

        model = load_card(self.card).model()
        values = {}
        if self.theta is None or self.beta is None:
            fitted = fit(model, criterion=self.truth)
            values = {**fitted.theta.to_dict(), **fitted.beta.to_dict()}
        values |= {**(self.theta or {}), **(self.beta or {})}
        for name in (*model.theta_names, *(model.X_names or ())):
            if name not in values:
                raise DataError(f"card `{self.card}`: the truth lacks `{name}`. Give it in `theta` or `beta`.")
        return build_simulator(model, values, [values[name] for name in model.X_names or ()])


GENERATORS: dict[str, type[Generator]] = {
    "one_way": OneWay,
    "random_slope": RandomSlope,
    "variance_components": VarianceComponents,
    "snp": Snp,
    "from_card": FromCard,
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
    y = simulator.draw([generator(seed, key_, 0, DATA)])[:, 0]
    return simulator.model.replace(y=y), simulator.truth


def _grouped(A: np.ndarray, codes: np.ndarray, effects: tuple[str, ...]) -> Component:
    return Component(A, name="group", group=codes, columns=effects)


def _placeholder(n: int) -> np.ndarray:
    """A response for a model that waits for its data: finite and not constant."""
    return np.arange(n, dtype=float)
