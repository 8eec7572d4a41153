"""Relationship matrices: plain double precision, plink2, GEMMA, GCTA's files, and matrices of other samples."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from genetics import plain
from genetics.shared import FOLDER, mouse_files, with_data
from threadpoolctl import threadpool_limits

from vcbench.errors import DataError, MethodError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.relationship import GRM, relationship_matrix
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.tables import join

SMALL = Path(__file__).parents[1] / "references" / "plink2_small"
ROUNDING = 2.0**-24
SCALINGS = ["unit", "vanraden1", "vanraden2", "centred", ("alpha", -0.25)]


@pytest.fixture(scope="module")
def calls():
    """(n, p) calls in LD, 4 % of them missing, one SNP monomorphic."""
    G = simulate_genotypes(97, 800, seed=3, rho=0.7, block=100, missing=0.04).read(None, slice(None))
    G[:, 100] = 2
    return G


def relative(K, right):
    """The largest error of an entry over the root of the product of its diagonal entries."""
    scale = np.sqrt(np.diag(right))
    return np.abs((K - right) / np.outer(scale, scale)).max()


@pytest.mark.parametrize("missing", ["mean", "pairs"])
@pytest.mark.parametrize("standardise", SCALINGS, ids=str)
def test_matrix__is_the_double_precision_formula_to_rounding(calls, standardise, missing):
    grm = relationship_matrix(calls, standardise, missing, block=64, chunk=3, tile=40)
    error = relative(grm.K, plain.relationship(calls, standardise, missing))
    assert error < 8 * ROUNDING
    assert error < grm.error_bound == (64 * 3 + 2) * ROUNDING
    assert np.array_equal(grm.K, grm.K.T)
    assert grm.n_snps == 799
    assert grm.dropped == {"monomorphic": 1}


def test_errors_of_rounding__grow_slower_than_their_bound():
    """Against a float64 build of the same columns, over chunks of 250 to 8000 SNPs."""
    genotypes = Genotypes.open(simulate_genotypes(120, 8000, seed=11, rho=0.3))
    W = np.hstack([b.W for b in genotypes.blocks()]).astype(float)
    right = W @ W.T / W.shape[1]
    for chunk in (1, 4, 32):
        grm = relationship_matrix(genotypes, block=250, chunk=chunk)
        error = relative(grm.K, right)
        assert error < grm.error_bound == (250 * chunk + 2) * ROUNDING
        assert error < 4 * np.sqrt(chunk) * ROUNDING


def test_dosages__are_related_as_calls_are(calls, rng):
    dosages = np.where(calls < 0, np.nan, np.clip(calls + rng.uniform(-0.2, 0.2, calls.shape), 0, 2))
    for missing in ("mean", "pairs"):
        assert (
            relative(relationship_matrix(dosages, missing=missing).K, plain.relationship(dosages, "unit", missing))
            < 8e-7
        )


def test_pair_counts__are_the_snps_called_in_both_however_they_are_counted(calls, monkeypatch):
    called = (calls[:, np.delete(np.arange(800), 100)] >= 0).astype(float)
    for dear in (1e-9, 1e9):  # by visiting the missing calls, by a product of indicators
        monkeypatch.setattr("vcbench.genetics.pair_counts.DEAR", dear)
        grm = relationship_matrix(calls, "vanraden2", "pairs")
        assert np.array_equal(grm.pair_counts, called @ called.T)
        weighted = relationship_matrix(calls, "vanraden1", "pairs")
        assert relative(weighted.K, plain.relationship(calls, "vanraden1", "pairs")) < 8 * ROUNDING


def test_without_missing_calls__pairs_and_mean_are_one_matrix(rng):
    G = rng.integers(0, 3, (30, 100))
    pairs, mean = (relationship_matrix(G, missing=missing) for missing in ("pairs", "mean"))
    assert pairs.pair_counts is None
    assert np.array_equal(pairs.K, mean.K)


def test_unit_scaling__has_a_mean_diagonal_of_1(calls):
    assert np.trace(relationship_matrix(calls).K) / 97 == pytest.approx(1, abs=1e-6)


def test_single_precision__is_the_double_matrix_rounded(calls):
    K = relationship_matrix(calls).K
    assert np.array_equal(relationship_matrix(calls, dtype=np.float32).K, K.astype(np.float32))


def test_plink2__gives_the_same_matrix_kept(tmp_path):
    """plink2 v2.00a3.5, files and commands in tests/references/plink2_small/README.md; it prints single precision."""
    for name, missing in (("pairs", "pairs"), ("mean", "mean")):
        theirs, ours = GRM.read(SMALL / name), relationship_matrix(SMALL / "small", "gcta", missing)
        assert np.abs(theirs.K - ours.K).max() < 1e-6
        assert ours.standardise == "vanraden2"
        if missing == "pairs":
            assert np.array_equal(theirs.pair_counts, ours.pair_counts)
            assert theirs.samples.equals(ours.samples[["FID", "IID"]])


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
def test_plink2__gives_the_same_matrix_now(tmp_path):
    prefix = simulate_genotypes(150, 2500, seed=4, rho=0.8, missing=0.02).write(tmp_path / "g")
    command = f"plink2 --bfile {prefix} --make-grm-bin --out {tmp_path / 'p'} --threads 1 --memory 640".split()
    subprocess.run(command, check=True, capture_output=True)
    theirs, ours = GRM.read(tmp_path / "p"), relationship_matrix(prefix, "vanraden2", "pairs")
    assert np.abs(theirs.K - ours.K).max() < 1e-6
    assert np.array_equal(theirs.pair_counts, ours.pair_counts)


@with_data
def test_gemma__centred_and_standardised_matrices_of_the_mice(tmp_path):
    """gemma 0.98.5, `-bfile mouse_hs1940 -gk 1` and `-gk 2`, first rows of .cXX.txt and .sXX.txt.

    Phenotype 1 in column 6 of the .fam: 10,768 SNPs of MAF 1 % and at most 5 % missing calls among the 1410 mice that
    have it. A phenotype for everybody: 10,783 SNPs.
    """
    genotypes = Genotypes.open(mouse_files(tmp_path))
    joined = join(genotypes.samples, FOLDER / "mouse_plink" / "mouse_hs1940.phen", columns=["pheno1"])
    assert len(joined.rows) == 1410
    chosen = Genotypes.open(genotypes, samples=joined.rows, maf=0.01, missing=0.05).scan().kept
    centred = relationship_matrix(genotypes.select(variants=chosen), "centred")
    assert centred.n_snps == 10768
    assert centred.K[0, :3] == pytest.approx([0.3350989657, -0.02268574573, 0.009884843341], abs=1e-7)
    everybody = Genotypes.open(genotypes, maf=0.01, missing=0.05)
    assert relationship_matrix(everybody, "centred").K[0, 0] == pytest.approx(0.334544267, abs=1e-7)
    standardised = relationship_matrix(everybody, "unit")
    assert standardised.n_snps == 10783
    assert standardised.K[0, :3] == pytest.approx([0.9409498535, -0.05983978222, 0.01839210311], abs=3e-7)


@with_data
@pytest.mark.slow
def test_gemma__published_entry_of_the_mice_from_dosages():
    """GEMMA's demo: K[1,1] = 0.335059, from the BIMBAM dosages (the PLINK files hold calls: 0.335099)."""
    frame = pd.read_csv(FOLDER / "mouse_hs1940_geno.csv.gz")
    pheno1 = pd.read_csv(FOLDER / "mouse_hs1940_pheno.csv")["pheno1"]
    dosages = Genotypes.open(frame.iloc[:, 3:].to_numpy(float).T)
    chosen = Genotypes.open(dosages, samples=pheno1.notna().to_numpy(), maf=0.01).scan().kept
    assert chosen.sum() == 10768
    assert relationship_matrix(dosages.select(variants=chosen), "centred").K[0, 0] == pytest.approx(0.335059, abs=5e-7)


