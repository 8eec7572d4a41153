"""How two methods differ on the same data sets, without the data sets: the numbers of a Bland–Altman plot.

With a the reference's estimate and b the other's on one replicate: the difference d = b − a against the mean
(a + b)/2. Told are mean and SD of d, its limits of agreement mean ± 1.96 SD (Bland & Altman 1986,
doi:10.1016/S0140-6736(86)90837-8), d in ten groups of equally many replicates by their mean, and the replicates
farthest off.
"""

from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import Evidence
from vcbench.report.explore.numbers import short, shorts
from vcbench.report.findings import Findings

GROUPS, FARTHEST, REPLICATES = 10, 5, 10


def pairs(found: Findings, parameters: tuple[str, ...]) -> dict[str, Any]:
    """The reference, and one entry a (condition, parameter, other method) with REPLICATES shared data sets or more."""
    e = found.evidence
    reference = reference_of(e)
    if reference is None:
        return {"reference": None, "cells": []}
    which = {p: i for i, p in enumerate(parameters)}
    who = {m: i for i, m in enumerate(e.methods)}
    out = []
    for place, condition in enumerate(e.conditions):
        if condition.real:
            continue
        rows = e.rows(condition.id)
        mine = rows[rows["estimate"].notna() & rows["parameter"].isin(e.judged)]
        for p in e.judged:
            part = mine[mine["parameter"] == p]
            wide = part.pivot_table(index="replicate", columns="method", values="estimate", aggfunc="first")
            if reference not in wide:
                continue
            for m in [m for m in e.methods if m in wide and m != reference]:
                both = wide[[reference, m]].dropna()
                if len(both) >= REPLICATES:
                    out.append({"c": place, "p": which[p], "m": who[m], **pair(both[reference], both[m])})
    return {"reference": who[reference], "cells": out}


def reference_of(evidence: Evidence) -> str | None:
    """The method the study names, else the first of the likelihood maximisers, else the first; None for one alone."""
    if len(evidence.methods) < 2:
        return None
    named = str(evidence.run.get("reference") or "")
    if named in evidence.methods:
        return named
    return next((m for m in evidence.methods if m in evidence.climbs), evidence.methods[0])


def pair(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    """The numbers of one Bland–Altman plot; `a` and `b` are estimates with the replicate as their index."""
    difference, middle = b - a, (a + b) / 2
    n, mean, sd = len(difference), float(difference.mean()), float(difference.std())
    order = np.argsort(middle.to_numpy(), kind="stable")
    groups = [g for g in np.array_split(order, min(GROUPS, n)) if len(g)]
    x, d = middle.to_numpy(), difference.to_numpy()
    far = np.argsort(-np.abs(d - mean), kind="stable")[:FARTHEST]
    return {
        "n": n, "mean": short(mean), "sd": short(sd), "same": short(float((np.abs(d) <= 1e-6 * np.abs(x)).mean())),
        "t": _text(mean, sd / np.sqrt(n)),
        "x": shorts([x[g].mean() for g in groups], 4),
        "d": shorts([np.median(d[g]) for g in groups], 4),
        "low": shorts([d[g].min() for g in groups], 4), "high": shorts([d[g].max() for g in groups], 4),
        "far": [[int(a.index[i]), short(x[i], 4), short(d[i], 4)] for i in far],
    }  # fmt: skip


def _text(mean: float, mcse: float) -> str:
    """`−0.12 ± 0.05`, and powers of ten where they are shorter."""
    if abs(mean) + mcse < 1e-4:
        return f"{num.significant(mean, 2)} ± {num.significant(mcse, 1)}"
    return num.plus_minus(mean, mcse)
