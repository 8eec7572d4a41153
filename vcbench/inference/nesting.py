"""What a larger model adds to a smaller one, and where the smaller one lies in it: told by their covariances.

The smaller model's V_0 and its derivatives are compared with the larger model's V_1 on a few random vectors B, so that
a model is found in another whatever its terms are called: (1 | w) + (1 | w:m) in (0 + m | w), cs in un, one term of
two.

1. The point: w* with V_1(w*)B = V_0(w_0)B, by least squares.
2. The tangent: every ∂V_0/∂w_i B must be a combination of the ∂V_1/∂w_j B, else the models only cross there.
3. The cone at w*: for each block Ω of V_1 with null space N, NᵀdΩN must stay positive semi-definite. Its entries are
   the tested parameters on the boundary; what the larger model has more beside them is free.

w are the solvers' coordinates (`model.working`): the entries of free Ω, one scale v of each structured Ω = v·C(φ), the
nugget, the φ of structures, σ².
"""

from dataclasses import dataclass, field, replace

import numpy as np

from vcbench.errors import ModelError
from vcbench.inference.equations import Residuals, Term
from vcbench.model.jets import variables
from vcbench.model.model import Model

PROBES = 4  # random vectors B
SAME = 1e-6  # ‖V_1B − V_0B‖/‖V_0B‖ up to which the covariance is the same
NEARLY = 1e-2  # the same where the larger model's correlations are at the limit of their range, which is not reached
FLAT = 1e-6  # eigenvalue of a block, as a share of V, up to which it is 0
LIFT = 0.05  # the same: where a singular block of the smaller model is put, to look at it from inside
KNOWN = 1e-6  # of the largest singular value of ∂V_1/∂w (columns of length 1): below, a parameter is not identified


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """What a larger model has more.

    n_fixed: columns of X. n_free: variance parameters that may move both ways. sizes: k of each k × k block that is 0
    under the null (1: a variance); C (m, n_w): the blocks' lower triangles as functions of dw; w: the null in the
    larger model's coordinates. on_edge: what of the smaller model is at its own boundary (the rest is told as if it
    were not).
    irregular: why no χ² mixture holds, or "".
    """

    n_fixed: int
    n_free: int
    sizes: tuple[int, ...]
    C: np.ndarray = field(repr=False)
    w: np.ndarray = field(repr=False)
    on_edge: tuple[str, ...] = ()
    irregular: str = ""

    @property
    def free(self) -> int:
        """Parameters inside their range: fixed effects and variance parameters."""
        return self.n_fixed + self.n_free

    @property
    def n_boundary(self) -> int:
        """Parameters on the boundary under the null."""
        return sum(k * (k + 1) // 2 for k in self.sizes)


def extension(model0: Model, theta0: np.ndarray, model1: Model, theta1: np.ndarray) -> Extension:
    """What model1 adds to model0 at θ̂_0; the search in model1 begins at θ̂_1.

    Raises ModelError where model0 is not model1 with fewer parameters: X_0 outside the space of X_1, V_0 not among the
    V_1, or only with a covariance matrix that is not positive semi-definite.
    """
    n_fixed = _added_columns(model0, model1)
    n = model0.n_obs
    B = np.random.default_rng(20261121).standard_normal((n, min(PROBES, n)))
    small, large = Probe.of(model0, theta0, B), Probe.of(model1, theta1, B)
    w0, on_edge = small.lifted(model0.working.w(theta0))
    target, tangent = small.value(w0), small.jacobian(w0)
    size = float(np.linalg.norm(target))
    w, gap = large.find(target, model1.working.w(theta1))
    at_limit = model1.working.at_edge(w, 0.99)
    if gap > (NEARLY if at_limit else SAME) * size:
        raise ModelError(
            "the models are not nested: no value of the larger model's variance parameters gives the smaller model's "
            f"covariance (the nearest differs by {gap / size:.2%}). Compare them by AIC or BIC."
        )
    J = large.jacobian(w)
    length = np.linalg.norm(J, axis=0)
    phi = slice(model1.working.n_linear, len(w) - 1)
    unseen = bool((length[phi] < KNOWN * size).any())
    U, s, Wt = np.linalg.svd(J / np.where(length > 0, length, 1.0), full_matrices=False)
    if gap > SAME * size or unseen or s[-1] < KNOWN * s[0]:
        why = "under the null a parameter of the larger model is not identified, or lies at the edge of its range"
        return Extension(n_fixed, 0, (), np.zeros((0, len(w))), w, on_edge, why)
    unit = tangent / np.linalg.norm(tangent, axis=0)
    along = U.T @ unit
    if np.linalg.norm(unit - U @ along, axis=0).max(initial=0.0) > 10 * SAME:
        raise ModelError(
            "the models are not nested: both can have this covariance, but the smaller one may leave it in a direction "
            "that the larger one does not have. Compare them by AIC or BIC."
        )
    steps = size * (Wt.T @ (along / s[:, None])) / length[:, None]  # dw for each way the smaller model may go
    sizes, rows = [], []
    for block in large.blocks(w, size):
        values, vectors = np.linalg.eigh(block.Omega)
        if values[0] < -FLAT:
            raise ModelError(
                "the models are not nested: to equal the smaller model, the larger one would need a covariance of "
                f"`{block.name}` that is not positive semi-definite. Compare them by AIC or BIC."
            )
        N = vectors[:, values < FLAT]
        if N.shape[1]:
            sizes.append(N.shape[1])
            rows.append(block.compressed(N, len(w)))
    C = np.vstack(rows) if rows else np.zeros((0, len(w)))
    n_free = len(w) - len(w0) - len(C)
    if n_free < 0 or np.abs(C @ steps).max(initial=0.0) > 1e-4:
        raise ModelError(
            "the models are not nested: the smaller one reaches covariances beyond the boundary of the larger one. "
            "Compare them by AIC or BIC."
        )
    return Extension(n_fixed, n_free, tuple(sizes), C, w, on_edge)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One free block of an Ω in shares of V: Ω_ab/√(u_a u_b), u the sizes that make Z_aZ_aᵀ count as V."""

    name: str
    Omega: np.ndarray
    entries: tuple[tuple[int, int, int], ...]  # position in w, row, column
    unit: np.ndarray

    def compressed(self, N: np.ndarray, n_w: int) -> np.ndarray:
        """The lower triangle of NᵀdΩN by column, as a matrix on dw."""
        out = []
        for j in range(N.shape[1]):
            for i in range(j, N.shape[1]):
                row = np.zeros(n_w)
                for at, a, b in self.entries:
                    both = N[a, i] * N[b, j] + (N[b, i] * N[a, j] if a != b else 0.0)
                    row[at] += both / np.sqrt(self.unit[a] * self.unit[b])
                out.append(row)
        return np.array(out)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """V(w)B of one model and its derivatives, as vectors. parts (n_pairs, ·): (∂V/∂τ)B of every pair of an Ω."""

    model: Model
    B: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)
    R: Residuals = field(repr=False)

    @classmethod
    def of(cls, model: Model, theta: np.ndarray, B: np.ndarray) -> "Probe":
        """A model on the vectors B (n, m); θ any valid value."""
        theta, parts = np.asarray(theta, float), []
        for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
            t = Term.of(c, Omega)
            for a, b in t.index:
                half = t.Z[a] @ t.related(t.Z[b].T @ B)
                parts.append((half if a == b else half + t.Z[b] @ t.related(t.Z[a].T @ B)).ravel())
        R = Residuals.at(model, theta)
        if R.has_nugget:
            parts.append(R.nugget(B).ravel())
        return cls(model, B, np.array(parts).reshape(len(parts), B.size), R)

    def _at(self, w: np.ndarray) -> Residuals:
        """R at w."""
        if self.R.table is None:
            return replace(self.R, sigma2=float(w[-1]))
        k = self.R.n_phi
        phi = w[self.model.working.residual_phi]
        return replace(self.R, sigma2=float(w[-1]), table=self.model.noise.family.table(variables(phi), k))

    def value(self, w: np.ndarray) -> np.ndarray:
        """V(w)B, flat."""
        tau, R = self.model.working.tau(w), self._at(w)
        step = np.zeros(R.n_phi + 1)
        step[-1] = w[-1]  # R without its nugget is σ² ∂R/∂σ²
        return tau[: len(self.parts)] @ self.parts + R.along(step, self.B).ravel()

    def jacobian(self, w: np.ndarray) -> np.ndarray:
        """(∂V/∂w)B (·, n_w)."""
        J, R = self.model.working.jacobian(w)[1], self._at(w)
        noise = [R.along(step, self.B).ravel() for step in np.eye(R.n_phi + 1)]
        return (J.T @ np.vstack([self.parts, noise])).T

    def find(self, target: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
        """(w, ‖V(w)B − target‖) nearest to a target: linear, or from `start` and from no correlation."""
        work = self.model.working
        first = self._linear(start, target)
        phi = slice(work.n_linear, work.n_w - 1)
        if phi.start == phi.stop:
            return first, float(np.linalg.norm(self.value(first) - target))
        from scipy.optimize import least_squares

        size, limits = float(np.linalg.norm(target)), np.full(work.n_w, np.inf)
        limits[phi] = work.limits()
        neutral = start.copy()
        neutral[phi] = work.smooth_start(neutral=True)
        best, gap = first, np.inf
        for begin in (first, self._linear(neutral, target)):
            begin[phi] = np.clip(begin[phi], -0.99 * limits[phi], 0.99 * limits[phi])
            found = least_squares(
                lambda w: (self.value(w) - target) / size, begin, lambda w: self.jacobian(w) / size,
                bounds=(-limits, limits), x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=300,
            )  # fmt: skip
            here = float(np.linalg.norm(found.fun)) * size
            if here < gap:
                best, gap = found.x, here
        return best, gap

    def _linear(self, w: np.ndarray, target: np.ndarray) -> np.ndarray:
        """w with its linear part and σ² at their least-squares values, φ as it is."""
        at = np.append(np.arange(self.model.working.n_linear), len(w) - 1)
        scaled = w.copy()
        scaled[at] = 1.0  # V is linear in them: ∂V/∂(linear) does not depend on their values, but for φ's own scale
        J = self.jacobian(scaled)[:, at]
        length = np.linalg.norm(J, axis=0)
        fixed = w.copy()
        fixed[at] = 0.0
        out = w.copy()
        out[at] = np.linalg.lstsq(J / length, target - self.value(fixed), rcond=None)[0] / length
        return out

    def blocks(self, w: np.ndarray, size: float) -> list[Block]:
        """The blocks that must be positive semi-definite, in shares of a V whose VB has this size."""
        work, J = self.model.working, self.model.working.jacobian(w)[1]
        out: list[Block] = []
        seen: set[int] = set()
        for c, part in zip(self.model.components, work.parts, strict=True):
            if part.value is not None or int(part.linear[0]) in seen:
                continue
            seen.add(int(part.linear[0]))
            if part.family is not None:
                at = int(part.linear[0])
                share = np.linalg.norm(J[part.pairs, at] @ self.parts[part.pairs]) / size
                out.append(_single(c.name, at, w[at], share))
                continue
            for effects in c.partition:
                local = {a: i for i, a in enumerate(effects)}
                own = [(t, j, a, b) for t, j, (a, b) in zip(part.pairs, part.linear, part.index, strict=True)
                       if a in local and b in local]  # fmt: skip
                unit, Omega = np.ones(len(effects)), np.zeros((len(effects),) * 2)
                for t, j, a, b in own:
                    Omega[local[a], local[b]] = Omega[local[b], local[a]] = w[j]
                    if a == b:
                        unit[local[a]] = size / np.linalg.norm(self.parts[t])
                entries = tuple((int(j), local[a], local[b]) for _, j, a, b in own)
                out.append(Block(c.name, Omega / np.sqrt(np.outer(unit, unit)), entries, unit))
        if self.model.noise.has_nugget:
            at = work.n_linear - 1
            out.append(_single("nugget", at, w[at], np.linalg.norm(self.parts[-1]) / size))
        return out

    def lifted(self, w: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """w with every singular block moved inside, and the names of these; a φ at the edge of its range likewise."""
        size, out, names = float(np.linalg.norm(self.value(w))), w.copy(), []
        for block in self.blocks(w, size):
            values, vectors = np.linalg.eigh(block.Omega)
            low = values < FLAT
            if low.any():
                names.append(block.name)
                N = vectors[:, low]
                change = LIFT * (N @ N.T) * np.sqrt(np.outer(block.unit, block.unit))
                for at, a, b in block.entries:
                    out[at] += change[a, b]
        work = self.model.working
        if work.at_edge(w, 0.99):
            names.append("a correlation at the edge of its range")
            limits = work.limits()
            out[work.n_linear : -1] = np.clip(w[work.n_linear : -1], -0.5 * limits, 0.5 * limits)
        return out, tuple(dict.fromkeys(names))


def _single(name: str, at: int, value: float, share: float) -> Block:
    """A variance as a 1 × 1 block; `share` of V that a value of 1 makes."""
    unit = np.array([1.0 / share])
    return Block(name, np.array([[value * share]]), ((int(at), 0, 0),), unit)


def _added_columns(model0: Model, model1: Model) -> int:
    """d_1 − d_0. ModelError where X_0 is not within the space of X_1."""
    X0, X1 = np.asarray(model0.X), np.asarray(model1.X)
    Q = np.linalg.qr(X1)[0]
    outside = np.linalg.norm(X0 - Q @ (Q.T @ X0), axis=0) / np.linalg.norm(X0, axis=0)
    if outside.max(initial=0.0) > 1e-8:
        name = (model0.X_names or ())[int(outside.argmax())]
        raise ModelError(
            f"the models are not nested: the fixed effect `{name}` of the smaller model is no combination of the "
            "larger model's. Compare them by AIC or BIC."
        )
    return X1.shape[1] - X0.shape[1]
