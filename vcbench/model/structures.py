"""Families of covariance matrices over labels: what a matrix looks like, what its parameters are called.

A family bound to labels is σ² C(φ): C is a `table` of values of φ, unconstrained, and the entry for two rows is
table[index(row, row′)]. Derivatives come with the table (`jets`). Each family names its parameters in natural units,
maps φ onto their admissible range (MATH §9) and back, and says where to start.

| family | natural parameters | φ |
| --- | --- | --- |
| identity | | |
| compound symmetry | ρ ∈ (−1/(m−1), 1), m the largest unit | logit |
| AR(1) | ρ ∈ (−1, 1); ρ ∈ (0, 1) for gaps that are no whole numbers | atanh; logit |
| Toeplitz | ρ_1 … ρ_{m−1} | atanh of the partial autocorrelations (Durbin–Levinson) |
| banded Toeplitz | ρ_1 … ρ_k, checked by Cholesky | atanh |
| MA(q) | ρ_1 … ρ_q | atanh of the partial autocorrelations of the MA polynomial |
| ARMA(1,1), C_k = γρ^(k−1) | ρ, γ ∈ (−(1−ρ)/2, (1+ρ)/2) | atanh, logit within the range |
| ante-dependence(1) | σ_j², ρ_j | log ratios, atanh |
| unstructured | σ_j², covariances | Cholesky factor with unit first entry, log diagonal |
| heterogeneous · | σ_j² and those of · | log ratios of SDs |
| distance decay | range > 0: e^(−d/range), e^(−d²/range²) | log |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.jets import Jet, concatenate, constant, exp, logistic, stack, tanh, variables

ATANH_EDGE = 8.0  # tanh 8 = 1 − 2e-7
LOGIT_EDGE = 16.0  # 1/(1 + e⁻¹⁶) = 1 − 1e-7
NO_EDGE = 200.0  # of a logarithm: its exponential must stay finite
ROUNDING = 1e-10  # of an autocorrelation read back from a result
EDGE = 1e-12  # natural values are pulled this far inside their range before φ is computed


@dataclass(frozen=True, slots=True)
class Natural:
    """One natural parameter: σ²ᵖᵒʷᵉʳ × value(φ)."""

    name: str
    value: Jet
    power: int = 0
    is_variance: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The base: identity over rows. Subclasses override all that differs."""

    n_phi: int = 0

    @property
    def carries_variance(self) -> bool:
        """True where the natural parameters hold variances of their own, in place of one σ²."""
        return False

    @property
    def size(self) -> int:
        """T, the length of the table."""
        return len(self.table(variables(self.start()), self.n_phi).v)

    @property
    def n_natural(self) -> int:
        """Number of natural parameters besides σ²."""
        return len(self.natural(variables(self.start()), self.n_phi))

    @property
    def is_diagonal(self) -> bool:
        """True where C_ij = 0 for different rows."""
        return type(self) is Family

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        """The distinct values of C (T,); φ are k-parameter jets."""
        return constant([0.0, 1.0], k)

    def index(self, rows: np.ndarray) -> np.ndarray:
        """(m, m) positions in the table of the entries of C for these rows of the data."""
        return np.eye(len(rows), dtype=np.int64)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        """Natural parameters besides σ², in order; those with power 1 are variances or covariances."""
        return []

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        """(σ², φ) from the natural parameters in order; σ² is 1 unless the family carries variances."""
        return 1.0, np.zeros(0)

    def limits(self) -> np.ndarray:
        """|φ| beyond which a parameter lies at the edge of its range, up to rounding."""
        return np.full(self.n_phi, ATANH_EDGE)

    def start(self) -> np.ndarray:
        """φ of a small positive correlation."""
        return np.zeros(self.n_phi)

    def neutral(self) -> np.ndarray:
        """φ of C = I, or as near as the family comes."""
        return np.zeros(self.n_phi)


