"""The report of deliberate errors: which were found, by what and how soon, and the alarms where there were none.

Rendered from `trials.jsonl` alone: README.md, figures/replicates.svg, summary.csv, provenance.json.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from scipy.stats import beta

from vcbench import numbers as num
from vcbench.errors import StoreError
from vcbench.report import svg as drawing
from vcbench.report.marks import Spec
from vcbench.report.provenance import PRIVATE
from vcbench.report.tables import Cell, Table, head
from vcbench.report.theme import FAMILY_COLOURS, FLAG
from vcbench.study.mutant_runs import KIND, MOST_ALARMS, read_trials
from vcbench.study.mutants import MUTANTS
from vcbench.study.store import RUN, read_run

TITLE = "Does the harness find what is deliberately wrong?"
CAPTION = (
    "Replicates until the check named for each mutant failed: median (point) and range over seeds (line); dashed, the "
    "most that are run. The rule looks every 25 replicates, at means from 200 on."
)
GROUPS = {  # checks by what they look at, in the order of the picture, and their colours
    "identities": (("monotonicity", "one-step map", "ELBO", "log-density"), FAMILY_COLOURS["EM"]),
    "estimates": (("bias", "agreement"), FAMILY_COLOURS["PX-EM"]),
    "intervals": (("coverage", "interval width"), FAMILY_COLOURS["Second order"]),
    "harness": (("independence", "rows", "resuming", "reference", "range"), FAMILY_COLOURS["Posterior"]),
}
Trial = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The trials of one mutant: `n` replicates in each that the named check found it in."""

    name: str
    trials: tuple[Trial, ...]

    @property
    def n(self) -> list[int]:
        return [trial["caught"]["n"] for trial in self.trials if trial["caught"]]

    @property
    def found(self) -> bool:
        """True if the named check found it in every trial."""
        return len(self.n) == len(self.trials)

    @property
    def where(self) -> str:
        """Data, method and parameter of the check that found it, as most trials have it; "" for one of the harness."""
        said = [
            t["caught"]["detail"].split(": ")[0] for t in self.trials if t["caught"] and ", " in t["caught"]["detail"]
        ]
        if not said or MUTANTS[self.name].check in GROUPS["harness"][0]:
            return ""
        return max(dict.fromkeys(said), key=said.count)

    @property
    def earlier(self) -> str:
        """Checks that failed before the named one."""
        said = [t["first"] for t in self.trials if t["first"] and t["caught"] and t["first"]["n"] < t["caught"]["n"]]
        names = list(dict.fromkeys(alarm["check"] for alarm in said))
        return ", ".join(f"{name} ({min(a['n'] for a in said if a['check'] == name)})" for name in names)


def is_mutants(folder: Path | str) -> bool:
    """True for a folder of runs with mutants."""
    return (Path(folder) / RUN).is_file() and read_run(folder).get("kind") == KIND


