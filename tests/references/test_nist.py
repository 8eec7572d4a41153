"""NIST's one-way data sets: the variance components against exact rational arithmetic.

For a balanced one-way layout, k groups of m, the ANOVA, moment and REML estimates (where positive) are MSW and
(MSB − MSW)/m, and ℓ_REML has a closed form. NIST's lower level sets (smls01 to 03) ask for 12 digits of the printed
decimals, its average ones (atmwtag, smls04 to 06) for 9: they hide their variation behind up to seven constant digits,
and a double holds 1000000.4 to 1e-10 only. Of the doubles themselves 12 digits are asked of every set: the loss is in
the reading, not in the arithmetic.
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
DIGITS = {  # log relative error asked of each set, by NIST's level of difficulty
    "nist_smls01": 12, "nist_smls02": 12, "nist_smls03": 12,
    "nist_atmwtag": 9, "nist_smls04": 9, "nist_smls05": 9, "nist_smls06": 9,
}  # fmt: skip
METHODS = {
    "moments": {}, "anova": {}, "anova 2": {"type": 2}, "anova 3": {"type": 3}, "minque 1": {"prior": 1},
    "minque iterated": {"prior": "iterated"}, "auto": {},
}  # fmt: skip


def exact(name: str, number=Fraction) -> tuple[Fraction, Fraction, float]:
    """(σ² between, σ² within, ℓ_REML) in rational arithmetic of each printed decimal as `number` reads it."""
    groups = defaultdict(list)
    with (DATA / f"{name}.csv").open() as file:
        for row in csv.DictReader(file):
            groups[row["treatment"]].append(Fraction(number(row["response"])))
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


def digits(computed: float, want: Fraction) -> float:
    """−log10 of the relative error."""
    error = abs(Fraction(float(computed)) - want) / abs(want)
    return -math.log10(error) if error else math.inf


@pytest.fixture(scope="module", params=DIGITS)
def case(request):
    """(name, model, exact answers of the decimals, of the doubles)."""
    name = request.param
    data = pd.read_csv(DATA / f"{name}.csv").astype({"treatment": str})
    return name, vc.Model.from_formula("response ~ 1 + (1 | treatment)", data), exact(name), exact(name, float)


@pytest.mark.parametrize("method", METHODS)
def test_nist__exact_variances(case, method):
    name, model, decimals, doubles = case
    fit = vc.fit(model, method=method.split()[0], **METHODS[method])
    between, within = fit.theta
    assert min(digits(between, decimals[0]), digits(within, decimals[1])) >= DIGITS[name]
    assert min(digits(between, doubles[0]), digits(within, doubles[1])) >= 12
    assert fit.loglik == pytest.approx(decimals[2], abs=max(10.0 ** -DIGITS[name], 1e-12) * model.n_obs)
