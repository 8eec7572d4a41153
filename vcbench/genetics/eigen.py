"""One eigendecomposition for all phenotypes: K = U diag(d) Uᵀ, its cache on disk, and the model component made of it.

V = V(G) K + V(e) I is diagonal in the basis U, so that every phenotype after it costs O(n) an iteration. The
decomposition is in float64, and U is left as a product (`model.eigenvectors`) until its entries are asked for; of
W (n, p) with p < n it is the thin singular value decomposition of W/√p, and no n × n matrix is formed. On disk it is
kept under a key (a digest of what was decomposed: content, samples, scaling), and read back only where the key inside
the file is the one asked for.
"""

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import svd

from vcbench import numbers as num
from vcbench.errors import DataError, ModelError
from vcbench.kernels.blocks import NEGLIGIBLE
from vcbench.model.component import Component
from vcbench.model.eigenvectors import Eigenvectors, eigen_of
from vcbench.model.relationship import ASYMMETRY, NEGATIVE, ROUNDING, Known, Relationship

FORMAT = 2  # of the file: part of every key
PAIRS = 0.05  # of the mean eigenvalue: how far below 0 pair counts of missing calls push one (n·missing/p or so)
STEP = 512  # rows looked at together


@dataclass(frozen=True, slots=True, eq=False)
class Eigen:
    """K = U diag(values) Uᵀ: values (r,) > 0 ascending, vectors U (n, r) orthonormal, r the rank.

    n_clipped: eigenvalues that were below 0 by more than rounding and count as 0, `lowest` the smallest of them as a
    share of the largest. key: the digest it is cached under, "" without one; cached: whether it was read from disk.
    facts: what else is kept with it, such as the number of SNPs.
    """

    values: np.ndarray
    vectors: np.ndarray | Eigenvectors = field(repr=False)
    n_clipped: int = 0
    lowest: float = 0.0
    key: str = ""
    cached: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows of K."""
        return len(self.vectors)

    @property
    def rank(self) -> int:
        """Eigenvalues that are not 0: above 1e-10 of the largest."""
        return len(self.values)

    @property
    def trace(self) -> float:
        """tr K."""
        return float(self.values.sum())

    @property
    def centred_trace(self) -> float:
        """tr(CKC), C = I − 11ᵀ/n: what K adds to the sum of squares about the mean, per unit of V(G)."""
        along = self.vectors.T @ np.ones(self.n)
        return float(self.values @ (1.0 - along**2 / self.n))

    def matrix(self) -> np.ndarray:
        """K (n, n)."""
        U = np.asarray(self.vectors)
        return (U * self.values) @ U.T

    def component(self, name: str = "G") -> Component:
        """The component V_k = σ² K of a model, with nothing left to factorise."""
        relation = Decomposed(name, decomposition=self)
        return Component(name=name, cov=Known("known", lambda _: relation))


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed(Relationship):
    """A relationship matrix that is known by its eigenvalues and eigenvectors alone."""

    decomposition: Eigen = field(kw_only=True, repr=False)

    @property
    def m(self) -> int:
        """Rows of K."""
        return self.decomposition.n

    @property
    def matrix(self) -> np.ndarray:
        """K (m, m), formed when asked for."""
        return self._once("matrix", self.decomposition.matrix)

    @property
    def is_definite(self) -> bool:
        """False: its eigenvalues decide what is 0."""
        return False

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray | Eigenvectors]:
        """(eigenvalues, eigenvectors)."""
        return self.decomposition.values, self.decomposition.vectors

    @property
    def n_clipped(self) -> int:
        """Negative eigenvalues that were set to 0."""
        return self.decomposition.n_clipped


def decompose(
    K: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    cache: str | os.PathLike | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    name: str = "K",
) -> Eigen:
    """The eigendecomposition of K (n, n), or of K[rows, rows].

    cache: a folder where it is kept, and found again if the content of K, `rows` and `about` (whatever else says what K
    is: standardisation, samples) are the same. overwrite: K may be destroyed, which saves its copy.
    Raises ModelError for a K that is not square, symmetric or positive semi-definite, DataError for one not finite.
    """
    check_symmetric(K, name)
    key = ""
    if cache is not None:
        said = {"content": digest(K), "rows": "all" if rows is None else digest(np.asarray(rows)), **(about or {})}
        key = key_of(said)
        found = read_cache(cache, key)
        if found is not None:
            return found
    own = K if rows is None else K[np.ix_(rows, rows)]
    destroy = rows is not None or overwrite or own.dtype != np.float64
    own = np.asarray(own, np.float64)
    values, vectors = eigen_of(own, overwrite=destroy)
    out = _checked(values, vectors, key, name)
    if cache is not None:
        write_cache(cache, out)
    return out


def decompose_thin(
    W: np.ndarray,
    divisor: float,
    *,
    rows: np.ndarray | None = None,
    cache: str | os.PathLike | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    name: str = "W",
) -> Eigen:
    """The eigendecomposition of K = W Wᵀ/divisor from W (n, p), p < n: singular values and left singular vectors.

    cache, about, overwrite: as in `decompose`. Raises DataError for a W that is not finite.
    """
    if not np.isfinite(W.sum(dtype=float)):
        raise DataError(f"`{name}` holds values that are not finite: impute or leave out missing genotypes.")
    key = ""
    if cache is not None:
        said = {"content": digest(W), "divisor": float(divisor), "rows": "all", **(about or {})}
        key = key_of(said if rows is None else {**said, "rows": digest(np.asarray(rows))})
        found = read_cache(cache, key)
        if found is not None:
            return found
    own = np.asarray(W if rows is None else W[rows], np.float64)
    vectors, s, _ = svd(own, full_matrices=False, check_finite=False, overwrite_a=overwrite or own is not W)
    order = np.argsort(s)
    out = _checked(s[order] ** 2 / divisor, vectors[:, order], key, name)
    if cache is not None:
        write_cache(cache, out)
    return out


def check_symmetric(K: np.ndarray, name: str = "K") -> None:
    """Raise ModelError for a K that is not a square symmetric matrix, DataError for one with values not finite."""
    if K.ndim != 2 or K.shape[0] != K.shape[1]:
        raise ModelError(f"`{name}` has shape {K.shape}; a relationship matrix is square.")
    n, size, off = len(K), 0.0, (0.0, 0, 0)
    for i in range(0, n, STEP):
        rows = K[i : i + STEP]
        top = float(np.abs(rows).max())
        if not np.isfinite(top):
            r, c = np.argwhere(~np.isfinite(rows))[0]
            raise DataError(f"`{name}` is {rows[r, c]} at [{i + r}, {c}]. Leave that sample out.")
        size = max(size, top)
        gap = np.abs(rows - K[:, i : i + STEP].T)
        if gap.max() > off[0]:
            r, c = np.unravel_index(int(gap.argmax()), gap.shape)
            off = (float(gap[r, c]), i + int(r), int(c))
    if off[0] > ASYMMETRY * size:
        gap_is, i, j = off
        raise ModelError(
            f"`{name}` is not symmetric: [{i}, {j}] is {K[i, j]:g} but [{j}, {i}] is {K[j, i]:g} (a difference of "
            f"{gap_is:.2g}). Pass (K + K.T) / 2 if that is what you mean."
        )


def _checked(values: np.ndarray, vectors: np.ndarray | Eigenvectors, key: str, name: str) -> Eigen:
    """Without the eigenvectors of what is 0 or slightly negative: to a share −NEGATIVE of the largest eigenvalue, and
    with a warning to −PAIRS of the mean. ModelError for one below."""
    largest, mean = float(values[-1]), float(values.mean())
    if largest <= 0 or values[0] < -max(NEGATIVE * largest, PAIRS * mean):
        raise ModelError(
            f"`{name}` is not positive semi-definite: its eigenvalues run from {values[0]:.6g} to {largest:.6g}. A "
            "relationship matrix has none below 0; check how it was made."
        )
    if values[0] < -NEGATIVE * largest:
        below = num.plural(int((values < -NEGATIVE * largest).sum()), "eigenvalue")
        warnings.warn(
            f"`{name}` has {below} below 0, the lowest {values[0]:.2g} where the mean is {mean:.2g}; taken as 0. "
            'Missing calls counted by pairs make such; with missing="mean" there are none.',
            stacklevel=5,
        )
    clipped = int((values < -ROUNDING * largest).sum())
    lowest = min(float(values[0]) / largest, 0.0)
    first = int(np.argmax(values > NEGLIGIBLE * largest))  # in ascending order: what is 0 comes first
    rank = len(values) - first
    kept = vectors.last(rank) if isinstance(vectors, Eigenvectors) else np.ascontiguousarray(vectors[:, first:])
    return Eigen(values[first:], kept, clipped, lowest if clipped else 0.0, key)


def digest(array: np.ndarray) -> str:
    """A digest of an array's content, type and shape."""
    array = np.ascontiguousarray(array)
    seal = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    seal.update(memoryview(array).cast("B"))
    return seal.hexdigest()


