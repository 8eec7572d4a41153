"""Twins of every covariance and residual structure: log density less log prior is ℓ, gradients are differences.

The structures are those that can be said in a card; a new one without a case here fails the first test.
"""

import numpy as np
import pandas as pd
import pytest
from bayes.problems import CARDS, card_model
from kernels.test_effect_structures import CASES as EFFECTS
from kernels.test_effect_structures import case
from kernels.test_structures import CASES as RESIDUALS
from kernels.test_structures import built
from oracle import plain
from scipy import stats
from strategies import COLUMNS, KINDS, RELATED, draw_problem

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import HalfNormal, twin
from vcbench.bayes.by_kernel import ByKernel
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.lattice import Lattice
from vcbench.bayes.markov import Markov
from vcbench.bayes.matrix_normal import MatrixNormal
from vcbench.bayes.priors import partial_correlations
from vcbench.bayes.sampled import check_form, effect_shape
from vcbench.bayes.shapes import shape_of
from vcbench.cards import find_cards
from vcbench.errors import ModelError
from vcbench.model.covariance_text import KINDS as COVARIANCE_KINDS
from vcbench.model.residual_text import KINDS as RESIDUAL_KINDS
from vcbench.model.structures import Ar1, Family

FEW = 3  # parameters whose gradients the quick tests look at; the slow ones look at all
LARGE = 500  # rows from which the dense kernel is left out
LINEAR = {"iid", "scalar", "diag", "un", "blocks"}  # of `strategies` and of test_twin
MORE = {
    "weights": "weights(w)",
    "un x ar1": "un(trait, group=subject) * ar1(visit)",
    "un x un": "un(trait, group=subject) * un(visit)",
    "by x csh": "by(trait) * csh(visit, group=subject)",
}


def traits():
    """24 subjects at 3 visits, two traits, some missing."""
    rng = np.random.default_rng(9)
    rows = [(f"s{i}", v, t) for i in range(24) for v in (1, 2, 3) for t in "ab" if rng.random() < 0.9]
    d = pd.DataFrame(rows, columns=["subject", "visit", "trait"])
    d["sex"], d["x"], d["w"] = rng.choice(["f", "m"], len(d)), rng.normal(size=len(d)), rng.uniform(0.5, 3.0, len(d))
    d["y"] = rng.normal(2.0, 1.0, len(d)) + rng.normal(size=24)[d["subject"].str[1:].astype(int)]
    return d


def structured(name):
    """The model of a structure, effects or residuals."""
    if name in EFFECTS:
        return case(name)[0]
    if name.startswith("equal"):
        return tied(name)
    if name in ARRAYS:
        return of_arrays(name)
    if name in RELATED:
        return draw_problem(name, seed=5).model
    text = MORE.get(name, name)
    if text in RESIDUALS:
        return built(text, " + (1 | sex)" if "subject" in text else "")[1]
    return vc.Model.from_formula("y ~ x + (1 | sex)", traits(), residual=text)


def tied(name):
    """Two terms that share their variance, or their structure, beside a third."""
    d = traits()
    d["a"], d["b"] = np.arange(len(d)) % 6, np.arange(len(d)) // 5 % 7
    residual = "weights(w)" if name.endswith("weighted") else None
    return vc.Model.from_formula("y ~ x + (1 | a) + (1 | b)", d, equal=[["a", "b"]], residual=residual)


def of_arrays(name):
    """Two effects of levels that are related by K, or two tied terms of one factor, rows weighted."""
    rng = np.random.default_rng(12)
    n, m = 60, 12
    codes, Z, w = (
        rng.permutation(np.arange(n) % m),
        np.column_stack([np.ones(n), rng.normal(size=n)]),
        rng.gamma(3.0, size=n),
    )
    y = rng.normal(size=n) + rng.normal(size=m)[codes]
    if name == "tied":
        parts = [vc.Component(Z[:, [a]], name="ab"[a], group=codes) for a in (0, 1)]
        return vc.Model(y, None, parts, equal=[["a", "b"]], residual=vc.residual.weights(w))
    B = rng.normal(size=(m, 3 * m))
    K = pd.DataFrame(B @ B.T / (3 * m), index=range(m), columns=range(m))
    cov = vc.covariance.known(K, vc.covariance.cs() if name == "known, cs" else None)
    return vc.Model(y, None, [vc.Component(Z, name="g", group=codes, cov=cov)])


