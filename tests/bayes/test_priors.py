"""Priors: densities that are densities, in the scale they say, and the words they are asked for by."""

import math

import numpy as np
import pytest
from classics import dyestuff, frame, sleepstudy
from scipy.integrate import quad

import vcbench as vc
from vcbench.bayes import LKJ, PC, Beta, Flat, HalfNormal, HalfT, InverseGamma, Normal, Split, defaults
from vcbench.bayes.prior_choice import prior_scales, resolve
from vcbench.bayes.priors import logpdf_log, partial_correlations
from vcbench.errors import ModelError

PROPER = [
    HalfNormal(2.5), HalfT(3.0, 2.5), HalfT(7.0, 0.3), PC(2.5), PC(0.4, tail=0.01), InverseGamma(2.0, 3.0),
]  # fmt: skip


@pytest.mark.parametrize("prior", PROPER, ids=str)
def test_prior__integrates_to_one_in_its_own_scale_and_on_the_log(prior):
    own = quad(lambda x: math.exp(prior.logpdf(x)), 0, math.inf)[0]
    log = quad(lambda u: math.exp(logpdf_log(prior, u)), -60, 60, points=[-2, 0, 2], limit=500)[0]
    assert own == pytest.approx(1, abs=1e-7)
    assert log == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("on", ["sd", "var", "log"])
def test_flat__carries_its_jacobian_to_the_log(on):
    u = np.array([-1.0, 0.3, 2.0])
    jacobian = {"sd": u, "var": 2 * u + math.log(2), "log": 0 * u}[on]
    np.testing.assert_allclose(logpdf_log(Flat(on), u), jacobian)


def test_pc__puts_its_tail_beyond_its_scale():
    assert quad(lambda x: math.exp(PC(3.0, tail=0.02).logpdf(x)), 3, math.inf)[0] == pytest.approx(0.02, abs=1e-9)


@pytest.mark.parametrize("eta", [1.0, 2.0, 4.5])
def test_lkj__partial_correlations_give_the_density_of_the_matrix(eta):
    """p(C) ∝ |C|^(η−1): the density of the partial correlations over the Jacobian differs from it by a constant."""

    def correlations(rho):
        L = np.zeros((3, 3))
        L[0, 0] = 1
        L[1, :2] = rho[0], math.sqrt(1 - rho[0] ** 2)
        L[2] = rho[1], rho[2] * math.sqrt(1 - rho[1] ** 2), math.sqrt((1 - rho[1] ** 2) * (1 - rho[2] ** 2))
        return L @ L.T

    constants = []
    for rho in np.random.default_rng(1).uniform(-0.9, 0.9, (20, 3)):
        h = 1e-6
        low = ([1, 2, 2], [0, 0, 1])
        jacobian = np.column_stack(
            [(correlations(rho + h * e)[low] - correlations(rho - h * e)[low]) / (2 * h) for e in np.eye(3)]
        )
        named = dict(zip([(1, 0), (2, 0), (2, 1)], rho, strict=True))
        C = correlations(rho)
        log_density = LKJ(eta).logpdf(named, 3) - np.linalg.slogdet(jacobian)[1]
        constants.append(log_density - (eta - 1) * np.linalg.slogdet(C)[1])
        back = partial_correlations(C * np.outer([2, 3, 4], [2, 3, 4]))
        np.testing.assert_allclose(back[0], [2, 3, 4])
        assert back[1] == pytest.approx(named, abs=1e-12)
    assert np.ptp(constants) < 1e-8  # finite differences


def test_defaults__are_half_normal_and_for_correlated_effects_half_t_with_lkj_2():
    priors = defaults(sleepstudy())
    names = list(priors.sd)
    assert names == ["Subject:var((Intercept))", "Subject:var(Days)", "residual:var"]
    assert [type(p) for p in priors.sd.values()] == [HalfT, HalfT, HalfNormal]
    assert priors.lkj == {"Subject": LKJ(2.0)}
    assert priors.beta is None
    data = frame("sleepstudy")
    sd = data["Reaction"].std()
    np.testing.assert_allclose(
        [p.scale for p in priors.sd.values()], [sd, sd / np.sqrt((data["Days"] ** 2).mean()), sd]
    )