def test_gcta_files__come_back_as_they_went(calls, tmp_path):
    grm = relationship_matrix(calls, "vanraden2", "pairs")
    grm.write(tmp_path / "a.b")
    back = GRM.read(tmp_path / "a.b.grm.bin")
    assert np.array_equal(back.K, grm.K.astype(np.float32))
    assert np.array_equal(back.pair_counts, grm.pair_counts)
    assert back.samples.equals(grm.samples[["FID", "IID"]])
    triangle = np.fromfile(tmp_path / "a.b.grm.bin", "<f4")
    assert np.array_equal(triangle, grm.K[np.tril_indices(97)].astype("<f4"))
    back.write(tmp_path / "again")
    for ending in (".grm.bin", ".grm.N.bin", ".grm.id"):
        assert (tmp_path / f"again{ending}").read_bytes() == (tmp_path / f"a.b{ending}").read_bytes()
    assert GRM.read(tmp_path / "again").n_snps == grm.pair_counts.max()


def test_gcta_files__without_counts_or_with_equal_ones(calls, tmp_path):
    GRM.of(np.eye(3), ["a", "b", "c"]).write(tmp_path / "eye")
    assert not (tmp_path / "eye.grm.N.bin").exists()
    assert np.isnan(GRM.read(tmp_path / "eye").n_snps)
    relationship_matrix(calls).write(tmp_path / "mean")
    back = GRM.read(tmp_path / "mean")
    assert back.n_snps == 799
    assert back.pair_counts is None


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        (".grm.bin", lambda b: b[:-4], r"has 19,008 bytes; a triangle of the 97 samples in .grm.id has 19,012"),
        (".grm.id", lambda b: b.replace(b"97\t97\n", b""), "a triangle of the 96 samples"),
        (".grm.id", lambda b: b.replace(b"97\t97\n", b"5\t5\n"), "FID 5, IID 5 comes twice"),
        (".grm.id", lambda b: b.replace(b"\t97\n", b"\n"), "needs two columns"),
        (".grm.bin", lambda b: b[:-4] + np.float32(np.nan).tobytes(), "not finite, in rows 1 to 97"),
    ],
)
def test_gcta_files_that_do_not_fit__are_an_error(calls, tmp_path, ending, change, message):
    relationship_matrix(calls).write(tmp_path / "k")
    path = tmp_path / f"k{ending}"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        GRM.read(tmp_path / "k")


