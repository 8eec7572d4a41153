"""Rows to predict at, in a model's own terms: those of its data, of a new frame, or of new arrays.

Each component has Z (m, r) with the position of each row's level, −1 for a level that the model has not met; or
Z (m, r·N) over all its levels, effect by effect. The variance of a new residual is that of a row alone: σ²/w with known
weights, that of its level where variances differ by level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import issparse

from vcbench.errors import DataError, ModelError, did_you_mean
from vcbench.inference.equations import Residuals
from vcbench.model.fixed_frame import Frame
from vcbench.model.model import Model
from vcbench.model.noise import column_reader
from vcbench.model.pedigree import as_label
from vcbench.model.residual import Residual

Source = tuple[Any, np.ndarray, tuple[str, ...]]  # label, codes (n,), levels of a factor with a variance for each level
OWN_VARIANCES = ("csh", "toeplitz_h", "ar1h", "un", "ante1", "by")  # structures with a variance for each level


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """X (m, d), offset (m,), each component's (Z, levels), and what the variance of a new residual needs."""

    model: Model
    X: np.ndarray
    offset: np.ndarray
    effects: Mapping[str, tuple[Any, np.ndarray | None]] = field(repr=False)
    index: Any = field(repr=False, default=None)
    frame: Any = field(repr=False, default=None)  # the new frame; None for the data, and for arrays
    weights: np.ndarray | None = field(repr=False, default=None)
    is_data: bool = False

    @classmethod
    def of(cls, model: Model, new: Any, names: Sequence[str]) -> "Rows":
        """The data's rows where `new` is None; else those of a frame, or of {"X": …, "Z": …} for a model from arrays.

        `names`: components whose effects are needed. Raises DataError for values that are missing or not finite, for
        shapes that disagree, and for a level without a row in its component's relationship matrix.
        """
        if new is None:
            return cls.of_data(model)
        return cls._of_arrays(model, new, names) if model.parsed is None else cls._of_frame(model, new, names)

    @classmethod
    def of_data(cls, model: Model) -> "Rows":
        """The rows that the model was made of."""
        n = model.n_obs
        effects: dict[str, tuple[Any, np.ndarray | None]] = {}
        for c in model.components:
            if c.codes is not None:
                effects[c.name] = c.Z, c.codes
            elif c.Z is None:
                effects[c.name] = np.ones((n, 1)), np.arange(n)
            elif c.n_effects > 1 and c.relation is None:  # Ω over the columns of Z: one level
                effects[c.name] = c.Z, np.zeros(n, int)
            else:
                effects[c.name] = c.Z, None
        offset = np.zeros(n) if model.offset is None else model.offset
        return cls(model, np.asarray(model.X), offset, effects, is_data=True)

    @classmethod
    def _of_frame(cls, model: Model, new: Any, names: Sequence[str]) -> "Rows":
        X, offset, groups = model.parsed.design(new, random=bool(names))
        kept = [j for j, name in enumerate(model.parsed.X_names) if name in model.X_names]  # type: ignore[operator]
        effects = {}
        for c in model.components:
            if c.name in names:
                if c.name not in groups or (c.codes is None and c.n_effects > 1):
                    raise DataError(
                        f"component `{c.name}` is not said by the formula alone, so that its rows cannot be made from "
                        "a frame. Leave it out of `random`."
                    )
                A, labels = groups[c.name]
                effects[c.name] = A, _positions(c, labels)
        shift = np.zeros(len(X)) if offset is None else offset
        index = new.index if hasattr(new, "index") and hasattr(new, "columns") else None
        return cls(model, X[:, kept], shift, effects, index, new)

    @classmethod
    def _of_arrays(cls, model: Model, new: Any, names: Sequence[str]) -> "Rows":
        if not isinstance(new, Mapping) or (hasattr(new, "columns") and "X" not in new):
            raise ModelError(
                "predict(new) needs a model made from a formula; this one was made from arrays. Pass arrays too: "
                '{"X": X, "Z": {component: (Z, group)}}, or Z alone for a component without groups.'
            )
        known = ("X", "Z", "offset", "weights")
        for key in new:
            if key not in known:
                raise DataError(
                    f"new rows have `{key}`, which is none of {', '.join(known)}.{did_you_mean(key, known)}"
                )
        given = new.get("Z", {})
        if "X" in new:
            X = _matrix(new["X"], "X", len(model.X_names))  # type: ignore[arg-type]
        elif model.X_names == ("(Intercept)",) and given:
            first = next(iter(given.values()))
            X = np.ones((len(first[1] if isinstance(first, tuple) else first), 1))
        else:
            raise DataError(f"new rows need `X` with the columns {', '.join(model.X_names)}.")  # type: ignore[arg-type]
        m, effects = len(X), {}
        for c in model.components:
            if c.name not in names:
                continue
            if c.name not in given:
                raise DataError(
                    f'new rows need `Z["{c.name}"]`; leave the component out of `random` to predict without it.'
                )
            effects[c.name] = _effect_of_arrays(c, given[c.name], m)
        offset = _vector(new["offset"], "offset", m) if "offset" in new else np.zeros(m)
        weights = _vector(new["weights"], "weights", m) if "weights" in new else None
        return cls(model, X, offset, effects, weights=weights)

    def residual_variance(self, R: Residuals) -> np.ndarray:
        """Var(e) (m,) of a new observation in each row, independent of all others.

        Raises DataError for missing weights and for a level without an estimated variance.
        """
        noise = self.model.noise
        own = R.matrix().diagonal()
        if self.is_data:
            return own
        w = np.ones(self.model.n_obs) if noise.weights is None else noise.weights
        level = own * w
        spec, labels = _without_weights(noise.spec)
        sources = _own_variances(spec, noise.family)
        out = self._by_level(spec, sources, level) if sources else np.full(len(self.X), level[0])
        if not labels:
            return out
        if self.weights is not None:
            return out / _positive(self.weights)
        if self.frame is None or not all(isinstance(label, str) for label in labels):
            raise DataError(
                'the model has known weights of the residual: pass those of the new rows as `new["weights"]`, or ask '
                'for interval="confidence".'
            )
        frame = Frame(self.frame)
        for label in labels:
            out = out / _positive(frame.column(label).numbers())
        return out

    def _by_level(self, spec: Residual, sources: list[Source], variances: np.ndarray) -> np.ndarray:
        """Variances by the levels of the structure's own columns."""
        if self.frame is None:
            raise ModelError(
                f"residual structure `{spec}` has variances of its own by level, and new rows from arrays have no "
                'labels. Make the model by a formula, or ask for interval="confidence".'
            )
        m = len(self.X)
        read = column_reader(Frame(self.frame), np.arange(m), m)
        codes = []
        for label, _, levels in sources:
            column = read(label).as_factor()
            where = {name: j for j, name in enumerate(levels)}
            lost = [name for name in column.levels if name not in where]
            if lost:
                raise DataError(
                    f"level `{lost[0]}` of `{column.name}` has no residual variance: it was not in the data. "
                    f"Known: {', '.join(levels)}."
                )
            codes.append(np.array([where[name] for name in column.levels])[column.values])
        known: dict[tuple[int, ...], float] = {}
        for row, v in enumerate(variances):
            known[tuple(int(c[row]) for _, c, _ in sources)] = v
        keys = [tuple(int(c[i]) for c in codes) for i in range(m)]
        lost_key = next((key for key in keys if key not in known), None)
        if lost_key is not None:
            said = ", ".join(levels[j] for (_, _, levels), j in zip(sources, lost_key, strict=True))
            raise DataError(f"residual structure `{spec}`: no row of the data has the levels {said} together.")
        return np.array([known[key] for key in keys])


