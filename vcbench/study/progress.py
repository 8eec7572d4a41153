"""How a running study shows itself: a live display on a terminal, lines elsewhere, JSON for programs, or nothing.

All of it goes to stderr; stdout is for results.
"""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

from vcbench.errors import SpecError, did_you_mean
from vcbench.numbers import count, seconds
from vcbench.study.tally import Tally
from vcbench.study.work import Result

Kind = Literal["auto", "plain", "json", "none"]
KINDS = ("auto", "plain", "json", "none")
EVERY_SHARE, EVERY_SECONDS = 0.05, 60.0


class Progress(Protocol):
    """What a display is told."""

    def start(self, tally: Tally, title: str, seed: int) -> None: ...

    def advance(self, tally: Tally, result: Result | None) -> None:
        """After each task, and now and then (None) while tasks run."""

    def end(self, tally: Tally, lines: list[str], interrupted: bool) -> None: ...


def choose_progress(kind: str, stream: TextIO | None = None) -> Progress:
    """The display of that kind; "auto" is live on a terminal and plain elsewhere. SpecError for an unknown kind."""
    stream = stream or sys.stderr
    if kind not in KINDS:
        raise SpecError(f"progress must be one of {', '.join(KINDS)}, not `{kind}`.{did_you_mean(kind, KINDS)}")
    if kind == "none":
        return Silent()
    if kind == "json":
        return Json(stream)
    return Live(stream) if kind == "auto" and stream.isatty() else Plain(stream)


class Silent:
    """Shows nothing."""

    def start(self, tally: Tally, title: str, seed: int) -> None:
        return

    def advance(self, tally: Tally, result: Result | None) -> None:
        return

    def end(self, tally: Tally, lines: list[str], interrupted: bool) -> None:
        return


class Plain:
    """A line every 5 % or 60 s, whichever comes first."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.share, self.at = stream, 0.0, time.monotonic()

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self.stream, flush=True)

    def start(self, tally: Tally, title: str, seed: int) -> None:
        self.say(*heading(tally, title, seed))
        self.share = tally.done / max(tally.total, 1)

    def advance(self, tally: Tally, result: Result | None) -> None:
        share = tally.done / max(tally.total, 1)
        early = share - self.share < EVERY_SHARE and time.monotonic() - self.at < EVERY_SECONDS
        if early and not (result is not None and tally.done == tally.total):
            return
        self.share, self.at = share, time.monotonic()
        eta = tally.eta()
        left = "?" if eta is None else f"{eta:.0f}s"
        self.say(f"{now()} {share:.0%} {tally.done}/{tally.total} eta={left} fail={tally.failed}")

    def end(self, tally: Tally, lines: list[str], interrupted: bool) -> None:
        self.say(*lines)


class Json:
    """NDJSON: start, tick, condition_done, fit_failed, end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def emit(self, event: str, **values: Any) -> None:
        line = {"schema": "vcbench/progress/1", "event": event, "time": now(), **values}
        print(json.dumps(line, ensure_ascii=False), file=self.stream, flush=True)

    def start(self, tally: Tally, title: str, seed: int) -> None:
        spec = tally.spec
        methods = [method.label for method in spec.methods]
        self.emit("start", title=title, spec_hash=spec.spec_hash, seed=seed, total=tally.total, done=tally.done,
                  workers=tally.workers, conditions=len(spec.conditions), methods=methods)  # fmt: skip

    def advance(self, tally: Tally, result: Result | None) -> None:
        if result is None:
            return
        condition = tally.spec.conditions[result.task.condition].id
        for part in result.parts:
            label = tally.spec.methods[part.method].label
            for replicate, status, message in part.failures:
                row = f"{condition}/{replicate}/{label}"
                self.emit("fit_failed", row=row, status=status, message=message)
        self.emit("tick", done=tally.done, total=tally.total, eta=tally.eta(), failed=tally.failed)
        if tally.condition_done(result.task.condition):
            self.emit("condition_done", condition=condition)

    def end(self, tally: Tally, lines: list[str], interrupted: bool) -> None:
        self.emit("end", done=tally.done, total=tally.total, failed=tally.failed, interrupted=interrupted,
                  seconds=round(tally.elapsed, 3), warnings=dict(tally.warnings))  # fmt: skip


class Live:
    """A dozen lines that redraw themselves."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.console = Console(file=stream, highlight=False)
        self.live = RichLive(console=self.console, refresh_per_second=8, transient=True)

    def start(self, tally: Tally, title: str, seed: int) -> None:
        self.console.print(*heading(tally, title, seed), sep="\n", markup=False)
        self.live.start()

    def advance(self, tally: Tally, result: Result | None) -> None:
        self.live.update(self._screen(tally))

    def end(self, tally: Tally, lines: list[str], interrupted: bool) -> None:
        self.live.stop()
        self.console.print(*lines, sep="\n", markup=False, soft_wrap=True)

    def _screen(self, tally: Tally) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        spec, eta = tally.spec, tally.eta()
        rate = (tally.done - tally.resumed) / max(tally.elapsed, 1e-9)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            " all       ", ProgressBar(total=max(tally.total, 1), completed=tally.done, width=30),
            f"{tally.done / max(tally.total, 1):4.0%}  {count(tally.done)}/{count(tally.total)}  {count(rate)} fit/s"
            f"  ETA {seconds(eta) if eta is not None else '?'}",
        )  # fmt: skip
        at = spec.conditions[tally.current]
        factors = ", ".join(f"{name}={level}" for name, level in at.factors.items())
        lines = [f" condition  {tally.current + 1}/{len(spec.conditions)}  {factors}"]
        for label, endings in list(tally.endings.items())[:8]:
            lines.append(f" {label:<10} {ending_words(endings)}")
        lines.append(" Ctrl-C stops cleanly; the same command continues.")
        return Group(bar, Text("\n".join(lines), overflow="ellipsis", no_wrap=True))


def ending_words(endings: Any) -> str:
    """`980 ok · 12 at the boundary · 8 MAX_ITER`."""
    total = sum(endings.values())
    good = endings.get("CONVERGED", 0) + endings.get("AT_BOUNDARY", 0)
    words = [f"{count(good)} of {count(total)} ok"]
    if endings.get("AT_BOUNDARY"):
        words.append(f"boundary {endings['AT_BOUNDARY'] / total:.1%}")
    words += [f"{name} {count(n)}" for name, n in sorted(endings.items()) if name not in ("CONVERGED", "AT_BOUNDARY")]
    return " · ".join(words)


def heading(tally: Tally, title: str, seed: int) -> list[str]:
    """What is going to run."""
    spec = tally.spec
    lines = [
        f"{title} · {len(spec.conditions)} conditions × {len(spec.methods)} methods = {count(tally.total)} fits"
        f"   spec {spec.spec_hash[:6]}"
    ]
    todo = tally.total - tally.done
    resumed = f"resumed: {count(tally.resumed)} done, {count(todo)} to do · " if tally.resumed else ""
    lines.append(f"{resumed}{tally.workers} worker{'s' if tally.workers > 1 else ''} · seed {seed}")
    return lines


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
