"""Hypotheses about fixed effects are read as written, tested as Wald tests, and refused with a reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff2, sleepstudy
from references.fixed_effects.cases import SHARED, all_cases
from scipy import stats
from strategies import draw_problem

import vcbench as vc
from vcbench import Status
from vcbench.errors import MethodError
from vcbench.inference.contrasts import Hypotheses, combination
from vcbench.inference.fixed_tests import DF
from vcbench.inference.term_hypotheses import FixedTerms, term_hypotheses

BY_NAME = {case.name: case for case in all_cases()}
NAMES = ("(Intercept)", "VarietyVictory", "nitro0.2", "nitro0.4", "VarietyVictory:nitro0.2", "I(x^2)", "nitro0.20")
ROWS = {
    "nitro0.4 - nitro0.2": ([0, 0, -1, 1, 0, 0, 0], 0),
    "VarietyVictory:nitro0.2 + VarietyVictory = 3": ([0, 1, 0, 0, 1, 0, 0], 3),
    "(Intercept) + 2 * (nitro0.2 + nitro0.4) / 4": ([1, 0, 0.5, 0.5, 0, 0, 0], 0),
    "nitro0.2 = nitro0.20": ([0, 0, 1, 0, 0, 0, -1], 0),
    "-`I(x^2)` == 1 - 2 * 3": ([0, 0, 0, 0, 0, -1, 0], -5),
    "I(x^2)": ([0, 0, 0, 0, 0, 1, 0], 0),
    "1e3 * nitro0.4": ([0, 0, 0, 1000, 0, 0, 0], 0),
}


@pytest.mark.parametrize("text", ROWS)
def test_hypotheses__are_read_from_text(text):
    row, value = ROWS[text]
    got = Hypotheses.read(text, NAMES)
    np.testing.assert_array_equal(got.L, [row])
    np.testing.assert_array_equal(got.value, [value])
    assert got.labels == (text,)


def test_hypotheses__are_read_from_numbers_mappings_and_lists_of_these():
    by_name = Hypotheses.read({"nitro0.4": 1, "nitro0.2": -2}, NAMES)
    np.testing.assert_array_equal(by_name.L, [[0, 0, -2, 1, 0, 0, 0]])
    assert by_name.labels == ("-2 nitro0.2 + nitro0.4",)
    mixed = Hypotheses.read(["I(x^2) = 1", {"nitro0.2": 1}, np.eye(7)[0]], NAMES)
    np.testing.assert_array_equal(mixed.L, np.eye(7)[[5, 2, 0]])
    np.testing.assert_array_equal(mixed.value, [1, 0, 0])
    np.testing.assert_array_equal(Hypotheses.read(np.eye(7)[3], NAMES).L, np.eye(7)[[3]])
    frame = pd.DataFrame(np.eye(7)[1:3], columns=NAMES)
    np.testing.assert_array_equal(Hypotheses.read(frame, NAMES).L, np.eye(7)[1:3])
    assert combination(np.array([0, -1, 0, 2.5, 0, 0, -1]), NAMES) == "-VarietyVictory + 2.5 nitro0.4 - nitro0.20"


WRONG = {
    "nitro0.3": "unknown fixed effect `nitro0`|cannot read",
    "nitro0": "unknown fixed effect `nitro0`.*Did you mean.*reference level",
    "nitro0.2 * nitro0.4": "not linear",
    "1 / nitro0.2": "not linear",
    "nitro0.2 / 0": "not linear",
    "abs(nitro0.2)": "not linear",
    "nitro0.2 -": "cannot read",
    "": "cannot read",
    "nitro0.2 + 1": "adds the constant 1",
    "nitro0.2 = 1 = 2": "more than one equation",
    "nitro0.2 = nitro0.2": "no coefficient but 0",
}


@pytest.mark.parametrize("text", WRONG)
def test_hypotheses__that_cannot_be_meant_are_refused(text):
    with pytest.raises(MethodError, match=WRONG[text]):
        Hypotheses.read(text, NAMES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2, 3], "shape .3,.; its rows need 7 coefficients"),
        ({"nitro": 1}, "unknown fixed effect `nitro`"),
        (None, "shape"),
        (object(), "no contrast"),
        ([np.nan, 0, 0, 0, 0, 0, 0], "finite"),
        (np.zeros((2, 7)), "row 0 .* no coefficient but 0"),
        (["nitro0.2 = 1", "nitro0.4 = 0", "nitro0.2 + nitro0.4 = 3"], "contradict"),
        (["nitro0.2", [1, 2]], "a row of the contrast has shape"),
    ],
)
def test_hypotheses__of_a_wrong_shape_are_refused(given, message):
    with pytest.raises(MethodError, match=message):
        Hypotheses.read(given, NAMES)


def test_contrast__is_the_wald_test_of_its_value():
    fit = vc.fit(sleepstudy())
    b, C = fit.beta_values, fit.beta_cov()
    for df in DF:
        got = fit.contrast(["Days = 8", "(Intercept) - 5 * Days"], df)
        L, r = np.array([[0.0, 1.0], [1.0, -5.0]]), np.array([8.0, 0.0])
        np.testing.assert_allclose(got.table["estimate"], L @ b, rtol=1e-10)
        np.testing.assert_allclose(got.table["se"], np.sqrt(np.diag(L @ C @ L.T)), rtol=1e-6)
        t = (L @ b - r) / got.table["se"]
        np.testing.assert_allclose(got.table["t"], t, rtol=1e-10)
        nu = np.broadcast_to(got.table["df"], 2)
        np.testing.assert_allclose(got.table["p"], 2 * stats.t.sf(np.abs(t), nu), rtol=1e-9)
        half = stats.t.ppf(0.975, nu) * got.table["se"]
        np.testing.assert_allclose(got.table["upper"] - got.table["estimate"], half, rtol=1e-9)
        wald = (L @ b - r) @ np.linalg.solve(L @ C @ L.T, L @ b - r)
        np.testing.assert_allclose(got.F, got.joint.scale * wald / 2, rtol=1e-6)
        assert got.numerator_df == 2
        expected = stats.f.sf(got.F, 2, got.denominator_df) if df != "inf" else stats.chi2.sf(wald, 2)
        np.testing.assert_allclose(got.p_value, expected, rtol=1e-6)
        assert f"F(2, {got.denominator_df:.6g})" in str(got)


@pytest.mark.parametrize("df", DF)
def test_contrast__of_one_row_is_its_t_test_squared(df):
    fit = vc.fit(draw_problem("crossed", n_covariates=2, seed=4).model)
    got = fit.contrast([0.0, 1.0, -1.0], df)
    row = got.table.iloc[0]
    np.testing.assert_allclose(
        (got.F, got.denominator_df, got.p_value), (row["t"] ** 2, row["df"], row["p"]), rtol=1e-8
    )
    doubled = fit.contrast([[0.0, 1.0, -1.0], [0.0, -2.0, 2.0]], df)  # a dependent row adds nothing
    assert doubled.numerator_df == 1
    np.testing.assert_allclose((doubled.F, doubled.denominator_df), (got.F, got.denominator_df), rtol=1e-6)


def test_a_parameter_on_the_boundary__is_held_and_said():
    fit = vc.fit(dyestuff2())
    assert fit.status is Status.AT_BOUNDARY
    for df in ("satterthwaite", "kenward-roger"):
        table = fit.test_fixed(df)
        np.testing.assert_allclose(table["df"], 29.0, rtol=1e-8)  # as if the batches were not there
        assert "Batch:var((Intercept)) is on the boundary" in table.attrs["notes"][0]
    assert vc.fit(sleepstudy()).test_fixed().attrs["notes"] == ()


def test_moments__have_satterthwaite_by_their_own_covariance():
    fit = vc.fit(sleepstudy(), method="moments")
    np.testing.assert_allclose(fit.test_fixed()["df"], vc.fit(sleepstudy()).test_fixed()["df"], rtol=1e-6)  # balanced
    with pytest.raises(MethodError, match="positive semi-definite"):
        vc.fit(dyestuff2(), method="moments").test_fixed()
    assert np.isinf(vc.fit(dyestuff2(), method="moments").test_fixed("normal")["df"]).all()


def test_tests__are_refused_with_a_remedy():
    fit = vc.fit(sleepstudy())
    posterior = replace(fit, method="nuts", limits={"theta_lower": np.zeros(4)}, cache={})
    with pytest.raises(MethodError, match="posterior"):
        posterior.test_fixed()
    read = vc.Fit.from_json(fit.to_json())
    with pytest.raises(MethodError, match="needs the data"):
        read.test_fixed()
    with pytest.raises(MethodError, match="needs the data"):
        read.anova(df="inf")
    np.testing.assert_array_equal(read.test_fixed("residual"), fit.test_fixed("residual"))
    for wrong, message in (
        (lambda: fit.test_fixed("satterthwait"), "Did you mean `satterthwaite`"),
        (lambda: fit.contrast("Days", level=95), "confidence level"),
        (lambda: fit.anova(4), "Choose 1 .sequential., 2 or 3"),
        (lambda: fit.test_fixed("kr", cov_type="observed"), "no choice of information"),
        (lambda: fit.test_fixed(cov_type="exact"), "unknown cov_type"),
    ):
        with pytest.raises(MethodError, match=message):
            wrong()


def test_satterthwaite__takes_the_information_asked_for():
    fit = vc.fit(BY_NAME["sleepstudy unbalanced"].model())
    each = [fit.test_fixed(cov_type=kind) for kind in ("observed", "expected", "average")]
    pd.testing.assert_frame_equal(each[0], fit.test_fixed())
    assert each[1].attrs["notes"] == ("Degrees of freedom use the expected information of the variance parameters.",)
    np.testing.assert_allclose(each[1]["df"], fit.test_fixed("kr")["df"], rtol=1e-8)  # of one row they are the same
    df = np.array([table["df"] for table in each])
    assert np.abs(df[1:] / df[0] - 1).max(axis=1).min() > 1e-3


# --- terms ---


@pytest.fixture(scope="module")
def oats():
    return BY_NAME["oats unbalanced"].frame()


CODINGS = (
    "yield ~ Variety * nitro + (1 | Block)",
    "yield ~ nitro * Variety + (1 | Block)",
    "yield ~ C(Variety, contr.sum) * C(nitro, contr.helmert) + (1 | Block)",
    "yield ~ 0 + Variety * nitro + (1 | Block)",
)


@pytest.mark.parametrize("type_", [2, 3])
def test_anova__does_not_depend_on_coding_or_order(oats, type_):
    """F does not, and degrees of freedom do but little: Fai and Cornelius's depend on the scale of L's rows."""
    tables = [vc.fit(vc.Model.from_formula(text, oats)).anova(type_) for text in CODINGS[:3]]
    for table in tables[1:]:
        table.index = [label.replace("C(", "").split(",")[0] for label in table.index]
    first = tables[0]
    np.testing.assert_allclose(tables[1].loc[["Variety", "nitro"], "F"], first["F"][:2], rtol=1e-6)
    np.testing.assert_allclose(tables[2]["F"], first["F"], rtol=1e-6)
    np.testing.assert_allclose(tables[2]["denominator_df"], first["denominator_df"], rtol=1e-2)


def test_anova__of_a_nested_term_averages_over_it(oats):
    """`a/b` has the space of `a * b`, and type III hypotheses of a must be those of equal means: lmerTest 3.1-3 takes
    those at b's reference level (F = 1.209 here)."""
    crossed = vc.fit(vc.Model.from_formula("yield ~ Variety * nitro + (1 | Block)", oats)).anova(3)
    nested = vc.fit(vc.Model.from_formula("yield ~ Variety / nitro + (1 | Block)", oats)).anova(3)
    np.testing.assert_allclose(nested.loc["Variety"], crossed.loc["Variety"], rtol=1e-6)


