"""`vcbench heritability` by methods that stream the SNPs: no matrix, and options go where they belong."""

import json

import numpy as np
import pytest

import vcbench as vc
from vcbench.cli.app import run
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_phenotypes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """90 samples, 240 SNPs on three chromosomes, one phenotype; bins of the SNPs without a header."""
    folder = tmp_path_factory.mktemp("streamed")
    prefix = simulate_genotypes(90, 240, seed=4, chromosomes=3).write(folder / "g")
    simulate_phenotypes(prefix, 0.5, seed=5).write(folder / "p.txt")
    np.savetxt(folder / "bins.txt", np.eye(2, dtype=int)[np.arange(240) % 2], fmt="%d")
    return folder


def asked(data, *more):
    return ["heritability", "--bfile", f"{data}/g", "--pheno", f"{data}/p.txt", "--quiet", "--json", *more]


def test_streamed__is_what_the_library_finds_and_forms_no_matrix(data, capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a relationship matrix was formed")

    monkeypatch.setattr("vcbench.genetics.matrices.relationship_matrix", never)
    arguments = asked(data, "--method", "moments-randomised,ai-stochastic", "--vectors", "7", "--seed", "3")
    assert run([*arguments, "--blocks", "6", "--annot", f"{data}/bins.txt", "--autosomes", "2"]) == 0
    found = json.loads(capsys.readouterr().out)["heritability"]
    g = Genotypes.open(f"{data}/g", chromosomes=["1", "2"])
    Y = simulate_phenotypes(f"{data}/g", 0.5, seed=5).Y[0]
    labels = np.array(["G1", "G2"])[np.arange(160) % 2]
    for method, more in (("moments-randomised", {"blocks": 6}), ("ai-stochastic", {})):
        want = vc.heritability(Y, g, method=method, vectors=7, seed=3, annotations=labels, **more)[0]
        got = found[method]["phenotypes"][0]
        assert [got["V(G1)"], got["V(G2)"], got["V(e)"]] == pytest.approx(want.theta.tolist(), rel=1e-5)
        assert set(got["standard_errors"]) == set(want.covariances)


def test_lasso__runs_from_files(data, capsys):
    assert run(asked(data, "--method", "scaled-lasso")) == 0
    row = json.loads(capsys.readouterr().out)["heritability"]["scaled-lasso"]["phenotypes"][0]
    assert row["se"] == "sparse"
    assert row["h2_se"] is None


def test_options__of_other_methods_are_errors(data, capsys):
    for said, more in (
        ("--vectors goes with --method moments-randomised or ai-stochastic", ["--vectors", "5"]),
        ("--annot goes with --method", ["--annot", f"{data}/bins.txt"]),
        ("without --split", ["--annot", f"{data}/bins.txt", "--split", "chromosome", "--method", "ai-stochastic"]),
        ("there is no annotation file", ["--annot", f"{data}/none", "--method", "ai-stochastic"]),
    ):
        assert run(asked(data, *more)) == 2
        assert said in " ".join(capsys.readouterr().err.split())
