"""The PyMC models beside the cards: ℓ_ML(β, θ) with all constants, and the law of the generated twin."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from bayes.problems import card_model, card_with_data, random_theta
from oracle import plain

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import twin

MODELS = Path(vc.__file__).parents[1] / "models"
CARDS = ("one_way", "one_way:boundary", "random_slope", "rat_weight", "three_components", "snp_heritability")


def load(stem):
    """The module models/<stem>.py; `models` is no package."""
    spec = importlib.util.spec_from_file_location(f"models_{stem}", MODELS / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_hand(name, model):
    """The hand-written pm.Model of a card's data."""
    stem = name.partition(":")[0]
    build = load(stem).build
    if stem == "three_components":
        return build(model.y, model.X, *(c.Z for c in model.components))
    if stem == "snp_heritability":
        (c,) = model.components
        K = c.K if c.Z is None else c.Z @ (np.eye(c.Z.shape[1]) if c.K is None else c.K) @ c.Z.T
        return build(model.y, K, model.X)
    (c,) = model.components
    labels = np.array(c.levels)[c.codes]
    return build(model.y, labels) if stem == "one_way" else build(model.y, model.X[:, 1], labels)


def point(pymc_model, stem, theta, beta, Omega):
    """The value variables of a hand-written model at natural θ and β."""
    log_sd = 0.5 * np.log(theta)
    values = {
        "mu": beta[0] if stem == "one_way" else None,
        "beta": beta,
        "sigma_u": log_sd[0],
        "sigma_g": log_sd[0],
        "sigma_1": log_sd[0],
        "sigma_2": log_sd[1] if len(theta) > 1 else None,
        "sigma_e": log_sd[-1],
        "sigma": log_sd[-1],
    }
    if Omega is not None:
        L = np.linalg.cholesky(Omega)
        L[np.diag_indices(len(L))] = np.log(np.diag(L))
        values["Omega"] = L[np.tril_indices(len(L))]
    return {pymc_model.rvs_to_values[rv].name: values[rv.name] for rv in pymc_model.free_RVs}


def loglik_of(pymc_model):
    """Log density less PyMC's own log prior, no Jacobians."""
    from pytensor.compile.mode import Mode

    mode = Mode("py", "fast_compile")
    joint = pymc_model.compile_logp(jacobian=False, mode=mode)
    prior = pymc_model.compile_logp(vars=pymc_model.free_RVs, jacobian=False, mode=mode)
    return lambda at: float(joint(at)) - float(prior(at))


@pytest.mark.parametrize("name", CARDS)
def test_written_by_hand__less_its_prior_is_the_kernels_loglik(name, rng):
    model, stem = card_model(name), name.partition(":")[0]
    pymc_model = by_hand(name, model)
    loglik, kernel = loglik_of(pymc_model), kernels.build(model)
    generated = twin(model, criterion="ml")
    spread = np.linalg.inv(kernel.basis.T) @ np.full(model.n_fixed, model.y.std())
    for _ in range(3):
        theta = random_theta(model, rng)
        beta = kernel.beta0 + spread * rng.normal(size=model.n_fixed)
        Omega = model.Omegas(theta)[0] if len(model.components[0].effects) > 1 else None
        with np.errstate(invalid="ignore"):
            at = point(pymc_model, stem, np.where(theta > 0, theta, np.nan), beta, Omega)
        expected = kernel.evaluate(theta, criterion="ml", beta=beta).loglik
        tolerance = 1e-8 * (1 + abs(expected))
        assert abs(loglik(at) - expected) < tolerance
        assert abs(generated.loglik(theta, beta) - expected) < tolerance


def test_written_by_hand__is_the_dense_oracle_for_some_rats(rng):
    """The whole data set as an n × n matrix would take minutes; forty animals of unequal length do not."""
    data = card_with_data("rat_weight").data()
    some = data[data["id"].isin(sorted(data["id"].unique())[:40])]
    some = some.drop(index=some.index[[3, 17, 18, 90]])
    model = vc.Model.from_formula("weight ~ week + week2 + (week + week2 | id)", some)
    theta = random_theta(model, rng)
    beta = np.array([170.0, 30.0, -1.0])
    expected = plain(model, theta, "ml", beta).loglik
    pymc_model = load("rat_weight").build(some["weight"], some["week"], some["id"])
    with np.errstate(invalid="ignore"):
        at = point(pymc_model, "rat_weight", np.where(theta > 0, theta, np.nan), beta, model.Omegas(theta)[0])
    assert abs(loglik_of(pymc_model)(at) - expected) < 1e-8 * (1 + abs(expected))


def test_written_by_hand__has_the_priors_of_the_generated_twin():
    """Same default families and scales: the log priors of the SDs differ by nothing."""
    from pytensor.compile.mode import Mode

    model = card_model("three_components")
    pymc_model, generated = by_hand("three_components", model), twin(model, criterion="ml")
    theta, beta = np.array([1.1, 0.4, 0.9]), np.array([1.0, -2.0])
    sds = [pymc_model[n] for n in ("sigma_1", "sigma_2", "sigma_e")]
    prior = pymc_model.compile_logp(vars=sds, jacobian=False, mode=Mode("py", "fast_compile"))
    at = point(pymc_model, "three_components", theta, beta, None)
    assert float(prior(at)) == pytest.approx(generated.log_prior(theta, beta), abs=1e-10)


def test_written_by_hand__refuses_designs_it_cannot_hold():
    from classics import frame

    data = frame("sleepstudy")
    with pytest.raises(ValueError, match="once at each time"):
        load("random_slope").build(data["Reaction"][1:], data["Days"][1:], data["Subject"][1:])
    with pytest.raises(ValueError, match="fewer than three"):
        load("rat_weight").build([1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 3, 1, 2], ["a", "a", "a", "b", "b"])
    with pytest.raises(ValueError, match="fewer than n = 5"):
        load("three_components").build(np.arange(5.0), np.ones((5, 1)), np.ones((5, 3)), np.ones((5, 2)))


@pytest.mark.slow
# LKJCholeskyCov contains a scan that PyTensor compiles in C, whatever the backend of the sampler
@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS installation:UserWarning")
@pytest.mark.parametrize("name", ["random_slope", "rat_weight"])
def test_written_by_hand__has_the_posterior_of_the_generated_twin(name):
    """σ and the correlations by both, within 5 Monte Carlo standard errors of the difference (8 comparisons)."""
    import arviz as az
    import nutpie

    model = card_model(name)
    compiled = nutpie.compile_pymc_model(by_hand(name, model))
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
