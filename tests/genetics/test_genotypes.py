"""Genotypes: the same blocks from every source, filters that count, selections, and files that do not fit together."""

import numpy as np
import pandas as pd
import pytest
from genetics import plain

from vcbench.errors import DataError, MethodError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.sources import ArraySource

SCALINGS = ["unit", "vanraden1", "vanraden2", "gcta", "centred", ("alpha", -0.25)]


@pytest.fixture(scope="module")
def calls():
    """(n, p) calls with missing ones, a monomorphic SNP and one without a call."""
    G = simulate_genotypes(83, 210, seed=5, rho=0.5, block=70, missing=0.05).read(None, slice(None))
    G[:, 11] = 1
    G[:, 12] = -127
    return G


@pytest.fixture
def prefix(tmp_path):
    """PLINK files of 61 samples and 130 SNPs on two chromosomes."""
    return simulate_genotypes(61, 130, seed=8, missing=0.03, chromosomes=2).write(tmp_path / "geno")


def together(genotypes, **options):
    """All W side by side, and the positions of their SNPs."""
    blocks = list(genotypes.blocks(**options))
    return np.hstack([b.W for b in blocks]), np.concatenate([b.facts.columns for b in blocks])


@pytest.mark.parametrize("missing", ["mean", "pairs"])
@pytest.mark.parametrize("standardise", SCALINGS, ids=str)
def test_blocks__are_the_formulas_rounded_once(calls, standardise, missing):
    W, at = together(Genotypes.open(calls), size=37, standardise=standardise, missing=missing)
    right, _, keep = plain.columns(calls, standardise, missing)
    assert W.dtype == np.float32
    assert np.array_equal(at, keep)
    assert np.abs(W - right).max() <= 2.0**-24 * np.abs(right).max()


def test_dosages__are_standardised_as_calls_are(calls, rng):
    dosages = np.where(calls < 0, np.nan, np.clip(calls + rng.uniform(-0.2, 0.2, calls.shape), 0, 2))
    dosages[:, 3] = 0.37
    W, at = together(Genotypes.open(dosages), size=50)
    right, _, keep = plain.columns(dosages)
    assert np.array_equal(at, keep)
    assert 3 not in at
    assert np.abs(W - right).max() <= 2.0**-23 * np.abs(right).max()


def test_unit__columns_have_mean_0_and_variance_1(calls):
    W = together(Genotypes.open(calls))[0].astype(float)
    assert np.abs(W.mean(axis=0)).max() < 1e-7
    assert np.abs((W**2).mean(axis=0) - 1).max() < 1e-6


def test_raw_blocks__hold_the_calls(calls):
    W, at = together(Genotypes.open(calls), standardise=None, missing="pairs")
    assert np.array_equal(W, np.where(calls < 0, np.nan, calls)[:, at].astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.float32, np.float64, "frame", "zarr", "zarr path", "plink"])
def test_sources__give_the_same_blocks(calls, kind, tmp_path):
    expected = together(Genotypes.open(calls), size=64)
    if kind == "frame":
        source = pd.DataFrame(calls, index=[f"s{i}" for i in range(len(calls))])
    elif isinstance(kind, str) and kind.startswith("zarr"):
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        source = zarr.create_array(str(tmp_path / "g.zarr"), shape=calls.shape, chunks=(40, 30), dtype="int8")
        source[:] = calls
        source = tmp_path / "g.zarr" if kind == "zarr path" else source
    elif kind == "plink":
        from vcbench.genetics.plink import write_plink
        from vcbench.genetics.sources import numbered_samples, numbered_variants

        parts = (calls[:, a : a + 50] for a in range(0, calls.shape[1], 50))
        source = write_plink(tmp_path / "a.b", parts, numbered_samples(len(calls)), numbered_variants(calls.shape[1]))
    else:
        source = np.where(calls < 0, -9 if np.issubdtype(kind, np.integer) else np.nan, calls).astype(kind)
    W, at = together(Genotypes.open(source), size=64)
    assert np.array_equal(at, expected[1])
    assert np.array_equal(W, expected[0])


def test_scan__counts_why_snps_are_left_out(calls):
    genotypes = Genotypes.open(calls, maf=0.2, missing=0.06)
    G = np.where(calls < 0, np.nan, calls.astype(float))
    gaps = np.isnan(G).mean(axis=0)
    f = np.nanmean(np.delete(G, [11, 12], axis=1), axis=0) / 2
    rare, gappy = np.minimum(f, 1 - f) < 0.2, np.delete(gaps, [11, 12]) > 0.06
    assert genotypes.scan().dropped == {
        "no call": 1,
        "monomorphic": 1,
        "missing > 0.06": int(gappy.sum()),
        "MAF < 0.2": int((rare & ~gappy).sum()),
    }
    assert genotypes.p == int((~rare & ~gappy).sum())
    assert np.array_equal(genotypes.scan().absent, (calls < 0).sum(axis=1))


