"""Heritability on a relationship matrix: published answers, dense oracles, boundaries, missing rows, scales."""

import json
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from genetics import mouse
from references import table

import vcbench as vc
from vcbench.errors import DataError, MethodError, ModelError
from vcbench.genetics.eigen import decompose
from vcbench.genetics.heritability import heritability
from vcbench.genetics.hsq import hsq_text

CHI2 = 3.841458820694124  # 0.95 quantile of χ²_1


def sample(rng, n=120, p=300, h2=0.5, n_x=2, centred=True):
    """K, y, X of one data set; W centred by default."""
    W = rng.standard_normal((n, p))
    W -= W.mean(axis=0) * centred
    X = rng.standard_normal((n, n_x))
    y = X @ np.arange(1.0, n_x + 1) + W @ rng.standard_normal(p) * np.sqrt(h2 / p)
    return W @ W.T / p, y + np.sqrt(1 - h2) * rng.standard_normal(n), X


def dense_loglik(y, X, K, theta, criterion="reml"):
    """ℓ at (V(G), V(e)) from V itself."""
    return oracle.plain_of(y, X, np.array([K, np.eye(len(y))]), np.asarray(theta, float), criterion).loglik


def with_ones(X):
    return np.column_stack([np.ones(len(X)), X])


# --- published answers ---


@pytest.fixture(scope="module")
def mice():
    K = mouse.gemma_K()
    Y = mouse.phenotypes()[:, [0, 5]]
    return SimpleNamespace(K=K, Y=Y, found=heritability(Y, K=K, names=["CD8", "MCH"], scale="trace"))


def test_mouse__gemmas_pve_and_both_of_its_standard_errors(mice):
    """GEMMA 0.98.5: `-lmm` prints pve .608801, se(pve) .032774 (CD8), .636128, .0314253 (MCH); `-vc 2` prints .0323024.

    The first two are observed information, the last is average information.
    """
    cd8, mch = mice.found
    assert f"{cd8.h2:.6f}" == "0.608801"
    assert f"{cd8.se('h2', 'observed'):.6f}" == "0.032774"
    assert f"{cd8.se('h2', 'average'):.7f}" == "0.0323024"
    assert f"{mch.h2:.6f}" == "0.636128"
    assert f"{mch.se('h2', 'observed'):.7f}" == "0.0314253"
    # vg 1.47657 ve 0.341097; its REML logl lacks our −½ log|XᵀX|
    assert f"{cd8.theta[0]:.5f} {cd8.theta[1]:.6f}" == "1.47657 0.341097"
    assert round(cd8.loglik + 0.5 * np.log(1410), 2) == -1584.34


def test_mouse__moments_give_121_and_say_what_it_means(mice):
    """`gemma -vc 1` on CD8 gives pve 1.21: V(e) < 0, a legal moment estimate."""
    found = heritability(mice.Y[:, 0], K=mice.K, method="moments", scale="trace")
    assert round(found[0].h2, 2) == 1.21
    assert found[0].theta[1] < 0
    assert found[0].status is vc.Status.CONVERGED
    assert "above 1" in found.summary()


def test_wheat__gemmas_answer_on_the_markers_matrix():
    """Wheat599 environment 1 (INDEX.toml: V(G), V(e), ℓ_REML, AI standard errors; GEMMA 0.98.5's pve .498472)."""
    folder = table.shared_folder()
    if folder is None:
        pytest.skip("the shared data are not here (VCBENCH_DATA)")
    import pandas as pd

    W = pd.read_csv(folder / "wheat599_markers.csv.gz").iloc[:, 1:].to_numpy(float)
    y = pd.read_csv(folder / "wheat599_y.csv")["1"].to_numpy()
    W = (W - W.mean(axis=0)) / W.std(axis=0, ddof=1)
    _, refit = table.index(folder)["wheat599.G.env1.reml"]
    found = heritability(y, K=W @ W.T / 1279, scale="trace")[0]
    expected = [entry["vcov"] for entry in refit["varcomp"]]
    assert found.theta == pytest.approx(expected, rel=1e-6)
    assert found.loglik == pytest.approx(refit["loglik"], abs=1e-8)
    assert [found.se(q) for q in ("V(G)", "V(e)")] == pytest.approx(refit["extra"]["se_varcomp_AI"], rel=1e-6)
    assert f"{found.h2:.6f} {found.se('h2', 'observed'):.7f}" == "0.498472 0.0578145"


