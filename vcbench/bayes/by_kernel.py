"""The likelihood of a twin by the model's own kernel: every structure of Ω and of R, crossed effects, any number of
relationship matrices. PyTensor sees it as one Op (`op`); here is what that Op asks."""

from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np

from vcbench import kernels
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.gram import beta_of
from vcbench.bayes.lattice import Lattice
from vcbench.bayes.markov import Markov
from vcbench.bayes.matrix_normal import MatrixNormal
from vcbench.bayes.reduced import Reduced, layout
from vcbench.kernels.structured import StructuredKernel
from vcbench.model.model import Model

Answer = tuple[float, np.ndarray, np.ndarray]
_ONE_AT_A_TIME = RLock()  # kernels keep work space of their own, and samplers run chains in threads


@dataclass(frozen=True, slots=True, eq=False)
class ByKernel:
    """A kernel bound to a response, answering in the coordinates w of `model.working`, and γ = T(β − β_0).

    `kept` holds the last answer, so that ℓ and its gradient at one point cost one factorisation; `responses` the kernel
    of the last other response.
    """

    kernel: Any
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    responses: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: Model) -> "ByKernel":
        """The kernel that `kernels.choose` names. Raises ModelError for parameters that no data could tell apart."""
        return cls(kernels.build(model))

    @property
    def model(self) -> Model:
        """The model whose response is bound."""
        return self.kernel.model

    def bind(self, y: np.ndarray) -> "ByKernel":
        """The same design with the response y (n,), offset already subtracted."""
        offset = self.model.offset
        return ByKernel(self.kernel.bind(y if offset is None else y + offset))

    @property
    def n_obs(self) -> int:
        """n."""
        return self.model.n_obs

    @property
    def n_fixed(self) -> int:
        """d."""
        return self.model.n_fixed

    @property
    def T(self) -> np.ndarray:
        """X = QT (times √weight)."""
        return self.kernel.basis.T

    @property
    def beta0(self) -> np.ndarray:
        """β where γ = 0."""
        return self.kernel.beta0

    def beta_of(self, gamma: np.ndarray) -> np.ndarray:
        """β = β_0 + T⁻¹γ at the rows of γ (M, d)."""
        return beta_of(gamma, self.T, self.beta0)

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What the twin receives as `pm.Data`: the response, and what turns γ into β."""
        y = self.model.y if self.model.offset is None else self.model.y - self.model.offset
        return {"y": y, "T": self.T, "T_inverse": np.linalg.inv(self.T), "beta_ols": self.beta0}

    @property
    def form(self) -> tuple:
        """What compiled code depends on: the kernel's name and the design, whatever the response."""
        return self.kernel.name, self.model.design

    def loglik(self, theta: np.ndarray, criterion: str, beta: np.ndarray | None = None) -> np.ndarray:
        """ℓ_REML(θ), or ℓ_ML(β, θ) (β profiled if None), at the rows of theta (M, p); −∞ where V is not PD."""
        rows = np.atleast_2d(np.asarray(theta, float))
        return np.array([self.kernel.evaluate(t, criterion=criterion, beta=beta).loglik for t in rows])

    def centre(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(A = QᵀV⁻¹Q (M, d, d), γ̂ (M, d)) at the rows of theta (M, p)."""
        at = [self.kernel.evaluate(t) for t in np.atleast_2d(np.asarray(theta, float))]
        return np.array([a.QtVinvQ for a in at]), np.array([a.gamma for a in at])

    def answer(self, w: np.ndarray, gamma: np.ndarray, y: np.ndarray, criterion: str) -> Answer:
        """(ℓ, ∂ℓ/∂w, ∂ℓ/∂γ) for the response y, offset subtracted; under "reml" γ is not looked at.

        Where V is not positive definite ℓ is −∞ and the gradient 0: a sampler turns back there.
        """
        key = (w.tobytes(), gamma.tobytes() if criterion == "ml" else b"", y.tobytes(), criterion)
        with _ONE_AT_A_TIME:
            known = self.kept.get("last")
            if known is None or known[0] != key:
                known = self.kept["last"] = (key, self._answer(w, gamma, y, criterion))
            return known[1]

    def _answer(self, w: np.ndarray, gamma: np.ndarray, y: np.ndarray, criterion: str) -> Answer:
        bound = self._bound(y)
        at = _view(bound.kernel).evaluate(
            np.array(w), ("score",), criterion, gamma=np.array(gamma) if criterion == "ml" else None
        )
        none = np.zeros(len(gamma))
        if at.score is None or not (np.isfinite(at.loglik) and np.isfinite(at.score).all()):
            return -np.inf, np.zeros(len(w)), none
        own = none if at.score_gamma is None else np.array(at.score_gamma)
        return float(at.loglik), np.array(at.score), own

    def hessian(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        """∂²ℓ_REML/∂w∂wᵀ (k, k)."""
        with _ONE_AT_A_TIME:
            view = _view(self._bound(y).kernel)
            at = view.evaluate(np.array(w), ("observed", "score", "expected", "average"), "reml")
        return np.full((len(w), len(w)), np.nan) if at.observed is None else -at.observed

    def _bound(self, y: np.ndarray) -> "ByKernel":
        known = self.responses.get("last")
        if known is None or not np.array_equal(known[0], y):
            known = (np.array(y), self.bind(np.array(y)))
            self.responses["last"] = known
        return known[1]


Likelihood = Reduced | ByKernel
TwinLikelihood = Reduced | ClosedForm | ByKernel


def likelihood_of(model: Model) -> TwinLikelihood:
    """Sufficient statistics where V falls into small blocks, has one relationship matrix (for several traits too), or
    is that of residuals with a closed form; else the model's kernel."""
    if Reduced.why_not(model) is None and (layout(model) in ("grouped", "spectral") or not model.components):
        return Reduced.of(model)
    for closed in (Markov, Lattice, MatrixNormal):
        if closed.why_not(model) is None:
            return closed.of(model)
    return ByKernel.of(model)


def _view(kernel: Any) -> Any:
    return kernel.view if isinstance(kernel, StructuredKernel) else kernel
