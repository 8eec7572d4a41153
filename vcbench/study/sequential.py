"""The sequential rule: look after every block, by sequences that hold at every n, until a check has passed or failed.

With C_n the confidence sequence of a measure at level 1 − α and T = [target − δ, target + δ] its tolerance region:

    FAIL   C_n ∩ T = ∅        PASS   C_n ⊂ T        else INCONCLUSIVE: more replicates are wanted

The first look at which a check is decided settles it, so that the verdict is a function of the rows and of `block_size`
alone, however far the run went on for the sake of other checks. P(FAIL at any look | the truth is in T) ≤ α.
"""

import math
from dataclasses import dataclass

import numpy as np

from vcbench.study.checks import NO_ERROR, Check
from vcbench.study.estimators import Z95, Array
from vcbench.study.groups import Group
from vcbench.study.sequences import (
    VARIED,
    first_look,
    mean_bounds,
    proportion_bounds,
    quantile_bounds,
    verdict,
)
from vcbench.study.terms import Terms, pseudo_values, terms_of


@dataclass(frozen=True, slots=True)
class Look:
    """What a check says after n terms: the verdict, the measure and its sequence [lower, upper], in its own unit."""

    verdict: str
    value: float
    mcse: float
    n: int
    lower: float
    upper: float
    tolerance: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is fixed before the run: the check, the level, its α, the block after which to look, and the most."""

    check: Check
    level: float
    alpha: float
    block_size: int
    n_max: int

    def settle(self, g: Group, m: int, r: int) -> Look:
        """The first look that decides, or the last; method m of the group, paired with method r."""
        terms = terms_of(self.check.measure, g, m, r, self.level)
        if isinstance(terms, str):
            return _undefined(terms)
        spread = Terms("mean", g.estimate[m] - g.known[m])
        total = g.estimate.shape[1]
        found = _undefined("no rows")
        for n in [*range(self.block_size, total, self.block_size), total]:
            found = self.look(terms.upto(n), terms, spread.upto(n))
            if found.verdict != "INCONCLUSIVE":
                break
        return found

    def look(self, x: Array, terms: Terms, errors: Array) -> Look:
        """The look at terms x, given the errors of the same replicates for a tolerance in empirical SEs."""
        n = x.shape[-1]
        tolerance, unit = self.check.slack
        if unit == "empirical_se":
            tolerance *= float(errors.std(ddof=1)) if len(errors) > 1 else math.nan
        if n < 2 or math.isnan(tolerance):
            return _undefined("fewer than 2 replicates have what the measure needs", n)
        if not np.isfinite(x).all():
            return _undefined("a term is infinite", n)
        target = self.check.centre(self.level)
        at, se, lower, upper, reason = self._sequence(x, terms, target)
        low, high = terms.to_scale(target - tolerance), terms.to_scale(target + tolerance)
        value = terms.from_scale(at)
        mcse = se * abs(value + 100 if terms.percent else value) if terms.kind == "ratio" else se
        if reason:
            return Look("INCONCLUSIVE", value, mcse, n, math.nan, math.nan, tolerance, reason)
        said = verdict(lower, upper, low, high)
        return Look(said, value, mcse, n, terms.from_scale(lower), terms.from_scale(upper), tolerance)

    def _sequence(self, x: Array, terms: Terms, target: float) -> tuple[float, float, float, float, str]:
        """(value, its standard error, lower, upper, why they cannot be told yet), on the scale of the terms."""
        n = x.shape[-1]
        if terms.kind == "share":
            p = float(x.mean())
            lower, upper = proportion_bounds(x.sum(), n, target, self.alpha)
            se = math.sqrt(p * (1 - p) / n) if 0 < p < 1 else Z95 / (2 * (n + Z95**2))  # as `estimators.proportion`
            return p, se, float(lower), float(upper), ""
        if terms.kind == "quantile":
            return float(np.quantile(x, terms.q)), math.nan, *quantile_bounds(x, terms.q, self.alpha), ""
        if terms.kind == "ratio":
            assert terms.ratio is not None
            with np.errstate(divide="ignore", invalid="ignore"):
                value, without = terms.ratio(x)
            if not (math.isfinite(value) and np.isfinite(without).all()):
                return math.nan, math.nan, math.nan, math.nan, "what is compared does not vary"
            x = pseudo_values(value, without)
        else:
            value = float(x.mean())
        sd = float(x.std(ddof=1))
        first = first_look(x, ratio=terms.kind == "ratio")
        reason = ""
        if math.isinf(first):
            rare = np.count_nonzero(x) < VARIED
            reason = f"fewer than {VARIED} of the {n} terms differ from 0" if rare else "all terms are alike"
            reason += ": they say nothing of their spread"
        elif n < first:
            reason = f"terms as skewed as these are looked at from n = {math.ceil(first)} on"
        lower, upper = mean_bounds(x.mean(), sd, n, self.alpha, self.n_max)
        return value, sd / math.sqrt(n), float(lower), float(upper), reason


def plain(check: Check) -> bool:
    """True for what has no Monte Carlo error and is compared as it is: a maximum, a count."""
    return check.measure in NO_ERROR


def _undefined(reason: str, n: int = 0) -> Look:
    return Look("INCONCLUSIVE", math.nan, math.nan, n, math.nan, math.nan, math.nan, reason)
