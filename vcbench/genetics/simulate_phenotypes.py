"""Phenotypes on given genotypes: y = W b + e with stated heritabilities and correlations, streamed over the SNPs.

    W as in `standardise`, C the causal SNPs, s_j what SNP j adds to the scale of K
    b_j ~ N(0, Σ_g / Σ_{j∈C} s_j)  for j in C, 0 elsewhere,      e_i ~ N(0, Σ_e)
    Σ_g = R_g ∘ √(V_g V_gᵀ),  V_g = h² V,      Σ_e = R_e ∘ √(V_e V_eᵀ),  V_e = (1 − h²) V

so that Cov(vec Y) = Σ_g ⊗ K_C + Σ_e ⊗ I with K_C the relationship matrix of the causal SNPs: the model that is fitted,
when every SNP is causal. With standardise=("alpha", α) the effect of an allele has variance ∝ (2f(1−f))^α.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from vcbench.errors import MethodError, ModelError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.ids import SAMPLE_IDS
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.standardise import Standardisation

CHOICE, EFFECTS, NOISE = range(3)  # streams of random numbers


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPhenotypes:
    """Y, genetic (replicates, n, k); the truth sigma_g, sigma_e (k, k); causal: positions in `Genotypes.variants`."""

    Y: np.ndarray = field(repr=False)
    genetic: np.ndarray = field(repr=False)
    sigma_g: np.ndarray
    sigma_e: np.ndarray
    causal: np.ndarray = field(repr=False)
    samples: pd.DataFrame = field(repr=False)

    @property
    def h2(self) -> np.ndarray:
        """Heritabilities (k,)."""
        return np.diag(self.sigma_g) / (np.diag(self.sigma_g) + np.diag(self.sigma_e))

    @property
    def rho_g(self) -> np.ndarray:
        """Genetic correlations (k, k)."""
        return correlation_of(self.sigma_g)

    @property
    def rho_e(self) -> np.ndarray:
        """Residual correlations (k, k)."""
        return correlation_of(self.sigma_e)

    def frame(self, replicate: int = 0) -> pd.DataFrame:
        """FID, IID, pheno1 … of one replicate."""
        names = [f"pheno{j + 1}" for j in range(self.Y.shape[2])]
        values = pd.DataFrame(self.Y[replicate], columns=names, index=self.samples.index)
        return pd.concat([self.samples[SAMPLE_IDS], values], axis=1)

    def write(self, path: Any, replicate: int = 0) -> Path:
        """A phenotype file with a header FID IID pheno1 …."""
        self.frame(replicate).to_csv(path, sep="\t", index=False, float_format="%.9g")
        return Path(path)


def simulate_phenotypes(
    genotypes: Any,
    h2: Any,
    *,
    seed: int,
    rho_g: Any = 0.0,
    rho_e: Any = 0.0,
    variance: Any = 1.0,
    causal: float | int = 1.0,
    standardise: Any = "unit",
    X: Any = None,
    beta: Any = None,
    replicates: int = 1,
    progress: Progress = False,
) -> SimulatedPhenotypes:
    """k phenotypes of the samples of `genotypes` (what `Genotypes.open` takes), `replicates` times over.

    h2: k heritabilities. rho_g, rho_e: correlations, a number for all pairs or a (k, k) matrix. variance: V_g + V_e of
    each phenotype. causal: the share of SNPs with an effect (1.0: all), or how many. X (n, d), beta (d,) or (d, k):
    fixed effects to add. Effects are drawn anew in each replicate, the causal SNPs once. Two passes over the SNPs.

    Raises MethodError for values out of range, ModelError for correlations that are no correlation matrix.
    """
    genotypes = Genotypes.open(genotypes)
    sigma_g, sigma_e = covariances(h2, rho_g, rho_e, variance)
    k, n = len(sigma_g), genotypes.n
    if replicates < 1:
        raise MethodError(f"replicates={replicates!r} must be at least 1.")
    scaling, facts = Standardisation.of(standardise), genotypes.scan().facts
    chosen = _choose(np.flatnonzero(genotypes.scan().kept), causal, seed)
    is_causal = np.zeros(genotypes.n_variants, bool)
    is_causal[chosen] = True
    scale = float(scaling.scale(facts.take(chosen)).sum())
    root = root_of(sigma_g) / np.sqrt(scale)
    draw = _rng(seed, EFFECTS)
    genetic = np.zeros((n, replicates * k))
    with track(progress, genotypes.n_variants, "phenotypes") as advance:
        for block in genotypes.blocks(standardise=scaling, reuse=True):
            here = is_causal[block.facts.columns]
            if here.any():
                B = draw.standard_normal((int(here.sum()), replicates, k)) @ root.T
                genetic += block.W[:, here] @ B.reshape(-1, replicates * k).astype(np.float32)
            advance(block.variants.stop - block.variants.start)
    genetic = np.moveaxis(genetic.reshape(n, replicates, k), 1, 0)
    Y = genetic + _rng(seed, NOISE).standard_normal((replicates, n, k)) @ root_of(sigma_e).T
    if X is not None:
        Y = Y + _fixed(X, beta, n, k)
    return SimulatedPhenotypes(Y, genetic, sigma_g, sigma_e, chosen, genotypes.samples)


@dataclass(frozen=True, slots=True, eq=False)
class CaseControl:
    """An ascertained sample: the genotypes of those chosen, y (n,) 1 for a case, their liabilities, and the truth."""

    genotypes: Genotypes
    y: np.ndarray = field(repr=False)
    liability: np.ndarray = field(repr=False)
    prevalence: float
    h2: float

    @property
    def sample_prevalence(self) -> float:
        """Share of cases in the sample."""
        return float(self.y.mean())


def simulate_case_control(
    population: Any, h2: float, prevalence: float, n_cases: int, n_controls: int, *, seed: int, **options: Any
) -> CaseControl:
    """Cases (liability above Φ⁻¹(1 − prevalence)) and controls, the first so many of each in a simulated population.

    population: genotypes of everybody, such as `simulate_genotypes(50_000, …)`: about n_cases / prevalence people are
    needed. Liability has variance 1 and heritability h2. options: as `simulate_phenotypes`. The sample keeps the order
    of the population. MethodError where the population has too few cases or controls.
    """
    if not 0 < prevalence < 1:
        raise MethodError(f"prevalence={prevalence!r} must lie between 0 and 1.")
    everybody = Genotypes.open(population)
    drawn = simulate_phenotypes(everybody, h2, seed=seed, **options)
    liability = drawn.Y[0, :, 0]
    is_case = liability > -ndtri(prevalence)
    for word, have, need in (("cases", is_case.sum(), n_cases), ("controls", (~is_case).sum(), n_controls)):
        if have < need:
            raise MethodError(
                f"the population of {everybody.n:,} has {have:,} {word}; {need:,} were asked for. A prevalence of "
                f"{prevalence:g} needs about {round(n_cases / prevalence):,} people."
            )
    rows = np.sort(np.r_[np.flatnonzero(is_case)[:n_cases], np.flatnonzero(~is_case)[:n_controls]])
    return CaseControl(everybody.select(rows), is_case[rows].astype(float), liability[rows], prevalence, float(h2))


def covariances(h2: Any, rho_g: Any, rho_e: Any, variance: Any) -> tuple[np.ndarray, np.ndarray]:
    """Σ_g and Σ_e (k, k)."""
    h2 = np.atleast_1d(np.asarray(h2, float))
    if h2.ndim != 1 or not ((h2 >= 0) & (h2 <= 1)).all():
        raise MethodError(f"h2={h2.tolist()} must lie between 0 and 1.")
    total = np.broadcast_to(np.asarray(variance, float), h2.shape)
    if not (total > 0).all():
        raise MethodError(f"variance={variance!r} must be positive.")
    out = []
    for name, rho, part in (("rho_g", rho_g, h2 * total), ("rho_e", rho_e, (1 - h2) * total)):
        R = np.asarray(rho, float)
        if R.ndim == 0:
            R = np.full((len(h2), len(h2)), float(R))
            np.fill_diagonal(R, 1.0)
        if R.shape != (len(h2), len(h2)) or not np.allclose(R, R.T) or not np.allclose(np.diag(R), 1):
            raise ModelError(f"{name} of {len(h2)} phenotypes is a number or a symmetric matrix with a diagonal of 1.")
        if (low := float(np.linalg.eigvalsh(R)[0])) < -1e-10:
            raise ModelError(f"{name} is no correlation matrix: its smallest eigenvalue is {low:.3g}.")
        out.append(R * np.sqrt(np.outer(part, part)))
    return out[0], out[1]


def _choose(kept: np.ndarray, causal: float | int, seed: int) -> np.ndarray:
    """Positions of the causal SNPs, ascending."""
    p = len(kept)
    share = isinstance(causal, float) and causal <= 1
    count = round(causal * p) if share else int(causal)
    if not 1 <= count <= p:
        raise MethodError(f"causal={causal!r} is {count} of {p} SNPs; between 1 and {p} are needed.")
    return kept if count == p else np.sort(_rng(seed, CHOICE).choice(kept, count, replace=False))


def _fixed(X: Any, beta: Any, n: int, k: int) -> np.ndarray:
    """X β (n, k)."""
    X, beta = np.asarray(X, float), np.asarray(beta, float)
    X = X[:, None] if X.ndim == 1 else X
    beta = beta[:, None] if beta.ndim == 1 else np.atleast_2d(beta)
    if X.shape[0] != n or beta.shape[0] != X.shape[1] or beta.shape[1] not in (1, k):
        raise MethodError(f"X has shape {X.shape} and beta {beta.shape}; ({n}, d) and (d,) or (d, {k}) were expected.")
    return np.broadcast_to(X @ beta, (n, k))


def root_of(S: np.ndarray) -> np.ndarray:
    """L with S = L Lᵀ, of a matrix that may be singular."""
    values, vectors = np.linalg.eigh(S)
    return vectors * np.sqrt(np.clip(values, 0, None))


def correlation_of(S: np.ndarray) -> np.ndarray:
    """S scaled to a diagonal of 1; NaN where a variance is 0."""
    sd = np.sqrt(np.diag(S))
    with np.errstate(invalid="ignore", divide="ignore"):
        return S / np.outer(sd, sd)


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
