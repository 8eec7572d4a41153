"""The same model on some of its rows: what a deletion leaves, with the parameters of all of it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from vcbench.errors import DataError
from vcbench.model.component import Coded, Component
from vcbench.model.model import Model
from vcbench.model.noise import Noise
from vcbench.model.relationship import Known

OF_ROWS = ("codes", "t", "points")  # the fields of residual families with an entry for each row


def subset(model: Model, rows: np.ndarray) -> Model:
    """The model on the rows of a mask or of positions: y, X, components, residual structure and offset.

    θ keeps its names and meaning: ranges, lags and levels of a residual structure stay those of the whole. Levels of a
    group without rows are left out (those of a relationship matrix stay), and columns of X that depend on others then
    are dropped with a warning. Raises DataError for no rows, and what `Model` raises of the rest.
    """
    rows = np.asarray(rows)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if not len(rows):
        raise DataError("no row is left of the model's data.")
    assert model.X is not None
    noise = model.noise
    _, units = np.unique(noise.units[rows], return_inverse=True)
    weights = None if noise.weights is None else noise.weights[rows]
    return Model(
        model.y[rows],
        model.X[rows],
        [_component(c, rows) for c in model.components],
        X_names=model.X_names,
        residual=model.residual,
        offset=None if model.offset is None else model.offset[rows],
        equal=model.equal,
        name=model.name,
        formula=model.formula,
        noise=Noise(noise.spec, _family(noise.family, rows), units.ravel(), weights),
    )


def _component(c: Component, rows: np.ndarray) -> Component:
    cov: Any = c.cov
    if c.relation is not None:
        relation = c.relation
        cov = Known("known", lambda _: relation, None if c.is_plain and c.codes is None else cov)
        if c.codes is not None:
            labels = np.array(c.levels, object)[c.codes[rows]]
            return Component(c.Z[rows], name=c.name, group=labels, cov=cov, columns=c.effects, q=c.q)
        if c.Z is None:
            Z: Any = csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), rows)), (len(rows), relation.m))
        else:
            Z = c.Z[rows]
        return Component(Z, name=c.name, cov=cov, columns=c.effects if c.n_effects > 1 else None, q=c.q)
    if c.codes is not None:
        seen, codes = np.unique(c.codes[rows], return_inverse=True)
        group = Coded(codes.ravel(), tuple(c.levels[i] for i in seen))
        return Component(c.Z[rows], name=c.name, group=group, cov=cov, columns=c.effects, q=c.q)
    Z = c.Z[rows]
    if not c.is_plain:
        return Component(Z, name=c.name, cov=cov, columns=c.effects, q=c.q)
    kept = np.asarray(abs(Z).sum(axis=0)).ravel() > 0
    return Component(Z if kept.all() else Z[:, kept], name=c.name, cov=cov, q=c.q)


def _family(family: Any, rows: np.ndarray) -> Any:
    """A residual family on some of its rows."""
    new = {}
    for field in fields(family):
        value = getattr(family, field.name)
        if field.name in OF_ROWS:
            new[field.name] = value[rows]
        elif is_dataclass(value):
            new[field.name] = _family(value, rows)
        elif isinstance(value, tuple) and value and all(is_dataclass(v) for v in value):
            new[field.name] = tuple(_family(v, rows) for v in value)
    return replace(family, **new)
