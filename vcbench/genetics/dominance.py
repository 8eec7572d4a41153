"""The dominance relationship matrix: what heterozygotes share beyond the additive effects of their alleles.

With f the frequency of an allele and Hardy–Weinberg proportions, the dominance deviation of a genotype of 0, 1, 2
copies, at mean 0, variance 1 and uncorrelated with the number of copies, is

    w = −f/(1 − f),   1,   −(1 − f)/f,        K_d = W_dW_dᵀ/p

(Vitezica, Varona & Legarra 2013; Zhu et al. 2015; GCTA --make-grm-d). A missing call is 0, its mean. Beside the
additive matrix of `standardise="gcta"`: `heritability(Y, {"additive": geno, "dominance": dominance_matrix(geno)},
standardise="gcta")`.
"""

from typing import Any

import numpy as np

from vcbench.errors import DataError
from vcbench.genetics.genotypes import BLOCK, Genotypes
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.relationship import GRM, check_used
from vcbench.genetics.relationship_sums import CHUNK, Sum, error_bound, mirror
from vcbench.genetics.standardise_core import look_up


def dominance_matrix(genotypes: Any, *, block: int = BLOCK, chunk: int = CHUNK, progress: Progress = False) -> GRM:
    """K_d (n, n) in one pass over the genotypes, single precision products summed in double as `relationship_matrix`.

    Raises DataError for dosages, whose heterozygotes are not known, and where no SNP is left.
    """
    genotypes = Genotypes.open(genotypes)
    total, used = Sum(genotypes.n, chunk), 0
    with track(progress, genotypes.n_variants, "dominance matrix") as advance:
        for calls in genotypes.calls(block):
            if calls.G.dtype != np.int8:
                raise DataError("dominance needs calls of 0, 1, 2 copies; these genotypes are dosages. Round them.")
            f = calls.facts.frequency
            table = np.column_stack([-f / (1 - f), np.ones_like(f), -(1 - f) / f, np.zeros_like(f)]).astype(np.float32)
            W = np.empty((genotypes.n, len(f)), np.float32, order="F")
            look_up(calls.G, calls.at, table, W)
            total.add(W)
            used += len(f)
            advance(calls.variants.stop - calls.variants.start)
    check_used(used, genotypes.n_variants, genotypes.scan().dropped)
    K = total.finish()
    K /= used
    return GRM(
        mirror(K), genotypes.samples, used, "dominance", "mean", float(used), None, error_bound(used, block, chunk),
        genotypes.scan().dropped,
    )  # fmt: skip
