"""Families of covariance matrices: ranges hold for every φ, identities between families hold, wrong use is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vcbench as vc
from vcbench.errors import VcbenchError
from vcbench.model.jets import variables
from vcbench.model.residual_text import parse_residual

RES = vc.residual


def long(n_units: int = 4, m: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    d = pd.DataFrame([(f"u{i}", t) for i in range(n_units) for t in range(m)], columns=["u", "t"])
    d["day"] = d.t.map(dict(enumerate(np.cumsum(rng.uniform(0.2, 2.0, m)))))
    d["v"], d["y"] = [f"v{t}" for t in d.t], rng.normal(size=len(d))
    d["f"] = np.where(d.t % 2, "a", "b")
    return d


FAMILIES = (
    "cs(group=u)", "csh(v, group=u)", "un(v, group=u)",
    "un_cor(v, group=u)", "toeplitz(t, group=u)", "toeplitz_h(v, group=u)",
    "ar1(t, group=u)",
    "ar1(day, group=u)", "ar1h(v, group=u)", "arma11(t, group=u)", "ma(1, t, group=u)", "ma(2, t, group=u)",
    "ma(4, t, group=u)", "ante1(v, group=u)", "exponential(day, group=u)", "gaussian(day, group=u)", "by(f)",
    "by(f, ar1(t, group=u))",
)  # fmt: skip


def unit_matrix(model: vc.Model, theta: np.ndarray) -> np.ndarray:
    """R of the first unit at natural θ."""
    work, family = model.working, model.noise.family
    w = work.w(theta)
    table = family.table(variables(w[work.residual_phi]), family.n_phi).v
    rows = np.flatnonzero(np.arange(model.n_obs) < 6)
    return w[-1] * table[family.index(rows)]


@pytest.mark.parametrize("text", FAMILIES)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.3, 1.5, 4.0]))
def test_every_phi__is_a_covariance_and_comes_back_from_its_natural_parameters(text, seed, size):
    """MATH §9: the parameterisation keeps each family within its admissible range, whatever φ is."""
    model = vc.Model.from_formula("y ~ 1", long(), residual=text)
    work, family = model.working, model.noise.family
    phi = np.clip(np.random.default_rng(seed).normal(0.0, size, family.n_phi), -6.0, 6.0)
    w = np.append(phi, 1.7)
    theta = work.theta(w)
    R = unit_matrix(model, theta)
    np.testing.assert_allclose(R, R.T, rtol=1e-12)
    assert np.linalg.eigvalsh(R)[0] >= -1e-9 * np.abs(R).max()
    for name, value in zip(model.theta_names, theta, strict=True):
        if ":var(" in name or name.endswith(":var") or name.endswith("range"):
            assert value > 0
        elif ":rho" in name:
            assert -1 <= value <= 1
    again = work.theta(work.w(theta))  # never refused, however near to singular
    if np.linalg.cond(R) < 1e8:
        np.testing.assert_allclose(again, theta, rtol=1e-5, atol=1e-7)


def corr(rho):
    full = np.concatenate([[1.0], rho])
    return full[np.abs(np.subtract.outer(range(len(full)), range(len(full))))]


def R_of(text: str, natural) -> np.ndarray:
    return unit_matrix(vc.Model.from_formula("y ~ 1", long(), residual=text), np.array(natural, float))


@pytest.mark.parametrize("rho", [0.6, -0.35])
def test_identities__between_families(rho):
    powers = rho ** np.arange(1, 6)
    ar1 = 2.0 * corr(powers)
    np.testing.assert_allclose(R_of("ar1(t, group=u)", [2.0, rho]), ar1, rtol=1e-12)
    np.testing.assert_allclose(R_of("arma11(t, group=u)", [2.0, rho, rho]), ar1, rtol=1e-10)
    np.testing.assert_allclose(R_of("toeplitz(t, group=u)", [2.0, *powers]), ar1, rtol=1e-9)
    np.testing.assert_allclose(R_of("ante1(v, group=u)", [2.0] * 6 + [rho] * 5), ar1, rtol=1e-10)
    np.testing.assert_allclose(R_of("ar1h(v, group=u)", [2.0] * 6 + [rho]), ar1, rtol=1e-10)
    np.testing.assert_allclose(R_of("by(f, ar1(t, group=u))", [2.0, 2.0, rho]), ar1, rtol=1e-10)
    tri = [ar1[i, j] for j in range(6) for i in range(j, 6)]
    np.testing.assert_allclose(R_of("un(v, group=u)", tri), ar1, rtol=1e-9)


def test_identities__partial_autocorrelations_of_ar1_are_rho_and_zeros():
    model = vc.Model.from_formula("y ~ 1", long(), residual="toeplitz(t, group=u)")
    phi = model.working.w(np.array([1.0, *0.6 ** np.arange(1, 6)]))[:-1]
    np.testing.assert_allclose(np.tanh(phi), [0.6, 0, 0, 0, 0], atol=1e-12)


def test_identities__ar1_with_nugget_is_arma11():
    """γ/ρ = 1 − the nugget's share of the variance."""
    d = long(12)
    from vcbench.kernels import build

    with_nugget = vc.Model.from_formula("y ~ 1", d, residual="ar1(t, group=u) + nugget")
    arma = vc.Model.from_formula("y ~ 1", d, residual="arma11(t, group=u)")
    for criterion in ("ml", "reml"):
        a = build(with_nugget).evaluate(np.array([1.5, 0.7, 0.5]), criterion=criterion).loglik
        b = build(arma).evaluate(np.array([2.0, 0.7, 0.7 * 0.75]), criterion=criterion).loglik
        assert a == pytest.approx(b, abs=1e-10)