def test_type_three__is_the_equality_of_unweighted_means(oats):
    """Of a complete two-way layout, from cell means: μ_i. − μ_1. = 0, and differences of differences."""
    model = vc.Model.from_formula(CODINGS[0], oats)
    fit = vc.fit(model)
    cells = pd.DataFrame([(v, n) for v in oats["Variety"].cat.categories for n in oats["nitro"].cat.categories],
                         columns=["Variety", "nitro"]).assign(Block="I")  # fmt: skip
    X = model.parsed.design(cells, random=False)[0]
    means = X.reshape(3, 4, -1)
    variety = means.mean(axis=1)[1:] - means.mean(axis=1)[0]
    nitro = means.mean(axis=0)[1:] - means.mean(axis=0)[0]
    table = fit.anova(3)
    np.testing.assert_allclose(fit.contrast(variety).F, table.loc["Variety", "F"], rtol=1e-7)
    np.testing.assert_allclose(fit.contrast(nitro).F, table.loc["nitro", "F"], rtol=1e-7)


def test_type_one__is_the_fit_without_later_terms(oats):
    """In ordinary regression the sums of squares of type I are those of successive fits, of type II of fits without."""
    model = vc.Model.from_formula("yield ~ Variety * nitro", oats)
    fit = vc.fit(model)

    def rss(formula):
        X = vc.Model.from_formula(formula, oats).X
        return float(((model.y - X @ np.linalg.lstsq(X, model.y, rcond=None)[0]) ** 2).sum())

    full = rss("yield ~ Variety * nitro") / (len(oats) - 12)
    one, two = fit.anova(1, "residual"), fit.anova(2, "residual")
    null, variety, nitro, both = (rss(f"yield ~ {x}") for x in ("1", "Variety", "nitro", "Variety + nitro"))
    np.testing.assert_allclose(one["F"][:2], [(null - variety) / 2 / full, (variety - both) / 3 / full], rtol=1e-7)
    np.testing.assert_allclose(two["F"][:2], [(nitro - both) / 2 / full, (variety - both) / 3 / full], rtol=1e-7)


