"""ℓ over two pinned parameters, by dense formulas and general optimisers."""

from functools import cache

import numpy as np
import oracle
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from scipy.optimize import minimize

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.likelihood_surface import LEVELS, MARGIN, quantile_two, surface


@cache
def three_effects() -> vc.Fit:
    """Ω 3 × 3 over two covariates: pinning two of its effects leaves a row of the factor free."""
    rng = np.random.default_rng(4)
    d = frame("sleepstudy").assign(z=lambda d: rng.normal(size=len(d)))
    d["Reaction"] += d.groupby("Subject").z.transform(lambda z: z * rng.normal(0, 20))
    return vc.fit(vc.Model.from_formula("Reaction ~ Days + z + (Days + z | Subject)", d), criterion="ml")


@cache
def time_series() -> vc.Fit:
    from inference.test_residual_correlation import series

    return vc.fit(series(formula="y ~ x + (1 | unit)"))


def best(model, criterion, theta_of, starts):
    """max ℓ over what is free, by Nelder–Mead on the dense formula."""
    Vs = oracle.derivatives(model.components, model.n_obs)
    found = [
        minimize(lambda z: -oracle.loglik_of(model.y, model.X, Vs, theta_of(z), criterion), start, method="Nelder-Mead",
                 options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}).fun
        for start in starts
    ]  # fmt: skip
    return -min(found)


@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_surface__of_two_parameters_is_the_dense_likelihood(criterion):
    fit = vc.fit(dyestuff(), criterion=criterion)
    found = surface(fit, "Batch", "residual", steps=7)
    Vs = oracle.derivatives(fit.model.components, 30)
    for i, b in enumerate(found.y_values):
        for j, a in enumerate(found.x_values):
            dense = oracle.loglik_of(fit.model.y, fit.model.X, Vs, [a**2, b**2], criterion)
            assert found.loglik[i, j] == pytest.approx(dense, abs=1e-9)
    assert found.top == pytest.approx(fit.loglik, abs=1e-8)
    assert found.others == "none"


@pytest.mark.parametrize("where", [(0, 0), (1, 3), (3, 1), (4, 4)])
def test_surface__of_two_sds_of_one_matrix_has_its_correlation_at_the_maximum(where):
    fit = vc.fit(sleepstudy(), criterion="ml")
    found = surface(fit, "Subject:sd((Intercept))", "Subject:var(Days)", steps=5)
    i, j = where
    a, b = found.x_values[j], found.y_values[i]

    def theta(z):
        return np.array([a**2, np.tanh(z[0]) * a * b, b**2, np.exp(z[1])])

    assert found.loglik[i, j] == pytest.approx(
        best(fit.model, "ml", theta, [(r, 6.5) for r in (-1.0, 0.0, 1.0)]), abs=1e-6
    )
    assert (found.y.name, found.others) == ("Subject:sd(Days)", "profiled")


def test_surface__of_a_correlation_and_an_sd():
    fit = vc.fit(sleepstudy())
    found = surface(fit, "Subject:cor((Intercept),Days)", "residual", x_values=[-0.5, 0.9], y_values=[22.0, 30.0])
    for i, s in enumerate(found.y_values):
        for j, rho in enumerate(found.x_values):

            def theta(z, rho=rho, s=s):
                a, b = np.exp(z)
                return np.array([a**2, rho * a * b, b**2, s**2])

            dense = best(fit.model, "reml", theta, [(3.0, 1.8)])
            assert found.loglik[i, j] == pytest.approx(dense, abs=1e-6)