def test_prior_scales__follow_the_units_of_y_and_of_the_columns():
    data = frame("sleepstudy").assign(hours=lambda d: 24 * d["Days"], ms=lambda d: 1000 * d["Reaction"])
    days = prior_scales(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", data))
    hours = prior_scales(vc.Model.from_formula("ms ~ hours + (hours | Subject)", data))
    np.testing.assert_allclose(list(hours.values()), np.array(list(days.values())) * [1000, 1000 / 24, 1000])


def test_resolve__takes_families_names_tables_and_more_specific_keys_first():
    model = sleepstudy()
    assert set(map(type, resolve(model, "half-normal").sd.values())) == {HalfNormal}
    assert resolve(model, {"family": "half-t", "df": 4, "scale": 9}).sd["residual:var"] == HalfT(4, 9)
    mixed = resolve(
        model,
        {
            "default": "pc",
            "Subject": [HalfNormal(5.0), LKJ(1.0)],
            "Subject:var(Days)": {"family": "half-normal", "scale": 7},
            "beta": Normal(100.0),
        },
    )
    assert mixed.sd["Subject:var((Intercept))"] == HalfNormal(5.0)
    assert mixed.sd["Subject:var(Days)"] == HalfNormal(7)
    assert isinstance(mixed.sd["residual:var"], PC)
    assert mixed.lkj == {"Subject": LKJ(1.0)}
    assert mixed.beta == Normal(100.0)
    assert resolve(model, mixed) is mixed
    assert resolve(dyestuff(), "flat-sd").sd["residual:var"] == Flat("sd")


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ("half-normall", "unknown family 'half-normall' for `default`.*Did you mean `half-normal`"),
        ({"Subjects": "pc"}, "`priors` names `Subjects`.*Did you mean `Subject`"),
        ({"default": {"family": "half-t", "nu": 3}}, "`half-t` has no `nu`. It has df, scale"),
        ({"residual": {"family": "half-normal", "scale": -1}}, "`scale` of `residual` is -1, outside its range"),
        ({"residual": {"family": "half-normal", "scale": "wide"}}, "it must be a number"),
        ({"residual": Normal(1.0)}, "the prior of `residual` must be on a standard deviation"),
        ({"beta": "pc"}, "the prior of β is PC"),
        ({"beta": "normal"}, "has no `scale`"),
        ({"residual": "inverse-gamma"}, "has no `shape`"),
        ({"residual": Beta(2, 2)}, "has no correlation parameter of a structure"),
        ({"residual": "dirichlet"}, "must be on a standard deviation"),
        ({"total": "pc"}, "must be `Split"),
        ({"total": {"family": "dirichlet", "beta": 1}}, "`dirichlet` has no `beta`. It has alpha, total"),
        ({"total": {"family": "dirichlet", "alpha": -1}}, "must be positive"),
        ({"total": {"family": "dirichlet", "alpha": [1, 2]}}, "holds 2 numbers for 3 variances"),
        ({"total": Split(), "residual": "pc"}, "`residual` has one of its own"),
        ("flat-var", "belongs to correlated effects"),
    ],
)
def test_resolve__says_what_it_cannot_read(priors, message):
    with pytest.raises(ModelError, match=message):
        resolve(sleepstudy(), priors)


def test_resolve__refuses_an_lkj_prior_without_correlated_effects_and_priors_of_another_model():
    with pytest.raises(ModelError, match="no correlated effects"):
        resolve(dyestuff(), {"Batch": [HalfNormal(), LKJ()]})
    with pytest.raises(ModelError, match="of another model"):
        resolve(dyestuff(), defaults(sleepstudy()))
    with pytest.raises(ModelError, match='Choose "var", "sd" or "log"'):
        Flat("variance")


@pytest.mark.parametrize("prior", PROPER, ids=str)
def test_draw__has_the_law_that_logpdf_states(prior):
    """Kolmogorov–Smirnov at 1e-4 against the integral of the density."""
    x = np.sort(prior.draw(np.random.default_rng(7), 500))
    cdf = np.array([quad(lambda v: math.exp(prior.logpdf(v)), 0, b, limit=200)[0] for b in x[::10]])
    gap = np.abs(cdf - (np.arange(500)[::10] + 0.5) / 500).max()
    assert gap < 2.23 / math.sqrt(500)


def test_lkj__draws_have_beta_margins():
    """Each correlation of LKJ(η) in r dimensions is Beta(η − 1 + r/2, same) on (−1, 1)."""
    from scipy.stats import beta, kstest

    C = LKJ(2.0).draw(np.random.default_rng(8), 2000, 3)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert kstest(0.5 * (1 + C[:, i, j]), beta(2.5, 2.5).cdf).pvalue > 1e-4
    np.testing.assert_allclose(C[:, [0, 1, 2], [0, 1, 2]], 1)


SPLIT = Split(
    (2.0, 1.0, 0.7),
    HalfT(3.0),
).of(["a", "b", "residual:var"], [2.0, 0.5, 1.0], 1.3)


