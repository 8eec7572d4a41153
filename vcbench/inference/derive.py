"""Functions of θ with standard errors by the delta method: Var f(θ̂) = ∇fᵀ Cov(θ̂) ∇f.

An expression is read once and evaluated on whatever numbers its names stand for: floats, complex numbers (a gradient by
complex step), arrays, or jets, which carry first and second derivatives.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.model import jets
from vcbench.model.jets import Jet

FUNCTIONS: dict[str, Callable] = {"sqrt": np.sqrt, "log": np.log, "exp": np.exp, "tanh": np.tanh, "arctanh": np.arctanh}
OF_JETS: dict[str, Callable] = {
    "sqrt": jets.sqrt, "log": jets.log, "exp": jets.exp, "tanh": jets.tanh, "arctanh": jets.arctanh,
}  # fmt: skip
Linear = Callable[[np.ndarray], Any]  # weights on the parameters -> the number that a name stands for


@dataclass(frozen=True, slots=True)
class Expression:
    """`label = body` read once; `known` maps each name to its weights on the parameters, `used` those that occur."""

    label: str
    body: str
    used: tuple[str, ...]
    known: Mapping[str, np.ndarray] = field(repr=False)
    tree: Callable[[Linear], Any] = field(repr=False)

    def at(self, x: np.ndarray) -> Any:
        """The value at parameters x (p,), real or complex; one value a column for x (p, m)."""
        return self.tree(lambda weights: weights @ x)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f (p,) at x, exact to rounding: Im f(x + ih e_j)/h."""
        gradient = np.empty(len(x))
        for j in range(len(x)):
            step = 1e-30 * max(abs(x[j]), 1.0)
            moved = x.astype(complex)
            moved[j] += 1j * step
            gradient[j] = np.imag(self.at(moved)) / step
        return gradient

    def jet(self, x: np.ndarray) -> Jet:
        """The value at x with first and second derivatives in x."""
        zero = np.zeros((len(x), len(x)))
        out = self.tree(lambda weights: Jet(weights @ x, weights, zero))
        return out if isinstance(out, Jet) else jets.constant(out, len(x))


def derive(
    expression: str, theta: np.ndarray, cov: np.ndarray, names: Mapping[str, np.ndarray]
) -> tuple[str, float, float]:
    """(name, value, se) of `"h2 = animal / total"`.

    `names` maps each name to its weights on θ (a parameter is a unit vector, `total` the sum of the variances). Names
    with other characters than letters, digits and `_` go in backquotes. + − * / ** and sqrt, log, exp, tanh, arctanh.
    The gradient is exact to rounding (complex step). What does not exist, such as the root of a negative variance, is
    NaN. Raises MethodError for a name or syntax it does not know.
    """
    f = read_expression(expression, names)
    theta = np.asarray(theta, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(np.real(f.at(theta)))
        if math.isnan(estimate):
            return f.label, math.nan, math.nan
        gradient = f.gradient(theta)
    used = gradient != 0
    variance = gradient[used] @ cov[np.ix_(used, used)] @ gradient[used]
    return f.label, estimate, math.sqrt(variance) if variance >= 0 else math.nan


def read_expression(expression: str, names: Mapping[str, np.ndarray]) -> Expression:
    """The expression, read. Raises MethodError for a name or syntax it does not know."""
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
    used: dict[str, None] = {}

    def weights(name: str) -> np.ndarray:
        if name not in names:
            raise MethodError(
                f"unknown name `{name}` in `{body}`.{did_you_mean(name, names)} Known: {', '.join(names)}."
            )
        used[name] = None
        return names[name]

    def reading(node: ast.AST) -> Callable[[Linear], Any]:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                constant = np.float64(number)  # NumPy's: a power or quotient that does not exist is NaN, not complex
                return lambda linear: constant
            case ast.Name(id=name):
                own = weights(table.get(name, name))
                return lambda linear: linear(own)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                f = reading(inner)
                return lambda linear: -f(linear)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return reading(inner)
            case ast.BinOp(left=a, op=op, right=b) if type(op) in OPERATIONS:
                f, g, join = reading(a), reading(b), OPERATIONS[type(op)]
                return lambda linear: join(f(linear), g(linear))
            case ast.Call(func=ast.Name(id=name), args=[inner]) if name in FUNCTIONS:
                f, of_number, of_jet = reading(inner), FUNCTIONS[name], OF_JETS[name]

                def call(linear: Linear) -> Any:
                    x = f(linear)
                    return of_jet(x) if isinstance(x, Jet) else of_number(x)

                return call
        raise MethodError(
            f"`{ast.unparse(node)}` in `{body}` is not understood. Use + - * / ** and {', '.join(FUNCTIONS)}."
        )

    read = reading(tree)
    return Expression(label, body, tuple(used), names, read)


def _power(x: Any, y: Any) -> Any:
    """xʸ; with a jet in the exponent e^(y log x)."""
    if not isinstance(y, Jet):
        return x**y
    return jets.exp(y * (jets.log(x) if isinstance(x, Jet) else np.log(x)))


OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.Pow: _power,
}
