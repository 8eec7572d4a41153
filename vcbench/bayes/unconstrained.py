"""The log density of a twin on the unconstrained scale, with its gradient: what Laplace, pathfinder and ADVI climb.

The free variables of the twin move on the real line (log σ, logit of a correlation on its range, β as it is), so that
the density holds their Jacobians. It is the function that nutpie compiled for NUTS, called with the data of any
response: a structure is compiled once for all four methods.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.sampling import compile_twin, compose, numbers_of, starting_box
from vcbench.bayes.twin import Twin

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True, eq=False)
class Unconstrained:
    """log p(x | y) up to a constant and its gradient at x (k,); `centre`, `reach` (k,): where starts are drawn."""

    twin: Twin
    y: np.ndarray | None
    centre: np.ndarray
    reach: np.ndarray
    density: Callable[..., Any] = field(repr=False)
    expansion: Callable[..., Any] = field(repr=False)
    data: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] = field(repr=False)
    layout: Any = field(repr=False)
    calls: list[int] = field(default_factory=lambda: [0], repr=False)

    @classmethod
    def of(cls, twin: Twin, y: Any = None) -> "Unconstrained":
        """The density of `twin`, or of its twin for another response y (n,) of the same design."""
        compiled = compile_twin(twin)
        source = twin.source if y is None else twin.source.replace(y=y)
        values = twin.data if y is None else twin.data_of(y)
        numbers = numbers_of(twin)
        named = {numbers[n]: v for n, v in values.items() if n in numbers}

        def of_function(function: Any) -> tuple[np.ndarray, ...]:
            shared = function.get_shared()
            return tuple(np.array(named[v.name], v.get_value(borrow=True).dtype, order="C") for v in shared)

        centre, reach = starting_box(twin, source)
        return cls(
            twin,
            None if y is None else np.asarray(y, float),
            centre,
            reach,
            compiled.logp_func.vm.jit_fn,
            compiled.expand_func.vm.jit_fn,
            (of_function(compiled.logp_func), of_function(compiled.expand_func)),
            compiled.shape_info,
        )

    @property
    def n_dim(self) -> int:
        """k."""
        return len(self.centre)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """(log p, ∇ log p) at x; −∞ and a gradient of 0 where the density is not finite."""
        self.calls[0] += 1
        value, gradient = self.density(np.ascontiguousarray(x, float), *self.data[0])
        value, gradient = float(value), np.asarray(gradient, float)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros(self.n_dim)
        return value, gradient

    def negative(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """(−log p, −∇ log p), finite everywhere: for minimisers."""
        value, gradient = self(x)
        return (1e300 if value == -np.inf else -value), -gradient

    def hessian(self, x: np.ndarray, step: float = 1e-4) -> np.ndarray:
        """∂² log p/∂x∂xᵀ (k, k) by central differences of the gradient, in units of `reach`."""
        H = np.empty((self.n_dim, self.n_dim))
        for i, h in enumerate(step * self.reach):
            ahead, behind = x.copy(), x.copy()
            ahead[i] += h
            behind[i] -= h
            H[i] = (self(ahead)[1] - self(behind)[1]) / (2 * h)
        return 0.5 * (H + H.T)

    def draws(self, X: np.ndarray, rng: np.random.Generator) -> "xr.DataTree":
        """The draws X (n, k) as a DataTree with one chain: θ by our names, the free variables, correlations, and β.

        Under "reml" β is drawn from its Gaussian given θ (composition sampling).
        """
        import arviz as az
        import xarray as xr

        names, slices, shapes = self.layout
        flat = np.stack([np.asarray(self.expansion(np.ascontiguousarray(x), *self.data[1])).ravel() for x in X])
        known: Mapping[str, str] = {number: name for name, number in numbers_of(self.twin).items()}
        out = {
            known[name]: flat[:, where].reshape(1, len(X), *shape)
            for name, where, shape in zip(names, slices, shapes, strict=True)
            if name in known  # transformed values are not
        }
        dims = {"beta": ["fixed"], "gamma": ["fixed"]}
        coords = {"fixed": list(self.twin.source.X_names)}  # type: ignore[arg-type]
        tree = az.from_dict({"posterior": out}, dims={k: v for k, v in dims.items() if k in out}, coords=coords)
        posterior = tree["posterior"].to_dataset()
        if "beta" not in posterior and self.twin.source.n_fixed:
            posterior = compose(posterior, self.twin, self.y, rng)
        return xr.DataTree.from_dict({"posterior": posterior})
