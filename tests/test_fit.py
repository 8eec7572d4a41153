"""What a fit says and keeps: estimates, JSON, BLUPs and predictions, tests and comparisons; wrong use never starts."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from hypothesis import given, settings
from oracle import incidence, plain, posterior
from scipy import stats
from strategies import KINDS, draw_problem, problems

import vcbench as vc
from vcbench import METHODS, Status
from vcbench.errors import DataError, MethodError, ModelError, VcbenchError


class TestJson:
    """`Fit.from_json(fit.to_json())` has the same numbers, bit for bit."""

    @staticmethod
    def strict(text):
        def refuse(name):
            raise AssertionError(f"{name} is no JSON")

        return json.loads(text, parse_constant=refuse)

    def check(self, fit):
        text = fit.to_json()
        d = self.strict(text)
        back = vc.Fit.from_json(text)
        assert back.model is None
        assert back.facts == fit.facts
        for name in ("method", "criterion", "status", "code", "message", "kernel", "n_iter", "n_eval", "n_check"):
            assert getattr(back, name) == getattr(fit, name), name
        for name in ("loglik", "aic", "bic", "seconds", "cpu_seconds", "check_seconds"):
            assert np.array_equal(getattr(back, name), getattr(fit, name), equal_nan=True), name
        for name in ("theta", "theta_se", "beta", "beta_se"):
            pd.testing.assert_series_equal(getattr(back, name), getattr(fit, name), check_exact=True)
        assert np.array_equal(back.theta_cov(), fit.theta_cov(), equal_nan=True)
        assert np.array_equal(back.beta_cov(), fit.beta_cov(), equal_nan=True)
        for name in ("trace",):
            pd.testing.assert_frame_equal(getattr(back, name), getattr(fit, name), check_exact=True)
        pd.testing.assert_frame_equal(back.tidy(), fit.tidy(), check_exact=True)
        for scale in ("var", "sd", "cor"):
            pd.testing.assert_frame_equal(back.varcomp(scale), fit.varcomp(scale), check_exact=True)
        assert back.summary() == fit.summary()
        assert back.to_latex() == fit.to_latex()
        assert back.to_json() == text
        assert vc.Fit.from_json(fit.to_json(indent=2)).to_json() == text
        return d

    @settings(max_examples=settings.default.max_examples // 4)  # frames are compared: slow
    @given(problems())
    def test_json__round_trip_is_exact(self, p):
        for method, options in (("auto", {}), ("em", {"max_iter": 20}), ("moments", {})):
            self.check(vc.fit(p.model, method, **options))

    @pytest.mark.parametrize("criterion", ["reml", "ml"])
    def test_json__round_trip_of_a_boundary_fit(self, criterion):
        d = self.check(vc.fit(dyestuff2(), criterion=criterion))
        assert d["status"] == "AT_BOUNDARY"
        assert d["theta_se"]["Batch:var((Intercept))"] is None
        assert d["theta"]["Batch:var((Intercept))"] == 0.0
        assert d["schema"] == "vcbench/fit/1"

    def test_json__round_trip_where_V_is_not_definite(self):
        fit = next(
            f
            for f in (vc.fit(draw_problem("crossed", 4, 3, zero=True, seed=s).model, "moments") for s in range(400))
            if np.isnan(f.loglik)
        )
        d = self.check(fit)
        assert d["loglik"] is None
        assert d["aic"] is None

    def test_json__round_trip_of_a_row_of_many(self):
        p = draw_problem("slope-un", seed=2)
        self.check(vc.fit_many(p.model, p.draw_y(np.random.default_rng(0), 3))[1])

    def test_json__what_needs_the_data_says_so(self):
        fit = vc.Fit.from_json(vc.fit(sleepstudy()).to_json())
        for call, what in (
            (fit.ranef, r"ranef\(\)"),
            (fit.predict, r"predict\(\)"),
            (lambda: fit.theta_cov("expected"), "holds its default standard errors only, not `expected`"),
        ):
            with pytest.raises(MethodError, match=what):
                call()
        assert fit.derive("total")["se"] == vc.fit(sleepstudy()).derive("total")["se"]
        assert fit.explain().startswith("CONVERGED")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{}", r"this JSON has schema None; a fit has 'vcbench/fit/1'"),
            ('{"schema": "vcbench/fit/9"}', "schema 'vcbench/fit/9'"),
            ("[1]", "is no fit"),
            ("not json", "is no JSON"),
        ],
    )
    def test_json__what_is_no_fit_is_refused(self, text, message):
        with pytest.raises(DataError, match=message):
            vc.Fit.from_json(text)


class TestBlup:
    """û = G Zᵀ V⁻¹(y − Xβ̂), and predictions from it."""

    @pytest.mark.parametrize("zero", [False, True])
    def test_ranef__one_way_is_the_shrunken_sum_of_residuals(self, zero):
        """û_j = Σ_i(y_ij − x_ijᵀβ̂)/(n_j + σ̂²/σ̂_g²) (MATH §8)."""
        p = draw_problem("one-way-unbalanced", 8, 5, zero=zero, seed=6)
        fit = vc.fit(p.model)
        codes = p.model.components[0].codes
        r = p.model.y - p.model.X @ fit.beta_values
        sg, s = fit.theta_values
        sums, n = np.bincount(codes, r), np.bincount(codes)
        want = sums / (n + s / sg) if sg > 0 else np.zeros(len(n))
        u = fit.ranef()["g"]
        assert list(u.columns) == ["(Intercept)"]
        assert list(u.index) == list(p.model.components[0].levels)
        assert u["(Intercept)"].to_numpy() == pytest.approx(want, rel=1e-9, abs=1e-12)

    @given(problems())
    def test_ranef__is_the_posterior_mean_at_the_estimate(self, p):
        fit = vc.fit(p.model)
        if fit.theta_values[-1] <= 1e-8 * fit.theta_values.max():
            return  # a residual variance of 0: V is definite, but the oracle's G⁻¹-free form loses its digits
        mean, *_ = posterior(p.model, fit.theta_values, "ml", fit.beta_values)
        at = 0
        for c in p.model.components:
            r, N = len(c.effects), incidence(c)[0].shape[1]
            want = mean[at : at + r * N].reshape(r, N).T
            got = fit.ranef()[c.name]
            assert list(got.columns) == list(c.effects)
            assert got.to_numpy() == pytest.approx(want, rel=1e-6, abs=1e-7 * np.std(p.model.y))
            at += r * N

    @given(problems())
    def test_predict__leaves_the_part_of_the_residual(self, p):
        """y − Xβ̂ − Zû = σ̂² V⁻¹(y − Xβ̂), whatever the structure."""
        fit = vc.fit(p.model)
        if fit.theta_values[-1] <= 1e-8 * fit.theta_values.max():
            return
        m = p.model
        offset = 0.0 if m.offset is None else m.offset
        at = plain(m, fit.theta_values, "ml", fit.beta_values)
        left = fit.theta_values[-1] * at.Vinv @ (m.y - offset - m.X @ fit.beta_values)
        assert m.y - fit.predict() == pytest.approx(left, rel=1e-6, abs=1e-7 * np.std(m.y))
        assert fit.predict(random=False) == pytest.approx(m.X @ fit.beta_values + offset)

    def test_predict__new_rows_of_a_formula(self):
        fit = vc.fit(sleepstudy())
        data = frame("sleepstudy")
        assert fit.predict(data) == pytest.approx(fit.predict(), rel=1e-12)
        assert fit.predict(data.sample(frac=1.0, random_state=3).drop(columns="Reaction")) == pytest.approx(
            fit.predict()[data.sample(frac=1.0, random_state=3).index], rel=1e-12
        )
        b, u = fit.beta_values, fit.ranef()["Subject"]
        new = pd.DataFrame({"Days": [12.0, 12.0], "Subject": [308, 999]})
        want = [b[0] + 12 * b[1] + u.loc["308"] @ [1, 12], b[0] + 12 * b[1]]  # a level not seen: its expectation
        assert fit.predict(new) == pytest.approx(want, rel=1e-12)
        assert fit.predict(new, random=False) == pytest.approx([want[1]] * 2, rel=1e-12)

    def test_predict__with_factors_offsets_and_a_dropped_column(self):
        data = frame("sleepstudy").assign(third=lambda d: (d["Days"] % 3).astype(str), twice=lambda d: 2 * d["Days"])
        with pytest.warns(UserWarning, match="twice"):
            m = vc.Model.from_formula(
                "Reaction ~ Days + third + twice + offset(Days * 5) + (1 | Subject) + (0 + Days | Subject)", data
            )
        fit = vc.fit(m)
        assert fit.predict(data) == pytest.approx(fit.predict(), rel=1e-12)
        assert fit.predict(data.iloc[[5]]) == pytest.approx(fit.predict()[[5]], rel=1e-12)

    def test_predict__new_rows_of_arrays_have_no_names(self):
        fit = vc.fit(draw_problem("one-way", seed=1).model)
        with pytest.raises(ModelError, match="needs a model made from a formula"):
            fit.predict(pd.DataFrame({"x": [1.0]}))


class TestTrace:
    def test_trace__is_the_path_from_start_to_estimate(self):
        fit = vc.fit(sleepstudy(), "em", "ml", max_iter=30, start="unit")
        t = fit.trace
        assert list(t.columns) == ["iteration", "loglik", *fit.theta.index, *fit.beta.index, "seconds"]
        assert t["iteration"].tolist() == list(range(31))
        assert t.loc[0, list(fit.theta.index)].tolist() == pytest.approx([1, 0, 1, 1], rel=1e-14)
        assert t.loc[30, list(fit.theta.index)].to_numpy() == pytest.approx(fit.theta_values, rel=1e-14)
        assert t.loc[30, list(fit.beta.index)].to_numpy() == pytest.approx(fit.beta_values, rel=1e-12)
        ols = np.linalg.lstsq(sleepstudy().X, sleepstudy().y)[0]
        assert t.loc[0, list(fit.beta.index)].to_numpy() == pytest.approx(ols, rel=1e-12)
        for k in (0, 7, 30):  # ℓ of each row is ℓ at its θ and β
            row = t.loc[k]
            theta, beta = row[list(fit.theta.index)].to_numpy(), row[list(fit.beta.index)].to_numpy()
            assert row["loglik"] == pytest.approx(plain(fit.model, theta, "ml", beta).loglik, rel=1e-10)
        assert (t["seconds"].diff().dropna() >= 0).all()

    def test_trace__of_reml_carries_the_constant(self):
        fit = vc.fit(sleepstudy(), "em-reml", max_iter=4, start="unit")
        for _, row in fit.trace.iterrows():
            theta = row[list(fit.theta.index)].to_numpy()
            assert row["loglik"] == pytest.approx(plain(fit.model, theta, "reml").loglik, rel=1e-10)


class TestLrt:
    data = frame("sleepstudy")

    def fits(self, criterion, *formulas):
        return [vc.fit(vc.Model.from_formula(f, self.data), criterion=criterion) for f in formulas]

    def test_lrt__of_a_fixed_effect(self):
        """lme4: anova(lmer(Reaction ~ 1 + (Days|Subject)), lmer(Reaction ~ Days + (Days|Subject)), ML): 23.537 on 1."""
        f0, f1 = self.fits("ml", "Reaction ~ 1 + (Days | Subject)", "Reaction ~ Days + (Days | Subject)")
        test = vc.lrt(f0, f1)
        assert (test.statistic, test.df) == (2 * (f1.loglik - f0.loglik), 1)
        assert test.statistic == pytest.approx(23.537, abs=1e-3)
        assert test.p == pytest.approx(stats.chi2.sf(test.statistic, 1), rel=1e-10)
        assert vc.lrt(f1, f0) == test

    def test_lrt__of_variances_under_reml_with_the_same_X(self):
        f0, f1 = self.fits("reml", "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)")
        test = vc.lrt(f0, f1)
        assert test.df == 2
        assert test.statistic == pytest.approx(42.837, abs=1e-3)  # lme4: anova(…, refit = FALSE)

    def test_lrt__refuses_what_cannot_be_compared(self):
        ml0, ml1 = self.fits("ml", "Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (1 | Subject)")
        re0, re1 = self.fits("reml", "Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (1 | Subject)")
        shifted = vc.fit(vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", self.data.iloc[:150]), criterion="ml")
        other = vc.fit(ml0.model.replace(y=ml0.model.y + np.arange(180.0)), criterion="ml")
        moments = vc.fit(ml1.model, "moments")
        read = vc.Fit.from_json(ml1.to_json())
        for a, b, message in (
            (ml0, re1, "the fits have criteria `ml` and `reml`"),
            (moments, moments, "estimates by moments maximise no likelihood"),
            (re0, re1, "REML likelihoods of different fixed effects are not comparable"),
            (ml0, shifted, r"different data \(180 and 150 observations\)"),
            (ml1, other, "different data"),
            (ml1, ml1, "both models have 4 parameters"),
            (ml0, read, "a fit read from JSON has none"),
        ):
            with pytest.raises(ModelError, match=message):
                vc.lrt(a, b)

    def test_lrt__refuses_reml_of_another_coding_of_the_same_space(self):
        """log|XᵀV⁻¹X| depends on the coding: the difference is a constant that is no evidence."""
        f0 = vc.fit(vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", self.data))
        f1 = vc.fit(vc.Model.from_formula("Reaction ~ I(Days * 10) + (Days | Subject)", self.data))
        with pytest.raises(ModelError, match="not comparable"):
            vc.lrt(f0, f1)

    def test_lrt__of_a_variance_at_its_boundary_is_no_evidence(self):
        f1 = vc.fit(dyestuff2(), criterion="ml")
        f0 = vc.fit(vc.Model.from_formula("Yield ~ 1", frame("dyestuff2")), criterion="ml")
        test = vc.lrt(f0, f1)
        assert test.statistic == pytest.approx(0, abs=1e-9)
        assert test.p == pytest.approx(1, abs=1e-4)


class TestCompare:
    methods = ("ai", "newton", "fisher", "lbfgs", "px-em-full", "px-em", "moments")

    def test_compare__methods_agree_on_sleepstudy(self):
        c = vc.compare(sleepstudy(), self.methods)
        assert list(c.fits) == list(self.methods)
        assert not c.errors
        assert c.agree
        assert re.fullmatch(
            r"AGREE  6 of 6 REML methods reach the same maximum \(largest relative difference \de-\d+\)\.", c.verdict
        )
        assert c.max_difference("reml") <= 1e-6
        assert c.max_difference("ml") == 0.0

    def test_compare__table_has_a_row_a_method(self):
        c = vc.compare(dyestuff(), ("ai", "moments"), criterion="ml")
        t = c.table.set_index("method")
        assert t["criterion"].tolist() == ["ml", "none"]
        assert t.loc["ai", "deficit"] == 0.0
        assert t.loc["moments", "Batch:var((Intercept))"] == pytest.approx(1764.05)
        assert t.loc["moments", "Batch:var((Intercept)) se"] == pytest.approx(1432.75, abs=0.01)
        assert t.loc["ai", "(Intercept) se"] == pytest.approx(c.fits["ai"].beta_se.iloc[0])
        assert "AGREE  1 of 1 ML methods" in c.verdict

    def test_compare__on_the_boundary(self):
        c = vc.compare(dyestuff2(), ("ai", "newton", "px-em", "em", "moments"))
        assert [f.status for f in c.fits.values()] == [Status.AT_BOUNDARY] * 4 + [Status.CONVERGED]
        assert c.agree

    def test_compare__a_method_that_stopped_short_settles_nothing(self):
        c = vc.compare(sleepstudy(), ("ai", "em"), start="unit", max_iter=18)
        assert c.fits["em"].status is Status.MAX_ITER
        assert list(c.settled("reml")) == ["ai"]
        assert "1 of 2 REML methods" in c.verdict
        assert c.table.set_index("method").loc["em", "deficit"] > 0

    def test_compare__disagreement_beyond_tol_is_said(self):
        c = vc.compare(sleepstudy(), ("ai", "fisher", "px-em"), tol=1e-15, start="unit")
        assert not c.agree
        assert c.verdict.startswith("DISAGREE  3 of 3 REML methods")

    def test_compare__wrong_use_never_starts(self, no_solver):
        for call, message in (
            (lambda: vc.compare(sleepstudy(), ("ai", "emm")), r"unknown method `emm`"),
            (lambda: vc.compare(sleepstudy(), ("ai", "em-reml"), criterion="ml"), "`em-reml` exists under reml only"),
            (
                lambda: vc.compare(sleepstudy(), ("ai", "em"), maxiter=3),
                r"no option `maxiter`.*Did you mean `max_iter`\?",
            ),
            (lambda: vc.compare(sleepstudy(), ("ai", "em"), tol_=3), "no option `tol_`"),
            (lambda: vc.compare(sleepstudy(), ("ai", "em"), max_iter=-3), "`max_iter` is -3"),
            (lambda: vc.compare(sleepstudy(), ()), "no method"),
        ):
            with pytest.raises(MethodError, match=message):
                call()


@pytest.fixture
def no_solver(monkeypatch):
    """Any attempt to climb is a failure of the test."""
    from vcbench.solvers import moments, solve

    def started(*_, **__):
        raise AssertionError("a fit was started")

    monkeypatch.setattr(solve, "solve", started)
    monkeypatch.setattr(moments, "moments", started)


WRONG = {
    "method": (dict(method="aireml"), r"unknown method `aireml`\. Choose from .*em, .*newton.*\. Did you mean `ai`\?"),
    "method of another program": (dict(method="newton-raphson"), r"Did you mean `newton`\?"),
    "method misspelt": (dict(method="px_em"), r"Did you mean `px-em`\?"),
    "method no text": (dict(method=3), "unknown method `3`"),
    "criterion": (
        dict(criterion="REML"),
        r"unknown criterion `REML`\. Choose \"ml\" or \"reml\"\. Did you mean `reml`",
    ),
    "criterion no text": (dict(criterion=1), "unknown criterion `1`"),
    "no ML": (
        dict(method="em-henderson", criterion="ml"),
        "method `em-henderson` exists under reml only; `ml` was asked",
    ),
    "no REML": (dict(method="em-simplified", criterion="reml"), "method `em-simplified` exists under ml only"),
    "no criterion": (
        dict(method="moments", criterion="reml"),
        "`moments` is no likelihood method and takes no criterion",
    ),
    "none": (dict(criterion="none"), "method `auto` exists under reml and ml only; `none` was asked for"),
    "option": (
        dict(maxiter=3),
        r"method `auto` has no option `maxiter`\. It has max_iter, .*Did you mean `max_iter`\?",
    ),
    "option of moments": (dict(method="moments", tol=1e-3), "method `moments` has no option `tol`"),
    "max_iter negative": (dict(max_iter=-1), "`max_iter` is -1; it must be a whole number, 0 or more"),
    "max_iter a fraction": (dict(max_iter=2.5), r"`max_iter` is 2\.5; it must be a whole number"),
    "max_iter infinite": (dict(max_iter=float("inf")), "`max_iter` is inf; it must be a whole number"),
    "max_iter text": (dict(max_iter="many"), "`max_iter` is 'many'; it must be a whole number"),
    "tol zero": (dict(tol=0), "`tol` is 0; it must be a positive number of standard errors"),
    "tol nan": (dict(tol=float("nan")), "`tol` is nan"),
    "tol text": (dict(tol="1e-6"), "`tol` is '1e-6'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_fit__wrong_use_is_named_and_never_starts(case, no_solver):
    options, message = WRONG[case]
    for call in (vc.fit, lambda model, **o: vc.fit_many(model, model.y[:, None], **o)):
        with pytest.raises(MethodError, match=message) as caught:
            call(sleepstudy(), **options)
        assert isinstance(caught.value, VcbenchError)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("stochastic", r"unknown kernel `stochastic`\. Choose from auto, crossed, dense, grouped, "),
        ("spectral", "kernel `spectral` needs one component with one variance"),
        (3, "unknown kernel `3`"),
    ],
)
def test_fit__a_wrong_kernel_is_named_and_never_starts(kernel, message, no_solver):
    for method in ("auto", "moments"):
        with pytest.raises(ModelError, match=message):
            vc.fit(sleepstudy(), method, kernel=kernel)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("zero", r'unknown start `zero`\. Choose "auto", "unit" or a mapping'),
        ({"residual": 1.0}, r"start names `residual`, which is no parameter\. Did you mean `residual:var`\?"),
        ({"residual:var": 0.0}, r"`residual:var` is 0; it must be positive"),
        ({"residual:var": -1.0}, r"`residual:var` is -1; it must be positive"),
        ({"residual:var": float("nan")}, "`residual:var` is nan"),
        ({"residual:var": "big"}, "start: `residual:var` is 'big'; it must be a number"),
        ({"Subject:var(Days)": 0.0}, r"not strictly inside the parameter space: Ω of .*`Subject:var\(Days\)`"),
        ({"Subject:cov((Intercept),Days)": 1e6}, "Ω of .* must be positive definite"),
        ([1.0, 2.0], r"start has shape \(2,\); there are 4 parameters: Subject:var"),
        ([1.0, 0.0, float("inf"), 1.0], "every value finite"),
        (None, r"start has shape \(\)"),
    ],
)
def test_fit__a_wrong_start_is_named(start, message):
    with pytest.raises(MethodError, match=message):
        vc.fit(sleepstudy(), start=start)


@pytest.mark.parametrize("what", [None, "Reaction ~ Days", pd.DataFrame()])
def test_fit__what_is_no_model_is_refused(what):
    with pytest.raises(ModelError, match=r"the first argument is .*; it must be a vcbench\.Model"):
        vc.fit(what)


def test_fit__start_names_fixed_effects_too():
    fit = vc.fit(sleepstudy(), "em", "ml", start={"Days": 3.0, "residual:var": 5.0}, max_iter=1)
    assert fit.trace.loc[0, "Days"] == pytest.approx(3.0)
    assert fit.trace.loc[0, "residual:var"] == 5.0


def test_fit__default_criterion_is_reml_where_the_method_has_it():
    for name in ("auto", "em", "newton", "em-simplified", "moments"):
        assert vc.fit(
            dyestuff(), name, **({"max_iter": 3} if "em" in name and name != "moments" else {})
        ).criterion == ({"em-simplified": "ml", "moments": "none"}.get(name, "reml"))


@pytest.mark.parametrize("kind", KINDS)
def test_fit__does_not_depend_on_the_kernel(kind):
    p = draw_problem(kind, 8, 5, offset=True, seed=12)
    fits = [vc.fit(p.model, kernel=k) for k in p.kernels]
    for f in fits[1:]:
        assert f.status is fits[0].status
        assert f.loglik == pytest.approx(fits[0].loglik, rel=1e-9)
        assert f.theta.to_numpy() == pytest.approx(fits[0].theta.to_numpy(), rel=1e-5, abs=1e-7 * p.truth[-1])
        assert f.beta.to_numpy() == pytest.approx(fits[0].beta.to_numpy(), rel=1e-6)
        assert f.kernel in p.kernels


@given(problems())
def test_fit__offset_is_taken_from_y(p):
    """ℓ, θ̂ and β̂ of (y, offset) are those of (y − offset)."""
    m = p.model
    if m.offset is None:
        return
    a, b = vc.fit(m), vc.fit(vc.Model(m.y - m.offset, m.X, m.components))
    assert a.status is b.status
    assert a.loglik == pytest.approx(b.loglik, rel=1e-10, abs=1e-10)
    assert a.beta_values == pytest.approx(b.beta_values, rel=1e-8)


@given(problems())
def test_fit__moves_with_the_units_of_y(p):
    """y → cy: θ̂ → c²θ̂, β̂ → cβ̂, ℓ → ℓ − (n − d) log c; the ending is the same."""
    c = 137.0
    m = p.model
    offset = None if m.offset is None else c * m.offset
    a, b = vc.fit(m), vc.fit(vc.Model(c * m.y, m.X, m.components, offset=offset))
    assert a.status is b.status
    assert b.loglik == pytest.approx(a.loglik - (m.n_obs - m.n_fixed) * np.log(c), rel=1e-9, abs=1e-9)
    if a.status is Status.CONVERGED:
        se = a.theta_se.to_numpy()
        assert (np.abs(b.theta_values / c**2 - a.theta_values) <= 1e-5 * (se + np.abs(a.theta_values))).all()


def test_methods__have_names_criteria_and_options():
    for name, m in METHODS.items():
        assert m.name == name
        assert m.criteria
        assert set(m.criteria) <= {"ml", "reml", "none"}
        assert m.kind in ("solver", "moments", "stochastic", "lasso", "bayes", "peer")
        assert "seed" in m.options
        assert m.description
    falling = {n for n, m in METHODS.items() if not m.monotone and m.kind == "solver"}
    assert falling == {"em-simplified", "em-henderson", "auto"}  # auto's rescue may begin again from just inside a face
    assert METHODS["moments"].criteria == ("none",)
    for name in ("em", "px-em", "px-em-component", "px-em-full", "ecme", "newton", "fisher", "ai", "lbfgs", "auto"):
        assert METHODS[name].criteria == ("reml", "ml")
    assert METHODS["em-reml"].criteria == METHODS["em-henderson"].criteria == ("reml",)
    assert METHODS["em-simplified"].criteria == ("ml",)


@pytest.mark.parametrize(
    ("problem", "method", "criterion"),
    [
        # AI stops on a face with two variances at 0; the rescue went on as if it were inside
        (("slope-blocks", 5, 6, 0, True, True, 0, 355442043), "auto", "reml"),
        # σ² underflows on the way to its maximum at 0
        (("Z-wide", 4, 3, 1, False, False, 0, 20), "lbfgs", "ml"),
    ],
)
def test_fit__ends_with_a_status_never_with_a_crash(problem, method, criterion):
    fit = vc.fit(draw_problem(*problem).model, method, criterion)
    best = vc.fit(draw_problem(*problem).model, "newton", criterion)
    assert fit.status in (Status.AT_BOUNDARY, Status.MAX_ITER)
    assert fit.loglik <= best.loglik + 1e-7
    assert fit.loglik >= best.loglik - 1e-7 or fit.status is Status.MAX_ITER
