"""Eigenvectors held as reflections and a tridiagonal's: products and entries are those of the matrix they came from."""

import numpy as np
import pytest

import vcbench as vc
from vcbench.model.eigenvectors import SMALL, Eigenvectors, eigen_of

N = SMALL + 30


def matrices():
    rng = np.random.default_rng(3)
    W = rng.standard_normal((N, 3 * N))
    thin = rng.standard_normal((N, 40))
    clones = np.repeat(rng.standard_normal((N // 5, 60)), 5, axis=0)
    return {
        "full": W @ W.T / W.shape[1],
        "rank 40": thin @ thin.T,
        "families of five clones": clones @ clones.T,
        "two values": np.kron(np.eye(N // 10), np.ones((10, 10))) + np.eye(N),
        "diagonal": np.diag(rng.uniform(0.5, 2, N)),
        "graded": W[:, :N] * 0 + np.diag(10.0 ** np.linspace(-8, 4, N)),
    }


@pytest.mark.parametrize("name", matrices())
def test_eigen_of__is_the_decomposition_whoever_asks_first(name, rng):
    K = matrices()[name]
    kept = K.copy()
    values, U = eigen_of(K)
    assert isinstance(U, Eigenvectors)
    assert (kept == K).all()
    assert values == pytest.approx(np.linalg.eigvalsh(K), abs=1e-13 * values[-1] * N)
    C, c = rng.standard_normal((N, 4)), rng.standard_normal(N)
    by_product = [U.T @ C, U @ C, U.T @ c, U @ c, C.T @ U, C.T @ U.T]
    few = U.last(7)
    some = [few.T @ C, few @ C[:7]]
    assert not U.is_formed
    entries = np.asarray(U)
    assert U.is_formed
    assert U.shape == (N, N)
    assert entries.T @ entries == pytest.approx(np.eye(N), abs=1e-13 * N)
    assert (entries * values) @ entries.T == pytest.approx(K, abs=1e-14 * N * values[-1])
    by_entries = [entries.T @ C, entries @ C, entries.T @ c, entries @ c, C.T @ entries, C.T @ entries.T]
    for ours, formed, want in zip(
        by_product, [U.T @ C, U @ C, U.T @ c, U @ c, C.T @ U, C.T @ U.T], by_entries, strict=True
    ):
        np.testing.assert_allclose(ours, want, atol=1e-12)
        np.testing.assert_allclose(formed, want, atol=1e-12)
    last = entries[:, -7:]
    np.testing.assert_allclose(some[0], last.T @ C, atol=1e-12)
    np.testing.assert_allclose(some[1], last @ C[:7], atol=1e-12)
    np.testing.assert_array_equal(U.last(7), last)
    np.testing.assert_allclose(np.asarray(few), last, atol=1e-12)
    np.testing.assert_array_equal(U * values, entries * values)
    np.testing.assert_array_equal(values * U, entries * values)


def test_fit__on_a_large_matrix_never_forms_the_eigenvectors(rng):
    """And is the dense kernel's, to rounding."""
    K = matrices()["rank 40"] / 40
    root = np.linalg.cholesky(K + 1e-10 * np.eye(N))
    y = 1.0 + root @ rng.standard_normal(N) + rng.standard_normal(N)
    model = vc.Model(y, np.ones((N, 1)), components=[vc.Component(K=K, name="G")])
    fit = vc.fit(model, kernel="spectral")
    vectors = model.components[0].relation.eigen[1]
    assert isinstance(vectors, Eigenvectors)
    assert not vectors.is_formed
    dense = vc.fit(model, kernel="dense")
    assert fit.loglik == pytest.approx(dense.loglik, abs=1e-8)
    assert fit.theta_values == pytest.approx(dense.theta_values, rel=1e-6)
