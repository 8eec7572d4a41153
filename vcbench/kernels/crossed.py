"""Several grouping factors, nested or crossed, with an independent residual: V = σ²I + Σ_k Z_k(I ⊗ Ω_k)Z_kᵀ.

Nothing of an evaluation depends on n: the design is reduced to ZᵀZ and ZᵀX, a response to Zᵀy (`crossed_design`), and
V⁻¹ is a blocked Cholesky factor of the size of all grouping factors but the largest (`crossed_solve`). With X
orthonormal, y less its OLS fit, h = ZᵀV⁻¹r and μ = (I ⊗ Ω)h = E[u | y]:

    aᵀV⁻¹b = (aᵀb − aᵀZ (I ⊗ Ω)ZᵀV⁻¹b)/σ²
    tr(V⁻¹V_ab) = Σ_l H[la, lb] (twice for a ≠ b)          σ² tr V⁻¹ = n − Σ_ab Ω_ab Σ_l H[la, lb]
    gᵀV_ab g = Σ_l h_la h_lb (twice for a ≠ b)             σ² gᵀg = rᵀg − hᵀμ,   g = V⁻¹r
"""

from dataclasses import dataclass, field, replace

import numpy as np

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.crossed_design import CrossedDesign
from vcbench.kernels.crossed_solve import Bare, Factorised, State, contraction, outer_at
from vcbench.kernels.protocol import Basis, Evaluation, Moments
from vcbench.model.model import Model

FEW = 200  # effects up to which the stop rule asks for the exact expected information
LIGHT = 1e6  # multiplications of a log-likelihood up to which calls cost more than numbers
DEAR = 2e9  # multiplications from which standard errors are by average information unless another is asked for


