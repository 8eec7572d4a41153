"""What the study shows, as sentences: templates filled from the findings, with thresholds that are written here.

A sentence is `good` (●: holds), `note` (▲: worth a look) or `bad` (■: a method failed the claim), and names the section
that holds its evidence. Nothing is said that is not computed; nothing is computed from single replicates.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings, words
from vcbench.report.agreement import SAME
from vcbench.report.evidence import show
from vcbench.report.findings import Findings, maximisers

GLYPH = {"good": "●", "note": "▲", "bad": "■"}
SPOKEN = {"good": "holds", "note": "note", "bad": "does not hold"}
MANY = 0.05  # a share of missing results that makes the other sentences doubtful
ALARM = 0.10  # a share of flagged cells that chance (0.05) does not explain well


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence: `level` good, note or bad; `lead` a word or two in bold; `section` the anchor of its evidence."""

    level: str
    lead: str
    text: str
    section: str


def verdicts(found: Findings) -> list[Verdict]:
    """The sentences of the first screen, in reading order; those without evidence are absent."""
    expansion = _expansion(found)
    first = [expansion] if _is_about_expansion(found) else []
    made = [
        *first,
        _agreement(found, real=True),
        _agreement(found, real=False),
        _others(found),
        _bias(found),
        _coverage(found),
        _errors(found),
        _speed(found),
        *([] if first else [expansion]),
        _missing(found),
        _acceptance(found),
    ]
    return [v for v in made if v is not None]


def _agreement(found: Findings, real: bool) -> Verdict | None:
    """Do the maximisers of each criterion give one answer? Threshold: a thousandth of a standard error."""
    conditions = found.evidence.real if real else found.evidence.simulated
    climbers = maximisers(found)
    part = found.agreement[
        found.agreement["condition"].isin([c.id for c in conditions]) & found.agreement["method"].isin(climbers)
    ]
    pairs = [(c, g) for c, g in part.groupby("criterion", sort=True) if g["method"].nunique() > 1]
    if not pairs:
        return None
    agree, differ, worst, compared, early = [], [], 0.0, 0, 0
    for criterion, group in pairs:
        by = group.groupby("method", sort=False)
        share = {
            m: float(np.average(g["share_same"].fillna(0), weights=g["n"])) if g["n"].sum() else np.nan for m, g in by
        }
        odd = [m for m, s in share.items() if s < 1]
        count = sum(1 for s in share.values() if s == 1)
        if count > 1:
            agree.append(f"{num.count(count)} {criterion.upper()} methods")
        for m in odd:
            far = float(by.get_group(m)["largest"].max())
            differ.append((m, share[m], far))
        worst = max(worst, float(group.loc[~group["method"].isin(odd), "largest"].max()) if count else 0.0)
        compared += int(group["n"].sum())
        early += int(group["early"].sum())
    where = (
        f"On {num.listing([c.data for c in conditions], 4)}"
        if real
        else f"On {num.plural(sum(c.replicates for c in conditions), 'simulated data set')}"
    )
    closest = f"(largest distance {num.significant(worst, 1)} SE)" if worst > 0 else "(identical)"
    if not differ:
        within = " within each criterion" if len(agree) > 1 else ""
        text = f"{where} {' and '.join(agree)} give the same estimates{within} {closest}."
        level = "good"
    else:
        names = [f"{m} in {num.percent(s)} of its fits (farthest {num.significant(far, 2)} SE)" for m, s, far in differ]
        head = f"{where} {' and '.join(agree)} give the same estimates {closest}; " if agree else f"{where} "
        text = f"{head}closer than {SAME:g} SE to the best maximum: {num.listing(names, 4)}."
        level = "bad" if min(s for _, s, _ in differ) < 0.99 else "note"
    if early:
        who = part[part["early"] > 0].groupby("method", sort=False)["early"].sum()
        far = float(part["early_largest"].max())
        places = part.loc[part["early"] > 0, "condition"].unique()
        at = f" on {num.listing([found.label(c) for c in places], 2)}" if real else ""
        text += f" Not counted: {num.plural(early, 'fit')} stopped early ({num.listing(list(who.index), 4)}{at}), "
        text += f"up to {num.significant(far, 2)} SE away."
        level = "note" if level == "good" else level
    return Verdict(level, "Real data" if real else "Simulated data", text, "agreement")


