"""The solvers: what each is called, what it is, and under which criterion it exists (MATH §3)."""

from dataclasses import dataclass, replace

from vcbench.errors import MethodError, did_you_mean
from vcbench.solvers import codes


@dataclass(frozen=True, slots=True)
class Solver:
    """One arrow θ → θ′.

    monotone: ℓ never falls, and the tests hold it to that. owns_beta: under ML its M-step owns β, the state is (β, θ).
    code: the arrow in `steps` by criterion; a criterion that is absent does not exist for the method.
    """

    name: str
    code: dict[str, int]
    monotone: bool = True
    owns_beta: bool = False
    max_iter: int = 100_000
    description: str = ""


SOLVERS = {
    s.name: s
    for s in (
        Solver(
            "em",
            {"ml": codes.EM, "reml": codes.BY_SCORE},
            owns_beta=True,
            description="EM of Dempster, Laird & Rubin; under REML EM-REML; a GEM (inner maximisation) for structures",
        ),
        Solver(
            "em-simplified",
            {"ml": codes.SIMPLIFIED},
            monotone=False,
            owns_beta=True,
            description="EM with the residual update of seed 001 §2.3; equal to EM at a stationary point only",
        ),
        Solver(
            "px-em",
            {"ml": codes.PX, "reml": codes.PX},
            owns_beta=True,
            description="parameter-expanded EM, one δ for all components",
        ),
        Solver(
            "px-em-component",
            {"ml": codes.PX_COMPONENT, "reml": codes.PX_COMPONENT},
            owns_beta=True,
            description="parameter-expanded EM, one δ a component",
        ),
        Solver(
            "px-em-full",
            {"ml": codes.PX_FULL, "reml": codes.PX_FULL},
            owns_beta=True,
            description="parameter-expanded EM with a working matrix α for Ω (Liu, Rubin & Wu 1998)",
        ),
        Solver(
            "ecme",
            {"ml": codes.BY_SCORE, "reml": codes.BY_SCORE},
            description="β at its GLS value, then the EM update of the variances; under REML EM-REML",
        ),
        Solver("em-reml", {"reml": codes.BY_SCORE}, description="EM for REML: σ² + (2σ⁴/q)·score"),
        Solver(
            "em-henderson",
            {"reml": codes.HENDERSON},
            monotone=False,
            description="Henderson's equations with the fixed-point residual update σ²·yᵀPy/(n − d)",
        ),
        Solver(
            "squarem",
            {"ml": codes.SQUAREM + codes.EM, "reml": codes.SQUAREM + codes.BY_SCORE},
            owns_beta=True,
            description="squared extrapolation of an EM map, `base` (Varadhan & Roland 2008)",
        ),
        Solver(
            "daarem",
            {"ml": codes.DAAREM + codes.EM, "reml": codes.DAAREM + codes.BY_SCORE},
            owns_beta=True,
            description="damped Anderson acceleration of an EM map, `base` (Henderson & Varadhan 2019)",
        ),
        Solver(
            "newton",
            {"ml": codes.NEWTON, "reml": codes.NEWTON},
            max_iter=200,
            description="Newton–Raphson on the observed information, safeguarded",
        ),
        Solver(
            "fisher",
            {"ml": codes.FISHER, "reml": codes.FISHER},
            max_iter=200,
            description="Fisher scoring on the expected information, safeguarded",
        ),
        Solver("ai", {"ml": codes.AI, "reml": codes.AI}, max_iter=200, description="average information, safeguarded"),
        Solver(
            "lbfgs",
            {"ml": codes.LBFGS, "reml": codes.LBFGS},
            max_iter=200,
            description="limited-memory BFGS, scaled by the expected information at the start",
        ),
        Solver(
            "auto",
            {"ml": codes.AI, "reml": codes.AI},
            monotone=False,  # its rescue may begin again from just inside a face
            max_iter=200,
            description="ai, then lbfgs and px-em-full where ai cannot ascend; new starts at the edge of a structure",
        ),
    )
}


ACCELERATIONS = {"squarem": codes.SQUAREM, "daarem": codes.DAAREM}
BASES = tuple(s.name for s in SOLVERS.values() if min(s.code.values()) < codes.NEWTON)


def find_solver(name: str, criterion: str, base: str | None = None) -> Solver:
    """The solver of that name; an acceleration over the EM map `base` (default em, under REML EM-REML).

    Raises MethodError for a base that is no EM map, that does not exist under the criterion, or that is given to a
    method which has none.
    """
    if base is None:
        return SOLVERS[name]
    if name not in ACCELERATIONS:
        raise MethodError(f"method `{name}` has no `base`; {' and '.join(ACCELERATIONS)} have.")
    if base not in BASES:
        raise MethodError(f"base `{base}` is no EM map. Choose from {', '.join(BASES)}.{did_you_mean(base, BASES)}")
    solver = SOLVERS[base]
    if criterion not in solver.code:
        raise MethodError(f"`{name}` over `{base}` exists under {' and '.join(solver.code)} only; not `{criterion}`.")
    code = {c: ACCELERATIONS[name] + k for c, k in solver.code.items()}
    return replace(solver, name=name, code=code)
