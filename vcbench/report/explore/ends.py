"""How fits ended in every (condition, method), and how to make one of those that are missing again."""

from typing import Any

from vcbench.report.findings import Findings
from vcbench.report.messages import pattern, together


def ends(found: Findings) -> dict[str, Any]:
    """Columns: places c and m, status, n."""
    at, who = _places(found)
    rows = found.endings
    return {
        "c": [at[c] for c in rows["condition"]],
        "m": [who[m] for m in rows["method"]],
        "status": [str(s) for s in rows["status"]],
        "n": [int(n) for n in rows["n"]],
    }


def missing(found: Findings, most: int = 2000) -> list[dict[str, Any]]:
    """What is no answer, most frequent first, by condition, method, status and message: n and a row to replay."""
    at, who = _places(found)
    bad = found.bad.assign(pattern=[pattern(m) for m in found.bad["message"]])
    out = []
    for (c, m, status, _), part in bad.groupby(["condition", "method", "status", "pattern"], sort=True):
        entry = {"c": at[c], "m": who[m], "status": status, "message": together(list(part["message"]))}
        out.append({**entry, "n": int(part["n"].sum()), "row": part["row"].iloc[0]})
    return sorted(out, key=lambda entry: -entry["n"])[:most]


def _places(found: Findings) -> tuple[dict[str, int], dict[str, int]]:
    e = found.evidence
    return {c.id: i for i, c in enumerate(e.conditions)}, {m: i for i, m in enumerate(e.methods)}