ARRAYS = ["tied", "known, un", "known, cs"]
STRUCTURES = [*EFFECTS, *RESIDUALS, *MORE, "equal", "equal, weighted", *RELATED, *ARRAYS]


def test_structures__each_that_can_be_said_has_a_case_here():
    said = " ".join([*RESIDUALS, *MORE.values()])
    assert {k for k in RESIDUAL_KINDS if f"{k}(" not in said and k not in said.split()} <= LINEAR
    assert {k for k in COVARIANCE_KINDS if k not in EFFECTS} <= LINEAR


def points(model, rng, n, kernel="dense"):
    """n random θ at which V is positive definite, by random coordinates, and the kernel."""
    coordinates, kernel = Coordinates.of(model), kernels.build(model, kernel)
    scale = {"sd": model.y.std(), "range": coordinates.start}
    out = []
    while len(out) < n:
        x = rng.uniform(0.1, 0.9, len(coordinates.items))
        for j, c in enumerate(coordinates.items):
            if c.axis.kind in scale:
                unit = scale[c.axis.kind] if c.axis.kind == "sd" else scale["range"][j]
                x[j] = unit * np.exp(rng.uniform(-1.5, 0.5))
        theta = coordinates.theta(x)
        if np.isfinite(kernel.evaluate(theta, criterion="ml").loglik):
            out.append(theta)
    return out, kernel


def differences(f, point):
    """Central differences of f at a point of value variables, error O(h⁴).

    h is quartered until two of them agree: near the edge of what is positive definite ℓ bends within 1e-4.
    """
    gradient = []
    for name, value in point.items():
        for at in np.ndindex(value.shape):
            unit = np.zeros(value.shape)
            unit[at] = 1.0
            found, change = [], np.inf
            for k in range(7):
                h = 1e-3 / 4**k
                up, down, up2, down2 = (float(f(point | {name: value + s * h * unit})) for s in (1, -1, 2, -2))
                found.append((8 * (up - down) - (up2 - down2)) / (12 * h))
                if k and abs(found[k] - found[k - 1]) > change:
                    break
                change = abs(found[k] - found[k - 1]) if k else np.inf
                if change < 1e-8 * (1 + abs(found[k])):
                    break
            gradient.append(found[-1] if change < 1e-8 * (1 + abs(found[-1])) else found[-2])
    return np.array(gradient)


def check(model, criterion, rng, n_theta, n_gradients, kernel="dense", mode=None):
    thetas, dense = points(model, rng, n_theta, kernel)
    made = twin(model, criterion=criterion)
    spread = np.linalg.inv(dense.basis.T) @ np.full(model.n_fixed, model.y.std())
    for k, theta in enumerate(thetas):
        beta = dense.beta0 + spread * rng.normal(size=model.n_fixed) if criterion == "ml" else None
        expected = dense.evaluate(theta, criterion=criterion, beta=beta).loglik
        assert abs(made.loglik(theta, beta) - expected) < 1e-8 * (1 + abs(expected)), (theta, expected)
        if k < n_gradients:
            check_gradient(made, made.point(theta, beta), mode)


def check_gradient(made, point, mode=None):
    from pytensor.compile.mode import Mode

    mode = mode or Mode("py", "fast_compile").excluding("fusion")  # Python's ufuncs take 32 operands
    got = made.model.compile_dlogp(jacobian=False, mode=mode)(point)
    expected = differences(made.cache["logp"], {v.name: point[v.name] for v in made.model.value_vars})
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("name", STRUCTURES)
def test_twin__of_a_structure_less_its_prior_is_the_dense_kernels_loglik(name, rng):
    model = structured(name)
    check(model, "reml", rng, 5, int(model.n_theta <= FEW))


