"""The seeds' printed errors, switched in: each must make a check of the kit fail that holds without it."""

from pathlib import Path

import numpy as np
import pytest

import vcbench as vc
from vcbench.errors import DataError
from vcbench.kernels import build
from vcbench.methods import METHODS
from vcbench.solvers.elbo import elbo
from vcbench.solvers.solve import solve
from vcbench.status import Status
from vcbench.study.generators import OneWay, VarianceComponents
from vcbench.study.mutants import MUTANTS, px_step, switched_in
from vcbench.study.seeds import DESIGN, generator
from vcbench.study.study import Study

CASES = (OneWay(n_groups=6, group_size=4, balance=0.5, icc=0.4), VarianceComponents(n=40, q=[12, 30], share=0.6))


def _model(case: OneWay | VarianceComponents, replicate: int) -> vc.Model:
    simulator = case.build(generator(1, (0, 0), DESIGN))
    return simulator.model.replace(y=simulator.draw([generator(1, (0, 0), replicate)])[:, 0])


def _ascends(model: vc.Model) -> bool:
    """The check of MATH §3: ℓ never falls by more than 1e-9 (1 + |ℓ|), and the method says so itself."""
    s = solve(build(model, "dense"), "px-em", "ml", start="unit", max_iter=60)
    loglik = s.trace[:, 0]
    rises = bool((np.diff(loglik) >= -1e-9 * (1 + np.abs(loglik[1:]))).all())
    return rises and s.status in (Status.CONVERGED, Status.AT_BOUNDARY, Status.MAX_ITER)


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_px_step__without_a_mutant_is_the_kits_own(case) -> None:
    """An independent dense M-step takes the same 20 steps as the solver."""
    model = _model(case, 0)
    kernel = build(model, "dense")
    mine = solve(kernel, "px-em", "ml", start="unit", max_iter=20).trace
    p, d = model.n_theta, model.n_fixed
    theta, gamma = mine[0, 1 : 1 + p], mine[0, 1 + p : 1 + p + d]
    for row in mine[1:]:
        theta, gamma = px_step(kernel, theta, gamma)
        np.testing.assert_allclose(theta, row[1 : 1 + p], rtol=1e-9)
        np.testing.assert_allclose(gamma, row[1 + p : 1 + p + d], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize(("mutant", "holds"), [("", True), ("M1", False), ("M2", False)])
def test_ascent__finds_m1_and_m2(case, mutant: str, holds: bool) -> None:
    with switched_in(mutant):
        found = [_ascends(_model(case, replicate)) for replicate in range(5)]
    assert all(found) == holds, found


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_elbo__finds_m8_by_exactly_half_the_number_of_effects(case) -> None:
    simulator = case.build(generator(1, (0, 0), DESIGN))
    kernel = build(_model(case, 0), "dense")
    loglik = kernel.evaluate(simulator.theta, ("loglik",), "ml", beta=simulator.beta).loglik
    assert elbo(kernel, simulator.theta, simulator.beta) == pytest.approx(loglik, abs=1e-8)
    with switched_in("M8"):
        wrong = elbo(kernel, simulator.theta, simulator.beta)
    effects = sum(component.n_levels for component in kernel.model.components)
    assert loglik - wrong == pytest.approx(effects / 2, abs=1e-8)
    assert elbo(kernel, simulator.theta, simulator.beta) == pytest.approx(loglik, abs=1e-8)


STUDY = """
title = "Mutants"
question = "Does the study find them?"
seed = 3
replicates = 30
block_size = 30
criterion = "ml"
reference = "ai"
methods = [{ name = "ai", kernel = "dense" }, { name = "px-em", kernel = "dense", max_iter = 500 }]

[[data]]
generator = "one_way"
n_groups = 8
group_size = 4
balance = 0.5
icc = 0.7

[[acceptance]]
measure = "failure_rate"
method = "px-em"
tolerance = 0.25

[[acceptance]]
measure = "share_equal"
method = "px-em"
tolerance = 0.3
"""


@pytest.mark.parametrize(("mutant", "verdicts"), [("", {"PASS"}), ("M1", {"FAIL"}), ("M2", {"FAIL"})])
def test_study__its_acceptance_finds_m1_and_m2(tmp_path: Path, mutant: str, verdicts: set[str]) -> None:
    """30 replicates: px-em must answer, and answer as ai does. A mutant's descent is a failure, and is counted."""
    study = Study.from_text(STUDY, "mutants")
    with switched_in(mutant):
        run = study.run(tmp_path / "run", workers=1, progress="none", report=False)
    found = [v for v in study.check(run) if v.measure == "failure_rate"]
    assert {v.verdict for v in found} == verdicts
    if not mutant:
        assert {v.verdict for v in study.check(run)} == {"PASS"}


def test_mutants__are_no_methods() -> None:
    assert not set(MUTANTS) & set(METHODS)
    with pytest.raises(DataError, match="unknown mutant `M99`"), switched_in("M99"):
        pass
