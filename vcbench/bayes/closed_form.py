"""Likelihoods that are sums in closed form (`markov`, `lattice`, `matrix_normal`): what they share.

With X = QT and [Q y] the rows in that basis (times √weight), log|V| and G = [Q y]ᵀV⁻¹[Q y] are simple functions of the
parameters w (`model.working`) and of sums over the data; the rest of ℓ follows from G as in `reduced`. `parts` is
written once for numbers and for PyTensor: `xp` is `numpy` or `pytensor.tensor`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from vcbench.bayes.gram import OfGram
from vcbench.kernels.protocol import Basis
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class ClosedForm(OfGram):
    """The likelihood of one response; answers as `reduced.Reduced` does. Subclasses say the sums, and ℓ of them."""

    model: Model
    basis: Basis = field(repr=False)
    beta0: np.ndarray = field(default_factory=lambda: np.empty(0))
    sums: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @staticmethod
    def design(model: Model) -> tuple[Model, Basis]:
        """The model, and the basis of X (times √weight)."""
        return model, Basis.of(np.asarray(model.X) * half_weights(model)[:, None])

    def statistics(self, U: np.ndarray) -> dict[str, np.ndarray]:
        """The sums of [Q y] = U (n, d+1)."""
        raise NotImplementedError

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """Numbers of the design that `parts` needs."""
        raise NotImplementedError

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        raise NotImplementedError

    @property
    def size(self) -> str:
        """What is summed, in words."""
        raise NotImplementedError

    def parts(self, w: Any, d: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """(log|V|, lower triangle of G) at w, from the sums and constants d: numbers or PyTensor expressions."""
        raise NotImplementedError

    def bound(self, model: Model) -> Self:
        """The same design with the response of `model`."""
        y = (model.y if model.offset is None else model.y - model.offset) * half_weights(model)
        sums = self.statistics(np.column_stack([self.basis.Q, self.basis.residual(y)]))
        return replace(self, model=model, beta0=self.basis.ols(y), sums=sums)

    def bind(self, y: np.ndarray) -> Self:
        """The same design with the response y (n,), offset already subtracted."""
        return self.bound(self.model.replace(y=y if self.model.offset is None else y + self.model.offset))

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
        return self.basis.T

    @property
    def logdet_xx(self) -> float:
        """log|XᵀX|."""
        return self.basis.logdet

    @property
    def constant(self) -> float:
        """n log 2π − Σ log weight."""
        return self.n_obs * float(np.log(2 * np.pi)) - 2 * float(np.log(half_weights(self.model)).sum())

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What the twin receives as `pm.Data`, by name."""
        return {
            **self.sums,
            **self.constants,
            "constant": np.asarray(self.constant),
            "logdet_xx": np.asarray(self.logdet_xx),
            "T": self.T,
            "T_inverse": np.linalg.inv(self.T),
            "beta_ols": self.beta0,
        }

    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log|V| (M,), G (M, d+1, d+1)) at the rows of theta (M, p)."""
        rows, d = np.atleast_2d(np.asarray(theta, float)), self.data
        d1 = self.n_fixed + 1
        low = np.tril_indices(d1)
        logdet, G = np.empty(len(rows)), np.empty((len(rows), d1, d1))
        for i, t in enumerate(rows):
            logdet[i], g = self.parts(self.model.working.w(t), d, np)
            G[i][low] = G[i].T[low] = g
        return logdet, G


def half_weights(model: Model) -> np.ndarray:
    """√weight of every row (n,)."""
    return np.ones(model.n_obs) if model.noise.weights is None else np.sqrt(model.noise.weights)


def products(A: np.ndarray, B: np.ndarray, low: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """a_i b_jᵀ of rows of A and B (S, d+1), at the pairs of `low`: (S, g)."""
    return A[:, low[0]] * B[:, low[1]]
