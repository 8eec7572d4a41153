"""What a fit with structures says of itself: tables, functions, prediction, comparison, many responses, new starts."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import vcbench as vc
from vcbench.errors import MethodError, ModelError
from vcbench.status import Status


def visits() -> pd.DataFrame:
    """16 subjects at 5 visits, AR(1) noise beside an intercept of each."""
    rng = np.random.default_rng(7)
    d = pd.DataFrame([(f"s{i:02d}", v) for i in range(16) for v in range(1, 6)], columns=["subject", "visit"])
    L = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(range(5), range(5))))
    d["x"] = rng.normal(size=len(d))
    d["y"] = (
        4.0 + d.x + np.repeat(rng.normal(0, 1.5, 16), 5) + np.concatenate([L @ rng.normal(size=5) for _ in range(16)])
    )
    return d


def model(residual: str = "ar1(visit, group=subject)") -> vc.Model:
    return vc.Model.from_formula("y ~ x + (1 | subject)", visits(), residual=residual)


@pytest.mark.parametrize("method", ["em", "px-em", "ecme", "squarem", "daarem"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_em_maps__of_an_ar1_end_at_the_maximum(method, criterion):
    """The inner maximisation goes on to where the stop rule, 1e-6 standard errors, holds."""
    best = vc.fit(model(), "newton", criterion)
    fit = vc.fit(model(), method, criterion, max_iter=20_000)
    assert fit.status is best.status is Status.CONVERGED
    assert fit.loglik == pytest.approx(best.loglik, abs=1e-9)
    assert (np.abs(fit.theta_values - best.theta_values) <= 1e-5 * best.theta_se.to_numpy()).all()


def test_varcomp__shows_correlations_on_every_scale_they_belong_to():
    fit = vc.fit(model("ar1h(visit, group=subject)"))
    var, sd, cor = (fit.varcomp(scale=s).set_index("parameter") for s in ("var", "sd", "cor"))
    assert sd.loc["sd(2)", "estimate"] ** 2 == pytest.approx(var.loc["var(2)", "estimate"])
    assert sd.loc["rho", "estimate"] == cor.loc["rho", "estimate"] == var.loc["rho", "estimate"]
    assert list(cor.index) == ["rho"]
    assert "rho" in fit.summary()
    ranged = vc.fit(vc.Model.from_formula("y ~ x", visits(), residual="exponential(visit, group=subject)"))
    assert list(ranged.varcomp(scale="cor").index) == []


def test_standard_errors__are_the_inverse_of_the_observed_information_in_natural_units():
    from vcbench.kernels import build

    fit = vc.fit(model(), criterion="ml")
    at = build(model()).evaluate(fit.theta_values, ("score", "observed"), "ml")
    np.testing.assert_allclose(fit.theta_cov(), np.linalg.inv(at.observed), rtol=1e-6)


def test_derive__knows_the_residual_variance_by_name():
    fit = vc.fit(model())
    share = fit.derive("icc = subject / (subject + residual)")
    a, b = fit.theta_values[:2]
    assert share["estimate"] == pytest.approx(a / (a + b))
    assert share["se"] > 0


def test_prediction_and_json__work_as_for_any_fit():
    fit = vc.fit(model())
    again = vc.Fit.from_json(fit.to_json())
    np.testing.assert_array_equal(again.theta_values, fit.theta_values)
    assert again.trace.shape == fit.trace.shape
    np.testing.assert_allclose(fit.predict(visits().head(3)), fit.predict()[:3])
    assert fit.trace["residual:rho"].iloc[-1] == pytest.approx(fit.theta["residual:rho"])


def test_blups__are_those_of_the_definition():
    m = model()
    fit = vc.fit(m)
    d = visits()
    same = np.equal.outer(d.subject.to_numpy(), d.subject.to_numpy())
    s, v, rho = fit.theta_values
    V = same * (s + v * rho ** np.abs(np.subtract.outer(d.visit.to_numpy(), d.visit.to_numpy())))
    Z = pd.get_dummies(d.subject).to_numpy(float)
    expected = s * Z.T @ np.linalg.solve(V, m.y - m.X @ fit.beta_values)
    np.testing.assert_allclose(fit.ranef()["subject"].to_numpy()[:, 0], expected, rtol=1e-8)


def test_many_responses__are_fitted_as_one_by_one():
    m = model()
    Y = np.column_stack([m.y, m.y[::-1], m.y**2])
    many = vc.fit_many(m, Y)
    for j in range(3):
        one = vc.fit(m.replace(y=Y[:, j]))
        assert many[j].loglik == pytest.approx(one.loglik, abs=1e-9)
        assert many[j].status is one.status


def test_what_needs_a_free_model__refuses_by_name():
    m = model()
    with pytest.raises(MethodError, match="`px-em-full` is defined for unstructured Ω"):
        vc.fit(m, "px-em-full")
    with pytest.raises(MethodError, match="`squarem` is defined for unstructured Ω"):
        vc.fit(m, "squarem", base="px-em-full")
    with pytest.raises(ModelError, match="linear"):
        vc.fit(m, "moments")
    with pytest.raises(ModelError, match="kernel `crossed` takes independent residuals"):
        vc.fit(m, kernel="crossed")
    compared = vc.compare(m, methods=["ai", "newton", "px-em-full"])
    assert "px-em-full" in compared.errors


def test_n_starts__keep_the_best_and_count_all():
    m = model("arma11(visit, group=subject)")
    one, more = vc.fit(m, "ai"), vc.fit(m, "ai", n_starts=4, seed=3)
    assert more.loglik >= one.loglik - 1e-9
    assert more.n_iter > one.n_iter
    assert vc.fit(m, "ai", n_starts=4, seed=3).loglik == more.loglik
    with pytest.raises(MethodError, match="`n_starts` is -1"):
        vc.fit(m, n_starts=-1)


def test_a_correlation_at_the_edge__is_a_boundary_and_the_others_go_on():
    """AR(1) + nugget at ρ = 1 is an intercept of each subject + iid: the same maximum, said to be at an edge."""
    d, rng = visits(), np.random.default_rng(5)
    d["y"] = np.repeat(rng.normal(0, 2, 16), 5) + rng.normal(size=len(d))
    edge = vc.fit(vc.Model.from_formula("y ~ x", d, residual="ar1(visit, group=subject) + nugget"))
    plain = vc.fit(vc.Model.from_formula("y ~ x + (1 | subject)", d))
    assert edge.status is Status.AT_BOUNDARY
    assert edge.theta["residual:rho"] == pytest.approx(1.0, abs=1e-6)
    assert edge.loglik == pytest.approx(plain.loglik, abs=1e-4)  # ρ = 1 − 2e-7 is as far as φ goes
    assert edge.theta["residual:nugget"] == pytest.approx(plain.theta["residual:var"], rel=1e-3)
    assert "at the edge of its range" in edge.summary()


def test_saying_structures_wrongly__is_one_clear_error():
    with pytest.raises(ModelError, match="unknown structure `ar3`"):
        model("ar3(visit)")
    with pytest.raises(ModelError, match="`equal` names `z`"):
        vc.Model.from_formula("y ~ x + (1 | subject)", visits(), equal=[["subject", "z"]])
    with pytest.raises(ModelError, match=r"unknown structure `cz`\. Choose from scalar"):
        vc.Model.from_formula("y ~ x + (x | subject)", visits(), cov={"subject": "cz"})


@pytest.mark.parametrize("unit", [1.0, 1e4, 0.1])
def test_unequal_gaps__give_the_same_fit_in_any_unit_of_time(unit):
    """ρ per hour, per day, per year: one covariance, ρ^(lag/unit), at the maximum of its dense likelihood; independence
    lies next to it in each of them."""
    rng = np.random.default_rng(31)
    t = np.concatenate([np.sort(rng.uniform(0.0, 0.5, 8)) for _ in range(12)])
    of = np.repeat(np.arange(12), 8)
    gap = np.where(of[:, None] == of[None, :], np.abs(t[:, None] - t[None, :]), np.inf)
    y = np.linalg.cholesky(0.3 ** (gap / 0.05)) @ rng.standard_normal(96)

    def deviance(r: float) -> float:
        C = r ** (gap / 0.05)
        one, z = np.linalg.solve(C, np.column_stack([np.ones(96), y])).T
        rss = y @ z - (one @ y) ** 2 / one.sum()
        return 95 * (np.log(2 * np.pi * rss / 95) + 1) + np.linalg.slogdet(C)[1] + np.log(one.sum())

    best = minimize_scalar(deviance, bounds=(0.01, 0.9), method="bounded", options={"xatol": 1e-9})
    data = pd.DataFrame({"y": y, "t": t * unit, "id": of.astype(str)})
    fit = vc.fit(vc.Model.from_formula("y ~ 1", data, residual=vc.residual.ar1("t", group="id")), tol=1e-9)
    assert fit.status is Status.CONVERGED
    assert fit.n_iter < 30
    assert fit.loglik == pytest.approx(-0.5 * best.fun, abs=1e-9)
    assert fit.theta["residual:rho"] ** (0.05 * unit) == pytest.approx(best.x, rel=1e-6)
    test = fit.ranova("bootstrap", n_sim=20)
    assert test["statistic"].iloc[1] > 10
    assert "not tested" in fit.summary()


@pytest.mark.parametrize("unit", [1e-3, 1e9])
def test_unequal_gaps__in_a_unit_that_rho_has_no_number_for_are_an_error(unit):
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "t": np.sqrt([0.0, 0.1, 1.0, 2.7]) * unit})
    with pytest.raises(ModelError, match="in another unit"):
        vc.Model.from_formula("y ~ 1", data, residual=vc.residual.ar1("t"))


@pytest.mark.parametrize("name", ["exponential", "gaussian"])
def test_decay__without_correlation_in_the_data_ends_at_the_edge(name):
    """Of independent data about half have their maximum at a range of 0: a valid estimate, not a fit that goes on."""
    t = np.tile(np.arange(8.0), 15)
    data = pd.DataFrame({"y": np.zeros(120), "t": t, "g": np.repeat(np.arange(15), 8)})
    data["y"] = np.random.default_rng(2).standard_normal(120)
    model = vc.Model.from_formula("y ~ 1", data, residual=f"{name}(t, group=g)")
    Y = np.column_stack([np.random.default_rng(k).standard_normal(120) for k in range(1, 13)])
    many = vc.fit_many(model, Y)
    ends = [s.name for s in many.status]
    assert set(ends) == {"CONVERGED", "AT_BOUNDARY"}
    for k in np.flatnonzero(np.array(ends) == "AT_BOUNDARY"):
        independent = -59.5 * (np.log(2 * np.pi * Y[:, k].var(ddof=1)) + 1) - 0.5 * np.log(120)
        assert many.loglik[k] == pytest.approx(independent, abs=1e-5)


@pytest.mark.parametrize("residual", [None, "weights(w)"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("method", ["em", "px-em", "px-em-component", "ecme", "squarem"])
def test_ems__without_a_random_effect_are_weighted_least_squares(method, criterion, residual):
    rng = np.random.default_rng(8)
    d = pd.DataFrame({"x": rng.normal(size=30), "w": rng.uniform(0.5, 2, 30)})
    d["y"] = 1 + d.x + rng.normal(size=30) / np.sqrt(d.w)
    fit = vc.fit(vc.Model.from_formula("y ~ x", d, residual=residual), method, criterion)
    root = np.sqrt(d.w) if residual else np.ones(30)
    X = np.column_stack([root, root * d.x])
    beta, (rss,), *_ = np.linalg.lstsq(X, root * d.y, rcond=None)
    assert fit.status == "CONVERGED"
    assert fit.beta.to_numpy() == pytest.approx(beta, rel=1e-10)
    assert fit.theta["residual:var"] == pytest.approx(rss / (28 if criterion == "reml" else 30), rel=1e-8)
