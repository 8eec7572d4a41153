"""The relationship matrix: time of the build against its floating point work, and against plink2 on the same files.

    uv run python tests/benchmarks/bench_grm.py [--n 2000] [--p 40000] [--repeats 3] [--bfile PREFIX] [--keep FOLDER]
                                                [--threads T] [--eigh] [--skip-plink2]

Files with LD (AR(1) copula, ρ = 0.7) are simulated unless `--bfile` names some (`--keep`: where to leave them). The
floor is n²p flop at the rate of float32 `ssyrk` (n, 4096), measured before and after the build in the same process, the
better of the two. plink2 (`--make-grm-bin`) runs on the same files. `--eigh`: one float64 eigendecomposition too.
Times are wall seconds and, behind them, seconds of processor time: on a busy machine compare those, with `--threads 1`
(more threads spin while they wait). OPENBLAS_CORETYPE is as the environment has it, for plink2 too; the first line
says which kernels run here.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from vcbench.genetics import blas
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.level3 import ssyrk
from vcbench.genetics.relationship import relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes


class Clock:
    """Wall and processor seconds since it was made; `children` counts programs that were run."""

    def __init__(self, children: bool = False) -> None:
        self.who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
        self.wall, self.cpu = time.perf_counter(), self._cpu()

    def _cpu(self) -> float:
        used = resource.getrusage(self.who)
        return used.ru_utime + used.ru_stime

    def read(self) -> np.ndarray:
        return np.array([time.perf_counter() - self.wall, self._cpu() - self.cpu])


def best(work, repeats: int) -> np.ndarray:
    """The least wall and the least processor seconds of some runs."""
    times = []
    for _ in range(repeats):
        clock = Clock()
        work()
        times.append(clock.read())
    return np.min(times, axis=0)


def syrk(n: int) -> np.ndarray:
    """Seconds of float32 ssyrk, (n, 4096) by its transpose: n² · 4096 flop."""
    W = np.asfortranarray(np.random.default_rng(1).standard_normal((n, 4096), dtype=np.float32))
    C = np.zeros((n, n), np.float32, order="F")
    return best(lambda: ssyrk(W, C, add=True), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--p", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bfile")
    parser.add_argument("--keep")
    parser.add_argument("--eigh", action="store_true")
    parser.add_argument("--skip-plink2", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", blas.SlowBlas)
    print(blas.describe())
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(arguments.threads):
        prefix = Path(arguments.bfile or Path(arguments.keep or folder) / "g")
        if not arguments.bfile:
            clock = Clock()
            simulate_genotypes(arguments.n, arguments.p, seed=1, rho=0.7, chromosomes=22).write(prefix)
            print("simulated   {:8.2f} s  {:8.2f} cpu".format(*clock.read()), flush=True)
        genotypes = Genotypes.open(prefix)
        n, p = genotypes.n, genotypes.n_variants
        work = float(n) ** 2 * p
        relationship_matrix(genotypes.select(variants=slice(0, 64), samples=slice(0, 64)))  # compiles
        before = syrk(n)
        built = best(lambda: relationship_matrix(Genotypes.open(prefix)), arguments.repeats)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        floor = np.minimum(before, syrk(n)) * p / 4096
        print(f"n = {n:,}, p = {p:,}, n²p = {work:.2e} flop, {arguments.threads} threads, peak {memory:,.0f} MB")
        print("ssyrk       {:8.2f} s  {:8.2f} cpu   {:.0f} Gflop/s".format(*floor, work / floor[0] / 1e9))
        print(
            "vcbench     {:8.2f} s  {:8.2f} cpu   {:.2f} and {:.2f} × ssyrk".format(*built, *built / floor), flush=True
        )
        if arguments.eigh:
            K = relationship_matrix(genotypes).K
            print("eigh        {:8.2f} s  {:8.2f} cpu".format(*best(lambda: np.linalg.eigh(K), 1)), flush=True)
        if shutil.which("plink2") and not arguments.skip_plink2:
            command = ["plink2", "--bfile", prefix, "--make-grm-bin", "--threads", str(arguments.threads)]
            clock = Clock(children=True)
            subprocess.run([*command, "--out", Path(folder) / "plink2"], check=True, capture_output=True)
            theirs = clock.read()
            print("plink2      {:8.2f} s  {:8.2f} cpu   {:.2f} and {:.2f} × vcbench".format(*theirs, *theirs / built))


if __name__ == "__main__":
    main()
