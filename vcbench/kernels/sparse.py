"""Effects with a sparse precision: u_k ~ N(0, Ω_k ⊗ A_k), A_k⁻¹ sparse (a pedigree's, an AR(1)'s, I of a group).

With Ω = ΛΛᵀ and u = Λw, w ~ N(0, A), all of it follows from the sparse Cholesky factor of

    M = ΛᵀZᵀZΛ/σ² + P,  P = A⁻¹        log|V| = n log σ² + log|M| − log|P|,  V⁻¹x = (x − ZΛ M⁻¹ ΛᵀZᵀx/σ²)/σ²

and from M⁻¹ where M has entries: A ΛᵀZᵀV⁻¹Z = M⁻¹ΛᵀZᵀZ/σ², so that Λᵀ[tr(A Z_aᵀV⁻¹Z_b)] is a sum over those. A itself
is never formed. Henderson's equations are Λ⁻ᵀMΛ⁻¹; M exists where Ω is 0 or singular too. There, an eigenvalue of Ω
counts as FLOOR, a share of σ² below rounding, so that Λ can be divided by: every quotient is of numbers that carry the
factor λ themselves, and keeps its digits.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.protocol import Basis, Evaluation
from vcbench.kernels.sparse_core import coefficients, factorise
from vcbench.kernels.sparse_design import SparseDesign
from vcbench.kernels.sparse_point import Point, stacked
from vcbench.model.model import Model

FLOOR = 1e-15  # of σ², per unit of the size of ZZᵀ: the least eigenvalue of Ω that M is made with
FEW = 500  # effects up to which the exact expected information is no dearer than an iteration
FACTOR = 12  # GB that the factor and its inverse may take


@dataclass(frozen=True, slots=True, eq=False)
class SparseKernel:
    """The kernel on M. y and X as they are, (n,) and the orthonormal (n, d): an evaluation is linear in n and in d."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    design: SparseDesign
    unit: list[np.ndarray] = field(repr=False)  # 1/rms of each effect's column of Z, per component
    offset: float  # log|P|
    y: np.ndarray = field(repr=False)
    beta0: np.ndarray = field(repr=False)
    sd: float = 1.0

    @classmethod
    def build(cls, model: Model, name: str = "sparse") -> "SparseKernel":
        """Order and analyse. Raises ModelError for a component that has no sparse precision, a precision that is not
        positive definite, and a factor too large."""
        assert model.X is not None
        if not model.components:
            raise ModelError('kernel `sparse` needs a random component. Use `kernel="dense"`.')
        for c in model.components:
            if c.relation is not None and c.relation.precision is None:
                raise ModelError(
                    f"kernel `sparse` needs the inverse of a relationship matrix; component `{c.name}` has K. Pass "
                    'its sparse inverse as `precision=`, or use `kernel="dense"`.'
                )
        design = SparseDesign.of(model)
        gigabytes = (2 * design.fronts.panel_ptr[-1] + design.fronts.stack) * 8 / 1e9
        if gigabytes > FACTOR:
            raise ModelError(
                f"kernel `sparse` would need {gigabytes:.0f} GB for its factor with {design.fronts.n_nonzero:,} "
                f"entries (its limit is {FACTOR} GB): the components' structure fills in."
            )
        size, unit = [], []
        for c in model.components:
            per_effect = np.array([c.incidence(a).power(2).sum() / model.n_obs for a in range(c.n_effects)])
            size.append(per_effect)
            unit.append(1.0 / np.sqrt(per_effect))
        basis = Basis.of(model.X)
        kernel = cls(name, model, Layout.of(model, size, 1.0), basis, design, unit, 0.0, np.zeros(0), np.zeros(0))
        ok, _, logdet = kernel._factor([np.zeros((r, r)) for r in design.size], 1.0)
        if not ok:
            names = ", ".join(f"`{c.name}`" for c in model.components if c.relation is not None)
            raise ModelError(f"the precision matrix of {names} is not positive definite. Check how it was made.")
        return replace(kernel, offset=logdet)._with(model)

    def _with(self, model: Model) -> "SparseKernel":
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(self.basis, y)
        return replace(
            self, model=model, layout=self.layout.with_scale(sd / self.sd), y=self.basis.residual(y),
            beta0=self.basis.ols(y), sd=sd,
        )  # fmt: skip

    def bind(self, y: np.ndarray) -> "SparseKernel":
        """The same design with another response."""
        return self._with(self.model.replace(y=y))

    @property
    def stop_information(self) -> str:
        """The information that the stop rule asks for: "expected", or "average" where that would be dear."""
        return "expected" if self.design.q <= FEW else "average"

    @property
    def start_information(self) -> str:
        """The same for the moment step at the start and the check that parameters can be told apart."""
        return self.stop_information

    @property
    def standard_information(self) -> str:
        """The information of standard errors: "observed", or "average"."""
        return "observed" if self.design.q <= FEW else "average"

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """See `protocol.Kernel`. Where Ω is not positive semi-definite the log-likelihood is −inf, whatever V is.

        Raises ModelError for the expected information of a model too large for it.
        """
        theta = np.asarray(theta, float)
        n, d = self.basis.Q.shape
        sigma2 = float(theta[-1])
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        given = gamma is not None
        reml = criterion == "reml" and not given  # with β given nothing is left to integrate: ℓ_ML(β, θ)
        failed = Evaluation(theta, "reml" if reml else "ml", -np.inf, np.zeros(d), self.beta0)
        roots = self._roots(theta) if sigma2 > 0 else None
        if roots is None:
            return failed
        ok, panels, logdet_M = self._factor(roots, sigma2)
        if not ok:
            return failed
        at = Point(self.design, self.layout, self.model.Omegas(theta), roots, sigma2, panels)
        Q, y = self.basis.Q, self.y
        w = at.solve(np.column_stack([Q, y]))
        E = np.column_stack([Q, y]) - at.spread(w)
        cross = E.T @ E / sigma2 + w.T @ (self.design.P @ w)  # [Q y]ᵀV⁻¹[Q y], sums of squares
        A = cross[:d, :d]
        try:
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        gamma = cho_solve(A_factor, cross[:d, d]) if gamma is None else np.asarray(gamma, float)
        v = np.append(-gamma, 1.0)
        wr, g = w @ v, E @ v / sigma2  # ŵ, V⁻¹r
        quadratic = float(E @ v @ (E @ v)) / sigma2 + wr @ (self.design.P @ wr)
        logdet = n * np.log(sigma2) + logdet_M - self.offset
        loglik = -0.5 * (n * np.log(2 * np.pi) + logdet + quadratic)
        if reml:
            logdet_A = 2.0 * np.log(np.diag(A_factor[0])).sum()
            loglik += 0.5 * (d * np.log(2 * np.pi) - logdet_A - self.basis.logdet)
        wants = set(need)
        score = expected = average = moments = None
        if wants & {"score", "expected", "average", "observed", "moments"}:
            M = cho_solve(A_factor, np.eye(d))
            U, wQ = E[:, :d] / sigma2, w[:, :d]
            if wants - {"loglik", "average"}:
                at = at.with_inverse("moments" in wants)
                score = at.score(g, wr, U, wQ, M if reml else None)
            if wants & {"average", "observed"}:
                average = at.average(g, wr, U, None if given else M)
            if wants & {"expected", "observed"}:
                expected = at.expected(U, wQ, M if reml else None)
            if "moments" in wants:
                change = logdet_M - self.offset  # log|I + GZᵀZ/σ²|
                moments = at.moments(y - Q @ gamma, y, Q, wr, wQ, M if reml else None, change)
        return Evaluation(
            theta, failed.criterion, float(loglik), gamma, self.basis.beta(gamma, self.beta0), A,
            Q.T @ g if given else None, score, expected, average, moments,
        )  # fmt: skip

    def _roots(self, theta: np.ndarray) -> list[np.ndarray] | None:
        """Λ of each component, no eigenvalue below FLOOR; None where an Ω has one below 0."""
        out = []
        for Omega, unit in zip(self.model.Omegas(theta), self.unit, strict=True):
            values, vectors = np.linalg.eigh(Omega / np.outer(unit, unit))
            if values[0] < -1e-12 * max(values[-1], theta[-1]):
                return None
            out.append(unit[:, None] * vectors * np.sqrt(np.maximum(values, FLOOR * theta[-1])))
        return out

    def _factor(self, roots: list[np.ndarray], sigma2: float) -> tuple[bool, np.ndarray, float]:
        """M's factor: (whether M is positive definite, panels, log|M|)."""
        d = self.design
        values = np.empty(d.n_entries)
        coefficients(*d.pairs.tables, d.size, stacked(roots), sigma2, values)  # type: ignore[call-arg]
        return factorise(values, d.fronts.entry, d.fronts.tables, d.fronts.stack)

    def _point(self, theta: np.ndarray) -> Point:
        """M's factor at a θ where it must exist."""
        roots = self._roots(theta) if theta[-1] > 0 else None
        ok, panels = False, np.zeros(0)
        if roots is not None:
            ok, panels, _ = self._factor(roots, float(theta[-1]))
        if roots is None or not ok:
            raise ModelError("random effects are predicted where every Ω is positive semi-definite and σ² > 0.")
        return Point(self.design, self.layout, self.model.Omegas(theta), roots, float(theta[-1]), panels)

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β), of all levels with records or without: (levels, r), or (m,); û = GZᵀV⁻¹r."""
        at = self._point(np.asarray(theta, float))
        r = self.y - self.basis.Q @ self.basis.gamma(beta, self.beta0)
        f = at.unscaled(at.solve(r[:, None]))
        out = []
        for k, (c, Omega) in enumerate(zip(self.model.components, at.Omegas, strict=True)):
            u = self.design.by_effect(k, f)[..., 0] @ Omega
            out.append(u[:, 0] if c.is_plain else u)
        return out

    def prediction_errors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Var(û − u) (levels, r) of each component: the diagonal of ΛM⁻¹Λᵀ, and β̂'s share K (QᵀV⁻¹Q)⁻¹ Kᵀ of it."""
        at = self._point(np.asarray(theta, float))
        Q = self.basis.Q
        w = at.solve(Q)
        A = Q.T @ (Q - at.spread(w)) / at.sigma2
        K = self.design.times_roots(w, at.roots) @ np.linalg.inv(np.linalg.cholesky(A)).T
        out = []
        for k, (root, blocks) in enumerate(zip(at.roots, at.diagonal_blocks(), strict=True)):
            own = np.einsum("ac,ice,ae->ia", root, blocks, root)
            out.append(own + (self.design.by_effect(k, K) ** 2).sum(axis=2))
        return out
