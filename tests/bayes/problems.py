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


def card_with_data(name):
    """The card; the test is skipped where the data are shared ones that are not here, and for nothing else."""
    card = load_card(name)
    if card.data_source.shared is not None:
        try:
            card.data_path()
        except vc.errors.CardError as error:
            pytest.skip(f"shared data absent: {error}")
    return card


def card_model(name):
    """The card's model."""
    return card_with_data(name).model()


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
