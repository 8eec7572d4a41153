"""From a formula in lme4's grammar and a table to y, X and the random terms: the data's side of a model, no likelihood.

    Reaction ~ Days + (Days | Subject)

Left of `~` the response, a numeric expression. Right of it R's model formula for X, and random terms in parentheses:

    (1 | g)  (x | g)         intercept;  intercept and slope, correlated
    (0 + x | g) (-1 + x | g) slope only
    (x || g)                 uncorrelated: one block for the intercept, one for each term. As in lme4 a factor's columns
                             stay together: (f || g) is (1 | g) + (0 + f | g), all levels of f in one block
    (1 | a/b)                (1 | b:a) + (1 | a), in lme4's order and with lme4's names
    (f | g)                  f coded as on the fixed side

Where this differs from R on purpose: `.`, `x^2` outside I() and a bar without parentheses are errors; a column that
is in no term (b in `a - b`) does not count for missing values; a value that an expression cannot compute (log(-1)) is
an error.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vcbench.errors import DataError, FormulaError
from vcbench.model.fixed_design import Design, Rows, learn_design
from vcbench.model.fixed_expression import check_functions, check_reads, columns_of, evaluate, learn_states
from vcbench.model.fixed_frame import Column, Frame
from vcbench.model.fixed_rank import RankWarning, reduce_rank
from vcbench.model.fixed_terms import Terms, expand_terms
from vcbench.model.random_terms import Bar, RandomSpec, RandomTerm, learn_random, split_bars
from vcbench.model.rlang import Call, Name, Node, deparse, parse

__all__ = ["FixedSpec", "Parsed", "RandomTerm", "RankWarning", "parse_formula"]


@dataclass(frozen=True, slots=True, eq=False)
class FixedSpec:
    """What was learned from the data, enough to build the same columns on new rows.

    `design` has all columns of the fixed part, `kept` the positions of those that are in X. `columns` are the data's
    columns that the fixed part and the offsets read, `random_columns` those of the random effects and their groups.
    """

    design: Design
    kept: np.ndarray
    offsets: tuple[tuple[Node, dict[str, Any]], ...]
    random: tuple[RandomSpec, ...]
    columns: tuple[str, ...]
    random_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """A formula met its data.

    y (n,), X (n, d) of full column rank with lme4's `X_names`, `dropped_columns` those left out for that; `offset`
    (n,) the sum of offset() terms or None; `random` in the order of the formula; `rows_used` the positions of the n
    rows in the data; `values` what each variable of the fixed part is in those rows, codes of a factor or numbers.
    """

    formula: str
    response: str
    y: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    X_names: tuple[str, ...]
    dropped_columns: tuple[str, ...]
    offset: np.ndarray | None = field(repr=False)
    random: tuple[RandomTerm, ...]
    n_dropped: int
    rows_used: np.ndarray = field(repr=False)
    spec: FixedSpec = field(repr=False)
    values: tuple[np.ndarray, ...] = field(repr=False)

    def design(
        self, new_data: Any, *, random: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """X (m, d), the offset (m,) or None, and for each group its A (m, r) and the level labels (m,), on new rows.

        Columns, contrasts and what transforms learned are those of the model; the response is not needed. A group may
        have levels the model has not met. With `random=False` the random terms are left out, and their
        columns need not be there.

        Raises DataError for a missing column or value, and for a level of a factor the model was not built with.
        """
        frame = Frame(new_data)
        wanted = self.spec.columns + (self.spec.random_columns if random else ())
        columns = {name: frame.column(name) for name in dict.fromkeys(wanted)}
        missing = _count_missing(columns)
        if missing:
            raise DataError(f"the new data have missing values: {_counts(missing)}. Remove or fill these rows.")
        columns = {name: column.take(np.arange(frame.n_rows)) for name, column in columns.items()}
        X = self.spec.design.evaluate(columns, frame.n_rows)[:, self.spec.kept]
        offset = _sum_offsets(evaluate(node, columns, state) for node, state in self.spec.offsets)
        groups = {spec.group: spec.evaluate(columns, frame.n_rows) for spec in self.spec.random} if random else {}
        return X, offset, groups


def parse_formula(
    formula: str, data: Any, *, missing: Literal["drop", "error"] = "drop", rank: Literal["drop", "error"] = "drop"
) -> Parsed:
    """Read `formula` and build its arrays from `data` (pandas, polars, pyarrow, or a mapping of arrays).

    Rows with a missing value in a column the formula uses are left out and counted, or refused with `missing="error"`.
    Dependent columns of X are dropped with one RankWarning, or refused with `rank="error"`.

    Raises FormulaError for what cannot be read, DataError for columns that are unknown or unfit, ModelError for the
    rank.
    """
    for name, value, choices in (("missing", missing, ("drop", "error")), ("rank", rank, ("drop", "error"))):
        if value not in choices:
            raise FormulaError(f'{name} must be "drop" or "error", not {value!r}.')
    text, response, terms, bars = _read(formula)
    frame = Frame(data)
    if frame.n_rows == 0:
        raise DataError("the data have no rows.")
    fixed_nodes, random_nodes = [*terms.variables, *terms.offsets], list(_random_nodes(bars))
    nodes = list(dict.fromkeys([response, *fixed_nodes, *random_nodes]))
    for node in nodes:
        check_reads(node, frame.names)
    everything = {name: frame.column(name) for name in _columns(nodes, frame)}
    if isinstance(response, Name):
        _check_response(everything[response.id])
    rows = _complete_rows(everything, frame.n_rows, missing)
    states = learn_states(nodes, everything, rows)
    used = Rows({name: column.take(rows) for name, column in everything.items()}, rows.size, states)

    y = used.evaluate(response)
    if y.ndim != 1:
        raise FormulaError(f"the response `{deparse(response)}` has {y.shape[1]} columns; one was expected.")
    design, X = learn_design(terms, used)
    offset = _sum_offsets(used.evaluate(node) for node in terms.offsets)
    offsets = tuple((node, states[node]) for node in terms.offsets)
    random = learn_random(bars, used)
    kept = reduce_rank(X, design.names, rank)
    reads = _columns(fixed_nodes, frame), _columns(random_nodes, frame)
    spec = FixedSpec(design, kept, offsets, tuple(spec for _, spec in random), *reads)
    return Parsed(
        formula=text,
        response=deparse(response),
        y=y.astype(np.float64),
        X=X if kept.size == X.shape[1] else X[:, kept],
        X_names=tuple(design.names[j] for j in kept),
        dropped_columns=tuple(name for j, name in enumerate(design.names) if j not in set(kept.tolist())),
        offset=offset,
        random=tuple(term for term, _ in random),
        n_dropped=frame.n_rows - rows.size,
        rows_used=rows,
        spec=spec,
        values=tuple(used.variable(node)[1] for node in terms.variables),
    )


def _read(formula: str) -> tuple[str, Node, Terms, list[Bar]]:
    """The formula's own words: text, response, fixed terms, random terms; the data are not needed."""
    if not isinstance(formula, str):
        raise FormulaError(f"a formula is a text such as `y ~ x + (1 | g)`, not {type(formula).__name__}.")
    text = formula.strip()
    tree = parse(text)
    if not isinstance(tree, Call) or tree.fn != "~":
        raise FormulaError(f"formula `{text}` has no `~`. Write the response, `~`, then the terms: `y ~ x + (1 | g)`.")
    if len(tree.args) == 1:
        raise FormulaError(
            f"formula `{text}` has no response left of `~`. Write `y {text}` with the response's column."
        )
    response, rhs = tree.args
    while isinstance(response, Call) and response.fn == "(":
        response = response.args[0]
    if isinstance(response, Call) and response.fn == "~":
        raise FormulaError(f"formula `{text}`: `~` occurs twice; a formula has one response and one right-hand side.")
    fixed, bars = split_bars(rhs, text)
    terms = expand_terms(fixed, text)
    check_functions(response)
    for node in (*terms.variables, *terms.offsets, *_random_nodes(bars)):
        check_functions(node)
    if response in terms.variables:
        raise FormulaError(
            f"formula `{text}`: the response `{deparse(response)}` is also a term. Remove it from the right."
        )
    return text, response, terms, bars


