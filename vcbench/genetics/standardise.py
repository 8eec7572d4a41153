"""Genotype calls to standardised columns: W with K = W Wᵀ / Σ_j s_j, for every usual scaling of a relationship matrix.

g counts an allele of frequency f (of the called genotypes), mean 2f. A missing call is 0 in W, which is its mean.

    name                     W_ij                                s_j                 also known as
    unit                     (g − 2f) / SD of the column         1                   seed's W; GEMMA -gk 2
    vanraden1                g − 2f                              2f(1 − f)           VanRaden (2008) method 1
    vanraden2, gcta          (g − 2f) / √(2f(1 − f))             1                   VanRaden method 2; GCTA; plink2
    ("alpha", a)             (g − 2f) · (2f(1 − f))^(a/2)        (2f(1 − f))^(1+a)   effects with variance ∝ (2f(1−f))^a
    centred                  g − 2f                              1                   GEMMA -gk 1
    None                     g                                   1                   the calls, missing ones at 2f

The SD has divisor n, so that each column of W has mean 0 and variance 1 over the n samples with missing calls at the
mean (`missing="mean"`), or over the called ones (`missing="pairs"`). vanraden1 is α = 0, vanraden2 is α = −1.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcbench.errors import MethodError, did_you_mean

Missing = Literal["mean", "pairs"]
NAMES = ("unit", "vanraden1", "vanraden2", "gcta", "centred")
ALIASES = {
    "vanraden": "vanraden1", "yang": "vanraden2", "hwe": "vanraden2", "plink": "vanraden2", "centered": "centred",
    "center": "centred", "gk1": "centred", "gk2": "unit", "standard": "unit", "unit-variance": "unit",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SnpFacts:
    """What the calls of some SNPs come to. counts (m, 4): samples with 0, 1, 2 copies of a1, and missing."""

    counts: np.ndarray
    columns: np.ndarray  # (m,) their positions in `Genotypes.variants`

    @property
    def called(self) -> np.ndarray:
        """Called genotypes (m,)."""
        return self.counts[:, :3].sum(axis=1)

    @property
    def frequency(self) -> np.ndarray:
        """Frequency f of a1 among the called (m,), NaN where nothing is called."""
        copies, called = self.counts[:, 1] + 2 * self.counts[:, 2], self.called
        return np.where(called > 0, copies / np.maximum(2 * called, 1), np.nan)

    @property
    def maf(self) -> np.ndarray:
        """Frequency of the rarer allele (m,)."""
        return np.minimum(self.frequency, 1 - self.frequency)

    @property
    def missing(self) -> np.ndarray:
        """Share of calls that are missing (m,)."""
        return self.counts[:, 3] / np.maximum(self.counts.sum(axis=1), 1)

    @property
    def variance(self) -> np.ndarray:
        """Variance of the called genotypes, divisor their number (m,): 0 for a monomorphic SNP."""
        called = np.maximum(self.called, 1)
        first, second = self.counts[:, 1] + 2 * self.counts[:, 2], self.counts[:, 1] + 4 * self.counts[:, 2]
        return (second * called - first * first) / called**2  # whole numbers up to the division: 0 is exact

    def take(self, keep: np.ndarray) -> "SnpFacts":
        """The facts of some of the SNPs."""
        return SnpFacts(self.counts[keep], self.columns[keep])


@dataclass(frozen=True, slots=True)
class Standardisation:
    """One of the scalings above: `kind` is unit, alpha, centred or none."""

    kind: str
    alpha: float = 0.0
    label: str = ""

    @classmethod
    def of(cls, value: Any) -> "Standardisation":
        """From a name, ("alpha", a), "alpha:a", None, or a Standardisation. MethodError for anything else."""
        if isinstance(value, cls):
            return value
        if value is None:
            return cls("none", label="none")
        if isinstance(value, str) and value.startswith("alpha:"):
            value = ("alpha", value.removeprefix("alpha:"))
        if isinstance(value, tuple | list) and len(value) == 2 and value[0] == "alpha":
            return cls._of_alpha(value[1])
        if isinstance(value, str) and value in NAMES:
            kind = "alpha" if value in ("vanraden1", "vanraden2", "gcta") else value
            return cls(kind, 0.0 if value == "vanraden1" else -1.0, "vanraden2" if value == "gcta" else value)
        hint = did_you_mean(value, NAMES, ALIASES) if isinstance(value, str) else ""
        raise MethodError(
            f'unknown standardisation `{value}`. Choose from {", ".join(NAMES)}, ("alpha", a) or None.{hint}'
        )

    @classmethod
    def _of_alpha(cls, a: Any) -> "Standardisation":
        try:
            a = float(a)
        except (TypeError, ValueError):
            a = np.nan
        if not np.isfinite(a):
            raise MethodError(f'standardise=("alpha", a) needs a number, such as -0.25; a is `{a}`.')
        return cls("alpha", a, f"alpha:{a:g}")

    def table(self, facts: SnpFacts, missing: Missing = "mean") -> np.ndarray:
        """(m, 4) float32: the value of W where 0, 1, 2 copies are called, and where the call is missing."""
        mean = 2 * facts.frequency
        if self.kind == "none":
            gap = np.full_like(mean, np.nan) if missing == "pairs" else mean
            return np.column_stack([np.broadcast_to([0.0, 1.0, 2.0], (len(mean), 3)), gap]).astype(np.float32)
        calls = np.arange(3.0) - mean[:, None]
        values = calls * self._factor(facts, missing)[:, None]
        return np.column_stack([values, np.zeros(len(mean))]).astype(np.float32)

    def scale(self, facts: SnpFacts) -> np.ndarray:
        """s (m,): what each SNP adds to the divisor of K = W Wᵀ / Σ s."""
        if self.kind == "alpha" and self.alpha != -1:
            f = facts.frequency
            return (2 * f * (1 - f)) ** (1 + self.alpha)
        return np.ones(len(facts.counts))

    def _factor(self, facts: SnpFacts, missing: Missing) -> np.ndarray:
        if self.kind == "unit":
            share = 1.0 if missing == "pairs" else 1 - facts.missing  # missing calls at the mean lower the variance
            return 1 / np.sqrt(facts.variance * share)
        if self.kind == "alpha" and self.alpha != 0:
            f = facts.frequency
            return (2 * f * (1 - f)) ** (self.alpha / 2)
        return np.ones(len(facts.counts))


def check_missing(missing: str) -> Missing:
    """`missing` itself, or a MethodError naming the choices."""
    if missing not in ("mean", "pairs"):
        raise MethodError(
            f'unknown missing=`{missing}`. "mean" puts missing calls at the mean of their SNP, "pairs" averages each '
            f"entry over the SNPs called in both samples (GCTA).{did_you_mean(missing, ('mean', 'pairs'))}"
        )
    return "pairs" if missing == "pairs" else "mean"
