"""The loop: guard, stop rule, boundary ending and trace, once for all methods.

One definition, two executions: `climb` is plain Python over a kernel's answers (`climb.py_func`, any kernel), and
compiled by Numba over `Blocks`. `evaluate_state` is the only line that differs between the two.

Stop rule (MATH §3): √(gᵀI⁻¹g) ≤ tol over the free coordinates, g and I (expected) in the method's own state, (β, θ)
jointly where the method owns β. Its evaluations are counted and timed apart (`n_check`, `check_seconds`).
"""

import math
import time

import numpy as np
from numba import njit, types
from numba.extending import overload

from vcbench.kernels.block_core import AVERAGE, EXPECTED, MOMENTS, SCORE
from vcbench.kernels.block_rows import evaluate_blocks
from vcbench.solvers.acceleration import is_inside, learn, memory_for, propose
from vcbench.solvers.codes import AI, BY_SCORE, EM, FISHER, NEWTON, SQUAREM
from vcbench.solvers.geometry import (
    cone_size,
    decrement,
    drop_smallest,
    em_candidate,
    full_ranks,
    on_boundary,
    positions,
    project,
    release_direction,
    retract,
    scaled_solve,
    tangent,
)
from vcbench.solvers.steps import em_step, score_step, second_order_direction

ASCENT = 1e-9  # ε of MATH §3: a monotone method may lose ε(1 + |ℓ|) to rounding
ROUNDING = 1e-11  # share of 1 + |ℓ| that a step may lose to rounding and still count as not falling
CHECK_EVERY = 10  # EMs evaluate the stop rule at every tenth iteration
RELEASES = 50
NEAR = 4.0  # AI asks for the expected information once its own says that it is within NEAR · tol

CHECK = 16  # bit of `want`: the expected information serves the stop rule, a kernel may put a cheaper one in its place

# endings
CONVERGED, AT_BOUNDARY, MAX_ITER, SINGULAR, DESCENT, NO_ASCENT, NEGATIVE = 0, 1, 2, 3, 4, 5, 6

_clock = types.ExternalFunction("clock", types.int64())


def tick():
    """CPU seconds of this process."""
    return time.process_time()


@overload(tick)
def _tick():
    def impl():
        return _clock() * 1e-6

    return impl


def evaluate_state(data, theta, gamma, profile, reml, want):
    """The answers of a kernel at one state, as the tuple of `evaluate_blocks`. `data` is a callable in Python."""
    return data(theta, gamma, profile, reml, want)


@overload(evaluate_state)
def _evaluate_state(data, theta, gamma, profile, reml, want):
    def impl(data, theta, gamma, profile, reml, want):
        D, TX, t, tau2, n_within, n_obs, q, pa, pb, fa, fb, S = data
        return evaluate_blocks(
            D, TX, t, tau2, n_within, n_obs, q, theta, gamma, profile, reml, want, pa, pb, fa, fb, S
        )  # fmt: skip

    return impl


def em_move(data, code, reml, x, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, out):
    """(x′, γ′): one M-step from the moments in `out`; a kernel with structures brings its own (`data.em_move`)."""
    if hasattr(data, "em_move"):
        return data.em_move(code, reml, x, gamma, rank)
    theta, gamma = em_step(
        code, reml, x * scale, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, out[8], out[9], out[10],
        out[11], out[15], out[5], out[4],
    )  # fmt: skip
    return theta / scale, gamma


@overload(em_move)
def _em_move(data, code, reml, x, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, out):
    def impl(data, code, reml, x, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, out):
        theta, gamma = em_step(
            code, reml, x * scale, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, out[8], out[9],
            out[10], out[11], out[15], out[5], out[4],
        )  # fmt: skip
        return theta / scale, gamma

    return impl


def score_move(data, x, score, q, n_obs, rank, ptr, effects, where):
    """x′ of ECME and EM-REML by the score; a kernel with structures brings its own (`data.score_move`)."""
    if hasattr(data, "score_move"):
        return data.score_move(x, rank)
    return score_step(x, score, q, n_obs, rank, ptr, effects, where)


