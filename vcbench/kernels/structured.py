"""Kernels for models whose V is not linear in θ: a linear kernel, or `units`, seen through the maps of `model.working`.

`WorkingView` answers in the solvers' coordinates w: s_w = Jᵀs_τ, I_w = JᵀI_τJ, and for the observed information the
curvature of τ(w). `StructuredKernel` answers in natural θ, as every kernel does: s_θ = D⁻ᵀs_w with D = ∂θ/∂w.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench.kernels.blocks import Layout
from vcbench.kernels.protocol import Basis, Evaluation
from vcbench.kernels.units import Units
from vcbench.model.model import Model
from vcbench.model.structures import Patterned
from vcbench.model.working import Working, table_jet

BITS = {"score": 1, "expected": 2, "average": 4, "observed": 7, "moments": 8}


@dataclass(frozen=True, slots=True, eq=False)
class WorkingView:
    """The model in coordinates w; `inner` is a linear kernel on the relaxed model, or `Units`."""

    model: Model
    inner: Any
    maps: Working
    layout: Layout
    constant: float  # ½ Σ log weight

    @property
    def basis(self) -> Basis:
        """The orthonormal basis of X (times √weight)."""
        return self.inner.basis

    @property
    def beta0(self) -> np.ndarray:
        """β of (weighted) least squares, where γ = 0."""
        return self.inner.beta0

    @property
    def stop_information(self) -> str:
        """As the inner kernel's."""
        return getattr(self.inner, "stop_information", "expected")

    def smooth_start(self) -> np.ndarray:
        """φ of all structures at their start."""
        phi, own = self.maps.smooth_start(), getattr(self.inner, "residual_start", None)
        if own is not None and len(own):
            phi[-len(own) :] = own
        return phi

    def evaluate(
        self,
        w: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """The answers at w, derivatives in w; `curvature` comes with "expected" and "average" together."""
        if beta is not None:
            gamma = self.basis.gamma(beta, self.beta0)
        if gamma is not None:
            criterion = "ml"
        w = np.asarray(w, float)
        failed = Evaluation(w, criterion, -np.inf, np.zeros(len(self.beta0)), self.beta0)
        # a φ beyond its limit moves nothing any more: solvers find no score there, and go on with the others
        given, w = w, self.maps.inside(w)
        tau, J = self.maps.jacobian(w)
        J[:, given != w] = 0.0
        if not np.isfinite(tau).all() or not self._is_covariance(w):
            return failed
        want = 0
        for name in need:
            want |= BITS.get(name, 0)
        if isinstance(self.inner, Units):
            if tau[-1] <= 0:
                return failed
            a = self.inner.evaluate(tau, want, criterion == "reml", gamma)
            if not a.ok or not np.isfinite(a.loglik):
                return failed
            shift = self.constant - (0.5 * self.basis.logdet if criterion == "reml" else 0.0)
            at = Evaluation(
                tau,
                criterion,
                a.loglik + shift,
                a.gamma,
                self.basis.beta(a.gamma, self.beta0),
                a.QtVinvQ,
                a.score_gamma if gamma is not None else None,
                a.score if want else None,
                a.expected if want & 2 else None,
                a.average if want & 4 else None,
                a if want & 8 else None,  # type: ignore[arg-type]
                a.curvature,
            )
        else:
            ask = tuple(dict.fromkeys([*need, *(["score"] if want & 6 else [])]))
            at = self.inner.evaluate(tau, ask, criterion, gamma=gamma)
            if not np.isfinite(at.loglik):
                return failed
            at = replace(at, loglik=at.loglik + self.constant)
        return self._pull(at, w, J, want & 6 == 6, given)

    def _pull(self, at: Evaluation, w: np.ndarray, J: np.ndarray, bend: bool, given: np.ndarray) -> Evaluation:
        """An evaluation in τ as one in w."""
        curvature = None
        if bend and at.score is not None:
            curvature = -self.maps.curvature(w, at.score)
            curvature[:, given != w] = 0.0
            curvature[given != w] = 0.0
            if at.curvature is not None:
                curvature = curvature + J.T @ at.curvature @ J
        return replace(
            at,
            theta=given,
            score=None if at.score is None else J.T @ at.score,
            expected=_through(at.expected, J),
            average=_through(at.average, J),
            curvature=curvature,
        )

    def _is_covariance(self, w: np.ndarray) -> bool:
        """False where a patterned Ω, whose φ do not keep it positive definite, is not."""
        for p in self.maps.parts:
            if isinstance(p.family, Patterned):
                r, table = p.family.n_levels, table_jet(p.family, w[p.smooth])
                if np.linalg.eigvalsh(table.v.reshape(r, r))[0] <= 0:
                    return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class StructuredKernel:
    """The kernel of a structured model in natural θ; `view` is the same in the solvers' coordinates."""

    name: str
    view: WorkingView = field(repr=False)

    @classmethod
    def build(cls, model: Model, name: str, inner: Any) -> "StructuredKernel":
        """Around `inner`, a kernel or `Units` of `model.relaxed()`."""
        weights = model.noise.weights
        constant = 0.0 if weights is None else 0.5 * float(np.log(weights).sum())
        layout = _layout(model, inner.layout)
        return cls(name, WorkingView(model, inner, model.working, layout, constant))

    @property
    def model(self) -> Model:
        """The model whose y is bound."""
        return self.view.model

    @property
    def standard_information(self) -> str:
        """The information of standard errors, as the inner kernel's."""
        return getattr(self.view.inner, "standard_information", "observed")

    @property
    def layout(self) -> Layout:
        """How w sits in cones."""
        return self.view.layout

    @property
    def basis(self) -> Basis:
        """The orthonormal basis of X."""
        return self.view.basis

    @property
    def beta0(self) -> np.ndarray:
        """β of (weighted) least squares."""
        return self.view.beta0

    def bind(self, y: np.ndarray) -> "StructuredKernel":
        """The same design with another response."""
        model = self.model.replace(y=y)
        weights = model.noise.weights
        inner = self.view.inner.bind(model.y if weights is None else model.y * np.sqrt(weights))
        return replace(self, view=replace(self.view, model=model, inner=inner, layout=_layout(model, inner.layout)))

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """See `protocol.Kernel`; θ natural. Raises ModelError for a correlation outside its range."""
        work = self.view.maps
        w = work.w(theta)
        if "observed" in need:
            need = (*need, "score", "expected", "average")
        at = self.view.evaluate(w, need, criterion, beta, gamma)
        if at.score is None:
            return replace(at, theta=np.asarray(theta, float), moments=None)
        _, D = work.theta_jacobian(w)
        Di = np.linalg.inv(D)
        score = Di.T @ at.score
        curvature = at.curvature
        if curvature is not None:
            curvature = Di.T @ (curvature + work.theta_curvature(w, score)) @ Di
        return replace(
            at,
            theta=np.asarray(theta, float),
            score=score,
            expected=_through(at.expected, Di),
            average=_through(at.average, Di),
            curvature=curvature,
            moments=None,
        )

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β)."""
        view = self.view
        tau = view.maps.tau(view.maps.w(theta))
        if not isinstance(view.inner, Units):
            return view.inner.blup(tau, beta)
        gamma = view.basis.gamma(beta, view.beta0)
        at = view.inner.evaluate(tau, 0, False, gamma)
        return view.inner.blup(at.g, self.model.Omegas(theta))


def _through(information: np.ndarray | None, J: np.ndarray) -> np.ndarray | None:
    """JᵀIJ, where I was asked for."""
    return None if information is None else J.T @ information @ J


def _layout(model: Model, inner: Layout) -> Layout:
    """Cones of w: each free block, one variance for each structured component and the nugget; the residual last."""
    work = model.working
    pa: list[int] = []
    pb: list[int] = []
    ptr, effects = [0], []
    q: list[float] = []
    scale: list[float] = []
    r = 0
    seen: dict[int, int] = {}  # first position in w of a component's parameters -> its first pseudo-effect
    for c, part in zip(model.components, work.parts, strict=True):
        if part.value is not None:
            continue
        levels = float(c.n_levels)
        if int(part.linear[0]) in seen:
            first = seen[int(part.linear[0])]
            for a in range(c.n_effects if part.family is None else 1):
                q[first + a] += levels if part.family is None else levels * c.n_effects
            continue
        seen[int(part.linear[0])] = r
        if part.family is None:
            pa += [r + a for a, _ in c.index]
            pb += [r + b for _, b in c.index]
            scale += list(inner.scale[part.pairs])
            for block in c.partition:
                effects += [r + a for a in block]
                ptr.append(len(effects))
            q += [levels] * c.n_effects
            r += c.n_effects
        else:
            diagonal = [float(inner.scale[at]) for at, (a, b) in zip(part.pairs, part.index, strict=True) if a == b]
            pa.append(r)
            pb.append(r)
            scale.append(float(np.mean(diagonal)))
            effects.append(r)
            ptr.append(len(effects))
            q.append(levels * c.n_effects)
            r += 1
    if model.noise.has_nugget:
        pa.append(r)
        pb.append(r)
        scale.append(float(inner.scale[-1]))
        effects.append(r)
        ptr.append(len(effects))
        q.append(float(model.n_obs))
    scale += [1.0] * (work.n_free_effects + work.n_free_residual)
    scale.append(float(inner.scale[-1]))
    none = np.zeros(0, np.int64)
    return Layout(
        np.array(pa, np.int64), np.array(pb, np.int64), none, none, none, np.array(ptr, np.int64),
        np.array(effects, np.int64), np.asarray(q, float), np.asarray(scale, float),
        model.n_obs,
    )  # fmt: skip
