"""The relationship matrix: time of the build against its floating point work, and against plink2 on the same files.

    uv run python tests/benchmarks/bench_grm.py [--n 2000] [--p 40000] [--repeats 3] [--bfile PREFIX] [--keep FOLDER]
                                                [--eigh] [--skip-plink2]

Files with LD (AR(1) copula, ρ = 0.7) are simulated unless `--bfile` names some (`--keep`: where to leave them). The
floor is n²p flop at the rate of float32 `ssyrk` (n, 4096), measured before and after the build in the same process, the
better of the two. plink2 (`--make-grm-bin`, all threads) runs on the same files. `--eigh`: one float64
eigendecomposition too. OPENBLAS_CORETYPE is as the environment has it; the first line says which kernels run.
"""

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from vcbench.genetics import blas
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.level3 import ssyrk
from vcbench.genetics.relationship import relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes


def rate(n: int, repeats: int = 3) -> float:
    """flop/s of float32 ssyrk, n × 4096, n² · 4096 flop: the best of some."""
    W = np.asfortranarray(np.random.default_rng(1).standard_normal((n, 4096), dtype=np.float32))
    C = np.zeros((n, n), np.float32, order="F")
    best = np.inf
    for _ in range(repeats + 1):
        started = time.perf_counter()
        ssyrk(W, C, add=True)
        best = min(best, time.perf_counter() - started)
    return n * n * 4096.0 / best


def peak() -> float:
    """MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--p", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bfile")
    parser.add_argument("--keep")
    parser.add_argument("--eigh", action="store_true")
    parser.add_argument("--skip-plink2", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", blas.SlowBlas)
    print(blas.describe())
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(arguments.bfile or Path(arguments.keep or folder) / "g")
        if not arguments.bfile:
            started = time.perf_counter()
            simulate_genotypes(arguments.n, arguments.p, seed=1, rho=0.7, chromosomes=22).write(prefix)
            print(f"simulated {arguments.n:,} × {arguments.p:,} in {time.perf_counter() - started:.1f} s")
        genotypes = Genotypes.open(prefix)
        n, p = genotypes.n, genotypes.n_variants
        relationship_matrix(genotypes.select(variants=slice(0, 64), samples=slice(0, 64)))  # compiles
        best, before = np.inf, rate(n)
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            grm = relationship_matrix(Genotypes.open(prefix))
            best = min(best, time.perf_counter() - started)
        print(f"peak memory {peak():,.0f} MB")
        floor = float(n) ** 2 * p / max(before, rate(n))
        print(
            f"ssyrk       {float(n) ** 2 * p / floor / 1e9:8.0f} Gflop/s   n²p = {float(n) ** 2 * p:.2e}: {floor:.2f} s"
        )
        print(f"vcbench     {best:8.2f} s   {best / floor:.2f} × the floor   {p / best:,.0f} SNP/s")
        if arguments.eigh:
            started = time.perf_counter()
            np.linalg.eigh(grm.K)
            print(f"eigh        {time.perf_counter() - started:8.2f} s")
        if shutil.which("plink2") and not arguments.skip_plink2:
            command = ["plink2", "--bfile", prefix, "--make-grm-bin", "--out", Path(folder) / "plink2"]
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            theirs = time.perf_counter() - started
            print(f"plink2      {theirs:8.2f} s   {theirs / best:.2f} × vcbench")


if __name__ == "__main__":
    main()
