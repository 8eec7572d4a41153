"""What the interactive page draws from: the aggregates of a study as one packed text, never its rows.

    {"methods": …, "conditions": …, "parameters": …, "measures": …,      cells.py
     "zips": …,                                                          intervals.py
     "pairs": …,                                                         pairs.py
     "paths": …,                                                         paths.py
     "endings": …, "missing": …}                                         ends.py

Values are written to five significant digits, texts as the tables of the page write them.
"""

import gzip
import json
from base64 import b64encode
from typing import Any

from vcbench.report.evidence import INTERVALS
from vcbench.report.explore.cells import cells, conditions, measures, methods
from vcbench.report.explore.ends import ends, missing
from vcbench.report.explore.intervals import zips
from vcbench.report.explore.pairs import pairs
from vcbench.report.explore.paths import paths
from vcbench.report.findings import Findings

__all__ = ["collect", "pack"]


def collect(found: Findings) -> dict[str, Any]:
    """The aggregates, with methods, conditions, parameters and measures named by their places in their lists."""
    table = cells(found)
    return {
        "study": found.evidence.stem,
        "level": found.level,
        "factors": list(found.evidence.factors),
        "methods": methods(found),
        "conditions": conditions(found),
        "parameters": list(table.parameters),
        "judged": len(found.evidence.judged),
        "measures": measures(table),
        "zips": zips(found, table.parameters) if found.evidence.about(*INTERVALS) else [],
        "pairs": pairs(found, table.parameters),
        "paths": paths(found),
        "endings": ends(found),
        "missing": missing(found),
    }


def pack(data: dict[str, Any]) -> str:
    """JSON, gzipped, in base64; equal data give equal texts."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
