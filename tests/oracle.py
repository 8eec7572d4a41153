"""The slow plain formulas of MATH §1–3, written from the page: what kernels are held to.

V(θ) = Σ_j θ_j V_j + σ² I is formed from a model's Z, group codes and K; nothing of vcbench.kernels is used.
"""

from dataclasses import dataclass

import numpy as np

LOG2PI = np.log(2.0 * np.pi)


def pairs(component):
    """(a, b) in Ω of each parameter: the lower triangle of each block, column by column."""
    out = []
    for block in component.partition:
        for j, b in enumerate(block):
            for a in block[j:]:
                out.append((a, b))
    return out


def clipped(K):
    """K with its negative eigenvalues at 0."""
    values, vectors = np.linalg.eigh((K + K.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def relationship(component, m):
    """Cov(u)/Ω between the levels of a component (m, m): K, the inverse of its precision, or I."""
    if component.K is not None:
        return clipped(component.K)
    return np.eye(m) if component.relation is None else np.linalg.inv(component.relation.precision.toarray())


def incidence(component):
    """Z^(a) (n, N) of each effect: column l holds effect a of the rows of level l."""
    if component.relation is not None and component.codes is None:
        m = component.relation.m
        Z = np.eye(m) if component.Z is None else component.Z
        return [Z[:, a * m : (a + 1) * m] for a in range(Z.shape[1] // m)]
    if component.codes is not None:
        n, r = component.Z.shape
        out = []
        for a in range(r):
            Z = np.zeros((n, len(component.levels)))
            for i in range(n):
                Z[i, component.codes[i]] = component.Z[i, a]
            out.append(Z)
        return out
    if component.cov.kind == "scalar":
        return [component.Z]
    return [component.Z[:, [a]] for a in range(component.Z.shape[1])]


def derivatives(components, n):
    """V_j = ∂V/∂θ_j (p, n, n), residual last."""
    out = []
    for c in components:
        Z = incidence(c)
        A = relationship(c, Z[0].shape[1])
        for a, b in pairs(c):
            out.append(Z[a] @ A @ Z[a].T if a == b else Z[a] @ A @ Z[b].T + Z[b] @ A @ Z[a].T)
    return np.array([*out, np.eye(n)])


@dataclass(frozen=True)
class Plain:
    """ℓ and all that follows from it at θ, by dense algebra. `beta` None: profiled."""

    loglik: float
    beta: np.ndarray
    beta_cov: np.ndarray
    score: np.ndarray
    score_beta: np.ndarray
    expected: np.ndarray
    average: np.ndarray
    observed: np.ndarray
    P: np.ndarray
    Vinv: np.ndarray
    V: np.ndarray


def plain(model, theta, criterion="reml", beta=None):
    """MATH §1–2 at θ."""
    y = model.y - (0.0 if model.offset is None else model.offset)
    return plain_of(y, model.X, derivatives(model.components, len(y)), theta, criterion, beta)


def plain_of(y, X, Vs, theta, criterion="reml", beta=None):
    """MATH §1–2 from y, X, the V_j and θ."""
    n, d = X.shape
    V = sum(t * Vj for t, Vj in zip(theta, Vs, strict=True))
    sign, logdet = np.linalg.slogdet(V)
    assert sign > 0
    Vinv = np.linalg.inv(V)
    XtVX = X.T @ Vinv @ X
    M = np.linalg.inv(XtVX)
    P = Vinv - Vinv @ X @ M @ X.T @ Vinv
    given = beta is not None
    beta = beta if given else np.linalg.solve(XtVX, X.T @ np.linalg.solve(V, y))
    r = y - X @ beta
    g = np.linalg.solve(V, r)
    quad = r @ g
    reml = criterion == "reml"
    loglik = -0.5 * (n * LOG2PI + logdet + quad)
    if reml:
        loglik = -0.5 * ((n - d) * LOG2PI + logdet + np.linalg.slogdet(XtVX)[1] + quad)
    T = P if reml else Vinv
    A = Vinv if given else P
    TV = [T @ Vj for Vj in Vs]
    p = len(Vs)
    score = np.array([-0.5 * (np.trace(TV[j]) - g @ Vs[j] @ g) for j in range(p)])
    expected = np.array([[0.5 * np.sum(TV[i] * TV[j].T) for j in range(p)] for i in range(p)])
    quadratic = np.array([[g @ Vs[i] @ A @ Vs[j] @ g for j in range(p)] for i in range(p)])
    return Plain(loglik, beta, M, score, X.T @ g, expected, 0.5 * quadratic, quadratic - expected, P, Vinv, V)


def posterior(model, theta, criterion="reml", beta=None):
    """(E[u], Cov u, E[β], Cov(β, u), Cov β) of all effects stacked, by conditioning the joint normal on y.

    ML: β fixed at `beta` or its GLS value. REML: β ~ N(0, κI) in the limit κ → ∞, that is P in the place of V⁻¹.
    """
    y = model.y - (0.0 if model.offset is None else model.offset)
    at = plain(model, theta, criterion, beta)
    Z = stacked(model)
    G = prior_covariance(model, theta)
    A = at.P if criterion == "reml" else at.Vinv
    r = y - model.X @ at.beta
    mean = G @ Z.T @ np.linalg.solve(at.V, r)
    cov = G - G @ Z.T @ A @ Z @ G
    cov_beta_u = -at.beta_cov @ model.X.T @ at.Vinv @ Z @ G
    return mean, cov, at.beta, cov_beta_u, at.beta_cov


def stacked(model):
    """Z = [Z_1 … Z_K]: effect by effect within a component, level by level within an effect."""
    return np.hstack([Z for c in model.components for Z in incidence(c)])


def prior_covariance(model, theta):
    """G(θ) of the effects of `stacked`."""
    blocks, at = [], 0
    for c in model.components:
        index = pairs(c)
        N = incidence(c)[0].shape[1]
        r = len(c.effects)
        Omega = np.zeros((r, r))
        for (a, b), value in zip(index, theta[at : at + len(index)], strict=True):
            Omega[a, b] = Omega[b, a] = value
        at += len(index)
        blocks.append(np.kron(Omega, relationship(c, N)))
    size = sum(len(b) for b in blocks)
    G, i = np.zeros((size, size)), 0
    for b in blocks:
        G[i : i + len(b), i : i + len(b)] = b
        i += len(b)
    return G


def central_difference(f, x, step):
    """∂f/∂x_j by (f(x + h_j) − f(x − h_j))/2h_j, one Richardson step: error O(h⁴)."""
    columns = []
    for j, h in enumerate(step):
        e = np.zeros(len(x))
        e[j] = h
        wide = (np.asarray(f(x + 2 * e)) - np.asarray(f(x - 2 * e))) / (4 * h)
        near = (np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * h)
        columns.append((4 * near - wide) / 3)
    return np.array(columns)


def loglik_of(y, X, Vs, theta, criterion="reml"):
    """ℓ alone, β profiled or integrated: cheap enough to be differenced twice."""
    n, d = X.shape
    L = np.linalg.cholesky(np.tensordot(theta, Vs, axes=1))
    A = np.linalg.solve(L, np.column_stack([X, y]))
    R = np.linalg.qr(A, mode="r")  # R's corner is the norm of what X leaves of y, whitened
    minus2 = 2 * np.log(np.diag(L)).sum() + R[-1, -1] ** 2
    if criterion == "reml":
        return -0.5 * ((n - d) * LOG2PI + minus2 + 2 * np.log(np.abs(np.diag(R)[:-1])).sum())
    return -0.5 * (n * LOG2PI + minus2)


def hessian(f, x, step):
    """∂²f/∂x_i∂x_j by central differences of central differences; symmetric."""
    H = central_difference(lambda t: central_difference(f, t, step), np.asarray(x, float), step)
    return (H + H.T) / 2