@pytest.mark.parametrize(
    ("theta", "cov", "variance", "se"),
    [
        ((0.2264, 0.7640), (0.00266937, -0.00248562, 0.00268829), 0.00266, 0.0515),
        ((0.3040, 0.6898), (0.00280057, -0.00255191, 0.00269500), 0.00272, 0.0521),
        ((0.2929, 0.6916), (0.00273743, -0.00250017, 0.00264705), 0.00271, 0.0521),
        ((0.1655, 0.8325), (0.00259856, -0.00246401, 0.00272019), 0.00257, 0.0507),
    ],
)
def test_delta_method__gives_the_seeds_variances_and_their_roots(rng, theta, cov, variance, se):
    """MATH §6: four published covariances, Var(h²), and SE(h²) = √Var(h²) (the seed prints the variance as the SE)."""
    from dataclasses import replace

    K, y, _ = sample(rng, n=30, p=60)
    uu, ue, ee = cov
    found = heritability(y, K=K)[0]
    t = replace(found, theta=np.array(theta), covariances={"average": np.array([[uu, ue], [ue, ee]])})
    assert t.se("h2") ** 2 == pytest.approx(variance, abs=5e-6)
    assert t.se("h2") == pytest.approx(se, abs=5e-5)


# --- the optimum, its curvature, its intervals ---


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_methods__reach_the_same_optimum(rng, criterion):
    K, y, X = sample(rng, centred=criterion == "reml")
    E = decompose(K)
    found = {
        m: heritability(y, K=E, X=X, method=m, criterion=criterion)[0]
        for m in ("ai", "newton", "fisher", "lbfgs", "em", "px-em", "px-em-component", "ecme", "squarem", "daarem")
    }
    best = found["ai"]
    for name, t in found.items():
        assert t.status is vc.Status.CONVERGED, name
        se = [best.se("V(G)", "expected"), best.se("V(e)", "expected")]
        assert (np.abs(t.theta - best.theta) < 2e-6 * np.array(se)).all(), name  # each is within 1e-6 SE of the optimum
        assert t.theta == pytest.approx(best.theta, rel=1e-6), name
        assert t.loglik == pytest.approx(best.loglik, abs=1e-9), name
    assert best.loglik == pytest.approx(dense_loglik(y, with_ones(X), K, best.theta, criterion), abs=1e-9)


def test_em__its_trace_rises_and_ends_at_the_elbo(rng):
    """After the E-step the ELBO is ℓ (MATH §3): the last row of the trace is the dense ℓ at the estimate."""
    K, y, X = sample(rng, centred=False)
    found = heritability(y, K=K, X=X, method="px-em", criterion="ml")
    trace = found.trace()
    assert (np.diff(trace["loglik"]) >= -1e-9 * np.abs(trace["loglik"][1:])).all()
    assert trace["loglik"].iloc[-1] == pytest.approx(dense_loglik(y, with_ones(X), K, found[0].theta, "ml"), abs=1e-6)


def test_standard_errors__are_the_three_dense_informations(rng):
    K, y, X = sample(rng)
    t = heritability(y, K=K, X=X)[0]
    at = oracle.plain_of(y, with_ones(X), np.array([K, np.eye(len(y))]), t.theta, "reml")
    for name in ("average", "observed", "expected"):
        cov = np.linalg.inv(getattr(at, name))
        assert t.covariance(name) == pytest.approx(cov, rel=1e-5), name
        g = np.array([t.theta[1], -t.theta[0]]) / t.theta.sum() ** 2
        assert t.se("h2", name) == pytest.approx(np.sqrt(g @ cov @ g), rel=1e-5)


