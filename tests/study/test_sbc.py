"""Calibration: places of truths against exact answers, planted bugs, bit-identical resume, what is refused."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, halfnorm, kstest, norm

import vcbench as vc
from vcbench.bayes import HalfNormal, Normal, defaults, quadrature
from vcbench.bayes.exact_draws import exact_draws
from vcbench.cards import load_card
from vcbench.cli.app import run as command
from vcbench.errors import DataError, MethodError, ModelError, StoreError
from vcbench.methods import METHODS
from vcbench.study.sbc import Sbc, read_sbc, sbc
from vcbench.study.sbc_draw import draw_theta, draw_truth
from vcbench.study.sbc_methods import Judge, _slope, place
from vcbench.study.sbc_mutants import MUTANTS
from vcbench.study.sbc_plan import build_judged, build_plan
from vcbench.study.sbc_quantities import LOGLIK, variance_parts
from vcbench.study.seeds import seed_sequence

ALMOST = 1e-4  # chance of a false alarm of a stochastic test


@pytest.fixture(scope="module")
def one_way() -> vc.Model:
    return load_card("one_way").model()


def _bits(found: Sbc) -> pd.DataFrame:
    return found.rows.drop(columns=["seconds", "cpu_seconds"])


# --- places ---


def test_place__is_uniform_with_ties_and_without() -> None:
    """Truth and draws from one law, half of it a point mass at 0: the place is uniform all the same."""
    rng = np.random.default_rng(1)
    for tied in (False, True):
        x = rng.standard_normal((4000, 20))
        if tied:
            x = np.maximum(x, 0.0)
        u = [place(row[1:], row[0], rng)[1] for row in x]
        assert kstest(u, "uniform").pvalue > ALMOST
    assert place(np.array([1.0, 2.0, 4.0]), 3.0, rng)[0] == 2


def test_quadrature__places_the_truth_at_the_exact_distribution_function(one_way) -> None:
    plan = build_plan(one_way, seed=3)
    found = sbc(one_way, "quadrature", n=2, seed=3)
    for replicate in range(2):
        truth = draw_truth(plan, replicate)
        posterior = quadrature(one_way.replace(y=truth.y), plan.priors)
        for j, name in enumerate(one_way.theta_names):
            exact = float(posterior.cdf(name, truth.theta[j]))
            assert found.pit(name)[replicate] == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("card", ["one_way:boundary", "snp_heritability"])
def test_exact_draws__have_the_exact_margins(card: str) -> None:
    model = load_card(card).model()
    posterior = quadrature(model, defaults(model))
    theta, b = exact_draws(posterior, 4000, np.random.default_rng(1))
    for j, name in enumerate(posterior.theta_names):
        assert kstest(posterior.cdf(name, theta[:, j]), "uniform").pvalue > ALMOST
    assert kstest(posterior.cdf("(Intercept)", b[:500, 0]), "uniform").pvalue > ALMOST


def test_normal__is_the_formula_on_each_scale(one_way) -> None:
    """Against vc.fit: Φ((g(σ²) − g(σ̂²))/se(g)), se(log σ̂²) = se/σ̂², se(σ̂) = se/2σ̂."""
    plan = build_plan(one_way, seed=5)
    found = sbc(one_way, "ai", n=3, seed=5)
    for replicate in range(3):
        truth = draw_truth(plan, replicate)
        fit = vc.fit(one_way.replace(y=truth.y), method="ai")
        value, estimate, se = truth.theta[1], fit.theta["residual:var"], fit.theta_se["residual:var"]
        for name, z in (
            ("residual:var (var)", (value - estimate) / se),
            ("residual:var (log)", math.log(value / estimate) * estimate / se),
            ("residual:var (sd)", (math.sqrt(value) - math.sqrt(estimate)) * 2 * math.sqrt(estimate) / se),
            ("(Intercept)", (truth.beta[0] - fit.beta.iloc[0]) / fit.beta_se.iloc[0]),
        ):
            row = found.rows[(found.rows["parameter"] == name) & (found.rows["replicate"] == replicate)]
            assert row["pit"].item() == pytest.approx(norm.cdf(z), abs=1e-6)


def test_normal__ranks_what_has_one_scale_only_whatever_scales_are_asked_for(one_way) -> None:
    names = sbc(one_way, "em", n=5, criterion="ml", scales="log").quantities
    assert names == ["Batch:var((Intercept)) (log)", "residual:var (log)", "(Intercept)", "total variance (log)",
                     "share of Batch"]  # fmt: skip
    slopes = sbc(load_card("random_slope").model(), "ai", n=2, scales=("sd", "log")).quantities
    assert "Subject:cor((Intercept),Days) (Fisher z)" in slopes
    assert "Subject:cov((Intercept),Days)" in slopes


def test_normal__correlations_of_one_have_no_slope() -> None:
    """Estimates of random slopes end at ρ̂ = ±1 now and then: Fisher's z is infinite there, its place is not counted."""
    assert math.isnan(_slope(np.arctanh, -1.0))
    assert _slope(np.arctanh, 0.5) == pytest.approx(1 / 0.75)
    assert math.isnan(_slope(np.log, 0.0))


