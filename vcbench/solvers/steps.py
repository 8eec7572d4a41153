"""The arrows θ → θ′, compiled: one EM map with the parameter expansions as choices, one scored step for every
information.

Everything that MATH §3 calls an EM of the expected complete data is `em_step`: the moments of the E-step (see
`kernels.protocol.Moments`), an expansion basis T and a rule for σ². α = I + Tδ multiplies the features W;

    em: α = I.   px-em: α = δI, one δ.   px-em-component: α_k = δ_k I.   px-em-full: α_k free in the pattern of Ω_k.
"""

import math

import numpy as np
from numba import njit

from vcbench.solvers.codes import HENDERSON, PX, PX_COMPONENT, PX_FULL, SIMPLIFIED
from vcbench.solvers.geometry import (
    cone_matrix,
    cone_size,
    eigen,
    face_curvature,
    gradient_matrix,
    pseudo_solve,
    put_cone,
    scaled_solve,
    tangent,
)

NOTHING = 1e-13  # of a variance's scale: less is lost in the rounding of the E-step


@njit(cache=True)
def expansion(code, theta, scale, rank, ptr, effects, where, fa, fb, fc):
    """T (m, k): the departures Tδ of α from I that the method lets vary.

    On a face of an unstructured Ω every EM moves that block by Λ, Ω = ΛΛᵀ (r × ρ): plain EM cannot turn the range of a
    singular Ω. Directions of Ω/scale below NOTHING are not expanded: TᵀFT and Tᵀg are rounding errors there.
    """
    m = fa.shape[0]
    n_cones = rank.shape[0] - 1
    n_components = 0
    for j in range(m):
        n_components = max(n_components, fc[j] + 1)
    cone_of = np.zeros(effects.shape[0], np.int64)
    for c in range(n_cones):
        for i in range(ptr[c], ptr[c + 1]):
            cone_of[effects[i]] = c
    T = np.zeros((m, m + n_components + 1))
    at = 0
    shared = np.zeros(m)
    any_shared = False
    by_component = np.zeros((m, n_components))
    used = np.zeros(n_components, np.bool_)
    for c in range(n_cones):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0:
            continue
        full = code == PX_FULL or rho < k
        values, vectors = eigen(cone_matrix(theta / scale, c, ptr, effects, where))
        if values[k - 1] < NOTHING:
            continue
        while values[k - rho] < NOTHING * max(1.0, values[k - 1]):
            rho -= 1
        U = np.eye(k)
        if rho < k:
            U = vectors[:, k - rho :].copy()
            for b in range(k):
                U[b] /= math.sqrt(scale[where[effects[ptr[c] + b], effects[ptr[c] + b]]])
        if full:
            for i in range(k):
                for e in range(rho):
                    for j in range(m):
                        if cone_of[fa[j]] == c and cone_of[fb[j]] == c and fa[j] == effects[ptr[c] + i]:
                            for b in range(k):
                                if fb[j] == effects[ptr[c] + b]:
                                    T[j, at] = U[b, e]
                    at += 1
            continue
        for j in range(m):
            if fa[j] == fb[j] and cone_of[fa[j]] == c:
                if code == PX:
                    shared[j] = 1.0
                    any_shared = True
                elif code == PX_COMPONENT:
                    by_component[j, fc[j]] = 1.0
                    used[fc[j]] = True
    if any_shared:
        T[:, at] = shared
        at += 1
    for k in range(n_components):
        if used[k]:
            T[:, at] = by_component[:, k]
            at += 1
    return T[:, :at].copy()