@pytest.mark.parametrize("h2", [0.0, 0.15, 0.6])
def test_profile_intervals__lie_where_the_dense_profile_crosses(h2):
    """At each limit the maximum of the dense ℓ_REML over the other parameter is χ²/2 below the top, or the limit is an
    edge of the parameter space that the data do not exclude."""
    from scipy.optimize import minimize_scalar

    rng = np.random.default_rng(5)
    K, y, X = sample(rng, n=90, p=200, h2=h2)
    t = heritability(y, K=K, X=X)[0]
    Z = with_ones(X)
    by = {
        "h2": lambda x, s: (x * s, (1 - x) * s),
        "V(G)": lambda x, s: (x, s),
        "V(e)": lambda x, s: (s, x),
        "Vp": lambda x, s: (min(s, 1) * x, (1 - min(s, 1)) * x),
    }
    for name, theta in by.items():
        for limit in t.interval(name):
            if name in ("h2", "V(G)") and limit == 0:
                assert dense_loglik(y, Z, K, (0, t.Vp)) > t.loglik - 10
                continue
            top = (0, 1 - 1e-9) if name == "Vp" else (1e-9, 20)
            best = minimize_scalar(
                lambda s, limit=limit, theta=theta: -dense_loglik(y, Z, K, theta(limit, s)),
                bounds=top, method="bounded", options={"xatol": 1e-9},
            )  # fmt: skip
            assert t.loglik + best.fun == pytest.approx(CHI2 / 2, abs=1e-5), (name, limit)


def test_null_model__is_least_squares(rng):
    K, y, X = sample(rng, h2=0.3)
    t = heritability(y, K=K, X=X)[0]
    Z = with_ones(X)
    r = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
    sigma2 = r @ r / (len(y) - Z.shape[1])
    assert t.loglik0 == pytest.approx(dense_loglik(y, Z, K, (0, sigma2)), abs=1e-9)
    assert t.test.statistic == pytest.approx(2 * (t.loglik - t.loglik0), abs=1e-9)


def test_expected_se__is_the_information_at_no_heritability(rng):
    """√(2/Σ(d − d̄)²) over the eigenvalues of MKM: Visscher's √2/(n sd(K_ij)) for unrelated samples."""
    K, y, X = sample(rng)
    Q = np.linalg.qr(with_ones(X))[0]
    d = np.linalg.svd((np.eye(len(y)) - Q @ Q.T) @ K @ (np.eye(len(y)) - Q @ Q.T))[1][: len(y) - Q.shape[1]]
    assert heritability(y, K=K, X=X)[0].expected_se == pytest.approx(np.sqrt(2 / ((d - d.mean()) ** 2).sum()), rel=1e-8)


# --- boundaries ---


def test_zero__is_an_answer_with_an_upper_limit_and_no_standard_error():
    rng = np.random.default_rng(6)
    K, y, _ = sample(rng, n=200, p=1000, h2=0.0, n_x=0)
    found = heritability(y, K=K)
    t = found[0]
    assert t.status is vc.Status.AT_BOUNDARY
    assert t.h2 == 0
    assert np.isnan(t.se("h2"))
    assert np.isnan(t.se("V(G)"))
    lower, upper = t.interval("h2")
    assert lower == 0
    assert 0.05 < upper < 1
    assert t.test.p == 1.0
    assert t.slope < 0
    assert "not a failure" in found.summary().replace("\n", " ")


def test_one__is_an_answer_with_a_lower_limit():
    rng = np.random.default_rng(11)
    W = rng.standard_normal((200, 1000))
    W -= W.mean(axis=0)
    found = heritability(W @ rng.standard_normal(1000) / np.sqrt(1000), K=W @ W.T / 1000)
    t = found[0]
    assert t.status is vc.Status.AT_BOUNDARY
    assert t.h2 == 1
    assert t.interval("h2")[1] == 1
    assert 0 < t.interval("h2")[0] < 1
    assert "h² = 1" in found.summary()


