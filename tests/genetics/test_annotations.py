"""Bins of SNPs: every way to say them says the same, and what does not fit is named."""

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import DataError
from vcbench.genetics.annotations import Bins
from vcbench.genetics.sources import numbered_variants

P = 12
VARIANTS = numbered_variants(P).assign(chrom=np.repeat(["1", "2", "X"], 4))
LOW = np.arange(P) < 5
WANT = np.column_stack([LOW, ~LOW])


def test_bins__are_the_same_however_they_are_said(tmp_path):
    ids = VARIANTS["id"].to_numpy()
    np.savetxt(tmp_path / "plain.txt", WANT.astype(int), fmt="%d")
    shuffled = np.random.default_rng(1).permutation(P)
    ldsc = pd.DataFrame({"CHR": 1, "BP": np.arange(P), "SNP": ids, "CM": 0.1, "low": LOW * 1, "high": ~LOW * 1})
    ldsc.iloc[shuffled].to_csv(tmp_path / "ldsc.annot", sep="\t", index=False)
    frame = pd.DataFrame({"SNP": ids, "class": np.where(LOW, "low", "high")})
    for said in (
        np.where(LOW, "low", "high"),
        WANT.astype(float),
        tmp_path / "plain.txt",
        str(tmp_path / "ldsc.annot"),
        frame.iloc[shuffled],
        {"low": LOW, "high": ~LOW},
        {"low": list(ids[LOW]), "high": np.flatnonzero(~LOW)},
        pd.DataFrame(WANT.astype(int), columns=["low", "high"]),
    ):
        bins = Bins.of(said, VARIANTS)
        assert bins.n == 2
        assert (bins.member == WANT).all()
        assert bins.names in (("low", "high"), ("G1", "G2"))
        assert (bins.at(np.array([4, 5])) == WANT[[4, 5]]).all()


def test_bins__chromosomes_overlaps_and_none():
    assert Bins.of("chromosome", VARIANTS).names == ("1", "2", "X")
    whole = Bins.of(None, VARIANTS)
    assert whole.names == ("G",)
    assert whole.at(np.arange(3)).tolist() == [[True]] * 3
    both = Bins.of({"all": np.ones(P, bool), "low": LOW}, VARIANTS)
    assert both.member.sum(axis=0).tolist() == [P, 5]
    left_out = Bins.of(pd.DataFrame({"SNP": ["snp3"], "one": [1]}), VARIANTS)
    assert left_out.member.sum() == 1


def test_bad_bins__are_errors_that_name_the_place(tmp_path):
    np.savetxt(tmp_path / "short.txt", WANT[:-1].astype(int), fmt="%d")
    header = tmp_path / "header.txt"
    pd.DataFrame({"low": LOW[:-1] * 1}).to_csv(header, index=False)
    number = pd.DataFrame({"SNP": VARIANTS["id"], "low": np.where(LOW, 1.0, 0.3)})
    word = pd.DataFrame({"low": np.where(LOW, "1", "x"), "high": "0"})
    for said, bad in (
        ("no annotation file", tmp_path / "none"),
        (r"shape \(11, 2\); the genotypes have 12 SNPs", tmp_path / "short.txt"),
        ("11 lines for 12 SNPs", header),
        ("`low` has 0.3 for SNP 6", number),
        ("`low` has `x`", word),
        ("snp1 comes twice", pd.DataFrame({"SNP": ["snp1", "snp1"], "low": 1})),
        ("shares no SNP", pd.DataFrame({"SNP": ["rs1"], "low": 1})),
        ("no column of bins", pd.DataFrame({"SNP": VARIANTS["id"], "BP": 1})),
        ("bin `high` holds none", {"low": LOW, "high": np.zeros(P, bool)}),
        ("`a` and `b` hold the same SNPs", {"a": LOW, "b": LOW}),
        ("mask of 3", {"a": np.ones(3, bool)}),
        ("names SNP 12", {"a": [12]}),
        ("has no bin", {}),
        ("shape", np.zeros((P, 2, 2))),
    ):
        with pytest.raises(DataError, match=said):
            Bins.of(bad, VARIANTS)
