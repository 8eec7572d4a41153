"""The report's pictures, in the order of the page."""

from collections.abc import Iterator

from vcbench.report.evidence import BIASES, ERRORS, INTERVALS, PAIRED, STEPS, TIMES
from vcbench.report.findings import Findings
from vcbench.report.pictures.agreement import agreement
from vcbench.report.pictures.base import PARAMETERS, Figure
from vcbench.report.pictures.convergence import convergence
from vcbench.report.pictures.ends import ends
from vcbench.report.pictures.judged import bias, coverage, errors
from vcbench.report.pictures.nested import nested
from vcbench.report.pictures.real import real
from vcbench.report.pictures.rejections import power, size
from vcbench.report.pictures.speed import speed
from vcbench.report.pictures.zips import zips

__all__ = ["Figure", "figures"]


def figures(found: Findings) -> list[Figure]:
    """All pictures that the rows support and that the study is about."""
    about = found.evidence.about
    sources = (
        real,
        *([agreement] if about(*PAIRED) else []),
        _judged,
        *([convergence] if about(*STEPS) else []),
        *([speed] if about(*STEPS, *TIMES) else []),
        nested,
        ends,
    )
    return [figure for source in sources for figure in source(found)]


def _judged(found: Findings) -> Iterator[Figure]:
    """Each parameter by what there is to judge."""
    about = found.evidence.about
    makers = (
        (bias, about(*BIASES)),
        (errors, about(*ERRORS)),
        (coverage, about(*INTERVALS)),
        (zips, about(*INTERVALS)),
        (size, about("rejection")),
        (power, about("rejection")),
    )
    for make in [make for make, wanted in makers if wanted]:
        for parameter in found.evidence.judged[:PARAMETERS]:
            yield from make(found, parameter)