def _others(found: Findings) -> Verdict | None:
    """Methods that answer another question: how far from REML they typically are."""
    climbers = maximisers(found)
    part = found.agreement[~found.agreement["method"].isin(climbers) & (found.agreement["n"] > 0)]
    if part.empty:
        return None
    texts = []
    for method, group in part.groupby("method", sort=False):
        middle, far = float(group["median"].median()), group.loc[group["largest"].idxmax()]
        against = str(group["against"].iloc[0]).upper() or "the maximum"
        if far["largest"] <= SAME:
            texts.append(f"{method} gives the {against} estimates")
        elif middle <= SAME:
            size = num.significant(far["largest"], 2)
            where = found.label(far["condition"])
            texts.append(f"{method} gives the {against} estimates but for some, up to {size} SE away ({where})")
        else:
            texts.append(f"{method} lies {num.significant(middle, 2)} SE from {against} in the median")
    return Verdict("good", "Other answers", f"Not maximisers, so no fault: {num.listing(texts, 6)}.", "agreement")


def _cells_of(found: Findings, methods: tuple[str, ...], column: str) -> pd.DataFrame:
    cells = found.cells[
        found.cells["parameter"].isin(found.evidence.judged) & (found.cells["method"] == found.representative(methods))
    ]
    return cells[cells[column].notna()]


def _where(found: Findings, cell: pd.Series) -> str:
    several = len(found.evidence.simulated) > 1
    return f"{cell['parameter']}{', ' + found.label(cell['condition']) if several else ''}"


def _signed(value: float, mcse: float) -> str:
    text = num.plus_minus(value, mcse)
    return f"+{text}" if value > 0 else text


def _counts(parts: list[tuple[str, int, int]]) -> str:
    """`5 of 16 cells for REML maximisers, 11 of 16 for ML maximisers`."""
    cells = [num.plural(n, "cell") if i == 0 else num.count(n) for i, (_, _, n) in enumerate(parts)]
    said = [f"{k or 'none'} of {of} for {name}" for (name, k, _), of in zip(parts, cells, strict=True)]
    return num.listing(said, 6)


def _bias(found: Findings) -> Verdict | None:
    """Per answer, the cells whose bias is off 0 by more than 2 MCSE; the largest of them relative to the truth."""
    parts, flagged = [], []
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "bias_mcse")
        if len(cells):
            parts.append((name, int(cells["bias_off"].sum()), len(cells)))
            flagged.append(cells[cells["bias_off"]].assign(answer=name))
    if not parts:
        return None
    text = f"Off zero by more than 2 MCSE in {_counts(parts)}"
    worst = pd.concat(flagged)
    relative = worst[worst["relative_bias"].notna()]
    if len(relative):
        cell = relative.iloc[int(relative["relative_bias"].abs().to_numpy().argmax())]
        size = f"{_signed(100 * cell['relative_bias'], 100 * cell['relative_bias_mcse'])} %"
        text += f". The largest: {cell['answer']} {size} ({_where(found, cell)})"
    alarm = max(k / n for _, k, n in parts) > ALARM
    return Verdict("note" if alarm else "good", "Bias", f"{text}.", "bias")


def _coverage(found: Findings) -> Verdict | None:
    """Per answer, the range of coverage over parameters and conditions; the lowest of all with its MCSE."""
    said, lows, alarm = [], [], False
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "coverage")
        if cells.empty:
            continue
        low = cells.iloc[int(cells["coverage"].to_numpy().argmin())]
        n_off = int(cells["coverage_off"].sum())
        alarm = alarm or n_off / len(cells) > ALARM
        ends = [num.percent(low["coverage"]), num.percent(float(cells["coverage"].max()))]
        said.append(
            f"{name} {' to '.join(dict.fromkeys(ends))} ({n_off or 'none'} of {num.plural(len(cells), 'cell')} off)"
        )
        lows.append(low)
    if not said:
        return None
    lowest = min(lows, key=lambda cell: float(cell["coverage"]))
    size = num.plus_minus(100 * lowest["coverage"], 100 * lowest["coverage_mcse"])
    text = f"Coverage: {num.listing(said, 6)}. The lowest: {lowest['method']} {size} % ({_where(found, lowest)})."
    return Verdict("note" if alarm else "good", f"{100 * found.level:g} % intervals", text, "coverage")


