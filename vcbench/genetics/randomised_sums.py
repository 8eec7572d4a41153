"""The two passes over the SNPs behind randomised moments, block by block, and on Dask.

With Z (n, B) of random signs, Z̃ = M Z, and W_kJ the SNPs of bin k in block J, a task returns for its block

    first pass     a = ‖M W_kJ‖²,  r = diag(Z̃ᵀW_kJ W_kJᵀZ̃),  q = (W_kJᵀMY)ᵀ(W_kJᵀMY),  U_kJ = M W_kJ W_kJᵀ Z̃,
                   E_kl = diag(U_kJᵀ U_lJ)
    second pass    F_kl = diag(U_kJᵀ U_l),  U_l = Σ_J U_lJ;  of a single bin M W_J W_Jᵀ U too

from which the traces of all SNPs, and of all but those of one block, follow. Nothing larger than U (n × KB) is summed
over blocks. Products are in single precision over pieces of a block, sums in double, in a fixed order.

Phenotypes measured in different samples have an M of their own (a `Side`), with columns of their own in every product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from vcbench.genetics.streamed import Stream, take


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """M = D − QQᵀ of the samples observed (D; None: all), Q (n, d) an orthonormal basis of D X, 0 elsewhere."""

    observed: np.ndarray | None = field(repr=False)
    Q: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, X: np.ndarray, observed: np.ndarray) -> "Side":
        """X (n, d); columns that are combinations of others among the samples observed count once."""
        if observed.all():
            return cls(None, _basis(X))
        inside = _basis(X[observed])
        Q = np.zeros((len(X), inside.shape[1]))
        Q[observed] = inside
        return cls(observed, Q)

    @property
    def n(self) -> int:
        """Samples observed."""
        return len(self.Q) if self.observed is None else int(self.observed.sum())

    @property
    def df(self) -> int:
        """n − d, tr M."""
        return self.n - self.Q.shape[1]

    def project(self, T: np.ndarray) -> np.ndarray:
        """M T, T (n, c)."""
        kept = T if self.observed is None else np.where(self.observed[:, None], T, 0.0)
        return kept - self.Q @ (self.Q.T @ kept)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What every task of a pass is given: the SNPs, the sides, and the columns (n, c) that W is multiplied by.

    At the first pass the columns are, for each side, Z̃ (n_probes, or none where its traces are known), Q, 1/√n and MY;
    at the second Z̃ and U_1 … U_K.
    """

    stream: Stream
    sides: tuple[Side, ...]
    n_probes: int
    n_responses: tuple[int, ...]
    columns: np.ndarray = field(repr=False)
    probed: tuple[bool, ...] = ()
    squared: bool = False

    @property
    def probes(self) -> int:
        """Columns of Z̃, of all sides."""
        return self.n_probes * sum(self.probed)


@dataclass(frozen=True, slots=True, eq=False)
class First:
    """Sums over a block, K bins and G sides: s, m (K,), a, diagonal (K, G), r (K, GB), q of each side (K, P, P),
    E (K, K, GB), absent (n,). diagonal is ‖C W_kJ‖² with C = D − 11ᵀ/n."""

    s: np.ndarray
    m: np.ndarray
    a: np.ndarray
    diagonal: np.ndarray
    r: np.ndarray
    q: tuple[np.ndarray, ...]
    E: np.ndarray
    absent: np.ndarray


def first_columns(sides: Sequence[Side], Y: Sequence[np.ndarray], Z: np.ndarray, probed: Sequence[bool]) -> np.ndarray:
    """The columns of a first pass (n, c) float32: Z̃ of all sides, then for each side Q, 1/√n and MY."""
    parts = [side.project(Z) for side, wanted in zip(sides, probed, strict=True) if wanted]
    for side, y in zip(sides, Y, strict=True):
        one = np.ones(len(Z)) if side.observed is None else side.observed.astype(float)
        parts += [side.Q, one[:, None] / np.sqrt(side.n), side.project(y)]
    return np.ascontiguousarray(np.hstack(parts), dtype=np.float32)


def first_task(plan: Plan, J: int, chunk: Any = None) -> tuple[First, np.ndarray]:
    """(the sums of block J, its U (K, n, GB))."""
    stream, GB = plan.stream, plan.probes
    K, G, n = stream.bins.n, len(plan.sides), stream.n
    s, m, absent = np.zeros(K), np.zeros(K), np.zeros(n, np.int64)
    a, diagonal, r = np.zeros((K, G)), np.zeros((K, G)), np.zeros((K, GB))
    q = tuple(np.zeros((K, P, P)) for P in plan.n_responses)
    U = np.zeros((K, n, GB))
    for W, member, scale, squares, gaps in stream.pieces(J, chunk):
        absent += gaps
        C32 = W.T @ plan.columns
        C = C32.astype(float)
        for k in range(K):
            here = member[:, k]
            if not here.any():
                continue
            s[k], m[k] = s[k] + scale[here].sum(), m[k] + here.sum()
            r[k] += (C[here, :GB] ** 2).sum(axis=0)
            at = GB
            for g, (side, P) in enumerate(zip(plan.sides, plan.n_responses, strict=True)):
                d = side.Q.shape[1]
                size = squares if side.observed is None else _squares_of(W, side.observed, squares)
                a[k, g] += size[here].sum() - (C[here, at : at + d] ** 2).sum()
                diagonal[k, g] += size[here].sum() - (C[here, at + d] ** 2).sum()
                T = C[here, at + d + 1 : at + d + 1 + P]
                q[g][k] += T.T @ T
                at += d + 1 + P
            if GB:
                U[k] += take(W, here) @ C32[here, :GB]
    for k in range(K):
        U[k] = _projected(plan, U[k])
    return First(s, m, a, diagonal, r, q, _inner(U), absent), U


