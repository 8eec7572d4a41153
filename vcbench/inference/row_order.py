"""Where the rows of a model stand to one another: the units within which they are ordered, and the place of each.

Taken from the labels of the residual structure; else from a numeric covariate of the formula that tells the rows of a
unit apart, one with a random slope or in regular steps first; else rows count in the order of the data.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.model.noise import AsLevels, common_gap
from vcbench.model.residual import Residual, groups_of
from vcbench.model.structures import Family
from vcbench.model.structures.combined import Heterogeneous, Product, Separate
from vcbench.model.structures.lagged import Decay, Lagged
from vcbench.model.structures.levels import ByLevel


@dataclass(frozen=True, slots=True, eq=False)
class RowOrder:
    """units (n,) codes; places (n, c) coordinates, c = 2 for a field of rows and columns or points in the plane.

    names: of the coordinates. unit: what a unit is ("" for all rows together). source: "labels" of the residual
    structure, a "covariate" of the formula, or the row "order". in_steps: places count the steps of a label (its common
    gap, or its levels), not its values.
    """

    units: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    names: tuple[str, ...]
    unit: str
    source: str
    isotropic: bool = False  # coordinates of one space: distances are Euclidean
    in_steps: bool = False

    @property
    def n_pairs(self) -> int:
        """Pairs of rows within a unit."""
        m = np.bincount(self.units).astype(np.int64)
        return int((m * (m - 1) // 2).sum())

    @property
    def gap(self) -> float | None:
        """The common gap of which all lags are multiples, for one coordinate; None where times are unequal."""
        if self.places.shape[1] != 1:
            return None
        gaps = [np.diff(np.sort(self.places[rows, 0])) for rows in self.rows()]
        together = np.concatenate(gaps)
        together = together[together > 1e-9 * (1.0 + np.abs(together).max(initial=0.0))]
        return common_gap(together) if len(together) else None

    def rows(self) -> list[np.ndarray]:
        """The rows of each unit in their order along the first coordinate."""
        order = np.lexsort((self.places[:, 0], self.units))
        return np.split(order, np.cumsum(np.bincount(self.units))[:-1])

    def text(self, what: str = "lag") -> str:
        """`lag in Days within Subject`, `lag in rows within Batch (order of the data)`."""
        name = "rows" if self.source == "order" else " and ".join(self.names)
        name = f"steps of {name}" if self.in_steps else name
        within = f" within {self.unit}" if self.unit else ""
        return f"{what} in {name}{within}" + (" (order of the data)" if self.source == "order" else "")


def row_order(model: Model) -> RowOrder:
    """The order of a model's rows. MethodError where no unit has two rows."""
    if not model.noise.is_plain and not model.noise.family.is_diagonal:
        places, names, isotropic = _places(model.noise.family, model.noise.spec)
        if names:
            unit = ":".join(_said(g) for g in groups_of(model.noise.spec))
            family = model.noise.family
            in_steps = not isinstance(family, Decay) and not (isinstance(family, Lagged) and not family.whole)
            return RowOrder(model.noise.units, np.column_stack(places), names, unit, "labels", isotropic, in_steps)
    groups = [c for c in model.components if c.codes is not None and np.bincount(c.codes).max() > 1]
    if not groups:
        raise MethodError("no unit of this model has two rows: residuals have no order within anything. A residual "
                          "structure or a grouping factor gives one.")  # fmt: skip
    component = max(groups, key=lambda c: len(c.levels))
    units = np.unique(np.asarray(component.codes), return_inverse=True)[1].ravel()
    found = _covariate(model, units, [e for c in model.components for e in c.effects])
    if found is not None:
        name, values = found
        return RowOrder(units, values[:, None], (name,), component.name, "covariate")
    place = np.zeros(model.n_obs)
    for rows in np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1]):
        place[rows] = np.arange(len(rows))
    return RowOrder(units, place[:, None], ("rows",), component.name, "order")


def _places(family: Family, spec: Residual) -> tuple[list[np.ndarray], tuple[str, ...], bool]:
    """(coordinates, names, isotropic) of a structure; no names where it has no order."""
    if isinstance(family, Product):
        parts = [_places(f, s) for f, s in zip((family.left, family.right), _leaves(spec), strict=True)]
        return [p for part in parts for p in part[0]], tuple(n for part in parts for n in part[1]), False
    if isinstance(family, Heterogeneous):
        return _places(family.inner, spec.parts[0] if spec.kind == "by" else spec)
    if isinstance(family, Separate):
        return _places(family.parts[0], spec.parts[0])
    names = tuple(_said(label) for label in spec.labels)
    if isinstance(family, Decay):
        return [family.points], names, family.points.shape[1] > 1
    if isinstance(family, Lagged):
        return [family.t], names[-1:], False
    if isinstance(family, ByLevel):
        return [family.codes.astype(float)], names[-1:], False
    return [], (), False


def _leaves(spec: Residual) -> tuple[Residual, ...]:
    """The two factors of a product, known weights aside."""
    while spec.kind == "product" and any(p.kind in ("weights", "iid") and not p.parts for p in spec.parts):
        spec = next(p for p in spec.parts if not (p.kind in ("weights", "iid") and not p.parts))
    return spec.parts


def _said(label: Any) -> str:
    label = label.label if isinstance(label, AsLevels) else label
    return label if isinstance(label, str) else "label"


def _covariate(model: Model, units: np.ndarray, effects: list[str]) -> tuple[str, np.ndarray] | None:
    """The numeric covariate that orders the rows of units, one of `effects` before others."""
    if model.parsed is None:
        return None
    candidates = []
    for variable, values in zip(model.parsed.spec.design.variables, model.parsed.values, strict=True):
        values = np.asarray(values, float)
        if variable.is_factor or values.reshape(len(units), -1).shape[1] != 1:
            continue
        values = values.reshape(len(units))
        pairs = np.column_stack([units, values])
        if len(np.unique(pairs, axis=0)) == len(units):  # it tells the rows of every unit apart
            step = RowOrder(units, values[:, None], (variable.label,), "", "covariate").gap
            candidates.append((variable.label not in effects, step is None, variable.label, values))
    if not candidates:
        return None
    _, _, name, values = min(candidates, key=lambda c: c[:2])
    return name, values
