"""The model: y = Xβ + Σ_k Z_k u_k + e, said once, checked once, frozen."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from vcbench.errors import DataError, ModelError, did_you_mean
from vcbench.model.component import Coded, Component
from vcbench.model.covariance import Covariance, blocks, diag, scalar, un
from vcbench.model.noise import Noise, bind_noise, column_reader
from vcbench.model.relationship import Known
from vcbench.model.residual import Residual, iid
from vcbench.model.residual_text import parse_residual
from vcbench.model.working import Working, working_of

RANK_TOLERANCE = (
    1e-7  # relative size of a column's part outside the earlier columns below which it is their combination
)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A Gaussian linear mixed model, y = Xβ + Σ_k Z_k u_k + e, u_k ~ N(0, G_k(θ)), e ~ N(0, R(θ)), all independent.

    y (n,), X (n, d; default a column of ones), components `Component`s, offset (n,) known and added to Xβ.
    residual: a structure of `vcbench.residual` or its text; equal: groups of component names that share their
    parameters. θ is in natural units, components in order, residual last: `theta_names`.

    Raises DataError for y that is not finite or constant; ModelError for shapes that disagree, duplicated names,
    rank-deficient X under `rank="error"` (the default `"drop"` drops later columns with one warning that names
    them), and grouping factors with as many levels as observations.
    """

    y: np.ndarray
    X: np.ndarray | None = None
    components: Sequence[Component] = ()
    X_names: Sequence[str] | None = None
    residual: Residual | str | None = None
    offset: np.ndarray | None = None
    equal: Sequence[Sequence[str]] = ()
    name: str | None = None
    rank: str = "drop"
    formula: str | None = None
    n_dropped: int = 0
    dropped_columns: tuple[str, ...] = ()
    parsed: Any = field(default=None, repr=False)
    noise: Noise = field(default=None, repr=False)  # type: ignore[assignment]
    working: Working = field(init=False, repr=False, default=None)  # type: ignore[assignment]
    design: "Design" = field(init=False, repr=False, default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 - frozen: set once, here
        if self.rank not in ("drop", "error"):
            raise ModelError(f'`rank` is {self.rank!r}; it must be "drop" or "error".')
        y = as_response(self.y)
        put("y", y)
        n = len(y)
        X = np.ones((n, 1)) if self.X is None else self._columns(n)
        names = list(self.X_names) if self.X_names is not None else None
        if names is None:
            columns = getattr(self.X, "columns", None)
            if columns is not None:
                names = [str(c) for c in columns]
            else:
                names = ["(Intercept)"] if self.X is None else [_column_name(X, j) for j in range(X.shape[1])]
        if len(names) != X.shape[1]:
            raise ModelError(f"X has {X.shape[1]} columns but {len(names)} names.")
        X, names, dropped = full_rank(X, names, self.rank)
        if X.shape[1] >= n:
            raise ModelError(
                f"X has {X.shape[1]} independent columns for {n} observations: nothing is left to estimate "
                f"variances from."
            )
        put("X", X)
        put("X_names", tuple(names))
        put("dropped_columns", tuple(self.dropped_columns) + tuple(dropped))
        spec = parse_residual(self.residual) if isinstance(self.residual, str) else self.residual or iid()
        if not isinstance(spec, Residual):
            raise ModelError(f"`residual` is {spec!r}; it must be a structure of vcbench.residual, or its text.")
        put("residual", spec)
        if self.noise is None:
            put("noise", bind_noise(spec, column_reader(None, None, n), n))
        put("components", tuple(self.components))
        put("equal", tuple(tuple(group) for group in self.equal))
        if self.offset is not None:
            offset = np.asarray(self.offset, float)
            if offset.shape != (n,) or not np.isfinite(offset).all():
                raise DataError(f"`offset` must hold {n} finite numbers; it has shape {offset.shape}.")
            put("offset", offset)
        self._check_components(n)
        put("design", Design())

    def _columns(self, n: int) -> np.ndarray:
        X = np.asarray(self.X, float)
        X = np.ascontiguousarray(X[:, None] if X.ndim == 1 else X)
        if X.ndim != 2 or len(X) != n:
            raise ModelError(f"`X` has shape {X.shape}; y has {n} values, so X must be ({n}, d).")
        if not np.isfinite(X).all():
            bad = np.argwhere(~np.isfinite(X))[0]
            raise DataError(f"`X` is {X[tuple(bad)]} in row {bad[0]}, column {bad[1]}. Remove or impute such rows.")
        return X

    def _check_components(self, n: int) -> None:
        for c in self.components:
            if not isinstance(c, Component):
                raise ModelError(f"`components` holds {c!r}; every item must be a vcbench.Component.")
            if c.n_obs != n:
                raise ModelError(f"component `{c.name}` covers {c.n_obs} rows but y has {n}.")
            per_row = c.is_grouped and len(c.levels) >= n
            identity = c.is_plain and c.relation is None and _is_identity(c.Z)
            plain = self.residual.kind == "iid" and c.cov.value is None  # type: ignore[union-attr]
            if (per_row or identity) and plain:
                raise ModelError(
                    f"component `{c.name}` has {c.n_levels} levels for {n} observations: its variance cannot be "
                    f"told from the "
                    "residual's. Group the observations, or leave the component out."
                )
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 - frozen: set once, here
        put("working", working_of(self.components, self.noise, self.equal))
        names = list(self.theta_names)
        twice = sorted({a for a in names if names.count(a) > 1})
        if twice:
            raise ModelError(f"two components share the parameter name `{twice[0]}`. Give each component its own name.")

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        *,
        missing: Literal["drop", "error"] = "drop",
        rank: Literal["drop", "error"] = "drop",
        residual: Residual | str | None = None,
        cov: Mapping[str, Covariance | str] | None = None,
        equal: Sequence[Sequence[str]] = (),
        name: str | None = None,
    ) -> "Model":
        """The model of an lme4 formula, e.g. `"Reaction ~ Days + (Days | Subject)"`, and a data frame.

        data: pandas, polars, pyarrow or a mapping of columns. missing: "drop" rows with a count in `n_dropped`, or
        "error". cov: structure by grouping factor, e.g. `{"Subject": vc.covariance.diag()}` or its text "diag()".
        residual: a structure whose labels are columns of the data, or its text, e.g. "ar1(visit, group=subject)".
        Raises FormulaError, DataError, ModelError.
        """
        from vcbench.model.covariance_text import parse_covariance
        from vcbench.model.fixed_frame import Frame
        from vcbench.model.formula import parse_formula
        from vcbench.model.maternal import maternal_component

        parsed = parse_formula(formula, data, missing=missing, rank=rank)
        structures = {
            key: parse_covariance(v, f"cov.{key}") if isinstance(v, str) else v for key, v in (cov or {}).items()
        }
        groups = [t.group for t in parsed.random]
        for key in structures:
            if key not in groups:
                raise ModelError(
                    f"`cov` names `{key}`, which is no grouping factor of `{formula}`.{did_you_mean(key, groups)}"
                )
        components = []
        for t in parsed.random:
            said = structures.get(t.group)
            if isinstance(said, Known) and said.maternal is not None:
                dams = Frame(data).column(said.maternal)
                components.append(maternal_component(t, said, dams.take(parsed.rows_used)))
                continue
            component = Component(
                t.A,
                name=t.group,
                group=Coded(t.codes, t.levels),
                columns=t.effects,
                cov=_said(said, t.blocks),
            )
            components.append(component)
        spec = parse_residual(residual) if isinstance(residual, str) else residual or iid()
        noise = None
        if spec.kind != "iid" or spec.has_nugget:
            frame = Frame(data)
            noise = bind_noise(spec, column_reader(frame, parsed.rows_used, len(parsed.y)), len(parsed.y))
        return cls(
            parsed.y,
            parsed.X,
            components,
            X_names=parsed.X_names,
            residual=spec,
            noise=noise,  # type: ignore[arg-type]
            offset=parsed.offset,
            equal=equal,
            name=name,
            rank=rank,
            formula=formula,
            n_dropped=parsed.n_dropped,
            dropped_columns=parsed.dropped_columns,
            parsed=parsed,
        )

    def __repr__(self) -> str:
        parts = ", ".join(c.name for c in self.components) or "no random component"
        return f"Model({self.formula or 'from arrays'}: n = {self.n_obs}, d = {self.n_fixed}, components {parts})"

    @property
    def n_obs(self) -> int:
        """n."""
        return len(self.y)

    @property
    def n_fixed(self) -> int:
        """d, the columns of X after reduction to full rank."""
        return self.X.shape[1]  # type: ignore[union-attr]

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Names of θ in natural units, residual last."""
        return self.working.names

    @property
    def n_theta(self) -> int:
        """Number of variance parameters."""
        return len(self.theta_names)

    @property
    def is_structured(self) -> bool:
        """True where θ is not simply the entries of every Ω and σ²: structures, weights, equal or fixed components."""
        linear = all(c.cov.is_linear for c in self.components)  # type: ignore[union-attr]
        return not linear or bool(self.equal) or not self.noise.is_plain or self.noise.weights is not None

    def Omegas(self, theta: np.ndarray) -> list[np.ndarray]:
        """Ω_k (r_k, r_k) of each component at θ."""
        from vcbench.model.covariance import matrix

        if self.is_structured:
            return self.working.Omegas(np.asarray(theta, float), [c.n_effects for c in self.components])
        out, at = [], 0
        for c in self.components:
            index = c.index
            out.append(matrix(np.asarray(theta)[at : at + len(index)], c.n_effects, index))
            at += len(index)
        return out

    def relaxed(self) -> "Model":
        """The linear model that holds this one: every structured Ω free, R = σ²I, rows times √weight.

        Its θ is this model's τ (`working`) where the residual is plain. Kernels for linear models are built on it.
        """
        w = None if self.noise.weights is None else np.sqrt(self.noise.weights)
        new = copy.copy(self)
        put = lambda key, value: object.__setattr__(new, key, value)  # noqa: E731 - a copy of a frozen model
        put("components", tuple(_relaxed(c, w) for c in self.components))
        put("residual", iid())
        put("noise", bind_noise(iid(), column_reader(None, None, self.n_obs), self.n_obs))
        put("equal", ())
        if w is not None:
            put("y", self.y * w)
            put("X", np.ascontiguousarray(self.X * w[:, None]))
            put("offset", None if self.offset is None else self.offset * w)
        put("working", working_of(new.components, new.noise))
        put("design", Design())
        return new

    def replace(self, *, y: np.ndarray) -> "Model":
        """The same model of another response; the design (and kernels built on it) is shared."""
        y = as_response(y)
        if len(y) != self.n_obs:
            raise ModelError(f"the new y has {len(y)} values; the model has {self.n_obs} observations.")
        new = copy.copy(self)
        object.__setattr__(new, "y", y)
        return new

    def explain(self) -> str:
        """Which kernel answers for this model and why, with sizes and cost."""
        from vcbench.kernels import explain

        return explain(self)


def _relaxed(c: Component, w: np.ndarray | None) -> Component:
    """The component with a free Ω where it was structured or fixed, its rows times w."""
    linear = c.cov.is_linear  # type: ignore[union-attr]
    if linear and w is None:
        return c
    new = copy.copy(c)
    if not linear:
        object.__setattr__(new, "cov", un() if c.n_effects > 1 else scalar())
    if w is not None:
        from scipy.sparse import diags_array, issparse

        Z = diags_array(w).tocsr() if c.Z is None else diags_array(w) @ c.Z if issparse(c.Z) else c.Z * w[:, None]
        object.__setattr__(new, "Z", Z)
    return new


def _said(cov: Covariance | Known | None, partition: tuple[tuple[int, ...], ...]) -> Covariance | Known:
    """The structure of a term: as given, else as its bars say; levels that are related leave Ω to the bars too."""
    if isinstance(cov, Known) and cov.within is None:
        return replace(cov, within=_structure(partition))
    return cov or _structure(partition)


def _structure(partition: tuple[tuple[int, ...], ...]) -> Covariance:
    """The named structure of a formula's blocks of correlated effects."""
    if len(partition) == 1:
        return un() if len(partition[0]) > 1 else scalar()
    return diag() if all(len(block) == 1 for block in partition) else blocks(partition)