def test_terms__know_what_contains_them(oats):
    data = oats.assign(x=np.linspace(0.0, 1.0, len(oats)))
    terms = FixedTerms.of(vc.Model.from_formula("yield ~ x + Variety * nitro + x:Variety + (1 | Block)", data))
    assert terms.labels == ("x", "Variety", "nitro", "Variety:nitro", "x:Variety")
    assert terms.contained == ((4,), (3,), (3,), (), ())  # x:Variety contains x, and Variety not: numeric parts differ
    assert terms.assign.tolist() == [-1, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4]


def test_anova__of_arrays_has_a_term_for_every_column():
    model = draw_problem("one-way", n_covariates=2, seed=1).model
    fit = vc.fit(model)
    table, each = fit.anova(), fit.test_fixed()
    assert list(table.index) == list(model.X_names[1:])
    np.testing.assert_allclose(table["F"], each["t"][1:] ** 2, rtol=1e-8)
    np.testing.assert_allclose(table["denominator_df"], each["df"][1:], rtol=1e-8)
    assert list(fit.anova(1).index) == list(table.index)


def test_anova__of_scaled_covariates_is_the_same(oats):
    """No absolute threshold: units of 1e-9 and of 1e9 change nothing."""
    data = oats.assign(x=np.sin(np.arange(len(oats))), z=np.cos(2.0 * np.arange(len(oats))))
    text = "yield ~ Variety * x + z + (1 | Block)"
    first = vc.fit(vc.Model.from_formula(text, data))
    other = vc.fit(vc.Model.from_formula(text, data.assign(x=data["x"] * 1e-9, z=data["z"] * 1e9)))
    for type_ in (1, 2, 3):
        np.testing.assert_allclose(other.anova(type_)["F"], first.anova(type_)["F"], rtol=1e-6)


