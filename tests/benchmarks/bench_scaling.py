"""What one evaluation costs as the work grows: time and memory by kernel, with the exponents beside those expected.

    uv run python tests/benchmarks/bench_scaling.py [--quick] [kernel ...]

An evaluation answers for the score and the average information (REML), as AI asks at each iteration. Seconds are the
least of several runs of one thread; memory is the peak of the process while a kernel is built and evaluated once, less
what it held before. The exponent is the slope of log(seconds) on log(size) over the larger half of the sizes: below, a
fixed cost of Python shows. "0" means that the cost does not depend on the size. How far a pedigree fills in is its own
affair: what is expected there is the slope of the multiplications of its factor.
"""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402 - after the threads are set
from scipy.sparse import diags  # noqa: E402 - after the threads are set

import vcbench as vc  # noqa: E402 - after the threads are set
from vcbench import kernels  # noqa: E402 - after the threads are set

NEED = ("score", "average")


@dataclass(frozen=True)
class Growth:
    """One kernel against one size: `build(size)` gives the model, time is expected to grow as size^expected (None: as
    the multiplications of the sparse factor)."""

    kernel: str
    against: str
    sizes: tuple[int, ...]
    expected: float | None
    build: Callable[[int], vc.Model]


def groups(n_groups: int, per_group: int) -> vc.Model:
    """A random intercept and slope."""
    rng = np.random.default_rng(1)
    n = n_groups * per_group
    x = rng.normal(size=n)
    Z = np.column_stack([np.ones(n), x])
    return vc.Model(rng.normal(size=n), Z, [vc.Component(Z, name="g", group=np.arange(n) % n_groups)])


def two_factors(n_large: int, n_small: int, per_level: int = 10) -> vc.Model:
    """Two crossed grouping factors."""
    rng = np.random.default_rng(2)
    n = max(n_large * per_level, 4 * n_small)
    one, large, small = np.ones(n), np.arange(n) % n_large, rng.permutation(np.arange(n) % n_small)
    components = [vc.Component(one, name="g", group=large), vc.Component(one, name="h", group=small)]
    return vc.Model(rng.normal(size=n), None, components)


def relationships(n: int, n_matrices: int) -> vc.Model:
    """Relationship matrices of full rank."""
    rng = np.random.default_rng(3)
    components = []
    for k in range(n_matrices):
        W = rng.normal(size=(n, n + 50))
        components.append(vc.Component(K=W @ W.T / W.shape[1], name=f"k{k}"))
    return vc.Model(rng.normal(size=n), None, components)