def key_of(said: Mapping[str, Any]) -> str:
    """The key of a decomposition: a digest of all that decides its numbers."""
    text = json.dumps({"format": FORMAT, **said}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def path_of(folder: Path, key: str) -> Path:
    """Where a decomposition is kept."""
    return folder / f"{key[:24]}.eigen.npz"


def read_cache(folder: str | os.PathLike, key: str) -> Eigen | None:
    """The decomposition kept under `key`, or None; a file that is damaged or of another key counts for nothing."""
    path = path_of(Path(folder), key)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            values, vectors = file["values"], file["vectors"]
            clipped, lowest = int(file["n_clipped"]), float(file["lowest"])
            facts = json.loads(str(file["facts"]))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
        warnings.warn(f"{path} cannot be read ({error}); the decomposition is done again.", stacklevel=2)
        return None
    if values.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != len(values):
        return None
    return Eigen(values, vectors, clipped, lowest, key, cached=True, facts=facts)


def write_cache(folder: str | os.PathLike, eigen: Eigen) -> Path:
    """Keep a decomposition under its key; the file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, eigen.key)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            np.savez(
                out,
                key=np.array(eigen.key),
                values=eigen.values,
                vectors=np.asarray(eigen.vectors),
                n_clipped=eigen.n_clipped,
                lowest=eigen.lowest,
                facts=np.array(json.dumps(dict(eigen.facts))),
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
