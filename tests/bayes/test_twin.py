"""The twin's log density less its prior is ℓ, constants included: MATH §10, the main check of twin against kernel."""

import subprocess
import sys

import numpy as np
import pytest
from bayes.problems import CARDS, card_model, random_theta
from classics import dyestuff, frame, sleepstudy
from oracle import plain
from strategies import COLUMNS, KINDS, draw_problem

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import Flat, HalfNormal, Normal, twin
from vcbench.bayes.build import safe
from vcbench.bayes.reduced import Reduced
from vcbench.bayes.sampling import _COMPILED
from vcbench.errors import MethodError, ModelError


@pytest.mark.parametrize("criterion", ["reml", "ml"])
@pytest.mark.parametrize("name", CARDS)
def test_twin__less_its_prior_is_the_kernels_loglik_for_every_card(name, criterion, rng):
    model = card_model(name)
    kernel = kernels.build(model)
    made = twin(model, criterion=criterion)
    spread = np.linalg.inv(kernel.basis.T) @ np.full(model.n_fixed, model.y.std())
    for _ in range(3):
        theta = random_theta(model, rng)
        beta = kernel.beta0 + spread * rng.normal(size=model.n_fixed) if criterion == "ml" else None
        expected = kernel.evaluate(theta, criterion=criterion, beta=beta).loglik
        assert abs(made.loglik(theta, beta) - expected) < 1e-8 * (1 + abs(expected))


def test_twin__integrated_over_beta_is_its_reml_twin():
    """∫ L(β, θ) dβ = exp ℓ_REML(θ), by the trapezoid rule, exponentially accurate for a Gaussian."""
    model, theta = dyestuff(), np.array([1764.05, 2451.25])
    kept = twin(model, criterion="ml")
    beta, step = np.linspace(1527.5 - 250, 1527.5 + 250, 101, retstep=True)
    loglik = np.array([kept.loglik(theta, [b]) for b in beta])
    integral = loglik.max() + np.log(np.exp(loglik - loglik.max()).sum() * step)
    assert integral == pytest.approx(twin(model).loglik(theta), abs=1e-10)


@pytest.mark.parametrize("kind", [*KINDS, *COLUMNS])
def test_twin__less_its_prior_is_the_dense_oracle_for_every_structure(kind):
    for seed in (3, 4):
        problem = draw_problem(kind, offset=seed == 4, n_covariates=2 * (seed - 3), seed=seed)
        for criterion, beta in (("reml", None), ("ml", problem.beta)):
            expected = plain(problem.model, problem.theta, criterion, beta).loglik
            made = twin(problem.model, criterion=criterion)
            assert abs(made.loglik(problem.theta, beta) - expected) < 1e-8 * (1 + abs(expected))


def test_twin__holds_for_many_fixed_effects_and_for_blocks_of_five_effects(rng):
    """Beyond the sizes that are written out element by element."""
    n, groups = 90, 12
    codes = rng.permutation(np.arange(n) % groups)
    A = rng.normal(size=(n, 5))
    for X, components in (
        (rng.normal(size=(n, 7)), [vc.Component(A[:, :2], name="g", group=codes)]),
        (rng.normal(size=(n, 2)), [vc.Component(A, name="g", group=codes)]),
        (rng.normal(size=(n, 6)), [vc.Component(A, name="g", group=codes, cov=vc.covariance.diag())]),
    ):
        model = vc.Model(rng.normal(size=n), X, components)
        theta = random_theta(model, rng)
        beta = rng.normal(size=X.shape[1])
        for criterion, given in (("reml", None), ("ml", beta)):
            expected = plain(model, theta, criterion, given).loglik
            got = twin(model, criterion=criterion).loglik(theta, given)
            assert abs(got - expected) < 1e-8 * (1 + abs(expected))


@pytest.mark.parametrize(
    "priors", ["half-t", "pc", "flat-var", "flat-sd", "flat-log", {"beta": Normal(50.0, 1500.0)}], ids=str
)
def test_twin__holds_under_every_prior(priors):
    model = dyestuff()
    theta, beta = np.array([1500.0, 2600.0]), np.array([1520.0])
    for criterion in ("reml", "ml"):
        if isinstance(priors, dict) and criterion == "reml":
            continue
        made = twin(model, priors, criterion)
        given = beta if criterion == "ml" else None
        expected = plain(model, theta, criterion, given).loglik
        assert abs(made.loglik(theta, given) - expected) < 1e-8 * (1 + abs(expected))
    assert (made.log_prior(theta, beta) == 0) == (priors in ("flat-var", "flat-sd", "flat-log"))


def test_reduced__answers_many_thetas_at_once_as_the_oracle_does(rng):
    for kind in ("one-way-unbalanced", "slope-blocks", "K-incidence", "crossed", "group-and-K"):
        problem = draw_problem(kind, seed=11)
        reduced = Reduced.of(problem.model)
        thetas = np.array([problem.theta * c for c in (0.3, 1.0, 2.0)])
        for criterion, beta in (("reml", None), ("ml", None), ("ml", problem.beta)):
            expected = [plain(problem.model, t, criterion, beta).loglik for t in thetas]
            np.testing.assert_allclose(reduced.loglik(thetas, criterion, beta), expected, rtol=1e-9)


