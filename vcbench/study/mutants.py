"""Mutants: wrong formulas, switched in to test the tests. None is a method of the registry.

A harness is worth what it finds. Each mutant replaces one right formula, while `switched_in` is open and in this
process only, and something has to notice. M… are the seeds' printed errors (MATH §12), O… are our own. A study switches
one in by name: `mutant = "M7"` in a `[[methods]]` entry is a wrong method beside right ones, at the study's level it is
the whole study. `check` is what has to notice:

    monotonicity   a method that never lets ℓ fall does, and says so: it ends FAILED; or ℓ falls along its path
    one-step map   one step is not that of the formula, written out densely
    agreement      estimates are not those of a second method of the same criterion
    ELBO           the bound at its maximum is not ℓ
    log-density    ℓ is not the log-density of the Bayesian twin less its prior
    bias, coverage, interval width          as a study's acceptance measures them
    independence, rows, resuming, reference, range      `harness_checks`: seeds, missing rows, a run in two parts,
                   a Monte Carlo error worked out otherwise, covariances inside a structure's range
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from vcbench.errors import DataError, did_you_mean

Checks = Literal[
    "monotonicity", "one-step map", "agreement", "ELBO", "log-density", "bias", "coverage", "interval width",
    "independence",    "rows", "resuming", "reference", "range",
]  # fmt: skip
Open = Callable[[], AbstractContextManager[None]]
_OPEN: set[str] = set()


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong, in one sentence; what that breaks; the check that has to notice.

    `whole`: it breaks what a study does around its methods, so that one entry of `[[methods]]` cannot have it alone.
    """

    wrong: str
    breaks: str
    check: Checks
    whole: bool = False


MUTANTS = {
    "M1": Mutant("1/n over the first term of the residual variance only", "the M-step: ℓ falls", "monotonicity"),
    "M2": Mutant("1/q over the first term of a component's variance only", "the M-step: ℓ falls", "monotonicity"),
    "M3": Mutant("no reduction σ_k² ← δ²σ_k² after δ", "the map; its fixed point survives", "one-step map"),
    "M4": Mutant("the quadratic form of the effects' density inverted", "the E-step: ℓ falls", "monotonicity"),
    "M6": Mutant("β = (XᵀX) Xᵀ(y − Zu) without the inverse", "the M-step of β: ℓ falls", "monotonicity"),
    "M7": Mutant("the delta method's variance for its square root", "standard errors of functions", "coverage"),
    "M8": Mutant("the entropy without its p/2", "ELBO ≠ ℓ, by p/2", "ELBO"),
    "M9": Mutant("the residual covariance as ρ_e σ_u1 σ_u2", "ρ_e where h² is not ½", "bias"),
    "M10": Mutant("K = WWᵀ for WWᵀ/p", "σ_u², by the factor p", "bias"),
    "M11": Mutant("σ_u² under the name of the heritability", "h² where the total variance is not 1", "bias"),
    "M14a": Mutant("ML where REML is asked for: n for n − d", "variances are too small", "bias"),
    "M14b": Mutant("genotypes that are not centred", "the intercept: it spreads with the effects", "interval width"),
    "M14c": Mutant("N − 1 for N − a degrees of freedom under the residual's sum of squares", "σ_e²", "bias"),
    "M15": Mutant("log(2πσ_u²) for log(2πσ_u²/p)", "ELBO ≠ ℓ, by (p/2) log p", "ELBO"),
    "M16": Mutant("the lasso step without its ½", "half the penalty: σ̂² is too small", "bias"),
    "M17": Mutant(
        "the effects' precision is its eigenvalues", "the E-step where ZᵀZ is not diagonal: ℓ falls", "monotonicity"
    ),
    "M18": Mutant("effects stacked by group, subtracted in row order", "β, in unsorted rows: ℓ falls", "monotonicity"),
    "M19": Mutant("log(det V), which underflows, for log|V|", "ℓ in small units", "log-density"),
    "M20": Mutant("EM's residual variance as if E⟨e, Zu⟩ were 0", "`em` takes another method's steps", "one-step map"),
    "M21": Mutant("(…)/N − rank X for (…)/(N − rank X)", "the fixed point of Henderson's equations", "agreement"),
    "M22": Mutant("the information, not minus it, for the Hessian of Newton's step", "no step ascends", "agreement"),
    "M24": Mutant("autocorrelations of a moving average free in (−1, 1)", "R is not positive definite", "range"),
    "O1": Mutant("the residual variance without tr(ZᵀZΣ̃)", "the M-step: σ_e² shrinks, ℓ falls", "monotonicity"),
    "O2": Mutant("the residual sum of squares from the fixed effects before the step", "the map", "one-step map"),
    "O3": Mutant("L⁻¹L⁻ᵀ for the inverse L⁻ᵀL⁻¹ of LLᵀ", "the E-step where ZᵀZ is not diagonal", "monotonicity"),
    "O4": Mutant("the standard error of σ̂ given as that of σ̂²", "standard errors and limits of variances", "coverage"),
    "O5": Mutant("the one-sided quantile for the two-sided", "limits: they miss twice as often", "coverage"),
    "O6": Mutant("the first two parameters under each other's names", "estimates", "bias"),
    "O7": Mutant("limits centred on the truth", "limits: they never miss", "coverage", whole=True),
    "O8": Mutant("one stream of seeds for all conditions", "conditions share their noise", "independence", whole=True),
    "O9": Mutant("a block begun counts as done on resuming", "rows are lost", "resuming", whole=True),
    "O10": Mutant("1/(q − 1) for 1/q", "the M-step: ℓ falls", "monotonicity"),
    "O11": Mutant("fits that did not converge are left out in silence", "the number of rows", "rows", whole=True),
    "O12": Mutant("methods paired with each other's next replicate", "paired measures", "agreement", whole=True),
    "O13": Mutant("θ̂ + z·se as the lower limit, θ̂ − z·se as the upper", "limits: they hold nothing", "coverage"),
    "O14": Mutant("n for n − 1 under the variance of a mean", "Monte Carlo errors", "reference", whole=True),
    "O15": Mutant("every block begins its streams anew", "replicates come twice", "independence", whole=True),
    "O16": Mutant("ℓ_REML without ½ log|XᵀV⁻¹X|", "ℓ, and with it the maximum", "log-density"),
    "O17": Mutant("tr(V_iV_j) for tr(MV_iMV_j) in the moment equations", "moment estimates", "bias"),
}  # fmt: skip


