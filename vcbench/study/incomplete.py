"""Data that lose rows after they were drawn: the same rows in every replicate, or rows of its own in each."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vcbench.errors import DataError, VcbenchError
from vcbench.model.model import Model
from vcbench.study.missing import Missing
from vcbench.study.said import Said
from vcbench.study.simulate import Simulator


@dataclass(frozen=True, slots=True, eq=False)
class Thinned:
    """A Simulator of all rows, of which the same ones are lost in every replicate."""

    whole: Simulator
    model: Model
    said: Said
    kept: np.ndarray

    @property
    def truth(self) -> dict[str, float]:
        """The true values by name, θ then β: those of the whole."""
        return self.whole.truth

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Y (rows left, R), one column a Generator."""
        return np.ascontiguousarray(self.whole.draw(rngs)[self.kept])


@dataclass(frozen=True, slots=True, eq=False)
class Incomplete:
    """A Simulator of all rows, of which every replicate loses its own."""

    whole: Simulator
    missing: Missing

    @property
    def truth(self) -> dict[str, float]:
        """The true values by name, θ then β: those of the whole."""
        return self.whole.truth

    @property
    def model(self) -> Model:
        """The model of all rows."""
        return self.whole.model

    def draw_one(self, rng: np.random.Generator) -> tuple[Model | VcbenchError, Said]:
        """A replicate's model of the rows that are left, y among them, and how it is said; where they do not carry the
        model, why."""
        y = self.whole.draw([rng])[:, 0]
        assert self.whole.said is not None
        try:
            model, said, kept = _lose(self.whole, self.missing, y, rng)
            return model.replace(y=y[kept]), said
        except VcbenchError as error:
            return error, self.whole.said


def incomplete(whole: Simulator, missing: Missing | None, rng: np.random.Generator) -> Simulator | Thinned | Incomplete:
    """What draws the data: the Simulator itself where nothing is lost. Raises DataError where `missing` does not fit
    the data, and what the model of the rows left raises."""
    if missing is None:
        return whole
    said = whole.said
    if said is None:
        raise DataError("`missing` needs data whose model is said by a formula.")
    whole = replace(whole, said=replace(said, frame=said.frame.iloc[whole.model.parsed.rows_used]))
    if missing.each_replicate(said.response):
        return Incomplete(whole, missing)
    return Thinned(whole, *_lose(whole, missing, None, rng))


def _lose(
    whole: Simulator, missing: Missing, y: np.ndarray | None, rng: np.random.Generator
) -> tuple[Model, Said, np.ndarray]:
    """The model of the rows that are left, how it is said, and which these are."""
    assert whole.said is not None
    kept = missing.kept(whole.said.frame, whole.said.response, y, rng)
    said = replace(whole.said, frame=whole.said.frame[kept].reset_index(drop=True))
    model = copy.copy(said.model())
    object.__setattr__(model, "n_dropped", model.n_dropped + int((~kept).sum()))
    return model, said, kept