def _errors(found: Findings) -> Verdict | None:
    """Model SE against empirical SE: per answer the cells off by more than 2 MCSE, and the farthest of all."""
    parts, flagged = [], []
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "model_se_error")
        if len(cells):
            parts.append((name, int(cells["se_off"].sum()), len(cells)))
            flagged.append(cells[cells["se_off"]].assign(answer=name))
    if not parts:
        return None
    text = f"They differ from the scatter of the estimates by more than 2 MCSE in {_counts(parts)}"
    worst = pd.concat(flagged)
    if len(worst):
        cell = worst.iloc[int(worst["model_se_error"].abs().to_numpy().argmax())]
        size = f"{_signed(cell['model_se_error'], cell['model_se_error_mcse'])} %"
        text += f". The farthest: {cell['answer']} {size} ({_where(found, cell)})"
    alarm = max(k / n for _, k, n in parts) > ALARM
    return Verdict("note" if alarm else "good", "Standard errors", f"{text}.", "errors")


def _speed(found: Findings) -> Verdict | None:
    """Iterations of the maximisers relative to the one with fewest, and the CPU time of the extremes."""
    climbers = maximisers(found)
    iterations = endings.typical(found.cost, "n_iter")
    iterations = iterations[iterations.index.isin(climbers)].sort_values(kind="stable")
    cpu = endings.typical(found.cost, "cpu_seconds").sort_values(kind="stable")
    if len(iterations) < 2 and len(cpu) < 2:
        return None
    parts = []
    if len(iterations) > 1:
        first = iterations.index[0]
        near = [m for m in iterations.index if iterations[m] <= 3 * max(iterations[first], 1)]
        slow = [m for m in iterations.index if m not in near]
        low, high = iterations[near[0]], iterations[near[-1]]
        span = num.count(low) if round(low) == round(high) else f"{num.count(low)} to {num.count(high)}"
        parts.append(f"Iterations in the median: {num.listing(near, 6)} {span}")
        ratio = {m: f" ({num.times(iterations[m] / low)})" if low >= 1 else "" for m in slow}
        parts += [f"{m} {num.count(iterations[m])}{ratio[m]}" for m in slow[:6]]
        if len(slow) > 6:
            parts.append(f"{len(slow) - 6} more up to {num.count(iterations[slow[-1]])}")
        runs = found.cost[found.cost["method"].isin(iterations.index)].dropna(subset=["n_iter_p90"])
        top = runs.loc[runs["n_iter_p90"].idxmax()]
        text = "; ".join(parts)
        if top["n_iter_p90"] > 3 * max(iterations.iloc[-1], 1):
            text += f"; on {found.label(top['condition'])} {top['method']} took {num.count(top['n_iter_p90'])}"
    else:
        text = ""
    if len(cpu) > 1:
        ends = [f"{num.seconds(cpu.iloc[i])} ({cpu.index[i]})" for i in (0, -1)]
        cost = f"CPU time of a fit from {ends[0]} to {ends[1]}"
        text = f"{text}. {cost}" if text else cost
    return Verdict("good", "Cost", f"{text}.", "speed")


def _expansion(found: Findings) -> Verdict | None:
    """Does parameter expansion pay? The ratio of iterations and of CPU time, px-em against em, by condition."""
    pairs = [(m, base) for m in found.evidence.methods if (base := _base(found, m)) is not None]
    said: dict[str, list[str]] = {}
    ratios, clocks = [], []
    for expanded, base in dict(pairs).items():
        cost = found.cost[found.cost["method"].isin([expanded, base]) & (found.cost["n_iter"] > 0)].set_index(
            "condition"
        )
        mine, other = (cost[cost["method"] == m] for m in (expanded, base))
        ratio = (other["n_iter"] / mine["n_iter"]).dropna()
        if ratio.empty:
            continue
        ratios.append(ratio)
        clocks.append((other["cpu_seconds"] / mine["cpu_seconds"]).dropna())
        low, high = (num.times(float(r)).removesuffix(" times") for r in (ratio.min(), ratio.max()))
        span = low if low == high else f"{low} to {high}"
        said.setdefault(base, []).append(f"{span}{' times the iterations' if not said.get(base) else ''} of {expanded}")
    if not said:
        return None
    text = "; ".join(f"{base} takes {num.listing(parts, 4)}" for base, parts in said.items())
    every, clock = pd.concat(ratios), pd.concat(clocks)
    if len(ratios) == 1 and len(every) > 1:
        text += f", least on {found.label(str(every.idxmin()))}, most on {found.label(str(every.idxmax()))}"
    text += f". Expansion saves CPU time in {int((clock > 1).sum())} of {num.plural(len(clock), 'comparison')}."
    text += _trend(found, every)
    return Verdict("good", "PX-EM or EM", text, "conditions" if len(found.evidence.simulated) > 3 else "speed")


