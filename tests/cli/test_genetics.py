"""`vcbench heritability`: files in, files out, and what is said on the way."""

import json

import numpy as np
import pandas as pd
import pytest
from bed_reader import to_bed

import vcbench as vc
from vcbench.cli.app import run
from vcbench.genetics.relationship import relationship_matrix


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """120 samples, 300 SNPs on chromosomes 1, 2 and 23; two phenotypes, a covariate, sex; a few values missing."""
    folder = tmp_path_factory.mktemp("plink")
    rng = np.random.default_rng(7)
    n, p = 120, 300
    G = rng.binomial(2, rng.uniform(0.1, 0.5, p), (n, p)).astype(np.int8)
    G[:, 5] = 0
    ids = np.array([f"s{i}" for i in range(n)])
    chrom = np.repeat(["1", "2", "23"], [150, 130, 20])
    to_bed(
        folder / "g.bed", G,
        properties={"fid": ids, "iid": ids, "sid": [f"rs{j}" for j in range(p)], "chromosome": chrom},
    )  # fmt: skip
    W = (G - G.mean(axis=0)) / np.where(G.std(axis=0) > 0, G.std(axis=0), 1)
    y = W @ rng.standard_normal((p, 2)) / np.sqrt(p) + rng.standard_normal((n, 2))
    frame = pd.DataFrame(np.column_stack([ids, ids]), columns=["FID", "IID"])
    pheno = frame.assign(height=y[:, 0], weight=y[:, 1]).astype(str)
    pheno.loc[:2, "height"] = "-9"
    pheno.loc[0, "weight"] = "NA"
    pheno.iloc[:118].to_csv(folder / "p.txt", sep=" ", index=False)
    frame.assign(age=rng.integers(20, 60, n)).to_csv(folder / "q.txt", sep=" ", index=False)
    frame.assign(sex=rng.integers(1, 3, n)).to_csv(folder / "c.txt", sep=" ", index=False)
    return folder


def asked(data, *more):
    return ["heritability", "--bfile", f"{data}/g", "--pheno", f"{data}/p.txt", "--quiet", *more]


def test_heritability__prints_and_writes_what_the_library_finds(data, tmp_path, capsys):
    out = tmp_path / "here" / "a"
    arguments = asked(data, "--qcovar", f"{data}/q.txt", "--covar", f"{data}/c.txt", "--out", str(out))
    assert run([*arguments, "--method", "ai,moments", "--correlations", "both"]) == 0
    text = capsys.readouterr().out
    assert "      120  with a relationship" in text
    assert "−       3  no phenotype" in text  # two are not in the file, one has neither
    assert "−      20  on other chromosomes" in text
    assert "1  monomorphic" in text
    assert "      279  used for the GRM" in text
    assert "Genetic correlations of 2 phenotypes, REML" in text
    files = sorted(path.name for path in out.parent.iterdir())
    assert files == ["a.height.hsq", "a.log", "a.profile.svg", "a.removed.tsv", "a.vc.json", "a.weight.hsq"]
    picture = (out.parent / "a.profile.svg").read_text()
    assert all(words in picture for words in ("<svg", "height", "weight", "relative likelihood"))
    assert text.splitlines()[:3] == (out.parent / "a.log").read_text().splitlines()[:3]
    removed = pd.read_csv(out.parent / "a.removed.tsv", sep="\t")
    assert removed["IID"].tolist() == ["s0", "s118", "s119"]

    from vcbench.genetics.genotypes import Genotypes
    from vcbench.genetics.tables import join

    genotypes = Genotypes.open(data / "g", chromosomes=["1", "2"])
    joined = join(genotypes.samples, data / "p.txt", data / "q.txt", data / "c.txt")
    K = relationship_matrix(genotypes).select(joined.rows)
    found = vc.heritability(joined.Y, K=K, X=joined.X)
    read = json.loads((out.parent / "a.vc.json").read_text())
    for j, name in enumerate(("height", "weight")):
        ours = read["heritability"]["ai"]["phenotypes"][j]
        assert ours["h2"] == pytest.approx(found[name].h2, rel=1e-9)
        assert ours["n"] == found[name].n
        line = (out.parent / f"a.{name}.hsq").read_text().splitlines()[4].split("\t")
        assert line == ["V(G)/Vp", f"{found[name].h2:.6f}", f"{found[name].se('h2'):.6f}"]
    assert read["correlations"]["moments"]["pairs"][0]["n"] == 115


