"""The value of an R expression on the rows used: translated to Python, evaluated by formulaic in a closed vocabulary.

`I(week^2)` becomes `f_I(power(v0, 2.0))`, evaluated where `v0` is the column `week` and `f_I`, `power` are ours. A
name that is neither a column, a constant nor a listed function never reaches evaluation.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vcbench.errors import DataError, FormulaError, did_you_mean
from vcbench.model.fixed_frame import Column, non_finite, some_of
from vcbench.model.rlang import Call, Name, Node, Num, Str, deparse

FACTOR_CALLS = ("factor", "as.factor", "ordered", "as.ordered", "relevel", "C", "interaction")
LEARNERS = ("poly", "scale", "mean", "median", "sd", "var", "min", "max", "sum")
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "T": "True", "F": "False", "pi": "3.141592653589793"}
_ARITHMETIC = {"+": "+", "-": "-", "*": "*", "/": "/", "%%": "%", "%/%": "//"}
_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
_LOGIC = {"&": "&", "&&": "&", "|": "|", "||": "|", "%in%": "%in%"}
_PYTHON = {"!": "negate", "&": "both", "|": "either", "%in%": "is_in", "^": "power"}
_ELSEWHERE = {
    "ns": "Use poly(x, k), or compute the spline columns in the data first.",
    "bs": "Use poly(x, k), or compute the spline columns in the data first.",
    "cbind": "A model has one response; fit each column of the response with vcbench.fit_many.",
    "offset": "offset() stands by itself, joined by `+`.",
    "s": "Smooth terms are not part of this grammar.",
    "np.log": "Write log(x).",
}


def columns_of(node: Node, known: Container[str]) -> Iterator[str]:
    """The columns an expression reads. Raises nothing: a name that is not `known` is yielded too, unless a constant."""
    match node:
        case Name(name):
            if name in known or name not in _CONSTANTS:
                yield name
        case Call():
            for arg in _data_arguments(node):
                yield from columns_of(arg, known)


def _data_arguments(call: Call) -> tuple[Node, ...]:
    """The arguments that are data: of factor(), relevel() and C() the first; the rest are levels and contrasts."""
    return call.args[:1] if call.fn in FACTOR_CALLS and call.fn != "interaction" else call.args


def check_reads(node: Node, known: Container[str]) -> None:
    """Raise FormulaError for an expression without a column."""
    if not any(True for _ in columns_of(node, known)):
        raise FormulaError(f"`{deparse(node)}` reads no column; it would be the same for all rows. Remove it.")


def check_functions(node: Node) -> None:
    """Raise FormulaError for a function that formulas do not have, naming the nearest."""
    if not isinstance(node, Call):
        return
    fn, operator = node.fn, not (node.fn[0].isalpha() or node.fn[0] in "._")
    if not operator and fn not in FACTOR_CALLS and fn != "c":
        from vcbench.model.fixed_functions import FUNCTIONS

        if fn not in FUNCTIONS:
            nearest = (
                did_you_mean(fn.split(".")[-1] if "." in fn else fn, FUNCTIONS) or f" Known: {', '.join(FUNCTIONS)}."
            )
            hint = _ELSEWHERE.get(fn) or f"{nearest.strip()} Other columns are computed in the data first."
            raise FormulaError(f"`{deparse(node)}`: a formula has no function `{fn}`. {hint}")
    for arg in _data_arguments(node):
        check_functions(arg)


def learn_states(
    nodes: Iterable[Node], everything: Mapping[str, Column], rows: np.ndarray
) -> dict[Node, dict[str, Any]]:
    """What poly, scale, mean, … learn, for each expression that calls one.

    As in R they see every row in which the expression's own columns are present, also rows that are left out because
    another column is missing: the basis of poly(x, 2), and with it the REML value, does not depend on gaps in y.
    """
    states: dict[Node, dict[str, Any]] = {}
    for node in nodes:
        names = list(columns_of(node, everything))
        n_rows = everything[names[0]].values.size if names else 0
        if rows.size == n_rows or not _learns(node):
            states[node] = {}
            continue
        own = np.ones(n_rows, dtype=bool)
        for name in names:
            gone = everything[name].missing
            own &= True if gone is None else ~gone
        states[node] = {}
        present = {name: everything[name].take(np.flatnonzero(own)) for name in names}
        evaluate(_inner(node), present, states[node])
    return states


def _learns(node: Node) -> bool:
    return isinstance(node, Call) and (node.fn in LEARNERS or any(_learns(arg) for arg in node.args))


def _inner(node: Node) -> Node:
    """The expression inside factor() and its like."""
    return _inner(node.args[0]) if isinstance(node, Call) and node.fn in FACTOR_CALLS else node


def evaluate(node: Node, columns: Mapping[str, Column], state: dict[str, Any]) -> np.ndarray:
    """Numbers float64 (n,) or (n, c), or logicals (n,).

    `state` is filled by what the transforms learn, or read if filled. Raises FormulaError where the expression makes no
    sense and DataError where its value is not finite.
    """
    label = deparse(node)
    names = list(dict.fromkeys(columns_of(node, columns)))
    if isinstance(node, Name):
        column = columns[node.id]
        return column.values if column.values.dtype.kind == "b" else column.numbers()
    from formulaic.utils.stateful_transforms import stateful_eval

    from vcbench.model.fixed_functions import FUNCTIONS, OPERATORS

    idents = {name: f"v{i}" for i, name in enumerate(names)}
    environment: dict[str, Any] = {_PYTHON[op]: function for op, function in OPERATORS.items()}
    environment |= {_ident(fn): function for fn, function in FUNCTIONS.items()}
    environment |= {ident: _operand(columns[name]) for name, ident in idents.items()}
    text = _translate(node, idents)
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(stateful_eval(text, environment, {}, state, None))
    except Exception as error:
        _refuse_levels(label, [columns[name] for name in names])
        raise FormulaError(f"`{label}` cannot be computed: {error}") from error
    n_obs = columns[names[0]].values.shape[0]
    if value.dtype.kind not in "biuf":
        _refuse_levels(label, [columns[name] for name in names])
        raise FormulaError(f"`{label}` is not a number.")
    if value.ndim == 0:
        raise FormulaError(f"`{label}` is one number for all rows. Use it within an expression, as in I(x - mean(x)).")
    if value.ndim not in (1, 2) or value.shape[0] != n_obs:
        raise FormulaError(f"`{label}` has shape {value.shape}; one value for each of the {n_obs} rows was expected.")
    if value.dtype.kind == "b":
        return value
    value = value.astype(np.float64)
    if not np.isfinite(value).all():
        raise DataError(non_finite(f"`{label}`", value if value.ndim == 1 else value.sum(axis=1)))
    return value


def _refuse_levels(label: str, columns: Iterable[Column]) -> None:
    for column in columns:
        if column.kind in ("factor", "other"):
            raise FormulaError(
                f"`{label}` cannot be computed: column `{column.name}` has levels "
                f"({some_of(column.levels)}), not numbers. "
                'Convert it in the data first, or compare it, as in I(f == "a").'
            )


def _operand(column: Column) -> np.ndarray:
    """Numbers as float64 (logicals as they are); levels as their labels, which can be compared and nothing else."""
    if column.kind in ("factor", "other"):
        return np.array(column.levels, dtype=object)[column.values]
    return column.values if column.values.dtype.kind == "b" else column.numbers()


def _ident(fn: str) -> str:
    return "f_" + fn.replace(".", "_")


def _translate(node: Node, idents: Mapping[str, str]) -> str:
    match node:
        case Num(value):
            return repr(value)
        case Str(value):
            return repr(value)
        case Name(name):
            if name in idents:
                return idents[name]
            return _CONSTANTS[name]
        case Call("(", (inner,)):
            return f"({_translate(inner, idents)})"
        case Call("+" | "-" as op, (inner,), ()):
            return f"({op}{_translate(inner, idents)})"
        case Call("!", (inner,)):
            return f"negate({_translate(inner, idents)})"
        case Call(op, (left, right), ()) if op in _ARITHMETIC or op in _COMPARISONS:
            return f"({_translate(left, idents)} {_ARITHMETIC.get(op, op)} {_translate(right, idents)})"
        case Call(op, (left, right), ()) if op in _LOGIC or op == "^":
            return f"{_PYTHON[_LOGIC.get(op, op)]}({_translate(left, idents)}, {_translate(right, idents)})"
        case Call("c", args, ()):
            return "[" + ", ".join(_translate(arg, idents) for arg in args) + "]"
        case Call(fn, args) if fn in FACTOR_CALLS:
            raise FormulaError(
                f"`{deparse(node)}` makes a factor; arithmetic on it has no meaning. Compute with the column."
            )
        case Call(fn, args) if fn[0].isalpha() or fn[0] in "._":
            parts = []
            for i, arg in enumerate(args):
                key = node.keyword(i)
                if key and not key.isidentifier():
                    raise FormulaError(f"`{deparse(node)}`: `{key}` is not an argument of {fn}().")
                parts.append(f"{key}={_translate(arg, idents)}" if key else _translate(arg, idents))
            return f"{_ident(fn)}({', '.join(parts)})"
    raise FormulaError(f"`{deparse(node)}` cannot stand inside a function of a formula.")