def test_moving_average__is_what_its_polynomial_says():
    """ρ_k = Σθ_jθ_{j+k}/Σθ_j² for θ(B) = 1 + 0.5B − 0.3B², and |ρ_1| ≤ ½ for MA(1)."""
    theta = np.array([1.0, 0.5, -0.3])
    rho = [theta[:-k] @ theta[k:] / (theta @ theta) for k in (1, 2)]
    np.testing.assert_allclose(R_of("ma(2, t, group=u)", [2.0, *rho]), 2.0 * corr([*rho, 0, 0, 0]), rtol=1e-10)
    with pytest.raises(VcbenchError, match=r"no autocorrelation of an MA\(1\)"):
        R_of("ma(1, t, group=u)", [1.0, 0.55])


WRONG = {
    "same label twice": ("ar1(f, group=u)", "rows 1 and 3 belong to one unit and have the same label"),
    "no such column": ("ar1(tt, group=u)", "column `tt` is not in the data.*did you mean `t`"),
    "unknown kind": ("ar2(t, group=u)", "unknown structure `ar2`.*did you mean `ar1`"),
    "units of one row": ("cs(group=row)", "every unit has one row"),
    "no units": ("cs(v)", "cannot be told from the mean. Name the units by `group=`"),
    "lags need whole gaps": ("toeplitz(day, group=u)", "`day` is not equally spaced"),
    "order too high": ("ma(9, t, group=u)", "order 9 asks for more lags"),
    "order missing": ("ma(t, group=u)", "wrong arguments|takes a whole order"),
    "factor within units": ("by(f, ar1(t, group=u), separate=True)", "`f` varies within a unit"),
    "nugget alone": ("nugget", "stands beside a structure"),
    "nugget multiplied": ("(ar1(t) + nugget) * ar1(u)", "added to a product, not multiplied"),
    "not a structure": ("3 + t", "is no residual structure"),
    "cannot be read": ("ar1(t", "cannot be read"),
    "weights": ("weights(t)", "every weight must be positive"),
    "text for a number": ("exponential(v, group=u)", "column `v` has levels"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use__is_named(case):
    text, message = WRONG[case]
    d = long()
    d["row"] = [f"r{i}" for i in range(len(d))]
    with pytest.raises(VcbenchError, match="(?is)" + message):
        vc.Model.from_formula("y ~ 1", d, residual=text)


def test_values_outside_their_range__are_named():
    model = vc.Model.from_formula("y ~ 1", long(), residual="cs(group=u)")
    with pytest.raises(VcbenchError, match=r"`rho` is -0.3; it must lie within \(-0.2, 1\)"):
        model.working.w(np.array([1.0, -0.3]))
    with pytest.raises(VcbenchError, match="start"):
        vc.fit(model, start={"residual:rh": 0.1})


def test_text_and_python__say_the_same():
    assert str(RES.ar1("row") * RES.ar1("col") + RES.nugget()) == str(parse_residual("ar1(row) * ar1(col) + nugget()"))
    assert str(RES.by("sex", RES.ar1("t", group="u"))) == str(parse_residual("by(sex, ar1(t, group=u))"))
    d = long()
    a = vc.Model.from_formula("y ~ 1", d, residual=RES.ar1("t", group="u"))
    b = vc.Model(d.y.to_numpy(), residual=RES.ar1(d.t.to_numpy(), group=d.u.to_numpy()))
    assert a.theta_names == b.theta_names == ("residual:var", "residual:rho")
    assert vc.fit(a).loglik == pytest.approx(vc.fit(b).loglik, abs=1e-10)
    with pytest.raises(VcbenchError, match="names the column `t`, but the model is given by arrays"):
        vc.Model(d.y.to_numpy(), residual=RES.ar1("t", group="u"))


def test_numbers__count_in_their_common_gap():
    """Ages 8, 10, 12, 14 and half-days are as regular as 1, 2, 3, 4: one ρ a step, of either sign."""
    d = long()
    d["age"], d["half"] = 8 + 2 * d.t, 0.5 * d.t + 0.25 * (d.u == "u1")
    theta = np.array([1.5, -0.4])
    from vcbench.kernels import build

    plain = build(vc.Model.from_formula("y ~ 1", d, residual="ar1(t, group=u)")).evaluate(theta).loglik
    for column in ("age", "half", "factor(age)", "v"):
        same = vc.Model.from_formula("y ~ 1", d, residual=f"ar1({column}, group=u)")
        assert build(same).evaluate(theta).loglik == pytest.approx(plain, abs=1e-12)
    assert vc.Model.from_formula("y ~ 1", d, residual="toeplitz(half, group=u)").n_theta == 6


def test_rows__in_any_order_give_the_same_fit():
    d = long(8)
    shuffled = d.sample(frac=1.0, random_state=3)
    for text in ("ar1(t, group=u)", "ar1(t) * ar1(u)", "ante1(v, group=u)"):
        a, b = (vc.Model.from_formula("y ~ t", x, residual=text) for x in (d, shuffled))
        theta = vc.fit(a).theta_values
        from vcbench.kernels import build

        assert build(a).evaluate(theta).loglik == pytest.approx(build(b).evaluate(theta).loglik, abs=1e-9)
