"""Several traits on one set of genotypes: the design of a condition, its truth, and a replicate's phenotypes.

    Y = μ + G + E,     vec G ~ N(0, Σ_g ⊗ K_C),  vec E ~ N(0, Σ_e ⊗ I)        (n, k)

K is decomposed once for all replicates. Where every SNP has an effect as the model says, G = U D^½ Z Σ_g^½ᵀ, K = U D
Uᵀ; else G = W_C diag(√s) Z Σ_g^½ᵀ of the causal SNPs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from vcbench.genetics.matrices import Matrix
from vcbench.genetics.simulate_phenotypes import correlation_of, root_of

PAIR = {"rho_g": ("rho_g", 0, 1), "rho_e": ("rho_e", 0, 1), "h2_first": ("h2", 0, 0), "h2_second": ("h2", 1, 1)}


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """k traits of n samples: `matrix` is decomposed, root (n, q) has root·rootᵀ = K_C; sigma_g, sigma_e (k, k)."""

    matrix: Matrix = field(repr=False)
    root: np.ndarray = field(repr=False)
    sigma_g: np.ndarray
    sigma_e: np.ndarray
    mean: float = 0.0

    @property
    def k(self) -> int:
        """Traits."""
        return len(self.sigma_g)

    @property
    def parameters(self) -> dict[str, tuple[str, int, int]]:
        """Name → (quantity, trait, trait): `parameters_of`."""
        return parameters_of(self.k)

    @property
    def truth(self) -> dict[str, float]:
        """The true values by name; NaN for a correlation with a trait that has no such variance."""
        g, e = np.diag(self.sigma_g), np.diag(self.sigma_e)
        out = {}
        R = {"rho_g": correlation_of(self.sigma_g), "rho_e": correlation_of(self.sigma_e)}
        for name, (what, a, b) in self.parameters.items():
            out[name] = float(g[a] / (g[a] + e[a]) if what == "h2" else np.clip(R[what][a, b], -1.0, 1.0))
        return out

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Y (n, k, R), one replicate a Generator; its bits do not depend on the others."""
        n, q = self.root.shape
        Y = np.empty((n, self.k, len(rngs)))
        G, E = root_of(self.sigma_g), root_of(self.sigma_e)
        for r, rng in enumerate(rngs):
            genetic = self.root @ (rng.standard_normal((q, self.k)) @ G.T)
            Y[:, :, r] = self.mean + genetic + rng.standard_normal((n, self.k)) @ E.T
        return Y


def parameters_of(k: int) -> dict[str, tuple[str, int, int]]:
    """Name → (quantity, trait, trait), as `genetic_correlation` names those of one pair; of more than two traits with
    the traits' numbers: `h2(1)`, `rho_g(1,2)`."""
    if k == 2:
        return dict(PAIR)
    out = {f"h2({j + 1})": ("h2", j, j) for j in range(k)}
    for name in ("rho_g", "rho_e"):
        out |= {f"{name}({a + 1},{b + 1})": (name, a, b) for a, b in combinations(range(k), 2)}
    return out
