"""A residual structure bound to the rows of a data set: units, the family over their labels, known weights, nugget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import DataError, ModelError
from vcbench.model.fixed_frame import Column, Frame
from vcbench.model.jets import constant, variables
from vcbench.model.residual import Residual, columns_of, groups_of
from vcbench.model.structures import (
    AnteDependence,
    Ar1,
    Arma11,
    Banded,
    CompoundSymmetry,
    Decay,
    Family,
    FreeCorrelation,
    Heterogeneous,
    LevelSymmetry,
    MovingAverage,
    Natural,
    Product,
    SameLevel,
    Separate,
    Toeplitz,
    Unstructured,
    distances,
)

MOST_LAGS = 100_000  # whole-number times may span this many units; a table has an entry for each lag
MIDDLE = (1e-2, 1e6)  # the middle one of unequal lags: ρ of one unit of time is then a number between 0 and 1


@dataclass(frozen=True, slots=True)
class AsLevels:
    """A column whose values count as ordered levels, whatever their type: `factor(x)` in a string."""

    label: Any


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """R(θ) = W^(−½) [σ² C(φ) + τ² I] W^(−½) over rows: `units` (n,) codes, C = 0 between units; `weights` (n,) or
    None."""

    spec: Residual
    family: Family
    units: np.ndarray = field(repr=False)
    weights: np.ndarray | None = field(repr=False)

    @property
    def is_plain(self) -> bool:
        """True where V is linear in θ: σ²I, or known weights."""
        return self.spec.is_plain

    @property
    def has_nugget(self) -> bool:
        """True where independent noise is added to the structure."""
        return self.spec.has_nugget

    def natural(self, phi: np.ndarray) -> list[Natural]:
        """Natural parameters of the structure (`structures.Natural`), the single variance first where there is one."""
        k = self.family.n_phi
        own = self.family.natural(variables(phi), k)
        return own if self.family.carries_variance else [Natural("var", constant(1.0, k), 1, True), *own]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in order: residual:var, residual:rho, …, residual:nugget."""
        if self.is_plain:
            return ("residual:var",)
        found = [f"residual:{p.name}" for p in self.natural(self.family.start())]
        return (*found, *(["residual:nugget"] if self.has_nugget else []))

    @property
    def is_variance(self) -> tuple[bool, ...]:
        """Which of `names` are variances."""
        if self.is_plain:
            return (True,)
        found = [p.is_variance for p in self.natural(self.family.start())]
        return (*found, *([True] if self.has_nugget else []))


def bind_noise(spec: Residual, column_of: Callable[[Any], Column], n: int) -> Noise:
    """The structure on n rows; `column_of` gives the column of a label.

    Raises DataError for columns that are missing, of the wrong kind or with missing values, ModelError for a structure
    that does not fit: two rows of one unit with one label, a factor that varies within units under separate=True.
    """
    if spec.kind == "nugget":
        raise ModelError("`nugget()` stands beside a structure: ar1(row) * ar1(col) + nugget(). Alone it is `iid()`.")
    columns: dict[int, Column] = {}
    for label in columns_of(spec):
        column = column_of(label)
        gone = column.missing
        if gone is not None and gone.any():
            raise DataError(
                f"residual structure `{spec}`: column `{column.name}` is missing in {int(gone.sum())} of the rows "
                f"used. Remove or fill these rows."
            )
        columns[id(label)] = column

    def look(label: Any) -> Column:
        return columns[id(label)]

    units = _units([look(g).as_factor().values for g in groups_of(spec)], n)
    weights = None
    spec_inner, weights = _split_weights(spec, look, n)
    builder = _Builder(look, units, n, spec)
    family = builder.build(spec_inner)
    if family.is_diagonal:
        units = np.arange(n)
    elif not spec.has_nugget:
        builder.check_distinct(spec_inner)
    return Noise(spec, family, units, weights)


