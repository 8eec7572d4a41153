"""The random terms of a formula: bars found, slashes and double bars written out, groups coded, designs built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import prod

import numpy as np

from vcbench.errors import FormulaError
from vcbench.model.fixed_design import Design, Rows, learn_design
from vcbench.model.fixed_frame import Column
from vcbench.model.fixed_terms import Terms, expand_terms
from vcbench.model.fixed_variables import levels_column, used_levels
from vcbench.model.rlang import Call, Name, Node, Num, deparse


@dataclass(frozen=True, slots=True, eq=False)
class RandomTerm:
    """The random effects of one group: level `levels[codes[i]]` for row i, effects A (n, r), r = len(effects).

    `blocks` partitions the effects; effects of different blocks are uncorrelated. `(x | g)` has blocks ((0, 1),), `(x
    || g)` has ((0,), (1,)).
    """

    group: str
    codes: np.ndarray = field(repr=False)
    levels: tuple[str, ...] = field(repr=False)
    A: np.ndarray = field(repr=False)
    effects: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class RandomSpec:
    """What is needed to build a random term again on new rows: one design for each block."""

    group: str
    factors: tuple[Node, ...]
    designs: tuple[Design, ...]

    def evaluate(self, columns: Mapping[str, Column], n_obs: int) -> tuple[np.ndarray, np.ndarray]:
        """A (n, r) and the label of each row's level (n,), whether or not the model has met that level."""
        A = np.hstack([design.evaluate(columns, n_obs) for design in self.designs])
        codes, levels = group_codes(self.factors, columns)
        return A, np.array(levels, dtype=object)[codes]


@dataclass(frozen=True, slots=True)
class Bar:
    """One group of one bar: its lme4 name, the factors whose combinations are its levels, one Terms for each block."""

    group: str
    factors: tuple[Node, ...]
    blocks: tuple[Terms, ...]


def split_bars(rhs: Node, formula: str) -> tuple[Node, list[Bar]]:
    """The right-hand side without its random terms (1 if nothing is left), and these in order."""
    fixed, calls = _split(rhs, formula)
    bars = [bar for call in calls for bar in _expand(call, formula)]
    return (Num(1.0) if fixed is None else fixed), bars


def _split(node: Node, formula: str) -> tuple[Node | None, list[Call]]:
    match node:
        case Call("(", (Call("|" | "||", (_, _), ()) as bar,)):
            return None, [bar]
        case Call("(", (inner,)):
            fixed, bars = _split(inner, formula)
            return (None if fixed is None else Call("(", (fixed,))), bars
        case Call("+", (left, right), ()):
            (a, bars), (b, more) = _split(left, formula), _split(right, formula)
            both = Call("+", (a, b)) if a is not None and b is not None else b if a is None else a
            return both, bars + more
        case Call("-", (left, right), ()):
            a, bars = _split(left, formula)
            _refuse_bars(right, formula)
            return Call("-", (right,)) if a is None else Call("-", (a, right)), bars
    _refuse_bars(node, formula)
    return node, []


def _refuse_bars(node: Node, formula: str, within: Call | None = None) -> None:
    if not isinstance(node, Call):
        return
    if node.fn in ("|", "||") and (within is None or within.fn in ("(", "+", "-", "*", "/", ":", "^", "~")):
        text = f"`({deparse(node)})`"
        if within is None:
            remedy = f"Put parentheses around it: {text}."
        else:
            remedy = "A random term is joined to the rest with `+`, as in `y ~ x + (1 | g)`."
        raise FormulaError(f"formula `{formula}`: the random term {text} stands where it cannot. {remedy}")
    if node.fn[0].isalpha():
        return  # | is a logical `or` inside a function
    for arg in node.args:
        _refuse_bars(arg, formula, node)


def _expand(bar: Call, formula: str) -> Iterator[Bar]:
    lhs, group = bar.args
    terms = expand_terms(lhs, formula)
    if terms.offsets:
        raise FormulaError(f"formula `{formula}`: offset() cannot stand in the random term `({deparse(bar)})`.")
    if not terms.intercept and not terms.terms:
        raise FormulaError(f"formula `{formula}`: the random term `({deparse(bar)})` has no effect. Write (1 | g).")
    blocks = tuple(terms.separate()) if bar.fn == "||" else (terms,)
    for node in _nested(group, formula):
        name = node.id if isinstance(node, Name) else deparse(node)
        yield Bar(name, tuple(_factors(node, formula)), blocks)


def _nested(group: Node, formula: str) -> list[Node]:
    """a/b/c as c:(b:a), b:a, a: innermost first, as lme4 lists and names them."""
    if isinstance(group, Call) and group.fn == "(":
        inner = group.args[0]
        if isinstance(inner, Call) and inner.fn == "/":
            return _nested(inner, formula)
    if not (isinstance(group, Call) and group.fn == "/"):
        return [group]
    outer, inner = group.args
    above = _nested(outer, formula)
    parent: Node = above[0]
    if isinstance(parent, Call) and parent.fn == ":":
        parent = Call("(", (parent,))
    return [Call(":", (inner, parent)), *above]