def test_normal__counts_estimates_on_the_boundary_and_leaves_them_out(one_way) -> None:
    """A tenth of the truths are near 0: the variance has no SE there, the residual's has."""
    found = sbc(one_way, "ai", n=200, seed=1).table()
    assert 0 < found.loc["Batch:var((Intercept)) (log)", "gated"] < 60
    assert found.loc["residual:var (log)", "gated"] == 0
    assert found.loc["residual:var (var)", "sd_z"] > found.loc["residual:var (log)", "sd_z"]


# --- truths ---


def test_truths__come_from_the_prior(one_way) -> None:
    model = load_card("random_slope").model()
    priors = build_plan(model).priors
    rng = np.random.default_rng(2)
    theta = np.array([draw_theta(model, priors, rng) for _ in range(2000)])
    rho = theta[:, 1] / np.sqrt(theta[:, 0] * theta[:, 2])
    assert kstest((1 + rho) / 2, beta(2, 2).cdf).pvalue > ALMOST
    sigma = np.sqrt(theta[:, 3])
    assert kstest(sigma, halfnorm(scale=priors.sd["residual:var"].scale).cdf).pvalue > ALMOST
    assert len({draw_truth(build_plan(one_way, seed=s), r).theta[0] for s in (1, 2) for r in (0, 1)}) == 4


def test_structured_truths__come_from_the_prior() -> None:
    """ρ of an AR(1) is uniform on (−1, 1), its σ half-normal."""
    model = vc.Model.from_formula(
        "Reaction ~ Days", load_card("random_slope").data(), residual="ar1(Days, group=Subject)"
    )
    priors = build_plan(model).priors
    rng = np.random.default_rng(4)
    theta = np.array([draw_theta(model, priors, rng) for _ in range(1000)])
    named = dict(zip(model.theta_names, theta.T, strict=True))
    assert kstest((1 + named["residual:rho"]) / 2, "uniform").pvalue > ALMOST
    scale = priors.sd["residual:var"].scale
    assert kstest(np.sqrt(named["residual:var"]), halfnorm(scale=scale).cdf).pvalue > ALMOST


def test_flat_beta__places_do_not_depend_on_the_beta_that_y_is_drawn_with() -> None:
    """y → y + Xb: the same places of θ, β and ℓ; a posterior under a flat prior cannot tell."""
    model = load_card("random_slope:uncorrelated").model()
    plan = build_plan(model, seed=2)
    judge = Judge.of(plan, build_judged(plan, "quadrature", None, ("var",), "", {}))
    b = np.array([300.0, -40.0])
    truth = draw_truth(plan, 0)
    moved = replace(truth, beta=truth.beta + b, y=truth.y + model.X @ b)
    pits = []
    for one in (truth, moved):
        seed, rng = seed_sequence(1, (1, 1), 0), np.random.default_rng(1)
        pits.append(judge.place_all([one], [seed], [rng])[0].pit)
    np.testing.assert_allclose(pits[0], pits[1], atol=1e-6)


@pytest.mark.parametrize("card", ["random_slope", "snp_heritability", "three_components"])
def test_total_variance__is_the_mean_diagonal_of_V(card: str) -> None:
    """Against the mean of the squares of 4000 simulated responses, and of the shares that they sum to 1."""
    model = load_card(card).model()
    theta = vc.fit(model).theta_values
    parts = variance_parts(model)
    assert parts is not None
    total = sum(w @ theta for w in parts.values())
    from vcbench.inference.simulation import simulate

    Y = simulate(model, theta, np.zeros(model.n_fixed), 4000, 1)
    squares = (Y**2).mean(axis=0)
    assert abs(squares.mean() - total) < 4 * squares.std() / math.sqrt(4000)


