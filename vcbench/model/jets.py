"""Numbers that carry their first and second derivatives: a structure is written once, as its formula.

A jet over k parameters φ holds v (any shape S), d = ∂v/∂φ (k, *S) and dd = ∂²v/∂φ∂φᵀ (k, k, *S). Sums, products and
the functions below follow the chain rule, so that derivatives are closed forms, exact to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Jet:
    """A value with derivatives; see the module."""

    __slots__ = ("d", "dd", "v")
    __array_ufunc__ = None  # numpy arrays leave arithmetic with a jet to the jet

    def __init__(self, v: Any, d: np.ndarray, dd: np.ndarray) -> None:
        self.v, self.d, self.dd = np.asarray(v, float), d, dd

    @property
    def k(self) -> int:
        """Number of parameters."""
        return len(self.d)

    def _lift(self, other: Any) -> "Jet":
        return other if isinstance(other, Jet) else constant(other, self.k)

    def __add__(self, other: Any) -> "Jet":
        other = self._lift(other)
        return Jet(self.v + other.v, *_spread(self, other, lambda a, b: a + b))

    __radd__ = __add__

    def __neg__(self) -> "Jet":
        return Jet(-self.v, -self.d, -self.dd)

    def __sub__(self, other: Any) -> "Jet":
        return self + (-other)

    def __rsub__(self, other: Any) -> "Jet":
        return (-self) + other

    def __mul__(self, other: Any) -> "Jet":
        other = self._lift(other)
        shape = np.broadcast_shapes(self.v.shape, other.v.shape)
        a, b = _shaped(self, shape), _shaped(other, shape)
        cross = a.d[:, None] * b.d[None, :]
        dd = a.dd * b.v + a.v * b.dd + cross + cross.swapaxes(0, 1)
        return Jet(a.v * b.v, a.d * b.v + a.v * b.d, dd)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Jet":
        other = self._lift(other)
        return self * _apply(other, 1.0 / other.v, -1.0 / other.v**2, 2.0 / other.v**3)

    def __rtruediv__(self, other: Any) -> "Jet":
        return self._lift(other) / self

    def __pow__(self, power: Any) -> "Jet":
        """self to constant powers, 0 or at least 1 (any power where self is positive)."""
        power = np.asarray(power, float)
        v = np.broadcast_to(self.v, np.broadcast_shapes(self.v.shape, power.shape))
        first, second = power, power * (power - 1.0)
        f1 = first * v ** np.where(first == 0, 0.0, power - 1.0)
        f2 = second * v ** np.where(second == 0, 0.0, power - 2.0)
        return _apply(_shaped(self, v.shape), v**power, f1, f2)

    def __getitem__(self, at: Any) -> "Jet":
        """Entries of the value, derivatives with them."""
        at = at if isinstance(at, tuple) else (at,)
        return Jet(self.v[at], self.d[(slice(None), *at)], self.dd[(slice(None), slice(None), *at)])

    def reshape(self, *shape: int) -> "Jet":
        """The same entries in another shape."""
        v = self.v.reshape(*shape)
        return Jet(v, self.d.reshape(self.k, *v.shape), self.dd.reshape(self.k, self.k, *v.shape))


def variables(values: Sequence[float] | np.ndarray) -> list[Jet]:
    """One scalar jet a parameter."""
    k = len(values)
    unit, zero = np.eye(k), np.zeros((k, k))
    return [Jet(value, unit[i], zero) for i, value in enumerate(values)]


def constant(value: Any, k: int) -> Jet:
    """A value that depends on none of the k parameters."""
    value = np.asarray(value, float)
    return Jet(value, np.zeros((k, *value.shape)), np.zeros((k, k, *value.shape)))


def stack(jets: Sequence[Jet]) -> Jet:
    """Jets of one shape along a new leading axis of the value."""
    return Jet(
        np.stack([j.v for j in jets]), np.stack([j.d for j in jets], axis=1), np.stack([j.dd for j in jets], axis=2)
    )


def concatenate(jets: Sequence[Jet]) -> Jet:
    """One-dimensional jets end to end."""
    return Jet(
        np.concatenate([j.v for j in jets]),
        np.concatenate([j.d for j in jets], axis=1),
        np.concatenate([j.dd for j in jets], axis=2),
    )


def exp(a: Jet) -> Jet:
    """eᵃ."""
    e = np.exp(a.v)
    return _apply(a, e, e, e)


def sqrt(a: Jet) -> Jet:
    """√a."""
    s = np.sqrt(a.v)
    return _apply(a, s, 0.5 / s, -0.25 / s**3)


def log(a: Jet) -> Jet:
    """log a."""
    return _apply(a, np.log(a.v), 1.0 / a.v, -1.0 / a.v**2)


def log1p(a: Jet) -> Jet:
    """log(1 + a)."""
    return _apply(a, np.log1p(a.v), 1.0 / (1.0 + a.v), -1.0 / (1.0 + a.v) ** 2)


def tanh(a: Jet) -> Jet:
    """tanh a, onto (−1, 1)."""
    t = np.tanh(a.v)
    return _apply(a, t, 1.0 - t * t, -2.0 * t * (1.0 - t * t))


def arctanh(a: Jet) -> Jet:
    """arctanh a of a in (−1, 1)."""
    f1 = 1.0 / (1.0 - a.v**2)
    return _apply(a, np.arctanh(a.v), f1, 2.0 * a.v * f1**2)


def logistic(a: Jet) -> Jet:
    """1/(1 + e⁻ᵃ), onto (0, 1)."""
    s = 0.5 * (1.0 + np.tanh(0.5 * a.v))
    return _apply(a, s, s * (1.0 - s), s * (1.0 - s) * (1.0 - 2.0 * s))


def _apply(a: Jet, f: Any, f1: Any, f2: Any) -> Jet:
    """f(a) from f, f′, f″ at a."""
    return Jet(f, f1 * a.d, f1 * a.dd + f2 * (a.d[:, None] * a.d[None, :]))


def _shaped(a: Jet, shape: tuple[int, ...]) -> Jet:
    if a.v.shape == shape:
        return a
    lead = (1,) * (len(shape) - a.v.ndim)
    k = a.k
    return Jet(
        np.broadcast_to(a.v, shape),
        np.broadcast_to(a.d.reshape(k, *lead, *a.v.shape), (k, *shape)),
        np.broadcast_to(a.dd.reshape(k, k, *lead, *a.v.shape), (k, k, *shape)),
    )


def _spread(a: Jet, b: Jet, join: Callable[[Any, Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    shape = np.broadcast_shapes(a.v.shape, b.v.shape)
    a, b = _shaped(a, shape), _shaped(b, shape)
    return join(a.d, b.d), join(a.dd, b.dd)
