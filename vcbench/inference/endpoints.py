"""Where a profile's signed root ζ(t) = ±√(2(ℓ̂ − ℓ_p(t))) reaches ±z: the ends of a profile-likelihood interval.

dζ/dt = −(dℓ_p/dt)/ζ comes with every point, so that t(ζ) is interpolated by Hermite cubics through the points found;
a bracket holds the root. An edge of the range that lies within the interval is its end.
"""

import math
from dataclasses import dataclass, field

from vcbench.inference.curves import OTHER, Curve, Point

UNKNOWN = 0.5  # first step in t where its standard error is not known
CLOSE = 1e-5  # |ζ − z| from which the interpolated t needs no more points
MOST_POINTS = 60
MOST_FAILURES = 6
NARROW = 1e-12  # a bracket in t that is smaller holds a jump
RECHECKS = (8, 14, 20, 30)  # points after which a bracket that still holds is doubted
GROWTH = 3.0  # a guess goes no further out than so many times the way so far
SLACK = 1e-7  # times 1 + |ℓ|: a profile above the maximum by more shows another maximum
LEVEL = 1e-3  # ζ that rises by less over a step of GROWTH levels off …
FAR = 1e5  # … if it has gone so many standard errors

ON_BOUNDARY = "the estimate lies on the boundary"


@dataclass(slots=True, eq=False)
class End:
    """One end: t and g there (NaN where it was not found), and what must be said of it."""

    t: float
    value: float
    note: str = ""


class BetterError(Exception):
    """A point of the profile lies above the fit's maximum."""

    def __init__(self, value: float, gain: float) -> None:
        self.value, self.gain = value, gain
        super().__init__(
            f"the fit is not the maximum: at {value:.6g} the log-likelihood is {gain:.4g} higher. Fit again from other "
            "starts (`n_starts=`)"
        )