def test_a_matrix_of_other_samples__is_named(calls):
    grm = relationship_matrix(calls)
    strangers = pd.DataFrame({"FID": ["3", "x"], "IID": ["3", "y"]})
    with pytest.raises(DataError, match=r"of other samples: FID x, IID y is not among its 97 \(1 of 2 are not\)"):
        grm.rows(strangers)
    assert list(grm.rows(strangers[:1])) == [2]


def test_select__takes_rows_columns_counts_and_ids(calls):
    grm = relationship_matrix(calls, missing="pairs")
    part = grm.select([5, 2])
    assert np.array_equal(part.K, grm.K[np.ix_([5, 2], [5, 2])])
    assert np.array_equal(part.pair_counts, grm.pair_counts[np.ix_([5, 2], [5, 2])])
    assert list(part.samples["IID"]) == ["6", "3"]


@pytest.mark.parametrize(
    ("K", "samples", "message"),
    [
        (np.zeros((2, 3)), None, r"has shape \(2, 3\)"),
        (np.array([[1, np.nan], [0, 1]]), None, r"`K` is nan at \[0, 1\]"),
        (np.array([[1, 0.5], [0.4, 1]]), None, "is not symmetric.*differ by 0.1"),
        (np.eye(2), ["a"], "`samples` has 1 rows but the matrix has 2"),
        (np.eye(2), ["a", "a"], "IID a comes twice"),
    ],
)
def test_matrices_from_elsewhere__are_checked(K, samples, message):
    with pytest.raises(DataError, match=message):
        GRM.of(K, samples)


