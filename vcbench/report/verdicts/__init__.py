"""What the study shows, as sentences: templates filled from the findings, with thresholds that are written here.

A sentence is `good` (●: holds), `note` (▲: worth a look) or `bad` (■: a method failed the claim), and names the section
that holds its evidence. Nothing is said that is not computed; nothing is computed from single replicates.
"""

from vcbench.report.evidence import BIASES, ERRORS, INTERVALS, PAIRED, STEPS, TIMES
from vcbench.report.findings import Findings
from vcbench.report.verdicts.agreement import agreement, others
from vcbench.report.verdicts.base import GLYPH, SPOKEN, Verdict
from vcbench.report.verdicts.cost import expansion, is_about_expansion, speed
from vcbench.report.verdicts.ends import acceptance, missing, unestimated
from vcbench.report.verdicts.intervals import absent, intervals, profiles, widths
from vcbench.report.verdicts.judged import bias, coverage, errors
from vcbench.report.verdicts.rejections import power, size

__all__ = ["GLYPH", "SPOKEN", "Verdict", "verdicts"]


def verdicts(found: Findings) -> list[Verdict]:
    """The sentences of the first screen, in reading order; those without evidence, or beside the point, are absent.

    A study of which half the methods are a PX-EM or its EM is answered by that comparison, which then comes first. One
    whose methods are asked for intervals is answered interval by interval, and one of tests test by test.
    """
    first = is_about_expansion(found)
    about = found.evidence.about
    asked = any(what == "interval" for what, _ in found.evidence.asked.values())
    made = [
        expansion(found) if first else None,
        agreement(found, real=True) if about(*PAIRED) else None,
        agreement(found, real=False) if about(*PAIRED) else None,
        others(found) if about(*PAIRED) else None,
        bias(found) if about(*BIASES) else None,
        *([make(found) for make in (intervals, profiles, absent, widths)] if asked and about(*INTERVALS) else []),
        None if asked or not about(*INTERVALS) else coverage(found),
        *([size(found), power(found)] if about("rejection") else []),
        errors(found) if about(*ERRORS) else None,
        unestimated(found),
        speed(found) if about(*STEPS, *TIMES) else None,
        None if first else expansion(found),
        missing(found),
        acceptance(found),
    ]
    return [v for v in made if v is not None]