def columns(n: int, q: int) -> vc.Model:
    """Two random-regression terms with q columns together."""
    rng = np.random.default_rng(4)
    components = [vc.Component(rng.normal(size=(n, q // 2)), name=f"z{k}") for k in range(2)]
    return vc.Model(rng.normal(size=n), None, components)


def field(m: int) -> vc.Model:
    """m plots in a row, AR(1) between them: a tridiagonal precision, two records each."""
    rng = np.random.default_rng(5)
    P = diags([np.full(m, 1.64), np.full(m - 1, -0.8), np.full(m - 1, -0.8)], [0, 1, -1])
    group, labels = np.repeat(np.arange(m), 2), range(m)
    plot = vc.Component(np.ones(2 * m), name="plot", group=group, precision=P, labels=labels)
    return vc.Model(rng.normal(size=2 * m), None, [plot])


def animals(m: int) -> vc.Model:
    """A pedigree of five generations, one sire to twenty dams, one record an animal: L fills in."""
    rng = np.random.default_rng(6)
    sire, dam, per = np.zeros(m, int), np.zeros(m, int), m // 5
    for g in range(1, 5):
        parents = rng.permutation(np.arange((g - 1) * per, g * per)) + 1
        own = slice(g * per, (g + 1) * per if g < 4 else m)
        size = len(range(*own.indices(m)))
        sire[own], dam[own] = rng.choice(parents[: per // 20], size), rng.choice(parents[per // 20 :], size)
    pedigree = vc.covariance.pedigree({"id": np.arange(1, m + 1), "sire": sire, "dam": dam})
    animal = vc.Component(np.ones(m), name="animal", group=np.arange(1, m + 1), cov=pedigree)
    return vc.Model(rng.normal(size=m), None, [animal])


GROWTHS = (
    Growth("grouped", "N groups, 10 rows each", (1000, 3000, 10_000, 30_000, 100_000), 1, lambda N: groups(N, 10)),
    Growth("grouped", "n rows of 500 groups", (5000, 20_000, 80_000, 320_000), 0, lambda n: groups(500, n // 500)),
    Growth("spectral", "n, one K", (250, 500, 1000, 2000), 1, lambda n: relationships(n, 1)),
    Growth("crossed", "levels, 20 of the other", (1000, 4000, 16_000, 64_000), 1, lambda q: two_factors(q, 20)),
    Growth("crossed", "levels of both", (150, 300, 600, 1200), 3, lambda q: two_factors(q, q)),
    Growth("crossed", "n rows, 500 × 20 levels", (5000, 20_000, 80_000), 0, lambda n: two_factors(500, 20, n // 500)),
    Growth("low_rank", "q columns, n = 3000", (150, 300, 600, 1200, 2400), 3, lambda q: columns(3000, q)),
    Growth("low_rank", "n rows, q = 200", (1000, 4000, 16_000, 64_000), 0, lambda n: columns(n, 200)),
    Growth("sparse", "m plots, AR(1)", (2000, 8000, 32_000, 128_000), 1, field),
    Growth("sparse", "m animals of a pedigree", (1000, 2000, 4000, 8000, 16_000), None, animals),
    Growth("dense", "n, two K", (250, 500, 1000, 2000), 3, lambda n: relationships(n, 2)),
)


def status(key: str) -> int:
    """Bytes of an entry (VmRSS, VmHWM) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def measure(growth: Growth, size: int) -> tuple[float, int, float]:
    """(seconds, bytes, multiplications of a sparse factor) of one evaluation; what is compiled is loaded already."""
    model = growth.build(size)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed goes back, so that its use shows again
    held = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    kernel = kernels.build(model, growth.kernel)
    theta = kernel.layout.scale * np.where(kernel.layout.scale > 0, 0.5, 0.0)
    theta[:-1] *= np.asarray(kernel.layout.pa == kernel.layout.pb)
    kernel.evaluate(theta, NEED, "reml")
    peak = status("VmHWM") - held
    best, started = np.inf, time.perf_counter()
    while time.perf_counter() - started < 0.5 or best == np.inf:
        begin = time.perf_counter()
        kernel.evaluate(theta, NEED, "reml")
        best = min(best, time.perf_counter() - begin)
    return best, peak, getattr(getattr(getattr(kernel, "design", None), "fronts", None), "flops", 1.0)


def lines(growth: Growth, quick: bool) -> Iterator[str]:
    """The rows of one growth."""
    sizes = growth.sizes[:3] if quick else growth.sizes
    measure(growth, sizes[0])
    seconds, work = [], []
    yield f"\n{growth.kernel}: {growth.against}"
    for size in sizes:
        took, peak, multiplications = measure(growth, size)
        seconds.append(took)
        work.append(multiplications)
        yield f"  {size:>9,}  {1e3 * took:>10.3f} ms  {peak / 2**20:>9.1f} MB"
    half = len(sizes) // 2 - (len(sizes) < 4)
    slope, of_work = (np.polyfit(np.log(sizes[half:]), np.log(v[half:]), 1)[0] for v in (seconds, work))
    yield f"  exponent {slope:.2f}, expected {of_work if growth.expected is None else growth.expected:.3g}"


def main(arguments: list[str]) -> None:
    """Print the tables of the kernels named, or of all."""
    wanted = [a for a in arguments if not a.startswith("-")]
    for growth in GROWTHS:
        if not wanted or growth.kernel in wanted:
            for line in lines(growth, "--quick" in arguments):
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
