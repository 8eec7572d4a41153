"""What is committed: readable on a forge, the same bytes again, and nobody's host or path in it."""

import csv
import json
import re

from vcbench.report import publish


def test_publish__writes_what_a_forge_shows(published):
    assert published.name == "quickstart"
    assert {p.name for p in published.iterdir()} == {"README.md", "figures", "summary.csv", "provenance.json"}
    text = (published / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]{20,}\]\((figures/[a-z0-9-]+\.svg)\)", text)
    assert sorted(shown) == sorted(f"figures/{p.name}" for p in (published / "figures").iterdir())
    assert "## What this study shows" in text
    assert text.index("What this study shows") < text.index("## Scorecard") < text.index("## Real data")
    assert "| method |" in text


def test_publish__names_no_host_and_no_path(published):
    for path in published.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "secret" not in text, path.name
            assert "/tmp" not in text, path.name
    record = json.loads((published / "provenance.json").read_text(encoding="utf-8"))
    assert record["provenance"] == [
        {"numpy": "2.3.4", "processor": "x86_64, 2 cores", "python": "3.13.1", "vcbench": "0.1.0"}
    ]
    assert record["seed"] == 20261121


def test_publish__twice_gives_the_same_bytes(run_folder, published, tmp_path):
    again = publish(run_folder, tmp_path)
    for path in published.rglob("*"):
        if path.is_file():
            assert (again / path.relative_to(published)).read_bytes() == path.read_bytes()


def test_publish__leaves_no_picture_of_an_earlier_report(run_folder, published):
    stray = published / "figures" / "stray.svg"
    stray.write_text("old")
    publish(run_folder, published.parent)
    assert not stray.exists()


def test_summary__holds_every_measure_of_every_cell(published, found):
    with (published / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["condition", "label", "parameter", "method", "measure", "value", "mcse", "n"]
    keys = {(r["condition"], r["parameter"], r["method"], r["measure"]) for r in rows}
    for condition in ("002", "005"):
        for method in ("ai", "moments", "nuts"):
            for measure in ("bias", "empirical_se", "coverage"):
                assert (condition, "residual:var", method, measure) in keys
            assert (condition, "", method, "cpu_seconds") in keys
    assert ("001", "batch:var", "ai", "estimate") in keys
    value = next(
        float(r["value"])
        for r in rows
        if (r["condition"], r["parameter"], r["method"], r["measure"]) == ("005", "residual:var", "ai", "bias")
    )
    cells = found.cells.set_index(["condition", "parameter", "method"])
    assert abs(value - cells.loc[("005", "residual:var", "ai"), "bias"]) <= 1e-6 * abs(value)
