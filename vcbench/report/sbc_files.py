"""Files of a calibration report: README.md, figures/*.svg, summary.csv, provenance.json."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import vcbench
from vcbench.report import sbc_report as said
from vcbench.report import svg as drawing
from vcbench.report.findings import slug
from vcbench.report.marks import Spec
from vcbench.report.sbc_plots import ecdf_spec, rank_spec
from vcbench.report.sbc_report import SUFFIXES, Calibrated
from vcbench.study.sbc import Sbc

TITLE = "Is each method calibrated?"
SHAPES = "Above 0: too many truths lie low in what the method says. A hill or a valley: it lies too high or too low; "
S_SHAPE = "an S: it is too narrow or too wide."


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the report."""

    name: str
    title: str
    caption: str
    spec: Spec


def pictures(c: Calibrated) -> Iterator[Picture]:
    """The figures of one model."""
    posterior = [one for one in c.plain if one.kind != "normal"]
    if posterior:
        yield Picture(
            f"ecdf-{slug(c.name)}",
            "Posteriors",
            f"{c.name}: PITs' distribution less the uniform; shaded the simultaneous 95 % band. {SHAPES}{S_SHAPE}",
            ecdf_spec(_by_quantity(posterior)),
        )
        first = posterior[0]
        yield Picture(
            f"rank-{slug(c.name)}",
            f"Histograms of {first.method}",
            f"{c.name}, {first.method}: PITs in 20 bins; shaded where all bins lie in 95 % of calibrated runs.",
            rank_spec({q: u for q in first.quantities if len(u := first.pit(q)) > 1}),
        )
    for one in c.plain:
        if one.kind == "normal":
            yield Picture(
                f"normal-{slug(c.name)}-{slug(one.method)}",
                f"Normal approximations of {one.method}",
                f"{c.name}, {one.method}: the same for the normal approximation on each scale. {SHAPES}{S_SHAPE}",
                ecdf_spec(_by_scale(one)),
            )
    if c.mutants:
        yield Picture(
            f"bugs-{slug(c.name)}",
            "Planted bugs",
            f"{c.name}: the same with planted bugs.",
            ecdf_spec(_by_quantity(c.mutants)),
        )


def _by_quantity(found: Sequence[Sbc]) -> dict[str, dict[str, np.ndarray]]:
    out: dict[str, dict[str, np.ndarray]] = {}
    for one in found:
        for q in one.quantities:
            if len(u := one.pit(q)) > 1:
                out.setdefault(q, {})[one.method] = u
    return out


def _by_scale(one: Sbc) -> dict[str, dict[str, np.ndarray]]:
    out: dict[str, dict[str, np.ndarray]] = {}
    for q in one.quantities:
        end = next((s for s in SUFFIXES if q.endswith(s)), "")
        if len(u := one.pit(q)) > 1:
            out.setdefault(q.removesuffix(end), {})[SUFFIXES.get(end, "natural")] = u
    return out


def render_sbc(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the report of a folder of calibrations to `out` (default `<folder>/report`); returns its README.md.

    The same rows give the same bytes. Raises StoreError for a folder without calibrations.
    """
    folder = Path(folder)
    found = said.find_calibrations(folder)
    out = folder / "report" if out is None else Path(out)
    drawn = {c.name: list(pictures(c)) for c in found}
    figures = out / "figures"
    if figures.exists():
        shutil.rmtree(figures)
    figures.mkdir(parents=True)
    for own in drawn.values():
        for p in own:
            text = drawing.standalone(drawing.render_svg(p.spec, p.name, p.title, p.caption))
            (figures / f"{p.name}.svg").write_text(text, encoding="utf-8", newline="\n")
    said.summary(found).to_csv(out / "summary.csv", index=False, lineterminator="\n")
    record = {
        "title": TITLE,
        "version": vcbench.__version__,
        "models": {c.name: {"spec_hash": c.run["spec_hash"], "seed": c.run["seed"]} for c in found},
        "provenance": said.provenance_of(found),
    }
    (out / "provenance.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    path = out / "README.md"
    path.write_text(readme(folder, found, drawn), encoding="utf-8", newline="\n")
    return path


def readme(folder: Path, found: Sequence[Calibrated], drawn: dict[str, list[Picture]]) -> str:
    """The report as Markdown."""
    lines = [f"# {TITLE}", "", said.answer(found), "", "## What was found", "", *said.findings(found), ""]
    lines += ["● calibrated · ▲ cannot be told yet · ■ not calibrated", ""]
    table = said.verdict_table(found)
    lines += [f"**{table.caption}**", "", table.markdown(), ""]
    bugs = said.mutant_table(found)
    if bugs is not None:
        lines += ["## Planted bugs", "", f"**{bugs.caption}**", "", bugs.markdown(), ""]
    cost = said.cost_table(found)
    rival = said.rival_text(folder)
    lines += ["## Cost", "", *([rival, ""] if rival else []), *_folded(cost.caption, cost.markdown())]
    for c in found:
        lines += [f"## {c.name}", "", f"Priors: {'; '.join(x.strip() for x in c.run['priors'].splitlines())}.", ""]
        for p in drawn[c.name]:
            lines += [f"### {p.title}", "", f"![{p.caption}](figures/{p.name}.svg)", "", p.caption, ""]
        tests = said.quantity_table(c)
        lines += _folded("The numbers", tests.markdown())
    lines += ["## How", "", said.method_text(found), ""]
    lines += ["Rendered by vcbench from stored rows alone, never edited. Again: `vcbench sbc CARD --n 1000`, method by "
              "method, then `vcbench report runs/sbc --publish`."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _folded(title: str, text: str) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", text, "", "</details>", ""]
