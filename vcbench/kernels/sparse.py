"""Effects with a sparse precision: u_k ~ N(0, Ω_k ⊗ A_k), A_k⁻¹ sparse (a pedigree's, an AR(1)'s, I of a group).

With Ω = ΛΛᵀ and u = Λw, w ~ N(0, A), all of it follows from the sparse Cholesky factor of

    M = ΛᵀZᵀR⁻¹ZΛ + P,  P = A⁻¹      log|V| = log|R| + log|M| − log|P|,    V⁻¹x = R⁻¹(x − ZΛ M⁻¹ ΛᵀZᵀR⁻¹x)

and from M⁻¹ where M has entries: A ΛᵀZᵀV⁻¹Z = M⁻¹ΛᵀZᵀR⁻¹Z, so that Λᵀ[tr(A Z_aᵀV⁻¹Z_b)] is a sum over those. A itself
is never formed. Henderson's equations are Λ⁻ᵀMΛ⁻¹; M exists where Ω is 0 or singular too. There, an eigenvalue of Ω
counts as FLOOR, a share of σ² below rounding, so that Λ can be divided by: every quotient is of numbers that carry the
factor λ themselves, and keeps its digits.

R = σ²I, or small blocks over units of rows (`sparse_residual`): then θ is τ of `model.working`, R's parameters last.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from vcbench.errors import ModelError
from vcbench.kernels.blocks import Layout, _residual_sd
from vcbench.kernels.protocol import Basis, Evaluation
from vcbench.kernels.sparse_core import coefficients, factorise
from vcbench.kernels.sparse_design import SparseDesign
from vcbench.kernels.sparse_moments import UnitMoments
from vcbench.kernels.sparse_point import Point, stacked
from vcbench.kernels.sparse_residual import Blocks, Classes, Independent, level_start
from vcbench.model.component import Component
from vcbench.model.jets import variables
from vcbench.model.model import Model
from vcbench.model.noise import Noise

FLOOR = 1e-17  # of σ², per unit of the size of ZZᵀ: the least eigenvalue of Ω that M is made with
FEW = 500  # effects up to which the exact expected information is no dearer than an iteration
ROWS = 1000  # the same of rows, where residuals are correlated
FACTOR = 12  # GB that the factor and its inverse may take


@dataclass(frozen=True, slots=True, eq=False)
class SparseKernel:
    """The kernel on M. y and X as they are, (n,) and the orthonormal (n, d): an evaluation is linear in n and in d."""

    name: str
    model: Model
    layout: Layout
    basis: Basis
    design: SparseDesign
    squares: list[np.ndarray] = field(repr=False)  # Σ of each row's squared entries (n, r) of Z, per component
    unit: list[np.ndarray] = field(repr=False)  # 1/rms of each effect's column of Z, per component
    classes: Classes | None  # units of correlated residuals
    offset: float  # log|P|
    y: np.ndarray = field(repr=False)
    beta0: np.ndarray = field(repr=False)
    sd: float = 1.0

    @classmethod
    def build(cls, model: Model, name: str = "sparse", noise: Noise | None = None) -> "SparseKernel":
        """Order and analyse. `noise`: the residual structure of a model that `model` is the relaxed form of.

        Raises ModelError for a component that has no sparse precision, a precision that is not positive definite, a
        factor too large, and units of residuals that are.
        """
        assert model.X is not None
        if not model.components:
            raise ModelError('kernel `sparse` needs a random component. Use `kernel="dense"`.')
        for c in model.components:
            if c.relation is not None and c.relation.precision is None:
                raise ModelError(
                    f"kernel `sparse` needs the inverse of a relationship matrix; component `{c.name}` has K. Pass "
                    'its sparse inverse as `precision=`, or use `kernel="dense"`.'
                )
        classes = None if noise is None else Classes.of(noise)
        design = SparseDesign.of(model, classes)
        gigabytes = (2 * design.fronts.panel_ptr[-1] + design.fronts.stack) * 8 / 1e9
        if gigabytes > FACTOR:
            raise ModelError(
                f"kernel `sparse` would need {gigabytes:.0f} GB for its factor with {design.fronts.n_nonzero:,} "
                f"entries (its limit is {FACTOR} GB): the components' structure fills in."
            )
        squares = [_squares(c) for c in model.components]
        size = [rows.sum(axis=0) / model.n_obs for rows in squares]
        layout = Layout.of(model, size, 1.0)
        if classes is not None:
            layout = replace(layout, scale=np.append(layout.scale, np.ones(classes.n_parameters - 1)))
        unit = [1.0 / np.sqrt(per_effect) for per_effect in size]
        kernel = cls(
            name, model, layout, Basis.of(model.X), design, squares, unit, classes, 0.0, np.zeros(0), np.zeros(0)
        )
        ok, _, logdet = kernel._factor([np.zeros((r, r)) for r in design.size], design.pairs.B, 1.0)
        if not ok:
            names = ", ".join(f"`{c.name}`" for c in model.components if c.relation is not None)
            raise ModelError(f"the precision matrix of {names} is not positive definite. Check how it was made.")
        return replace(kernel, offset=logdet)._with(model)

    def _with(self, model: Model) -> "SparseKernel":
        y = model.y if model.offset is None else model.y - model.offset
        sd = _residual_sd(self.basis, y)
        r = self.basis.residual(y)
        layout = self.layout.with_scale(sd / self.sd) if self.classes is None else self._scaled(r, sd)
        return replace(self, model=model, layout=layout, y=r, beta0=self.basis.ols(y), sd=sd)

    def _scaled(self, r: np.ndarray, sd: float) -> Layout:
        """Scales of Ω and σ² from the OLS residuals r of the rows that each effect touches: traits differ in unit."""
        assert self.classes is not None
        size = []
        for rows in self.squares:
            own = (r**2) @ rows / rows.sum(axis=0)
            size.append(rows.sum(axis=0) / len(r) / np.where(own > 0, own, sd**2))
        scale = Layout.of(self.model, size, 1.0).scale[:-1]
        phi = level_start(self.classes.noise.family, r)
        C = self.classes.noise.family.table(variables(phi), len(phi)).v[self.classes.table]
        inverse = self.classes.inverse(C)
        sigma2 = sd**2 if inverse is None else float(r @ (self.classes.laid(inverse[0]) @ r)) / len(r)
        nugget = [sd**2] * int(self.classes.noise.has_nugget)
        return replace(self.layout, scale=np.concatenate([scale, nugget, np.ones(len(phi)), [sigma2]]))

    @property
    def residual_start(self) -> np.ndarray | None:
        """φ of R to start from, where the data have a say in it."""
        return None if self.classes is None else level_start(self.classes.noise.family, self.y)

    def bind(self, y: np.ndarray) -> "SparseKernel":
        """The same design with another response."""
        return self._with(self.model.replace(y=y))

    @property
    def stop_information(self) -> str:
        """The information that the stop rule asks for: "expected", or "average" where that would be dear."""
        return "expected" if self._is_small else "average"

    @property
    def _is_small(self) -> bool:
        return self.design.q <= FEW and (self.classes is None or self.classes.n <= ROWS)

    @property
    def largest(self) -> int:
        """Rows that one factorisation takes at a time: all."""
        return self.model.n_obs

    @property
    def start_information(self) -> str:
        """The same for the moment step at the start and the check that parameters can be told apart."""
        return self.stop_information

    @property
    def standard_information(self) -> str:
        """The information of standard errors: "observed", or "average"."""
        return "observed" if self._is_small else "average"

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
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        given = gamma is not None
        reml = criterion == "reml" and not given  # with β given nothing is left to integrate: ℓ_ML(β, θ)
        failed = Evaluation(theta, "reml" if reml else "ml", -np.inf, np.zeros(d), self.beta0)
        at, logdet_M = self._point(theta)
        if at is None:
            return failed
        Q, y = self.basis.Q, self.y
        work = np.column_stack([Q, y])
        w = at.solve(work)
        E = work - at.spread(w)
        RE = at.R.solve(E)  # V⁻¹[Q y]
        cross = E.T @ RE + w.T @ (self.design.P @ w)  # [Q y]ᵀV⁻¹[Q y], sums of squares
        A = cross[:d, :d]
        try:
            A_factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return failed
        gamma = cho_solve(A_factor, cross[:d, d]) if gamma is None else np.asarray(gamma, float)
        v = np.append(-gamma, 1.0)
        wr, g = w @ v, RE @ v  # ŵ, V⁻¹r
        quadratic = float(E @ v @ g) + wr @ (self.design.P @ wr)
        logdet = at.R.logdet + logdet_M - self.offset
        loglik = -0.5 * (n * np.log(2 * np.pi) + logdet + quadratic)
        if reml:
            logdet_A = 2.0 * np.log(np.diag(A_factor[0])).sum()
            loglik += 0.5 * (d * np.log(2 * np.pi) - logdet_A - self.basis.logdet)
        wants = set(need)
        score = expected = average = moments = curvature = None
        if wants & {"score", "expected", "average", "observed", "moments"}:
            M = cho_solve(A_factor, np.eye(d))
            U, wQ = RE[:, :d], w[:, :d]
            if wants - {"loglik", "average"}:
                at = at.with_inverse("moments" in wants and self.classes is None)
                score, G = at.score(g, wr, U, wQ, M if reml else None)
                curvature = self._curvature(at.R.curvature(G))
            if wants & {"average", "observed"}:
                average = at.average(g, wr, U, None if given else M)
            if wants & {"expected", "observed"}:
                expected = at.expected(U, wQ, M if reml else None)
            if "moments" in wants:
                change = logdet_M - self.offset  # log|I + GZᵀR⁻¹Z|
                moments = self._moments(at, score, y - Q @ gamma, wr, wQ, M if reml else None, change)
        return Evaluation(
            theta, failed.criterion, float(loglik), gamma, self.basis.beta(gamma, self.beta0), A,
            Q.T @ g if given else None, score, expected, average, moments, curvature,
        )  # fmt: skip

    def _moments(self, at: Point, score, r: np.ndarray, wr: np.ndarray, wQ: np.ndarray, M, change: float) -> Any:
        """The E-step: `protocol.Moments`, or `UnitMoments` where residuals are correlated within units."""
        if self.classes is not None:
            return UnitMoments.of(at, score, r, self.basis.Q, wr, wQ, M)
        return at.moments(r, self.y, self.basis.Q, wr, wQ, M, change)

    def _curvature(self, own: np.ndarray | None) -> np.ndarray | None:
        """½[tr(T V_jk) − gᵀV_jk g]: 0 but for the residual's parameters."""
        if own is None:
            return None
        p = len(self.layout.scale)
        out = np.zeros((p, p))
        out[p - len(own) :, p - len(own) :] = own
        return out

    def _residual(self, theta: np.ndarray) -> Independent | Blocks | None:
        """R at θ; None where it is not positive definite."""
        if self.classes is not None:
            assert self.design.joins is not None
            return Blocks.at(self.classes, self.design.joins, theta[-self.classes.n_parameters :])
        return Independent(self.model.n_obs, float(theta[-1])) if theta[-1] > 0 else None

    def _point(self, theta: np.ndarray) -> tuple[Point | None, float]:
        """(M's factor, log|M|) at θ; (None, 0) where R or an Ω is not positive semi-definite."""
        R = self._residual(theta)
        roots = None if R is None else self._roots(theta, R)
        if R is None or roots is None:
            return None, 0.0
        B, scale = R.products(self.design.pairs.B)
        ok, panels, logdet = self._factor(roots, B, scale)
        if not ok:
            return None, 0.0
        return Point(self.design, self.layout, self.model.Omegas(theta), roots, R, B, scale, panels), logdet

    def _roots(self, theta: np.ndarray, R: Independent | Blocks) -> list[np.ndarray] | None:
        """Λ of each component, no eigenvalue below FLOOR in the units of R; None where an Ω has one below 0."""
        units, size = self.unit, float(theta[-1])
        if isinstance(R, Blocks):
            precision = R.inverse.diagonal()
            units, size = [np.sqrt(len(precision) / (precision @ rows)) for rows in self.squares], 1.0
        out = []
        for Omega, unit in zip(self.model.Omegas(theta), units, strict=True):
            values, vectors = np.linalg.eigh(Omega / np.outer(unit, unit))
            if values[0] < -1e-12 * max(values[-1], size):
                return None
            out.append(unit[:, None] * vectors * np.sqrt(np.maximum(values, FLOOR * size)))
        return out

    def _factor(self, roots: list[np.ndarray], B: np.ndarray, scale: float) -> tuple[bool, np.ndarray, float]:
        """M's factor, ZᵀR⁻¹Z = B/scale: (whether M is positive definite, panels, log|M|)."""
        d = self.design
        values = np.empty(d.n_entries)
        coefficients(*d.pairs.tables(B), d.size, stacked(roots), scale, values)  # type: ignore[call-arg]
        return factorise(values, d.fronts.entry, d.fronts.tables, d.fronts.stack)

    def _factored(self, theta: np.ndarray) -> Point:
        """M's factor at a θ where it must exist."""
        at, _ = self._point(np.asarray(theta, float))
        if at is None:
            raise ModelError("random effects are predicted where every Ω is positive semi-definite and σ² > 0.")
        return at

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β), of all levels with records or without: (levels, r), or (m,); û = GZᵀV⁻¹r."""
        at = self._factored(theta)
        r = self.y - self.basis.Q @ self.basis.gamma(beta, self.beta0)
        f = at.unscaled(at.solve(r[:, None]))
        out = []
        for k, (c, Omega) in enumerate(zip(self.model.components, at.Omegas, strict=True)):
            u = self.design.by_effect(k, f)[..., 0] @ Omega
            out.append(u[:, 0] if c.is_plain else u)
        return out

    def prediction_errors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Var(û − u) (levels, r) of each component: the diagonal of ΛM⁻¹Λᵀ, and β̂'s share K (QᵀV⁻¹Q)⁻¹ Kᵀ of it."""
        at = self._factored(theta)
        Q = self.basis.Q
        w = at.solve(Q)
        A = Q.T @ at.R.solve(Q - at.spread(w))
        K = self.design.times_roots(w, at.roots) @ np.linalg.inv(np.linalg.cholesky(A)).T
        out = []
        for k, (root, blocks) in enumerate(zip(at.roots, at.diagonal_blocks(), strict=True)):
            own = np.einsum("ac,ice,ae->ia", root, blocks, root)
            out.append(own + (self.design.by_effect(k, K) ** 2).sum(axis=2))
        return out


def _squares(c: Component) -> np.ndarray:
    """(n, r): each row's sum of squares in Z^(a)."""
    return np.column_stack([np.asarray(c.incidence(a).power(2).sum(axis=1)).ravel() for a in range(c.n_effects)])
