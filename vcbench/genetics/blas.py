"""Which BLAS multiplies, on how many threads, with which kernels, and what to do when the processor has better ones.

OpenBLAS picks its kernels when it is loaded and does not know every processor: on some AVX-512 machines it runs those
of Haswell (AVX2) at half the speed. `OPENBLAS_CORETYPE` set before Python starts puts it right.
"""

import os
import warnings
from dataclasses import dataclass
from functools import cache

LARGE = 2e12  # flop: seconds of work, for which a warning pays
WIDE = ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd")
# OpenBLAS's names for kernels by the instructions they use.
NARROW = {"nehalem", "core2", "penryn", "dunnington", "prescott", "atom", "opteron", "opteron_sse3", "barcelona",
          "bobcat", "nano", "northwood", "katmai", "coppermine", "banias", "generic"}  # fmt: skip
AVX = {"sandybridge", "bulldozer", "piledriver", "steamroller"}
AVX2 = {"haswell", "zen", "excavator"}


@dataclass(frozen=True, slots=True)
class Blas:
    """One loaded BLAS. vendor: openblas, mkl, blis, accelerate …; architecture: the kernels in use, where known."""

    vendor: str
    version: str
    threads: int
    architecture: str
    path: str

    @property
    def remedy(self) -> str:
        """`OPENBLAS_CORETYPE=…` where OpenBLAS runs on kernels below the processor's, else an empty string."""
        better = best_kernels(self.architecture, processor()) if self.vendor == "openblas" else ""
        return f"OPENBLAS_CORETYPE={better}" if better else ""


class SlowBlas(UserWarning):
    """A large product runs on BLAS kernels below what the processor has."""


@cache
def processor() -> frozenset[str]:
    """Instruction sets of this processor, as LLVM names them."""
    from llvmlite.binding import get_host_cpu_features

    return frozenset(name for name, has in get_host_cpu_features().items() if has)


def best_kernels(architecture: str, features: frozenset[str]) -> str:
    """OpenBLAS's name of faster kernels that a processor with these features runs, or an empty string."""
    now = architecture.lower()
    if now in NARROW | AVX | AVX2 and features.issuperset(WIDE):
        return "SkylakeX"
    if now in NARROW | AVX and features.issuperset(("avx2", "fma")):
        return "Haswell"
    return ""


def loaded() -> list[Blas]:
    """Every BLAS in this process; numpy and scipy may each bring their own."""
    import numpy  # noqa: F401 - so that its BLAS is loaded
    import scipy.linalg.blas  # noqa: F401 - and scipy's
    from threadpoolctl import threadpool_info

    return [
        Blas(
            str(one["internal_api"]), str(one.get("version") or ""), int(one["num_threads"]),
            str(one.get("architecture") or ""), str(one["filepath"]),
        )
        for one in threadpool_info()
        if one["user_api"] == "blas"
    ]  # fmt: skip


def describe() -> str:
    """`openblas 0.3.31 (Haswell kernels), 2 of 2 processors; OPENBLAS_CORETYPE=SkylakeX is faster`, on one line."""
    lines = []
    for one in loaded():
        kernels = f" ({one.architecture} kernels)" if one.architecture else ""
        faster = f"; {one.remedy} is faster" if one.remedy else ""
        lines.append(f"{one.vendor} {one.version}{kernels}, {one.threads} of {os.cpu_count()} processors{faster}")
    return " · ".join(sorted(set(lines))) or "no BLAS that threadpoolctl knows"


def coretype() -> str:
    """What to set `OPENBLAS_CORETYPE` to before numpy is loaded for faster kernels, or an empty string.

    For a program that starts Python; it says so too where the variable is set to slower ones by the environment.
    """
    return next((one.remedy.partition("=")[2] for one in loaded() if one.remedy), "")


def warn_if_slow(flop: float) -> None:
    """A `SlowBlas` warning, once in a process, for work of so many operations on kernels below the processor's."""
    if flop >= LARGE:
        _warn_once()


@cache
def _warn_once() -> None:
    slow = next((one for one in loaded() if one.remedy), None)
    if slow is not None:
        asked = os.environ.get("OPENBLAS_CORETYPE")
        why = f" because OPENBLAS_CORETYPE={asked} is set" if asked else ""
        warnings.warn(
            f"OpenBLAS runs its {slow.architecture} kernels{why} on a processor that has wider ones: matrix products "
            f"take about twice the time they need. Start Python with {slow.remedy} in the environment.",
            SlowBlas,
            stacklevel=4,
        )
