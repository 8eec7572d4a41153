"""A sentence, its level, and the thresholds that set it."""

from dataclasses import dataclass

GLYPH = {"good": "●", "note": "▲", "bad": "■"}
SPOKEN = {"good": "holds", "note": "note", "bad": "does not hold"}
MANY = 0.05  # a share of missing results that makes the other sentences doubtful
ALARM = 0.10  # a share of flagged cells that chance (0.05) does not explain well


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence: `level` good, note or bad; `lead` a word or two in bold; `section` the anchor of its evidence."""

    level: str
    lead: str
    text: str
    section: str