def render_mutants(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the report of a folder of trials to `out` (default `<folder>/report`); returns its README.md.

    The same trials give the same bytes. Raises StoreError for a folder without trials.
    """
    folder = Path(folder)
    trials = read_trials(folder) if is_mutants(folder) else []
    outcomes = [Outcome(m, tuple(t for t in trials if t["mutant"] == m)) for m in MUTANTS]
    outcomes = [outcome for outcome in outcomes if outcome.trials]
    if not outcomes:
        raise StoreError(
            f"`{folder}` holds no runs with mutants. Run `vcbench study run simulations/mutants.toml` first."
        )
    clean = [t for t in trials if not t["mutant"]]
    run = read_run(folder)
    out = folder / "report" if out is None else Path(out)
    figures = out / "figures"
    if figures.exists():
        shutil.rmtree(figures)
    figures.mkdir(parents=True)
    text = drawing.render_svg(picture(outcomes, int(run["n_max"])), "replicates", "Replicates needed", CAPTION)
    (figures / "replicates.svg").write_text(drawing.standalone(text), encoding="utf-8", newline="\n")
    summary(trials).to_csv(out / "summary.csv", index=False, lineterminator="\n")
    made = {k: str(v) for k, v in sorted(run["provenance"].items()) if not any(w in k.lower() for w in PRIVATE)}
    record = {"title": TITLE, "study": run["study"], "spec_hash": run["spec_hash"], "version": run["version"],
              "trials": len(trials), "provenance": [made]}  # fmt: skip
    (out / "provenance.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    path = out / "README.md"
    path.write_text(readme(run, outcomes, clean), encoding="utf-8", newline="\n")
    return path


def answer(outcomes: Sequence[Outcome], clean: Sequence[Trial], n_max: int) -> str:
    """The first paragraph."""
    hit, seeds = [o for o in outcomes if o.found], max(len(o.trials) for o in outcomes)
    needed = [median(o.n) for o in hit]
    most = max((n for o in outcomes for n in o.n), default=0)
    said = [
        f"**{len(hit)} of {len(outcomes)} mutants were found, each in all of its {seeds} runs, by the check named for "
        f"it, within {num.count(n_max)} replicates; the median mutant needed {num.count(median(needed))}, the slowest "
        f"run {num.count(most)}.**"
        if hit
        else f"**None of {len(outcomes)} mutants was found in every run.**"
    ]
    missed = [f"{o.name} (found in {len(o.n)} of {len(o.trials)})" for o in outcomes if not o.found]
    if missed:
        said.append(f"Not found in every run: {', '.join(missed)}.")
    if clean:
        alarms, upper = _alarms(clean)
        said.append(
            f"**{num.plural(alarms, 'alarm')} in {len(clean)} runs without a mutant** (seeds 1 to {len(clean)}; at "
            f"most {MOST_ALARMS} may be); with confidence .95 fewer than {num.percent(upper, 1)} of runs have one."
        )
    return " ".join(said)


def _alarms(clean: Sequence[Trial]) -> tuple[int, float]:
    """Runs with an alarm, and Clopper and Pearson's one-sided upper limit of their share, level .95."""
    k, n = sum(trial["first"] is not None for trial in clean), len(clean)
    return k, 1.0 if k == n else float(beta.ppf(0.95, k + 1, n - k))


def mutant_table(outcomes: Sequence[Outcome]) -> Table:
    """Mutant, what is wrong, what found it, and how soon."""
    rows = []
    for o in outcomes:
        m, n = MUTANTS[o.name], sorted(o.n)
        span = (
            num.count(n[0]) if n and n[0] == n[-1] else f"{num.count(n[0])} to {num.count(n[-1])}" if n else num.ABSENT
        )
        hit = f"{len(n)} of {len(o.trials)}"
        rows.append((
            head(o.name), head(m.wrong), head(m.breaks), head(m.check), head(o.where or num.ABSENT),
            Cell(hit, len(n), "" if o.found else "bad"), Cell(num.count(median(n)) if n else num.ABSENT), Cell(span),
            head(o.earlier or num.ABSENT),
        ))  # fmt: skip
    columns = ("mutant", "what is wrong", "what it breaks", "found by", "on", "runs", "replicates, median", "range",
               "checks that failed before")  # fmt: skip
    return Table("mutants", "Mutants, what found them, and after how many replicates", columns, tuple(rows))


def clean_text(clean: Sequence[Trial], checks: int, seeds: set[int]) -> list[str]:
    """Runs without a mutant: what they ended with, also on the `seeds` of runs with one, and every alarm."""
    if not clean:
        return []
    n = sorted(trial["replicates"] for trial in clean)
    whole = sum(trial["open"] == 0 and trial["first"] is None for trial in clean)
    unsure = sum(trial["open"] > 0 for trial in clean)
    lines = [
        f"{whole} of {len(clean)} runs ended with all {checks} comparisons PASS; {unsure} with one or more open."
        f" They took {num.count(median(n))} replicates in the median ({num.count(n[0])} to {num.count(n[-1])}).",
        "",
    ]
    quiet = [t["seed"] for t in clean if t["seed"] in seeds and t["first"] is None and t["open"] == 0]
    if len(quiet) == len(seeds):
        lines[-1:] = ["On the seeds of the runs with mutants every check passes without one.", ""]
    for trial in clean:
        if trial["first"] is not None:
            alarm = trial["first"]
            lines.append(f"- Seed {trial['seed']}: {alarm['check']} after {alarm['n']} ({alarm['detail']}).")
    return [*lines, ""] if lines[-1] else lines


def method_text(run: Mapping[str, Any], outcomes: Sequence[Outcome], clean: Sequence[Trial]) -> str:
    """How it was done, in a paragraph."""
    cpu = sum(t["cpu_seconds"] for o in outcomes for t in o.trials), sum(t["cpu_seconds"] for t in clean)
    seeds = max(len(o.trials) for o in outcomes)
    return (
        f"A run is the study `simulations/mutants.toml`, all of it, with one mutant switched in (seeds 1 to {seeds}) "
        f"or none (seeds 1 to {len(clean)}). All its acceptance checks share a chance of {run['alarm']:g} of a false "
        "FAIL at any look, and the check of seeds has 1e-4 of its own: α = .001 a run. The sequential rule looks every "
        f"{run['block_size']} replicates, up to {num.count(run['n_max'])}; a run with a mutant goes on until the check "
        "named for it fails, one without until any does or all have passed. Checks of the harness (resuming, rows, "
        "reference, range) are exact and have no false alarms; a run in two parts takes 8 replicates, the range of a "
        "structure 20 points. Mutants M1 to M24 are printed errors in the sources that the methods were taken from, O1 "
        "to O17 are our own; M5, M12 and M13 are misprints without a consequence for a study, and M23 is not among "
        "these. The checks are such as the mutants call for: found here is what is as wrong as these are, no less. "
        "Bugs planted in posteriors are found by calibration (`reports/sbc`). CPU time: "
        f"{num.seconds(cpu[0])} with mutants, {num.seconds(cpu[1])} without."
    )


def picture(outcomes: Sequence[Outcome], n_max: int) -> Spec:
    """A row a mutant, by kind of check and median: the median and the range of replicates, on a logarithmic axis."""
    records = []
    for group, (checks, _) in GROUPS.items():
        own = [o for o in outcomes if MUTANTS[o.name].check in checks]
        for o in sorted(own, key=lambda o: (median(o.n) if o.n else n_max, list(MUTANTS).index(o.name))):
            label, n = f"{o.name}  {MUTANTS[o.name].check}", o.n
            records.append({"mutant": label, "kind": group, "found": o.found, "median": median(n) if n else n_max,
                            "least": min(n, default=n_max), "most": max(n, default=n_max),
                            "tip": f"{o.name}: {MUTANTS[o.name].wrong}"})  # fmt: skip
    order = [record["mutant"] for record in records]
    y = {"field": "mutant", "type": "nominal", "sort": order, "title": None, "axis": {"grid": True, "domain": False}}
    ticks = [10, 25, 50, 100, 200, 500, 1000, 2000]
    axis = {"values": ticks, "labelExpr": "format(datum.value, ',')"}
    x = {"type": "quantitative", "scale": {"type": "log", "domain": [5, 1.1 * n_max], "nice": False},
         "title": "replicates until found", "axis": axis}  # fmt: skip
    names = [group for group in GROUPS if any(r["kind"] == group for r in records)]
    colour = {"field": "kind", "type": "nominal", "title": "check of", "sort": names,
              "scale": {"domain": names, "range": [GROUPS[g][1] for g in names]},
              "legend": {"orient": "top"}}  # fmt: skip
    shape = {"condition": {"test": "datum.found", "value": "circle"}, "value": "cross"}
    budget = {"data": {"values": [{"n": n_max}]}, "mark": {"type": "rule", "color": FLAG, "strokeDash": [4, 3]},
              "encoding": {"x": {**x, "field": "n"}}}  # fmt: skip
    lines = {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45},
             "encoding": {"x": {**x, "field": "least"}, "x2": {"field": "most"}, "y": y, "color": colour}}  # fmt: skip
    points = {"mark": {"type": "point", "filled": True, "opacity": 1, "size": 60},
              "encoding": {"x": {**x, "field": "median"}, "y": y, "color": colour, "shape": shape,
                           "tooltip": {"field": "tip", "type": "nominal"}}}  # fmt: skip
    drawn = {"data": {"values": records}, "layer": [lines, points]}
    return {"width": 420, "height": {"step": 15}, "layer": [budget, drawn]}


