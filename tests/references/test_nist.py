"""NIST's one-way data sets: the variance components against exact rational arithmetic on the printed decimals.

For a balanced one-way layout, k groups of m, the ANOVA, moment and REML estimates (where positive) are MSW and
(MSB − MSW)/m, and ℓ_REML has a closed form. The sets 04 to 06 hide 0.1 behind seven constant digits: a double holds
1000000.4 to 1e-10, so that nine digits of a mean square are the most that can be had there.
"""

import csv
import math
from collections import defaultdict
from fractions import Fraction

import pandas as pd
import pytest

import vcbench as vc
from vcbench.cards import CHECKOUT

DATA = CHECKOUT / "models" / "data"
DIGITS = {  # significant digits asked of each set
    "nist_atmwtag": 9, "nist_smls01": 12, "nist_smls02": 12, "nist_smls03": 11,
    "nist_smls04": 9, "nist_smls05": 9, "nist_smls06": 9,
}  # fmt: skip


def exact(name: str) -> tuple[Fraction, Fraction, float]:
    """(σ² between, σ² within, ℓ_REML) in rational arithmetic, the logarithms last."""
    groups = defaultdict(list)
    with (DATA / f"{name}.csv").open() as file:
        for row in csv.DictReader(file):
            groups[row["treatment"]].append(Fraction(row["response"]))
    k, m = len(groups), len(next(iter(groups.values())))
    means = [sum(values) / m for values in groups.values()]
    grand = sum(means) / k
    within = sum((y - mean) ** 2 for mean, values in zip(means, groups.values(), strict=True) for y in values)
    msb, msw = m * sum((mean - grand) ** 2 for mean in means) / (k - 1), within / (k * (m - 1))
    loglik = -0.5 * (
        (k * m - 1) * (math.log(2 * math.pi) + 1)
        + k * (m - 1) * math.log(msw)
        + (k - 1) * math.log(msb)
        + math.log(k * m)
    )
    return (msb - msw) / m, msw, loglik


@pytest.mark.parametrize("method", ["moments", "auto"])
@pytest.mark.parametrize("name", DIGITS)
def test_nist__exact_variances(name, method):
    between, within, loglik = exact(name)
    data = pd.read_csv(DATA / f"{name}.csv").astype({"treatment": str})
    fit = vc.fit(vc.Model.from_formula("response ~ 1 + (1 | treatment)", data), method=method)
    tolerance = 10.0 ** -DIGITS[name]
    assert fit.theta.to_numpy() == pytest.approx([float(between), float(within)], rel=max(tolerance, 1e-12))
    assert fit.loglik == pytest.approx(loglik, abs=max(tolerance, 1e-12) * fit.model.n_obs)