def _random_nodes(bars: list[Bar]) -> Iterator[Node]:
    for bar in bars:
        for block in bar.blocks:
            yield from block.variables
        yield from bar.factors


def _columns(nodes: Iterable[Node], frame: Frame) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in columns_of(node, frame.names)))


def _check_response(column: Column) -> None:
    if column.kind in ("factor", "other"):
        raise DataError(
            f"the response `{column.name}` is not numeric: it holds {', '.join(column.levels[:3])}, … . "
            "Convert it to numbers, or choose a numeric column."
        )


def _count_missing(columns: Mapping[str, Column]) -> dict[str, int]:
    counts = {}
    for name, column in columns.items():
        gone = column.missing
        if gone is not None and gone.any():
            counts[name] = int(gone.sum())
    return counts


def _counts(missing: Mapping[str, int]) -> str:
    return ", ".join(f"`{name}` {count}" for name, count in missing.items())


def _complete_rows(columns: Mapping[str, Column], n_rows: int, missing: str) -> np.ndarray:
    """Positions of the rows in which no column used is missing."""
    counts = _count_missing(columns)
    if not counts:
        return np.arange(n_rows)
    if missing == "error":
        raise DataError(f'missing values in {_counts(counts)}. Remove these rows, or pass missing="drop".')
    gone = np.zeros(n_rows, dtype=bool)
    for name in counts:
        gone |= columns[name].missing
    if gone.all():
        raise DataError(f"no row is complete: missing values in {_counts(counts)} of {n_rows} rows.")
    return np.flatnonzero(~gone)


def _sum_offsets(parts: Iterable[np.ndarray]) -> np.ndarray | None:
    total: np.ndarray | None = None
    for part in parts:
        if part.ndim != 1:
            raise FormulaError("offset() takes one number a row, not a matrix.")
        total = part.astype(np.float64) if total is None else total + part
    return total
