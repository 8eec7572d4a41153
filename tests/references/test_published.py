"""Published answers: every fit of the index holds, and lme4's re-fits are reproduced to their estimates.

The index holds, for each fit, a re-fit (mostly by lme4 1.1-31, its optimum polished by Newton steps: log-likelihood,
estimates and standard errors), and the numbers printed by other programs and books, with the tolerance of their digits.
`table.py` fits them as `models.toml` says; `uv run python tests/references/table.py` prints what is tested here.
"""

import re
from functools import cache
from types import SimpleNamespace

import pytest
from references import table
from references.table import Number, Row

import vcbench as vc

FOLDER = table.shared_folder()
if FOLDER is None:
    pytest.skip("the shared data are not here (VCBENCH_DATA)", allow_module_level=True)

INDEX = table.index(FOLDER)
RECIPES = table.recipes()["fit"]
LME4 = [id for id, (_, fit) in INDEX.items() if fit["software"].startswith("lme4")]
SKIPPED = {id: recipe["skip"] for id, recipe in RECIPES.items() if "skip" in recipe}

row = cache(lambda id: table.row(id, FOLDER))


@pytest.mark.parametrize("id", [id for id in INDEX if id not in SKIPPED])
def test_published__numbers_are_met_and_the_likelihood_is_no_lower(id):
    assert row(id).wrong == []


def our_name(group: str, *effects: str) -> str:
    """Our name of a parameter by lme4's group and effects; `g.1`, a group's second term, is of the component g here."""
    if group == "Residual":
        return "residual:var"
    group = re.sub(r"\.1$", "", group)
    return f"{group}:cov({','.join(effects)})" if len(effects) == 2 else f"{group}:var({effects[0]})"


@pytest.mark.parametrize("id", LME4)
def test_refit__is_reproduced(id):
    refit, fit = INDEX[id][1], row(id).fit
    assert fit.status.ok, fit.message
    # the index prints twelve digits of ℓ
    assert fit.loglik == pytest.approx(refit["loglik"], rel=1e-9)
    # lme4 stops at a step in its own parameters, and near a boundary well short of our 1e-6 standard errors
    variances = {our_name(e["group"], *filter(None, (e["var1"], e["var2"]))): e["vcov"] for e in refit["varcomp"]}
    scale = max(map(abs, variances.values()))
    assert fit.theta.to_dict() == pytest.approx(variances, rel=1e-5, abs=1e-6 * scale)
    assert fit.beta.to_dict() == pytest.approx(refit["beta"], rel=1e-6, abs=1e-7 * fit.beta.abs().max())
    # lme4's own end, where it was not polished, is 5e-5 standard errors of θ from the optimum (InstEval)
    rel = 1e-5 if "no polish" in refit["software"] else 1e-6
    assert fit.beta_se.to_dict() == pytest.approx(refit["beta_se"], rel=rel)


def test_index__every_fit_is_said_and_every_number_read():
    assert set(RECIPES) == set(INDEX)
    assert SKIPPED == {}
    published = [(id, entry) for id, (_, fit) in INDEX.items() for entry in fit.get("published", [])]
    for id, entry in published:
        assert table.expression(id, entry["quantity"])
    wrong = [(id, entry["quantity"]) for id, entry in published if not entry["agrees"]]
    assert len(published) == 359
    assert wrong == [
        ("rail.ml", "se:(Intercept)"),
        ("ratweight.male.ml", "loglik"),
        ("ratweight.male.ml", "beta:week"),
        ("ratweight.male.ml", "beta:week2"),
    ]


def number(ours, agrees=True):
    return Number("sigma", 2.0, 0.01, agrees, ours, "" if ours is not None else "the fit has none")


@pytest.mark.parametrize(
    ("numbers", "difference", "right"),
    [
        ((number(2.009),), 0.0, True),
        ((number(2.011),), 0.0, False),
        ((number(None),), 0.0, False),
        ((number(float("nan")),), 0.0, False),
        ((number(2.3, agrees=False),), 0.0, True),
        ((number(2.009, agrees=False),), 0.0, False),  # an error of the publication must not be reproduced
        ((number(None, agrees=False),), 0.0, False),
        ((), 3.0, True),
        ((), -0.9e-6, True),
        ((), -1.1e-6, False),
        ((), float("nan"), False),
    ],
)
def test_verdict__holds_what_agrees_and_refuses_what_does_not(numbers, difference, right):
    fit = SimpleNamespace(loglik=-100.0 + difference, kernel="dense")
    r = Row("a", -100.0, numbers, fit)
    assert (r.wrong == []) is right
    assert ("  <-" in next(table.lines(r, False))) is not right


def test_command__prints_a_fit_and_says_by_its_exit_whether_it_holds(capsys, monkeypatch):
    assert table.main(["--fit", "rail.*"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"rail\.ml +grouped +-64\.280018469 +-64\.280018469 +\S+ +3/4 ", out)
    assert "must not be met: rail.ml se:(Intercept) printed 9.554026, ours 9.28484" in out
    assert "2 of 2 fits hold (0 skipped); 7 of 7 numbers that agree are met, 0 of 1 that do not." in out
    monkeypatch.setitem(RECIPES, "rail.ml", {"formula": "travel ~ 1 + (1 | Rails)"})
    assert table.main(["--fit", "rail.ml"]) == 1
    assert "column `Rails` is not in the data" in capsys.readouterr().out
    assert table.main(["--fit", "nothing"]) == 2


@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize(
    "id", ["dyestuff.reml", "rail.reml", "vca.ep05a2_1.bal.reml", "vca.ep05a2_2.bal.reml", "vca.ep05a2_3.bal.reml"]
)
def test_anova__of_balanced_data_meets_the_published_components(id, type):
    """For balanced data with no negative estimate, REML's printed components are those of the analysis of variance."""
    fit = vc.fit(table.build_model(id, FOLDER), "anova", type=type)
    met = [table.number(id, fit, entry) for entry in INDEX[id][1]["published"]]
    assert [n.quantity for n in met if not n.right] == []
    assert fit.loglik == pytest.approx(row(id).fit.loglik, abs=1e-9)
