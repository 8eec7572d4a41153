"""Laplace, pathfinder and ADVI: the Gaussians they say they are, and how far those lie from the exact posterior.

One structure (one way, REML) is compiled for the whole file.
"""

import numpy as np
import pytest
from classics import dyestuff
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import minimize

import vcbench as vc
from vcbench.bayes import approximate, quadrature, twin
from vcbench.bayes.advi import advi
from vcbench.bayes.approximation import Approximation, normal_points, psis
from vcbench.bayes.laplace import laplace
from vcbench.bayes.pathfinder import best_on, climb, diagonal, inverse_hessian, pathfinder
from vcbench.bayes.priors import logpdf_log
from vcbench.bayes.unconstrained import Unconstrained
from vcbench.errors import MethodError
from vcbench.status import Status


@pytest.fixture(scope="module")
def made():
    return twin(dyestuff())


@pytest.fixture(scope="module")
def density(made):
    return Unconstrained.of(made)


def log_density(made, U):
    """The oracle: ℓ_REML + log prior of u = log σ at the rows of U, without PyMC."""
    priors = made.priors.sd.values()
    return made.reduced.loglik(np.exp(2 * U), "reml") + sum(logpdf_log(p, U[:, k]) for k, p in enumerate(priors))


def test_unconstrained__is_the_log_density_of_log_sigma_for_any_response(made, density, rng):
    other = 900 + 3 * made.source.y[::-1]
    of_other = twin(made.source.replace(y=other))
    bound = Unconstrained.of(made, other)
    for x in density.centre + rng.normal(size=(5, 2)):
        assert density(x)[0] == pytest.approx(log_density(made, x[None])[0], abs=1e-9)
        assert bound(x)[0] == pytest.approx(log_density(of_other, x[None])[0], abs=1e-9)
        steps = 1e-5 * np.eye(2)
        slope = [(log_density(made, (x + h)[None])[0] - log_density(made, (x - h)[None])[0]) / 2e-5 for h in steps]
        np.testing.assert_allclose(density(x)[1], slope, rtol=1e-6, atol=1e-7)
    assert density(np.array([900.0, 900.0])) == (-np.inf, pytest.approx([0, 0]))


def test_laplace__sits_at_the_mode_with_the_curvature_there(made, density):
    """The mode of quadrature on the log scale, and the Hessian of the oracle."""
    found = laplace(density, 4000, np.random.default_rng(1))
    mode = 0.5 * np.log(quadrature(dyestuff()).mode("log").to_numpy())
    np.testing.assert_allclose(found.extra["mode"], mode, atol=1e-4)  # the tolerance is 1e-8 in squared SDs
    h = 1e-3

    def at(i, j):
        return log_density(made, (mode + h * np.array([i, j]))[None])[0]

    H = np.empty((2, 2))
    H[0, 0] = (at(1, 0) - 2 * at(0, 0) + at(-1, 0)) / h**2
    H[1, 1] = (at(0, 1) - 2 * at(0, 0) + at(0, -1)) / h**2
    H[0, 1] = H[1, 0] = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * h**2)
    cov = np.linalg.inv(-H)
    centred = found.x - mode
    white = np.linalg.solve(np.linalg.cholesky(cov), centred.T)
    assert np.abs(white.mean(axis=1)).max() < 4.5 / np.sqrt(4000)
    assert np.abs(white @ white.T / 4000 - np.eye(2)).max() < 4.5 * np.sqrt(2 / 4000)
    evidence = at(0, 0) + 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]
    assert found.extra["log_evidence"] == pytest.approx(evidence, abs=1e-5)
    assert found.status is Status.CONVERGED


