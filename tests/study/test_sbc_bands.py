"""The tests of uniformity: bands against enumeration, simulation and published numbers; e-values against a bound."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multinomial, norm

from vcbench.errors import MethodError
from vcbench.study.sbc_bands import counts, enough, half_width, probability_inside, simultaneous_band, uniformity
from vcbench.study.sbc_evidence import first_alarm, log_evidence, normal_scores

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "measures" / "expected_sbc_ecdf_gamma.csv"


def _enumerated(n: int, lower: np.ndarray, upper: np.ndarray) -> float:
    """P(lower ≤ X ≤ upper) as a sum over every way n numbers fall into K cells."""
    K, total = len(lower), 0.0
    for cells in itertools.product(range(n + 1), repeat=K):
        x = np.cumsum(cells)
        if x[-1] == n and (lower <= x).all() and (x <= upper).all():
            total += float(multinomial.pmf(cells, n, np.full(K, 1 / K)))
    return total


@pytest.mark.parametrize(
    ("n", "lower", "upper"),
    [(5, [0, 1, 2, 5], [3, 4, 5, 5]), (6, [0, 2, 6], [2, 4, 6]), (4, [1, 1, 3, 4], [1, 2, 3, 4]), (3, [2, 1], [1, 3])],
)
def test_probability_inside__is_the_sum_over_all_ways(n, lower, upper) -> None:
    lower, upper = np.array(lower), np.array(upper)
    assert probability_inside(n, lower, upper) == pytest.approx(_enumerated(n, lower, upper), abs=1e-13)


@pytest.mark.parametrize(("n", "K"), [(30, 30), (400, 100)])
def test_band__holds_uniform_numbers_as_often_as_it_says(n: int, K: int) -> None:
    """8000 sets of uniform numbers; 4 Monte Carlo errors."""
    rng = np.random.default_rng(20261121)
    for level in (0.5, 0.95):
        band = simultaneous_band(n, level, K)
        assert level <= band.level < level + 0.02
        held = np.mean([band.holds(rng.random(n)) for _ in range(8000)])
        assert abs(held - band.level) < 4 * math.sqrt(band.level * (1 - band.level) / 8000)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="shared data absent: measures/expected_sbc_ecdf_gamma.csv")
def test_band__agrees_with_the_published_ones() -> None:
    """γ of another program, which takes the one nearest to the level where ours has at least the level."""
    for row in pd.read_csv(PUBLISHED).itertuples():
        band = simultaneous_band(row.N, row.conf, row.K)
        assert band.gamma == pytest.approx(row.gamma, rel=0.07)
        middle = row.K // 2 - 1
        step = 0 if row.conf == 0.95 else 1  # counts at 99 % may end one apart
        assert abs(band.lower[middle] - row.lower_count_at_half) <= step
        assert abs(band.upper[middle] - row.upper_count_at_half) <= step
        assert half_width(band) == pytest.approx(row.ecdf_halfwidth_at_half, abs=1e-12 + 1.001 * step / row.N)


def test_uniformity__is_a_p_value_and_agrees_with_the_band() -> None:
    """P(p ≤ α) ≤ α, near α; p ≤ 1 − (the band's own level) wherever the band is left."""
    rng = np.random.default_rng(7)
    n, runs = 200, 3000
    band = simultaneous_band(n, 0.9)
    p, left = np.empty(runs), np.empty(runs, bool)
    for i in range(runs):
        u = rng.random(n)
        p[i], left[i] = uniformity(u)[0], not band.holds(u)
    for alpha in (0.01, 0.1, 0.5):
        share = (p <= alpha).mean()
        error = math.sqrt(alpha * (1 - alpha) / runs)
        assert -0.03 * (alpha > 0.05) - 4 * error < share - alpha < 4 * error
    assert ((p < 1 - band.level + 1e-12) == left).all()


def test_uniformity__sees_ranks_that_never_exceed_a_tenth() -> None:
    """The known trap: rescaled by the largest rank seen they would pass."""
    rng = np.random.default_rng(3)
    low = rng.random(500) * 0.1
    assert uniformity(low)[0] <= 1e-12
    assert uniformity(low / low.max())[0] > 0.01


def test_uniformity__finds_a_shift_and_a_spread_with_the_stated_power() -> None:
    """N = 500 at 5 %: .97 for a shift of .2 SD, .999 for SDs × .8; at least so much less 4 Monte Carlo errors."""
    rng = np.random.default_rng(11)
    for shift, spread, power in ((0.2, 1.0, 0.97), (0.0, 0.8, 0.999)):
        found = np.mean([uniformity(norm.cdf(shift + spread * rng.standard_normal(500)))[0] < 0.05 for _ in range(300)])
        assert found > power - 4 * math.sqrt(power * (1 - power) / 300)


def test_counts__of_numbers_on_the_points_are_up_to_and_including() -> None:
    assert counts(np.array([0.5, 0.25, 1.0]), np.array([0.25, 0.5, 0.75, 1.0])).tolist() == [1, 2, 2, 3]


def test_evidence__raises_false_alarms_no_more_often_than_promised() -> None:
    """4000 calibrated runs looked at after each of 300 replicates: alarms at α = .1 and .02 by Ville's inequality."""
    rng = np.random.default_rng(5)
    top = np.array([log_evidence(rng.random(300)).max() for _ in range(4000)])
    for alpha in (0.1, 0.02):
        assert (top >= -math.log(alpha)).mean() <= alpha + 3 * math.sqrt(alpha / 4000)


def test_evidence__is_the_mean_of_likelihood_ratios() -> None:
    """Against scipy's normal densities, product by product."""
    pit = np.array([0.2, 0.97, 0.5, 0.03])
    z = norm.ppf(pit)
    grid = [(m, s) for m in (0, 0.15, -0.15, 0.3, -0.3) for s in (0.7, 0.85, 1, 1.18, 1.4)]
    each = [np.prod(norm.pdf(z, m, s) / norm.pdf(z)) for m, s in grid]
    assert log_evidence(pit)[-1] == pytest.approx(math.log(np.mean(each)), abs=1e-12)


def test_evidence__finds_what_is_wrong_and_when() -> None:
    rng = np.random.default_rng(2)
    right, wide = rng.random(600), norm.cdf(1.4 * rng.standard_normal(600))
    assert first_alarm(log_evidence(right), 1e-3) is None
    at = first_alarm(log_evidence(wide), 1e-3)
    assert at is not None
    assert at < 300
    assert log_evidence(wide[:at])[-1] >= math.log(1e3) > log_evidence(wide[: at - 1])[-1]


def test_normal_scores__of_impossible_truths_are_finite() -> None:
    z = normal_scores(np.array([0.0, 1.0, 1 - 1e-16, 0.975, 0.5]))
    assert np.isfinite(z).all()
    assert z[0] < -30
    assert z[1] > 30
    assert z[3:] == pytest.approx([norm.ppf(0.975), 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("alarm", [1e-2, 1e-3, 6e-5])
def test_enough__gives_the_power_it_states(alarm: float) -> None:
    """Either test, each at half the alarm, finds a shift of .2 SD in at least 90 % of runs of that size."""
    rng = np.random.default_rng(13)
    n, found = enough(alarm), 0
    for _ in range(400):
        u = norm.cdf(0.2 + rng.standard_normal(n))
        found += uniformity(u)[0] < alarm / 2 or log_evidence(u).max() >= -math.log(alarm / 2)
    assert found / 400 > 0.9 - 2 * math.sqrt(0.09 / 400)


def test_band__says_what_is_wrong() -> None:
    with pytest.raises(MethodError, match="at least 2 numbers"):
        simultaneous_band(1)
    with pytest.raises(MethodError, match="`level` is 1"):
        simultaneous_band(10, 1.0)
