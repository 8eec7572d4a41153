"""Maximising ℓ of two phenotypes over G ⪰ 0 and E ⪰ 0, freely or at a given genetic correlation.

Free: G = LLᵀ, E = MMᵀ, so that ψ = (l_11, l_21, l_22, m_11, m_21, m_22) may be anything; a singular G (ρ_g = ±1, or a
variance of 0) is l_22 = 0 or l_11 = 0, where ∂ℓ/∂ψ is 0 too and the second derivative decides. At a given ρ: G = (a²,
ρab; ρab, b²), ψ = (log a, log b, m_11, m_21, m_22), at ρ = ±1 the face itself. With J = ∂θ/∂ψ the trust-region Newton
method (scipy's `trust-exact`, Moré & Sorensen) takes

    ∂²ℓ/∂ψ∂ψᵀ = −Jᵀ I J + Σ_a (∂ℓ/∂θ_a) ∂²θ_a/∂ψ∂ψᵀ

I observed, or average where X is wide. Phenotypes are scaled to a residual SD of 1 and K to a mean eigenvalue of 1
meanwhile. It has converged where √(gᵀH⁻¹g) ≤ tol, H = Jᵀ I J: the distance to the optimum in standard errors.
"""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize

from vcbench.genetics.pair_kernel import PairEvaluation, PairKernel
from vcbench.genetics.pair_ways import Free, Given, cholesky
from vcbench.status import Status

TOL = 1e-6
ROUGH = 1e-3  # where ℓ alone is wanted: it is then within 5e-7
WIDE = 60  # columns of X from which Newton's matrix is the average information
NOTHING = 1e-7  # of a phenotype's variance: a component below is 0
POLISH = 8  # Newton steps at the end
SMALL = 0.01  # of a phenotype's variance: below it a constrained V(G) may be on its way to 0
ONE = 1e-6  # 1 − |ρ| below which ρ is ±1


