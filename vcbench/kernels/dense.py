"""The oracle: V(θ) as an n × n matrix, every formula of MATH §1–3 as printed. O(n³) an evaluation, any model."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf, dpotri

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.posterior import Reduced, moments_of
from vcbench.kernels.protocol import Basis, Evaluation, Moments
from vcbench.model.component import Component
from vcbench.model.model import Model

MEMORY = 12  # GB that the matrices ∂V/∂θ_j and their like may take


@dataclass(frozen=True, slots=True, eq=False)
class DenseKernel:
    """V by its Cholesky factor; V_j = ∂V/∂θ_j stored (p, n, n)."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    factors: list[np.ndarray] = field(repr=False)  # Z^(a) of all effects, columns of one matrix Z
    Z: np.ndarray = field(repr=False)
    at: list[slice] = field(repr=False)
    component: np.ndarray = field(repr=False)  # component of each effect
    V: np.ndarray = field(repr=False)  # ∂V/∂θ_j, residual last
    y: np.ndarray = field(repr=False)  # response less offset and OLS fit
    beta0: np.ndarray = field(repr=False)
    sd: float = 1.0

    @classmethod
    def build(cls, model: Model, name: str = "dense") -> "DenseKernel":
        """Form the derivative matrices."""
        assert model.X is not None
        gigabytes = (model.n_theta + 4) * model.n_obs**2 * 8 / 1e9
        if gigabytes > MEMORY:
            raise ModelError(
                f"kernel `dense` would need {gigabytes:.0f} GB for n = {model.n_obs} observations and "
                f"{model.n_theta} variance parameters (its limit is {MEMORY} GB). No n × n matrix is formed by "
                "`crossed` (grouping factors), `low_rank` (fewer columns than observations) and `sparse` (pedigrees "
                "and other sparse precisions): say the components so that one fits, or keep fewer observations."
            )
        factors, component = [], []
        for k, c in enumerate(model.components):
            factors += c.factors()
            component += [k] * c.n_effects
        n = model.n_obs
        Z = np.hstack(factors) if factors else np.zeros((n, 0))
        at = [slice(i, j) for i, j in pairwise(np.cumsum([0] + [F.shape[1] for F in factors]))]
        factors = [Z[:, own] for own in at]
        basis = Basis.of(model.X)
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(basis, y)
        size, first = [], 0
        for c in model.components:
            size.append(np.array([np.vdot(F, F) / n for F in factors[first : first + c.n_effects]]))
            first += c.n_effects
        layout = Layout.of(model, size, sd)
        V = np.empty((model.n_theta, n, n))
        j = 0
        for k, c in enumerate(model.components):
            own = [F for F, of in zip(factors, component, strict=True) if of == k]
            for a, b in c.index:
                V[j] = _derivative(c, own, a, b)
                j += 1
        V[-1] = np.eye(n)
        of_effect = np.array(component, int)
        kernel = cls(name, model, layout, basis, factors, Z, at, of_effect, V, y, np.zeros(model.n_fixed), sd)
        return kernel._with(y)

    def _with(self, y: np.ndarray) -> "DenseKernel":
        return replace(self, y=self.basis.residual(y), beta0=self.basis.ols(y))

    def bind(self, y: np.ndarray) -> "DenseKernel":
        """The same design with another response."""
        model = self.model.replace(y=y)
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(self.basis, y)
        return replace(self._with(y), model=model, sd=sd, layout=self.layout.with_scale(sd / self.sd))

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """See `protocol.Kernel`."""
        theta = np.asarray(theta, float)
        Q, y, n = self.basis.Q, self.y, len(self.y)
        d = Q.shape[1]
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        given = gamma is not None
        if given:  # there is nothing left to integrate: ℓ_ML(β, θ)
            criterion = "ml"
        reml = criterion == "reml"
        failed = Evaluation(theta, criterion, -np.inf, np.zeros(d), self.beta0)
        L, info = dpotrf(np.tensordot(theta, self.V, axes=1).T, lower=1, clean=0, overwrite_a=1)
        if info:
            return failed
        factor = (L, True)
        VinvQ = cho_solve(factor, Q)
        A = Q.T @ VinvQ
        try:
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        if gamma is None:
            gamma = cho_solve(A_factor, VinvQ.T @ y)
        r = y - Q @ gamma
        g = cho_solve(factor, r)
        logdet = 2.0 * np.log(np.diag(L)).sum()
        loglik = -0.5 * (n * np.log(2 * np.pi) + logdet + r @ g)
        if reml:
            logdet_A = 2.0 * np.log(np.diag(A_factor[0])).sum()
            loglik += 0.5 * (d * np.log(2 * np.pi) - logdet_A - self.basis.logdet)
        score_gamma = Q.T @ g if given else None
        score = expected = average = moments = None
        wants = set(need)
        if wants & {"score", "expected", "average", "observed"}:
            work = self.V @ g  # V_j P y
        if wants & {"average", "observed"}:  # by solutions: no P, no inverse
            Pw = cho_solve(factor, work.T)
            if not given:
                Pw -= VinvQ @ cho_solve(A_factor, VinvQ.T @ work.T)
            average = 0.5 * work @ Pw
        if wants & {"score", "expected", "observed"}:
            T = dpotri(L, lower=1, overwrite_c=1)[0]  # V⁻¹, its lower triangle, in the place of the factor
            T = _mirrored(T)
            if reml:
                T -= VinvQ @ cho_solve(A_factor, VinvQ.T)  # P
            score = 0.5 * (work @ g - np.array([np.vdot(T, Vj) for Vj in self.V]))
            if wants & {"expected", "observed"}:
                TV = [T @ Vj for Vj in self.V[:-1]] + [T]
                expected = np.array([[0.5 * np.vdot(TVi, TVj.T) for TVj in TV] for TVi in TV])
        if "moments" in need:
            if theta[-1] <= 0:
                return failed
            try:
                moments = self._moments(theta, r, A_factor if reml else None)
            except np.linalg.LinAlgError:  # σ² so small that rounding leaves the E-step no definite precision
                return failed
        return Evaluation(
            theta,
            criterion,
            float(loglik),
            gamma,
            self.basis.beta(gamma, self.beta0),
            A,
            score_gamma,
            score,
            expected,
            average,
            moments,
        )

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β): (levels, r), or (q,) for Z and (n,) for K; û = G Zᵀ V⁻¹(y − Xβ)."""
        r = self.y - self.basis.Q @ self.basis.gamma(beta, self.beta0)
        g = np.linalg.solve(np.tensordot(theta, self.V, axes=1), r)
        out = []
        for k, (c, Omega) in enumerate(zip(self.model.components, self.model.Omegas(theta), strict=True)):
            h = np.column_stack([self.factors[a].T @ g for a in np.flatnonzero(self.component == k)]) @ Omega
            out.append(c.effects_of(h))
        return out

    def _moments(self, theta: np.ndarray, r: np.ndarray, A_factor) -> Moments:
        """The E-step in the space of all rows: R = Z, nothing outside it."""
        whole = Reduced(self.model, self.layout, self.at, self.component, self.Z, self.basis.Q, self.y)
        return moments_of(whole, theta, r, (0.0, 0.0), A_factor)


def _derivative(c: Component, factors: list[np.ndarray], a: int, b: int) -> np.ndarray:
    """∂V/∂Ω_ab (n, n) = Z_a A Z_bᵀ, and its transpose where a ≠ b; A = I without a relationship."""
    if c.relation is None:
        product = factors[a] @ factors[b].T
    else:
        A = c.relation.matrix
        product = A if c.Z is None else c.incidence(a) @ (c.incidence(b) @ A).T
    return product if a == b else product + product.T


def _mirrored(lower: np.ndarray) -> np.ndarray:
    """The symmetric matrix of a lower triangle, block by block: what is above the diagonal is overwritten."""
    n, step = len(lower), 256
    for i in range(0, n, step):
        j = min(i + step, n)
        block = np.tril(lower[i:j, i:j])
        lower[i:j, i:j] = block + np.tril(block, -1).T
        lower[i:j, j:] = lower[j:, i:j].T
    return lower
