"""The kernel of several relationship matrices at genomic size: V = Σ θ_k K_k + σ² I by its Cholesky factor, BLAS-3
throughout.

An evaluation with score and average information costs n³ flop (a factor n³/3, its inverse 2n³/3, the least for the
exact traces) and O(m n² (d + 2)) besides; ℓ alone n³/3. No K_k is factorised, no P is formed, no product of two n × n
matrices is taken:

    tr PK_k = tr V⁻¹K_k − tr (V⁻¹Q)ᵀK_k(V⁻¹Q) A⁻¹,   A = QᵀV⁻¹Q         (ML: without the second term)
    average = ½ w_iᵀPw_j,  w_k = K_kPy

EM and one-δ PX-EM need no more than that: with V_g = V − σ²I, û = E[Σ Z_ku_k | y] = V_gPy,

    E‖Σ Z_ku_k‖² = ‖V_gPy‖² + tr V_g − tr PV_g²,   tr PV_g² = tr V − tr A⁻¹ − 2σ²(n − d) + σ⁴ tr P
    E[u_kᵀu_k]   = q_kθ_k + 2θ_k² ∂ℓ/∂θ_k

The expected information, at θ = (0, …, 0, σ²), is ½ tr(MK_iMK_j)/σ⁴: O(n²) again. Elsewhere it takes m products
V⁻¹K_k of 2n³ flop each; so do the moments that `px-em-component` wants. Matrices may be float32; memory is that of
the K_k and one n × n of float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsymm
from scipy.linalg.lapack import dpotrf, dpotri

from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.protocol import Basis, Evaluation, Moments
from vcbench.model.model import Model

STEP = 256  # rows taken together
ANSWERS = ("score", "average", "expected", "moments")


@dataclass(frozen=True, slots=True, eq=False)
class GenomicKernel:
    """K_k (n, n) of each component of the model; whole_moments: E[WᵀW] entry by entry, else its sum alone, spread
    evenly."""

    # what solvers may take for the expected information, which is dear here
    start_information: ClassVar[str] = "expected"  # at θ = (0, …, 0, σ²), where it is cheap
    stop_information: ClassVar[str] = "average"
    standard_information: ClassVar[str] = "average"

    name: str
    model: Model
    layout: Layout
    basis: Basis
    K: Sequence[np.ndarray] = field(repr=False)
    y: np.ndarray = field(repr=False)
    beta0: np.ndarray = field(repr=False)
    sd: float
    gram: np.ndarray = field(repr=False)  # tr MK_iMK_j, M for I (m + 1, m + 1)
    gram_ml: np.ndarray = field(repr=False)  # tr K_iK_j
    whole_moments: bool = False
    last: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # the state last asked for with β profiled, and answers

    @classmethod
    def build(cls, model: Model, K: Sequence[np.ndarray], whole_moments: bool = False) -> "GenomicKernel":
        """K: the matrices of the model's components, in their order."""
        assert model.X is not None
        basis = Basis.of(model.X)
        sd = _residual_sd(basis, model.y)
        traces = [float(np.trace(k, dtype=float)) for k in K]
        layout = Layout.of(model, [np.array([t / model.n_obs]) for t in traces], sd)
        gram, gram_ml = grams(K, basis.Q)
        kernel = cls("genomic", model, layout, basis, tuple(K), model.y, np.zeros(0), sd, gram, gram_ml, whole_moments)
        return kernel._with(model.y)

    def _with(self, y: np.ndarray) -> "GenomicKernel":
        return replace(self, y=self.basis.residual(y), beta0=self.basis.ols(y), last={})

    def bind(self, y: np.ndarray) -> "GenomicKernel":
        """The same design with another response."""
        sd = _residual_sd(self.basis, y)
        out = replace(self, model=self.model.replace(y=y), sd=sd, layout=self.layout.with_scale(sd / self.sd))
        return out._with(y)

    def V(self, theta: np.ndarray) -> np.ndarray:
        """Σ θ_k K_k + σ² I (n, n), Fortran order."""
        n = len(self.y)
        out = np.zeros((n, n))
        for i in range(0, n, STEP):
            rows = out[i : i + STEP]
            for value, K in zip(theta, self.K, strict=False):
                if value != 0:
                    rows += value * K[i : i + STEP]
        out.flat[:: n + 1] += theta[-1]
        return out.T

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """See `protocol.Kernel`. What was answered at the state asked for last is not worked out again."""
        theta = np.asarray(theta, float)
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        if gamma is not None or not theta[:-1].any():  # the null costs little
            return self._evaluate(theta, need, criterion, gamma)
        state = criterion.encode() + theta.tobytes()
        known: Evaluation | None = self.last.get("answers") if self.last.get("state") == state else None
        if known is not None:
            have = {name for name in ANSWERS if getattr(known, name) is not None}
            if not np.isfinite(known.loglik) or set(need) <= {"loglik", *have}:
                return known
            new = self._evaluate(theta, need, criterion, None)
            known = replace(new, **{name: getattr(known, name) for name in have if getattr(new, name) is None})
        else:
            known = self._evaluate(theta, need, criterion, None)
        self.last.update(state=state, answers=known)
        return known

    def _evaluate(
        self, theta: np.ndarray, need: tuple[str, ...], criterion: str, gamma: np.ndarray | None
    ) -> Evaluation:
        Q, y, n = self.basis.Q, self.y, len(self.y)
        d = Q.shape[1]
        given = gamma is not None
        criterion = "ml" if given else criterion  # there is nothing left to integrate: ℓ_ML(β, θ)
        reml = criterion == "reml"
        failed = Evaluation(theta, criterion, -np.inf, np.zeros(d), self.beta0)
        if theta[-1] <= 0:
            return failed
        at_null = not theta[:-1].any()  # V = σ²I: nothing to factorise
        L = None
        if not at_null:
            L, info = dpotrf(self.V(theta), lower=1, clean=1, overwrite_a=1)
            if info:
                return failed
        solve = lambda B: B / theta[-1] if L is None else cho_solve((L, True), B, check_finite=False)  # noqa: E731
        VinvQ = solve(Q)
        A = Q.T @ VinvQ
        try:
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        if gamma is None:
            gamma = cho_solve(A_factor, VinvQ.T @ y)
        r = y - Q @ gamma
        g = solve(r)
        logdet = n * float(np.log(theta[-1])) if L is None else 2.0 * float(np.log(np.diag(L)).sum())
        loglik = -0.5 * (n * np.log(2.0 * np.pi) + logdet + r @ g)
        if reml:
            logdet_A = 2.0 * float(np.log(np.diag(A_factor[0])).sum())
            loglik += 0.5 * (d * np.log(2.0 * np.pi) - logdet_A - self.basis.logdet)
        score = expected = average = moments = None
        wants = set(need)
        M = cho_solve(A_factor, np.eye(d))
        w = np.stack([*(K @ g for K in self.K), g], axis=1) if wants - {"loglik"} else None  # w_k = K_kPy
        if wants & {"average", "observed"}:
            assert w is not None
            Pw = solve(w)
            if not given:
                Pw -= VinvQ @ (M @ (VinvQ.T @ w))
            average = 0.5 * w.T @ Pw
        if wants & {"expected", "observed"} and at_null:
            expected = 0.5 * (self.gram if reml else self.gram_ml) / theta[-1] ** 2
        if wants & {"score", "moments"} or (wants & {"expected", "observed"} and not at_null):
            assert w is not None
            products = inverse = None
            if L is None:
                traces = np.array([*(np.trace(K, dtype=float) for K in self.K), n]) / theta[-1]
            else:
                inverse = dpotri(L, lower=1, overwrite_c=1)[0]  # V⁻¹, its lower triangle, in the place of the factor
                traces = np.array([*(lower_trace(inverse, K) for K in self.K), float(np.trace(inverse))])
            if reml:
                pairs = [float(np.vdot(M, VinvQ.T @ (K @ VinvQ))) for K in self.K]
                traces -= [*pairs, float(np.vdot(M, VinvQ.T @ VinvQ))]
            score = 0.5 * (w.T @ g - traces)
            whole = wants & {"expected", "observed"} or ("moments" in wants and self.whole_moments)
            if inverse is not None and whole:
                products = self._products(inverse, VinvQ, M if reml else None)
            if inverse is not None and products is not None and wants & {"expected", "observed"}:
                expected = self._expected(products, inverse, VinvQ, M if reml else None)
            if "moments" in wants:
                moments = self._moments(theta, r, g, w, score, traces, VinvQ, M if reml else None, logdet, products)
        return Evaluation(
            theta, criterion, float(loglik), gamma, self.basis.beta(gamma, self.beta0), A,
            Q.T @ g if given else None, score, expected, average, moments,
        )  # fmt: skip

    def _products(self, inverse: np.ndarray, VinvQ: np.ndarray, M: np.ndarray | None) -> list[np.ndarray]:
        """TK_k (n, n), T = P where M = A⁻¹ is given, else V⁻¹."""
        out = []
        for K in self.K:
            TK = dsymm(1.0, inverse, np.asarray(K, float).T, lower=1)
            if M is not None:
                TK -= VinvQ @ (M @ (VinvQ.T @ K))
            out.append(TK)
        return out

    def _expected(
        self, products: list[np.ndarray], inverse: np.ndarray, VinvQ: np.ndarray, M: np.ndarray | None
    ) -> np.ndarray:
        """½ tr(TK_iTK_j); T itself for I, mirrored."""
        T = inverse + np.tril(inverse, -1).T
        if M is not None:
            T -= VinvQ @ M @ VinvQ.T
        TV = [*products, T]
        return np.array([[0.5 * np.vdot(a, b.T) for b in TV] for a in TV])

    def _moments(
        self, theta, r, g, w, score, traces, VinvQ, M, logdet: float, products: list[np.ndarray] | None
    ) -> Moments:  # fmt: skip
        """`protocol.Moments`; F whole from the products TK_k, or its sum alone."""
        n, d, m, sigma2 = len(self.y), VinvQ.shape[1], len(self.K), float(theta[-1])
        Zu = w[:, :-1] * theta[:-1]  # E[Z_ku_k] = θ_kK_kPy
        if products is not None:
            F = Zu.T @ Zu
            for i in range(m):
                F[i, i] += theta[i] * float(np.trace(self.K[i], dtype=float))
                for j in range(m):  # − θ_iθ_j tr K_jTK_i
                    F[i, j] -= theta[i] * theta[j] * float(np.vdot(products[i].T, self.K[j]))
            F = 0.5 * (F + F.T)
        else:
            trace_V = float(theta[:-1] @ [np.trace(K, dtype=float) for K in self.K]) + n * sigma2
            free = n - d if M is not None else n
            trace_TVg2 = trace_V - (float(np.trace(M)) if M is not None else 0.0) - 2.0 * sigma2 * free
            trace_TVg2 += sigma2**2 * traces[-1]
            total = Zu.sum(axis=1)
            F = np.full((m, m), (float(total @ total) + trace_V - n * sigma2 - trace_TVg2) / m**2)
        S = np.diag(np.asarray(self.layout.q) * theta[:-1] + 2.0 * theta[:-1] ** 2 * score[:-1])
        f, E0 = Zu.T @ r, float(r @ r)
        if M is not None:
            f = f + theta[:-1] * np.array([float(np.vdot(self.basis.Q.T @ K @ VinvQ, M.T)) for K in self.K])
            E0 += float(np.trace(M))
        where = np.arange(m)
        return Moments(
            np.column_stack([where, where]), F, Zu.T @ self.y, self.basis.Q.T @ Zu, S, float(self.y @ self.y), f, E0,
            logdet - n * float(np.log(sigma2)),
        )  # fmt: skip

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """ĝ_k = θ_kK_kV⁻¹(y − Xβ) of each component, (n,)."""
        r = self.y - self.basis.Q @ self.basis.gamma(beta, self.beta0)
        g = np.linalg.solve(self.V(theta), r)
        return [value * (K @ g) for value, K in zip(theta, self.K, strict=False)]


