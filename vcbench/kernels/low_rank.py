"""Several components whose columns together number q < n: everything happens in the q dimensions that they span.

Z = U R once (thin QR, UᵀU = I), so that V = U W Uᵀ + σ²(I − UUᵀ) with

    W(θ) = R G(θ) Rᵀ + σ² I  (q, q)        log|V| = log|W| + (n − q) log σ²

and ZᵀV⁻¹Z = RᵀW⁻¹R: the matrix inversion lemma without its differences of large numbers. An evaluation is O(q³),
whatever n is; Ω may be singular or 0, for it is never inverted. All traces are sums over blocks of H = L⁻¹R, W = LLᵀ.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, qr
from scipy.linalg.blas import dsyrk, dtrsm, dtrsv
from scipy.linalg.lapack import dlauum, dpotrf, dtrtri

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.posterior import Reduced, moments_of
from vcbench.kernels.protocol import Basis, Evaluation
from vcbench.kernels.traces import both, pair_traces
from vcbench.model.model import Model

MEMORY = 12  # GB that Z, its basis and the work on them may take


@dataclass(frozen=True, slots=True, eq=False)
class LowRankKernel:
    """The kernel on Z = U R. X, y in two parts: `Uᵀ·` (q rows), and the rows outside the span of Z, reduced to
    TX (w, d), t (w,) and the sum of squares tau2 that neither Z nor X reaches."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    at: list[slice]  # columns of each effect
    component: np.ndarray = field(repr=False)  # component of each effect
    R: np.ndarray = field(repr=False)
    U: np.ndarray = field(repr=False)
    Uw: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    TX: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    t: np.ndarray = field(repr=False)
    tau2: float
    beta0: np.ndarray = field(repr=False)
    sd: float

    @classmethod
    def build(cls, model: Model, name: str = "low_rank") -> "LowRankKernel":
        """Factorise Z. Raises ModelError where its columns are not fewer than the observations."""
        assert model.X is not None
        n, q = model.n_obs, n_columns(model)
        if not 0 < q < n:
            raise ModelError(
                f"kernel `low_rank` needs random effects with fewer columns than there are observations; here q = {q} "
                f'and n = {n}. Use `kernel="dense"`.'
            )
        gigabytes = (3 * n * q + 6 * q * q) * 8 / 1e9
        if gigabytes > MEMORY:
            raise ModelError(
                f"kernel `low_rank` would need {gigabytes:.0f} GB for n = {n} observations and q = {q} columns (its "
                f"limit is {MEMORY} GB). Use a kernel for sparse structures, or fewer columns."
            )
        factors, component, at, first = [], [], [], 0
        for k, c in enumerate(model.components):
            for Z in c.factors():
                factors.append(Z)
                component.append(k)
                at.append(slice(first, first + Z.shape[1]))
                first += Z.shape[1]
        U, R = qr(np.hstack(factors), mode="economic", overwrite_a=True, check_finite=False)
        basis = Basis.of(model.X)
        X = U.T @ basis.Q
        rest = basis.Q - U @ X
        u, s, vt = np.linalg.svd(rest - U @ (U.T @ rest), full_matrices=False)
        keep = s > 1e-12
        size, k = [], 0
        for c in model.components:
            size.append(np.array([(R[:, a] ** 2).sum() / n for a in at[k : k + c.n_effects]]))
            k += c.n_effects
        none = np.zeros(0)
        kernel = cls(
            name, model, Layout.of(model, size, 1.0), basis, at, np.array(component), R, U,
            np.ascontiguousarray(u[:, keep]), X, s[keep, None] * vt[keep], none, none, 0.0, none, 1.0,
        )  # fmt: skip
        return kernel._with(model)

    def _with(self, model: Model) -> "LowRankKernel":
        y = model.y if model.offset is None else model.y - model.offset
        rest = self.basis.residual(y)
        inner = self.U.T @ rest
        rest = rest - self.U @ inner
        t = self.Uw.T @ rest
        rest = rest - self.Uw @ t
        n_free = model.n_obs - self.U.shape[1] - len(t)
        sd = _residual_sd(self.basis, y)
        return replace(
            self, model=model, layout=self.layout.with_scale(sd / self.sd), y=inner, t=t,
            tau2=float(rest @ rest) if n_free > 0 else 0.0, beta0=self.basis.ols(y), sd=sd,
        )  # fmt: skip

    def bind(self, y: np.ndarray) -> "LowRankKernel":
        """The same design with another response."""
        return self._with(self.model.replace(y=y))

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
        n, (q, d), sigma2 = self.model.n_obs, self.X.shape, float(theta[-1])
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        given = gamma is not None
        reml = criterion == "reml" and not given  # with β given nothing is left to integrate: ℓ_ML(β, θ)
        failed = Evaluation(theta, "reml" if reml else "ml", -np.inf, np.zeros(d), self.beta0)
        if sigma2 <= 0:  # n > q: some rows hold the residual alone
            return failed
        W = self._spread(theta) @ self.R.T
        W.flat[:: q + 1] += sigma2
        L, info = dpotrf(W.T, lower=1, clean=1, overwrite_a=1)
        if info:
            return failed
        half = dtrsm(1.0, L, np.column_stack([self.X, self.y]), lower=1)  # L⁻¹[X y]
        a, b = half[:, :d], half[:, d]
        A = a.T @ a + self.TX.T @ self.TX / sigma2
        try:
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        if gamma is None:
            gamma = cho_solve(A_factor, a.T @ b + self.TX.T @ self.t / sigma2)
        gamma = np.asarray(gamma, float)
        e, o = b - a @ gamma, self.t - self.TX @ gamma
        outside = float(o @ o) + self.tau2
        logdet = 2.0 * np.log(np.diag(L)).sum() + (n - q) * np.log(sigma2)
        loglik = -0.5 * (n * np.log(2 * np.pi) + logdet + e @ e + outside / sigma2)
        if reml:
            logdet_A = 2.0 * np.log(np.diag(A_factor[0])).sum()
            loglik += 0.5 * (d * np.log(2 * np.pi) - logdet_A - self.basis.logdet)
        score = expected = average = moments = None
        wants = set(need)
        if wants & {"score", "expected", "average", "observed"}:
            H = dtrsm(1.0, L, self.R, lower=1)  # L⁻¹R, ZᵀV⁻¹Z = HᵀH
            h = H.T @ e  # ZᵀV⁻¹r
            g = dtrsv(L, e, lower=1, trans=1)  # V⁻¹r inside the span of Z
            M = cho_solve(A_factor, np.eye(d))
            score = self._score(theta, L, H, h, a, M if reml else None, g @ g + outside / sigma2**2)
            if wants & {"average", "observed"}:
                average = self._average(L, h, a, g, o / sigma2, outside, sigma2, None if given else M)
            if wants & {"expected", "observed"}:
                expected = self._expected(L, H, a, sigma2, M if reml else None)
        if "moments" in need:
            try:
                r = self.y - self.X @ gamma
                part = Reduced(self.model, self.layout, self.at, self.component, self.R, self.X, self.y)
                rest = (self.t @ self.t + self.tau2, outside)
                moments = moments_of(part, theta, r, rest, A_factor if reml else None)
            except np.linalg.LinAlgError:  # σ² so small that rounding leaves the E-step no definite precision
                return failed
        return Evaluation(
            theta, failed.criterion, float(loglik), gamma, self.basis.beta(gamma, self.beta0), A,
            a.T @ e + self.TX.T @ o / sigma2 if given else None,
            score, expected, average, moments,
        )  # fmt: skip

    def _spread(self, theta: np.ndarray) -> np.ndarray:
        """R G (q, q)."""
        out = np.zeros(self.R.shape, order="F")
        for value, pa, pb in zip(theta, self.layout.pa, self.layout.pb, strict=False):
            for a, b in both(pa, pb):
                out[:, self.at[a]] += value * self.R[:, self.at[b]]
        return out

    def _score(self, theta, L, H, h, a, M, gg: float) -> np.ndarray:
        """−½[tr(T V_j) − gᵀV_j g]; T = P where M = (XᵀV⁻¹X)⁻¹ is given."""
        n, q, sigma2 = self.model.n_obs, len(L), float(theta[-1])
        Y = H.T @ a  # ZᵀV⁻¹X
        out = np.empty(len(theta))
        for j, (x, z) in enumerate(zip(self.layout.pa, self.layout.pb, strict=True)):
            s, u = self.at[x], self.at[z]
            value = np.vdot(H[:, s], H[:, u]) - h[s] @ h[u]
            if M is not None:
                value -= np.vdot(Y[s] @ M, Y[u])
            out[j] = -0.5 * value * (1 if x == z else 2)
        inverse = dtrtri(L, lower=1)[0]
        trace = np.vdot(inverse, inverse) + (n - q) / sigma2
        if M is not None:
            trace -= np.vdot(M, self._squared(L, a, sigma2)[0])
        out[-1] = -0.5 * (trace - gg)
        return out

    def _squared(self, L, a, sigma2: float) -> tuple[np.ndarray, np.ndarray]:
        """XᵀV⁻²X (d, d), and V⁻¹X inside the span of Z (q, d)."""
        VX = dtrsm(1.0, L, a, lower=1, trans_a=1)
        return VX.T @ VX + self.TX.T @ self.TX / sigma2**2, VX

    def _average(self, L, h, a, g, o, outside: float, sigma2: float, M) -> np.ndarray:
        """½ wᵢᵀ A wⱼ, w_j = V_j g, A = P, or V⁻¹ where β was given."""
        p = len(self.layout.scale)
        work = np.empty((len(g), p), order="F")
        for j, (x, z) in enumerate(zip(self.layout.pa, self.layout.pb, strict=True)):
            work[:, j] = sum(self.R[:, self.at[c]] @ h[self.at[e]] for c, e in both(x, z))
        work[:, -1] = g
        half = dtrsm(1.0, L, work, lower=1, overwrite_b=1)
        out = half.T @ half
        out[-1, -1] += outside / sigma2**3
        if M is not None:
            XVw = a.T @ half
            XVw[:, -1] += self.TX.T @ o / sigma2
            out -= XVw.T @ M @ XVw
        return 0.5 * out

    def _expected(self, L, H, a, sigma2: float, M) -> np.ndarray:
        """½ tr(T V_i T V_j); T = P where M is given."""
        q, p = len(L), len(self.layout.scale)
        S = dsyrk(1.0, H, trans=1, lower=1)  # ZᵀTZ
        S = S + np.tril(S, -1).T
        D = dtrsm(1.0, L, H, lower=1, trans_a=1)  # T Z, inside and outside the span of Z
        outside = np.zeros((len(self.TX), q))
        inverse = dlauum(dtrtri(L, lower=1)[0], lower=1)[0]
        inverse = inverse + np.tril(inverse, -1).T
        TT = np.vdot(inverse, inverse) + (self.model.n_obs - q) / sigma2**2
        if M is not None:
            MY = M @ (a.T @ H)
            S -= (H.T @ a) @ MY
            XVVX, VX = self._squared(L, a, sigma2)
            D -= VX @ MY
            outside = -self.TX @ MY / sigma2
            third = dtrsm(1.0, L, VX, lower=1)
            XV3X = third.T @ third + self.TX.T @ self.TX / sigma2**3
            XMX = M @ XVVX
            TT += np.vdot(XMX, XMX.T) - 2.0 * np.vdot(M, XV3X)
        out = np.empty((p, p))
        out[:-1, :-1] = pair_traces(S, self.at, self.layout.pa, self.layout.pb)
        for j, (x, z) in enumerate(zip(self.layout.pa, self.layout.pb, strict=True)):
            s, u = self.at[x], self.at[z]
            value = np.vdot(D[:, s], D[:, u]) + np.vdot(outside[:, s], outside[:, u])
            out[j, -1] = out[-1, j] = value * (1 if x == z else 2)
        out[-1, -1] = TT
        return 0.5 * out

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β): (levels, r), or (q,) for Z and (m,) for K; û = G Zᵀ V⁻¹(y − Xβ)."""
        theta = np.asarray(theta, float)
        W = self._spread(theta) @ self.R.T + theta[-1] * np.eye(len(self.y))
        r = self.y - self.X @ self.basis.gamma(beta, self.beta0)
        h = self.R.T @ np.linalg.solve(W, r)
        out = []
        for k, (c, Omega) in enumerate(zip(self.model.components, self.model.Omegas(theta), strict=True)):
            effects = np.flatnonzero(self.component == k)
            out.append(c.effects_of(np.column_stack([h[self.at[a]] for a in effects]) @ Omega))
        return out


def n_columns(model: Model) -> int:
    """q: columns of the factors of all components."""
    return sum(c.n_columns for c in model.components)
