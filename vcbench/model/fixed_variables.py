"""A variable of a formula: numbers or a factor, learned on the rows used and evaluated again on new data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from vcbench.errors import DataError, FormulaError, did_you_mean
from vcbench.model.fixed_contrasts import CONTRASTS as CONTRAST_CODES
from vcbench.model.fixed_contrasts import polynomial, treatment
from vcbench.model.fixed_expression import FACTOR_CALLS, evaluate
from vcbench.model.fixed_frame import Column, factorize, some_of
from vcbench.model.fixed_terms import CONTRASTS
from vcbench.model.rlang import Call, Name, Node, Num, Str, deparse


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a formula and what was learned about it.

    A numeric variable has `suffixes` ("",) or, for a matrix such as poly(x, 2), ("1", "2"). A factor has `levels` and
    the (levels × columns) matrix `contrasts` with the suffixes of its columns. `state` is that of the stateful
    transforms.
    """

    label: str
    node: Node
    suffixes: tuple[str, ...]
    levels: tuple[str, ...] = ()
    contrasts: np.ndarray | None = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def is_factor(self) -> bool:
        return self.contrasts is not None

    def names(self, coding: int) -> list[str]:
        suffixes = self.levels if self.is_factor and coding != CONTRASTS else self.suffixes
        return [self.label + suffix for suffix in suffixes]

    def columns(self, values: np.ndarray, coding: int) -> np.ndarray:
        """(n, c) design columns; `values` are codes (n,) of a factor or numbers (n, c)."""
        if self.contrasts is None:
            return values
        return (self.contrasts if coding == CONTRASTS else np.eye(len(self.levels)))[values]

    def values(self, columns: Mapping[str, Column]) -> np.ndarray:
        """What `columns` takes, on other rows. Raises DataError for a level the model was not built with."""
        if not self.is_factor:
            return _matrix(evaluate(self.node, columns, self.state))
        column = levels_column(self.node, columns, self.state, order=False)
        at = {level: i for i, level in enumerate(self.levels)}
        recode = np.array([at.get(level, -1) for level in column.levels], dtype=np.int64)
        codes = recode[column.values]
        if (codes < 0).any():
            unseen = dict.fromkeys(column.levels[code] for code in column.values[codes < 0])
            raise DataError(
                f"`{self.label}` has the level(s) {some_of(list(unseen))} that the model was not built with; "
                f"it knows {some_of(self.levels, 8)}. Remove these rows."
            )
        return codes


def learn_variable(node: Node, columns: Mapping[str, Column], state: dict[str, Any]) -> tuple[Variable, np.ndarray]:
    """The variable and its values on the rows used: codes (n,) of a factor, numbers (n, c) otherwise.

    Levels without rows are dropped. Raises DataError for a factor of one level.
    """
    label = deparse(node)
    if is_factor_expression(node, columns):
        column = factor_column(node, columns, state)
    else:
        values = evaluate(node, columns, state)
        if values.dtype.kind != "b":
            values = _matrix(values)
            suffixes = ("",) if values.shape[1] == 1 else tuple(str(j + 1) for j in range(values.shape[1]))
            return Variable(label, node, suffixes, state=state), values
        column = Column(label, "logical", *factorize(values))
    logical = column.kind == "logical"  # R keeps FALSE and TRUE as levels even where one does not occur
    codes, levels = (column.values, column.levels) if logical else used_levels(column.values, column.levels)
    if len(levels) < 2:
        raise DataError(
            f"the factor `{label}` has only the level `{some_of(levels)}` in the rows used; two or more are needed. "
            "Remove it from the formula."
        )
    contrasts, suffixes = _contrasts(node, levels, column.ordered)
    return Variable(label, node, suffixes, levels, contrasts, state), codes