@pytest.mark.parametrize("method", [laplace, pathfinder, advi])
def test_log_ratio__turns_an_approximation_into_the_posterior(made, method):
    """Importance weights at draws of q: means of σ and the evidence are those of quadrature, within their error.

    40 groups, for with few log σ has a tail e^u towards σ = 0 that no Gaussian covers and no weights bring back.
    """
    group = np.repeat(np.arange(40), 5)
    model = vc.Model(np.zeros(200) + np.arange(200), None, [vc.Component(np.ones(200), name="g", group=group)])
    model = model.replace(y=vc.inference.simulation.simulate(model, [1.0, 2.0], [3.0], 1, 7)[:, 0])
    wide = twin(model)
    assert wide.key == made.key
    post, density = quadrature(model), Unconstrained.of(wide)
    found = method(density, 8000, np.random.default_rng(5))
    if method is pathfinder:  # its draws are resampled by those weights already
        sigma, n = np.exp(found.x), found.extra["importance_ess"]
        means, sds = sigma.mean(axis=0), sigma.std(axis=0)
        assert (np.abs(means - post.sd_mean) < 4.5 * post.sd_sd / np.sqrt(n)).all()
        assert sds == pytest.approx(post.sd_sd, rel=4.5 / np.sqrt(n))
    else:
        weights, khat = psis(found.log_ratio)
        sigma = np.exp(found.x)
        means = weights @ sigma
        error = np.sqrt(((weights[:, None] * (sigma - means)) ** 2).sum(axis=0))
        assert (np.abs(means - post.sd_mean) < 4.5 * error).all()
        assert np.isfinite(khat)
    evidence = np.log(np.exp(found.log_ratio - found.log_ratio.max()).mean()) + found.log_ratio.max()
    ratio = np.exp(found.log_ratio - post.log_evidence)
    assert evidence == pytest.approx(post.log_evidence, abs=4.5 * ratio.std() / np.sqrt(8000))


