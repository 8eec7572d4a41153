"""fit.predict: means and errors are those of the joint normal of y and the new rows, conditioned on y."""

import numpy as np
import pandas as pd
import pytest
from joint import RESIDUALS, predicted, random_part, residual_covariance
from strategies import draw_problem

import vcbench as vc
from vcbench.errors import DataError, MethodError, ModelError
from vcbench.model.subset import subset

PEDIGREE = pd.DataFrame({"id": range(1, 15), "sire": [0, 0, 1, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 12],
                         "dam": [0, 0, 2, 2, 0, 4, 4, 4, 6, 6, 8, 8, 10, 11]})  # fmt: skip
Z95 = 1.959963984540054


def long_data(n_units=10, m=4, seed=4):
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n_units) + 1, m)
    frame = pd.DataFrame({
        "unit": unit, "t": np.tile(np.arange(m), n_units), "row": unit, "x": rng.standard_normal(len(unit)),
        "site": rng.choice(list("abc"), len(unit)), "w": rng.uniform(0.5, 2, len(unit)),
        "known": rng.standard_normal(len(unit)),
    })  # fmt: skip
    frame["y"] = rng.standard_normal(len(unit)) + 0.5 * frame["x"] + rng.standard_normal(n_units)[unit - 1]
    return frame.sample(frac=0.9, random_state=1).reset_index(drop=True)


DATA = long_data()
NEW = pd.DataFrame({
    "unit": [1, 1, 5, 99, 7, 98], "t": [0, 9, 2, 1, 3, 0], "row": [1, 1, 5, 2, 7, 3],
    "x": [0.3, -1.0, 2.0, 0.5, 0.0, 1.5], "site": ["a", "b", "c", "a", "c", "b"],
    "w": [1.0, 0.5, 2.0, 4.0, 1.0, 1.0], "known": [0.0, 1.0, -1.0, 2.0, 0.5, 0.1],
}, index=list("uvwxyz"))  # fmt: skip
KINDS = ("slope-un", "crossed-slopes", "K", "K-centred", "K-incidence", "Z-narrow", "Z-wide", "two-Z", "group-and-K",
         "pedigree", "pedigree-slope")  # fmt: skip


def at(model, theta):
    """The fit at given variances, β at its GLS value."""
    return vc.fit(model, "ai", start=dict(zip(model.theta_names, theta, strict=True)), max_iter=0)


def inside(model):
    values = {"cov": 0.3, "rho": 0.35, "nugget": 0.4}
    theta = [next((v for key, v in values.items() if key in name.partition(":")[2]), 1.3) for name in model.theta_names]
    return np.array(theta) * (1.0 + 0.1 * np.arange(len(theta)))


def new_design(model, new):
    """X (m, d), the columns of known levels (m, q), and Var of what lies beyond them: zᵀΩz of levels not met."""
    _, _, start = random_part(model, inside(model))
    X = np.column_stack([np.ones(len(new)), new["x"]])
    Z, unmet = np.zeros((len(new), start[-1])), np.zeros(len(new))
    for k, (c, Omega) in enumerate(zip(model.components, model.Omegas(inside(model)), strict=True)):
        z = X if c.n_effects == 2 else np.ones((len(new), 1))
        r = c.n_effects
        for i, label in enumerate(new[c.name].astype(str)):
            if label in c.levels:
                j = start[k] + c.levels.index(label) * r
                Z[i, j : j + r] = z[i]
            else:
                unmet[i] += z[i] @ Omega @ z[i]
    return X, Z, unmet


