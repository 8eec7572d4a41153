"""Genotypes and several traits as study conditions: truth, draws, and the rows of the methods for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from references import table
from scipy.stats import norm

import vcbench as vc
from vcbench.errors import DataError, SpecError
from vcbench.study import study, work
from vcbench.study.generators import Snp, SnpTraits, draw_card
from vcbench.study.replay import replay
from vcbench.study.seeds import DATA, DESIGN, generator
from vcbench.study.spec import read_spec
from vcbench.study.study import Study


def _rngs(n: int) -> list[np.random.Generator]:
    return [generator(5, (1, 2), replicate) for replicate in range(n)]


def _design() -> np.random.Generator:
    return generator(1, (0, 0), DESIGN)


@pytest.mark.parametrize("alpha", [-1.0, -0.25, 1.0])
def test_snp__effects_have_the_variance_that_alpha_says(alpha: float) -> None:
    """Oracle: Σ_j s_j w_j w_jᵀ h²/Σs, s_j = (2f_j(1−f_j))^(1+α), from the counts."""
    made = Snp(n=40, p=12, h2=0.3, total=2.0, alpha=alpha, causal=1.0)
    counts = made.counts(_design())
    f = counts.mean(axis=0) / 2
    s = (2 * f * (1 - f)) ** (1 + alpha)
    W = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    (root,) = made.build(_design()).roots
    np.testing.assert_allclose(root @ root.T, 0.6 * (W * s / s.sum()) @ W.T, atol=1e-12)


def test_snp__causal_is_a_share_and_n_causal_a_number() -> None:
    (share,) = Snp(n=20, p=40, causal=0.1).build(_design()).roots
    (number,) = Snp(n=20, p=40, n_causal=4).build(_design()).roots
    assert share.shape == (20, 4)
    np.testing.assert_array_equal(share, number)
    with pytest.raises(ValidationError, match="say the same thing twice"):
        Snp(causal=0.1, n_causal=4)


def test_snp__linkage_ends_with_its_block() -> None:
    """Neighbours within a block correlate; across a block's edge they do not: 10 pairs, within 5 of their errors."""
    counts = Snp(n=4000, p=200, ld=0.9, ld_block=20, maf=[0.4, 0.5]).counts(_design())
    r = np.array([np.corrcoef(counts[:, j], counts[:, j + 1])[0, 1] for j in range(199)])
    edge = np.arange(19, 199, 20)
    assert np.abs(np.delete(r, edge)).min() > 0.5
    assert np.abs(r[edge]).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("settings", [{}, {"n_causal": 3, "alpha": 0.5}], ids=["as-fitted", "few causal"])
def test_snp_traits__covariance_is_that_of_the_model(settings: dict) -> None:
    """Oracle: Σ_g ⊗ K_C + Σ_e ⊗ I with K_C from the genotypes; 20,000 draws, each entry within 5 SEs."""
    made = SnpTraits(n=6, p=30, h2_each=[0.3, 0.6], rho_g=0.7, rho_e=-0.4, **settings)
    traits = made.build(_design())
    seed = int(_design().integers(2**62))
    G = vc.genetics.simulate.simulate_genotypes(6, 30, seed=seed).read(None, slice(None)).astype(float)
    G = G[:, G.std(axis=0) > 0]
    W = (G - G.mean(axis=0)) / G.std(axis=0)
    if settings:
        K = traits.root @ traits.root.T
        assert np.linalg.matrix_rank(K) == 3
        assert np.trace(K) == pytest.approx(6, rel=1e-5)
    else:
        K = W @ W.T / W.shape[1]
        np.testing.assert_allclose(traits.root @ traits.root.T, K, atol=1e-5)
    off_g, off_e = 0.7 * np.sqrt(0.18), -0.4 * np.sqrt(0.28)
    V = np.kron([[0.3, off_g], [off_g, 0.6]], K) + np.kron([[0.7, off_e], [off_e, 0.4]], np.eye(6))
    R = 20_000
    Y = traits.draw(_rngs(R)).transpose(1, 0, 2).reshape(12, R)
    se = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / R)
    assert (np.abs(Y @ Y.T / R - V) < 5 * se).all()