def column_reader(frame: Frame | None, rows: np.ndarray | None, n: int) -> Callable[[Any], Column]:
    """Labels to columns: names from the frame (rows used), arrays as they are."""

    def read(label: Any) -> Column:
        levels = isinstance(label, AsLevels)
        label = label.label if levels else label
        if isinstance(label, str):
            if frame is None or rows is None:
                raise ModelError(
                    f"the residual structure names the column `{label}`, but the model is given by arrays. Pass the "
                    "column's values, or use Model.from_formula."
                )
            column = _column(frame, label).take(rows)
        else:
            column = Frame({"label": label}).column("label")
            if len(column.values) != n:
                raise ModelError(f"a label of the residual structure has {len(column.values)} values for {n} rows.")
        return column.as_factor() if levels else column

    return read


def _column(frame: Frame, label: str) -> Column:
    """A column, or the combinations of those in "a:b"."""
    if label in frame.names or ":" not in label:
        return frame.column(label)
    parts = [frame.column(name).as_factor() for name in label.split(":")]
    gone = np.zeros(frame.n_rows, bool)
    for part in parts:
        gone |= part.values < 0
    named = [np.array(["", *part.levels], object)[part.values + 1] for part in parts]
    labels = np.array([":".join(row) for row in zip(*named, strict=True)], object)
    levels, codes = np.unique(labels[~gone].astype(str), return_inverse=True)
    values = np.full(frame.n_rows, -1)
    values[~gone] = codes.ravel()
    return Column(label, "factor", values, tuple(levels.tolist()))


