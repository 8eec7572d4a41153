"""The options of moment methods on the command line."""

import json

import pytest

from vcbench.cli.app import run


def estimates(capsys, *arguments):
    assert run(["fit", "one_way", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_fit__takes_the_type_of_anova(capsys):
    fits = [estimates(capsys, "--method", "anova", *more) for more in ((), ("--type", "3"))]
    assert [f["extra"]["type"] for f in fits] == [1, 3]
    assert fits[0]["extra"]["anova"][0]["df"] == fits[1]["extra"]["anova"][0]["df"]
    assert fits[0]["theta"] == pytest.approx(fits[1]["theta"])  # one term: one table


def test_fit__takes_the_prior_of_minque(capsys):
    zero, one, ends = (estimates(capsys, "--method", "minque", "--prior", p) for p in ("0", "1", "iterated"))
    assert zero["theta"] == estimates(capsys, "--method", "moments")["theta"]
    assert one["method"] == "minque"
    assert ends["theta"] == pytest.approx(estimates(capsys, "--method", "ai")["theta"], rel=1e-5)


def test_fit__a_prior_that_makes_no_sense_is_an_error_of_use(capsys):
    assert run(["fit", "one_way", "--method", "minque", "--prior", "2"]) == 2
    assert "`prior` is '2'; it must be 0, 1, \"iterated\"" in capsys.readouterr().err
