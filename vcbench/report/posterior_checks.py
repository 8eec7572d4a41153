"""reports/posterior_checks: every point method in the posterior of every card, as a folder that any forge can show."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vcbench import numbers as num
from vcbench.bayes.check import FAR, SAME
from vcbench.report import provenance, svg

if TYPE_CHECKING:
    from vcbench.study.posterior_checks import CardCheck

STEM = "posterior_checks"
LIKELIHOOD = ("reml", "ml")
DIGITS = 7
EXPLAINED = (
    "Each estimate is placed in the posterior of its card: exact by quadrature for up to three parameters, by NUTS on "
    "the card's twin for more. *From the maximum*: the largest distance, in posterior SDs, of a likelihood method that "
    "converged from the maximum of its own likelihood as quadrature finds it (REML with β integrated out, ML jointly "
    "with β), whatever the prior. *Quantile*: share of the posterior below the estimate, smallest and largest over "
    "methods and covariance parameters. *Predictive*: P(T_rep ≥ T) of the variance ratio farthest from ½."
)


def publish(
    found: Sequence["CardCheck"], missing: Mapping[str, str], reports_dir: Path | str, record: Mapping[str, Any]
) -> Path:
    """Write `<reports_dir>/posterior_checks/`: README.md, figures/*.svg, summary.csv, provenance.json."""
    out = Path(reports_dir) / STEM
    figures = out / "figures"
    if figures.exists():
        shutil.rmtree(figures)
    figures.mkdir(parents=True)
    for one in found:
        svg.save(one.check.spec(_shown(one)), figures / f"{_stem(one.name)}.svg")
    summary(found).to_csv(out / "summary.csv", index=False, lineterminator="\n")
    own = provenance.public(record)
    text = json.dumps(
        {"report": STEM, "cards": [one.name for one in found], "provenance": [own]}, indent=1, ensure_ascii=False
    )
    (out / "provenance.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    (out / "README.md").write_text(readme(found, missing), encoding="utf-8", newline="\n")
    return out


def summary(found: Sequence["CardCheck"]) -> pd.DataFrame:
    """One row a card, fit and parameter; seven digits."""
    frame = pd.concat([one.frame for one in found], ignore_index=True)
    for column in frame.select_dtypes("float"):
        frame[column] = [float(f"{v:.{DIGITS}g}") for v in frame[column]]
    return frame


def readme(found: Sequence["CardCheck"], missing: Mapping[str, str]) -> str:
    """The report as Markdown: the answer, what does not hold, a table of cards, then card by card."""
    lines = ["# Do the point methods agree with the exact posterior?", "", answer(found), ""]
    lines += [_exceptions(found), ""]
    lines += [
        EXPLAINED,
        "",
        "| card | parameters | posterior | REML from the maximum | ML from the maximum | quantile of REML "
        "| quantile of ML | quantile of moments | predictive |",
        "| --- | ---: | --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for one in found:
        lines.append("| " + " | ".join(_cells(one)) + " |")
    lines.append("")
    for one in found:
        lines += _section(one)
    if missing:
        lines += ["## Cards without a check", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in missing.items()] + [""]
    lines.append("Rendered by vcbench, never edited. Again: `vcbench check models --posterior reports`.")
    return "\n".join(lines) + "\n"


def answer(found: Sequence["CardCheck"]) -> str:
    """The first paragraph."""
    rows = settled(found)
    exact = rows[rows["posterior"] == "exact"]
    at = exact[exact["mode"].notna()]
    n_fits = at.groupby(["card", "fit"]).ngroups
    off = at[at["mode_distance"] > SAME].groupby(["card", "fit"]).ngroups
    worst = num.significant(float(at["mode_distance"].max()), 1)
    theta = rows[~rows["edge"] & rows["is_theta"]]
    like = theta[theta["kind"] == "likelihood"]
    inside = int(((like["quantile"] >= FAR) & (like["quantile"] <= 1 - FAR)).sum())
    medians = {c: float(like[like["criterion"] == c]["quantile"].median()) for c in LIKELIHOOD}
    cards = exact["card"].nunique()
    yes = "Yes" if not off else f"All but {num.plural(off, 'fit')}"
    rest = "" if not off else " (the others are named below)"
    return (
        f"**{yes}.** On {num.plural(cards, 'model')} with an exact posterior, {num.count(n_fits - off)} of "
        f"{num.plural(n_fits, 'fit')} by likelihood methods that converged lie at the maximum of their own likelihood "
        f"in it, the farthest {worst} posterior SD away{rest}. Of {num.plural(len(like), 'estimate')} of covariance "
        f"parameters inside their range, {num.percent(inside / len(like))} lie inside the 95 % posterior interval. The "
        "posterior of a variance is skewed, so that its mode lies below its median: the median estimate has "
        f"{num.percent(medians['reml'], 0)} of the posterior below it by REML and {num.percent(medians['ml'], 0)} by "
        "ML."
    )


def settled(found: Sequence["CardCheck"]) -> pd.DataFrame:
    """The rows of fits that came to an end of their own, `edge`: on the boundary, or negative; `is_theta`."""
    parts = []
    for one in found:
        facts = next(iter(one.check.fits.values())).facts
        frame = one.frame
        kind = dict(zip(facts.theta_names, facts.is_variance, strict=True))
        frame["is_theta"] = frame["parameter"].isin(list(facts.theta_names))
        frame["edge"] = [
            kind.get(p, False) and not v > 0 for p, v in zip(frame["parameter"], frame["estimate"], strict=True)
        ]
        parts.append(frame)
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["status"].isin(["CONVERGED", "AT_BOUNDARY"])]


def _exceptions(found: Sequence["CardCheck"]) -> str:
    """What did not converge, did not agree, or stands outside."""
    said = []
    slow: dict[str, list[str]] = {}
    for one in found:
        for label, f in one.check.fits.items():
            if str(f.status) not in ("CONVERGED", "AT_BOUNDARY"):
                slow.setdefault(one.name, []).append(f"{label} ({f.status})")
    if slow:
        n = sum(len(v) for v in slow.values())
        parts = [f"{card}: {num.listing(labels)}" for card, labels in slow.items()]
        said.append(f"{num.plural(n, 'fit')} did not come to an end within the iterations allowed ({'; '.join(parts)})")
    rows = settled(found)
    off = rows[(rows["mode_distance"] > SAME) & (rows["posterior"] == "exact")]
    for (card, label), part in off.groupby(["card", "fit"], sort=False):
        row = part.loc[part["mode_distance"].idxmax()]
        said.append(
            f"on {card}, {label} has {row['parameter']} {num.significant(row['mode_distance'], 2)} posterior SD from "
            "the maximum"
        )
    theta = rows[rows["is_theta"] & ~rows["edge"]]
    out = theta[(theta["quantile"] < FAR) | (theta["quantile"] > 1 - FAR)]
    for (card, parameter), part in out.groupby(["card", "parameter"], sort=False):
        least, who = num.significant(part["quantile"].min(), 2), num.listing(list(part["fit"]), 5)
        said.append(f"on {card}, {who} place {parameter} outside its interval (quantile {least})")
    edge = rows[rows["edge"]]
    for (card, parameter), part in edge.groupby(["card", "parameter"], sort=False):
        median = num.estimate(part["posterior_median"].iloc[0], part["posterior_sd"].iloc[0])
        said.append(
            f"on {card}, {num.plural(part['fit'].nunique(), 'method')} give 0 or less for {parameter}, whose posterior "
            f"median is {median}"
        )
    bad = [f"{one.name} ({one.detail})" for one in found if one.status != "CONVERGED"]
    if bad:
        said.append(f"the posterior itself did not settle on {num.listing(bad)}")
    odd = [
        f"{c.statistic} of {one.name} (p = {num.plus_minus(c.p, c.mcse)})"
        for one in found
        for c in one.check.predictive
        if min(c.p, 1 - c.p) + 2 * c.mcse < FAR
    ]
    if odd:
        said.append(f"the model does not reproduce {num.listing(odd)}")
    if not said:
        return "No exception: every fit converged, and every model reproduces the variance ratios of its data."
    return "Exceptions:\n\n" + "\n".join(f"- {s[0].upper()}{s[1:]}." for s in said)


def _cells(one: "CardCheck") -> list[str]:
    rows = settled([one])
    cells = [
        f"[`{one.name}`](#{_stem(one.name)})",
        str(len(next(iter(one.check.fits.values())).facts.theta_names)),
        one.kind,
    ]
    for criterion in LIKELIHOOD:
        part = rows[(rows["criterion"] == criterion) & rows["mode_distance"].notna()]
        cells.append(num.significant(max(float(part["mode_distance"].max()), 1e-12), 1) if len(part) else num.ABSENT)
    theta = rows[rows["is_theta"]]
    likelihood = theta["kind"] == "likelihood"
    for which in (*(likelihood & (theta["criterion"] == c) for c in LIKELIHOOD), ~likelihood):
        part = theta[which]["quantile"]
        low, high = (num.fixed(float(x), 2) for x in (part.min(), part.max())) if len(part) else (num.ABSENT,) * 2
        cells.append(low if low == high else f"{low} to {high}")
    worst = min(one.check.predictive, key=lambda c: min(c.p, 1 - c.p), default=None)
    cells.append(num.ABSENT if worst is None else num.plus_minus(worst.p, worst.mcse))
    return cells


def _section(one: "CardCheck") -> list[str]:
    stem = _stem(one.name)
    lines = [f'<a id="{stem}"></a>', "", f"## {one.title}", "", f"Card `{one.name}`, n = {one.n_obs}. ", ""]
    lines[-2] += f"Posterior {one.kind}, {one.status}: {one.detail}; {num.seconds(one.seconds)}."
    lines += [f"![Posterior, likelihood and point estimates of {one.name}](figures/{stem}.svg)", ""]
    verdict, table = one.check.summary().split("\n\n", 1)
    lines += ["```text", verdict, "```", ""]
    lines += ["<details>", "<summary>The numbers</summary>", "", "```text", table, "```", "", "</details>", ""]
    lines += [
        "<details>",
        "<summary>Priors, and methods that are not there</summary>",
        "",
        "```text",
        one.priors,
        "```",
        "",
    ]
    lines += [f"- `{label}`: {reason}" for label, reason in one.left_out.items()]
    return [*lines, "", "</details>", ""]


def _shown(one: "CardCheck") -> list[str]:
    """Parameters that are drawn: θ, then β up to eight in all."""
    names = list(dict.fromkeys(one.check.frame["parameter"]))
    return names[: max(8, len(next(iter(one.check.fits.values())).facts.theta_names))]


def _stem(name: str) -> str:
    return name.replace(":", "-").replace("_", "-")
