"""Functions of θ with standard errors by the delta method: Var f(θ̂) = ∇fᵀ Cov(θ̂) ∇f."""

import ast
import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from vcbench.errors import MethodError, did_you_mean

FUNCTIONS: dict[str, Callable] = {"sqrt": np.sqrt, "log": np.log, "exp": np.exp, "tanh": np.tanh, "arctanh": np.arctanh}


def derive(
    expression: str, theta: np.ndarray, cov: np.ndarray, names: Mapping[str, np.ndarray]
) -> tuple[str, float, float]:
    """(name, value, se) of `"h2 = animal / total"`.

    `names` maps each name to its weights on θ (a parameter is a unit vector, `total` the sum of the variances). Names
    with other characters than letters, digits and `_` go in backquotes. + − * / ** and sqrt, log, exp, tanh, arctanh.
    The gradient is exact to rounding (complex step). What does not exist, such as the root of a negative variance, is
    NaN. Raises MethodError for a name or syntax it does not know.
    """
    label, _, body = expression.rpartition("=")
    label, body = label.strip() or expression.strip(), body.strip()
    if label.endswith(("=", "<", ">", "!")):
        raise MethodError(f"`{label}` before the equals sign is no name. Write e.g. `h2 = animal / total`.")
    table: dict[str, str] = {}

    def stand_in(match: re.Match) -> str:
        key = f"name{len(table)}_"
        table[key] = match.group(1)
        return key

    coded = re.sub(r"`([^`]+)`", stand_in, body)
    try:
        tree = ast.parse(coded, mode="eval").body
    except SyntaxError:
        raise MethodError(
            f"cannot read `{body}`. Write arithmetic on parameter names, e.g. `h2 = animal / total`."
        ) from None

    def value(node: ast.AST, at: np.ndarray) -> complex:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return np.float64(number)  # NumPy's: a power or quotient that does not exist is NaN, not complex
            case ast.Name(id=name):
                return weights(table.get(name, name)) @ at
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner, at)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return value(inner, at)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = value(a, at), value(b, at)
                match op:
                    case ast.Add():
                        return x + y
                    case ast.Sub():
                        return x - y
                    case ast.Mult():
                        return x * y
                    case ast.Div():
                        return x / y
                    case ast.Pow():
                        return x**y
            case ast.Call(func=ast.Name(id=name), args=[inner]) if name in FUNCTIONS:
                return FUNCTIONS[name](value(inner, at))
        raise MethodError(
            f"`{ast.unparse(node)}` in `{body}` is not understood. Use + - * / ** and {', '.join(FUNCTIONS)}."
        )

    def weights(name: str) -> np.ndarray:
        if name not in names:
            raise MethodError(
                f"unknown name `{name}` in `{body}`.{did_you_mean(name, names)} Known: {', '.join(names)}."
            )
        return names[name]

    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(np.real(value(tree, np.asarray(theta, float))))
        if math.isnan(estimate):
            return label, math.nan, math.nan
        gradient = np.empty(len(theta))
        for j in range(len(theta)):
            step = 1e-30 * max(abs(theta[j]), 1.0)
            moved = theta.astype(complex)
            moved[j] += 1j * step
            gradient[j] = np.imag(value(tree, moved)) / step
    used = gradient != 0
    variance = gradient[used] @ cov[np.ix_(used, used)] @ gradient[used]
    return label, estimate, math.sqrt(variance) if variance >= 0 else math.nan
