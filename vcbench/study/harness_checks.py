"""Checks of the harness itself: what must hold of any study's rows, whatever its methods.

    independence   no replicate is drawn twice, and errors under two conditions agree in sign as often as not
    rows           every method has a row a replicate and parameter, however its fits ended
    resuming       a run in two parts gives the rows of a run in one
    reference      the Monte Carlo error of a mean is that of its leave-one-out values (`measures`' jackknife)
    range          a moving average has positive definite correlation matrices at every point of its range

Each returns what it found amiss, in words, or "".
"""

import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from vcbench.model.jets import constant
from vcbench.model.structures.lagged import MovingAverage
from vcbench.study.measures import measures
from vcbench.study.seeds import generator
from vcbench.study.sequences import proportion_bounds
from vcbench.study.spec import Spec, read_spec

ALARM = 1e-4  # of a false alarm of the check of signs
SLACK = 0.05  # about ½
SMALL = """
title = "A run in two parts"
question = "Are its rows those of a run in one?"
seed = {seed}
replicates = 8
block_size = 5
methods = ["ai"]
{mutant}
[[data]]
generator = "one_way"
n_groups = 6
group_size = 3
"""
PARTS, WHOLE = 3, 8
ORDERS, DRAWS = (1, 2), 20  # of moving averages; points of their ranges, all orders together


def independence(spec: Spec, rows: pd.DataFrame, parameter: str = "(Intercept)") -> str:
    """Estimates of one parameter: none twice in a condition, and errors of pairs of conditions alike in sign by
    chance alone (a confidence sequence of ½ ± SLACK, α shared by the pairs)."""
    of_it = rows[(rows["parameter"] == parameter) & rows["estimate"].notna()]
    errors: dict[str, pd.Series] = {}
    for (condition, method), part in of_it.groupby(["condition", "method"], sort=True):
        if part["estimate"].duplicated().any():
            return f"condition {condition}: {method} has one and the same estimate on two replicates"
        if condition not in errors:
            errors[str(condition)] = part.set_index("replicate")["estimate"] - part.set_index("replicate")["truth"]
    pairs = list(combinations(errors, 2))
    for one, other in pairs:
        both = pd.concat([errors[one], errors[other]], axis=1, join="inner").dropna().to_numpy()
        if len(both) < spec.table.block_size:
            continue
        alike = int((np.sign(both[:, 0]) == np.sign(both[:, 1])).sum())
        lower, upper = proportion_bounds(alike, len(both), 0.5, ALARM / len(pairs))
        if lower > 0.5 + SLACK or upper < 0.5 - SLACK:
            return f"errors under the conditions {one} and {other} agree in sign on {alike} of {len(both)} replicates"
    return ""


def missing_rows(spec: Spec, rows: pd.DataFrame, sizes: Mapping[str, int]) -> str:
    """The first condition and method whose replicates 0, 1, … are not all there, with the same parameters each."""
    by = rows.groupby(["condition", "method"], sort=False)
    counts = pd.DataFrame(
        {"rows": by.size(), "replicates": by["replicate"].nunique(), "names": by["parameter"].nunique()}
    )
    for condition in spec.conditions:
        for method in spec.methods:
            planned = spec.replicates(condition, method, sizes[condition.id])
            if not planned:
                continue
            where = condition.id, method.label
            n, have, names = counts.loc[where] if where in counts.index else (0, 0, 0)
            if have != planned or n != planned * names:
                return f"{method.label}, condition {condition.id}: {have} of {planned} replicates have their rows"
    return ""


def resuming(seed: int, mutant: str) -> str:
    """A small study of one method: PARTS of its WHOLE replicates, then the rest, against all in one go."""
    from vcbench.study.study import Study

    text = SMALL.format(seed=seed, mutant=f'mutant = "{mutant}"' if mutant else "")
    study = Study(read_spec(text, "parts.toml"), "parts")
    same = ["replicate", "parameter", "estimate", "se", "seed_key"]
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        whole = study.run(one, workers=1, progress="none", report=False).rows[same]
        study.run(two, workers=1, progress="none", report=False, reps=PARTS)
        parts = study.run(two, workers=1, progress="none", report=False).rows[same]
    if parts.equals(whole):
        return ""
    return f"{parts['replicate'].nunique()} of {WHOLE} replicates, or others, after a stop at {PARTS}"


def reference(rows: pd.DataFrame, level: float) -> str:
    """MCSE(bias) of `measures` against √((n−1)/n Σ(x̄_(i) − x̄)²), replicate by replicate left out."""
    first = rows[rows["truth"].notna() & rows["estimate"].notna()]
    keys = ["condition", "parameter", "method"]
    for at, part in first.groupby(keys, sort=True):
        x = (part["estimate"] - part["truth"]).to_numpy()[:10]
        if len(x) < 10 or np.ptp(x) == 0:
            continue
        found = measures(part.iloc[:10], level=level, only=("bias",))["mcse"].iloc[0]
        without = np.array([np.delete(x, i).mean() for i in range(len(x))])
        wanted = np.sqrt((len(x) - 1) / len(x) * np.sum((without - without.mean()) ** 2))
        if not abs(found - wanted) <= 1e-10 * wanted:
            return f"{', '.join(map(str, at))}: MCSE of the bias {found:.6g}, by leaving out {wanted:.6g}"
        return ""
    return ""


def structure_range(seed: int, times: int = 40) -> str:
    """Correlation matrices of MA(1) and MA(2) over `times` times, at φ drawn from N(0, 1)."""
    rng = generator(seed, (0, 0), 0)
    lags = np.arange(times, dtype=float)
    steps = np.abs(np.subtract.outer(np.arange(times), np.arange(times)))
    for order in ORDERS:
        structure = MovingAverage(n_phi=order, t=lags, lags=lags)
        for phi in rng.standard_normal((DRAWS // len(ORDERS), order)):
            row = structure.table([constant(f, order) for f in phi], order).v
            least = float(np.linalg.eigvalsh(row[steps])[0])
            if least < -1e-10:
                said = ", ".join(f"{r:.3g}" for r in row[1 : 1 + order])
                return f"MA({order}) with autocorrelations {said}: smallest eigenvalue {least:.3g}"
    return ""
