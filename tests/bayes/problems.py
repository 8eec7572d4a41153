"""Models of the cards, and points to evaluate them at."""

import numpy as np
import pytest

import vcbench as vc
from vcbench.cards import load_card

CARDS = (
    "one_way",
    "one_way:boundary",
    "random_slope",
    "random_slope:uncorrelated",
    "rat_weight",
    "three_components",
    "snp_heritability",
)


def card_model(name):
    """The card's model; skipped where its data are not shipped and not here."""
    try:
        return load_card(name).model()
    except vc.errors.CardError as error:
        pytest.skip(str(error))  # a card's data are not here; the error names the file and VCBENCH_DATA


def random_theta(model, rng):
    """θ strictly inside the parameter space, of the size of y's variance."""
    units = [p.scale for p in vc.bayes.defaults(model).sd.values()]
    theta, at = [], 0
    for c in model.components:
        r = c.n_effects
        sd = np.array(units[at : at + r]) * rng.uniform(0.2, 1.5, r)
        at += r
        B = rng.normal(size=(r, r + 2))
        C = B @ B.T
        C /= np.sqrt(np.outer(np.diag(C), np.diag(C)))
        theta += [C[a, b] * sd[a] * sd[b] for a, b in c.index]
    return np.array([*theta, (units[-1] * rng.uniform(0.2, 1.0)) ** 2])
