"""Simulated genotypes that are drawn when they are read: any block of SNPs comes out the same whenever it is asked for.

Independent SNPs: a genotype is Binomial(2, f_j). Linkage disequilibrium: two haplotypes a person, each the sign of a
Gaussian AR(1) sequence along the SNPs,

    z_1 ~ N(0, 1),  z_j = ρ z_{j−1} + √(1 − ρ²) ε_j,  allele_j = 1 where z_j < Φ⁻¹(f_j)

which starts afresh every `block` SNPs (one block of LD). Populations, of equal size and in order of the samples, have
frequencies Beta(f(1−F)/F, (1−f)(1−F)/F) about the common f, F = `fst` (Balding & Nichols 1995).
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from vcbench.errors import MethodError
from vcbench.genetics.ahead import ahead
from vcbench.genetics.plink import write_plink
from vcbench.genetics.sources import MISSING, numbered_samples, numbered_variants

FREQUENCIES, CALLS = 0, 1  # streams of random numbers


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedGenotypes:
    """n samples by p SNPs, from `simulate_genotypes`; open them with `Genotypes.open`, or write them as PLINK files."""

    n: int
    p: int
    seed: int
    frequency: np.ndarray = field(repr=False)  # (populations, p) of the counted allele
    rho: float = 0.0
    block: int = 1000
    missing: float = 0.0
    samples: pd.DataFrame | None = field(default=None, repr=False)
    variants: pd.DataFrame | None = field(default=None, repr=False)

    def read(self, rows: np.ndarray | None, columns: slice | np.ndarray) -> np.ndarray:
        """Calls (samples, SNPs), int8, −127 where missing."""
        wanted = np.arange(self.p)[columns]
        out = np.empty((self.n if rows is None else len(rows), len(wanted)), np.int8, order="F")
        for number in np.unique(wanted // self.block):
            here = np.flatnonzero(wanted // self.block == number)
            drawn = self.draw(int(number))[:, wanted[here] - number * self.block]
            out[:, here] = drawn if rows is None else drawn[rows]
        return out

    def draw(self, number: int) -> np.ndarray:
        """The calls of block `number` (n, at most `block`)."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(CALLS, number)))
        f = self.frequency[:, number * self.block : (number + 1) * self.block]
        of = np.arange(self.n) * len(f) // self.n if len(f) > 1 else 0  # the population of each sample
        G = np.empty((self.n, f.shape[1]), np.int8, order="F")
        if self.rho == 0:
            two, some = (f**2).astype(np.float32), (1 - (1 - f) ** 2).astype(np.float32)
            for j in range(f.shape[1]):
                u = rng.random(self.n, dtype=np.float32)
                np.add(u < two[of, j], u < some[of, j], out=G[:, j], dtype=np.int8)
        else:
            below, rho, step = ndtri(f).astype(np.float32), np.float32(self.rho), np.float32(np.sqrt(1 - self.rho**2))
            z = rng.standard_normal((2, self.n), dtype=np.float32)
            for j in range(f.shape[1]):
                if j:
                    fresh = rng.standard_normal((2, self.n), dtype=np.float32)
                    fresh *= step
                    z *= rho
                    z += fresh
                np.add(z[0] < below[of, j], z[1] < below[of, j], out=G[:, j], dtype=np.int8)
        if self.missing:
            for j in range(f.shape[1]):
                G[rng.random(self.n, dtype=np.float32) < self.missing, j] = MISSING
        return G

    def write(self, prefix: Any) -> Path:
        """.bed, .bim and .fam, some blocks at a time, drawn in several threads. Returns the prefix."""
        samples = numbered_samples(self.n) if self.samples is None else self.samples
        variants = numbered_variants(self.p) if self.variants is None else self.variants
        workers = min(os.cpu_count() or 1, 4)
        return write_plink(prefix, ahead(self.draw, -(-self.p // self.block), workers), samples, variants)


def simulate_genotypes(
    n: int,
    p: int,
    *,
    seed: int,
    maf: tuple[float, float] = (0.05, 0.5),
    rho: float = 0.0,
    block: int = 1000,
    missing: float = 0.0,
    populations: int = 1,
    fst: float = 0.0,
    chromosomes: int = 1,
) -> SimulatedGenotypes:
    """n samples at p SNPs with frequencies uniform over `maf`.

    rho: correlation of neighbours in the latent sequence (0: independent SNPs); block: SNPs in one block of LD.
    missing: share of calls that are missing, at random. populations, fst: groups of samples, each with frequencies of
    its own.
    chromosomes: the SNPs are dealt to so many, in pieces of equal length. seed: the same seed is the same genotypes.
    """
    for name, value, low, high in (
        ("n", n, 1, np.inf), ("p", p, 1, np.inf), ("block", block, 1, np.inf), ("rho", rho, 0, 0.999),
        ("missing", missing, 0, 0.999), ("populations", populations, 1, n), ("fst", fst, 0, 0.999),
        ("chromosomes", chromosomes, 1, p), ("maf", min(maf), 0, 0.5), ("maf", max(maf), min(maf), 0.5),
    ):  # fmt: skip
        if not low <= value <= high:
            raise MethodError(f"{name}={value!r} must be between {low} and {high}.")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(FREQUENCIES,)))
    f = rng.uniform(*maf, p)
    swap = rng.random(p) < 0.5  # which of the two alleles is counted
    f = np.where(swap, 1 - f, f)[None]
    if fst > 0:
        f = rng.beta(f * (1 - fst) / fst, (1 - f) * (1 - fst) / fst, size=(populations, p))
    elif populations > 1:
        f = np.repeat(f, populations, axis=0)
    chromosome = np.arange(p) * chromosomes // p
    start = np.searchsorted(chromosome, np.arange(chromosomes))
    variants = numbered_variants(p).assign(
        chrom=(chromosome + 1).astype(str), pos=(np.arange(p) - start[chromosome] + 1) * 1000
    )
    return SimulatedGenotypes(n, p, seed, f, rho, block, missing, numbered_samples(n), variants)