def test_grm__written_and_read_gives_the_same(data, tmp_path, capsys):
    out = tmp_path / "k"
    assert run(asked(data, "--mpheno", "2", "--make-grm", "--out", str(out))) == 0
    first = json.loads((tmp_path / "k.vc.json").read_text())["heritability"]["auto"]["phenotypes"][0]
    capsys.readouterr()
    arguments = [
        "heritability",
        "--grm",
        str(out),
        "--pheno",
        f"{data}/p.txt",
        "--mpheno",
        "weight",
        "--json",
        "--quiet",
    ]
    assert run(arguments) == 0
    again = json.loads(capsys.readouterr().out)["heritability"]["auto"]["phenotypes"][0]
    assert again["h2"] == pytest.approx(first["h2"], rel=1e-4)  # the file is float32
    (tmp_path / "list.txt").write_text(f"{out}\n{out}\n")
    assert run(["heritability", "--mgrm", str(tmp_path / "list.txt"), "--pheno", f"{data}/p.txt", "--mpheno", "2"]) == 2
    assert "cannot be told apart" in capsys.readouterr().err


def test_split__gives_one_variance_a_chromosome_or_bin(data, tmp_path, capsys):
    assert run(asked(data, "--mpheno", "1", "--split", "chromosome", "--out", str(tmp_path / "c"))) == 0
    lines = [line.split("\t")[0] for line in (tmp_path / "c.hsq").read_text().splitlines()]
    assert lines[1:4] == ["V(G1)", "V(G2)", "V(e)"]
    assert "Sum of V(G)/Vp" in lines
    assert run(asked(data, "--mpheno", "1", "--split", "maf:0.05,0.3")) == 0
    assert "V(maf0.05-0.3)" in capsys.readouterr().out


def test_few_snps__and_relatives_left_out(data, tmp_path, capsys):
    (tmp_path / "snps.txt").write_text("\n".join(f"rs{j}" for j in range(10, 60)))
    assert run(asked(data, "--mpheno", "1", "--extract", str(tmp_path / "snps.txt"))) == 0
    assert "50  used for the GRM" in capsys.readouterr().out
    assert run(asked(data, "--mpheno", "1", "--grm-cutoff", "0.2", "--out", str(tmp_path / "r"))) == 0
    reasons = pd.read_csv(tmp_path / "r.removed.tsv", sep="\t")["reason"]
    assert (reasons == "related, GRM > 0.2").any()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--grm", "x"], "one of --bfile, --grm and --mgrm"),
        (["--mpheno", "depth"], "--mpheno asks for `depth`"),
        (["--split", "gene"], "--split is `gene`"),
        (["--make-grm"], "goes with --bfile and --out"),
        (["--method", "aireml"], "Did you mean `ai`"),
        (["--qcovar", "none.txt"], "there is no qcovar file"),
        (["--prevalence", "0.1"], "different values"),
        (["--mpheno", "1", "--correlations", "reml"], "two phenotypes or more"),
    ],
)
def test_wrong_use__is_an_error_with_exit_code_2(data, more, words, capsys):
    assert run(asked(data, *more)) == 2
    assert words in capsys.readouterr().err


def test_blas__a_faster_one_begins_the_program_again(monkeypatch):
    """The variable is read when numpy is loaded: the program is begun anew with it, unless it was set by the user."""
    from vcbench.cli import genetics

    begun = []
    monkeypatch.setattr("vcbench.genetics.blas.coretype", lambda: "SkylakeX")
    monkeypatch.setattr(
        "os.execve", lambda program, arguments, env: begun.append((arguments, env["OPENBLAS_CORETYPE"]))
    )
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    genetics.with_fast_blas()
    assert begun == []
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    genetics.with_fast_blas()
    assert begun[0][1] == "SkylakeX"
