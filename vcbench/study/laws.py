"""Laws of what is drawn for effects and errors: mean 0 and variance 1 whatever their shape, so that θ stays the truth.

    normal                  z ~ N(0, 1)
    t(df)                   z = T √((df − 2)/df),  T ~ t_df,  df > 2:  excess kurtosis 6/(df − 4) where df > 4
    skew(g)                 z = sign(g) (G − k)/√k,  G ~ Gamma(k, 1),  k = 4/g²:  skewness g, excess kurtosis 3g²/2
    contaminated(p, s)      z = N/√(1 − p + p s²),  N ~ (1 − p) N(0, 1) + p N(0, s²):  a share p of outliers, s times as
                            wide; excess kurtosis 3 (1 − p + p s⁴)/(1 − p + p s²)² − 3

Effects are u = L z and errors e = R^½ z with L Lᵀ the covariance that the model says (`simulate`): for independent
components of z with mean 0 and variance 1, Var(L z) = L Lᵀ exactly. Where L is not diagonal (correlated effects,
relatives, serial errors) an effect is a mixture of z's, nearer to the normal than they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, WithJsonSchema

PATTERN = r"^\s*(normal|t|skew|contaminated)\s*(?:\(([^()]*)\))?\s*$"
NEEDS = {"normal": (), "t": ("df",), "skew": ("skewness",), "contaminated": ("share", "scale")}
EXAMPLE = '"normal", "t(5)", "skew(2)" or "contaminated(0.05, 5)"'


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution of mean 0 and variance 1: its kind and its parameters. Read one with `read_law`."""

    kind: str = "normal"
    values: tuple[float, ...] = ()

    @property
    def is_normal(self) -> bool:
        """True for N(0, 1)."""
        return self.kind == "normal"

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n independent draws (n,)."""
        return _DRAWS[self.kind](rng, n, *self.values)

    @property
    def skewness(self) -> float:
        """E z³; NaN where it does not exist."""
        if self.kind == "t" and self.values[0] <= 3:
            return float("nan")
        return self.values[0] if self.kind == "skew" else 0.0

    @property
    def excess_kurtosis(self) -> float:
        """E z⁴ − 3; infinite where it does not exist."""
        match self.kind:
            case "t":
                return 6 / (self.values[0] - 4) if self.values[0] > 4 else float("inf")
            case "skew":
                return 1.5 * self.values[0] ** 2
            case "contaminated":
                p, s = self.values
                return 3 * (1 - p + p * s**4) / (1 - p + p * s**2) ** 2 - 3
        return 0.0


def _t(rng: np.random.Generator, n: int, df: float) -> np.ndarray:
    return rng.standard_t(df, n) * np.sqrt((df - 2) / df)


def _skew(rng: np.random.Generator, n: int, skewness: float) -> np.ndarray:
    k = 4 / skewness**2
    return np.sign(skewness) * (rng.standard_gamma(k, n) - k) / np.sqrt(k)


def _contaminated(rng: np.random.Generator, n: int, share: float, scale: float) -> np.ndarray:
    wide = rng.random(n) < share
    return rng.standard_normal(n) * np.where(wide, scale, 1.0) / np.sqrt(1 - share + share * scale**2)


_DRAWS: dict[str, Callable[..., np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "t": _t,
    "skew": _skew,
    "contaminated": _contaminated,
}


def read_law(text: str) -> Law:
    """The Law that a text names, such as "t(5)". Raises ValueError for what is none, and for one without a variance."""
    found = re.match(PATTERN, text)
    if found is None:
        raise ValueError(f"must be {EXAMPLE}, not `{text}`")
    kind, inside = found[1], [part.strip() for part in (found[2] or "").split(",") if part.strip()]
    needs = NEEDS[kind]
    try:
        values = tuple(float(part) for part in inside)
    except ValueError:
        raise ValueError(f"must be {EXAMPLE}, not `{text}`: its parameters are numbers") from None
    if len(values) != len(needs) or not all(np.isfinite(values)):
        wanted = f"{kind}({', '.join(needs)})" if needs else kind
        raise ValueError(f"must be `{wanted}`, not `{text}`")
    if kind == "t" and values[0] <= 2:
        raise ValueError(f"must have more than 2 degrees of freedom, not {values[0]:g}: t has no variance else")
    if kind == "skew" and values[0] == 0:
        raise ValueError("must have a skewness other than 0: without it the law is `normal`")
    if kind == "contaminated" and not (0 < values[0] < 1 and values[1] > 0):
        raise ValueError(f"must have a share between 0 and 1 and a scale above 0, not {values[0]:g} and {values[1]:g}")
    return Law(kind, values)


def _checked(said: Any) -> Any:
    for text in said.values() if isinstance(said, dict) else [said]:
        read_law(text)
    return said


LawText = Annotated[str, AfterValidator(_checked), WithJsonSchema({"type": "string", "pattern": PATTERN})]


@dataclass(frozen=True, slots=True)
class Laws:
    """The laws of a condition: `effects` one for all components, or by component's name (others normal); `errors`."""

    effects: str | dict[str, str] = "normal"
    errors: str = "normal"

    @property
    def are_normal(self) -> bool:
        """True where everything is normal."""
        said = [*self.effects.values()] if isinstance(self.effects, dict) else [self.effects]
        return all(read_law(text).is_normal for text in [*said, self.errors])

    def of(self, component: str | None) -> Law:
        """The Law of a component's effects; of the errors for None."""
        if component is None:
            return read_law(self.errors)
        said = self.effects.get(component, "normal") if isinstance(self.effects, dict) else self.effects
        return read_law(said)
