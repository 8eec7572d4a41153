"""The PyMC models beside the cards: ℓ_ML(β, θ) with all constants, and the law of the generated twin."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from bayes.by_hand import BY_HAND, build, load, natural, unconstrain
from bayes.problems import card_with_data, random_theta
from oracle import plain

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import twin
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.prior_choice import prior_scales
from vcbench.cards import find_cards, load_card

SLOW = pytest.mark.slow
NOT_BY_HAND = {  # variants whose model is another one than that of the card's hand-written model
    "random_slope:uncorrelated", "rat_weight:sex", "rat_weight:males_diet", "field_trial:rows_and_columns",
    "animal_model:years", "genetic_correlation:all_records",
}  # fmt: skip
QUICK = {
    "one_way", "random_slope", "three_components", "snp_heritability", "ar1", "crossed", "cs", "heteroscedastic",
    "nested", "split_plot", "toeplitz",
}  # fmt: skip


def cards():
    names = [name for stem in find_cards() for name in (stem, *load_card(stem).variants) if name not in NOT_BY_HAND]
    return [pytest.param(name, marks=() if name in QUICK else SLOW) for name in names]


@cache
def both(name):
    """A card's model, its kernel, its hand-written and its generated PyMC model, with β, and their log densities."""
    from pytensor.compile.mode import Mode

    card = card_with_data(name)
    model = card.model()
    by_hand, generated = build(name, card, model), twin(model, card.priors, criterion="ml")
    mode = Mode("py", "fast_compile")

    def compiled(pymc_model, jacobian=False, of=None):
        return pymc_model.compile_logp(vars=of, jacobian=jacobian, mode=mode)

    return SimpleNamespace(
        model=model, by_hand=by_hand, twin=generated, kernel=kernels.build(model), coordinates=Coordinates.of(model),
        unconstrain=unconstrain(by_hand),
        joint=compiled(by_hand), prior=compiled(by_hand, of=by_hand.free_RVs),
        joint_z=compiled(by_hand, True), twin_z=compiled(generated.model, True),
    )  # fmt: skip


def draw_z(it, rng):
    """Coordinates of θ on the real line, SDs of the size of the data's, and β about the least-squares one."""
    units = prior_scales(it.model)
    z = np.empty(len(it.coordinates.items))
    for j, c in enumerate(it.coordinates.items):
        z[j] = rng.normal()
        if c.axis.kind == "sd":
            z[j] = np.log(units[c.name] * rng.uniform(0.2, 1.2))
        elif c.axis.kind == "range":
            z[j] += np.log(it.coordinates.start[j])
    spread = np.linalg.inv(it.kernel.basis.T) @ np.full(it.model.n_fixed, it.model.y.std())
    return z, it.kernel.beta0 + spread * rng.normal(size=it.model.n_fixed)


def theta_of(it, z):
    kinds = [c.axis.kind for c in it.coordinates.items]
    return it.coordinates.theta(
        [np.exp(v) if kind in ("sd", "range") else 1 / (1 + np.exp(-v)) for kind, v in zip(kinds, z, strict=True)]
    )


def hand_z(it, name, z, beta):
    """The unconstrained variables of the hand-written model."""
    return it.unconstrain(natural(name, it.model, theta_of(it, z), beta))


def log_volume(it, name, z, beta):
    """log |∂(variables by hand)/∂(variables of the twin)| by central differences of fourth order.

    Without β: both densities are flat there, of β and of γ = T(β − β_0), and a flat density has no constant.
    """

    def flat(z):
        at = hand_z(it, name, z, beta)
        return np.concatenate([np.atleast_1d(v) for n, v in at.items() if n not in ("mu", "beta", "B")])

    h, J = 1e-3, np.empty((len(z), len(z)))
    for j, e in enumerate(np.eye(len(z)) * h):
        J[:, j] = (8 * (flat(z + e) - flat(z - e)) - (flat(z + 2 * e) - flat(z - 2 * e))) / (12 * h)
    return np.linalg.slogdet(J)[1]


def test_written_by_hand__every_card_has_one():
    assert set(BY_HAND) == set(find_cards())


@pytest.mark.parametrize("name", cards())
def test_written_by_hand__less_its_prior_is_the_kernels_loglik(name, rng):
    it = both(name)
    for _ in range(3):
        z, beta = draw_z(it, rng)
        theta, at = theta_of(it, z), hand_z(it, name, z, beta)
        expected = it.kernel.evaluate(theta, criterion="ml", beta=beta).loglik
        tolerance = 1e-8 * (1 + abs(expected))
        assert abs(float(it.joint(at)) - float(it.prior(at)) - expected) < tolerance
        assert abs(it.twin.loglik(theta, beta) - expected) < tolerance


