"""The rat weights of M. Lavielle on EM: which EM their printed digits come from, and that `em` follows its formulas.

The program printed there computes the cross term of σ² with the residual of the *previous* β, its formula with that of
the new one. The two differ by 4e-7 of σ² after 50 iterations, which the printed digits show.
"""

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import CardError

PRINTED_BETA = [169.030083, 31.241507, -1.102003]
PRINTED_OMEGA = [
    [823.291463, 284.806010, -9.317682],
    [284.806010, 157.156986, -5.443067],
    [-9.317682, -5.443067, 0.2012885],
]
PRINTED_SIGMA2 = 66.24102


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    try:
        return vc.load_card("rat_weight").data()
    except CardError:
        pytest.skip("the rat weights are not here (VCBENCH_DATA)")


def plain_em(data: pd.DataFrame, n_iter: int, cross_term_at_old_beta: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """EM rat by rat, as the document writes it: β, Ω, σ² after n_iter iterations from least squares, Ω = I, σ² = 1."""
    y = data["weight"].to_numpy()
    X = np.column_stack([np.ones(len(y)), data["week"], data["week2"]])
    rows = [np.flatnonzero(data["id"] == rat) for rat in data["id"].unique()]
    beta, Omega, sigma2 = np.linalg.lstsq(X, y)[0], np.eye(3), 1.0
    for _ in range(n_iter):
        z = y - X @ beta
        Zmu, S_sum, trace = np.zeros_like(y), np.zeros((3, 3)), 0.0
        for row in rows:
            A = X[row]
            Gamma = np.linalg.inv(A.T @ A / sigma2 + np.linalg.inv(Omega))
            mu = Gamma @ A.T @ z[row] / sigma2
            S = Gamma + np.outer(mu, mu)
            Zmu[row], S_sum, trace = A @ mu, S_sum + S, trace + np.trace(A.T @ A @ S)
        beta = np.linalg.lstsq(X, y - Zmu)[0]
        new = y - X @ beta
        cross = Zmu @ (z if cross_term_at_old_beta else new)
        Omega, sigma2 = S_sum / len(rows), (new @ new - 2 * cross + trace) / len(y)
    return beta, Omega, sigma2


def test_printed_digits__are_those_of_the_cross_term_at_the_old_beta(data):
    beta, Omega, sigma2 = plain_em(data, 50, cross_term_at_old_beta=True)
    assert beta == pytest.approx(PRINTED_BETA, abs=5.1e-7)
    assert Omega.ravel() == pytest.approx(np.ravel(PRINTED_OMEGA), abs=5.1e-7)
    assert sigma2 == pytest.approx(PRINTED_SIGMA2, abs=5.1e-6)


@pytest.mark.parametrize("n_iter", [1, 2, 50])
def test_em__follows_the_formulas_step_by_step(data, n_iter):
    beta, Omega, sigma2 = plain_em(data, n_iter, cross_term_at_old_beta=False)
    fit = vc.fit(vc.load_card("rat_weight").model(), method="em", criterion="ml", max_iter=n_iter, start="unit")
    assert fit.n_iter == n_iter
    assert fit.beta.to_numpy() == pytest.approx(beta, rel=1e-8)
    assert fit.theta.to_numpy()[:-1] == pytest.approx(Omega[np.tril_indices(3)][[0, 1, 3, 2, 4, 5]], rel=1e-8)
    assert fit.theta["residual:var"] == pytest.approx(sigma2, rel=1e-9)
    if n_iter == 50:  # and so agrees with the printed numbers to six digits
        assert fit.theta.to_numpy()[[0, 3, 5, 6]] == pytest.approx(
            [823.291463, 157.156986, 0.2012885, 66.24102], rel=5e-7
        )


ML = [name for name, method in vc.METHODS.items() if method.kind == "solver" and "ml" in method.criteria]


@pytest.fixture(scope="module")
def best(data) -> vc.Fit:
    return vc.fit(vc.load_card("rat_weight").model(), method="fisher", criterion="ml")


@pytest.mark.parametrize("method", ML)
def test_optimum__is_the_same_for_every_likelihood_method(data, best, method):
    fit = vc.fit(vc.load_card("rat_weight").model(), method=method, criterion="ml")
    assert fit.status == "CONVERGED"
    assert fit.loglik == pytest.approx(-8691.35016, abs=5.1e-6)
    assert fit.theta.to_numpy() == pytest.approx(best.theta.to_numpy(), rel=1e-6)
    assert fit.beta.to_numpy() == pytest.approx(best.beta.to_numpy(), rel=1e-6)
    assert (fit.n_iter > 10_000) == (method in {"em", "em-simplified", "px-em", "px-em-component", "px-em-full"})


@pytest.mark.parametrize("method", ["auto", "newton", "fisher", "ai", "lbfgs"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_second_order_methods__come_from_far_away_in_less_than_100_iterations(data, method, criterion):
    """ℓ starts 100,000 below its maximum; the way leads over a face of Ω, which is left when its edge pulls no more."""
    model = vc.load_card("rat_weight").model()
    fit = vc.fit(model, method=method, criterion=criterion, start="unit", max_iter=100)
    assert fit.status is vc.Status.CONVERGED, fit.message
    assert fit.loglik == pytest.approx({"ml": -8691.350156, "reml": -8692.710225}[criterion], abs=1e-6)


def test_likelihood_ratio__of_the_diets_is_the_printed_one(data):
    null, other = (
        vc.fit(vc.load_card(f"rat_weight:{name}").model(), criterion="ml") for name in ("males", "males_diet")
    )
    test = vc.lrt(null, other)
    assert test.statistic == pytest.approx(3.64788, abs=5.1e-6)
    assert test.df == 2
    assert test.p == pytest.approx(0.1614, abs=5.1e-5)


def test_likelihood_ratio__of_the_sexes_is_the_printed_one(data):
    null, other = (vc.fit(vc.load_card(name).model(), criterion="ml") for name in ("rat_weight", "rat_weight:sex"))
    test = vc.lrt(null, other)
    assert test.statistic == pytest.approx(421.21, abs=5.1e-3)
    assert test.df == 3
