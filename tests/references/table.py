"""Every published fit of the shared data's index, fitted here: which printed numbers are met.

    uv run python tests/references/table.py [--fit ID ...] [--numbers] [--dense N]

`models.toml` says each fit in vcbench's words. A fit holds if our log-likelihood is at least the re-fit's less 1e-6,
every number that the index marks as agreeing with its re-fit is met within its tolerance, and every other one is not
(those are errors of the publication). Exit 1 if any does not.
"""

import argparse
import math
import os
import re
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import VcbenchError
from vcbench.kernels import choose
from vcbench.model.relationship import known, pedigree
from vcbench.published import quantity

CHECKOUT = Path(__file__).resolve().parents[2]
SLACK = 1e-6  # of the log-likelihood: re-fits are polished to 1e-9, ours to 1e-6 standard errors
LARGEST_DENSE = 1500  # rows up to which the O(n³) kernel is asked


@dataclass(frozen=True)
class Number:
    """One published number beside ours; `agrees`: the index's own re-fit reproduces it."""

    quantity: str
    published: float
    tolerance: float
    agrees: bool
    ours: float | None
    error: str = ""

    @property
    def met(self) -> bool:
        return self.ours is not None and abs(self.ours - self.published) <= self.tolerance

    @property
    def right(self) -> bool:
        """Met if it agrees; known and not met if it does not."""
        return self.met if self.agrees else self.ours is not None and not self.met


@dataclass(frozen=True)
class Row:
    """One fit of the index and ours."""

    id: str
    refit: float | None
    numbers: tuple[Number, ...] = ()
    fit: Any = field(default=None, repr=False)
    seconds: float = math.nan
    error: str = ""
    skip: str = ""

    @property
    def difference(self) -> float:
        """Our log-likelihood less the re-fit's; 0 where the re-fit has none."""
        return math.nan if self.fit is None else 0.0 if self.refit is None else self.fit.loglik - self.refit

    @property
    def wrong(self) -> list[str]:
        """What does not hold; nothing for a fit that is skipped."""
        if self.skip:
            return []
        if self.error:
            return [self.error]
        out = [] if self.difference >= -SLACK else [f"loglik {self.fit.loglik:.9f}, re-fit {self.refit:.9f}"]
        for n in self.numbers:
            if not n.right:
                ours = n.error or f"{n.ours:.9g}"
                out.append(f"{n.quantity}: {ours}, published {n.published:.12g} ± {n.tolerance:g} (agrees: {n.agrees})")
        return out


def shared_folder() -> Path | None:
    """The folder of shared data, or None."""
    folders = [Path(os.environ["VCBENCH_DATA"])] if "VCBENCH_DATA" in os.environ else []
    folders.append(CHECKOUT.parent / "shared" / "data")
    return next((folder for folder in folders if (folder / "INDEX.toml").is_file()), None)


with_data = pytest.mark.skipif(shared_folder() is None, reason="the shared data are not here (VCBENCH_DATA)")


@cache
def recipes() -> dict[str, Any]:
    """models.toml."""
    return tomllib.loads((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))


