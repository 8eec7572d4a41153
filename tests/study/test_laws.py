"""Laws of effects and errors: mean 0, variance 1 and the shape that is said, by moments and quantiles."""

import numpy as np
import pytest
from scipy import stats

from vcbench.study.generators import GENERATORS
from vcbench.study.laws import Laws, read_law
from vcbench.study.seeds import DESIGN, generator

N = 200_000
LAWS = ("normal", "t(9)", "t(5)", "skew(1)", "skew(-2)", "contaminated(0.1, 3)", "contaminated(0.02, 6)")


def _quantile(text: str, q: float) -> float:
    """Oracle: the quantile of the standardised law by scipy."""
    law = read_law(text)
    match law.kind:
        case "t":
            df = law.values[0]
            return float(stats.t(df).ppf(q) / stats.t(df).std())
        case "skew":
            return float(stats.pearson3(law.values[0]).ppf(q))  # Pearson III: mean 0, variance 1, that skewness
        case "contaminated":
            p, s = law.values
            sd = np.sqrt(1 - p + p * s * s)
            x = np.linspace(-40, 40, 400_001)
            return float(np.interp(q, (1 - p) * stats.norm.cdf(x) + p * stats.norm.cdf(x / s), x) / sd)
    return float(stats.norm.ppf(q))


@pytest.mark.parametrize("text", LAWS)
def test_draw__has_the_moments_and_quantiles_of_the_law(text: str) -> None:
    """Mean, variance, skewness and kurtosis within 5 Monte Carlo SEs; five quantiles within 5 of √(q(1−q)/n)/f."""
    law, rng = read_law(text), np.random.default_rng(20261122)
    z = law.draw(rng, N)
    for power, expected in ((1, 0.0), (2, 1.0), (3, law.skewness), (4, law.excess_kurtosis + 3)):
        if text == "t(5)" and power > 2:
            continue  # z⁴ has no variance: its mean has no Monte Carlo error
        powers = z**power
        assert powers.mean() == pytest.approx(expected, abs=5 * powers.std() / np.sqrt(N)), power
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        below = np.mean(z < _quantile(text, q))
        assert below == pytest.approx(q, abs=5 * np.sqrt(q * (1 - q) / N)), q


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t(2)", "more than 2 degrees of freedom, not 2"),
        ("t", r"must be `t\(df\)`"),
        ("skew(0)", "other than 0"),
        ("contaminated(1, 3)", "a share between 0 and 1"),
        ("contaminated(0.1)", r"`contaminated\(share, scale\)`"),
        ("gamma(3)", 'must be "normal"'),
        ("t(x)", "its parameters are numbers"),
    ],
)
def test_read_law__refuses_what_has_no_variance(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_law(text)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("one_way", {"n_groups": 4, "group_size": 3, "sigma2": 2.0}),
        ("random_slope", {"n_groups": 3, "times": [0.0, 1.0, 2.0], "Omega": [[2.0, 0.5], [0.5, 1.0]], "sigma2_e": 1.0}),
        ("variance_components", {"n": 8, "q": [3, 4]}),
        ("snp", {"n": 8, "p": 20}),
    ],
)
def test_generators__keep_the_variance_under_other_laws(name: str, settings: dict) -> None:
    """The same design under normal and other laws: variances agree within 5 Monte Carlo SEs, the fourth moment does not
    (but where an effect is a mixture of many: there it tends to the normal's)."""
    Y = {}
    for law in ("normal", "contaminated(0.1, 4)"):
        made = GENERATORS[name](**settings, effects=law, errors=law).build(generator(1, (0, 0), DESIGN))
        Y[law] = made.draw([generator(3, (1, 2), r) for r in range(3000)]) - (made.model.X @ made.beta)[:, None]
    one, two = (y**2 for y in Y.values())
    se = np.sqrt((one.var(axis=1) + two.var(axis=1)) / 3000)
    assert (np.abs(one.mean(axis=1) - two.mean(axis=1)) < 5 * se).all()
    assert (two**2).mean() > 1.3 * (one**2).mean()


def test_laws__by_component() -> None:
    laws = Laws({"a": "t(5)"}, "skew(1)")
    assert [laws.of(name).kind for name in ("a", "b", None)] == ["t", "normal", "skew"]
    assert Laws().are_normal
    assert not laws.are_normal
