"""The traces behind randomised moments, by block of SNPs and by probe vector: of a design alone, kept for later use.

With A_k = M K_k M, c_k = tr A_k / tr M and D_k = A_k − c_k M the normal equations of MATH §5, less σ_e², are

    Σ_l tr(D_k D_l) σ_l² = yᵀA_k y − c_k yᵀMy,      σ_e² = (yᵀMy − Σ_k tr(A_k) σ_k²) / tr M

tr A_k is exact, and tr(D_kD_l) the mean over probes z, random signs, of

    (D_kz)ᵀ(D_lz) = zᵀA_kA_lz − c_k zᵀA_lz − c_l zᵀA_kz + c_kc_l zᵀMz

Wu & Sankararaman (2018) average the first term alone; the others have known means and take out nearly all of its
variance. For one bin of independent SNPs and γ = n/p, the relative SD of what divides σ_g² is by B probes

    √(2(1 + γ)/(nB)) here,    √(8/(nγB)) from zᵀA²z of random signs,    √(2/(nB))/γ from that of normal probes

that is 0.6 %, 10 % and 39 % for n = 5123, p = 319,147 and B = 10.
"""

import json
import os
import warnings
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.genetics.eigen import digest, key_of
from vcbench.genetics.pair_moments import Traces

SINGULAR = 1e-8
ENDING = ".traces.npz"


@dataclass(frozen=True, slots=True, eq=False)
class DesignTraces:
    """Sums over J blocks, K bins and B probes (`randomised_sums`), not yet divided by s.

    n, df: samples, tr M. s, m, a, diagonal (J, K); r (J, K, B); E, F (J, K, K, B); UU (K, K, B); zz (B,) = zᵀMz; powers
    (2, B): zᵀD³z and zᵀD⁴z, of a single bin, else empty.
    """

    n: int
    df: int
    s: np.ndarray
    m: np.ndarray
    a: np.ndarray
    diagonal: np.ndarray
    r: np.ndarray = field(repr=False)
    E: np.ndarray = field(repr=False)
    F: np.ndarray = field(repr=False)
    UU: np.ndarray = field(repr=False)
    zz: np.ndarray = field(repr=False)
    powers: np.ndarray = field(repr=False)

    @property
    def n_probes(self) -> int:
        """B."""
        return len(self.zz)

    @property
    def blocks(self) -> np.ndarray:
        """The blocks that hold SNPs."""
        return np.flatnonzero(self.m.sum(axis=1) > 0)

    @property
    def sizes(self) -> np.ndarray:
        """tr(CK_kC)/n (K,)."""
        return self.diagonal.sum(axis=0) / self.s.sum(axis=0) / self.n

    def equations(self, without: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(s (K,), tr A_k (K,), tr(D_kD_l) by probe (K, K, B)) of all SNPs, or of all but block `without`."""
        s, a, r, UU = self.s.sum(axis=0), self.a.sum(axis=0), self.r.sum(axis=0), self.UU
        if without is not None:
            J = without
            s, a, r = s - self.s[J], a - self.a[J], r - self.r[J]
            UU = UU - self.F[J] - self.F[J].transpose(1, 0, 2) + self.E[J]
        trace, r = a / s, r / s[:, None]
        c = trace / self.df
        cross = c[:, None, None] * r
        D = UU / np.outer(s, s)[:, :, None] - cross - cross.transpose(1, 0, 2) + np.outer(c, c)[:, :, None] * self.zz
        return s, trace, D

    def power_traces(self) -> Traces:
        """tr A^m, m = 0 … 4, of a single bin."""
        _, (a1,), D = self.equations()
        a0, c, (d3, d4) = float(self.df), a1 / self.df, self.powers.mean(axis=1)
        d2 = float(D.mean())
        a2, a3 = d2 + c**2 * a0, d3 + 3 * c * d2 + c**3 * a0
        return Traces(np.array([a0, a1, a2, a3, d4 + 4 * c * d3 + 6 * c**2 * d2 + c**4 * a0]))

    def write(self, folder: Any, key: str) -> Path:
        """Keep the traces under their key; the file appears whole or not at all."""
        folder = Path(os.fspath(folder))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{key[:24]}{ENDING}"
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        try:
            with part.open("wb") as out:
                np.savez(out, key=np.array(json.dumps(key)), **arrays)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def read(cls, folder: Any, key: str) -> "DesignTraces | None":
        """The traces kept under `key`, or None; a file that is damaged, or of another key, counts for nothing."""
        path = Path(os.fspath(folder)) / f"{key[:24]}{ENDING}"
        if not path.is_file():
            return None
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if json.loads(str(file["key"])) != key:
                    return None
                values = {f.name: file[f.name] for f in fields(cls)}
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
            warnings.warn(f"{path} cannot be read ({error}); the traces are computed again.", stacklevel=2)
            return None
        return cls(int(values.pop("n")), int(values.pop("df")), **values)


def trace_key(content: str, X: np.ndarray, observed: np.ndarray, said: dict[str, Any]) -> str:
    """A digest of all that decides the traces: genotypes, covariates, samples, bins, blocks, probes."""
    return key_of({"genotypes": content, "X": digest(X), "observed": digest(observed), **said, "traces": 1})


def solve(
    trace: np.ndarray, D: np.ndarray, df: int, q: np.ndarray, qe: np.ndarray, names: tuple[str, ...] = ()
) -> np.ndarray:
    """θ (K + 1, P, P), residual last, from tr A (K,), tr(D_kD_l) (K, K), q = YᵀA_kY (K, P, P) and YᵀMY (P, P).

    ModelError where a bin leaves nothing of its own once X and the other bins are taken out.
    """
    size = np.sqrt(np.maximum(np.diag(D), 0.0))
    scaled = D / np.outer(size, size) if (size > 0).all() else np.zeros_like(D)
    if (size**2 <= SINGULAR * trace**2 / df).any() or np.linalg.eigvalsh(scaled)[0] < SINGULAR:
        weak = names[int(np.argmin(size))] if names else "a bin"
        raise ModelError(
            f"the moment equations are singular: `{weak}` leaves no trace of its own once X and the other bins are "
            "taken out. Join bins that hold nearly the same SNPs, or use more `vectors`."
        )
    c = trace / df
    left = q - c[:, None, None] * qe
    genetic = np.linalg.solve(D, left.reshape(len(D), -1)).reshape(left.shape)
    return np.concatenate([genetic, (qe - np.tensordot(trace, genetic, axes=1))[None] / df])
