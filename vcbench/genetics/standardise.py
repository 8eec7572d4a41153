"""Genotypes to standardised columns: W with K = W Wᵀ / Σ_j s_j, for every usual scaling of a relationship matrix.

g counts an allele (or is its dosage, between 0 and 2) of frequency f and mean 2f among the called genotypes. A missing
call is 0 in W, which is its mean.

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

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, eq=False)
class SnpFacts:
    """What the genotypes of m SNPs come to, over the called ones of n samples."""

    n: int
    columns: np.ndarray  # (m,) their positions in `Genotypes.variants`
    called: np.ndarray  # (m,) samples with a call
    mean: np.ndarray  # (m,) of the counts of a1, NaN where nothing is called
    variance: np.ndarray  # (m,) divisor `called`; exactly 0 for a monomorphic SNP

    @classmethod
    def of_counts(cls, counts: np.ndarray, columns: np.ndarray) -> "SnpFacts":
        """From samples with 0, 1, 2 copies and missing, (m, 4): in whole numbers up to the last division."""
        called = counts[:, :3].sum(axis=1)
        first, second = counts[:, 1] + 2 * counts[:, 2], counts[:, 1] + 4 * counts[:, 2]
        some = np.maximum(called, 1)
        mean = np.where(called > 0, first / some, np.nan)
        return cls(int(counts[0].sum()), columns, called, mean, (second * called - first * first) / some**2)

    @property
    def frequency(self) -> np.ndarray:
        """Frequency f of a1 (m,)."""
        return self.mean / 2

    @property
    def maf(self) -> np.ndarray:
        """Frequency of the rarer allele (m,)."""
        return np.minimum(self.frequency, 1 - self.frequency)

    @property
    def missing(self) -> np.ndarray:
        """Share of samples without a call (m,)."""
        return 1 - self.called / self.n

    def take(self, keep: np.ndarray) -> "SnpFacts":
        """The facts of some of the SNPs."""
        return SnpFacts(self.n, self.columns[keep], self.called[keep], self.mean[keep], self.variance[keep])

    @classmethod
    def join(cls, parts: Sequence["SnpFacts"]) -> "SnpFacts":
        """The facts of several blocks, one after the other."""
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__[1:])
        return cls(parts[0].n, *joined)


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

    def line(self, facts: SnpFacts, missing: Missing = "mean") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(centre, factor, gap), each (m,): W = factor (g − centre), and gap where g is missing."""
        m = len(facts.mean)
        if self.kind == "none":
            return np.zeros(m), np.ones(m), np.full(m, np.nan) if missing == "pairs" else facts.mean
        return facts.mean, self._factor(facts, missing), np.zeros(m)

    def table(self, facts: SnpFacts, missing: Missing = "mean") -> np.ndarray:
        """(m, 4) float32: the value of W where 0, 1, 2 copies are called, and where the call is missing."""
        centre, factor, gap = self.line(facts, missing)
        return np.column_stack([(np.arange(3.0) - centre[:, None]) * factor[:, None], gap]).astype(np.float32)

    def scale(self, facts: SnpFacts) -> np.ndarray:
        """s (m,): what each SNP adds to the divisor of K = W Wᵀ / Σ s."""
        if self.kind == "alpha" and self.alpha != -1:
            f = facts.frequency
            return (2 * f * (1 - f)) ** (1 + self.alpha)
        return np.ones(len(facts.mean))

    def _factor(self, facts: SnpFacts, missing: Missing) -> np.ndarray:
        if self.kind == "unit":
            share = 1.0 if missing == "pairs" else 1 - facts.missing  # missing calls at the mean lower the variance
            return 1 / np.sqrt(facts.variance * share)
        if self.kind == "alpha" and self.alpha != 0:
            f = facts.frequency
            return (2 * f * (1 - f)) ** (self.alpha / 2)
        return np.ones(len(facts.mean))


def check_missing(missing: str) -> Missing:
    """`missing` itself, or a MethodError naming the choices."""
    if missing not in ("mean", "pairs"):
        raise MethodError(
            f'unknown missing=`{missing}`. "mean" puts missing calls at the mean of their SNP, "pairs" averages each '
            f"entry over the SNPs called in both samples (GCTA).{did_you_mean(missing, ('mean', 'pairs'))}"
        )
    return "pairs" if missing == "pairs" else "mean"
