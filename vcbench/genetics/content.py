"""A digest of genotypes: of their calls, and of the samples, SNPs and filters that were chosen."""

import hashlib

import numpy as np

from vcbench.genetics.eigen import digest, key_of
from vcbench.genetics.genotypes import BLOCK, Genotypes


def content_of(genotypes: Genotypes) -> str:
    """SHA-256 of the .bed, or of the calls read block by block where there is no file; kept with the genotypes."""
    if "content" not in genotypes.cache:
        path, array = (getattr(genotypes.source, name, None) for name in ("path", "array"))
        if path is not None:
            with open(path, "rb") as file:
                calls = hashlib.file_digest(file, "sha256").hexdigest()
        elif isinstance(array, np.ndarray):
            calls = digest(array)
        else:
            seal = hashlib.sha256(f"{genotypes.source.n} {genotypes.source.p}".encode())
            for start in range(0, genotypes.source.p, BLOCK):
                stop = min(start + BLOCK, genotypes.source.p)
                seal.update(digest(genotypes.source.read(None, slice(start, stop))).encode())
            calls = seal.hexdigest()
        chosen = [None if at is None else digest(np.asarray(at)) for at in (genotypes.rows, genotypes.columns)]
        genotypes.cache["content"] = key_of(
            {"calls": calls, "chosen": chosen, "maf": genotypes.maf, "missing": genotypes.missing}
        )
    return genotypes.cache["content"]
