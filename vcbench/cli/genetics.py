"""`vcbench heritability`: from PLINK or GCTA files to variances, their shares and correlations, in one command."""

import inspect
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vcbench import numbers as num
from vcbench.cli.relationships import How, Source, phenotype_columns
from vcbench.errors import SpecError

if TYPE_CHECKING:
    from vcbench.genetics.matrices import Matrix
    from vcbench.genetics.results import Heritability
    from vcbench.genetics.tables import Joined
    from vcbench.methods import Method

Flag = Parameter(negative="", show_default=False)
RELATED = 0.9  # of K: above it two samples are one, or twins
MIN_MEAN, MAX_MEAN = 0.9, 1.1  # of K's mean diagonal
WITHOUT = ("stochastic", "lasso")  # kinds of methods that need no matrix


def heritability(
    *,
    pheno: Annotated[Path, Parameter(help="Phenotypes: FID IID and values; −9 and NA are missing.")],
    bfile: Annotated[str | None, Parameter(help="Genotypes: the prefix of .bed, .bim and .fam.")] = None,
    grm: Annotated[str | None, Parameter(help="A relationship matrix: the prefix of .grm.bin and .grm.id.")] = None,
    mgrm: Annotated[Path | None, Parameter(help="Several: a file with one such prefix a line.")] = None,
    mpheno: Annotated[str | None, Parameter(help="Phenotypes to take, by name or position, with commas.")] = None,
    qcovar: Annotated[Path | None, Parameter(help="Covariates that are numbers (age, PCs).")] = None,
    covar: Annotated[Path | None, Parameter(help="Covariates that are categories (sex, batch).")] = None,
    keep: Annotated[Path | None, Parameter(help="Samples to keep: FID IID a line.")] = None,
    extract: Annotated[Path | None, Parameter(help="SNPs to keep: an id a line.")] = None,
    autosomes: Annotated[int, Parameter(help="Chromosomes 1 … N are used; 0: all of them.")] = 22,
    maf: Annotated[float, Parameter(help="Leave out SNPs with a rarer minor allele.")] = 0.0,
    geno: Annotated[float, Parameter(help="Leave out SNPs with a larger share of missing calls.")] = 1.0,
    grm_cutoff: Annotated[float | None, Parameter(help="Leave out samples until no two are closer than this.")] = None,
    split: Annotated[str | None, Parameter(help='One variance each: "chromosome", or "maf:0.01,0.05,0.2".')] = None,
    standardise: Annotated[str, Parameter(help="unit, gcta (vanraden2), vanraden1, centred, alpha:A.")] = "unit",
    missing: Annotated[Literal["mean", "pairs"], Parameter(help="Missing calls: at the mean, or by pairs.")] = "mean",
    like_gcta: Annotated[bool, Flag, Parameter(help="GCTA's matrix: gcta, pairs, all SNPs counted.")] = False,
    method: Annotated[str, Parameter(help="Methods, with commas (ai, px-em, moments, …).")] = "auto",
    vectors: Annotated[int | None, Parameter(help="Random probes of moments-randomised and ai-stochastic.")] = None,
    blocks: Annotated[int | None, Parameter(help="Blocks of SNPs for the jackknife of moments-randomised.")] = None,
    annot: Annotated[
        Path | None, Parameter(help="Of those two: bins of SNPs, a variance each; 0/1 columns, a line for each SNP.")
    ] = None,
    seed: Annotated[int | None, Parameter(help="Of the probes.")] = None,
    criterion: Annotated[Literal["ml", "reml"] | None, Parameter(help="Default: reml.")] = None,
    correlations: Annotated[
        Literal["none", "moments", "reml", "both"], Parameter(help="Genetic correlations of all pairs of phenotypes.")
    ] = "none",
    prevalence: Annotated[float | None, Parameter(help="Of a binary phenotype, for h² of its liability.")] = None,
    sample_prevalence: Annotated[float | None, Parameter(help="Its share of cases; default: the data's.")] = None,
    scale: Annotated[Literal["unit", "trace"], Parameter(help="h² as GCTA takes it, or GEMMA's pve.")] = "unit",
    level: Annotated[float, Parameter(help="Confidence level of the intervals.")] = 0.95,
    make_grm: Annotated[bool, Flag, Parameter(help="Write OUT.grm.bin, to be read with --grm.")] = False,
    cache: Annotated[Path | None, Parameter(help="A folder where decompositions are kept.")] = None,
    out: Annotated[
        Path | None, Parameter(help="Prefix of .hsq, .profile.svg, .vc.json, .removed.tsv and .log.")
    ] = None,
    json: Annotated[bool, Flag, Parameter(help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, Flag, Parameter(help="Say nothing on stderr but errors.")] = False,
) -> int:
    """Heritability of phenotypes from genotypes, or from relationship matrices, with its standard error and interval.

    Exit 0 if every fit converged or ended on the boundary, else 1.
    """
    if [bfile, grm, mgrm].count(None) != 2:
        raise SpecError("name the relationship by one of --bfile, --grm and --mgrm.")
    if split is not None and bfile is None:
        raise SpecError("--split takes SNPs apart: it goes with --bfile.")
    if make_grm and (out is None or bfile is None or split is not None):
        raise SpecError(
            "--make-grm writes OUT.grm.bin of the genotypes: it goes with --bfile and --out, without --split."
        )
    if grm_cutoff is not None and not grm_cutoff > 0:
        raise SpecError(f"--grm-cutoff is {grm_cutoff:g}; it is a relationship above 0, such as 0.05.")
    if sample_prevalence is not None and prevalence is None:
        raise SpecError("--sample-prevalence goes with --prevalence, the disease's in the population.")
    page = _Page()
    page.head(locals())
    if like_gcta:
        standardise, missing = "gcta", "pairs"
    begin = time.perf_counter()
    from vcbench.genetics.blas import describe
    from vcbench.genetics.tables import join

    progress = not quiet and sys.stderr.isatty()
    how = How(standardise, missing, like_gcta, progress)
    source = Source.of(bfile, grm, mgrm, keep, extract, autosomes, maf, geno, split)
    options = {"vectors": vectors, "blocks": blocks, "seed": seed, "annotations": _annotations(annot, bfile, source)}
    methods = _methods(method, options)
    joined = join(source.samples, pheno, qcovar, covar, columns=phenotype_columns(pheno, mpheno))
    streamed = bfile is not None and all(m.kind in WITHOUT for m in methods.values())
    matrices, rows, removed = source.matrices(joined, how, grm_cutoff, out if make_grm else None, streamed)
    Y, X = joined.Y.iloc[rows], joined.X.iloc[rows]
    page.add(_samples(source, joined, removed, len(rows), matrices))
    page.add([*(_matrix_line(m) for m in matrices), f"BLAS    {describe()}", ""])
    results = _results(
        Y, X, matrices, methods, options, criterion, prevalence, sample_prevalence, scale, level, cache, progress,
        profiles=out is not None,
    )  # fmt: skip
    pairs = _pairs(Y, X, matrices, correlations, scale, level, cache)
    for result in [*results, *pairs]:
        page.add([*(line for line in _body(result)), ""])
    page.add(_checks(matrices, Y, X, prevalence))
    page.add([f"{time.perf_counter() - begin:.1f} s in all"])
    if out is not None:
        page.add(["", *_write(out, results, pairs, joined, removed, page, make_grm)])
    else:
        page.add(["nothing was written: --out PREFIX writes .hsq, .profile.svg, .vc.json, .removed.tsv and .log"])
    print(_json(results, pairs) if json else page.text)
    return (
        0
        if all(t.status.ok for result in results for t in result) and all(p.status.ok for r in pairs for p in r)
        else 1
    )


class _Page:
    """What is said on stdout and in the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def add(self, lines: Sequence[str]) -> None:
        self.lines += lines

    def head(self, given: dict[str, Any]) -> None:
        """The version, and the options that differ from their defaults, one a line."""
        from vcbench import __version__

        self.add([f"vcbench {__version__}  heritability", "Options in effect:"])
        for name, parameter in inspect.signature(heritability).parameters.items():
            value = given[name]
            if value is True and parameter.default is not True:
                self.add([f"  --{name.replace('_', '-')}"])
            elif value != parameter.default:
                self.add([f"  --{name.replace('_', '-')} {value}"])
        self.add([""])


def _methods(method: str, options: dict[str, Any]) -> "dict[str, Method]":
    """The methods asked for. SpecError for an option that none of them has."""
    from vcbench.methods import METHODS, check_method

    names = dict.fromkeys(name.strip() for name in method.split(",") if name.strip())
    if not names:
        raise SpecError("--method names none. Leave it out for `auto`.")
    methods = {name: check_method(name) for name in names}
    for key, value in options.items():
        if value is not None and not any(key in m.options for m in methods.values()):
            takes = " or ".join(name for name, m in METHODS.items() if key in m.options and m.kind in WITHOUT)
            raise SpecError(f"--{key.removesuffix('ations')} goes with --method {takes}.")
    return methods


def _annotations(path: Path | None, bfile: str | None, source: Source) -> dict[str, Any] | None:
    """Bins of the SNPs that are used, from a file on all of the .bim."""
    if path is None:
        return None
    if bfile is None or len(source.parts) > 1:
        raise SpecError("--annot makes bins of SNPs: it goes with --bfile, without --split.")
    from vcbench.genetics.annotations import Bins
    from vcbench.genetics.genotypes import Genotypes

    variants, (chosen,) = Genotypes.open(bfile).variants, source.parts.values()
    bins = Bins.of(path, variants)
    member = bins.member
    assert member is not None
    return dict(zip(bins.names, (member if chosen.columns is None else member[chosen.columns]).T, strict=True))


def _results(
    Y: Any, X: Any, matrices: "list[Matrix]", methods: "dict[str, Method]", options: dict[str, Any], criterion: Any,
    prevalence: Any, sample: Any, scale: str, level: float, cache: Any, progress: bool, profiles: bool,
) -> "list[Heritability]":  # fmt: skip
    """One result a method; a criterion and options go to those that have them."""
    from vcbench.genetics.heritability import heritability as estimate

    given: Any = matrices[0] if len(matrices) == 1 else {m.name: m for m in matrices}
    if prevalence is not None and Y.shape[1] > 1:  # of those with two values, where there are any
        prevalence = {name: prevalence for name, y in Y.items() if y.nunique() == 2} or prevalence
    out = []
    for name, m in methods.items():
        own = criterion if criterion in m.criteria else None if m.criteria == ("none",) else criterion
        has = {key: value for key, value in options.items() if value is not None and key in m.options}
        out.append(
            estimate(
                Y, given, X, name, own, level=level, scale=scale, prevalence=prevalence, sample_prevalence=sample,
                cache=cache, progress=progress, profiles=profiles, **has,
            )
        )  # fmt: skip
    return out


def _pairs(Y: Any, X: Any, matrices: "list[Matrix]", kind: str, scale: str, level: float, cache: Any) -> list[Any]:
    """Genetic correlations, by moments, REML or both."""
    if kind == "none":
        return []
    if len(matrices) > 1 or Y.shape[1] < 2:
        raise SpecError("--correlations needs one relationship matrix and two phenotypes or more.")
    from vcbench.genetics.correlation import genetic_correlation

    methods = ("moments", "reml") if kind == "both" else (kind,)
    return [genetic_correlation(Y, matrices[0], X, m, scale=scale, level=level, cache=cache) for m in methods]


def _samples(source: Source, joined: "Joined", removed: Any, n_used: int, matrices: "list[Matrix]") -> list[str]:
    """Who was there, who was left out and why, side by side with the SNPs."""
    left = [f"{joined.n_before:>9,}  with a relationship"]
    left += [f"− {count:>7,}  {reason}" for reason, count in joined.counts.items()]
    if len(removed):
        left.append(f"− {len(removed):>7,}  {removed['reason'].iloc[0]}")
    left.append(f"{n_used:>9,}  used")
    right: list[str] = []
    if source.n_variants:
        right = [f"{source.n_variants:>9,}  in the .bim"]
        if source.n_chosen < source.n_variants:
            right.append(f"− {source.n_variants - source.n_chosen:>7,}  on other chromosomes")
        parts = [part for part in source.parts.values() if hasattr(part, "scan")]
        apart = source.n_chosen - sum(part.n_variants for part in parts)
        if apart:
            right.append(f"− {apart:>7,}  in no part of --split")
        reasons: dict[str, int] = {}
        for part in parts:
            for reason, count in part.scan().dropped.items():
                reasons[reason] = reasons.get(reason, 0) + count
        right += [f"− {count:>7,}  {reason}" for reason, count in reasons.items()]
        used = sum(m.n_snps or getattr(m.given, "p", 0) for m in matrices)
        right.append(f"{used:>9,}  used for the GRM")
    height = max(len(left), len(right))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    head = f"{'Samples':<44}{'Variants' if source.n_variants else ''}".rstrip()
    lines = [head, *(f"{a:<44}{b}".rstrip() for a, b in zip(left, right, strict=True))]
    partial = {str(name): int(gap) for name, gap in joined.Y.isna().sum().items() if gap}
    lines += [f"{gap:>9,}  of the used lack {name}" for name, gap in partial.items()]
    return [*lines, ""]


def _matrix_line(matrix: "Matrix") -> str:
    """Mean diagonal and spread off it."""
    import numpy as np

    if not isinstance(matrix.given, np.ndarray) and np.isnan(matrix.mean_diagonal):
        return f"{matrix.name:<7} SNPs, no matrix of samples"
    text = f"{matrix.name:<7} mean diagonal {matrix.mean_diagonal:.3f}"
    if isinstance(matrix.given, np.ndarray):
        K, n = matrix.given, matrix.n
        off = float(K.sum()) - float(np.trace(K))
        squares = float(np.einsum("ij,ij->", K, K)) - float((np.diag(K) ** 2).sum())
        variance = squares / (n * (n - 1)) - (off / (n * (n - 1))) ** 2
        text += f", off-diagonal sd {np.sqrt(max(variance, 0.0)):.4f}"
    return text


def _body(result: Any) -> list[str]:
    """A result without its title's version; one phenotype in full, several in rows."""
    lines = re.sub(r"\.summary\('(.+?)'\)", r"--mpheno \1", result.summary()).splitlines()
    from vcbench import __version__

    return [lines[0].removesuffix(f"vcbench {__version__}").rstrip(), *lines[1:]]


def _checks(matrices: "list[Matrix]", Y: Any, X: Any, prevalence: float | None) -> list[str]:
    """What often goes wrong, checked."""
    import numpy as np

    from vcbench.model.model import full_rank

    said, fine, close, formed = [], [], 0, False
    for m in matrices:
        if MIN_MEAN < m.mean_diagonal < MAX_MEAN:
            fine.append(m.mean_diagonal)
        else:
            said.append(f"note scale of {m.name} ({m.mean_diagonal:.3f})")
        if isinstance(m.given, np.ndarray):
            K, formed = m.given, True
            pairs = sum(int((np.triu(K[i : i + 512, i:], 1) > RELATED).sum()) for i in range(0, len(K), 512))
            if pairs:
                said.append(f"note {num.plural(pairs, 'pair')} above {RELATED} in {m.name}")
            close += pairs
    if fine:
        which = matrices[0].name if len(matrices) == 1 else f"{len(fine)} matrices"
        lowest, highest = (f"{edge:.3f}" for edge in (min(fine), max(fine)))
        said.append(f"ok scale of {which} ({lowest if lowest == highest else f'{lowest} to {highest}'})")
    if formed and not close:
        said.append(f"ok no pair above {RELATED}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said here
        _, _, dropped = full_rank(X.to_numpy(float), [str(c) for c in X], "drop")
    combined = f"note {num.listing(dropped)} left out, as combinations of other covariates"
    said.append(combined if dropped else "ok covariates full rank")
    if prevalence is None:
        two = [str(name) for name, y in Y.items() if y.nunique() == 2]
        said += [f"note {name} has two values: --prevalence gives h² of its liability" for name in two]
    return [f"checks  {' · '.join(said)}"]


def _write(
    out: Path, results: "list[Heritability]", pairs: list[Any], joined: "Joined", removed: Any, page: _Page, grm: bool
) -> list[str]:
    """Write the files and say which."""
    import pandas as pd

    out.parent.mkdir(parents=True, exist_ok=True)
    written = []
    best = next((r for r in results if not r[0].is_moments), results[0])
    for t in best:
        path = _beside(out, ".hsq" if len(best) == 1 else f".{t.name}.hsq")
        best.to_hsq(path, t.name)
        written.append(f"{path} (GCTA format)")
    if any(t.profile_rows is not None for t in best):
        from vcbench.report.diagnostics.h2_profile import h2_profiles
        from vcbench.report.svg import save

        path = save(h2_profiles(best), _beside(out, ".profile.svg"), "Profile likelihood of h²")
        written.append(str(path))
    path = _beside(out, ".vc.json")
    path.write_text(_json(results, pairs) + "\n", encoding="utf-8")
    written.append(str(path))
    path = _beside(out, ".removed.tsv")
    pd.concat([joined.dropped, removed]).to_csv(path, sep="\t", index=False)
    written.append(str(path))
    if grm:
        written.append(f"{_beside(out, '.grm.bin')}")
    path = _beside(out, ".log")
    written.append(str(path))
    lines = ["wrote   " + " · ".join(written)]
    path.write_text("\n".join([*page.lines, "", *lines]).rstrip() + "\n", encoding="utf-8")
    return lines


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name + ending)


def _json(results: "list[Heritability]", pairs: list[Any]) -> str:
    """One document: heritabilities by method, correlations by method."""
    import json

    document = {
        "schema": "vcbench/genetics/1",
        "heritability": {r[0].method: json.loads(r.to_json(None)) for r in results},
        "correlations": {r.method: json.loads(r.to_json(None)) for r in pairs},
    }
    return json.dumps(document, indent=1)


def with_fast_blas() -> None:
    """Begin this program again with the kernels that the processor has, where OpenBLAS would run others.

    It reads OPENBLAS_CORETYPE once, when numpy is loaded: too late for a running Python.
    """
    if "OPENBLAS_CORETYPE" in os.environ or not sys.executable:
        return
    from vcbench.genetics.blas import coretype

    better = coretype()
    if better:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "OPENBLAS_CORETYPE": better})
