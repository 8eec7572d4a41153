"""Diagnostic pictures: every kind renders for every kind of model, and its numbers are those of formulas."""

import re
from functools import cache

import numpy as np
import oracle
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from scipy.optimize import brentq

import vcbench as vc
from vcbench import Fit
from vcbench.cards import load_card
from vcbench.errors import MethodError
from vcbench.inference.likelihood_surface import LEVELS, quantile_two, surface
from vcbench.report import theme
from vcbench.report.diagnostics import draw, save_all
from vcbench.report.diagnostics.contour import regions, smooth_lines
from vcbench.report.diagnostics.contour_lines import contour_lines
from vcbench.report.diagnostics.contour_paths import NEAREST, thinned
from vcbench.report.diagnostics.kinds import KINDS, kind_of
from vcbench.report.diagnostics.profile import drawn
from vcbench.report.diagnostics.ranef import DRAWN, ranked
from vcbench.report.diagnostics.residuals import by_group
from vcbench.report.diagnostics.smooth import smooth
from vcbench.report.svg import render_svg

USUAL = {"trace", "ranef", "profile", "contour", "residuals", "acf", "influence"}
NO_UNITS = USUAL - {"acf"}


def time_series() -> vc.Model:
    from inference.test_residual_correlation import series

    return series(formula="y ~ x + (1 | unit)")


def field() -> vc.Model:
    from inference.test_residual_correlation import field as plots

    return plots("ar1(row) * ar1(col)")


def animals() -> vc.Model:
    """Sires and dams with two offspring each, all with a record."""
    rng = np.random.default_rng(8)
    pedigree = [(f"p{i}", None, None) for i in range(20)]
    pedigree += [(f"o{i}", f"p{i % 10}", f"p{10 + (i * 3) % 10}") for i in range(40)]
    known = pd.DataFrame(pedigree, columns=["id", "sire", "dam"])
    u = dict.fromkeys(known["id"], 0.0)
    for animal, sire, dam in pedigree:
        u[animal] = rng.normal() if sire is None else (u[sire] + u[dam]) / 2 + rng.normal(0, 0.7)
    d = pd.DataFrame({"animal": known["id"], "y": [5 + u[a] + rng.normal() for a in known["id"]]})
    return vc.Model.from_formula("y ~ 1 + (1 | animal)", d, cov={"animal": vc.covariance.pedigree(known)})


def penicillin() -> vc.Model:
    return vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin"))


MODELS = {
    "one_way": (dyestuff, USUAL),
    "boundary": (dyestuff2, USUAL),
    "random_slope": (sleepstudy, USUAL),
    "penicillin": (penicillin, USUAL),
    "time_series": (time_series, USUAL | {"variogram"}),
    "field": (field, {"trace", "profile", "contour", "residuals", "variogram", "influence"}),
    "animals": (animals, NO_UNITS),
    "three_components": (lambda: load_card("three_components").model(), NO_UNITS),
    "snp_heritability": (lambda: load_card("snp_heritability").model(), NO_UNITS),
    "rat_weight": (lambda: load_card("rat_weight").model(), USUAL),
}
QUICK = ("boundary", "time_series", "field", "animals")


@cache
def fitted(name: str) -> vc.Fit:
    model = MODELS[name][0]
    try:
        return vc.fit(model())
    except vc.errors.DataError as error:
        pytest.skip(str(error))


def picture(fit, kind, **options) -> dict:
    """The specification behind a chart."""
    return kind_of(kind).spec(fit, **options)


def values(spec) -> list[dict]:
    """All records of a specification, in order."""
    own = spec.get("data", {}).get("values", [])
    return [*own, *(row for key in ("layer", "concat", "hconcat", "vconcat") for part in spec.get(key, ())
                    for row in values(part))]  # fmt: skip


