"""The report of calibrations: a README with its pictures, from the rows of run folders alone.

A folder holds one calibration folder (`run.json` with kind "sbc") a model, or is one itself. The first paragraph
answers whether each method is calibrated; then follow what was found method by method and model by model, planted bugs,
costs, pictures and the numbers behind them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.errors import StoreError
from vcbench.report import families
from vcbench.report.provenance import PRIVATE
from vcbench.report.tables import Cell, Table, head
from vcbench.study.sbc import MOST_LOST, POWER, SHIFT, Sbc, read_sbc
from vcbench.study.sbc_mutants import MUTANTS
from vcbench.study.sbc_run import KIND
from vcbench.study.sbc_words import evalue, pvalue
from vcbench.study.store import RUN, read_provenance, read_run

GLYPH = {"PASS": "●", "INCONCLUSIVE": "▲", "FAIL": "■"}
SUFFIXES = {" (var)": "variance", " (sd)": "SD", " (log)": "log", " (Fisher z)": "Fisher z"}
OTHER = "simuk.json"  # what a benchmark of another program left beside the runs


@dataclass(frozen=True)
class Calibrated:
    """One model with every method that was judged on it."""

    folder: Path
    run: dict[str, Any] = field(repr=False)
    found: tuple[Sbc, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The model."""
        return str(self.run["name"])

    def mutant(self, one: Sbc) -> str:
        """The planted bug of a method, "" for none."""
        return str(self.run["methods"][one.method]["mutant"])

    @cached_property
    def plain(self) -> tuple[Sbc, ...]:
        """Methods without a planted bug, related ones together."""
        own = {one.method: one for one in self.found if not self.mutant(one)}
        named = {label: entry["name"] for label, entry in self.run["methods"].items()}
        return tuple(own[m] for m in families.in_order(own, named))

    @cached_property
    def mutants(self) -> tuple[Sbc, ...]:
        """Methods with one."""
        return tuple(sorted((one for one in self.found if self.mutant(one)), key=self.mutant))


def find_calibrations(folder: Path | str) -> list[Calibrated]:
    """The calibrations of a folder or of those in it. Raises StoreError where there is none."""
    folder = Path(folder)
    places = [folder] if (folder / RUN).is_file() else sorted(p.parent for p in folder.glob(f"*/{RUN}"))
    out = [Calibrated(p, run, tuple(read_sbc(p))) for p in places if (run := read_run(p)).get("kind") == KIND]
    out = [one for one in out if one.found]
    if not out:
        raise StoreError(f"`{folder}` holds no calibration. Run `vcbench sbc CARD` first.")
    return out


def is_calibration(folder: Path | str) -> bool:
    """True for a folder of calibrations."""
    folder = Path(folder)
    if (folder / RUN).is_file():
        return read_run(folder).get("kind") == KIND
    return any(read_run(p.parent).get("kind") == KIND for p in folder.glob(f"*/{RUN}"))


def methods_of(all_: Sequence[Calibrated]) -> list[str]:
    """Labels without planted bugs, in order."""
    return families.in_order(dict.fromkeys(one.method for c in all_ for one in c.plain))


def answer(all_: Sequence[Calibrated]) -> str:
    """The first paragraph: is each method calibrated?"""
    right, wrong, open_ = [], [], []
    for method in methods_of(all_):
        own = [one for c in all_ for one in c.plain if one.method == method]
        bad = [one for one in own if one.verdict == "FAIL"]
        if bad:
            wrong.append(f"**{method}** (not on {len(bad)} of {len(own)} models)")
        elif any(one.verdict == "INCONCLUSIVE" for one in own):
            open_.append(f"**{method}**")
        else:
            right.append(f"**{method}** ({len(own)} of {len(own)} models)")
    said = []
    if right:
        said.append(f"Calibrated: {_and(right)}.")
    if wrong:
        said.append(f"Not calibrated: {_and(wrong)}.")
    if open_:
        said.append(f"Nothing found, but not enough to tell: {_and(open_)}.")
    bugs = [(c, one) for c in all_ for one in c.mutants]
    if bugs:
        met = sum(one.verdict == "FAIL" for _, one in bugs)
        said.append(f"Planted bugs: {met} of {len(bugs)} runs with one found it.")
    alarm = max(one.alarm for c in all_ for one in c.found)
    said.append(f"Chance of a false FAIL: {alarm:g} a run, all its quantities together.")
    return " ".join(said)