def test_advi__is_the_nearest_gaussian_with_independent_coordinates(made, density):
    """Against the ELBO integrated by Gauss–Hermite on the oracle and maximised by another optimiser."""
    nodes, weights = hermegauss(24)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    weight = np.outer(weights, weights).ravel() / weights.sum() ** 2

    def negative(at):
        return -(weight @ log_density(made, at[:2] + np.exp(at[2:]) * grid) + at[2:].sum())

    best = minimize(negative, [3.8, 3.9, -1.0, -2.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    found = advi(density, 20_000, np.random.default_rng(2))
    assert found.status is Status.CONVERGED
    mean, sd = found.x.mean(axis=0), found.x.std(axis=0)
    assert (np.abs(mean - best.x[:2]) / sd < 0.02 + 4.5 / np.sqrt(20_000)).all()  # its tolerance, and Monte Carlo
    assert (np.abs(np.log(sd) - best.x[2:]) < 0.02 + 4.5 / np.sqrt(40_000)).all()
    elbo = -best.fun + 1 + np.log(2 * np.pi)
    assert found.extra["elbo"] == pytest.approx(elbo, abs=0.01)
    assert elbo < quadrature(dyestuff()).log_evidence


class Ridge:
    """log p = −x_0²/2, flat in x_1: no mode. What `laplace` asks of an `Unconstrained`."""

    n_dim, centre, reach = 2, np.array([1.0, 1.0]), np.ones(2)

    def __call__(self, x):
        return -0.5 * x[0] ** 2, np.array([-x[0], 0.0])

    def negative(self, x):
        value, gradient = self(x)
        return -value, -gradient

    def hessian(self, x):
        return np.diag([-1.0, 0.0])


def test_laplace__without_a_mode_is_singular_and_draws_nothing():
    found = laplace(Ridge(), 100, np.random.default_rng(1))
    assert found.status is Status.SINGULAR_V
    assert "not concave at its highest point" in found.message
    assert len(found.x) == 0


def test_fit__without_an_approximation_is_a_row_of_nothing_with_its_reason(monkeypatch):
    none = Approximation.none(Status.SINGULAR_V, "the log density is not concave", 7)
    monkeypatch.setattr("vcbench.bayes.laplace.laplace", lambda *given, **options: none)
    fit = vc.fit(dyestuff(), "laplace", seed=1)
    assert fit.status is Status.SINGULAR_V
    assert fit.message == "the log density is not concave"
    assert np.isnan(fit.theta).all()
    assert np.isnan(fit.loglik)
    assert fit.n_iter == 7


def test_advi__says_what_still_moves_when_points_run_out(density):
    found = advi(density, 500, np.random.default_rng(2), max_draws=64)
    assert found.status is Status.MAX_ITER
    assert "the optimum still moved by" in found.message
    assert "doubled to 64" in found.message


def test_pathfinder__builds_the_inverse_hessian_of_a_quadratic(rng):
    """BFGS on exact pairs: the last secant holds, and k conjugate pairs give the inverse; one dimension at once."""
    A = np.cov(rng.normal(size=(3, 50)))
    directions = np.linalg.eigh(A)[1].T
    pairs = [(d, A @ d) for d in directions]
    np.testing.assert_allclose(inverse_hessian(np.ones(3), pairs), np.linalg.inv(A), rtol=1e-10)
    s = rng.normal(size=3)
    H = inverse_hessian(np.array([2.0, 1.0, 0.5]), [(rng.normal(size=3), rng.normal(size=3)), (s, A @ s)][1:])
    np.testing.assert_allclose(H @ (A @ s), s, rtol=1e-12)
    np.testing.assert_allclose(diagonal(np.array([3.0]), np.array([0.5]), np.array([2.0])), [0.25])


def test_pathfinder__picks_the_highest_elbo_of_a_path(density):
    rng = np.random.default_rng(3)
    path = climb(density, density.centre + np.array([0.9, -0.9]))
    points = normal_points(2, 64, rng)
    best = best_on(density, path, points)
    assert density(path[-1][0])[0] > density(path[0][0])[0]
    np.testing.assert_allclose(density(path[-1][0])[1], 0, atol=1e-3)
    others = [best_on(density, path[:k], points) for k in range(2, len(path))]
    assert all(q is None or q.elbo <= best.elbo + 1e-12 for q in others)
    assert best.elbo < quadrature(dyestuff()).log_evidence


@pytest.mark.parametrize("method", ["laplace", "pathfinder", "advi"])
def test_fit__by_an_approximation_has_the_fields_of_nuts(method):
    fit = vc.fit(dyestuff(), method, seed=1)
    exact = vc.fit(dyestuff(), "quadrature")
    assert fit.status is Status.CONVERGED
    assert (np.abs(fit.theta - exact.theta) < 0.35 * exact.theta_se).all()
    assert (np.abs(fit.theta_se / exact.theta_se - 1) < 0.25).all()
    limits = fit.confint(kind="posterior")
    assert (limits["lower"] < fit.theta.reindex(limits.index).fillna(np.inf)).all()
    assert np.isfinite(fit.loglik)
    assert fit.n_eval > 4000
    assert np.isfinite(fit.extra["khat"])
    assert ("k̂" in fit.message) == (fit.extra["khat"] > 0.7)


def test_fit_many__by_an_approximation_gives_each_response_its_own(rng):
    model = dyestuff()
    Y = np.column_stack([model.y, model.y + 5 * rng.normal(size=30)])
    seeds = np.random.SeedSequence(3).spawn(2)
    many = vc.fit_many(model, Y, "laplace", seed=seeds)
    again = vc.fit_many(model, Y[:, [1]], "laplace", seed=seeds[1:])
    np.testing.assert_array_equal(again.theta[0], many.theta[1])
    np.testing.assert_array_equal(again[0].beta, many[1].beta)
    assert not np.array_equal(many.theta[0], many.theta[1])


def test_approximate__refuses_what_makes_no_sense(made):
    with pytest.raises(MethodError, match=r"unknown method `laplas`.*Did you mean `laplace`"):
        approximate(made, "laplas")
    with pytest.raises(MethodError, match="judged by the Pareto k̂ in its attributes"):
        vc.bayes.diagnose(approximate(made, "laplace", draws=100, seed=1))
    with pytest.raises(MethodError, match="`draws` is 5"):
        approximate(made, "advi", draws=5)
    with pytest.raises(MethodError, match="`paths` is 0"):
        approximate(made, "pathfinder", paths=0)
    with pytest.raises(MethodError, match="`max_draws` is 10"):
        approximate(made, "advi", max_draws=10)
