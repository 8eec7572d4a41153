"""Simulated genotypes and phenotypes have the frequencies, LD, variances and correlations that were asked for."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from vcbench.errors import MethodError, ModelError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.relationship import relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_case_control, simulate_phenotypes
from vcbench.genetics.tables import join


def whole(simulated):
    """All calls, NaN where missing."""
    G = simulated.read(None, slice(None)).astype(float)
    return np.where(G < 0, np.nan, G)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_genotypes__have_their_frequencies_and_hardy_weinberg_proportions(rho):
    simulated = simulate_genotypes(4000, 300, seed=1, rho=rho, maf=(0.1, 0.4))
    f, G = simulated.frequency[0], whole(simulated)
    assert np.minimum(f, 1 - f).min() > 0.1
    assert np.minimum(f, 1 - f).max() < 0.4
    z = (G.mean(axis=0) / 2 - f) / np.sqrt(f * (1 - f) / 8000)
    assert (z**2).sum() == pytest.approx(300, abs=4 * np.sqrt(600))
    homozygous = ((G == 2).mean(axis=0) - f**2) / np.sqrt(f**2 * (1 - f**2) / 4000)
    assert (homozygous**2).sum() == pytest.approx(300, abs=4 * np.sqrt(600))


def test_ld__is_that_of_the_copula_and_ends_at_the_block():
    """Correlation of two SNPs d apart: (Φ₂(q_i, q_j; ρ^d) − f_i f_j) / √(f_i(1−f_i) f_j(1−f_j))."""
    n, rho, block = 20_000, 0.9, 40
    simulated = simulate_genotypes(n, 80, seed=2, rho=rho, block=block)
    f, G = simulated.frequency[0], whole(simulated)
    found = np.corrcoef(G.T)
    for i, j in ((3, 4), (3, 6), (10, 20), (39, 40), (20, 60)):
        latent = rho ** (j - i) if i // block == j // block else 0.0
        both = multivariate_normal.cdf(norm.ppf(f[[i, j]]), cov=[[1, latent], [latent, 1]])
        right = (both - f[i] * f[j]) / np.sqrt(np.prod(f[[i, j]] * (1 - f[[i, j]])))
        assert found[i, j] == pytest.approx(right, abs=4 / np.sqrt(n))


def test_genotypes__come_out_the_same_whatever_is_read(tmp_path):
    simulated = simulate_genotypes(50, 210, seed=3, rho=0.5, block=60, missing=0.1, populations=3, fst=0.1)
    G = simulated.read(None, slice(None))
    assert np.array_equal(simulated.read(None, slice(55, 130)), G[:, 55:130])
    assert np.array_equal(simulated.read(np.array([4, 1]), np.array([200, 3, 61])), G[[4, 1]][:, [200, 3, 61]])
    prefix = simulated.write(tmp_path / "folder" / "g.1")
    assert np.array_equal(np.hstack([c.G for c in Genotypes.open(prefix).calls(64)]), G)
    assert not np.array_equal(simulate_genotypes(50, 210, seed=4, rho=0.5).read(None, slice(0, 60)), G[:, :60])
    assert (G < 0).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / G.size))


def test_populations__differ_by_their_fst():
    simulated = simulate_genotypes(100, 5000, seed=5, populations=2, fst=0.05, maf=(0.3, 0.5))
    f = simulated.frequency
    common = simulate_genotypes(100, 5000, seed=5, maf=(0.3, 0.5)).frequency[0]
    ratio = ((f - common) ** 2 / (common * (1 - common))).mean(axis=1)
    assert ratio == pytest.approx(0.05, abs=4 * 0.05 * np.sqrt(2 / 5000))


@pytest.fixture(scope="module")
def genotypes():
    """400 samples at 600 SNPs in LD."""
    return Genotypes.open(simulate_genotypes(400, 600, seed=7, rho=0.5, missing=0.02).read(None, slice(None)))


def test_phenotypes__have_the_covariance_of_the_model(genotypes):
    """The moments yᵀAy have the means tr(A Σ) under Cov(vec Y) = Σ_g ⊗ K + Σ_e ⊗ I, for A = K and I."""
    h2, rho_g, rho_e, R = [0.6, 0.3], -0.5, 0.4, 400
    drawn = simulate_phenotypes(genotypes, h2, seed=1, rho_g=rho_g, rho_e=rho_e, variance=[1.0, 4.0], replicates=R)
    K = relationship_matrix(genotypes).K
    assert drawn.h2 == pytest.approx(h2)
    assert drawn.rho_g[0, 1] == pytest.approx(rho_g)
    assert drawn.rho_e[0, 1] == pytest.approx(rho_e)
    assert np.diag(drawn.sigma_g + drawn.sigma_e) == pytest.approx([1, 4])
    for A in (K, np.eye(400)):
        moments = np.einsum("rik,ij,rjl->rkl", drawn.Y, A, drawn.Y)
        right = drawn.sigma_g * np.trace(A @ K) + drawn.sigma_e * np.trace(A)
        error = moments.std(axis=0) / np.sqrt(R)
        assert (np.abs(moments.mean(axis=0) - right) < 4 * error).all()
    assert drawn.Y.shape == (R, 400, 2)


def test_phenotypes__of_few_causal_snps_and_of_alpha_effects(genotypes):
    drawn = simulate_phenotypes(genotypes, 0.5, seed=2, causal=0.05, standardise=("alpha", -0.25), replicates=300)
    assert len(drawn.causal) == 30
    assert len(simulate_phenotypes(genotypes, 0.5, seed=2, causal=7).causal) == 7
    K = relationship_matrix(genotypes.select(variants=drawn.causal), ("alpha", -0.25)).K
    total = (drawn.genetic[:, :, 0] ** 2).sum(axis=1)
    assert total.mean() == pytest.approx(0.5 * np.trace(K), abs=4 * total.std() / np.sqrt(300))
    quadratic = np.einsum("ri,ij,rj->r", drawn.genetic[:, :, 0], K, drawn.genetic[:, :, 0])
    assert quadratic.mean() == pytest.approx(0.5 * np.trace(K @ K), abs=4 * quadratic.std() / np.sqrt(300))


def test_phenotypes__are_the_same_for_a_seed_and_carry_fixed_effects(genotypes, tmp_path):
    X = np.column_stack([np.ones(400), np.arange(400)])
    plain, shifted = (
        simulate_phenotypes(genotypes, [0.5, 0.2], seed=3, X=x, beta=b) for x, b in ((None, None), (X, [2.0, -0.1]))
    )
    assert shifted.Y[0] - plain.Y[0] == pytest.approx(np.repeat((X @ [2.0, -0.1])[:, None], 2, axis=1))
    path = plain.write(tmp_path / "y.phen")
    assert join(genotypes.samples, path).Y.to_numpy() == pytest.approx(plain.Y[0], rel=1e-8)


def test_no_heritability__is_no_genetic_value(genotypes):
    assert not simulate_phenotypes(genotypes, 0.0, seed=1).genetic.any()
    drawn = simulate_phenotypes(genotypes, 1.0, seed=1)
    assert np.array_equal(drawn.Y, drawn.genetic)


def test_case_control__has_cases_above_the_threshold_in_the_share_asked_for(tmp_path):
    population = simulate_genotypes(6000, 200, seed=8)
    drawn = simulate_case_control(population, 0.5, 0.1, 300, 500, seed=9)
    assert drawn.y.sum() == 300
    assert drawn.sample_prevalence == 300 / 800
    threshold = norm.ppf(0.9)
    assert drawn.liability[drawn.y == 1].min() > threshold >= drawn.liability[drawn.y == 0].max()
    everybody = simulate_phenotypes(population, 0.5, seed=9).Y[0, :, 0]
    assert np.mean(everybody > -norm.ppf(0.1)) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 6000) + 0.02)
    at = drawn.genotypes.samples["IID"].astype(int).to_numpy() - 1
    assert everybody[at] == pytest.approx(drawn.liability)
    assert np.array_equal(next(drawn.genotypes.calls()).G, population.read(None, slice(None))[at])
    with pytest.raises(MethodError, match=r"has \d+ cases; 5,000 were asked for.*needs about 50,000 people"):
        simulate_case_control(population, 0.5, 0.1, 5000, 10, seed=9)


def test_coalescent__writes_common_snps_in_ld(tmp_path):
    pytest.importorskip("msprime", reason="msprime is not installed")
    from vcbench.genetics.coalescent import write_coalescent

    prefix = write_coalescent(tmp_path / "c", 60, 150, seed=1, maf=0.05, chromosomes=2)
    genotypes = Genotypes.open(prefix, maf=0.05)
    assert genotypes.p == 150
    assert genotypes.variants.groupby("chrom").size().to_dict() == {"1": 75, "2": 75}
    assert all(part["pos"].is_monotonic_increasing for _, part in genotypes.variants.groupby("chrom"))
    G = np.hstack([c.G for c in genotypes.calls()]).astype(float)
    r2 = np.corrcoef(G.T) ** 2
    near, apart = r2[np.arange(74), np.arange(1, 75)].mean(), r2[:75, 75:].mean()
    assert near > 0.15
    assert apart < 2 / 60
    again = Genotypes.open(write_coalescent(tmp_path / "d", 60, 150, seed=1, maf=0.05, chromosomes=2))
    assert np.array_equal(np.hstack([c.G for c in again.calls()]), G)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: simulate_genotypes(10, 10, seed=1, rho=1.0), MethodError, r"rho=1\.0 must be between 0 and 0\.999"),
        (lambda g: simulate_genotypes(10, 10, seed=1, maf=(0.2, 0.7)), MethodError, r"maf=0\.7 must be"),
        (lambda g: simulate_genotypes(0, 10, seed=1), MethodError, "n=0 must be between"),
        (lambda g: simulate_phenotypes(g, 1.2, seed=1), MethodError, r"h2=\[1\.2\] must lie between 0 and 1"),
        (lambda g: simulate_phenotypes(g, [0.5] * 3, seed=1, rho_g=-0.9), ModelError, "rho_g is no correlation matrix"),
        (lambda g: simulate_phenotypes(g, 0.5, seed=1, rho_e=[[1, 0], [0, 1]]), ModelError, "rho_e of 1 phenotypes"),
        (lambda g: simulate_phenotypes(g, 0.5, seed=1, causal=700), MethodError, "causal=700 is 700 of 600 SNPs"),
        (lambda g: simulate_phenotypes(g, 0.5, seed=1, variance=-1), MethodError, "variance=-1 must be positive"),
        (lambda g: simulate_phenotypes(g, 0.5, seed=1, replicates=0), MethodError, "replicates=0"),
        (lambda g: simulate_phenotypes(g, 0.5, seed=1, X=np.ones(3), beta=[1.0]), MethodError, r"X has shape \(3, 1\)"),
        (lambda g: simulate_case_control(g, 0.5, 1.5, 1, 1, seed=1), MethodError, "prevalence=1.5 must lie"),
    ],
)
def test_values_out_of_range__are_named(genotypes, call, error, message):
    with pytest.raises(error, match=message):
        call(genotypes)
