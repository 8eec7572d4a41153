"""Quantities and the coordinates of profiles: derivatives against differences, ranges, maps there and back."""

import math

import numpy as np
import pytest
from classics import dyestuff, frame, sleepstudy
from oracle import central_difference, loglik_of
from oracle import derivatives as derivatives_of
from strategies import draw_problem

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.constrained import Angle, Coordinate, peak
from vcbench.inference.curves import Scale
from vcbench.inference.fixed_profiles import Joint
from vcbench.inference.quantities import quantity_of
from vcbench.inference.roots import Likelihood, Roots
from vcbench.kernels import build

THREE = "y ~ a + b + (a + b | g)"


def three_effects(seed=3):
    """Twelve groups of six rows with a random intercept and two slopes."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(12), 6)
    a, b = rng.normal(size=(2, 72))
    u = rng.normal(size=(12, 3)) @ np.array([[1.0, 0.3, 0.2], [0, 0.8, -0.3], [0, 0, 0.6]])
    y = 2 + a - b + u[g, 0] + u[g, 1] * a + u[g, 2] * b + rng.normal(size=72)
    return vc.fit(vc.Model.from_formula(THREE, {"y": y, "a": a, "b": b, "g": g}))


class TestQuantities:
    @pytest.mark.parametrize(
        ("said", "value"),
        [
            ("Subject:var(Days)", lambda t, b: t[2]),
            ("Subject:sd(Days)", lambda t, b: math.sqrt(t[2])),
            ("Subject:cov((Intercept),Days)", lambda t, b: t[1]),
            ("Subject:cor((Intercept),Days)", lambda t, b: t[1] / math.sqrt(t[0] * t[2])),
            ("residual:sd", lambda t, b: math.sqrt(t[3])),
            ("residual", lambda t, b: t[3]),
            ("Days", lambda t, b: b[1]),
            ("(Intercept)", lambda t, b: b[0]),
            ("share = residual / total", lambda t, b: t[3] / (t[0] + t[2] + t[3])),
            ("log(residual) ** 2 - exp(-Days / 10)", lambda t, b: math.log(t[3]) ** 2 - math.exp(-b[1] / 10)),
            ("2 ** tanh(residual / 1000) + arctanh(`Subject:var(Days)` / 100)",
             lambda t, b: 2 ** math.tanh(t[3] / 1000) + math.atanh(t[2] / 100)),
            ("residual ** (Days / 10)", lambda t, b: t[3] ** (b[1] / 10)),
            (lambda v: v["residual:var"] * abs(v["Days"]), lambda t, b: t[3] * abs(b[1])),
        ],
    )  # fmt: skip
    def test_quantity__has_the_derivatives_of_its_value(self, said, value):
        fit = vc.fit(sleepstudy())
        q = quantity_of(fit.facts, said)
        theta, beta = fit.theta_values, fit.beta_values
        assert q.value(theta, beta) == pytest.approx(value(theta, beta), rel=1e-14)
        x = np.concatenate([theta, beta])
        g, gradient, hessian = q.jet(theta, beta)
        assert g == pytest.approx(value(theta, beta), rel=1e-14)
        step = 1e-3 * np.abs(x)
        want = central_difference(lambda z: value(z[:4], z[4:]), x, step)
        assert gradient == pytest.approx(want, rel=1e-7, abs=1e-9 * abs(g) / np.abs(x).max())
        rows = central_difference(lambda z: q.jet(z[:4], z[4:])[1], x, step)
        unit = abs(g) / np.outer(np.abs(x), np.abs(x))
        assert (np.abs(hessian - rows) <= 1e-6 * np.abs(rows) + 1e-7 * unit).all()

    def test_quantity__of_beta_alone_knows_its_contrast(self):
        facts = vc.fit(sleepstudy()).facts
        assert quantity_of(facts, "Days").contrast.tolist() == [0, 1]
        assert quantity_of(facts, "`(Intercept)` - 3 * Days").contrast.tolist() == [1, -3]
        for said in ("Days ** 2", "Days + 1", "`(Intercept)` / Days", "Days * residual"):
            assert quantity_of(facts, said).contrast is None

    def test_quantity__names_that_hold_commas_and_colons(self):
        rng = np.random.default_rng(1)
        Z = np.column_stack([np.ones(60), rng.normal(size=60)])
        group = np.repeat(np.arange(12), 5)
        y = rng.normal(size=60) + rng.normal(size=12)[group] + rng.normal(size=12)[group] * Z[:, 1]
        c = vc.Component(Z, name="a:b", group=group, columns=["poly(x, 2)1", "I(x,y)"])
        q = quantity_of(vc.fit(vc.Model(y, components=[c])).facts, "a:b:cor(poly(x, 2)1,I(x,y))")
        assert (q.kind, q.places) == ("correlation", (1, 0, 2))

    @pytest.mark.parametrize(
        ("said", "bounds"),
        [
            ("Batch:var((Intercept))", (0, math.inf)),
            ("Batch:sd((Intercept))", (0, math.inf)),
            ("icc = Batch / total", (0, 1)),
            ("100 * (1 - Batch / total)", (0, 100)),
            ("total", (0, math.inf)),
            ("Batch - residual", (-math.inf, math.inf)),
            ("Batch / residual", (0, math.inf)),
            ("log(Batch)", (-math.inf, math.inf)),
            ("tanh(residual / 1000) - 1", (-1, 0)),
            ("sqrt(Batch) / `(Intercept)`", (0, math.inf)),
            (lambda v: v["Batch:var((Intercept))"] / (v["Batch:var((Intercept))"] + v["residual:var"]), (0, 1)),
        ],
    )
    def test_quantity__knows_what_can_be_attained(self, said, bounds):
        fit = vc.fit(dyestuff())
        assert self.bounds(fit, said) == pytest.approx(bounds, abs=1e-9)

    @pytest.mark.parametrize(
        ("said", "bounds"),
        [
            ("`Subject:cov((Intercept),Days)` / sqrt(`Subject:var((Intercept))` * `Subject:var(Days)`)", (-1, 1)),
            ("`Subject:var(Days)` / total", (0, 1)),
            ("Subject:cor((Intercept),Days)", (-1, 1)),
            ("Subject:cov((Intercept),Days)", (-math.inf, math.inf)),
        ],
    )
    def test_quantity__knows_what_can_be_attained_with_correlated_effects(self, said, bounds):
        assert self.bounds(vc.fit(sleepstudy()), said) == pytest.approx(bounds, abs=1e-9)

    @staticmethod
    def bounds(fit, said):
        f = Likelihood(build(fit.model), "reml")
        q = quantity_of(fit.facts, said)
        near, far = f.corners(f.r(fit.theta_values), np.ones(len(fit.theta_values), bool))
        return q.bounds(near, far, fit.beta_values)

    def test_quantity__unknown_names_are_named(self):
        facts = vc.fit(dyestuff()).facts
        with pytest.raises(MethodError, match=r"`Bach` is no parameter of this fit\. Did you mean"):
            quantity_of(facts, "Bach")
        with pytest.raises(MethodError, match="unknown name `Bach`"):
            quantity_of(facts, "Bach / total")

    @pytest.mark.parametrize("scale", [Scale(0, 1), Scale(-1, 1), Scale(2, math.inf, 0.3),
                                       Scale(-math.inf, 3, 2.0), Scale(-math.inf, math.inf, 5.0)])  # fmt: skip
    def test_scale__maps_there_and_back_with_its_derivatives(self, scale):
        g = np.clip(0.37, scale.lo + 0.2, scale.hi - 0.2)
        t, first, second = scale.jet(g)
        assert scale.natural(t) == pytest.approx(g, rel=1e-14)
        assert scale.limits[0] <= t <= scale.limits[1]
        assert first == pytest.approx((scale.jet(g + 1e-5)[0] - scale.jet(g - 1e-5)[0]) / 2e-5, rel=1e-8)
        assert second == pytest.approx((scale.jet(g + 1e-5)[1] - scale.jet(g - 1e-5)[1]) / 2e-5, rel=1e-7, abs=1e-8)


class TestRoots:
    @pytest.mark.parametrize("first", [(), (2,), (1, 0), (2, 1)])
    def test_roots__are_cholesky_factors_in_any_order(self, first):
        fit = three_effects()
        lay = build(fit.model).layout
        roots = Roots.of(lay, first)
        x = fit.theta_values / lay.scale
        r = roots.of_x(x)
        assert roots.x(r) == pytest.approx(x, rel=1e-12)
        assert (r[roots.diagonal] > 0).all()
        if first:
            assert r[roots.diagonal[first[0]]] ** 2 * lay.scale[roots.diagonal[first[0]]] == pytest.approx(
                fit.theta_values[roots.diagonal[first[0]]]
            )
        by_formula = roots.jacobian(r)[1].T
        assert by_formula == pytest.approx(central_difference(roots.x, r, np.full(7, 1e-3)), abs=1e-11)

    @pytest.mark.parametrize("criterion", ["ml", "reml"])
    def test_likelihood__in_r_has_the_dense_gradient_and_hessian(self, criterion):
        """Also where Ω is singular and where a variance is 0: ℓ is smooth there."""
        fit = three_effects()
        f = Likelihood(build(fit.model), criterion, Roots.of(build(fit.model).layout, (1,)))
        Vs = derivatives_of(fit.model.components, 72)
        r0 = f.r(fit.theta_values)
        singular, zero = r0.copy(), r0.copy()
        singular[f.roots.cones[0][2, 2]] = 0.0
        zero[f.roots.cones[0][0]] = 0.0
        for r in (r0, 1.2 * r0 + 0.1, singular, zero, -r0):

            def ell(z):
                return loglik_of(fit.model.y, fit.model.X, Vs, f.theta(z), criterion)

            at = f.at(r)
            assert at.loglik == pytest.approx(ell(r), rel=1e-11)
            step = np.full(len(r), 2e-3)
            assert at.gradient == pytest.approx(central_difference(ell, r, step), rel=1e-6, abs=1e-6)
            rows = central_difference(lambda z: f.at(z).gradient, r, step)
            information = at.H
            assert information == pytest.approx(-rows, rel=1e-6, abs=1e-5)

    def test_likelihood__in_r_of_structures_has_its_gradient_and_hessian(self):
        data = frame("sleepstudy")
        model = vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days, group=Subject)")
        fit = vc.fit(model)
        f = Likelihood(build(model), "reml")
        r = 1.1 * f.r(fit.theta_values) + 0.05
        step = np.full(len(r), 1e-3)
        at = f.at(r)
        assert at.gradient == pytest.approx(central_difference(lambda z: f.at(z).loglik, r, step), rel=1e-6, abs=1e-6)
        information, rows = at.H, central_difference(lambda z: f.at(z).gradient, r, step)
        assert information == pytest.approx(-rows, rel=1e-6, abs=1e-5)
        q = quantity_of(fit.facts, "Subject / (Subject + residual) * `residual:rho`")

        def g(z):
            return q.value(f.theta(z), fit.beta_values)

        def jet(z):
            value, a, C = q.jet(f.theta(z), fit.beta_values)
            return f.natural(z, (value, a[:3], C[:3, :3]))

        assert jet(r)[1] == pytest.approx(central_difference(g, r, step), rel=1e-8, abs=1e-10)
        assert jet(r)[2] == pytest.approx(central_difference(lambda z: jet(z)[1], r, step), rel=1e-7, abs=1e-9)

    def test_joint__likelihood_in_r_and_gamma_has_its_gradient_and_hessian(self):
        fit = three_effects()
        kernel = build(fit.model)
        f = Joint(kernel, Roots.of(kernel.layout))
        at = kernel.evaluate(fit.theta_values, criterion="ml")
        z = np.append(1.1 * f.r(fit.theta_values) + 0.05, at.gamma / f.size + [0.2, -0.1, 0.3])
        here, step = f.at(z), np.full(len(z), 1e-3)
        assert here.gradient == pytest.approx(central_difference(lambda v: f.at(v).loglik, z, step), rel=1e-6, abs=1e-6)
        information, rows = here.H, central_difference(lambda v: f.at(v).gradient, z, step)
        assert information == pytest.approx(-rows, rel=1e-6, abs=1e-5)
        y = fit.model.y - fit.model.X @ f.beta(z)
        V = np.tensordot(f.theta(z), derivatives_of(fit.model.components, 72), axes=1)
        dense = -0.5 * (72 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + y @ np.linalg.solve(V, y))
        assert here.loglik == pytest.approx(dense, rel=1e-11)

    def test_angle__has_the_derivatives_of_its_value(self):
        surface, r = Angle(1, 2, 0), np.array([1.1, -0.4, 0.7, 0.3])
        t, a, bend = surface.jet(r)
        assert math.sin(t) == pytest.approx(-0.4 / math.hypot(0.4, 0.7))
        assert a == pytest.approx(central_difference(lambda z: surface.jet(z)[0], r, np.full(4, 1e-3)), abs=1e-11)
        assert bend == pytest.approx(central_difference(lambda z: surface.jet(z)[1], r, np.full(4, 1e-3)), abs=1e-10)
        assert surface.jet(surface.onto(r, 0.9))[0] == pytest.approx(0.9)


class TestPeak:
    def test_peak__climbs_off_a_variance_of_zero_by_curvature(self):
        """From r = 0 in a variance ℓ has no slope: only the curvature tells that it rises."""
        fit = vc.fit(dyestuff())
        f = Likelihood(build(fit.model), "reml")
        r = f.r(fit.theta_values)
        r[0] = 0.0
        assert f.at(r).gradient[0] == 0.0
        found = peak(f, None, 0.0, r)
        assert f.theta(found.r) == pytest.approx(fit.theta_values, rel=1e-5)
        assert found.loglik == pytest.approx(fit.loglik, abs=1e-8)

    @pytest.mark.parametrize("seed", range(12))
    def test_peak__on_a_surface_has_the_slope_of_the_profile(self, seed):
        kind = ("crossed", "slope-un", "two-Z")[seed % 3]
        model = draw_problem(kind, 6, 4, zero=bool(seed % 2), seed=seed).model
        fit = vc.fit(model, criterion="ml")
        f = Likelihood(build(model), "ml")
        k = int(f.roots.diagonal[0])
        r = f.r(fit.theta_values)
        t, h = abs(r[k]) + 0.4, 1e-4
        at, up, down = (peak(f, Coordinate(k), t + s, r, 1e-6) for s in (0.0, h, -h))
        assert at.r[k] == t
        assert at.slope == pytest.approx((up.loglik - down.loglik) / (2 * h), rel=1e-4, abs=1e-6)
        assert np.abs(np.delete(f.at(at.r).gradient, k)).max() < 1e-4
        ahead = peak(f, Coordinate(k), t + h, r, 1e-6).r
        assert at.towards(t + h) == pytest.approx(ahead, abs=1e-5)  # to first order
