"""REML by average information without a relationship matrix: traces by probes, P b by conjugate gradients.

    ∂ℓ/∂σ_k² = −½ [tr(P K_k) − yᵀP K_k P y],   AI_kl = ½ yᵀP V_k P V_l P y,   θ ← θ + AI⁻¹ score      (MATH §2)

P y, P z and P(K_k P y) come from `conjugate`, so that AI is exact up to its tolerance; tr(P K_k) is the mean over B
probes z, random signs that stay the same from step to step (the answer is the root of one smooth function of θ), of

    zᵀP K_k z − C_k(z) + E C_k(z),    C_k(z) = τ⁻¹ zᵀ[c_k M + D_k − c_k τ⁻¹ Σ_l σ_l² D_l] z

C_k being zᵀPK_kz to first order about K_k = c_kI, whose mean τ⁻¹c_k tr M is known (D_k, c_k: `randomised_traces`; τ =
Σ σ_l²c_l + σ_e²). tr(P) follows from Σ_k σ_k² tr(PK_k) + σ_e² tr P = n − d, which holds exactly.

The Monte Carlo error of θ̂ is AI⁻¹ Cov(score) AI⁻¹ with the covariance of the score over probes, and is reported apart
from the sampling error AI⁻¹. There is no log-likelihood and so no test: log|V| is not computed. In the manner of
BOLT-REML (Loh et al. 2015, Nature Genetics 47:1385), which matches simulated phenotypes in the place of tr(PK_k).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.genetics.conjugate import Columns, solve_columns
from vcbench.genetics.products import Products
from vcbench.genetics.randomised import draw_probes
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.randomised_traces import solve
from vcbench.status import Status

EDGE = 1e-3  # of yᵀMy/(n − d): the least σ_e², below which conjugate gradients need ever more iterations
HALVINGS = 6


@dataclass(frozen=True, slots=True, eq=False)
class StochasticFit:
    """One phenotype: θ̂ (K + 1,), residual last; its sampling covariance AI⁻¹ and Monte Carlo covariance, NaN for what
    lies on a boundary; β̂ (d,) with Cov; distance to the root in standard errors; moments: randomised moment estimates,
    where it began, and D = tr(D_kD_l) (K, K); trace (steps, K + 2): θ, distance."""

    theta: np.ndarray
    covariance: np.ndarray
    monte_carlo: np.ndarray
    beta: np.ndarray
    beta_covariance: np.ndarray
    status: Status
    message: str
    n_iter: int
    distance: float
    moments: np.ndarray
    D: np.ndarray
    trace: np.ndarray = field(repr=False)


@dataclass(slots=True, eq=False)
class _State:
    """What is known of one phenotype while it is fitted."""

    y: np.ndarray  # My
    side: Side
    Kz: np.ndarray  # M K_k M Z (K, n, B)
    KX: np.ndarray  # K_k Q (K, n, d)
    trace: np.ndarray  # tr(M K_k) (K,)
    Mz: np.ndarray
    theta: np.ndarray
    moments: np.ndarray
    D: np.ndarray  # tr(D_kD_l) (K, K)
    total: float  # yᵀMy/(n − d)
    Px: np.ndarray = field(init=False)  # P[y, z] (n, 1 + B)
    PV: np.ndarray = field(init=False)  # P[K_k P y, M V Q] (n, K + d)
    Ky: np.ndarray = field(init=False)  # K_k P y (K, n)
    score: np.ndarray = field(init=False)
    AI: np.ndarray = field(init=False)
    by_probe: np.ndarray = field(init=False)  # score of each probe (B, K + 1)
    distance: float = np.inf
    residual: float = 0.0
    last: tuple[np.ndarray, float, np.ndarray] | None = None  # θ, distance and step that led here
    halved: int = 0
    status: Status | None = None
    message: str = ""
    path: list[np.ndarray] = field(default_factory=list)

    @property
    def free(self) -> np.ndarray:
        """Parameters that are not held on a boundary by the score."""
        held = (self.theta <= 0) & (self.score <= 0)
        held[-1] = self.theta[-1] <= EDGE * self.total and self.score[-1] <= 0
        return ~held

    def look(self) -> None:
        """Score, AI and distance from the solutions."""
        K = len(self.trace)
        df, Py, Pz = self.side.df, self.Px[:, 0], self.Px[:, 1:]
        theta, c = self.theta, self.trace / self.side.df
        tau = float(theta[:-1] @ c + theta[-1])
        V = np.vstack([self.side.project(self.Ky.T).T, Py])  # V_i P y
        zz = np.einsum("nb,nb->b", self.Mz, self.Mz)
        zD = np.einsum("knb,nb->kb", self.Kz, self.Mz) - c[:, None] * zz
        control = (c[:, None] * zz + zD - np.outer(c, theta[:-1] @ zD) / tau) / tau
        t = np.einsum("knb,nb->kb", self.Kz, Pz) - control + (c * df / tau)[:, None]
        t = np.vstack([t, (df - theta[:-1] @ t) / theta[-1]])  # (K + 1, B)
        self.by_probe = 0.5 * (V @ Py - t.T)
        self.score = self.by_probe.mean(axis=0)
        PV = self.PV[:, :K]
        last = (Py - PV @ theta[:-1]) / theta[-1]  # P P y, from V P y = y up to X
        AI = 0.5 * V @ np.column_stack([PV, last])
        self.AI = 0.5 * (AI + AI.T)
        free = self.free
        g = self.score[free]
        self.distance = float(np.sqrt(max(g @ np.linalg.solve(self.AI[np.ix_(free, free)], g), 0.0))) if len(g) else 0.0
        self.path.append(np.append(theta, self.distance))

    def move(self) -> None:
        """θ to the next point: a step of AI on the free parameters, halved where the last one led away."""
        if self.last is not None and not self.distance < max(1.5 * self.last[1], 1.0) and self.halved < HALVINGS:
            before, distance, step = self.last
            self.halved += 1
            self.last = before, distance, 0.5 * step
            self.theta = self._inside(before + 0.5 * step)
            return
        free = self.free
        step = np.zeros(len(self.theta))
        step[free] = np.linalg.solve(self.AI[np.ix_(free, free)], self.score[free])
        self.last, self.halved = (self.theta, self.distance, step), 0
        self.theta = self._inside(self.theta + step)

    def _inside(self, theta: np.ndarray) -> np.ndarray:
        """Variances not below 0, σ_e² not below its edge nor a tenth of what it was."""
        out = np.maximum(theta, 0.0)
        out[-1] = max(theta[-1], 0.1 * self.theta[-1] if self.theta[-1] > 10 * EDGE * self.total else 0.0,
                      EDGE * self.total)  # fmt: skip
        return out


def stochastic_reml(
    products: Products,
    Y: np.ndarray,
    X: np.ndarray,
    observed: np.ndarray | None = None,
    *,
    vectors: int = 15,
    seed: Any = 0,
    tol: float = 1e-4,
    cg_tol: float = 1e-6,
    max_iter: int = 50,
    cg_max_iter: int = 500,
) -> list[StochasticFit]:
    """REML estimates for each column of Y (n, P), all in the same passes; X (n, d) of full rank.

    observed (n, P): False where a phenotype is missing. vectors: B. tol: distance to the root of the score in standard
    errors at which a fit has converged. cg_tol: relative residual of the conjugate gradients. Starts at the randomised
    moment estimates, put inside.
    """
    n, P = Y.shape
    seen = np.ones((n, P), bool) if observed is None else observed
    Z = draw_probes(n, vectors, seed)
    states = _start(products, Y, X, seen, Z)
    for _ in range(max_iter + 1):
        active = [s for s in states if s.status is None]
        if not active:
            break
        _evaluate(products, active, cg_tol, cg_max_iter)
        for s in active:
            _end(s, tol, cg_tol)
            if s.status is None and len(s.path) <= max_iter:
                s.move()
    return [_finish(s, X, seen[:, j], Y[:, j], tol, vectors) for j, s in enumerate(states)]


def _start(products: Products, Y: np.ndarray, X: np.ndarray, seen: np.ndarray, Z: np.ndarray) -> list[_State]:
    """Products with probes, phenotypes and covariates; moment estimates, put inside."""
    sides: dict[bytes, Side] = {}
    of = [sides.setdefault(column.tobytes(), Side.of(X, column)) for column in seen.T]
    unique = list(sides.values())
    trace = products.traces([s.Q for s in unique], [np.ones(len(X), bool) if s.observed is None else s.observed
                                                    for s in unique])  # fmt: skip
    B, states, parts = Z.shape[1], [], []
    for side in unique:
        parts += [side.project(Z), side.Q]
    parts += [side.project(np.nan_to_num(y)[:, None]) for side, y in zip(of, Y.T, strict=True)]
    everything = products.each(np.hstack(parts))
    at, ready = 0, {}
    for g, side in enumerate(unique):
        d = side.Q.shape[1]
        Kz = np.stack([side.project(part) for part in everything[:, :, at : at + B]])
        ready[id(side)] = (Kz, everything[:, :, at + B : at + B + d], trace[:, g], side.project(Z))
        at += B + d
    for j, side in enumerate(of):
        Kz, KX, a, Mz = ready[id(side)]
        y = side.project(np.nan_to_num(Y[:, [j]]))
        c, total = a / side.df, float(y[:, 0] @ y[:, 0]) / side.df
        Dz = Kz - c[:, None, None] * Mz
        D = np.einsum("knb,lnb->kl", Dz, Dz) / B
        q = (everything[:, :, at + j] @ y[:, 0])[:, None, None]
        theta = solve(a, D, side.df, q, y.T @ y, products.names)[:, 0, 0]
        states.append(_State(y[:, 0], side, Kz, KX, a, Mz, _inner(theta, c, total), theta, D, total))
    return states


def _inner(theta: np.ndarray, c: np.ndarray, total: float) -> np.ndarray:
    """Moment estimates as a start: each share between 1/(20 K) and what leaves a tenth to the residual."""
    K = len(c)
    share = np.clip(theta[:-1] * c / total, 0.05 / K, 0.9)
    share *= min(1.0, 0.9 / share.sum())
    return np.append(share * total / c, (1.0 - share.sum()) * total)


def _evaluate(products: Products, states: list[_State], tol: float, max_iter: int) -> None:
    """Score and AI of every phenotype at its θ."""
    first = [np.column_stack([s.y, s.Mz]) for s in states]
    solved = _solve(products, states, first, [getattr(s, "Px", None) for s in states], tol, max_iter)
    for s, (x, residual) in zip(states, solved, strict=True):
        s.Px, s.residual = x, residual
    images = products.each(np.column_stack([s.Px[:, 0] for s in states]))
    second = []
    for j, s in enumerate(states):
        s.Ky = images[:, :, j]
        VQ = np.tensordot(s.theta[:-1], s.KX, axes=1)
        second.append(s.side.project(np.column_stack([s.Ky.T, VQ])))
    solved = _solve(products, states, second, [getattr(s, "PV", None) for s in states], tol, max_iter)
    for s, (x, residual) in zip(states, solved, strict=True):
        s.PV, s.residual = x, max(s.residual, residual)
        s.look()


def _solve(
    products: Products, states: list[_State], b: list[np.ndarray], start: list[Any], tol: float, max_iter: int
) -> list[tuple[np.ndarray, float]]:
    """(P b, the largest relative residual) of each phenotype's columns, all in the same products."""
    edges = np.cumsum([0, *(part.shape[1] for part in b)])
    groups = [Columns(s.theta, s.side, np.arange(edges[j], edges[j + 1])) for j, s in enumerate(states)]
    x0 = np.hstack([np.zeros_like(part) if x is None else x for part, x in zip(b, start, strict=True)])
    solved = solve_columns(products, np.hstack(b), groups, x0, tol, max_iter)
    return [(solved.x[:, g.at], float(solved.residual[g.at].max(initial=0.0))) for g in groups]


