"""The PyMC models beside the cards: how each is called with the data of its card, and where its variables are."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import vcbench as vc
from vcbench.model.model import Model

MODELS = Path(vc.__file__).parents[1] / "models"

Values = Callable[[Model, Mapping[str, float]], dict[str, Any]]


def load(stem):
    """The module models/<stem>.py; `models` is no package."""
    spec = importlib.util.spec_from_file_location(f"models_{stem}", MODELS / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class ByHand:
    """arguments(model, rows): of `build`, rows the card's data as the model uses them (None where they are simulated),
    with the relationships of their animals as `rows.attrs["A"]`.

    values(model, θ by name): the natural values of the variables other than β; of a covariance matrix, its Cholesky
    factor by rows.
    """

    arguments: Callable[[Model, Any], tuple]
    values: Values


def sds(**names: str) -> Values:
    """Standard deviations: variable = the variance of that name, `a|b` the one that the model has."""

    def values(model, theta):
        return {ours: np.sqrt(next(theta[n] for n in name.split("|") if n in theta)) for ours, name in names.items()}

    return values


def together(*parts: Values) -> Values:
    return lambda model, theta: {k: v for part in parts for k, v in part(model, theta).items()}


def same(**names: str) -> Values:
    """Variables that are parameters of the model."""
    return lambda model, theta: {ours: theta[name] for ours, name in names.items()}


def factor(name: str, owner: Callable[[Model], str]) -> Values:
    """The Cholesky factor of the free covariance matrix of a component or of the residual."""

    def values(model, theta):
        head = owner(model)
        labels = [n[len(head) + 5 : -1] for n in theta if n.startswith(f"{head}:var(")]
        Omega = np.empty((len(labels), len(labels)))
        for j, b in enumerate(labels):
            for i, a in enumerate(labels[j:], start=j):
                Omega[i, j] = Omega[j, i] = theta[f"{head}:var({a})" if i == j else f"{head}:cov({b},{a})"]
        return {name: np.linalg.cholesky(Omega)[np.tril_indices(len(Omega))]}

    return values


def by_level(name: str, prefix: str) -> Values:
    """One standard deviation a level of the residual, in the order of θ."""
    return lambda model, theta: {name: np.sqrt([v for n, v in theta.items() if n.startswith(prefix)])}


def partial_autocorrelations(model, theta):
    """π_k of ρ_1 … ρ_{T−1}, by the regression of lag k on those between."""
    rho = np.array([v for n, v in theta.items() if n.startswith("residual:rho")])
    full = np.append(1.0, rho)
    out = []
    for k in range(1, len(full)):
        R = full[np.abs(np.subtract.outer(np.arange(k), np.arange(k)))]
        out.append(np.linalg.solve(R, full[1 : k + 1])[-1])
    return {"partial": np.array(out)}


def first(model) -> str:
    return model.components[0].name


def labels_of(component) -> np.ndarray:
    return np.array(component.levels)[component.codes]


def columns(*names: str) -> Callable[[Model, Any], tuple]:
    return lambda model, rows: (model.y, model.X, *(rows[name] for name in names))


def _relationship(model, rows):
    (c,) = model.components
    K = c.K if c.Z is None else c.Z @ (np.eye(c.Z.shape[1]) if c.K is None else c.K) @ c.Z.T
    return model.y, K, model.X


def _two_traits(model, rows):
    n, d = len(rows), model.n_fixed // 2
    return model.y.reshape(2, n).T, model.X[:n, :d], rows.attrs["A"]


def _heteroscedastic(model, rows):
    if "treatment" in rows:
        return model.y, model.X, rows["treatment"]
    return model.y, model.X, None, rows["weight"]


RESIDUAL = sds(sigma="residual:var")

BY_HAND = {
    "one_way": ByHand(
        lambda model, rows: (model.y, labels_of(model.components[0])),
        sds(sigma_u="Batch:var((Intercept))", sigma_e="residual:var"),
    ),
    "random_slope": ByHand(
        lambda model, rows: (model.y, model.X[:, 1], labels_of(model.components[0])),
        together(RESIDUAL, factor("Omega", first)),
    ),
    "rat_weight": ByHand(
        lambda model, rows: (model.y, model.X[:, 1], labels_of(model.components[0])),
        together(RESIDUAL, factor("Omega", first)),
    ),
    "three_components": ByHand(
        lambda model, rows: (model.y, model.X, *(c.Z for c in model.components)),
        sds(sigma_1="x1:var", sigma_2="x2:var", sigma_e="residual:var"),
    ),
    "snp_heritability": ByHand(_relationship, sds(sigma_g="snp:var", sigma_e="residual:var")),
    "ar1": ByHand(
        lambda model, rows: (model.y, model.X, *(rows[c] for c in _time_and_subject(rows))),
        together(RESIDUAL, same(rho="residual:rho")),
    ),
    "distance_decay": ByHand(columns("day", "animal"), together(RESIDUAL, same(phi="residual:range"))),
    "crossed": ByHand(
        columns("plate", "sample"),
        sds(sigma_1="plate:var((Intercept))", sigma_2="sample:var((Intercept))", sigma_e="residual:var"),
    ),
    "cs": ByHand(
        lambda model, rows: (model.y, model.X, rows[next(c for c in ("Rail", "Batch", "Person") if c in rows)]),
        together(RESIDUAL, same(rho="residual:rho")),
    ),
    "toeplitz": ByHand(columns("Age", "Person"), together(RESIDUAL, partial_autocorrelations)),
    "unstructured": ByHand(columns("Age", "Person"), factor("Sigma", lambda model: "residual")),
    "ante1": ByHand(
        columns("AVISIT", "USUBJID"),
        together(
            by_level("sigma", "residual:var"),
            lambda model, theta: {"rho": np.array([v for n, v in theta.items() if n.startswith("residual:rho")])},
        ),
    ),
    "heteroscedastic": ByHand(_heteroscedastic, by_level("sigma", "residual:var")),
    "replicate_crossover": ByHand(
        columns("treatment", "subject"), together(by_level("sigma", "residual:var"), factor("Omega", first))
    ),
    "nested": ByHand(
        columns("batch", "cask"),
        sds(sigma_b="batch:var((Intercept))", sigma_c="cask:batch:var((Intercept))", sigma_e="residual:var"),
    ),
    "split_plot": ByHand(
        columns("Block", "Variety"),
        sds(sigma_b="Block:var((Intercept))", sigma_w="Variety:Block:var((Intercept))", sigma_e="residual:var"),
    ),
    "animal_model": ByHand(
        lambda model, rows: (model.y, model.X, rows.attrs["A"]), sds(sigma_a="animal:var", sigma_e="residual:var")
    ),
    "genetic_correlation": ByHand(
        _two_traits, together(factor("Sigma_g", first), factor("Sigma_e", lambda model: "residual"))
    ),
    "field_trial": ByHand(
        columns("row", "col"), together(RESIDUAL, same(rho_row="residual:rho_row", rho_col="residual:rho_col"))
    ),
}


def _time_and_subject(rows):
    return next(
        pair for pair in (("Days", "Subject"), ("Age", "Person"), ("AVISIT", "USUBJID")) if set(pair) <= set(rows)
    )


def build(name, card, model):
    """The hand-written pm.Model of a card's data."""
    rows = None
    if not card.simulated:
        rows = card.data()
        if isinstance(card.formula, str):
            rows = rows[rows[card.formula.partition("~")[0].strip()].notna()]
            assert len(rows) == model.n_obs
    for source in card.pedigree.values():
        frame = pd.read_csv(card.data_path().parent / source.shared)
        A = load("animal_model").relationship(*(frame[c] for c in (source.id, source.sire, source.dam)))
        rows.attrs["A"] = A.loc[rows["animal"], rows["animal"]].to_numpy()
    stem = name.partition(":")[0]
    return load(stem).build(*BY_HAND[stem].arguments(model, rows))


