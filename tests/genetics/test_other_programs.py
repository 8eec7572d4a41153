"""plink2 and GEMMA run beside vcbench on files as they come: missing calls, SNPs that do not vary, sex chromosomes."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from vcbench.cli.app import run
from vcbench.genetics.plink import write_plink
from vcbench.genetics.relationship import GRM
from vcbench.genetics.simulate import simulate_genotypes

N, P = 150, 900
needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
needs_gemma = pytest.mark.skipif(shutil.which("gemma") is None, reason="gemma is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """g: 900 SNPs in LD, 3 % missing, 3 of them monomorphic (2 with missing calls), one without a call, 30 on X, Y and
    MT; `auto`: chromosomes 1 … 20 of the same, its phenotype in the .fam; p.phen: the phenotype, −9 and NA in it."""
    out = tmp_path_factory.mktemp("programs")
    rng = np.random.default_rng(8)
    drawn = simulate_genotypes(N, P, seed=4, rho=0.5, missing=0.03, chromosomes=20)
    G, samples, variants = drawn.read(None, slice(None)), drawn.samples, drawn.variants.copy()
    u = (G[:, :800:5] > 0) @ rng.standard_normal(160)
    y = u / u.std() + rng.standard_normal(N)
    G[:, 7], G[:, 10] = 0, -127
    G[:, 8:10] = np.where(rng.random((N, 2)) < 0.1, -127, [2, 1])
    variants["chrom"] = [*variants["chrom"].astype(str)[: P - 30], *np.repeat(["X", "Y", "MT"], 10)]
    write_plink(out / "g", [G], samples, variants)
    text = pd.Series(y).map("{:.6f}".format)
    text[[3, 77]] = ["-9", "NA"]
    samples[["FID", "IID"]].assign(height=text).sample(frac=1, random_state=1).to_csv(
        out / "p.phen", sep=" ", index=False
    )
    write_plink(out / "auto", [G[:, : P - 30]], samples, variants[: P - 30])
    fam = pd.read_csv(out / "auto.fam", sep="\t", header=None, dtype=str)
    fam.assign(**{"5": text.replace("-9", "NA")})[[0, 1, 2, 3, 4, "5"]].to_csv(
        out / "auto.fam", sep=" ", index=False, header=False
    )
    return out


def ours(folder, out, *options):
    """The answer and the matrix of `vcbench heritability`."""
    files = ["--bfile", f"{folder}/g", "--pheno", f"{folder}/p.phen", "--out", f"{folder}/{out}"]
    assert run(["heritability", *files, "--make-grm", "--quiet", *options]) == 0
    answer = json.loads((folder / f"{out}.vc.json").read_text())
    return answer["heritability"]["auto"]["phenotypes"][0], GRM.read(folder / out)


@needs_plink2
def test_plink2__its_matrix_and_counts_from_the_command_line(folder, capsys):
    command = f"plink2 --bfile {folder}/g --chr 1-20 --make-grm-bin --out {folder}/theirs --threads 1 --memory 640"
    subprocess.run(command.split(), check=True, capture_output=True)
    _, found = ours(folder, "like", "--like-gcta")
    theirs = GRM.read(folder / "theirs")
    assert np.array_equal(found.pair_counts, theirs.pair_counts)
    assert np.abs(found.K - theirs.K).max() < 1e-6  # single precision
    assert found.samples.equals(theirs.samples)


@needs_gemma
@pytest.mark.parametrize(("kind", "standardise"), [("1", "centred"), ("2", "unit")])
def test_gemma__its_matrices_variances_and_pve_from_the_command_line(folder, kind, standardise, capsys):
    """`-gk`, then `-lmm`: K, vg, ve and pve as GEMMA prints them (6 digits), no filter on either side."""
    name = f"k{kind}"
    begin = ["gemma", "-bfile", f"{folder}/auto", "-outdir", str(folder), "-miss", "1", "-maf", "0"]
    subprocess.run([*begin, "-gk", kind, "-o", name], check=True, capture_output=True)
    matrix = folder / f"{name}.{'c' if kind == '1' else 's'}XX.txt"
    subprocess.run([*begin, "-k", matrix, "-lmm", "1", "-o", f"l{kind}"], check=True, capture_output=True)
    log = (folder / f"l{kind}.log.txt").read_text()
    theirs = {
        key: float(next(line for line in log.splitlines() if line.startswith(f"## {key} estimate")).split("=")[1])
        for key in ("pve", "vg", "ve")
    }
    found, K = ours(folder, f"v{kind}", "--standardise", standardise, "--scale", "trace")
    assert np.loadtxt(matrix) == pytest.approx(K.K, abs=1e-6)
    assert found["n"] == N - 2
    values = {"pve": found["h2"], "vg": found["V(G)"], "ve": found["V(e)"]}
    assert values == pytest.approx(theirs, rel=1e-4)  # GEMMA stops its root search at 1e-5
