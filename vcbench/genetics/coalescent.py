"""Genotypes from the coalescent with recombination, by msprime: LD and allele frequencies as populations make them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import MethodError
from vcbench.genetics.plink import BIM, write_plink
from vcbench.genetics.sources import numbered_samples

BLOCK = 1024  # SNPs written at a time
MARGIN = 1.3  # more sequence than is expected to hold the SNPs asked for


def write_coalescent(
    prefix: Any,
    n: int,
    p: int,
    *,
    seed: int,
    maf: float = 0.01,
    population_size: float = 10_000,
    recombination_rate: float = 1e-8,
    mutation_rate: float = 1e-8,
    chromosomes: int = 1,
) -> Path:
    """PLINK files of n people at p SNPs with a minor allele at least as frequent as `maf` in the sample.

    Chromosomes are simulated apart, each as long as p / chromosomes such SNPs need (θ Σ_i 1/i base pairs each on
    average, θ = 4 N μ); the SNPs written are spread evenly over those found. Rates are per base pair and generation.
    Returns the prefix. MethodError where msprime is not installed (`pip install vcbench[coalescent]`).
    """
    if n < 1 or p < chromosomes or chromosomes < 1 or not 0 <= maf < 0.5:
        raise MethodError(
            f"n={n}, p={p}, chromosomes={chromosomes}, maf={maf}: need n ≥ 1, p ≥ chromosomes, maf < 0.5."
        )
    shares = np.diff(np.arange(chromosomes + 1) * p // chromosomes)
    seeds = np.random.SeedSequence(seed).generate_state(chromosomes)
    found = [
        _chromosome(n, int(m), maf, population_size, recombination_rate, mutation_rate, int(s))
        for m, s in zip(shares, seeds, strict=True)
    ]
    tables = [
        pd.DataFrame({"chrom": str(c + 1), "cm": positions * recombination_rate * 100, "pos": positions})
        for c, (_, _, positions) in enumerate(found)
    ]
    variants = pd.concat(tables, ignore_index=True).assign(a1="T", a2="A")
    variants["id"] = [f"snp{j + 1}" for j in range(p)]
    blocks = (G for trees, sites, _ in found for G in _calls(trees, sites))
    return write_plink(prefix, blocks, numbered_samples(n), variants[list(BIM)])


def _chromosome(
    n: int, m: int, maf: float, N: float, recombination: float, mutation: float, seed: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    """(tree sequence, the m sites to keep, their positions: whole and ascending)."""
    msprime = _msprime()
    low = max(int(np.ceil(2 * n * maf)), 1)
    each = (1 / np.arange(low, max(2 * n - low, low) + 1)).sum()  # Σ 1/i over the counts that pass
    length = MARGIN * m / (4 * N * mutation * each) + 1000
    for attempt in range(20):
        trees = msprime.sim_ancestry(
            n, population_size=N, recombination_rate=recombination, sequence_length=round(length),
            random_seed=seed % (2**31 - 30) + attempt + 1,
        )  # fmt: skip
        trees = msprime.sim_mutations(
            trees, rate=mutation, model=msprime.BinaryMutationModel(), random_seed=seed % (2**31 - 30) + 1
        )
        passed = np.array(
            [v.site.id for v in trees.variants() if low <= int((v.genotypes > 0).sum()) <= 2 * n - low], np.int64
        )
        if len(passed) >= m:
            sites = passed[np.round(np.linspace(0, len(passed) - 1, m)).astype(np.int64)]
            return trees, sites, trees.tables.sites.position[sites].astype(np.int64) + 1
        length *= 1.5
    raise MethodError(
        f"{m} SNPs with a minor allele of frequency {maf:g} were not found: raise mutation_rate or p's share."
    )


def _calls(trees: Any, sites: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of calls (n, m): derived alleles a person carries."""
    wanted, block = set(sites.tolist()), []
    for variant in trees.variants():
        if variant.site.id in wanted:
            block.append((variant.genotypes > 0).reshape(-1, 2).sum(axis=1, dtype=np.int8))
            if len(block) == BLOCK:
                yield np.column_stack(block)
                block = []
    if block:
        yield np.column_stack(block)


def _msprime() -> Any:
    try:
        import msprime
    except ImportError as error:
        raise MethodError("coalescent genotypes need msprime: `pip install vcbench[coalescent]`.") from error
    return msprime
