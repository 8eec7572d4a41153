"""Relationship matrices of a factor's levels: from a pedigree or a matrix on file, a simulated pedigree, or markers.

related = { animal = { founders = 40, generations = 3 } }        a pedigree of the factor's own levels
related = { line = { markers = 500, maf = [0.05, 0.5] } }        K = WWᵀ/p of as many simulated markers
related = { animal = { pedigree = "gryphon_pedigree" } }         a file of animals, sires and dams
related = { line = { matrix = "wheat599_A" } }                   a file: labels, then a column for each of them
"""

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vcbench.errors import DataError
from vcbench.model.relationship import Known, known, pedigree
from vcbench.study.data_sets import read_data
from vcbench.study.settings import Share

KINDS = ("pedigree", "matrix", "founders", "markers")
Frequency = Annotated[float, Field(gt=0, le=0.5)]


class Related(BaseModel):
    """How the levels of a factor are related: exactly one of `pedigree`, `matrix`, `founders` and `markers`.

    `founders`: the first levels have unknown parents; the others are parted evenly into `generations`, each animal with
    a sire from the first and a dam from the second half of the generation before it, drawn at random.
    `markers`: genotypes of as many, minor allele frequencies uniform on `maf`, neighbours correlated as `ld`
    (`vcbench.genetics.simulate`); K = WWᵀ/p of standardised genotypes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pedigree: str | None = None
    id: str | None = None
    sire: str | None = None
    dam: str | None = None
    matrix: str | None = None
    founders: Annotated[int, Field(ge=2)] | None = None
    generations: Annotated[int, Field(ge=1)] = 1
    markers: Annotated[int, Field(ge=1)] | None = None
    maf: list[Frequency] = Field(default=[0.05, 0.5], min_length=2, max_length=2)
    ld: Share = 0.0

    @model_validator(mode="after")
    def _check(self) -> "Related":
        said = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(said) != 1:
            listed = ", ".join(f"`{kind}`" for kind in KINDS)
            raise ValueError(f"must say exactly one of {listed}, not {' and '.join(said) or 'none'}")
        needs = {"id": "pedigree", "sire": "pedigree", "dam": "pedigree", "generations": "founders", "maf": "markers",
                 "ld": "markers"}  # fmt: skip
        for key, kind in needs.items():
            if key in self.model_fields_set and kind not in said:
                raise ValueError(f"must say `{kind}` where it says `{key}`")
        if self.maf[0] > self.maf[1]:
            raise ValueError(f"must have a `maf` that rises, not {self.maf}")
        return self

    def known(self, levels: np.ndarray, rng: np.random.Generator) -> Known:
        """What `cov=` takes for a factor of these levels. Raises CardError for an absent file, DataError for too few
        levels."""
        if self.pedigree is not None:
            return pedigree(read_data(self.pedigree, dtype=str), id=self.id, sire=self.sire, dam=self.dam)
        if self.matrix is not None:
            frame = read_data(self.matrix)
            return known(frame.iloc[:, 1:].to_numpy(float), labels=frame.iloc[:, 0].astype(str).to_list())
        if self.founders is not None:
            return self._drawn_pedigree(levels, rng)
        return known(self._similarity(len(levels), rng), labels=list(levels))

    def sketch(self, levels: np.ndarray) -> Known:
        """Unrelated levels, which have the same parameters as related ones: a pedigree without parents."""
        import pandas as pd

        return pedigree(pd.DataFrame({"id": levels, "sire": "0", "dam": "0"}))

    def _drawn_pedigree(self, levels: np.ndarray, rng: np.random.Generator) -> Known:
        import pandas as pd

        assert self.founders is not None
        m = len(levels)
        if m <= self.founders:
            raise DataError(f"`related`: {self.founders} founders of {m} animals leave no offspring.")
        ends = np.linspace(self.founders, m, self.generations + 1).round().astype(int)
        parents = np.full((m, 2), -1)
        before = np.arange(self.founders)
        for start, end in pairwise(ends):
            halves = np.array_split(before, 2)
            for which, half in enumerate(halves if len(halves[1]) else [before, before]):
                parents[start:end, which] = rng.choice(half, end - start)
            before = np.arange(start, end)
        names = np.append(levels, "0")
        return pedigree(pd.DataFrame({"id": levels, "sire": names[parents[:, 0]], "dam": names[parents[:, 1]]}))

    def _similarity(self, m: int, rng: np.random.Generator) -> np.ndarray:
        from vcbench.genetics.simulate import simulate_genotypes

        assert self.markers is not None
        low, high = self.maf
        drawn = simulate_genotypes(m, self.markers, seed=int(rng.integers(2**62)), maf=(low, high), rho=self.ld)
        counts = drawn.read(None, slice(None)).astype(float)
        counts = counts[:, np.ptp(counts, axis=0) > 0]
        if not counts.shape[1]:
            raise DataError(f"`related`: none of {self.markers} markers varies among {m} individuals.")
        W = (counts - counts.mean(axis=0)) / counts.std(axis=0)
        return W @ W.T / W.shape[1]
