"""What the methods cost, and whether parameter expansion pays."""

import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings, words
from vcbench.report.evidence import STEPS, show
from vcbench.report.findings import Findings, maximisers
from vcbench.report.verdicts.base import Verdict


def speed(found: Findings) -> Verdict | None:
    """Iterations of the maximisers relative to the one with fewest, and the CPU time of the extremes."""
    climbers = maximisers(found) if found.evidence.about(*STEPS) else []
    iterations = endings.typical(found.cost, "n_iter")
    iterations = iterations[iterations.index.isin(climbers)].sort_values(kind="stable")
    cpu = endings.typical(found.cost, "cpu_seconds").sort_values(kind="stable")
    if found.evidence.asked and len(cpu) > 1:
        said = [f"{method} {num.seconds(value)}" for method, value in cpu.items()]
        return Verdict("good", "Cost", f"CPU time of a fit and what it was asked: {num.listing(said, 12)}.", "speed")
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


def expansion(found: Findings) -> Verdict | None:
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


def is_about_expansion(found: Findings) -> bool:
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
