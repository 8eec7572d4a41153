"""The eigenvectors of a symmetric matrix as the product they come as, so that the dear half of them is never formed.

K = Q T Qᵀ with T tridiagonal and Q a product of n − 1 reflections (`sytrd`, 4n³/3 operations), T = Z diag(d) Zᵀ, hence
U = QZ. What models ask of U are products with a few columns: UᵀC = Zᵀ(QᵀC) and UC = Q(ZC) take 4n² operations a column
either way, and QZ itself (2n³) is formed only for those who ask for its entries.
Golub & Van Loan (2013), Matrix Computations, 4th ed., §8.3 and §5.1.6.
"""

from typing import Any

import numpy as np
from scipy.linalg import eigh, eigh_tridiagonal, lapack

SMALL = 200  # rows below which U is formed at once
PANEL = 64  # reflections that are applied together


class Eigenvectors:
    """U = QZ (n, r), orthonormal columns. Products by `@`, `.T @`; as an array wherever an array is wanted.

    reflectors (n−1, n−1), tau (n−1,): those of `sytrd` (lower), that leave the first row alone. Z (n, r).
    """

    __slots__ = ("_formed", "_held")
    __array_priority__ = 100.0  # C @ U comes here, and is refused by nobody

    def __init__(self, reflectors: np.ndarray, tau: np.ndarray, Z: np.ndarray) -> None:
        self._held: tuple[np.ndarray, np.ndarray, np.ndarray] | None = (reflectors, tau, Z)
        self._formed: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, r)."""
        rows, columns = self._held[2].shape if self._held is not None else np.asarray(self).shape
        return rows, columns

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def is_formed(self) -> bool:
        """True once somebody has asked for the entries of U."""
        return self._formed is not None

    def __len__(self) -> int:
        return self.shape[0]

    def last(self, r: int) -> "np.ndarray | Eigenvectors":
        """The last r columns."""
        if self._held is None:
            return np.asarray(self)[:, self.shape[1] - r :]
        reflectors, tau, Z = self._held
        return Eigenvectors(reflectors, tau, Z[:, Z.shape[1] - r :])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._formed is None:
            assert self._held is not None
            self._formed = np.ascontiguousarray(_reflect(*self._held, "N"))
            self._held = None
        return np.array(self._formed, dtype, copy=copy)

    def __getitem__(self, at: Any) -> np.ndarray:
        return np.asarray(self)[at]

    def __mul__(self, other: Any) -> np.ndarray:
        return np.asarray(self) * other

    __rmul__ = __mul__

    def __matmul__(self, C: np.ndarray) -> np.ndarray:
        """UC (n, m), or (n,) for a vector C (r,)."""
        if self._held is None:
            return np.asarray(self) @ C
        reflectors, tau, Z = self._held
        return _columns(C, lambda C: _reflect(reflectors, tau, Z @ C, "N"))

    def __rmatmul__(self, C: np.ndarray) -> np.ndarray:
        return self.turn(np.asarray(C).T).T

    def turn(self, C: np.ndarray) -> np.ndarray:
        """UᵀC (r, m), or (r,) for a vector C (n,)."""
        if self._held is None:
            return np.asarray(self).T @ C
        reflectors, tau, Z = self._held
        return _columns(C, lambda C: Z.T @ _reflect(reflectors, tau, C, "T"))

    @property
    def T(self) -> "Transposed":
        """Uᵀ, for products."""
        return Transposed(self)


class Transposed:
    """Uᵀ (r, n)."""

    __slots__ = ("U",)
    __array_priority__ = 100.0

    def __init__(self, U: Eigenvectors) -> None:
        self.U = U

    def __matmul__(self, C: np.ndarray) -> np.ndarray:
        return self.U.turn(np.asarray(C))

    def __rmatmul__(self, C: np.ndarray) -> np.ndarray:
        return (self.U @ np.asarray(C).T).T

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(np.asarray(self.U).T, dtype, copy=copy)


def eigen_of(K: np.ndarray, overwrite: bool = False) -> tuple[np.ndarray, np.ndarray | Eigenvectors]:
    """(d ascending (n,), U (n, n)) with K = U diag(d) Uᵀ; of K (n, n) its upper triangle is read. overwrite: K may go.

    Raises numpy.linalg.LinAlgError where the eigenvalues of T do not converge.
    """
    n = len(K)
    if n < SMALL:
        return eigh(K.T, driver="evd", overwrite_a=overwrite, check_finite=False)
    work = int(lapack.dsytrd_lwork(n, lower=1)[0])
    A, d, e, tau, info = lapack.dsytrd(K.T, lower=1, lwork=work, overwrite_a=overwrite)
    if info:
        raise np.linalg.LinAlgError(f"sytrd: argument {-info}")
    reflectors = np.asfortranarray(A[1:, :-1])
    del A
    values, Z = eigh_tridiagonal(d, e, check_finite=False)
    return values, Eigenvectors(reflectors, tau, Z)


def _columns(C: np.ndarray, product: Any) -> np.ndarray:
    C = np.asarray(C, float)
    return product(C[:, None])[:, 0] if C.ndim == 1 else product(C)


def _reflect(reflectors: np.ndarray, tau: np.ndarray, C: np.ndarray, trans: str) -> np.ndarray:
    """QC or QᵀC (n, m)."""
    out = np.array(C, order="F")
    rest, _, info = lapack.dormqr("L", trans, reflectors, tau, out[1:], max(1, PANEL * out.shape[1]))
    if info:
        raise np.linalg.LinAlgError(f"ormqr: argument {-info}")
    out[1:] = rest
    return out
