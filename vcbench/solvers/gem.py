"""EM for structures: the M-step of Ω_k and R within their families, by inner maximisation (GEM where it is not closed).

With G = Σ_i (g gᵀ − T_ii), g = V⁻¹(y − Xγ), T = V⁻¹ (ML) or P (REML), the expected complete data are

    E[b bᵀ] = Ω + (2/q) Ω (∂ℓ/∂Ω) Ω        E[e eᵀ] = N R + R G R        E[w_k w_lᵀ] = N H_k δ_kl + H_k G H_l

(w_k = Z_k u_k, H_k its covariance; N units of a class). Each family then maximises −½ Σ N [log|vC| + tr(S (vC)⁻¹)], S
the mean second moment: a few safeguarded scoring steps in φ, v in closed form. px-em scales w by one δ = Σf/ΣE,
px-em-component by δ = E⁻¹f, in the metric R⁻¹, and Ω by δ².
"""

from typing import Any

import numpy as np

from vcbench.kernels.sparse_moments import UnitMoments
from vcbench.kernels.units import Units
from vcbench.model.jets import concatenate, constant, variables
from vcbench.model.structures import Family
from vcbench.solvers import codes
from vcbench.solvers.geometry import full_ranks, positions, pseudo_solve
from vcbench.solvers.steps import em_step

STEPS = 4  # scoring steps of an inner maximisation: it is warm, and any ascent makes a GEM
DONE = 1e-17  # gᵀI⁻¹g per observation below which the inner maximisation has nothing left to do
ROUNDING = 1e-14  # share of the objective that a step may lose: near the maximum a scoring step gains less than this

Stack = tuple[float, np.ndarray, np.ndarray]  # (count, mean second moment (m, m), index of C's entries (m, m))


