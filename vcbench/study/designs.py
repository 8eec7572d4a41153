"""Designs said column by column: crossed and nested factors, occasions, fields, covariates, balance and imbalance.

    design = { subject = 20, time = { count = 5 } }                         20 subjects, each at times 0 … 4
    design = { school = 10, class = { n = 3, within = "school" }, pupil = { n = 8, within = "class", balance = 0.4 } }
    design = { row = 10, col = 12, gen = { n = 24, random = true } }             a field of 120 plots, 24 varieties
    design = { subject = 30, arm = { levels = ["A", "B"], of = "subject" }, age = { draw = "normal", of = "subject" } }

Rows are the combinations of the columns: `n` levels, `levels`, `values` or `count` are crossed with the others; with
`within` every level of that column has levels of its own; with `of` (or `random`, or `draw`) no row is added: each
level of that column, or each row, is given one. The order in which columns are said does not matter.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vcbench.errors import did_you_mean

KINDS = ("n", "levels", "values", "count", "draw")
Pattern = Literal["one_large", "half_single", "random"]


class Column(BaseModel):
    """One column of a design: exactly one of `n`, `levels`, `values`, `count` and `draw`.

    `n`: a factor of levels "01", "02", …; `levels`: named ones; `values`: numbers; `count`: the numbers 0 … count − 1.
    `within` = a factor: every level of it has n (or count) of its own, or as `sizes` says one after the other, unequal
    where `balance` is said: a number b below 1 for b to 2 − b times as many, evenly; "one_large", half of all in one;
    "half_single", one each in half of them; "random", 1 + Poisson(n − 1). Totals stay but for "random".
    `of` = a factor: its levels are given the column's levels or values in turn, in a random order where `random`.
    `draw`: a covariate, standard normal, uniform on (0, 1) or binary (0, 1 with chance `share`), of each row or `of` a
    factor's levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: Annotated[int, Field(ge=1)] | None = None
    levels: Annotated[list[str], Field(min_length=1)] | None = None
    values: Annotated[list[float], Field(min_length=1)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    draw: Literal["normal", "uniform", "binary"] | None = None
    within: str | None = None
    sizes: list[Annotated[int, Field(ge=1)]] | None = None
    balance: Annotated[float, Field(gt=0, le=1)] | Pattern = 1.0
    of: str | None = None
    random: bool = False
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> "Column":
        said = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(said) != 1 and not (self.sizes and not said):
            listed = ", ".join(f"`{kind}`" for kind in KINDS)
            raise ValueError(f"must say exactly one of {listed}, not {' and '.join(said) or 'none'}")
        if self.within is not None and (self.of is not None or self.random):
            raise ValueError(
                "must not have both `within`, rows of its own, and `of` or `random`, given to rows there are"
            )
        if self.within is not None and not (self.n or self.count or self.sizes):
            raise ValueError("must say `n`, `count` or `sizes` where it is `within` a factor")
        for key in ("sizes", "balance"):
            if key in self.model_fields_set and self.within is None:
                raise ValueError(f"must say `within` which factor where it says `{key}`")
        if self.sizes is not None and (said or "balance" in self.model_fields_set):
            raise ValueError("must say `sizes` alone: they are the numbers within each level")
        if "share" in self.model_fields_set and self.draw != "binary":
            raise ValueError('must have `draw = "binary"` where it says a `share`')
        return self

    @property
    def adds_rows(self) -> bool:
        """True where the column multiplies the rows before it."""
        return self.draw is None and self.of is None and not self.random

    def labels(self) -> np.ndarray:
        """The levels or values of a column that is not nested."""
        if self.levels is not None:
            return np.array(self.levels, object)
        if self.values is not None:
            return np.array(self.values, float)
        if self.count is not None:
            return np.arange(float(self.count))
        assert self.n is not None
        return numbered(self.n)

    def numbers_within(self, parents: int, rng: np.random.Generator) -> np.ndarray:
        """How many levels each of the `parents` levels of `within` has (parents,)."""
        if self.sizes is not None:
            return np.array(self.sizes)
        n = self.n or self.count
        assert n is not None
        return sizes_of(parents, n, self.balance, rng)


def sizes_of(parents: int, n: int, balance: float | str, rng: np.random.Generator) -> np.ndarray:
    """Numbers (parents,), n on average, each at least 1."""
    total = parents * n
    if balance == "random":
        return 1 + rng.poisson(n - 1, parents)
    if parents == 1 or balance == 1.0:
        return np.full(parents, n)
    if balance == "one_large":
        sizes = np.full(parents, 1)
        sizes[-1] = max(1, total // 2)
        return _spread(sizes, total, slice(0, -1))
    if balance == "half_single":
        return _spread(np.full(parents, 1), total, slice(parents // 2, None))
    assert isinstance(balance, float)
    share = balance + 2 * (1 - balance) * np.arange(parents) / (parents - 1)
    return np.maximum(1, np.diff(np.round(np.cumsum(share * n)), prepend=0).astype(int))


def _spread(sizes: np.ndarray, total: int, where: slice) -> np.ndarray:
    """The sizes with what is left of the total shared by those at `where`."""
    left, places = max(0, total - int(sizes.sum())), np.arange(len(sizes))[where]
    sizes = sizes.copy()
    sizes[places] += left // len(places)
    sizes[places[: left % len(places)]] += 1
    return sizes


def numbered(n: int) -> np.ndarray:
    """Labels "1" … "n", zeros before them so that their order is that of the alphabet."""
    width = len(str(n))
    return np.array([f"{i:0{width}d}" for i in range(1, n + 1)], object)


def _spelled_out(said: Any) -> Any:
    """A number by itself is short for so many levels."""
    return {"n": said} if isinstance(said, int) and not isinstance(said, bool) else said


Levels = Annotated[int, Field(ge=1)]
Design = dict[str, Annotated[Column, BeforeValidator(_spelled_out, json_schema_input_type=Levels | Column)]]


def check_design(design: Mapping[str, Column]) -> None:
    """ValueError for a column that names one that is not there or stands on itself, and for a design without rows."""
    for name, column in design.items():
        for key in ("within", "of"):
            other = getattr(column, key)
            if other is not None and (other not in design or other == name):
                others = [known for known in design if known != name]
                known = f"the other columns are {', '.join(others)}" if others else "there is no other column"
                raise ValueError(f"`{name}` is `{key}` `{other}`, but {known}.{did_you_mean(other, others)}")
    if not any(column.adds_rows for column in design.values()):
        raise ValueError("has no rows: say a factor, such as  subject = 20")
    ordered(design)


def ordered(design: Mapping[str, Column]) -> list[str]:
    """The columns in the order they are made: those that add rows, then those given to rows; each after the one that it
    is within or of, by name otherwise. ValueError for columns that stand on each other."""
    left, done = sorted(design, key=lambda name: (not design[name].adds_rows, name)), list[str]()
    while left:
        ready = [name for name in left if {design[name].within, design[name].of} <= {None, *done}]
        if not ready:
            raise ValueError(f"{' and '.join(f'`{name}`' for name in left)} are within or of each other")
        done.append(ready[0])
        left.remove(ready[0])
    return done


def build_design(design: Mapping[str, Column], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The columns (n,) by name. ValueError for `sizes` of another number than there are levels."""
    columns: dict[str, np.ndarray] = {}
    rows = 1
    for name in ordered(design):
        column = design[name]
        if not column.adds_rows:
            columns[name] = _given(column, columns, rows, rng)
            continue
        if column.within is None:
            labels = column.labels()
            take, values = np.repeat(np.arange(rows), len(labels)), np.tile(labels, rows)
        else:
            take, values = _nested(name, column, columns[column.within], rng)
        columns = {other: there[take] for other, there in columns.items()} | {name: values}
        rows = len(values)
    return columns


def _nested(name: str, column: Column, parent: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each row as often as its level of `parent` has levels of its own, and their labels."""
    levels, codes = np.unique(parent, return_inverse=True)
    sizes = column.numbers_within(len(levels), rng)
    if len(sizes) != len(levels):
        raise ValueError(f"`{name}` has {len(sizes)} `sizes` for the {len(levels)} levels of `{column.within}`")
    take = np.repeat(np.arange(len(parent)), sizes[codes])
    number = np.concatenate([np.arange(sizes[code]) for code in codes])
    if column.count is not None:
        return take, number.astype(float)
    of_each = [numbered(int(sizes.max()))[:size] for size in sizes]
    labels = [np.array([f"{level}.{own}" for own in of_each[i]], object) for i, level in enumerate(levels)]
    return take, np.concatenate([labels[code] for code in codes])


def _given(column: Column, columns: Mapping[str, np.ndarray], rows: int, rng: np.random.Generator) -> np.ndarray:
    """A value for each level of `of`, or each row."""
    codes = np.arange(rows) if column.of is None else np.unique(columns[column.of], return_inverse=True)[1]
    m = int(codes.max()) + 1
    if column.draw is not None:
        drawn: dict[str, Any] = {
            "normal": lambda: rng.standard_normal(m),
            "uniform": lambda: rng.random(m),
            "binary": lambda: (rng.random(m) < column.share).astype(float),
        }
        return drawn[column.draw]()[codes]
    labels = column.labels()
    turn = np.arange(m) % len(labels)
    return labels[rng.permutation(turn) if column.random else turn][codes]
