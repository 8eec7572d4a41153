"""The questions of `vcbench study new`: what flags do not say is asked for, each answer checked before the next."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.prompt import Prompt

from vcbench.errors import VcbenchError


def ask[T](console: Console, what: str, default: str, read: Callable[[str], T], hint: str = "") -> T:
    """The answer, as `read` understands it; asked again, with what is wrong, until it does."""
    if hint:
        console.print(f"[dim]{hint}[/dim]")
    while True:
        answer = Prompt.ask(f"[bold]{what}[/bold]", console=console, default=default)
        try:
            return read(answer or "")
        except (VcbenchError, ValueError) as error:
            console.print(str(error), style="red", markup=False)


def words(text: str) -> list[str]:
    """Names parted by commas or blanks."""
    return [word for word in text.replace(",", " ").split() if word]


def needed(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise ValueError("Say something here.")
    return text.strip()


def listed(names: Any) -> str:
    """Names as a hint shows them."""
    return ", ".join(names).replace("[", r"\[")