class TestEveryKind:
    @pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS])
    def test_draw__renders_all_that_applies(self, name):
        """Each is an SVG in the colours of the theme, with no ids or texts of a failure in it."""
        pictures, left = draw(fitted(name))
        assert set(pictures) == MODELS[name][1]
        assert set(pictures) | set(left) == {kind.name for kind in KINDS}
        for kind, spec in pictures.items():
            svg = render_svg(spec, kind)
            assert svg.count("<path") > 2, kind
            assert not re.search("undefined|NaN", svg), kind
            colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{3,6})"', svg))
            assert colours <= set(theme.DARK), (kind, colours - set(theme.DARK))

    @pytest.mark.parametrize("kind", [k.name for k in KINDS])
    def test_plot__is_an_altair_chart_by_name_and_alias(self, kind):
        import altair as alt

        fit = fitted("one_way")
        names = next(k for k in KINDS if k.name == kind)
        charts = [fit.plot(name) for name in (kind, *names.aliases)]
        assert all(isinstance(chart, alt.TopLevelMixin) for chart in charts)
        assert charts[0].to_dict()["config"]["background"] == theme.SURFACE  # held to Vega-Lite's schema

    def test_plots__are_those_that_apply(self):
        assert set(fitted("boundary").plots()) == USUAL

    def test_save_all__names_files_by_kind(self, tmp_path):
        paths = save_all(fitted("boundary"), tmp_path / "new")
        assert {p.name for p in paths} == {f"{k}.svg" for k in USUAL - {"trace"}} | {"convergence-reml.svg"}
        assert all(p.read_text(encoding="utf-8").rstrip().endswith("</svg>") for p in paths)


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("caterpilar", r'unknown plot `caterpilar`\. Choose from "trace", "ranef".*Did you mean `caterpillar`'),
            ("pairs", r"unknown plot `pairs`\. Choose from"),
        ],
    )
    def test_plot__lists_the_kinds(self, kind, message):
        with pytest.raises(MethodError, match=message):
            fitted("one_way").plot(kind)

    def test_plot__names_the_options(self):
        with pytest.raises(MethodError, match=r"no option `method`\. Did you mean `methods`.*x, y, methods"):
            fitted("one_way").plot("contour", method=("em",))

    @pytest.mark.parametrize("kind", [k.name for k in KINDS if k.name != "trace"])
    def test_plot__of_a_fit_without_data_says_so(self, kind):
        stored = Fit.from_json(fitted("one_way").to_json())
        with pytest.raises(MethodError, match=r"was read from JSON, which keeps no data\. Fit the model again"):
            stored.plot(kind)
        assert stored.plot("trace") is not None

    def test_plot__of_negative_variances_says_what_to_do(self):
        raw = vc.fit(dyestuff2(), "moments")
        for kind in ("ranef", "residuals", "qq", "acf", "influence"):
            with pytest.raises(
                MethodError, match=r"variance of `Batch` is estimated as -1\.322, below 0.*method=\"ai\""
            ):
                raw.plot(kind)

    @pytest.mark.parametrize("kind", ["profile", "contour"])
    def test_plot__of_moments_has_no_likelihood(self, kind):
        with pytest.raises(MethodError, match="maximises no likelihood"):
            vc.fit(dyestuff(), "moments").plot(kind)
        assert set(vc.fit(dyestuff(), "moments").plots()) == {"ranef", "residuals", "acf", "influence"}

    def test_plot__without_random_effects(self):
        fit = vc.fit(vc.Model.from_formula("Reaction ~ Days", frame("sleepstudy")))
        for kind, message in (("ranef", "no random effects"), ("contour", "this model has one, `residual:var`"),
                              ("acf", "no unit of this model has two rows")):  # fmt: skip
            with pytest.raises(MethodError, match=message):
                fit.plot(kind)

    def test_contour__takes_paths_of_methods_that_climb(self):
        with pytest.raises(MethodError, match="`moments` takes no path over the likelihood"):
            fitted("one_way").plot("contour", methods=("em", "moments"))


