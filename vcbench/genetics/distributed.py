"""The relationship matrix of a Dask array of genotypes (n, p): tiles of K, each from its own rows, on any scheduler.

Rows are cut into tiles and SNPs into chunks exactly as `relationship_sums` cuts them, each tile is summed over its
chunks in their order, and the frequencies come from whole numbers. On one kind of processor and BLAS, with one BLAS
thread a worker, the numbers are those of `relationship_matrix` on the same genotypes in memory, to the bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import DataError
from vcbench.genetics.genotypes import KEPT, Genotypes, Scan
from vcbench.genetics.relationship import GRM, check_shared, check_used
from vcbench.genetics.relationship_sums import error_bound, mirror, multiply, tiles
from vcbench.genetics.sources import ArraySource, as_calls
from vcbench.genetics.standardise import Missing, SnpFacts, Standardisation
from vcbench.genetics.standardise_core import count_calls, look_up


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What every tile needs to know of one chunk of SNPs: for each block the columns used, their table, s and gaps."""

    at: list[np.ndarray]
    tables: list[np.ndarray]
    s: list[np.ndarray]
    has_gaps: bool


def is_dask(genotypes: Any) -> bool:
    """A Dask array, or Genotypes that are a Dask array as it stands."""
    if isinstance(genotypes, Genotypes):
        whole = genotypes.rows is None and genotypes.columns is None
        return whole and isinstance(genotypes.source, ArraySource) and hasattr(genotypes.source.array, "dask")
    return hasattr(genotypes, "dask")


def relationship_of_dask(
    genotypes: Any, scaling: Standardisation, missing: Missing, *, dtype: Any, block: int, chunk: int, tile: int
) -> GRM:
    """As `relationship_matrix`, computed by Dask's current scheduler and gathered here."""
    import dask

    genotypes = Genotypes.open(genotypes)
    cut, scan, chunks = _prepare(genotypes, scaling, missing, block, chunk, tile)
    scale, used = _total(chunks), int(scan.kept.sum())
    pairs = missing == "pairs" and any(part.has_gaps for part in chunks)
    rows = tiles(genotypes.n, tile)
    K, shared = np.zeros((genotypes.n, genotypes.n), order="F"), None
    where = [(rows[i], rows[j]) for j in range(len(rows)) for i in range(j, len(rows))]
    for (a, b), values in zip(where, dask.compute(*_tiles(cut, chunks, block, len(rows), _product)), strict=True):
        K[a, b] = values
    if pairs:
        shared = np.ones_like(K)
        for (a, b), values in zip(where, dask.compute(*_tiles(cut, chunks, block, len(rows), _called)), strict=True):
            shared[a, b] = values
        check_shared(shared, genotypes.samples)
    K /= scale if shared is None else shared
    counts = None if shared is None or scale != used else mirror(shared.astype(np.float32))
    return GRM(
        mirror(K.astype(dtype, copy=False)), genotypes.samples, used, scaling.label, missing, scale, counts,
        error_bound(used, block, chunk), scan.dropped,
    )  # fmt: skip


def relationship_array(
    genotypes: Any, standardise: Any = "unit", *, block: int = 2048, chunk: int = 8, tile: int = 8192
) -> Any:
    """K (n, n) as a Dask array that is not computed yet, for n beyond one machine; missing calls at their mean.

    The counts of alleles are computed at once (one pass); the tiles when the array is, wherever its scheduler runs.
    """
    import dask.array as da

    genotypes, scaling = Genotypes.open(genotypes), Standardisation.of(standardise)
    cut, _, chunks = _prepare(genotypes, scaling, "mean", block, chunk, tile)
    rows, scale = tiles(genotypes.n, tile), _total(chunks)
    parts = iter(_tiles(cut, chunks, block, len(rows), _product))
    grid: list[list[Any]] = [[None] * len(rows) for _ in rows]
    for j, b in enumerate(rows):
        for i in range(j, len(rows)):
            shape = (rows[i].stop - rows[i].start, b.stop - b.start)
            lower = da.from_delayed(next(parts), shape, float) / scale
            grid[i][j] = lower if i > j else lower.map_blocks(_whole, dtype=float)
            grid[j][i] = grid[i][j].T
    return da.block(grid)


