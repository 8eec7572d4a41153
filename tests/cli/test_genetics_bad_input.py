"""Files that are wrong, through the command line: each is said by name with exit code 2, or counted as dropped."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from vcbench.cli.app import run
from vcbench.genetics.grm_files import write_grm
from vcbench.genetics.plink import write_plink
from vcbench.genetics.relationship import GRM, relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes

N, P = 61, 120


@pytest.fixture
def folder(tmp_path):
    """g (2 SNPs monomorphic), k its matrix, p.phen, q.txt, c.txt."""
    drawn = simulate_genotypes(N, P, seed=2, missing=0.02)
    G = drawn.read(None, slice(None))
    G[:, :2] = 0
    write_plink(tmp_path / "g", [G], drawn.samples, drawn.variants)
    write_grm(relationship_matrix(tmp_path / "g"), tmp_path / "k")
    rng = np.random.default_rng(1)
    ids = drawn.samples[["FID", "IID"]]
    table(tmp_path / "p.phen", ids.assign(a=rng.standard_normal(N), b=rng.standard_normal(N)))
    table(tmp_path / "q.txt", ids.assign(age=rng.integers(20, 60, N), bmi=rng.uniform(20, 30, N)))
    table(tmp_path / "c.txt", ids.assign(sex=rng.integers(1, 3, N)))
    return tmp_path


def table(path, frame):
    frame.to_csv(path, sep=" ", index=False)


def asked(folder, *more, genotypes=True, pheno="p.phen"):
    source = ["--bfile", f"{folder}/g"] if genotypes else []
    return run(["heritability", *source, "--pheno", f"{folder}/{pheno}", "--quiet", *(m.format(folder) for m in more)])


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def lines(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


WRONG_FILES = {
    "truncated .bed": (lambda f: rewrite(f / "g.bed", lambda b: b[:-7]), "it was cut short"),
    "wrong magic": (lambda f: rewrite(f / "g.bed", lambda b: b"PK" + b[2:]), "is no PLINK 1 .bed: it begins with"),
    "sample-major": (lambda f: rewrite(f / "g.bed", lambda b: b[:2] + b"\0" + b[3:]), "is stored sample by sample"),
    "shorter .bim": (lambda f: lines(f / "g.bim", lambda t: t[:-3]), "the .bim is of another file"),
    "shorter .fam": (lambda f: lines(f / "g.fam", lambda t: t[:-9]), "the .fam is of another file"),
    "a sample twice": (lambda f: lines(f / "g.fam", lambda t: [*t[:-1], t[0]]), "FID 1, IID 1 comes twice"),
    "a phenotype twice": (lambda f: lines(f / "p.phen", lambda t: [*t, t[-1]]), f"FID {N}, IID {N} comes twice"),
    "text for a number": (
        lambda f: lines(f / "p.phen", lambda t: [t[0], "1 1 tall 2\n", *t[2:]]),
        "`tall` in column `a` is no finite number",
    ),
    "no overlap": (
        lambda f: lines(f / "p.phen", lambda t: [t[0], *(f"x{line}" for line in t[1:])]),
        "it begins with FID x1, IID 1, they begin with FID 1, IID 1. Their IIDs agree",
    ),
    "commas": (lambda f: rewrite(f / "p.phen", lambda b: b.replace(b" ", b",")), "has commas between its columns"),
    "a constant phenotype": (
        lambda f: lines(f / "p.phen", lambda t: [t[0], *(f"{i} {i} 1 NA\n" for i in range(1, N))]),
        "phenotype `a` is constant (1 in all its 60 rows)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_FILES)
def test_wrong_files__are_named_with_exit_code_2(folder, what, capsys):
    change, words = WRONG_FILES[what]
    change(folder)
    assert asked(folder) == 2
    assert words in capsys.readouterr().err


WRONG_MATRICES = {
    "cut short": (lambda f: rewrite(f / "k.grm.bin", lambda b: b[:-4]), "a triangle of the 61 samples"),
    "of fewer samples": (lambda f: lines(f / "k.grm.id", lambda t: t[:-1]), "a triangle of the 60 samples"),
    "counts cut short": (lambda f: rewrite(f / "k.grm.N.bin", lambda b: b[:-4]), "k.grm.N.bin has"),
    "of other samples": (
        lambda f: lines(f / "k.grm.id", lambda t: [f"x{line}" for line in t]),
        "shares no sample with the genotypes",
    ),
    "a sample twice": (lambda f: lines(f / "k.grm.id", lambda t: [*t[:-1], t[0]]), "comes twice"),
    "not a number": (
        lambda f: rewrite(f / "k.grm.bin", lambda b: np.float32(np.nan).tobytes() + b[4:]),
        "has a value that is not finite",
    ),
    "of noise": (
        lambda f: np.random.default_rng(1).normal(size=N * (N + 1) // 2).astype("<f4").tofile(f / "k.grm.bin"),
        "is not positive semi-definite",
    ),
}


@pytest.mark.parametrize("what", WRONG_MATRICES)
def test_wrong_matrices__are_named_with_exit_code_2(folder, what, capsys):
    change, words = WRONG_MATRICES[what]
    change(folder)
    assert asked(folder, "--grm", "{}/k", genotypes=False) == 2
    assert words in capsys.readouterr().err


def test_several_matrices__one_of_other_samples_is_named(folder, capsys):
    whole = GRM.read(folder / "k")
    whole.select(np.arange(40)).write(folder / "part")
    (folder / "list.txt").write_text(f"{folder}/k\n{folder}/part\n")
    assert asked(folder, "--mgrm", "{}/list.txt", genotypes=False) == 2
    said = capsys.readouterr().err
    assert (
        "G2 of --mgrm: the relationship matrix is of other samples: FID 41, IID 41 is not among its 40 (21 of 61"
        in said
    )


def test_an_all_missing_sample__is_named(folder, capsys):
    drawn = simulate_genotypes(N, P, seed=2)
    G = drawn.read(None, slice(None))
    G[17] = -127
    write_plink(folder / "g", [G], drawn.samples, drawn.variants)
    assert asked(folder) == 2
    assert (
        "sample FID 18, IID 18 has no genotype called at any of the 120 SNPs (1 such of 61)" in capsys.readouterr().err
    )


def test_snps_that_do_not_vary__are_counted_and_an_error_where_none_does(folder, capsys):
    assert asked(folder, "--mpheno", "a") == 0
    assert "−       2  monomorphic" in capsys.readouterr().out
    drawn = simulate_genotypes(N, P, seed=2)
    write_plink(folder / "g", [np.ones((N, P), np.int8)], drawn.samples, drawn.variants)
    assert asked(folder) == 2
    assert "none of the 120 SNPs is left: 120 monomorphic" in capsys.readouterr().err


def test_covariates_that_are_missing__drop_their_samples_and_are_counted(folder, capsys):
    frame = pd.read_csv(folder / "q.txt", sep=" ", dtype=str)
    frame.loc[[4, 5], "age"], frame.loc[6, "bmi"] = "NA", "nan"
    table(folder / "q.txt", frame)
    assert asked(folder, "--mpheno", "a", "--qcovar", "{}/q.txt", "--out", "{}/o") == 0
    assert "−       3  qcovar missing" in capsys.readouterr().out
    assert pd.read_csv(folder / "o.removed.tsv", sep="\t")["IID"].tolist() == [5, 6, 7]
    table(folder / "q.txt", frame.assign(age="NA"))
    assert asked(folder, "--qcovar", "{}/q.txt") == 2
    assert "no sample is left of 61: 61 qcovar missing" in capsys.readouterr().err


def test_covariates_that_are_combinations__are_named_in_the_checks(folder, capsys):
    frame = pd.read_csv(folder / "q.txt", sep=" ")
    table(folder / "q.txt", frame.assign(twice=2 * frame["age"] + 1))
    assert asked(folder, "--mpheno", "a", "--qcovar", "{}/q.txt") == 0
    assert "note twice left out, as combinations of other covariates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--grm-cutoff", "-1"], "--grm-cutoff is -1; it is a relationship above 0"),
        (["--method", ","], "--method names none"),
        (["--sample-prevalence", "0.5"], "goes with --prevalence"),
        (["--level", "95"], "lies between 0 and 1, such as 0.95"),
        (["--maf", "5"], "must be a share between 0 and 0.5"),
        (["--covar", "{}/q.txt"], "covar `age` has"),
        (["--keep", "{}/none.txt"], "there is no file"),
        (["--extract", "{}/c.txt"], "leaves none. Are its ids those of the genotypes?"),
    ],
)
def test_options_that_make_no_sense__are_errors_of_use(folder, more, words, capsys):
    if more[0] == "--covar":
        frame = pd.read_csv(folder / "q.txt", sep=" ")
        table(folder / "q.txt", frame.assign(age=np.arange(N)))
    assert asked(folder, *more) == 2
    assert words in capsys.readouterr().err


def test_two_values__get_a_hint_and_prevalence_is_theirs_alone(folder, capsys):
    frame = pd.read_csv(folder / "p.phen", sep=" ")
    table(folder / "p.phen", frame.assign(b=(frame["b"] > 0) + 1))
    assert asked(folder) == 0
    assert "note b has two values: --prevalence gives h² of its liability" in capsys.readouterr().out
    assert asked(folder, "--prevalence", "0.1", "--json", "--mpheno", "a,b") == 0
    assert capsys.readouterr().out.count("h2_liability_se") == 1


def test_split__snps_in_no_bin_are_counted(folder, capsys):
    assert asked(folder, "--mpheno", "a", "--split", "maf:0.2,0.35") == 0
    out = capsys.readouterr().out
    numbers = {
        words: int(number) for number, words in re.findall(r"(\d+)  (in no part of --split|used for the GRM)", out)
    }
    assert numbers["in no part of --split"] > 2
    assert sum(numbers.values()) == P


def test_missing_part__is_named(folder, capsys):
    (folder / "g.fam").unlink()
    assert asked(folder) == 2
    assert "g.fam" in capsys.readouterr().err
    shutil.copy(folder / "k.grm.id", folder / "g.fam")
    assert asked(folder) == 2
    assert "has 2 columns; 6 were expected" in capsys.readouterr().err
