"""Covariance structures as text, for cards and the command line: "cs", "diag()", "kron(un, ar1, sizes=(2, 4))"."""

import ast
from typing import Any

from vcbench.errors import ModelError, did_you_mean
from vcbench.model import covariance
from vcbench.model.covariance import Covariance

KINDS = {
    name: getattr(covariance, name)
    for name in ("scalar", "diag", "un", "blocks", "pattern", "cs", "ar1", "toeplitz", "kron", "fixed")
}


def parse_covariance(text: str, where: str = "cov") -> Covariance:
    """The structure that `text` says; `where` names the key or option that held it. Raises ModelError."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ModelError(f"`{where}`: `{text}` cannot be read. Write e.g. diag or kron(un, ar1).") from None
    try:
        return _structure(tree, where)
    except TypeError as error:
        raise ModelError(f"`{where}`: `{text}` has the wrong arguments: {error}.") from None


def _structure(node: ast.expr, where: str) -> Covariance:
    match node:
        case ast.Name(name):
            return _kind(name, where)()
        case ast.Call(ast.Name(name), args, keywords):
            values = [_argument(a, where) for a in args]
            return _kind(name, where)(*values, **{str(k.arg): _argument(k.value, where) for k in keywords})
    raise ModelError(f"`{where}`: `{ast.unparse(node)}` is no covariance structure. Choose from {', '.join(KINDS)}.")


def _kind(name: str, where: str) -> Any:
    if name not in KINDS:
        raise ModelError(
            f"`{where}`: unknown structure `{name}`. Choose from {', '.join(KINDS)}.{did_you_mean(name, KINDS)}"
        )
    return KINDS[name]


def _argument(node: ast.expr, where: str) -> Any:
    if isinstance(node, ast.Name | ast.Call):
        return _structure(node, where)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ModelError(f"`{where}`: `{ast.unparse(node)}` is neither numbers nor a structure.") from None
