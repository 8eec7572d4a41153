"""Kernel `sparse`: factor and selected inverse, the boundary, published animal models, and that it scales.

Its numbers are held to the plain formulas in `test_agreement`, as those of every kernel.
"""

import numpy as np
import pandas as pd
import pytest
from oracle import plain, prior_covariance, stacked
from references import table
from scipy.sparse import csc_matrix, diags, random_array, tril

import vcbench as vc
from vcbench import kernels
from vcbench.errors import ModelError
from vcbench.kernels.sparse_core import factorise, selected_inverse, solve_factored
from vcbench.kernels.sparse_symbolic import build_fronts, fill_reducing_order
from vcbench.model.pedigree import Pedigree

NEEDS = kernels.protocol.NEEDS
FOLDER = table.shared_folder()
with_data = table.with_data


@pytest.mark.parametrize(("n", "density"), [(1, 0.0), (40, 0.0), (60, 0.03), (120, 0.05), (200, 0.4)])
def test_factor__solves_and_inverts_at_its_entries(n, density, rng):
    """From a diagonal matrix to one that fills in wholly: L, log|M|, M⁻¹x and the selected inverse."""
    S = random_array((n, n), density=density, rng=rng)
    M = csc_matrix(S @ S.T + diags(rng.uniform(1.0, 2.0, n)))
    order = fill_reducing_order(M)
    assert sorted(order) == list(range(n))
    P = M[order][:, order].tocsc()
    lower = csc_matrix(tril(P, format="csc"))
    lower.sort_indices()
    fronts = build_fronts(lower)
    ok, panels, logdet = factorise(lower.data, fronts.entry, fronts.tables, fronts.stack)
    assert ok
    dense = P.toarray()
    assert logdet == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    X = rng.normal(size=(n, 3))
    solution = X.copy()
    solve_factored(panels, fronts.tables, solution)
    assert solution == pytest.approx(np.linalg.solve(dense, X), rel=1e-9, abs=1e-11)
    inverse = selected_inverse(panels, fronts.tables, fronts.stack)[fronts.entry]
    rows, columns = lower.indices, np.repeat(np.arange(n), np.diff(lower.indptr))
    assert inverse == pytest.approx(np.linalg.inv(dense)[rows, columns], rel=1e-9, abs=1e-12)


def test_factor__of_an_indefinite_matrix_says_so():
    M = csc_matrix(np.array([[1.0, 2.0], [0.0, 1.0]]).T)
    fronts = build_fronts(csc_matrix(tril(M, format="csc")))
    assert not factorise(np.array([1.0, 2.0, 1.0]), fronts.entry, fronts.tables, fronts.stack)[0]


def test_order__does_not_fill_in_where_it_need_not():
    """An arrow whose tip comes first fills in wholly as it stands, and not at all in the right order."""
    n = 200
    M = np.eye(n) * n
    M[0] = M[:, 0] = 1.0
    M[0, 0] = n
    M = csc_matrix(M)
    order = fill_reducing_order(M)
    lower = csc_matrix(tril(M[order][:, order], format="csc"))
    lower.sort_indices()
    assert build_fronts(lower).n_nonzero <= 2 * n + 10
    wrong = csc_matrix(tril(M, format="csc"))
    assert build_fronts(wrong).n_nonzero == n * (n + 1) // 2


