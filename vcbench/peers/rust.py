"""`glmm` and `mixedlm`: Python packages with a Rust core and lme4's formulas.

They take formulas only: columns go in under names of our own (x1 …, a1_1 …, g1 …). A term of several blocks on one
factor has a copy of the factor for each. Neither has standard errors of variances.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vcbench.model.model import Model
from vcbench.peers.clock import load, timed
from vcbench.peers.design import Design, near_boundary, refuse, triangle
from vcbench.status import Status

Read = Callable[[Any], tuple[dict[str, np.ndarray], float, dict[str, Any]]]


def fit_glmm(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """glmm.fit, its defaults.

    Raises MethodError for Z and K components, weights and correlated residuals, for random slopes without their
    intercept, and for those that are no column of X: glmm has neither.
    """
    program, version = load("glmm")

    def run(columns: dict[str, Any], formula: str) -> Any:
        found = program.fit(columns, formula, reml=criterion == "reml")
        if len(found.varcorr) != len(found.re_groups):
            raise ValueError(f"glmm gave no variances: {found.diagnostics}")
        return found

    def read(found: Any) -> tuple[dict[str, np.ndarray], float, dict[str, Any]]:
        Omegas = {}
        for (group, effects), packed in zip(found.re_groups, found.varcorr, strict=True):
            rows, columns = triangle(len(effects))
            Omega = np.zeros((len(effects), len(effects)))
            Omega[rows, columns] = Omega[columns, rows] = packed
            Omegas[group] = Omega
        status = Status.MAX_ITER if not found.converged else Status.AT_BOUNDARY if found.singular else Status.CONVERGED
        more = {"loglik": found.loglik, "beta": found.beta, "beta_cov": found.vcov, "n_iter": found.n_eval,
                "n_eval": found.n_eval, "status": status}  # fmt: skip
        return Omegas, found.dispersion, more

    return _fit("glmm", version, model, Y, run, read)


def fit_mixedlm(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """mixedlm.lmer, its defaults. Raises MethodError for Z and K components, weights and correlated residuals."""
    program, version = load("mixedlm")
    import pandas as pd

    def run(columns: dict[str, Any], formula: str) -> Any:
        return program.lmer(formula, pd.DataFrame(columns), REML=criterion == "reml")

    def read(found: Any) -> tuple[dict[str, np.ndarray], float, dict[str, Any]]:
        Omegas = {name: np.asarray(group.cov) for name, group in found.VarCorr().groups.items()}
        singular = found.isSingular()
        status = Status.MAX_ITER if not found.converged else Status.AT_BOUNDARY if singular else Status.CONVERGED
        more = {"loglik": found.logLik().value, "beta": found.beta, "beta_cov": np.asarray(found.vcov()),
                "n_iter": found.n_iter, "n_eval": found.function_evals or 0, "status": status}  # fmt: skip
        return Omegas, found.sigma**2, more

    return _fit("mixedlm", version, model, Y, run, read)


def _fit(
    program: str, version: str, model: Model, Y: np.ndarray, run: Callable[[dict[str, Any], str], Any], read: Read
) -> list[dict[str, Any]]:
    """Each response by `run`, its answer by `read`."""
    design = Design.of(model, program)
    if not design.terms:
        refuse(program, "it needs a random term")
    columns, formula = _columns(design, program)
    out = []
    for y in design.response(model, Y).T:

        def once(y: np.ndarray = y) -> Any:
            return run({"y": y, **columns}, formula)

        found, row = timed(once)
        if found is not None:
            Omegas, sigma2, more = read(found)
            theta = np.full(design.n_theta, np.nan)
            for k, term in enumerate(design.terms, 1):
                theta[list(term.places)] = Omegas[f"g{k}"][triangle(term.r)]
            theta[-1] = sigma2
            row |= {**more, "theta": theta}
            if row["status"] is Status.CONVERGED and near_boundary(design, theta, 1e-12):
                row["status"] = Status.AT_BOUNDARY
        out.append({**row, "extra": {"program": program, "version": version}})
    return out


def _columns(design: Design, program: str) -> tuple[dict[str, Any], str]:
    """Columns by name and the formula over them; a column of ones is the intercept of its part, one that X has too goes
    by its name there."""
    columns: dict[str, Any] = {}
    named = {design.X[:, j].tobytes(): f"x{j + 1}" for j in range(design.X.shape[1])}

    def part(stem: str, A: np.ndarray) -> str:
        ones = bool((A[:, 0] == 1).all())
        names = []
        for j in range(int(ones), A.shape[1]):
            names.append(named.get(A[:, j].tobytes(), f"{stem}{j + 1}"))
            columns[names[-1]] = A[:, j]
        return " + ".join(["1" if ones else "0", *names])

    formula = "y ~ " + part("x", design.X)
    for k, term in enumerate(design.terms, 1):
        if term.codes is None:
            refuse(program, f"component `{term.name}` has columns or a relationship matrix; it has grouping factors")
        columns[f"g{k}"] = np.array([f"l{c}" for c in term.codes])  # type: ignore[union-attr]
        inside = part(f"a{k}_", term.A)
        if program == "glmm" and inside.startswith("0"):
            refuse(program, f"component `{term.name}` has a slope without its intercept, which it does not fit")
        if program == "glmm" and "a" in inside:
            refuse(program, f"component `{term.name}` has an effect that is no column of X, which it does not fit")
        formula += f" + ({inside} | g{k})"
    return columns, formula