@pytest.mark.parametrize("name", cards())
def test_written_by_hand__is_the_generated_twin(name, rng):
    """The joint density of both, on the same coordinates: likelihood, priors, their scales and all constants."""
    it = both(name)
    for _ in range(3):
        z, beta = draw_z(it, rng)
        expected = float(it.twin_z(it.twin.point(theta_of(it, z), beta)))
        ours = float(it.joint_z(hand_z(it, name, z, beta))) + log_volume(it, name, z, beta)
        assert abs(ours - expected) < 1e-8 * (1 + abs(expected))


def test_written_by_hand__is_the_dense_oracle_for_some_rats(rng):
    """The whole data set as an n × n matrix would take minutes; forty animals of unequal length do not."""
    from pytensor.compile.mode import Mode

    data = card_with_data("rat_weight").data()
    some = data[data["id"].isin(sorted(data["id"].unique())[:40])]
    some = some.drop(index=some.index[[3, 17, 18, 90]])
    model = vc.Model.from_formula("weight ~ week + week2 + (week + week2 | id)", some)
    theta = random_theta(model, rng)
    beta = np.array([170.0, 30.0, -1.0])
    expected = plain(model, theta, "ml", beta).loglik
    pymc_model = load("rat_weight").build(some["weight"], some["week"], some["id"])
    at = unconstrain(pymc_model)(natural("rat_weight", model, theta, beta))
    mode = Mode("py", "fast_compile")
    joint, prior = (pymc_model.compile_logp(vars=of, jacobian=False, mode=mode) for of in (None, pymc_model.free_RVs))
    assert abs(float(joint(at)) - float(prior(at)) - expected) < 1e-8 * (1 + abs(expected))


def test_written_by_hand__refuses_designs_it_cannot_hold():
    from classics import frame

    data = frame("sleepstudy")
    with pytest.raises(ValueError, match="once at each time"):
        load("random_slope").build(data["Reaction"][1:], data["Days"][1:], data["Subject"][1:])
    with pytest.raises(ValueError, match="fewer than three"):
        load("rat_weight").build([1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 3, 1, 2], ["a", "a", "a", "b", "b"])
    with pytest.raises(ValueError, match="fewer than n = 5"):
        load("three_components").build(np.arange(5.0), np.ones((5, 1)), np.ones((5, 3)), np.ones((5, 2)))
    one = np.ones((4, 1))
    for stem in ("toeplitz", "unstructured"):
        with pytest.raises(ValueError, match="once at each time"):
            load(stem).build(np.arange(4.0), one, [1, 2, 1, 1], ["a", "a", "b", "b"])
    for stem in ("ar1", "ante1", "distance_decay"):
        with pytest.raises(ValueError, match="twice at the same time"):
            load(stem).build(np.arange(4.0), one, [1, 2, 1, 1], ["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="every product"):
        load("replicate_crossover").build(np.arange(4.0), one, ["R", "T", "R", "R"], [1, 1, 2, 2])
    with pytest.raises(ValueError, match="differ in size"):
        load("split_plot").build(np.arange(4.0), one, [1, 1, 1, 2], ["a", "a", "b", "a"])
    with pytest.raises(ValueError, match="own ancestors"):
        load("animal_model").relationship(["a", "b"], ["b", "a"], [None, None])
    with pytest.raises(ValueError, match="all traits"):
        load("genetic_correlation").build([[1.0, np.nan], [2.0, 1.0]], one[:2], np.eye(2))
    with pytest.raises(ValueError, match="same plot"):
        load("field_trial").build(np.arange(3.0), one[:3], [1, 1, 1], [1, 2, 2])


@pytest.mark.slow
# LKJCholeskyCov contains a scan that PyTensor compiles in C, whatever the backend of the sampler
@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS installation:UserWarning")
@pytest.mark.parametrize("name", ["random_slope", "rat_weight"])
def test_written_by_hand__has_the_posterior_of_the_generated_twin(name):
    """σ and the correlations by both, within 5 Monte Carlo standard errors of the difference (8 comparisons)."""
    import arviz as az
    import nutpie

    card = card_with_data(name)
    model = card.model()
    compiled = nutpie.compile_pymc_model(build(name, card, model))
    ours = nutpie.sample(compiled, draws=1000, tune=1000, chains=4, seed=5, progress_bar=False, target_accept=0.9)
    generated = vc.bayes.sample(twin(model), seed=6)
    a, b = ours["posterior"], generated["posterior"]
    group, effects = model.components[0].name, model.components[0].effects
    pairs = [(a["sigma"], b["residual:sd"])]
    for i, effect in enumerate(effects):
        pairs.append((a["Omega_stds"][..., i], b[f"{group}:sd({effect})"]))
        for j in range(i):
            pairs.append((a["Omega_corr"][..., i, j], b[f"{group}:cor({effects[j]},{effect})"]))
    for x, y in pairs:
        x, y = np.asarray(x), np.asarray(y)
        mcse = np.hypot(az.mcse(x), az.mcse(y))
        assert abs(x.mean() - y.mean()) < 5 * mcse
