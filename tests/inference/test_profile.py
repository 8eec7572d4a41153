"""Profile intervals end where the deviance reaches χ²_1, by lme4, by dense formulas and by general optimisers."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from profile_oracle import Dense
from references.profile.cases import answers, fitted
from scipy.optimize import brentq, minimize_scalar
from strategies import draw_problem

import vcbench as vc
from vcbench import Status
from vcbench.errors import MethodError
from vcbench.inference.profile import profile_curve, profile_interval, profile_table
from vcbench.inference.variances import rows_of

Z2 = 3.841458820694124  # χ²_1(0.95)


def sd_names(fit):
    return [r.name for r in rows_of(fit.facts.theta_names, fit.facts.is_variance, "sd")]


def dense_deviance(fit, name, value, starts=1):
    """2(ℓ̂ − ℓ_p) of an SD, a correlation or a fixed effect at a value, by the oracle."""
    if name in fit.facts.beta_names:
        ml = fit if fit.criterion == "ml" else vc.fit(fit.model, criterion="ml")
        j, X = fit.facts.beta_names.index(name), fit.model.X
        oracle = Dense(fit.model, "ml")
        best = oracle.best(ml.theta_values, shift=value * X[:, j], X=np.delete(X, j, axis=1), starts=starts)
        return 2 * (ml.loglik - best)
    hold = sd_names(fit).index(name)
    value = np.arcsin(np.clip(value, -1, 1)) if ":cor(" in name else value
    return 2 * (fit.loglik - Dense(fit.model, fit.criterion).best(fit.theta_values, hold, value, starts=starts))


class TestAgainstLme4:
    """`confint(profile(m, delta.cutoff = 1/40))`, which interpolates: `references/profile`."""

    @pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_reml", "dyestuff", "penicillin", "pastes"])
    def test_profile__of_every_parameter_is_lme4s_to_more_than_4_digits(self, name):
        fit, want = fitted(name), answers()[lambda a: a["fit"] == name].set_index("parameter")
        got = fit.confint("profile", scale="sd", criterion="ml")
        assert list(got.index) == [*sd_names(fit), *fit.facts.beta_names]
        assert set(got.index) == set(want.index)
        want = want.loc[got.index]
        # its interpolation is 4e-6 off at worst (the lower limit of Dyestuff's SD)
        assert got["lower"].to_numpy() == pytest.approx(want["lower"].to_numpy(), rel=1e-5)
        assert got["upper"].to_numpy() == pytest.approx(want["upper"].to_numpy(), rel=1e-5)

    @pytest.mark.parametrize("name", ["dyestuff", pytest.param("pastes", marks=pytest.mark.slow),
                                      pytest.param("penicillin", marks=pytest.mark.slow),
                                      pytest.param("sleepstudy", marks=pytest.mark.slow)])  # fmt: skip
    def test_profile__limits_are_as_near_the_root_of_the_deviance_as_lme4s_or_nearer(self, name):
        fit = fitted(name)
        for row in answers()[lambda a: a["fit"] == name].itertuples():
            ours = profile_interval(fit, row.parameter)
            for mine, theirs in ((ours.lower, row.lower), (ours.upper, row.upper)):
                if mine == 0.0:
                    assert theirs == 0.0
                    continue
                error = abs(dense_deviance(fit, row.parameter, mine) - Z2)
                assert error < 1e-7
                assert error <= abs(dense_deviance(fit, row.parameter, theirs) - Z2) + 1e-8


class TestReml:
    """Dyestuff: the numbers of the mock-up, by a dense root-finder in one dimension over one in another."""

    @staticmethod
    def limits(fix, top):
        """Roots of D(c) = Z2 on both sides of the maximum; `fix(c, u)` is θ with g = c and the rest by u > 0."""
        dense = Dense(dyestuff(), "reml")

        def deviance(c):
            inner = minimize_scalar(lambda u: -dense.loglik(fix(c, np.exp(u))), bounds=(3, 11), method="bounded",
                                    options={"xatol": 1e-10})  # fmt: skip
            return 2 * (vc.fit(dyestuff()).loglik + inner.fun) - Z2

        return deviance, top

    @pytest.mark.parametrize(
        ("quantity", "fix", "brackets", "printed"),
        [
            ("Batch:var((Intercept))", lambda c, u: np.array([c, u]), ((50, 1764), (1764, 3e4)), (245.15, 10214.36)),
            ("residual:var", lambda c, u: np.array([u, c]), ((800, 2451), (2451, 9000)), (1461.54, 4577.56)),
            ("icc = Batch / total", lambda c, u: np.array([c * u, (1 - c) * u]), ((0.01, 0.4185), (0.4185, 0.95)),
             (0.069, 0.819)),
        ],
    )  # fmt: skip
    def test_profile__of_dyestuff_is_the_dense_root(self, quantity, fix, brackets, printed):
        got = profile_interval(vc.fit(dyestuff()), quantity)
        deviance, _ = self.limits(fix, None)
        want = [brentq(deviance, *bracket, xtol=1e-12, rtol=1e-12) for bracket in brackets]
        assert (got.lower, got.upper) == pytest.approx(want, rel=1e-6)
        assert (got.lower, got.upper) == pytest.approx(printed, abs=0.0051 if printed[1] > 1 else 0.00051)
        assert (got.criterion, got.level, got.note) == ("reml", 0.95, "")
        assert got.n_eval < 40

    def test_profile__of_sleepstudy_under_reml_has_the_deviance_of_the_level(self):
        fit = vc.fit(sleepstudy())
        for name in ("Subject:cor((Intercept),Days)", "Subject:sd(Days)"):
            got = profile_interval(fit, name)
            assert dense_deviance(fit, name, got.lower) == pytest.approx(Z2, abs=1e-7)
            assert dense_deviance(fit, name, got.upper) == pytest.approx(Z2, abs=1e-7)


class TestBoundary:
    def test_profile__of_an_estimate_of_zero_is_one_sided(self):
        fit = vc.fit(dyestuff2())
        got = profile_interval(fit, "Batch:var((Intercept))")
        assert (got.estimate, got.lower) == (0.0, 0.0)
        assert got.upper == pytest.approx(6.32, abs=0.005)
        assert dense_deviance(fit, "Batch:sd((Intercept))", np.sqrt(got.upper)) == pytest.approx(Z2, abs=1e-7)
        assert got.note == "the estimate lies on the boundary"
        share = profile_interval(fit, "icc = Batch / total")
        assert (share.estimate, share.lower, share.note) == (0.0, 0.0, got.note)
        dense, top = Dense(dyestuff2(), "reml"), fit.loglik

        def share_of(z):
            return np.array([np.sqrt(share.upper / (1 - share.upper)) * z[1], z[1]])

        assert 2 * (top - dense.best([2.0, 13.0], restore=share_of)) == pytest.approx(Z2, abs=1e-7)

    def test_profile__a_lower_limit_beyond_the_boundary_is_the_boundary(self):
        fit = fitted("pastes")
        got = profile_interval(fit, "batch:sd((Intercept))")
        assert got.lower == 0.0
        assert got.estimate > 0
        zeta = float(got.note.rpartition(" ")[2])
        assert got.note == f"lower limit at the boundary, where ζ is {zeta:.3g}"
        assert dense_deviance(fit, "batch:sd((Intercept))", 0.0) == pytest.approx(zeta**2, abs=2e-3)

    @pytest.mark.parametrize("criterion", ["reml", "ml"])
    def test_profile__of_a_singular_fit_has_the_deviance_of_the_level(self, criterion):
        """Oats with a random slope: ρ̂ = 1. The slope's SD may be 0, where ρ may be anything."""
        fit = vc.fit(vc.Model.from_formula("yield ~ nitro + (nitro | Block)", frame("oats")), criterion=criterion)
        assert fit.status is Status.AT_BOUNDARY
        self.check(fit)
        got = profile_interval(fit, "Block:cor((Intercept),nitro)")
        assert (got.lower, got.upper) == (-1.0, 1.0)
        plateau = "lower limit at the boundary: a variance may be 0, where a correlation is anything"
        assert got.note == f"the estimate lies on the boundary; {plateau}"

    @pytest.mark.parametrize(
        ("subjects", "days"),
        [([308, 309, 335, 370, 330, 372], 5), ([331, 335, 337, 350, 370, 371], 4), ([333, 334, 337, 349, 352], 6)],
    )
    def test_profile__of_subsets_of_sleepstudy_has_the_deviance_of_the_level(self, subjects, days):
        """Correlations at ±1, inside, and with a plateau where an SD is 0."""
        d = frame("sleepstudy")
        d = d[d["Subject"].isin(subjects) & (d["Days"] <= days)]
        self.check(vc.fit(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", d)))

    @staticmethod
    def check(fit):
        for name in sd_names(fit):
            got = profile_interval(fit, name)
            for limit in (got.lower, got.upper):
                deviance = dense_deviance(fit, name, limit, starts=2)
                if limit in (0.0, -1.0, 1.0):
                    assert deviance <= Z2
                    assert "boundary" in got.note
                else:
                    assert deviance == pytest.approx(Z2, abs=1e-6)

    def test_curve__of_a_correlation_is_never_below_the_faces(self):
        """Far from ρ̂ the best fits have an SD near 0, or at 0: a plateau."""
        d = frame("sleepstudy")
        d = d[d["Subject"].isin([308, 309, 335, 370, 330, 372]) & (d["Days"] <= 5)]
        fit = vc.fit(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", d))
        curve = profile_curve(fit, "Subject:cor((Intercept),Days)")
        faces = min(dense_deviance(fit, f"Subject:sd({e})", 0.0, starts=2) for e in ("(Intercept)", "Days"))
        assert (curve.zeta**2 <= faces + 1e-6).all()
        assert curve.zeta[0] ** 2 == pytest.approx(faces, abs=1e-6)
        for i in (1, len(curve.value) - 2):
            want = dense_deviance(fit, curve.quantity, curve.value[i], starts=4)
            assert curve.zeta[i] ** 2 == pytest.approx(want, abs=1e-6)

    def test_profile__takes_the_higher_of_two_maxima_that_a_share_leaves(self):
        """Two variances may make up what the residual leaves: one alone, or both; the second is higher by 0.007."""
        model = draw_problem("nested", 5, 4, n_covariates=2, seed=8).model
        fit = vc.fit(model, criterion="ml")
        dense, got = Dense(model, "ml"), profile_interval(fit, "share = residual / total")

        def best(split):
            theta = np.array([(1 - got.lower) * split, (1 - got.lower) * (1 - split), got.lower])
            found = minimize_scalar(lambda u: -dense.loglik(theta * np.exp(u)), bounds=(-4, 4), method="bounded",
                                    options={"xatol": 1e-10})  # fmt: skip
            return -found.fun

        inner = minimize_scalar(lambda split: -best(split), bounds=(0.2, 0.8), method="bounded")
        assert -inner.fun > best(1.0) + 1e-3
        assert 2 * (fit.loglik + inner.fun) == pytest.approx(Z2, abs=1e-7)

    def test_profile__a_correlation_beside_a_variance_of_zero_may_be_anything(self):
        fit = next(
            f for f in (vc.fit(draw_problem("slope-un", 6, 4, zero=True, seed=s).model) for s in range(60))
            if (f.theta_values[[0, 2]] == 0).any()
        )  # fmt: skip
        got = profile_interval(fit, next(n for n in sd_names(fit) if ":cor(" in n))
        assert np.isnan(got.estimate)
        assert (got.lower, got.upper) == (-1.0, 1.0)
        assert got.note == "a variance is 0 at the maximum, where a correlation may be anything"

    def test_profile__goes_through_a_kink_where_another_variance_reaches_zero(self):
        """Pastes' residual SD upwards: the casks' share falls to 0 on the way, then the batches'."""
        fit = fitted("pastes")
        curve = profile_curve(fit, "residual:sd", widest=9.0)
        casks = curve.theta[:, 0]
        assert casks[0] > 0
        assert curve.zeta[-1] > 9
        gone = np.flatnonzero(casks < 1e-8 * casks[0])
        assert 0 < gone[0] < len(casks) - 1
        for i in (0, gone[0] - 1, gone[0], len(casks) - 1):
            want = dense_deviance(fit, "residual:sd", curve.value[i], starts=2)
            assert curve.zeta[i] ** 2 == pytest.approx(want, abs=1e-6)


class TestFixedEffects:
    def test_profile__of_a_reml_fit_is_that_of_ml_and_says_so(self):
        reml, ml = vc.fit(sleepstudy()), vc.fit(sleepstudy(), criterion="ml")
        for name in ("(Intercept)", "Days"):
            a, b = profile_interval(reml, name), profile_interval(ml, name)
            assert (a.lower, a.upper) == pytest.approx((b.lower, b.upper), rel=1e-8)
            assert (a.criterion, a.note) == ("ml", "profiled under ML")
            assert b.note == ""
        assert dense_deviance(ml, "Days", b.lower) == pytest.approx(Z2, abs=1e-7)
        with pytest.raises(MethodError, match=r"`Days` is a fixed effect, which ℓ_REML does not hold"):
            profile_interval(reml, "Days", criterion="reml")

    def test_profile__of_one_fixed_effect_alone(self):
        """Dyestuff is balanced: ℓ_p(μ) is that of t = (ȳ − μ)/s, so that the interval is symmetric about ȳ."""
        fit = fitted("dyestuff")
        got = profile_interval(fit, "(Intercept)")
        assert got.upper - got.estimate == pytest.approx(got.estimate - got.lower, rel=1e-8)
        assert dense_deviance(fit, "(Intercept)", got.upper) == pytest.approx(Z2, abs=1e-7)

    def test_profile__of_a_contrast_is_that_of_the_effect_in_another_coding(self):
        """β_0 + 9 β_1 is the intercept once Days counts from the ninth."""
        data = frame("sleepstudy")
        other = vc.Model.from_formula("Reaction ~ late + (Days | Subject)", data.assign(late=data["Days"] - 9))
        want = profile_interval(vc.fit(other, criterion="ml"), "(Intercept)")
        fit = vc.fit(sleepstudy(), criterion="ml")
        got = profile_interval(fit, "end = `(Intercept)` + 9 * Days")
        assert got.quantity == "end"
        assert (got.lower, got.estimate, got.upper) == pytest.approx((want.lower, want.estimate, want.upper), rel=1e-8)

        def end(values):  # jointly in θ and β
            return values["(Intercept)"] + 9 * values["Days"]

        same = profile_interval(fit, end)
        assert same.quantity == "end"
        assert (same.lower, same.upper) == pytest.approx((want.lower, want.upper), rel=1e-7)

    def test_profile__of_a_function_of_both_has_the_deviance_of_the_level(self):
        """The coefficient of variation σ/μ: of Dyestuff, μ = σ/c."""
        fit = fitted("dyestuff")
        got = profile_interval(fit, "cv = sqrt(residual) / `(Intercept)`")
        dense = Dense(fit.model, "ml")
        for c in (got.lower, got.upper):
            found = minimize_scalar(
                lambda s, c=c: -dense.best(fit.theta_values, 1, s, shift=s / c, X=np.zeros((30, 0))),
                bounds=(0.6 * c * 1527.5, 1.6 * c * 1527.5), method="bounded", options={"xatol": 1e-7},
            )  # fmt: skip
            assert 2 * (fit.loglik + found.fun) == pytest.approx(Z2, abs=1e-6)
        assert got.criterion == "ml"


class TestInvariance:
    def test_profile__limits_transform_with_the_quantity(self):
        fit = vc.fit(sleepstudy())
        v = profile_interval(fit, "Subject:var(Days)")
        s = profile_interval(fit, "Subject:sd(Days)")
        log = profile_interval(fit, "log(`Subject:var(Days)`)")
        assert (s.lower**2, s.upper**2) == pytest.approx((v.lower, v.upper), rel=1e-8)
        assert (np.exp(log.lower), np.exp(log.upper)) == pytest.approx((v.lower, v.upper), rel=1e-6)

    def test_profile__a_users_function_is_the_expression(self):
        fit = fitted("penicillin")
        named = profile_interval(fit, "h = plate / (plate + residual)")

        def h(values):
            a, e = values["plate:var((Intercept))"], values["residual:var"]
            return a / (a + e)

        own = profile_interval(fit, h)
        assert (own.quantity, own.criterion) == ("h", "ml")
        assert (own.lower, own.upper) == pytest.approx((named.lower, named.upper), rel=1e-7)

    def test_profile__levels_nest_and_shrink_to_the_estimate(self):
        fit = vc.fit(dyestuff())
        widths = []
        for level in (0.999, 0.95, 0.5, 0.01):
            got = profile_interval(fit, "Batch:sd((Intercept))", level)
            assert got.lower <= got.estimate <= got.upper
            widths.append(got.upper - got.lower)
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] < 0.5

    @pytest.mark.parametrize("scale", [1e-6, 1e5])
    def test_profile__does_not_depend_on_the_unit_of_y(self, scale):
        m = sleepstudy()
        fit = vc.fit(m.replace(y=m.y * scale))
        for name, power in (("Subject:sd(Days)", 1), ("Subject:cor((Intercept),Days)", 0), ("Days", 1), ("total", 2),
                            ("Subject:cov((Intercept),Days)", 2), ("`Subject:var(Days)` / total", 0)):  # fmt: skip
            want, got = profile_interval(vc.fit(m), name), profile_interval(fit, name)
            factor = scale**power
            assert (got.lower, got.upper) == pytest.approx((want.lower * factor, want.upper * factor), rel=1e-7)
            assert got.n_eval == want.n_eval

    def test_profile__of_another_criterion_is_that_of_its_own_fit(self):
        reml, ml = vc.fit(dyestuff()), vc.fit(dyestuff(), criterion="ml")
        for a, b in ((reml, ml), (ml, reml)):
            got = profile_interval(a, "Batch:sd((Intercept))", criterion=b.criterion)
            want = profile_interval(b, "Batch:sd((Intercept))")
            assert (got.lower, got.estimate, got.upper) == pytest.approx((want.lower, want.estimate, want.upper),
                                                                         rel=1e-6)  # fmt: skip
            assert got.criterion == b.criterion


class TestHonesty:
    def test_profile__above_the_fit_says_that_the_fit_is_not_the_maximum(self):
        model = draw_problem("slope-un", 5, 3, n_covariates=1, seed=58).model
        fit = vc.fit(model, method="ai", criterion="ml")
        assert vc.fit(model, method="ai", criterion="ml", n_starts=12).loglik > fit.loglik + 1
        table = profile_table(fit, scale="sd")
        assert table["note"].str.contains("the fit is not the maximum: at ").all()
        assert table["lower"].isna().any()
        one = profile_interval(fit, "residual:sd")
        assert np.isnan(one.lower)
        assert np.isnan(one.upper)

    def test_profile__of_a_fit_that_stopped_short_is_about_the_maximum_and_says_so(self):
        short = vc.fit(sleepstudy(), method="em", criterion="ml", max_iter=5)
        assert short.status is Status.MAX_ITER
        got = profile_interval(short, "residual:sd")
        want = profile_interval(vc.fit(sleepstudy(), criterion="ml"), "residual:sd")
        assert (got.lower, got.upper, got.estimate) == pytest.approx((want.lower, want.upper, want.estimate), rel=1e-7)
        gap = vc.fit(sleepstudy(), criterion="ml").loglik - short.loglik
        assert got.note == f"the fit stopped {gap:.3g} below its maximum, about which this is the profile"

    @pytest.mark.parametrize(
        ("quantity", "options", "message"),
        [
            ("Subject:sd(Day)", {}, r"`Subject:sd\(Day\)` is no parameter of this fit\. Did you mean `Subj"),
            ("Dayz", {}, r"`Dayz` is no parameter of this fit\. Did you mean `Days`\?"),
            ("h2 = Subjct / total", {}, "unknown name `Subjct`"),
            (3, {}, "a quantity is a name, an expression or a function of the parameters, not 3"),
            ("Days", {"level": 95}, "`level` is 95; it must be a confidence level between 0 and 1"),
            ("residual:sd", {"criterion": "REML"}, 'unknown criterion `REML`. Choose "ml" or "reml"'),
            (lambda v: v["residual:vr"], {}, r"asks for `residual:vr`, which is no parameter\. Did you mean `res"),
        ],
    )  # fmt: skip
    def test_profile__refuses_what_it_does_not_know(self, quantity, options, message):
        with pytest.raises(MethodError, match=message):
            profile_interval(vc.fit(sleepstudy()), quantity, **options)

    def test_profile__needs_a_likelihood_and_the_data(self):
        moments = vc.fit(dyestuff(), method="anova")
        with pytest.raises(MethodError, match=r'a fit by `anova` maximises no likelihood\. Pass `criterion="reml"`'):
            profile_interval(moments, "residual:var")
        got = profile_interval(moments, "residual:var", criterion="reml")
        assert got.lower == pytest.approx(1461.54, abs=0.005)
        with pytest.raises(MethodError, match="needs the data"):
            profile_interval(vc.Fit.from_json(vc.fit(dyestuff()).to_json()), "residual:var")
        with pytest.raises(MethodError, match="`widest` is 0"):
            profile_curve(moments, "residual:var", widest=0)


class TestCurve:
    @pytest.mark.parametrize("quantity", ["Subject:sd(Days)", "Subject:cor((Intercept),Days)", "Days"])
    def test_curve__is_the_dense_profile_with_theta_on_it(self, quantity):
        fit = vc.fit(sleepstudy(), criterion="ml")
        curve = profile_curve(fit, quantity)
        assert (np.diff(curve.value) > 0).all()
        assert (np.diff(curve.zeta) > 0).all()
        assert np.diff(curve.zeta).max() <= 1.0
        assert curve.zeta[0] <= -4
        assert curve.zeta[-1] >= 4 or curve.value[-1] == 1.0
        assert curve.zeta**2 == pytest.approx(2 * (fit.loglik - curve.loglik), abs=1e-9)
        for i in (1, len(curve.value) - 2):
            assert dense_deviance(fit, quantity, curve.value[i]) == pytest.approx(curve.zeta[i] ** 2, abs=1e-6)
        dense = Dense(fit.model, "ml")
        if quantity != "Days":
            z = np.array([dense.z(theta) for theta in curve.theta])
            at = sd_names(fit).index(quantity)
            got = np.sin(z[:, 1]) if at == 1 else z[:, at]
            assert got == pytest.approx(curve.value, rel=1e-6)
            lost = np.array([dense.loglik(theta) for theta in curve.theta]) - curve.loglik
            assert np.abs(lost).max() < 1e-5  # θ is within 1e-3 standard errors of the maximum

    def test_curve__meets_the_interval(self):
        fit = vc.fit(dyestuff())
        got = profile_interval(fit, "Batch:sd((Intercept))")
        curve = profile_curve(fit, "Batch:sd((Intercept))")
        zeta = np.interp([got.lower, got.upper], curve.value, curve.zeta)
        assert zeta == pytest.approx([-1.96, 1.96], abs=0.05)

    def test_frame__is_long_and_stops_at_the_edges(self):
        table = vc.fit(dyestuff2()).profile()
        assert list(table.columns) == ["parameter", "value", "zeta", "loglik"]
        assert list(table["parameter"].unique()) == ["Batch:sd((Intercept))", "residual:sd", "(Intercept)"]
        sd = table[table["parameter"] == "Batch:sd((Intercept))"]
        assert sd["value"].iloc[0] == 0.0
        assert sd["zeta"].iloc[0] == 0.0
        assert table.attrs["notes"] == {"(Intercept)": "profiled under ML"}
        one = vc.fit(dyestuff()).profile("icc = Batch / total", criterion="ml")
        assert list(one["parameter"].unique()) == ["icc"]
        assert one["value"].between(0, 1).all()


@cache
def both():
    return vc.fit(dyestuff()), vc.fit(dyestuff2())


class TestTable:
    def test_confint__profile_has_a_row_for_what_is_asked(self):
        fit, zero = both()
        table = fit.confint("profile")
        assert list(table.index) == ["Batch:var((Intercept))", "residual:var", "(Intercept)"]
        assert list(table.columns[:2]) == ["lower", "upper"]
        asked = fit.confint("profile", 0.9, ["icc = Batch / total", "Batch"], criterion="ml")
        assert list(asked.index) == ["icc", "Batch"]
        assert asked.attrs["level"] == 0.9
        assert (
            zero.confint("profile", parameters="Batch:var((Intercept))").loc["Batch:var((Intercept))", "lower"] == 0.0
        )

    def test_varcomp__at_the_boundary_takes_the_profile(self):
        table = both()[1].varcomp(interval="auto")
        assert table.loc[0, "upper"] == pytest.approx(6.32, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_profile__of_drawn_problems_has_the_deviance_of_the_level(seed):
    """Grouped, spectral, crossed, low rank; interior, singular and zero: each limit by several starts of the oracle."""
    kinds = ("one-way-unbalanced", "slope-un", "slope-diag", "K", "two-Z", "crossed", "nested", "group-and-K")
    model = draw_problem(kinds[seed % 8], 5 + seed % 4, 4, n_covariates=seed % 3, zero=bool(seed % 2), seed=seed).model
    fit = vc.fit(model, criterion=("ml", "reml")[seed // 8 % 2])
    if not fit.status.ok or np.isnan(pd.Series(fit.theta_values)).any():
        pytest.skip(f"no maximum: {fit.status}")
    for name in (*sd_names(fit), *fit.facts.beta_names):
        got = profile_interval(fit, name)
        assert not np.isnan([got.lower, got.upper]).any(), got.note
        for limit in (got.lower, got.upper):
            deviance = dense_deviance(fit, name, limit, starts=4) if np.isfinite(got.estimate) else 0.0
            if limit in (0.0, -1.0, 1.0):
                assert deviance <= Z2 + 1e-6
            else:
                assert deviance == pytest.approx(Z2, abs=1e-6)
