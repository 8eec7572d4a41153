"""Measures against the answers of rsimsum, Stata's simsum and simhelpers, kept with their replicate files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcbench.study.measures import measures

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "measures"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared reference data are not here")
NAMES = {
    "bias": "bias", "rbias": "relative_bias", "empse": "empirical_se", "mse": "mse", "relprec": "relative_precision",
    "modelse": "model_se", "relerror": "model_se_error", "cover": "coverage", "becover": "be_coverage",
    "power": "rejection",
}  # fmt: skip
KEYS = ["size", "baseline", "method", "measure"]


@pytest.fixture(scope="module")
def relhaz() -> pd.DataFrame:
    """rsimsum's relhaz: 4 conditions × 3 models × 100 replicates, true log hazard ratio −0.5."""
    rows = pd.read_csv(FOLDER / "rsimsum_relhaz.csv")
    rows = rows.rename(columns={"theta": "estimate", "model": "method", "dataset": "replicate", "n": "size"})
    return rows.assign(truth=-0.5)


def _beside(rows: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    expected = expected.assign(measure=expected["stat"].map(NAMES)).dropna(subset="measure")
    ours = measures(rows, mcse="normal", reference="Cox", by=["size", "baseline"])
    both = expected.rename(columns={"n": "size", "model": "method", "mcse": "their_mcse"}).merge(ours, on=KEYS)
    assert len(both) == len(expected)
    return both


def test_measures__rsimsum_relhaz_to_1e9(relhaz: pd.DataFrame) -> None:
    """rsimsum, reference model Cox: estimates and MCSEs of all ten measures in all twelve cells."""
    both = _beside(relhaz, pd.read_csv(FOLDER / "expected_relhaz_refCox.csv"))
    assert len(both) == 120
    np.testing.assert_allclose(both["value"], both["est"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(both["mcse"], both["their_mcse"], rtol=1e-9, atol=1e-9)


def test_measures__stata_simsum_to_1e6(relhaz: pd.DataFrame) -> None:
    """Stata 16 simsum: 1e-6, but relerror and relprec (single precision: 1e-5) and relprec's MCSE (n−2 for n−1)."""
    expected = pd.read_csv(FOLDER / "stata_relhaz_res_stata.csv")
    expected["model"] = expected["model"].map({1: "Cox", 2: "Exp", 3: "RP(2)"})
    both = _beside(relhaz, expected)
    loose = both["measure"].isin(["model_se_error", "relative_precision"])
    np.testing.assert_allclose(both["value"][~loose], both["est"][~loose], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both["mcse"][~loose], both["their_mcse"][~loose], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both["value"][loose], both["est"][loose], rtol=1e-6, atol=1e-5)
    error = both["measure"] == "model_se_error"
    np.testing.assert_allclose(both["mcse"][error], both["their_mcse"][error], rtol=0, atol=1e-5)
    precision = both["measure"] == "relative_precision"
    as_stata = both["mcse"][precision] * np.sqrt(99 / 98)
    np.testing.assert_allclose(as_stata, both["their_mcse"][precision], rtol=1e-6, atol=1e-6)


def test_measures__simhelpers_relative_values() -> None:
    """simhelpers 0.3 `calc_relative`, K = 1000: its rel_bias is 1 + ours; bias's MCSE is ours, the others' are close.

    Its MSE error mixes moments with n and n−1 (1e-3 at K = 1000), and its jackknife of the RMSE leaves out with a
    variance on n−1 and centres at the full-sample RMSE (1 %).
    """
    expected = json.loads((FOLDER / "expected_simhelpers_alpha.json").read_text())["alpha_relative"]
    rows = pd.read_csv(FOLDER / "simhelpers_alpha_res.csv").rename(columns={"A": "estimate", "true_param": "truth"})
    found = measures(rows.assign(method="alpha")).set_index("measure")
    for theirs, ours, shift, tolerance in (("bias", "relative_bias", 1, 1e-12), ("mse", "relative_mse", 0, 1e-3),
                                           ("rmse", "relative_rmse", 0, 1e-2)):  # fmt: skip
        assert found.loc[ours, "value"] + shift == pytest.approx(expected[f"rel_{theirs}"], rel=1e-12)
        assert found.loc[ours, "mcse"] == pytest.approx(expected[f"rel_{theirs}_mcse"], rel=tolerance)


def test_measures__simhelpers_winsorised_values() -> None:
    """simhelpers 0.3 `calc_absolute`, winsorised at quartiles ± 2 IQR: clipped by hand, our values and MCSEs agree.

    (Not the RMSE's MCSE: theirs² is ours² + (s²/(2√K RMSE))², from the centre said above.)
    """
    expected = json.loads((FOLDER / "expected_simhelpers_alpha.json").read_text())["alpha_absolute_winz2"]
    rows = pd.read_csv(FOLDER / "simhelpers_alpha_res.csv").rename(columns={"A": "estimate", "true_param": "truth"})
    q1, q3 = rows["estimate"].quantile([0.25, 0.75])
    clipped = rows["estimate"].clip(q1 - 2 * (q3 - q1), q3 + 2 * (q3 - q1))
    found = measures(rows.assign(method="alpha", estimate=clipped)).set_index("measure")
    for theirs, ours in (("bias", "bias"), ("stddev", "empirical_se"), ("mse", "mse"), ("rmse", "rmse")):
        assert found.loc[ours, "value"] == pytest.approx(expected[theirs], rel=1e-12)
        theirs_mcse = expected[f"{theirs}_mcse"]
        if theirs == "rmse":
            theirs_mcse = np.sqrt(theirs_mcse**2 - (expected["var"] / (2 * np.sqrt(1000) * expected["rmse"])) ** 2)
        assert found.loc[ours, "mcse"] == pytest.approx(theirs_mcse, rel=2e-3)
