"""Covariance structures of random effects: what Ω(θ) looks like, what its parameters are called.

A component with r effects in each of its levels has b_i ~ N(0, Ω), Ω (r, r). The structures here are linear in their
parameters: Ω is block diagonal up to a permutation of the effects and unstructured within each block (`scalar`: r = 1;
`diag`: blocks of one; `un`: one block). θ is the lower triangle of each block, column by column, in natural units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.errors import ModelError

Block = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Covariance:
    """One structure for Ω: its kind, and its blocks where they are said by hand.

    `blocks` is a partition of the effects 0 … r−1; `None` means that the kind decides once r is known.
    """

    kind: str
    blocks: tuple[Block, ...] | None = None

    def sized(self, r: int) -> tuple[Block, ...]:
        """The partition of r effects into blocks of correlated effects.

        Raises ModelError where the structure cannot hold r effects.
        """
        if self.kind == "scalar" and r != 1:
            raise ModelError(f"covariance `scalar` holds one effect, not {r}. Use `diag()` or `un()`.")
        if self.kind == "un":
            return (tuple(range(r)),)
        if self.kind in ("scalar", "diag"):
            return tuple((a,) for a in range(r))
        assert self.blocks is not None
        if sorted(a for block in self.blocks for a in block) != list(range(r)):
            raise ModelError(f"covariance blocks {self.blocks} are no partition of the {r} effects 0 … {r - 1}.")
        return self.blocks


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