def matrices(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G, E) of θ."""
    return np.array([[theta[0], theta[1]], [theta[1], theta[2]]]), np.array(
        [[theta[3], theta[4]], [theta[4], theta[5]]]
    )


@dataclass(frozen=True, slots=True, eq=False)
class PairFit:
    """Where a maximisation ended: θ = (G_11, G_21, G_22, E_11, E_21, E_22) natural, rho_given None if it was free."""

    theta: np.ndarray
    loglik: float
    status: Status
    message: str
    distance: float
    n_iter: int
    n_eval: int
    rho_given: float | None = None
    psi: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def rho_g(self) -> float:
        """G_21/√(G_11G_22); NaN where a variance is 0."""
        return correlation(self.theta[:3])

    @property
    def rho_e(self) -> float:
        """E_21/√(E_11E_22)."""
        return correlation(self.theta[3:])


def correlation(t: np.ndarray) -> float:
    """t_21/√(t_11 t_22); NaN where a variance is not positive."""
    return float(t[1] / np.sqrt(t[0] * t[2])) if t[0] > 0 and t[2] > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Climber:
    """Maximises one kernel's ℓ, free or at given correlations, in scaled coordinates."""

    kernel: PairKernel
    criterion: str
    scale: np.ndarray  # (6,) of θ
    inner: PairKernel = field(repr=False)  # of the scaled phenotypes and eigenvalues

    @classmethod
    def of(cls, kernel: PairKernel, criterion: str = "reml") -> "Climber":
        """Scale the phenotypes to residual SD 1 and the eigenvalues to mean 1."""
        df = [kernel.n_rows - X.shape[1] for X in kernel.X]
        sd = np.sqrt((kernel.y**2).sum(axis=0) / df)
        mean = float(kernel.d.sum()) / kernel.n_rows
        inner = replace(kernel, d=kernel.d / mean, y=kernel.y / sd)
        pairs = np.array([sd[0] ** 2, sd[0] * sd[1], sd[1] ** 2])
        return cls(kernel, criterion, np.concatenate([pairs / mean, pairs]), inner)

    def evaluate(self, theta: np.ndarray, need: tuple[str, ...] = ()) -> PairEvaluation:
        """ℓ and the rest at θ in natural units."""
        return self.kernel.evaluate(*matrices(theta), need, self.criterion)

    def climb(self, start: np.ndarray, rho: float | None = None, tol: float = TOL, max_iter: int = 200) -> PairFit:
        """From θ natural, free or with ρ_g = rho, to `tol` standard errors (ℓ is then ½tol² from its maximum)."""
        found = self._climb(Free() if rho is None else Given(rho), start, tol, max_iter)
        small = found.theta[[0, 2]] < SMALL * self.scale[[0, 2]]
        if rho is not None and small.any():  # log V(G) goes to −∞ where the maximum is at 0: try that itself
            edge = self._climb(Given(rho, (not small[0], not small[1])), found.theta, tol, max_iter)
            if edge.loglik >= found.loglik - 1e-9 * (1.0 + abs(found.loglik)):
                return replace(edge, n_iter=found.n_iter + edge.n_iter, n_eval=found.n_eval + edge.n_eval)
        return found

    def _climb(self, way: Free | Given, start: np.ndarray, tol: float, max_iter: int) -> PairFit:
        wide = self.inner.n_fixed > WIDE
        need = ("score", "average") if wide else ("score", "average", "expected")
        evaluations = count()
        last: list[Any] = [None, None]

        def at(psi: np.ndarray) -> PairEvaluation:
            key = psi.tobytes()
            if last[0] != key:
                next(evaluations)
                last[:] = key, self.inner.evaluate(*matrices(way.theta(psi)), need, self.criterion)
            return last[1]

        def value(psi: np.ndarray) -> float:
            loglik = at(psi).loglik
            return -loglik if np.isfinite(loglik) else 1e300

        def slope(psi: np.ndarray) -> np.ndarray:
            e = at(psi)
            return np.zeros(way.n) if e.score is None else -way.jacobian(psi).T @ e.score

        def curve(psi: np.ndarray) -> np.ndarray:
            e = at(psi)
            if e.score is None:
                return np.eye(way.n)
            J, information = way.jacobian(psi), e.average if wide else e.observed
            return J.T @ information @ J - way.bend(psi, e.score)

        psi = way.psi(start / self.scale)
        found = minimize(
            value, psi, jac=slope, hess=curve, method="trust-exact",
            options={"gtol": max(2.0 * tol, 1e-5) * np.sqrt(self.inner.n_rows), "maxiter": max_iter,
                     "initial_trust_radius": 0.5},
        )  # fmt: skip
        psi = found.x
        distance = self._distance(way, psi, at(psi))
        for _ in range(POLISH):  # ℓ no longer tells steps apart; its slope does
            if not (0.01 * tol if tol <= TOL else tol) < distance < 0.1:
                break
            new = psi - np.linalg.lstsq(curve(psi), slope(psi), rcond=1e-12)[0]
            closer = self._distance(way, new, at(new))
            if not closer < 0.5 * distance:
                break
            psi, distance = new, closer
        theta = way.theta(psi) * self.scale
        D1, D2 = (X.shape[1] for X in self.inner.X)
        n = np.array([self.kernel.n_rows] * 2) - (np.array([D1, D2]) if self.criterion == "reml" else 0)
        loglik = at(psi).loglik - 0.5 * float(n @ np.log(self.scale[[3, 5]]))  # ℓ of y from that of y/sd
        ok = distance <= tol
        status = Status.CONVERGED if ok else Status.MAX_ITER
        message = "" if ok else f"stopped after {found.nit} iterations, {distance:.2g} standard errors from the optimum"
        rho = way.rho if isinstance(way, Given) else None
        return PairFit(theta, loglik, status, message, distance, int(found.nit), next(evaluations), rho, psi)

    def _distance(self, way: Free | Given, psi: np.ndarray, e: PairEvaluation) -> float:
        """√(gᵀH⁺g), over the directions that θ moves in."""
        if e.score is None or e.average is None:
            return float("inf")
        J = way.jacobian(psi)
        g, H = J.T @ e.score, J.T @ e.average @ J
        size = np.sqrt(np.maximum(np.diag(H), 0.0))
        seen = size > 1e-6 * size.max()
        H = H[np.ix_(seen, seen)] / np.outer(size[seen], size[seen])
        g = g[seen] / size[seen]
        return float(np.sqrt(max(g @ np.linalg.lstsq(H, g, rcond=1e-10)[0], 0.0)))

    def best(self, starts: list[np.ndarray], max_iter: int = 200) -> PairFit:
        """The free maximum over several starts, put on the face of G that it lies on."""
        found = [self.climb(start, max_iter=max_iter) for start in starts]
        top = max(found, key=lambda f: f.loglik)
        top = replace(top, n_iter=sum(f.n_iter for f in found), n_eval=sum(f.n_eval for f in found))
        return self._on_face(top)

    def _on_face(self, fit: PairFit) -> PairFit:
        small = fit.theta / self.scale
        said = []
        for j, who in (
            (0, "V(G) of the first"),
            (2, "V(G) of the second"),
            (3, "V(e) of the first"),
            (5, "V(e) of the second"),
        ):
            if small[j] < NOTHING:
                said.append(f"{who} phenotype is 0")
        if not said and 1.0 - abs(fit.rho_g) < ONE:
            face = self.climb(fit.theta, rho=float(np.sign(fit.rho_g)))
            if face.loglik >= fit.loglik - 1e-6:
                fit = replace(face, rho_given=None, n_iter=fit.n_iter + face.n_iter, n_eval=fit.n_eval + face.n_eval)
            said.append(f"the genetic correlation is {'−' if fit.rho_g < 0 else ''}1")
        if not said and 1.0 - abs(fit.rho_e) < ONE:
            said.append(f"the residual correlation is {'−' if fit.rho_e < 0 else ''}1")
        if not said or not fit.status.ok:
            return fit
        theta = fit.theta.copy()
        for j, cross in ((0, 1), (2, 1), (3, 4), (5, 4)):
            if small[j] < NOTHING:
                theta[j] = theta[cross] = 0.0
        return replace(fit, theta=theta, status=Status.AT_BOUNDARY, message=", ".join(said))

    def covariance(self, fit: PairFit, definition: str) -> np.ndarray:
        """Cov(θ̂) (6, 6) by "observed", "average" or "expected" information, on the face where θ̂ lies; NaN if
        singular."""
        e = self.evaluate(fit.theta, ("score", "average", "expected"))
        information = getattr(e, definition)
        none = np.full((6, 6), np.nan)
        if information is None or e.score is None:
            return none
        if fit.status is Status.AT_BOUNDARY:
            if "genetic correlation" not in fit.message:
                return none
            way = Given(float(np.sign(fit.rho_g)))
            psi = np.concatenate([0.5 * np.log(fit.theta[[0, 2]]), cholesky(fit.theta[3:])])
            T = way.jacobian(psi)
            H = T.T @ information @ T - (way.bend(psi, e.score) if definition == "observed" else 0.0)
        else:
            T, H = np.eye(6), information
        size = np.sqrt(np.maximum(np.diag(H), 1e-300))
        H = H / np.outer(size, size)
        if not np.isfinite(H).all() or np.linalg.eigvalsh(H)[0] <= 1e-12:
            return none
        half = np.linalg.solve(np.linalg.cholesky(H), (T / size).T)
        return half.T @ half

    def profile(self, fit: PairFit, chi2: float) -> tuple[float, float]:
        """Limits of ρ_g within [−1, 1]: where 2(ℓ̂ − ℓ(ρ)) = chi2; an end that the data do not exclude is ±1."""
        if not np.isfinite(fit.rho_g):
            return float("nan"), float("nan")
        near: dict[float, np.ndarray] = {fit.rho_g: fit.theta}
        known: dict[float, float] = {}
        root = float(np.sqrt(chi2))

        def gap(rho: float) -> float:
            """√(2(ℓ̂ − ℓ)) − √chi2: nearly linear in ρ."""
            if rho not in known:
                start = near[min(near, key=lambda r: abs(r - rho))]
                found = self.climb(start, rho, ROUGH)
                near[rho] = found.theta
                known[rho] = float(np.sqrt(max(2.0 * (fit.loglik - found.loglik), 0.0))) - root
            return known[rho]

        known[fit.rho_g] = -root
        step = 1.2 * root * self._width(fit)
        out = []
        for side in (-1.0, 1.0):
            inner, outer = fit.rho_g, min(max(fit.rho_g + side * step, -1.0), 1.0)
            while abs(outer - inner) > ONE and gap(outer) < 0 and abs(outer) < 1.0:
                inner, outer = outer, min(max(outer + 2.0 * (outer - fit.rho_g), -1.0), 1.0)
            if abs(outer - inner) <= ONE or (abs(outer) == 1.0 and gap(outer) <= 0):
                out.append(side)
            else:
                out.append(float(brentq(gap, *sorted((inner, outer)), xtol=1e-6)))
        return out[0], out[1]

    def _width(self, fit: PairFit) -> float:
        """About the standard error of ρ_g, to begin looking for its limits."""
        t, cov = fit.theta, self.covariance(fit, "average")
        g = np.zeros(6)
        g[:3] = -fit.rho_g / (2 * t[0]), 1.0 / np.sqrt(t[0] * t[2]), -fit.rho_g / (2 * t[2])
        variance = float(g @ cov @ g)
        return float(np.sqrt(variance)) if variance > 1e-8 else 0.2