def summary(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row a trial: mutant ("" for none), seed, the named check and n, the first alarm and its n, replicates run."""
    rows = []
    for trial in trials:
        caught, first = trial["caught"] or {}, trial["first"] or {}
        rows.append({
            "mutant": trial["mutant"], "seed": trial["seed"], "check": caught.get("check"), "n": caught.get("n"),
            "first_check": first.get("check"), "first_n": first.get("n"), "passed": trial["passed"],
            "open": trial["open"], "replicates": trial["replicates"], "detail": (caught or first).get("detail"),
        })  # fmt: skip
    return pd.DataFrame(rows).astype({"n": "Int64", "first_n": "Int64"})


def readme(run: Mapping[str, Any], outcomes: Sequence[Outcome], clean: Sequence[Trial]) -> str:
    """The report as Markdown."""
    table = mutant_table(outcomes)
    seeds = {trial["seed"] for o in outcomes for trial in o.trials}
    checks = max((trial["passed"] + trial["open"] for trial in clean), default=0)
    lines = [f"# {TITLE}", "", answer(outcomes, clean, int(run["n_max"])), ""]
    lines += [
        f"![{CAPTION}](figures/replicates.svg)",
        "",
        CAPTION,
        "",
        f"**{table.caption}**",
        "",
        table.markdown(),
        "",
    ]
    lines += ["## Runs without a mutant", "", *clean_text(clean, checks, seeds)]
    lines += ["## How", "", method_text(run, outcomes, clean), ""]
    lines += [
        "Rendered by vcbench from stored outcomes alone, never edited; every run is in `summary.csv`. Again: "
        "`vcbench study run simulations/mutants.toml`, then `vcbench report runs/mutants --publish`."
    ]
    return "\n".join(lines) + "\n"
