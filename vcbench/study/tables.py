"""`vc.measures_table`: measures as a table to print, one row a measure, one column a method, MCSEs in parentheses."""

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from vcbench import numbers as num
from vcbench.errors import DataError, did_you_mean
from vcbench.study.estimators import NO_MCSE, WILD

Format = Literal["text", "markdown", "html", "latex", "csv"]
NOTE = "Monte Carlo standard errors in parentheses."
COUNTS = ("n_valid",)
SUFFIXES: dict[str, Format] = {".md": "markdown", ".html": "html", ".tex": "latex", ".csv": "csv", ".txt": "text"}


def measures_table(
    found: pd.DataFrame,
    format: Format | None = None,
    *,
    only: Iterable[str] | None = None,
    digits: int = 2,
    caption: str | None = None,
    out: str | Path | None = None,
) -> str:
    """The frame of `vc.measures` as a table: a row for each group and measure, a column for each method.

    A cell is `value (mcse)` to `digits` significant digits of the MCSE; a value without one has four digits; a measure
    that is undefined is a dash. Measures that no method has are left out, with their groups' other rows kept.
    format: "text" (default), "markdown", "html", "latex" (booktabs) or "csv", where each method has a column for the
    value and one, `… mcse`, for its error, unrounded. only: the measures, in that order. out: a file to write too,
    whose ending says the format where `format` does not.

    Raises DataError for a frame that is not one of `vc.measures`, and for unknown formats and measures.
    """
    if not isinstance(found, pd.DataFrame) or not {"method", "measure", "value", "mcse", "reason"} <= set(found):
        raise DataError(
            "measures_table takes the frame that `vc.measures` returns: vc.measures_table(vc.measures(rows))."
        )
    if format is None:
        format = "text" if out is None else SUFFIXES.get(Path(out).suffix, "text")
    if format not in get_args(Format):
        formats = get_args(Format)
        raise DataError(
            f"unknown format `{format}`. Choose from {', '.join(formats)}.{did_you_mean(str(format), formats)}"
        )
    order = list(dict.fromkeys(found["measure"]))
    for name in only or ():
        if name not in order:
            raise DataError(
                f"measure `{name}` is not in this frame. It has {', '.join(order)}.{did_you_mean(name, order)}"
            )
    order = order if only is None else list(dict.fromkeys(only))
    keys = list(found.columns[: list(found.columns).index("method")])
    methods = list(dict.fromkeys(found["method"]))
    shown = found[found["measure"].isin(order) & found["value"].notna()]
    lines = _lines(shown, keys, order)
    if format == "csv":
        text = _wide(shown, keys, methods, lines).to_csv(index=False, lineterminator="\n")
    else:
        cells = {
            (*_key(row, keys), row.measure, row.method): _cell(row, digits) for row in shown.itertuples(index=False)
        }
        header = [*keys, "measure", *methods]
        body = [
            [*map(_name, line[:-1]), line[-1], *(cells.get((*line, method), num.ABSENT) for method in methods)]
            for line in lines
        ]
        text = RENDERERS[format](header, body, len(keys) + 1, caption)
    if out is not None:
        Path(out).write_text(text, encoding="utf-8")
    return text


def _key(row: Any, keys: Sequence[str]) -> tuple[Any, ...]:
    """A row's group; keys come first, in order, and their names may be no identifiers."""
    return tuple(None if value != value else value for value in row[: len(keys)])


def _lines(shown: pd.DataFrame, keys: list[str], order: list[str]) -> list[tuple[Any, ...]]:
    """(group…, measure) of each line: groups as they come, measures in order."""
    groups: dict[tuple[Any, ...], set[str]] = {}
    for row in shown.itertuples(index=False):
        groups.setdefault(_key(row, keys), set()).add(row.measure)
    return [(*group, name) for group, has in groups.items() for name in order if name in has]


def _cell(row: Any, digits: int) -> str:
    """`value (mcse)`; counts as they are."""
    if row.measure in COUNTS:
        return num.count(row.value)
    if num.is_absent(row.mcse) or row.mcse == 0:
        unsure = " (?)" if row.reason in (NO_MCSE, WILD) else " (0)" if row.mcse == 0 else ""
        return num.significant(row.value, 4) + unsure
    if not 1e-4 <= row.mcse < 1e7:
        return f"{num.significant(row.value, max(digits, 4))} ({num.significant(row.mcse, digits)})"
    return num.with_se(row.value, row.mcse, digits, 0)


def _name(value: Any) -> str:
    return num.ABSENT if value is None else str(value)


def _wide(shown: pd.DataFrame, keys: list[str], methods: list[str], lines: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Values and MCSEs unrounded, two columns a method."""
    at = {(*_key(row, keys), row.measure, row.method): (row.value, row.mcse) for row in shown.itertuples(index=False)}
    out = pd.DataFrame(lines, columns=[*keys, "measure"])
    for method in methods:
        pairs = [at.get((*line, method), (float("nan"), float("nan"))) for line in lines]
        out[method] = [value for value, _ in pairs]
        out[f"{method} mcse"] = [mcse for _, mcse in pairs]
    return out


def _text(header: list[str], body: list[list[str]], words: int, caption: str | None) -> str:
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if j < words else c.rjust(w) for j, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in [header, *body]
    ]
    return "\n".join([*([caption, ""] if caption else []), *(line.rstrip() for line in lines), "", NOTE, ""])


def _markdown(header: list[str], body: list[list[str]], words: int, caption: str | None) -> str:
    rule = [":--" if j < words else "--:" for j in range(len(header))]
    rows = [[c.replace("|", "\\|") for c in row] for row in [header, rule, *body]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*([f"**{caption}**", ""] if caption else []), *lines, "", NOTE, ""])


def _html(header: list[str], body: list[list[str]], words: int, caption: str | None) -> str:
    def cells(row: list[str], tag: str) -> str:
        made = []
        for j, c in enumerate(row):
            kind = "th" if tag == "th" or j < words else "td"
            scope = "" if kind == "td" else f' scope="{"col" if tag == "th" else "row"}"'
            style = "" if j < words else ' style="text-align:right"'
            made.append(f"<{kind}{scope}{style}>{html.escape(c)}</{kind}>")
        return f"<tr>{''.join(made)}</tr>"

    title = f"{html.escape(caption)}. {NOTE}" if caption else NOTE
    rows = "\n".join(cells(row, "td") for row in body)
    return (
        f'<table class="vcbench-measures">\n<caption>{title}</caption>\n<thead>\n{cells(header, "th")}\n</thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n"
    )


LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", num.MINUS: "$-$", num.ABSENT: "--", "∞": r"$\infty$",
    num.THIN: r"\,",
})  # fmt: skip


def _latex(header: list[str], body: list[list[str]], words: int, caption: str | None) -> str:
    def row(cells: list[str]) -> str:
        return " & ".join(c.translate(LATEX) for c in cells) + r" \\"

    title = f"{caption}. {NOTE}" if caption else NOTE
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{title.translate(LATEX)}}}",
        rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(header) - words)}}}", r"\toprule", row(header), r"\midrule",
        *map(row, body), r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


RENDERERS: dict[str, Callable[[list[str], list[list[str]], int, str | None], str]] = {
    "text": _text, "markdown": _markdown, "html": _html, "latex": _latex,
}  # fmt: skip