def test_filters__are_of_the_selected_samples(calls):
    some = np.arange(0, 83, 4)
    genotypes = Genotypes.open(calls, samples=some, maf=0.3)
    assert np.array_equal(genotypes.scan().facts.called, (calls[some] >= 0).sum(axis=0))
    W, at = together(genotypes)
    assert np.array_equal(W, together(Genotypes.open(calls[some], maf=0.3))[0])
    assert len(at) == genotypes.p < Genotypes.open(calls, maf=0.3).p + 30


def test_a_full_pass__leaves_the_scan_behind_and_stops_early_without_harm(calls):
    genotypes = Genotypes.open(calls)
    next(iter(genotypes.blocks(size=10)))
    assert "scan" not in genotypes.cache
    list(genotypes.blocks(size=10))
    assert genotypes.cache["scan"].kept.sum() == 208


def test_blocks__never_ask_for_more_than_their_size(calls):
    asked = []

    class Recorded:
        n, p = calls.shape

        def read(self, rows, columns):
            asked.append(calls[:, columns].shape[1])
            return np.asfortranarray(calls[:, columns])

    list(Genotypes.open(Recorded()).blocks(size=32))
    assert asked == [32] * 6 + [18]


def test_select__by_ids_masks_frames_and_files_is_one_selection(prefix, tmp_path):
    genotypes = Genotypes.open(prefix)
    wanted = [7, 3, 50]
    ids = genotypes.samples.iloc[wanted]
    expected = genotypes.select(samples=wanted).samples
    for samples in (ids, ids[["IID"]], list(ids["IID"]), list(zip(ids["FID"], ids["IID"], strict=True))):
        assert genotypes.select(samples=samples).samples.equals(expected)
    (tmp_path / "keep.txt").write_text("#FID IID\n" + "".join(f"{i} {i}\n" for i in (51, 8, 4, 9999)))
    in_file_order = genotypes.select(samples=tmp_path / "keep.txt").samples
    assert list(in_file_order["IID"]) == ["4", "8", "51"]
    for text in ("#IID\n51\n8\n4\n9999\n", "51\n8\n4\n", "IID SID\n4 x\n8 x\n51 x\n"):  # IIDs alone, as plink2 has them
        (tmp_path / "keep.txt").write_text(text)
        assert genotypes.select(samples=tmp_path / "keep.txt").samples.equals(in_file_order)
    mask = np.isin(np.arange(61), wanted)
    assert genotypes.select(samples=mask).samples.equals(in_file_order)
    snps = genotypes.select(variants=["snp9", "snp2"])
    assert list(snps.variants["id"]) == ["snp9", "snp2"]
    assert np.array_equal(next(snps.calls()).G, next(genotypes.calls()).G[:, [8, 1]])
    assert set(genotypes.select(chromosomes=2).variants["chrom"]) == {"2"}
    assert genotypes.select(chromosomes="autosomes").n_variants == 130
    twice = genotypes.select(samples=slice(10, 40)).select(samples=[2, 0], variants=slice(5, 9)).select(variants=[3])
    assert np.array_equal(next(twice.calls()).G, next(genotypes.calls()).G[[12, 10]][:, [8]])


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


