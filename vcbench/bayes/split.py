"""One prior of all variances: the total has a law of its own, and a Dirichlet law splits it into shares.

    T² = Σ_k s_k σ_k²,    w_k = s_k σ_k²/T²,    T ~ `total`,    (w_1, …, w_K) ~ Dirichlet(α)

with s_k the mean of what multiplies σ_k² on the diagonal of V (1 for the residual), so that T² is the mean marginal
variance of y and w_k the share of it that component k explains: R² split by component (Zhang, Naughton, Bondell & Reich
2022, JASA 117, 862–874, give the idea for coefficients).

The simplex is stated by sticks, which are independent: w_k = v_k Π_{j<k}(1 − v_j), v_k ~ Beta(α_k, Σ_{j>k} α_j). Free
variables are T and v_1, …, v_{K−1}; `logpdf_free` is their density, `logpdf` that of (σ_1², …, σ_K²), which differs by
the Jacobian

    |∂(T, v)/∂σ²| = Π_k s_k / (2 T^(2K−1) Π_{k<K−1} r_k),    r_k = 1 − Σ_{j≤k} w_j: what sticks 1…k leave.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.priors import PC, Beta, HalfNormal, HalfT, _say
from vcbench.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOTAL = "total:sd"
TotalPrior = HalfNormal | HalfT | PC
DEFAULT = HalfNormal()


@dataclass(frozen=True, slots=True)
class Split:
    """Total SD ~ `total`, its square split by Dirichlet(alpha): one number for all shares, or one each, residual last.

    names and sizes (s_k) are those of the model's variances: `prior_choice.resolve` fills them in.
    """

    alpha: float | tuple[float, ...] = 1.0
    total: TotalPrior = DEFAULT
    names: tuple[str, ...] = ()
    sizes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        values = np.atleast_1d(np.asarray(self.alpha, float))
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ModelError(f"`alpha` of a Dirichlet split is {self.alpha!r}; it must be positive.")
        if not isinstance(self.total, TotalPrior):
            raise ModelError(f"`total` of a Dirichlet split is {self.total!r}; choose half-normal, half-t or pc.")

    def of(self, names: "Sequence[str]", sizes: "Sequence[float]", unit: float) -> "Split":
        """The split of these variances; `unit` (sd of y) is the scale of the total where none was given."""
        if isinstance(self.alpha, tuple) and len(self.alpha) != len(names):
            raise ModelError(
                f"`alpha` of a Dirichlet split holds {len(self.alpha)} numbers for {len(names)} variances: "
                f"{', '.join(names)}."
            )
        if len(names) < 2:
            raise ModelError("a Dirichlet split needs two variances or more; this model has one.")
        total = replace(self.total, scale=unit) if self.total.scale is None else self.total
        return replace(self, total=total, names=tuple(names), sizes=tuple(map(float, sizes)))

    @property
    def alphas(self) -> np.ndarray:
        """α (K,)."""
        return np.broadcast_to(np.asarray(self.alpha, float), (len(self.names),))

    @property
    def sticks(self) -> tuple[Beta, ...]:
        """The laws of v_1, …, v_{K−1}."""
        a = self.alphas
        return tuple(Beta(float(a[k]), float(a[k + 1 :].sum())) for k in range(len(a) - 1))

    @property
    def free_names(self) -> tuple[str, ...]:
        """Names of T and of the sticks."""
        return (TOTAL, *(f"stick({name})" for name in self.names[:-1]))

    def free(self, variances: Any) -> np.ndarray:
        """(T, v_1, …, v_{K−1}) (…, K) of variances σ² (…, K), all positive."""
        part = np.asarray(variances, float) * self.sizes
        left = np.cumsum(part[..., ::-1], axis=-1)[..., ::-1]  # left[k] = Σ_{j≥k}
        return np.concatenate([np.sqrt(left[..., :1]), part[..., :-1] / left[..., :-1]], axis=-1)

    def variances(self, free: "Sequence[Any]") -> list[Any]:
        """σ² from (T, v…), as numbers, arrays or PyTensor expressions alike."""
        return _variances(free, self.sizes)

    def variables(self, label: "Callable[[str], str]", scale: Any, sizes: Any) -> dict[str, Any]:
        """{variance name: σ² in PyTensor}, declaring `pm` variables for T and the sticks.

        scale of the total and sizes (K,): data, so that another design needs no other graph.
        """
        own = [self.total.variable(label(TOTAL), scale, float(self.total.scale or 1.0))]
        own += [
            p.variable(label(name), p.a / (p.a + p.b)) for p, name in zip(self.sticks, self.free_names[1:], strict=True)
        ]
        parts = _variances(own, [sizes[k] for k in range(len(self.names))])
        return dict(zip(self.names, parts, strict=True))

    def logpdf_free(self, variances: Any) -> np.ndarray:
        """Log density of (T, v) at the point of `variances` (…, K)."""
        free = self.free(variances)
        out = self.total.logpdf(free[..., 0])
        for k, stick in enumerate(self.sticks, start=1):
            out = out + stick.logpdf(free[..., k])
        return out

    def logpdf(self, variances: Any) -> np.ndarray:
        """Log density of σ² (…, K): `logpdf_free` with its Jacobian."""
        part = np.asarray(variances, float) * self.sizes
        K = part.shape[-1]
        left = np.cumsum(part[..., ::-1], axis=-1)[..., ::-1]
        # T, then v_k = part_k/left_k with left_{k+1} = left_k − part_k: each step divides by left_k
        jacobian = math.fsum(np.log(self.sizes)) - math.log(2) - 0.5 * np.log(left[..., 0])
        return self.logpdf_free(variances) + jacobian - np.log(left[..., : K - 1]).sum(axis=-1)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values of σ² (n, K)."""
        free = [self.total.draw(rng, n), *(p.draw(rng, n) for p in self.sticks)]
        return np.stack(self.variances(free), axis=-1)

    def explain(self) -> str:
        """One line."""
        alpha = ", ".join(f"{a:g}" for a in ([self.alpha] if isinstance(self.alpha, float | int) else self.alpha))
        return f"total {_say(self.total)}; its shares ({', '.join(self.names)}) Dirichlet({alpha})"


def _variances(free: "Sequence[Any]", sizes: "Sequence[Any]") -> list[Any]:
    rest: Any = free[0] ** 2
    out = []
    for v, s in zip(free[1:], sizes, strict=False):
        out.append(v * rest / s)
        rest = rest * (1 - v)
    return [*out, rest / sizes[-1]]
