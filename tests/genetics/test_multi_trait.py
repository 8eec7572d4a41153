"""Several traits: the model is what stacking by hand says, and gryphon's is the dense likelihood's, from any start."""

import numpy as np
import pandas as pd
import pytest
from references import table
from scipy.optimize import minimize

import vcbench as vc
from vcbench import kernels
from vcbench.errors import DataError, FormulaError, ModelError
from vcbench.model.pedigree import Pedigree

multi_trait = vc.genetics.multi_trait
FOLDER = table.shared_folder()
with_data = table.with_data
NEEDS = ("score", "expected", "average")


@pytest.fixture
def pedigree():
    rng = np.random.default_rng(2)
    parents = np.array([rng.integers(max(0, i - 9), i, 2) if i > 4 else (-1, -1) for i in range(40)]) + 1
    return Pedigree.of({"id": np.arange(1, 41), "sire": parents[:, 0], "dam": parents[:, 1]})


@pytest.fixture
def data(rng):
    """Wide: two traits of animals 11 … 40, some with two records, either trait missing at times; dams, some unknown."""
    animal = np.arange(11, 41).repeat(rng.integers(1, 3, 30))
    n = len(animal)
    d = pd.DataFrame({"animal": animal, "sex": rng.choice(["f", "m"], n), "x": rng.normal(size=n)})
    d["herd"], d["dam"] = rng.choice(list("pqr"), n), rng.integers(1, 11, n).astype(float)
    d.loc[rng.random(n) < 0.2, "dam"] = np.nan
    d["a"], d["b"] = rng.normal(size=n), 5.0 + 2.0 * rng.normal(size=n)
    d.loc[rng.random(n) < 0.2, "a"] = np.nan
    d.loc[rng.random(n) < 0.2, "b"] = np.nan
    return d


def test_model__is_the_one_stacked_by_hand(data, pedigree):
    """Long form, a column of X and an effect for each trait, by Model.from_formula."""
    cov = {"animal": vc.covariance.pedigree(pedigree)}
    model = multi_trait(["a ~ x + (1 | animal) + (1 | herd)", "b ~ x + (1 | animal) + (1 | herd)"], data, cov=cov)
    assert model.X_names == ("a:(Intercept)", "a:x", "b:(Intercept)", "b:x")
    assert model.theta_names == (
        *(f"{g}:{v}" for g in ("animal", "herd") for v in ("var(a)", "cov(a,b)", "var(b)")),
        "residual:var(a)", "residual:cov(a,b)", "residual:var(b)",
    )  # fmt: skip
    assert model.n_dropped == int((data["a"].isna() & data["b"].isna()).sum())
    parts = [data.assign(y=data[t], trait=t, record=data.index).dropna(subset="y") for t in ("a", "b")]
    long = pd.concat(parts, ignore_index=True)
    formula = "y ~ 0 + trait + trait:x + (0 + trait | animal) + (0 + trait | herd)"
    other = vc.Model.from_formula(formula, long, cov=cov, residual="un(trait, group=record)")
    assert model.y.tolist() == other.y.tolist()
    theta = np.array([1.2, 0.4, 2.0, 0.5, -0.2, 0.6, 1.1, 0.3, 2.0])
    for kernel in ("sparse", "dense"):
        ours, theirs = (kernels.build(m, kernel).evaluate(theta, NEEDS) for m in (model, other))
        for name in ("loglik", *NEEDS):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-8, abs=1e-8), name


