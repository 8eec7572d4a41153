"""Generators of traits that genotypes act on: one trait as a Model, or several with their correlations."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from vcbench.errors import DataError, VcbenchError
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.study.settings import Count, Generator, Positive, Shaped, Share, placeholder
from vcbench.study.simulate import Simulator, build_simulator
from vcbench.study.traits import Traits

Frequency = Annotated[float, Field(gt=0, le=0.5)]
Correlation = Annotated[float, Field(ge=-1, le=1)]
DRAWS = 20  # of genotypes, until every marker varies


class Markers(Generator):
    """n people at p markers, and which of them act.

    `genotypes`: real ones of a PLINK prefix or a CSV file (`real_genotypes`), all of them, or as many people and
    markers as `n` and `p` say, chosen at random. Else they are drawn: minor allele frequencies are uniform on `maf`;
    `ld` is the correlation of neighbours in the Gaussian sequence that haplotypes are cut from, afresh every `ld_block`
    markers (`vcbench.genetics.simulate`); 0 is no linkage.
    `n_causal`, or `causal` as a share: as many markers have an effect, the same ones in every replicate; the model is
    still that of all markers. Effects of an allele have variance ∝ (2f(1−f))^alpha; alpha = −1, the model that is
    fitted, gives every marker the same part of the variance.
    """

    genotypes: str | None = None
    n: Annotated[int, Field(ge=3)] = 300
    p: Count = 600
    maf: list[Frequency] = Field(default=[0.05, 0.5], min_length=2, max_length=2)
    ld: Share = 0.0
    ld_block: Count = 1000
    n_causal: Count | None = None
    causal: Annotated[float, Field(gt=0, le=1)] | None = None
    alpha: float = -1.0

    @model_validator(mode="after")
    def _check_markers(self) -> "Markers":
        self._either(("n_causal",), ("causal",))
        self._either(("genotypes",), ("maf", "ld", "ld_block"))
        known = self.genotypes is None or "p" in self.model_fields_set
        if known and self.n_causal is not None and self.n_causal > self.p:
            raise ValueError(f"`n_causal` = {self.n_causal} is more than the p = {self.p} markers")
        if self.maf[0] > self.maf[1]:
            raise ValueError(f"`maf` must rise, not {self.maf}")
        return self

    @property
    def _as_fitted(self) -> bool:
        """True where every marker has an effect, as the model says."""
        return self.n_causal is None and self.causal is None and self.alpha == -1.0

    def _choose(self, rng: np.random.Generator, p: int) -> np.ndarray:
        """Positions of the causal ones of p markers, ascending. DataError for more than there are."""
        count = p if self.causal is None else max(1, round(self.causal * p))
        count = count if self.n_causal is None else self.n_causal
        if count > p:
            raise DataError(f"`n_causal` = {count} is more than the {p} markers of `{self.genotypes}` that vary.")
        return np.sort(rng.choice(p, count, replace=False))

    def _real(self, rng: np.random.Generator) -> np.ndarray:
        """The real counts (n, p), or as many of them as are asked for; no column constant."""
        from vcbench.study.real_genotypes import read_counts

        assert self.genotypes is not None
        counts = read_counts(self.genotypes)
        for axis, key in enumerate(("n", "p")):
            if key not in self.model_fields_set:
                continue
            there, wanted = counts.shape[axis], getattr(self, key)
            if wanted > there:
                raise DataError(f"`{key}` = {wanted}, but `{self.genotypes}` has {there}.")
            counts = counts.take(np.sort(rng.choice(there, wanted, replace=False)), axis=axis)
            counts = counts[:, np.ptp(counts, axis=0) > 0]
        return np.ascontiguousarray(counts)

    def _shares(self, frequency: np.ndarray) -> np.ndarray:
        """√ of each causal marker's part of the genetic variance, (2f(1−f))^(1 + alpha) over their sum."""
        s = (2.0 * frequency * (1.0 - frequency)) ** (1.0 + self.alpha)
        return np.sqrt(s / s.sum())

    def _source(self, rng: np.random.Generator) -> Any:
        """The genotypes; those that are drawn are when they are read."""
        if self.genotypes is not None:
            return self._real(rng)
        from vcbench.genetics.simulate import simulate_genotypes

        low, high = self.maf
        seed = int(rng.integers(2**62))
        return simulate_genotypes(self.n, self.p, seed=seed, maf=(low, high), rho=self.ld, block=self.ld_block)


