"""What a study will cost: fits counted, open-ended ones by their targets, and costs by the structure of the model."""

import json

import pytest

from vcbench.cli.app import run
from vcbench.study.price import expected_replicates, price_study, seconds_per_fit
from vcbench.study.spec import read_spec

HEAD = 'title = "T"\nquestion = "Q?"\nseed = 1\nmethods = ["ai"]\n'
DATA = '[[data]]\ngenerator = "one_way"\nn_groups = [6, 30]\n'


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("precision = { coverage = 0.005 }\n", 2000),  # 0.95·0.05/0.005² = 1900, in blocks of 250
        ("precision = { coverage = 0.005, bias = 0.1 }\nblock_size = 100\n", 1900),
        ("level = 0.5\nblock_size = 1\nprecision = { be_coverage = 0.05 }\n", 100),
        ("precision = { bias = 0.1 }\n", None),
        ("replicates = 400\nprecision = { coverage = 0.1 }\n", 500),
    ],
)
def test_expected__replicates_of_a_coverage_target(keys: str, expected: int | None) -> None:
    assert expected_replicates(read_spec(HEAD + keys + DATA, "s.toml")) == expected


def test_check__prices_what_is_open_ended(tmp_path, capsys) -> None:
    (tmp_path / "s.toml").write_text(HEAD + "precision = { coverage = 0.005 }\n" + DATA, encoding="utf-8")
    assert run(["study", "check", str(tmp_path / "s.toml")]) == 0
    out = capsys.readouterr().out
    assert "Coverage as claimed reaches its target at 2000 replicates: 4000 fits" in out
    assert run(["study", "check", str(tmp_path / "s.toml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["fits"], said["n_max"], said["expected_replicates"]) == (500, 2000, 2000)
    (tmp_path / "s.toml").write_text(HEAD + "precision = { coverage = 0.001 }\n" + DATA, encoding="utf-8")
    assert run(["study", "check", str(tmp_path / "s.toml")]) == 0
    assert "n_max = 2000 ends the run before" in capsys.readouterr().out


def test_price__of_a_model_follows_its_structure() -> None:
    """Small units cost little more when there are more of them; one unit of all rows costs with their cube."""
    text = HEAD + "replicates = 10\n" + (
        '[[data]]\ngenerator = "model"\ndesign = { row = [10, 20], col = 10 }\nformula = "y ~ 1"\n'
        'residual = ["ar1(col, group=row)", "ar1(row) * ar1(col)"]\ntheta = { "residual:var" = 1.0, RHO }\n'
    )  # fmt: skip
    one = text.replace('["ar1(col, group=row)", "ar1(row) * ar1(col)"]', '"ar1(col, group=row)"')
    small = read_spec(one.replace("RHO", '"residual:rho" = 0.5'), "s.toml")
    two = text.replace('["ar1(col, group=row)", "ar1(row) * ar1(col)"]', '"ar1(row) * ar1(col)"')
    field = read_spec(two.replace("RHO", '"residual:rho_row" = 0.5, "residual:rho_col" = 0.5'), "s.toml")
    (a, b), (c, d) = (
        [seconds_per_fit(cell, spec.methods[0])[1] for cell in spec.conditions] for spec in (small, field)
    )
    assert b / a < 1.5
    assert 6 < d / c < 8
    assert price_study(field)[0].fits == 20
