"""The delta method: Var f(θ̂) = ∇fᵀ Cov(θ̂) ∇f, with the gradient exact to rounding."""

import numpy as np
import pytest

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.derive import derive

NAMES = {"u": np.array([1.0, 0.0]), "e": np.array([0.0, 1.0]), "total": np.ones(2), "g:var(x)": np.array([1.0, 0.0])}
THETA = np.array([0.4, 1.6])
COV = np.array([[0.05, -0.02], [-0.02, 0.04]])

# MATH §6: the covariances that seed 002 prints, and the variances of h² (which it calls standard errors)
PUBLISHED = [
    (0.2264, 0.7640, 0.00266937, -0.00248562, 0.00268829, 0.00266, 0.0515),
    (0.3040, 0.6898, 0.00280057, -0.00255191, 0.00269500, 0.00272, 0.0521),
    (0.2929, 0.6916, 0.00273743, -0.00250017, 0.00264705, 0.00271, 0.0521),
    (0.1655, 0.8325, 0.00259856, -0.00246401, 0.00272019, 0.00257, 0.0507),
]


@pytest.mark.parametrize(("u", "e", "uu", "ue", "ee", "variance", "se"), PUBLISHED)
def test_derive__heritabilities_of_the_paper(u, e, uu, ue, ee, variance, se):
    cov = np.array([[uu, ue], [ue, ee]])
    name, h2, got = derive("h2 = u / total", np.array([u, e]), cov, NAMES)
    assert name == "h2"
    assert h2 == u / (u + e)
    assert got**2 == pytest.approx(variance, abs=0.5e-5)
    assert got == pytest.approx(se, abs=0.5e-4)
    g = np.array([e, -u]) / (u + e) ** 2
    assert got == pytest.approx(np.sqrt(g @ cov @ g), rel=1e-13)


@pytest.mark.parametrize(
    ("expression", "value", "gradient"),
    [
        ("u", 0.4, [1, 0]),
        ("`g:var(x)`", 0.4, [1, 0]),
        ("total", 2.0, [1, 1]),
        ("u - e", -1.2, [1, -1]),
        ("-u", -0.4, [-1, 0]),
        ("+u", 0.4, [1, 0]),
        ("2 * u + 1", 1.8, [2, 0]),
        ("u / e", 0.25, [1 / 1.6, -0.4 / 1.6**2]),
        ("u ** 2", 0.16, [0.8, 0]),
        ("2 ** u", 2**0.4, [2**0.4 * np.log(2), 0]),
        ("u ** e", 0.4**1.6, [1.6 * 0.4**0.6, 0.4**1.6 * np.log(0.4)]),
        ("sqrt(u)", np.sqrt(0.4), [0.5 / np.sqrt(0.4), 0]),
        ("log(e)", np.log(1.6), [0, 1 / 1.6]),
        ("exp(u)", np.exp(0.4), [np.exp(0.4), 0]),
        ("tanh(u)", np.tanh(0.4), [1 - np.tanh(0.4) ** 2, 0]),
        ("arctanh(u)", np.arctanh(0.4), [1 / (1 - 0.16), 0]),
        ("100 * sqrt(u / (u + e))", 100 * np.sqrt(0.2), [50 / np.sqrt(0.2) * 1.6 / 4, -50 / np.sqrt(0.2) * 0.4 / 4]),
    ],
)
def test_derive__knows_arithmetic_and_its_gradients(expression, value, gradient):
    name, got, se = derive(expression, THETA, COV, NAMES)
    assert name == expression
    assert got == pytest.approx(value, rel=1e-14)
    gradient = np.array(gradient)
    assert se == pytest.approx(np.sqrt(gradient @ COV @ gradient), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6, 1e150])
def test_derive__is_exact_at_any_scale(scale):
    _, h2, se = derive("u / (u + e)", THETA * scale, COV, NAMES)
    want = np.sqrt(np.array([1.6, -0.4]) / 4 @ COV @ np.array([1.6, -0.4]) / 4) / scale
    assert (h2, se) == pytest.approx((0.2, want), rel=1e-12)


def test_derive__labels_by_what_stands_before_the_equals_sign():
    assert derive("share of u = u / total", THETA, COV, NAMES)[0] == "share of u"


def test_derive__a_parameter_on_the_boundary_has_no_standard_error():
    cov = np.array([[np.nan, np.nan], [np.nan, 0.04]])
    theta = np.array([0.0, 1.6])
    assert derive("e", theta, cov, NAMES)[1:] == pytest.approx((1.6, 0.2))
    value, se = derive("u / total", theta, cov, NAMES)[1:]
    assert value == 0
    assert np.isnan(se)


@pytest.mark.parametrize("expression", ["sqrt(u)", "log(u)", "u ** 0.5", "(-2) ** 0.5 * e", "arctanh(3 * e)"])
def test_derive__what_does_not_exist_is_not_a_number(expression):
    """A raw moment estimate may be negative: its square root is no SD of 0."""
    _, value, se = derive(expression, np.array([-0.4, 1.6]), COV, NAMES)
    assert np.isnan(value)
    assert np.isnan(se)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("h2 = v / total", r"unknown name `v` in `v / total`\. .*Known: u, e, total"),
        ("h2 = totl", r"Did you mean `total`\?"),
        ("u +", "cannot read `u \\+`"),
        ("", "cannot read ``"),
        ("u // e", "`u // e` in `u // e` is not understood"),
        (
            "sin(u)",
            r"`sin\(u\)` in `sin\(u\)` is not understood\. Use \+ - \* / \*\* and sqrt, log, exp, tanh, arctanh",
        ),
        ("u.real", "is not understood"),
        ("[u]", "is not understood"),
        ("'text'", "is not understood"),
        ("True", "is not understood"),
        ("u if e else 1", "is not understood"),
        ("sqrt(u, e)", "is not understood"),
        ("u == e", "`u =`.* is no name"),
        ("u <= e", "`u <`.* is no name"),
    ],
)
def test_derive__refuses_what_it_does_not_know(expression, message):
    with pytest.raises(MethodError, match=message):
        derive(expression, THETA, COV, NAMES)


def test_fit_derive__of_variances_needs_no_fixed_effects():
    """Raw moments with V not positive definite have no β̂; h² is defined all the same. Oracle: u/(u + e), gᵀ Cov g."""
    rng = np.random.default_rng(4)
    Z = rng.standard_normal((30, 60)) / np.sqrt(60)
    y = Z @ rng.standard_normal(60) * 3.0 + 0.1 * rng.standard_normal(30)
    model = vc.Model(y, None, [vc.Component(Z, name="a")])
    fit = next(
        f for f in (vc.fit(model.replace(y=y + k * Z[:, k]), "moments") for k in range(60)) if f.theta.iloc[-1] < 0
    )
    assert np.isnan(fit.beta).all()
    u, e = fit.theta
    g = np.array([e, -u]) / (u + e) ** 2
    found = fit.derive("h2 = a / total")
    assert found["estimate"] == pytest.approx(u / (u + e), rel=1e-14)
    assert found["se"] == pytest.approx(np.sqrt(g @ fit.theta_cov() @ g), rel=1e-12)
    assert np.isnan(fit.derive("`(Intercept)` / total")["estimate"])