def _positions(c: Any, labels: np.ndarray) -> np.ndarray:
    """Positions of labels among a component's levels, −1 where it has none; DataError for a related one."""
    where = {level: j for j, level in enumerate(c.levels)}
    if c.relation is None:
        return np.array([where.get(str(v), -1) for v in labels], int)
    return c.relation.positions([as_label(v) for v in labels])


def _effect_of_arrays(c: Any, given: Any, m: int) -> tuple[Any, np.ndarray | None]:
    if c.codes is not None:
        if not isinstance(given, tuple) or len(given) != 2:
            raise DataError(f"new rows: component `{c.name}` has groups; pass Z as the pair (Z, group).")
        Z = _matrix(given[0], f'Z["{c.name}"]', c.n_effects)
        labels = np.asarray(given[1])
        if len(Z) != m or labels.shape != (m,):
            raise DataError(f"new rows: `{c.name}` has Z {Z.shape} and {labels.shape} groups for {m} rows of X.")
        return Z, _positions(c, labels)
    width = c.relation.m if c.Z is None else c.Z.shape[1]
    Z = given if issparse(given) else _matrix(given, f'Z["{c.name}"]', width)
    if Z.shape != (m, width):
        raise DataError(f'new rows: `Z["{c.name}"]` has shape {Z.shape}; it must be ({m}, {width}).')
    return (Z, np.zeros(m, int)) if c.n_effects > 1 and c.relation is None else (Z, None)


def _matrix(values: Any, what: str, width: int) -> np.ndarray:
    out = np.asarray(values, float)
    out = out[:, None] if out.ndim == 1 else out
    if out.ndim != 2 or out.shape[1] != width:
        raise DataError(f"new rows: `{what}` has shape {out.shape}; it must have {width} column(s).")
    if not np.isfinite(out).all():
        bad = np.argwhere(~np.isfinite(out))[0]
        raise DataError(f"new rows: `{what}` is {out[tuple(bad)]} in row {bad[0]}. Remove or fill such rows.")
    return out


def _vector(values: Any, what: str, m: int) -> np.ndarray:
    out = np.asarray(values, float)
    if out.shape != (m,) or not np.isfinite(out).all():
        raise DataError(f"new rows: `{what}` must hold {m} finite numbers; it has shape {out.shape}.")
    return out


def _positive(w: np.ndarray) -> np.ndarray:
    if not (w > 0).all():
        raise DataError(f"new rows: `weights` is {w[~(w > 0)][0]:g}; every weight must be positive.")
    return w


def _without_weights(spec: Residual) -> tuple[Residual, list[Any]]:
    """The structure without its factors `weights(w)`, and their labels."""
    if spec.kind == "weights":
        return Residual(), [spec.labels[0]]
    if spec.kind != "product":
        return spec, []
    (left, a), (right, b) = (_without_weights(p) for p in spec.parts)
    if a and left.kind == "iid":
        return right, a + b
    if b and right.kind == "iid":
        return left, a + b
    return Residual("product", parts=(left, right), has_nugget=spec.has_nugget), a + b


def _own_variances(spec: Residual, family: Any) -> list[Source]:
    """Every factor whose levels have variances of their own."""
    if spec.kind == "product":
        return _own_variances(spec.parts[0], family.left) + _own_variances(spec.parts[1], family.right)
    if spec.kind not in OWN_VARIANCES:
        return []
    own = [(spec.labels[0], family.codes, family.levels)]
    if spec.kind == "by":
        return own + _own_variances(spec.parts[0], family.parts[0] if spec.separate else family.inner)
    return own