@pytest.mark.parametrize("random", ["(1 | unit)", "(1 + x | unit) + (1 | site)"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_predict__is_the_joint_normal_given_y(residual, random):
    """New rows at levels met and not met, with an offset, for every residual structure."""
    model = vc.Model.from_formula(f"y ~ x + offset(known) + {random}", DATA, residual=residual or None)
    theta = inside(model)
    R = residual_covariance(model, theta, DATA, residual)
    X, Z, unmet = new_design(model, NEW)
    mean, cov = predicted(model, theta, R, X, Z)
    fit = at(model, theta)
    got = fit.predict(NEW, interval="confidence")
    assert got.index.tolist() == NEW.index.tolist()
    np.testing.assert_allclose(got["fit"], mean + NEW["known"], rtol=1e-9)
    np.testing.assert_allclose(fit.predict(NEW), got["fit"], rtol=1e-14)
    np.testing.assert_allclose(got["se"] ** 2, np.diag(cov) + unmet, rtol=1e-8)
    np.testing.assert_allclose(got["upper"] - got["fit"], Z95 * got["se"], rtol=1e-8)
    np.testing.assert_allclose(got["fit"] - got["lower"], Z95 * got["se"], rtol=1e-8)
    new = NEW.assign(unit=range(100, 106))  # of units not met: R's own diagonal, by its definition
    p = dict(zip(model.theta_names, theta, strict=True))
    own = [RESIDUALS[residual](p, {name: new[name].tolist() for name in new}, i, i) for i in range(len(new))]
    X, Z, unmet = new_design(model, new)
    _, cov = predicted(model, theta, R, X, Z)
    got = fit.predict(new, interval="prediction", level=0.5)
    np.testing.assert_allclose(got["se"] ** 2, np.diag(cov) + unmet + own, rtol=1e-8)
    np.testing.assert_allclose(got["upper"] - got["fit"], 0.6744897501960817 * got["se"], rtol=1e-8)


def test_predict__with_some_of_the_random_effects():
    """Chosen ones are predicted; those left out are in the prediction interval only, as of new levels."""
    model = vc.Model.from_formula("y ~ x + (1 + x | unit) + (1 | site)", DATA)
    theta = inside(model)
    fit, R = at(model, theta), theta[-1] * np.eye(len(DATA))
    X, Z, unmet = new_design(model, NEW)
    _, _, start = random_part(model, theta)
    Omega, site = model.Omegas(theta)[0], theta[3]
    parts = {
        "unit": (Z * (np.arange(start[-1]) < start[1]), unmet, site),
        "site": (Z * (np.arange(start[-1]) >= start[1]), 0.0, np.einsum("ia,ab,ib->i", X, Omega, X)),
    }
    for name, (kept, beyond, left_out) in parts.items():
        mean, cov = predicted(model, theta, R, X, kept)
        got = fit.predict(NEW, random=name, interval="confidence")
        np.testing.assert_allclose(got["fit"], mean, rtol=1e-9)
        np.testing.assert_allclose(got["se"] ** 2, np.diag(cov) + beyond, rtol=1e-8)
        wide = fit.predict(NEW, random=[name], interval="prediction")
        np.testing.assert_allclose(wide["se"] ** 2, got["se"] ** 2 + left_out + theta[-1], rtol=1e-8)
    mean, cov = predicted(model, theta, R, X, 0 * Z)
    got = fit.predict(NEW[["x"]], random=False, interval="confidence")  # the groups' columns need not be there
    np.testing.assert_allclose(got["fit"], mean, rtol=1e-9)
    np.testing.assert_allclose(got["se"] ** 2, np.diag(cov), rtol=1e-8)
    wide = fit.predict(NEW, random=False, interval="prediction")
    want = got["se"] ** 2 + np.einsum("ia,ab,ib->i", X, Omega, X) + site + theta[-1]
    np.testing.assert_allclose(wide["se"] ** 2, want, rtol=1e-8)


def test_predict__an_animal_without_records_has_its_relatives():
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA, cov={"unit": vc.covariance.pedigree(PEDIGREE)})
    theta = np.array([1.3, 0.8])
    fit = at(model, theta)
    new = NEW.assign(unit=[1, 12, 13, 14, 5, 11])
    X, Z, unmet = new_design(model, new)
    assert not unmet.any()
    mean, cov = predicted(model, theta, 0.8 * np.eye(len(DATA)), X, Z)
    got = fit.predict(new, interval="confidence")
    np.testing.assert_allclose(got["fit"], mean, rtol=1e-9)
    np.testing.assert_allclose(got["se"] ** 2, np.diag(cov), rtol=1e-8)
    A = np.linalg.inv(model.components[0].relation.precision.toarray())
    wide = fit.predict(new, random=False, interval="prediction")
    own = [A[model.components[0].levels.index(str(v))][model.components[0].levels.index(str(v))] for v in new["unit"]]
    narrow = fit.predict(new, random=False, interval="confidence")
    np.testing.assert_allclose(wide["se"] ** 2, narrow["se"] ** 2 + 1.3 * np.array(own) + 0.8, rtol=1e-8)
    with pytest.raises(DataError, match="`99` of `unit` is not among the 14"):
        fit.predict(NEW)


@pytest.mark.parametrize(
    "kind",
    ["slope-un", "K", "K-centred", "K-incidence", "Z-narrow", "Z-wide", "two-Z", "crossed", "group-and-K", "pedigree"],
)
def test_predict__at_the_data_of_every_kind_of_component(kind):
    p = draw_problem(kind, seed=9, offset=True)
    model = p.model
    fit = at(model, p.theta)
    Z, _, _ = random_part(model, p.theta)
    mean, cov = predicted(model, p.theta, p.theta[-1] * np.eye(model.n_obs), model.X, Z)
    got = fit.predict(interval="confidence")
    np.testing.assert_allclose(got["fit"], mean + model.offset, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(got["se"] ** 2, np.diag(cov), rtol=1e-8)
    wide = fit.predict(interval="prediction")
    np.testing.assert_allclose(wide["se"] ** 2, got["se"] ** 2 + p.theta[-1], rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_predict__new_arrays_are_rows_like_those_of_the_data(kind):
    """The first rows given again as arrays; and with levels not met where there are groups."""
    p = draw_problem(kind, seed=3, offset=True)
    model = p.model
    fit, rows = at(model, p.theta), np.arange(7)
    Z = {}
    for c in model.components:
        if c.codes is not None:
            Z[c.name] = c.Z[rows], np.array(c.levels, object)[c.codes[rows]]
        else:
            Z[c.name] = np.eye(model.n_obs)[rows] if c.Z is None else c.Z[rows]
    new = {"X": model.X[rows], "Z": Z, "offset": model.offset[rows]}
    for interval in ("confidence", "prediction"):
        got = fit.predict(new, interval=interval)
        np.testing.assert_allclose(got, fit.predict(interval=interval).iloc[rows], rtol=1e-9)
    np.testing.assert_allclose(fit.predict({"X": model.X[rows]}, random=False), model.X[rows] @ fit.beta_values)


def test_predict__new_arrays_that_do_not_fit_are_refused():
    fit = at(draw_problem("slope-un", seed=3).model, draw_problem("slope-un", seed=3).theta)
    X, Z = np.ones((2, 2)), np.ones((2, 2))
    for new, message in (
        ({"Z": {"g": (Z, ["g0", "g1"])}}, "need `X`"),
        ({"X": X, "extra": 1}, "`extra`"),
        ({"X": X}, r'need `Z\["g"\]`'),
        ({"X": X, "Z": {"g": Z}}, "has groups"),
        ({"X": X, "Z": {"g": (Z, ["g0"])}}, "2 rows"),
        ({"X": np.ones((2, 3)), "Z": {}}, "2 column"),
        ({"X": X * np.nan, "Z": {}}, "is nan in row 0"),
        ({"X": X, "Z": {"g": (Z, ["g0", "g1"])}, "offset": [1.0]}, "`offset` must hold 2"),
    ):
        with pytest.raises(DataError, match=message):
            fit.predict(new)
    with pytest.raises(ModelError, match="needs a model made from a formula"):
        fit.predict(pd.DataFrame({"x": [1.0]}))


def test_predict__asks_that_make_no_sense_are_refused():
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA, residual="by(site)")
    fit = at(model, inside(model))
    with pytest.raises(DataError, match="missing values"):
        fit.predict(NEW.assign(x=np.nan), interval="confidence")
    with pytest.raises(DataError, match="level `d` of `site` has no residual variance"):
        fit.predict(NEW.assign(site="d"), interval="prediction")
    assert np.isfinite(fit.predict(NEW.assign(site="d"), interval="confidence")).all(axis=None)
    with pytest.raises(MethodError, match=r"unknown interval `confidance`.*Did you mean"):
        fit.predict(NEW, interval="confidance")
    with pytest.raises(MethodError, match="no component"):
        fit.predict(NEW, random="site")
    with pytest.raises(MethodError, match="level"):
        fit.predict(NEW, interval="confidence", level=95)
    weighted = vc.Model.from_formula("y ~ x + (1 | unit)", DATA, residual="weights(w)")
    fit = at(weighted, inside(weighted))
    with pytest.raises(DataError, match="`w`"):
        fit.predict(NEW.drop(columns="w"), interval="prediction")
    with pytest.raises(DataError, match="positive"):
        fit.predict(NEW.assign(w=0.0), interval="prediction")
    stored = vc.Fit.from_json(fit.to_json())
    with pytest.raises(MethodError, match="needs the data"):
        stored.predict(NEW, interval="confidence")


@pytest.mark.slow
def test_prediction_interval__of_each_row_left_out_holds_as_often_as_it_says():
    """Frequentist, known θ: new observations at met and unmet levels; 95 % within 4 MCSE."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(12), 5)
    x = rng.normal(size=60)
    model = vc.Model.from_formula("y ~ x + (x | g)", pd.DataFrame({"g": g, "x": x, "y": rng.normal(size=60)}))
    theta = np.array([1.0, 0.3, 0.5, 0.6])
    L = np.linalg.cholesky(model.Omegas(theta)[0])
    new = pd.DataFrame({"g": [0, 3, 40], "x": [1.0, -2.0, 0.5]})
    hits = []
    for _ in range(2000):
        u = rng.standard_normal((13, 2)) @ L.T
        mean = 1.0 + 2.0 * x + u[g, 0] + u[g, 1] * x
        fit = at(model.replace(y=mean + np.sqrt(theta[-1]) * rng.standard_normal(60)), theta)
        own = u[[0, 3, 12]]
        truth = 1.0 + 2.0 * new["x"] + own[:, 0] + own[:, 1] * new["x"]
        drawn = truth + np.sqrt(theta[-1]) * rng.standard_normal(3)
        got = fit.predict(new, interval="prediction")
        hits.append((got["lower"] < drawn) & (drawn < got["upper"]))
    share, mcse = np.mean(hits, axis=0), np.sqrt(0.95 * 0.05 / 2000)
    assert (np.abs(share - 0.95) < 4 * mcse).all(), share


def test_predict__cross_validation_by_deleted_rows_is_prediction_of_a_new_row():
    """A row predicted from the others' model is the joint normal's conditional: `subset` and `predict` agree."""
    model = vc.Model.from_formula("y ~ x + (1 + x | unit) + (1 | site)", DATA)
    theta = inside(model)
    keep = np.arange(len(DATA)) != 4
    less = subset(model, keep)
    Z, _, _ = random_part(model, theta)
    Zk = Z[keep]
    _, G, _ = random_part(model, theta)
    V = Zk @ G @ Zk.T + theta[-1] * np.eye(keep.sum())
    Vi = np.linalg.inv(V)
    beta = np.linalg.solve(less.X.T @ Vi @ less.X, less.X.T @ Vi @ less.y)
    want = model.X[4] @ beta + Z[4] @ G @ Zk.T @ Vi @ (less.y - less.X @ beta)
    c = {c.name: (c.Z[[4]], [c.levels[c.codes[4]]]) for c in model.components}
    got = at(less, theta).predict({"X": model.X[[4]], "Z": c})
    assert got[0] == pytest.approx(want, rel=1e-9)