def test_anova__without_terms_or_columns_has_no_test(oats):
    assert vc.fit(dyestuff2()).anova().empty
    data = oats.assign(again=oats["nitro"])
    with pytest.warns(UserWarning, match="dropped"):
        model = vc.Model.from_formula("yield ~ nitro + again + (1 | Block)", data)
    table = vc.fit(model).anova(2)
    assert table.loc["again", "numerator_df"] == 0
    assert np.isnan(table.loc["again", "F"])
    assert all(len(L) == 3 for label, L in term_hypotheses(model, 1).items() if label == "nitro")


@pytest.mark.slow
def test_insteval__has_the_degrees_of_freedom_of_lmerTest_in_seconds():
    """R: lmer(y ~ service * dept + (1 | s) + (1 | d)), bobyqa with rhoend = 1e-10, lmerTest 3.1-3: 4.2 s for its
    Hessian and Jacobian."""
    path = SHARED / "insteval.csv"
    if not path.exists():
        pytest.skip("insteval.csv is not in ../shared/data")
    data = pd.read_csv(path).astype({"service": str, "dept": str})
    fit = vc.fit(vc.Model.from_formula("y ~ service * dept + (1 | s) + (1 | d)", data))
    table = fit.test_fixed(cov_type="observed")
    theirs = {
        "(Intercept)": 1789.504063,
        "service1": 31075.014399,
        "dept8": 3021.909912,
        "service1:dept9": 34474.433011,
    }
    np.testing.assert_allclose(table.loc[list(theirs), "df"], list(theirs.values()), rtol=1e-4)
    anova = fit.anova(3, cov_type="observed")
    np.testing.assert_allclose(anova["denominator_df"], [48973.4732, 1324.5160, 32945.6424], rtol=1e-4)
    np.testing.assert_allclose(anova["F"], [6.87803, 1.97205, 8.47154], rtol=1e-5)
    np.testing.assert_allclose(fit.test_fixed()["df"], table["df"], rtol=0.01)  # the average information
