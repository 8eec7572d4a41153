"""The row-wise likelihood of block-diagonal models against dense algebra on the same blocks."""

import math

import numpy as np
import pytest
from scipy.linalg import block_diag

from vcbench.kernels.block_core import AVERAGE, EXPECTED, SCORE
from vcbench.kernels.block_rows import evaluate_blocks, log_product
from vcbench.kernels.blocks import design_rows

NONE = np.zeros(0, np.int64)  # no features: no moments are asked for
OMEGAS = ("full", "diagonal", "singular", "zero")


def blocks(rng, r, d, B, w, omega):
    """(R, X, y, TX, t, tau2, n_within), θ, pairs: the first block sees one row, the second no random effect."""
    R, X, y = rng.standard_normal((B, r, r)), rng.standard_normal((B, r, d)), rng.standard_normal((B, r))
    R[0, 1:] = X[0, 1:] = y[0, 1:] = 0.0
    R[1] = 0.0
    TX, t = rng.standard_normal((w, d)), rng.standard_normal(w)
    n_within, tau2 = (w - (r - 1) + 4, 2.3) if w else (1 - r, 0.0)  # the r − 1 padding rows are no observations
    pa, pb = (np.arange(r),) * 2 if omega == "diagonal" else np.tril_indices(r)
    root = rng.standard_normal((r, r))
    Omega = root @ root.T
    if omega == "singular":
        Omega = np.outer(root[0], root[0])
    elif omega == "zero":
        Omega[:] = 0.0
    return (R, X, y, TX, t, tau2, n_within), np.append(Omega[pa, pb], 0.7), pa.astype(np.int64), pb.astype(np.int64)


def dense(R, X, y, TX, t, tau2, n_within, n_obs, theta, gamma, reml, pa, pb):
    """ℓ, γ, A, score_gamma, score, expected, average; the rows of which only τ² is left enter as numbers."""
    B, r, d = X.shape
    w, s2 = len(t), theta[-1]
    derivative = []
    for a, b in zip(pa, pb, strict=True):
        E = np.zeros((r, r))
        E[a, b] = E[b, a] = 1.0
        derivative.append(block_diag(*(Ri @ E @ Ri.T for Ri in R), np.zeros((w, w))))
    derivative.append(np.eye(B * r + w))
    V = sum(c * D for c, D in zip(theta, derivative, strict=True))
    Q, z = np.vstack([X.reshape(-1, d), TX]), np.concatenate([y.ravel(), t])
    Vi = np.linalg.inv(V)
    A = Q.T @ Vi @ Q
    profile = gamma is None
    if profile:
        gamma = np.linalg.solve(A, Q.T @ Vi @ z)
    P = Vi - Vi @ Q @ np.linalg.solve(A, Q.T @ Vi)
    T = P if reml else Vi
    e = z - Q @ gamma
    g = Vi @ e
    left = n_within - w
    quad = e @ g + tau2 / s2
    ll = -0.5 * (n_obs * math.log(2 * math.pi) + np.linalg.slogdet(V)[1] + left * math.log(s2) + quad)
    if reml:
        ll += 0.5 * (d * math.log(2 * math.pi) - np.linalg.slogdet(A)[1])
    score = np.array([0.5 * (g @ D @ g - np.trace(T @ D)) for D in derivative])
    score[-1] += 0.5 * (tau2 / s2**2 - left / s2)
    expected = np.array([[0.5 * np.trace(T @ D @ T @ F) for F in derivative] for D in derivative])
    expected[-1, -1] += 0.5 * left / s2**2
    work = np.array([D @ g for D in derivative])
    average = 0.5 * work @ (P if profile else Vi) @ work.T
    average[-1, -1] += 0.5 * tau2 / s2**3
    return ll, gamma, A, Q.T @ g, score, expected, average


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("omega", OMEGAS)
@pytest.mark.parametrize(("r", "d", "B", "w"), [(1, 1, 7, 0), (1, 2, 19, 2), (2, 2, 18, 0), (2, 3, 9, 3), (3, 2, 8, 1)])
def test_rows__are_dense_algebra(r, d, B, w, omega, reml):
    rng = np.random.default_rng([r, d, B, w, OMEGAS.index(omega)])
    (R, X, y, TX, t, tau2, n_within), theta, pa, pb = blocks(rng, r, d, B, w, omega)
    n_obs = B * r + n_within
    for given in (None, rng.standard_normal(d)):
        truth = dense(R, X, y, TX, t, tau2, n_within, n_obs, theta, given, reml, pa, pb)
        for want in (0, SCORE, SCORE | EXPECTED, SCORE | AVERAGE, SCORE | EXPECTED | AVERAGE):
            out = evaluate_blocks(
                design_rows(R, X, y), TX, t, tau2, n_within, n_obs, np.ones(r), theta,
                np.zeros(d) if given is None else given, given is None, reml, want, pa, pb, NONE, NONE,
                np.full((150, B), np.nan),
            )  # fmt: skip
            assert out[0]
            asked = [1, 2, 3] + [4] * (given is not None) + [5] * bool(want) + [6] * bool(want & EXPECTED)
            for j in asked + [7] * bool(want & AVERAGE):
                scale = np.abs(truth[j - 1]).max()
                assert out[j] == pytest.approx(truth[j - 1], rel=1e-10, abs=1e-11 * scale), (j, want)


def test_rows__say_where_a_block_is_not_positive_definite():
    rng = np.random.default_rng(3)
    (R, X, y, TX, t, tau2, n_within), _, pa, pb = blocks(rng, 2, 2, 6, 2, "full")
    for bad in (np.array([1.0, 3.0, 1.0, 0.01]), np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, np.nan, 1.0, 1.0])):
        out = evaluate_blocks(
            design_rows(R, X, y), TX, t, tau2, n_within, 12, np.ones(2), bad, np.zeros(2), True, True, SCORE, pa, pb,
            NONE, NONE, np.empty((150, 6)),
        )  # fmt: skip
        assert not out[0]
        assert out[1] == -np.inf


def test_log_product__neither_overflows_nor_underflows():
    x = np.concatenate([np.full(400, 1e-90), np.full(400, 1e90), [1e-300, 1e300, 3.0, 1e-310]])
    ok, total = log_product(x[None, :], 0)
    assert ok
    assert total == pytest.approx(np.log(x).sum(), rel=1e-13, abs=1e-10)
    assert not log_product(np.array([[1.0, 0.0]]), 0)[0]
    assert not log_product(np.array([[1.0, np.nan]]), 0)[0]