def second_columns(plan: Plan, U: np.ndarray) -> np.ndarray:
    """The columns of a second pass: Z̃ as it was, and U (K, n, GB)."""
    return np.ascontiguousarray(np.hstack([plan.columns[:, : plan.probes], *U]), dtype=np.float32)


def second_task(plan: Plan, J: int, chunk: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """(F (K, K, GB) of block J, and where the plan says so M W_J W_Jᵀ U (n, GB), else nothing)."""
    stream, GB = plan.stream, plan.probes
    K = stream.bins.n
    F = np.zeros((K, K, GB))
    AU = np.zeros((stream.n, GB if plan.squared else 0))
    for W, member, _, _, _ in stream.pieces(J, chunk):
        C32 = W.T @ plan.columns
        C = C32.astype(float)
        for k in range(K):
            here = member[:, k]
            left = C[here, :GB]
            for j in range(K):
                F[k, j] += (left * C[here, GB * (1 + j) : GB * (2 + j)]).sum(axis=0)
        if plan.squared:
            here = member[:, 0]
            AU += take(W, here) @ C32[here, GB:]
    return F, _projected(plan, AU) if plan.squared else AU


def sweep(
    plan: Plan, task: Callable[..., Any], *, workers: int | None, dask: bool, advance: Callable[[int], None]
) -> tuple[list[Any], np.ndarray]:
    """(what each block's task returned beside its array, the sum of the arrays): here in threads, or on Dask."""
    if dask:
        return _sweep_dask(plan, task, advance)
    sums, total = [], None
    width = np.diff(plan.stream.edges)
    for J, (part, array) in enumerate(plan.stream.run(partial(task, plan), workers)):
        total = array if total is None else total + array
        sums.append(part)
        advance(int(width[J]))
    assert total is not None
    return sums, total


def _sweep_dask(plan: Plan, task: Callable[..., Any], advance: Callable[[int], None]) -> tuple[list[Any], np.ndarray]:
    """One task a block on Dask's current scheduler; arrays are added where they are, in the order of the blocks."""
    import dask

    chunks = plan.stream.chunks()
    if chunks[0] is not None:  # each task gets its calls: the array stays where it is
        g = plan.stream.genotypes
        bare = type(g)(_Nowhere(g.source.n, g.source.p), g.samples, g.variants, g.maf, g.missing, g.rows, g.columns)
        plan = replace(plan, stream=replace(plan.stream, genotypes=bare))
    sent = _sent(plan)
    work, add = dask.delayed(_one_thread, pure=False), dask.delayed(_add, pure=False)
    parts = [work(task, sent, J, chunk) for J, chunk in enumerate(chunks)]
    total = parts[0][1]
    for part in parts[1:]:
        total = add(total, part[1])
    with threadpool_limits(1, user_api="blas"):
        *sums, array = dask.compute(*[part[0] for part in parts], total)
    advance(plan.stream.genotypes.n_variants)
    return sums, array


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """In the place of calls that are sent along with each task."""

    n: int
    p: int

    def read(self, rows: Any, columns: Any) -> np.ndarray:
        raise NotImplementedError("these calls are sent along with each task")


def _sent(plan: Plan) -> Any:
    """The plan where the tasks can reach it: once to each worker of a cluster."""
    import dask

    try:
        from distributed import default_client

        return default_client().scatter(plan, broadcast=True, hash=False)
    except (ImportError, ValueError):  # no cluster: a scheduler of this process
        return dask.delayed(plan, pure=False, traverse=False)


def _one_thread(task: Callable[..., Any], plan: Plan, J: int, chunk: Any) -> Any:
    """task(plan, J) on one BLAS thread; a worker stays so."""
    threadpool_limits(1, user_api="blas")
    return task(plan, J, chunk)


def _add(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    return total + part


def _projected(plan: Plan, T: np.ndarray) -> np.ndarray:
    """M T with each side's M on its own columns of T (n, GB)."""
    out, at = np.empty_like(T), 0
    for side, wanted in zip(plan.sides, plan.probed, strict=True):
        if wanted:
            out[:, at : at + plan.n_probes] = side.project(T[:, at : at + plan.n_probes])
            at += plan.n_probes
    return out


def _inner(U: np.ndarray) -> np.ndarray:
    """diag(U_kᵀU_l) (K, K, GB)."""
    K, _, GB = U.shape
    out = np.empty((K, K, GB))
    for k in range(K):
        for j in range(k + 1):
            out[k, j] = out[j, k] = np.einsum("nb,nb->b", U[k], U[j])
    return out


def _squares_of(W: np.ndarray, observed: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Σ w² over the samples observed, from the fewer of those in and those out."""
    most = 2 * observed.sum() > len(observed)
    part = W[~observed if most else observed].astype(float)
    size = np.einsum("ij,ij->j", part, part)
    return squares - size if most else size


def _basis(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns of X."""
    size = np.linalg.norm(X, axis=0)
    U, values, _ = np.linalg.svd(X / np.where(size > 0, size, 1.0), full_matrices=False)
    return U[:, values > 1e-10 * values[0]]
