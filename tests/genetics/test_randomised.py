"""Randomised moments against dense HE regression: estimates, both errors, bins, samples, caches, Dask."""

import numpy as np
import pytest
from scipy.stats import binom, chi2, t

from vcbench.errors import DataError, MethodError, ModelError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.randomised import draw_probes, randomised_moments
from vcbench.genetics.simulate import simulate_genotypes
from vcbench.genetics.simulate_phenotypes import simulate_phenotypes


def dense(calls):
    """W (n, p): standardised by hand, missing calls at the mean."""
    G = np.where(calls < 0, np.nan, calls.astype(float))
    G = np.where(np.isnan(G), np.nanmean(G, axis=0), G)
    return (G - G.mean(axis=0)) / G.std(axis=0)


def project(X):
    return np.eye(len(X)) - X @ np.linalg.pinv(X)


def exact(Ks, Y, M):
    """θ (K + 1, P, P) from the normal equations written out."""
    A = [M @ K @ M for K in Ks] + [M]
    S = np.array([[np.vdot(a, b) for b in A] for a in A])
    q = np.array([Y.T @ a @ Y for a in A])
    return np.linalg.solve(S, q.reshape(len(A), -1)).reshape(q.shape)


def by_probes(Ks, Y, M, Z):
    """θ from S_kl = mean (D_kz)ᵀ(D_lz) + tr(A_k) tr(A_l)/tr M: the definition, with dense matrices."""
    A = [M @ K @ M for K in Ks]
    traces, df = np.array([np.trace(a) for a in A]), np.trace(M)
    D = [(a - c * M) @ Z for a, c in zip(A, traces / df, strict=True)]
    S = np.array([[np.vdot(a, b) for b in D] for a in D]) / Z.shape[1] + np.outer(traces, traces) / df
    S = np.block([[S, traces[:, None]], [traces[None], np.array([[df]])]])
    q = np.array([Y.T @ a @ Y for a in [*A, M]])
    return np.linalg.solve(S, q.reshape(len(q), -1)).reshape(q.shape)


@pytest.fixture(scope="module")
def data():
    """120 samples, 240 SNPs in LD with missing calls, two covariates, two phenotypes."""
    calls = simulate_genotypes(120, 240, seed=4, rho=0.5, missing=0.03).read(None, slice(None))
    rng = np.random.default_rng(5)
    Y = simulate_phenotypes(calls, [0.6, 0.4], rho_g=0.5, seed=6).Y[0]
    X = rng.standard_normal((120, 2))
    return calls, X, Y + X @ rng.standard_normal((2, 2)), project(np.column_stack([np.ones(120), X]))


def test_estimates__are_those_of_dense_matrices_and_the_same_probes(data):
    calls, X, Y, M = data
    W, labels = dense(calls), np.arange(240) % 3
    for bins, Ks in (
        (None, [W @ W.T / 240]),
        (labels, [W[:, labels == k] @ W[:, labels == k].T / 80 for k in range(3)]),
    ):
        got = randomised_moments(Y, calls, X, annotations=bins, vectors=4, blocks=6, seed=9, size=7)
        want = by_probes(Ks, Y, M, draw_probes(120, 4, 9))
        assert got.theta == pytest.approx(want, abs=2e-5)  # single precision products


def test_leaving_out__is_the_estimate_without_those_snps_or_that_probe(data):
    calls, X, Y, M = data
    W, Z = dense(calls), draw_probes(120, 4, 2)
    got = randomised_moments(Y, calls, X, vectors=4, blocks=5, seed=2)
    for J in range(5):
        left = np.delete(W, np.arange(48 * J, 48 * (J + 1)), axis=1)
        assert got.without_block[J] == pytest.approx(by_probes([left @ left.T / 192], Y, M, Z), abs=5e-5)
    for b in range(4):
        want = by_probes([W @ W.T / 240], Y, M, np.delete(Z, b, axis=1))
        assert got.without_probe[b] == pytest.approx(want, abs=2e-5)