def _is_about_expansion(found: Findings) -> bool:
    """Half of the methods are a PX-EM or the EM it is held against: then that comparison is the answer."""
    methods = found.evidence.methods
    pairs = [(m, base) for m in methods if (base := _base(found, m)) is not None]
    return 2 * len({m for pair in pairs for m in pair}) >= len(methods) > 2


def _trend(found: Findings, ratio: pd.Series) -> str:
    """The median ratio by the levels of the two numeric factors it changes most with, where it changes twofold."""
    said = []
    for factor in found.evidence.factors:
        levels = pd.Series({c.id: c.factors.get(factor) for c in found.evidence.simulated}).reindex(ratio.index)
        if factor == "data" or levels.isna().all() or levels.nunique() < 2:
            continue
        middle = ratio.groupby(levels.to_numpy(), sort=True).median()
        change = float(middle.max() / middle.min())
        if change >= 2:
            by = ", ".join(f"{num.times(float(v)).removesuffix(' times')} at {show(k)}" for k, v in middle.items())
            said.append((change, f"by {factor}: {by}"))
    said.sort(key=lambda item: -item[0])
    return f" The median ratio {'; '.join(text for _, text in said[:2])}." if said else ""


def _base(found: Findings, expanded: str) -> str | None:
    """The plain EM to hold a PX-EM against: of its criterion, with its options where there is one, else the first."""
    e = found.evidence
    if not e.named[expanded].startswith("px-em"):
        return None
    plain = [m for m in e.methods if e.named[m] in ("em", "em-reml") and e.criteria[m] == e.criteria[expanded]]
    alike = [m for m in plain if words.options_of(e, m) == words.options_of(e, expanded)]
    return next(iter(alike or plain), None)


def _missing(found: Findings) -> Verdict:
    """Results that are missing (neither CONVERGED nor AT_BOUNDARY) by method and status, and the fits at a boundary."""
    counted = found.endings.groupby("status")["n"].sum()
    total = int(counted.sum() - counted.get("SKIPPED", 0))
    bad = int(found.missing["n"].sum())
    if bad:
        by = (
            found.missing.groupby(["method", "status"], sort=False)["n"]
            .sum()
            .sort_values(ascending=False, kind="stable")
        )
        parts = [f"{method} {num.count(n)} {status}" for (method, status), n in by.items()]
        text = f"{num.count(bad)} of {num.count(total)} fits ({num.percent(bad / total)}): {num.listing(parts, 7)}."
    else:
        text = f"None of {num.count(total)} fits."
    boundary = int(counted.get("AT_BOUNDARY", 0))
    if boundary:
        share = num.percent(boundary / total)
        text += f" {num.plural(boundary, 'fit')} ({share}) ended AT_BOUNDARY, the maximum being on the edge of the "
        text += "parameter space: a valid answer."
    level = "good" if not bad else "note" if bad <= MANY * total else "bad"
    return Verdict(level, "Missing results", text, "failures")


def _acceptance(found: Findings) -> Verdict | None:
    """The specification's own checks, where it has some."""
    counts = found.checks
    if not counts:
        return None
    text = num.listing([f"{num.count(n)} {word}" for word, n in counts.items()])
    level = "bad" if "FAIL" in counts else "note" if "INCONCLUSIVE" in counts else "good"
    return Verdict(level, "Acceptance", f"{text} of {num.plural(sum(counts.values()), 'check')}.", "acceptance")
