"""What `randomised_moments` returns: any quantity with its sampling error and its Monte Carlo error, apart."""

from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from vcbench import numbers as num
from vcbench.errors import MethodError, did_you_mean
from vcbench.genetics.pair_moments import pair_covariance
from vcbench.genetics.randomised_traces import DesignTraces
from vcbench.summary import columns

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100
NEVER = "the two were measured in different samples"
KINDS = ("jackknife", "sandwich", "monte-carlo")


class Estimated(NamedTuple):
    """An estimate; se: its sampling error, by the jackknife over SNPs; monte_carlo: what other probes would change."""

    value: float
    se: float
    monte_carlo: float


@dataclass(frozen=True, slots=True, eq=False)
class RandomisedMoments:
    """Variances of K bins and the residual for P phenotypes, raw: they may be negative.

    theta (K + 1, P, P): covariances of phenotypes on the off-diagonals, residual last, NaN for phenotypes measured in
    different samples; without_block (J, K + 1, P, P), without_probe (B, K + 1, P, P): the same, one left out. traces of
    each side, the side of each phenotype `of` (P,), the rows that it was measured in.
    """

    names: tuple[str, ...]
    bins: tuple[str, ...]
    theta: np.ndarray
    without_block: np.ndarray = field(repr=False)
    without_probe: np.ndarray = field(repr=False)
    traces: tuple[DesignTraces, ...] = field(repr=False)
    of: np.ndarray = field(repr=False)
    rows: tuple[np.ndarray, ...] = field(repr=False)
    n_fixed: int
    n_variants: int
    level: float
    seed: int
    n_blocks: int
    cached: tuple[bool, ...]
    seconds: float

    @property
    def n_probes(self) -> int:
        """B."""
        return len(self.without_probe)

    @property
    def n_snps(self) -> np.ndarray:
        """SNPs used in each bin (K,)."""
        return self.traces[0].m.sum(axis=0).astype(int)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of θ: V(G), or V(bin) for each of several, and V(e)."""
        return (*(("V(G)",) if len(self.bins) == 1 else tuple(f"V({name})" for name in self.bins)), "V(e)")

    def position(self, phenotype: int | str) -> int:
        """Where a phenotype is. MethodError for a name that there is not."""
        if isinstance(phenotype, str):
            if phenotype not in self.names:
                near = did_you_mean(phenotype, self.names)
                raise MethodError(f"there is no phenotype `{phenotype}`.{near} Choose from {', '.join(self.names)}.")
            return self.names.index(phenotype)
        return range(len(self.names))[phenotype]

    def estimate(self, f: Callable[[np.ndarray, np.ndarray], Any]) -> Estimated:
        """f(θ (…, K + 1, P, P), SNPs a bin (…, K)) with both errors; f takes the leading axes along."""
        m = self.traces[0].m
        total, blocks = m.sum(axis=0), self.traces[0].blocks
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(f(self.theta, total))
            by_block = np.asarray(f(self.without_block, total - m[blocks]), float)
            by_probe = np.asarray(f(self.without_probe, np.broadcast_to(total, (self.n_probes, len(total)))), float)
        cov = self._jackknife(np.array([value]), by_block[:, None])
        return Estimated(value, float(np.sqrt(cov[0, 0])), float(np.sqrt(_probe_covariance(by_probe[:, None])[0, 0])))

    def covariance(self, phenotype: int | str, kind: str = "jackknife") -> np.ndarray:
        """Cov of one phenotype's θ (K + 1, K + 1) by the "jackknife", the "sandwich" (one bin), or "monte-carlo"."""
        j = self.position(phenotype)
        if kind == "jackknife":
            return self._jackknife(self.theta[:, j, j], self.without_block[:, :, j, j])
        if kind == "monte-carlo":
            return _probe_covariance(self.without_probe[:, :, j, j])
        if kind != "sandwich":
            raise MethodError(f"unknown covariance `{kind}`. Choose from {', '.join(KINDS)}.")
        return self.pair_covariance(j, j)[np.ix_([0, 3], [0, 3])]

    def pair_covariance(self, a: int | str, b: int | str) -> np.ndarray:
        """The sandwich of (G_aa, G_ba, G_bb, E_aa, E_ba, E_bb), (6, 6), of a single bin."""
        i, j = self.position(a), self.position(b)
        if len(self.bins) > 1 or self.of[i] != self.of[j]:
            why = f"the sandwich is for one bin; there are {len(self.bins)}" if len(self.bins) > 1 else NEVER
            raise MethodError(f"{why}. Use the jackknife.")
        at = np.ix_([i, j], [i, j])
        return pair_covariance(self.traces[self.of[i]].power_traces(), self.theta[0][at], self.theta[1][at])

    def _jackknife(self, value: np.ndarray, left_out: np.ndarray) -> np.ndarray:
        """Covariance of estimates (c,) from those without each block (J, c), blocks of unequal size: with h = Σm/m_J,

        pseudo-values hθ̂ − (h − 1)θ̂_(J),  1/J Σ (pseudo_J − mean)²/(h_J − 1)  (Busing, Meijer & van der Leeden 1999).
        """
        m = self.traces[0].m[self.traces[0].blocks].sum(axis=1)
        h, J = (m.sum() / m)[:, None], len(m)
        mean = J * value - ((1.0 - 1.0 / h) * left_out).sum(axis=0)
        apart = (h * value - (h - 1.0) * left_out - mean) / np.sqrt(h - 1.0)
        return apart.T @ apart / J

    def quantities(self, phenotype: int | str) -> dict[str, Estimated]:
        """θ of a phenotype, Vp, each bin's share of it (h2:bin; of one bin h2) and h2, its whole.

        The se of Vp is NaN: leaving out SNPs does not move it (`sandwich_se` has one).
        """
        j, K = self.position(phenotype), len(self.bins)

        def weighted(top: np.ndarray, below: np.ndarray | None = None) -> Estimated:
            def of(T: np.ndarray, m: np.ndarray) -> np.ndarray:
                values = T[..., j, j]
                return values @ top if below is None else (values @ top) / (values @ below)

            return self.estimate(of)

        unit, ones = np.eye(K + 1), np.ones(K + 1)
        out = {name: weighted(unit[k]) for k, name in enumerate(self.parameters)}
        out["Vp"] = weighted(ones)._replace(se=float("nan"))
        if K > 1:
            out |= {f"h2:{name}": weighted(unit[k], ones) for k, name in enumerate(self.bins)}
        return out | {"h2": weighted(ones - unit[-1], ones)}

    def sandwich_se(self, phenotype: int | str, quantity: str) -> float:
        """The standard error of a quantity by the sandwich and the delta method; NaN for several bins."""
        if len(self.bins) > 1:
            return float("nan")
        j = self.position(phenotype)
        g, e = self.theta[:, j, j]
        total = g + e
        gradient = {"V(G)": (1, 0), "V(e)": (0, 1), "Vp": (1, 1), "h2": (e / total**2, -g / total**2)}[quantity]
        v = np.array(gradient, float)
        return float(np.sqrt(max(v @ self.covariance(j, "sandwich") @ v, 0.0)))

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a phenotype and quantity: estimate, se (jackknife), se_sandwich (one bin), se_monte_carlo, n."""
        import pandas as pd

        rows = [
            {
                "phenotype": name, "quantity": quantity, "estimate": e.value, "se": e.se,
                "se_sandwich": self.sandwich_se(j, quantity), "se_monte_carlo": e.monte_carlo, "n": len(self.rows[j]),
            }
            for j, name in enumerate(self.names)
            for quantity, e in self.quantities(j).items()
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def enrichment(self) -> "pd.DataFrame":
        """One row a phenotype and bin: SNPs, share of the SNPs, share of the bins' variance, enrichment (their ratio)
        with se and se_monte_carlo. Bins that overlap share SNPs, and their shares do not add up to 1."""
        import pandas as pd

        rows = []
        for j, name in enumerate(self.names):
            for k, bin_ in enumerate(self.bins):

                def share(T: np.ndarray, m: np.ndarray, k: int = k, j: int = j) -> np.ndarray:
                    return T[..., k, j, j] / T[..., :-1, j, j].sum(axis=-1)

                def ratio(T: np.ndarray, m: np.ndarray, k: int = k, share: Any = share) -> np.ndarray:
                    return share(T, m) / (m[..., k] / m.sum(axis=-1))

                of_snps, part = float(self.n_snps[k] / self.n_snps.sum()), self.estimate(share)
                rows.append((name, bin_, int(self.n_snps[k]), of_snps, part.value, part.se, *self.estimate(ratio)))
        names = ("phenotype", "bin", "n_snps", "share_of_snps", "share_of_h2", "share_of_h2_se", "enrichment",
                 "enrichment_se", "enrichment_se_monte_carlo")  # fmt: skip
        return pd.DataFrame(rows, columns=list(names))

    @property
    def correlations(self) -> "pd.DataFrame":
        """One row a pair: rho_g, over all bins, and rho_e, each with se and se_monte_carlo, raw; message says why one
        does not exist."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for i in range(len(self.names)):
            for j in range(i):
                row: dict[str, Any] = {"phenotype_1": self.names[j], "phenotype_2": self.names[i]}
                said = [] if self.of[i] == self.of[j] else [NEVER]
                for what, part in (("rho_g", slice(0, -1)), ("rho_e", slice(-1, None))):

                    def rho(T: np.ndarray, m: np.ndarray, part: slice = part, i: int = i, j: int = j) -> np.ndarray:
                        G = T[..., part, :, :].sum(axis=-3)
                        return G[..., i, j] / np.sqrt(G[..., i, i] * G[..., j, j])

                    row[what], row[f"{what}_se"], row[f"{what}_se_monte_carlo"] = self.estimate(rho)
                    for one in (i, j):
                        if (v := float(self.theta[part, one, one].sum())) <= 0:
                            row[what] = float("nan")
                            said.append(f"{what} does not exist: that variance of `{self.names[one]}` is {v:.4g}")
                rows.append(row | {"message": "; ".join(said)})
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """The estimates on a page, both errors beside each, and what a negative one means."""
        from vcbench import __version__

        title = f"Randomised moments of {num.plural(len(self.names), 'phenotype')}"
        probes = f"{self.n_probes} probes, seed {self.seed}" + (", traces from the cache" if all(self.cached) else "")
        lines = [
            f"{title:<68}vcbench {__version__}",
            f"{num.count(int(self.n_snps.sum()))} SNPs in {num.plural(len(self.bins), 'bin')} of "
            f"{num.count(self.n_variants)} · {num.plural(self.n_fixed, 'fixed effect')} projected out · {probes} · "
            f"{num.seconds(self.seconds)}",
        ]
        z, one = float(ndtri(0.5 + 0.5 * self.level)), len(self.bins) == 1
        for j, name in enumerate(self.names):
            rows = []
            for quantity, e in self.quantities(j).items():
                se = self.sandwich_se(j, quantity) if one else e.se
                row = [quantity, num.estimate(e.value, se), num.estimate(se, se), num.estimate(e.se, e.se)]
                limits = num.interval(e.value - z * se, e.value + z * se, se)
                rows.append([*(row if one else row[:3]), limits, num.significant(e.monte_carlo, 2)])
            header = ["SE (sandwich)", "SE (jackknife)", f"{num.percent(self.level, 0)} CI", "Monte Carlo SE"]
            header = ["source", "estimate", *(header if one else header[1:])]
            lines += ["", f"{name}: {num.count(len(self.rows[j]))} samples", *columns(header, rows, left=(0,))]
            for note in self.notes(j):
                lines += wrap(note, WIDTH, break_on_hyphens=False, break_long_words=False)
        said = (
            f"The jackknife leaves out each of {self.n_blocks} blocks of SNPs: right for shares, it is blind to the "
            "sampling error of the total variance. The Monte Carlo SE is that of the probes, and in no other."
        )
        lines += ["", *wrap(said, WIDTH)]
        return "\n".join(lines)

    def notes(self, phenotype: int | str) -> list[str]:
        """In words: estimates below 0, and a Monte Carlo error that matters beside the sampling error."""
        j, out = self.position(phenotype), []
        values = self.quantities(j)
        negative = [name for name in self.parameters if values[name].value < 0]
        if negative:
            said = num.listing([f"{name} = {num.estimate(values[name].value, values[name].se)}" for name in negative])
            are = "is" if len(negative) == 1 else "are"
            out.append(
                f"{said} {are} below 0. Moment estimates are unbiased and not held to the possible values; raw "
                "estimates are what averages and comparisons over studies need."
            )
        h2 = values["h2"]
        if h2.monte_carlo > 0.3 * h2.se:
            more = int(np.ceil(self.n_probes * (h2.monte_carlo / (0.1 * h2.se)) ** 2))
            out.append(
                f"The Monte Carlo error of h² is {num.percent(h2.monte_carlo / h2.se, 0)} of its SE: about "
                f"{num.count(more)} `vectors` would bring it to a tenth."
            )
        return out

    def __str__(self) -> str:
        return self.summary()


def _probe_covariance(left_out: np.ndarray) -> np.ndarray:
    """The jackknife over probes: (B − 1)/B Σ (θ̂_(b) − mean)², left_out (B, c)."""
    B = len(left_out)
    apart = left_out - left_out.mean(axis=0)
    return (B - 1) / B * apart.T @ apart