def test_unrelated__leaves_no_pair_above_the_cutoff_and_drops_few():
    K = np.eye(7)
    for i, j in ((0, 1), (0, 2), (0, 3), (4, 5)):
        K[i, j] = K[j, i] = 0.3
    grm = GRM.of(K)
    kept = grm.unrelated(0.1)
    assert len(kept) == 5
    assert 0 not in kept
    assert np.array_equal(grm.unrelated(0.5), np.arange(7))
    random = relationship_matrix(simulate_genotypes(60, 150, seed=2))
    kept = random.unrelated(0.05)
    assert (random.select(kept).K - np.diag(np.diag(random.select(kept).K))).max() <= 0.05


def test_filters_that_leave_nothing__and_pairs_that_share_nothing(calls):
    with pytest.raises(DataError, match="none of the 3 SNPs is left: 3 monomorphic"):
        relationship_matrix(np.ones((5, 3)))
    G = np.array([[0, 1, -9, -9], [2, 0, 1, -9], [-9, -9, 0, 2], [1, 2, 2, 0]])
    with pytest.raises(DataError, match="samples 3 and 1 have no SNP called in both"):
        relationship_matrix(G, missing="pairs")
    with pytest.raises(MethodError, match="float64 or float32"):
        relationship_matrix(calls, dtype=int)


def test_progress__is_silent_unless_asked_for(calls, capsys):
    relationship_matrix(calls)
    assert capsys.readouterr() == ("", "")
    seen = []
    relationship_matrix(calls, block=300, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(300, 800), (600, 800), (800, 800)]
    relationship_matrix(calls, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "relationship matrix" in err
    assert "SNP/s" in err


@pytest.mark.parametrize("missing", ["mean", "pairs"])
def test_dask__gives_the_same_numbers_to_the_bit(calls, missing):
    dask = pytest.importorskip("dask", reason="dask is not installed")
    import dask.array as da

    from vcbench.genetics.distributed import relationship_array

    spread = da.from_array(calls, chunks=(31, 77))
    for tile in (8192, 32):
        options = {"block": 64, "chunk": 3, "tile": tile}
        here = relationship_matrix(calls, "unit", missing, **options)
        with dask.config.set(scheduler="threads"):
            there = relationship_matrix(spread, "unit", missing, **options)
            assert np.array_equal(relationship_matrix(Genotypes.open(spread), "unit", missing, **options).K, here.K)
            if missing == "mean":
                assert np.array_equal(relationship_array(spread, **options).compute(), here.K)
        assert np.array_equal(there.K, here.K)
        assert (there.n_snps, there.scale, there.dropped) == (here.n_snps, here.scale, here.dropped)
        if missing == "pairs":
            assert np.array_equal(there.pair_counts, here.pair_counts)


def test_dask__errors_are_those_of_arrays(calls):
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    G = calls.copy()
    G[4] = -127
    with pytest.raises(DataError, match="sample 5 has no genotype called"):
        relationship_matrix(da.from_array(G, chunks=(20, 100)))
    with pytest.raises(DataError, match="not dosages"):
        relationship_matrix(da.from_array(np.array([[0.5, 1.0], [1.0, 0.0]]), chunks=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask__three_workers_of_a_cluster_give_the_same_numbers_to_the_bit(calls):
    """Every worker has one BLAS thread, and so has this process while it computes its own."""
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    import dask.array as da

    spread = da.from_array(calls, chunks=(40, 200))
    options = {"block": 64, "chunk": 3, "tile": 32}
    with threadpool_limits(1):
        here = relationship_matrix(calls, "vanraden2", "pairs", **options)
    with (
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        there = relationship_matrix(spread, "vanraden2", "pairs", **options)
    assert np.array_equal(there.K, here.K)
    assert np.array_equal(there.pair_counts, here.pair_counts)
