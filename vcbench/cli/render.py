"""Text on stdout: tables in fixed columns, verdicts in colour where the terminal has it (NO_COLOR is honoured)."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from vcbench.cli.explain import Explanation

STYLES = {
    "PASS": "green", "AGREE": "bold green", "ok": "green", "FAIL": "bold red", "DISAGREE": "bold red",
    "INCONCLUSIVE": "yellow", "SKIPPED": "dim",
}  # fmt: skip


def console() -> Console:
    """Stdout as it is: no wrapping of tables, no guesses about what in a line is a number or a path."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def coloured(line: str) -> Text:
    """A line with its verdict words coloured."""
    text = Text(line)
    for word, style in STYLES.items():
        text.highlight_regex(rf"\b{word}\b", style)
    return text


def paragraph(item: "Explanation") -> None:
    """An explanation on stdout: title, text, remedy."""
    out = console()
    width = min(out.width, 100)
    out.print(Text.assemble((item.code, "bold"), f"  {item.title}"))
    for lead, text in (("", item.text), ("What to do: ", item.todo)):
        out.print()
        for line in wrap(lead + text, width - 4):
            out.print(f"    {line}")


def verdict_table(verdicts: Sequence[Mapping[str, Any]], counts: Mapping[str, int], n_more: int = 0) -> None:
    """What was checked, one line a check, with the numbers where it did not pass; the counts last.

    `n_more` says how many checks are not shown.
    """
    out = console()
    width = max((len(v["target"]) for v in verdicts), default=0)
    for verdict in verdicts:
        out.print(coloured(f"{verdict['verdict']:<12}  {verdict['target']:<{width}}  {verdict['check']}"))
        if verdict["verdict"] != "PASS":
            for line in wrap(verdict["detail"], 100):
                out.print(f"{'':14}{line}")
    if n_more > 0:
        out.print(f"… and {n_more} more: vcbench check {verdicts[0]['target']}")
    if verdicts:
        out.print()
    order = ("PASS", "FAIL", "INCONCLUSIVE", "SKIPPED")
    out.print(
        coloured(
            "  ".join(f"{counts.get(word, 0)} {word}" for word in order if counts.get(word, 0)) or "nothing to check"
        )
    )
