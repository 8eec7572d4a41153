"""How residuals of a fit hang together by lag or distance: their autocorrelation and their semivariogram.

    ρ(l) = [Σ r_i r_j / N_l] / [Σ r_i² / n]   over the N_l pairs of rows of one unit a lag l apart; r = L⁻¹ê, R = LLᵀ
    γ(d) = Σ (ê_i − ê_j)² / 2N_d              over the N_d pairs a distance d (in a class of distances) apart

r are normalized residuals, rows of a unit in their order: uncorrelated but for the estimation of β and u if R is right
(Pinheiro & Bates 2000, §5.3; ρ is that of nlme's `ACF`, but by lag where rows are missing). ê are conditional
residuals, whose γ under the model is near σ²(1 − C(d)) + τ², and below it where effects are estimated. What to expect
of both, and their bands, come from data sets drawn from the fit (`reference_sets`).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import coo_matrix, csr_matrix

from vcbench.errors import MethodError
from vcbench.inference.equations import Residuals
from vcbench.inference.reference_sets import ReferenceSets, band
from vcbench.inference.row_order import RowOrder, row_order
from vcbench.model.structures.combined import Product
from vcbench.model.structures.lagged import Lagged

MOST_LAGS = 25
FEWEST = 5  # pairs behind a value
USUAL = 30  # pairs behind a semivariance, where that leaves four of them
CLASSES = 15  # of distances that are not multiples of a gap
MOST_PAIRS = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Correlogram:
    """Values (k,) by lag or distance, their pairs, and the band and mean of drawn sets. `curve`: the structure's own
    γ at distances, where it has one."""

    at: np.ndarray
    value: np.ndarray
    pairs: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray
    text: str  # of the axis
    level: float
    curve: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)


def autocorrelation(fit: Any, level: float = 0.95) -> Correlogram:
    """ρ(l) of normalized residuals.

    MethodError where no unit has two rows, where rows lie in a plane, and where times are unequal: a semivariogram does
    for these.
    """
    order = row_order(fit._need_model("a correlogram"))
    reason = no_lags(order)
    if reason:
        raise MethodError(reason)
    gap = order.gap
    assert gap is not None
    sets = ReferenceSets.of(fit)
    together = normalized(fit, order, np.column_stack([sets.residual.value, sets.residual.sets]))
    pairs = lagged_pairs(order.units, order.places[:, 0], gap)
    if not pairs:
        raise MethodError(f"no lag has {FEWEST} pairs of rows: the data are too few for a correlogram.")
    size = (together**2).mean(axis=0)
    rho = np.array([(together[i] * together[j]).mean(axis=0) / size for _, i, j in pairs])
    low, mean, high = band(rho[:, 1:], level)
    return Correlogram(
        np.array([lag for lag, _, _ in pairs]) * (1.0 if order.in_steps else gap),
        rho[:, 0],
        np.array([len(i) for _, i, _ in pairs]),
        low,
        mean,
        high,
        order.text(),
        level,
    )


def no_lags(order: RowOrder) -> str:
    """Why rows have no lags, or ""."""
    if order.gap is not None:
        return ""
    what = "lie in a plane" if order.places.shape[1] > 1 else f"have unequal gaps in {order.names[0]}"
    return f'rows {what}, so that there is no lag; take the semivariogram, plot("variogram").'


def semivariograms(fit: Any, level: float = 0.95) -> list[Correlogram]:
    """γ(d) of conditional residuals, by distance; along each label of a product of two structures.

    MethodError where no unit has two rows, or one has too many for all its pairs.
    """
    model = fit._need_model("a semivariogram")
    order = row_order(model)
    sets = ReferenceSets.of(fit)
    E = np.column_stack([sets.residual.value, sets.residual.sets])
    R = Residuals.at(model, fit.theta_values)
    out = []
    for axis, (text, found) in enumerate(_classes(order)):
        usual = [c for c in found if len(c[1]) >= USUAL]
        classes = usual if len(usual) >= 4 else found
        gamma = np.array([_semivariance(i, j, E) for _, i, j in classes])
        if not len(gamma):
            continue
        low, mean, high = band(gamma[:, 1:], level)
        at = np.array([d for d, _, _ in classes])
        pairs = np.array([len(i) for _, i, _ in classes])
        curve = _curve(R, order, axis, float(at.max()))
        out.append(Correlogram(at, gamma[:, 0], pairs, np.maximum(low, 0.0), mean, high, text, level, curve))
    if not out:
        raise MethodError(f"no distance has {FEWEST} pairs of rows: the data are too few for a semivariogram.")
    return out


def normalized(fit: Any, order: RowOrder, E: np.ndarray) -> np.ndarray:
    """L⁻¹E (n, m), R = LLᵀ, the rows that R joins in their order."""
    model = fit.model
    R = csr_matrix(Residuals.at(model, fit.theta_values).matrix())
    if model.noise.is_plain or model.noise.family.is_diagonal:
        return E / np.sqrt(R.diagonal())[:, None]
    out = np.empty_like(E)
    for rows in RowOrder(model.noise.units, order.places, order.names, "", order.source).rows():
        L = np.linalg.cholesky(R[rows][:, rows].toarray())
        out[rows] = solve_triangular(L, E[rows], lower=True)
    return out


def lagged_pairs(units: np.ndarray, t: np.ndarray, gap: float) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(lag in gaps, rows i, rows j) of each lag 1 … 25 with pairs enough; t (n,) are multiples of the gap."""
    place = np.rint((t - t.min()) / gap).astype(np.int64)
    key = units.astype(np.int64) * (int(place.max()) + MOST_LAGS + 2) + place
    order = np.argsort(key, kind="stable")
    key, out = key[order], []
    for lag in range(1, MOST_LAGS + 1):
        first, last = (np.searchsorted(key, key + lag, side) for side in ("left", "right"))
        count = last - first
        if count.sum() < FEWEST:
            continue
        i = np.repeat(np.arange(len(key)), count)
        j = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
        out.append((float(lag), order[i], order[j]))
    return out


