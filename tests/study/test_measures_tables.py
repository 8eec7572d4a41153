"""Tables of measures: cells by hand, every format read back, and the number of replicates for a precision."""

import io

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import DataError
from vcbench.study.measures import measures
from vcbench.study.replicates import replicates_for
from vcbench.study.tables import measures_table


def _rows(n: int = 400, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    for name, sd in (("ai", 1.0), ("50% & more_so", 1.3)):
        estimate = 2 + sd * rng.standard_normal(n)
        frames.append(pd.DataFrame({"parameter": "a|b_1", "replicate": range(n), "method": name, "truth": 2.0,
                                    "estimate": estimate, "se": sd}))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def test_table__a_cell_shows_the_value_to_two_digits_of_its_error():
    """Four estimates 1, 2, 3, 6 of 2: bias 1 ± 1.0801, MSE 4.5 ± 3.8406 (by hand)."""
    rows = pd.DataFrame({"method": "m", "truth": 2.0, "estimate": [1.0, 2.0, 3.0, 6.0]})
    text = measures_table(measures(rows, only=["bias", "mse", "n_valid"]))
    assert [line.split(maxsplit=1) for line in text.splitlines()[:4]] == [
        ["measure", "m"], ["bias", "1.0 (1.1)"], ["mse", "4.5 (3.8)"], ["n_valid", "4"],
    ]  # fmt: skip


def test_table__every_format_holds_the_same_cells():
    found = measures(_rows(), only=["bias", "empirical_se", "coverage", "relative_bias"])
    by = {kind: measures_table(found, kind, caption="Two methods") for kind in ("markdown", "html", "latex", "text")}
    html = _cells(by["html"])
    markdown = [
        [cell.strip().replace("\\|", "|") for cell in line.strip("| ").replace("\\|", "\0").split("|")]
        for line in by["markdown"].splitlines()
        if line.startswith("|")
    ]
    markdown = [[cell.replace("\0", "|") for cell in line] for line in markdown]
    assert html == [markdown[0], *markdown[2:]]
    latex = by["latex"].replace("$-$", "−")
    for line in markdown[2:]:
        for cell in line[2:]:
            assert cell in latex
            assert cell in by["text"]
    assert r"50\% \& more\_so" in latex
    assert r"\toprule" in latex
    assert "a|b_1" in by["html"]


def _cells(text: str) -> list[list[str]]:
    """The cells of a table, by the standard library's parser."""
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[list[str]] = []
            self.inside = False

        def handle_starttag(self, tag, attrs):
            if tag == "tr":
                self.rows.append([])
            self.inside = tag in ("td", "th")
            if self.inside:
                self.rows[-1].append("")

        def handle_endtag(self, tag):
            self.inside = False

        def handle_data(self, data):
            if self.inside:
                self.rows[-1][-1] += data

    reader = Reader()
    reader.feed(text)
    return reader.rows


def test_table__csv_is_unrounded_and_a_file_is_written_by_its_ending(tmp_path):
    found = measures(_rows(), only=["bias", "coverage"])
    read = pd.read_csv(io.StringIO(measures_table(found, out=tmp_path / "t.csv")))
    assert (tmp_path / "t.csv").read_text().startswith("parameter,measure,ai,ai mcse")
    want = found[found["method"] == "ai"]
    np.testing.assert_allclose(read["ai"], want["value"], rtol=1e-12)
    np.testing.assert_allclose(read["ai mcse"], want["mcse"], rtol=1e-12)


def test_table__leaves_out_what_no_method_has_and_dashes_what_one_lacks():
    rows = _rows(50)
    rows.loc[rows["method"] == "ai", "se"] = np.nan
    text = measures_table(measures(rows, only=["bias", "coverage", "n_iter"]))
    assert "n_iter" not in text
    assert next(line for line in text.splitlines() if "coverage" in line).split()[2] == "–"


def test_table__wrong_use_is_said():
    found = measures(_rows(5))
    for call, message in (
        (lambda: measures_table(_rows(5)), "frame that `vc.measures` returns"),
        (lambda: measures_table(found, "mardown"), "Did you mean `markdown`"),
        (lambda: measures_table(found, only=["biass"]), "Did you mean `bias`"),
    ):
        with pytest.raises(DataError, match=message):
            call()


@pytest.mark.parametrize(
    ("measure", "mcse", "options", "n"),
    [
        ("coverage", 0.005, {}, 1900),  # HARNESS: 0.95 ± 0.5 points
        ("bias", 0.1, {"sd": 2.0}, 400),
        ("empirical_se", 0.05, {"sd": 1.0}, 201),
        ("model_se_error", 5.0, {}, 201),
        ("rejection", 0.005, {"p": 0.5}, 10_000),
        ("relative_precision", 10.0, {"correlation": 0.8}, 145),
    ],
)
def test_replicates__meet_the_target_and_one_fewer_does_not(measure, mcse, options, n):
    assert replicates_for(measure, mcse, **options) == n


def test_replicates__give_the_mcse_that_was_asked_for():
    """Normal estimates at the n found: closed-form MCSEs within 10 % of the target (their own error is 1/√(2n))."""
    rng = np.random.default_rng(9)
    n = replicates_for("empirical_se", 0.04, sd=1.5)
    assert n == replicates_for("bias", 0.04 * 2**0.5, sd=1.5) + 1
    rows = pd.DataFrame({"method": "m", "truth": 0.0, "estimate": 1.5 * rng.standard_normal(n)})
    found = measures(rows, mcse="normal").set_index("measure")
    assert found.loc["empirical_se", "mcse"] == pytest.approx(0.04, rel=0.1)


def test_replicates__wrong_use_is_said():
    for call, message in (
        (lambda: replicates_for("mse", 0.1), "no rule"),
        (lambda: replicates_for("coverage", 0), "positive"),
        (lambda: replicates_for("coverage", 0.01, p=95), "between 0 and 1"),
        (lambda: replicates_for("bias", 0.1), "needs `sd`"),
    ):
        with pytest.raises(DataError, match=message):
            call()


def test_frames__a_missing_column_is_named_with_the_nearest():
    rows = _rows(3).rename(columns={"estimate": "Theta", "method": "model"}).drop(columns="truth")
    with pytest.raises(DataError) as said:
        measures(rows)
    text = str(said.value)
    assert "lack the columns `method`, `estimate`, `truth`" in text
    assert "`model` for `method`, `Theta` for `estimate`" in text
    assert "`truth` may be one number" in text


def test_winsorised__one_wild_fit_weighs_as_much_as_the_fence():
    """1…9 and 1e6 of 0: quartiles 3.25 and 7.75, the fence at 7.75 + 2·4.5 = 16.75; coverage stays the fits' own."""
    rows = pd.DataFrame({"method": "m", "truth": 0.0, "estimate": [*range(1, 10), 1e6], "se": [1.0] * 9 + [1e6]})
    plain, clipped = (measures(rows, winsorise=c).set_index("measure") for c in (None, 2))
    assert clipped.loc["bias", "value"] == pytest.approx((45 + 16.75) / 10)
    assert clipped.loc["winsorised_share", "value"] == 0.1
    assert "winsorised_share" not in plain.index
    assert clipped.loc["model_se", "value"] == 1.0
    for name in ("coverage", "be_coverage", "rejection", "n_valid"):
        assert clipped.loc[name, "value"] == plain.loc[name, "value"]
    with pytest.raises(DataError, match="winsorise is -1"):
        measures(rows, winsorise=-1)
