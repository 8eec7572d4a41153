"""The parameter space, compiled: cones of positive semi-definite blocks of Ω, their faces, steps that stay inside.

θ lives in a product of cones: each block of correlated effects is a PSD matrix (a variance is the 1 × 1 case) and the
residual variance is the last cone. A cone of size k at rank ρ < k is on a face; its tangent space there is
{U M Uᵀ + U Bᵀ Nᵀ + N B Uᵀ}, U its range and N its null space. All functions work in θ/scale (`Layout.scale`), where the
parameters are of order one and no threshold depends on units.

`where` (r, r) gives the position in θ of Ω_ab, or −1; `rank` (n_cones + 1,) the rank of each cone, residual last.
Parameters between the cones and the residual variance (φ of a structure, `model.working`) are free: every direction of
theirs is tangent, and no step bends them.
"""

import math

import numpy as np
from numba import njit

from vcbench.kernels.block_core import cholesky_in_place

EM_RATE = 1e-3  # relative EM step below which a falling variance is tried at 0 (MATH §3)
RESIDUAL_FLOOR = 1e-8  # of the OLS residual variance: where σ² → 0 ends, for V may be singular at 0 (a centred K)
RESIDUAL_SMALL = 1e-3  # the floor is tried from below this only: ℓ_ML is unbounded at 0 if X meets the null space of K
FREE_STEP = 1.0  # a step changes a φ by no more: its scale is that of a logit
SHRINK = 0.9  # a step may take at most this share of an eigenvalue before it is bent (never negative)


@njit(cache=True)
def positions(pa, pb, r):
    """`where`: index in θ of Ω_ab, −1 where Ω_ab is no parameter."""
    where = np.full((r, r), -1, np.int64)
    for j in range(pa.shape[0]):
        where[pa[j], pb[j]] = j
        where[pb[j], pa[j]] = j
    return where


@njit(cache=True)
def cone_matrix(x, c, ptr, effects, where):
    """The symmetric matrix of cone c from the vector x of θ's shape; the residual's cone is 1 × 1."""
    if c == ptr.shape[0] - 1:
        out = np.empty((1, 1))
        out[0, 0] = x[x.shape[0] - 1]
        return out
    k = ptr[c + 1] - ptr[c]
    out = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            out[i, j] = x[where[effects[ptr[c] + i], effects[ptr[c] + j]]]
    return out


@njit(cache=True)
def put_cone(x, c, ptr, effects, where, value):
    """Write the symmetric matrix of cone c into x."""
    if c == ptr.shape[0] - 1:
        x[x.shape[0] - 1] = value[0, 0]
        return
    k = ptr[c + 1] - ptr[c]
    for i in range(k):
        for j in range(i + 1):
            x[where[effects[ptr[c] + i], effects[ptr[c] + j]]] = 0.5 * (value[i, j] + value[j, i])


@njit(cache=True)
def gradient_matrix(score, c, ptr, effects, where):
    """∂ℓ/∂Ω of cone c as a symmetric matrix: the score of a covariance is twice its entry."""
    G = cone_matrix(score, c, ptr, effects, where)
    k = G.shape[0]
    for i in range(k):
        for j in range(k):
            if i != j:
                G[i, j] *= 0.5
    return G


@njit(cache=True)
def eigen_two(M):
    """`eigen` of a 2 × 2 matrix by one Jacobi rotation: tan of its angle is the smaller root t of t² + 2τt − 1 = 0."""
    a, b, c = M[0, 0], M[1, 0], M[1, 1]
    t = 0.0
    if b != 0.0:
        tau = 0.5 * (c - a) / b
        t = 1.0 / (abs(tau) + math.sqrt(1.0 + tau * tau))
        if tau < 0.0:
            t = -t
    cos = 1.0 / math.sqrt(1.0 + t * t)
    sin = t * cos
    first, second = a - t * b, c + t * b
    values, vectors = np.empty(2), np.empty((2, 2))
    low = 0 if first <= second else 1
    values[low], values[1 - low] = first, second
    vectors[0, low], vectors[1, low] = cos, -sin
    vectors[0, 1 - low], vectors[1, 1 - low] = sin, cos
    return values, vectors


@njit(cache=True)
def eigen(M):
    """Eigenvalues ascending and vectors of a symmetric matrix."""
    if M.shape[0] == 1:
        values = np.empty(1)
        values[0] = M[0, 0]
        return values, np.ones((1, 1))
    if M.shape[0] == 2:
        return eigen_two(M)
    return np.linalg.eigh(M)


