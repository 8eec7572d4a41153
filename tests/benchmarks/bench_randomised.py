"""Randomised moments at biobank scale: time, processor time and memory from a .bed of n people at p SNPs to estimates.

    nice -n 10 uv run python tests/benchmarks/bench_randomised.py [--n 50000] [--p 100000] [--folder FOLDER]

Writes the simulated .bed (n·p/4 bytes: 1.25 GB by default) and two phenotypes into the folder unless they are there,
then estimates in a process of its own, twice: from nothing, and with the traces kept. Two cores of an AMD EPYC with
SkylakeX kernels: 34 s of processor time, 13 s with traces, 0.76 GB at most.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write(prefix: Path, n: int, p: int) -> None:
    """Genotypes with some LD, h² = 0.4 and 0.2, ρ_g = 0.5, ρ_e = 0.2."""
    from vcbench.genetics.simulate import simulate_genotypes
    from vcbench.genetics.simulate_phenotypes import simulate_phenotypes

    simulate_genotypes(n, p, seed=11, rho=0.5, block=250).write(prefix)
    drawn = simulate_phenotypes(prefix, [0.4, 0.2], rho_g=0.5, rho_e=0.2, seed=12)
    drawn.write(prefix.with_suffix(".phen"))


def estimate(prefix: Path, cache: Path, vectors: int, blocks: int) -> None:
    """One run; its figures as JSON on the last line."""
    import resource

    import pandas as pd

    from vcbench.genetics.randomised import randomised_moments

    Y = pd.read_csv(prefix.with_suffix(".phen"), sep="\t")[["pheno1", "pheno2"]]
    wall, cpu = time.perf_counter(), time.process_time()
    found = randomised_moments(Y, prefix, vectors=vectors, blocks=blocks, seed=1, cache=cache)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(found.summary())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"kept": found.cached[0], "seconds": wall, "cpu": cpu, "peak_gb": peak}))


def main() -> None:
    """Both runs, and the price of 500,000 × 500,000 by proportion."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("n", 50_000), ("p", 100_000), ("vectors", 10), ("blocks", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vcbench-randomised")
    parser.add_argument("--estimate", action="store_true")
    a = parser.parse_args()
    prefix = a.folder / f"n{a.n}p{a.p}"
    cache = a.folder / "traces"
    if a.estimate:
        estimate(prefix, cache, a.vectors, a.blocks)
        return
    a.folder.mkdir(parents=True, exist_ok=True)
    if not prefix.with_suffix(".phen").is_file():
        write(prefix, a.n, a.p)
    for kept in cache.glob("*"):
        kept.unlink()
    for _ in range(2):
        done = subprocess.run([sys.executable, *sys.argv, "--estimate"], capture_output=True, text=True, check=True)
        *page, figures = done.stdout.splitlines()
        row = json.loads(figures)
        print("\n".join(page) if not row["kept"] else "")
        what = "traces kept" if row["kept"] else "from nothing"
        print(f"{what}: {row['seconds']:.1f} s, processor {row['cpu']:.1f} s, peak {row['peak_gb']:.2f} GB")
        print(f"500,000 × 500,000 by proportion: {row['cpu'] * 2.5e11 / (a.n * a.p):,.0f} s of processor time")


if __name__ == "__main__":
    main()