def test_model__terms_of_one_trait_only(data, pedigree):
    """A group that one trait has, slopes, an offset, uncorrelated blocks, independent residuals: names and V."""
    cov = {"animal": vc.covariance.pedigree(pedigree), "sex": "diag"}
    formulas = ["a ~ 1 + (1 | animal) + (x || herd)", "b ~ x + offset(x) + (1 | animal) + (1 | herd) + (1 | sex)"]
    model = multi_trait(formulas, data, cov=cov, residual="by(trait)")
    assert model.theta_names == (
        "animal:var(a)", "animal:cov(a,b)", "animal:var(b)",
        "herd:var(a)", "herd:cov(a,b)", "herd:var(b)", "herd:var(a:x)", "sex:var(b)",
        "residual:var(a)", "residual:var(b)",
    )  # fmt: skip
    theta = np.array([1.2, 0.4, 2.0, 0.5, -0.2, 0.6, 0.3, 0.7, 1.1, 2.0])
    used = pd.concat([data.assign(t=t)[data[t].notna()] for t in ("a", "b")])
    A, at = pedigree.relationship(), pedigree.positions(used["animal"])
    t, herd, sex, x = ((used[name].to_numpy()) for name in ("t", "herd", "sex", "x"))
    is_a, same = t == "a", np.equal.outer
    ab = {(True, True): 0, (False, True): 1, (True, False): 1, (False, False): 2}
    which = np.array([[ab[i, j] for j in is_a] for i in is_a])
    V = theta[which] * A[np.ix_(at, at)] + theta[3 + which] * same(herd, herd)
    V += 0.3 * np.outer(is_a * x, is_a * x) * same(herd, herd) + 0.7 * np.outer(~is_a, ~is_a) * same(sex, sex)
    V += np.diag(np.where(is_a, 1.1, 2.0))
    beta = np.array([0.1, 5.0, 0.3])
    r = used["a"].where(is_a, used["b"]).to_numpy() - np.where(is_a, 0.1, 5.0 + 1.3 * x)
    want = -0.5 * (len(r) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
    for kernel in ("sparse", "dense"):
        assert kernels.build(model, kernel).evaluate(theta, criterion="ml", beta=beta).loglik == pytest.approx(want)


def test_model__maternal_effects_of_both_traits(data, pedigree):
    """Ω (4, 4) over direct and maternal effects: on the rows of a trait alone it is that trait's own model."""
    cov = {"animal": vc.covariance.pedigree(pedigree, maternal="dam")}
    model = multi_trait(["a ~ x + (1 | animal)", "b ~ x + (1 | animal)"], data, cov=cov, residual="by(trait)")
    (c,) = model.components
    assert c.effects == ("a:direct", "b:direct", "a:maternal", "b:maternal")
    Omega = np.diag([1.2, 2.0, 0.5, 0.8])
    Omega[0, 2] = Omega[2, 0] = -0.3
    Omega[1, 3] = Omega[3, 1] = 0.4
    theta = np.array([*(Omega[a, b] for a, b in c.index), 1.1, 2.0])
    both = kernels.build(model, "sparse").evaluate(theta)
    dense = kernels.build(model, "dense").evaluate(theta)
    alone = 0.0
    for t, i in (("a", 0), ("b", 1)):
        one = vc.Model.from_formula(f"{t} ~ x + (1 | animal)", data, cov=cov)
        own = np.array([Omega[i, i], Omega[i, i + 2], Omega[i + 2, i + 2], theta[-2 + i]])
        alone += kernels.build(one, "sparse").evaluate(own).loglik
    assert both.loglik == pytest.approx(alone, rel=1e-10)
    assert both.loglik == pytest.approx(dense.loglik, rel=1e-10)


def test_multi_trait__errors(data, pedigree):
    with pytest.raises(ModelError, match="takes a formula for each of two traits or more"):
        multi_trait(["a ~ x + (1 | animal)"], data)
    with pytest.raises(ModelError, match="trait `a` has two formulas"):
        multi_trait(["a ~ x", "a ~ sex"], data)
    with pytest.raises(ModelError, match="`cov` names `animals`, which is no grouping factor"):
        multi_trait(["a ~ x + (1 | animal)", "b ~ x"], data, cov={"animals": "diag"})
    with pytest.raises(FormulaError):
        multi_trait(["a ~ x + (1 | animal)", "x + (1 | animal)"], data)
    with pytest.raises(DataError, match="column `records` is not in the data"):
        multi_trait(["a ~ x", "b ~ x"], data, residual="un(trait, group=records)")
    apart = data.assign(b=data["b"].where(data["a"].isna()))
    model = multi_trait(["a ~ x + (1 | herd)", "b ~ x + (1 | herd)"], apart)
    with pytest.raises(ModelError, match=r"say nothing of `residual:cov\(a,b\)`"):
        vc.fit(model)


def gryphon(random="(1 | animal)"):
    data = pd.read_csv(FOLDER / "gryphon.csv").astype({"sex": "category"})
    cov = {"animal": vc.covariance.pedigree(pd.read_csv(FOLDER / "gryphon_pedigree.csv"))}
    return multi_trait([f"bwt ~ sex + {random}", f"tarsus ~ sex + {random}"], data, cov=cov), data


def by_hand(model, data):
    """∂V/∂θ_j of gryphon's bivariate model from the table and the tabular A alone: animals, then residuals."""
    P = Pedigree.of(pd.read_csv(FOLDER / "gryphon_pedigree.csv"))
    A = P.relationship()
    bwt, tarsus = (data[data[t].notna()] for t in ("bwt", "tarsus"))
    used, second = pd.concat([bwt, tarsus]), np.repeat([0, 1], [len(bwt), len(tarsus)])
    assert model.y.tolist() == [*bwt["bwt"], *tarsus["tarsus"]]
    at = P.positions(used["animal"])
    both, same = A[np.ix_(at, at)], np.equal.outer(used.index.to_numpy(), used.index.to_numpy())
    which = np.add.outer(second, second)
    return np.array([part * (which == k) for part in (both, same) for k in range(3)])


def dense(model, Vs, theta):
    """(ℓ_REML, score, average information) from V (n, n) by its inverse: MATH §1, 2."""
    V, X, n = np.tensordot(theta, Vs, axes=1), model.X, model.n_obs
    Vinv = np.linalg.inv(V)
    XtVX = X.T @ Vinv @ X
    P = Vinv - Vinv @ X @ np.linalg.solve(XtVX, X.T @ Vinv)
    g = P @ model.y
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(XtVX)[1]
    work = Vs @ g
    score = 0.5 * (work @ g - np.array([np.vdot(P, Vj) for Vj in Vs]))
    loglik = -0.5 * ((n - X.shape[1]) * np.log(2 * np.pi) + logs + model.y @ g)
    return loglik, score, 0.5 * work @ P @ work.T


@with_data
def test_gryphon__two_traits_end_at_a_maximum_of_the_dense_likelihood():
    """ℓ as the normal density of 1537 records, its score 0 there in standard errors, which are the dense ones."""
    model, data = gryphon()
    fit = vc.fit(model)
    assert (fit.kernel, fit.status.ok, model.n_obs) == ("sparse", True, 854 + 683)
    loglik, score, average = dense(model, by_hand(model, data), fit.theta.to_numpy())
    assert fit.loglik == pytest.approx(loglik, rel=1e-10)
    se = np.sqrt(np.diag(np.linalg.inv(average)))
    assert np.abs(score * se).max() < 1e-5
    assert fit.theta_se.to_numpy() == pytest.approx(se, rel=1e-6)


@with_data
@pytest.mark.slow
def test_gryphon__two_traits_from_two_starts_by_another_program():
    """scipy's L-BFGS on the dense ℓ of Cholesky factors, from a poor start and from a correlated one."""
    model, data = gryphon()
    Vs, fit = by_hand(model, data), vc.fit(model)

    def theta_of(x):
        L, M = (np.array([[np.exp(a), 0.0], [b, np.exp(c)]]) for a, b, c in (x[:3], x[3:]))
        return np.array([S[i, j] for S in (L @ L.T, M @ M.T) for i, j in ((0, 0), (1, 0), (1, 1))])

    def minus(x):
        loglik, score, _ = dense(model, Vs, theta_of(x))
        J = np.array([(theta_of(x + h) - theta_of(x - h)) / 2e-6 for h in 1e-6 * np.eye(6)])
        return -loglik, -J @ score

    for start in ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.5, 1.5, 0.7, 0.6, 1.2, 1.0]):
        found = minimize(minus, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
        assert -found.fun == pytest.approx(fit.loglik, abs=1e-5)
        assert theta_of(found.x) == pytest.approx(fit.theta.to_numpy(), rel=2e-3)


@with_data
def test_gryphon__one_trait_of_two_is_the_published_model():
    """Traits that share nothing are two models: with every covariance 0 ℓ is the sum of the univariate ones."""
    data = pd.read_csv(FOLDER / "gryphon.csv").astype({"sex": "category"})
    cov = {"animal": vc.covariance.pedigree(pd.read_csv(FOLDER / "gryphon_pedigree.csv"), vc.covariance.diag())}
    formulas = ["bwt ~ sex + (1 | animal)", "tarsus ~ sex + (1 | animal)"]
    both = vc.fit(multi_trait(formulas, data, cov=cov, residual="by(trait)"))
    alone = [vc.fit(vc.Model.from_formula(f, data, cov=cov | {"animal": replaced(cov["animal"])})) for f in formulas]
    assert both.loglik == pytest.approx(sum(f.loglik for f in alone), abs=1e-6)
    published = table.index(FOLDER)["gryphon.m2.reml"][1]
    assert both.theta["animal:var(bwt)"] == pytest.approx(published["varcomp"][0]["vcov"], rel=1e-4)
    assert both.theta["residual:var(bwt)"] == pytest.approx(published["sigma2"], rel=1e-4)


def replaced(known):
    return vc.covariance.pedigree(known.pedigree)
