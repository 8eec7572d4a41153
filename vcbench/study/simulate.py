"""Drawing responses from a Model at known (β, θ), a block of replicates at a time.

    y = Xβ + offset + Σ_k Z_k u_k + e,     u_k = L_k z_k,  G_k = L_k L_kᵀ,  e = σ_e z_e,  z standard normal

A replicate's response depends on its own normals only, never on the block it is drawn in: grouped terms are sums of
elementwise products and dense terms one matrix-vector product a replicate, so that the bits are the same in any block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.errors import DataError
from vcbench.inference.simulation import semidefinite_root
from vcbench.model.component import Component
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Simulator:
    """Responses of `model` at β (d,) and θ (p,), natural units. Build with `build_simulator`."""

    model: Model
    beta: np.ndarray
    theta: np.ndarray
    fixed: np.ndarray
    roots: tuple[np.ndarray, ...]
    sigma_e: float

    @property
    def truth(self) -> dict[str, float]:
        """The true values by name, θ then β."""
        names = (*self.model.theta_names, *self.model.X_names)  # type: ignore[misc]
        return dict(zip(names, map(float, (*self.theta, *self.beta)), strict=True))

    @property
    def n_normals(self) -> int:
        """Standard normals a replicate takes."""
        return sum(_n_effects(c, root) for c, root in zip(self.model.components, self.roots, strict=True)) + len(
            self.fixed
        )

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Y (n, R), one column a Generator."""
        z = np.empty((len(rngs), self.n_normals))
        for row, rng in zip(z, rngs, strict=True):
            rng.standard_normal(out=row)
        n = len(self.fixed)
        Y = self.fixed + self.sigma_e * z[:, -n:]
        at = 0
        for component, root in zip(self.model.components, self.roots, strict=True):
            size = _n_effects(component, root)
            _add_effects(Y, component, root, z[:, at : at + size])
            at += size
        return np.ascontiguousarray(Y.T)


def build_simulator(model: Model, theta: Sequence[float] | Mapping[str, float], beta: Sequence[float]) -> Simulator:
    """The Simulator of a model with iid residuals at θ and β.

    Raises DataError for a number of values that does not fit and for an Ω or σ_e² that is no (co)variance.
    """
    if isinstance(theta, Mapping):
        theta = [theta[name] for name in model.theta_names]
    values, fixed_effects = np.asarray(theta, float), np.asarray(beta, float)
    if len(values) != model.n_theta or len(fixed_effects) != model.n_fixed:
        raise DataError(
            f"the truth has {len(values)} variance parameters and {len(fixed_effects)} fixed effects; the model has"
            f" {model.n_theta} ({', '.join(model.theta_names)}) and {model.n_fixed} ({', '.join(model.X_names or ())})."
        )
    if values[-1] <= 0:
        raise DataError(f"the true residual variance is {values[-1]:g}; it must be above 0.")
    roots = []
    for component, Omega in zip(model.components, model.Omegas(values), strict=True):
        root = semidefinite_root(Omega, component.name)
        roots.append(root if component.is_grouped else root[0, 0] * _factor(component))
    offset = 0.0 if model.offset is None else model.offset
    fixed = np.asarray(model.X @ fixed_effects + offset)  # type: ignore[operator]
    return Simulator(model, fixed_effects, values, fixed, tuple(roots), float(np.sqrt(values[-1])))


def _factor(component: Component) -> np.ndarray:
    """The dense factor of an ungrouped component with one variance: V_k = σ² F Fᵀ."""
    factors = component.factors()
    if len(factors) != 1:
        raise DataError(
            f"component `{component.name}` has one Ω over its columns; responses are not drawn from it yet."
        )
    return factors[0]


def _n_effects(component: Component, root: np.ndarray) -> int:
    return len(component.levels) * component.n_effects if component.is_grouped else root.shape[1]


def _add_effects(Y: np.ndarray, component: Component, root: np.ndarray, z: np.ndarray) -> None:
    """Y (R, n) += Z u, with z (R, levels·r) or (R, q) the component's normals."""
    if not component.is_grouped:
        for row, normals in zip(Y, z, strict=True):
            row += root @ np.ascontiguousarray(normals)
        return
    A, codes = component.Z, component.codes
    assert A is not None
    assert codes is not None
    by_effect = z.reshape(len(z), component.n_effects, len(component.levels))
    for a in range(component.n_effects):
        b = sum(root[a, c] * by_effect[:, c] for c in range(a + 1))
        Y += A[:, a] * np.asarray(b)[:, codes]