def lower_trace(lower: np.ndarray, K: np.ndarray) -> float:
    """tr(TK) of symmetric matrices, T by its lower triangle (Fortran order, what is above it 0)."""
    n, total = len(lower), 0.0
    upper = lower.T  # the same numbers, row by row
    for i in range(0, n, STEP):
        rows = upper[i : i + STEP, i:]
        total += 2.0 * float(np.einsum("ij,ij->", rows, K[i : i + STEP, i:], dtype=float))
    return total - float(np.einsum("ii,ii->", lower, K, dtype=float))


def grams(K: Sequence[np.ndarray], Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(tr MK_iMK_j with M itself last, tr K_iK_j with I last), each (m + 1, m + 1): O(m² n²), no n × n matrix is
    formed.

    tr MK_iMK_j = tr K_iK_j − 2 tr QᵀK_iK_jQ + tr QᵀK_iQ QᵀK_jQ
    """
    n, d = Q.shape
    m = len(K)
    KQ = [k @ Q for k in K]
    inner = [Q.T @ x for x in KQ]
    whole = np.empty((m + 1, m + 1))
    out = np.empty((m + 1, m + 1))
    for i in range(m):
        for j in range(i + 1):
            whole[i, j] = whole[j, i] = sum(
                float(np.einsum("ij,ij->", K[i][a : a + STEP], K[j][a : a + STEP], dtype=float))
                for a in range(0, n, STEP)
            )
            out[i, j] = out[j, i] = (
                whole[i, j] - 2.0 * float(np.vdot(KQ[i], KQ[j])) + float(np.vdot(inner[i], inner[j].T))
            )
        whole[i, m] = whole[m, i] = float(np.trace(K[i], dtype=float))
        out[i, m] = out[m, i] = whole[i, m] - float(np.trace(inner[i]))
    whole[m, m], out[m, m] = n, n - d
    return out, whole
