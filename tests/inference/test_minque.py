"""MINQUE(θ_0): its equations by dense algebra, its covariance by formula, its fixed point beside REML."""

import numpy as np
import pytest
from classics import dyestuff, dyestuff2
from hypothesis import given
from hypothesis import strategies as st
from oracle import derivatives, plain
from strategies import KINDS, draw_problem, problems

import vcbench as vc
from vcbench import Status, kernels
from vcbench.errors import MethodError, ModelError
from vcbench.solvers.moments import minque, moment_covariance

PRIORS = st.sampled_from([0, 1, "theta"])


def prior_of(p, prior):
    """(the option, θ_0) of a prior; "theta": the problem's own θ, by name."""
    if prior == "theta":
        return dict(zip(p.model.theta_names, p.theta, strict=True)), p.theta
    variances = [float(":var" in name) for name in p.model.theta_names]
    return prior, np.array(variances if prior else [0.0] * (len(variances) - 1) + [1.0])


def equations(model, theta0):
    """(S, q, P_0 V_j P_0, V_j): S_ij = tr(P_0 V_i P_0 V_j), q_i = yᵀP_0 V_i P_0 y, P_0 = M(MV_0M)⁺M."""
    V = derivatives(model.components, model.n_obs)
    y = model.y - (0.0 if model.offset is None else model.offset)
    P = plain(model, theta0, "reml").P
    W = [P @ Vj @ P for Vj in V]
    return np.array([[np.sum(A * B) for B in V] for A in W]), np.array([y @ A @ y for A in W]), W, V


def sandwich(model, theta, theta0):
    S, _, W, V = equations(model, theta0)
    V = np.tensordot(theta, V, axes=1)
    Sigma = np.array([[2 * np.trace(A @ V @ B @ V) for B in W] for A in W])
    return np.linalg.inv(S) @ Sigma @ np.linalg.inv(S)