def used_levels(codes: np.ndarray, levels: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The same factor without levels that have no row."""
    seen = np.bincount(codes, minlength=len(levels)) > 0
    if seen.all():
        return codes, levels
    return (np.cumsum(seen) - 1)[codes], tuple(level for level, some in zip(levels, seen, strict=True) if some)


def is_factor_expression(node: Node, columns: Mapping[str, Column]) -> bool:
    match node:
        case Name(name):
            return columns[name].kind != "number"
        case Call("I", (Name(name),)):
            return columns[name].kind != "number"
        case Call(fn, _):
            return fn in FACTOR_CALLS
    return False


def levels_column(node: Node, columns: Mapping[str, Column], state: dict[str, Any], order: bool = True) -> Column:
    """Codes and levels of a factor expression, or of the values of any other expression, as factor() makes them."""
    if is_factor_expression(node, columns):
        return factor_column(node, columns, state, order)
    return Column(deparse(node), "factor", *factorize(evaluate(node, columns, state)))


def factor_column(node: Node, columns: Mapping[str, Column], state: dict[str, Any], order: bool = True) -> Column:
    """Codes and levels of a factor expression. With `order=False` (new data) only the labels count, not their order."""
    match node:
        case Name(name) | Call("I", (Name(name),)):
            column = columns[name]
            if column.kind == "other":
                column.numbers()
            return column if column.kind == "factor" else replace(column.as_factor(), kind=column.kind)
        case Call("interaction", args) if len(args) > 1:
            return _interaction([factor_column(arg, columns, state, order) for arg in args])
        case Call("as.factor" | "as.ordered" | "factor" | "ordered" | "relevel" | "C" as fn, args) if args:
            inner = args[0]
            column = levels_column(inner, columns, state, order)
            if order:
                column = _reorder(node, column)
            as_ordered = fn in ("ordered", "as.ordered") or (
                fn == "factor" and _argument(node, "ordered") == Name("TRUE")
            )
            return replace(column, kind="factor", ordered=as_ordered or (column.ordered and fn != "relevel"))
    raise FormulaError(
        f"`{deparse(node)}` is not a factor this grammar can make. Compute the column in the data first."
    )


def _argument(call: Call, keyword: str, position: int = -1) -> Node | None:
    for i, arg in enumerate(call.args):
        if call.keyword(i) == keyword or (i == position and not call.keyword(i)):
            return arg
    return None


def _reorder(call: Call, column: Column) -> Column:
    """The order asked for by `levels=` or `ref=`."""
    if call.fn in ("factor", "ordered"):
        known = {"levels", "ordered"}
        wanted = _argument(call, "levels", 1)
        labels = [_text(node) for node in wanted.args] if isinstance(wanted, Call) and wanted.fn == "c" else None
        if wanted is not None and labels is None:
            raise FormulaError(f'`{deparse(call)}`: write the levels out, as in levels = c("low", "high").')
    else:
        known = {"relevel": {"ref"}, "C": {"contr", "base"}}.get(call.fn, set())
        ref = _argument(call, "ref", 1) if call.fn == "relevel" else None
        if call.fn == "relevel" and ref is None:
            raise FormulaError(f'`{deparse(call)}`: relevel() needs the reference level, as in relevel(x, ref = "b").')
        labels = None if ref is None else list(dict.fromkeys([_text(ref), *column.levels]))
    odd = [call.keyword(i) for i in range(len(call.args)) if call.keyword(i) and call.keyword(i) not in known]
    if odd:
        raise FormulaError(f"`{deparse(call)}`: the argument `{odd[0]}` of {call.fn}() is not supported.")
    if labels is None:
        return column
    codes, used = used_levels(column.values, column.levels)
    lost = [level for level in used if level not in labels]
    if lost:
        raise DataError(
            f"`{deparse(call)}` leaves out the level(s) {some_of(lost)}, which have rows. Name them or remove them."
        )
    if call.fn == "relevel" and labels[0] not in column.levels:
        hint = did_you_mean(labels[0], column.levels)
        raise DataError(
            f"`{deparse(call)}`: there is no level `{labels[0]}`; there are {some_of(column.levels, 8)}.{hint}"
        )
    recode = np.array([labels.index(level) for level in used], dtype=np.int64)
    return replace(column, values=recode[codes], levels=tuple(labels))


def _text(node: Node) -> str:
    if isinstance(node, Str):
        return node.value
    if isinstance(node, Num):
        return deparse(Num(node.value)) if not node.integer else str(int(node.value))
    raise FormulaError(f"`{deparse(node)}` is not a level; write levels as texts or numbers.")


def _interaction(columns: list[Column]) -> Column:
    """interaction(a, b): levels a.b, the first factor running fastest."""
    codes, size = np.zeros_like(columns[0].values), 1
    for column in columns:
        codes, size = codes + size * column.values, size * len(column.levels)
    levels = tuple(".".join(reversed(parts)) for parts in product(*(column.levels for column in reversed(columns))))
    return Column("interaction", "factor", codes, levels)


def _contrasts(node: Node, levels: tuple[str, ...], ordered: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix and column suffixes asked for by C(), else polynomials for ordered factors and treatment contrasts."""
    chosen = _argument(node, "contr", 1) if isinstance(node, Call) and node.fn == "C" else None
    if chosen is None:
        return polynomial(levels) if ordered else treatment(levels)
    base = _argument(node, "base") if isinstance(node, Call) else None
    if isinstance(chosen, Call):
        base = _argument(chosen, "base", 1) or base
        size = _argument(chosen, "n", 0)
        if isinstance(size, Num) and size.value != len(levels):
            raise FormulaError(f"`{deparse(node)}`: there are {len(levels)} levels, not {deparse(size)}.")
    name = chosen.fn if isinstance(chosen, Call) else chosen.id if isinstance(chosen, Name) else _text(chosen)
    full = name if name.startswith("contr.") else f"contr.{name}"
    if full not in CONTRAST_CODES:
        hint = did_you_mean(full, CONTRAST_CODES)
        raise FormulaError(
            f"`{deparse(node)}`: unknown contrasts `{name}`; choose from {', '.join(CONTRAST_CODES)}.{hint}"
        )
    if name == full and not isinstance(chosen, Str):
        levels = tuple(str(i + 1) for i in range(len(levels)))  # R gives the function their number and loses the labels
    if base is None:
        return CONTRAST_CODES[full](levels)
    if full != "contr.treatment" or not isinstance(base, Num) or not 1 <= base.value <= len(levels):
        raise FormulaError(
            f"`{deparse(node)}`: base = {deparse(base)} is not the number of a level (1 to {len(levels)})."
        )
    return treatment(levels, int(base.value))


def _matrix(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64, copy=False)
    return values[:, None] if values.ndim == 1 else values
