"""A model on some of its rows has their part of V, under the same θ."""

import numpy as np
import pandas as pd
import pytest
from joint import RESIDUALS, inner_theta, random_part, residual_covariance
from strategies import COLUMNS, KINDS, RELATED, draw_problem

import vcbench as vc
from vcbench.errors import DataError
from vcbench.kernels import build
from vcbench.model.subset import subset

rng = np.random.default_rng(8)
UNIT = np.repeat(np.arange(1, 9), 4)
DATA = pd.DataFrame({
    "unit": UNIT, "t": np.tile(np.arange(4), 8), "row": UNIT, "x": rng.standard_normal(32),
    "site": rng.choice(list("abc"), 32), "w": rng.uniform(0.5, 2, 32), "y": rng.standard_normal(32),
}).sample(frac=0.9, random_state=2).reset_index(drop=True)  # fmt: skip


def check(model, theta, R, rows):
    """ℓ_REML of the subset is that of y, X and V on its rows."""
    less = subset(model, rows)
    assert less.theta_names == model.theta_names
    Z, G, _ = random_part(model, theta)
    V = (Z @ G @ Z.T + R)[np.ix_(rows, rows)]
    y = (model.y if model.offset is None else model.y - model.offset)[rows]
    X, Vi = model.X[rows], np.linalg.inv(V)
    A = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(A, X.T @ Vi @ y)
    want = (len(y) - X.shape[1]) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + r @ Vi @ r
    assert build(less, "auto").evaluate(theta).loglik == pytest.approx(-0.5 * want, rel=1e-9)


@pytest.mark.parametrize("kind", [*KINDS, *RELATED, *COLUMNS])
def test_subset__has_its_rows_of_v(kind):
    p = draw_problem(kind, 8, 5, seed=3, offset=True)
    check(p.model, p.theta, p.theta[-1] * np.eye(p.model.n_obs), np.flatnonzero(np.arange(p.model.n_obs) % 4 != 1))


@pytest.mark.parametrize("residual", [text for text in RESIDUALS if text])
def test_subset__keeps_lags_levels_and_ranges_of_a_residual_structure(residual):
    """The rows left have other first times and gaps of 2 only: a lag is still what it was."""
    model = vc.Model.from_formula("y ~ x + (1 | site)", DATA, residual=residual)
    theta = inner_theta(model) * (1.0 + 0.1 * np.arange(model.n_theta))
    R = residual_covariance(model, theta, DATA, residual)
    check(model, theta, R, np.flatnonzero(DATA["t"].isin([1, 3])))


def test_subset__by_a_mask_drops_levels_without_rows():
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA)
    less = subset(model, (DATA["unit"] != 3).to_numpy())
    assert less.components[0].levels == tuple(str(u) for u in (1, 2, 4, 5, 6, 7, 8))
    assert less.n_obs == (DATA["unit"] != 3).sum()
    with pytest.raises(DataError, match="no row is left"):
        subset(model, np.zeros(model.n_obs, bool))
