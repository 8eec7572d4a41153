"""What `vcbench heritability` points at: genotypes or relationship matrices, made the matrices of the samples used."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench import numbers as num
from vcbench.errors import DataError, SpecError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vcbench.genetics.matrices import Matrix
    from vcbench.genetics.tables import Joined


FEWEST = 3  # samples that K is worth looking at


class How:
    """How genotypes become K."""

    def __init__(self, standardise: Any, missing: str, count_monomorphic: bool, progress: bool) -> None:
        self.standardise, self.missing = standardise, missing
        self.count_monomorphic, self.progress = count_monomorphic, progress


class Source:
    """Where the relationship comes from: genotypes (whole, or in parts), or matrices that were computed before."""

    def __init__(self, samples: "pd.DataFrame", parts: dict[str, Any], n_variants: int, n_chosen: int) -> None:
        self.samples, self.parts = samples, parts
        self.n_variants, self.n_chosen = n_variants, n_chosen

    @classmethod
    def of(cls, bfile, grm, mgrm, keep, extract, autosomes, maf, geno, split) -> "Source":
        """From the options."""
        from vcbench.genetics.genotypes import Genotypes
        from vcbench.genetics.relationship import GRM

        if bfile is None:
            for option, value in (("--keep", keep), ("--extract", extract)):
                if value is not None:
                    raise SpecError(f"{option} goes with --bfile; select samples by the phenotype file.")
            prefixes = [grm] if grm is not None else _lines(mgrm)
            matrices = [GRM.read(prefix) for prefix in prefixes]
            names = ["G"] if len(matrices) == 1 else [f"G{j + 1}" for j in range(len(matrices))]
            return cls(matrices[0].samples, dict(zip(names, matrices, strict=True)), 0, 0)
        whole = Genotypes.open(bfile, keep, extract, maf, geno)
        n = whole.n_variants
        chosen = whole.select(chromosomes=[str(c) for c in range(1, autosomes + 1)]) if autosomes else whole
        if split is None:
            return cls(chosen.samples, {"G": chosen}, n, chosen.n_variants)
        from vcbench.genetics.several import split as parts_of

        kind, _, edges = split.partition(":")
        try:
            by = ("maf", [float(edge) for edge in edges.split(",")]) if kind == "maf" else kind
        except ValueError:
            raise SpecError(f'--split is `{split}`; write "chromosome" or "maf:0.01,0.05,0.2".') from None
        if by != "chromosome" and kind != "maf":
            raise SpecError(f'--split is `{split}`; write "chromosome" or "maf:0.01,0.05,0.2".')
        return cls(chosen.samples, dict(parts_of(chosen, by)), n, chosen.n_variants)

    def matrices(
        self, joined: "Joined", how: How, cutoff: float | None, write: Path | None, streamed: bool = False
    ) -> "tuple[list[Matrix], np.ndarray, pd.DataFrame]":
        """(matrices of the rows used, rows of `joined`, samples removed for being related).

        Frequencies and K are those of all samples of the files, as GCTA takes them; where there are fewer SNPs than
        samples, or every method streams them, no matrix is formed, and they are of the samples used.
        """
        import numpy as np

        from vcbench.genetics.genotypes import Genotypes
        from vcbench.genetics.matrices import matrices_of
        from vcbench.genetics.relationship import GRM

        used = joined.rows
        few = sum(p.n_variants for p in self.parts.values() if isinstance(p, Genotypes)) < len(used)
        thin = (few or streamed) and how.missing == "mean" and cutoff is None and write is None
        if thin and not any(isinstance(p, GRM) for p in self.parts.values()):
            parts = {name: part.select(samples=used) for name, part in self.parts.items()}
            named = matrices_of(
                parts, None, len(used), how.standardise, how.missing, how.count_monomorphic, how.progress
            )
            return named, np.arange(len(used)), joined.dropped.iloc[:0]
        grms = {}
        for name, part in self.parts.items():
            if isinstance(part, GRM):
                whole = len(self.parts) == 1 and len(used) == part.n
                grms[name] = part if whole else part.select(_rows_of(part, joined.samples, name))
                continue
            (made,) = matrices_of(
                {name: part}, None, part.n, how.standardise, how.missing, how.count_monomorphic, how.progress
            )
            grm = made.grm()
            if write is not None:
                grm.write(write)
            grm = replace(grm, pair_counts=None)
            grms[name] = grm.select(used) if len(used) < part.n else grm
        rows = np.arange(len(used))
        first = next(iter(grms.values()))
        if cutoff is not None:
            rows = first.unrelated(cutoff)
            if len(rows) < FEWEST:
                left = f"{num.plural(len(rows), 'sample')} of {len(used):,}"
                raise DataError(
                    f"--grm-cutoff {cutoff:g} leaves {left}: nearly all pairs are related by more. Raise it; 0.05 is "
                    "usual where most samples are strangers."
                )
            grms = {name: grm.select(rows) for name, grm in grms.items()}
        gone = joined.samples.drop(index=rows)[["FID", "IID"]].assign(
            reason=f"related, GRM > {cutoff:g}" if cutoff else ""
        )
        return [_matrix(name, grm) for name, grm in grms.items()], rows, gone


def _rows_of(grm: Any, samples: "pd.DataFrame", name: str) -> "np.ndarray":
    """Where the samples used are in a matrix. DataError naming the matrix that lacks one."""
    try:
        return grm.rows(samples)
    except DataError as error:
        raise DataError(f"{name} of --mgrm: {error}") from None


def _matrix(name: str, grm: Any) -> "Matrix":
    from vcbench.genetics.matrices import matrices_of

    return matrices_of(None, {name: grm}, grm.n)[0]


def _lines(path: Path) -> list[str]:
    """The prefixes of a file, one a line."""
    if not path.is_file():
        raise SpecError(f"there is no file {path} of GRM prefixes.")
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not found:
        raise SpecError(f"{path} names no GRM.")
    return found


def phenotype_columns(pheno: Path, mpheno: str | None) -> list[str] | None:
    """Names of the phenotypes asked for, by name or position from 1."""
    if mpheno is None:
        return None
    from vcbench.genetics.tables import read_table

    have = [str(c) for c in read_table(pheno).values]
    out = []
    for word in (w.strip() for w in mpheno.split(",")):
        if word in have:
            out.append(word)
        elif word.isdigit() and 1 <= int(word) <= len(have):
            out.append(have[int(word) - 1])
        else:
            raise SpecError(f"--mpheno asks for `{word}`; {pheno} has {', '.join(have)} (or 1 … {len(have)}).")
    return out