def _units(codes: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Codes (n,) of the combinations of the groups; one unit where none is said."""
    units = np.zeros(n, np.int64)
    for c in codes:
        units = units * (int(c.max()) + 1) + c
    return np.unique(units, return_inverse=True)[1].ravel()


def _split_weights(spec: Residual, look: Callable[[Any], Column], n: int) -> tuple[Residual, np.ndarray | None]:
    """The structure without its factors `weights(w)`, and their product."""
    if spec.kind == "weights":
        w = look(spec.labels[0]).numbers()
        if not (w > 0).all():
            bad = int(np.flatnonzero(~(w > 0))[0])
            raise DataError(f"`weights` is {w[bad]:g} in row {bad}; every weight must be positive.")
        return Residual(has_nugget=spec.has_nugget), w.astype(float)
    if spec.kind != "product":
        return spec, None
    (left, a), (right, b) = (_split_weights(p, look, n) for p in spec.parts)
    joint = a if b is None else b if a is None else a * b
    if left.kind == "iid" and a is not None:
        return Residual(right.kind, right.labels, right.group, right.order, right.parts, right.separate,
                        spec.has_nugget), joint  # fmt: skip
    if right.kind == "iid" and b is not None:
        return Residual(left.kind, left.labels, left.group, left.order, left.parts, left.separate,
                        spec.has_nugget), joint  # fmt: skip
    return Residual("product", parts=(left, right), has_nugget=spec.has_nugget), joint


def common_gap(gaps: np.ndarray) -> float | None:
    """The gap of which all are multiples: the greatest common divisor of whole numbers, else the smallest gap; None."""
    positive = gaps[gaps > 0]
    if (positive == np.round(positive)).all():
        return float(np.gcd.reduce(positive.astype(np.int64)))
    steps = positive / positive[0]
    return float(positive[0]) if np.abs(steps - np.round(steps)).max() < 1e-6 else None


@dataclass(frozen=True, slots=True)
class _Builder:
    look: Callable[[Any], Column]
    units: np.ndarray
    n: int
    whole: Residual

    @property
    def said(self) -> str:
        return str(self.whole)

    def build(self, spec: Residual) -> Family:
        """The family of a structure over these rows."""
        match spec.kind:
            case "iid":
                return Family()
            case "cs" | "csh" if not groups_of(self.whole):
                raise ModelError(
                    f"`{self.said}` has one unit, all rows: its ρ cannot be told from the mean. Name the units by "
                    f"`group=`, as {spec.kind}(…, group=subject)."
                )
            case "cs":
                return CompoundSymmetry(largest=self._largest())
            case "csh":
                return self._het(spec, CompoundSymmetry(largest=self._largest()))
            case "un":
                codes, levels = self._levels(spec)
                m = len(levels)
                return Unstructured(n_phi=m * (m + 1) // 2 - 1, codes=codes, levels=levels)
            case "un_cor":
                codes, levels = self._levels(spec)
                m = len(levels)
                return FreeCorrelation(n_phi=m * (m - 1) // 2, codes=codes, levels=levels)
            case "ante1":
                codes, levels = self._levels(spec)
                return AnteDependence(n_phi=2 * (len(levels) - 1), codes=codes, levels=levels)
            case "ar1":
                return Ar1(**self._lagged(spec, equal=False))
            case "ar1h":
                return self._het(spec, Ar1(**self._lagged(spec, equal=False)))
            case "toeplitz" | "toeplitz_h":
                lagged = self._lagged(spec)
                family: Family = Toeplitz(n_phi=len(lagged["lags"]) - 1, **lagged)
                return family if spec.kind == "toeplitz" else self._het(spec, family)
            case "banded" | "ma":
                lagged = self._lagged(spec)
                if spec.order >= len(lagged["lags"]):
                    raise ModelError(
                        f"`{self.said}`: order {spec.order} asks for more lags than there are between the rows of a "
                        f"unit ({len(lagged['lags']) - 1})."
                    )
                return (Banded if spec.kind == "banded" else MovingAverage)(n_phi=spec.order, **lagged)
            case "arma11":
                return Arma11(**self._lagged(spec))
            case "exponential" | "gaussian":
                return self._decay(spec)
            case "by":
                return self._by(spec)
            case "product":
                return self._product(spec)
        raise ModelError(f"`{spec.kind}` cannot stand inside another residual structure.")

    def _largest(self) -> int:
        largest = int(np.bincount(self.units).max())
        if largest < 2:
            raise ModelError(f"`{self.said}`: every unit has one row, so that nothing is correlated. Say `group=`.")
        return largest

    def _levels(self, spec: Residual) -> tuple[np.ndarray, tuple[str, ...]]:
        column = self.look(spec.labels[0]).as_factor()
        used, codes = np.unique(column.values, return_inverse=True)
        return codes.ravel(), tuple(column.levels[i] for i in used)

    def _het(self, spec: Residual, inner: Family) -> Family:
        codes, levels = self._levels(spec)
        return Heterogeneous(n_phi=len(levels) - 1 + inner.n_phi, codes=codes, levels=levels, inner=inner)

    def _lagged(self, spec: Residual, equal: bool = True) -> dict[str, Any]:
        """t and lags: a factor by the order of its levels, multiples of a common gap in that gap, others as given."""
        column = self.look(spec.labels[0])
        t = column.values.astype(float) if column.kind in ("factor", "other") else column.numbers()
        gaps = self._gaps(t[:, None])
        unit = common_gap(gaps)
        if unit is not None and gaps[-1] / unit < MOST_LAGS:
            return {"t": (t - t.min()) / unit, "lags": np.arange(round(gaps[-1] / unit) + 1.0)}
        if equal:
            raise ModelError(
                f"`{self.said}`: `{column.name}` is not equally spaced, and {spec.kind} needs lags. Use ar1, "
                f"exponential or gaussian, or factor({column.name}) to count its levels."
            )
        if not MIDDLE[0] <= np.median(gaps[1:]) <= MIDDLE[1]:
            raise ModelError(
                f"`{self.said}`: rows are {np.median(gaps[1:]):.3g} of `{column.name}` apart in the middle; rho, the "
                "correlation of rows 1 apart, would then be 0 or 1 in the computer. Give the times in another unit."
            )
        return {"t": t, "lags": gaps}

    def _gaps(self, points: np.ndarray) -> np.ndarray:
        """Distinct distances between rows of one unit, 0 first."""
        order = np.argsort(self.units, kind="stable")
        ends = np.cumsum(np.bincount(self.units))[:-1]
        found = [np.unique(distances(points[rows])) for rows in np.split(order, ends)]
        gaps = np.unique(np.concatenate([[0.0], *found]))
        close = np.concatenate([[True], np.diff(gaps) > 1e-9 * (1.0 + gaps[1:])])
        gaps = gaps[close]
        if len(gaps) < 2:
            raise ModelError(f"`{self.said}`: no unit has two rows apart. Say `group=`, or check the labels.")
        return gaps

    def _decay(self, spec: Residual) -> Family:
        if not spec.labels:
            raise ModelError(f"`{spec.kind}` needs one numeric column or more: {spec.kind}(x, y).")
        points = np.column_stack([self.look(label).numbers() for label in spec.labels])
        return Decay(power=1 if spec.kind == "exponential" else 2, points=points, lags=self._gaps(points))

    def _by(self, spec: Residual) -> Family:
        (inner,) = spec.parts
        if not spec.separate:
            return self._het(spec, self.build(inner))
        codes, levels = self._levels(spec)
        first = np.full(int(self.units.max()) + 1, -1)
        first[self.units] = codes
        if (first[self.units] != codes).any():
            row = int(np.flatnonzero(first[self.units] != codes)[0])
            raise ModelError(
                f"`{self.said}`: `{self.look(spec.labels[0]).name}` varies within a unit (row {row}); separate "
                "parameters need one level a unit. Leave out separate=True, or name smaller units."
            )
        parts = tuple(self.build(inner) for _ in levels)
        return Separate(n_phi=len(levels) - 1 + sum(f.n_phi for f in parts), codes=codes, levels=levels, parts=parts)

    def _factor(self, spec: Residual) -> Family:
        """A factor of a product: a matrix over the levels of its label, not over rows."""
        if spec.kind in ("cs", "csh", "by", "iid") and not spec.labels:
            raise ModelError(f"`{self.said}`: a factor of a product is a matrix over labels; `{spec}` names none.")
        if spec.kind in ("cs", "csh"):
            codes, levels = self._levels(spec)
            inner = LevelSymmetry(largest=len(levels), codes=codes)
            return self._het(spec, inner) if spec.kind == "csh" else inner
        if spec.kind == "by" and spec.parts[0].kind == "iid":
            return self._het(spec, SameLevel(codes=self._levels(spec)[0]))
        return self.build(spec)

    def _product(self, spec: Residual) -> Family:
        left, right = (self._factor(p) for p in spec.parts)
        names = []
        for j, part in enumerate(spec.parts):
            label = part.labels[0] if part.labels else None
            names.append(f"_{self.look(label).name}" if isinstance(label, str | AsLevels) else f"_{j + 1}")
        if names[0] == names[1]:
            names = ["_1", "_2"]
        return Product(n_phi=left.n_phi + right.n_phi, left=left, right=right, suffixes=(names[0], names[1]))

    def check_distinct(self, spec: Residual) -> None:
        """Two rows of one unit with the same labels would have correlation 1: V is singular."""
        keys = np.column_stack([self.units, *self._label_columns(spec)])
        _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
        if (counts > 1).any():
            at = keys[first[counts > 1][0]]
            rows = np.flatnonzero((keys == at).all(axis=1))
            raise ModelError(
                f"`{self.said}`: rows {rows[0]} and {rows[1]} belong to one unit and have the same label, so that "
                "their residuals would be equal. Name smaller units in `group=`, average the rows, or add nugget()."
            )

    def _label_columns(self, spec: Residual, within: bool = False) -> list[np.ndarray]:
        if spec.kind == "product":
            return [c for part in spec.parts for c in self._label_columns(part, True)]
        if spec.kind == "by" and not (within and spec.parts[0].kind == "iid"):
            return self._label_columns(spec.parts[0], within)
        if spec.kind in ("cs", "csh", "iid") and not within:  # ρ < 1 keeps rows apart
            return [np.arange(self.n)]
        columns = [self.look(label) for label in spec.labels]
        return [np.unique(c.values, return_inverse=True)[1].ravel() for c in columns]
