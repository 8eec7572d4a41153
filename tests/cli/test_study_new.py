"""`vcbench study new`: by flags and by questions it writes a study that holds, and nothing over another."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcbench.cli.app import run
from vcbench.study.draft import file_name, read_values, sentence
from vcbench.study.schema import study_schema
from vcbench.study.study import Study

AR1 = "ar1(time, group=subject)"
MODEL = 'design = { subject = [10, 20], time = { count = 4 } }; theta = { "residual:rho" = [0.0, 0.5] }'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_new__without_questions_takes_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "new", "--yes"]) == 0
    (path,) = Path().glob("*.toml")
    spec = Study.from_toml(path).spec
    assert len(spec.conditions) == 6
    assert [m.name for m in spec.methods] == ["ai", "moments"]
    out = capsys.readouterr().out
    assert f"wrote {path}\n6 conditions · 6000 fits · roughly" in out
    assert out.endswith(f"vcbench study check {path}\nvcbench study run {path}\n")
    assert path.read_text(encoding="utf-8").count("#") >= 4


@pytest.mark.parametrize(
    ("flags", "conditions", "methods"),
    [
        (["--generator", "model", "--formula", "y ~ time + (1 | subject)", "--residual", AR1, "--set", MODEL,
          "--estimands", "residual:rho, time"], 4, ["ai", "lbfgs"]),
        (["--card", "random_slope", "--methods", "ai,px-em", "--replicates", "50"], 1, ["ai", "px-em"]),
        (["--data", "sleepstudy", "--formula", "Reaction ~ Days + (Days | Subject)"], 1, ["ai", "moments"]),
        (["--generator", "snp_traits", "--set", "n = 50; p = 60; rho_g = 0, 0.5"], 2,
         ["correlation-moments", "correlation-reml"]),
    ],
)  # fmt: skip
def test_new__by_flags_writes_a_study_that_holds(
    flags: list[str], conditions: int, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reader and an independent validator of the schema accept what was written; `study check` prices it."""
    import tomllib

    import jsonschema

    assert run(["study", "new", "s", "--yes", "--title", "Mine", *flags]) == 0
    spec = Study.from_toml(tmp_path / "s.toml").spec
    assert spec.table.title == "Mine"
    assert len(spec.conditions) == conditions
    assert [m.name for m in spec.methods] == methods
    raw = tomllib.loads((tmp_path / "s.toml").read_text(encoding="utf-8"))
    assert not list(jsonschema.Draft7Validator(study_schema()).iter_errors(raw))
    capsys.readouterr()
    assert run(["study", "check", "s.toml"]) == 0
    assert "The specification holds" in capsys.readouterr().out


