"""What the estimates owe to groups of rows: each deleted at the θ of the whole fit, exactly and without refits.

Deleting the rows S is adding a column for each of them to X (E_S, columns of I). With g = V⁻¹(y − Xβ̂) = Py:

    F = E_SᵀV⁻¹E_S,   A = XᵀV⁻¹X,   A_(S) = A − XᵀV⁻¹E_S F⁻¹ E_SᵀV⁻¹X = X_(S)ᵀV_(S)⁻¹X_(S)
    β̂ − β̂_(S) = A_(S)⁻¹ XᵀV⁻¹E_S F⁻¹ g_S = A⁻¹ XᵀV⁻¹E_S (E_SᵀPE_S)⁻¹ E_SᵀPy
    û − û_(S) = GZᵀPE_S (E_SᵀPE_S)⁻¹ E_SᵀPy

    Cook's distance  δᵀAδ/d,  δ = β̂ − β̂_(S)            MDFFITS  δᵀA_(S)δ/d
    COVRATIO  |A_(S)⁻¹|/|A⁻¹|                            COVTRACE  |tr(A A_(S)⁻¹) − d|
    DFBETAS  δ_j/√(A_(S)⁻¹)_jj

(Christensen, Pearson & Johnson 1992; Demidenko & Stukel 2005; Loy & Hofmann 2014). θ's own change is one step from θ̂:
Cov(θ̂) times the score of the rows that stay, at θ̂, which P_(S) = P − PE_S(E_SᵀPE_S)⁻¹E_SᵀP gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import DataError, MethodError, did_you_mean
from vcbench.inference.blups import errors_of, index_of
from vcbench.inference.deletion import columns_of, deletions, refit, theta_steps
from vcbench.inference.equations import Equations

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 12_000  # rows of one group


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """Deletion of each group of rows. `change` (groups, d) is β̂ − β̂_(S), `information` (groups, d, d) is A_(S), both in
    the columns of X; NaN where the rows that stay do not determine β."""

    fit: Any = field(repr=False)
    by: str
    labels: tuple[Any, ...]
    rows: tuple[np.ndarray, ...] = field(repr=False)
    beta_information: np.ndarray = field(repr=False)  # A (d, d)
    change: np.ndarray = field(repr=False)
    information: np.ndarray = field(repr=False)

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a group: n_rows, cooks_distance, mdffits, covratio, covtrace."""
        import pandas as pd

        A, d = self.beta_information, len(self.beta_information)
        delta = self.change
        out = {
            "n_rows": [len(rows) for rows in self.rows],
            "cooks_distance": np.einsum("gi,ij,gj->g", delta, A, delta) / d,
            "mdffits": np.einsum("gi,gij,gj->g", delta, self.information, delta) / d,
        }
        size = np.sqrt(np.diag(A))  # determinants and traces do not care for the units of X
        within = self.information / np.outer(size, size)
        ratio, trace = np.full(len(delta), np.nan), np.full(len(delta), np.nan)
        known = np.isfinite(within).all(axis=(1, 2))
        if known.any():
            whole = A / np.outer(size, size)
            ratio[known] = np.linalg.det(whole) / np.linalg.det(within[known])
            trace[known] = np.abs(np.trace(np.linalg.solve(within[known], whole), axis1=1, axis2=2) - d)
        return pd.DataFrame({**out, "covratio": ratio, "covtrace": trace}, index=self._index())

    @property
    def beta(self) -> "pd.DataFrame":
        """β̂_(S) at the θ of the whole fit: one row a group. (β̂ here is the GLS estimate at that θ.)"""
        import pandas as pd

        gls = self._gls()
        return pd.DataFrame(gls - self.change, index=self._index(), columns=list(self.fit.facts.beta_names))

    @property
    def dfbetas(self) -> "pd.DataFrame":
        """(β̂ − β̂_(S))_j in standard errors of β̂_(S)j: one row a group."""
        import pandas as pd

        out = np.full(self.change.shape, np.nan)
        for i, (delta, A) in enumerate(zip(self.change, self.information, strict=True)):
            if np.isfinite(A).all():
                out[i] = delta / np.sqrt(np.diag(_inverse(A)))
        return pd.DataFrame(out, index=self._index(), columns=list(self.fit.facts.beta_names))

    @property
    def theta(self) -> "pd.DataFrame":
        """θ̂_(S) in one step from θ̂: one row a group, raw (a variance may come out negative), parameters on the boundary
        where they are. O(n²) for all groups together. MethodError for more than 20,000 rows, and for a fit that
        maximises no likelihood."""
        import pandas as pd

        steps = theta_steps(self.fit, self.rows)
        columns = list(self.fit.facts.theta_names)
        return pd.DataFrame(self.fit.theta_values + steps, index=self._index(), columns=columns)

    def ranef(self, label: Any) -> "dict[str, pd.DataFrame]":
        """BLUPs without the group `label`, at the θ of the whole fit, laid out as `fit.ranef()`."""
        import pandas as pd

        rows = self.rows[self._find(label)]
        model = self.fit.model
        at = Equations.at(model, self.fit.theta_values)
        g = at.project(self._response())
        E = columns_of(rows, model.n_obs)
        PE = at.project(E)
        without = g - PE @ np.linalg.solve(PE[rows], g[rows])
        out = {}
        for k, c in enumerate(model.components):
            u = at.effects(k, without[:, None])[..., 0]
            out[c.name] = pd.DataFrame(u, index=index_of(c, len(u)), columns=list(c.effects))
        return out

    def refit(self, labels: Sequence[Any] | None = None) -> "pd.DataFrame":
        """Full refits without each group (or those of `labels`): θ̂_(S), β̂_(S), loglik, status, message.

        From θ̂ where it lies inside its space. A refit that cannot be is a row of NaN with its reason.
        """
        import pandas as pd

        chosen = range(len(self.labels)) if labels is None else [self._find(label) for label in labels]
        table = [refit(self.fit, self.rows[i]) for i in chosen]
        return pd.DataFrame(table, index=pd.Index([self.labels[i] for i in chosen], name=self.by))

    def _gls(self) -> np.ndarray:
        at = Equations.at(self.fit.model, self.fit.theta_values)
        return at.beta_cov @ (at.VinvX.T @ self._response())

    def _response(self) -> np.ndarray:
        model = self.fit.model
        return model.y if model.offset is None else model.y - model.offset

    def _index(self) -> "pd.Index":
        import pandas as pd

        return pd.Index(list(self.labels), name=self.by)

    def _find(self, label: Any) -> int:
        known = [str(v) for v in self.labels]
        if str(label) not in known:
            raise MethodError(f"no group `{label}` of `{self.by}`.{did_you_mean(str(label), known)}")
        return known.index(str(label))