@cache
def index(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each fit's id: (its data set, its table in the index)."""
    data = tomllib.loads((folder / "INDEX.toml").read_text(encoding="utf-8"))["dataset"]
    return {fit["id"]: (dataset, fit) for dataset in data for fit in dataset.get("fit", [])}


def read_frame(path: Path, recipe: dict[str, Any]) -> pd.DataFrame:
    """A data file and what its recipe does to it."""
    frame = pd.read_csv(path)
    for new, old in recipe.get("rename", {}).items():
        frame = frame.rename(columns={old: new})
    for new, expression in recipe.get("columns", {}).items():
        frame[new] = frame.eval(expression, engine="python")
    for new, group in recipe.get("count", {}).items():
        frame[new] = frame.groupby(group).cumcount() + 1
    for new, column in recipe.get("rank", {}).items():
        frame[new] = pd.factorize(frame[column], sort=True)[0] + 1
    for ordered in (False, True):
        for column in recipe.get("ordered" if ordered else "factors", ()):
            levels = sorted(frame[column].dropna().unique())
            frame[column] = frame[column].astype(pd.CategoricalDtype(levels, ordered=ordered))
    for column, levels in recipe.get("levels", {}).items():
        frame[column] = pd.Categorical(frame[column], categories=levels)
    if "rows" in recipe:
        frame = frame.query(recipe["rows"], engine="python")
    if "drop" in recipe:
        frame = frame.drop(index=[row - 1 for row in recipe["drop"]])
    return frame.reset_index(drop=True)


def relationship(folder: Path, said: dict[str, str]) -> Any:
    """The known covariance of a term's levels: a pedigree's A, a matrix, or G = WWᵀ/p of standardised markers."""
    if "pedigree" in said:
        frame = pd.read_csv(folder / said["pedigree"], dtype=str)
        return pedigree(frame, **{key: said[key] for key in ("id", "sire", "dam")})
    if "matrix" in said:
        K = pd.read_csv(folder / said["matrix"], index_col=0)
        return known(K.to_numpy(), labels=[str(v) for v in K.index])
    markers = pd.read_csv(folder / said["markers"], index_col=0)
    W = markers.to_numpy(float)
    W = (W - W.mean(axis=0)) / W.std(axis=0, ddof=1)
    return known(W @ W.T / W.shape[1], labels=[str(v) for v in markers.index])


def build_model(id: str, folder: Path) -> vc.Model:
    """Our model of a fit of the index."""
    dataset, _ = index(folder)[id]
    recipe = recipes()["fit"][id]
    base, own = recipes().get("data", {}).get(dataset["name"], {}), recipe.get("data", {})
    frame = read_frame(folder / dataset["file"], {**base, **own})
    said: dict[str, Any] = {}
    cov = dict(recipe.get("cov", {}))
    cov |= {group: relationship(folder, how) for group, how in recipe.get("relationship", {}).items()}
    if cov:
        said["cov"] = cov
    if "residual" in recipe:
        said["residual"] = recipe["residual"]
    with warnings.catch_warnings():  # rank-deficient designs of the index say what they drop: expected
        warnings.filterwarnings("ignore", message="`X` has rank")
        return vc.Model.from_formula(recipe["formula"], frame, name=id, **said)


def fit_model(id: str, model: vc.Model, folder: Path) -> vc.Fit:
    """The fit by `auto` under the index's criterion, or at variances that are known."""
    recipe, method = recipes()["fit"][id], index(folder)[id][1]["method"]
    options = dict(recipe.get("options", {}))
    if "known" in recipe:
        return vc.fit(model, "ai", "reml", start=recipe["known"], max_iter=0, **options)
    return vc.fit(model, options.pop("method", "auto"), method.lower(), **options)


def expression(id: str, said: str) -> str:
    """The index's quantity as an expression in a fit."""
    rules = recipes()["quantity"]
    own = recipes()["fit"][id].get("quantity", {})
    if said in own:
        return own[said]
    if said in rules:
        return rules[said]
    word, _, rest = said.partition(":")
    if word not in rules:
        raise KeyError(f"models.toml has no rule for `{said}`")
    parts = rest.split("|")
    parts += ["(Intercept)"] * (3 - len(parts))
    return re.sub(r"\{(\d)\}", lambda m: parts[int(m[1]) - 1], rules[word])


def row(id: str, folder: Path, largest_dense: int = LARGEST_DENSE) -> Row:
    """One fit of the index, fitted."""
    refit_of, recipe = index(folder)[id][1], recipes()["fit"][id]
    refit = refit_of.get("loglik")
    refit = refit if isinstance(refit, float) else None
    if "skip" in recipe:
        return Row(id, refit, skip=recipe["skip"])
    start = time.perf_counter()
    try:
        model = build_model(id, folder)
        kernel = choose(model)[0]
        if kernel == "dense" and model.n_obs > largest_dense:
            return Row(id, refit, error=f"no kernel but `dense` for {model.n_obs} observations")
        fit = fit_model(id, model, folder)
    except (VcbenchError, NotImplementedError) as error:
        return Row(id, refit, error=f"{type(error).__name__}: {error}")
    if model.n_obs != refit_of["nobs"]:
        return Row(id, refit, error=f"{model.n_obs} observations; the re-fit has {refit_of['nobs']}")
    if not fit.status.ok and "known" not in recipe:
        return Row(id, refit, fit=fit, error=f"{fit.status}: {fit.message}")
    numbers = [number(id, fit, entry) for entry in refit_of.get("published", [])]
    return Row(id, refit, tuple(numbers), fit, time.perf_counter() - start)


def number(id: str, fit: vc.Fit, entry: dict[str, Any]) -> Number:
    """One published number of the index beside the fit's."""
    said, value, tolerance = entry["quantity"], float(entry["value"]), entry["tolerance"]
    try:
        ours = quantity(fit, expression(id, said))
    except VcbenchError as error:
        return Number(said, value, tolerance, entry["agrees"], None, str(error))
    return Number(said, value, tolerance, entry["agrees"], float(ours))


HEADER = f"{'fit':<34}{'kernel':<12}{'ours':>18}{'re-fit':>18}{'difference':>12}{'met':>9}{'seconds':>9}"


def lines(r: Row, numbers: bool) -> Iterator[str]:
    """One fit of the table, and its numbers if asked for."""
    if r.fit is None:
        yield f"{r.id:<34}{'-':<12}{f'skipped: {r.skip}' if r.skip else r.error}"
        return
    ours = f"{r.fit.loglik:.9f}" if r.refit is not None else "-"
    refit = "-" if r.refit is None else f"{r.refit:.9f}"
    met = f"{sum(n.met for n in r.numbers)}/{len(r.numbers)}" if r.numbers else ""
    mark = "  <-" if r.wrong else ""
    yield f"{r.id:<34}{r.fit.kernel:<12}{ours:>18}{refit:>18}{r.difference:>12.1e}{met:>9}{r.seconds:>9.2f}{mark}"
    for n in r.numbers if numbers else ():
        ours = n.error if n.ours is None else f"{n.ours:.10g}"
        verdict = "met" if n.met else "NOT met"
        yield f"    {n.quantity:<28}{ours:>20}{n.published:>20.12g}{n.tolerance:>12.3g}  {verdict}"


def closing(rows: list[Row]) -> Iterator[str]:
    """What does not hold, the numbers that must not be met, and totals."""
    yield ""
    for r in rows:
        for text in r.wrong:
            yield f"{r.id}: {text}"
    for r in rows:
        for n in r.numbers:
            if not n.agrees:
                ours = n.error if n.ours is None else f"{n.ours:.9g}"
                yield f"must not be met: {r.id} {n.quantity} printed {n.published:.12g}, ours {ours}"
    numbers = [n for r in rows for n in r.numbers]
    good = [n for n in numbers if n.agrees]
    yield (
        f"{sum(not r.wrong and not r.skip for r in rows)} of {len(rows)} fits hold"
        f" ({sum(bool(r.skip) for r in rows)} skipped);"
        f" {sum(n.met for n in good)} of {len(good)} numbers that agree are met,"
        f" {sum(n.met for n in numbers if not n.agrees)} of {len(numbers) - len(good)} that do not."
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Which published numbers vcbench meets.")
    parser.add_argument("--fit", action="append", default=[], help="an id of the index, or a pattern (sleepstudy.*)")
    parser.add_argument("--numbers", action="store_true", help="print every published number beside ours")
    parser.add_argument("--dense", type=int, default=LARGEST_DENSE, help="rows up to which the dense kernel is asked")
    asked = parser.parse_args(arguments)
    folder = shared_folder()
    if folder is None:
        print(
            "The shared data are not here. Name their folder in the environment variable VCBENCH_DATA.", file=sys.stderr
        )
        return 2
    ids = [id for id in index(folder) if not asked.fit or any(fnmatch(id, pattern) for pattern in asked.fit)]
    if not ids:
        print(f"The index has no fit {' or '.join(asked.fit)}.", file=sys.stderr)
        return 2
    print(HEADER)
    rows = []
    for id in ids:
        rows.append(row(id, folder, asked.dense))
        print("\n".join(lines(rows[-1], asked.numbers or bool(asked.fit))), flush=True)
    print("\n".join(closing(rows)))
    return 1 if any(r.wrong for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