def _end(s: _State, tol: float, cg_tol: float) -> None:
    """The status, where there is one."""
    if not np.isfinite(s.distance):
        s.status, s.message = Status.FAILED, "the score is not finite"
    elif s.distance <= tol:
        held = ~s.free
        s.status = Status.AT_BOUNDARY if held.any() else Status.CONVERGED
        if held[-1]:
            s.message = f"σ_e² is at the least value that is looked at, {EDGE:g} of the total variance"
    if s.status is not None and s.residual > 100 * cg_tol:
        s.status = Status.FAILED
        s.message = f"conjugate gradients left a relative residual of {s.residual:.1g} (asked for {cg_tol:g})"


def _finish(s: _State, X: np.ndarray, seen: np.ndarray, y: np.ndarray, tol: float, B: int) -> StochasticFit:
    """Covariances on the face of the parameter space where the estimate lies, and β̂ with its covariance."""
    p, free = len(s.theta), s.free
    covariance, monte_carlo = np.full((p, p), np.nan), np.full((p, p), np.nan)
    on = np.ix_(free, free)
    if free.any():
        inverse = np.linalg.inv(s.AI[on])
        apart = s.by_probe[:, free] - s.by_probe[:, free].mean(axis=0)
        covariance[on] = inverse
        monte_carlo[on] = inverse @ (apart.T @ apart / (B - 1) / B) @ inverse
    Py, K = s.Px[:, 0], p - 1
    fitted = np.nan_to_num(y) - (s.theta[:-1] @ s.Ky + s.theta[-1] * Py)  # y − VPy = Xβ̂
    inverse_X = np.linalg.pinv(X[seen])
    VQ = np.tensordot(s.theta[:-1], s.KX, axes=1) + s.theta[-1] * s.side.Q
    spread = s.side.Q.T @ VQ - s.side.project(VQ).T @ s.PV[:, K:]  # QᵀV(V⁻¹ − P)VQ
    rotate = inverse_X @ s.side.Q[seen]
    status, message = s.status, s.message
    if status is None:
        status = Status.MAX_ITER
        message = f"stopped after {len(s.path) - 1} steps, {s.distance:.2g} standard errors from the root (tol {tol:g})"
    return StochasticFit(
        s.theta, covariance, monte_carlo, inverse_X @ fitted[seen], rotate @ spread @ rotate.T, status, message,
        len(s.path) - 1, s.distance, s.moments, s.D, np.array(s.path),
    )  # fmt: skip
