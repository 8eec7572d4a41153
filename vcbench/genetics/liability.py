"""Heritability of a binary trait on the scale of liability, from its estimate on the observed 0/1 scale.

A disease of prevalence K is liability above a threshold t, Φ(t) = 1 − K, z = φ(t). In a random sample of the population

    h²_L = h²_O · K(1 − K)/z²                                  (Dempster & Lerner 1950, appendix by A. Robertson)

and in one with a proportion P of cases, ascertained,

    h²_L = h²_O · K(1 − K)/z² · K(1 − K)/(P(1 − P))            (Lee, Wray, Goddard & Visscher 2011, eq. 23)

Both are one factor, by which standard errors and limits are multiplied too: the second with P = K is the first.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from vcbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Liability:
    """The change of scale: prevalence K in the population, proportion P of cases in the sample."""

    prevalence: float
    cases: float

    @property
    def factor(self) -> float:
        """h²_L / h²_O."""
        K, P = self.prevalence, self.cases
        z = np.exp(-0.5 * ndtri(1.0 - K) ** 2) / np.sqrt(2.0 * np.pi)
        return float((K * (1.0 - K) / z) ** 2 / (P * (1.0 - P)))


def liability_of(y: np.ndarray, prevalence: float, sample_prevalence: float | None, name: str) -> Liability:
    """The change of scale for a phenotype y (n,) of two values, the larger of them a case.

    sample_prevalence None: the proportion of cases in y; give `prevalence` itself for a random sample of the
    population. Raises DataError for a y of other than two values and for proportions outside (0, 1).
    """
    for what, value in (("prevalence", prevalence), ("sample_prevalence", sample_prevalence)):
        if value is not None and not 0.0 < value < 1.0:
            raise DataError(f"`{what}` of phenotype `{name}` is {value:g}; it is a proportion between 0 and 1.")
    values = np.unique(y)
    if len(values) != 2:
        raise DataError(
            f"phenotype `{name}` has {len(values)} different values; `prevalence` is for one with two (controls and "
            "cases, 0/1 or 1/2). Leave it out for a quantitative trait."
        )
    return Liability(
        float(prevalence), float((y == values[1]).mean()) if sample_prevalence is None else float(sample_prevalence)
    )
