"""What every generator is: a frozen table of settings with one method, `build(rng)`."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vcbench.study.incomplete import Incomplete, Thinned
from vcbench.study.laws import Laws, LawText
from vcbench.study.simulate import Simulator
from vcbench.study.traits import Traits

Share = Annotated[float, Field(ge=0, lt=1)]
Variance = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Generator(BaseModel):
    """Settings of one condition. `build(rng)` draws the design, and with it what draws the responses."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
    real: ClassVar[bool] = False
    several_traits: ClassVar[bool] = False

    @property
    def redraws(self) -> bool:
        """True where every replicate has a design of its own."""
        return bool(getattr(self, "redraw", False))

    def build(self, rng: np.random.Generator) -> Simulator | Thinned | Incomplete | Traits:
        """The design, drawn with `rng`, with its truth."""
        raise NotImplementedError

    def _either(self, *groups: tuple[str, ...]) -> None:
        """ValueError unless settings come from one of the groups only."""
        used = [[name for name in group if name in self.model_fields_set] for group in groups]
        used = [names for names in used if names]
        if len(used) > 1:
            raise ValueError(f"`{used[0][0]}` and `{used[1][0]}` say the same thing twice: keep one of them")


class Shaped(Generator):
    """A generator whose effects and errors may have other laws than the normal (`laws`): `effects` for all components
    or by name, `errors`."""

    effects: dict[str, LawText] | LawText = "normal"
    errors: LawText = "normal"

    @property
    def laws(self) -> Laws:
        """Both together."""
        return Laws(self.effects, self.errors)


def placeholder(n: int) -> np.ndarray:
    """A response for a model that waits for its data: finite and not constant."""
    return np.arange(n, dtype=float)