FIXED = {  # the variable of β, where it is not `beta`, and its shape
    "one_way": ("mu", lambda beta: beta[0]),
    "genetic_correlation": ("B", lambda beta: beta.reshape(2, -1).T),
}


def natural(name, model, theta, beta):
    """The natural values of all free variables at θ (array) and β."""
    stem = name.partition(":")[0]
    values = BY_HAND[stem].values(model, dict(zip(model.theta_names, theta, strict=True)))
    fixed, shaped = FIXED.get(stem, ("beta", np.asarray))
    return values | {fixed: shaped(beta)}


def unconstrain(pymc_model):
    """{variable: natural value} → {value variable: unconstrained value}, by PyMC's own transforms."""
    import pytensor
    from pytensor.compile.mode import Mode

    rvs = pymc_model.free_RVs
    inputs, outputs = [], []
    for rv in rvs:
        x = rv.type(f"{rv.name}_at")
        transform = pymc_model.rvs_to_transforms[rv]
        inputs.append(x)
        outputs.append(x if transform is None else transform.forward(x, *rv.owner.inputs))
    f = pytensor.function(inputs, outputs, mode=Mode("py", "fast_compile"))
    names = [pymc_model.rvs_to_values[rv].name for rv in rvs]
    return lambda values: dict(zip(names, f(*(np.asarray(values[rv.name], float) for rv in rvs)), strict=True))