def test_reduced__binds_another_response_at_no_design_cost(rng):
    problem = draw_problem("slope-un", offset=True, seed=5)
    y = problem.draw_y(rng)
    bound = Reduced.of(problem.model).bind(y - problem.model.offset)
    fresh = Reduced.of(problem.model.replace(y=y))
    np.testing.assert_allclose(bound.cross, fresh.cross, rtol=1e-12)
    np.testing.assert_allclose(bound.within, fresh.within, rtol=1e-10, atol=1e-12)


def test_reduced__balanced_groups_are_one_block_whatever_their_number():
    codes = np.repeat(np.arange(5000), 10)
    y = np.random.default_rng(1).normal(size=len(codes))
    reduced = Reduced.of(vc.Model(y, None, [vc.Component(np.ones(len(codes)), name="g", group=codes)]))
    assert reduced.S.shape == (1, 1, 1)
    assert sum(a.size for a in reduced.data.values()) < 20


def test_twin__is_a_plain_model_with_parameters_by_our_names():
    import pymc as pm

    made = twin(sleepstudy(), criterion="ml")
    assert isinstance(made.model, pm.Model)
    names = {v.name for v in made.model.deterministics}
    assert set(made.theta_names) <= names
    assert {"Subject:cor((Intercept),Days)", "beta"} <= names
    with made.model:  # a PyMC user may go on from here
        pm.Deterministic("repeatability", made.model["Subject:var((Intercept))"] / made.model["residual:var"])
    assert repr(made) == "Twin(Reaction ~ Days + (Days | Subject), criterion ml)"
    text = made.explain()
    for part in ("18 blocks of size 2, 1 distinct", "n = 180", "LKJ(2)", "half-t(3)", "β kept"):
        assert part in text


def test_twin__writes_a_slash_so_that_arviz_can_store_it():
    model = vc.Model.from_formula("Reaction ~ 1 + (0 + I(Days / 10) | Subject)", frame("sleepstudy"))
    assert any("/" in name for name in model.theta_names)
    made = twin(model)
    assert not any("/" in v.name for v in made.model.deterministics)
    assert safe(model.theta_names[0]) in made.model.named_vars


def test_twin__data_of_another_response_follow_its_scale(rng):
    model = dyestuff()
    made = twin(model)
    y = 10 * model.y + rng.normal(size=30)
    data = made.data_of(y)
    assert {k: np.shape(v) for k, v in data.items()} == {k: np.shape(v) for k, v in made.data.items()}
    assert data["scale(residual:var)"] == pytest.approx(np.std(y, ddof=1))


def test_twin__says_what_it_cannot_do(rng):
    model = dyestuff()
    with pytest.raises(MethodError, match=r"unknown criterion `remll`.*Did you mean `reml`"):
        twin(model, criterion="remll")
    with pytest.raises(ModelError, match='Pass `criterion="ml"`'):
        twin(model, {"beta": Normal(1.0)})
    with pytest.raises(ModelError, match="pass `beta`"):
        twin(model, criterion="ml").loglik([1.0, 1.0])
    with pytest.raises(ModelError, match="`theta` lacks `residual:var`"):
        twin(model).loglik({"Batch:var((Intercept))": 1.0})
    with pytest.raises(ModelError, match="positive variances"):
        twin(model).loglik([0.0, 1.0])
    with pytest.raises(MethodError, match=r"unknown form `centered`.*Did you mean `centred`"):
        twin(model, form="centered")
    with pytest.raises(ModelError, match="takes independent or weighted residuals, not `ar1"):
        twin(
            vc.Model.from_formula("Reaction ~ (1 | Subject)", frame("sleepstudy"), residual="ar1(Days, group=Subject)"),
            form="centred",
        )
    with pytest.raises(ModelError, match="this model has none"):
        twin(vc.Model(rng.normal(size=9)), form="centred")


def test_twin__of_one_structure_share_a_key_whatever_the_numbers_and_names(rng):
    def model(n_groups, scale, name="g"):
        codes = np.repeat(np.arange(n_groups), 4)
        y = scale * rng.normal(size=len(codes))
        return vc.Model(y, None, [vc.Component(np.ones(len(codes)), name=name, group=codes)])

    compiled = len(_COMPILED)
    assert twin(model(6, 1.0)).key == twin(model(9, 100.0, "batch")).key
    assert twin(model(6, 1.0)).key != twin(model(6, 1.0), criterion="ml").key
    assert twin(model(6, 1.0)).key != twin(model(6, 1.0), "pc").key
    assert twin(model(6, 1.0), HalfNormal(1.0)).key == twin(model(6, 1.0), HalfNormal(2.0)).key
    assert twin(model(6, 1.0), Flat("sd")).key != twin(model(6, 1.0), Flat("var")).key
    assert len(_COMPILED) == compiled  # building a twin compiles nothing


def test_import__of_the_room_loads_no_sampler():
    code = "import vcbench.bayes, sys; print(*{m.split('.')[0] for m in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"pymc", "pytensor", "nutpie", "arviz", "arviz_base", "arviz_stats", "numba"} & set(out)
