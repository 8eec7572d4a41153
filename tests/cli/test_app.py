"""The command line's frame: exit codes, where things are printed, and explanations for every ending and error."""

import json

import pytest

from vcbench.cli.app import run
from vcbench.cli.explain import code_of, explanation, explanations
from vcbench.errors import VcbenchError
from vcbench.status import Status


def error_classes() -> list[str]:
    return [error.__name__ for error in VcbenchError.__subclasses__()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fti"], ['Unknown command "fti"', 'Did you mean "fit"?']),
        (["fit", "--metod", "em"], ["--metod", "--method"]),
        (["fit", "--criterion", "mle"], ['"mle"', '"ml"', '"reml"']),
        (["fit"], ["either a card, or a data file and a formula"]),
        (["fit", "--data", "x.csv"], ["--formula is missing"]),
        (["fit", "one_way", "--data", "x.csv", "--formula", "y ~ 1"], ["either a card"]),
        (["fit", "--data", "no.csv", "--formula", "y ~ 1 + (1|g)"], ["no data file no.csv"]),
        (["fit", "one_wya"], ["unknown card `one_wya`", "Did you mean `one_way`?"]),
        (["explain"], ["CODE"]),
        (["explain", "VC-BOUNDRY"], ["Choose from", "Did you mean `VC-BOUNDARY`?"]),
    ],
)
def test_wrong_use__is_said_on_stderr_with_exit_code_2(arguments, words, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert [word for word in words if word not in err] == []


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["study", "--help"], ["study", "run", "--help"]])
def test_help__is_printed_with_exit_code_0(arguments, capsys):
    assert run(arguments) == 0
    assert "Usage: vcbench" in capsys.readouterr().out


def test_interrupt__has_exit_code_130(monkeypatch, capsys):
    def interrupted(word):
        raise KeyboardInterrupt

    monkeypatch.setattr("vcbench.cli.explain.explanation", interrupted)
    assert run(["explain", "VC-DATA"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_bug__is_not_hidden(monkeypatch):
    def broken(word):
        raise RuntimeError("a bug")

    monkeypatch.setattr("vcbench.cli.explain.explanation", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["explain", "VC-DATA"])


def test_explain__every_status_and_every_error_has_its_paragraph():
    explained = {name for item in explanations().values() for name in item.names}
    assert {str(status) for status in Status} | set(error_classes()) <= explained
    assert all(item.title and item.text and item.todo for item in explanations().values())


@pytest.mark.parametrize("word", ["VC-BOUNDARY", "vc_boundary", "boundary", "AT_BOUNDARY", "at-boundary"])
def test_explain__a_code_is_found_by_any_of_its_names(word):
    assert explanation(word).code == "VC-BOUNDARY"
    assert code_of("DataError") == "VC-DATA"


def test_explain__json_says_its_schema(capsys):
    assert run(["explain", "MAX_ITER", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["code"]) == ("vcbench/explanation/1", "VC-MAX-ITER")


def test_explain__text_is_on_stdout_alone(capsys):
    assert run(["explain", "VC-STORE"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("VC-STORE  ")
    assert "What to do:" in out
    assert err == ""
