"""Confidence sequences against their definitions and against simulation at every n."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betaln

from vcbench.study.sequences import first_look, mean_bounds, proportion_bounds, verdict


class TestProportion:
    @pytest.mark.parametrize(("hits", "n", "target"), [(95, 100, 0.95), (0, 30, 0.05), (30, 30, 0.95), (470, 500, 0.9)])
    def test_bounds__are_the_roots_of_the_mixture(self, hits, n, target):
        a, b, alpha = 20 * target, 20 * (1 - target), 1e-3

        def log_ratio(p):
            return (
                betaln(a + hits, b + n - hits) - betaln(a, b) - hits * math.log(p) - (n - hits) * math.log1p(-p)
                + math.log(alpha)
            )  # fmt: skip

        lower, upper = (float(x) for x in proportion_bounds(hits, n, target, alpha))
        peak = min(max(hits / n, 1e-9), 1 - 1e-9)
        assert lower == (pytest.approx(brentq(log_ratio, 1e-12, peak, xtol=1e-15), abs=1e-11) if hits else 0.0)
        assert upper == (pytest.approx(brentq(log_ratio, peak, 1 - 1e-14, xtol=1e-15), abs=1e-11) if hits < n else 1.0)

    def test_bounds__miss_the_truth_at_any_n_no_more_often_than_alpha(self):
        rng, alpha, runs = np.random.default_rng(1), 0.05, 2000
        hits = np.cumsum(rng.random((runs, 1500)) < 0.95, axis=1)
        lower, upper = proportion_bounds(hits[:, 9::10], np.arange(10, 1501, 10), 0.95, alpha)
        missed = ((lower > 0.95) | (upper < 0.95)).any(axis=1).mean()
        assert missed <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
        assert missed > 0.002  # nor is it vacuous


class TestMean:
    def test_bounds__miss_the_mean_at_any_later_n_no_more_often_than_alpha(self):
        rng, alpha, runs = np.random.default_rng(2), 0.05, 2000
        x = rng.normal(size=(runs, 2000))
        n = np.arange(1, 2001)
        mean = np.cumsum(x, axis=1) / n
        sd = np.sqrt(np.maximum(np.cumsum(x**2, axis=1) / n - mean**2, 0) * n / np.maximum(n - 1, 1))
        lower, upper = mean_bounds(mean[:, 199::20], sd[:, 199::20], n[199::20], alpha, 1000)
        missed = ((lower > 0) | (upper < 0)).any(axis=1).mean()
        assert missed <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
        assert missed > 0.002

    def test_width__at_its_target_is_little_more_than_that_of_a_fixed_n(self):
        """HARNESS: the sequences cost 1.4 times the width of an interval that may be looked at once."""
        lower, upper = mean_bounds(0.0, 1.0, 1000, 0.01, 1000)
        assert 1.2 < (upper - lower) / (2 * 2.5758 / math.sqrt(1000)) < 1.6

    def test_first_look__waits_for_skewed_terms_and_refuses_rare_ones(self):
        rng = np.random.default_rng(3)
        assert first_look(rng.normal(size=1000)) == 200
        assert first_look(rng.normal(size=1000), ratio=True) == 500
        heavy = rng.lognormal(0, 1, size=1000)
        assert first_look(heavy) > 400
        assert first_look(np.r_[np.ones(40), np.zeros(960)]) == math.inf
        assert first_look(np.full(1000, 0.3)) == math.inf


def test_verdict__compares_the_interval_with_the_region():
    assert verdict(0.94, 0.96, 0.93, 0.97) == "PASS"
    assert verdict(0.90, 0.92, 0.93, 0.97) == "FAIL"
    assert verdict(0.92, 0.94, 0.93, 0.97) == "INCONCLUSIVE"
    assert verdict(0.93, 0.97, 0.93, 0.97) == "PASS"