def test_split__is_its_total_times_a_dirichlet_with_the_jacobian():
    """Against scipy's Dirichlet and a finite difference of the map (T, w_1, w_2) → σ²."""
    from scipy.stats import dirichlet

    sizes = np.array(SPLIT.sizes)
    T, w = 1.7, np.array([0.5, 0.2])

    def variances(x):
        return x[0] ** 2 * np.array([x[1], x[2], 1 - x[1] - x[2]]) / sizes

    x = np.array([T, *w])
    h = 1e-6
    jacobian = np.column_stack([(variances(x + h * e) - variances(x - h * e)) / (2 * h) for e in np.eye(3)])
    expected = HalfT(3.0, 1.3).logpdf(T) + dirichlet([2.0, 1.0, 0.7]).logpdf(np.array([*w, 1 - w.sum()]))
    assert SPLIT.logpdf(variances(x)) == pytest.approx(expected - np.linalg.slogdet(jacobian)[1], abs=1e-8)


def test_split__of_free_values_is_undone_by_variances():
    theta = SPLIT.draw(np.random.default_rng(3), 50)
    free = SPLIT.free(theta)
    np.testing.assert_allclose(np.stack(SPLIT.variances(list(free.T)), axis=-1), theta, rtol=1e-12)
    np.testing.assert_allclose(free[:, 0] ** 2, theta @ SPLIT.sizes, rtol=1e-12)
    shares = theta * SPLIT.sizes / (theta @ SPLIT.sizes)[:, None]
    means = SPLIT.draw(np.random.default_rng(4), 4000) * SPLIT.sizes
    means = means / means.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(means.mean(axis=0), np.array([2.0, 1.0, 0.7]) / 3.7, atol=4 * 0.25 / math.sqrt(4000))
    assert ((shares > 0) & (shares < 1)).all()


def test_resolve__splits_the_total_by_the_mean_diagonal_of_each_part():
    model = vc.Model.from_formula("Reaction ~ Days + (Days || Subject)", frame("sleepstudy"))
    split = resolve(model, {"total": {"family": "dirichlet", "alpha": [1, 1, 2], "total": "pc"}}).split
    assert split.names == model.theta_names
    np.testing.assert_allclose(split.sizes, [1, (frame("sleepstudy")["Days"] ** 2).mean(), 1])
    assert split.total == PC(frame("sleepstudy")["Reaction"].std())
    assert resolve(model, "dirichlet").sd == {}
    assert "Dirichlet(1, 1, 2)" in resolve(model, {"total": split}).explain()


def test_resolve__gives_the_parameters_of_a_structure_their_own():
    data = frame("sleepstudy")
    model = vc.Model.from_formula(
        "Reaction ~ Days + (1 | Subject)", data, residual=vc.residual.ar1("Days", group="Subject")
    )
    priors = resolve(model)
    assert list(priors.sd) == ["Subject:var((Intercept))", "residual:var"]
    assert priors.shape == {"residual:rho": Beta(1, 1)}
    said = resolve(model, {"residual": ["pc", {"family": "beta", "a": 3, "b": 2}]})
    assert said.shape == {"residual:rho": Beta(3, 2)}
    assert isinstance(said.sd["residual:var"], PC)
    assert resolve(model, {"residual:rho": "uniform"}).shape == {"residual:rho": Beta()}
    with pytest.raises(ModelError, match="is for a standard deviation"):
        resolve(model, {"residual:rho": "pc"})
    un = vc.Model.from_formula("Reaction ~ Days", data, residual=vc.residual.un("Days", group="Subject"))
    assert resolve(un, {"residual": LKJ(4.0)}).lkj == {"residual": LKJ(4.0)}
    decay = vc.Model.from_formula("Reaction ~ 1", data, residual=vc.residual.exponential("Days", group="Subject"))
    assert resolve(decay).shape == {"residual:range": HalfNormal(9.0)}
    assert resolve(decay, {"residual:range": {"family": "half-t", "scale": 3}}).shape["residual:range"] == HalfT(3, 3)


def test_twin__with_a_split_total_is_the_kernels_loglik_and_the_splits_prior():
    """The PyMC graph's density of (T, sticks) less ℓ is `logpdf_free`; another design shares the compiled structure."""
    model = dyestuff()
    made = vc.bayes.twin(model, {"total": Split((1.0, 2.0))})
    theta = np.array([900.0, 2500.0])
    assert made.free_names == ("total:sd", "stick(Batch:var((Intercept)))")
    expected = vc.kernels.build(model).evaluate(theta, criterion="reml").loglik
    assert made.loglik(theta) == pytest.approx(expected, abs=1e-8)  # the constant of pm.Beta(1, 2) is 1.9e-9 off
    assert made.log_prior(theta) == pytest.approx(made.priors.split.logpdf_free(theta))
    other = vc.bayes.twin(model.replace(y=1e3 + 3 * model.y[::-1]), {"total": Split((1.0, 2.0))})
    assert other.key == made.key
    inverse_gamma = vc.bayes.twin(model, {"default": InverseGamma(2.0, 1000.0)})
    assert inverse_gamma.loglik(theta) == pytest.approx(expected, abs=1e-9)