def findings(all_: Sequence[Calibrated]) -> Iterator[str]:
    """A line a method: what was found, and where it is worst."""
    for method in methods_of(all_):
        own = [(c, one) for c in all_ for one in c.plain if one.method == method]
        word = next(w for w in ("FAIL", "INCONCLUSIVE", "PASS") if any(one.verdict == w for _, one in own))
        rows = pd.concat([one.table().assign(model=c.name) for c, one in own])
        rows = rows[rows["n"] > 1]
        if word == "PASS":
            text = (
                f"Every one of {len(rows)} quantities of {num.plural(len(own), 'model')} is uniform: smallest p "
                f"{pvalue(rows['p'].min())}, largest e-value {evalue(rows['e'].max())}."
            )
        elif own[0][1].kind == "normal":
            text = f"{_by_scale(rows)} {_worst(rows)}"
        elif word == "FAIL":
            bad = rows[rows["verdict"] == "FAIL"]
            text = f"{len(bad)} of {len(rows)} quantities are not uniform. {_worst(rows)}"
        else:
            open_ = rows[rows["verdict"] == "INCONCLUSIVE"]
            text = (
                f"Nothing found; {len(open_)} of {len(rows)} quantities open: {open_['words'].value_counts().index[0]}."
            )
        yield f"- {GLYPH[word]} **{method}.** {text}"


def _by_scale(rows: pd.DataFrame) -> str:
    said = []
    scale = pd.Series(
        [next((w for s, w in SUFFIXES.items() if q.endswith(s)), "natural") for q in rows.index], rows.index
    )
    for word in ("variance", "SD", "log", "Fisher z", "natural"):
        part = rows[scale == word]
        if len(part):
            bad = int((part["verdict"] == "FAIL").sum())
            said.append(f"{word} scale: {bad} of {len(part)} quantities not uniform")
    lost = rows["gated"].sum() / max(1, (rows["gated"] + rows["n"]).sum())
    none = f" No SE, on the boundary, in {lost:.1%} of all." if lost > 0 else ""
    return f"Normal approximation, {'; '.join(said)}.{none}"


def _worst(rows: pd.DataFrame) -> str:
    bad = rows[rows["verdict"] == "FAIL"]
    if bad.empty:
        return ""
    size = bad["mean_z"].abs() + (np.log(bad["sd_z"])).abs()
    at = int(np.argmax(size.to_numpy()))
    row = bad.iloc[at]
    how = f"p {pvalue(row['p'])}, e-value {evalue(row['e'])}"
    return f"Worst: {bad.index[at]} of {row['model']} is {row['words']} ({how})."


def verdict_table(all_: Sequence[Calibrated]) -> Table:
    """Methods by models."""
    rows = []
    for method in methods_of(all_):
        cells: list[Cell] = [head(method)]
        for c in all_:
            one = next((o for o in c.plain if o.method == method), None)
            if one is None:
                cells.append(head(num.ABSENT))
                continue
            table = one.table()
            bad = int((table["verdict"] == "FAIL").sum())
            text = f"{GLYPH[one.verdict]} {one.verdict}" + (f" {bad}/{len(table)}" if bad else "")
            cells.append(head(text))
        rows.append(tuple(cells))
    return Table(
        "verdicts",
        "Is it calibrated? Method by model; n/m: so many of the quantities are not",
        ("method", *(c.name for c in all_)),
        tuple(rows),
    )


def mutant_table(all_: Sequence[Calibrated]) -> Table | None:
    """Planted bugs: found or not, by what, and how soon."""
    rows = []
    for c in all_:
        for one in c.mutants:
            table = one.table()
            bad = table[table["verdict"] == "FAIL"]
            first = bad["alarm_at"].dropna()
            base = str(c.run["methods"][one.method]["name"])
            code = c.mutant(one)
            rows.append(
                (
                    head(f"{code}: {MUTANTS.get(code, '')}"),
                    head(c.name),
                    head(base),
                    Cell(num.count(one.n), one.n),
                    head("found" if len(bad) else "not found"),
                    head(", ".join(map(str, bad.sort_values("e", ascending=False).index[:3])) or num.ABSENT),
                    Cell(num.count(int(first.min())) if len(first) else num.ABSENT),
                )
            )
    if not rows:
        return None
    columns = ("planted bug", "model", "method", "replicates", "", "shown most by", "first alarm after")
    return Table("bugs", "Planted bugs, and what found them", columns, tuple(rows))


def cost_table(all_: Sequence[Calibrated]) -> Table:
    """CPU time of a replicate, and what was gated."""
    rows = []
    for c in all_:
        for one in c.plain:
            fits = one.rows.drop_duplicates("replicate")
            cpu = fits["cpu_seconds"].astype(float)
            again = int((fits["runs"] > 1).sum()) if "runs" in fits else 0
            lost = int(one.gated.sum())
            rows.append(
                (
                    head(c.name),
                    head(one.method),
                    Cell(num.count(one.n), one.n),
                    Cell(num.seconds(float(cpu.median())), float(cpu.median())),
                    Cell(num.seconds(float(cpu.sum())), float(cpu.sum())),
                    Cell(num.count(again), again),
                    Cell(f"{num.count(lost)} ({lost / max(1, one.n):.1%})", lost),
                )
            )
    columns = ("model", "method", "replicates", "CPU a replicate (median)", "CPU in all", "run longer", "left out")
    return Table("cost", "What it cost", columns, tuple(rows), heads=2)


