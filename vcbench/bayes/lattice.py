"""Sufficient statistics of AR(1) ⊗ AR(1) residuals on complete rectangles, without random effects.

    C⁻¹ = (I − ρK + ρ²J)/(1 − ρ²),  K the adjacent pairs, J = I − e_1e_1ᵀ − e_me_mᵀ,  log|C| = (m − 1) log(1 − ρ²)

for an AR(1) at m whole times in a row (m = 1: K = 0, J = −1, C⁻¹ = 1), and C⁻¹ ⊗ D⁻¹ of the product is linear in nine
such products: nine sums over the data hold all of ℓ, whatever n is. A plot that is missing breaks the product.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.bayes.closed_form import ClosedForm
from vcbench.model.model import Model
from vcbench.model.structures import Ar1, Product


@dataclass(frozen=True, slots=True, eq=False)
class Lattice(ClosedForm):
    """The likelihood of a model with AR(1) ⊗ AR(1) residuals on complete rectangles, for one response.

    sums: square (g, 3, 3), of Uᵀ(M_a ⊗ M_b)U with M = I, K, J. grids: rows of the data of each rectangle (m, k).
    """

    grids: tuple[np.ndarray, ...] = field(kw_only=True, repr=False)

    @staticmethod
    def why_not(model: Model) -> str | None:
        """What keeps a model from this form, in words; None where it takes it."""
        family = model.noise.family
        if model.components:
            return "random effects"
        if model.noise.has_nugget:
            return "a nugget"
        if type(family) is not Product or any(type(f) is not Ar1 or not f.whole for f in (family.left, family.right)):
            return f"residual `{model.residual}`"
        return None if _grids(model) is not None else "rectangles that are not complete"

    @classmethod
    def of(cls, model: Model) -> "Lattice":
        """The statistics of a model for which `why_not` finds nothing."""
        grids = _grids(model)
        assert grids is not None
        return cls(*cls.design(model), grids=grids).bound(model)

    def statistics(self, U: np.ndarray) -> dict[str, np.ndarray]:
        """The nine sums."""
        i, j = np.tril_indices(U.shape[1])
        out = np.zeros((len(i), 3, 3))
        for rows in self.grids:
            block = U[rows]
            for a, A in enumerate(_matrices(rows.shape[0])):
                for b, B in enumerate(_matrices(rows.shape[1])):
                    moved = np.einsum("ac,bd,cdk->abk", A, B, block, optimize=True)
                    out[:, a, b] += np.einsum("abi,abj->ij", block, moved, optimize=True)[i, j]
        return {"square": out}

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """n, and how often log(1 − ρ²) counts for both factors."""
        sizes = [np.array(rows.shape, float) for rows in self.grids]
        steps = sum((m - 1) * m[::-1] for m in sizes)
        return {"n_obs": np.asarray(float(self.n_obs)), "steps": np.asarray(steps)}

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        return "lattice", self.n_fixed

    @property
    def size(self) -> str:
        """In words."""
        return f"residuals are AR(1) in two directions on {len(self.grids)} complete rectangle(s)"

    def parts(self, w: Any, d: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """See `ClosedForm.parts`."""
        r, c, sigma2 = xp.tanh(w[0]), xp.tanh(w[1]), w[-1]
        left, right = 1 - r**2, 1 - c**2
        logdet = d["n_obs"] * xp.log(sigma2) + d["steps"][0] * xp.log(left) + d["steps"][1] * xp.log(right)
        S = d["square"]
        over_c = [S[:, a, 0] - c * S[:, a, 1] + c**2 * S[:, a, 2] for a in range(3)]
        return logdet, (over_c[0] - r * over_c[1] + r**2 * over_c[2]) / (left * right * sigma2)


def _matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """I, K, J (m, m)."""
    J = np.eye(m)
    J[0, 0] -= 1
    J[-1, -1] -= 1
    return np.eye(m), np.eye(m, k=1) + np.eye(m, k=-1), J


def _grids(model: Model) -> tuple[np.ndarray, ...] | None:
    """Rows of the data of each unit, laid out by both times; None where a unit is no complete rectangle."""
    family = model.noise.family
    out = []
    for unit in range(int(model.noise.units.max()) + 1):
        rows = np.flatnonzero(model.noise.units == unit)
        t, u = (np.rint(f.t[rows]).astype(int) for f in (family.left, family.right))  # type: ignore[attr-defined]
        t, u = t - t.min(), u - u.min()
        grid = np.full((t.max() + 1, u.max() + 1), -1)
        if grid.size != len(rows):
            return None
        grid[t, u] = rows
        if (grid < 0).any():
            return None
        out.append(grid)
    return tuple(out)