@njit(cache=True)
def em_step(
    code, reml, theta, scale, gamma, rank, ptr, effects, where, q, n_obs, fa, fb, fc, F, Wty, XtW, S, yty, score,
    score_gamma,
):  # fmt: skip
    """(θ′, γ′): one M-step from the moments at (γ, θ) (ML) or at θ (REML).

    Written in departures from α = I and γ, whose right-hand sides are scores, so that nothing cancels as σ² falls:

        c = E[Xᵀe] = σ² ∂ℓ/∂γ,    g = E[Wᵀe] = 2σ² (∂ℓ/∂Ω) Ω,    E‖e‖² = nσ² + 2σ⁴ ∂ℓ/∂σ²,   e = y − Xγ − Zu
        ML    [I, B; Bᵀ, TᵀFT] (Δγ, δ) = (c, Tᵀg), B = E[XᵀW]T;  px-em alone takes δ at the old γ, as its sources do
        REML  TᵀFT δ = Tᵀg
        nσ²  = E‖e − XΔγ − WTδ‖²,   α = I + Tδ,   Ω_k = α_k (S_k/q_k) α_kᵀ

    SIMPLIFIED: σ² = yᵀ(y − Xγ′ − Zμ)/n.  HENDERSON: σ² = yᵀ(y − Xγ̂ − Zû)/(n − d).
    """
    m = fa.shape[0]
    d = gamma.shape[0]
    p = theta.shape[0]
    sigma2 = theta[p - 1]
    T = expansion(code, theta, scale, rank, ptr, effects, where, fa, fb, fc)
    alpha = np.zeros(m)
    g = np.zeros(m)
    for j in range(m):
        if fa[j] == fb[j]:
            alpha[j] = 1.0
    for c in range(rank.shape[0] - 1):
        k = cone_size(c, ptr)
        work = (
            2.0 * sigma2 * (gradient_matrix(score, c, ptr, effects, where) @ cone_matrix(theta, c, ptr, effects, where))
        )
        for i in range(k):
            for e in range(k):
                for j in range(m):
                    if fa[j] == effects[ptr[c] + i] and fb[j] == effects[ptr[c] + e]:
                        g[j] = work[i, e]
    step = np.zeros(d)
    change = 0.0
    if not reml:
        step = sigma2 * score_gamma
    if T.shape[1] > 0:
        A, rhs = T.T @ F @ T, T.T @ g
        if reml or code == PX:
            delta = pseudo_solve(A, rhs)
        else:
            B = XtW @ T
            delta = pseudo_solve(A - B.T @ B, rhs - B.T @ step)
        if not reml:
            c0 = step.copy()
            B = XtW @ T
            step = c0 - B @ delta
            change = -2.0 * (step @ c0) + step @ step + 2.0 * (step @ (B @ delta))
        change += -2.0 * (delta @ rhs) + delta @ (A @ delta)
        alpha = alpha + T @ delta
    else:
        change = -(step @ step)
    new = theta.copy()
    new[p - 1] = sigma2 + (2.0 * sigma2 * sigma2 * score[p - 1] + change) / n_obs
    if code == SIMPLIFIED:
        new[p - 1] = (yty - Wty @ alpha) / n_obs
    elif code == HENDERSON:
        new[p - 1] = (yty - Wty @ alpha) / (n_obs - d)
    for c in range(rank.shape[0] - 1):
        k = cone_size(c, ptr)
        a = np.zeros((k, k))
        Sc = np.empty((k, k))
        for i in range(k):
            for e in range(k):
                Sc[i, e] = S[effects[ptr[c] + i], effects[ptr[c] + e]]
                for j in range(m):
                    if fa[j] == effects[ptr[c] + i] and fb[j] == effects[ptr[c] + e]:
                        a[i, e] = alpha[j]
        if rank[c] == 0:
            put_cone(new, c, ptr, effects, where, np.zeros((k, k)))
        else:
            put_cone(new, c, ptr, effects, where, a @ (Sc / q[effects[ptr[c]]]) @ a.T)
    return new, gamma + step


@njit(cache=True)
def score_step(theta, score, q, n_obs, rank, ptr, effects, where):
    """ECME and EM-REML by the score: Ω + (2/q) Ω (∂ℓ/∂Ω) Ω, σ² + (2/n) σ⁴ ∂ℓ/∂σ²."""
    new = theta.copy()
    n_cones = ptr.shape[0] - 1
    for c in range(n_cones):
        Omega = cone_matrix(theta, c, ptr, effects, where)
        G = gradient_matrix(score, c, ptr, effects, where)
        put_cone(new, c, ptr, effects, where, Omega + (2.0 / q[effects[ptr[c]]]) * (Omega @ G @ Omega))
    p = theta.shape[0]
    if rank[n_cones] > 0:
        new[p - 1] += 2.0 * theta[p - 1] ** 2 / n_obs * score[p - 1]
    return new


@njit(cache=True)
def second_order_direction(theta, score, info, backup, rank, ptr, effects, where, ridge):
    """Δ = T H⁻¹Tᵀ score on the face of θ, H = Tᵀ(info)T + the face's curvature.

    `backup` (the expected information, or info itself) is added with growing weight while H is not positive
    definite, and with weight `ridge` where a step along H did not ascend.
    """
    T = tangent(theta, rank, ptr, effects, where)
    m = T.shape[1]
    if m == T.shape[0]:  # T = I
        g, H, Hb = score.copy(), info.copy(), backup.copy()
    else:
        g = T.T @ score
        H = T.T @ info @ T + face_curvature(theta, score, rank, ptr, effects, where, m)
        Hb = T.T @ backup @ T
    weight = ridge
    for _ in range(40):
        ok, x = scaled_solve(H + weight * Hb, g)
        if ok and g @ x > 0.0 and np.isfinite(x).all():
            return T @ x
        weight = 1e-3 if weight == 0.0 else 4.0 * weight
        for j in range(m):
            Hb[j, j] *= 1.0 + 1e-8
    for j in range(m):
        g[j] = g[j] / max(abs(Hb[j, j]), 1e-12)
    return T @ g
