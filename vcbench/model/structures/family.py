"""What a family of covariance matrices says of itself, and the families without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vcbench.errors import ModelError
from vcbench.model.jets import Jet, constant, logistic, stack, variables

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
        return 1.0, np.array([logit_of((natural[0] - low) / (1.0 - low), "rho", natural[0], f"({low:.4g}, 1)")])

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


def distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances (m, m) of points (m, c)."""
    return np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(-1))


def atanh_of(value: float, name: str) -> float:
    if not abs(value) <= 1.0:  # an estimate may have been rounded to the edge
        raise ModelError(f"`{name}` is {value:g}; it must lie within (-1, 1).")
    return float(np.arctanh(np.clip(value, -1.0 + EDGE, 1.0 - EDGE)))


def logit_of(share: float, name: str, value: float, limits: str) -> float:
    if not 0.0 <= share <= 1.0:
        raise ModelError(f"`{name}` is {value:g}; it must lie within {limits}.")
    share = float(np.clip(share, EDGE, 1.0 - EDGE))
    return float(np.log(share / (1.0 - share)))


def log_of(value: float, name: str) -> float:
    if not value >= 0.0:
        raise ModelError(f"`{name}` is {value:g}; it must be positive.")
    return float(np.log(max(value, 1e-100)))