class Snp(Markers, Shaped):
    """A polygenic trait: n people, p markers, K = WWᵀ/p of standardised genotypes, σ_u² = h2·total.

    Markers as in `Markers`; those without variation are drawn again. K is centred, of rank ≤ n − 1. `columns`: the
    model is given W/√p in the place of K, for methods that select markers or multiply by them.
    """

    h2: Share = 0.5
    total: Positive = 1.0
    mean: float = 0.0
    columns: bool = False
    redraw: bool = False

    def counts(self, rng: np.random.Generator) -> np.ndarray:
        """Allele counts (n, p), no column constant. DataError where markers in linkage are too rare for that."""
        if self.genotypes is not None:
            return self._real(rng)
        if self.ld:
            for _ in range(DRAWS):
                counts = self._source(rng).read(None, slice(None)).astype(float)
                if np.ptp(counts, axis=0).all():
                    return counts
            raise DataError(f"{DRAWS} draws of {self.p} markers in {self.n} people each left some without variation.")
        low, high = self.maf
        counts = rng.binomial(2, rng.uniform(low, high, self.p), (self.n, self.p))
        while len(fixed := np.flatnonzero(np.ptp(counts, axis=0) == 0)):
            counts[:, fixed] = rng.binomial(2, rng.uniform(low, high, len(fixed)), (self.n, len(fixed)))
        return counts

    def build(self, rng: np.random.Generator) -> Simulator:
        counts = self.counts(rng)
        n, p = counts.shape
        W = (counts - counts.mean(axis=0)) / counts.std(axis=0)
        snp = Component(W / np.sqrt(p), name="snp") if self.columns else Component(K=W @ W.T / p, name="snp")
        model = Model(placeholder(n), None, [snp])
        variances = (self.h2 * self.total, (1 - self.h2) * self.total)
        made = build_simulator(model, variances, [self.mean], self.laws)
        if self._as_fitted:
            return made
        chosen = self._choose(rng, p)
        root = np.sqrt(self.h2 * self.total) * W[:, chosen] * self._shares(counts[:, chosen].mean(axis=0) / 2)
        return replace(made, roots=(root,))


class SnpTraits(Markers):
    """Several traits on the same markers: Cov = Σ_g ⊗ K + Σ_e ⊗ I, every trait of variance 1.

    `n_traits` of the same `h2`, every pair with `rho_g` and `rho_e`; or `h2_each`, and `rho_g_each`, `rho_e_each` of
    the pairs in the order (1,2), (1,3), …, (2,3), …. Markers as in `Markers`. For the methods `heritability`,
    `correlation-moments` and `correlation-reml`; parameters are named as `genetic_correlation` names them.
    """

    several_traits: ClassVar[bool] = True
    n_traits: Annotated[int, Field(ge=2)] = 2
    h2: Annotated[float, Field(gt=0, lt=1)] = 0.5
    h2_each: list[Annotated[float, Field(gt=0, lt=1)]] | None = None
    rho_g: Correlation = 0.0
    rho_g_each: list[Correlation] | None = None
    rho_e: Correlation = 0.0
    rho_e_each: list[Correlation] | None = None
    mean: float = 0.0

    @model_validator(mode="after")
    def _check_traits(self) -> "SnpTraits":
        self._either(("h2", "n_traits"), ("h2_each",))
        pairs = self.k * (self.k - 1) // 2
        for name in ("rho_g", "rho_e"):
            self._either((name,), (f"{name}_each",))
            each = getattr(self, f"{name}_each")
            if each is not None and len(each) != pairs:
                raise ValueError(f"`{name}_each` has {len(each)} values; {self.k} traits have {pairs} pairs")
        try:
            self.covariances()
        except VcbenchError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def k(self) -> int:
        """Traits."""
        return self.n_traits if self.h2_each is None else len(self.h2_each)

    def covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Σ_g and Σ_e (k, k). ModelError for correlations that no traits can have."""
        from vcbench.genetics.simulate_phenotypes import covariances

        def of(rho: float, each: list[float] | None) -> Any:
            if each is None:
                return rho
            R = np.eye(self.k)
            R[np.triu_indices(self.k, 1)] = each
            return R + np.triu(R, 1).T

        h2 = [self.h2] * self.k if self.h2_each is None else self.h2_each
        return covariances(h2, of(self.rho_g, self.rho_g_each), of(self.rho_e, self.rho_e_each), 1.0)

    def build(self, rng: np.random.Generator) -> Traits:
        from vcbench.genetics.genotypes import Genotypes
        from vcbench.genetics.matrices import matrices_of

        genotypes = Genotypes.open(self._source(rng))
        (matrix,) = matrices_of(genotypes, None)
        eigen = matrix.eigen(last=True)
        sigma_g, sigma_e = self.covariances()
        if self._as_fitted:
            return Traits(matrix, eigen.vectors * np.sqrt(eigen.values), sigma_g, sigma_e, self.mean)
        chosen = self._choose(rng, genotypes.n_variants)
        causal = genotypes.select(variants=chosen)
        parts = [(block.W.astype(float), block.facts.frequency) for block in causal.blocks(standardise="unit")]
        W, frequency = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return Traits(matrix, W * self._shares(frequency), sigma_g, sigma_e, self.mean)