@overload(score_move)
def _score_move(data, x, score, q, n_obs, rank, ptr, effects, where):
    def impl(data, x, score, q, n_obs, rank, ptr, effects, where):
        return score_step(x, score, q, n_obs, rank, ptr, effects, where)

    return impl


@njit(cache=True)
def joint_decrement(score, info, T, score_gamma, A, owns_beta):
    """The stop rule's distance; β's part is added where the method owns β."""
    dec = decrement(score, info, T)
    if owns_beta:
        ok, x = scaled_solve(A, score_gamma)
        if not ok:
            return np.inf
        dec = math.sqrt(dec * dec + max(score_gamma @ x, 0.0))
    return dec


@njit(cache=True)
def climb(
    data,
    code,
    reml,
    owns_beta,
    monotone,
    x,
    gamma,
    tol,
    max_iter,
    keep,
    pa,
    pb,
    fa,
    fb,
    fc,
    ptr,
    effects,
    q,
    scale,
    n_obs,
):
    """Run one method from x = θ/scale (and γ) to its ending.

    Returns (x, γ, ℓ, ending, n_iter, n_eval, n_check, check_seconds, rank, distance, trace, known, score, expected,
    average, A): trace rows are (ℓ, θ, γ, CPU seconds since the start), kept if `keep`; `known` (bits SCORE, EXPECTED,
    AVERAGE) says which of the last are those at x with β profiled, natural units, so that nobody works them out again.
    """
    p = x.shape[0]
    d = gamma.shape[0]
    r = q.shape[0]
    where = positions(pa, pb, r)
    rank = full_ranks(ptr)
    n_cones = rank.shape[0] - 1
    units = np.outer(scale, scale)
    acceleration = code // SQUAREM * SQUAREM
    code = code % SQUAREM
    second = code >= NEWTON
    every = 1 if second else CHECK_EVERY
    next_try = np.zeros(n_cones + 1, np.int64)
    releases = 0
    n_eval, n_check, check_seconds, distance = 0, 0, 0.0, np.inf
    start = tick() if keep else 0.0
    trace = np.empty((64 if keep else 1, p + d + 2))

    own = SCORE
    if code < NEWTON and code != BY_SCORE:
        own = SCORE | MOMENTS
    elif code == NEWTON:
        own = SCORE | EXPECTED | AVERAGE
    elif code == FISHER:
        own = SCORE | EXPECTED
    elif code == AI:
        own = SCORE | AVERAGE
    history, tuning = memory_for(p + d)
    faces = rank.copy()  # the faces that the history was made on
    profile = not owns_beta
    started_with_beta, first_own = owns_beta, own

    out = evaluate_state(data, x * scale, gamma, profile, reml, own)
    n_eval += 1
    ll = out[1]
    gamma = out[2]
    if not out[0]:
        return (
            x, gamma, ll, SINGULAR, 0, n_eval, n_check, check_seconds, rank, distance, trace[:0], 0, trace[0], trace,
            trace, trace,
        )  # fmt: skip
    if keep:
        trace[0, 0] = ll
        trace[0, 1 : p + 1] = x * scale
        trace[0, p + 1 : p + d + 1] = gamma
        trace[0, p + d + 1] = 0.0
    n_iter = 0
    ending = MAX_ITER
    known = 0
    chk = out
    while True:
        # --- stop rule and boundary ---
        if n_iter % every == 0 and (second or n_iter > 0):
            T = tangent(x, rank, ptr, effects, where)
            begin, timed = 0.0, False  # the clock is dear: it is asked only where there is something to book
            chk = out
            score, info = out[5] * scale, out[7] * units
            if code == AI:
                distance = decrement(score, info, T)
            if code != AI or distance <= NEAR * tol or not distance < np.inf:
                if code == AI or not second:
                    begin, timed = tick(), True
                    chk = evaluate_state(data, x * scale, gamma, profile, reml, SCORE | EXPECTED | CHECK)
                    n_check += 1
                score, info = chk[5] * scale, chk[6] * units
                distance = joint_decrement(score, info, T, chk[4], chk[3], owns_beta)
            # a face is left when the score away from it outweighs what is left to do on it
            c, direction, step = release_direction(x, score, info, rank, ptr, effects, where, max(tol, distance))
            freed = False
            if c >= 0 and releases < RELEASES:
                if not timed:
                    begin, timed = tick(), True
                for _ in range(40):
                    trial = x + step * direction
                    new = evaluate_state(data, trial * scale, gamma, profile, reml, own)
                    n_check += 1
                    if new[0] and new[1] > ll:
                        freed = True
                        releases += 1
                        rank[c] += 1
                        next_try[c] = 2 * n_iter + CHECK_EVERY
                        x, ll, gamma, out = trial, new[1], new[2], new
                        break
                    step *= 0.25
                if freed and c == n_cones and not second:
                    profile, owns_beta, own = not started_with_beta, started_with_beta, first_own
                    out = evaluate_state(data, x * scale, gamma, profile, reml, own)
            if not freed and distance <= tol:
                if c < 0 or releases < RELEASES:
                    ending = AT_BOUNDARY if on_boundary(rank, ptr) else CONVERGED
                if timed:
                    check_seconds += tick() - begin
                if profile:
                    known = SCORE | EXPECTED | (own & AVERAGE)
                break
            if not freed and not second:
                dropped = False
                for c in range(n_cones + 1):
                    if c == n_cones and dropped:
                        break
                    slow, trial = em_candidate(x, score, c, q, n_obs, rank, ptr, effects, where)
                    if not slow or n_iter < next_try[c]:
                        continue
                    # without residual noise no E-step moves: the methods go on by the score, γ at its GLS value
                    ask, gls = (SCORE, True) if c == n_cones else (own, profile)
                    new = evaluate_state(data, trial * scale, gamma, gls, reml, ask)
                    n_check += 1
                    if new[0] and new[1] >= ll - ROUNDING * (1.0 + abs(ll)):  # ℓ has not fallen
                        rank[c] -= 1
                        dropped = True
                        x, ll, gamma, out = trial, new[1], new[2], new
                        if c == n_cones:
                            profile, owns_beta, own = True, False, SCORE
                    else:
                        next_try[c] = 2 * n_iter
            if timed:
                check_seconds += tick() - begin
        if n_iter >= max_iter:
            break

        # --- one step ---
        if second:
            score = out[5] * scale
            info = (
                out[7] * units
                if code == AI
                else (out[6] * units if code == FISHER else (2.0 * out[7] - out[6]) * units)
            )
            backup = info if code == AI else out[6] * units
            accepted = False
            ridge = 0.0
            new = out
            for _ in range(8):
                delta = second_order_direction(x, score, info, backup, rank, ptr, effects, where, ridge)
                crosses, trial, new_rank = project(x, delta, rank, ptr, effects, where)
                if crosses:
                    new = evaluate_state(data, trial * scale, gamma, profile, reml, own)
                    n_eval += 1
                    if new[0] and new[1] >= ll - ROUNDING * (1.0 + abs(ll)):
                        accepted = True
                        x = trial
                        rank = new_rank
                        break
                    dropped, trial, new_rank = drop_smallest(x, new_rank, rank, ptr, effects, where)
                    new = evaluate_state(data, trial * scale, gamma, profile, reml, own)
                    n_eval += 1
                    if dropped and new[0] and new[1] >= ll - ROUNDING * (1.0 + abs(ll)):
                        accepted = True
                        x = trial
                        rank = new_rank
                        break
                s = 1.0
                slope = max(score @ delta, 0.0)
                for attempt in range(12):
                    if attempt > 0 or crosses:  # `project` has made the full step
                        trial = retract(x, delta, s, rank, ptr, effects, where)
                    new = evaluate_state(data, trial * scale, gamma, profile, reml, own)
                    n_eval += 1
                    if new[0] and new[1] >= ll + 1e-4 * s * slope - ROUNDING * (1.0 + abs(ll)):
                        accepted = True
                        break
                    s *= 0.5
                if accepted:
                    x = trial
                    break
                ridge = 1.0 if ridge == 0.0 else 30.0 * ridge
            if not accepted:
                ending = NO_ASCENT
                break
        else:
            # on a face of Ω every EM moves by px-em-full's M-step there; with σ² = 0 by the score, γ at its GLS value
            by_score = code == BY_SCORE or rank[n_cones] == 0
            before = gamma
            singular = False
            for c in range(n_cones):
                if 0 < rank[c] < cone_size(c, ptr):
                    singular = True
            if by_score and (not singular or rank[n_cones] == 0):
                trial = score_move(data, x, out[5] * scale, q, n_obs, rank, ptr, effects, where)
            else:
                mom = out
                if code == BY_SCORE:
                    mom = evaluate_state(data, x * scale, gamma, profile, reml, SCORE | MOMENTS)
                trial, new_gamma = em_move(
                    data, EM if code == BY_SCORE else code, reml, x, scale, gamma, rank, ptr, effects, where, q, n_obs,
                    fa, fb, fc, mom,
                )  # fmt: skip
                if not profile:
                    gamma = new_gamma
            if not (trial[p - 1] > 0.0 or rank[n_cones] == 0):
                ending = NEGATIVE
                break
            skipped = False  # whether an accelerated state took the place of M(z)
            if acceleration > 0:
                now, mapped = np.zeros(p + d), np.zeros(p + d)
                unit = math.sqrt(scale[p - 1])
                now[:p], mapped[:p] = x, trial
                if not profile:
                    now[p:], mapped[p:] = before / unit, gamma / unit
                if not np.array_equal(rank, faces):
                    faces = rank.copy()
                    tuning[0] = 0.0
                wanted, leap = propose(acceleration, history, tuning, now, mapped)
                if wanted and np.isfinite(leap).all() and is_inside(leap[:p], trial, rank, ptr, effects, where):
                    new = evaluate_state(data, leap[:p] * scale, leap[p:] * unit, profile, reml, own)
                    n_eval += 1
                    skipped = new[0] and new[1] >= ll - ROUNDING * (1.0 + abs(ll))
                    if skipped:
                        trial = leap[:p].copy()
                if wanted:
                    learn(tuning, skipped)
            if not skipped:
                new = evaluate_state(data, trial * scale, gamma, profile, reml, own)
                n_eval += 1
            if not new[0]:
                ending = SINGULAR
                break
            if monotone and new[1] < ll - ASCENT * (1.0 + abs(ll)):
                ending = DESCENT
                break
            x = trial
        out = new
        ll = new[1]
        gamma = new[2]
        n_iter += 1
        if keep:
            if n_iter >= trace.shape[0]:
                grown = np.empty((2 * trace.shape[0], p + d + 2))
                grown[: trace.shape[0]] = trace
                trace = grown
            trace[n_iter, 0] = ll
            trace[n_iter, 1 : p + 1] = x * scale
            trace[n_iter, p + 1 : p + d + 1] = gamma
            trace[n_iter, p + d + 1] = tick() - start - check_seconds
    rows = trace[: n_iter + 1].copy() if keep else trace[:0]
    if known == 0:
        return (
            x, gamma, ll, ending, n_iter, n_eval, n_check, check_seconds, rank, distance, rows, known, trace[0], trace,
            trace, trace,
        )  # fmt: skip
    return (
        x, gamma, ll, ending, n_iter, n_eval, n_check, check_seconds, rank, distance, rows, known, chk[5], chk[6],
        out[7], chk[3],
    )  # fmt: skip