def quantity_table(c: Calibrated) -> Table:
    """Every test of a model."""
    rows = []
    for one in (*c.plain, *c.mutants):
        for name, r in one.table().iterrows():
            rows.append(
                (
                    head(one.method), head(str(name)), Cell(num.count(int(r["n"])), r["n"]),
                    Cell(num.count(int(r["gated"])), r["gated"]), Cell(pvalue(r["p"]), r["p"]),
                    Cell(evalue(r["e"]), r["e"]), Cell(num.fixed(r["mean_z"], 2), r["mean_z"]),
                    Cell(num.fixed(r["sd_z"], 2), r["sd_z"]), head(r["verdict"]), head(r["words"]),
                )
            )  # fmt: skip
    columns = ("method", "quantity", "n", "left out", "p (band)", "e-value", "mean z", "SD z", "verdict", "in words")
    return Table(f"tests-{c.name}", f"{c.name}: every quantity by every method", columns, tuple(rows), heads=2)


def rival_text(folder: Path) -> str:
    """What a benchmark beside the runs measured of another program, if there is one."""
    path = folder / OTHER
    if not path.is_file():
        return ""
    m = json.loads(path.read_text(encoding="utf-8"))
    forms = {
        "effects": "with its effects, as it is usually written",
        "marginal": "with the effects integrated out by hand",
    }
    said = [f"{m[k]['cpu']:.2f} s on the model {words} ({m[k]['ratio']:.0f} ×)" for k, words in forms.items() if k in m]
    return (
        f"{m['program']} {m['version']} on {m['replicates']} replicates of `{m['card']}`, in one run on one machine, "
        f"the same chains by nutpie, CPU seconds a replicate after the first: {_and(said)}, against "
        f"{m['own_cpu']:.3f} s here."
    )


def method_text(all_: Sequence[Calibrated]) -> str:
    """How it was done, in a paragraph."""
    each = {f"{one.alarm_each:.1e}" for c in all_ for one in c.found}
    return (
        "Each replicate draws θ (and β, where it has a prior; else β is fixed, which a flat prior's posterior cannot "
        "tell) from the prior and y from the model; the method sees y, and the place of the truth in its answer (PIT) "
        "is uniform if it is right. Draws are thinned to their effective number and ranked with ties split at random; "
        "quadrature gives the PIT exactly; an estimate with a covariance matrix is taken as a normal approximation on "
        "each scale. Two tests look at each quantity: the exact simultaneous band of the empirical distribution "
        "function (Säilynoja, Bürkner & Vehtari 2022) and an e-process over shifts and spreads, which may be looked at "
        f"any time. FAIL: p below {' or '.join(sorted(each))}, or an e-value above its inverse. PASS: neither, with "
        f"enough replicates to find a shift of {SHIFT} posterior SDs with probability {POWER}, and at most "
        f"{MOST_LOST:.0%} left out. Chains that miss a gate (R̂ ≤ 1.01, bulk and tail ESS ≥ 400, no divergence, "
        "E-BFMI ≥ 0.2) are run once more, four times as long, and left out if they miss it again. Pictures show the "
        "95 % band of a single quantity: one calibrated quantity in twenty leaves it."
    )


def summary(all_: Sequence[Calibrated]) -> pd.DataFrame:
    """Every test, long: model, method, quantity, n, gated, p, e, alarm_at, mean_z, sd_z, verdict, words."""
    parts = [
        one.table().reset_index().assign(model=c.name, method=one.method)
        for c in all_
        for one in (*c.plain, *c.mutants)
    ]
    frame = pd.concat(parts, ignore_index=True)
    for column in ("p", "e", "mean_z", "sd_z"):
        frame[column] = [float(f"{v:.5g}") for v in frame[column].astype(float)]
    order = ["model", "method", "quantity", "n", "gated", "p", "e", "alarm_at", "mean_z", "sd_z", "verdict", "words"]
    return frame[order]


def provenance_of(all_: Sequence[Calibrated]) -> list[dict[str, str]]:
    """Who computed the rows, without hosts."""
    out: list[dict[str, str]] = []
    for c in all_:
        for record in read_provenance(c.folder):
            clean = {k: str(v) for k, v in sorted(record.items()) if not any(w in k.lower() for w in PRIVATE)}
            if clean not in out:
                out.append(clean)
    return out


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