# --- verdicts ---


def test_calibrated__nothing_is_found_and_few_replicates_are_inconclusive(one_way) -> None:
    found = sbc(one_way, "quadrature", n=150, seed=7, quantities="cv = sqrt(residual) / sqrt(Batch)")
    table = found.table()
    assert found.verdict == "INCONCLUSIVE"
    assert set(table["verdict"]) == {"INCONCLUSIVE"}
    assert "cv" in table.index
    assert found.alarm_each == pytest.approx(1e-3 / 14)
    assert "of the 8" in table.loc["cv", "words"]  # replicates needed
    assert "INCONCLUSIVE" in repr(found)


@pytest.mark.parametrize(("mutant", "shown"), [("D1", {"residual:var"}), ("D2", {"total variance"}), ("D3", {LOGLIK})])
def test_planted_bugs__are_found(one_way, mutant: str, shown: set[str]) -> None:
    """And by what: ignored data leave every parameter uniform, and show in the likelihood of all data alone."""
    found = sbc(one_way, "quadrature", n=400, seed=11, mutant=mutant, stop=True)
    table = found.table()
    bad = set(table.index[table["verdict"] == "FAIL"])
    assert found.verdict == "FAIL"
    assert shown <= bad
    assert bad == shown or mutant != "D3"
    assert found.n <= 400


def test_mutants__are_no_methods() -> None:
    assert not set(MUTANTS) & set(METHODS)


# --- running ---


def test_rows__are_the_same_bits_in_one_piece_in_two_on_threads_and_in_memory(one_way, tmp_path) -> None:
    whole = sbc(one_way, "quadrature", n=60, seed=9)
    sbc(one_way, "quadrature", n=35, seed=9, out=tmp_path / "a")
    kept = sbc(one_way, "quadrature", n=60, seed=9, out=tmp_path / "a")
    with ThreadPoolExecutor(2) as threads:
        spread = sbc(one_way, "quadrature", n=60, seed=9, out=tmp_path / "b", executor=threads, workers=2)
    for other in (kept, spread):
        pd.testing.assert_frame_equal(_bits(whole), _bits(other), check_exact=True, check_dtype=False)
    sbc(one_way, "ai", n=30, seed=9, out=tmp_path / "a")
    assert {one.method: one.n for one in read_sbc(tmp_path / "a")} == {"quadrature": 60, "ai": 30}
    with pytest.raises(StoreError, match="another specification"):
        sbc(one_way, "quadrature", n=10, seed=10, out=tmp_path / "a")


def test_methods__see_the_same_data(one_way) -> None:
    a, b = sbc(one_way, "quadrature", n=5, seed=1), sbc(one_way, "ai", n=5, seed=1, scales="var")
    truth = [one.rows[one.rows["parameter"].str.startswith("residual:var")]["truth"].tolist() for one in (a, b)]
    assert truth[0] == truth[1]


def test_stop__ends_at_the_first_alarm(one_way) -> None:
    found = sbc(one_way, "quadrature", n=1000, seed=11, mutant="D1", stop=True)
    first = found.table()["alarm_at"].dropna().min()
    assert found.n < 400
    assert found.n - 25 < first <= found.n


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"priors": "flat-sd"}, ModelError, "is flat"),
        ({"method": "scaled-lasso"}, MethodError, "neither a posterior nor an estimate"),
        ({"method": "quadrature", "mutant": "D9"}, DataError, "unknown mutant `D9`"),
        ({"method": "quadrature", "quantities": "`(Intercept)` ** 2"}, MethodError, "no linear function of β"),
        ({"method": "quadrature", "quantities": "residual:var"}, MethodError, "two quantities"),
        ({"method": "ai", "scales": ("logit",)}, MethodError, "unknown scale `logit`"),
        ({"method": "nuts", "priors": {"beta": Normal(10.0)}, "criterion": "reml"}, MethodError, "flat β"),
        ({"method": "quadrature", "estimate": "mean"}, MethodError, "`estimate` is no option"),
        ({"n": 0}, MethodError, "`n` is 0"),
        ({"seed": -1}, MethodError, "`seed` is -1"),
        ({"workers": 0}, MethodError, "`workers` is 0"),
        ({"alarm": 2.0}, MethodError, "`alarm` is 2"),
    ],
)
def test_wrong_use__is_said_before_any_work(one_way, arguments, error, match) -> None:
    with pytest.raises(error, match=match):
        vc.bayes.sbc(one_way, **arguments)


