"""Measures against the answers of rsimsum, Stata's simsum and simhelpers, kept with their replicate files."""

import io
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


@pytest.fixture(scope="module")
def alpha() -> pd.DataFrame:
    """simhelpers' alpha_res: 1000 estimates of Cronbach's alpha with their variances, truth 0.8."""
    rows = pd.read_csv(FOLDER / "simhelpers_alpha_res.csv").rename(columns={"A": "estimate", "true_param": "truth"})
    return rows.assign(method="alpha", se=np.sqrt(rows["Var_A"]))


def _expected(name: str) -> dict[str, float]:
    return json.loads((FOLDER / "expected_simhelpers_alpha.json").read_text())[name]


def _centred_at(full: float, left_out: np.ndarray) -> float:
    """simhelpers' jackknife: about the estimate of all replicates, ours about the mean of the leave-one-out values."""
    n = len(left_out)
    return float(np.sqrt((n - 1) / n * np.sum((left_out - full) ** 2)))


def _without(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out means and variances (n − 1), by plain loops."""
    left = [np.delete(x, i) for i in range(len(x))]
    return np.array([v.mean() for v in left]), np.array([v.var(ddof=1) for v in left])


def _mse_mcse(found: pd.DataFrame, K: int) -> float:
    """simhelpers' MCSE of the MSE, from ours: its moments divide by K where ours divide by K − 1.

    K·theirs² = (K − 1)·ours² − s⁴(1 − ((K−1)/K)²) + 4 bias² s²/K.
    """
    s2, bias = found.loc["empirical_se", "value"] ** 2, found.loc["bias", "value"]
    gap = s2**2 * (1 - ((K - 1) / K) ** 2) - 4 * bias**2 * s2 / K
    return float(np.sqrt(((K - 1) * found.loc["mse", "mcse"] ** 2 - gap) / K))


def test_measures__simhelpers_relative_to_1e9(alpha: pd.DataFrame) -> None:
    """simhelpers 0.3 `calc_relative`: rel_bias is 1 + relative_bias; MSE and RMSE divide by θ² and θ.

    MCSEs: of the bias ours; of the MSE through `_mse_mcse`; of the RMSE a jackknife of √(bias² + s²), s² with n − 1,
    about the RMSE of all.
    """
    theirs, found = _expected("alpha_relative"), measures(alpha).set_index("measure")
    assert found.loc["relative_bias", "value"] + 1 == pytest.approx(theirs["rel_bias"], rel=1e-9)
    assert found.loc["relative_bias", "mcse"] == pytest.approx(theirs["rel_bias_mcse"], rel=1e-9)
    assert found.loc["relative_mse", "value"] == pytest.approx(theirs["rel_mse"], rel=1e-9)
    assert _mse_mcse(found, 1000) / 0.8**2 == pytest.approx(theirs["rel_mse_mcse"], rel=1e-9)
    assert found.loc["relative_rmse", "value"] == pytest.approx(theirs["rel_rmse"], rel=1e-9)
    means, variances = _without(alpha["estimate"].to_numpy())
    left_out = np.sqrt((means - 0.8) ** 2 + variances) / 0.8
    assert _centred_at(found.loc["relative_rmse", "value"], left_out) == pytest.approx(
        theirs["rel_rmse_mcse"], rel=1e-9
    )
    assert found.loc["relative_rmse", "mcse"] == pytest.approx(theirs["rel_rmse_mcse"], rel=1e-2)


def test_measures__simhelpers_variances_to_1e9(alpha: pd.DataFrame) -> None:
    """simhelpers 0.3 `calc_relative_var`: ours throughout, its jackknife about the value of all replicates.

    K/(K − 1)·theirs² = K/(K − 1)·ours² + K (mean of leave-one-out values − value)².
    """
    theirs, found = _expected("alpha_relative_var"), measures(alpha).set_index("measure")
    (_, e2), (v, _), s4 = _without(alpha["estimate"]), _without(alpha["Var_A"]), _without(alpha["Var_A"])[1]
    squares = ((v - e2) ** 2 + s4) / e2**2
    for ours, name, left_out in (("variance_ratio", "rel_bias_var", v / e2),
                                 ("variance_relative_mse", "rel_mse_var", squares),
                                 ("variance_relative_rmse", "rel_rmse_var", np.sqrt(squares))):  # fmt: skip
        value, mcse = found.loc[ours, ["value", "mcse"]]
        assert value == pytest.approx(theirs[name], rel=1e-9)
        assert np.sqrt(mcse**2 + 999 * (left_out.mean() - value) ** 2) == pytest.approx(
            theirs[f"{name}_mcse"], rel=1e-9
        )


def test_measures__simhelpers_winsorised_to_1e9(alpha: pd.DataFrame) -> None:
    """simhelpers 0.3 `calc_absolute`, winz = 2: bias, SD, MSE, RMSE and the share clipped.

    MCSEs: of the bias and the share ours; of the SD and the RMSE jackknives about the value of all; of the MSE through
    `_mse_mcse`; of the variance s²√((kurtosis − 1)/K), which is K·Var(squared deviations) with moments over K.
    """
    theirs, found = _expected("alpha_absolute_winz2"), measures(alpha, winsorise=2).set_index("measure")
    for name, ours in (("winsor_pct", "winsorised_share"), ("bias", "bias"), ("stddev", "empirical_se"), ("mse", "mse"),
                       ("rmse", "rmse")):  # fmt: skip
        assert found.loc[ours, "value"] == pytest.approx(theirs[name], rel=1e-9), name
    for name, ours in (("winsor_pct", "winsorised_share"), ("bias", "bias")):
        assert found.loc[ours, "mcse"] == pytest.approx(theirs[f"{name}_mcse"], rel=1e-9), name
    assert _mse_mcse(found, 1000) == pytest.approx(theirs["mse_mcse"], rel=1e-9)
    low, high = alpha["estimate"].quantile([0.25, 0.75])
    t = alpha["estimate"].clip(low - 2 * (high - low), high + 2 * (high - low)).to_numpy()
    means, variances = _without(t)
    e, rmse = found.loc["empirical_se", "value"], found.loc["rmse", "value"]
    about = _centred_at(e, np.sqrt(variances))
    assert about == pytest.approx(theirs["stddev_mcse"], rel=1e-9)
    assert found.loc["empirical_se", "mcse"] == pytest.approx(about, rel=1e-5)
    assert _centred_at(rmse, np.sqrt((means - 0.8) ** 2 + variances)) == pytest.approx(theirs["rmse_mcse"], rel=1e-9)
    assert e**2 == pytest.approx(theirs["var"], rel=1e-9)
    assert np.sqrt((np.mean((t - t.mean()) ** 4) - e**4) / 1000) == pytest.approx(theirs["var_mcse"], rel=1e-9)


def test_command_line__measures_of_rsimsum_file_as_written(relhaz: pd.DataFrame, capsys) -> None:
    """`vcbench measures` reads the file with its own column names, as `vc.measures` does the renamed frame."""
    from vcbench.cli.app import run

    file = str(FOLDER / "rsimsum_relhaz.csv")
    names = [f"--column={name}" for name in ("estimate=theta", "method=model", "replicate=dataset")]
    asked = ["--truth=-0.5", "--by=n", "--by=baseline", "--mcse=normal", "--only=bias", "--only=coverage"]
    assert run(["measures", file, *names, *asked, "--format=markdown"]) == 2  # `n` is a column of the answer
    assert "Rename it" in capsys.readouterr().err
    assert run(["measures", file, *names, "--column=size=n", *["--by=size", *asked[2:], asked[0]], "--format=csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    ours = measures(relhaz, mcse="normal", by=["size", "baseline"], only=["bias", "coverage"])
    ours = ours.pivot(index=["size", "baseline", "measure"], columns="method", values="value").reset_index()
    both = table.merge(ours, on=["size", "baseline", "measure"], suffixes=("", " ours"))
    assert len(both) == 8
    for method in ("Cox", "Exp", "RP(2)"):
        np.testing.assert_allclose(both[method], both[f"{method} ours"], rtol=1e-12)
    assert run(["measures", file]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "`theta` for `estimate`" in said
    assert "`model` for `method`" in said
