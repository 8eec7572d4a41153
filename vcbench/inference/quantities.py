"""Scalar functions g(θ, β) of which an interval can be asked: a parameter, its SD or correlation, h², a contrast.

A quantity gives its value, and its gradient and Hessian in (θ, β), exact to rounding: expressions by jets
(`model.jets`); a user's own function by central differences.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.derive import Expression, read_expression
from vcbench.inference.variances import names_known, rows_of

STEP = 1e-4  # relative step of the differences of a user's function; its error is of the order of STEP⁴
TINY, HUGE = 1e-50, 1e50  # a limit beyond them stands for 0 and ∞
GROWTH = 1e-3  # relative change from one far corner to the next beyond which a quantity counts as unbounded
Jet2 = tuple[float, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """g(θ, β). kind: "variance", "sd", "covariance", "correlation", "other" (a range, a ratio), "fixed" (aᵀβ, a =
    `contrast` (d,)) or "function". places: where a variance, or a covariance and its two variances, sit in θ."""

    name: str
    kind: str
    n_theta: int
    of: Any = field(repr=False)  # Expression, or `Called`, in x = (θ, β)
    places: tuple[int, ...] = ()
    contrast: np.ndarray | None = field(default=None, repr=False)
    uses_beta: bool = False

    def value(self, theta: np.ndarray, beta: np.ndarray) -> float:
        """g; NaN where it does not exist, such as a correlation with a variance of 0."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return float(np.real(self.of.at(np.concatenate([theta, beta]))))

    def jet(self, theta: np.ndarray, beta: np.ndarray) -> Jet2:
        """(g, ∇g (p + d,), ∇²g (p + d, p + d)) in (θ, β)."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            out = self.of.jet(np.concatenate([theta, beta]))
        return out if isinstance(out, tuple) else (float(out.v), out.d, out.dd)

    def bounds(self, corners: np.ndarray, far: np.ndarray, beta: np.ndarray) -> tuple[float, float]:
        """The least and greatest value that can be attained.

        Variances and SDs: [0, ∞); fixed effects (−∞, ∞); the rest by their values at `corners` (m, p) of the parameter
        space, where a share such as the ICC has its extremes: a limit that moves on from there to the corners `far`
        (m, p) is none. (−∞, ∞) where the corners tell nothing.
        """
        if self.kind in ("variance", "sd"):
            return 0.0, math.inf
        if self.kind in ("fixed", "covariance"):
            return -math.inf, math.inf
        if self.kind == "correlation" and len(self.places) == 3:
            return -1.0, 1.0
        (lo, hi), (lo_far, hi_far) = (self._extremes(points, beta) for points in (corners, far))
        if math.isfinite(hi - lo) and not hi - lo > 1e-9 * max(abs(lo), abs(hi)):
            return -math.inf, math.inf
        slack = 1e-9 * (hi - lo) if math.isfinite(hi - lo) else 0.0
        return (
            lo if math.isclose(lo, lo_far, rel_tol=GROWTH, abs_tol=slack) else -math.inf,
            hi if math.isclose(hi, hi_far, rel_tol=GROWTH, abs_tol=slack) else math.inf,
        )

    def _extremes(self, points: np.ndarray, beta: np.ndarray) -> tuple[float, float]:
        x = np.column_stack([points, np.tile(beta, (len(points), 1))])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            g = np.broadcast_to(np.real(self.of.at(x.T)), len(points))
        g = g[~np.isnan(g)]
        g = np.where(np.abs(g) < TINY, 0.0, np.where(np.abs(g) > HUGE, np.copysign(np.inf, g), g))
        return (float(g.min()), float(g.max())) if len(g) else (-math.inf, math.inf)


def quantity_of(facts: Any, said: "str | Callable | Quantity") -> Quantity:
    """What is meant by a name or an expression of a fit with these facts (`fitted.Facts`).

    A θ name (`Subject:var(Days)`), its SD or correlation (`Subject:sd(Days)`, `Subject:cor((Intercept),Days)`), a β
    name, an expression on the names of `derive.derive` and of β ("h2 = animal / total", "Days - `x`"), or a function
    of a mapping of names of θ and β to values. Raises MethodError for a name or syntax that is not known.
    """
    if isinstance(said, Quantity):
        return said
    theta_names, beta_names = tuple(facts.theta_names), tuple(facts.beta_names)
    p, d = len(theta_names), len(beta_names)
    if callable(said):
        called = Called(said, (*theta_names, *beta_names))
        of_beta = bool(called.asked() & set(beta_names))
        return Quantity(getattr(said, "__name__", "function"), "function", p, called, uses_beta=of_beta)
    if not isinstance(said, str):
        raise MethodError(f"a quantity is a name, an expression or a function of the parameters, not {said!r}.")
    known = {name: np.append(w, np.zeros(d)) for name, w in names_known(facts).items()}
    for j, name in enumerate(beta_names):
        known.setdefault(name, np.eye(p + d)[p + j])
    if said in beta_names and said not in theta_names:
        return Quantity(said, "fixed", p, read_expression(f"`{said}`", known), (), np.eye(d)[beta_names.index(said)],
                        True)  # fmt: skip
    rows = {r.name: r for scale in ("sd", "var") for r in rows_of(theta_names, facts.is_variance, scale)}
    row = rows.get(said)
    if row is None and (alone := _one_parameter(said, known)) is not None:
        row = rows.get(theta_names[alone])
    if row is not None:
        places: tuple[int, ...] = (row.at,)
        if row.parameter.startswith(("cov(", "cor(")) and row.kind != "other":
            places = _places(theta_names, row.at) or places
        return Quantity(said, row.kind, p, read_expression(row.expression, known), places)
    is_name = not set(said) & set("=+-*/()` ") or (":" in said and "`" not in said)
    if is_name and said not in known:
        raise MethodError(
            f"`{said}` is no parameter of this fit.{did_you_mean(said, [*rows, *known])} It has: "
            f"{', '.join([*theta_names, *beta_names])}."
        )
    f = read_expression(said, known)
    of_beta = any(known[name][p:].any() for name in f.used)
    of_theta = any(known[name][:p].any() for name in f.used)
    contrast = _contrast(f, p, d) if of_beta and not of_theta else None
    return Quantity(f.label, "function" if contrast is None else "fixed", p, f, (), contrast, of_beta)


def _one_parameter(said: str, known: Mapping[str, np.ndarray]) -> int | None:
    """The place in θ of a name that stands for one parameter, such as a component with one variance."""
    weights = known.get(said.strip("`"))
    if weights is None or np.count_nonzero(weights) != 1 or weights.max() != 1.0:
        return None
    return int(np.argmax(weights))


def _places(names: tuple[str, ...], at: int) -> tuple[int, ...] | None:
    """(covariance, its first variance, its second) in θ."""
    component, _, inner = names[at].rpartition(":cov(")
    at_of = {n: j for j, n in enumerate(names)}
    for cut in (i for i, c in enumerate(inner) if c == ","):
        a, b = (at_of.get(f"{component}:var({e})") for e in (inner[:cut], inner[cut + 1 : -1]))
        if a is not None and b is not None:
            return at, a, b
    return None


def _contrast(f: Expression, p: int, d: int) -> np.ndarray | None:
    """a (d,) where f = aᵀβ; None where f is not linear without a constant."""
    here = f.jet(np.append(np.zeros(p), np.linspace(0.7, 1.9, d)))
    there = f.jet(np.append(np.zeros(p), np.linspace(-2.3, 0.4, d)))
    a = here.d[p:]
    linear = np.array_equal(a, there.d[p:]) and not here.dd.any()
    return a if linear and math.isclose(float(here.v), a @ np.linspace(0.7, 1.9, d), abs_tol=1e-12) else None


@dataclass(frozen=True, slots=True)
class Called:
    """A user's function of a mapping of names to values, in x = (θ, β)."""

    function: Callable[[Mapping[str, float]], float]
    names: tuple[str, ...]

    def at(self, x: np.ndarray) -> Any:
        """f at x (p,), or at every column of x (p, m)."""
        if x.ndim == 2:
            return np.array([self.at(column) for column in x.T])
        return self.function(dict(zip(self.names, x, strict=True)))

    def asked(self) -> set[str]:
        """The names that the function asks for. Raises MethodError for one that is none of the fit's."""
        values = Asked(zip(self.names, np.linspace(1.0, 2.0, len(self.names)), strict=True))
        try:
            self.function(values)
        except KeyError as error:
            name = str(error.args[0])
            raise MethodError(
                f"the function asks for `{name}`, which is no parameter.{did_you_mean(name, self.names)} The fit has: "
                f"{', '.join(self.names)}."
            ) from None
        return values.names or set(self.names)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """∇f by central differences: a complex step would go wrong, unseen, where f takes an absolute value."""
        return _differences(self.at, x)

    def jet(self, x: np.ndarray) -> Jet2:
        """(f, ∇f, ∇²f)."""
        H = _differences(self.gradient, x)
        return float(self.at(x)), self.gradient(x), 0.5 * (H + H.T)


class Asked(dict):
    """A mapping that remembers which names were asked for."""

    def __init__(self, items: Any) -> None:
        super().__init__(items)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.names.add(name)
        return super().__getitem__(name)


def _moved(x: np.ndarray, j: int, share: float) -> np.ndarray:
    out = x.copy()
    out[j] += share * max(abs(x[j]), 1e-12)
    return out


def _differences(f: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """∂f/∂x_j (p, …), central, error of the order of STEP⁴."""
    rows = []
    for j in range(len(x)):
        shift = partial(_moved, x, j)
        h = STEP * max(abs(x[j]), 1e-12)
        near = (np.asarray(f(shift(STEP))) - np.asarray(f(shift(-STEP)))) / (2 * h)
        wide = (np.asarray(f(shift(2 * STEP))) - np.asarray(f(shift(-2 * STEP)))) / (4 * h)
        rows.append((4 * near - wide) / 3)
    return np.array(rows)