class TestCaterpillar:
    def test_ranef__draws_the_intervals_of_blup_in_order(self):
        fit = fitted("random_slope")
        spec = picture(fit, "ranef")
        table = fit.blup()
        for panel, (_, part) in zip(spec["concat"], table.groupby("effect", sort=False), strict=True):
            part = part.sort_values("estimate")
            rows = [r for r in panel["layer"][1]["data"]["values"]]
            assert [r["level"] for r in rows] == part["level"].tolist()
            for column in ("estimate", "lower", "upper"):
                assert [r[column] for r in rows] == part[column].tolist()
            sides = np.where((part.lower > 0) | (part.upper < 0), "excludes 0", "holds 0")
            assert [r["side"] for r in rows] == sides.tolist()

    def test_ranked__thins_many_levels_evenly_and_keeps_the_ends(self, rng):
        n = 5000
        part = pd.DataFrame({"level": range(n), "estimate": rng.normal(size=n), "lower": -1.0, "upper": 1.0})
        drawn = ranked(part)
        assert len(drawn) <= DRAWN
        assert drawn["rank"].iloc[[0, 1, -2, -1]].tolist() == [1, 2, n - 1, n]
        assert drawn["rank"].diff().max() <= 2 * n / DRAWN
        assert drawn["estimate"].is_monotonic_increasing


def dense_zeta(fit, which, value, top):
    """√ of the deviance of an SD of a one-way fit, the other profiled by the dense formula."""
    Vs = oracle.derivatives(fit.model.components, fit.model.n_obs)

    def at(log_other):
        other = np.exp(log_other)
        theta = [value**2, other**2] if which == 0 else [other**2, value**2]
        return -oracle.loglik_of(fit.model.y, fit.model.X, Vs, theta, fit.criterion)

    from scipy.optimize import minimize_scalar

    best = min(minimize_scalar(at, bounds=b, method="bounded", options={"xatol": 1e-10}).fun
               for b in ((-12, 3), (2, 6)))  # fmt: skip
    return np.sqrt(max(2 * (top + best), 0.0))


class TestProfile:
    @pytest.mark.parametrize(("which", "name"), [(0, "Batch:sd((Intercept))"), (1, "residual:sd")])
    def test_profile__limits_are_roots_of_the_dense_deviance(self, which, name):
        fit = fitted("one_way")
        line = drawn(fit, name)
        assert line.estimate == pytest.approx(np.sqrt(fit.theta_values[which]), rel=1e-6)
        for level in (0.5, 0.95):
            z = np.sqrt({0.5: 0.454936423119572, 0.95: 3.841458820694124}[level])
            f = lambda v, z=z: dense_zeta(fit, which, v, fit.loglik) - z  # noqa: E731
            lower, upper = line.limits[level]
            assert upper == pytest.approx(brentq(f, line.estimate, 10 * line.estimate, rtol=1e-8), rel=1e-5)
            assert lower == pytest.approx(brentq(f, 0.02 * line.estimate, line.estimate, rtol=1e-8), rel=1e-5)

    def test_profile__line_runs_through_the_dense_profile(self):
        fit = fitted("one_way")
        line = drawn(fit, "residual:sd")
        for k in range(5, len(line.value) - 5, 20):
            dense = np.sign(line.value[k] - line.estimate) * dense_zeta(fit, 1, line.value[k], fit.loglik)
            assert line.zeta[k] == pytest.approx(dense, abs=0.02)  # a cubic between points half a ζ apart
        assert (np.diff(line.zeta) > 0).all()
        se = fit.varcomp(scale="sd").se.iloc[1]
        assert line.slope == pytest.approx(1 / se, rel=1e-4)

    def test_profile__ends_at_the_boundary(self):
        line = drawn(fitted("boundary"), "Batch:sd((Intercept))")
        assert line.edge == (0.0, 0.0)
        assert line.limits[0.95][0] == 0.0
        assert line.value.min() == 0.0
        spec = picture(fitted("boundary"), "profile", parameters=["Batch:sd((Intercept))"], view="zeta")
        assert "Circle: the edge" in " ".join(spec["title"]["subtitle"])

    def test_profile__an_unknown_view_is_an_error(self):
        with pytest.raises(MethodError, match=r"unknown view `absolut`.*Did you mean `absolute`"):
            fitted("one_way").plot("profile", view="absolut")


