"""Evidence against calibration that may be looked at after every replicate.

With z_i = Φ⁻¹(PIT_i), standard normal for a calibrated method whatever came before, each

    e_n(m, s) = Π_i N(z_i; m, s²)/N(z_i; 0, 1)

has mean 1 at every n, and so has their average over a grid of (m, s): biased by m posterior SDs, or posterior SDs wrong
by the factor 1/s. By Ville's inequality P(e_n ≥ 1/α at some n) ≤ α: a run may stop at the first alarm, at any size.
"""

import math

import numpy as np
from scipy.special import logsumexp, ndtri

SHIFTS = (0.0, 0.15, -0.15, 0.3, -0.3)
SPREADS = (0.7, 0.85, 1.0, 1.18, 1.4)
LEAST = 1e-300  # a PIT of exactly 0 or 1 is that far out


def normal_scores(pit: np.ndarray) -> np.ndarray:
    """z = Φ⁻¹(PIT), finite: the upper half by symmetry, where PIT is next to 1 in floating point."""
    pit = np.asarray(pit, float)
    low = ndtri(np.clip(pit, LEAST, 0.5))
    high = -ndtri(np.clip(1 - pit, LEAST, 0.5))
    return np.where(pit <= 0.5, low, np.minimum(high, 37.0))


def log_evidence(pit: np.ndarray) -> np.ndarray:
    """log e_n (n,) after each of the PITs (n,), in their order."""
    z = normal_scores(pit)
    paths = [
        np.cumsum(0.5 * z**2 - 0.5 * ((z - m) / s) ** 2 - math.log(s))
        for m in SHIFTS
        for s in SPREADS
        if (m, s) != (0.0, 1.0)
    ]
    paths.append(np.zeros(len(z)))  # the hypothesis itself: e_n never falls below its weight
    return logsumexp(np.array(paths), axis=0) - math.log(len(paths))


def first_alarm(log_e: np.ndarray, alarm: float) -> int | None:
    """The number of replicates after which e_n first reached 1/alarm, None if it never did."""
    reached = np.flatnonzero(log_e >= -math.log(alarm))
    return int(reached[0]) + 1 if len(reached) else None
