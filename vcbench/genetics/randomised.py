"""Moment estimates from SNPs at biobank scale: no relationship matrix, traces by random probes, SE by leaving SNPs out.

    V = Σ_k σ_k² K_k + σ_e² I,   K_k = W_k W_kᵀ/s_k of the SNPs of bin k,   M = I − X(XᵀX)⁻¹Xᵀ exactly
    θ̂ = S⁻¹q (MATH §5),   S_kl = tr(M K_k M K_l) by B probes (`randomised_traces`),   q from the phenotypes themselves

after Wu & Sankararaman (2018, Bioinformatics 34:i187), RHE, with several bins as in Pazokitoroudi et al. (2020, Nature
Communications 11:4020), RHE-mc. Two errors, reported apart:

    sampling        jackknife over blocks of SNPs, of unequal size (Busing, Meijer & van der Leeden 1999). It is one of
                    shares of Vp: leaving SNPs out moves hardly any of the total variance, whose own sampling error it
                    does not see. Of a single bin the sandwich of MATH §5 too, tr D³ and tr D⁴ by the same probes
    Monte Carlo     jackknife over the probes: what other probes would have changed

Cost: two passes over the SNPs (one where the traces are in the cache), of 2np(2B + d + P + 1) and 2np·B(1 + K)
operations (one bin: 2np·3B) in single precision. Memory: 16nB(K + 1) bytes and, for each task that runs at a time, a
piece of W (120 MB) and its own n × KB. All phenotypes share the passes. Measured at n = 50,000, p = 100,000, two
phenotypes, B = 10, J = 100, one bin: 34 s of processor time and 0.76 GB from start to end, 13 s where traces are kept;
more than half of it is reading the .bed.

**500,000 × 500,000 on paper.** np = 2.5·10¹¹, fifty times as much: 1,700 s of processor time by that rate, a quarter of
an hour on two processors; the .bed has 62.5 GB, of which two passes read 125 GB. With 100 blocks of 5000 SNPs a task
reads 625 MB and returns U_J (n, KB), 40 MB a bin. With `dask=True` each worker needs the file under the same path (a
shared disk, or a copy: a task reads its own blocks only), 50 MB of columns sent once, and about 0.6 GB. The sums U are
added where they are, in the order of the blocks; numbers (J, K, K, B) and one U come back: 4 GB cross the network in
all at one bin. Tasks share nothing, so that time falls as the number of processors until the disk is full: a disk of
1 GB/s takes 125 s.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vcbench.errors import DataError, MethodError
from vcbench.genetics.annotations import Bins
from vcbench.genetics.content import content_of
from vcbench.genetics.eigen import digest
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.phenotypes import Phenotypes, take
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.randomised_results import RandomisedMoments
from vcbench.genetics.randomised_sums import (
    First,
    Plan,
    Side,
    first_columns,
    first_task,
    second_columns,
    second_task,
    sweep,
)
from vcbench.genetics.randomised_traces import DesignTraces, solve, trace_key
from vcbench.genetics.relationship import check_used
from vcbench.genetics.standardise import Standardisation
from vcbench.genetics.streamed import Stream

VECTORS, BLOCKS = 10, 100
FEWEST = 20  # SNPs a block, where there are few


def randomised_moments(
    Y: Any,
    genotypes: Any,
    X: Any = None,
    *,
    annotations: Any = None,
    vectors: int = VECTORS,
    blocks: int | None = None,
    seed: int = 0,
    standardise: Any = "unit",
    size: int | None = None,
    workers: int | None = None,
    dask: bool = False,
    cache: Any = None,
    names: Sequence[str] | None = None,
    X_names: Sequence[str] | None = None,
    level: float = 0.95,
    progress: Progress = False,
) -> RandomisedMoments:
    """Variances of every bin, for every phenotype, and the covariances of phenotypes measured in the same samples.

    Y (n,) or (n, P), NaN where missing; X (n, c) covariates (a constant is added); genotypes: what `Genotypes.open`
    takes, a Dask array included. annotations: bins of SNPs (`Bins.of`). vectors: B, the probes; blocks: J, of SNPs in
    the order of the file, for the jackknife (100, fewer where there are few SNPs). The same seed, blocks and size give
    the same numbers to the bit, whatever `workers` (threads) there are and with dask=True on any scheduler.
    cache: a folder where traces are kept and found again; phenotypes of the same samples and covariates then take one
    pass.

    Raises DataError, ModelError and MethodError naming what is wrong.
    """
    begin = time.perf_counter()
    scaling = Standardisation.of(standardise)
    if not (isinstance(vectors, int | np.integer) and vectors >= 2):
        raise MethodError(f"`vectors` is {vectors!r}; at least 2 probes are needed to tell their error.")
    if not 0.0 < level < 1.0:
        raise MethodError(f"`level` is {level!r}; a confidence level lies between 0 and 1, such as 0.95.")
    phenotypes = take(Y, X, names, X_names)
    opened = Genotypes.open(genotypes)
    if opened.n != phenotypes.n:
        raise DataError(
            f"the genotypes are of {opened.n:,} samples but Y has {phenotypes.n:,} rows. Put both in the same order, "
            "one row a sample; phenotypes may be NaN."
        )
    bins = Bins.of(annotations, opened.variants)
    if blocks is None:
        blocks = int(np.clip(opened.n_variants // FEWEST, 2, BLOCKS))
    stream = Stream.of(opened, scaling, bins, blocks, size)
    groups = _groups(phenotypes)
    sides = tuple(Side.of(phenotypes.X, phenotypes.observed[:, group[0]]) for group in groups)
    keys = [""] * len(sides)
    kept: list[DesignTraces | None] = [None] * len(sides)
    if cache is not None:
        said = {
            "standardise": scaling.label, "bins": digest(bins.at(np.arange(opened.n_variants))), "vectors": vectors,
            "edges": digest(stream.edges), "size": stream.size, "seed": seed,
        }  # fmt: skip
        content = content_of(opened)
        keys = [trace_key(content, phenotypes.X, phenotypes.observed[:, g[0]], said) for g in groups]
        kept = [DesignTraces.read(cache, key) for key in keys]
    responses = [np.nan_to_num(phenotypes.values[:, group]) for group in groups]
    first, traces = _passes(stream, sides, responses, kept, (vectors, seed), workers, dask, progress)
    for key, side_traces, found in zip(keys, traces, kept, strict=True):
        if cache is not None and found is None:
            side_traces.write(cache, key)
    return _estimates(
        phenotypes, groups, stream, sides, responses, first, traces, level,
        cached=tuple(found is not None for found in kept), seed=seed, seconds=lambda: time.perf_counter() - begin,
    )  # fmt: skip


def _groups(phenotypes: Phenotypes) -> list[list[int]]:
    """Phenotypes measured in the same samples, together."""
    patterns: dict[bytes, list[int]] = {}
    for j in range(len(phenotypes.names)):
        patterns.setdefault(phenotypes.observed[:, j].tobytes(), []).append(j)
    return list(patterns.values())


def draw_probes(n: int, vectors: int, seed: Any) -> np.ndarray:
    """Z (n, B): random signs."""
    return 2.0 * np.random.default_rng(seed).integers(0, 2, (n, vectors), dtype=np.int8) - 1.0


def _passes(
    stream: Stream,
    sides: tuple[Side, ...],
    responses: list[np.ndarray],
    kept: list[DesignTraces | None],
    probes: tuple[int, int],
    workers: int | None,
    dask: bool,
    progress: Progress,
) -> tuple[list[First], list[DesignTraces]]:
    """The sums of the first pass by block, and the traces of each side, computed where they were not kept."""
    B, g = probes[0], stream.genotypes
    probed = tuple(traces is None for traces in kept)
    Z = draw_probes(stream.n, *probes)
    columns = first_columns(sides, responses, Z, probed)
    widths = tuple(y.shape[1] for y in responses)
    plan = Plan(stream, sides, B, widths, columns, probed, squared=stream.bins.n == 1)
    how = {"workers": workers, "dask": dask}
    with track(progress, g.n_variants * (1 + any(probed)), "randomised moments") as advance:
        if stream.chunks()[0] is None:
            g.check_called()
        first, U = sweep(plan, first_task, advance=advance, **how)  # type: ignore[arg-type]
        _check(stream, first)
        if not any(probed):
            return first, [traces for traces in kept if traces is not None]
        second = replace(plan, columns=second_columns(plan, U))
        F, AU = sweep(second, second_task, advance=advance, **how)  # type: ignore[arg-type]
    s = sum(part.s for part in first)
    out, at = [], 0
    for j, (side, traces) in enumerate(zip(sides, kept, strict=True)):
        if traces is not None:
            out.append(traces)
            continue
        own = slice(at, at + B)
        Mz = side.project(Z)
        powers = np.zeros((0, B))
        if plan.squared:
            powers = _powers(
                Mz, U[0, :, own] / s[0], AU[:, own] / s[0] ** 2, sum(f.a[0, j] for f in first) / s[0], side
            )
        out.append(
            DesignTraces(
                side.n, side.df,
                np.stack([f.s for f in first]), np.stack([f.m for f in first]),
                np.stack([f.a[:, j] for f in first]), np.stack([f.diagonal[:, j] for f in first]),
                np.stack([f.r[:, own] for f in first]), np.stack([f.E[:, :, own] for f in first]),
                np.stack([part[:, :, own] for part in F]), np.einsum("knb,lnb->klb", U[:, :, own], U[:, :, own]),
                np.einsum("nb,nb->b", Mz, Mz), powers,
            )
        )  # fmt: skip
        at += B
    return first, out


def _powers(Mz: np.ndarray, Az: np.ndarray, AAz: np.ndarray, trace: float, side: Side) -> np.ndarray:
    """zᵀD³z and zᵀD⁴z (2, B), D = A − cM."""
    c = trace / side.df
    Dz = Az - c * Mz
    DDz = AAz - 2.0 * c * Az + c**2 * Mz
    return np.stack([np.einsum("nb,nb->b", Dz, DDz), np.einsum("nb,nb->b", DDz, DDz)])


def _check(stream: Stream, first: list[First]) -> None:
    """DataError where no SNP is left, a sample has no call, or a bin lies in one block."""
    g = stream.genotypes
    m = np.stack([f.m for f in first])
    check_used(int(m.sum()), g.n_variants, {"left out": g.n_variants})
    absent = sum(f.absent for f in first)
    never = np.asarray(absent) == g.n_variants
    if never.any():
        FID, IID = g.samples.loc[int(never.argmax()), ["FID", "IID"]]
        raise DataError(f"sample FID {FID}, IID {IID} has no genotype called at any of the {g.n_variants:,} SNPs.")
    for k, name in enumerate(stream.bins.names):
        inside = int((m[:, k] > 0).sum())
        if inside < 2:
            where = "no block" if inside == 0 else "one block of SNPs"
            raise DataError(
                f"the SNPs of bin `{name}` that are used lie in {where}: leaving it out leaves nothing of the bin. Use "
                f"more `blocks` than {stream.n_blocks}, or a larger bin."
            )


def _estimates(
    phenotypes: Phenotypes,
    groups: list[list[int]],
    stream: Stream,
    sides: tuple[Side, ...],
    responses: list[np.ndarray],
    first: list[First],
    traces: list[DesignTraces],
    level: float,
    *,
    cached: tuple[bool, ...],
    seed: int,
    seconds: Any,
) -> RandomisedMoments:
    """θ̂ of all, without each block, without each probe."""
    P, names = len(phenotypes.names), stream.bins.names
    K, B = len(names), traces[0].n_probes
    blocks = traces[0].blocks
    theta = np.full((K + 1, P, P), np.nan)
    without_block = np.full((len(blocks), K + 1, P, P), np.nan)
    without_probe = np.full((B, K + 1, P, P), np.nan)
    of = np.empty(P, int)
    for g, (group, side, y, t) in enumerate(zip(groups, sides, responses, traces, strict=True)):
        of[group] = g
        My = side.project(y)
        qe, q_block = My.T @ My, np.stack([f.q[g] for f in first])
        q_all = q_block.sum(axis=0)
        pairs = np.ix_(np.arange(K + 1), group, group)
        s, trace, D = t.equations()
        q = q_all / s[:, None, None]
        theta[pairs] = solve(trace, D.mean(axis=2), t.df, q, qe, names)
        total = D.sum(axis=2)
        for b in range(B):
            without_probe[b][pairs] = solve(trace, (total - D[:, :, b]) / (B - 1), t.df, q, qe, names)
        for i, J in enumerate(blocks):
            s, trace, D = t.equations(int(J))
            left = (q_all - q_block[J]) / s[:, None, None]
            without_block[i][pairs] = solve(trace, D.mean(axis=2), t.df, left, qe, names)
    return RandomisedMoments(
        phenotypes.names, names, theta, without_block, without_probe, tuple(traces), of,
        tuple(np.flatnonzero(phenotypes.observed[:, j]) for j in range(P)), phenotypes.X.shape[1],
        stream.genotypes.n_variants, level, seed, stream.n_blocks, cached, seconds(),
    )  # fmt: skip