def influence(fit: Any, by: Any = None) -> Influence:
    """Deletion of each row (`by` None), of each level of a component with groups, or of each value of n labels."""
    model = fit._need_model("influence()")
    name, labels, codes = _groups(model, by)
    errors = errors_of(fit, "influence()")
    order = np.argsort(codes, kind="stable")
    rows = tuple(np.split(order, np.cumsum(np.bincount(codes, minlength=len(labels)))[:-1]))
    largest = max(len(r) for r in rows)
    if largest > LARGEST:
        raise MethodError(f"a group of `{name}` has {largest} rows; influence is worked out up to {LARGEST}.")
    change, kept = deletions(errors, rows)
    Ti = np.linalg.inv(errors.basis.T)
    H = np.linalg.inv(errors.H)
    T = errors.basis.T
    return Influence(fit, name, labels, rows, T.T @ (H.T @ H) @ T, change @ Ti.T, T.T @ kept @ T)


def _groups(model: Any, by: Any) -> tuple[str, tuple[Any, ...], np.ndarray]:
    """(what the groups are, their labels, codes (n,))."""
    n = model.n_obs
    if by is None:
        return "row", tuple(range(n)), np.arange(n)
    names = [c.name for c in model.components]
    if isinstance(by, str):
        if by not in names:
            raise MethodError(
                f"`by` names `{by}`, which is no component.{did_you_mean(by, names)} Pass the column's {n} values for "
                "groups that the model does not have."
            )
        c = model.components[names.index(by)]
        if c.codes is None:
            raise MethodError(f"component `{by}` has no groups of rows. Pass `by=None` for single rows, or {n} labels.")
        seen, codes = np.unique(c.codes, return_inverse=True)
        return by, tuple(c.levels[i] for i in seen), codes.ravel()
    import pandas as pd

    labels = np.asarray(by)
    if labels.shape != (n,):
        raise DataError(f"`by` has shape {labels.shape}; it must be a label for each of the {n} rows used.")
    codes, levels = pd.factorize(labels, sort=True)
    if (codes < 0).any():
        raise DataError(f"`by` is missing in row {int(np.flatnonzero(codes < 0)[0])}.")
    name = getattr(by, "name", None)
    return str(name) if name else "group", tuple(levels), codes


def _inverse(A: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.diag(A))
    return np.linalg.inv(A / np.outer(size, size)) / np.outer(size, size)
