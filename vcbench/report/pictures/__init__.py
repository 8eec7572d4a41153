"""The report's pictures, in the order of the page."""

from collections.abc import Iterator

from vcbench.report.findings import Findings
from vcbench.report.pictures.agreement import agreement
from vcbench.report.pictures.base import PARAMETERS, Figure
from vcbench.report.pictures.convergence import convergence
from vcbench.report.pictures.ends import ends
from vcbench.report.pictures.judged import bias, coverage, errors
from vcbench.report.pictures.nested import nested
from vcbench.report.pictures.real import real
from vcbench.report.pictures.speed import speed
from vcbench.report.pictures.zips import zips

__all__ = ["Figure", "figures"]


def figures(found: Findings) -> list[Figure]:
    """All pictures the rows support."""
    sources = (real, agreement, _judged, convergence, speed, nested, ends)
    return [figure for source in sources for figure in source(found)]


def _judged(found: Findings) -> Iterator[Figure]:
    for make in (bias, errors, coverage, zips):
        for parameter in found.evidence.judged[:PARAMETERS]:
            yield from make(found, parameter)
