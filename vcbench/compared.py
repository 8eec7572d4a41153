"""The text of a comparison: do the methods agree, what did each find, and at what cost."""

import math
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from vcbench import numbers as num
from vcbench.methods import METHODS
from vcbench.status import Status
from vcbench.summary import columns

if TYPE_CHECKING:
    from vcbench.fit import Comparison
    from vcbench.fitted import Fit

ESTIMANDS = {"reml": "REML", "ml": "ML", "none": "moments"}
ENDINGS = {Status.CONVERGED: "ok", Status.AT_BOUNDARY: "ok, at boundary"}
WIDEST = 3  # variance parameters that fit beside each other in a line
SAME = 1e-6


def comparison_text(comparison: "Comparison") -> str:
    """Verdict, one line a method, and notes on what needs saying."""
    fits = comparison.fits
    first = next(iter(fits.values()))
    narrow = len(first.facts.theta_names) <= WIDEST
    lines = [comparison.verdict, *_remarks(comparison), ""]
    lines += columns(_header(first, narrow), _rows(comparison, narrow), left=(0, 1, len(_header(first, narrow)) - 1))
    if not narrow:
        lines += ["", *_parameters(comparison)]
    notes = [f"not run  {label}: {message}" for label, message in comparison.errors.items()]
    posteriors = [label for label, f in fits.items() if f.limits is not None]
    if posteriors:
        notes.append(
            f"note     {num.listing(posteriors)}: posterior medians and standard deviations. They differ from the"
            " maximum by the prior, and by the skewness of the posterior."
        )
    wrapped = [line for note in notes for line in wrap(note, 100, subsequent_indent=" " * 9)]
    return "\n".join([*lines, *([""] if notes else []), *wrapped])


def _label(fit: "Fit", j: int) -> str:
    """A short name of a parameter: its component where that has one variance."""
    name = fit.facts.theta_names[j]
    component = name.partition(":var")[0]
    alone = sum(other.startswith(f"{component}:") for other in fit.facts.theta_names) == 1
    return component if alone else name


def _header(fit: "Fit", narrow: bool) -> list[str]:
    names = [f"{_label(fit, j)} (SE)" for j in range(len(fit.theta_values))] if narrow else []
    what = fit.facts.groups[0][1] if fit.facts.groups else ""
    share = (
        ["ICC" if "levels" in what else "h²" if what.startswith("K") else "share"] if len(fit.theta_values) == 2 else []
    )
    return ["method", "estimand", *names, *share, "ΔlogLik", "iter", "time", "status"]


def _rows(comparison: "Comparison", narrow: bool) -> list[list[str]]:
    best = _best(comparison)
    rows = []
    for label, f in comparison.fits.items():
        posterior = f.limits is not None
        middle = [num.with_se(v, s) for v, s in zip(f.theta_values, f.theta_se, strict=True)] if narrow else []
        if len(f.theta_values) == 2:
            middle.append(num.fixed(float(f.theta_values[0] / f.theta_values.sum()), 3))
        reached = best.get("reml" if f.is_moments else f.criterion, math.nan) - f.loglik
        delta = num.ABSENT if posterior or not math.isfinite(reached) else _deficit(reached)
        uncounted = posterior or f.is_moments or (f.n_iter == 0 and METHODS[f.method].kind == "peer")
        iterations = num.ABSENT if uncounted else num.count(f.n_iter)
        ending = ENDINGS.get(f.status, str(f.status)) + "".join(
            f", {name} {num.significant(float(f.extra[key]), 3)}"
            for key, name in (("rhat", "R̂"), ("ess_bulk", "ESS"))
            if isinstance(f.extra.get(key), int | float)
        )
        estimand = "posterior" if posterior else ESTIMANDS["none" if f.is_moments else f.criterion]
        rows.append([label, estimand, *middle, delta, iterations, num.seconds(f.seconds), ending])
        if posterior and narrow:
            assert f.limits is not None
            limits = zip(f.limits["theta_lower"], f.limits["theta_upper"], f.theta_se, strict=True)
            blank = [""] * (4 + (len(f.theta_values) == 2))
            rows.append(["", "95% CrI", *(num.interval(lo, hi, se) for lo, hi, se in limits), *blank])
    return rows