def test_ml__of_a_centred_matrix_has_no_maximum_at_one_and_its_interval_ends_before_the_rise(rng):
    """K1 = 0 and X holds 1: ℓ_ML gains −½ log V(e) for that direction, without end. REML does not."""
    K, y, X = sample(rng, n=400, p=500, h2=0.4)
    Z = with_ones(X)
    t = heritability(y, K=K, X=X, method="em", criterion="ml")[0]
    assert t.status is vc.Status.CONVERGED
    assert dense_loglik(y, Z, K + 1e-14, (t.Vp, 1e-12), "ml") > dense_loglik(y, Z, K + 1e-14, (t.Vp, 1e-6), "ml")
    lower, upper = t.interval("h2")
    assert lower < t.h2 < upper < 1


# --- missing phenotypes ---


@pytest.mark.parametrize("method", ["ai", "moments", "px-em"])
def test_missing_rows__taken_out_as_fixed_effects_give_the_answer_of_the_rows_observed(rng, method):
    K, y, X = sample(rng, n=150)
    gone = np.array([3]) if method == "px-em" else np.array([3, 17, 18, 140])
    holes = y.copy()
    holes[gone] = np.nan
    kept = np.setdiff1d(np.arange(150), gone)
    Y = np.column_stack([y, holes])
    shared = heritability(Y, K=K, X=X, method=method, scale="trace")["y2"]
    own = heritability(y[kept], K=K[np.ix_(kept, kept)], X=X[kept], method=method, scale="trace")[0]
    assert "taken out as fixed effects" in shared.decomposition
    assert shared.n == own.n == len(kept)
    assert shared.n_fixed == own.n_fixed
    assert shared.theta == pytest.approx(own.theta, rel=1e-6)
    assert shared.loglik == pytest.approx(own.loglik, abs=1e-8)
    assert shared.loglik0 == pytest.approx(own.loglik0, abs=1e-8)
    assert shared.h2 == pytest.approx(own.h2, rel=1e-6)
    assert list(shared.beta.values()) == pytest.approx(list(own.beta.values()), rel=1e-6)
    assert list(shared.beta_se.values()) == pytest.approx(list(own.beta_se.values()), rel=1e-6)
    for definition in own.covariances:
        assert shared.se("h2", definition) == pytest.approx(own.se("h2", definition), rel=1e-6)
    for quantity in own.limits:
        assert shared.interval(quantity) == pytest.approx(own.interval(quantity), rel=1e-6)


def test_missing_rows__under_ml_get_a_decomposition_of_their_own(rng):
    K, y, X = sample(rng)
    holes = y.copy()
    holes[[5, 9]] = np.nan
    kept = np.setdiff1d(np.arange(len(y)), [5, 9])
    shared = heritability(np.column_stack([y, holes]), K=K, X=X, criterion="ml")["y2"]
    own = heritability(y[kept], K=K[np.ix_(kept, kept)], X=X[kept], criterion="ml")[0]
    assert shared.decomposition == f"one of {len(kept)} rows"
    assert shared.loglik == pytest.approx(own.loglik, abs=1e-9)


def test_many_phenotypes__are_each_what_it_is_alone(rng):
    K, _, X = sample(rng)
    Y = np.linalg.cholesky(0.5 * K + 0.5 * np.eye(len(K))) @ rng.standard_normal((len(K), 5))
    together = heritability(Y, K=K, X=X)
    for j, t in enumerate(together):
        alone = heritability(Y[:, j], K=K, X=X)[0]
        assert t.theta == pytest.approx(alone.theta, rel=1e-9, abs=1e-12)
        assert t.interval("h2") == pytest.approx(alone.interval("h2"), abs=1e-9)


# --- scales ---


def test_liability__is_lee_et_al_2011_and_robertson_without_ascertainment(rng):
    """K = 0.01: z = 0.026652; P = 0.5 gives 0.5525 times the observed scale, P = K gives 13.93 times (Robertson)."""
    K, y, _ = sample(rng)
    cases = (y > np.median(y)).astype(float)
    found = heritability(cases, K=K, prevalence=0.01)
    row = found.frame.iloc[0]
    assert row["cases"] == 0.5
    assert row["h2_liability"] / row["h2"] == pytest.approx(0.01**2 * 0.99**2 / (0.0266521422**2 * 0.25), rel=1e-6)
    assert row["h2_liability_se"] / row["h2_se"] == pytest.approx(row["h2_liability"] / row["h2"])
    assert "V(G)/Vp_L" in hsq_text(found[0])
    random = heritability(cases, K=K, prevalence=0.01, sample_prevalence=0.01).frame.iloc[0]
    assert random["h2_liability"] / random["h2"] == pytest.approx(0.01 * 0.99 / 0.0266521422**2, rel=1e-6)


