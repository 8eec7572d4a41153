"""Structures of the residual covariance R(θ), said by column labels, never by row order.

    vc.residual.ar1("visit", group="subject")            "ar1(visit, group=subject)"
    vc.residual.ar1("row") * vc.residual.ar1("col") + vc.residual.nugget()

`*` is the Kronecker product by labels (missing cells are left out), `+ nugget()` adds independent noise. Labels are
columns of the data, or arrays when the model is given by arrays. `group` names the units: rows of different units are
independent; without it all rows are one unit. In cards and on the command line the same expression is a string
(`parse_residual`); `factor(x)` there takes a number's values as ordered levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vcbench.errors import ModelError

NEEDS_TIME = ("un", "toeplitz", "toeplitz_h", "banded", "ar1", "ar1h", "arma11", "ma", "ante1", "csh")


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """One residual structure as it is said: `kind`, its label columns, the units, and what it is made of."""

    kind: str = "iid"
    labels: tuple[Any, ...] = ()
    group: Any = None
    order: int = 0
    parts: tuple["Residual", ...] = ()
    separate: bool = False
    has_nugget: bool = False

    def __mul__(self, other: "Residual") -> "Residual":
        if not isinstance(other, Residual):
            raise ModelError(f"a residual structure is multiplied by {other!r}; the other factor must be one too.")
        if self.has_nugget or other.has_nugget:
            raise ModelError("a nugget is added to a product, not multiplied: write a * b + nugget().")
        return Residual("product", parts=(self, other))

    def __add__(self, other: "Residual") -> "Residual":
        if isinstance(other, Residual) and other.kind == "nugget":
            return replace(self, has_nugget=True)
        if isinstance(other, Residual) and self.kind == "nugget":
            return replace(other, has_nugget=True)
        raise ModelError("only `nugget()` can be added to a residual structure; multiply structures with `*`.")

    @property
    def is_plain(self) -> bool:
        """True for σ²I, or σ²/w with known weights: V is linear in θ."""
        return self.kind in ("iid", "weights") and not self.has_nugget

    def __str__(self) -> str:
        if self.kind == "product":
            text = " * ".join(str(p) for p in self.parts)
        else:
            inside = [_said(a) for a in self.labels]
            inside = [*([str(self.order)] if self.order else []), *inside, *(str(p) for p in self.parts)]
            inside += [f"group={_said(self.group)}"] if self.group is not None else []
            inside += ["separate=True"] if self.separate else []
            text = f"{self.kind}({', '.join(inside)})" if inside else self.kind
        return text + (" + nugget" if self.has_nugget else "")


def _said(label: Any) -> str:
    """A label as it is written: a column's name, factor(column), or … for values."""
    return label if isinstance(label, str) else f"factor({label.label})" if hasattr(label, "label") else "…"


def iid() -> Residual:
    """R = σ² I."""
    return Residual()


def weights(w: Any) -> Residual:
    """R = σ² diag(1/w): known weights, such as the number of replicates that a value is the mean of."""
    return Residual("weights", (w,))


def cs(label: Any = None, *, group: Any = None) -> Residual:
    """Compound symmetry: R_ij = σ²ρ for two rows of one unit; −1/(m−1) < ρ < 1. θ: var, rho."""
    return Residual("cs", () if label is None else (label,), group)


def csh(time: Any, *, group: Any = None) -> Residual:
    """Compound symmetry with a variance for each level of `time`. θ: var(level) …, rho."""
    return Residual("csh", (time,), group)


def un(time: Any, *, group: Any = None) -> Residual:
    """Unstructured over the levels of `time`. θ: var(level), cov(level,level): the lower triangle by column."""
    return Residual("un", (time,), group)


def un_cor(time: Any, *, group: Any = None) -> Residual:
    """Every correlation between levels of `time` free, one variance (nlme's corSymm). θ: var, cor(level,level) …"""
    return Residual("un_cor", (time,), group)


def toeplitz(time: Any, *, group: Any = None) -> Residual:
    """Toeplitz: one correlation for each lag. θ: var, rho1, rho2, …"""
    return Residual("toeplitz", (time,), group)


def toeplitz_h(time: Any, *, group: Any = None) -> Residual:
    """Toeplitz correlations, a variance for each level of `time`. θ: var(level) …, rho1, …"""
    return Residual("toeplitz_h", (time,), group)


def banded(k: int, time: Any, *, group: Any = None) -> Residual:
    """Toeplitz with `k` free bands beside the diagonal, 0 beyond (SAS's TOEP(k+1)): checked by Cholesky, a larger set
    than MA(k). θ: var, rho1 … rhok."""
    return Residual("banded", (time,), group, _order(k, "banded"))


def ar1(time: Any, *, group: Any = None) -> Residual:
    """AR(1): R_ij = σ²ρ^|t_i − t_j|. A factor's levels are 1, 2, 3, …; numbers count in their common gap (8, 10, 14 as
    0, 1, 3); where they have none, as they are, and then ρ > 0. θ: var, rho."""
    return Residual("ar1", (time,), group)


def ar1h(time: Any, *, group: Any = None) -> Residual:
    """AR(1) with a variance for each level of `time`. θ: var(level) …, rho."""
    return Residual("ar1h", (time,), group)


def arma11(time: Any, *, group: Any = None) -> Residual:
    """ARMA(1,1): correlation γρ^(lag−1). θ: var, rho, gamma."""
    return Residual("arma11", (time,), group)


def ma(q: int, time: Any, *, group: Any = None) -> Residual:
    """Moving average of order q. θ: var, rho1 … rhoq (autocorrelations)."""
    return Residual("ma", (time,), group, _order(q, "ma"))


def ante1(time: Any, *, group: Any = None) -> Residual:
    """Ante-dependence of order 1: a variance a level, a correlation a step. θ: var(level) …, rho1 …"""
    return Residual("ante1", (time,), group)


def exponential(*coordinates: Any, group: Any = None) -> Residual:
    """exp(−d/range), d the Euclidean distance over numeric columns. θ: var, range."""
    return Residual("exponential", coordinates, group)


def gaussian(*coordinates: Any, group: Any = None) -> Residual:
    """exp(−d²/range²). θ: var, range."""
    return Residual("gaussian", coordinates, group)


def by(factor: Any, R: Residual | None = None, *, separate: bool = False) -> Residual:
    """A variance for each level of `factor`, correlations as in `R` (nlme's varIdent; default none).

    separate=True: parameters of R of their own for each level, which must be constant within units (SAS's GROUP=).
    θ: var(level) …, and R's.
    """
    inner = R or iid()
    if inner.has_nugget:
        raise ModelError("a nugget is added outside: by(f, R) + nugget().")
    return Residual("by", (factor,), parts=(inner,), separate=separate)


def nugget() -> Residual:
    """Independent noise τ²I beside a structure (ASReml's `units`); only after `+`. θ: nugget."""
    return Residual("nugget")


def _order(k: Any, kind: str) -> int:
    if not (isinstance(k, int) and k >= 1):
        raise ModelError(f"`{kind}` takes a whole order of 1 or more first, as {kind}(1, time); it was given {k!r}.")
    return k


def columns_of(spec: Residual) -> list[Any]:
    """The labels and groups that a structure names, in order."""
    found = [*spec.labels, *([] if spec.group is None else [spec.group])]
    return found + [c for part in spec.parts for c in columns_of(part)]


def groups_of(spec: Residual) -> list[Any]:
    """The unit columns that a structure names, in order."""
    found: Sequence[Any] = [] if spec.group is None else [spec.group]
    return [*found, *(g for part in spec.parts for g in groups_of(part))]
