"""What a kernel answers: the same questions for every structure, only those that were asked."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vcbench.model.model import Model

NEEDS = ("loglik", "score", "expected", "average", "observed", "moments")


@dataclass(frozen=True, slots=True)
class Basis:
    """X = Q T with QᵀQ = I: kernels work with Q and γ = T(β − β_0), which no scaling of X's columns can hurt.

    β_0 is the OLS estimate of the response bound, so that γ = 0 is OLS and sums of squares do not cancel.
    """

    Q: np.ndarray
    T: np.ndarray
    holds_constant: bool = False

    @classmethod
    def of(cls, X: np.ndarray) -> "Basis":
        """The basis of X (n, d) by QR."""
        Q, T = np.linalg.qr(X)
        off = np.abs(1.0 - Q @ Q.sum(axis=0)).max(initial=0.0)  # of the column of ones, its part outside X
        return cls(np.ascontiguousarray(Q), T, bool(off < 1e-12))

    @property
    def logdet(self) -> float:
        """log|XᵀX|, which turns log|QᵀV⁻¹Q| into log|XᵀV⁻¹X|."""
        return 2.0 * float(np.log(np.abs(np.diag(self.T))).sum())

    def beta(self, gamma: np.ndarray, beta0: np.ndarray) -> np.ndarray:
        """β = β_0 + T⁻¹γ."""
        return beta0 + np.linalg.solve(self.T, gamma)

    def gamma(self, beta: np.ndarray, beta0: np.ndarray) -> np.ndarray:
        """γ = T(β − β_0)."""
        return self.T @ (np.asarray(beta, float) - beta0)

    def residual(self, y: np.ndarray) -> np.ndarray:
        """My = y − QQᵀy of a response (n,) or of several (n, R).

        Where X holds the constant, y less its mean is exact in floating point if its digits lead with a constant; the
        rounding of QQᵀy is then that of the digits which vary.
        """
        if self.holds_constant:
            y = y - y.mean(axis=0)
        return y - self.Q @ (self.Q.T @ y)

    def ols(self, y: np.ndarray) -> np.ndarray:
        """β_0 = (XᵀX)⁻¹Xᵀy; y may be (n,) or (n, R)."""
        return np.linalg.solve(self.T, self.Q.T @ y)


@dataclass(frozen=True, slots=True)
class Moments:
    """Expected complete-data statistics after the E-step, at the finest grain that a parameter expansion can ask for.

    With effects a = 1 … r of all components stacked, the features are W_ab = Z^(a) u^(b), (a, b) within one component,
    listed in `features` (m, 2); α_ab multiplies W_ab and α = I is the model itself. Expectations over u | y at (β, θ)
    (ML) or over (β, u) | y (REML):

        F = E[WᵀW] (m, m)        Wty = E[W]ᵀy (m,)        XtW = XᵀE[W] (d, m)
        S = Σ_levels E[b bᵀ] (r, r), zero between components

    and under REML, where β is integrated out, f = E[Wᵀ(y − Xβ)] (m,) and E0 = E‖y − Xβ‖². X is the orthonormal Q of
    `Basis` (XᵀX = I) and y the response less its OLS fit (Xᵀy = 0, yᵀy = `yty`).
    logdet is log|I + GZᵀZ/σ²|, so that the entropy of u is ½ log|2πe Σ̃| = ½(q(1+log 2π) + log|G| − logdet).
    """

    features: np.ndarray
    F: np.ndarray
    Wty: np.ndarray
    XtW: np.ndarray
    S: np.ndarray
    yty: float
    f: np.ndarray
    E0: float
    logdet: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answers at one θ (and β, if β was given). What was not asked for is None.

    loglik is −inf, and the rest None, where V(θ) is not positive definite.
    score (p,), expected/average/observed (p, p): of ℓ with β profiled (ML) or integrated (REML), natural units; where β
    was given, they are those of θ in ℓ_ML(β, θ), whatever criterion was asked for, and score_gamma (d,) is
    ∂ℓ/∂γ = QᵀV⁻¹r. curvature (p, p) is ½[tr(T V_jk) − yᵀP V_jk P y] for V not linear in θ, else None.
    """

    theta: np.ndarray
    criterion: str
    loglik: float
    gamma: np.ndarray
    beta: np.ndarray
    QtVinvQ: np.ndarray | None = None
    score_gamma: np.ndarray | None = None
    score: np.ndarray | None = None
    expected: np.ndarray | None = None
    average: np.ndarray | None = None
    moments: Moments | None = None
    curvature: np.ndarray | None = None

    @property
    def observed(self) -> np.ndarray | None:
        """−∂²ℓ/∂θ∂θᵀ = 2·average − expected + curvature (MATH §2); None unless all that it needs is there."""
        if self.average is None or self.expected is None:
            return None
        linear = 2.0 * self.average - self.expected
        return linear if self.curvature is None else linear + self.curvature


class Kernel(Protocol):
    """One structure's way of computing ℓ and what follows from it."""

    @property
    def name(self) -> str:
        """Its name in `choose.KERNELS`."""
        ...

    @property
    def model(self) -> Model:
        """The model whose y is bound."""
        ...

    @property
    def layout(self) -> Any:
        """How θ sits in Ω: `blocks.Layout`."""
        ...

    @property
    def basis(self) -> Basis:
        """The orthonormal basis of X."""
        ...

    @property
    def beta0(self) -> np.ndarray:
        """β_OLS, where γ = 0."""
        ...

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component."""
        ...

    def bind(self, y: np.ndarray) -> "Kernel":
        """The same design with another response (n,)."""
        ...

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """Answer what is in `need` at θ; β profiled out, or as given (`gamma` is β in the orthonormal basis)."""
        ...
