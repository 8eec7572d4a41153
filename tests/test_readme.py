"""The README's words are true: its example runs, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from vcbench.cli.app import app, run, study

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
COMMANDS = re.findall(r"^vcbench ((?:study )?[a-z]+)", README, re.MULTILINE)


def test_example__is_fifteen_lines_and_runs(monkeypatch, capsys):
    assert len(EXAMPLE.splitlines()) <= 15
    monkeypatch.chdir(CHECKOUT)
    exec(EXAMPLE, {})
    out = capsys.readouterr().out
    assert "612.09  288.78" in out  # the variance between subjects and its standard error
    assert "CONVERGED 30 -875.9696" in out
    assert "AGREE  4 of 4 REML methods" in out


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_command__exists(command, capsys):
    assert run([*shlex.split(command), "--help"]) == 0
    assert f"Usage: vcbench {command}" in capsys.readouterr().out


def test_commands__every_one_is_shown():
    commands = {name for name in app if not name.startswith("-")} - {"study"}
    commands |= {f"study {name}" for name in study if not name.startswith("-")}
    assert commands == set(COMMANDS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_link__leads_to_a_file_of_the_project(target):
    assert (CHECKOUT / target).exists(), "publish the report: vcbench report runs/quickstart --publish"
