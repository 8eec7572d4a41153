"""Progress of a pass over many SNPs: a bar with its rate on stderr, a callable of (done, total), or silence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Progress = bool | Literal["auto"] | Callable[[int, int], None]


@contextmanager
def track(progress: Progress, total: int, title: str, unit: str = "SNP") -> Iterator[Callable[[int], None]]:
    """`with track(…) as advance: advance(2048)`. True: a bar; "auto": a bar on a terminal; False: nothing."""
    if callable(progress):
        done = 0

        def call(step: int) -> None:
            nonlocal done
            done += step
            progress(done, total)

        yield call
    elif progress:
        with _bar(total, title, unit, always=progress is True) as advance:
            yield advance
    else:
        yield lambda step: None


@contextmanager
def _bar(total: int, title: str, unit: str, always: bool) -> Iterator[Callable[[int], None]]:
    """Rich's bar: share, count, rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} {unit}/s" if speed else f"– {unit}/s")

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.completed:,}/{task.total:,}"), Rate(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Bars(*columns, console=console, disable=not (always or console.is_terminal)) as bars:
        task = bars.add_task(title, total=total)
        yield lambda step: bars.advance(task, step)
