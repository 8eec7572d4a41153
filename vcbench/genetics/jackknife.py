"""Block jackknife over SNPs for the moment estimates of all pairs: one more pass over the genotypes.

K = Σ_j s_jK_j / s over J blocks of neighbouring SNPs; without block j

    K_(−j) = (sK − s_jK_j)/(s − s_j),   tr A_(−j)² = (s²a_2 − 2ss_j⟨A, A_j⟩ + s_j²‖A_j‖²)/(s − s_j)²,   A_j = MK_jM

so that each block needs its own A_j once, and the normal equations without it follow. SE² = (J − 1)/J Σ_j (t_(−j) −
t̄)².
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vcbench.errors import DataError, MethodError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.pair_moments import Traces, projected, solve_moments
from vcbench.genetics.pairs import THETA, Pair
from vcbench.genetics.phenotypes import Phenotypes
from vcbench.genetics.relationship import relationship_matrix
from vcbench.model.model import full_rank

QUANTITIES = ("rho_g", "rho_e", "h2_first", "h2_second", *THETA)


def with_jackknife(
    found: Sequence[Pair], phenotypes: Phenotypes, matrix: Matrix, wanted: Sequence[tuple[int, int]], n_blocks: int
) -> list[Pair]:
    """The pairs with jackknife standard errors. MethodError for missing="pairs", DataError for fewer SNPs than
    blocks."""
    if matrix.missing != "mean":
        raise MethodError('the jackknife needs a K that is a sum over SNPs: missing="mean".')
    genotypes = matrix.given
    assert isinstance(genotypes, Genotypes)
    kept = np.flatnonzero(genotypes.scan().kept)
    if len(kept) < n_blocks:
        raise DataError(f"{len(kept)} SNPs are too few for a jackknife of {n_blocks} blocks.")
    observed = phenotypes.observed
    patterns: dict[bytes, list[int]] = {}
    for j, (a, b) in enumerate(wanted):
        patterns.setdefault((observed[:, a] & observed[:, b]).tobytes(), []).append(j)
    out = list(found)
    for members in patterns.values():
        a, b = wanted[members[0]]
        at = np.flatnonzero(observed[:, a] & observed[:, b])
        chosen = sorted({t for j in members for t in wanted[j]})
        Gs, Es = leave_out(phenotypes, matrix, genotypes, np.array_split(kept, n_blocks), at, chosen)
        for j in members:
            own = [chosen.index(t) for t in wanted[j]]
            out[j] = _with_errors(found[j], Gs[:, own][:, :, own], Es[:, own][:, :, own])
    return out


def leave_out(
    phenotypes: Phenotypes,
    matrix: Matrix,
    genotypes: Genotypes,
    blocks: Sequence[np.ndarray],
    at: np.ndarray,
    chosen: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """(Γ_g, Γ_e), each (J, P, P), without each block of SNPs in turn, on the rows `at`."""
    Y = phenotypes.values[np.ix_(at, chosen)]
    X = full_rank(np.ascontiguousarray(phenotypes.X[at]), list(phenotypes.X_names), "drop")[0]
    Q = np.linalg.qr(X)[0]
    MY = Y - Q @ (Q.T @ Y)
    rows = np.ix_(at, at)
    scales, traces, squares, cross, products = [], [], [], [], []
    whole = projected(matrix.K()[rows], Q)
    for block in blocks:
        grm = relationship_matrix(genotypes.select(variants=block), matrix.scaling)
        A = projected(grm.K[rows], Q)
        scales.append(grm.scale)
        traces.append(float(np.trace(A)))
        squares.append(float(np.vdot(A, A)))
        cross.append(float(np.vdot(A, whole)))
        products.append(MY.T @ grm.K[rows] @ MY)
    s, own = float(np.sum(scales)), np.array(scales)
    a1, a2, Qe = float(np.trace(whole)), float(np.vdot(whole, whole)), MY.T @ MY
    Qg = MY.T @ matrix.K()[rows] @ MY
    left = s - own
    first = (s * a1 - own * np.array(traces)) / left
    second = (s**2 * a2 - 2.0 * s * own * np.array(cross) + own**2 * np.array(squares)) / left**2
    found = []
    for j in range(len(own)):
        design = Traces(np.array([len(at) - X.shape[1], first[j], second[j]]))
        found.append(solve_moments(design, (s * Qg - own[j] * products[j]) / left[j], Qe))
    return np.stack([G for G, _ in found]), np.stack([E for _, E in found])


def _with_errors(pair: Pair, Gs: np.ndarray, Es: np.ndarray) -> Pair:
    """SE² = (J − 1)/J Σ (t_(−j) − t̄)² of each quantity; NaN, with the reason, where one does not exist without a
    block."""
    J = len(Gs)
    values = {name: np.empty(J) for name in QUANTITIES}
    for j, (G, E) in enumerate(zip(Gs, Es, strict=True)):
        theta = np.array([G[0, 0], G[1, 0], G[1, 1], E[0, 0], E[1, 0], E[1, 1]])
        one = replace(pair, theta=theta).quantities()
        for name in QUANTITIES:
            values[name][j] = one[name][0]
    errors = {name: float(np.sqrt((J - 1) / J * ((v - v.mean()) ** 2).sum())) for name, v in values.items()}
    lost = {name: int(np.isnan(values[name]).sum()) for name in ("rho_g", "rho_e")}
    said = [
        f"without {count} of the {J} SNP blocks the {what} correlation does not exist, and it has no jackknife error"
        for (name, count), what in zip(lost.items(), ("genetic", "residual"), strict=True)
        if count and np.isfinite(pair.value(name))
    ]
    return replace(pair, jackknife=errors, message="; ".join([*filter(None, [pair.message]), *said]))