class Design:
    """Kernels already built on a design, by name: shared by all models that differ in y only."""

    __slots__ = ("kernels",)

    def __init__(self) -> None:
        self.kernels: dict[str, Any] = {}


def as_response(y: Any) -> np.ndarray:
    """y as a float vector; DataError where it is not one-dimensional, finite and varying."""
    try:
        y = np.asarray(y, float)
    except (TypeError, ValueError):
        raise DataError("y is not numeric. Pass numbers.") from None
    if y.ndim != 1 or len(y) < 2:
        raise DataError(f"y has shape {y.shape}; it must be a vector of at least 2 values.")
    if not np.isfinite(y).all():
        bad = np.flatnonzero(~np.isfinite(y))
        raise DataError(
            f"y is {y[bad[0]]} in row {bad[0]} ({len(bad)} values are not finite). Remove or impute such rows."
        )
    if np.ptp(y) == 0:
        raise DataError(f"y is constant ({y[0]:g} in all {len(y)} rows): there is no variance to take apart.")
    return np.ascontiguousarray(y)


def full_rank(X: np.ndarray, names: list[str], rank: str) -> tuple[np.ndarray, list[str], list[str]]:
    """X without the columns that are combinations of earlier ones; one warning names them, or an error."""
    scale = np.linalg.norm(X, axis=0)
    if (scale == 0).any():
        scale = np.where(scale == 0, 1.0, scale)
    n, d = X.shape
    if d <= n:
        R = np.linalg.qr(X / scale, mode="r")
        if np.abs(np.diag(R)).min(initial=np.inf) > RANK_TOLERANCE:
            return X, names, []
    Q, keep, drop = np.empty((n, 0)), [], []
    for j in range(d):
        x = X[:, j] / scale[j]
        for _ in range(2):
            x = x - Q @ (Q.T @ x)
        size = np.linalg.norm(x)
        if size > RANK_TOLERANCE:
            keep.append(j)
            Q = np.column_stack([Q, x / size])
        else:
            drop.append(j)
    if not drop:
        return X, names, []
    said = ", ".join(f"`{names[j]}`" for j in drop)
    message = f"`X` has rank {len(keep)} but {d} columns: {said} is a combination of the others"
    if rank == "error":
        raise ModelError(message + '. Leave it out, or pass `rank="drop"`.')
    warnings.warn(message + ' and was dropped. Pass `rank="error"` to stop here.', UserWarning, stacklevel=4)
    return np.ascontiguousarray(X[:, keep]), [names[j] for j in keep], [names[j] for j in drop]


def _column_name(X: np.ndarray, j: int) -> str:
    return "(Intercept)" if j == 0 and (X[:, 0] == 1).all() else f"x{j + 1 if not (X[:, 0] == 1).all() else j}"


def _is_identity(Z: np.ndarray | None) -> bool:
    """One non-zero a row, one a column, all of one size: Z Zᵀ is a multiple of I."""
    if Z is None or Z.shape[0] != Z.shape[1]:
        return False
    filled = Z != 0
    return bool((filled.sum(0) == 1).all() and (filled.sum(1) == 1).all() and np.ptp(np.abs(Z[filled])) < 1e-12)