@njit(cache=True)
def stays_inside(theta, delta, share, c, ptr, effects, where):
    """True where share·Ω + Δ of cone c is positive definite: the step takes less than `share` of every direction."""
    if c == ptr.shape[0] - 1 or ptr[c + 1] - ptr[c] == 1:
        j = theta.shape[0] - 1 if c == ptr.shape[0] - 1 else where[effects[ptr[c]], effects[ptr[c]]]
        return share * theta[j] + delta[j] > 0.0
    k = ptr[c + 1] - ptr[c]
    M = np.empty((k, k))
    for i in range(k):
        for j in range(i + 1):
            at = where[effects[ptr[c] + i], effects[ptr[c] + j]]
            M[i, j] = share * theta[at] + delta[at]
    return cholesky_in_place(M)


@njit(cache=True)
def cone_size(c, ptr):
    """Number of rows of cone c."""
    return 1 if c == ptr.shape[0] - 1 else ptr[c + 1] - ptr[c]


@njit(cache=True)
def full_ranks(ptr):
    """Every cone at full rank."""
    n = ptr.shape[0]
    rank = np.empty(n, np.int64)
    for c in range(n):
        rank[c] = cone_size(c, ptr)
    return rank


@njit(cache=True)
def on_boundary(rank, ptr):
    """True if some cone is on a face."""
    for c in range(rank.shape[0]):  # noqa: SIM110 - any() over a generator does not compile
        if rank[c] < cone_size(c, ptr):
            return True
    return False


@njit(cache=True)
def first_smooth(ptr):
    """Position in θ of the first parameter that belongs to no cone."""
    at = 0
    for c in range(ptr.shape[0] - 1):
        k = ptr[c + 1] - ptr[c]
        at += k * (k + 1) // 2
    return at


@njit(cache=True)
def tangent(theta, rank, ptr, effects, where):
    """T (p, m): a basis of the directions in which θ may move without leaving its face; I inside the space."""
    p = theta.shape[0]
    if not on_boundary(rank, ptr):
        return np.eye(p)
    m = 0
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        m += rho * (rho + 1) // 2 + rho * (k - rho)
    smooth = first_smooth(ptr)
    m += p - 1 - smooth
    T = np.zeros((p, m))
    at = 0
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0:
            continue
        if rho == k:
            if c == ptr.shape[0] - 1:
                T[p - 1, at] = 1.0
                at += 1
            else:
                for j in range(k):
                    for i in range(j, k):
                        T[where[effects[ptr[c] + i], effects[ptr[c] + j]], at] = 1.0
                        at += 1
            continue
        _, vectors = eigen(cone_matrix(theta, c, ptr, effects, where))
        column = np.zeros(p)
        for i in range(rho):
            u = vectors[:, k - 1 - i]
            for j in range(i, rho):
                w = vectors[:, k - 1 - j]
                E = np.outer(u, w) + np.outer(w, u)
                column[:] = 0.0
                put_cone(column, c, ptr, effects, where, E)
                T[:, at] = column
                at += 1
            for j in range(k - rho):
                w = vectors[:, j]
                E = np.outer(u, w) + np.outer(w, u)
                column[:] = 0.0
                put_cone(column, c, ptr, effects, where, E)
                T[:, at] = column
                at += 1
    for j in range(smooth, p - 1):
        T[j, at] = 1.0
        at += 1
    return T


@njit(cache=True)
def face_curvature(theta, score, rank, ptr, effects, where, m):
    """(m, m): what the bend of a face adds to the information, −∂²Ω/∂a∂b contracted with ∂ℓ/∂Ω on the null space."""
    out = np.zeros((m, m))
    at = 0
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0:
            continue
        if rho == k:
            at += k * (k + 1) // 2
            continue
        values, vectors = eigen(cone_matrix(theta, c, ptr, effects, where))
        N = np.ascontiguousarray(vectors[:, : k - rho])
        G = gradient_matrix(score, c, ptr, effects, where)
        NGN = N.T @ G @ N
        for i in range(rho):
            at += rho - i
            d = values[k - 1 - i]
            for j in range(k - rho):
                for e in range(k - rho):
                    out[at + j, at + e] = -2.0 * NGN[j, e] / d
            at += k - rho
    return out


@njit(cache=True)
def solve_spd(H, g):
    """(ok, H⁻¹g) by Cholesky of a copy."""
    m = g.shape[0]
    L = H.copy()
    x = g.copy()
    if not cholesky_in_place(L):
        return False, x
    for i in range(m):
        s = x[i]
        for k in range(i):
            s -= L[i, k] * x[k]
        x[i] = s / L[i, i]
    for i in range(m - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, m):
            s -= L[k, i] * x[k]
        x[i] = s / L[i, i]
    return True, x


