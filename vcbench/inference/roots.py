"""Coordinates without edges: Ω = LLᵀ and σ² = s², in which a likelihood is smooth over variances of 0.

    x = θ/scale (w/scale where the model has structures; `Layout.scale`)      r: L of every cone, φ as it is, s
    x_i = ½ rᵀB_i r  (φ: x_i = r_i)       J = ∂x/∂r       ∇_r ℓ = Jᵀ s       −∇²_r ℓ = Jᵀ I J − Σ_i s_i B_i

s and I are the kernel's score and observed information in x. A variance of 0 with a negative score is a strict maximum
in r, of second order like any other: the signs of a column of L are free, so that the edge is a mirror and no wall.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from vcbench.solvers.solve import climbing

ZERO = 1e-9  # of a variance: a remainder of Ω's Cholesky factor below it is rounding, and the factor's diagonal is 0
FAR, FARTHER = 1e12, 1e24  # factors on variances at the corners of the parameter space
MOST_CORNERS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Roots:
    """The map r → x of one layout. `first`: effects whose rows of L come first, so that their SDs and correlation are
    single coordinates. `diagonal` (n_effects + 1,): where L_aa sits in r, σ's last."""

    B: np.ndarray = field(repr=False)  # (p, p, p)
    linear: np.ndarray = field(repr=False)  # (p,) 1 for φ, else 0
    unit: np.ndarray = field(repr=False)  # diag(linear)
    scale: np.ndarray
    cones: tuple[np.ndarray, ...]  # (k, k) each: place in r of L_ij, and of Ω_ij
    diagonal: np.ndarray

    @classmethod
    def of(cls, layout: Any, first: Sequence[int] = ()) -> "Roots":
        """The coordinates of a `Layout`, θ or w."""
        p = len(layout.scale)
        where = {}
        for j, (a, b) in enumerate(zip(layout.pa.tolist(), layout.pb.tolist(), strict=True)):
            where[a, b] = where[b, a] = j
        cones = []
        for lo, hi in zip(layout.cone_ptr[:-1].tolist(), layout.cone_ptr[1:].tolist(), strict=True):
            effects = layout.cone_effects[lo:hi].tolist()
            effects = [a for a in first if a in effects] + [a for a in effects if a not in first]
            cones.append(np.array([[where[a, b] for b in effects] for a in effects]))
        cones.append(np.array([[p - 1]]))
        B, linear, diagonal = np.zeros((p, p, p)), np.ones(p), np.empty(len(layout.q) + 1, int)
        for at in cones:
            for i in range(len(at)):
                for j in range(i + 1):
                    linear[at[i, j]] = 0.0
                    for k in range(j + 1):
                        B[at[i, j], at[i, k], at[j, k]] += 1.0
                        B[at[i, j], at[j, k], at[i, k]] += 1.0
        for j, (a, b) in enumerate(zip(layout.pa.tolist(), layout.pb.tolist(), strict=True)):
            if a == b:
                diagonal[a] = j
        diagonal[-1] = p - 1
        return cls(B, linear, np.diag(linear), layout.scale, tuple(cones), diagonal)

    def x(self, r: np.ndarray) -> np.ndarray:
        """x at r."""
        return 0.5 * (self.B @ r) @ r + self.linear * r

    def jacobian(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x, J = ∂x/∂r)."""
        J = self.B @ r
        return 0.5 * J @ r + self.linear * r, J + self.unit

    def bend(self, s: np.ndarray) -> np.ndarray:
        """Σ_i s_i ∂²x_i/∂r∂rᵀ."""
        p = len(s)
        return (s @ self.B.reshape(p, p * p)).reshape(p, p)

    def of_x(self, x: np.ndarray) -> np.ndarray:
        """r of x: Cholesky factors with diagonals ≥ 0; a singular Ω has zeros on its factor's diagonal."""
        r = x * self.linear
        for at in self.cones:
            k = len(at)
            rest, L = x[at], np.zeros((k, k))
            size = np.diag(rest).copy()
            for j in range(k):
                if rest[j, j] > ZERO * size[j]:
                    L[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
                    rest = rest - np.outer(L[:, j], L[:, j])
            rows, columns = np.tril_indices(k)
            r[at[rows, columns]] = L[rows, columns]
        return r


@dataclass(slots=True, eq=False)
class At:
    """ℓ, its gradient and minus its Hessian at r."""

    r: np.ndarray
    loglik: float
    gradient: np.ndarray
    H: np.ndarray


class Likelihood:
    """ℓ as a function of r: a kernel under one criterion, seen through `Roots`. Evaluations are counted in `n_eval`.

    H is exact (observed information), or the average information where the kernel calls the observed dear.
    """

    __slots__ = ("criterion", "exact", "kernel", "maps", "n_eval", "need", "roots", "units", "view")

    def __init__(self, kernel: Any, criterion: str, roots: Roots | None = None) -> None:
        self.kernel, self.criterion, self.n_eval = kernel, criterion, 0
        self.view = climbing(kernel)
        self.maps = getattr(self.view, "maps", None)
        self.roots = Roots.of(self.view.layout) if roots is None else roots
        dear = getattr(kernel, "standard_information", getattr(self.view, "stop_information", "observed")) == "average"
        self.exact = not dear
        self.need = ("score", "average") if dear else ("score", "expected", "average")
        self.units = np.outer(self.roots.scale, self.roots.scale)

    def w(self, r: np.ndarray) -> np.ndarray:
        """The solvers' coordinates (θ without structures) at r."""
        return self.roots.x(r) * self.roots.scale

    def theta(self, r: np.ndarray) -> np.ndarray:
        """θ, natural, at r."""
        w = self.w(r)
        return w if self.maps is None else self.maps.theta(self.maps.inside(w))

    def r(self, theta: np.ndarray) -> np.ndarray:
        """r of θ."""
        w = np.asarray(theta, float) if self.maps is None else self.maps.w(theta)
        return self.roots.of_x(w / self.roots.scale)

    def at(self, r: np.ndarray) -> At | None:
        """ℓ and its derivatives; None where V is not positive definite."""
        self.n_eval += 1
        x, J = self.roots.jacobian(r)
        e = self.view.evaluate(x * self.roots.scale, self.need, self.criterion)
        if e.score is None or not np.isfinite(e.loglik):
            return None
        return At(r, e.loglik, *self.pulled(e, J))

    def pulled(self, e: Any, J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(gradient, H) in r of an evaluation in w."""
        score = e.score * self.roots.scale
        information = (e.observed if self.exact else e.average) * self.units
        return J.T @ score, J.T @ information @ J - self.roots.bend(score)

    def natural(self, r: np.ndarray, jet: tuple[float, np.ndarray, np.ndarray]) -> tuple[float, np.ndarray, np.ndarray]:
        """(g, ∇g, ∇²g) in r of a function with this jet in θ."""
        g, gradient, hessian = jet
        x, J = self.roots.jacobian(r)
        if self.maps is not None:
            w = self.maps.inside(x * self.roots.scale)
            _, D = self.maps.theta_jacobian(w)
            hessian = D.T @ hessian @ D + self.maps.theta_curvature(w, gradient)
            gradient = D.T @ gradient
        gradient, hessian = gradient * self.roots.scale, hessian * self.units
        return g, J.T @ gradient, J.T @ hessian @ J + self.roots.bend(gradient)

    def jacobian(self, r: np.ndarray) -> np.ndarray:
        """∂θ/∂r."""
        x, J = self.roots.jacobian(r)
        J = self.roots.scale[:, None] * J
        return J if self.maps is None else self.maps.theta_jacobian(x * self.roots.scale)[1] @ J

    def _alone(self, at: int) -> tuple[int, float] | None:
        """(place in r, ∂θ/∂w) where θ[at] is a function of one coordinate of w."""
        if self.maps is None:
            return at, 1.0
        probe = np.ones(len(self.roots.scale))
        probe[self.roots.linear > 0] = np.random.default_rng(0).uniform(0.2, 0.4, int(self.roots.linear.sum()))
        row = self.maps.theta_jacobian(probe)[1][at]
        j = int(np.argmax(np.abs(row)))
        return (j, float(row[j])) if np.count_nonzero(row) == 1 else None

    def single(self, at: int) -> int | None:
        """The effect whose variance (the last: σ²) is θ[at] itself; None where θ[at] is something else."""
        found = self._alone(at)
        if found is None or found[1] != 1.0 or self.roots.linear[found[0]]:
            return None
        effect = np.flatnonzero(self.roots.diagonal == found[0])
        return int(effect[0]) if len(effect) else None

    def single_phi(self, at: int) -> int | None:
        """The place in r of the one φ of which θ[at] is an increasing function; None where there is none."""
        found = self._alone(at)
        return found[0] if found is not None and self.roots.linear[found[0]] and found[1] > 0 else None

    def phi_limit(self, j: int) -> float:
        """|φ| at the edge of its range, for a place in r."""
        return float(self.maps.limits()[j - len(self.view.layout.pa)])  # type: ignore[union-attr]

    def corners(self, r: np.ndarray, matters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(near, far): θ at corners of the parameter space, (m, p) each, for the extremes of a function of θ.

        Every variance that `matters` (θ's mask) at 0, as it is, and at FAR (FARTHER) times that; correlations of pairs
        at ±1; φ at its limits.
        """
        lay, x = self.view.layout, self.roots.x(r)
        p, n_pairs = len(x), len(lay.pa)
        if self.maps is not None:
            D = self.maps.theta_jacobian(self.w(r))[1]
            matters = (D[matters] != 0).any(axis=0)
        own = [a for a, j in enumerate(self.roots.diagonal) if matters[j] or
               any(matters[q] for q in range(n_pairs) if a in (lay.pa[q], lay.pb[q]))]  # fmt: skip
        smooth = [j for j in range(n_pairs, p - 1) if matters[j]]
        limits = self.maps.limits() if self.maps is not None else np.zeros(0)
        pairs = [c for c in self.roots.cones if len(c) == 2 and matters[c[1, 0]]]
        choices: list[list[tuple[str, int, float]]] = [[("size", a, f) for f in (0.0, 1.0, FAR)] for a in own]
        choices += [[("phi", j, v) for v in (-limits[j - n_pairs], x[j], limits[j - n_pairs])] for j in smooth]
        choices += [[("pair", k, v) for v in (-1.0, np.nan, 1.0)] for k in range(len(pairs))]
        if 3 ** len(choices) > MOST_CORNERS:  # one at a time, and the two extremes of all variances
            plans: list[tuple[tuple[str, int, float], ...]] = [(c,) for one in choices for c in one]
            plans += [tuple(one[i] for one in choices if one[0][0] == "size") for i in (0, 2)]
        else:
            plans = list(product(*choices))
        base = x.copy()
        zero = self.roots.diagonal[x[self.roots.diagonal] <= 0]
        base[zero] = 1.0
        near: list[np.ndarray] = []
        far: list[np.ndarray] = []
        for factor, out in ((FAR, near), (FARTHER, far)):
            for plan in plans:
                out.append(self._corner(base, plan, factor, pairs))
        return np.array(near), np.array(far)

    def _corner(
        self, base: np.ndarray, plan: Sequence[tuple[str, int, float]], factor: float, pairs: Any
    ) -> np.ndarray:
        lay, x, size = self.view.layout, base.copy(), np.ones(len(self.roots.diagonal))
        for what, j, v in plan:
            if what == "size":
                size[j] = factor if v == FAR else v
            elif what == "phi":
                x[j] = v
            elif not np.isnan(v):
                at = pairs[j]
                x[at[1, 0]] = v * np.sqrt(x[at[0, 0]] * x[at[1, 1]])
        x[: len(lay.pa)] *= np.sqrt(size[lay.pa] * size[lay.pb])
        x[-1] *= size[-1]
        w = x * self.roots.scale
        with np.errstate(over="ignore", invalid="ignore"):
            return w if self.maps is None else self.maps.theta(w)
