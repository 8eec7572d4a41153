"""One decomposition for all phenotypes: what it is, its thin side, its cache, and who shares it."""

import numpy as np
import pytest

import vcbench as vc
from vcbench.errors import DataError, ModelError
from vcbench.genetics.eigen import decompose, decompose_thin, path_of
from vcbench.genetics.phenotypes import share
from vcbench.genetics.relationship import relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes


def matrix(rng, n=40, p=90):
    W = rng.standard_normal((n, p))
    return W - W.mean(axis=0), n, p


def test_decompose__gives_back_K_and_leaves_it_alone(rng):
    W, _, p = matrix(rng)
    K = W @ W.T / p
    before = K.copy()
    E = decompose(K)
    assert E.matrix() == pytest.approx(before, abs=1e-12)
    assert (before == K).all()
    assert E.trace == pytest.approx(np.trace(before))
    rows = np.array([1, 5, 7, 30])
    assert decompose(K, rows=rows).matrix() == pytest.approx(before[np.ix_(rows, rows)], abs=1e-12)


def test_thin_side__forms_no_n_by_n_matrix_and_fits_the_same(rng):
    W, n, p = matrix(rng, n=200, p=15)
    E = decompose_thin(W, p)
    assert E.vectors.shape == (200, 15)
    assert E.matrix() == pytest.approx(W @ W.T / p, abs=1e-12)
    y = W @ rng.standard_normal(p) / np.sqrt(p) + rng.standard_normal(n)
    thin = vc.fit(vc.Model(y, components=[E.component()]))
    whole = vc.fit(vc.Model(y, components=[vc.Component(K=W @ W.T / p, name="G")]))
    assert thin.theta_values == pytest.approx(whole.theta_values, rel=1e-8)
    assert thin.loglik == pytest.approx(whole.loglik, abs=1e-8)


def test_cache__is_read_back_for_the_same_key_only(rng, tmp_path):
    W, _, p = matrix(rng)
    K = W @ W.T / p
    first = decompose(K, cache=tmp_path, about={"standardise": "unit"})
    again = decompose(K, cache=tmp_path, about={"standardise": "unit"})
    assert not first.cached
    assert again.cached
    assert (again.vectors == first.vectors).all()
    assert not decompose(K, cache=tmp_path, about={"standardise": "vanraden1"}).cached
    assert not decompose(K, cache=tmp_path, about={"standardise": "unit"}, rows=np.arange(30)).cached
    other = K.copy()
    other[0, 0] += 1e-15 + np.spacing(other[0, 0])
    assert not decompose(other, cache=tmp_path, about={"standardise": "unit"}).cached


def test_cache__a_file_of_another_key_or_damaged_counts_for_nothing(rng, tmp_path):
    W, _, p = matrix(rng)
    K = W @ W.T / p
    first, other = decompose(K, cache=tmp_path), decompose(2 * K, cache=tmp_path)
    path_of(tmp_path, other.key).replace(path_of(tmp_path, first.key))  # as if copied under a wrong name
    assert decompose(K, cache=tmp_path).matrix() == pytest.approx(K, abs=1e-12)
    path = path_of(tmp_path, first.key)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert decompose(K, cache=tmp_path).matrix() == pytest.approx(K, abs=1e-12)
    assert decompose(K, cache=tmp_path).cached  # and is written anew


def test_bad_matrices__are_errors_that_name_the_place(rng):
    K = np.eye(6)
    K[2, 4] = 0.5
    with pytest.raises(ModelError, match=r"\[2, 4\] is 0\.5 but \[4, 2\] is 0"):
        decompose(K)
    K[2, 4] = np.nan
    with pytest.raises(DataError, match=r"nan at \[2, 4\]"):
        decompose(K)
    with pytest.raises(ModelError, match="positive semi-definite"):
        decompose(np.diag([1.0, 1.0, -0.5]))


def test_pair_counts__leave_eigenvalues_below_0_that_are_taken_as_0_with_a_warning():
    """As GCTA's and plink2's matrices have them: the fit is that of the nearest positive semi-definite matrix."""
    calls = simulate_genotypes(150, 900, seed=4, rho=0.5, missing=0.03).read(None, slice(None))
    K = relationship_matrix(calls, "gcta", "pairs").K
    values, vectors = np.linalg.eigh(K)
    assert -0.05 < values[0] < -1e-3
    with pytest.warns(UserWarning, match=r"`K` has 1 eigenvalue below 0.*taken as 0\. Missing calls counted by pairs"):
        found = decompose(K)
    assert found.matrix() == pytest.approx((vectors * np.maximum(values, 0)) @ vectors.T, abs=1e-10)
    assert found.n_clipped >= 1
    with pytest.raises(ModelError, match="positive semi-definite"):
        decompose(K - 0.1 * np.eye(150))


def test_share__groups_what_is_exact_and_worth_it():
    observed = np.ones((100, 5), bool)
    observed[:2, 1] = False  # few missing
    observed[50:, 2] = False  # half
    observed[50:, 3] = False
    observed[98:, 4] = False  # few others
    groups = share(observed, 0.05)
    assert [g.columns for g in groups] == [(0, 1, 4), (2, 3)]
    assert [len(m) for m in groups[0].missing] == [0, 2, 2]
    assert len(groups[1].rows) == 50
    assert [g.columns for g in share(observed, 0.0)] == [(0,), (1,), (2, 3), (4,)]


def test_share__may_take_the_union_of_rows():
    observed = np.ones((100, 2), bool)
    observed[0, 0] = observed[1, 1] = False
    (group,) = share(observed, 0.05)
    assert len(group.rows) == 100
    assert [m.tolist() for m in group.missing] == [[0], [1]]