def test_prior_scales__do_not_follow_the_data(one_way) -> None:
    """A prior that follows y is another prior for each y: no posterior under it is calibrated."""
    plan = build_plan(one_way, {"default": HalfNormal()})
    assert plan.priors.sd["residual:var"].scale == pytest.approx(np.std(one_way.y, ddof=1))
    other = build_plan(one_way.replace(y=10 * one_way.y), {"default": HalfNormal()})
    assert other.data_hash != plan.data_hash


# --- command line and report ---


def test_command__prints_a_table_tops_up_and_exits_by_the_verdict(tmp_path, capsys) -> None:
    own = ["--out", str(tmp_path / "one_way"), "--quiet", "--method", "quadrature"]
    assert command(["sbc", "one_way", *own, "--n", "25"]) == 3
    assert "log-likelihood" in capsys.readouterr().out
    assert command(["sbc", "one_way", *own, "--n", "50", "--inconclusive", "ok"]) == 0
    assert command(["sbc", "one_way", *own, "--n", "200", "--mutant", "D1", "--stop"]) == 1
    assert "FAIL" in capsys.readouterr().out
    assert command(["sbc", "one_wya", *own]) == 2
    assert "Did you mean `one_way`?" in capsys.readouterr().err
    assert command(
        ["sbc", "one_way", "--out", str(tmp_path / "one_way"), "--quiet", "--method", "ai", "--n", "50"]
    ) in (
        1,
        3,
    )
    assert command(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "README.md").read_bytes()
    text = page.decode()
    assert "Planted bugs: 1 of 1 runs with one found it" in text.split("\n\n")[1]
    assert "ecdf-one-way.svg" in text
    figures = sorted((tmp_path / "report" / "figures").glob("*.svg"))
    assert len(figures) == 4
    before = [f.read_bytes() for f in figures]
    assert command(["report", str(tmp_path)]) == 0
    assert [f.read_bytes() for f in figures] == before
    assert (tmp_path / "report" / "README.md").read_bytes() == page


# --- chains ---


@pytest.mark.slow
def test_nuts__places_truths_where_the_exact_posterior_does(one_way) -> None:
    """PITs of 20 replicates of thinned chains against exact ones: each within 5 binomial errors of 400 draws."""
    exact = sbc(one_way, "quadrature", n=20, seed=3)
    chains = sbc(one_way, "nuts", n=20, seed=3)
    for name in (*one_way.theta_names, "(Intercept)"):
        assert len(chains.pit(name)) == 20
        p = exact.pit(name)
        error = np.sqrt(np.maximum(p * (1 - p), 1 / 400) / 400) + 1 / 400
        assert (np.abs(chains.pit(name) - p) < 5 * error).all()


@pytest.mark.slow
def test_nuts__is_the_same_to_the_last_bit_on_two_processes(one_way, tmp_path) -> None:
    here = sbc(one_way, "nuts", n=50, seed=3)
    there = sbc(one_way, "nuts", n=50, seed=3, out=tmp_path / "run", workers=2)
    pd.testing.assert_frame_equal(_bits(here), _bits(there), check_exact=True, check_dtype=False)


@pytest.mark.slow
def test_normal_beta__is_drawn_and_found_by_chains(one_way) -> None:
    """A normal prior of β under ml: β is drawn from it, and any function of it may be ranked."""
    priors = {"beta": Normal(100.0, mean=1500.0)}
    found = sbc(one_way, "nuts", n=150, seed=1, priors=priors, quantities="cv = sqrt(residual) / `(Intercept)`")
    assert found.verdict != "FAIL"
    assert found.rows[found.rows["parameter"] == "(Intercept)"]["truth"].std() > 50


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_planted_bugs__are_found_by_chains(mutant: str) -> None:
    model = load_card("one_way").model()
    assert sbc(model, "nuts", n=500, seed=5, mutant=mutant, stop=True).verdict == "FAIL"