def _best(comparison: "Comparison") -> dict[str, float]:
    """The highest log-likelihood of the likelihood methods under each criterion."""
    best: dict[str, float] = {}
    for f in comparison.fits.values():
        if f.limits is None and not f.is_moments and math.isfinite(f.loglik):
            best[f.criterion] = max(best.get(f.criterion, -math.inf), f.loglik)
    return best


def _deficit(value: float) -> str:
    return "0.0" if value < 1e-6 else num.significant(value, 2)


def _remarks(comparison: "Comparison") -> list[str]:
    """What the verdict leaves out: methods that did not settle, and whether the moments are the same numbers."""
    best, lines = _best(comparison), []
    for label, f in comparison.fits.items():
        if not f.status.ok:
            where = best.get(f.criterion, math.nan) - f.loglik
            below = f", {num.significant(where, 2)} below the best log-likelihood" if math.isfinite(where) else ""
            lines.append(f"       {label} ended {f.status} after {num.plural(f.n_iter, 'iteration')}{below}.")
    settled = [f for c in ("reml", "ml") for f in comparison.settled(c).values()]
    for label, f in comparison.fits.items():
        if f.is_moments and settled:
            se = np.fmax(settled[0].theta_se.to_numpy(), f.theta_se.to_numpy())
            distance = float(np.nanmax(np.abs(f.theta_values - settled[0].theta_values) / se, initial=0.0))
            lines.append(
                f"       {label} gives the same numbers on this design."
                if distance < SAME
                else f"       {label} is another estimator, up to {num.significant(distance, 2)} SE away."
            )
        elif METHODS[f.method].kind == "peer" and f.status.ok and comparison.settled(f.criterion):
            lines.append(f"       {_beside(label, f, next(iter(comparison.settled(f.criterion).values())))}")
    return lines


def _beside(label: str, f: "Fit", ours: "Fit") -> str:
    """How far another program's maximum is from ours, in θ and in ℓ."""
    size = np.fmax(np.abs(ours.theta_values), ours.theta_se.fillna(0).to_numpy())
    apart = float(np.max(np.abs(f.theta_values - ours.theta_values) / np.where(size > 0, size, 1.0)))
    below = ours.loglik - f.loglik
    height = "at the same maximum" if abs(below) < 1e-6 else f"{num.significant(abs(below), 2)} "
    height += "" if abs(below) < 1e-6 else ("below it" if below > 0 else "above it")
    version = f.extra.get("version", "")
    return f"{label} {version} is {height}, its variances {num.significant(apart, 1)} apart."


def _parameters(comparison: "Comparison") -> list[str]:
    """Where parameters are too many for a line: each with the best fit's estimate and who is farthest from it."""
    usable = {k: f for k, f in comparison.fits.items() if np.isfinite(f.theta_values).all()}
    order = sorted(
        usable, key=lambda k: (usable[k].is_moments, METHODS[usable[k].method].kind == "peer", -usable[k].loglik)
    )
    reference = order[0]
    base, rows = usable[reference], []
    se = base.theta_se.to_numpy()
    for j, name in enumerate(base.facts.theta_names):
        row = [name, num.with_se(base.theta_values[j], se[j])]
        away = {k: abs(f.theta_values[j] - base.theta_values[j]) for k, f in usable.items() if k != reference}
        if away:
            who = max(away, key=lambda k: away[k])
            unit = se[j] if se[j] > 0 else max(abs(base.theta_values[j]), 1e-300)
            row += [_apart(away[who] / unit) + (" SE" if se[j] > 0 else ""), who if away[who] / unit > SAME else ""]
        else:
            row += ["", ""]
        rows.append(row)
    return columns(["parameter", f"{reference} (SE)", "farthest", "by"], rows, left=(0, 3))


def _apart(value: float) -> str:
    return "0" if value < SAME else num.significant(value, 2)
