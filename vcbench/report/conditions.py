"""The conditions of a study: their factors, and short names that tell them apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Condition:
    """One cell of the study's grid; `real` where the truth is not known."""

    id: str
    label: str
    factors: Mapping[str, Any]
    real: bool
    data: str
    replicates: int


def name_conditions(
    first: pd.DataFrame, real: list[bool], replicates: list[int]
) -> tuple[tuple[str, ...], tuple[Condition, ...]]:
    """Conditions with labels made of the factors that vary among the simulated ones; `first`: a row of each."""
    columns = [c for c in first.columns if c.startswith("factor_")]
    heads = first.assign(condition=first["condition"].astype(str)).set_index("condition")[columns]
    no_truth, n = dict(zip(heads.index, real, strict=True)), dict(zip(heads.index, replicates, strict=True))
    simulated = heads[[not no_truth[key] for key in heads.index]]
    said = _varying(simulated)
    out = []
    for key, head in heads.sort_index().iterrows():
        known = {c.removeprefix("factor_"): _plain(head[c]) for c in columns if not _null(head[c])}
        data = str(known.get("data") or known.get("card") or known.get("generator") or "data")
        names = said.get(str(head.get("factor_data")), [])
        parts = [str(known[c]) if c == "data" else f"{c}={show(known[c])}" for c in names if c in known]
        label = f"{data} data" if no_truth[key] else ", ".join(parts) or f"simulated {data}"
        out.append(Condition(str(key), label, known, no_truth[key], data, n[key]))
    factors = tuple(dict.fromkeys(name for names in said.values() for name in names))
    said_often: dict[str, int] = {}
    for c in out:
        said_often[c.label] = said_often.get(c.label, 0) + 1
    fixed = [c if said_often[c.label] == 1 else _renamed(c) for c in out]
    return factors, tuple(fixed)


def _varying(simulated: pd.DataFrame) -> dict[str, list[str]]:
    """For each data entry the factors that tell its conditions apart; `data` first where there are several entries."""
    entry = simulated["factor_data"].astype(str) if "factor_data" in simulated else pd.Series("", simulated.index)
    several = ["data"] if entry.nunique() > 1 else []
    others = [c for c in simulated.columns if c != "factor_data"]
    return {
        str(name): several + [c.removeprefix("factor_") for c in others if part[c].astype(str).nunique() > 1]
        for name, part in simulated.groupby(entry, sort=False)
    }


def _renamed(c: Condition) -> Condition:
    extra = ", ".join(f"{k}={show(v)}" for k, v in c.factors.items() if k not in ("data", "card", "generator"))
    return Condition(c.id, f"{c.label} ({extra or c.id})", c.factors, c.real, c.data, c.replicates)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def show(value: Any) -> str:
    """A factor's level as text: 0.30000000000000004 is 0.3."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
