"""Studies and cards as pytest items, in pytest runs of their own."""

import os
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
HEAD = """
title = "A tiny study"
question = "Does it hold?"
seed = 1
replicates = 6
methods = ["ai", "moments"]
[[data]]
name = "oneway"
generator = "one_way"
n_groups = [6, 8]
"""
PASSING = '[[acceptance]]\nmeasure = "convergence_rate"\nmethod = "ai"\nparameter = "residual:var"\ntolerance = 1.0\n'
FAILING = """[[acceptance]]
measure = "max_abs_difference"
method = "moments"
where = { n_groups = 8 }
target = 100.0
tolerance = 1e-9
"""
UNSURE = '[[acceptance]]\nmeasure = "coverage"\nmethod = "ai"\nparameter = "(Intercept)"\nwhere = { n_groups = 6 }\n'
CARD = """
title = "A card"
description = "Six numbers in three groups."
formula = "y ~ 1 + (1 | g)"
[data]
file = "y.csv"
citation = "nobody"
[[published]]
criterion = "reml"
citation = "nobody"
values = { "beta[(Intercept)]" = "3.000" }
[[published]]
criterion = "reml"
citation = "somebody"
values = { "n_obs" = "6" }
[[published]]
method = "em"
criterion = "ml"
citation = "nobody"
values = { "beta[(Intercept)]" = "99.0" }
"""


@pytest.fixture
def here(pytester, monkeypatch):
    """A folder with a study and a card, and a process of pytest's that loads the plugin by name, installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    folder = pytester.mkdir("simulations")
    (folder / "tiny.toml").write_text(HEAD + PASSING + FAILING + UNSURE)
    models = pytester.mkdir("models")
    (models / "data").mkdir()
    (models / "data" / "y.csv").write_text("y,g\n1.0,a\n2.0,a\n3.5,b\n5.0,b\n4.0,c\n2.5,c\n")
    (models / "six.toml").write_text(CARD)
    (pytester.path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nfilterwarnings = ['error']\n")

    def call(*arguments: str):
        return pytester.run(sys.executable, "-m", "pytest", "-p", "vcbench.pytest_plugin", *arguments)

    return call


STUDY_IDS = [
    "simulations/tiny.toml::convergence_rate[[]ai, residual:var, oneway n_groups=6]",
    "simulations/tiny.toml::convergence_rate[[]ai, residual:var, oneway n_groups=8]",
    "simulations/tiny.toml::max_abs_difference[[]moments, oneway n_groups=8]",
    "simulations/tiny.toml::coverage[[]ai, (Intercept), oneway n_groups=6]",
]


def test_plugin__without_its_option_collects_nothing(here):
    assert here("--co", "simulations", "models").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_plugin__each_check_and_each_published_fit_is_an_item_and_runs_are_kept(here, pytester):
    result = here("--vcbench", "simulations/", "models/", "-v", "-rxf")
    result.assert_outcomes(passed=4, failed=2, xfailed=1)
    result.stdout.fnmatch_lines([f"{STUDY_IDS[0]} PASSED*", f"{STUDY_IDS[1]} PASSED*", f"{STUDY_IDS[2]} FAILED*",
                                 f"{STUDY_IDS[3]} XFAIL*"])  # fmt: skip
    result.stdout.fnmatch_lines(
        [
            "models/six.toml::six[[]auto reml] PASSED*",
            "models/six.toml::six[[]auto reml] #2 PASSED*",
            "models/six.toml::six[[]em ml] FAILED*",
        ]
    )
    result.stdout.fnmatch_lines(["FAIL  (Intercept): max_abs_difference *, target 100 ± 1e-09"])
    result.stdout.fnmatch_lines(["FAIL  em ml: 1 number: beta[[](Intercept)] is *, published 99.0; nobody"])
    assert "Traceback" not in result.stdout.str()
    (run,) = (pytester.path / ".pytest_cache" / "d" / "vcbench").glob("tiny-*/run.json")
    made = {path.name: path.stat().st_mtime_ns for path in (run.parent / "rows").iterdir()}

    os.remove(pytester.path / "models" / "data" / "y.csv")
    (pytester.path / "simulations" / "bad.toml").write_text(HEAD.replace("seed = 1", "sed = 1"))
    (pytester.path / "simulations" / "broken.toml").write_text("title = ")
    again = here("--vcbench", "--vcbench-inconclusive", "fail", "-k", "coverage or six", "simulations/", "models",
                 "--continue-on-collection-errors", "--junit-xml", "all.xml")  # fmt: skip
    again.assert_outcomes(failed=1, skipped=3, errors=2, deselected=3)
    again.stdout.fnmatch_lines(["*bad.toml:4:1  *unknown key `sed`*", "*not valid TOML*"])
    again.stdout.fnmatch_lines(["INCONCLUSIVE  (Intercept): coverage * (n = 6), target 0.95 ± 0.02"])
    assert {path.name: path.stat().st_mtime_ns for path in (run.parent / "rows").iterdir()} == made
    assert 'name="coverage[ai, (Intercept), oneway n_groups=6]"' in (pytester.path / "all.xml").read_text()


def test_entry_point__is_declared():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nvcbench = "vcbench.pytest_plugin"' in text