class TestContour:
    def test_regions__have_the_deviance_of_their_level(self):
        fit = fitted("one_way")
        Vs = oracle.derivatives(fit.model.components, 30)
        found = regions(surface(fit, "Batch", "residual"))
        assert {level for level, _ in found} == set(LEVELS)
        for level, line in found:
            for a, b in line[::7]:
                dense = oracle.loglik_of(fit.model.y, fit.model.X, Vs, [a**2, b**2], "reml")
                assert 2 * (fit.loglik - dense) == pytest.approx(quantile_two(level), rel=0.01)

    def test_contour__draws_the_paths_of_methods(self):
        fit = fitted("one_way")
        spec = picture(fit, "contour", methods=("ai", "em"))
        assert [p["title"] for p in spec["hconcat"]][1] == "Near the maximum"
        em = vc.fit(dyestuff(), "em", start="unit")
        whole = [r for r in values(spec["hconcat"][0]) if str(r.get("label", "")).startswith("em:")]
        for t in (0, 1, 10, em.n_iter):
            spots = [(r["x"], r["y"]) for r in whole if r["i"] == t]
            row = em.trace.iloc[t]
            expected = np.sqrt([row["Batch:var((Intercept))"], row["residual:var"]])
            assert spots[0] == pytest.approx(expected, rel=1e-9), t
        assert f"em: {em.n_iter} iterations" in {r["label"] for r in whole}

    def test_contour__uses_logarithmic_axes_where_a_path_begins_far_off(self):
        far, near = picture(fitted("one_way"), "contour", methods="em")["hconcat"]
        scales = [p["layer"][0]["encoding"]["x"]["scale"].get("type", "linear") for p in (far, near)]
        assert scales == ["log", "linear"]

    def test_contour__at_zero_keeps_linear_axes_and_the_cross_on_the_edge(self):
        spec = picture(fitted("boundary"), "contour", methods=("em", "ai"))
        panel = spec["hconcat"][-1]
        assert panel["layer"][-1]["data"]["values"][0]["x"] == 0.0
        assert all(p["layer"][0]["encoding"]["x"]["scale"].get("type") != "log" for p in spec["hconcat"])

    def test_contour_lines__of_a_cone_are_circles(self):
        x, y = np.linspace(-2, 2, 41), np.linspace(-2, 2, 33)
        z = np.hypot(*np.meshgrid(x, y))
        (line,) = contour_lines(x, y, z, 1.3)
        assert (line[0] == line[-1]).all()
        assert np.hypot(*line.T) == pytest.approx(np.full(len(line), 1.3), abs=0.01)
        lines = contour_lines(x, y, z, 2.3)  # four corners are cut
        assert len(lines) == 4
        assert all((np.abs(line[[0, -1]]).max(axis=1) == 2).all() for line in lines)

    def test_contour_lines__at_a_saddle_join_the_higher_or_the_lower_corners(self):
        x = y = np.array([0.0, 1.0])
        high = contour_lines(x, y, np.array([[2.0, 0.0], [0.0, 2.0]]), 0.9)
        low = contour_lines(x, y, np.array([[2.0, 0.0], [0.0, 2.0]]), 1.1)
        corners = lambda lines: sorted(round(float(np.prod(line.mean(axis=0) - 0.5)), 3) < 0 for line in lines)  # noqa: E731
        assert corners(high) == [True, True]  # round the two low corners
        assert corners(low) == [False, False]

    def test_contour_lines__stop_where_values_are_infinite(self):
        x = y = np.arange(5.0)
        z = np.add.outer(y, x)
        z[:, 3:] = np.inf
        (line,) = contour_lines(x, y, z, 3.5)
        assert line[:, 0].max() <= 2.0

    def test_smooth_lines__of_a_quadratic_are_exact(self):
        x = np.linspace(-4, 4, 13)
        deviance = np.add.outer(x**2, x**2)
        (line,) = smooth_lines(x, x, deviance, 4.0)
        assert (line**2).sum(axis=1) == pytest.approx(np.full(len(line), 4.0), rel=5e-3)

    def test_thinned__keeps_what_can_be_told_apart_and_what_is_marked(self):
        place = np.column_stack([np.linspace(0, 10, 1001), np.zeros(1001)])
        kept = thinned(place, {0, 1, 1000})
        assert {0, 1, 1000} <= set(kept)
        assert len(kept) <= 10 / NEAREST + 3
        gaps = np.diff(place[[t for t in kept if t not in (1, 1000)], 0])
        assert gaps.min() >= NEAREST - 1e-9