def test_jackknives__are_those_of_the_textbook(data):
    calls, X, Y, _ = data
    got = randomised_moments(Y[:, 0], calls, X, vectors=4, blocks=7, seed=2)  # 34 or 35 SNPs a block
    left, m = got.without_block[:, :, 0, 0], got.traces[0].m[:, 0]
    assert len(set(m)) == 2
    h = 240 / m[:, None]
    pseudo = h * got.theta[:, 0, 0] - (h - 1) * left
    mean = 7 * got.theta[:, 0, 0] - ((1 - m / 240)[:, None] * left).sum(axis=0)
    want = ((pseudo - mean) ** 2 / (h - 1)).mean(axis=0)
    assert np.diag(got.covariance(0)) == pytest.approx(want, rel=1e-10)
    probes = got.without_probe[:, :, 0, 0]
    assert np.diag(got.covariance(0, "monte-carlo")) == pytest.approx(3 * probes.var(axis=0), rel=1e-10)
    assert got.estimate(lambda T, m: T[..., 0, 0, 0]).se == pytest.approx(np.sqrt(want[0]), rel=1e-10)


def test_monte_carlo_error__covers_the_exact_estimate():
    """60 seeds on each of three shapes: z = (θ̂ − exact)/SE_MC is t with B − 1 df, by the count beyond 3 and by Σz²."""
    seeds, B, beyond = 60, 25, 0
    for n, p in ((150, 300), (120, 900), (300, 100)):
        calls = simulate_genotypes(n, p, seed=2, rho=0.3).read(None, slice(None))
        y = simulate_phenotypes(calls, 0.4, seed=3).Y[0]
        W = dense(calls)
        want = exact([W @ W.T / p], y, np.eye(n) - 1 / n)[0, 0, 0]
        z = np.empty(seeds)
        for seed in range(seeds):
            got = randomised_moments(y, calls, vectors=B, blocks=2, seed=seed)
            z[seed] = (got.theta[0, 0, 0] - want) / np.sqrt(got.covariance(0, "monte-carlo")[0, 0])
        beyond += int((np.abs(z) > 3).sum())
        spread = (z**2).sum() * (B - 3) / (B - 1)  # t has variance (B − 1)/(B − 3)
        low, high = chi2.ppf([0.0005, 0.9995], seeds)
        assert low / 1.2 < spread < high * 1.2  # heavier tails than χ² has
    assert beyond <= binom.ppf(0.9999, 3 * seeds, 2 * t.sf(3, B - 1))


def test_all_probes__give_the_exact_estimate_and_sandwich(data, monkeypatch):
    """The columns of a Hadamard matrix as probes: Σ zzᵀ/B = I, so that every trace is exact."""
    from scipy.linalg import hadamard

    calls, X, Y, _ = data
    calls, X, y = calls[:64], X[:64], Y[:64, :1]
    W, M = dense(calls), project(np.column_stack([np.ones(64), X]))
    A = M @ (W @ W.T / 240) @ M
    monkeypatch.setattr("vcbench.genetics.randomised.draw_probes", lambda n, B, seed: hadamard(64).astype(float))
    got = randomised_moments(y, calls, X, vectors=64, blocks=2)
    theta = exact([W @ W.T / 240], y, M)[:, 0, 0]
    assert got.theta[:, 0, 0] == pytest.approx(theta, rel=1e-5)
    V = theta[0] * A + theta[1] * M
    S = np.array([[np.vdot(a, b) for b in (A, M)] for a in (A, M)])
    Sigma = 2 * np.array([[np.trace(a @ V @ b @ V) for b in (A, M)] for a in (A, M)])
    want = np.linalg.inv(S) @ Sigma @ np.linalg.inv(S)
    assert got.covariance(0, "sandwich") == pytest.approx(want, rel=1e-4)
    g = np.array([theta[1], -theta[0]]) / theta.sum() ** 2
    assert got.sandwich_se(0, "h2") == pytest.approx(np.sqrt(g @ want @ g), rel=1e-4)


@pytest.mark.parametrize(("rho", "h2"), [(0.0, 0.4), (0.7, 0.4), (0.0, 0.0)])
def test_jackknife__agrees_with_the_sandwich_and_the_spread_of_h2(rho, h2):
    """Over 400 draws of phenotypes in one pass: the mean variances of ĥ² agree within 15 % of an SE, and with its
    spread within that and the spread's own error."""
    draws = 400
    G = Genotypes.open(simulate_genotypes(400, 1500, seed=2, rho=rho, block=30).read(None, slice(None)))
    Y = simulate_phenotypes(G, h2, seed=3, replicates=draws).Y[:, :, 0].T
    got = randomised_moments(Y, G, vectors=20, blocks=50, seed=1)
    j = np.arange(draws)
    theta, left = got.theta[:, j, j], got.without_block[:, :, j, j]
    share = theta[0] / theta.sum(axis=0)
    jackknife = np.sqrt(np.diag(got._jackknife(share, left[:, 0] / left.sum(axis=1))).mean())
    sandwich = np.sqrt(np.mean([got.sandwich_se(int(k), "h2") ** 2 for k in j]))
    assert jackknife == pytest.approx(sandwich, rel=0.15)
    spread = share.std(ddof=1)
    assert sandwich == pytest.approx(spread, rel=0.05 + 3.5 / np.sqrt(2 * draws))