IN_TIME = [
    *(f"{kind}, group=subject)" for kind in ("ar1(visit", "ar1(day", "ar1h(label", "ante1(label", "exponential(day")),
    "by(sex, ar1(visit, group=subject))",
    "weights(w) * ar1(visit, group=subject)",
]


def fields(rng):
    """Two complete fields, of 5 × 4 and 3 × 6 plots, and a row of 4, by weights."""
    plots = [(s, r, c) for s, m, k in (("a", 5, 4), ("b", 3, 6), ("c", 1, 4)) for r in range(m) for c in range(k)]
    d = pd.DataFrame(plots, columns=["site", "row", "col"]).sample(frac=1.0, random_state=3).reset_index(drop=True)
    d["gen"], d["w"], d["y"] = rng.choice(list("uvw"), len(d)), rng.uniform(0.5, 2.0, len(d)), rng.normal(size=len(d))
    residual = "weights(w) * (ar1(row, group=site) * ar1(col))"
    return vc.Model.from_formula("y ~ gen", d, residual=residual)


def check_sums(model, made, criterion, rng, atol):
    """ℓ, A and γ̂ of the sums are the dense kernel's, and another response moves the data alone."""
    thetas, kernel = points(model, rng, 2)
    A, gamma = made.reduced.centre(np.array(thetas))
    for k, theta in enumerate(thetas):
        at = kernel.evaluate(theta, criterion=criterion)
        np.testing.assert_allclose(gamma[k], at.gamma, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(A[k], at.QtVinvQ, rtol=1e-8, atol=1e-10)
        assert made.reduced.loglik(theta, criterion)[0] == pytest.approx(at.loglik, rel=1e-9)
    y = model.y + rng.normal(size=model.n_obs)
    moved, fresh = made.data_of(y), twin(model.replace(y=y), criterion=criterion)
    assert fresh.key == made.key
    for data, value in fresh.data.items():
        np.testing.assert_allclose(moved[data], value, rtol=1e-9, atol=atol, err_msg=data)


@pytest.mark.parametrize("criterion", ["reml", pytest.param("ml", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*IN_TIME, "lattice"])
def test_twin__of_residuals_with_a_closed_form_holds_sums_alone(name, criterion, rng):
    model = fields(rng) if name == "lattice" else built(name)[1]
    made = twin(model, criterion=criterion)
    assert isinstance(made.reduced, Lattice if name == "lattice" else Markov)
    check(model, criterion, rng, 5, int(model.n_theta <= FEW))
    check_sums(model, made, criterion, rng, atol=1e-12)


def herd(n_traits, repeated=False):
    """All traits of 24 animals, some of them twice, and a pedigree of them and 12 founders without records."""
    rng = np.random.default_rng(17)
    sire, dam = [""] * 36, [""] * 36
    for i in range(12, 36):
        sire[i], dam[i] = map(str, rng.choice(np.arange(max(1, i - 14), i), 2, replace=False))
    P = pd.DataFrame({"id": np.arange(1, 37).astype(str), "sire": sire, "dam": dam})
    animals = np.arange(13, 37) if not repeated else np.append(np.arange(13, 37), np.arange(13, 25))
    d = pd.DataFrame({"animal": rng.permutation(animals)})
    d["sex"], d["x"] = rng.choice(["f", "m"], len(d)), rng.normal(size=len(d))
    own = rng.normal(size=(37, n_traits)) + rng.normal(size=(37, 1))
    for t in range(n_traits):
        d[f"t{t}"] = (t + 1) * (rng.normal(size=len(d)) + own[d["animal"], t]) + d["x"]
    return d, P


HERDS = {
    "two traits": (2, False, "un(trait, group=record)", None),
    "two traits, again": (2, True, "un(trait, group=record)", None),
    "G diagonal": (2, False, "un(trait, group=animal)", "diag"),
    "R diagonal": (2, True, "by(trait)", None),
    "three traits": (3, False, "un(trait, group=record)", None),
    "four traits": (4, True, "by(trait)", None),
}


def herd_model(name):
    n_traits, repeated, residual, within = HERDS[name]
    d, P = herd(n_traits, repeated)
    d.insert(0, "id", np.arange(len(d)))
    formulas = [f"t{t} ~ {'sex' if t else 'x'} + (1 | animal)" for t in range(n_traits)]
    cov = {"animal": vc.covariance.pedigree(P, getattr(vc.covariance, within)() if within else None)}
    return vc.genetics.multi_trait(formulas, d, cov=cov, residual=residual)


QUICK_HERDS = {("two traits, again", "reml"), ("R diagonal", "ml")}


@pytest.mark.parametrize(
    ("name", "criterion"),
    [
        pytest.param(name, criterion, marks=() if (name, criterion) in QUICK_HERDS else pytest.mark.slow)
        for name in HERDS
        for criterion in ("reml", "ml")
    ],
)
def test_twin__of_several_traits_on_one_matrix_is_the_dense_kernels_loglik(name, criterion, rng):
    model = herd_model(name)
    made = twin(model, criterion=criterion)
    assert isinstance(made.reduced, MatrixNormal)
    # PyTensor's Python mode adds at most 32 terms at once, which four traits exceed
    check(model, criterion, rng, 5, 1, mode="NUMBA" if name == "four traits" else None)
    check_sums(model, made, criterion, rng, atol=1e-9)


def test_twin__of_several_traits_in_another_order_of_rows_is_the_same(rng):
    """Rows shuffled, and the levels of the residual in another order than the effects of the traits."""
    d, P = herd(2)
    long = d.assign(record=np.arange(len(d))).melt(
        ["record", "animal", "sex", "x"], ["t0", "t1"], "trait", value_name="y"
    )
    long = long.sample(frac=1.0, random_state=4).reset_index(drop=True)
    long["trait"] = pd.Categorical(long["trait"], ["t1", "t0"])
    Z = np.column_stack([long["trait"] == "t0", long["trait"] == "t1"]).astype(float)
    cov = vc.covariance.pedigree(P)
    animal = vc.Component(Z, name="animal", group=long["animal"], cov=cov, columns=["t0", "t1"])
    X = np.column_stack([Z, long["x"], Z[:, 0] * (long["sex"] == "m")])
    residual = vc.residual.un(long["trait"], group=long["record"])
    model = vc.Model(long["y"].to_numpy(), X, [animal], residual=residual)
    assert MatrixNormal.why_not(model) is None
    check(model, "reml", rng, 5, 0)


def test_twin__of_several_traits_has_no_density_where_v_is_not_positive_definite():
    model = herd_model("two traits, again")
    own = twin(model).reduced
    theta = np.array([[1.0, 0.2, 2.0, 1.0, 0.1, 3.0], [-0.9, 0.0, -2.9, 1.0, 0.1, 3.0]])
    found, dense = own.loglik(theta, "reml"), kernels.build(model, "dense")
    assert np.isfinite(found).tolist() == [True, False]
    assert found[1] == dense.evaluate(theta[1]).loglik == -np.inf


def test_twin__of_several_traits_of_which_not_all_are_there_is_by_kernel():
    d, P = herd(2)
    d.loc[3, "t1"] = np.nan
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.genetics.multi_trait(["t0 ~ x + (1 | animal)", "t1 ~ 1 + (1 | animal)"], d, cov=cov)
    assert MatrixNormal.why_not(model) == "units that do not have every trait once"
    assert isinstance(twin(model).reduced, ByKernel)


def test_twin__of_several_traits_of_unrelated_units_is_refused():
    d, _ = herd(2)
    founders = pd.DataFrame({"id": np.arange(13, 37).astype(str), "sire": "", "dam": ""})
    cov = {"animal": vc.covariance.pedigree(founders)}
    model = vc.genetics.multi_trait(["t0 ~ x + (1 | animal)", "t1 ~ 1 + (1 | animal)"], d, cov=cov)
    with pytest.raises(ModelError, match="cannot be told apart"):
        twin(model)


def test_twin__of_the_genetic_correlation_is_in_the_eigenbasis(rng):
    model = card_model("genetic_correlation")
    own, kernel = MatrixNormal.of(model), kernels.build(model)
    for theta in points(model, rng, 3, "auto")[0]:
        expected = kernel.evaluate(theta).loglik
        assert abs(own.loglik(theta, "reml")[0] - expected) < 1e-8 * (1 + abs(expected))


def test_twin__of_residuals_in_time_is_of_one_size_whatever_n():
    d = pd.DataFrame({"g": np.repeat(np.arange(300), 10), "t": np.tile(np.arange(10), 300)})
    d["y"] = np.random.default_rng(1).normal(size=len(d))
    made = twin(vc.Model.from_formula("y ~ 1", d, residual="ar1(t, group=g)"))
    assert sum(a.size for a in made.data.values()) < 30
    assert "steps of 1 kind(s)" in made.explain()


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["reml", "ml"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_twin__of_a_structure_is_the_dense_kernels_loglik_at_a_hundred_points(name, criterion, rng):
    check(structured(name), criterion, rng, 100, 3)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["reml", "ml"])
@pytest.mark.parametrize("name", sorted({*find_cards(), *CARDS}))
def test_twin__of_a_card_is_the_kernels_loglik_at_a_hundred_points(name, criterion, rng):
    model = card_model(name)
    # n² numbers a hundred times: a large model's own kernel stands for the dense one, its oracle elsewhere
    check(model, criterion, rng, 100, 3, "auto" if model.n_obs > LARGE else "dense")


@pytest.mark.parametrize("kind", ["crossed-slopes", "two-Z", "group-and-K"])
def test_twin__of_several_factors_keeps_beta_too(kind, rng):
    problem = draw_problem(kind, offset=True, n_covariates=2, seed=7)
    made = twin(problem.model, criterion="ml")
    expected = plain(problem.model, problem.theta, "ml", problem.beta).loglik
    assert abs(made.loglik(problem.theta, problem.beta) - expected) < 1e-8 * (1 + abs(expected))
    check_gradient(made, made.point(problem.theta, problem.beta))
    y = problem.draw_y(rng)
    other = twin(problem.model.replace(y=y), criterion="ml")
    assert other.key == made.key
    moved = made.data_of(y)
    for name, value in other.data.items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", [*EFFECTS, *RESIDUALS, *MORE])
def test_coordinates__are_a_bijection_with_one_for_each_entry_of_theta(name, rng):
    model = structured(name)
    coordinates = Coordinates.of(model)
    assert tuple(c.name for c in coordinates.items) == model.theta_names
    for theta in points(model, rng, 3)[0]:
        x = coordinates.values(model.working.w(theta))
        np.testing.assert_allclose(coordinates.theta(x), theta, rtol=1e-9, atol=1e-12)
        positive = [c.axis.kind in ("sd", "range") for c in coordinates.items]
        inside = [v > 0 and (free or v < 1) for v, free in zip(x, positive, strict=True)]
        assert all(inside)


# structure, its p, and the correlations that they stand for on the ranges of MATH §9
RANGES = {
    "ar1(visit, group=subject)": ([0.3], [-0.4]),
    "cs(group=subject)": ([0.3], [-0.25 + 1.25 * 0.3]),  # up to five rows a subject
    "toeplitz(visit, group=subject)": ([0.7, 0.5, 0.5, 0.5], [0.4, 0.4**2, 0.4**3, 0.4**4]),  # an AR(1)
    "ma(2, visit, group=subject)": ([0.7, 0.5], [0.4 / 1.16, 0.0]),  # an MA(1) of 0.4
    "arma11(visit, group=subject)": ([0.7, 0.9], [0.4, -0.3 + 0.9]),
    "banded(2, visit, group=subject)": ([0.6, 0.4], [0.2, -0.2]),
}


@pytest.mark.parametrize("name", RANGES)
def test_coordinates__scale_each_correlation_to_its_range(name):
    p, rho = RANGES[name]
    theta = Coordinates.of(built(name)[1]).theta([1.5, *p])
    np.testing.assert_allclose(theta, [2.25, *rho], rtol=1e-9, atol=1e-9)


def test_coordinates__of_free_matrices_are_canonical_partial_correlations(rng):
    model = built("un(label, group=subject)")[1]
    coordinates = Coordinates.of(model)
    theta = points(model, rng, 1)[0][0]
    x = dict(zip([c.free_name for c in coordinates.items], coordinates.values(model.working.w(theta)), strict=True))
    S = np.zeros((5, 5))
    S[np.triu_indices(5)] = theta  # by row of the upper triangle is by column of the lower
    sd, rho = partial_correlations(S + np.triu(S, 1).T)
    for (i, j), value in rho.items():
        assert x[f"residual:partial(v{i + 1},v{j + 1})"] == pytest.approx(0.5 * (1 + value), rel=1e-8)
    assert x["residual:var(v3)"] == pytest.approx(sd[2])


def test_coordinates__of_a_family_unknown_here_are_those_of_its_limits():
    class Own(Ar1):
        pass

    class Odd(Family):
        def limits(self):
            return np.array([3.0])

    assert [a.kind for a in shape_of(Own(t=np.arange(4.0), lags=np.arange(4.0))).axes] == ["unit"]
    with pytest.raises(ModelError, match="`Odd` has no coordinates"):
        shape_of(Odd(n_phi=1))


def test_twin__says_its_kernel_and_the_priors_of_a_structure():
    text = twin(structured("ar1(row) * ar1(col)")).explain()
    for part in ("by kernel `dense`", "residual:rho_row: uniform on its range", "residual:unit(rho_col)", "marginal"):
        assert part in text
    made = twin(structured("exponential(row, col)"))
    assert "residual:range" in made.free_names
    assert set(made.theta_names) <= {v.name for v in made.model.unobserved_RVs}


def test_twin__samples_effects_unasked_where_v_is_one_large_dense_matrix(rng):
    n = 1100
    wide = [vc.Component(rng.normal(size=(n, 600)), name=name) for name in "ab"]
    model = vc.Model(rng.normal(size=n), None, wide)
    assert check_form(model, "auto") == (
        "non-centred", "integrating the effects out would factorise 1100 × 1100 at every step"
    )  # fmt: skip
    assert check_form(vc.Model(rng.normal(size=n), None, wide[:1]), "auto")[0] == "marginal"
    assert check_form(model, "marginal") == ("marginal", "as asked for")
    assert not isinstance(twin(structured("tied")).reduced, ByKernel)


def test_twin__of_a_structure_is_extended_like_any_model():
    """θ of a structure is there for a user's own terms, with its derivative."""
    import pymc as pm

    made = twin(structured("toeplitz(visit, group=subject)"), HalfNormal(3.0))
    theta = np.array([1.1, 2.0, 0.5, 0.2, -0.1, 0.05])
    before = made.logp(theta)
    with made.model:
        pm.Potential("earlier", pm.logp(pm.Normal.dist(0.3, 0.1), made.model["residual:rho2"]))
    made.cache.clear()
    expected = stats.norm(0.3, 0.1).logpdf(0.2)
    assert made.logp(theta) - before == pytest.approx(expected, rel=1e-9)
    check_gradient(made, made.point(theta))


QUICK = ("slope-un", "K-centred", "pedigree-maternal")


@pytest.mark.parametrize("form", ["centred", "non-centred"])
@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(k, marks=pytest.mark.slow) for k in (*KINDS, *COLUMNS, *RELATED) if k not in QUICK)]
)
def test_twin__with_sampled_effects_is_the_density_of_y_given_them(kind, form, rng):
    problem = draw_problem(kind, offset=True, seed=3)
    model = problem.model
    made = twin(model, form=form)
    b = {c.name: rng.normal(size=effect_shape(c)) for c in model.components}
    mean = model.X @ problem.beta + model.offset
    for c in model.components:
        mean = mean + sum(F @ b[c.name][:, a] for a, F in enumerate(c.factors()))
    expected = stats.norm(mean, np.sqrt(problem.theta[-1])).logpdf(model.y).sum()
    got = made.loglik(problem.theta, problem.beta, b)
    assert abs(got - expected) < 1e-8 * (1 + abs(expected))