def animal_model(m, rng, n_herds=8):
    """m animals of an inbred pedigree, two records each of the later half, herds, a covariate: (frame, pedigree)."""
    sire, dam = np.zeros(m, int), np.zeros(m, int)
    for i in range(10, m):
        sire[i], dam[i] = rng.integers(max(0, i - 60), i, 2) + 1
    P = Pedigree.of({"id": np.arange(1, m + 1), "sire": sire, "dam": dam})
    F, a = P.inbreeding(), np.zeros(m)
    for i, (s, d) in enumerate(zip(P.sire, P.dam, strict=True)):
        known = [j for j in (s, d) if j >= 0]
        spread = 1.0 if not known else 0.5 - 0.25 * sum(F[j] for j in known)
        a[i] = 0.5 * sum(a[j] for j in known) + np.sqrt(spread) * rng.normal()
    animal = np.repeat(np.arange(m // 2, m), 2)
    herd, x = rng.integers(0, n_herds, len(animal)), rng.normal(size=len(animal))
    effect = rng.normal(size=n_herds) * 0.7
    y = 3.0 + x + 1.2 * a[animal] + effect[herd] + rng.normal(size=len(animal))
    return pd.DataFrame({"y": y, "animal": animal + 1, "herd": herd, "x": x}), P


def near(got, want):
    for name in ("loglik", "beta", "score", "expected", "average", "observed", "QtVinvQ"):
        value = getattr(want, name)
        assert getattr(got, name) == pytest.approx(value, rel=1e-8, abs=1e-8 * np.abs(value).max()), name
    for name in ("F", "Wty", "XtW", "S", "f", "E0", "yty", "logdet"):
        value = getattr(want.moments, name)
        size = max(np.abs(value).max(), np.sqrt(np.trace(want.moments.F)), 1e-6 * want.moments.E0)  # F is 0 where Ω is
        assert getattr(got.moments, name) == pytest.approx(value, rel=1e-8, abs=1e-8 * size), name


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("gamma", [None, np.array([0.3, -0.2])])
@pytest.mark.parametrize("zero", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("sigma2", [0.9, 1e-4])
def test_sparse__is_the_dense_kernel_inside_and_at_the_boundary(criterion, gamma, zero, sigma2, rng):
    data, P = animal_model(60, rng)
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("y ~ x + (1 | animal) + (1 | herd)", data, cov=cov)
    theta = np.array([1.3, 0.4, sigma2])
    theta[list(zero)] = 0.0
    near(*(kernels.build(model, name).evaluate(theta, NEEDS, criterion, gamma=gamma) for name in ("sparse", "dense")))


def test_sparse__several_effects_of_related_levels(rng):
    """(x | animal) with Ω unstructured: Ω⁻¹ ⊗ A⁻¹; at an Ω of rank 1 too."""
    data, P = animal_model(40, rng)
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("y ~ x + (x | animal) + (1 | herd)", data, cov=cov)
    assert model.theta_names[:3] == ("animal:var((Intercept))", "animal:cov((Intercept),x)", "animal:var(x)")
    both = [kernels.build(model, name) for name in ("sparse", "dense")]
    for theta in ([1.0, 0.3, 0.5, 0.4, 0.8], [1.0, 0.5, 0.25, 0.4, 0.8], [0.0, 0.0, 0.5, 0.0, 0.8]):
        for criterion in ("ml", "reml"):
            near(*(k.evaluate(np.array(theta), NEEDS, criterion) for k in both))
    ours, theirs = (k.blup(np.array([1.0, 0.3, 0.5, 0.4, 0.8]), np.array([3.0, 1.0])) for k in both)
    for u, v in zip(ours, theirs, strict=True):
        assert u == pytest.approx(v, rel=1e-8, abs=1e-10)


def test_sparse__an_autoregressive_precision(rng):
    """A random walk of plots along a field, its precision tridiagonal: the dense kernel's numbers by K = P⁻¹."""
    m, rho = 50, 0.8
    P = diags([1.0 + rho**2, -rho, -rho], [0, 1, -1], shape=(m, m)).tolil()
    P[0, 0] = P[m - 1, m - 1] = 1.0
    plot = np.repeat(np.arange(m), 3)
    y = rng.normal(size=3 * m)
    Z = np.eye(m)[plot]
    model = vc.Model(y, None, [vc.Component(Z, name="plot", precision=P)])
    other = vc.Model(y, None, [vc.Component(Z, name="plot", K=np.linalg.inv(P.toarray()))])
    theta = np.array([0.7, 1.1])
    near(*(kernels.build(m, k).evaluate(theta, NEEDS) for m, k in ((model, "sparse"), (other, "dense"))))


@with_data
@pytest.mark.parametrize("id", [*(f"gryphon.m{j}.reml" for j in (1, 2, 3, 4)), "btdata.tarsus.reml"])
def test_fit__published_animal_models(id):
    """The index's dense AI-REML in R: log-likelihood (12 digits printed), components, fixed effects."""
    refit = table.index(FOLDER)[id][1]
    model = table.build_model(id, FOLDER)
    assert kernels.choose(model)[0] == "sparse"
    fit = vc.fit(model, criterion="reml")
    assert (fit.kernel, fit.status.ok) == ("sparse", True)
    assert refit["loglik"] - 1e-6 <= fit.loglik <= refit["loglik"] + 1e-4
    want = [entry["vcov"] for entry in refit["varcomp"]]
    assert fit.theta.to_numpy() == pytest.approx(want, rel=1e-4)
    assert fit.beta.to_numpy() == pytest.approx(list(refit["beta"].values()), rel=1e-5)


@with_data
@pytest.mark.parametrize("id", ["mrode31.blup", "mrode32.blup"])
def test_blup__mrode(id):
    """Mrode (2014), examples 3.1 (animal model) and 3.2 (sire model), at known variances: solutions to 1e-6."""
    want = table.index(FOLDER)[id][1]["beta"]
    theta = np.array({"mrode31.blup": [20.0, 40.0], "mrode32.blup": [5.0, 55.0]}[id])
    model = table.build_model(id, FOLDER)
    k = kernels.build(model, "sparse")
    beta = k.evaluate(theta).beta
    got = dict(zip(model.X_names, beta, strict=True))
    assert (got["sexMale"], got["sexFemale"]) == pytest.approx((want["Male"], want["Female"]), abs=1e-6)
    (c,) = model.components
    u = dict(zip(c.levels, k.blup(theta, beta)[0], strict=True))
    known = {name[1:]: value for name, value in want.items() if name[0] in "as" and name[1:].isdigit()}
    assert len(known) == {"mrode31.blup": 8, "mrode32.blup": 3}[id]
    assert {name: u[name] for name in known} == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("method", ["ai", "em", "px-em", "lbfgs"])
def test_fit__by_sparse_is_the_fit_by_dense(method, rng):
    data, P = animal_model(40, rng)
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("y ~ x + (1 | animal)", data, cov=cov)
    a, b = (vc.fit(model, method, kernel=kernel, criterion="reml") for kernel in ("sparse", "dense"))
    assert a.loglik == pytest.approx(b.loglik, abs=1e-8)
    assert a.theta.to_numpy() == pytest.approx(b.theta.to_numpy(), rel=1e-5)


def test_fit__a_thousand_animals_take_the_average_information(rng):
    """Beyond FEW effects the start, the stop rule and the standard errors need no q × q matrix, and are as good."""
    data, P = animal_model(1200, rng)
    model = vc.Model.from_formula("y ~ x + (1 | animal) + (1 | herd)", data, cov={"animal": vc.covariance.pedigree(P)})
    k = kernels.build(model)
    assert (k.name, k.stop_information, k.standard_information) == ("sparse", "average", "average")
    fit = vc.fit(model)
    assert (fit.status.ok, fit.n_iter < 15) == (True, True)
    assert fit.theta.to_numpy() == pytest.approx([1.44, 0.49, 1.0], rel=0.8)  # the truth, four standard errors wide
    score = k.evaluate(fit.theta.to_numpy(), ("score",)).score
    se = fit.varcomp()["se"].to_numpy()
    assert np.isfinite(se).all()
    assert np.abs(score * se).max() < 1e-4
    text = model.explain()
    assert text.startswith("kernel `sparse`: the inverse of the relationship of animal is sparse")
    assert f"a sparse Cholesky factor of {1200 + 8} rows with {k.design.fronts.n_nonzero:,} entries" in text


def test_expected__of_too_many_effects_is_refused_before_any_work(rng, monkeypatch):
    from vcbench.kernels import sparse_residual

    data, P = animal_model(40, rng)
    model = vc.Model.from_formula("y ~ x + (1 | animal)", data, cov={"animal": vc.covariance.pedigree(P)})
    k = kernels.build(model, "sparse")
    monkeypatch.setattr(sparse_residual, "MEMORY", 1e-9)
    with pytest.raises(ModelError, match=r"expected information of 40 random effects .* Use the average information"):
        k.evaluate(np.array([1.0, 1.0]), ("expected",))


def test_build__refuses_what_has_no_sparse_precision(rng):
    K = np.cov(rng.normal(size=(20, 40)))
    model = vc.Model(rng.normal(size=20), None, [vc.Component(K=K, name="a")])
    with pytest.raises(ModelError, match=r"component `a` has K\. Pass its sparse inverse as `precision=`"):
        kernels.build(model, "sparse")
    bad = csc_matrix(np.array([[1.0, 2.0], [2.0, 1.0]]))
    model = vc.Model(rng.normal(size=4), None, [vc.Component(np.eye(2)[[0, 1, 0, 1]], name="b", precision=bad)])
    with pytest.raises(ModelError, match="the precision matrix of `b` is not positive definite"):
        kernels.build(model, "sparse")


@pytest.mark.parametrize("theta", [[1.0, 0.3, 0.5, 0.4, 0.8], [1.0, 0.5, 0.25, 0.0, 0.8]])
def test_prediction_errors__are_those_of_dense_algebra(theta, rng):
    """Var(û − u) = G − GZᵀPZG, with and without records, at an Ω of rank 1 and a variance of 0 too."""
    data, P = animal_model(40, rng)
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("y ~ x + (x | animal) + (1 | herd)", data, cov=cov)
    theta = np.array(theta)
    G, Z = prior_covariance(model, theta), stacked(model)
    want = np.diag(G - G @ Z.T @ plain(model, theta).P @ Z @ G)
    got = kernels.build(model, "sparse").prediction_errors(theta)
    at = 0
    for errors in got:
        m, r = errors.shape
        assert errors == pytest.approx(want[at : at + m * r].reshape(r, m).T, rel=1e-8, abs=1e-12)
        at += m * r
