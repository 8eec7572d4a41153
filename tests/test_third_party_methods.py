"""Methods of other packages, by the entry-point group `vcbench.methods`: the example in tests/example_method."""

import importlib
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.methods import METHODS

EXAMPLE = Path(__file__).parent / "example_method"


def install(folder: Path, entries: dict[str, str] | None = None) -> None:
    """The example as an installer would lay it in a folder of packages: its module, and the metadata of its project."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copy(EXAMPLE / "vcbench_ols.py", folder)
    info = folder / f"vcbench_ols-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n")
    entries = entries or project["entry-points"]["vcbench.methods"]
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[vcbench.methods]", *lines, ""]))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of packages on the path, with a registry that has not been looked at yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(METHODS, "_known", {})
    importlib.invalidate_caches()
    return tmp_path


def one_way() -> vc.Model:
    data = pd.read_csv(Path(__file__).parents[1] / "models" / "data" / "dyestuff.csv")
    return vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", data)


def test_example__fits_by_name_with_its_options(packages):
    install(packages)
    model = one_way()
    fit = vc.fit(model, "ols")
    assert fit.theta.to_numpy() == pytest.approx([0.0, np.var(model.y, ddof=1)])
    assert fit.beta_se.iloc[0] == pytest.approx(np.std(model.y, ddof=1) / np.sqrt(30))
    assert vc.fit(model, "ols", ddof=0).theta.iloc[-1] == pytest.approx(np.var(model.y))
    assert list(vc.compare(model, methods=["ai", "ols"]).fits) == ["ai", "ols"]
    with pytest.raises(MethodError, match=r"no option `dof`\. It has ddof, seed\. Did you mean `ddof`"):
        vc.fit(model, "ols", dof=0)


def test_example__runs_in_a_study(packages, tmp_path):
    from vcbench.study.study import Study

    install(packages)
    text = """
    title = "A method of one's own"
    question = "Does it run?"
    seed = 1
    replicates = 4
    methods = ["ai", { name = "ols", label = "ols, n", ddof = 0 }]
    [[data]]
    generator = "one_way"
    n_groups = 6
    group_size = 4
    icc = 0.4
    """
    run = Study.from_text(text, "own").run(tmp_path / "run", workers=1, progress="none", report=False)
    rows = run.rows[run.rows["method"] == "ols, n"]
    assert set(rows["status"]) == {"CONVERGED"}
    assert (rows.loc[rows["parameter"] == "group:var((Intercept))", "estimate"] == 0).all()
    assert len(rows) == 4 * 3


def test_example__is_as_short_as_it_says():
    lines = (EXAMPLE / "vcbench_ols.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"gone": "vcbench_nowhere:METHOD"}, "No module named 'vcbench_nowhere'"),
        ({"fit": "vcbench_ols:fit"}, "is a function, not a vcbench.methods.Method"),
        ({"ai": "vcbench_mine:AI"}, "has the name of a method of vcbench's own"),
    ],
)
def test_entries__that_are_no_methods_are_left_out_with_a_warning_that_names_them(packages, entries, why):
    install(packages, entries)
    mine = 'from vcbench.methods import Method\nAI = Method("ai", "peer", ("none",), load="x:y")\n'
    (packages / "vcbench_mine.py").write_text(mine)
    with pytest.warns(UserWarning, match=f"(?s)vcbench-ols.*{next(iter(entries))}.*{why}"):
        assert METHODS["ai"].kind == "solver"
