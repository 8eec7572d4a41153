"""Covariance structures of random effects: what Ω(θ) looks like, what its parameters are called.

A component with r effects in each of its levels has b_i ~ N(0, Ω), Ω (r, r). `scalar`, `diag`, `un` and `blocks` are
linear: Ω is block diagonal up to a permutation of the effects and unstructured within each block; θ is the lower
triangle of each block, column by column, in natural units. The others are Ω = v·C(φ), a family of `structures` over the
effects in their order; `fixed` has no parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.structures import (
    Ar1,
    CompoundSymmetry,
    Family,
    Heterogeneous,
    LevelSymmetry,
    Patterned,
    Product,
    SameLevel,
    Toeplitz,
    Unstructured,
)

Block = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Covariance:
    """One structure for Ω: its kind, and its blocks where they are said by hand.

    `blocks` is a partition of the effects 0 … r−1; `None` means that the kind decides once r is known. `parts` are the
    factors of a Kronecker product of `sizes`; `mask` a 0/1 pattern; `value` a fixed Ω.
    """

    kind: str
    blocks: tuple[Block, ...] | None = None
    parts: tuple["Covariance", ...] = ()
    sizes: tuple[int, ...] | None = None
    mask: tuple[tuple[int, ...], ...] | None = None
    value: tuple[tuple[float, ...], ...] | None = None

    @property
    def is_linear(self) -> bool:
        """True where the parameters are entries of Ω."""
        return self.kind not in ("cs", "ar1", "toeplitz", "kron", "pattern", "fixed")

    def sized(self, r: int) -> tuple[Block, ...]:
        """The partition of r effects into blocks of correlated effects.

        Raises ModelError where the structure cannot hold r effects.
        """
        if self.kind == "scalar" and r != 1:
            raise ModelError(f"covariance `scalar` holds one effect, not {r}. Use `diag()` or `un()`.")
        if self.kind in ("scalar", "diag"):
            return tuple((a,) for a in range(r))
        if self.blocks is None:
            self.family(tuple(f"{a + 1}" for a in range(r)))  # raises where it does not fit
            self.fixed_value(r)
            return (tuple(range(r)),)
        if sorted(a for block in self.blocks for a in block) != list(range(r)):
            raise ModelError(f"covariance blocks {self.blocks} are no partition of the {r} effects 0 … {r - 1}.")
        return self.blocks

    def family(self, effects: Sequence[str]) -> Family | None:
        """The family of Ω = v·C(φ) over the effects; None for a linear or fixed structure.

        Raises ModelError where the structure cannot hold so many effects.
        """
        r = len(effects)
        codes, levels = np.arange(r), tuple(effects)
        if self.kind in ("cs", "ar1", "toeplitz") and r < 2:
            raise ModelError(f"covariance `{self.kind}` needs two effects or more, not {r}. Use `scalar()`.")
        match self.kind:
            case "cs":
                return CompoundSymmetry(largest=r)
            case "ar1":
                return Ar1(t=np.arange(float(r)), lags=np.arange(float(r)))
            case "toeplitz":
                return Toeplitz(n_phi=r - 1, t=np.arange(float(r)), lags=np.arange(float(r)))
            case "pattern":
                mask = self.mask or ()
                if len(mask) != r:
                    raise ModelError(f"covariance `pattern` has a {len(mask)} × {len(mask)} mask for {r} effects.")
                free = sum(mask[i][j] for j in range(r) for i in range(j + 1, r))
                return Patterned(n_phi=r - 1 + free, codes=codes, levels=levels, mask=mask)
            case "kron":
                return self._kron(effects)
        return None

    def _kron(self, effects: Sequence[str]) -> Family:
        r = len(effects)
        sizes = self.sizes or _factor_sizes(self.parts, r)
        if sizes[0] * sizes[1] != r:
            raise ModelError(f"covariance `kron` has factors of sizes {sizes} for {r} effects.")
        at = np.arange(r)
        families = []
        for part, m, codes in zip(self.parts, sizes, (at // sizes[1], at % sizes[1]), strict=True):
            names = tuple(f"{j + 1}" for j in range(m))
            families.append(_over(part, codes, names))
        left, right = families
        return Product(n_phi=left.n_phi + right.n_phi, left=left, right=right)

    def fixed_value(self, r: int) -> np.ndarray | None:
        """The fixed Ω (r, r), or None. Raises ModelError for another shape, and where it is not PSD."""
        if self.value is None:
            return None
        value = np.array(self.value, float)
        if value.shape == (1, 1) and r > 1:
            value = value[0, 0] * np.eye(r)
        if value.shape != (r, r):
            raise ModelError(f"covariance `fixed` holds {value.shape} numbers for {r} effects.")
        if not np.allclose(value, value.T) or np.linalg.eigvalsh(value)[0] < -1e-12 * np.abs(value).max():
            raise ModelError(f"covariance `fixed`: {value.tolist()} is not symmetric positive semi-definite.")
        return value


def _over(part: Covariance, codes: np.ndarray, levels: tuple[str, ...]) -> Family:
    """A factor of a Kronecker product over `codes` (r,) of its own levels."""
    m = len(levels)
    t = codes.astype(float)
    match part.kind:
        case "un" if m > 1:
            return Unstructured(n_phi=m * (m + 1) // 2 - 1, codes=codes, levels=levels)
        case "diag" if m > 1:
            inner = SameLevel(codes=codes)
            return Heterogeneous(n_phi=m - 1, codes=codes, levels=levels, inner=inner)
        case "cs" if m > 1:
            return LevelSymmetry(largest=m, codes=codes)
        case "ar1" if m > 1:
            return Ar1(t=t, lags=np.arange(float(m)))
        case "toeplitz" if m > 1:
            return Toeplitz(n_phi=m - 1, t=t, lags=np.arange(float(m)))
        case "scalar":
            return SameLevel(codes=codes)
    raise ModelError(f"covariance `{part.kind}` of size {m} cannot be a factor of a Kronecker product.")


def _factor_sizes(parts: Sequence[Covariance], r: int) -> tuple[int, int]:
    splits = [(a, r // a) for a in range(2, r) if r % a == 0 and r // a >= 2]
    if len(splits) != 1:
        raise ModelError(
            f"covariance `kron`: {r} effects can be split in {len(splits)} ways into two factors. Pass sizes=(a, b)."
        )
    return splits[0]


def scalar() -> Covariance:
    """Ω = σ²: one variance."""
    return Covariance("scalar")


def diag() -> Covariance:
    """Ω = diag(σ_1², …, σ_r²): independent effects, a variance each."""
    return Covariance("diag")


def un() -> Covariance:
    """Ω unstructured: r(r+1)/2 parameters, positive semi-definite."""
    return Covariance("un")


def blocks(partition: Sequence[Sequence[int]]) -> Covariance:
    """Ω unstructured within each block of `partition`, zero between blocks; `[[0], [1, 2]]`."""
    return Covariance("blocks", tuple(tuple(int(a) for a in block) for block in partition))


def cs() -> Covariance:
    """Ω = v[(1−ρ)I + ρ11ᵀ]: one variance, one correlation > −1/(r−1). θ: var, rho."""
    return Covariance("cs")


def ar1() -> Covariance:
    """Ω_ab = v ρ^|a−b| over the effects in their order. θ: var, rho."""
    return Covariance("ar1")


def toeplitz() -> Covariance:
    """Ω_ab = v ρ_|a−b|. θ: var, rho1, …, rho(r−1)."""
    return Covariance("toeplitz")


def kron(left: Covariance, right: Covariance, sizes: tuple[int, int] | None = None) -> Covariance:
    """Ω = A ⊗ B, the right factor's index fastest; `sizes` (rows of A, rows of B) where r can be split in two ways."""
    for part in (left, right):
        if not isinstance(part, Covariance):
            raise ModelError(f"covariance `kron` takes two structures; it was given {part!r}.")
    return Covariance("kron", parts=(left, right), sizes=None if sizes is None else (int(sizes[0]), int(sizes[1])))


