"""What the study shows, as sentences: templates filled from the findings, with thresholds that are written here.

A sentence is `good` (●: holds), `note` (▲: worth a look) or `bad` (■: a method failed the claim), and names the section
that holds its evidence. Nothing is said that is not computed; nothing is computed from single replicates.
"""

from vcbench.report.findings import Findings
from vcbench.report.verdicts.agreement import agreement, others
from vcbench.report.verdicts.base import GLYPH, SPOKEN, Verdict
from vcbench.report.verdicts.cost import expansion, is_about_expansion, speed
from vcbench.report.verdicts.ends import acceptance, missing
from vcbench.report.verdicts.judged import bias, coverage, errors

__all__ = ["GLYPH", "SPOKEN", "Verdict", "verdicts"]


def verdicts(found: Findings) -> list[Verdict]:
    """The sentences of the first screen, in reading order; those without evidence are absent.

    A study of which half the methods are a PX-EM or its EM is answered by that comparison, which then comes first.
    """
    first = is_about_expansion(found)
    made = [
        expansion(found) if first else None,
        agreement(found, real=True),
        agreement(found, real=False),
        others(found),
        bias(found),
        coverage(found),
        errors(found),
        speed(found),
        None if first else expansion(found),
        missing(found),
        acceptance(found),
    ]
    return [v for v in made if v is not None]