@contextmanager
def switched_in(mutant: str | None) -> Iterator[None]:
    """While open, this process computes as the mutant does; nothing is changed where there is no name, or where the
    mutant is open already.

    Raises DataError for an unknown mutant.
    """
    if not mutant or mutant in _OPEN:
        yield
        return
    check_mutant(mutant)
    with _openers()[mutant]():
        _OPEN.add(mutant)
        try:
            yield
        finally:
            _OPEN.remove(mutant)


def check_mutant(mutant: str) -> None:
    """DataError for a name that no mutant has."""
    if mutant not in MUTANTS:
        raise DataError(f"unknown mutant `{mutant}`. Choose from {', '.join(MUTANTS)}.{did_you_mean(mutant, MUTANTS)}")


def described(mutant: str) -> str:
    """The mutant in words: M7 (the delta method's variance for its square root)."""
    return f"{mutant} ({MUTANTS[mutant].wrong})"


def wrong_in(spec: Any) -> str:
    """What is deliberately wrong in a study, in words: "deliberately wrong: M7 (…) in `ai`"; "" where nothing is."""
    said = [described(spec.table.mutant)] if spec.table.mutant else []
    said += [f"{described(method.mutant)} in `{method.label}`" for method in spec.methods if method.mutant]
    return f"deliberately wrong: {'; '.join(said)}" if said else ""


def _openers() -> Mapping[str, Open]:
    from vcbench.study.mutants_formulas import FORMULAS
    from vcbench.study.mutants_rows import ROWS
    from vcbench.study.mutants_solvers import SOLVERS
    from vcbench.study.mutants_steps import STEPS

    return {**FORMULAS, **ROWS, **SOLVERS, **STEPS}