def _prepare(
    genotypes: Genotypes, scaling: Standardisation, missing: Missing, block: int, chunk: int, tile: int
) -> tuple[np.ndarray, Scan, list[Chunk]]:
    """(delayed pieces of the calls (row tiles, chunks), what was counted, what each chunk needs)."""
    import dask

    array = genotypes.source.array.rechunk((tile, block * chunk))  # type: ignore[attr-defined]
    cut = array.to_delayed()
    counted = dask.compute(*(dask.delayed(_count)(piece) for piece in cut.ravel()))
    counts = np.vstack(
        [sum(counted[i * cut.shape[1] + c][0] for i in range(cut.shape[0])) for c in range(cut.shape[1])]
    )
    absent = np.concatenate(
        [sum(counted[i * cut.shape[1] + c][1] for c in range(cut.shape[1])) for i in range(cut.shape[0])]
    )
    facts = SnpFacts.of_counts(counts, np.arange(genotypes.n_variants))
    scan = Scan(facts, genotypes.codes(facts), absent, genotypes.maf, genotypes.missing)
    if (absent == genotypes.n_variants).any():
        lost = genotypes.samples["IID"][absent == genotypes.n_variants].iloc[0]
        raise DataError(f"sample {lost} has no genotype called at any of the {genotypes.n_variants:,} SNPs.")
    check_used(int(scan.kept.sum()), genotypes.n_variants, scan.dropped)
    chunks = []
    for first in range(0, genotypes.n_variants, block * chunk):
        at, tables, s = [], [], []
        last = min(first + block * chunk, genotypes.n_variants)
        for start in range(first, last, block):
            kept = np.flatnonzero(scan.code[start : min(start + block, last)] == KEPT)
            part = facts.take(start + kept)
            at.append(start - first + kept)
            tables.append(scaling.table(part, missing))
            s.append(scaling.scale(part))
        chunks.append(Chunk(at, tables, s, bool((facts.called[first:last] < genotypes.n).any())))
    return cut, scan, chunks


def _tiles(cut: np.ndarray, chunks: list[Chunk], block: int, n_rows: int, task: Any) -> list[Any]:
    """Delayed tiles on and below the diagonal, column by column: task of each chunk, added up in order."""
    import dask

    work, add = dask.delayed(task, pure=False), dask.delayed(_add, pure=False)
    plans = [dask.delayed(part, traverse=False) for part in chunks]
    out = []
    for j in range(n_rows):
        for i in range(j, n_rows):
            total = None
            for c, plan in enumerate(plans):
                part = work(cut[i, c], cut[j, c], plan, i == j)
                total = part if total is None else add(total, part)
            out.append(total)
    return out


def _count(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(counts (m, 4), missing calls of each sample) of one piece."""
    G = _calls(piece)
    counts, absent = np.empty((G.shape[1], 4), np.int64), np.zeros(G.shape[0], np.int64)
    count_calls(G, counts, absent)
    return counts, absent


def _product(A: np.ndarray, B: np.ndarray, plan: Chunk, square: bool) -> np.ndarray:
    """W_i W_jᵀ of one chunk, summed over its blocks in single precision, as float64."""
    A = _calls(A)
    B = A if square else _calls(B)
    out, fresh = np.zeros((len(A), len(B)), np.float32, order="F"), True
    for at, table in zip(plan.at, plan.tables, strict=True):
        if len(at):
            left = _look_up(A, at, table)
            multiply(left, left if square else _look_up(B, at, table), out, add=not fresh)
            fresh = False
    return out.astype(float)


def _called(A: np.ndarray, B: np.ndarray, plan: Chunk, square: bool) -> np.ndarray:
    """Σ s over the SNPs of one chunk that are called in both."""
    at, s = np.concatenate(plan.at), np.concatenate(plan.s)
    if not plan.has_gaps:
        return np.full((len(A), len(B)), s.sum())
    return ((_calls(A)[:, at] >= 0) * s) @ (_calls(B)[:, at] >= 0).astype(float).T


def _add(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    return total + part


def _look_up(G: np.ndarray, at: np.ndarray, table: np.ndarray) -> np.ndarray:
    W = np.empty((len(G), len(at)), np.float32, order="F")
    look_up(G, at, table, W)
    return W


def _calls(piece: np.ndarray) -> np.ndarray:
    """Calls as int8. DataError for dosages: their frequencies would depend on the order of summation."""
    G = as_calls(np.asarray(piece))
    if G.dtype != np.int8:
        raise DataError("a Dask array of genotypes holds calls 0, 1, 2 (NaN or negative where missing), not dosages.")
    return G


def _whole(tile: np.ndarray) -> np.ndarray:
    """A square tile with its lower triangle on both sides."""
    return mirror(np.asfortranarray(tile).copy(order="F"))


def _total(chunks: list[Chunk]) -> float:
    """Σ s, block by block."""
    total = 0.0
    for part in chunks:
        for s in part.s:
            total += float(s.sum())
    return total