BAD_FILES = {
    "truncated .bed": (".bed", lambda b: b[:-7], r"has 2,0\d\d bytes .* take 2,083; it was cut short"),
    ".bed of fewer SNPs": (".bed", lambda b: b[: 3 + 16 * 100], "it holds 100 SNPs of 61 samples"),
    ".bim of other length": (".bim", lambda b: b"\n".join(b.split(b"\n")[:90]) + b"\n", "it holds 130 SNPs"),
    ".fam of other length": (".fam", lambda b: b"\n".join(b.split(b"\n")[:50]) + b"\n", r"50 samples \(.fam\)"),
    "not a .bed": (".bed", lambda b: b"PK" + b[2:], "is no PLINK 1 .bed"),
    "empty": (".bed", lambda b: b"", "is no PLINK 1 .bed: it is empty"),
    "packed": (".bed", lambda b: b"\x1f\x8b\x08" + b, "Unpack it first"),
    "sample by sample": (".bed", lambda b: b[:2] + b"\x00" + b[3:], "sample by sample"),
    "duplicated sample": (".fam", lambda b: b.replace(b"7\t7\t", b"8\t8\t", 1), "FID 8, IID 8 comes twice"),
    "five columns": (".fam", lambda b: b.replace(b"\t-9", b""), "has 5 columns; 6 were expected"),
    "a word for a position": (".bim", lambda b: b.replace(b"\t3000\t", b"\tthree\t", 1), "line 3: the pos is `three`"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_files_that_do_not_fit__are_an_error_before_anything_is_read(prefix, what):
    ending, change, message = BAD_FILES[what]
    rewrite(prefix.with_suffix(ending), change)
    with pytest.raises(DataError, match=message):
        Genotypes.open(prefix)


def test_missing_files__are_named(prefix):
    prefix.with_suffix(".bim").unlink()
    with pytest.raises(DataError, match=r"there is no .*geno\.bim"):
        Genotypes.open(prefix)


def test_a_sample_without_a_call__is_named_before_the_work(calls):
    G = np.tile(calls, (1, 30))
    G[17] = -127
    with pytest.raises(DataError, match=r"IID 18 has no genotype called at any of the 6,300 SNPs \(1 such of 83\)"):
        next(iter(Genotypes.open(G).blocks(size=100)))
    G[17, -1] = 0
    assert Genotypes.open(G).scan().absent[17] == 6299


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": ["nobody"]}, r"sample IID nobody is not among the 83 samples \(1 such\)"),
        ({"samples": [5, 5]}, "position 5 twice"),
        ({"samples": np.zeros(83, bool)}, "leaves none"),
        ({"samples": np.ones(5, bool)}, r"the mask of samples has shape \(5,\)"),
        ({"samples": [83]}, "position 83; there are 83"),
        ({"samples": "/nowhere.txt"}, "there is no file /nowhere.txt"),
        ({"variants": ["snp1", "rs1"]}, "SNP rs1 is not among the 210 variants"),
        ({"chromosomes": "X"}, "no SNP is on chromosome X; there are 1"),
    ],
)
def test_selections_that_are_not_there__are_named(calls, options, message):
    with pytest.raises(DataError, match=message):
        Genotypes.open(calls, **options)


def test_values_that_are_no_genotype__are_named(calls):
    G = calls.copy()
    G[2, 4] = 3
    with pytest.raises(DataError, match=r"`genotypes` has 3 in a block \(sample 2, SNP 4 of it\)"):
        list(Genotypes.open(G).blocks())
    with pytest.raises(DataError, match=r"has 2\.5 in a block"):
        list(Genotypes.open(np.array([[0.0, 1.0], [2.5, np.nan]])).blocks())
    with pytest.raises(DataError, match=r"shape \(4,\)"):
        Genotypes.open(np.zeros(4))
    with pytest.raises(DataError, match="holds <U1"):
        ArraySource.of(np.array([["A"]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: Genotypes.open(g, maf=0.7), "maf=0.7 must be a share between 0 and 0.5"),
        (lambda g: Genotypes.open(g, missing=-1), "missing=-1 must be a share"),
        (
            lambda g: list(g.blocks(standardise="vanraden")),
            "unknown standardisation `vanraden`.*Did you mean `vanraden1`",
        ),
        (lambda g: list(g.blocks(standardise=("alpha", "x"))), "a is `x`|a is `nan`"),
        (lambda g: list(g.blocks(missing="drop")), "unknown missing=`drop`"),
        (lambda g: list(g.blocks(size=-3)), "size must be at least 1"),
    ],
)
def test_options__are_checked(calls, call, message):
    with pytest.raises(MethodError, match=message):
        call(Genotypes.open(calls))


def test_an_error_while_reading_ahead__is_raised_to_the_reader(calls):
    class Failing:
        n, p = calls.shape

        def read(self, rows, columns):
            if columns.start >= 96:
                raise OSError("disk gone")
            return np.asfortranarray(calls[:, columns])

    blocks = Genotypes.open(Failing()).blocks(size=32)
    with pytest.raises(OSError, match="disk gone"):
        list(blocks)


def test_reused_blocks__are_the_same_blocks(calls):
    kept = [b.W.copy() for b in Genotypes.open(calls).blocks(size=25, reuse=True)]
    assert all(np.array_equal(a, b.W) for a, b in zip(kept, Genotypes.open(calls).blocks(size=25), strict=True))