@dataclass(slots=True, eq=False)
class Branch:
    """One side of a profile: the points found, by their distance from t̂; zeta is signed, −1 side below."""

    curve: Curve
    side: int
    points: list[tuple[float, Point]] = field(default_factory=list)  # (ζ, point), outwards
    falls: bool = False  # ζ was seen to come back

    def __post_init__(self) -> None:
        self.points.append((0.0, self.curve.start))

    def zeta(self, point: Point) -> float:
        """ζ of a point. Raises BetterError for one above the maximum."""
        top = self.curve.start.loglik
        gain = point.loglik - top
        if gain > SLACK * (1.0 + abs(top)):
            raise BetterError(self.curve.natural(point.t), gain)
        return self.side * math.sqrt(max(-2.0 * gain, 0.0))

    def add(self, t: float) -> float | None:
        """ζ at t, from the nearest point found; None where there is no maximum."""
        near = min(self.points, key=lambda z: abs(z[1].t - t))[1]
        point = self.curve.point(t, near)
        if point is None:
            return None
        zeta = self.zeta(point)
        if self.side * point.slope * self.slope_unit > 1e-6 and abs(zeta) > 1e-3:
            self.falls = True
        self.points.append((zeta, point))
        self.points.sort(key=lambda z: self.side * z[1].t)
        return zeta

    @property
    def slope_unit(self) -> float:
        """A step of t that matters, so that slopes compare to ζ."""
        return self.curve.se if math.isfinite(self.curve.se) else 0.2 * UNKNOWN

    def rate(self, zeta: float, point: Point) -> float:
        """dt/dζ at a point; NaN where the profile is flat."""
        if point is self.curve.start:
            return self.curve.rate
        return -zeta / point.slope if point.slope != 0.0 else math.nan

    def at(self, zeta: float) -> float:
        """t(ζ) by a Hermite cubic through the two points nearest in ζ; NaN where it is not monotone."""
        (za, a), (zb, b) = sorted(self.points, key=lambda z: abs(z[0] - zeta))[:2]
        return _hermite(zeta, za, a.t, self.rate(za, a), zb, b.t, self.rate(zb, b))

    def end(self, z: float) -> End:
        """Where |ζ| reaches z."""
        curve, side, start = self.curve, self.side, self.curve.start
        if curve.is_edge(start.t) == side:
            return End(curve.edge(side), self._edge_value(), ON_BOUNDARY)
        inside, outside = start.t, math.nan
        step = z * curve.se
        t = start.t + side * (step if math.isfinite(step) else UNKNOWN)
        failed = 0
        last = math.inf  # ζ − ±z at the last point
        for count in range(MOST_POINTS):
            if not math.isnan(outside):
                if count in RECHECKS:
                    inside, outside = self._again(inside, outside, z)
                    t = self._guess(side * z, inside, outside)
                width = outside - inside  # NaN where there is no outer end any more
                if abs(width) <= NARROW * (1.0 + abs(inside)):
                    break
                if not math.isnan(width) and not 0.0 < (t - inside) / width < 1.0:
                    t = inside + 0.5 * width
            at_edge = curve.is_edge(t) == side
            if at_edge:
                t = curve.edge(side)
            zeta = self.add(t)
            if zeta is None:
                failed += 1
                if failed > MOST_FAILURES:
                    break
                t = 0.5 * (t + inside)
                continue
            if abs(abs(zeta) - z) <= CLOSE or (at_edge and abs(zeta) < z):
                higher = self._highest(t)
                if higher is not None:  # the other points belong to a lower maximum
                    zeta, inside, outside = higher, start.t, math.nan
            if abs(abs(zeta) - z) <= CLOSE:
                guess = self.at(side * z)
                t = guess if math.isfinite(guess) else t
                return End(t, curve.natural(t), "the profile is not monotone" if self.falls else "")
            if abs(zeta) < z:
                if at_edge:
                    value = self._edge_value()
                    return End(t, value, self._edge_note(zeta) if math.isfinite(value) else self._levels(zeta))
                far = math.isinf(curve.edge(side)) and abs(t - start.t) > FAR * self.slope_unit
                if far and abs(zeta) - abs(self._before(t)) < LEVEL:
                    return End(side * math.inf, curve.natural(side * math.inf), self._levels(zeta))
                inside = t
            else:
                outside = t
            t = self._guess(side * z, inside, outside)
            short = abs(zeta) - z
            if short * last > 0.0 and abs(short) > 0.5 * abs(last) and not math.isnan(outside):
                t = 0.5 * (inside + outside)  # interpolation creeps: the profile is far from a parabola
            last = short
        here = f"{curve.natural(inside):.6g}, where ζ is {self._at_inside(inside):.3g}"
        what = "no maximum was found" if math.isnan(outside) or failed else "the profile jumps"
        return End(math.nan, math.nan, f"{what} beyond {here}")

    def _highest(self, t: float) -> float | None:
        """ζ at a point found by the highest maximum there, where that is another one; the other points are dropped."""
        here = self._found(t)
        best = self.curve.elsewhere(here)
        if best is here:
            return None
        zeta = self.zeta(best)
        self.points = [(0.0, self.curve.start), (zeta, best)]
        return zeta

    def _found(self, t: float) -> Point:
        """The point found at t."""
        return min((p for _, p in self.points), key=lambda p: abs(p.t - t))

    def _again(self, inside: float, outside: float, z: float) -> tuple[float, float]:
        """The bracket after its outer end was looked at again from the inner one: where ℓ has two maxima that take
        turns, ζ jumps, and a bracket shrinks to nothing about a jump that the higher of them does not have."""
        old = self._found(outside)
        found = self.curve.point(outside, self._found(inside))
        if found is None or found.loglik <= old.loglik + OTHER:
            return inside, outside
        zeta = self.zeta(found)
        inner = [(k, p) for k, p in self.points if self.side * (found.t - p.t) > 0 and abs(k) < abs(zeta)]
        self.points = [*inner, (zeta, found)]
        return (inside, outside) if abs(zeta) >= z else (outside, math.nan)

    def _guess(self, wanted: float, inside: float, outside: float) -> float:
        """The next t: by interpolation, else by halving the bracket or going further out."""
        t, start, side = self.at(wanted), self.curve.start.t, self.side
        if math.isnan(outside):
            reach = abs(inside - start)
            limit = inside + side * GROWTH * reach
            if not math.isfinite(t) or side * (t - inside) <= 0:
                t = inside + side * reach
            t = min(t, limit) if side > 0 else max(t, limit)
            return min(max(t, self.curve.lo), self.curve.hi)
        return t if math.isfinite(t) else 0.5 * (inside + outside)

    def _before(self, t: float) -> float:
        """ζ of the point before t."""
        return max((abs(z) for z, p in self.points if self.side * (t - p.t) > 0), default=0.0)

    def _at_inside(self, t: float) -> float:
        return next((z for z, p in self.points if p.t == t), 0.0)

    def _edge_value(self) -> float:
        return self.curve.natural(self.curve.lo if self.side < 0 else self.curve.hi)

    def _edge_note(self, zeta: float) -> str:
        which = "lower" if self.side < 0 else "upper"
        if self.points[-1][1].plateau:
            return f"{which} limit at the boundary: a variance may be 0, where a correlation is anything"
        return f"{which} limit at the boundary, where ζ is {zeta:.3g}"

    def _levels(self, zeta: float) -> str:
        which = "lower" if self.side < 0 else "upper"
        return f"no {which} limit: ζ levels off at {zeta:.3g}"


def _hermite(z: float, za: float, ta: float, da: float, zb: float, tb: float, db: float) -> float:
    """t(z) of the cubic with t, dt/dz at za and zb; by the secant where a slope is not finite."""
    h = zb - za
    if h == 0.0:
        return math.nan
    if not (math.isfinite(da) and math.isfinite(db)):
        return ta + (z - za) * (tb - ta) / h
    u = (z - za) / h
    return (
        ta * (1 + 2 * u) * (1 - u) ** 2 + h * da * u * (1 - u) ** 2
        + tb * u * u * (3 - 2 * u) + h * db * u * u * (u - 1)
    )  # fmt: skip
