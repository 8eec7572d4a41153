"""L-BFGS on the faces of the parameter space: the loop of `run.climb` with a memory.

Coordinates are θ/scale whitened by the expected information at the start (and again on every face that is reached), so
that the first step is a Fisher step. Two-loop recursion of Nocedal & Wright (2006, algorithm 7.4); pairs with sᵀy ≤
0 are left out; the same guard, bend at the boundary and stop rule as every other method.
"""

from typing import Any

import numpy as np

from vcbench.solvers.geometry import (
    decrement,
    drop_smallest,
    full_ranks,
    on_boundary,
    positions,
    project,
    release_direction,
    retract,
    tangent,
)
from vcbench.solvers.run import AT_BOUNDARY, CONVERGED, MAX_ITER, NO_ASCENT, ROUNDING, SINGULAR, tick

MEMORY = 10
REFRESH = 20  # iterations after which the metric is taken anew: the expected information of a far start misleads


def climb_lbfgs(
    kernel: Any, criterion: str, theta: np.ndarray, tol: float, max_iter: int, rank: np.ndarray | None = None
) -> tuple:
    """The tuple of `run.climb` for L-BFGS, from θ inside the parameter space, or on the face of `rank`."""
    lay = kernel.layout
    where = positions(lay.pa, lay.pb, len(lay.q))
    ptr, effects, scale = lay.cone_ptr, lay.cone_effects, lay.scale
    rank = full_ranks(ptr) if rank is None else rank.copy()
    shift = 0.5 * kernel.basis.logdet if criterion == "reml" else 0.0
    n_eval = n_check = releases = n_iter = 0
    check_seconds, distance, ending, start = 0.0, np.inf, MAX_ITER, tick()

    def ask(x, need=("score",)):
        return kernel.evaluate(x * scale, need, criterion)

    metric_of = getattr(kernel, "stop_information", "expected")  # the expected information, or the kernel's cheaper one

    def information(x):
        return getattr(ask(x, (metric_of,)), metric_of) * np.outer(scale, scale)

    x = theta / scale
    at = ask(x)
    n_eval += 1
    rows = []

    def record():
        rows.append(np.concatenate([[at.loglik + shift], x * scale, at.gamma, [tick() - start - check_seconds]]))

    def done(code):
        return (
            x,
            at.gamma,
            at.loglik + shift,
            code,
            n_iter,
            n_eval,
            n_check,
            check_seconds,
            rank,
            distance,
            np.array(rows) if rows else np.zeros((0, len(x) + len(at.gamma) + 2)),
        )

    if not np.isfinite(at.loglik):
        return done(SINGULAR)
    record()
    metric: Any = None
    pairs: list = []
    T: Any = None
    while True:
        begin = tick()
        if n_iter % REFRESH == 0:
            metric = None
        fresh = metric is None
        T = _aligned(tangent(x, rank, ptr, effects, where), None if fresh else T)
        score = at.score * scale
        near = fresh or _distance(metric, T.T @ score) <= 30 * tol
        if near:
            info = information(x)
            n_check += 1
            distance = decrement(score, info, T)
            if distance <= tol:
                c, direction, step = release_direction(x, score, info, rank, ptr, effects, where, tol)
                freed = False
                while c >= 0 and releases < MEMORY and not freed and step > 1e-12:
                    new = ask(x + step * direction)
                    n_check += 1
                    freed = new.loglik > at.loglik
                    if freed:
                        releases += 1
                        rank[c] += 1
                        x, at, metric = x + step * direction, new, None
                    step *= 0.25
                if not freed:
                    check_seconds += tick() - begin
                    return done(AT_BOUNDARY if on_boundary(rank, ptr) else CONVERGED)
                check_seconds += tick() - begin
                continue
        check_seconds += tick() - begin
        if n_iter >= max_iter:
            return done(ending)
        if fresh:
            metric, pairs = _metric(T.T @ info @ T), []
        accepted, memory = False, pairs
        for attempt in range(3):
            g = metric.T @ (T.T @ score)
            delta = T @ (metric @ _two_loop(g, memory))
            crosses, trial, new_rank = project(x, delta, rank, ptr, effects, where)
            if crosses:
                new = ask(trial)
                n_eval += 1
                if not new.loglik >= at.loglik - ROUNDING * (1 + abs(at.loglik)):
                    crosses, trial, new_rank = drop_smallest(x, new_rank, rank, ptr, effects, where)
                    new = ask(trial)
                    n_eval += 1
                if crosses and new.loglik >= at.loglik - ROUNDING * (1 + abs(at.loglik)):
                    x, at, rank, metric, accepted = trial, new, new_rank, None, True
                    break
            s, slope = 1.0, max(float(score @ delta), 0.0)
            for _ in range(25):
                trial = retract(x, delta, s, rank, ptr, effects, where)
                new = ask(trial)
                n_eval += 1
                if new.loglik >= at.loglik + 1e-4 * s * slope - ROUNDING * (1 + abs(at.loglik)):
                    accepted = True
                    break
                s *= 0.5
            if accepted:
                moved = np.linalg.solve(metric, np.linalg.lstsq(T, trial - x, rcond=None)[0])
                T_new = _aligned(tangent(trial, rank, ptr, effects, where), T)
                change = g - metric.T @ (T_new.T @ (new.score * scale))
                if moved @ change > 1e-10 * np.linalg.norm(moved) * np.linalg.norm(change):
                    pairs = [*pairs, (moved, change)][-MEMORY:]
                x, at = trial, new
                break
            if attempt == 0:
                memory = []
            else:
                metric, memory = _metric(T.T @ information(x) @ T), []
        if not accepted:
            return done(NO_ASCENT)
        n_iter += 1
        record()


def _aligned(T: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """T with each column's sign as before: the eigenvectors that span a face have no sign of their own."""
    if before is None or before.shape != T.shape:
        return T
    return T * np.where((T * before).sum(axis=0) < 0, -1.0, 1.0)


def _metric(info: np.ndarray) -> np.ndarray:
    """M with MMᵀ = I⁻¹ (eigenvalues floored), so that coordinates z, Δ = Mz, have unit information."""
    size = np.sqrt(np.clip(np.diag(info), 1e-100, 1e100))
    values, vectors = np.linalg.eigh(info / np.outer(size, size))
    return (vectors / np.sqrt(np.maximum(values, 1e-8 * values[-1]))) / size[:, None]


def _distance(metric: np.ndarray, g: np.ndarray) -> float:
    return float(np.linalg.norm(metric.T @ g)) if metric.shape[0] == len(g) else 0.0


def _two_loop(g: np.ndarray, pairs: list) -> np.ndarray:
    """H·g with H the L-BFGS inverse Hessian of −ℓ in whitened coordinates, H_0 scaled by the last pair."""
    q, kept = g.copy(), []
    for s, y in reversed(pairs):
        a = (s @ q) / (s @ y)
        q = q - a * y
        kept.append(a)
    if pairs:
        s, y = pairs[-1]
        q = q * ((s @ y) / (y @ y))
    for (s, y), a in zip(pairs, reversed(kept), strict=True):
        q = q + (a - (y @ q) / (s @ y)) * s
    return q
