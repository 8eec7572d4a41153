"""What one run leaves to a history of runs: its verdicts with their numbers, and each method's iterations and cost.

A record is a mapping that JSON can hold, a few kilobytes whatever the size of the run, so that a history can be kept
where rows cannot.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vcbench.errors import StoreError
from vcbench.study.parts import iter_fits
from vcbench.study.store import RUN, read_run
from vcbench.study.verdicts import run_verdicts

SCHEMA = "vcbench/history/1"
Record = dict[str, Any]


def read_records(paths: Iterable[Path | str]) -> list[Record]:
    """The records of run folders, of folders that hold run folders, and of histories kept before (`*.json`), each run
    once, by their start.

    Raises StoreError for a path that is none of these.
    """
    found: dict[tuple[str, str, int], Record] = {}
    for path in map(Path, paths):
        for one in _read(path):
            found[one["study"], one["started"], one["seed"]] = one
    return sorted(found.values(), key=lambda one: (one["started"], one["study"]))


def _read(path: Path) -> list[Record]:
    if path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["schema"] == SCHEMA:
                return list(kept["runs"])
        except (ValueError, KeyError, TypeError):
            pass
        raise StoreError(f"`{path}` is no history: a file must be one that `vcbench history` wrote.")
    folders = [path] if (path / RUN).is_file() else sorted(run.parent for run in path.glob(f"*/{RUN}"))
    if not folders:
        raise StoreError(f"`{path}` is no run folder and holds none: there is no {RUN} in it.")
    return [record(folder) for folder in folders]


def record(folder: Path) -> Record:
    """The record of a run folder, a study's or a calibration's."""
    run = read_run(folder)
    made = run.get("provenance", {})
    study = run.get("study") or f"calibration of {run.get('name')}"
    labels = {
        c["id"]: " ".join([c["data"], *(f"{k}={v}" for k, v in c["factors"].items() if k != "data")])
        for c in run.get("conditions", [])
    }
    checks = []
    for v in run_verdicts(folder):
        if "numbers" in v:
            numbers = v["numbers"]
            where = labels.get(numbers.get("condition", ""), "")
            checks.append({**numbers, "verdict": v["verdict"], "condition": where, "detail": v["detail"]})
    return {
        "study": study,
        "title": run.get("title") or study,
        "started": run["started"],
        "seed": int(run["seed"]),
        "version": run["version"],
        "processor": made.get("processor", ""),
        "checks": checks,
        "methods": {} if "kind" in run else _costs(folder),
    }


def _costs(folder: Path) -> dict[str, dict[str, float | None]]:
    """Median iterations and processor seconds of a method's fits, and how many there are."""
    found: dict[str, list[Any]] = {}
    for _, label, fits in iter_fits(folder, ["n_iter", "cpu_seconds"]):
        found.setdefault(label, []).append(fits[["n_iter", "cpu_seconds"]])
    costs: dict[str, dict[str, float | None]] = {}
    for label, parts in found.items():
        fits = pd.concat(parts)
        costs[label] = {
            "n_iter": _median(fits["n_iter"]),
            "cpu_seconds": _median(fits["cpu_seconds"]),
            "fits": len(fits),
        }
    return costs


def _median(x: Any) -> float | None:
    middle = float(x.median())
    return None if middle != middle else middle


def released_before(records: Sequence[Record], one: Record) -> Record | None:
    """The newest run of the same study, on the same processor, of another version, that began before this one."""
    earlier = [
        r
        for r in records
        if r["study"] == one["study"]
        and r["processor"] == one["processor"]
        and r["version"] != one["version"]
        and r["started"] < one["started"]
    ]
    return max(earlier, key=lambda r: r["started"], default=None)


def cost_ratio(records: Sequence[Record], one: Record, method: str) -> float | None:
    """A method's median processor seconds a fit, over those of the release before; None where there is none."""
    before = released_before(records, one)
    now, then = (r["methods"].get(method, {}).get("cpu_seconds") if r else None for r in (one, before))
    return now / then if now and then else None


def history_bytes(records: Sequence[Record]) -> bytes:
    """The records as a file that `read_records` reads."""
    return (json.dumps({"schema": SCHEMA, "runs": list(records)}, ensure_ascii=False, indent=1) + "\n").encode()