@given(problems(), PRIORS)
def test_minque__solves_its_equations_and_has_the_sandwich_covariance(p, prior):
    option, theta0 = prior_of(p, prior)
    S, q, *_ = equations(p.model, theta0)
    want, cov = np.linalg.solve(S, q), sandwich(p.model, p.theta, theta0)
    unit = np.sqrt(np.diag(cov))
    for name in p.kernels:
        kernel = kernels.build(p.model, name)
        got = minque(kernel, option)
        assert (np.abs(got.theta - want) <= 1e-7 * (unit + np.abs(want))).all()
        assert (np.abs(moment_covariance(kernel, p.theta, got.prior) - cov) <= 1e-7 * np.outer(unit, unit)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_minque__no_prior_is_the_method_of_moments(kind):
    p = draw_problem(kind, seed=4, offset=True)
    zero, moments = vc.fit(p.model, "minque", prior=0), vc.fit(p.model, "moments")
    assert zero.criterion == "reml"
    assert zero.theta_values == pytest.approx(moments.theta_values, rel=1e-12)
    assert zero.theta_se.to_numpy() == pytest.approx(moments.theta_se.to_numpy(), rel=1e-12, nan_ok=True)
    assert vc.fit(p.model, "minque").theta_values.tolist() == zero.theta_values.tolist()


@given(problems())
def test_minque__iterated_is_reml_where_that_is_interior_and_always_ends_with_a_status(p):
    fit, reml = vc.fit(p.model, "minque", prior="iterated"), vc.fit(p.model, "ai")
    if fit.status is Status.SINGULAR_V:
        assert "not positive definite after" in fit.message
        assert "`residual:var` = " in fit.message
        assert np.isnan(fit.loglik)
        assert np.isnan(fit.theta_se).all()
        return
    if fit.status is Status.MAX_ITER:
        assert "standard errors from a fixed point" in fit.message
        return
    assert fit.status is Status.CONVERGED
    at = plain(p.model, fit.theta_values, "reml")
    assert np.sqrt(at.score @ np.linalg.solve(at.expected, at.score)) <= 1e-5
    if reml.status is Status.CONVERGED and fit.loglik >= reml.loglik - 1e-6:
        unit = np.abs(reml.theta_values) + reml.theta_se.to_numpy()
        assert (np.abs(fit.theta_values - reml.theta_values) <= 1e-5 * unit).all()
        # at its own fixed point the sandwich 2 S⁻¹ is the inverse expected information
        expected = np.sqrt(np.diag(reml.theta_cov("expected")))
        assert fit.theta_se.to_numpy() == pytest.approx(expected, rel=1e-4)


def test_minque__iterated_keeps_a_negative_variance():
    fit = vc.fit(dyestuff2(), "minque", prior="iterated")  # balanced: (MSA − MSE)/5, which REML cuts at 0
    assert fit.status is Status.CONVERGED
    assert fit.theta_values == pytest.approx(vc.fit(dyestuff2(), "moments").theta_values, rel=1e-8)
    assert fit.theta_values[0] < 0
    assert fit.message == "negative estimate of `Batch:var((Intercept))`, reported raw"


def test_minque__iterated_stops_where_V_is_not_definite():
    ended = {}
    for seed in range(200):
        p = draw_problem("slope-un", 4, 3, zero=True, seed=seed)
        fit = vc.fit(p.model, "minque", prior="iterated")
        ended.setdefault(fit.status, fit)
    assert Status.CONVERGED in ended
    assert "iterated MINQUE is not guarded" in ended[Status.SINGULAR_V].message
    assert ended[Status.SINGULAR_V].code == "VC-SINGULAR-V"


def test_minque__does_not_depend_on_the_size_of_its_prior():
    names = dyestuff().theta_names
    one = vc.fit(dyestuff(), "minque", prior={names[0]: 0.5, names[1]: 1.0})
    big = vc.fit(dyestuff(), "minque", prior={names[0]: 5e7, names[1]: 1e8})
    assert big.theta_values == pytest.approx(one.theta_values, rel=1e-12)
    assert big.theta_se.to_numpy() == pytest.approx(one.theta_se.to_numpy(), rel=1e-12)


@pytest.mark.parametrize("prior", [0, 1, "iterated"])
def test_minque__is_unbiased_and_its_covariance_is_that_of_simulated_data(prior):
    p = draw_problem("crossed", 6, 4, seed=11)
    R = 400
    Y = p.draw_y(np.random.default_rng(3), R)
    many = vc.fit_many(p.model, Y, "minque", prior=prior)
    if prior == "iterated":
        assert [s in (Status.CONVERGED, Status.SINGULAR_V, Status.MAX_ITER) for s in many.status] == [True] * R
        return
    want = sandwich(p.model, p.truth, prior_of(p, prior)[1])
    assert (np.abs(many.theta.mean(0) - p.truth) <= 4 * np.sqrt(np.diag(want) / R)).all()
    centred = many.theta - p.truth
    for i in range(len(p.truth)):
        for j in range(i + 1):
            products = centred[:, i] * centred[:, j]
            assert abs(products.mean() - want[i, j]) <= 4 * products.std() / np.sqrt(R)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (2, r'`prior` is 2; it must be 0, 1, "iterated" or a mapping'),
        ("Iterated", "`prior` is 'Iterated'"),
        (True, "`prior` is True"),
        ({"Batch": 1.0}, "`prior` names `Batch`, which is no parameter.*Choose from Batch:var"),
        ({"residual:var": -1.0}, "V is not positive definite at the prior .*residual:var = -1"),
        ({"residual:var": "much"}, "prior: `residual:var` is 'much'; it must be a number"),
    ],
)
def test_minque__a_prior_that_makes_no_sense_is_named(prior, message):
    with pytest.raises(MethodError, match=message):
        vc.fit(dyestuff(), "minque", prior=prior)


def test_minque__maximises_nothing_and_enters_no_likelihood_ratio_test():
    fit = vc.fit(dyestuff(), "minque", prior=1)
    smaller = vc.fit(vc.Model(dyestuff().y), "ai")
    with pytest.raises(ModelError, match="estimates by moments maximise no likelihood"):
        vc.lrt(smaller, fit)
    comparison = vc.compare(dyestuff(), ("ai", "minque"))
    assert list(comparison.settled("reml")) == ["ai"]