def _factors(node: Node, formula: str) -> Iterator[Node]:
    match node:
        case Name():
            yield node
        case Call("(", (inner,)):
            yield from _factors(inner, formula)
        case Call(":", (left, right), ()):
            yield from _factors(left, formula)
            yield from _factors(right, formula)
        case Call("factor" | "as.factor" | "interaction", _):
            yield node
        case Call("+" | "*", (left, right), ()):
            a, b = deparse(left), deparse(right)
            raise FormulaError(
                f"formula `{formula}`: `{deparse(node)}` is no grouping factor. "
                f"Crossed groups are separate terms, (1 | {a}) + (1 | {b}); their combinations are (1 | {a}:{b})."
            )
        case Call("%in%", (left, right), ()):
            a, b = deparse(left), deparse(right)
            raise FormulaError(
                f"formula `{formula}`: `%in%` is not read right of a bar. For {a} nested in {b} write "
                f"(1 | {b}/{a}), or (1 | {b}:{a}) for the nested level alone."
            )
    if not isinstance(node, Name | Call) or (isinstance(node, Call) and node.fn not in (":", "(", *_GROUP_CALLS)):
        raise FormulaError(
            f"formula `{formula}`: `{deparse(node)}` is no grouping factor; expected a column, a:b, a/b or factor(x). "
            "Compute the grouping column in the data first."
        )


_GROUP_CALLS = ("factor", "as.factor", "interaction")


def group_codes(factors: tuple[Node, ...], columns: Mapping[str, Column]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and labels of the combinations that occur, the first factor varying slowest, as in R's a:b."""
    coded = [used_levels(column.values, column.levels) for column in (_group_column(node, columns) for node in factors)]
    if len(coded) == 1:
        return coded[0]
    sizes = [len(levels) for _, levels in coded]
    cells = reduce(lambda total, i: total * sizes[i] + coded[i][0], range(1, len(coded)), coded[0][0])
    seen, codes = _occurring(cells, prod(sizes))
    parts = []
    for (_, levels), size in zip(reversed(coded), reversed(sizes), strict=True):
        parts.append([levels[code] for code in (seen % size).tolist()])
        seen = seen // size
    labels = tuple(":".join(label) for label in zip(*reversed(parts), strict=True))
    return codes, labels


def _occurring(cells: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells that occur, ascending, and each row's place among them: by counting unless there are too many."""
    if n_cells > 4 * cells.size + 1000:
        seen, codes = np.unique(cells, return_inverse=True)
        return seen, codes.astype(np.int64)
    some = np.bincount(cells, minlength=n_cells) > 0
    return np.flatnonzero(some), (np.cumsum(some) - 1)[cells]


def _group_column(node: Node, columns: Mapping[str, Column]) -> Column:
    if isinstance(node, Name):
        column = columns[node.id]
        if column.kind == "number":
            column.numbers()
        return column.as_factor()
    return levels_column(node, columns, {})


def learn_random(bars: list[Bar], rows: Rows) -> list[tuple[RandomTerm, RandomSpec]]:
    """Random terms in the order of the formula.

    Terms of one group with different effects become one with several blocks. A further term of a group whose effects
    overlap with the first is a term of its own, its group named `g.1`.
    """
    merged: list[tuple[Bar, list[tuple[Design, np.ndarray]]]] = []
    for bar in bars:
        built = [learn_design(terms, rows) for terms in bar.blocks]
        new = set(_effects(built))
        for other, designs in merged:
            if other.group == bar.group and not new & set(_effects(designs)):
                designs += built
                break
        else:
            merged.append((bar, built))
    found: list[tuple[RandomTerm, RandomSpec]] = []
    times: dict[str, int] = {}
    coded: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {}
    for bar, built in merged:
        if bar.group not in coded:
            coded[bar.group] = group_codes(bar.factors, rows.columns)
        codes, levels = coded[bar.group]
        again = times.get(bar.group, 0)
        times[bar.group] = again + 1
        group = f"{bar.group}.{again}" if again else bar.group
        A = built[0][1] if len(built) == 1 else np.hstack([matrix for _, matrix in built])
        ends = np.cumsum([len(design.names) for design, _ in built]).tolist()
        blocks = tuple(tuple(range(end - len(d.names), end)) for (d, _), end in zip(built, ends, strict=True))
        term = RandomTerm(group, codes, levels, A, _effects(built), blocks)
        found.append((term, RandomSpec(group, bar.factors, tuple(design for design, _ in built))))
    return found


def _effects(built: list[tuple[Design, np.ndarray]]) -> tuple[str, ...]:
    return tuple(name for design, _ in built for name in design.names)