def test_snp_traits__a_replicate_is_the_same_alone_and_in_any_block() -> None:
    traits = SnpTraits(n=20, p=50, n_traits=3).build(_design())
    block = traits.draw(_rngs(5))
    alone = np.stack([traits.draw([rng])[:, :, 0] for rng in _rngs(5)], axis=2)
    assert block.tobytes() == alone.tobytes()


def test_snp_traits__truth_by_the_names_of_genetic_correlation() -> None:
    """Pairs in the order (1,2), (1,3), (2,3); a correlation of 1 is 1 to the last bit, for intervals that end there."""
    each = SnpTraits(n=20, p=50, h2_each=[0.2, 0.4, 0.6], rho_g_each=[0.1, 0.2, 0.3], rho_e_each=[-0.1, 0.0, 0.5])
    truth = each.build(_design()).truth
    wanted = {"h2(1)": 0.2, "h2(2)": 0.4, "h2(3)": 0.6, "rho_g(1,2)": 0.1, "rho_g(1,3)": 0.2, "rho_g(2,3)": 0.3}
    assert truth == pytest.approx(wanted | {"rho_e(1,2)": -0.1, "rho_e(1,3)": 0.0, "rho_e(2,3)": 0.5})
    pair = SnpTraits(n=20, p=50, h2=0.2, rho_g=1.0).build(_design()).truth
    assert list(pair) == ["rho_g", "rho_e", "h2_first", "h2_second"]
    assert pair["rho_g"] == 1.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"h2_each": [0.2, 0.3, 0.4], "rho_g_each": [0.1]}, "has 1 values; 3 traits have 3 pairs"),
        ({"h2_each": [0.2, 0.3], "h2": 0.4}, "say the same thing twice"),
        ({"n_traits": 3, "rho_e": -0.9}, "rho_e is no correlation matrix"),
        ({"h2": 0.0}, "greater than 0"),
    ],
)
def test_snp_traits__impossible_settings_are_said(settings: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SnpTraits(**settings)


TRAITS = """
title = "Pairs"
question = "Do rows say what the functions say?"
seed = 7
replicates = 4
block_size = 3
trace = false

[[methods]]
name = "correlation-moments"

[[methods]]
name = "correlation-moments"
label = "jackknife"
jackknife = 4

[[methods]]
name = "correlation-reml"
interval = { kind = "profile", parameters = "rho_g" }

[[methods]]
name = "correlation-reml"
label = "wald"

[[methods]]
name = "heritability"
interval = "profile"

[[data]]
generator = "snp_traits"
n = 80
p = 60
h2 = 0.4
rho_g = 0.5
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> study.Run:
    folder = tmp_path_factory.mktemp("pairs") / "run"
    return Study.from_text(TRAITS, "pairs").run(folder, workers=1, progress="none", report=False)


def test_trait_methods__rows_are_those_of_the_public_functions(pairs: study.Run) -> None:
    """Oracle: `vc.genetic_correlation` and `vc.heritability` on genotypes and phenotypes drawn by hand."""
    condition = pairs.spec.conditions[0]
    made = condition.generator
    traits = made.build(generator(7, condition.key, DESIGN))
    Y = traits.draw([generator(7, condition.key, 2, DATA)])[:, :, 0]
    source = vc.genetics.simulate.simulate_genotypes(
        80, 60, seed=int(generator(7, condition.key, DESIGN).integers(2**62))
    )
    rows = pairs.rows[pairs.rows["replicate"] == 2].set_index(["method", "parameter"])
    z = norm.ppf(0.975)
    moments = vc.genetic_correlation(Y, source, jackknife=4)[0]
    reml = vc.genetic_correlation(Y, source, method="reml")[0]
    for name in ("rho_g", "rho_e", "h2_first", "h2_second"):
        for method, pair, kind in (
            ("correlation-moments", moments, None), ("jackknife", moments, "jackknife"), ("wald", reml, None),
        ):  # fmt: skip
            row, se = rows.loc[(method, name)], pair.se(name, kind)
            wanted = [pair.value(name), se, pair.value(name) - z * se, pair.value(name) + z * se]
            np.testing.assert_allclose(row[["estimate", "se", "lower", "upper"]].astype(float), wanted, rtol=1e-6)
        row = rows.loc[("correlation-reml", name)]
        limits = reml.limits if name == "rho_g" else (np.nan, np.nan)
        np.testing.assert_allclose(row[["lower", "upper"]].astype(float), limits, atol=1e-5)
        assert (row["interval"] == "profile") == (name == "rho_g")
    h2 = vc.heritability(Y, source, method="ai")
    for j, name in enumerate(("h2_first", "h2_second")):
        row = rows.loc[("heritability", name)]
        np.testing.assert_allclose(
            row[["estimate", "se", "lower", "upper"]].astype(float), [h2[j].h2, h2[j].se("h2"), *h2[j].limits["h2"]],
            rtol=1e-6,
        )  # fmt: skip
    assert set(rows.loc["heritability"].index) == {"h2_first", "h2_second"}
    assert (pairs.rows["truth"] == pairs.rows["parameter"].map(traits.truth)).all()


def test_trait_methods__a_row_is_replayed_to_the_last_bit(pairs: study.Run) -> None:
    for row in ("0/3/correlation-moments", "0/1/wald"):
        assert replay(pairs.folder, row).identical


def test_trait_methods__no_correlation_is_null_with_the_reason(tmp_path: Path) -> None:
    """Of 20 people, moments give a negative variance in some replicates: no ρ_g, and h² stands."""
    text = (
        TRAITS.replace("n = 80", "n = 20").replace("h2 = 0.4", "h2 = 0.1").replace("replicates = 4", "replicates = 8")
    )
    run = Study.from_text(text, "small").run(tmp_path / "run", workers=1, progress="none", report=False)
    rows = run.rows[run.rows["method"] == "correlation-moments"].set_index(["replicate", "parameter"])
    lost = rows.xs("rho_g", level=1)
    lost = lost[lost["estimate"].isna()]
    assert 0 < len(lost) < 8
    assert lost["message"].str.contains(r"no correlation: V\(.\) of the .* not positive").all()
    assert rows.xs("h2_first", level=1)["estimate"].notna().all()
    assert set(rows["status"]) == {"CONVERGED"}


def test_trait_methods__a_fit_that_breaks_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vcbench.study import trait_methods

    real, calls = trait_methods.genetic_correlation, []

    def breaks(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("broken")
        return real(*args, **options)

    monkeypatch.setattr(trait_methods, "genetic_correlation", breaks)
    run = Study.from_text(TRAITS, "pairs").run(tmp_path / "run", workers=1, progress="none", report=False)
    failed = run.rows[run.rows["status"] == "FAILED"]
    assert set(failed["message"]) == {"ValueError: broken"}
    assert failed[["replicate", "method"]].drop_duplicates().to_numpy().tolist() == [[1, "correlation-moments"]]
    assert failed["estimate"].isna().all()
    assert set(failed["parameter"]) == {"rho_g", "rho_e", "h2_first", "h2_second"}


def test_lost_task__of_several_traits_has_their_rows() -> None:
    spec = read_spec(TRAITS, "pairs.toml")
    lost = work.lost_task(spec, "pairs", work.Task(0, (0,), 0, 2), work.Status.TIMEOUT, "late")
    assert lost.parts[0].rows.num_rows == 8


ONE = '[[data]]\nname = "one"\ngenerator = "snp"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRAITS + ONE, "`correlation-moments` is a method for several traits"),
        (TRAITS.replace('name = "heritability"\ninterval = "profile"', 'name = "ai"'), "`ai` is a method for one resp"),
        (TRAITS.replace('interval = "profile"', 'interval = "bootstrap"'), 'has "wald" and "profile" intervals'),
        (TRAITS.replace("jackknife = 4", 'jackknife = 4\ninterval = "profile"'), "maximises no likelihood"),
        (TRAITS.replace("jackknife = 4", 'jackknife = 4\ncriterion = "ml"'), "exists under none only"),
    ],
)
def test_spec__methods_and_data_of_several_traits_go_together(text: str, said: str) -> None:
    with pytest.raises(SpecError, match="problem") as caught:
        read_spec(text, "pairs.toml")
    assert said in str(caught.value)


def test_price__of_several_traits_grows_with_people() -> None:
    small, large = (Study.from_text(TRAITS.replace("n = 80", f"n = {n}"), "s").price() for n in (80, 2000))
    assert all(a.seconds < b.seconds for a, b in zip(small, large, strict=True))


def test_draw_card__takes_one_response() -> None:
    with pytest.raises(vc.errors.DataError, match="draws several traits"):
        draw_card("snp_traits", {"n": 20, "p": 30}, 1)


DERIVED = """
title = "h²"
question = "Is it a row of its own?"
seed = 3
replicates = 5
trace = false
derive = ["h2 = snp / total"]
methods = ["ai", "moments", "moments-randomised", "quadrature", { name = "ai", label = "p", interval = "profile" }]

[[data]]
generator = "snp"
columns = true
n = 60
p = 40
h2 = 0.4
total = 2.0
"""


def test_derive__is_a_row_with_its_truth_and_delta_errors(tmp_path: Path) -> None:
    """Oracle: h² = u/(u + e), Var = gᵀ Cov g with g = (e, −u)/(u + e)² (MATH §6) of a fit by hand; the truth is 0.4."""
    run = Study.from_text(DERIVED, "derived").run(tmp_path / "run", workers=1, progress="none", report=False)
    rows = run.rows.set_index(["method", "replicate", "parameter"])
    condition = run.spec.conditions[0]
    drawn = condition.generator.build(generator(3, condition.key, DESIGN))
    y = drawn.draw([generator(3, condition.key, 4, DATA)])[:, 0]
    for method in ("ai", "moments"):
        fit = vc.fit(drawn.model.replace(y=y), method)
        u, e = fit.theta
        g = np.array([e, -u]) / (u + e) ** 2
        se = np.sqrt(g @ fit.theta_cov() @ g)
        row = rows.loc[(method, 4, "h2")]
        assert row["truth"] == pytest.approx(0.4)
        wanted = [u / (u + e), se, u / (u + e) - norm.ppf(0.975) * se]
        np.testing.assert_allclose(row[["estimate", "se", "lower"]].astype(float), wanted, rtol=1e-6)
    profile = rows.loc[("p", 4, "h2")]
    assert profile["interval"] == "profile"
    assert 0 <= profile["lower"] < rows.loc[("ai", 4, "h2")]["estimate"] < profile["upper"] <= 1
    assert ("quadrature", 4, "h2") not in rows.index
    assert ("moments-randomised", 4, "h2") in rows.index


def test_derive__is_part_of_what_determines_rows() -> None:
    plain = DERIVED.replace('derive = ["h2 = snp / total"]\n', "")
    assert read_spec(DERIVED, "d.toml").spec_hash != read_spec(plain, "d.toml").spec_hash
    with pytest.raises(SpecError, match="must be a name, `=` and an expression"):
        read_spec(DERIVED.replace("h2 = snp / total", "snp / total"), "d.toml")


def test_derive__of_a_name_that_the_model_lacks_is_skipped_with_the_reason(tmp_path: Path) -> None:
    text = DERIVED.replace("snp / total", "snop / total")
    run = Study.from_text(text, "derived").run(tmp_path / "run", workers=1, progress="none", report=False, reps=1)
    assert set(run.rows["status"]) == {"SKIPPED"}
    assert run.rows["message"].str.contains("snop").all()


def test_genotypes__of_a_table_are_those_of_the_file(tmp_path: Path) -> None:
    """A CSV with a missing call and a marker that does not vary; K is that of what is left, imputed at the mean."""
    rng = np.random.default_rng(4)
    G = rng.binomial(2, 0.4, (12, 30)).astype(float)
    G[:, 5] = 1.0
    frame = pd.DataFrame(G, columns=[f"m{j}" for j in range(30)])
    frame.iloc[3, 7] = np.nan
    frame.insert(0, "id", [f"i{i}" for i in range(12)])
    frame.to_csv(tmp_path / "g.csv", index=False)
    made = Snp(genotypes=str(tmp_path / "g.csv"), h2=0.4).build(_design())
    G[3, 7] = np.delete(G[:, 7], 3).mean()
    G = np.delete(G, 5, axis=1)
    W = (G - G.mean(axis=0)) / G.std(axis=0)
    np.testing.assert_allclose(made.model.components[0].K, W @ W.T / 29, atol=1e-12)
    transposed = frame.set_index("id").T.rename_axis("snp").reset_index()
    transposed.insert(1, "allele1", "A")
    transposed.insert(2, "allele0", "C")
    transposed.to_csv(tmp_path / "t.csv", index=False)
    again = Snp(genotypes=str(tmp_path / "t.csv"), h2=0.4).build(generator(1, (0, 0), DESIGN))
    np.testing.assert_allclose(again.model.components[0].K, made.model.components[0].K, atol=1e-12)
    part = Snp(genotypes=str(tmp_path / "g.csv"), n=8, p=10, n_causal=3).build(generator(1, (0, 0), DESIGN))
    assert part.model.n_obs == 8
    assert part.roots[0].shape == (8, 3)
    with pytest.raises(DataError, match="`n` = 13, but"):
        Snp(genotypes=str(tmp_path / "g.csv"), n=13).build(generator(1, (0, 0), DESIGN))
    with pytest.raises(ValidationError, match="say the same thing twice"):
        Snp(genotypes="g", ld=0.5)


@table.with_data
@pytest.mark.parametrize(("name", "n", "p"), [("wheat599_markers", 599, 1279), ("mouse_hs1940_geno", 1940, 12226)])
def test_genotypes__of_the_shared_data(name: str, n: int, p: int) -> None:
    from vcbench.study.real_genotypes import read_counts

    counts = read_counts(name)
    assert counts.shape[0] == n
    assert 0.8 * p < counts.shape[1] <= p
    assert not np.isnan(counts).any()


def test_genotypes__of_plink_files_are_those_that_were_written(tmp_path: Path) -> None:
    from vcbench.genetics.simulate import simulate_genotypes
    from vcbench.study.real_genotypes import read_counts

    drawn = simulate_genotypes(50, 40, seed=3, maf=(0.1, 0.5), missing=0.05)
    drawn.write(tmp_path / "g")
    calls = drawn.read(None, slice(None)).astype(float)
    calls[calls < 0] = np.nan
    expected = np.where(np.isnan(calls), np.nanmean(calls, axis=0), calls)
    counts = read_counts(str(tmp_path / "g"))
    same = [np.allclose(a, b) or np.allclose(a, 2 - b) for a, b in zip(counts.T, expected.T, strict=True)]
    assert all(same)
    made = SnpTraits(genotypes=str(tmp_path / "g"), n=30, p=20, rho_g=0.5, n_causal=5).build(_design())
    assert made.draw(_rngs(2)).shape == (30, 2, 2)