def test_samples__phenotypes_that_lack_some_are_fitted_on_their_own(data):
    calls, X, Y, _ = data
    Y = Y.copy()
    Y[[3, 50, 117], 1] = np.nan
    Z = draw_probes(120, 5, 8)
    got = randomised_moments(Y, calls, X, vectors=5, blocks=4, seed=8)
    W, seen = dense(calls), np.isfinite(Y[:, 1])
    D = np.diag(seen.astype(float))
    X1 = np.column_stack([np.ones(120), X])[seen]
    M = np.zeros((120, 120))
    M[np.ix_(seen, seen)] = project(X1)
    want = by_probes([W @ W.T / 240], np.nan_to_num(Y[:, [1]]), M, D @ Z)
    assert got.theta[:, 1, 1] == pytest.approx(want[:, 0, 0], abs=2e-5)
    assert np.isnan(got.theta[:, 0, 1]).all()
    assert "different samples" in got.correlations["message"].iloc[0]
    C = D - np.outer(seen, seen) / seen.sum()
    assert got.traces[1].sizes[0] == pytest.approx(np.trace(C @ W @ W.T @ C) / 240 / seen.sum(), rel=1e-5)


def test_correlations__are_ratios_of_the_matrices_and_say_when_there_are_none(data):
    calls, X, Y, _ = data
    got = randomised_moments(Y, calls, X, vectors=8, blocks=6)
    row = got.correlations.iloc[0]
    G, E = got.theta
    assert row.rho_g == pytest.approx(G[0, 1] / np.sqrt(G[0, 0] * G[1, 1]))
    assert row.rho_e == pytest.approx(E[0, 1] / np.sqrt(E[0, 0] * E[1, 1]))
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((120, 6))
    got = randomised_moments(noise, calls, vectors=8, blocks=6)
    below = int(np.argmin(np.diag(got.theta[0])))
    assert got.theta[0, below, below] < 0
    rows = got.correlations
    hit = rows[(rows.phenotype_1 == f"y{below + 1}") | (rows.phenotype_2 == f"y{below + 1}")]
    assert hit.rho_g.isna().all()
    assert hit.message.str.contains(f"rho_g does not exist: that variance of `y{below + 1}` is -").all()
    assert "below 0" in " ".join(got.notes(below))


def test_numbers__do_not_depend_on_threads_and_follow_the_seed(data):
    calls, X, Y, _ = data
    one, two = (randomised_moments(Y, calls, X, blocks=6, seed=3, workers=k) for k in (1, 3))
    assert (one.theta == two.theta).all()
    assert (one.without_block == two.without_block).all()
    assert (randomised_moments(Y, calls, X, blocks=6, seed=4).theta != one.theta).any()


def test_traces__are_found_again_for_the_same_design_only(data, tmp_path):
    calls, X, Y, _ = data
    first = randomised_moments(Y[:, 0], calls, X, blocks=6, cache=tmp_path)
    again = randomised_moments(Y, calls, X, blocks=6, cache=tmp_path)
    assert first.cached == (False,)
    assert again.cached == (True,)
    assert again.theta[:, 0, 0] == pytest.approx(first.theta[:, 0, 0], rel=1e-6)  # products of another width
    assert again.theta == pytest.approx(randomised_moments(Y, calls, X, blocks=6).theta, rel=1e-6, abs=1e-6)
    assert again.covariance(1, "sandwich").shape == (2, 2)
    for other in ({"seed": 1}, {"vectors": 9}, {"blocks": 5}, {"standardise": "vanraden1"}, {"annotations": "labels"}):
        options = {"blocks": 6, **other}
        if "annotations" in options:
            options["annotations"] = np.arange(240) % 2
        assert randomised_moments(Y, calls, X, cache=tmp_path, **options).cached == (False,)
    assert randomised_moments(Y, calls, X[:, :1], blocks=6, cache=tmp_path).cached == (False,)
    changed = calls.copy()
    changed[0, 0] = 2 - max(changed[0, 0], 0)
    assert randomised_moments(Y, changed, X, blocks=6, cache=tmp_path).cached == (False,)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:300])
    with pytest.warns(UserWarning, match="computed again"):
        assert not randomised_moments(Y, calls, X, blocks=6, cache=tmp_path).cached[0]