@njit(cache=True)
def scaled_solve(H, g):
    """H⁻¹g after scaling H to unit diagonal; 0 for a parameter of which nothing is known (φ of a structure at 0)."""
    m = g.shape[0]
    s = np.ones(m)
    for j in range(m):
        if H[j, j] > 0.0:
            s[j] = 1.0 / math.sqrt(H[j, j])
    Hs = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            Hs[i, j] = H[i, j] * s[i] * s[j]
        if H[i, i] == 0.0 and g[i] == 0.0:
            Hs[i, i] = 1.0
    ok, x = solve_spd(Hs, g * s)
    return ok, x * s


@njit(cache=True)
def decrement(score, info, T):
    """√(gᵀI⁻¹g) over the free directions T: the distance to the optimum in standard errors; inf if I is singular."""
    if T.shape[1] == 0:
        return 0.0
    if T.shape[1] == T.shape[0]:  # T = I
        g = score
        ok, x = scaled_solve(info, score)
    else:
        g = T.T @ score
        ok, x = scaled_solve(T.T @ info @ T, g)
    if not ok:
        return np.inf
    return math.sqrt(max(g @ x, 0.0))


@njit(cache=True)
def retract(theta, delta, s, rank, ptr, effects, where):
    """θ + s·Δ, bent where a cone's eigenvalue would lose more than SHRINK of itself, so that it stays inside."""
    out = theta + s * delta
    for j in range(first_smooth(ptr), theta.shape[0] - 1):
        out[j] = theta[j] + min(max(s * delta[j], -FREE_STEP), FREE_STEP)
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0:
            put_cone(out, c, ptr, effects, where, cone_matrix(theta, c, ptr, effects, where))
            continue
        if rho == k and stays_inside(theta, delta, SHRINK / s, c, ptr, effects, where):
            continue
        Omega = cone_matrix(theta, c, ptr, effects, where)
        D = cone_matrix(delta, c, ptr, effects, where) * s
        if k == 1:
            ratio = D[0, 0] / max(Omega[0, 0], 1e-300)  # a variance may have underflowed
            if ratio < -SHRINK:
                half = max(1.0 + 0.5 * ratio, 0.05)
                D[0, 0] = Omega[0, 0] * half * half
                put_cone(out, c, ptr, effects, where, D)
            continue
        values, vectors = eigen(Omega)
        root = np.zeros((k, rho))
        inverse = np.zeros((rho, k))
        for j in range(rho):
            e = values[k - 1 - j]
            if e <= 0.0:
                e = 1e-300
            for i in range(k):
                root[i, j] = vectors[i, k - 1 - j] * math.sqrt(e)
                inverse[j, i] = vectors[i, k - 1 - j] / math.sqrt(e)
        inner = inverse @ D @ inverse.T
        lowest, vec = eigen(inner)
        if rho == k and lowest[0] >= -SHRINK:
            continue
        # Λ + dΛ with dΛ = (D − ½ U M Uᵀ) Λ^{+T}; eigenvalues of the inner part kept above −1.9
        bent = np.zeros((rho, rho))
        for j in range(rho):
            bent += max(lowest[j], -1.9) * np.outer(vec[:, j], vec[:, j])
        moved = root + 0.5 * root @ bent
        if rho < k:
            P = root @ inverse
            outside = D @ inverse.T
            moved += outside - P @ outside
        put_cone(out, c, ptr, effects, where, moved @ moved.T)
    return out


@njit(cache=True)
def project(theta, delta, rank, ptr, effects, where):
    """(changed, θ′, rank′): the full step θ + Δ with the cones that it leaves put on their faces."""
    out = retract(theta, delta, 1.0, rank, ptr, effects, where)
    new = rank.copy()
    changed = False
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0 or (rho == k and stays_inside(theta, delta, 1.0, c, ptr, effects, where)):
            continue
        Omega = cone_matrix(theta, c, ptr, effects, where)
        D = cone_matrix(delta, c, ptr, effects, where)
        values, vectors = eigen(Omega)
        root = np.zeros((k, rho))
        inverse = np.zeros((rho, k))
        for j in range(rho):
            e = max(values[k - 1 - j], 1e-300)
            for i in range(k):
                root[i, j] = vectors[i, k - 1 - j] * math.sqrt(e)
                inverse[j, i] = vectors[i, k - 1 - j] / math.sqrt(e)
        step, vec = eigen(inverse @ D @ inverse.T)
        if step[0] > -1.0 or (c == rank.shape[0] - 1 and theta[theta.shape[0] - 1] > RESIDUAL_SMALL):
            continue
        changed = True
        kept = np.zeros((rho, rho))
        for j in range(rho):
            if step[j] > -1.0:
                kept += (1.0 + step[j]) * np.outer(vec[:, j], vec[:, j])
            else:
                new[c] -= 1
        put_cone(out, c, ptr, effects, where, root @ kept @ root.T)
        if c == rank.shape[0] - 1:
            out[theta.shape[0] - 1] = RESIDUAL_FLOOR
    return changed, out, new