def pattern(mask: Any) -> Covariance:
    """Ω free where the 0/1 `mask` (r, r) is 1, zero elsewhere.

    A mask that is block diagonal up to a permutation is `blocks`, whose M-step is closed. Any other is fitted within
    the positive definite matrices of that pattern (its M-step is an inner maximisation: multiplying Ω by the mask would
    not be one, MATH §3). Raises ModelError for a mask that is not symmetric with ones on its diagonal.
    """
    M = np.asarray(mask)
    if M.ndim != 2 or M.shape[0] != M.shape[1] or not np.isin(M, (0, 1)).all():
        raise ModelError(f"covariance `pattern` takes a square matrix of 0 and 1; it was given {M.tolist()}.")
    if not (np.diag(M) == 1).all() or not (M == M.T).all():
        raise ModelError("covariance `pattern`: the mask must be symmetric with ones on its diagonal.")
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(M, directed=False)
    partition = tuple(tuple(int(a) for a in np.flatnonzero(label == k)) for k in range(label.max() + 1))
    if all(M[np.ix_(block, block)].all() for block in partition):
        return Covariance("blocks", partition)
    return Covariance("pattern", mask=tuple(tuple(int(v) for v in row) for row in M))


def fixed(value: Any) -> Covariance:
    """Ω known: a number (times I) or a matrix (r, r). The component has no parameter."""
    M = np.atleast_2d(np.asarray(value, float))
    if not np.isfinite(M).all():
        raise ModelError(f"covariance `fixed` is {value!r}; it must be finite.")
    return Covariance("fixed", value=tuple(tuple(float(v) for v in row) for row in M))


def pairs(partition: tuple[Block, ...]) -> list[tuple[int, int]]:
    """(row, column) of each parameter of Ω: the lower triangle of each block by column."""
    return [(block[i], block[j]) for block in partition for j in range(len(block)) for i in range(j, len(block))]


def parameter_names(component: str, effects: Sequence[str], partition: tuple[Block, ...], plain: bool) -> list[str]:
    """Names in the order of `pairs`: `g:var(x)`, `g:cov(x,z)`; `plain` gives the bare `a:var` of a Z or K component."""
    if plain:
        return [f"{component}:var"]
    return [
        f"{component}:var({effects[a]})" if a == b else f"{component}:cov({effects[b]},{effects[a]})"
        for a, b in pairs(partition)
    ]


def matrix(theta: np.ndarray, r: int, index: Sequence[tuple[int, int]]) -> np.ndarray:
    """Ω (r, r) from the parameters of `pairs`."""
    Omega = np.zeros((r, r))
    for value, (a, b) in zip(theta, index, strict=True):
        Omega[a, b] = Omega[b, a] = value
    return Omega


def __getattr__(name: str) -> Any:
    """`known` and `pedigree`, which live in `relationship`: that module builds on this one."""
    if name in ("known", "pedigree"):
        from vcbench.model import relationship

        return getattr(relationship, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
