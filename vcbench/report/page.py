"""The page: one self-contained HTML document made of the findings, the pictures and the standing texts."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from shlex import quote
from typing import Any

from vcbench import numbers as num
from vcbench.report import provenance, scorecard, words
from vcbench.report.answers import answer
from vcbench.report.explore import collect, pack
from vcbench.report.findings import Findings
from vcbench.report.groups import grouped
from vcbench.report.messages import pattern, together
from vcbench.report.pictures import Figure
from vcbench.report.tables import Cell as TableCell
from vcbench.report.tables import Table, cut, head
from vcbench.report.theme import colour_rules, colour_variables, family_rules
from vcbench.report.verdicts import GLYPH, SPOKEN, verdicts


@dataclass(slots=True)
class Section:
    """A heading with its pictures, tables and texts; `by` says which selector chooses among its pictures."""

    id: str
    short: str
    title: str
    lede: str
    by: str = ""
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    paragraphs: list[tuple[str, str]] = field(default_factory=list)
    pre: str = ""
    pre_title: str = ""


HEADINGS = {
    "real": (
        "Real data",
        "Real data",
        "Every method on the same real data, side by side. No truth here, only agreement.",
    ),
    "agreement": (
        "Agreement",
        "Agreement between methods",
        "Methods that climb one likelihood must end at one maximum.",
    ),
    "bias": ("Bias", "Bias", "How far the estimates are from the truth on average."),
    "errors": (
        "SEs",
        "Empirical against model standard errors",
        "Do standard errors say how much the estimates scatter?",
    ),
    "coverage": ("Coverage", "Coverage", "Do the intervals hold the truth as often as they claim?"),
    "rejection": ("Tests", "Tests", "Do the tests reject as often as they claim, and find what there is?"),
    "convergence": (
        "Convergence",
        "Log-likelihood against iteration",
        "How each method climbs, by the same stop rule.",
    ),
    "speed": ("Speed", "Iterations and time", "What a fit costs."),
    "conditions": ("Conditions", "Every condition at once", "Nested-loop plots: where in the grid methods differ."),
    "acceptance": ("Acceptance", "Acceptance checks", "What the specification demands, and whether the rows show it."),
    "failures": ("Failures", "Failures and boundary fits", "How fits ended. Nothing that failed leaves the tables."),
}
BY = {"bias": "p", "errors": "p", "coverage": "p", "rejection": "p", "convergence": "d"}


def command(found: Findings) -> str:
    return f"vcbench study run simulations/{found.evidence.stem}.toml"


def missing_table(found: Findings, most: int = 100) -> Table:
    """Missing results by method, status and message, each with a command that runs one of them again."""
    e = found.evidence
    alike: dict[tuple[str, str, str], list[Any]] = {}
    for r in found.missing.itertuples():
        alike.setdefault((r.method, r.status, pattern(r.message)), []).append(r)
    rows = []
    for (method, status, _), part in sorted(alike.items(), key=lambda item: -sum(r.n for r in item[1])):
        n = sum(r.n for r in part)
        conditions = sorted({c for r in part for c in r.conditions})
        row = quote(part[0].row)
        rows.append(
            (
                head(method),
                TableCell(status, None, "bad", number=False),
                head(together([r.message for r in part]) or "no message"),
                TableCell(num.count(n), n),
                head(_places(found, conditions)),
                head(f"vcbench study replay runs/{e.stem} --row {row}"),
            )
        )
    columns = ("method", "status", "message", "fits", "conditions", "run one of them again")
    return cut("missing", "Missing results, most frequent first", columns, rows, most)


def _places(found: Findings, conditions: Sequence[str]) -> str:
    simulated = {c.id for c in found.evidence.simulated}
    if len(conditions) > 2 and set(conditions) == simulated:
        return f"all {len(conditions)} simulated"
    said = [found.label(c) for c in conditions[:4]]
    return "; ".join(said + ([f"{len(conditions) - 4} more"] if len(conditions) > 4 else []))


def sections(found: Findings, figures: Sequence[Figure]) -> list[Section]:
    """The parts below the first screen; a part without content is left out."""
    e = found.evidence
    out = []
    for id, (short, title, lede) in HEADINGS.items():
        section = Section(id, short, title, lede, BY.get(id, ""), [f for f in figures if f.section == id])
        if id == "failures" and len(found.missing):
            section.tables.append(missing_table(found))
        if id == "acceptance" and found.check_table is not None:
            section.tables.append(found.check_table)
        if section.figures or section.tables:
            out.append(section)
    tables = [words.method_table(found), words.condition_table(found), words.truth_table(found)]
    ademp = Section(
        "ademp", "Methods", "Aims, data, estimands, methods, measures", "What was done, as a paper would say it."
    )
    ademp.paragraphs += words.ademp(found)
    ademp.tables += [t for t in tables if t is not None]
    terms = Section("dictionary", "Terms", "Data dictionary", "Terms of this page and of the stored rows.")
    terms.tables.append(words.dictionary())
    source = Section(
        "provenance", "Environment", "Environment and provenance", f"Repeat it with: {command(found)}", pre=e.spec
    )
    source.pre_title = "The study's specification"
    source.tables += [t for t in [provenance.provenance_table(e)] if t.rows]
    return [*out, ademp, terms, source]


def render_page(found: Findings, figures: Sequence[Figure], version: str) -> str:
    """The document. No address is loaded, by rule (Content-Security-Policy) and in fact; scripts only add comfort."""
    from jinja2 import Environment, StrictUndefined

    css, js = style(), script()
    data = collect(found)
    cards = scorecard.scorecards(found)
    complete, state = words.state(found.evidence)
    choices = list(dict.fromkeys(c for _, c in cards))
    parameters = list(found.evidence.judged)
    traced = [f for f in figures if f.section == "convergence"]
    shown = [p for p in parameters if any(f.parameter == p for f in figures)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read("page.html.j2")).render(
        policy=_policy(css, js),
        version=version,
        css=css,
        js=js,
        title=words.title(found.evidence),
        question=str(found.evidence.run.get("question") or ""),
        answer=answer(found.evidence),
        complete=complete,
        state=state,
        identity=words.identity(found.evidence),
        command=command(found),
        verdicts=verdicts(found),
        glyphs=GLYPH,
        spoken=SPOKEN,
        scorecard=next(iter(cards.values()), None),
        cards=_cards(cards, parameters),
        parameters=parameters,
        parameter_options=list(enumerate(parameters)),
        figure_options=[(parameters.index(p), p) for p in shown],
        condition_options=[(c, "mean of all" if c == scorecard.ALL else found.label(c)) for c in choices],
        trace_options=[(f.condition, found.label(f.condition)) for f in traced],
        precision=scorecard.precision(found),
        groups=grouped(sections(found, figures), ["pairwise"] if data["pairs"]["cells"] else []),
        data=pack(data),
    )  # fmt: skip


SCRIPTS = (
    "core", "state", "data", "tips", "tables", "theme", "chart", "filters", "lolly", "nested", "heat", "explorer",
    "zip", "pairs", "paths", "strip", "scorecard", "start",
)  # fmt: skip


def script() -> str:
    """The page's script: the files of templates/js one after the other, in one scope of their own."""
    parts = "\n".join(_read(f"js/{name}.js") for name in SCRIPTS)
    return f'"use strict";\n{{\n{parts}}}\n'


def style() -> str:
    """The page's style sheet, with the colours of both themes."""
    css = _read("page.css") + _read("live.css") + _read("print.css")
    css = css.replace("LIGHT", colour_variables(dark=False)).replace("DARK", colour_variables(dark=True))
    return css + colour_rules() + family_rules()


def _read(name: str) -> str:
    return (files("vcbench.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(css: str, js: str) -> str:
    """Nothing is fetched; only this style sheet and this script are obeyed."""
    return (
        f"default-src 'none'; style-src '{_digest(css)}'; script-src '{_digest(js)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _cards(cards: dict[tuple[str, str], Table], parameters: list[str]) -> str:
    """The scorecards as JSON for the selectors: texts, sorting keys and flags, no rows of the study."""
    tables: dict[str, Any] = {}
    for (p, c), table in cards.items():
        rows = [[[cell.text, _number(cell.sort), cell.flag] for cell in row] for row in table.rows]
        tables[f"{parameters.index(p)}/{c}"] = {
            "caption": table.caption, "columns": table.columns, "rows": rows, "note": table.note,
        }  # fmt: skip
    data = {"first": next((c for _, c in cards), ""), "parameters": parameters, "tables": tables}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _number(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return "" if value != value else float(f"{value:.6g}")
