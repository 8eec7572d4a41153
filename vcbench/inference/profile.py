"""Profile-likelihood intervals and ζ curves of any quantity: {g : 2(ℓ̂ − ℓ_p(g)) ≤ χ²_1(level)}.

ℓ_p(g) is the greatest ℓ over all parameters with g(θ, β) = g. Limits are invariant under monotone transformations, stay
within the range of the quantity, and exist where the estimate lies on the boundary. θ is profiled under the fit's
criterion; fixed effects under ML, for ℓ_REML has none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.inference.curves import Curve
from vcbench.inference.endpoints import CLOSE, LEVEL, ON_BOUNDARY, BetterError, Branch, End
from vcbench.inference.fixed_profiles import FixedCurve, joint_curve
from vcbench.inference.profiled_maximum import Reference, reference
from vcbench.inference.quantities import Quantity, quantity_of
from vcbench.inference.theta_profiles import UNDEFINED, curve_of
from vcbench.inference.variances import check_scale, rows_of

if TYPE_CHECKING:
    import pandas as pd

WIDEST = 4.0  # |ζ| to which a curve is drawn
SPACING = 0.5  # of ζ between two points of a curve
MOST_POINTS = 40  # on one side of a curve
MOST_STILL = 5  # points in a row between which ζ hardly rises: the profile levels off


@dataclass(frozen=True, slots=True)
class ProfileInterval:
    """A profile-likelihood interval. estimate: at the maximum of `criterion`; lower and upper NaN where they were not
    found, and ±inf where ζ levels off; note: what must be said of them. n_eval evaluations of the likelihood."""

    quantity: str
    estimate: float
    lower: float
    upper: float
    level: float
    criterion: str
    n_eval: int
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ProfileCurve:
    """Points of a profile in ascending order: value (m,), ζ (m,), ℓ_p (m,), θ (m, p) at the maximum on each; slope is
    dζ/dvalue at the estimate, NaN where it is not known (on the boundary)."""

    quantity: str
    criterion: str
    value: np.ndarray
    zeta: np.ndarray
    loglik: np.ndarray
    theta: np.ndarray = field(repr=False)
    note: str = ""
    slope: float = math.nan

    def frame(self) -> "pd.DataFrame":
        """parameter, value, zeta, loglik: a row a point."""
        import pandas as pd

        return pd.DataFrame({"parameter": self.quantity, "value": self.value, "zeta": self.zeta, "loglik": self.loglik})


def profile_interval(
    fit: Any, quantity: str | Callable | Quantity, level: float = 0.95, criterion: str | None = None
) -> ProfileInterval:
    """The profile-likelihood interval of a quantity (`quantities.quantity_of`).

    criterion: "ml" or "reml"; None is the fit's own for θ. What holds a fixed effect is profiled under ML, and says so
    where the fit is REML. Another criterion than the fit's refits by it first.

    Raises MethodError for a quantity, level or criterion that is not known, for a fit without a likelihood of its own
    unless `criterion` is said, and for one that was read from JSON.
    """
    from vcbench.inference.intervals import quantile

    z = quantile(level)
    q, criterion, note = _asked(fit, quantity, criterion)
    ref = reference(fit, criterion)
    curve = _curve(ref, q)
    if isinstance(curve, str):
        lower, upper = (-1.0, 1.0) if curve == UNDEFINED else (math.nan, math.nan)
        return ProfileInterval(q.name, math.nan, lower, upper, level, criterion, 0, curve)
    estimate = _estimate(ref, q, curve)
    ends, notes = [], [note, _short(ref, fit)]
    try:
        for side in (-1, 1):
            ends.append(Branch(curve, side).end(z))
    except BetterError as better:
        ref.higher = str(better)
        ends = [End(math.nan, math.nan)] * 2
    for end in sorted(ends, key=lambda end: end.note != ON_BOUNDARY):
        if end.note and end.note not in notes:
            notes.append(end.note)
    said = "; ".join(n for n in (*notes, ref.higher) if n)
    return ProfileInterval(q.name, estimate, ends[0].value, ends[1].value, level, criterion, curve.n_eval, said)


def profile_curve(
    fit: Any, quantity: str | Callable | Quantity, criterion: str | None = None, widest: float = WIDEST
) -> ProfileCurve:
    """The profile of a quantity for ζ from −widest to widest, or to the edges of its range; raises as
    `profile_interval`."""
    return profile_limits(fit, quantity, (), criterion, widest)[0]


def profile_limits(
    fit: Any,
    quantity: str | Callable | Quantity,
    levels: Sequence[float],
    criterion: str | None = None,
    widest: float = WIDEST,
) -> tuple[ProfileCurve, dict[float, tuple[float, float]]]:
    """`profile_curve`, and the limits of the intervals of several levels, which are among its points; without levels
    its points are spread evenly in ζ."""
    if not widest > 0:
        raise MethodError(f"`widest` is {widest!r}; it must be a positive ζ, such as 4.")
    q, criterion, note = _asked(fit, quantity, criterion)
    ref = reference(fit, criterion)
    curve = _curve(ref, q)
    limits = {level: [math.nan, math.nan] for level in sorted(levels)}
    if isinstance(curve, str):
        empty = np.zeros(0)
        return ProfileCurve(q.name, criterion, empty, empty, empty, np.zeros((0, len(ref.theta))), curve), {}
    points, notes = [(0.0, curve.start)], [note, _short(ref, fit)]
    try:
        for i, side in enumerate((-1, 1)):
            branch = Branch(curve, side)
            said = _ends(branch, limits, i) or _beyond(branch, widest) if levels else _walk(branch, widest)
            _fill(branch)
            notes += [said] if said else []
            points += branch.points[1:]
    except BetterError as better:
        ref.higher = str(better)
        notes.append(ref.higher)
    points = sorted((z for z in points if math.isfinite(curve.natural(z[1].t))), key=lambda z: z[1].t)
    value = np.array([curve.natural(p.t) for _, p in points])
    value[[p is curve.start for _, p in points]] = _estimate(ref, q, curve)
    found = ProfileCurve(
        q.name, criterion, value, np.array([z for z, _ in points]), np.array([p.loglik for _, p in points]),
        np.array([curve.theta(p) for _, p in points]), "; ".join(n for n in notes if n), _start_slope(curve),
    )  # fmt: skip
    return found, {level: (lower, upper) for level, (lower, upper) in limits.items()}


def profile_table(
    fit: Any,
    parameters: Sequence[str] | None = None,
    scale: str = "var",
    level: float = 0.95,
    criterion: str | None = None,
) -> "pd.DataFrame":
    """lower, upper, note of the parameters asked for (names or expressions; None: all of θ on a scale, and β)."""
    import pandas as pd

    names = _names(fit, parameters, scale)
    found = [profile_interval(fit, name, level, criterion) for name in names]
    notes = [f.note for f in found]
    for i, f in enumerate(found):  # a higher maximum that a later profile came upon
        higher = reference(fit, f.criterion).higher
        if higher not in notes[i]:
            notes[i] = "; ".join(n for n in (notes[i], higher) if n)
    frame = pd.DataFrame(
        {"lower": [f.lower for f in found], "upper": [f.upper for f in found], "note": notes},
        index=[f.quantity for f in found],
    )
    frame.attrs.update(level=level, kind="profile", notes={k: v for k, v in frame["note"].items() if v})
    return frame


def profile_frame(
    fit: Any, parameters: Sequence[str] | None = None, scale: str = "sd", criterion: str | None = None
) -> "pd.DataFrame":
    """ζ curves of the parameters asked for as one long frame: parameter, value, zeta, loglik."""
    import pandas as pd

    curves = [profile_curve(fit, name, criterion) for name in _names(fit, parameters, scale)]
    frame = pd.concat([c.frame() for c in curves], ignore_index=True)
    frame.attrs.update(kind="profile", notes={c.quantity: c.note for c in curves if c.note})
    return frame


def _names(fit: Any, parameters: Sequence[str] | None, scale: str) -> list[Any]:
    """What is asked for: as said, or every parameter on the scale."""
    check_scale(scale, ("var", "sd"))
    if parameters is not None:
        return [parameters] if isinstance(parameters, str) or callable(parameters) else list(parameters)
    return [r.name for r in rows_of(fit.facts.theta_names, fit.facts.is_variance, scale)] + list(fit.facts.beta_names)


def _asked(fit: Any, quantity: str | Callable | Quantity, criterion: str | None) -> tuple[Quantity, str, str]:
    """(quantity, the criterion that it is profiled under, a note)."""
    if criterion not in (None, "ml", "reml"):
        raise MethodError(f'unknown criterion `{criterion}`. Choose "ml" or "reml".')
    fit._need_model("a profile")
    q = quantity_of(fit.facts, quantity)
    if criterion is None and (fit.is_moments or fit.criterion not in ("ml", "reml") or fit.limits is not None):
        raise MethodError(
            f'a fit by `{fit.method}` maximises no likelihood. Pass `criterion="reml"` (or "ml") to profile about '
            "that maximum."
        )
    chosen = criterion or fit.criterion
    if not q.uses_beta:
        return q, chosen, ""
    if criterion == "reml" and q.kind != "function":
        raise MethodError(f"`{q.name}` is a fixed effect, which ℓ_REML does not hold. Its profile is one of ML.")
    return q, "ml", "profiled under ML" if chosen == "reml" else ""


def _curve(ref: Reference, q: Quantity) -> Curve | str:
    if q.contrast is not None:
        return FixedCurve(ref, q.contrast)
    return joint_curve(ref, q) if q.uses_beta else curve_of(ref, q)


def _estimate(ref: Reference, q: Quantity, curve: Curve) -> float:
    """g at the maximum, within its range."""
    value = q.value(ref.theta, ref.beta)
    if not math.isfinite(value):
        value = curve.natural(curve.start.t)
    return min(max(value, curve.natural(curve.lo)), curve.natural(curve.hi))


def _short(ref: Reference, fit: Any) -> str:
    """A sentence where the fit stopped before its maximum."""
    gap = ref.top.loglik - fit.loglik
    return f"the fit stopped {gap:.3g} below its maximum, about which this is the profile" if ref.short else ""


def _start_slope(curve: Curve) -> float:
    """dζ/dg at the estimate: (dζ/dt)/(dg/dt), g(t) differenced."""
    t, rate = curve.start.t, curve.rate
    if not (math.isfinite(rate) and rate > 0) or curve.is_edge(t):
        return math.nan
    h = 1e-4 * rate
    return 2e-4 / (curve.natural(t + h) - curve.natural(t - h))


def _ends(branch: Branch, limits: dict[float, list[float]], i: int) -> str:
    """Ends of intervals of ascending levels, written into limits[level][i]; a sentence where one is not reached: those
    of higher levels are not looked for then."""
    from vcbench.inference.intervals import quantile

    end, reached = End(math.nan, math.nan), True
    for level, pair in limits.items():
        if reached:
            z = quantile(level)
            end = branch.end(z)
            reached = max(abs(zeta) for zeta, _ in branch.points) >= z - 10 * CLOSE
        pair[i] = end.value
    return "" if reached else end.note


def _beyond(branch: Branch, widest: float) -> str:
    """Points from the outermost found until |ζ| ≥ widest or the edge; a sentence where it ended before."""
    curve, side = branch.curve, branch.side
    for _ in range(MOST_POINTS):
        zeta, last = branch.points[-1]
        if abs(zeta) >= widest or curve.is_edge(last.t) == side:
            return ""
        rate = branch.rate(zeta, last)
        step = (widest - abs(zeta) + 0.02) * abs(rate) if math.isfinite(rate) else branch.slope_unit
        t = last.t + side * min(step, 2.0 * abs(last.t - curve.start.t) + branch.slope_unit)
        t = curve.edge(side) if curve.is_edge(t) == side else t
        if branch.add(t) is None:
            return f"no maximum was found beyond {curve.natural(last.t):.6g}"
        if abs(branch.points[-1][0]) - abs(zeta) < LEVEL:
            return f"the profile levels off: ζ is {branch.points[-1][0]:.3g} at {curve.natural(t):.6g}"
    return ""


def _walk(branch: Branch, widest: float) -> str:
    """Points outwards at about SPACING in ζ until |ζ| ≥ widest or the edge; a sentence where it ended before."""
    curve, side = branch.curve, branch.side
    t, last = curve.start.t, 0.0
    if curve.is_edge(t) == side:
        return ""
    first = SPACING * curve.se if math.isfinite(curve.se) else 0.1
    step, still = first, 0
    for _ in range(MOST_POINTS):
        t += side * step
        at_edge = curve.is_edge(t) == side
        t = curve.edge(side) if at_edge else t
        zeta = branch.add(t)
        if zeta is None:
            return f"no maximum was found beyond {curve.natural(t - side * step):.6g}"
        if abs(zeta) >= widest or (at_edge and math.isfinite(curve.natural(t))):
            return ""
        rise, last = abs(zeta) - abs(last), zeta
        still = still + 1 if abs(rise) < LEVEL else 0
        if still == MOST_STILL or at_edge:
            break
        step = min(step * SPACING / max(rise, 0.1 * SPACING), 2.0 * step)
    return f"the profile levels off: ζ is {last:.3g} at {curve.natural(t):.6g}"


def _fill(branch: Branch) -> None:
    """Points between those that lie further apart in ζ than twice SPACING."""
    for _ in range(MOST_POINTS):
        gaps = [(abs(b[0]) - abs(a[0]), a, b) for a, b in pairwise(branch.points)]
        wide = next(((a, b) for gap, a, b in gaps if gap > 2.0 * SPACING), None)
        if wide is None:
            return
        (za, a), (zb, b) = wide
        t = branch.at(0.5 * (za + zb))
        if not min(a.t, b.t) < t < max(a.t, b.t):
            t = 0.5 * (a.t + b.t)
        if branch.add(t) is None:
            return