def test_surface__of_two_effects_of_three_leaves_the_third_free():
    """The order in which two of three effects are pinned does not matter, nor does ℓ fall below any point of the fit's
    own θ with these SDs."""
    fit = three_effects()
    one = surface(fit, "Subject:sd(z)", "Subject:sd(Days)", steps=3)
    other = surface(fit, "Subject:sd(Days)", "Subject:sd(z)", x_values=one.y_values, y_values=one.x_values)
    assert one.loglik == pytest.approx(other.loglik.T, abs=1e-6)
    Vs = oracle.derivatives(fit.model.components, fit.model.n_obs)
    names = list(fit.facts.theta_names)
    size = {n: np.sqrt(fit.theta[f"Subject:var({n})"]) for n in ("(Intercept)", "Days", "z")}
    for i, b in enumerate(one.y_values):
        for j, a in enumerate(one.x_values):
            theta, scale = fit.theta_values.copy(), {"(Intercept)": 1.0, "Days": b / size["Days"], "z": a / size["z"]}
            for k, name in enumerate(names[:-1]):
                p, q = (name[12:-1], name[12:-1]) if ":var(" in name else name[12:-1].split(",")
                theta[k] *= scale[p] * scale[q]
            assert one.loglik[i, j] >= oracle.loglik_of(fit.model.y, fit.model.X, Vs, theta, "ml") - 1e-9


def test_surface__of_a_structures_parameter():
    """ρ and σ of an AR(1) beside a random intercept, whose variance is free: the rows' V by its definition."""
    fit = time_series()
    model = fit.model
    t, units, y, X = model.noise.family.t, model.noise.units, model.y, model.X
    same = units[:, None] == units[None, :]
    found = surface(fit, "residual:rho", "residual", steps=3)
    for i, s in enumerate(found.y_values):
        for j, rho in enumerate(found.x_values):
            R = np.where(same, rho ** np.abs(t[:, None] - t[None, :]), 0.0) if rho else np.eye(len(y))

            def minus(z, R=R, s=s):
                V = np.array([s**2 * R + z[0] ** 2 * same])
                return -oracle.loglik_of(y, X, V, [1.0], "reml")

            dense = -min(minimize(minus, [z], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-11}).fun
                         for z in (0.1, 0.7))  # fmt: skip
            assert found.loglik[i, j] == pytest.approx(dense, abs=1e-6)


def test_surface__reaches_a_little_beyond_the_outermost_region():
    fit = vc.fit(sleepstudy())
    found = surface(fit, "Subject:sd((Intercept))", "Subject:sd(Days)")
    edge = np.concatenate([found.deviance[0], found.deviance[-1], found.deviance[:, 0], found.deviance[:, -1]])
    assert edge.min() == pytest.approx(MARGIN * quantile_two(LEVELS[-1]), rel=0.02)
    assert found.deviance.min() < 0.2


def test_surface__at_the_boundary_begins_at_zero():
    fit = vc.fit(dyestuff2())
    found = surface(fit, "Batch", "residual")
    assert found.x_values[0] == 0.0
    assert found.x.estimate == 0.0
    assert found.deviance[:, 0].min() < 0.01


def test_surface__is_about_the_maximum_where_a_fit_stopped_before():
    stopped = vc.fit(dyestuff(), "em", max_iter=1, start="unit")
    found, whole = (surface(f, "Batch", "residual", steps=5) for f in (stopped, vc.fit(dyestuff())))
    assert found.top == pytest.approx(whole.top, abs=1e-5)
    assert found.x.estimate == pytest.approx(42.0006, abs=1e-2)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("Batch", "Batch", "a surface needs two"),
        ("batch", "residual", "Did you mean `Batch"),
        ("(Intercept)", "residual", "cannot be an axis"),
        ("h = Batch / total", "residual", "cannot be an axis"),
    ],
)
def test_surface__says_what_an_axis_can_be(x, y, message):
    with pytest.raises(MethodError, match=message):
        surface(vc.fit(dyestuff()), x, y)


def test_surface__refuses_correlations_of_different_pairs():
    with pytest.raises(MethodError, match="cannot be pinned together"):
        surface(three_effects(), "Subject:cor((Intercept),Days)", "Subject:cor((Intercept),z)")