def weighted(p, seed=1):
    """The problem's model with known residual weights, and the same by arrays whose rows are multiplied by √w."""
    w = np.random.default_rng(seed).uniform(0.5, 3.0, p.model.n_obs)
    said = vc.Model(p.model.y, p.model.X, p.model.components, residual=vc.residual.weights(w))
    return said, w


@pytest.mark.parametrize("kind", ["one-way-unbalanced", "slope-un", "crossed", "two-Z", "K"])
@pytest.mark.parametrize("prior", [0, 1])
def test_minque__takes_known_weights_of_the_residual(kind, prior):
    p = draw_problem(kind, seed=6)
    model, w = weighted(p)
    V = derivatives(model.components, model.n_obs)
    V[-1] = np.diag(1 / w)
    theta0 = prior_of(p, prior)[1]
    Vi = np.linalg.inv(np.tensordot(theta0, V, axes=1))
    P = Vi - Vi @ model.X @ np.linalg.solve(model.X.T @ Vi @ model.X, model.X.T @ Vi)
    W = [P @ Vj @ P for Vj in V]
    S = np.array([[np.sum(A * B) for B in V] for A in W])
    fit = vc.fit(model, "minque", prior=prior)
    assert fit.theta_values == pytest.approx(np.linalg.solve(S, [model.y @ A @ model.y for A in W]), rel=1e-7)
    at = np.tensordot(fit.theta_values, V, axes=1)
    Sigma = np.array([[2 * np.trace(A @ at @ B @ at) for B in W] for A in W])
    cov = np.linalg.inv(S) @ Sigma @ np.linalg.inv(S)
    assert fit.theta_cov() == pytest.approx(cov, rel=1e-6, abs=1e-8 * np.abs(cov).max())


def structured(what):
    p = draw_problem("slope-un", 8, 5, seed=3)
    m, c = p.model, p.model.components[0]
    own = {"cov": c.cov, "group": np.array(c.levels)[c.codes], "name": "g"}
    one = np.ones(m.n_obs)
    match what:
        case "cs":
            return vc.Model(m.y, m.X, [vc.Component(c.Z, **{**own, "cov": vc.covariance.cs()})])
        case "ar1":
            time = np.concatenate([np.arange((c.codes == k).sum()) for k in range(len(c.levels))])
            order = np.argsort(np.argsort(c.codes, kind="stable"), kind="stable")
            return vc.Model(m.y, m.X, [vc.Component(one, name="g", group=own["group"])],
                            residual=vc.residual.ar1(time[order], group=own["group"]))  # fmt: skip
        case "equal":
            h = np.arange(m.n_obs) % 5
            parts = [vc.Component(one, name="g", group=own["group"]), vc.Component(one, name="h", group=h)]
            return vc.Model(m.y, m.X, parts, equal=[["g", "h"]])


@pytest.mark.parametrize("method", ["moments", "minque", "anova"])
@pytest.mark.parametrize(
    ("what", "said"), [("cs", "`cs` of `g`"), ("ar1", r"residual `ar1\("), ("equal", "components said to be equal")]
)
def test_moment_methods__refuse_what_is_not_linear(method, what, said):
    with pytest.raises(
        ModelError, match=rf"`{method}` needs a V that is linear in its parameters.*this model has {said}"
    ):
        vc.fit(structured(what), method)


def test_minque__says_that_it_maximised_nothing():
    text = vc.fit(dyestuff(), "minque", prior=1).summary()
    assert text.startswith("Linear mixed model, method of moments")
    assert "REML logLik at the estimate" in text
    assert "iteration" not in text


def test_minque__stands_beside_the_likelihood_methods_as_another_estimator():
    """Of raw estimates ℓ_REML may lie above the maximum, which has no negative variance: that is no better fit."""
    comparison = vc.compare(dyestuff2(), ("ai", "minque"))
    assert comparison.fits["minque"].loglik > comparison.fits["ai"].loglik
    assert comparison.table.set_index("method")["deficit"].to_dict() == {"ai": 0.0, "minque": 0.0}
    assert "minque is another estimator, up to" in str(comparison)
    assert next(line for line in str(comparison).splitlines() if line.startswith("  minque")).split()[1] == "moments"