@njit(cache=True)
def drop_smallest(theta, wanted, rank, ptr, effects, where):
    """(dropped, θ′, rank′): the smallest eigenvalue of every cone with wanted < rank put at 0, nothing else moved.

    The residual's cone only if no other is dropped. The way out of a corner where a full step leaves several cones.
    """
    out, new = theta.copy(), rank.copy()
    last = rank.shape[0] - 1
    dropped = False
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == 0 or wanted[c] >= rho or (c == last and dropped):
            continue
        values, vectors = eigen(cone_matrix(theta, c, ptr, effects, where))
        Omega = np.zeros((k, k))
        for j in range(k - rho + 1, k):
            Omega += values[j] * np.outer(vectors[:, j], vectors[:, j])
        put_cone(out, c, ptr, effects, where, Omega)
        if c == last:
            out[theta.shape[0] - 1] = RESIDUAL_FLOOR
        new[c] -= 1
        dropped = True
    return dropped, out, new


@njit(cache=True)
def em_candidate(theta, score, c, q, n_obs, rank, ptr, effects, where):
    """(slow, θ′): whether cone c's smallest eigenvalue falls so slowly that 0 should be tried, and θ with it at 0.

    The test of MATH §3: score vᵀ(∂ℓ/∂Ω)v < 0 along the eigenvector v and 2λ|score|/q < EM_RATE.
    """
    out = theta.copy()
    k, rho = cone_size(c, ptr), rank[c]
    if rho == 0:
        return False, out
    last = rank.shape[0] - 1
    values, vectors = eigen(cone_matrix(theta, c, ptr, effects, where))
    e = max(values[k - rho], 0.0)
    if c == last and e > RESIDUAL_SMALL:
        return False, out
    v = np.ascontiguousarray(vectors[:, k - rho])
    s = v @ (gradient_matrix(score, c, ptr, effects, where) @ v)
    divisor = n_obs if c == last else q[effects[ptr[c]]]
    if s >= 0.0 or 2.0 * e * (-s) / divisor >= EM_RATE:
        return False, out
    Omega = np.zeros((k, k))
    for j in range(k - rho + 1, k):
        Omega += values[j] * np.outer(vectors[:, j], vectors[:, j])
    put_cone(out, c, ptr, effects, where, Omega)
    if c == last:
        out[theta.shape[0] - 1] = RESIDUAL_FLOOR
    return True, out


@njit(cache=True)
def release_direction(theta, score, info, rank, ptr, effects, where, tol):
    """(cone, direction, step): a face that the score points away from; cone −1 if none.

    The direction is v vᵀ, v the top eigenvector of ∂ℓ/∂Ω on the null space; released if its score is more than tol SE.
    """
    p = theta.shape[0]
    direction = np.zeros(p)
    for c in range(rank.shape[0]):
        k, rho = cone_size(c, ptr), rank[c]
        if rho == k:
            continue
        _, vectors = eigen(cone_matrix(theta, c, ptr, effects, where))
        N = np.ascontiguousarray(vectors[:, : k - rho])
        G = gradient_matrix(score, c, ptr, effects, where)
        values, w = eigen(N.T @ G @ N)
        s = values[k - rho - 1]
        if s <= 0.0:
            continue
        v = N @ np.ascontiguousarray(w[:, k - rho - 1])
        direction[:] = 0.0
        put_cone(direction, c, ptr, effects, where, np.outer(v, v))
        i = direction @ (info @ direction)
        if i > 0.0 and s / math.sqrt(i) > tol:
            return c, direction, s / i
    return -1, direction, 0.0


@njit(cache=True)
def pseudo_solve(A, b):
    """Minimum-norm solution of the symmetric positive semi-definite system Ax = b."""
    ok, x = scaled_solve(A, b)
    if ok and np.isfinite(x).all():
        return x
    values, vectors = np.linalg.eigh(A)
    x = np.zeros(b.shape[0])
    top = values[values.shape[0] - 1]
    for j in range(values.shape[0]):
        if values[j] > 1e-12 * top:
            v = np.ascontiguousarray(vectors[:, j])
            x += (v @ b) / values[j] * v
    return x
