"""From the .bed file to h² and ρ_g of four phenotypes, start to finish, against its floating point work and two peers.

    uv run python tests/benchmarks/bench_heritability.py [--n 2000] [--p 40000] [--bfile PREFIX] [--threads T]
                                                         [--skip-whole] [--skip-peers] [--equal]

The job is one command, run as its own process: relationship matrix, eigendecomposition, REML with SE and the moments
estimate of four phenotypes with ten covariates, and all six genetic correlations with SE both ways. The truth is that
of the four phenotypes of seed 002 (h², ρ_g, ρ_e as printed there). The floor, measured in this process: n²p flop at
the rate of float32 `ssyrk`, and one float64 `eigh`. Peers on the same files: plink2 (`--make-grm-bin`) against our
matrix and its file, and GEMMA's variance step of one phenotype (`-lmm` on 50 SNPs and a given matrix) against ours
(`--grm`, one phenotype). OpenBLAS kernels: ours are those our own warning advises (OPENBLAS_CORETYPE unset); peers have
the environment as it is, or with `--equal` the same as ours. Genotypes with LD are simulated unless `--bfile` names
some. Wall seconds, and behind them seconds of processor time: on a busy machine compare those, with `--threads 1`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from bench_grm import Clock, best, syrk
from threadpoolctl import threadpool_limits

from vcbench.genetics import blas
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.relationship import GRM
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_phenotypes

H2 = (0.2286, 0.3059, 0.2975, 0.1658)
PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
RHO_G = (0.264, 0.948, 0.301, -0.057, -0.398, 0.313)
RHO_E = (0.070, 0.855, 0.455, -0.176, -0.410, 0.346)


def correlation(values: tuple[float, ...]) -> np.ndarray:
    """The nearest positive semi-definite matrix by its eigenvalues: the printed estimates need not be one."""
    R = np.eye(4)
    for (i, j), r in zip(PAIRS, values, strict=True):
        R[i, j] = R[j, i] = r
    d, U = np.linalg.eigh(R)
    R = (U * np.maximum(d, 0.0)) @ U.T
    return R / np.sqrt(np.outer(np.diag(R), np.diag(R)))


def child(command: list[str], threads: int, best_kernels: bool = True) -> tuple[np.ndarray, float]:
    """(wall, processor) seconds and peak megabytes of a command as its own process."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if best_kernels:
        environment.pop("OPENBLAS_CORETYPE", None)
    clock = Clock(children=True)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = clock.read()[0]
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}:\n{said}")
    return np.array([wall, used.ru_utime + used.ru_stime]), used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--p", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bfile")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--skip-whole", action="store_true")
    parser.add_argument("--equal", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", blas.SlowBlas)
    print(blas.describe())
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(arguments.threads):
        here = Path(folder)
        prefix = Path(arguments.bfile or here / "g")
        if not arguments.bfile:
            simulate_genotypes(arguments.n, arguments.p, seed=1, rho=0.7, chromosomes=22).write(prefix)
        genotypes = Genotypes.open(prefix)
        n, p = genotypes.n, genotypes.n_variants
        X = np.random.default_rng(2).standard_normal((n, 10))
        truth = dict(rho_g=correlation(RHO_G), rho_e=correlation(RHO_E))
        made = simulate_phenotypes(genotypes, H2, seed=3, X=X, beta=np.full(10, 0.1), **truth)
        made.write(here / "pheno.txt")
        ids = genotypes.samples[["FID", "IID"]].reset_index(drop=True)
        pd.concat([ids, pd.DataFrame(X)], axis=1).to_csv(here / "qcovar.txt", sep="\t", index=False, header=False)

        vcbench = [sys.executable, "-c", "from vcbench.cli.app import main; main()", "heritability", "--quiet"]
        files = ["--pheno", str(here / "pheno.txt"), "--qcovar", str(here / "qcovar.txt")]
        everything = [*vcbench, "--bfile", str(prefix), *files, "--method", "ai,moments", "--correlations", "both"]
        if not arguments.skip_whole:
            before = syrk(n)
            whole, memory = child([*everything, "--out", str(here / "all")], arguments.threads)
            product = np.minimum(before, syrk(n)) * p / 4096
            K = np.random.default_rng(4).standard_normal((n, n))
            K = K @ K.T / n
            eigh = best(lambda: np.linalg.eigh(K), 1)
            floor = product + eigh
            print(f"n = {n:,}, p = {p:,}, {arguments.threads} threads, peak {memory:,.0f} MB")
            print("ssyrk + eigh  {:8.2f} s  {:8.2f} cpu   ({:.2f} + {:.2f} cpu)".format(*floor, product[1], eigh[1]))
            print(
                "the whole     {:8.2f} s  {:8.2f} cpu   {:.2f} and {:.2f} × that".format(*whole, *whole / floor),
                flush=True,
            )
        if arguments.skip_peers:
            return
        if shutil.which("plink2"):
            code = "import sys; from vcbench.genetics.relationship import relationship_matrix as K; "
            code += "K(sys.argv[1]).write(sys.argv[2])"
            ours, _ = child([sys.executable, "-c", code, str(prefix), str(here / "k")], arguments.threads)
            make = ["plink2", "--bfile", str(prefix), "--make-grm-bin", "--threads", str(arguments.threads)]
            theirs, _ = child([*make, "--out", str(here / "plink2")], arguments.threads, arguments.equal)
            print("matrix        {:8.2f} s  {:8.2f} cpu".format(*ours))
            print(
                "plink2        {:8.2f} s  {:8.2f} cpu   {:.2f} and {:.2f} × that".format(*theirs, *theirs / ours),
                flush=True,
            )
        if shutil.which("gemma") and (here / "k.grm.bin").exists():
            grm = GRM.read(here / "k")
            np.savetxt(here / "k.txt", grm.K, fmt="%.8g", delimiter="\t")
            few = Genotypes.open(prefix).select(variants=slice(0, 50))
            write_few(few, here / "few", made.frame()["pheno1"])
            pd.DataFrame(np.column_stack([np.ones(n), X])).to_csv(here / "c.txt", sep="\t", index=False, header=False)
            one = ["--grm", str(here / "k"), *files, "--mpheno", "1", "--method", "ai", "--out", str(here / "one")]
            ours, _ = child([*vcbench, *one], arguments.threads)
            lmm = f"gemma -bfile {here / 'few'} -k {here / 'k.txt'} -c {here / 'c.txt'} -lmm 1".split()
            where = ["-outdir", str(here / "gemma"), "-o", "g"]
            theirs, _ = child([*lmm, *where], arguments.threads, arguments.equal)
            print("one phenotype {:8.2f} s  {:8.2f} cpu".format(*ours))
            print("gemma         {:8.2f} s  {:8.2f} cpu   {:.2f} and {:.2f} × that".format(*theirs, *theirs / ours))
            for line in (here / "gemma" / "g.log.txt").read_text().splitlines():
                if "pve" in line:
                    print("  ", line)


def write_few(genotypes: Genotypes, prefix: Path, phenotype: pd.Series) -> None:
    """A PLINK file of some SNPs with the phenotype in its .fam, as GEMMA takes it."""
    from bed_reader import to_bed

    calls = np.hstack([block.W for block in genotypes.blocks(standardise=None)])
    to_bed(prefix.with_suffix(".bed"), calls.astype(np.int8))
    fam = pd.concat([genotypes.samples[["FID", "IID"]].reset_index(drop=True)], axis=1)
    fam[["father", "mother", "sex"]] = 0
    fam["y"] = phenotype.to_numpy()
    fam.to_csv(prefix.with_suffix(".fam"), sep=" ", index=False, header=False)


if __name__ == "__main__":
    main()