class TestResiduals:
    def test_residuals__draws_those_of_the_fit(self):
        fit = fitted("random_slope")
        spec = picture(fit, "residuals")
        scatter, size, quantiles = spec["vconcat"][0]["concat"][:3]
        points = {(r["at"], r["value"]) for r in values(scatter) if "at" in r and "value" in r}
        assert points >= set(zip(fit.predict().tolist(), fit.residuals().tolist(), strict=True))
        assert {r.get("value") for r in values(size)} >= set(np.sqrt(np.abs(fit.residuals("standardized"))).tolist())
        marked = [part for part in quantiles["layer"] if part["mark"]["type"] == "point"]
        found = [r["value"] for part in marked for r in part["data"]["values"]]
        assert sorted(found) == pytest.approx(np.sort(fit.residuals("standardized")))

    def test_residuals__shrinkage_bends_them_within_the_band(self):
        """Conditional residuals of related animals rise with fitted values; the band of the model rises with them."""
        fit = fitted("animals")
        panel = picture(fit, "residuals")["concat"][0]
        ribbon = pd.DataFrame(panel["layer"][0]["data"]["values"])
        assert ribbon.high.iloc[0] < 0 < ribbon.low.iloc[-1]
        line = pd.DataFrame(panel["layer"][-1]["data"]["values"])
        inside = np.interp(line["at"], ribbon["at"], ribbon.low) <= line.value
        assert inside.mean() > 0.9

    def test_by_group__has_the_quantiles_of_each_group(self, rng):
        codes, x = rng.integers(0, 4, 200), rng.normal(size=200)
        table = by_group(list("abcd"), codes, x)
        for row in table.itertuples():
            own = x[codes == "abcd".index(row.group)]
            assert (row.n, row.q1, row.median, row.high) == (
                len(own), *(pytest.approx(np.quantile(own, q)) for q in (0.25, 0.5, 1.0)))  # fmt: skip
        assert table["median"].is_monotonic_increasing

    def test_smooth__is_weighted_least_squares_at_each_place(self, rng):
        x = rng.uniform(0, 10, 60)
        y = np.sin(x) + rng.normal(0, 0.1, 60)
        for at in (1.0, 4.2, 9.5):
            k = int(np.ceil(60 * 2 / 3))
            reach = np.sort(np.abs(x - at))[k - 1]
            w = np.clip(1 - (np.abs(x - at) / reach) ** 3, 0, None) ** 3
            slope, level = np.polyfit(x, y, 1, w=np.sqrt(w))
            assert smooth(x, y, np.array([at]))[0] == pytest.approx(level + slope * at, abs=1e-6)

    def test_qq__marks_what_leaves_the_envelope(self):
        panel = picture(fitted("random_slope"), "qq")["concat"][0]
        low, high = (pd.DataFrame(panel["layer"][k]["data"]["values"]) for k in (-2, -1))
        outside = pd.DataFrame(next(p for p in panel["layer"] if p["mark"].get("shape") == "diamond")["data"]["values"])
        assert 1 <= len(outside) < 30
        for row in outside.itertuples():
            k = np.flatnonzero(low["at"] == row.at)[0]
            assert row.value < low["value"][k] or row.value > high["value"][k]


class TestInfluence:
    def test_influence__draws_the_greatest_distances_first(self):
        fit = fitted("random_slope")
        spec = picture(fit, "influence")
        table = fit.influence("Subject").frame["cooks_distance"].sort_values(ascending=False)
        rows = spec["hconcat"][0]["layer"][-1]["data"]["values"]
        assert [r["group"] for r in rows] == [str(v) for v in table.index]
        assert [r["value"] for r in rows] == pytest.approx(table.tolist())
        betas = fit.influence("Subject").dfbetas
        slope = {r["group"]: r["value"] for r in spec["hconcat"][2]["layer"][-1]["data"]["values"]}
        assert slope == pytest.approx({str(k): v for k, v in betas["Days"].items()})
        assert all(r["out"] == (abs(r["value"]) > 2 / np.sqrt(18)) for r in values(spec["hconcat"][2]) if "out" in r)

    def test_influence__of_single_rows_where_asked(self):
        spec = picture(fitted("one_way"), "influence", by="rows")
        assert spec["title"]["text"] == "Influence of each row"
        assert len(spec["hconcat"][0]["layer"][-1]["data"]["values"]) == 25
