"""What quadrature needs of a model that has no sufficient statistics of constant size, from its own kernel's ℓ.

Every variance of V = σ_e² H scales with the reference σ_e², a correlation or a range with none, so that two values of
ℓ_REML, at σ_e = c and σ_e = 2c, give both parts of it at any scale:

    −2 ℓ(c) = ν log 2πc² + D + q/c²,    q/c² = (8/3) [ℓ(2c) − ℓ(c) + ν log 2]

(c = sd(y): the digits of ℓ are those of D). Where ℓ has a closed form (`closed_form`) it gives D and q at once. The
coordinates v are log(σ_k/σ_e), logit p, log r of `coordinates`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline, make_interp_spline
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from vcbench.bayes.by_kernel import ByKernel
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.density import OFF, Answer, along
from vcbench.bayes.gram import gls
from vcbench.errors import ModelError
from vcbench.kernels.structured import StructuredKernel
from vcbench.model.model import Model

CLOSE = 1e-10  # what a table of D may be off by where the posterior lies, in units of log p
SANE = 100.0  # the average |log eigenvalue| of H that an SD ratio of e^50 would give
LOST = math.inf  # D where there is no posterior
Node = tuple[float, float, np.ndarray, np.ndarray]
MOST = 385, 97  # nodes of an axis of a table, with one axis and with two


@dataclass(frozen=True, slots=True, eq=False)
class KernelRatios:
    """D(v), q(v) and what β needs, node by node; nodes are kept. `order`: places in θ of each v, the reference last."""

    likelihood: ByKernel | ClosedForm
    coordinates: Coordinates
    order: tuple[int, ...]
    unit: float  # c
    kept: dict[tuple[float, ...], Node] = field(default_factory=dict, repr=False)
    sums: dict[str, Any] = field(default_factory=dict, repr=False)
    points: list[int] = field(default_factory=lambda: [0], repr=False)

    @classmethod
    def of(cls, likelihood: ByKernel | ClosedForm, model: Model, unit: float) -> "KernelRatios":
        """Raises ModelError where V does not scale with the residual variance."""
        coordinates = Coordinates.of(model)
        fixed = [
            c.name for c, part in zip(model.components, model.working.parts, strict=True) if part.value is not None
        ]
        if fixed:
            raise ModelError(
                f"quadrature needs V to scale with the residual variance; the covariance of `{fixed[0]}` is fixed. Use "
                "method `nuts`."
            )
        items = coordinates.items
        reference = next(j for j, i in enumerate(items) if i.owner == "residual" and i.axis.kind == "sd")
        order = (*(j for j in range(len(items)) if j != reference), reference)
        return cls(likelihood, coordinates, order, unit)

    @property
    def reduced(self) -> ByKernel | ClosedForm:
        """The likelihood, which knows β."""
        return self.likelihood

    @property
    def nu(self) -> int:
        """n − d."""
        return self.likelihood.n_obs - self.likelihood.n_fixed

    @property
    def log_weights(self) -> float:
        """0: the kernel's ℓ holds the weights."""
        return 0.0

    @property
    def logdet_xx(self) -> float:
        """log|XᵀX|."""
        own = self.likelihood
        return own.basis.logdet if isinstance(own, ClosedForm) else own.kernel.basis.logdet

    @property
    def places(self) -> tuple[int, ...]:
        """Where each v, and the reference last, stands in θ."""
        return self.order

    def kind(self, k: int) -> str:
        """ "sd", "range" or "unit" of axis k, the reference last."""
        kind = self.coordinates.items[self.order[k]].axis.kind
        return kind if kind in ("sd", "range") else "unit"

    def own_axis(self, j: int) -> int | None:
        """The axis whose coordinate is log σ of θ_j; None where θ_j is no variance with an axis of its own."""
        return self.order.index(j) if self.coordinates.items[j].axis.kind == "sd" else None

    def dear(self, k: int) -> bool:
        """Whether another node along axis k costs factorisations."""
        return True

    @property
    def view(self) -> Any:
        """The kernel in w, where correlations near ±1 keep their digits."""
        assert isinstance(self.likelihood, ByKernel)
        kernel = self.likelihood.kernel
        return kernel.view if isinstance(kernel, StructuredKernel) else kernel

    def theta(self, v: Sequence[float], log_sd: float) -> np.ndarray:
        """θ (p,) at one point."""
        return self.coordinates.theta(self._x(v, log_sd))

    def w(self, v: Sequence[float], log_sd: float) -> np.ndarray:
        """w of `model.working` at one point."""
        return np.array(self.coordinates.w(self._x(v, log_sd)), float)

    def _x(self, v: Sequence[float], log_sd: float) -> np.ndarray:
        x = np.empty(len(self.order))
        for k, j in enumerate(self.order[:-1]):
            kind = self.kind(k)
            x[j] = expit(v[k]) if kind == "unit" else math.exp(max(v[k] + (log_sd if kind == "sd" else 0.0), OFF))
        x[self.order[-1]] = math.exp(log_sd)
        return x

    def rows(self, v: Sequence[np.ndarray]) -> Answer:
        """(D (M,), q (M,), γ̂ (M, d), A (M, d, d)) at M points, each v_k (M,)."""
        points = list(zip(*(np.asarray(v_k).tolist() for v_k in v), strict=True)) if len(v) else [()]
        answers = [self._at(point) for point in points]
        D, q, centre, A = zip(*answers, strict=True)
        d = self.likelihood.n_fixed
        return np.array(D), np.array(q), np.array(centre).reshape(-1, d), np.array(A).reshape(-1, d, d)

    def grid(self, axes: Sequence[np.ndarray]) -> Answer:
        """`rows` on the product of `axes`, in its shape."""
        shape, d = tuple(len(a) for a in axes), self.likelihood.n_fixed
        D, q, centre, A = self.rows([m.ravel() for m in np.meshgrid(*axes, indexing="ij")] if axes else [])
        return D.reshape(shape), q.reshape(shape), centre.reshape(*shape, d), A.reshape(*shape, d, d)

    def _at(self, v: tuple[float, ...]) -> Node:
        if v not in self.kept:
            self.kept[v] = self._evaluate(v)
            self.points[0] += 1
        return self.kept[v]

    def _evaluate(self, v: tuple[float, ...]) -> Node:
        d, log_c = self.likelihood.n_fixed, math.log(self.unit)
        lost = LOST, 1.0, np.zeros(d), np.eye(d)
        if self.coordinates.model.working.at_edge(self.w(v, log_c)):
            return lost  # beyond it correlations stand still
        if isinstance(self.likelihood, ClosedForm):
            return self._closed(v)
        with np.errstate(all="ignore"):  # the scan goes far out
            first, second = (self.view.evaluate(self.w(v, log_c + more)) for more in (0.0, math.log(2)))
        if not (math.isfinite(first.loglik) and math.isfinite(second.loglik)):
            return lost  # V not positive definite: no posterior there
        q = 8 / 3 * (second.loglik - first.loglik + self.nu * math.log(2))
        D = -2 * first.loglik - self.nu * (math.log(2 * math.pi) + 2 * log_c) - q
        if not (q > 0 and abs(D) < SANE * (self.nu + 2 * d)):
            return lost  # no digit of V is left
        A = np.zeros((d, d)) if first.QtVinvQ is None else first.QtVinvQ * self.unit**2
        return D, q * self.unit**2, np.array(first.gamma), np.array(A)

    def _closed(self, v: tuple[float, ...]) -> Node:
        """The same from log|H| and G in closed form."""
        own = self.likelihood
        assert isinstance(own, ClosedForm)
        if "data" not in self.sums:
            self.sums.update(data=own.data, low=np.tril_indices(own.n_fixed + 1))
        low = self.sums["low"]
        G = np.empty((1, own.n_fixed + 1, own.n_fixed + 1))
        with np.errstate(all="ignore"):
            logdet, g = own.parts(self.w(v, 0.0), self.sums["data"], np)
            G[0][low] = G[0].T[low] = g
            if not (np.isfinite(logdet) and np.isfinite(g).all()):
                return LOST, 1.0, np.zeros(own.n_fixed), np.eye(own.n_fixed)
            A, q, centre = gls(G)
            weights = own.constant - own.n_obs * math.log(2 * math.pi)
            D = float(logdet + np.linalg.slogdet(A)[1][0]) + own.basis.logdet + weights
        if not (q[0] > 0 and math.isfinite(D)):
            return LOST, 1.0, np.zeros(own.n_fixed), np.eye(own.n_fixed)
        return D, float(q[0]), centre[0], A[0]

    # --- θ ---
    def natural(self, v: Sequence[np.ndarray], t: np.ndarray) -> np.ndarray:
        """θ (M, p) at M points."""
        points = zip(*(np.asarray(v_k).tolist() for v_k in v), strict=True) if len(v) else itertools.repeat(())
        return np.array([self.theta(point, log_sd) for point, log_sd in zip(points, t.tolist(), strict=False)])

    def scaled(self, axes: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """(θ_j at σ_e = 1 on the product of `axes`, broadcastable; the degree of each: θ_j σ_e^degree is θ_j)."""
        n = len(self.order) - 1
        base: list[Any] = [None] * (n + 1)
        middle = [0.3] * n
        at, moved = self.theta(middle, 0.0), self._moved(middle)
        degree = np.round(np.log(self.theta(middle, math.log(2)) / at) / math.log(2)).astype(int)
        for k, j in enumerate(self.order):
            kind = self.kind(k)
            if k == n:
                base[j] = np.ones((1,) * n)
            elif kind in ("sd", "range"):
                base[j] = along(np.exp((2 if kind == "sd" else 1) * axes[k]), k, n)
            else:
                own = [a if moved[j, i] else a[:1] for i, a in enumerate(axes)]
                points = itertools.product(*(a.tolist() for a in own))
                base[j] = np.array([self.theta(p, 0.0)[j] for p in points]).reshape([len(a) for a in own])
        return base, degree

    def _moved(self, middle: list[float]) -> np.ndarray:
        """Which θ_j (rows) depend on which v_k (columns), σ_e given."""
        at = self.theta(middle, 0.0)
        columns = []
        for k in range(len(middle)):
            others = [self.theta([*middle[:k], x, *middle[k + 1 :]], 0.0) for x in (-1.7, 2.1)]
            columns.append((others[0] != at) | (others[1] != at))
        return np.array(columns).T.reshape(len(at), len(middle))

    # --- finer grids ---
    def fine(self, z: Sequence[np.ndarray], squeezes: Sequence[Any], weight: np.ndarray) -> "Table":
        """What answers on finer grids: D and log q read from a table on the nodes z of squeezed axes.

        The nodes are doubled until the table is right to CLOSE at points between them, each by the share of the
        posterior that lies there.
        """
        z = list(z)
        most = MOST[len(z) > 1]
        while True:
            table = Table.of(self, z, squeezes)
            if not len(z) or max(len(a) for a in z) > most // 2 + 1:
                return table
            step = [a[1] - a[0] for a in z]
            rng = np.random.default_rng(len(z[0]))
            where = rng.choice(weight.size, 24, p=(weight / weight.sum()).ravel())
            coarse = np.unravel_index(where, weight.shape)
            coordinates = [
                np.clip(
                    np.linspace(a[0], a[-1], n)[i] + h * (rng.random(24) - 0.5), a[0], a[-1]
                )
                for a, n, i, h in zip(z, weight.shape, coarse, step, strict=True)
            ]  # fmt: skip
            v = [q.u(x) for q, x in zip(squeezes, coordinates, strict=True)]
            D, q, *_ = self.rows(v)
            own_D, own_q, *_ = table.rows(v)
            off = np.abs(D - own_D) + self.nu * np.abs(np.log(q / own_q))
            if off.max() < CLOSE * max(1.0, self.nu):
                return table
            z = [np.linspace(a[0], a[-1], 2 * len(a) - 1) for a in z]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """D and log q of a `KernelRatios` by quintic splines in squeezed coordinates z; beyond the table as at its edge."""

    source: KernelRatios
    z: list[np.ndarray]
    squeezes: Sequence[Any]
    D: Any
    log_q: Any

    @classmethod
    def of(cls, source: KernelRatios, z: list[np.ndarray], squeezes: Sequence[Any]) -> "Table":
        """The splines through the nodes."""
        D, q, *_ = source.grid([s.u(a) for s, a in zip(squeezes, z, strict=True)])
        lost = ~np.isfinite(D)
        if lost.any():  # V not positive definite there, and no posterior: smooth continuation keeps the spline quiet
            nearest = distance_transform_edt(lost, return_distances=False, return_indices=True)
            D, q = D[tuple(nearest)], q[tuple(nearest)]
        return cls(source, z, squeezes, _spline(z, D), _spline(z, np.log(q)))

    @property
    def reduced(self) -> ByKernel | ClosedForm:
        """The likelihood, which knows β."""
        return self.source.likelihood

    @property
    def nu(self) -> int:
        """n − d."""
        return self.source.nu

    @property
    def log_weights(self) -> float:
        """0: the kernel's ℓ holds the weights."""
        return 0.0

    @property
    def places(self) -> tuple[int, ...]:
        """Where each v, and the reference last, stands in θ."""
        return self.source.places

    def own_axis(self, j: int) -> int | None:
        """As the source's."""
        return self.source.own_axis(j)

    def natural(self, v: Sequence[np.ndarray], t: np.ndarray) -> np.ndarray:
        """As the source's."""
        return self.source.natural(v, t)

    def scaled(self, axes: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """As the source's."""
        return self.source.scaled(axes)

    def dear(self, k: int) -> bool:
        """False: reading costs nothing."""
        return False

    def rows(self, v: Sequence[np.ndarray]) -> Answer:
        """(D (M,), q (M,)), and None for what β needs, at M points."""
        own = [
            np.clip(s.z(v_k), a[0], a[-1]) for s, v_k, a in zip(self.squeezes, v, self.z, strict=True)
        ]  # fmt: skip
        none: Any = None
        return self.D(*own), np.exp(self.log_q(*own)), none, none

    def grid(self, axes: Sequence[np.ndarray]) -> Answer:
        """`rows` on the product of `axes`, in its shape."""
        shape = tuple(len(a) for a in axes)
        D, q, *none = self.rows([m.ravel() for m in np.meshgrid(*axes, indexing="ij")])
        return D.reshape(shape), q.reshape(shape), *none  # type: ignore[return-value]


def _spline(z: list[np.ndarray], values: np.ndarray) -> Callable:
    """f (…) at points given by their coordinates, one array an axis."""
    if not z:
        return lambda: values.reshape(1)
    if len(z) == 1:
        return make_interp_spline(z[0], values, k=5)
    spline = RectBivariateSpline(*z, values, kx=5, ky=5, s=0)
    return lambda x, y: spline(x, y, grid=False)
