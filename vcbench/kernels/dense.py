"""The oracle: V(θ) as an n × n matrix, every formula of MATH §1–3 as printed. O(n³) an evaluation, any model."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.protocol import Basis, Evaluation, Moments
from vcbench.model.model import Model

MEMORY = 12  # GB that the matrices ∂V/∂θ_j and their like may take


@dataclass(frozen=True, slots=True, eq=False)
class DenseKernel:
    """V by its Cholesky factor; V_j = ∂V/∂θ_j stored (p, n, n)."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    factors: list[np.ndarray] = field(repr=False)  # Z^(a) of all effects stacked
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
                f"{model.n_theta} variance "
                f"parameters (its limit is {MEMORY} GB). Models of several grouping factors or matrices have no "
                f"other kernel yet: "
                "keep one random term, or fewer observations."
            )
        factors, component = [], []
        for k, c in enumerate(model.components):
            factors += c.factors()
            component += [k] * c.n_effects
        n = model.n_obs
        basis = Basis.of(model.X)
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(basis, y)
        size, at = [], 0
        for c in model.components:
            size.append(np.array([(Z**2).sum() / n for Z in factors[at : at + c.n_effects]]))
            at += c.n_effects
        layout = Layout.of(model, size, sd)
        V = np.empty((model.n_theta, n, n))
        for j, (a, b) in enumerate(zip(layout.pa, layout.pb, strict=True)):
            product = factors[a] @ factors[b].T
            V[j] = product if a == b else product + product.T
        V[-1] = np.eye(n)
        kernel = cls(name, model, layout, basis, factors, np.array(component, int), V, y, np.zeros(model.n_fixed), sd)
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
        V = np.tensordot(theta, self.V, axes=1)
        try:
            factor = cho_factor(V, lower=True)
            VinvQ = cho_solve(factor, Q)
            A = Q.T @ VinvQ
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        if gamma is None:
            gamma = cho_solve(A_factor, VinvQ.T @ y)
        r = y - Q @ gamma
        g = cho_solve(factor, r)
        logdet = 2.0 * np.log(np.diag(factor[0])).sum()
        loglik = -0.5 * (n * np.log(2 * np.pi) + logdet + r @ g)
        if reml:
            logdet_A = 2.0 * np.log(np.diag(A_factor[0])).sum()
            loglik += 0.5 * (d * np.log(2 * np.pi) - logdet_A - self.basis.logdet)
        score_gamma = Q.T @ g if given else None
        score = expected = average = moments = None
        wants_info = {"expected", "observed", "average"} & set(need)
        if "score" in need or wants_info:
            T = cho_solve(factor, np.eye(n))
            P = T if given else T - VinvQ @ cho_solve(A_factor, VinvQ.T)
            if reml:
                T = P
            work = self.V @ g  # V_j P y
            score = 0.5 * (work @ g - np.einsum("ab,jab->j", T, self.V))
            if {"expected", "observed"} & set(need):
                TV = T @ self.V
                expected = 0.5 * np.einsum("jab,kba->jk", TV, TV)
            if {"average", "observed"} & set(need):
                average = 0.5 * work @ P @ work.T
        if "moments" in need:
            if theta[-1] <= 0:
                return failed
            try:
                moments = self._moments(theta, r, A_factor, reml)
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

    def _moments(self, theta: np.ndarray, r: np.ndarray, A_factor, reml: bool) -> Moments:
        """E-step by the joint precision of (γ, w), u = Λw: [QᵀQ/σ², QᵀZΛ/σ²; ·, I + ΛᵀZᵀZΛ/σ²] (γ under REML only)."""
        Q, y, sigma2 = self.basis.Q, self.y, float(theta[-1])
        d = Q.shape[1]
        roots = [_psd_root(Omega) for Omega in self.model.Omegas(theta)]
        # columns of ZΛ: for component k and root column c, Σ_a Z^(a) Λ_ac (n, N_k)
        parts, u_of = [], []  # u^(b) = Σ_c Λ_bc w^(c)
        at = 0
        offsets = []
        for k, L in enumerate(roots):
            first = int(np.flatnonzero(self.component == k)[0])
            N = self.factors[first].shape[1]
            offsets.append((first, N, L, at))
            for c in range(len(L)):
                parts.append(sum(self.factors[first + a] * L[a, c] for a in range(len(L))))
                at += N
        ZL = np.hstack(parts)
        precision = np.eye(ZL.shape[1]) + ZL.T @ ZL / sigma2
        factor = cho_factor(precision, lower=True)
        logdet = 2.0 * np.log(np.diag(factor[0])).sum()
        half = solve_triangular(factor[0], np.eye(len(precision)), lower=True)
        C = half.T @ half
        K = C @ (ZL.T @ Q) / sigma2  # ∂E[w]/∂(−γ)
        mean = C @ (ZL.T @ r) / sigma2
        cov_gw = None
        if reml:
            M = cho_solve(A_factor, np.eye(d))
            C = C + K @ M @ K.T
            cov_gw = -M @ K.T
        # map to u of each effect
        for first, N, L, start in offsets:
            for b in range(len(L)):
                rows = np.zeros((N, ZL.shape[1]))
                for c in range(len(L)):
                    rows[:, start + c * N : start + (c + 1) * N] = np.eye(N) * L[b, c]
                u_of.append((first + b, rows))
        u_of.sort(key=lambda item: item[0])
        U = [rows @ mean for _, rows in u_of]
        cov = [[rows_a @ C @ rows_b.T for _, rows_b in u_of] for _, rows_a in u_of]
        fa, fb = self.layout.fa, self.layout.fb
        Z = self.factors
        W = np.column_stack([Z[a] @ U[b] for a, b in zip(fa, fb, strict=True)])
        F = W.T @ W
        for j, (a, b) in enumerate(zip(fa, fb, strict=True)):
            for k, (c, e) in enumerate(zip(fa, fb, strict=True)):
                F[j, k] += np.einsum("ab,ab->", Z[a].T @ Z[c], cov[b][e])
        R = len(Z)
        S = np.zeros((R, R))
        q = self.layout.q
        Omegas = np.zeros((R, R))
        for (first, _, L, _), Omega in zip(offsets, self.model.Omegas(theta), strict=True):
            Omegas[first : first + len(L), first : first + len(L)] = Omega
        for a in range(R):
            for b in range(R):
                if self.component[a] == self.component[b]:
                    S[a, b] = U[a] @ U[b] + np.trace(cov[a][b]) + (q[a] - len(U[a])) * Omegas[a, b]
        f = W.T @ r
        E0 = float(r @ r)
        if cov_gw is not None:
            for j, (a, b) in enumerate(zip(fa, fb, strict=True)):
                f[j] -= np.einsum("ij,ji->", Q.T @ Z[a], (cov_gw @ u_of[b][1].T).T)
            E0 += float(np.trace(M))
        return Moments(np.column_stack([fa, fb]), F, W.T @ y, Q.T @ W, S, float(y @ y), f, E0, float(logdet))


def _psd_root(Omega: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(Omega)
    return vectors * np.sqrt(np.maximum(values, 0.0))
