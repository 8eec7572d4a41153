"""Who computed the rows, without names of hosts, people or places."""

from collections.abc import Mapping
from typing import Any

from vcbench import numbers as num
from vcbench.report.evidence import Evidence
from vcbench.report.tables import Table, head

PRIVATE = (
    "host",
    "node",
    "user",
    "login",
    "path",
    "cwd",
    "folder",
    "directory",
    "executable",
    "prefix",
    "pid",
    "home",
    "address",
)


def provenance(evidence: Evidence) -> list[dict[str, str]]:
    """Who computed the rows, without names of hosts, people or places: records that do not contradict each other are
    one (a shard names the other program that it ran, if any)."""
    records = [*evidence.provenance]
    if isinstance(evidence.run.get("provenance"), Mapping):
        records.append(evidence.run["provenance"])
    out: list[dict[str, str]] = []
    for record in records:
        clean = public(record)
        alike = next((o for o in out if all(o[k] == clean[k] for k in clean.keys() & o.keys())), None)
        if alike is not None:
            alike.update(clean)
        elif clean:
            out.append(clean)
    return out


def public(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    clean: dict[str, str] = {}
    for key, value in sorted(record.items()):
        if any(word in str(key).lower() for word in PRIVATE):
            continue
        if isinstance(value, Mapping):
            clean |= public(value, f"{prefix}{key} ")
        elif not _path_like(str(value)):
            clean[f"{prefix}{key}"] = str(value)
    return clean


def _path_like(text: str) -> bool:
    return text.startswith(("/", "~", "file:", "\\\\")) or ":\\" in text or "://" in text


def provenance_table(evidence: Evidence) -> Table:
    records = provenance(evidence)
    names = list(dict.fromkeys(k for r in records for k in r))
    rows = tuple((head(k), *(head(r.get(k, num.ABSENT)) for r in records)) for k in names)
    columns = ("", *(f"record {i + 1}" if len(records) > 1 else "value" for i in range(len(records))))
    return Table("provenance", "Where the rows come from: versions and processor", columns, rows)