@dataclass(frozen=True, slots=True, eq=False)
class CompoundSymmetry(Family):
    """C_ij = ρ for rows of one unit, ρ > −1/(m−1)."""

    n_phi: int = 1
    largest: int = 2

    def _low(self) -> float:
        return -1.0 / (self.largest - 1)

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        rho = self._rho(phi[0])
        return stack([rho, constant(1.0, k)])

    def _rho(self, phi: Jet) -> Jet:
        low = self._low()
        return low + (1.0 - low) * logistic(phi)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural("rho", self._rho(phi[0]))]

    def limits(self) -> np.ndarray:
        return np.array([LOGIT_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        low = self._low()
        return 1.0, np.array([_logit((natural[0] - low) / (1.0 - low), "rho", natural[0], f"({low:.4g}, 1)")])

    def start(self) -> np.ndarray:
        return self.working([0.1])[1]

    def neutral(self) -> np.ndarray:
        return self.working([0.0])[1]


@dataclass(frozen=True, slots=True, eq=False)
class SameLevel(Family):
    """Identity over the levels of a label: 1 for rows of one level. A factor of Kronecker products."""

    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def is_diagonal(self) -> bool:
        return False

    def index(self, rows: np.ndarray) -> np.ndarray:
        return np.equal.outer(self.codes[rows], self.codes[rows]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class LevelSymmetry(CompoundSymmetry):
    """Compound symmetry over the levels of a label: 1 for rows of one level, ρ else. A factor of Kronecker products."""

    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def index(self, rows: np.ndarray) -> np.ndarray:
        return np.equal.outer(self.codes[rows], self.codes[rows]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Lagged(Family):
    """The base of families in which C_ij depends on a lag |t_i − t_j|: `lags` (L,) distinct lags, `t` (n,) times.

    Whole-number times are lags themselves; others are looked up among the distinct gaps.
    """

    t: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lags: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def index(self, rows: np.ndarray) -> np.ndarray:
        t = self.t[rows]
        gap = np.abs(t[:, None] - t[None, :])
        if self.whole:
            return gap.astype(np.int64)
        return np.minimum(np.searchsorted(self.lags, gap - 1e-9 * (1.0 + gap)), len(self.lags) - 1)

    @property
    def whole(self) -> bool:
        """True where times are whole numbers, and position in `lags` is the lag."""
        return bool((self.lags == np.arange(len(self.lags))).all())


@dataclass(frozen=True, slots=True, eq=False)
class Ar1(Lagged):
    """C_ij = ρ^|t_i − t_j|."""

    n_phi: int = 1

    def _rho(self, phi: Jet) -> Jet:
        return tanh(phi) if self.whole else logistic(phi)

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return self._rho(phi[0]) ** self.lags

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural("rho", self._rho(phi[0]))]

    def limits(self) -> np.ndarray:
        return np.array([ATANH_EDGE if self.whole else LOGIT_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        rho = natural[0]
        return 1.0, np.array([_atanh(rho, "rho") if self.whole else _logit(rho, "rho", rho, "(0, 1)")])

    def start(self) -> np.ndarray:
        if self.whole:
            return np.array([0.2])
        middle = np.median(self.lags[self.lags > 0])
        return self.working([0.2 ** (1.0 / middle)])[1]

    def neutral(self) -> np.ndarray:
        return np.array([0.0]) if self.whole else self.working([1e-3 ** (1.0 / self.lags[self.lags > 0].min())])[1]


@dataclass(frozen=True, slots=True, eq=False)
class Decay(Lagged):
    """C_ij = exp(−(d_ij/range)^power), power 1 (exponential) or 2 (Gaussian); d Euclidean over `points` (n, c)."""

    n_phi: int = 1
    power: int = 1
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))

    def index(self, rows: np.ndarray) -> np.ndarray:
        gap = distances(self.points[rows])
        return np.minimum(np.searchsorted(self.lags, gap - 1e-9 * (1.0 + gap)), len(self.lags) - 1)

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return exp(-((self.lags**self.power) * exp(-self.power * phi[0])))

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural("range", exp(phi[0]))]

    def limits(self) -> np.ndarray:
        return np.array([NO_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        return 1.0, np.array([_log(natural[0], "range")])

    def start(self) -> np.ndarray:
        return np.array([np.log(np.median(self.lags[self.lags > 0]) / 2.0)])

    def neutral(self) -> np.ndarray:
        return np.array([np.log(self.lags[self.lags > 0].min() / 7.0)])


@dataclass(frozen=True, slots=True, eq=False)
class Toeplitz(Lagged):
    """C_ij = ρ_|i−j|, all lags free: Durbin–Levinson from partial autocorrelations, a bijection onto the valid set."""

    def _autocorrelations(self, phi: Sequence[Jet], k: int) -> list[Jet]:
        rho: list[Jet] = []
        a: list[Jet] = []  # coefficients of the best predictor of the next from the j before
        v: Any = constant(1.0, k)
        for j, f in enumerate(phi):
            pi = tanh(f)
            r = pi * v
            for i in range(j):
                r = r + a[i] * rho[j - 1 - i]
            rho.append(r)
            a = [a[i] - pi * a[j - 1 - i] for i in range(j)] + [pi]
            v = v * (1.0 - pi * pi)
        return rho

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return stack([constant(1.0, k), *self._autocorrelations(phi, k)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", r) for j, r in enumerate(self._autocorrelations(phi, k))]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        pis, a, v = [], np.zeros(0), 1.0
        for j, r in enumerate(natural):
            pi = (r - a @ np.array(natural[:j])[::-1]) / v
            if 1.0 < abs(pi) < 1.0 + ROUNDING / v:  # the earlier ones leave so little that this is rounding
                pi = np.sign(pi)
            pis.append(_atanh(pi, f"rho{j + 1} (its partial autocorrelation)"))
            a = np.append(a - pi * a[::-1], pi)
            v = max(v * (1.0 - pi * pi), EDGE)
        return 1.0, np.array(pis)

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.2, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Banded(Lagged):
    """C_ij = ρ_|i−j| up to lag k, 0 beyond: any ρ for which V is positive definite (a larger set than MA(k)'s)."""

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        beyond = constant(np.zeros(len(self.lags) - 1 - self.n_phi), k)
        return concatenate([constant([1.0], k), stack([tanh(f) for f in phi]), beyond])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", tanh(f)) for j, f in enumerate(phi)]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        return 1.0, np.array([_atanh(r, f"rho{j + 1}") for j, r in enumerate(natural)])

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.1, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class MovingAverage(Lagged):
    """ρ_k = Σ_j θ_jθ_{j+k} / Σ_j θ_j², θ_0 = 1, invertible: θ from the partial autocorrelations of its polynomial."""

    def _rhos(self, phi: Sequence[Jet], k: int) -> list[Jet]:
        theta: list[Jet] = []
        for j, f in enumerate(phi):
            pi = tanh(f)
            theta = [theta[i] + pi * theta[j - 1 - i] for i in range(j)] + [pi]
        weights = [constant(1.0, k), *theta]
        products = []
        for lag in range(len(weights)):
            total: Any = 0.0
            for i in range(len(weights) - lag):
                total = total + weights[i] * weights[i + lag]
            products.append(total)
        return [p / products[0] for p in products[1:]]

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        beyond = constant(np.zeros(max(len(self.lags) - 1 - self.n_phi, 0)), k)
        return concatenate([constant([1.0], k), stack(self._rhos(phi, k)), beyond])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        return [Natural(f"rho{j + 1}", r) for j, r in enumerate(self._rhos(phi, k))]

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        """θ by spectral factorisation: the roots of Σ ρ_|k| z^k outside the unit circle."""
        q = len(natural)
        roots = np.roots([*natural[::-1], 1.0, *natural])
        outside = roots[np.argsort(-np.abs(roots))][: len(roots) // 2]
        spectrum = 1.0 + 2.0 * np.cos(np.outer(np.linspace(0.0, np.pi, 257), np.arange(1, q + 1))) @ np.asarray(natural)
        if spectrum.min() < -1e-9:
            raise ModelError(
                f"rho = {tuple(float(f'{r:.6g}') for r in natural)} is no autocorrelation of an MA({q}): its spectrum "
                f"falls to {spectrum.min():.3g}. MATH: MA(1) needs |ρ| ≤ 1/2."
            )
        a = np.zeros(q)
        a[: len(outside)] = np.real(np.poly(1.0 / outside))[1:]  # Π(1 − B/root): θ(B)
        phi = []
        for j in range(q, 0, -1):
            pi = float(np.clip(a[j - 1], -1.0 + EDGE, 1.0 - EDGE))
            phi.append(np.arctanh(pi))
            if j > 1:
                a = (a[: j - 1] - pi * a[: j - 1][::-1]) / (1.0 - pi * pi)
        return 1.0, np.array(phi[::-1])

    def start(self) -> np.ndarray:
        return np.where(np.arange(self.n_phi) == 0, 0.1, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Arma11(Lagged):
    """C_k = γρ^(k−1); γ = s − (1−ρ)/2, s ∈ (0, 1), is the whole admissible range."""

    n_phi: int = 2

    def _rho_gamma(self, phi: Sequence[Jet]) -> tuple[Jet, Jet]:
        rho = tanh(phi[0])
        return rho, logistic(phi[1]) - 0.5 * (1.0 - rho)

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        rho, gamma = self._rho_gamma(phi)
        return concatenate([constant([1.0], k), gamma * rho ** (self.lags[1:] - 1.0)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        rho, gamma = self._rho_gamma(phi)
        return [Natural("rho", rho), Natural("gamma", gamma)]

    def limits(self) -> np.ndarray:
        return np.array([ATANH_EDGE, LOGIT_EDGE])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        rho, gamma = natural
        s = gamma + 0.5 * (1.0 - rho)
        limits = f"({-0.5 * (1 - rho):.4g}, {0.5 * (1 + rho):.4g})"
        return 1.0, np.array([_atanh(rho, "rho"), _logit(s, "gamma", gamma, limits)])

    def start(self) -> np.ndarray:
        return self.working([0.4, 0.25])[1]

    def neutral(self) -> np.ndarray:
        return self.working([0.2, 0.0])[1]


@dataclass(frozen=True, slots=True, eq=False)
class ByLevel(Family):
    """The base of families over L levels, one a row: table (L, L), index by the codes of the rows."""

    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    levels: tuple[str, ...] = ()

    def index(self, rows: np.ndarray) -> np.ndarray:
        c = self.codes[rows]
        return c[:, None] * len(self.levels) + c[None, :]

    @property
    def n_levels(self) -> int:
        """L."""
        return len(self.levels)


@dataclass(frozen=True, slots=True, eq=False)
class Unstructured(ByLevel):
    """σ²C = any positive definite matrix over the levels; C = LLᵀ, L_11 = 1, log L_jj and L_ij free, by column."""

    @property
    def carries_variance(self) -> bool:
        return True

    def _entries(self) -> list[tuple[int, int]]:
        m = self.n_levels
        return [(i, j) for j in range(m) for i in range(j, m)]

    def _factor(self, phi: Sequence[Jet], k: int) -> Jet:
        m = self.n_levels
        v, d, dd = np.zeros((m, m)), np.zeros((k, m, m)), np.zeros((k, k, m, m))
        v[0, 0] = 1.0
        for f, (i, j) in zip(phi, self._entries()[1:], strict=True):
            e = exp(f) if i == j else f
            v[i, j], d[:, i, j], dd[:, :, i, j] = e.v, e.d, e.dd
        return Jet(v, d, dd)

    def _matrix(self, phi: Sequence[Jet], k: int) -> Jet:
        L = self._factor(phi, k)
        turn = lambda a: np.swapaxes(a, -1, -2)  # noqa: E731 - the transpose of each matrix of a stack
        d = L.d @ L.v.T
        cross = L.d[:, None] @ turn(L.d)[None, :]
        dd = L.dd @ L.v.T
        return Jet(L.v @ L.v.T, d + turn(d), dd + turn(dd) + cross + turn(cross))

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return self._matrix(phi, k).reshape(-1)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        C, names = self._matrix(phi, k), self.levels
        return [
            Natural(f"var({names[i]})" if i == j else f"cov({names[j]},{names[i]})", C[i, j], 1, i == j)
            for i, j in self._entries()
        ]

    def limits(self) -> np.ndarray:
        return np.full(self.n_phi, NO_EDGE)

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        S = np.zeros((m, m))
        for value, (i, j) in zip(natural, self._entries(), strict=True):
            S[i, j] = S[j, i] = value
        try:
            L = np.linalg.cholesky(S)
        except np.linalg.LinAlgError:
            raise ModelError(
                f"the unstructured covariance over {', '.join(self.levels)} is not positive definite: its smallest "
                f"eigenvalue is {np.linalg.eigvalsh(S)[0]:.3g}."
            ) from None
        L = L / L[0, 0]
        return float(S[0, 0]), np.array([np.log(L[i, j]) if i == j else L[i, j] for i, j in self._entries()[1:]])


@dataclass(frozen=True, slots=True, eq=False)
class AnteDependence(ByLevel):
    """C_ij = d_i d_j Π_{i≤k<j} ρ_k: heterogeneous variances, first-order dependence that changes with time."""

    @property
    def carries_variance(self) -> bool:
        return True

    def _parts(self, phi: Sequence[Jet], k: int) -> tuple[list[Jet], list[Jet]]:
        m = self.n_levels
        return [constant(1.0, k), *(exp(f) for f in phi[: m - 1])], [tanh(f) for f in phi[m - 1 :]]

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        sd, rho = self._parts(phi, k)
        m = self.n_levels
        C: list[list[Any]] = [[None] * m for _ in range(m)]
        for i in range(m):
            run: Any = constant(1.0, k)
            C[i][i] = sd[i] * sd[i]
            for j in range(i + 1, m):
                run = run * rho[j - 1]
                C[i][j] = C[j][i] = sd[i] * sd[j] * run
        return stack([c for row in C for c in row])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        sd, rho = self._parts(phi, k)
        first = [Natural(f"var({a})", s * s, 1, True) for a, s in zip(self.levels, sd, strict=True)]
        return first + [Natural(f"rho{j + 1}", r) for j, r in enumerate(rho)]

    def limits(self) -> np.ndarray:
        m = self.n_levels
        return np.append(np.full(m - 1, NO_EDGE), np.full(m - 1, ATANH_EDGE))

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        ratios = _log_ratios(natural[:m], self.levels)
        return float(natural[0]), np.append(ratios, [_atanh(r, f"rho{j + 1}") for j, r in enumerate(natural[m:])])

    def start(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), np.full(self.n_levels - 1, 0.2))


@dataclass(frozen=True, slots=True, eq=False)
class Heterogeneous(ByLevel):
    """D C D, D = diag(σ_level)/σ_first, over any family C: the variances differ by the level of the row."""

    inner: Family = field(default_factory=Family)

    @property
    def carries_variance(self) -> bool:
        return True

    @property
    def is_diagonal(self) -> bool:
        return self.inner.is_diagonal

    def index(self, rows: np.ndarray) -> np.ndarray:
        own = ByLevel.index(self, rows)
        return own * self.inner.size + self.inner.index(rows)

    def _sd(self, phi: Sequence[Jet], k: int) -> Jet:
        return stack([constant(1.0, k), *(exp(f) for f in phi[: self.n_levels - 1])])

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        sd = self._sd(phi, k)
        pairs = sd.reshape(-1, 1) * sd.reshape(1, -1)
        inner = self.inner.table(phi[self.n_levels - 1 :], k)
        return (pairs.reshape(-1, 1) * inner.reshape(1, -1)).reshape(-1)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        sd = self._sd(phi, k)
        first = [Natural(f"var({a})", sd[j] * sd[j], 1, True) for j, a in enumerate(self.levels)]
        return first + self.inner.natural(phi[self.n_levels - 1 :], k)

    def limits(self) -> np.ndarray:
        return np.append(np.full(self.n_levels - 1, NO_EDGE), self.inner.limits())

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        _, inner = self.inner.working(natural[m:])
        return float(natural[0]), np.append(_log_ratios(natural[:m], self.levels), inner)

    def start(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), self.inner.start())

    def neutral(self) -> np.ndarray:
        return np.append(np.zeros(self.n_levels - 1), self.inner.neutral())


@dataclass(frozen=True, slots=True, eq=False)
class Separate(ByLevel):
    """A family of its own for each level of a factor that is constant within units (SAS's GROUP=)."""

    parts: tuple[Family, ...] = ()

    @property
    def carries_variance(self) -> bool:
        return True

    def index(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), len(rows)), np.int64)  # pairs of different levels belong to different units
        for level in np.unique(self.codes[rows]):
            at = np.flatnonzero(self.codes[rows] == level)
            out[np.ix_(at, at)] = self.parts[level].index(rows[at]) + self._starts()[level]
        return out

    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([f.size for f in self.parts])])

    def _split(self, phi: Sequence[Jet], k: int) -> list[tuple[Family, Jet, Sequence[Jet]]]:
        out, at = [], len(self.parts) - 1
        for j, f in enumerate(self.parts):
            size = constant(1.0, k) if j == 0 else exp(2.0 * phi[j - 1])
            out.append((f, size, phi[at : at + f.n_phi]))
            at += f.n_phi
        return out

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        return concatenate([size * f.table(own, k) for f, size, own in self._split(phi, k)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        out = []
        for level, (f, size, own) in zip(self.levels, self._split(phi, k), strict=True):
            inner = f.natural(own, k)
            if not f.carries_variance:
                out.append(Natural(f"var({level})", size, 1, True))
            for item in inner:
                value = size * item.value if item.power else item.value
                out.append(Natural(_within(item.name, level), value, item.power, item.is_variance))
        return out

    def limits(self) -> np.ndarray:
        return np.concatenate([np.full(len(self.parts) - 1, NO_EDGE), *(f.limits() for f in self.parts)])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        sizes, phis, at = [], [], 0
        for f in self.parts:
            own = 0 if f.carries_variance else 1
            count = f.n_natural
            values = natural[at + own : at + own + count]
            scale, phi = f.working(values)
            sizes.append(scale if f.carries_variance else natural[at])
            phis.append(phi)
            at += own + count
        return float(sizes[0]), np.concatenate([_log_ratios(sizes, self.levels), *phis])

    def start(self) -> np.ndarray:
        return np.concatenate([np.zeros(len(self.parts) - 1), *(f.start() for f in self.parts)])

    def neutral(self) -> np.ndarray:
        return np.concatenate([np.zeros(len(self.parts) - 1), *(f.neutral() for f in self.parts)])


@dataclass(frozen=True, slots=True, eq=False)
class Product(Family):
    """The Kronecker product of two families, by labels: C_ij = A(a_i, a_j) B(b_i, b_j); missing cells are left out."""

    left: Family = field(default_factory=Family)
    right: Family = field(default_factory=Family)
    suffixes: tuple[str, str] = ("_1", "_2")

    @property
    def carries_variance(self) -> bool:
        return self.left.carries_variance or self.right.carries_variance

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        a, b = self.left.table(phi[: self.left.n_phi], k), self.right.table(phi[self.left.n_phi :], k)
        return (a.reshape(-1, 1) * b.reshape(1, -1)).reshape(-1)

    def index(self, rows: np.ndarray) -> np.ndarray:
        return self.left.index(rows) * self.right.size + self.right.index(rows)

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        """Variances of the first factor that has some are in the units of y; those of the other are ratios."""
        a, b = self.left.natural(phi[: self.left.n_phi], k), self.right.natural(phi[self.left.n_phi :], k)
        out = []
        for items, suffix, in_units in (
            (a, self.suffixes[0], True),
            (b, self.suffixes[1], not self.left.carries_variance),
        ):
            for item in items:
                power = item.power if in_units else 0
                if item.power and not in_units and np.ndim(item.value.d) and not item.value.d.any():
                    continue  # the ratio of the first level to itself
                name = item.name if item.power else item.name + suffix
                if item.power and not in_units:
                    name = item.name.replace("var(", "ratio(").replace("cov(", "coratio(")
                out.append(Natural(name, item.value, power, item.is_variance and in_units))
        return out

    def limits(self) -> np.ndarray:
        return np.concatenate([self.left.limits(), self.right.limits()])

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        count = self.left.n_natural
        scale, left = self.left.working(natural[:count])
        rest = list(natural[count:])
        if self.left.carries_variance and self.right.carries_variance:
            rest = [1.0, *rest]
        other, right = self.right.working(rest)
        return (scale if self.left.carries_variance else other), np.concatenate([left, right])

    def start(self) -> np.ndarray:
        return np.concatenate([self.left.start(), self.right.start()])

    def neutral(self) -> np.ndarray:
        return np.concatenate([self.left.neutral(), self.right.neutral()])


@dataclass(frozen=True, slots=True, eq=False)
class Patterned(ByLevel):
    """D C D with correlations free where `mask` is 1 and 0 elsewhere, for patterns that are not blocks; by Cholesky."""

    mask: tuple[tuple[int, ...], ...] = ()

    @property
    def carries_variance(self) -> bool:
        return True

    def _free(self) -> list[tuple[int, int]]:
        m = self.n_levels
        return [(i, j) for j in range(m) for i in range(j + 1, m) if self.mask[i][j]]

    def _matrix(self, phi: Sequence[Jet], k: int) -> dict[tuple[int, int], Jet]:
        m = self.n_levels
        sd = [constant(1.0, k), *(exp(f) for f in phi[: m - 1])]
        C = {(i, i): sd[i] * sd[i] for i in range(m)}
        for f, (i, j) in zip(phi[m - 1 :], self._free(), strict=True):
            C[i, j] = C[j, i] = sd[i] * sd[j] * tanh(f)
        return C

    def table(self, phi: Sequence[Jet], k: int) -> Jet:
        C, m = self._matrix(phi, k), self.n_levels
        return stack([C.get((i, j), constant(0.0, k)) for i in range(m) for j in range(m)])

    def natural(self, phi: Sequence[Jet], k: int) -> list[Natural]:
        C, names = self._matrix(phi, k), self.levels
        return [
            Natural(f"var({names[i]})" if i == j else f"cov({names[j]},{names[i]})", C[i, j], 1, i == j)
            for j in range(self.n_levels)
            for i in range(j, self.n_levels)
            if (i, j) in C
        ]

    def limits(self) -> np.ndarray:
        m = self.n_levels
        return np.append(np.full(m - 1, NO_EDGE), np.full(len(self._free()), ATANH_EDGE))

    def working(self, natural: Sequence[float]) -> tuple[float, np.ndarray]:
        m = self.n_levels
        where = [(i, j) for j in range(m) for i in range(j, m) if i == j or self.mask[i][j]]
        S = dict(zip(where, natural, strict=True))
        ratios = _log_ratios([S[i, i] for i in range(m)], self.levels)
        free = [
            _atanh(S[i, j] / np.sqrt(S[i, i] * S[j, j]), f"cor({self.levels[j]},{self.levels[i]})")
            for i, j in self._free()
        ]
        return float(S[0, 0]), np.append(ratios, free)


def distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances (m, m) of points (m, c)."""
    return np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(-1))


def _within(name: str, level: str) -> str:
    return f"{name[:-1]}|{level})" if name.endswith(")") else f"{name}({level})"


def _log_ratios(variances: Sequence[float], levels: Sequence[str]) -> np.ndarray:
    """½ log(σ_j²/σ_1²), j ≥ 2."""
    logs = np.array([_log(v, f"var({a})") for v, a in zip(variances, levels, strict=True)])
    return 0.5 * (logs[1:] - logs[0])


def _atanh(value: float, name: str) -> float:
    if not abs(value) <= 1.0:  # an estimate may have been rounded to the edge
        raise ModelError(f"`{name}` is {value:g}; it must lie within (-1, 1).")
    return float(np.arctanh(np.clip(value, -1.0 + EDGE, 1.0 - EDGE)))


def _logit(share: float, name: str, value: float, limits: str) -> float:
    if not 0.0 <= share <= 1.0:
        raise ModelError(f"`{name}` is {value:g}; it must lie within {limits}.")
    share = float(np.clip(share, EDGE, 1.0 - EDGE))
    return float(np.log(share / (1.0 - share)))


def _log(value: float, name: str) -> float:
    if not value >= 0.0:
        raise ModelError(f"`{name}` is {value:g}; it must be positive.")
    return float(np.log(max(value, 1e-100)))