@dataclass(frozen=True, slots=True, eq=False)
class CrossedKernel:
    """The kernel of several grouping factors. C (q, d + 1) is Zᵀ[X y], y less offset and OLS fit; yty its square."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    design: CrossedDesign
    C: np.ndarray = field(repr=False)
    yty: float
    beta0: np.ndarray = field(repr=False)
    sd: float
    kept: list[tuple] = field(repr=False, default_factory=list)  # (θ, state, H, U) of the last log-likelihood

    @classmethod
    def build(cls, model: Model, name: str = "crossed") -> "CrossedKernel":
        """Reduce the model's design. Raises ModelError for any other structure."""
        if not model.components or not all(c.is_grouped for c in model.components):
            raise ModelError('kernel `crossed` needs components that are all grouped. Use `kernel="dense"`.')
        assert model.X is not None
        basis = Basis.of(model.X)
        design = CrossedDesign.of(model, basis.Q)
        size = [np.einsum("ia,ia->a", c.Z, c.Z) / model.n_obs for c in model.components]
        layout = Layout.of(model, size, 1.0)
        empty = cls(name, model, layout, basis, design, np.zeros((0, 0)), 0.0, np.zeros(model.n_fixed), 1.0)
        return empty._with(model)

    def _with(self, model: Model) -> "CrossedKernel":
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(self.basis, y)
        beta0 = self.basis.ols(y)
        y = y - self.basis.Q @ (self.basis.Q.T @ y)
        C = np.column_stack([self.design.ZX, self.design.reduce(y[:, None])])
        layout = self.layout.with_scale(sd / self.sd)
        return replace(self, model=model, layout=layout, C=C, yty=float(y @ y), beta0=beta0, sd=sd, kept=[])

    def bind(self, y: np.ndarray) -> "CrossedKernel":
        """The same design with another response."""
        return self._with(self.model.replace(y=y))

    @property
    def resumes(self) -> bool:
        """Whether to ask for a log-likelihood first: what is asked next at its θ goes on from its factor."""
        return self.design.work > LIGHT

    @property
    def stop_information(self) -> str:
        """The information that stop rule and L-BFGS ask for: "expected", or "average" where that would be dear."""
        return "expected" if self.design.q <= FEW else "average"

    @property
    def standard_information(self) -> str:
        """The information of standard errors unless another is asked for."""
        return "observed" if self.design.exact_work <= DEAR else "average"

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
        D, sigma2 = self.design, float(theta[-1])
        n, d = D.n_obs, D.ZX.shape[1]
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        given = gamma is not None
        if given:  # there is nothing left to integrate: ℓ_ML(β, θ)
            criterion = "ml"
        reml = criterion == "reml"
        failed = Evaluation(theta, criterion, -np.inf, np.zeros(d), self.beta0)
        C = self.C
        state, H, U = self._solved(theta)
        if state is None:
            return failed
        more = bool(set(need) - {"loglik"})
        if not more:
            self.kept.append((theta.tobytes(), state, H, U))
        inner = -C.T @ U  # [X y]ᵀV⁻¹[X y] σ², less [X y]ᵀ[X y]
        inner = (np.diag(np.append(np.ones(d), self.yty)) + (inner + inner.T) / 2) / sigma2
        A, Ay = inner[:d, :d], inner[:d, d]
        try:
            M = _inverse(A)
        except np.linalg.LinAlgError:
            return failed
        gamma = M @ Ay if gamma is None else np.asarray(gamma, float)
        v = np.append(-gamma, 1.0)
        h, mu, quad = H @ v, U @ v, float(v @ inner @ v)
        HX, UX = H[:, :d], U[:, :d]
        loglik = -0.5 * (n * np.log(2 * np.pi * sigma2) + state.logdet + quad)
        if reml:
            loglik += 0.5 * (d * np.log(2 * np.pi) - np.linalg.slogdet(A)[1] - self.basis.logdet)
        if not np.isfinite(loglik):
            return failed
        score_gamma = Ay - A @ gamma
        score = expected = average = moments = None
        if {"average", "observed"} & set(need):
            average = self._average(state, theta, h, mu, HX, quad, None if given else M, score_gamma if given else 0.0)
        wants_expected = bool({"expected", "observed"} & set(need))
        if wants_expected:
            root = np.linalg.cholesky(M)
            E = state.squares(HX @ root if reml else np.zeros((D.q, 0)))
        if "score" in need or wants_expected or "moments" in need:
            state.finish()
        if "score" in need or wants_expected:
            traces = state.sums()
            if reml:
                traces = traces - self._within(HX @ M, HX)
            trace = (n - (d if reml else 0) - (traces * self._Omega(theta)).sum()) / sigma2
            if "score" in need:
                square = self._within(h[:, None], h[:, None])
                length = (quad - h @ mu) / sigma2
                score = 0.5 * np.append(self._pairs(square - traces), length - trace)
            if wants_expected:
                expected = self._expected(theta, E, np.append(self._pairs(traces), trace))
        if "moments" in need:
            moments = self._moments(state, theta, v, mu, UX, M if reml else None)
        if more:
            state.release()
        beta_hat = self.basis.beta(gamma, self.beta0)
        return Evaluation(theta, criterion, float(loglik), gamma, beta_hat, A, score_gamma if given else None,
                          score, expected, average, moments)  # fmt: skip

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û (levels, r) of each component at (θ, β): Ω Zᵀ V⁻¹(y − Xβ)."""
        state = self._state(np.asarray(theta, float))
        if state is None:
            raise ModelError(f"V is not positive definite at θ = {np.asarray(theta)}: there are no BLUPs there.")
        gamma = self.basis.gamma(beta, self.beta0)
        _, U = state.solve((self.C[:, -1] - self.design.ZX @ gamma)[:, None])
        state.release()
        columns = {e: f.part(U)[:, k, 0] for f in self.design.factors for k, e in enumerate(f.effects)}
        effects = iter(range(self.design.n_effects))
        return [np.column_stack([columns[next(effects)] for _ in c.effects]) for c in self.model.components]

    def _state(self, theta: np.ndarray) -> State | None:
        """V⁻¹ at θ; None where V is not positive definite."""
        if not theta[-1] > 0:
            return None
        Omega = self._Omega(theta)
        return Factorised.build(self.design, Omega, float(theta[-1])) if Omega.any() else Bare(self.design, theta[-1])

    def _solved(self, theta: np.ndarray) -> tuple:
        """(state, H, U) at θ, for [X y]: that of the last log-likelihood, if it was asked for here."""
        try:
            at, *solved = self.kept.pop()
        except IndexError:
            at, solved = None, []
        if at == theta.tobytes():
            return tuple(solved)
        if solved:
            solved[0].release()
        state = self._state(theta)
        return (None, None, None) if state is None else (state, *state.solve(self.C))

    def _Omega(self, theta: np.ndarray) -> np.ndarray:
        """Ω (R, R) of all components."""
        lay, R = self.layout, self.design.n_effects
        Omega = np.zeros((R, R))
        Omega[lay.pa, lay.pb] = Omega[lay.pb, lay.pa] = theta[:-1]
        return Omega

    def _within(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Σ_l a_l b_lᵀ over the levels of each factor (R, R), for a, b (q, m)."""
        out = np.zeros((self.design.n_effects,) * 2)
        for f in self.design.factors:
            out[f.block] = np.einsum("lam,lbm->ab", f.part(a), f.part(b))
        return out

    def _pairs(self, x: np.ndarray) -> np.ndarray:
        """x (R, R) at the parameters: x_aa, or x_ab + x_ba."""
        lay = self.layout
        return np.where(lay.pa == lay.pb, x[lay.pa, lay.pb], x[lay.pa, lay.pb] + x[lay.pb, lay.pa])

    def _average(self, state, theta, h, mu, HX, quad, M, score_gamma) -> np.ndarray:
        """½ gᵀV_i P V_j g; V_j g = Z v_j, and g itself for the residual. M None: β is given, and P is V⁻¹."""
        D, lay, sigma2 = self.design, self.layout, theta[-1]
        p = len(theta)
        v = np.zeros((D.q, p - 1))
        place = {int(e): (f, k) for f in D.factors for k, e in enumerate(f.effects)}
        for j, (a, b) in enumerate(zip(lay.pa, lay.pb, strict=True)):
            (f, a), (_, b) = place[int(a)], place[int(b)]
            out, x = f.part(v), f.part(h)
            out[:, a, j] = x[:, b, 0]
            out[:, b, j] = x[:, a, 0]
        H, U = state.solve(np.column_stack([D.times(v), h]))
        w = np.empty((p, p))
        w[:-1] = v.T @ H
        w[-1, :-1] = w[:-1, -1]
        w[-1, -1] = ((quad - h @ mu) / sigma2 - h @ U[:, -1]) / sigma2
        if M is not None:
            Xw = np.column_stack([HX.T @ v, (score_gamma - D.ZX.T @ U[:, -1]) / sigma2])
            w -= Xw.T @ M @ Xw
        return 0.25 * (w + w.T)

    def _expected(self, theta: np.ndarray, E: np.ndarray, traces: np.ndarray) -> np.ndarray:
        """½ tr(T V_i T V_j) from the squares of ZᵀTZ; the residual's by Σ_k θ_k tr(T V_k T V_j) = tr(T V_j)."""
        lay, sigma2 = self.layout, theta[-1]
        p = len(theta)
        out = np.empty((p, p))
        for i, (a, b) in enumerate(zip(lay.pa, lay.pb, strict=True)):
            first = {(a, b), (b, a)}
            for j, (c, e) in enumerate(zip(lay.pa, lay.pb, strict=True)):
                second = {(c, e), (e, c)}
                out[i, j] = sum(E[x, y, z, t] for x, y in first for z, t in second)
        out[:-1, -1] = out[-1, :-1] = (traces[:-1] - out[:-1, :-1] @ theta[:-1]) / sigma2
        out[-1, -1] = (traces[-1] - out[-1, :-1] @ theta[:-1]) / sigma2
        return 0.25 * (out + out.T)

    def _moments(self, state, theta, v, mu, UX, M) -> Moments:
        """The E-step, F = Σ A_la,mc E[u_lb u_md] at the non-zeros of A = ZᵀZ. M: Cov γ under REML, else None."""
        D, lay = self.design, self.layout
        Zr = self.C[:, -1] + D.ZX @ v[:-1]
        rows, f, E0 = mu[:, None], np.zeros(len(lay.fa)), float(self.yty + v[:-1] @ v[:-1])
        if M is not None:
            rows = np.column_stack([mu, UX @ np.linalg.cholesky(M)])
            f = self._within(D.ZX, UX @ M)[lay.fa, lay.fb]
            E0 += float(np.trace(M))
        own, crosses = state.covariances()
        outer_own, outer_crosses = outer_at(D, rows)
        own = [a + b for a, b in zip(own, outer_own, strict=True)]
        crosses = [a + b for a, b in zip(crosses, outer_crosses, strict=True)]
        T = contraction(D, own, crosses)
        S = np.zeros((D.n_effects,) * 2)
        Omega = self._Omega(theta)
        component = np.repeat(np.arange(len(self.model.components)), [c.n_effects for c in self.model.components])
        for factor, x in zip(D.factors, own, strict=True):
            at = factor.block
            spare = (lay.q[factor.effects] - factor.n_levels)[:, None]
            S[at] = x.sum(0) + spare * Omega[at]
        S[component[:, None] != component] = 0.0
        F = T[lay.fa[:, None], lay.fb[:, None], lay.fa, lay.fb]
        Wty = self._within(self.C[:, -1:], mu[:, None])[lay.fa, lay.fb]
        f = f + self._within(Zr[:, None], mu[:, None])[lay.fa, lay.fb]
        XtW = np.zeros((D.ZX.shape[1], len(lay.fa)))
        place = {int(e): (g, k) for g in D.factors for k, e in enumerate(g.effects)}
        for j, (a, b) in enumerate(zip(lay.fa, lay.fb, strict=True)):
            (g, a), (_, b) = place[int(a)], place[int(b)]
            XtW[:, j] = g.part(D.ZX)[:, a].T @ g.part(mu)[:, b, 0]
        return Moments(np.column_stack([lay.fa, lay.fb]), F, Wty, XtW, S, self.yty, f, E0, float(state.logdet))


def _inverse(A: np.ndarray) -> np.ndarray:
    """A⁻¹ of a positive definite A; LinAlgError otherwise."""
    half = np.linalg.inv(np.linalg.cholesky(A))
    return half.T @ half
