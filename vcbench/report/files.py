"""Files from the findings: the page beside a run, and the folder under reports/ that any forge can show."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vcbench.report import evidence, page, provenance, scorecard, words
from vcbench.report import svg as drawing
from vcbench.report.answers import answer
from vcbench.report.findings import Findings, find
from vcbench.report.pictures import Figure, figures
from vcbench.report.stored import concat
from vcbench.report.verdicts import GLYPH, verdicts

DISTANCES = {"largest": "largest_distance_se", "median": "median_distance_se", "deficit": "largest_deficit"}
SUMMARY = ("condition", "label", "parameter", "method", "measure", "value", "mcse", "n")


def render(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write `report/index.html`, `report/figures/*.svg` and `*.png` and `report/summary.csv` for a run folder.

    `out` replaces `<folder>/report`. Returns the path of the page. The same rows give the same bytes.

    Raises StoreError for a folder that is no run folder or has no rows.
    """
    found, pictures = _prepare(folder)
    out = Path(folder) / "report" if out is None else Path(out)
    _write_figures(pictures, out / "figures", png=True)
    summary(found).to_csv(out / "summary.csv", index=False, lineterminator="\n")
    path = out / "index.html"
    path.write_text(page.render_page(found, pictures, _version(found)), encoding="utf-8", newline="\n")
    return path


def publish(folder: Path | str, reports_dir: Path | str) -> Path:
    """Write `<reports_dir>/<stem>/`: README.md, figures/*.svg, summary.csv, provenance.json. Returns the folder.

    What is published names no host, no person and no path.
    """
    found, pictures = _prepare(folder)
    out = Path(reports_dir) / found.evidence.stem
    _write_figures(pictures, out / "figures", png=False)
    summary(found).to_csv(out / "summary.csv", index=False, lineterminator="\n")
    run = found.evidence.run
    record = {
        "study": found.evidence.stem,
        "title": words.title(found.evidence),
        "spec_hash": run.get("spec_hash"),
        "seed": run.get("seed"),
        "version": run.get("version"),
        "fits": found.evidence.n_fits,
        "provenance": provenance.provenance(found.evidence),
    }
    (out / "provenance.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    (out / "README.md").write_text(readme(found, pictures), encoding="utf-8", newline="\n")
    return out


def _prepare(folder: Path | str) -> tuple[Findings, list[Figure]]:
    found = find(evidence.load(folder))
    return found, figures(found)


def _version(found: Findings) -> str:
    return str(found.evidence.run.get("version") or "")


def _write_figures(pictures: Sequence[Figure], folder: Path, png: bool) -> None:
    """Only what this report shows stays in the folder."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for picture in pictures:
        (folder / f"{picture.name}.svg").write_text(drawing.standalone(picture.svg), encoding="utf-8", newline="\n")
        if png:
            (folder / f"{picture.name}.png").write_bytes(drawing.png(picture.svg))


def summary(found: Findings) -> pd.DataFrame:
    """All measures, long: condition, label, parameter, method, measure, value, mcse, n; then costs and agreement.

    Rows of `cost` and `agreement` have no parameter. Values keep seven digits.
    """
    e = found.evidence
    parts = [e.measures.rename(columns=str)[["condition", "parameter", "method", "measure", "value", "mcse", "n"]]]
    for frame, columns in (
        (found.cost, ("n_iter", "n_iter_p10", "n_iter_p90", "cpu_seconds", "cpu_seconds_p10", "cpu_seconds_p90")),
        (found.agreement.rename(columns=DISTANCES), (*DISTANCES.values(), "share_same")),
    ):  # fmt: skip
        long = frame.melt(["condition", "method", "n"], list(columns), "measure", "value").dropna(subset=["value"])
        parts.append(long.assign(parameter="", mcse=float("nan")))
    shown = [e.rows(c.id)[["condition", "parameter", "method", "estimate", "se"]] for c in e.real]
    real = concat(shown, ["condition", "parameter", "method", "estimate", "se"])
    real = real[real["estimate"].notna()]
    for column in ("estimate", "se"):
        one = real[["condition", "parameter", "method"]].assign(
            measure=column, value=real[column], mcse=float("nan"), n=1
        )
        parts.append(one.dropna(subset=["value"]))
    frame = pd.concat([p for p in parts if len(p)], ignore_index=True)
    frame["label"] = frame["condition"].map({c.id: c.label for c in e.conditions})
    for column in ("value", "mcse"):
        frame[column] = [float(f"{v:.7g}") for v in frame[column].astype(float)]
    frame["n"] = frame["n"].astype(int)
    order = {m: i for i, m in enumerate(e.methods)}
    frame["place"] = frame["method"].map(order)
    frame["which"] = frame["parameter"].map({p: i for i, p in enumerate(e.parameters)}).fillna(-1)
    frame = frame.sort_values(["condition", "which", "measure", "place"], kind="stable")
    return frame[list(SUMMARY)].reset_index(drop=True)


def readme(found: Findings, pictures: Sequence[Figure]) -> str:
    """The report as Markdown: verdicts, scorecards, pictures with their captions; their tables are folded away."""
    e = found.evidence
    _, state = words.state(e)
    lines = [f"# {words.title(e)}", ""]
    if said := answer(e):
        lines += [f"**Answer.** {said}", ""]
    lines += [str(e.run.get("question") or ""), ""]
    lines += [f"{state} · " + " · ".join(f"{name} {value}" for name, value in words.identity(e)), ""]
    lines += ["## What this study shows", ""]
    lines += [f"- {GLYPH[v.level]} **{v.lead}.** {v.text}" for v in verdicts(found)]
    lines += ["", "● holds · ▲ worth a look · ■ does not hold", ""]
    cards = scorecard.scorecards(found)
    first = next((c for _, c in cards), "")
    chosen = [card for (_, c), card in cards.items() if c == first]
    if chosen:
        lines += ["## Scorecard", ""]
        lines += [f"**{chosen[0].caption}**", "", chosen[0].markdown(), ""]
        for card in chosen[1:]:
            lines += _folded(card.caption, card.markdown())
        precision = scorecard.precision(found)
        lines += [f"Enough replicates? {precision}", ""] if precision else []
    for section in page.sections(found, pictures):
        lines += [f"## {section.title}", "", section.lede, ""]
        for figure in section.figures:
            lines += [
                f"### {figure.title}",
                "",
                f"![{figure.caption}](figures/{figure.name}.svg)",
                "",
                figure.caption,
                "",
            ]
            lines += _folded("The numbers", figure.table.markdown())
        lines += [line for name, text in section.paragraphs for line in (f"**{name}.** {text}", "")]
        for table in section.tables:
            lines += [f"**{table.caption}**", "", table.markdown(), ""]
        if section.pre:
            lines += _folded(section.pre_title, f"```toml\n{section.pre.rstrip()}\n```")
    lines += [
        f"Rendered by vcbench from stored rows alone, never edited. Again: `{page.command(found)}`, "
        f"then `vcbench report runs/{e.stem} --publish`."
    ]
    return "\n".join(lines) + "\n"


def _folded(title: str, text: str) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", text, "", "</details>", ""]
