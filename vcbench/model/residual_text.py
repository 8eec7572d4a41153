"""Residual structures as text, for cards and the command line: "ar1(row) * ar1(col) + nugget()"."""

import ast
from typing import Any

from vcbench.errors import ModelError, did_you_mean
from vcbench.model import residual
from vcbench.model.noise import AsLevels
from vcbench.model.residual import Residual

KINDS = {
    name: getattr(residual, name)
    for name in (
        "iid", "weights", "cs", "csh", "un", "un_cor", "toeplitz",
        "toeplitz_h", "banded", "ar1", "ar1h", "arma11", "ma",
        "ante1", "exponential", "gaussian", "by", "nugget",
    )
}  # fmt: skip


def parse_residual(text: str, where: str = "residual") -> Residual:
    """The structure that `text` says; `where` names the key or option that held it.

    Names are columns (quote those that are no identifiers), factor(x) takes numbers as levels, kinds without arguments
    need no parentheses. Raises ModelError for what cannot be read, naming the nearest kind.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ModelError(f"`{where}`: `{text}` cannot be read. Write e.g. ar1(visit, group=subject).") from None
    try:
        found = _structure(tree, where)
    except TypeError as error:
        raise ModelError(f"`{where}`: `{text}` has the wrong arguments: {error}.") from None
    return found


def _structure(node: ast.expr, where: str) -> Residual:
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            return _structure(left, where) * _structure(right, where)
        case ast.BinOp(left, ast.Add(), right):
            return _structure(left, where) + _structure(right, where)
        case ast.Name(name):
            return _kind(name, where)()
        case ast.Call(ast.Name(name), args, keywords):
            kind = _kind(name, where)
            values = [_argument(a, where) for a in args]
            return kind(*values, **{str(k.arg): _argument(k.value, where) for k in keywords})
    raise ModelError(f"`{where}`: `{ast.unparse(node)}` is no residual structure. Choose from {', '.join(KINDS)}.")


def _kind(name: str, where: str) -> Any:
    if name not in KINDS:
        raise ModelError(
            f"`{where}`: unknown structure `{name}`. Choose from {', '.join(KINDS)}.{did_you_mean(name, KINDS)}"
        )
    return KINDS[name]


def _argument(node: ast.expr, where: str) -> Any:
    match node:
        case ast.Constant(value) if isinstance(value, bool | int | str):
            return value
        case ast.Name(name):
            return KINDS[name]() if name in ("iid",) else name
        case ast.Attribute():  # a column named as R likes it: my.column
            return ast.unparse(node)
        case ast.Call(ast.Name("factor"), [inner], []):
            return AsLevels(_argument(inner, where))
        case ast.Call() | ast.BinOp():
            return _structure(node, where)
    raise ModelError(f"`{where}`: `{ast.unparse(node)}` is no column.")
