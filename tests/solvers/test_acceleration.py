"""SQUAREM and DAAREM: their steps on linear maps, where the answer is known; their bases."""

import numpy as np
import pytest
from strategies import draw_problem

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.kernels import build
from vcbench.solvers.acceleration import ORDER, daarem_step, memory_for, squarem_step
from vcbench.solvers.registry import BASES, SOLVERS
from vcbench.solvers.run import CHECK_EVERY
from vcbench.solvers.solve import solve
from vcbench.status import Status


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.999])
def test_squarem_step__lands_on_the_fixed_point_of_a_map_with_one_rate(rate):
    rng = np.random.default_rng(1)
    target, z = rng.normal(size=(2, 4))
    history, tuning = memory_for(4)
    tuning[2] = 1e6
    for k in range(2):
        history[k] = z, target + rate * (z - target)
        z = history[k, 1]
    wanted, leap = squarem_step(history, tuning)
    assert wanted
    assert leap == pytest.approx(target, abs=1e-8)


def test_squarem_step__is_no_longer_than_the_longest_that_has_proved_itself():
    history, tuning = memory_for(1)
    history[0, :, 0], history[1, :, 0] = [1.0, 0.99], [0.99, 0.9801]
    wanted, leap = squarem_step(history, tuning)  # wants 100, may take 1: M(M(z))
    assert not wanted
    assert leap == pytest.approx(history[1, 1])
    assert tuning[2] == 4.0
    assert squarem_step(history, tuning)[1] == pytest.approx(1 - 8 * 0.01 + 16 * 0.0001)


def test_daarem_step__without_damping_solves_a_linear_map_of_as_many_rates_as_differences():
    rng = np.random.default_rng(2)
    size, rates = 4, np.array([0.99, 0.9])
    basis = np.linalg.qr(rng.normal(size=(size, 2)))[0]
    target = rng.normal(size=size)
    z = target + basis @ [3.0, -2.0]
    history, tuning = memory_for(size)
    for k in range(3):
        mapped = target + basis @ (rates * (basis.T @ (z - target)))
        history[k] = z, mapped
        z = mapped
    tuning[:2] = 3.0, 300.0  # a long row of successes: no damping
    assert daarem_step(history, tuning) == pytest.approx(target, abs=1e-6)
    tuning[1] = -300.0  # a long row of failures: nothing but M(z)
    assert daarem_step(history, tuning) == pytest.approx(mapped, abs=1e-6)


def test_daarem_step__stays_where_nothing_moves():
    history, tuning = memory_for(3)
    tuning[0] = 2.0
    assert daarem_step(history, tuning) == pytest.approx(np.zeros(3))
    assert memory_for(100)[0].shape[0] == ORDER + 1


@pytest.mark.parametrize("method", ["squarem", "daarem"])
@pytest.mark.parametrize("base", BASES)
def test_every_base__ends_where_newton_ends(method, base):
    model = draw_problem("slope-un", 8, 5, 1, seed=5).model
    kernel = build(model)
    for criterion in SOLVERS[base].code:
        peak = solve(kernel, "newton", criterion)
        plain = solve(kernel, base, criterion, max_iter=20_000)
        s = solve(kernel, method, criterion, base=base)
        assert s.status.ok
        assert s.loglik == pytest.approx(peak.loglik, abs=1e-8)
        assert s.n_eval <= plain.n_eval


@pytest.mark.parametrize(
    ("method", "criterion", "base", "said"),
    [
        ("squarem", "ml", "px-me", "base `px-me` is no EM map.*did you mean `px-em`"),
        ("daarem", "reml", "newton", "base `newton` is no EM map"),
        ("squarem", "reml", "em-simplified", "`squarem` over `em-simplified` exists under ml only"),
        ("em", "ml", "px-em", "method `em` has no option `base`"),
    ],
)
def test_a_base_that_does_not_exist__is_refused(method, criterion, base, said):
    model = draw_problem("one-way", seed=1).model
    with pytest.raises(MethodError, match="(?i)" + said):
        vc.fit(model, method, criterion, base=base)
    with pytest.raises(MethodError, match="(?i)" + said):
        vc.fit_many(model, model.y[:, None], method, criterion, base=base)


@pytest.mark.parametrize("method", ["squarem", "daarem"])
def test_many_responses__are_fitted_as_one_by_one(method):
    problem = draw_problem("slope-un", 8, 5, 1, seed=5)
    Y = problem.draw_y(np.random.default_rng(3), 4)
    many = vc.fit_many(problem.model, Y, method, "ml", base="px-em")
    for j in range(4):
        one = vc.fit(problem.model.replace(y=Y[:, j]), method, "ml", base="px-em")
        assert one.status is Status(many[j].status)
        # the stop rule is looked at every tenth iteration, and rounding, extrapolated, can tip it once
        assert abs(many[j].n_iter - one.n_iter) <= CHECK_EVERY
        # both end within 1e-6 SE of the maximum; an extrapolation multiplies rounding by its length
        assert many[j].theta.to_numpy() == pytest.approx(one.theta.to_numpy(), rel=1e-6)