def m_step(
    view: Any, code: int, reml: bool, w: np.ndarray, gamma: np.ndarray, profile: bool, rank: np.ndarray, known: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(w′, γ′): one GEM step at w; `profile`: β at its GLS value (or integrated), else γ is part of the state. `known`:
    the moments at w.
    """
    if isinstance(view.inner, Units):
        Omegas, noise, step = _units_moments(view, code, w, gamma, profile, known)
    elif isinstance(known, UnitMoments):
        Omegas, noise, step = _sparse_moments(view, code, w, gamma, profile, known)
    else:
        Omegas, noise, step = _linear_moments(view, code, reml, w, gamma, profile, rank)
    new = w.copy()
    for k, part in enumerate(view.maps.parts):
        if not part.names:
            continue
        like = [j for j, p in enumerate(view.maps.parts) if len(p.linear) and p.linear[0] == part.linear[0]]
        q = np.array([float(view.model.components[j].n_levels) for j in like])
        S = sum(a * Omegas[j] for a, j in zip(q, like, strict=True)) / q.sum()
        cone = rank[_cone_of(view, k)]
        if part.family is None:
            new[part.linear] = [S[a, b] for a, b in part.index]
        elif cone == 0 or w[part.linear[0]] <= 0:
            new[part.linear[0]] = 0.0
        else:
            index = part.family.index(np.arange(len(S)))
            v, phi = fit_family(part.family, [(float(q.sum()), S, index)], float(w[part.linear[0]]), w[part.smooth])
            new[part.linear[0]], new[part.smooth] = v, phi
    noise(new)
    return new, gamma + step


def _cone_of(view: Any, k: int) -> int:
    """The first cone of component k in the layout of w."""
    lay = view.layout
    effect = lay.pa[view.maps.parts[k].linear[0]]
    at = int(np.flatnonzero(lay.cone_effects == effect)[0])
    return int(np.searchsorted(lay.cone_ptr[1:], at, side="right"))


def _linear_moments(view, code, reml, w, gamma, profile, rank):
    """The relaxed model's own M-step: E[b bᵀ] of each component, σ² and Δγ."""
    kernel, tau = view.inner, view.maps.tau(w)
    lay = kernel.layout
    at = kernel.evaluate(tau, ("score", "moments"), "reml" if reml else "ml", gamma=None if profile else gamma)
    where = positions(lay.pa, lay.pb, len(lay.q))
    ranks = full_ranks(lay.cone_ptr)
    c = 0
    for k, part in enumerate(view.maps.parts):
        blocks = kernel.model.components[k].partition
        for j in range(len(blocks)):
            if part.value is None and part.family is None:
                ranks[c] = rank[_cone_of(view, k) + j]
            elif part.value is not None or not tau[part.pairs].any():
                ranks[c] = 0  # a fixed Ω is not expanded
            c += 1
    m = at.moments
    zero = np.zeros(len(gamma))
    plain = codes.EM if code == codes.BY_SCORE else code
    theta, new = em_step(
        plain, reml, tau, lay.scale, gamma, ranks, lay.cone_ptr, lay.cone_effects, where, lay.q, lay.n_obs, lay.fa,
        lay.fb, _leads(view)[lay.feature_component], m.F, m.Wty, m.XtW, m.S, m.yty, at.score,
        zero if at.score_gamma is None else at.score_gamma,
    )  # fmt: skip
    sigma2 = theta[-1]
    if profile and not reml:  # ECME: β stays at its GLS value, σ² by the score
        sigma2 = tau[-1] + 2.0 * tau[-1] ** 2 / lay.n_obs * at.score[-1]
        new = gamma
    Omegas = []
    for part, c in zip(view.maps.parts, view.model.components, strict=True):
        Omega = np.zeros((c.n_effects, c.n_effects))
        for value, (a, b) in zip(theta[part.pairs], part.index, strict=True):
            Omega[a, b] = Omega[b, a] = value
        Omegas.append(Omega)

    def noise(w_new: np.ndarray) -> None:
        w_new[-1] = sigma2

    return Omegas, noise, new - gamma


def _units_moments(view, code, w, gamma, profile, at):
    """E[b bᵀ] of each component and the residual's M-step from the classes' G."""
    u: Units = view.inner
    work = view.maps
    tau = work.tau(w)
    n_lin = len(tau) - u.noise.family.n_phi - 1
    sigma2, phi = float(tau[-1]), tau[n_lin:-1]
    table = np.append(u.noise.family.table(variables(phi), len(phi)).v, 0.0)
    Rs = u.matrices(sigma2 * table[u.index])
    Gs = u.matrices(at.G)
    counts = np.diff(u.class_ptr)
    Hs = _component_matrices(u, tau[:n_lin], view.model)
    delta = _deltas(_expansion(view, code), Rs, Gs, Hs, counts)
    Omegas = _effects_moments(view, tau, at.score, delta)
    left = [R + sum((1.0 - d) * H[c] for d, H in zip(delta, Hs, strict=True)) for c, R in enumerate(Rs)]
    prior = [R + sum((1.0 - d) ** 2 * H[c] for d, H in zip(delta, Hs, strict=True)) for c, R in enumerate(Rs)]
    moments = [N * P + B @ G @ B.T for N, P, B, G in zip(counts, prior, left, Gs, strict=True)]
    step = np.zeros(len(gamma))
    if not profile:
        step = _beta_step(u, Rs, left, at.g, moments)
    index = u.matrices(u.index)
    stacks = [(float(N), S / N, at_c) for N, S, at_c in zip(counts, moments, index, strict=True)]
    v, new_phi = fit_family(u.noise.family, stacks, sigma2, phi)

    def noise(w_new: np.ndarray) -> None:
        w_new[-1], w_new[work.residual_phi] = v, new_phi
        if u.noise.has_nugget:
            t2 = tau[n_lin - 1]
            w_new[work.n_linear - 1] = delta[-1] ** 2 * (t2 + 2.0 * t2**2 / len(u.y) * at.score[n_lin - 1])

    return Omegas, noise, step


def _effects_moments(view: Any, tau: np.ndarray, score: np.ndarray, delta: np.ndarray) -> list[np.ndarray]:
    """E[bbᵀ] = Ω + (2/q) Ω (∂ℓ/∂Ω) Ω of each component, times δ²; score in τ."""
    out = []
    for k, (part, c) in enumerate(zip(view.maps.parts, view.model.components, strict=True)):
        r = c.n_effects
        Omega, S = np.zeros((r, r)), np.zeros((r, r))
        for value, s, (a, b) in zip(tau[part.pairs], score[part.pairs], part.index, strict=True):
            Omega[a, b] = Omega[b, a] = value
            S[a, b] = S[b, a] = s if a == b else 0.5 * s
        out.append(delta[k] ** 2 * (Omega + (2.0 / c.n_levels) * Omega @ S @ Omega))
    return out


def _sparse_moments(view, code, w, gamma, profile, m):
    """E[b bᵀ] of each component and the residual's M-step of kernel `sparse` with blocks of residuals.

    Of R = σ²C + τ²I two parts are latent, e = e_1 + e_2:  E[e_1e_1ᵀ] = R_1 − R_1R⁻¹R_1 + R_1R⁻¹ S R⁻¹R_1, R_1 = σ²C.
    """
    work, K = view.maps, len(m.w)
    tau, classes, W = work.tau(w), m.R.classes, m.R.blocks
    B = _expansion(view, code)[:K]
    delta = np.ones(K)
    if B.shape[1]:
        E, f = m.cross()
        delta = 1.0 + B @ pseudo_solve(B.T @ E @ B, B.T @ (f - E.sum(axis=1)))
    step = np.zeros(len(gamma)) if profile else m.beta_step(delta)
    S, count = m.second(delta, step), classes.count
    R1, family = m.R.sigma2 * m.R.C.v, classes.noise.family
    WR = classes.times(W, R1)
    RW = WR[classes.mirror]
    own = count * (R1 - classes.times(R1, WR)) + classes.times(classes.times(RW, S), WR)
    stacks = [
        (float(classes.count[at[0]]), (own[at] / classes.count[at]).reshape(size, size), places.reshape(size, size))
        for size, blocks in classes.stacks
        for at, places in zip(blocks, classes.table[blocks], strict=True)
    ]
    v, new_phi = fit_family(family, stacks, m.R.sigma2, w[work.residual_phi])

    def noise(w_new: np.ndarray) -> None:
        w_new[-1], w_new[work.residual_phi] = v, new_phi
        if classes.noise.has_nugget:
            t2 = tau[work.n_pairs - 1]
            second = t2**2 * (classes.times(classes.times(W, S), W) - count * W)
            w_new[work.n_linear - 1] = t2 + float(second @ classes.diagonal) / classes.n

    return _effects_moments(view, tau, m.score, delta), noise, step


def _component_matrices(u: Units, lin: np.ndarray, model: Any) -> list[list[np.ndarray]]:
    """H_k (m, m) of each class, for every component and the nugget."""
    out, at = [], 0
    for c in model.components:
        k = len(c.index)
        out.append(u.matrices(lin[at : at + k] @ u.parts[at : at + k]))
        at += k
    if u.noise.has_nugget:
        out.append(u.matrices(lin[at] * u.parts[at]))
    return out


def _leads(view: Any) -> np.ndarray:
    """For each component the first one that shares its parameters: they are expanded together."""
    parts = view.maps.parts
    first = [next(i for i, p in enumerate(parts) if np.array_equal(p.linear, q.linear)) for q in parts]
    return np.array([j if parts[j].value is not None else i for j, i in enumerate(first)], np.int64)


def _expansion(view: Any, code: int) -> np.ndarray:
    """B (K, ·), δ = 1 + Bt: what px-em and px-em-component let vary; a fixed Ω stays."""
    parts = view.maps.parts
    free = np.array([p.value is None for p in parts] + [True] * int(view.maps.noise.has_nugget))
    if code == codes.PX:
        return free[:, None].astype(float)
    if code != codes.PX_COMPONENT:
        return np.zeros((len(free), 0))
    leads = np.append(_leads(view), len(parts))[: len(free)]
    return np.array([[float(lead == k) for k in np.unique(leads[free])] for lead in leads]) * free[:, None]


def _deltas(B: np.ndarray, Rs: list, Gs: list, Hs: list, counts: np.ndarray) -> np.ndarray:
    """δ = 1 + Bt of the expansion y = Xβ + Σ δ_k w_k + e: BᵀEB t = Bᵀ(f − E1) in the metric R⁻¹; 1 for plain EM."""
    K = len(Hs)
    if B.shape[1] == 0:
        return np.ones(K)
    E, f = np.zeros((K, K)), np.zeros(K)
    for c, (R, G, N) in enumerate(zip(Rs, Gs, counts, strict=True)):
        own = [H[c] for H in Hs]
        V = R + sum(own)
        solved = [np.linalg.solve(R, H) for H in own]
        for k in range(K):
            f[k] += N * np.trace(solved[k]) + np.sum(solved[k] * (G @ V).T)
            for j in range(K):
                E[k, j] += np.sum(solved[k] * (G @ own[j]).T) + (N * np.trace(solved[k]) if j == k else 0.0)
    E = 0.5 * (E + E.T)
    return 1.0 + B @ pseudo_solve(B.T @ E @ B, B.T @ (f - E.sum(axis=1)))


def _beta_step(u: Units, Rs: list, left: list, g: np.ndarray, moments: list) -> np.ndarray:
    """Δγ = (XᵀR⁻¹X)⁻¹XᵀR⁻¹ê, ê = B g; the residual moments are moved to the new β in place."""
    d = u.X.shape[1]
    A, b = np.zeros((d, d)), np.zeros(d)
    fitted = []
    for c, (R, B) in enumerate(zip(Rs, left, strict=True)):
        lo, hi = u.row_ptr[u.class_ptr[c]], u.row_ptr[u.class_ptr[c + 1]]
        m = len(R)
        X, e = u.X[lo:hi].reshape(-1, m, d), (g[lo:hi].reshape(-1, m) @ B.T)
        RX = np.linalg.solve(R, X)
        A += np.einsum("ima,imb->ab", X, RX)
        b += np.einsum("ima,im->a", RX, e)
        fitted.append((X, e))
    step = pseudo_solve(A, b)
    for c, (X, e) in enumerate(fitted):
        move = X @ step
        cross = move.T @ e
        moments[c] = moments[c] - cross - cross.T + move.T @ move
    return step


def fit_family(
    family: Family, stacks: list[Stack], v: float, phi: np.ndarray, steps: int = STEPS
) -> tuple[float, np.ndarray]:
    """(v, φ) that raises −½ Σ N [m log v + log|C(φ)| + tr(S C⁻¹)/v]: scoring in φ at the best v, halved as needed."""
    rows = sum(N * len(S) for N, S, _ in stacks)
    if len(phi) == 0:
        value, best = _profile(family, stacks, phi, rows)
        return best, phi
    value, v_now = _profile(family, stacks, phi, rows)
    if not np.isfinite(value):
        return v, phi
    for _ in range(steps):
        score, info = _scoring(family, stacks, phi, v_now)
        step = pseudo_solve(info[:-1, :-1] - np.outer(info[:-1, -1], info[-1, :-1]) / info[-1, -1], score)
        gain = float(score @ step)
        if not gain > DONE * rows:
            break
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        for _ in range(30):
            trial, v_trial = _profile(family, stacks, phi + step, rows)
            if trial >= value - ROUNDING * (1.0 + abs(value)):
                phi, value, v_now = phi + step, trial, v_trial
                break
            step = 0.5 * step
        else:
            break
    return v_now, phi


def _profile(family: Family, stacks: list[Stack], phi: np.ndarray, rows: float) -> tuple[float, float]:
    """(objective at the best v, that v = Σ N tr(S C⁻¹)/Σ N m); −inf where C is not positive definite."""
    if not (np.abs(phi) <= family.limits()).all():
        return -np.inf, 0.0
    table = np.append(family.table(variables(phi), len(phi)).v, 0.0)
    logdet = trace = 0.0
    for N, S, index in stacks:
        try:
            L = np.linalg.cholesky(table[index])
        except np.linalg.LinAlgError:
            return -np.inf, 0.0
        half = np.linalg.solve(L, S)
        trace += N * np.trace(np.linalg.solve(L, half.T))
        logdet += 2.0 * N * np.log(np.diag(L)).sum()
    if not trace > 0.0 or not np.isfinite(logdet):
        return -np.inf, 0.0
    return -0.5 * (rows * np.log(trace / rows) + logdet + rows), trace / rows


def _scoring(family: Family, stacks: list[Stack], phi: np.ndarray, v: float) -> tuple[np.ndarray, np.ndarray]:
    """Score in φ at the best v, and the information of (φ, log v)."""
    k = len(phi)
    jet = concatenate([family.table(variables(phi), k), constant([0.0], k)])
    score, info = np.zeros(k), np.zeros((k + 1, k + 1))
    for N, S, index in stacks:
        C = jet.v[index]
        T = np.linalg.inv(C)
        D = jet.d[:, index]
        TD = np.concatenate([T @ D, np.eye(len(C))[None]])
        middle = T @ S @ T / v - T
        score += 0.5 * N * np.einsum("jab,ba->j", D, middle)
        info += 0.5 * N * np.einsum("jab,kba->jk", TD, TD)
    return score, info
