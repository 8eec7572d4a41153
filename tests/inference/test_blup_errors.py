"""Errors of β̂ and û: by Henderson's equations, by conditioning the joint normal on y, by a posterior drawn by Gibbs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from joint import henderson, inner_theta, predicted, random_part, residual_covariance
from oracle import posterior
from scipy.sparse import block_diag, eye, hstack, random_array
from strategies import COLUMNS, KINDS, RELATED, draw_problem, problems

import vcbench as vc
from vcbench.errors import ModelError
from vcbench.inference import inverse
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.inverse import BlockInverse, DenseInverse, SelectedInverse, inverse_of


@pytest.fixture(params=["full", "blocks", "selected"])
def way(request, monkeypatch):
    """M⁻¹ in full, block by block, and where M has entries."""
    monkeypatch.setattr(inverse, "SMALL", 400 if request.param == "full" else 0)
    monkeypatch.setattr(inverse, "FULL", 2.0)
    monkeypatch.setattr(inverse, "BLOCK", 200 if request.param == "blocks" else 0)


def long_data(n_units=10, m=4):
    rng = np.random.default_rng(4)
    unit = np.repeat(np.arange(n_units) + 1, m)
    frame = pd.DataFrame({
        "unit": unit, "t": np.tile(np.arange(m), n_units), "row": unit, "x": rng.standard_normal(len(unit)),
        "site": rng.choice(list("abc"), len(unit)), "w": rng.uniform(0.5, 2, len(unit)),
    })  # fmt: skip
    frame["y"] = rng.standard_normal(len(unit)) + 0.5 * frame["x"] + rng.standard_normal(n_units)[unit - 1]
    return frame.sample(frac=0.9, random_state=1).reset_index(drop=True)


DATA = long_data()
PEDIGREE = pd.DataFrame({"id": range(1, 13), "sire": [0, 0, 1, 1, 1, 3, 3, 5, 5, 7, 7, 9],
                         "dam": [0, 0, 2, 2, 0, 4, 4, 4, 6, 6, 8, 8]})  # fmt: skip
CASES = {
    "weights": ("y ~ x + (1 + x | unit)", "weights(w)", {}),
    "ar1": ("y ~ x + (1 | unit)", "ar1(t, group=unit)", {}),
    "ar1 + crossed": ("y ~ x + (1 + x | unit) + (1 | site)", "ar1(t, group=unit)", {}),
    "heterogeneous": ("y ~ x + (1 | unit)", "by(site)", {}),
    "heterogeneous ar1": ("y ~ x + (1 | site)", "by(site, ar1(t, group=unit))", {}),
    "weights ar1": ("y ~ x + (1 | unit)", "weights(w) * ar1(t, group=unit)", {}),
    "field": ("y ~ x + (1 | site)", "ar1(row) * ar1(t) + nugget", {}),
    "cs effects": ("y ~ 1 + (0 + site | unit)", "", {"cov": {"unit": "cs()"}}),
    "pedigree ar1": ("y ~ x + (1 | unit)", "ar1(t, group=unit)", {"cov": {"unit": vc.covariance.pedigree(PEDIGREE)}}),
    "pedigree slopes": ("y ~ x + (1 + x | unit)", "", {"cov": {"unit": vc.covariance.pedigree(PEDIGREE)}}),
    "equal": ("y ~ x + (1 | unit) + (1 | site)", "", {"equal": [["unit", "site"]]}),
    "fixed effects only": ("y ~ x", "ar1(t, group=unit)", {}),
}


def model_of(case):
    formula, residual, options = CASES[case]
    model = vc.Model.from_formula(formula, DATA, residual=residual or None, **options)
    theta = inner_theta(model)
    return model, theta, residual_covariance(model, theta, DATA, residual)


@settings(max_examples=25)
@given(problems((*KINDS, *RELATED)))
@pytest.mark.parametrize("way", ["full", "blocks", "selected"])
def test_blup_errors__are_the_covariances_given_y(way, p):
    """G − GZᵀV⁻¹ZG and G − GZᵀPZG, at θ and where Ω is singular or 0."""
    kept = inverse.SMALL, inverse.FULL, inverse.BLOCK
    try:
        if way != "full":
            inverse.SMALL, inverse.FULL, inverse.BLOCK = 0, 2.0, 200 if way == "blocks" else 0
        _check_blocks(p.model, p.theta)
        _check_blocks(p.model, p.truth)
    finally:
        inverse.SMALL, inverse.FULL, inverse.BLOCK = kept


def _check_blocks(model, theta):
    at = BlupErrors.at(model, theta)
    for criterion, blocks in (("ml", at.conditional), ("reml", at.errors)):
        _, cov, *_ = posterior(model, theta, criterion)
        first = 0
        for k, c in enumerate(model.components):
            got = blocks(k)
            N, r = got.shape[:2]
            own = cov[first : first + N * r, first : first + N * r].reshape(r, N, r, N)
            want = np.einsum("albl->lab", own)
            assert got == pytest.approx(want, rel=1e-8, abs=1e-9 * max(np.abs(want).max(), 1e-300)), c.name
            first += N * r


@pytest.mark.parametrize("kind", COLUMNS)
def test_blup_errors__of_columns_with_a_covariance_of_their_own(kind, way):
    p = draw_problem(kind, seed=3)
    _check_blocks(p.model, p.theta)


@pytest.mark.parametrize("case", CASES)
def test_blup_errors__are_the_inverse_of_hendersons_equations(case, way):
    """C_11, the blocks of C_22 and the error of any xᵀβ̂ + zᵀû, for every residual structure."""
    model, theta, R = model_of(case)
    C, d = henderson(model, theta, R), model.n_fixed
    at = BlupErrors.at(model, theta)
    np.testing.assert_allclose(at.beta_cov, C[:d, :d], rtol=1e-8, atol=1e-10)
    Z, _, start = random_part(model, theta)
    for k, t in enumerate(at.terms):
        r, blocks = len(t.root), at.errors(k)
        for level, block in enumerate(blocks):
            here = slice(d + start[k] + level * r, d + start[k] + (level + 1) * r)
            np.testing.assert_allclose(block, C[here, here], rtol=1e-8, atol=1e-9)
    T = np.hstack([model.X, Z])
    np.testing.assert_allclose(at.variance(model.X, at.ZL), np.einsum("ij,jk,ik->i", T, C, T), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["slope-un", "crossed", "nested", "K-incidence", "group-and-K", "pedigree-slope"])
def test_blup_errors__of_a_row_that_joins_levels_which_never_met(kind, way):
    """Every pair of levels of two components in one row: most are no entry of M."""
    p = draw_problem(kind, 7, 4, seed=6)
    model = p.model
    at = BlupErrors.at(model, p.theta)
    _, _, start = random_part(model, p.theta)
    rng = np.random.default_rng(2)
    X, m = rng.normal(size=(30, model.n_fixed)), 30
    rows, Z = [], np.zeros((m, start[-1]))
    for k, t in enumerate(at.terms):
        r, N = len(t.root), (start[k + 1] - start[k]) // len(t.root)
        levels, values = rng.integers(0, N, m), rng.normal(size=(m, r))
        if t.component.codes is None:
            full = np.zeros((m, N))
            full[np.arange(m), levels] = values[:, 0]
            rows.append(at.rows_of(k, full, None))
        else:
            rows.append(at.rows_of(k, values, levels))
        for i in range(m):
            Z[i, start[k] + levels[i] * r : start[k] + (levels[i] + 1) * r] = values[i]
    _, cov = predicted(model, p.theta, p.theta[-1] * np.eye(model.n_obs), X, Z)  # K has no inverse: no Henderson
    np.testing.assert_allclose(at.variance(X, hstack(rows, format="csr")), np.diag(cov), rtol=1e-8)


def test_blup_errors__are_those_of_a_posterior_drawn_by_gibbs():
    """β flat, θ known: β | u, y and u | β, y in turn, 400 chains side by side; means and covariances within 4 MCSE."""
    p = draw_problem("slope-un", 5, 4, seed=12)
    model, theta = p.model, p.theta
    c, X, sigma2 = model.components[0], model.X, theta[-1]
    fit = vc.fit(model, "ai", start=dict(zip(model.theta_names, theta, strict=True)), max_iter=0)
    Omega_inverse = np.linalg.inv(model.Omegas(theta)[0])
    rng = np.random.default_rng(7)
    chains, burn, keep = 400, 300, 1500
    XtX = np.linalg.inv(X.T @ X)
    beta_root = np.linalg.cholesky(sigma2 * XtX)
    groups = [np.flatnonzero(c.codes == g) for g in range(len(c.levels))]
    Gamma = [np.linalg.inv(c.Z[g].T @ c.Z[g] / sigma2 + Omega_inverse) for g in groups]
    roots = [np.linalg.cholesky(G) for G in Gamma]
    u = np.zeros((chains, len(groups), 2))
    total = np.zeros((chains, len(groups), 2))
    squares = np.zeros((chains, len(groups), 2, 2))
    for step in range(burn + keep):
        rest = model.y - np.einsum("ia,cia->ci", c.Z, u[:, c.codes])
        beta = rest @ X @ XtX + rng.standard_normal((chains, X.shape[1])) @ beta_root.T
        r = model.y - beta @ X.T
        for j, g in enumerate(groups):
            u[:, j] = r[:, g] @ c.Z[g] @ Gamma[j] / sigma2 + rng.standard_normal((chains, 2)) @ roots[j].T
        if step >= burn:
            total += u
            squares += u[..., :, None] * u[..., None, :]
    means, blups = total / keep, fit.ranef()["g"].to_numpy()
    mcse = means.std(axis=0, ddof=1) / np.sqrt(chains)
    assert (np.abs(means.mean(axis=0) - blups) < 4 * mcse).all()
    centred = squares / keep - blups[..., :, None] * blups[..., None, :] - _cross(means - blups, blups)
    mcse = centred.std(axis=0, ddof=1) / np.sqrt(chains)
    gap = np.abs(centred.mean(axis=0) - fit.condvar(beta="estimated")["g"])
    assert (gap < 4 * mcse).all()
    assert (np.abs(fit.condvar()["g"] - fit.condvar(beta="estimated")["g"]) > 8 * mcse).any(), "it can tell them apart"


def _cross(shift, at):
    """uuᵀ about `at` from uuᵀ: what (mean − at) contributes."""
    both = shift[..., :, None] * at[..., None, :]
    return both + np.swapaxes(both, -1, -2)


def test_blup__one_way_is_shrunken_and_as_reliable_as_its_records():
    """β known: û_j = Σ_i(y_ij − μ)/(n_j + λ), Var(u | y) = σ²/(n_j + λ), λ = σ²/σ_u² (MATH §8); β costs h_j²Var(μ̂)."""
    rng = np.random.default_rng(1)
    sizes = np.array([1, 2, 5, 9])
    group = np.repeat(np.arange(4), sizes)
    model = vc.Model(rng.normal(size=17), None, [vc.Component(np.ones(17), name="g", group=group)])
    s2u, s2 = 5.0, 2.0
    fit = vc.fit(model, "ai", start={"g:var((Intercept))": s2u, "residual:var": s2}, max_iter=0)
    shrink = sizes / (sizes + s2 / s2u)
    weights = 1.0 / (s2u + s2 / sizes)
    mean = (weights * np.bincount(group, model.y) / sizes).sum() / weights.sum()
    assert fit.ranef()["g"].iloc[:, 0].to_numpy() == pytest.approx(
        shrink * (np.bincount(group, model.y) / sizes - mean), rel=1e-10
    )
    own = s2 / (sizes + s2 / s2u)
    assert fit.condvar()["g"][:, 0, 0] == pytest.approx(own, rel=1e-12)
    errors = own + shrink**2 / weights.sum()  # û_j = shrink·(ȳ_j − μ̂): ∂û_j/∂μ̂ = −shrink
    assert fit.condvar(beta="estimated")["g"][:, 0, 0] == pytest.approx(errors, rel=1e-12)
    assert fit.reliability()["g"].iloc[:, 0].to_numpy() == pytest.approx(1 - errors / s2u, rel=1e-12)


def test_reliability__divides_by_the_variance_of_an_inbred_animal():
    """1 − PEV/(σ_a² A_ii), A_ii = 1 + F from the tabular method; 0 for an animal of which nothing is known."""
    pedigree = pd.concat([PEDIGREE, pd.DataFrame({"id": [13, 14, 15], "sire": [9, 11, 0], "dam": [10, 12, 0]})])
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA, cov={"unit": vc.covariance.pedigree(pedigree)})
    fit = vc.fit(model, "ai", start={"unit:var": 1.3, "residual:var": 0.9}, max_iter=0)
    A = np.linalg.inv(model.components[0].relation.precision.toarray())
    assert np.diag(A).max() > 1.2
    table = fit.blup(component="unit").set_index("level")
    C = henderson(model, fit.theta_values, 0.9 * np.eye(model.n_obs))[2:, 2:]
    assert fit.reliability()["unit"].to_numpy()[:, 0] == pytest.approx(1 - np.diag(C) / (1.3 * np.diag(A)), rel=1e-8)
    assert (fit.reliability()["unit"] > -1e-12).all(axis=None)
    assert table.loc["15", "reliability"] == pytest.approx(0.0, abs=1e-12)
    assert table.loc["15", "estimate"] == pytest.approx(0.0, abs=1e-12)
    assert table["se"].to_numpy() == pytest.approx(fit.ranef_se()["unit"].iloc[:, 0].to_numpy(), rel=1e-14)


def test_blup__is_a_long_table_of_all_effects():
    p = draw_problem("crossed-slopes", seed=3)
    fit = vc.fit(p.model)
    table = fit.blup(level=0.8)
    assert list(table.columns) == ["component", "level", "effect", "estimate", "se", "lower", "upper", "reliability"]
    assert len(table) == sum(t.size for t in fit.ranef().values())
    for row in table.sample(12, random_state=1).itertuples():
        assert row.estimate == fit.ranef()[row.component].loc[row.level, row.effect]
        assert row.se == fit.ranef_se()[row.component].loc[row.level, row.effect]
        assert row.upper - row.estimate == pytest.approx(1.2815515655446004 * row.se)
    assert vc.fit(vc.Model(p.model.y, p.model.X)).blup().empty


def test_blup_errors__beside_a_residual_variance_of_nothing():
    """σ² at 1e-8 of σ_a², K of full rank: Cov(u | y, β) = σ²I − σ⁴V⁻¹, which loses no digit."""
    p = draw_problem("K", seed=3)
    theta = np.array([4.6, 4.3e-8])
    V = theta[0] * p.model.components[0].K + theta[1] * np.eye(p.model.n_obs)
    want = theta[1] - theta[1] ** 2 * np.diag(np.linalg.inv(V))
    assert BlupErrors.at(p.model, theta).conditional(0)[:, 0, 0] == pytest.approx(want, rel=1e-5)


def test_blup_errors__of_a_negative_variance_are_refused():
    p = draw_problem("crossed", seed=2)
    with pytest.raises(ModelError, match="negative eigenvalue"):
        BlupErrors.at(p.model, [-0.01, 1.0, 1.0])


def test_selected_inverse__is_the_inverse_where_it_is_asked(rng):
    """A sparse M with fill-in: blocks, pairs in and out of its pattern, bilinear forms, solutions; small blocks."""
    S = random_array((60, 60), density=0.03, rng=rng, format="csc")
    M = (S @ S.T + eye(60)).tocsc()
    want, got = np.linalg.inv(M.toarray()), SelectedInverse.of(M)
    at = np.arange(10, 40).reshape(10, 3)
    np.testing.assert_allclose(got.blocks(10, 10, 3), want[at[:, :, None], at[:, None, :]], atol=1e-12)
    for columns in (np.array([3]), np.array([1, 50, 7])):
        np.testing.assert_allclose(got.among(columns), want[np.ix_(columns, columns)], atol=1e-12)
    A, B = random_array((20, 60), density=0.1, rng=rng, format="csr"), random_array((20, 60), density=0.1, rng=rng)
    np.testing.assert_allclose(got.bilinear(A, B), np.diag(A.toarray() @ want @ B.toarray().T), atol=1e-12)
    np.testing.assert_allclose(DenseInverse(want).bilinear(A, B.tocsr()), got.bilinear(A, B), atol=1e-12)
    np.testing.assert_allclose(got.full().matrix, want, atol=1e-12)
    blocks = block_diag([M[:3, :3], M[5:9, 5:9], M[10:13, 10:13]], format="csc")
    label = np.repeat([0, 1, 2], [3, 4, 3])
    np.testing.assert_allclose(
        BlockInverse.of(blocks, label).matrix.toarray(), np.linalg.inv(blocks.toarray()), atol=1e-12
    )
    for make in (
        lambda M: BlockInverse.of(M, np.zeros(60, int)),
        SelectedInverse.of,
        lambda M: DenseInverse.of(M.toarray()),
        inverse_of,
    ):
        with pytest.raises(ModelError, match="not positive definite"):
            make((M - 5 * eye(60)).tocsc())
