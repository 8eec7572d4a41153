"""Scores and informations are derivatives of ℓ; the REML likelihood is the ML one with β integrated out."""

import numpy as np
import pytest
from hypothesis import given, settings
from oracle import central_difference
from strategies import COLUMNS, KINDS, problems

from vcbench import kernels

EVERY = KINDS + COLUMNS
MANY = settings(max_examples=2 * settings.default.max_examples)  # an example costs milliseconds
# Richardson's difference errs by O(h⁴) of the step in relative units, 1e-3⁴, and by rounding, 1e-14·|ℓ|/1e-3; both are
# below 1e-8 in units of the information for |ℓ| < 1000.
REL = 1e-7


def steps(p):
    """One thousandth of each parameter's natural size, √(Ω_aa Ω_bb) or σ²; less where Ω is nearly singular."""
    out = []
    for c, Omega in zip(p.model.components, p.model.Omegas(p.theta), strict=True):
        size = np.sqrt(np.outer(np.diag(Omega), np.diag(Omega)))
        room = max(np.linalg.eigvalsh(Omega / size)[0], 0.03)
        out += [1e-3 * room * size[a, b] for a, b in c.index]
    return np.array([*out, 1e-3 * p.theta[-1]])


def both_criteria(p):
    return (("ml", None), ("reml", None), ("ml", p.beta))


@MANY
@given(problems(EVERY))
def test_score__is_the_central_difference_of_the_log_likelihood(p):
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for criterion, beta in both_criteria(p):
            at = k.evaluate(p.theta, ("score", "expected"), criterion, beta=beta)
            ell = lambda t: k.evaluate(t, ("loglik",), criterion, beta=beta).loglik  # noqa: E731, B023
            size = np.abs(at.score) + np.sqrt(np.diag(at.expected)) + 1e-8 * abs(at.loglik) / steps(p)
            assert (np.abs(central_difference(ell, p.theta, steps(p)) - at.score) <= REL * size).all()


@MANY
@given(problems(EVERY))
def test_observed_information__is_minus_the_central_difference_of_the_score(p):
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for criterion, beta in both_criteria(p):
            at = k.evaluate(p.theta, ("observed", "expected", "average"), criterion, beta=beta)
            score = lambda t: k.evaluate(t, ("score",), criterion, beta=beta).score  # noqa: E731, B023
            unit = np.sqrt(np.diag(at.expected) + np.diag(at.average))
            difference = -central_difference(score, p.theta, steps(p))
            assert (np.abs(difference - at.observed) <= REL * np.outer(unit, unit)).all()


@MANY
@given(problems(EVERY))
def test_score_of_beta__is_the_central_difference_of_the_log_likelihood(p):
    for name in p.kernels:
        k = kernels.build(p.model, name)
        at = k.evaluate(p.theta, ("score",), "ml", beta=p.beta)
        gamma = k.basis.gamma(p.beta, k.beta0)
        ell = lambda g: k.evaluate(p.theta, ("loglik",), "ml", gamma=g).loglik  # noqa: E731, B023
        unit = np.sqrt(np.diag(at.QtVinvQ))
        difference = central_difference(ell, gamma, 1e-2 / unit)  # ℓ is quadratic in γ: any step
        assert (
            np.abs(difference - at.score_gamma) <= REL * (unit + np.abs(at.score_gamma) + unit * abs(at.loglik))
        ).all()


@MANY
@given(problems(EVERY).filter(lambda p: p.model.n_fixed == 1))
def test_reml__is_ml_with_beta_integrated_out(p):
    """ℓ_REML(θ) = log ∫ exp ℓ_ML(β, θ) dβ: the trapezium rule over ±9 SD, exact to rounding for a Gaussian."""
    for name in p.kernels:
        k = kernels.build(p.model, name)
        reml = k.evaluate(p.theta, ("loglik",), "reml")
        se = 1.0 / (np.sqrt(reml.QtVinvQ[0, 0]) * abs(k.basis.T[0, 0]))
        grid = reml.beta[0] + se * np.linspace(-9, 9, 61)
        ells = np.array([k.evaluate(p.theta, ("loglik",), "ml", beta=np.array([b])).loglik for b in grid])
        top = ells.max()
        integral = np.exp(ells - top).sum() * (grid[1] - grid[0])
        assert reml.loglik == pytest.approx(top + np.log(integral), rel=1e-10, abs=1e-10)
