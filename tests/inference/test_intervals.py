"""Intervals by one door: Wald on three scales, what stands on the boundary, functions of θ, what is refused."""

import math

import numpy as np
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.intervals import wald_limits

Z = 1.959963984540054
BATCH = "Batch:var((Intercept))"


def moved(value, se, f, inverse, slope):
    """The interval that is symmetric in f(value): the delta method's SE of f is |f′|·se."""
    return [inverse(f(value) + sign * Z * slope(value) * se) for sign in (-1, 1)]


SCALES = {
    "var": (lambda v: v, lambda x: x, lambda v: 1.0),
    "sd": (math.sqrt, lambda x: max(x, 0.0) ** 2, lambda v: 0.5 / math.sqrt(v)),
    "log": (math.log, math.exp, lambda v: 1.0 / v),
}


class TestWald:
    @pytest.mark.parametrize("on", SCALES)
    def test_wald__is_symmetric_on_the_scale_asked_for(self, on):
        fit = vc.fit(sleepstudy())
        table = fit.confint("wald", symmetric_on=on)
        for name in ("Subject:var((Intercept))", "Subject:var(Days)", "residual:var"):
            want = moved(fit.theta[name], fit.theta_se[name], *SCALES[on])
            assert table.loc[name].tolist() == pytest.approx(want, rel=1e-12)
        covariance = "Subject:cov((Intercept),Days)"
        want = [fit.theta[covariance] + s * Z * fit.theta_se[covariance] for s in (-1, 1)]
        assert table.loc[covariance].tolist() == pytest.approx(want)

    @pytest.mark.parametrize("on", SCALES)
    def test_wald__of_an_sd_is_the_root_of_that_of_the_variance(self, on):
        fit = vc.fit(sleepstudy())
        var = fit.confint("wald", symmetric_on=on).loc["residual:var"]
        sd = fit.confint("wald", scale="sd", symmetric_on=on).loc["residual:sd"]
        assert sd.tolist() == pytest.approx(np.sqrt(var.tolist()), rel=1e-12)

    def test_wald__of_a_correlation_stays_below_1_on_the_scale_of_atanh(self):
        fit = vc.fit(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", frame("sleepstudy").iloc[:50]))
        name = "Subject:cor((Intercept),Days)"
        rho, se = fit.varcomp("cor").iloc[0][["estimate", "se"]]
        plain = fit.confint("wald", scale="sd", parameters=name).loc[name]
        bent = fit.confint("wald", scale="sd", parameters=name, symmetric_on="log").loc[name]
        assert plain.tolist() == pytest.approx([rho - Z * se, rho + Z * se])
        half = Z * se / (1 - rho**2)
        assert bent.tolist() == pytest.approx([math.tanh(math.atanh(rho) + s * half) for s in (-1, 1)])
        assert plain.abs().max() > 1 > bent.abs().max()

    def test_wald__level_and_information_are_those_asked_for(self):
        fit = vc.fit(sleepstudy())
        for cov_type in ("observed", "expected", "average"):
            se = np.sqrt(np.diag(fit.theta_cov(cov_type)))
            got = fit.confint("wald", 0.5, cov_type=cov_type).iloc[: len(se)]
            assert (got["upper"] - got["lower"]).tolist() == pytest.approx(2 * 0.6744897501960817 * se)

    def test_wald__without_an_estimate_is_nothing(self):
        assert all(map(math.isnan, wald_limits("variance", 0.0, math.nan, Z, "log")))
        assert all(map(math.isnan, wald_limits("variance", -1.0, 0.5, Z, "log")))


class TestBoundary:
    def test_varcomp__gives_the_profile_limits_there_and_says_so(self):
        """6.32: the root of the REML deviance of Dyestuff2 (UX.md's mock-up)."""
        table = vc.fit(dyestuff2()).varcomp()
        assert table.loc[0, "lower"] == 0.0
        assert f"{table.loc[0, 'upper']:.2f}" == "6.32"
        assert math.isnan(table.loc[0, "se"])
        assert list(table.attrs["notes"]) == [BATCH]
        assert "no Wald interval" in table.attrs["notes"][BATCH]

    def test_varcomp__of_wald_alone_has_none_there(self):
        table = vc.fit(dyestuff2()).varcomp(interval="wald")
        assert table.loc[0, ["lower", "upper"]].isna().all()
        assert 'interval="profile"' in table.attrs["notes"][BATCH]

    def test_varcomp__a_singular_matrix_has_profile_limits_for_all_its_parameters(self):
        fit = vc.fit(vc.Model.from_formula("yield ~ nitro + (nitro | Block)", frame("oats")), criterion="ml")
        assert str(fit.status) == "AT_BOUNDARY"
        notes = fit.varcomp().attrs["notes"]
        assert set(notes) == {n for n in fit.theta.index if n.startswith("Block")}

    def test_varcomp__of_a_diagonal_matrix_bounds_the_variance_that_is_0_alone(self):
        data = frame("dyestuff2").assign(x=np.tile(np.arange(5.0) - 2, 6))
        data["Yield"] += np.repeat([3.0, -2, 1, -1, 2, -3], 5) * data["x"] * 3
        fit = vc.fit(vc.Model.from_formula("Yield ~ 1 + (1 + x || Batch)", data))
        zero = fit.theta.index[fit.theta == 0].tolist()
        assert len(zero) == 1
        assert list(fit.varcomp().attrs["notes"]) == zero


class TestFunctions:
    def test_derive__has_three_intervals_from_one_call(self):
        """Profile .069–.819 and delta SE .216: UX.md's mock-up."""
        fit = vc.fit(dyestuff())
        table = fit.derive("icc = Batch / total", "all", n=400, seed=1)
        assert table.index.tolist() == ["delta", "profile", "bootstrap"]
        assert table.index.name == "icc"
        assert [f"{v:.3f}" for v in table.loc["profile", ["lower", "upper"]]] == ["0.069", "0.819"]
        assert f"{table.loc['delta', 'se']:.3f}" == "0.216"
        low, high = table.loc["bootstrap", ["lower", "upper"]]
        assert 0 <= low < table.loc["delta", "estimate"] < high < 1

    def test_derive__takes_a_function_and_agrees_with_its_expression(self):
        fit = vc.fit(sleepstudy())
        said = "sqrt(`Subject:var(Days)`) / Days"
        by_text = fit.derive(f"cv = {said}", "all", n=50, seed=3)
        by_function = fit.derive(lambda t: math.sqrt(t["Subject:var(Days)"]) / t["Days"], "all", n=50, seed=3)
        numbers = ["estimate", "lower", "upper"]
        assert by_function[numbers].to_numpy() == pytest.approx(by_text[numbers].to_numpy(), rel=1e-5)

    def test_confint__takes_functions_in_every_kind(self):
        fit = vc.fit(dyestuff())
        rows = fit.derive("Batch / total", "all", n=60, seed=1)
        for kind, options in (("wald", {}), ("profile", {}), ("bootstrap", {"n": 60, "seed": 1})):
            got = fit.confint(kind, 0.95, ["Batch / total"], **options)[["lower", "upper"]].iloc[0]
            assert got.tolist() == rows.loc["delta" if kind == "wald" else kind, ["lower", "upper"]].tolist()

    def test_derive__of_fixed_effects_uses_their_covariance(self):
        fit = vc.fit(sleepstudy())
        got = fit.derive("day 9 = `(Intercept)` + 9 * Days")
        a = np.array([1.0, 9.0])
        assert got["se"] == pytest.approx(math.sqrt(a @ fit.beta_cov() @ a))
        assert got["estimate"] == pytest.approx(a @ fit.beta_values)

    def test_derive__refuses_what_it_does_not_know(self):
        fit = vc.fit(dyestuff())
        with pytest.raises(MethodError, match="unknown interval `profil`"):
            fit.derive("Batch / total", "profil")
        with pytest.raises(MethodError, match="`n` is no option"):
            fit.derive("Batch / total", "profile", n=10)


class TestDoor:
    def test_confint__posterior_of_a_likelihood_fit_is_that_of_its_twin(self):
        got = vc.fit(dyestuff()).confint("posterior")
        twin = vc.fit(dyestuff(), "quadrature")
        assert got.to_numpy() == pytest.approx(twin.confint("posterior").to_numpy())
        sd = twin.confint("posterior", scale="sd", parameters="residual:sd").iloc[0]
        assert sd.tolist() == pytest.approx(np.sqrt(got.loc["residual:var"].tolist()))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "walt"}, r"unknown interval `walt`.*Did you mean `wald`"),
            ({"level": 95}, r"`level` is 95; it must be a confidence level between 0 and 1"),
            ({"scale": "cor"}, r'unknown scale `cor`\. Choose "var" or "sd"'),
            ({"symmetric_on": "root"}, r'unknown scale `root`\. Choose "var", "sd" or "log"'),
            ({"n": 10}, r"`wald` intervals have no option `n`"),
            ({"parameters": "Batch:var"}, r"`Batch:var` is no parameter of this fit.*It has: Batch"),
        ],
    )
    def test_confint__says_what_is_wrong(self, arguments, message):
        with pytest.raises(MethodError, match=message):
            vc.fit(dyestuff()).confint(**arguments)