def test_scale__trace_is_that_of_a_matrix_of_mean_size_one(rng):
    K, y, X = sample(rng)
    n = len(K)
    C = np.eye(n) - 1 / n
    k = np.trace(C @ K @ C) / n
    big = heritability(y, K=7 * K, X=X, scale="trace")[0]
    unit = heritability(y, K=K / k, X=X)[0]
    assert big.h2 == pytest.approx(unit.h2, rel=1e-7)
    assert big.theta[0] == pytest.approx(unit.theta[0] / (7 * k), rel=1e-7)
    assert big.interval("h2") == pytest.approx(unit.interval("h2"), rel=1e-6)


# --- what it returns ---


def test_hsq__has_gctas_lines(rng):
    """Layout of GCTA 1.94.1's file: names, tabs, six digits, three for logL, four and an exponent for Pval."""
    K, y, _ = sample(rng)
    lines = hsq_text(heritability(y, K=K)[0]).splitlines()
    names = ["Source", "V(G)", "V(e)", "Vp", "V(G)/Vp", "logL", "logL0", "LRT", "df", "Pval", "n"]
    assert [line.split("\t")[0] for line in lines] == names
    assert lines[0] == "Source\tVariance\tSE"
    assert all(len(part.split(".")[1]) == 6 for line in lines[1:5] for part in line.split("\t")[1:])
    assert lines[8] == "df\t1"
    assert lines[10] == "n\t120"


def test_hsq__its_log_likelihoods_lack_the_constant_and_its_p_value_is_half_a_tail(rng):
    """GCTA's logL = ℓ_REML + ½(n − d) log 2π; at LRT = 0 it prints a p-value of 0.5."""
    K, y, X = sample(rng)
    t = heritability(y, K=K, X=X)[0]
    lines = dict(line.split("\t")[:2] for line in hsq_text(t).splitlines())
    constant = 0.5 * (120 - 3) * np.log(2 * np.pi)
    assert lines["logL"] == f"{t.loglik + constant:.3f}"
    assert lines["logL0"] == f"{t.loglik0 + constant:.3f}"
    K, y, _ = sample(np.random.default_rng(6), n=200, p=1000, h2=0.0, n_x=0)
    lines = dict(line.split("\t")[:2] for line in hsq_text(heritability(y, K=K)[0]).splitlines())
    assert lines["LRT"] == "0.000"
    assert lines["Pval"] == "5.0000e-01"


def test_json__holds_what_the_frame_holds(rng):
    K, y, _ = sample(rng)
    found = heritability(y, K=K)
    read = json.loads(found.to_json())
    assert read["schema"] == "vcbench/heritability/1"
    assert read["phenotypes"][0]["h2"] == found.frame["h2"][0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(K=np.zeros((3, 3))), ModelError, "3 samples but Y has"),
        (dict(K=np.ones((5, 4))), ModelError, "square"),
        (dict(K=-np.eye(120)), ModelError, "positive semi-definite"),
        (dict(X=np.full((120, 1), np.nan)), DataError, "x1"),
        (dict(Y=np.ones(120)), DataError, "constant"),
        (dict(Y=np.full(120, np.nan)), DataError, "measured in 0 rows"),
        (dict(method="aireml"), MethodError, "Did you mean `ai`"),
        (dict(scale="pve"), MethodError, "unknown scale"),
        (dict(level=95), MethodError, "level"),
        (dict(prevalence=0.1), DataError, "different values"),
        (dict(K=None), ModelError, "give either"),
    ],
)
def test_bad_input__is_named_before_any_work(rng, change, error, words):
    K, y, _ = sample(rng)
    given = dict(Y=y, K=K) | change
    with pytest.raises(error, match=words.replace("(", r"\(")):
        heritability(given.pop("Y"), **given)


