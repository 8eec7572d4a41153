"""Single precision products by scipy's BLAS, into place and without holding Python's lock.

scipy's own wrappers hold the lock for the length of a product, so that nothing could be read meanwhile. The routines
are those of `scipy.linalg.cython_blas`, called by address (ctypes lets the lock go).
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np


def ssyrk(W: np.ndarray, C: np.ndarray, *, add: bool) -> None:
    """C ← W Wᵀ + add·C, lower triangle. W (m, k), C (m, m): float32, Fortran order, or rows and columns cut from it."""
    m, k = W.shape
    _call("ssyrk", b"L", b"N", m, k, np.float32(1.0), W, np.float32(add), C)


def sgemm(A: np.ndarray, B: np.ndarray, C: np.ndarray, *, add: bool) -> None:
    """C ← A Bᵀ + add·C. A (m, k), B (n, k), C (m, n): float32, Fortran order, or rows and columns cut from it."""
    (m, k), n = A.shape, B.shape[0]
    _call("sgemm", b"N", b"T", m, n, k, np.float32(1.0), A, B, np.float32(add), C)


def _call(name: str, *arguments: Any) -> None:
    """The routine with Fortran's manner of passing: everything by address, a matrix with its leading dimension."""
    passed: list[Any] = []
    keep: list[Any] = []  # what the addresses point to
    for value in arguments:
        if isinstance(value, np.ndarray):
            if value.dtype != np.float32 or value.strides[0] != 4:
                raise ValueError(
                    f"{name} needs float32 in Fortran order, not {value.dtype} with strides {value.strides}."
                )
            lead = ctypes.c_int(max(value.strides[1] // 4, value.shape[0], 1))
            passed += [ctypes.c_void_p(value.ctypes.data), ctypes.byref(lead)]
            keep += [value, lead]
        elif isinstance(value, bytes):
            passed.append(ctypes.c_char_p(value))
        else:
            cell = ctypes.c_float(float(value)) if isinstance(value, np.float32) else ctypes.c_int(value)
            passed.append(ctypes.byref(cell))
            keep.append(cell)
    _routine(name)(*passed)


@cache
def _routine(name: str) -> Any:
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("scipy.linalg.cython_blas", name)
    return ctypes.CFUNCTYPE(None)(address)
