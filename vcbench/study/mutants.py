"""Mutants: wrong formulas, switched in to test the tests. None is a method of the registry.

A harness is worth what it finds. Each mutant replaces one right formula, while `switched_in` is open and in this
process only, and something has to notice. M… are the seeds' printed errors (MATH §12), O… are our own. `check` is what
has to notice:

    ascent        ℓ falls from one iteration to the next       one-step map  one step is not that of the kernel
    agreement     estimates are not those of a second method   ELBO          the bound at its maximum is not ℓ
    bias, coverage, independence, rows                         as a study measures them
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

from vcbench.errors import DataError, did_you_mean
from vcbench.study.mutants_formulas import FORMULAS
from vcbench.study.mutants_steps import step_switched_in

Checks = Literal["ascent", "one-step map", "agreement", "ELBO", "bias", "coverage", "independence", "rows"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong, in one sentence; what that breaks; and the check that has to notice."""

    wrong: str
    breaks: str
    check: Checks


MUTANTS = {
    "M1": Mutant("1/n over the first term of the residual variance only", "the M-step: ℓ falls", "ascent"),
    "M2": Mutant("1/q over the first term of a component's variance only", "the M-step: ℓ falls", "ascent"),
    "M3": Mutant("no reduction σ_k² ← δ²σ_k² after δ", "the map; its fixed point survives", "one-step map"),
    "M4": Mutant("the quadratic form of the effects' density inverted", "the E-step: ℓ falls", "ascent"),
    "M6": Mutant("β = (XᵀX) Xᵀ(y − Zu) without the inverse", "the M-step of β: ℓ falls", "ascent"),
    "M8": Mutant("the entropy without its p/2", "ELBO ≠ ℓ, by p/2", "ELBO"),
    "M17": Mutant(
        "the effects' precision is its eigenvalues", "the E-step where ZᵀZ is not diagonal: ℓ falls", "ascent"
    ),
    "M18": Mutant("effects stacked by group, subtracted in row order", "β, in rows not sorted by group", "agreement"),
    "O1": Mutant("the residual variance without tr(ZᵀZΣ̃)", "the M-step: σ_e² shrinks, ℓ falls", "ascent"),
    "O2": Mutant("the residual sum of squares from the fixed effects before the step", "the map", "one-step map"),
    "O3": Mutant("L⁻¹L⁻ᵀ for the inverse L⁻ᵀL⁻¹ of LLᵀ", "the E-step where ZᵀZ is not diagonal: ℓ falls", "ascent"),
}
STEPS = ("", "M1", "M2", "M3", "M4", "M6", "M17", "M18", "O1", "O2", "O3")


@contextmanager
def switched_in(mutant: str) -> Iterator[None]:
    """While open, this process computes as the mutant does: `px-em` under ML run interpreted (those of `px_step`).

    An empty name switches in nothing, by the steps' path: the control. Raises DataError for an unknown mutant.
    """
    if mutant and mutant not in MUTANTS:
        raise DataError(f"unknown mutant `{mutant}`. Choose from {', '.join(MUTANTS)}.{did_you_mean(mutant, MUTANTS)}")
    with _opened(mutant):
        yield


def _opened(mutant: str) -> AbstractContextManager[None]:
    if mutant in STEPS:
        return step_switched_in(mutant)
    opened: Callable[[], AbstractContextManager[None]] = FORMULAS[mutant]
    return opened()