# --- genotypes ---


def calls(rng, n, p):
    return rng.binomial(2, rng.uniform(0.05, 0.5, p), (n, p)).astype(np.int8)


def test_genotypes__few_snps_go_by_the_thin_side_and_give_what_K_gives(rng):
    """K of unit-variance columns by hand; p < n takes singular vectors of W."""
    G = calls(rng, 150, 60)
    W = (G - G.mean(axis=0)) / G.std(axis=0)
    y = W @ rng.standard_normal(60) / np.sqrt(60) + rng.standard_normal(150)
    holes = y.copy()
    holes[:40] = np.nan
    Y = np.column_stack([y, holes])
    thin, whole = heritability(Y, G), heritability(Y, K=W @ W.T / 60)
    for a, b in zip(thin, whole, strict=True):
        assert a.theta == pytest.approx(b.theta, rel=1e-5)  # W is float32
        assert a.loglik == pytest.approx(b.loglik, abs=1e-4)
    assert thin.matrices[0].n_snps == 60
    assert thin.matrices[0].mean_diagonal == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("p", [40, 200])
def test_monomorphic_snps__may_count_in_the_divisor_as_gcta_counts_them(rng, p):
    """A quarter of the SNPs does not vary: K, thin or whole, is ¾ of itself, V(G) 4/3."""
    G = calls(rng, 100, p)
    G[:, : p // 4] = 1
    y = rng.standard_normal(100) + (G[:, p // 2 :] - 0.5).sum(axis=1) / np.sqrt(p)
    counted, plain = (heritability(y, G, count_monomorphic=c)[0] for c in (True, False))
    assert counted.theta == pytest.approx(plain.theta * [4 / 3, 1], rel=1e-5)
    assert counted.loglik == pytest.approx(plain.loglik, abs=1e-5)


def test_genotypes__are_not_read_again_once_their_decomposition_is_cached(rng, tmp_path, monkeypatch):
    from vcbench.genetics import matrices

    G = calls(rng, 50, 120)
    y = rng.standard_normal(50)
    first = heritability(y, G, cache=tmp_path)
    monkeypatch.setattr(matrices, "relationship_matrix", None)
    again = heritability(y, G, cache=tmp_path)
    assert again[0].theta == pytest.approx(first[0].theta)
    assert "read from the cache" in again[0].decomposition
    assert again.matrices[0].n_snps == first.matrices[0].n_snps
    with pytest.raises(TypeError):  # other genotypes are other numbers
        heritability(y, 2 - G[:, ::-1], cache=tmp_path)


def test_mouse__gctas_hsq_from_the_files(tmp_path):
    """GCTA 1.94.1, `--autosome-num 20 --make-grm-bin` then `--reml`: its .hsq of phenotype 1, line by line.

    GCTA prints Pval 0 where 1 − P rounds to it; ours is the tail itself.
    """
    import gzip

    mouse.need_shared()
    for ending in ("bed", "bim", "fam"):
        packed = mouse.FOLDER / "mouse_plink" / f"mouse_hs1940.{ending}.gz"
        data = gzip.decompress(packed.read_bytes()) if packed.is_file() else packed.with_suffix("").read_bytes()
        (tmp_path / f"mouse.{ending}").write_bytes(data)
    found = heritability(
        mouse.phenotypes()[:, 0], tmp_path / "mouse", standardise="gcta", missing="pairs", count_monomorphic=True
    )
    theirs = (mouse.FOLDER / "mouse_plink" / "gcta_pheno1.hsq").read_text().splitlines()
    ours = found.to_hsq(tmp_path / "a.hsq").read_text().splitlines()
    assert [line for line in ours if "Pval" not in line] == [line for line in theirs if "Pval" not in line]


# --- sample ids ---


def test_ids__of_files_and_frames_are_matched_to_the_samples(rng, tmp_path):
    """Rows in another order, some absent, some unknown: the answer is that of arrays put in order by hand."""
    import pandas as pd

    from vcbench.genetics.relationship import GRM

    K, y, X = sample(rng)
    ids = [f"s{i}" for i in range(120)]
    grm = GRM.of(K, ids)
    order = rng.permutation(120)[:110]
    pheno = pd.DataFrame({"FID": ids, "IID": ids, "height": y}).iloc[order]
    pheno = pd.concat([pheno, pd.DataFrame({"FID": ["x"], "IID": ["x"], "height": [9.5]})])
    covar = pd.DataFrame({"FID": ids, "IID": ids, "a": X[:, 0], "b": X[:, 1]}).iloc[5:]
    holes = np.full(120, np.nan)
    rows = order[order >= 5]
    holes[rows] = y[rows]
    by_hand = heritability(holes, K=K, X=X)[0]
    by_ids = heritability(pheno, K=grm, X=covar)["height"]
    assert by_ids.n == len(rows)
    assert by_ids.theta == pytest.approx(by_hand.theta, rel=1e-9)
    assert set(by_ids.beta) == {"(Intercept)", "a", "b"}
    pheno.to_csv(tmp_path / "p.txt", sep=" ", index=False)
    covar.to_csv(tmp_path / "q.txt", sep=" ", index=False)
    from_files = heritability(tmp_path / "p.txt", K=grm, X=tmp_path / "q.txt")[0]
    assert from_files.theta == pytest.approx(by_hand.theta, rel=1e-6)  # the file's digits
    with pytest.raises(DataError, match="shares no sample"):
        heritability(pheno.assign(FID="z"), K=grm)
    with pytest.raises(DataError, match="no sample ids"):
        heritability(pheno, K=K)
    with pytest.raises(DataError, match="X has none"):
        heritability(pheno, K=grm, X=X)


@pytest.mark.parametrize("h2", [0.0, 0.5])
def test_profile__is_the_dense_profile_and_crosses_the_level_at_the_limits(h2):
    """Nelder and Mead over σ² at a given h², by the dense likelihood; χ²_1 at the limits inside [0, 1]."""
    rng = np.random.default_rng(3)
    n = 60
    W = rng.standard_normal((n, 100))
    K = W @ W.T / 100
    y = np.linalg.cholesky(h2 * K + (1 - h2) * np.eye(n)) @ rng.standard_normal(n)
    found = heritability(y, K=K, profiles=True)
    points = found.profile().set_index("h2")
    lower, upper = found[0].interval("h2")
    inside = [limit for limit in (lower, upper) if 0 < limit < 1 - 1e-6]
    assert inside
    for limit in inside:
        at = points.iloc[np.abs(points.index - limit).argmin()]
        assert at["zeta"] ** 2 == pytest.approx(3.841459, abs=1e-4)
    assert points["loglik"].max() == pytest.approx(found[0].loglik, abs=1e-7)
    one = np.ones((n, 1))

    def dense(h, sigma2):
        V = sigma2 * (h * K + (1 - h) * np.eye(n))
        iV = np.linalg.inv(V)
        A = one.T @ iV @ one
        P = iV - iV @ one @ np.linalg.solve(A, one.T @ iV)
        logdet = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
        return -0.5 * ((n - 1) * np.log(2 * np.pi) + logdet + y @ P @ y)

    for h in points.index[::17]:
        if h < 0.999:
            best = max(dense(h, s) for s in np.geomspace(0.2, 5, 4001))
            assert points.loc[h, "loglik"] == pytest.approx(best, abs=1e-5)


def test_profile__is_kept_where_asked_for_and_drawn(rng):
    W = rng.standard_normal((40, 90))
    Y = rng.standard_normal((40, 2))
    with pytest.raises(MethodError, match=r"no profile of `y1` was kept\. Pass profiles=True"):
        heritability(Y, K=W @ W.T / 90).profile()
    with pytest.raises(MethodError, match="no profile of `y1`"):
        heritability(Y, K=W @ W.T / 90, method="moments", profiles=True).plot()
    spec = heritability(Y, K=W @ W.T / 90, profiles=True).plot().to_dict()
    assert [panel["title"]["text"] for panel in spec["concat"]] == [["y1"], ["y2"]]
