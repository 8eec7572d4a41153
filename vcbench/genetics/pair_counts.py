"""What each pair of samples shares: Σ s over the SNPs called in both, N_jk of GCTA where s is 1.

N_jk = Σ_i s_i − m_j − m_k + B_jk,  m_j = Σ s_i over SNPs missing in j,  B_jk = Σ s_i over SNPs missing in both.

Only missing calls are visited: a SNP with t of them adds to t² pairs. Where that is more work than a product of the
indicators, the product is taken. Whole numbers are exact either way.
"""

from dataclasses import dataclass, field

import numpy as np

from vcbench.genetics.level3 import ssyrk
from vcbench.genetics.standardise_core import add_lower, add_missing_pairs

DEAR = 150  # products of one thread that cost what visiting one pair does


@dataclass(slots=True, eq=False)
class PairSums:
    """Σ s over SNPs called in both of a pair, added up block by block."""

    n: int
    total: float = 0.0
    single: np.ndarray = field(init=False)
    both: np.ndarray | None = None  # (n, n), lower triangle; none before the first missing call

    def __post_init__(self) -> None:
        self.single = np.zeros(self.n)

    def add(self, G: np.ndarray, at: np.ndarray, gaps: np.ndarray, s: np.ndarray) -> None:
        """A block: calls G, its columns `at`, their missing calls `gaps` and what each SNP counts, s."""
        self.total += float(s.sum())
        some = gaps > 0
        if not some.any():
            return
        at, gaps, s = at[some], gaps[some], s[some]
        if self.both is None:
            self.both = np.zeros((self.n, self.n), order="F")
        if DEAR * float((gaps.astype(float) ** 2).sum()) <= float(self.n) ** 2 * len(at):
            add_missing_pairs(G, at, s, self.single, self.both)
            return
        absent = np.asfortranarray(~(G[:, at] >= 0), dtype=np.float32)
        self.single += absent.astype(float) @ s
        absent *= np.sqrt(s).astype(np.float32)
        part = np.empty((self.n, self.n), np.float32, order="F")
        ssyrk(absent, part, add=False)
        add_lower(self.both, part, 0, self.n)

    def shared(self) -> np.ndarray | None:
        """(n, n), lower triangle: Σ s over the SNPs called in both. None where nothing is missing: `total` for all."""
        if self.both is None:
            return None
        self.both += self.total
        self.both -= self.single[:, None]
        self.both -= self.single
        return self.both
