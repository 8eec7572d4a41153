"""Principal components from K and from genotypes, and the p × p side where p < n."""

import numpy as np
import pytest

from vcbench.errors import MethodError
from vcbench.genetics.components import principal_components
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.relationship import relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.thin import thin_factor, transposed_product


@pytest.fixture(scope="module")
def structured():
    """700 samples of four populations at 2000 SNPs, calls in memory, and their K."""
    simulated = simulate_genotypes(700, 2000, seed=6, populations=4, fst=0.03, missing=0.01)
    calls = simulated.read(None, slice(None))
    return calls, relationship_matrix(calls)


def test_components__of_k_are_its_leading_eigenvectors(structured):
    _, grm = structured
    values, vectors = np.linalg.eigh(grm.K)
    for k in (1, 5, 300):
        found = principal_components(grm, k)
        assert found.values == pytest.approx(values[::-1][:k], rel=1e-10)
        assert np.abs(found.vectors.T @ vectors[:, ::-1][:, :k]) == pytest.approx(np.eye(k), abs=1e-7)
        assert found.share == pytest.approx(found.values / np.trace(grm.K))
        assert found.residual < 1e-12
        assert (found.vectors[np.abs(found.vectors).argmax(axis=0), np.arange(k)] > 0).all()


def test_components__from_genotypes_are_those_of_k(structured):
    calls, grm = structured
    exact, streamed = principal_components(grm, 3), principal_components(calls, 3)
    assert streamed.residual < 1e-4
    assert streamed.values == pytest.approx(exact.values, rel=1e-6)
    assert streamed.share == pytest.approx(exact.share, rel=1e-5)
    assert (streamed.vectors * exact.vectors).sum(axis=0) == pytest.approx(1, abs=1e-6)
    again = principal_components(calls, 3)
    assert np.array_equal(again.vectors, streamed.vectors)


def test_components__say_how_far_they_are_where_passes_do_not_suffice(structured):
    calls, grm = structured
    few = principal_components(calls, 8, passes=2)
    right = principal_components(grm, 8)
    assert few.residual > 1e-2
    image = grm.K @ few.vectors - few.vectors * few.values
    assert np.linalg.norm(image, axis=0).max() / few.values[0] == pytest.approx(few.residual, rel=1e-3)
    assert (few.values <= right.values * (1 + 1e-6)).all()  # Rayleigh–Ritz values lie below
    many = principal_components(calls, 8, passes=30, tol=1e-6)
    assert many.values == pytest.approx(right.values, rel=1e-6)


def test_components__separate_the_populations_and_are_written(structured, tmp_path):
    calls, _ = structured
    found = principal_components(calls, 3)
    population = np.arange(700) * 4 // 700
    means = np.array([found.vectors[population == k].mean(axis=0) for k in range(4)])
    within = np.mean([found.vectors[population == k].var(axis=0) for k in range(4)], axis=0)
    assert (means.var(axis=0) / within > 20).all()
    found.write(tmp_path / "pc")
    lines = (tmp_path / "pc.eigenvec").read_text().splitlines()
    assert lines[0] == "#FID\tIID\tPC1\tPC2\tPC3"
    assert len(lines) == 701
    assert np.loadtxt(tmp_path / "pc.eigenval") == pytest.approx(found.values)


def test_components__of_more_than_there_are_is_an_error(structured):
    with pytest.raises(MethodError, match="k=701 components of 700 samples"):
        principal_components(structured[1], 701)
    with pytest.raises(MethodError, match="passes=0"):
        principal_components(structured[0], 2, passes=0)


@pytest.mark.parametrize("standardise", ["unit", "vanraden1"])
@pytest.mark.parametrize("memory", [1e9, 8 * 300 * 41])
def test_thin_factor__is_the_eigendecomposition_of_k(standardise, memory):
    """In one group of SNPs and in groups of 41; one SNP is a copy of another, so that the rank is p − 1."""
    calls = simulate_genotypes(300, 150, seed=9, rho=0.4, missing=0.02).read(None, slice(None))
    calls[:, 70] = calls[:, 3]
    thin = thin_factor(calls, standardise, memory=memory)
    K = relationship_matrix(calls, standardise).K
    values, U = np.linalg.eigh(K)
    assert thin.p == 150
    assert len(thin.values) == 149
    assert thin.values == pytest.approx(values[-149:], rel=1e-6, abs=1e-7 * values[-1])
    vectors = thin.vectors()
    assert vectors.T @ vectors == pytest.approx(np.eye(149), abs=1e-9)
    assert (vectors * thin.values) @ vectors.T == pytest.approx(K, abs=2e-6)
    Y = U[:, -3:] + np.arange(300.0)[:, None]
    assert thin.rotate(Y) == pytest.approx(vectors.T @ Y, abs=1e-8)


def test_thin_factor__leaves_the_other_side_to_k():
    with pytest.raises(MethodError, match="p = 40 SNPs and n = 20 samples: the n × n side is smaller"):
        thin_factor(simulate_genotypes(20, 40, seed=1, maf=(0.3, 0.5)))


def test_transposed_product__is_w_transposed_times_y(rng):
    genotypes = Genotypes.open(simulate_genotypes(50, 90, seed=1))
    W = np.hstack([b.W for b in genotypes.blocks()]).astype(float)
    Y = rng.normal(size=(50, 2))
    assert transposed_product(genotypes, Y) == pytest.approx(W.T @ Y, abs=1e-10)
    assert transposed_product(genotypes, Y[:, 0])[:, 0] == pytest.approx(W.T @ Y[:, 0], abs=1e-10)