def test_new__with_a_precision_target_ends_when_it_is_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "new", "s.toml", "--yes", "--precision", "0.01"]) == 0
    table = Study.from_toml(tmp_path / "s.toml").spec.table
    assert table.open_ended
    assert table.precision["coverage"].mcse == 0.01
    assert table.n_max == 2 * 475  # p(1 − p)/MCSE² = 0.05·0.95/0.01²
    assert "fits at most" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "is there already"),
        (["--card", "one_way", "--generator", "one_way", "--overwrite"], "--generator and --card each say"),
        (["--replicates", "5", "--precision", "0.1", "--overwrite"], "--replicates and --precision"),
        (["--methods", "aii", "--overwrite"], "Did you mean `ai`"),
        (["--set", "n_group = 5", "--overwrite"], "Did you mean `n_groups`"),
        (["--set", "n_groups = five", "--overwrite"], "no value of TOML"),
        (["--estimands", "residual:vra", "--overwrite"], "Did you mean `residual:var`"),
        (["--data", "sleepstudy", "--overwrite"], "needs a --formula"),
    ],
)
def test_new__refuses_and_leaves_the_file_as_it_is(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.toml").write_text("mine", encoding="utf-8")
    assert run(["study", "new", "s.toml", "--yes", *flags]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "s.toml").read_text(encoding="utf-8") == "mine"


def test_new__overwrites_when_told(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("mine", encoding="utf-8")
    assert run(["study", "new", "s.toml", "--yes", "--overwrite"]) == 0
    assert Study.from_toml(tmp_path / "s.toml").spec.conditions


def test_new__without_a_terminal_asks_for_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert run(["study", "new", "s.toml"]) == 2
    assert "there is no terminal. Pass --yes" in capsys.readouterr().err


class Terminal:
    """`vcbench study new` in a pseudo-terminal: expect a prompt, send a line."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.master, worker = pty.openpty()
        # a job in the background starts deaf to SIGINT, and so do its children
        hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code = hear + "from vcbench.cli.app import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "study", "new", *arguments], stdin=worker, stdout=worker, stderr=worker,
            cwd=folder, env={**os.environ, "TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1"}, close_fds=True,
        )  # fmt: skip
        os.close(worker)
        self.seen, self.at = "", 0

    def expect(self, prompt: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while prompt not in self.seen[self.at :]:
            assert time.monotonic() < end, f"waiting for {prompt!r} after:\n{self.seen}"
            if not select.select([self.master], [], [], 0.5)[0]:
                continue
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the program has ended
                assert prompt in self.seen[self.at :], self.seen
        self.at = self.seen.index(prompt, self.at) + len(prompt)

    def answer(self, prompt: str, line: str) -> None:
        self.expect(f"{prompt} (")
        self.expect("): ")
        os.write(self.master, f"{line}\n".encode())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal([], tmp_path)
    yield made
    made.process.kill()
    made.process.wait(30)
    os.close(made.master)


def test_new__asks_in_a_terminal_and_asks_again_what_was_wrong(terminal: Terminal, tmp_path: Path) -> None:
    terminal.answer("Title", "Serial residuals")
    terminal.answer("Question", "")
    terminal.answer("What draws the data", "modell")
    terminal.expect("is no generator")
    terminal.answer("What draws the data", "model")
    terminal.answer("Design", "subject = [8, 16], time = { count = 5 }")
    terminal.answer("Formula", "y ~ time + (1 | subjec)")
    terminal.expect("Did you mean `subject`?")
    terminal.answer("Formula", "y ~ time + (1 | subject)")
    terminal.answer("True subject:var((Intercept))", "0.5, 2")
    terminal.answer("True residual:var", "")
    terminal.answer("Methods", "ai em")
    terminal.answer("Estimands", "residual:vra")
    terminal.expect("Did you mean `residual:var`?")
    terminal.answer("Estimands", "residual:var")
    terminal.answer("Replicates", "20")
    terminal.answer("File", "mine")
    terminal.expect("vcbench study run mine.toml")
    assert terminal.process.wait(30) == 0
    spec = Study.from_toml(tmp_path / "mine.toml").spec
    assert spec.table.title == "Serial residuals"
    assert spec.table.estimands == {"residual:var": "The variance of the residuals."}
    assert [(c.factors["subject"], c.factors["subject:var((Intercept))"]) for c in spec.conditions] == [
        (8, 0.5), (8, 2.0), (16, 0.5), (16, 2.0)]  # fmt: skip
    assert [m.name for m in spec.methods] == ["ai", "em"]
    assert spec.table.replicates == 20


def test_new__ctrl_c_writes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.expect("Title (")
    terminal.expect("): ")
    time.sleep(1.0)  # between its prompt and its reading a process hears a signal only after the next line
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(30) == 130
    assert not list(tmp_path.iterdir())


def test_words__of_a_draft() -> None:
    assert file_name("Does EM find σ² at n = 10?") == "does_em_find_at_n_10.toml"
    assert read_values('a = 1, 2; b = "x"; c = { d = 3 }; e = [[1], [2]]') == {
        "a": [1, 2], "b": "x", "c": {"d": 3}, "e": [[1], [2]]}  # fmt: skip
    assert sentence("subject:cov((Intercept),time)") == "The covariance of subject, (Intercept),time."
    assert sentence("residual:rho") == "The correlation of the residuals."