def _classes(order: RowOrder) -> list[tuple[str, list[tuple[float, np.ndarray, np.ndarray]]]]:
    """For each direction its axis text and (distance, rows i, rows j) by class."""
    if order.places.shape[1] == 1 or order.isotropic:
        gap = order.gap
        if gap is not None:
            step = 1.0 if order.in_steps else gap
            return [(order.text("distance"), [(lag * step, i, j) for lag, i, j in lagged_pairs(order.units,
                     order.places[:, 0], gap)])]  # fmt: skip
        return [(order.text("distance"), _by_distance(order))]
    out = []
    for axis, name in enumerate(order.names):
        others = np.delete(order.places, axis, axis=1)
        keys = np.unique(np.column_stack([order.units, others]), axis=0, return_inverse=True)[1].ravel()
        line = RowOrder(keys, order.places[:, [axis]], (name,), "", order.source)
        gap = line.gap
        if gap is not None:
            out.append((f"distance in steps of {name}", lagged_pairs(keys, order.places[:, axis], gap)))
    return out


def _by_distance(order: RowOrder) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Classes of equal width up to half the largest distance; the distance of a class is the mean of its pairs."""
    if order.n_pairs > MOST_PAIRS:
        raise MethodError(f"units have {order.n_pairs} pairs of rows together, more than {MOST_PAIRS}: a semivariogram "
                          "of all of them is not drawn.")  # fmt: skip
    left, right = [], []
    for rows in order.rows():
        a, b = np.triu_indices(len(rows), 1)
        left.append(rows[a])
        right.append(rows[b])
    i, j = np.concatenate(left), np.concatenate(right)
    d = np.sqrt(((order.places[i] - order.places[j]) ** 2).sum(axis=1))
    edges = np.linspace(0.0, d.max() / 2, CLASSES + 1)
    which = np.digitize(d, edges[1:], right=True)
    out = []
    for c in range(CLASSES):
        own = which == c
        if own.sum() >= FEWEST:
            out.append((float(d[own].mean()), i[own], j[own]))
    return out


def _semivariance(i: np.ndarray, j: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Σ (e_i − e_j)²/2N of each column of E: eᵀLe/2N with L the Laplacian of the pairs."""
    n = len(E)
    A = csr_matrix(coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)))
    A = A + A.T
    degree = np.asarray(A.sum(axis=1)).ravel()
    return np.einsum("nm,nm->m", E, degree[:, None] * E - A @ E) / (2 * len(i))


def _curve(R: Residuals, order: RowOrder, axis: int, reach: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(d, σ²(1 − C(d)) + τ²) of the structure along an axis; None where variances differ between rows."""
    if (R.half != R.half[0]).any():
        return None
    unit = float(R.half[0] ** 2)
    if R.noise.is_plain or R.noise.family.is_diagonal:
        if R.noise.family.n_phi:
            return None
        level = unit * (R.sigma2 + R.extra)
        return np.array([0.0, reach]), np.array([level, level])
    assert R.table is not None
    family = R.noise.family
    if isinstance(family, Product):
        sides = family.left, family.right
        if not all(isinstance(s, Lagged) for s in sides):
            return None
        table = R.table.v.reshape(sides[0].size, sides[1].size)
        lags, C = sides[axis].lags, (table[:, 0], table[0])[axis]  # type: ignore[attr-defined]
    elif isinstance(family, Lagged) and order.source == "labels":
        lags, C = family.lags, R.table.v
    else:
        return None
    keep = (lags > 0) & (lags <= reach * (1 + 1e-9))
    return lags[keep], unit * (R.sigma2 * (1.0 - C[keep]) + R.extra)