@pytest.mark.parametrize("name", ["weights", pytest.param("toeplitz", marks=pytest.mark.slow)])
def test_twin__with_sampled_effects_takes_structures_of_omega_and_weights(name, rng):
    model = structured(name)
    theta = points(model, rng, 1)[0][0]
    made = twin(model, form="centred")
    (c,) = model.components
    b = {c.name: rng.normal(size=effect_shape(c))}
    beta = rng.normal(size=model.n_fixed)
    mean = model.X @ beta + (c.Z * b[c.name][c.codes]).sum(axis=1)
    weight = np.ones(model.n_obs) if model.noise.weights is None else model.noise.weights
    expected = stats.norm(mean, np.sqrt(theta[-1] / weight)).logpdf(model.y).sum()
    assert abs(made.loglik(theta, beta, b) - expected) < 1e-8 * (1 + abs(expected))
    check_gradient(made, made.point(theta, beta, b))
    assert "as asked for" in made.explain()
    assert f"u({c.name})" in {v.name for v in made.model.deterministics}


@pytest.mark.parametrize("name", ["ar1(row) * ar1(col)", pytest.param("toeplitz", marks=pytest.mark.slow)])
def test_twin__has_second_derivatives_under_reml(name, rng):
    """For Laplace approximations: differences of the gradient."""
    from pytensor.compile.mode import Mode

    model = structured(name)
    made = twin(model)
    mode = Mode("py", "fast_compile").excluding("fusion")
    first = made.model.compile_dlogp(jacobian=False, mode=mode)
    second = made.model.compile_d2logp(jacobian=False, negate_output=False, mode=mode)
    point = made.point(points(model, rng, 1)[0][0])
    h, columns = 1e-4, []
    for name in [v.name for v in made.model.value_vars]:
        up, down, up2, down2 = (first(point | {name: point[name] + s * h}) for s in (1, -1, 2, -2))
        columns.append((8 * (up - down) - (up2 - down2)) / (12 * h))
    H = np.array(columns).T
    np.testing.assert_allclose(second(point), H, rtol=1e-6, atol=1e-6 * np.abs(H).max())


@pytest.mark.slow
@pytest.mark.parametrize(("criterion", "form"), [("reml", "marginal"), ("ml", "marginal"), ("ml", "centred")])
def test_twin__compiled_by_numba_answers_as_in_python(criterion, form, rng):
    from pytensor.compile.mode import Mode

    model = structured("toeplitz")
    made = twin(model, criterion=criterion, form=form)
    theta, dense = (found[0] if isinstance(found, list) else found for found in points(model, rng, 1))
    effects = {c.name: rng.normal(size=effect_shape(c)) for c in model.components}
    point = made.point(theta, dense.beta0, None if form == "marginal" else effects)
    python = Mode("py", "fast_compile").excluding("fusion")
    for build in (made.model.compile_logp, made.model.compile_dlogp):
        np.testing.assert_allclose(build(mode="NUMBA")(point), build(mode=python)(point), rtol=1e-10, atol=1e-10)
