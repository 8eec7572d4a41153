"""Families of covariance matrices over labels: what a matrix looks like, what its parameters are called.

A family bound to labels is σ² C(φ): C is a `table` of values of φ, unconstrained, and the entry for two rows is
table[index(row, row′)]. Derivatives come with the table (`jets`). Each family names its parameters in natural units,
maps φ onto their admissible range (MATH §9) and back, and says where to start.

| family | natural parameters | φ |
| --- | --- | --- |
| identity | | |
| compound symmetry | ρ ∈ (−1/(m−1), 1), m the largest unit | logit |
| AR(1) | ρ ∈ (−1, 1); ρ ∈ (0, 1) for gaps that are no whole numbers | atanh; logit |
| Toeplitz | ρ_1 … ρ_{m−1} | atanh of the partial autocorrelations (Durbin–Levinson) |
| banded Toeplitz | ρ_1 … ρ_k, checked by Cholesky | atanh |
| MA(q) | ρ_1 … ρ_q | atanh of the partial autocorrelations of the MA polynomial |
| ARMA(1,1), C_k = γρ^(k−1) | ρ, γ ∈ (−(1−ρ)/2, (1+ρ)/2) | atanh, logit within the range |
| ante-dependence(1) | σ_j², ρ_j | log ratios, atanh |
| unstructured | σ_j², covariances | Cholesky factor with unit first entry, log diagonal |
| free correlations | ρ_ij, positive definite | atanh of canonical partial correlations |
| heterogeneous · | σ_j² and those of · | log ratios of SDs |
| distance decay | range > 0: e^(−d/range), e^(−d²/range²) | log |
"""

from vcbench.model.structures.combined import Heterogeneous, Product, Separate
from vcbench.model.structures.family import CompoundSymmetry, Family, LevelSymmetry, Natural, SameLevel, distances
from vcbench.model.structures.lagged import Ar1, Arma11, Banded, Decay, Lagged, MovingAverage, Toeplitz
from vcbench.model.structures.levels import AnteDependence, ByLevel, FreeCorrelation, Patterned, Unstructured

__all__ = [
    "AnteDependence", "Ar1", "Arma11", "Banded", "ByLevel", "CompoundSymmetry", "Decay", "Family", "FreeCorrelation",
    "Heterogeneous", "Lagged", "LevelSymmetry", "MovingAverage", "Natural", "Patterned", "Product", "SameLevel",
    "Separate", "Toeplitz", "Unstructured", "distances",
]  # fmt: skip
