"""The seeds' printed errors and our own, switched in: each must make a check of the kit fail that holds without it."""

from pathlib import Path

import numpy as np
import pytest

import vcbench as vc
from vcbench.errors import DataError
from vcbench.kernels import build
from vcbench.methods import METHODS
from vcbench.model.subset import subset
from vcbench.solvers.elbo import elbo
from vcbench.solvers.solve import solve
from vcbench.status import Status
from vcbench.study.generators import OneWay, VarianceComponents
from vcbench.study.mutants import MUTANTS, switched_in
from vcbench.study.mutants_steps import STEPS, px_step, step_switched_in
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
    """An independent dense M-step takes the same 8 steps as the solver."""
    model = _model(case, 0)
    kernel = build(model, "dense")
    mine = solve(kernel, "px-em", "ml", start="unit", max_iter=8).trace
    p, d = model.n_theta, model.n_fixed
    theta, gamma = mine[0, 1 : 1 + p], mine[0, 1 + p : 1 + p + d]
    for row in mine[1:]:
        theta, gamma = px_step(kernel, theta, gamma)
        np.testing.assert_allclose(theta, row[1 : 1 + p], rtol=1e-9)
        np.testing.assert_allclose(gamma, row[1 + p : 1 + p + d], rtol=1e-8, atol=1e-10)


def _shuffled(replicate: int) -> vc.Model:
    """Rows that are not sorted by group, where M18 shows; a covariate, so that β has more than a mean."""
    model = _model(CASES[0], replicate)
    rng = np.random.default_rng(replicate)
    model = subset(model, rng.permutation(model.n_obs))
    return vc.Model(
        model.y, np.column_stack([np.ones(model.n_obs), rng.standard_normal(model.n_obs)]), model.components
    )


FALLS = [name for name in STEPS if MUTANTS[name].check == "monotonicity" and name != "M18"]  # M18 needs groups


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["", *FALLS])
def test_ascent__finds_every_mutant_that_lets_the_likelihood_fall(mutant: str) -> None:
    """On components whose ZᵀZ is not diagonal, where each of them shows; O10 on two data sets of these three."""
    with step_switched_in(mutant):
        found = [_ascends(_model(CASES[1], replicate)) for replicate in range(3)]
    assert sum(found) == (3 if not mutant else int(mutant == "O10"))


@pytest.mark.parametrize("mutant", ["", "M18"])
def test_agreement__finds_m18_in_rows_that_are_not_sorted_by_group(mutant: str) -> None:
    """β̂ of px-em is that of Newton's method on the same data; M18's is not."""
    for replicate in range(3):
        model = _shuffled(replicate)
        wanted = vc.fit(model, "ai", "ml").beta.to_numpy()
        with switched_in(mutant):
            found = vc.fit(model, "px-em", "ml", max_iter=1000).beta.to_numpy()
        off = np.max(np.abs(found - wanted) / np.abs(wanted))
        assert off < 1e-4 if not mutant else off > 1e-2, off


@pytest.mark.parametrize("mutant", ["M1", "M2", "M4", "M6", "O1"])
def test_ascent__finds_in_one_way_data_what_does_not_need_crossed_effects(mutant: str) -> None:
    with switched_in(mutant):
        found = [_ascends(_model(CASES[0], replicate)) for replicate in range(5)]
    assert not all(found), found


@pytest.mark.parametrize("mutant", ["", *STEPS])
def test_one_step_map__finds_every_mutant_of_the_step(mutant: str) -> None:
    """From one and the same point, the kit's own next iterate differs from the mutant's by far more than rounding."""
    model = _shuffled(0) if mutant == "M18" else _model(CASES[1], 0)
    trace = solve(build(model, "dense"), "px-em", "ml", start="unit", max_iter=3).trace
    p, d = model.n_theta, model.n_fixed
    at, then = trace[1, 1 : 1 + p + d], trace[2, 1 : 1 + p + d]
    with np.errstate(all="ignore"):
        step = np.concatenate(px_step(build(model, "dense"), at[:p], at[p:], mutant))
    off = np.max(np.abs(step - then) / (1e-3 + np.abs(then)))
    assert off < 1e-9 if not mutant else off > 1e-3, off


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["", *(name for name in STEPS if MUTANTS[name].check == "one-step map")])
def test_ascent_and_optimum__do_not_find_what_only_the_map_shows(mutant: str) -> None:
    """Why the one-step map is checked at all: these rise to the same maximum, another way."""
    for replicate in range(2):
        model = _model(CASES[0], replicate)
        kernel = build(model, "dense")
        best = solve(kernel, "ai", "ml").trace[-1, 0]
        with switched_in(mutant):
            assert _ascends(model)
            assert solve(kernel, "px-em", "ml", max_iter=300).trace[-1, 0] == pytest.approx(best, abs=1e-4)


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


@pytest.mark.slow
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
