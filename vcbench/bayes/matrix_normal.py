"""Several traits of units that are related by one matrix, every unit with all of them: blocks in the eigenbasis.

    V = G ⊗ K + R ⊗ I,     K = U diag(d) Uᵀ (n, n),  G and R (T, T),  rows of the data unit by unit and trait by trait

Every trait turned by Uᵀ, the units are independent with covariances W_i = d_i G + R, so that with u_i (T, d+1) the rows
of [Q y] of turned unit i

    log|V| = Σ_i log|W_i|,      [Q y]ᵀV⁻¹[Q y] = Σ_i u_iᵀW_i⁻¹u_i = Σ_{a ≥ b} Σ_i (W_i⁻¹)_ab c_ab,i

with the products c_ab,i = u_i,a u_i,bᵀ (and u_i,b u_i,aᵀ for a ≠ b) taken once: X may differ between the traits. K is
that of the units, ZAZᵀ of the levels of A that they belong to: levels without records, or with several, change nothing.
The density is that of Zhou & Stephens (2014), Nature Methods 11, 407–409.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.bayes.closed_form import ClosedForm, products
from vcbench.bayes.reduced import SMALL, SPECTRAL, invert, lower_triangle
from vcbench.errors import ModelError
from vcbench.model.component import Component
from vcbench.model.model import Model
from vcbench.model.structures import Family, Heterogeneous, Unstructured

ALIKE = 1e-5  # spread of eigenvalues, to their mean, that an information matrix shows as its square
MOST_NUMBERS = 20_000_000  # products kept: beyond it a factorisation of V by its own kernel is no dearer


@dataclass(frozen=True, slots=True, eq=False)
class MatrixNormal(ClosedForm):
    """The likelihood of a model of T ≤ 4 traits on one relationship matrix, for one response.

    rows (n/T, T): where trait a of each unit stands in the data. values (n/T,) and vectors: K of the units. sums:
    cross (g, P n/T), the c_ab,i by pairs of columns, one pair of traits after the other.
    """

    rows: np.ndarray = field(kw_only=True, repr=False)
    values: np.ndarray = field(kw_only=True, repr=False)
    vectors: np.ndarray = field(kw_only=True, repr=False)

    @staticmethod
    def why_not(model: Model) -> str | None:
        """What keeps a model from this form, in words; None where it takes it."""
        if len(model.components) != 1:
            return f"{len(model.components)} random terms"
        (c,), (part,), noise = model.components, model.working.parts, model.noise
        T = c.n_effects
        if c.relation is None or c.codes is None or T < 2:
            return "no effects of several traits on a relationship matrix"
        if part.family is not None or part.value is not None:
            return f"covariance `{c.cov.kind}` of `{c.name}`"  # type: ignore[union-attr]
        if noise.has_nugget or noise.weights is not None or not _is_by_trait(noise.family):
            return f"residual `{model.residual}`"
        if T > SMALL:
            return f"{T} traits"
        rows = _units(model, c)
        if rows is None:
            return "units that do not have every trait once"
        d, P = model.n_fixed, T * (T + 1) // 2
        if max(len(rows), c.relation.m) > SPECTRAL or (d + 1) * (d + 2) // 2 * P * len(rows) > MOST_NUMBERS:
            return f"{len(rows)} units of {c.relation.m} levels, {d} fixed effects"
        return None

    @classmethod
    def of(cls, model: Model) -> "MatrixNormal":
        """The statistics of a model for which `why_not` finds nothing.

        Raises ModelError where K is a multiple of I, so that no data could tell G from R.
        """
        (c,) = model.components
        rows = _units(model, c)
        assert rows is not None
        assert c.codes is not None
        level = c.codes[rows[:, 0]]
        values, vectors = np.linalg.eigh(c.relation.matrix[np.ix_(level, level)])  # type: ignore[union-attr]
        values = np.maximum(values, 0.0)  # rounding
        if values.std() <= ALIKE * values.mean():
            raise ModelError(
                f"the variances of `{c.name}` and of the residuals cannot be told apart by these data: no two units "
                "are related, none by more than others to itself. Leave the random term out, or collect records of "
                "relatives."
            )
        return cls(*cls.design(model), rows=rows, values=values, vectors=vectors).bound(model)

    @property
    def n_traits(self) -> int:
        """T."""
        return self.rows.shape[1]

    def statistics(self, U: np.ndarray) -> dict[str, np.ndarray]:
        """The products of the turned rows."""
        turned = [self.vectors.T @ U[self.rows[:, a]] for a in range(self.n_traits)]
        low = np.tril_indices(U.shape[1])
        parts = []
        for a, b in lower_triangle(self.n_traits):
            own = products(turned[a], turned[b], low)
            parts.append(own if a == b else own + products(turned[b], turned[a], low))
        return {"cross": np.ascontiguousarray(np.concatenate(parts).T)}

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """Eigenvalues of K."""
        return {"values": self.values}

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        (part,), family = self.model.working.parts, self.model.noise.family
        own = part.index, tuple(part.linear.tolist()), self._code
        return "matrix normal", self.n_traits, self.n_fixed, type(family).__name__, own

    @property
    def size(self) -> str:
        """In words."""
        T, (c,) = self.n_traits, self.model.components
        return (
            f"{T} traits of {len(self.rows)} units fall into blocks of {T} × {T} in the eigenbasis of `{c.name}`, the "
            "random effects integrated out"
        )

    @property
    def _code(self) -> tuple[int, ...]:
        """The level of the residual structure of each trait."""
        return tuple(self.model.noise.family.codes[self.rows[0]].tolist())  # type: ignore[attr-defined]

    def parts(self, w: Any, d: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """See `ClosedForm.parts`."""
        T, pairs = self.n_traits, lower_triangle(self.n_traits)
        G, R = self._matrices(w, xp)
        W = {p: d["values"] * G[p] + R[p] if p in G else R[p] + 0 * d["values"] for p in pairs}
        logdet, inverse = invert(W, T, xp.sqrt, xp.log)
        return logdet.sum(), xp.dot(d["cross"], xp.concatenate([inverse[p] for p in pairs]))

    def _matrices(self, w: Any, xp: Any) -> tuple[dict, dict]:
        """Lower triangles of G (what may differ from 0) and R at w, by trait."""
        work = self.model.working
        (part,) = work.parts
        G = {(max(p), min(p)): w[int(at)] for p, at in zip(part.index, part.linear, strict=True)}
        C = _correlated(self.model.noise.family, list(w[work.residual_phi]), xp)
        code = self._code
        R = {}
        for a, b in lower_triangle(self.n_traits):
            i, j = max(code[a], code[b]), min(code[a], code[b])
            R[a, b] = w[-1] * C[i, j]
        return G, R

    def loglik(self, theta: np.ndarray, criterion: str, beta: np.ndarray | None = None) -> np.ndarray:
        """As `ClosedForm.loglik`; −∞ where V is not PD, which it may be or not where G is not."""
        rows = np.atleast_2d(np.asarray(theta, float))
        good = np.array([self._is_definite(self.model.working.w(t)) for t in rows])
        out = np.full(len(rows), -np.inf)
        out[good] = ClosedForm.loglik(self, rows[good], criterion, beta)
        return out

    def _is_definite(self, w: np.ndarray) -> bool:
        """Whether d G + R is at the least and the largest d, and so between them."""
        G, R = self._matrices(w, np)
        for value in self.values[[0, -1]]:
            W = np.zeros((self.n_traits, self.n_traits))
            for p in R:
                W[p] = W[p[::-1]] = value * G.get(p, 0.0) + R[p]
            if not np.linalg.eigvalsh(W)[0] > 0:
                return False
        return True


def _is_by_trait(family: Family) -> bool:
    """Whether residuals of one unit have a free covariance matrix over levels, or a variance by level."""
    return type(family) is Unstructured or (type(family) is Heterogeneous and type(family.inner) is Family)


def _units(model: Model, c: Component) -> np.ndarray | None:
    """Rows of the data of each unit by trait (n/T, T); None where a unit has not every trait once, and one level.

    Residuals that are independent name no units: the first records of a level's traits are one, then the second ones.
    """
    T, family, level = c.n_effects, model.noise.family, c.codes
    assert c.Z is not None
    assert level is not None
    assert isinstance(family, Unstructured | Heterogeneous)
    trait = c.Z.argmax(axis=1)
    if model.n_obs % T or not np.array_equal(c.Z, np.eye(T)[trait]):
        return None
    unit = model.noise.units
    if family.is_diagonal:
        key = level * T + trait
        order = np.argsort(key, kind="stable")
        nth = np.empty(len(key), int)
        nth[order] = np.arange(len(key)) - np.searchsorted(key[order], key[order])
        unit = level * len(key) + nth
    rows = np.lexsort((trait, unit)).reshape(-1, T)
    code = family.codes[rows]
    alike = (unit[rows] == unit[rows[:, :1]]).all() and (level[rows] == level[rows[:, :1]]).all()
    if not alike or (trait[rows] != np.arange(T)).any() or (code != code[0]).any():
        return None
    return rows if sorted(code[0]) == list(range(family.n_levels)) else None


def _correlated(family: Family, phi: Sequence[Any], xp: Any) -> dict[tuple[int, int], Any]:
    """The lower triangle of R/σ² at φ, by level (`structures.Unstructured`, `structures.Heterogeneous`)."""
    assert isinstance(family, Unstructured | Heterogeneous)
    m = family.n_levels
    if isinstance(family, Heterogeneous):
        sd = [1.0, *(xp.exp(f) for f in phi)]
        return {(a, b): sd[a] ** 2 if a == b else 0.0 for a, b in lower_triangle(m)}
    own = dict(zip([(i, j) for j in range(m) for i in range(j, m)][1:], phi, strict=True))
    L: dict[tuple[int, int], Any] = {(0, 0): 1.0}
    for i in range(1, m):
        L[i, i] = xp.exp(own[i, i])
        L |= {(i, j): L[i, i] * own[i, j] for j in range(i)}
    return {(a, b): sum(L[a, k] * L[b, k] for k in range(b + 1)) for a, b in lower_triangle(m)}
