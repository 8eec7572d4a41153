"""Tables as values: cells with a text, a sorting key and a flag; written as HTML, Markdown or CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MARKS = {"": "", "off": "▲", "bad": "■"}
SPOKEN = {"off": "off by more than 2 MCSE", "bad": "failed"}


@dataclass(frozen=True, slots=True)
class Cell:
    """`sort` orders the column (default: the text); `flag` "off": away by more than 2 MCSE, "bad": a failure."""

    text: str
    sort: float | str | None = None
    flag: str = ""
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """`caption` is a sentence; `note` is said below; `left_out` rows are counted, not shown."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    heads: int = 1

    def html(self) -> str:
        """A table with a caption, scoped headers and `data-v` keys to sort by; the first `heads` cells head a row."""
        body = []
        for row in self.rows:
            cells = []
            for j, cell in enumerate(row):
                tag = "th scope=row" if j < self.heads else "td"
                key = "" if cell.sort is None else f' data-v="{_key(cell.sort)}"'
                kind = " class=n" if cell.number and j >= self.heads else ""
                mark = ""
                if cell.flag:
                    mark = f'<span class="m {cell.flag}" title="{SPOKEN[cell.flag]}">{MARKS[cell.flag]}</span>'
                cells.append(f"<{tag}{kind}{key}>{escape(cell.text)}{mark}</{tag.split()[0]}>")
            body.append("<tr>" + "".join(cells) + "</tr>")
        numeric = [all(r[j].number for r in self.rows) if self.rows else False for j in range(len(self.columns))]
        head = "".join(
            f"<th scope=col{' class=n' if numeric[j] and j >= self.heads else ''}>{escape(c)}</th>"
            for j, c in enumerate(self.columns)
        )
        note = f"<p class=note>{escape(self.note)}</p>" if self.note else ""
        return (
            f'<div class=scroll tabindex=0 role=region aria-label="{escape(self.caption)}">'
            f'<table id="t-{self.name}" class=sortable><caption><span>{escape(self.caption)}</span></caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}"
        )

    def markdown(self) -> str:
        """A pipe table; numbers to the right, flags as symbols."""
        numeric = [all(r[j].number for r in self.rows) and j >= self.heads for j in range(len(self.columns))]
        lines = [
            "| " + " | ".join(_pipe(c) for c in self.columns) + " |",
            "| " + " | ".join("---:" if n else "---" for n in numeric) + " |",
        ]
        for row in self.rows:
            lines.append("| " + " | ".join(_pipe(f"{c.text} {MARKS[c.flag]}".strip()) for c in row) + " |")
        text = "\n".join(lines)
        return f"{text}\n\n{self.note}" if self.note else text


def head(text: str, sort: float | str | None = None) -> Cell:
    """A cell of words."""
    return Cell(text, sort, number=False)


def cut(
    name: str, caption: str, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]], most: int = 160, heads: int = 1
) -> Table:
    """A table of at most `most` rows that says how many it leaves to summary.csv."""
    note = f"The first {most} of {len(rows)} rows; all of them are in summary.csv." if len(rows) > most else ""
    return Table(name, caption, tuple(columns), tuple(rows[:most]), note, heads)


def _key(value: float | str) -> str:
    if isinstance(value, str):
        return escape(value)
    return "" if value != value else f"{value:.6g}"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("\n", " ")