def test_enrichment__finds_where_the_variance_is():
    rng = np.random.default_rng(8)
    calls = simulate_genotypes(1000, 600, seed=4).read(None, slice(None))
    W, first = dense(calls), np.arange(600) < 150
    g = W[:, first] @ rng.standard_normal(150)
    y = g / g.std() + rng.standard_normal(1000)
    got = randomised_moments(y, calls, annotations={"first": first, "rest": ~first}, blocks=30)
    rows = got.enrichment.set_index("bin")
    assert rows.share_of_snps.tolist() == [0.25, 0.75]
    assert rows.enrichment["first"] == pytest.approx(4.0, abs=4 * rows.enrichment_se["first"])
    assert rows.share_of_h2.sum() == pytest.approx(1.0)
    assert abs(rows.enrichment["rest"]) < 4 * rows.enrichment_se["rest"]
    assert "V(first)" in got.summary()


def test_filters__leave_snps_out_of_traces_and_scale(data):
    calls, X, Y, M = data
    W = dense(calls)
    G = Genotypes.open(calls, maf=0.2)
    kept = G.scan().kept
    assert 0 < kept.sum() < 240
    got = randomised_moments(Y, G, X, blocks=6, vectors=4, seed=3)
    want = by_probes([W[:, kept] @ W[:, kept].T / kept.sum()], Y, M, draw_probes(120, 4, 3))
    assert got.theta == pytest.approx(want, abs=3e-5)
    assert got.n_snps.tolist() == [kept.sum()]


def test_bad_input__is_an_error_before_the_work(data):
    calls, X, Y, _ = data
    for bad, error, said in (
        ({"vectors": 1}, MethodError, "at least 2 probes"),
        ({"blocks": 1}, MethodError, "blocks=1"),
        ({"blocks": 241}, MethodError, "2 to 240"),
        ({"level": 95}, MethodError, "between 0 and 1"),
        ({"annotations": np.arange(240) // 40, "blocks": 6}, DataError, "one block of SNPs"),
    ):
        with pytest.raises(error, match=said):
            randomised_moments(Y, calls, X, **bad)
    with pytest.raises(DataError, match="119 samples but Y has 120"):
        randomised_moments(Y, calls[:-1], X)
    gone = calls.copy()
    gone[7] = -9
    with pytest.raises(DataError, match="IID 8 has no genotype"):
        randomised_moments(Y, gone, X)
    with pytest.raises(ModelError, match="leaves no trace of its own"):
        randomised_moments(Y, np.hstack([calls, calls]), annotations=np.repeat([1, 2], 240), blocks=10)


@pytest.mark.parametrize("source", ["bed", "array"])
def test_dask__gives_the_numbers_of_this_machine_to_the_bit(data, tmp_path, source):
    pytest.importorskip("dask")
    import dask.array as da

    calls, X, Y, _ = data
    Y = Y.copy()
    Y[:9, 1] = np.nan
    if source == "bed":
        given = simulate_genotypes(120, 240, seed=4, rho=0.5, missing=0.03).write(tmp_path / "small")
    else:
        given = da.from_array(calls, chunks=(60, 50))
    here = randomised_moments(Y, calls, X, blocks=7, seed=3)
    there = randomised_moments(Y, given, X, blocks=7, seed=3, dask=True)
    for name in ("theta", "without_block", "without_probe"):
        assert np.array_equal(getattr(here, name), getattr(there, name), equal_nan=True)


def test_dask_cluster__three_workers_agree_with_threads_to_the_bit(tmp_path):
    distributed = pytest.importorskip("distributed")
    drawn = simulate_genotypes(300, 900, seed=4, rho=0.5, missing=0.01)
    prefix = drawn.write(tmp_path / "cluster")
    Y = simulate_phenotypes(prefix, [0.5, 0.3], seed=6).Y[0]
    bins = np.arange(900) % 2
    here = randomised_moments(Y, prefix, annotations=bins, blocks=12, seed=3)
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        there = randomised_moments(Y, prefix, annotations=bins, blocks=12, seed=3, dask=True)
    for name in ("theta", "without_block", "without_probe"):
        assert np.array_equal(getattr(here, name), getattr(there, name))
