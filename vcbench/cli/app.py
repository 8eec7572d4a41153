"""The command line's frame: commands, exit codes, and how errors are said.

Results go to stdout, progress and errors to stderr. Exit codes: 0 holds; 1 falls short, or a bug; 2 usage,
specification or data invalid; 3 no FAIL but some INCONCLUSIVE; 130 stopped, by Ctrl-C or a full disk, and resumable.
Commands import what they need when they run, so that `vcbench --help` is quick.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from vcbench.cli import checking, fitting, genetics, history, measuring, sbc, studies, writing
from vcbench.errors import RunStopped, VcbenchError

HOLDS, FALLS_SHORT, INVALID, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130

app = App(
    name="vcbench",
    help="Variance components: say a model once, fit it by every method, compare them honestly.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    version=lambda: f"vcbench {version()}",
)
study = App(name="study", help="Simulation and comparison studies: check, run, watch, collect and replay them.")
study.command(writing.new)
study.command(studies.check)
study.command(studies.run)
study.command(studies.status)
study.command(studies.collect)
study.command(studies.replay)
app.command(fitting.fit)
app.command(fitting.compare)
app.command(genetics.heritability)
app.command(study)
app.command(studies.report)
app.command(writing.schema)
app.command(measuring.measures)
app.command(sbc.sbc)
app.command(checking.check)
app.command(history.history)
app.command(checking.explain)
app.register_install_completion_command(help="Teach your shell to complete vcbench commands.")


def version() -> str:
    """The installed version."""
    from importlib.metadata import version as installed

    return installed("vcbench")


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. A bug is not caught: it shows its traceback and exits with 1."""
    from rich.console import Console

    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if "--quiet" in arguments else "default")
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # it needs the message alone
            result = app(
                arguments,
                exit_on_error=False,
                error_console=errors,
                error_formatter=lambda error: f"error: {error}",
                result_action="return_value",
            )
    except CycloptsError:
        return INVALID
    except RunStopped as error:
        errors.print(f"stopped: {error}")
        return INTERRUPTED
    except VcbenchError as error:
        errors.print(f"error: {error}")
        return INVALID
    except KeyboardInterrupt:
        errors.print("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone (`vcbench … | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return result if isinstance(result, int) else HOLDS


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """The `vcbench` program."""
    # Numba at its first level compiles our loops in two thirds of the time and they run as fast
    os.environ.setdefault("NUMBA_OPT", "1")
    if sys.argv[1:2] == ["heritability"]:  # matrix products take most of its time
        genetics.with_fast_blas()
    raise SystemExit(run(sys.argv[1:]))
