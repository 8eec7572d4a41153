"""Profiles of structured models by formulas in one dimension; all kernels give the same limits; pedigrees and K."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import frame
from oracle import derivatives, loglik_of
from scipy.optimize import brentq, minimize
from strategies import draw_problem

import vcbench as vc
from vcbench.inference.profile import profile_curve, profile_interval
from vcbench.kernels import KERNELS, build

Z2 = 3.841458820694124  # χ²_1(0.95)
ORTHODONT = Path(__file__).parents[2] / "models" / "data" / "orthodont.csv"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "orthodont.csv"


def orthodont(residual, formula="distance ~ age * Sex"):
    path = ORTHODONT if ORTHODONT.exists() else SHARED
    if not path.exists():
        pytest.skip("orthodont.csv is neither in models/data nor in ../shared/data")
    return vc.Model.from_formula(formula, pd.read_csv(path), residual=residual)


def scaled_loglik(model, C, criterion):
    """max ℓ over σ² of V = σ²C (MATH §1): σ̂² = rᵀC⁻¹r/n, or over n − d under REML."""
    y, X = model.y, model.X
    n, d = X.shape
    Ci = np.linalg.inv(C)
    A = X.T @ Ci @ X
    r = y - X @ np.linalg.solve(A, X.T @ Ci @ y)
    m = n if criterion == "ml" else n - d
    s2 = r @ Ci @ r / m
    minus2 = m * np.log(2 * np.pi * s2) + np.linalg.slogdet(C)[1] + m
    return -0.5 * (minus2 + (np.linalg.slogdet(A)[1] if criterion == "reml" else 0.0))


class TestResidualStructures:
    @pytest.mark.parametrize("criterion", ["ml", "reml"])
    @pytest.mark.parametrize(
        ("residual", "within"),
        [
            ("ar1(age, group=Subject)", lambda rho: rho ** np.abs(np.subtract.outer(range(4), range(4)))),
            ("cs(group=Subject)", lambda rho: (1 - rho) * np.eye(4) + rho),
        ],
    )
    def test_profile__of_rho_is_the_root_of_a_formula(self, criterion, residual, within):
        """Orthodont: 27 children, ages 8, 10, 12, 14 in order."""
        model = orthodont(residual)
        fit = vc.fit(model, criterion=criterion)
        got = profile_interval(fit, "residual:rho")

        def deviance(rho):
            return 2 * (fit.loglik - scaled_loglik(model, np.kron(np.eye(27), within(rho)), criterion)) - Z2

        want = brentq(deviance, 0.01, got.estimate, xtol=1e-13), brentq(deviance, got.estimate, 0.99, xtol=1e-13)
        assert (got.lower, got.upper) == pytest.approx(want, rel=1e-7)
        assert got.note == ""

    def test_profile__of_cs_is_that_of_the_random_intercept(self):
        """ρ ≥ 0 of compound symmetry is the ICC: two kernels, two parameterisations, one profile."""
        a = vc.fit(orthodont("cs(group=Subject)"))
        b = vc.fit(orthodont(None, "distance ~ age * Sex + (1 | Subject)"))
        rho, icc = profile_interval(a, "residual:rho"), profile_interval(b, "icc = Subject / total")
        assert (rho.lower, rho.upper) == pytest.approx((icc.lower, icc.upper), rel=1e-6)
        total, var = profile_interval(b, "total"), profile_interval(a, "residual:var")
        assert (total.lower, total.upper) == pytest.approx((var.lower, var.upper), rel=1e-6)
        for name in ("age", "age:SexMale"):
            one, two = profile_interval(a, name), profile_interval(b, name)
            assert (one.lower, one.upper) == pytest.approx((two.lower, two.upper), rel=1e-6)

    def test_profile__without_an_end_is_unbounded_and_says_so(self):
        """Distance decay beside a nugget tends to compound symmetry as its range grows: the data do not refuse it."""
        fit = vc.fit(orthodont("exponential(age, group=Subject) + nugget"), criterion="ml")
        got = profile_interval(fit, "residual:range")
        assert got.upper == np.inf
        level = float(got.note.rpartition(" ")[2])
        cs = vc.fit(orthodont("cs(group=Subject)"), criterion="ml").loglik
        assert level**2 == pytest.approx(2 * (fit.loglik - cs), abs=2e-3)
        assert got.note == f"no upper limit: ζ levels off at {level:.3g}"
        curve = profile_curve(fit, "residual:range")
        assert "levels off" in curve.note
        assert curve.zeta[0] < -4

    def test_profile__of_a_correlation_that_may_be_one_ends_there(self):
        """Ω = v[(1−ρ)I + ρ11ᵀ] of an intercept and Days: ρ to its edge, by ℓ over the two variances."""
        d = frame("sleepstudy")
        d = d[d["Subject"].isin([331, 335, 337, 350, 370, 371]) & (d["Days"] <= 5)]
        model = vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", d, cov={"Subject": vc.covariance.cs()})
        fit = vc.fit(model)
        got = profile_interval(fit, "Subject:rho")
        kernel = build(model)

        def deviance(rho):
            def minus(u):
                return -kernel.evaluate(np.array([np.exp(u[0]), rho, np.exp(u[1])])).loglik

            start = np.log(fit.theta_values[[0, 2]])
            return 2 * (fit.loglik + minimize(minus, start, method="BFGS", options={"gtol": 1e-7}).fun)

        assert deviance(got.lower) == pytest.approx(Z2, abs=1e-6)
        assert got.upper == 1.0
        zeta = float(got.note.rpartition(" ")[2])
        assert got.note == f"upper limit at the boundary, where ζ is {zeta:.3g}"
        assert deviance(1 - 1e-6) == pytest.approx(zeta**2, abs=0.01)

    def test_profile__of_heterogeneous_variances_has_the_deviance_of_the_level(self):
        """A variance by age: the profile of one fixes σ_j of D C D; the model with it fixed, by the same kernel's ℓ."""
        fit = vc.fit(orthodont("csh(age, group=Subject)"), criterion="ml")
        kernel = build(fit.model)
        got = profile_interval(fit, "residual:sd(10)")
        for limit in (got.lower, got.upper):

            def minus(u, limit=limit):
                v = np.exp(u[:3])
                theta = np.array([v[0], limit**2, v[1], v[2], np.tanh(u[3])])
                return -kernel.evaluate(theta, criterion="ml").loglik

            t = fit.theta_values
            start = np.append(np.log(t[[0, 2, 3]]), np.arctanh(t[4]))
            best = -minimize(minus, start, method="BFGS", options={"gtol": 1e-7}).fun
            assert 2 * (fit.loglik - best) == pytest.approx(Z2, abs=1e-6)

    def test_profile__of_weights_is_that_of_scaled_rows(self):
        d = frame("sleepstudy").iloc[:60].copy()
        d["w"] = 1.0 + np.arange(60) % 3
        a = vc.fit(vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", d, residual="weights(w)"), criterion="ml")
        root = np.sqrt(d["w"].to_numpy())
        component = vc.Component(root[:, None], name="Subject", group=d["Subject"].to_numpy())
        X = np.column_stack([root, root * d["Days"]])
        b = vc.fit(vc.Model(root * d["Reaction"].to_numpy(), X, [component]), criterion="ml")
        for i, name in enumerate(a.facts.theta_names):
            one, two = profile_interval(a, name), profile_interval(b, b.facts.theta_names[i])
            assert (one.lower, one.upper) == pytest.approx((two.lower, two.upper), rel=1e-7)
        one, two = profile_interval(a, "Days"), profile_interval(b, b.facts.beta_names[1])
        assert (one.lower, one.upper) == pytest.approx((two.lower, two.upper), rel=1e-7)


class TestKernels:
    @pytest.mark.parametrize("kind", ["one-way-unbalanced", "slope-un", "K", "crossed", "nested", "two-Z"])
    def test_profile__is_the_same_by_every_kernel(self, kind):
        problem = next(p for p in (draw_problem(kind, 7, 4, seed=s) for s in range(9, 40))
                       if vc.fit(p.model).status is vc.Status.CONVERGED)  # fmt: skip
        model = problem.model
        limits = {}
        for kernel in problem.kernels:
            fit = vc.fit(model, kernel=kernel)
            names = [model.theta_names[0], "share = residual / total", *model.X_names]
            limits[kernel] = [(i.lower, i.upper) for i in (profile_interval(fit, n) for n in names)]
        assert len(limits) > 1
        assert set(limits) <= set(KERNELS)
        for found in limits.values():
            assert np.array(found) == pytest.approx(np.array(limits["dense"]), rel=1e-6, abs=1e-9)


class TestHeritability:
    @staticmethod
    def pedigree(n, seed=0):
        """n animals in order, parents drawn from those before them."""
        rng = np.random.default_rng(seed)
        sire = [None if i < 12 else f"a{rng.integers(0, i // 2)}" for i in range(n)]
        dam = [None if i < 12 else f"a{rng.integers(i // 2, i)}" for i in range(n)]
        return pd.DataFrame({"id": [f"a{i}" for i in range(n)], "sire": sire, "dam": dam})

    def model(self, n, seed=0):
        P = self.pedigree(n, seed)
        cov = vc.covariance.pedigree(P)
        animal = P["id"].to_numpy()
        data = {"y": np.zeros(n) + np.arange(n) % 2, "animal": animal, "x": np.arange(n) % 3 * 1.0}
        empty = vc.Model.from_formula("y ~ x + (1 | animal)", data, cov={"animal": cov})
        V = np.tensordot([0.5, 1.0], derivatives(empty.components, n), axes=1)
        y = 3 + np.linalg.cholesky(V) @ np.random.default_rng(seed + 1).normal(size=n)
        return empty.replace(y=y)

    @pytest.mark.parametrize("criterion", ["ml", "reml"])
    def test_profile__of_h2_in_a_pedigree_is_the_root_of_a_formula(self, criterion):
        model = self.model(120)
        fit = vc.fit(model, criterion=criterion)
        A, E = derivatives(model.components, 120)
        got = profile_interval(fit, "h2 = animal / total")

        def deviance(h2):
            return 2 * (fit.loglik - scaled_loglik(model, h2 * A + (1 - h2) * E, criterion)) - Z2

        estimate = fit.derive("h2 = animal / total")["estimate"]
        assert got.estimate == pytest.approx(estimate, rel=1e-10)
        assert 0 < estimate < 1
        for limit, side in ((got.lower, 0.0), (got.upper, 1.0)):
            edge = deviance(abs(side - 1e-9)) < 0
            assert limit == pytest.approx(side if edge else brentq(deviance, abs(side - 1e-9), estimate), abs=1e-8)
            assert edge == ("limit at the boundary" in got.note and limit == side)

    def test_profile__by_average_information_is_that_of_the_dense_kernel(self, monkeypatch):
        """A kernel that calls the observed information dear is climbed by the average one: to the same limits."""
        monkeypatch.setattr("vcbench.kernels.sparse.FEW", 100)
        model = self.model(320, seed=5)
        fit = vc.fit(model)
        kernel = build(model, fit.kernel)
        assert fit.kernel == "sparse"
        assert kernel.standard_information == "average"
        dense = vc.fit(model, kernel="dense")
        for name in ("animal:var", "h2 = animal / total", "residual:sd", "x"):
            got, want = profile_interval(fit, name), profile_interval(dense, name)
            assert (got.lower, got.upper) == pytest.approx((want.lower, want.upper), rel=1e-5)
            assert got.n_eval < 60

    def test_profile__of_h2_by_a_relationship_matrix(self):
        fit = next(f for f in (vc.fit(draw_problem("K", 9, 6, seed=s).model) for s in range(30))
                   if f.status is vc.Status.CONVERGED)  # fmt: skip
        K, E = derivatives(fit.model.components, fit.model.n_obs)
        got = profile_interval(fit, "h2 = a / total")
        for limit in (got.lower, got.upper):
            best = scaled_loglik(fit.model, limit * K + (1 - limit) * E, "reml")
            assert best == pytest.approx(fit.loglik - Z2 / 2, abs=1e-8) or limit in (0.0, 1.0)
        assert loglik_of(fit.model.y, fit.model.X, [K, E], fit.theta_values) == pytest.approx(fit.loglik)
