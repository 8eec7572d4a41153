"""R's contrast matrices: one row a level, one column a contrast."""

from collections.abc import Callable, Sequence

import numpy as np


def treatment(levels: Sequence[str], base: int = 1) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each level against level number `base`."""
    keep = [i for i in range(len(levels)) if i != base - 1]
    return np.eye(len(levels))[:, keep], tuple(levels[i] for i in keep)


def sas(levels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each level against the last."""
    return treatment(levels, len(levels))


def sums(levels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Deviations that sum to zero; the last level is minus the sum of the others."""
    k = len(levels)
    return np.vstack([np.eye(k - 1), -np.ones(k - 1)]), tuple(str(i) for i in range(1, k))


def helmert(levels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Level j + 1 against the levels before it: −1 for those, j for it."""
    k = len(levels)
    matrix = -np.triu(np.ones((k, k - 1)))
    matrix[np.arange(1, k), np.arange(k - 1)] = np.arange(1, k)
    return matrix, tuple(str(i) for i in range(1, k))


def polynomial(levels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Orthonormal polynomials in 1 … k of degree 1 (`.L`), 2 (`.Q`), 3 (`.C`), 4 (`^4`), …, leading coefficient > 0."""
    k = len(levels)
    at = np.arange(1, k + 1) - (k + 1) / 2
    Q, R = np.linalg.qr(np.vander(at, k, increasing=True))
    names = (".L", ".Q", ".C", *(f"^{d}" for d in range(4, k)))[: k - 1]
    return Q[:, 1:] * np.sign(np.diag(R))[1:], names


CONTRASTS: dict[str, Callable[..., tuple[np.ndarray, tuple[str, ...]]]] = {
    "contr.treatment": treatment,
    "contr.SAS": sas,
    "contr.sum": sums,
    "contr.helmert": helmert,
    "contr.poly": polynomial,
}
