"""Drawing responses from a Model at known (β, θ), a block of replicates at a time.

    y = Xβ + offset + Σ_k Z_k u_k + e,     u_k = L_k z_k,  G_k = L_k L_kᵀ,  e = R^½ z_e

z has independent components of mean 0 and variance 1, normal or of the condition's `Laws`: the covariance is that of
the model whatever their law. A replicate's response depends on its own z only, never on the block it is drawn in:
grouped terms are sums of elementwise products and dense terms one matrix-vector product a replicate, so that the bits
are the same in any block. Models with structured residuals or effects, and relatives, are drawn from the factors of
`inference.simulation`, a replicate at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vcbench.errors import DataError, ModelError
from vcbench.inference.simulation import Source, semidefinite_root, sources_of
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.study.laws import Laws
from vcbench.study.said import Said

NORMAL = Laws()


@dataclass(frozen=True, slots=True, eq=False)
class Simulator:
    """Responses of `model` at β (d,) and θ (p,), natural units. Build with `build_simulator`.

    With iid residuals `roots` and `sigma_e` make them of z, else `sources` do. `said` is how the model is said, where
    it is by a formula: what fits the data otherwise starts from it.
    """

    model: Model
    beta: np.ndarray
    theta: np.ndarray
    fixed: np.ndarray
    roots: tuple[np.ndarray, ...]
    sigma_e: float
    laws: Laws = NORMAL
    sources: tuple[Source, ...] | None = field(default=None, repr=False)
    said: Said | None = field(default=None, repr=False)

    @property
    def truth(self) -> dict[str, float]:
        """The true values by name, θ then β."""
        names = (*self.model.theta_names, *self.model.X_names)  # type: ignore[misc]
        return dict(zip(names, map(float, (*self.theta, *self.beta)), strict=True))

    @property
    def sizes(self) -> list[int]:
        """How many z each component takes, then the residual, then the nugget where there is one."""
        if self.sources is not None:
            return [size for size, _ in self.sources]
        sizes = [_n_effects(c, root) for c, root in zip(self.model.components, self.roots, strict=True)]
        return [*sizes, len(self.fixed)]

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Y (n, R), one column a Generator."""
        z = np.empty((len(rngs), sum(self.sizes)))
        for row, rng in zip(z, rngs, strict=True):
            self._fill(row, rng)
        if self.sources is not None:
            return np.column_stack([self._structured(row) for row in z])
        n = len(self.fixed)
        Y = self.fixed + self.sigma_e * z[:, -n:]
        at = 0
        for component, root in zip(self.model.components, self.roots, strict=True):
            size = _n_effects(component, root)
            _add_effects(Y, component, root, z[:, at : at + size])
            at += size
        return np.ascontiguousarray(Y.T)

    def _fill(self, row: np.ndarray, rng: np.random.Generator) -> None:
        """z of one replicate, component by component."""
        if self.laws.are_normal:
            rng.standard_normal(out=row)
            return
        names: list[str | None] = [c.name for c in self.model.components]
        at = 0
        for i, size in enumerate(self.sizes):
            row[at : at + size] = self.laws.of(names[i] if i < len(names) else None).draw(rng, size)
            at += size

    def _structured(self, z: np.ndarray) -> np.ndarray:
        """y (n,) of one replicate from the factors of effects and residuals."""
        assert self.sources is not None
        y, at = self.fixed[:, None].copy(), 0
        for size, part in self.sources:
            y += part(np.ascontiguousarray(z[at : at + size, None]))
            at += size
        return y[:, 0]


def build_simulator(
    model: Model,
    theta: Sequence[float] | Mapping[str, float],
    beta: Sequence[float],
    laws: Laws = NORMAL,
    said: Said | None = None,
) -> Simulator:
    """The Simulator of a model at θ and β.

    Raises DataError for a number of values that does not fit, for a component that the laws name and the model lacks,
    and for an Ω, σ_e² or residual correlation that is none.
    """
    names = [c.name for c in model.components]
    for name in laws.effects if isinstance(laws.effects, dict) else ():
        if name not in names:
            raise DataError(f"`effects` names `{name}`; the model has {', '.join(names) or 'no random effects'}.")
    if isinstance(theta, Mapping):
        theta = [theta[name] for name in model.theta_names]
    values, fixed_effects = np.asarray(theta, float), np.asarray(beta, float)
    if len(values) != model.n_theta or len(fixed_effects) != model.n_fixed:
        raise DataError(
            f"the truth has {len(values)} variance parameters and {len(fixed_effects)} fixed effects; the model has"
            f" {model.n_theta} ({', '.join(model.theta_names)}) and {model.n_fixed} ({', '.join(model.X_names or ())})."
        )
    offset = 0.0 if model.offset is None else model.offset
    fixed = np.asarray(model.X @ fixed_effects + offset)  # type: ignore[operator]
    if model.is_structured or any(not _is_simple(c) for c in model.components):
        try:
            sources = tuple(sources_of(model, values))
        except ModelError as error:
            raise DataError(str(error)) from error
        return Simulator(model, fixed_effects, values, fixed, (), float("nan"), laws, sources, said)
    if values[-1] <= 0:
        raise DataError(f"the true residual variance is {values[-1]:g}; it must be above 0.")
    roots = []
    for component, Omega in zip(model.components, model.Omegas(values), strict=True):
        root = semidefinite_root(Omega, component.name)
        roots.append(root if component.is_grouped else root[0, 0] * component.factors()[0])
    return Simulator(model, fixed_effects, values, fixed, tuple(roots), float(np.sqrt(values[-1])), laws, None, said)


def _is_simple(component: Component) -> bool:
    """True for a grouped component and for one with a single dense factor, V_k = σ² F Fᵀ."""
    if component.is_grouped:
        return True
    related = component.relation is not None and component.relation.precision is not None
    return component.is_plain and not related


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
