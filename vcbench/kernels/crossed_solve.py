"""V⁻¹ of a crossed model at one θ, by blocked Cholesky: what it takes to multiply by it and to sum its traces.

With the leading factor's part V_0 = Z_0(I ⊗ Ω_0)Z_0ᵀ + σ²I, block diagonal, and V = V_0 + Z_1Ω_1Z_1ᵀ, Ω_1 = ΛDΛᵀ (D = I
unless Ω is indefinite):

    K_l = (σ²I + A_lΩ_0)⁻¹,  W_l = Ω_0K_l          A_l the block of ZᵀZ of level l of the leading factor
    G = Z_1ᵀV_0⁻¹Z_1 = (A_11 − A_10 W A_01)/σ²      by scatter-add over the levels
    S = D + ΛᵀGΛ,  log|V| = n log σ² + Σ_l log|I + A_lΩ_0/σ²| + log|DS|
    V⁻¹ = V_0⁻¹ − V_0⁻¹Z_1 ΛS⁻¹Λᵀ Z_1ᵀV_0⁻¹

so that Ω is never inverted and may be singular. H = ZᵀV⁻¹Z has the blocks Λ⁻ᵀ(I − S⁻¹)Λ⁻¹ where Λ is safely regular and
G − GΛS⁻¹ΛᵀG elsewhere; those of the leading factor are K_l(A_l − A_l1ΛS⁻¹ΛᵀA_1lK_lᵀ).

The scheme is that of MixedModels.jl (Bates et al. 2025, arXiv:2505.11674), which eliminates the largest factor too.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs

from vcbench.kernels.crossed_core import (
    add_cross,
    add_outer,
    contract,
    down,
    gather,
    pick,
    scatter,
    scatter_columns,
    times_blocks,
    up,
)
from vcbench.kernels.crossed_design import CrossedDesign, Factor, blockwise

REGULAR = 1e-3  # mean of (ΛᵀGΛ)_cc above which a factor's blocks of H come from S⁻¹: I − S⁻¹ then keeps its digits
CHUNK = 256  # columns of H at a time
SPARE = 1e8  # bytes up to which a dense part is kept for the next evaluation: its pages are there already

_spare: list[np.ndarray] = []


class State(Protocol):
    """What a θ makes of a design."""

    logdet: float  # log|V| − n log σ²

    def solve(self, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ZᵀV⁻¹B, (I ⊗ Ω)ZᵀV⁻¹B), both (q, m), of B given by C = ZᵀB."""
        ...

    def squares(self, HX: np.ndarray) -> np.ndarray:
        """E (R, R, R, R), E[a,b,c,d] = Σ_lm H[la,mc]·H[lb,md] over all levels, H = ZᵀV⁻¹Z − HX·HXᵀ."""
        ...

    def release(self) -> None:
        """Give back what it holds: nothing is asked of it any more."""
        ...

    def finish(self) -> None:
        """Make way for `sums` and `covariances`: the last to be asked."""
        ...

    def sums(self) -> np.ndarray:
        """Σ_l of each level's own block of ZᵀV⁻¹Z: (R, R), zero between factors."""
        ...

    def covariances(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Cov(u | y, β) at the non-zeros of ZᵀZ: own blocks of each factor, entries of each cross."""
        ...


class Bare:
    """The state where Ω = 0: V = σ²I, and nothing is factorised."""

    def __init__(self, D: CrossedDesign, sigma2: float) -> None:
        self.D, self.sigma2, self.logdet = D, sigma2, 0.0

    def solve(self, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `State`."""
        return C / self.sigma2, np.zeros_like(C)

    def squares(self, HX: np.ndarray) -> np.ndarray:
        """See `State`: ‖ZᵀZ − BBᵀ‖² by the non-zeros of ZᵀZ and the products BᵀB."""
        D, s = self.D, self.sigma2
        B = HX * np.sqrt(s)  # H = (ZᵀZ − BBᵀ)/σ²
        outer_own, outer_cross = outer_at(D, B)
        plain = contraction(D, D.own, [c.val for c in D.crosses])
        mixed = contraction(D, outer_own, outer_cross)
        P = np.zeros((D.n_effects, D.n_effects, B.shape[1], B.shape[1]))
        for f in D.factors:
            b = f.part(B)
            P[f.block] = np.einsum("las,lbt->abst", b, b)
        return (plain - mixed - mixed.transpose(1, 0, 3, 2) + np.einsum("abst,cdst->abcd", P, P)) / s**2

    def release(self) -> None:
        """See `State`."""

    def finish(self) -> None:
        """See `State`."""

    def sums(self) -> np.ndarray:
        """See `State`."""
        out = np.zeros((self.D.n_effects,) * 2)
        for f, own in zip(self.D.factors, self.D.own, strict=True):
            out[f.block] = own.sum(0) / self.sigma2
        return out

    def covariances(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """See `State`: u = 0."""
        return [np.zeros_like(own) for own in self.D.own], [np.zeros_like(c.val) for c in self.D.crosses]


class Factorised:
    """The state at any other θ; `build` gives None where V is not positive definite."""

    def __init__(self, D: CrossedDesign, Omega: np.ndarray, sigma2: float) -> None:
        self.D, self.Omega, self.sigma2 = D, Omega, sigma2
        self.root, self.inverse, self.sign = signed_root(Omega, D)
        f, A = D.lead, D.own[0]
        Omega0 = Omega[f.block]
        inner = sigma2 * np.eye(f.r) + blockwise(A, np.broadcast_to(Omega0, A.shape))
        self.K = np.linalg.inv(inner) if f.r > 1 or (inner == 0).any() else 1.0 / inner
        W = Omega0 @ self.K
        self.W = (W + W.transpose(0, 2, 1)) / 2
        c = D.crosses[0]
        self.B = times_blocks(c.idx, c.val, D.base, D.effect, self.root)  # A_l1Λ

    @classmethod
    def build(cls, D: CrossedDesign, Omega: np.ndarray, sigma2: float) -> "Factorised | None":
        """Form S and factorise it."""
        if not np.isfinite(Omega).all():
            return None
        try:
            new = cls(D, Omega, sigma2)
        except np.linalg.LinAlgError:  # σ²I + A_lΩ_0 is singular: so is V
            return None
        return new if new._factorise() else None

    def _root(self, f: Factor) -> np.ndarray:
        return self.root[f.block]

    def _factorise(self) -> bool:
        """S and log|V| − n log σ²; False where V is not positive definite."""
        D, s = self.D, self.sigma2
        c = D.crosses[0]
        S = zeros(D.q1)
        signs = np.ones(D.q1)
        for k, f in enumerate(D.dense, start=1):
            root, at = self._root(f), f.at - D.lead.q
            block = root.T @ (D.own[k] / s) @ root
            first = at + np.arange(f.n_levels) * f.r
            for a in range(f.r):
                for b in range(a + 1):
                    S[first + a, first + b] = block[:, a, b]
            signs[at : at + f.q] = np.tile(self.sign[f.effects], f.n_levels)
        for cross in D.crosses[1:]:
            val = times_blocks(cross.idx, cross.val, D.base, D.effect, self.root) @ (self._root(cross.row) / s)
            add_cross(cross.ptr, cross.idx, val, cross.row.at - D.lead.q, S)
        scatter(c.ptr, c.idx, self.B, self.W / s, S)
        diagonal = np.einsum("ii->i", S)
        self.weak = [f for f in D.dense if f.part(diagonal, D.lead.q).mean(0).min() <= REGULAR]
        diagonal += signs
        self.S, self.indefinite = S, bool((self.sign < 0).any())
        logdet0 = -np.log(np.abs(self.K)).sum() if D.lead.r == 1 else -np.linalg.slogdet(self.K)[1].sum()
        self.logdet = logdet0 - D.lead.q * np.log(s)
        if self.indefinite:
            return self._factorise_indefinite(signs)
        info = dpotrf(S.T, lower=0, clean=0, overwrite_a=1)[1]  # S.T in Fortran's order is S: LAPACK works in place
        if info != 0:
            self.release()
            return False
        self.logdet += 2.0 * np.log(np.einsum("ii->i", S)).sum()
        return True

    def _factorise_indefinite(self, signs: np.ndarray) -> bool:
        """Sylvester: V is positive definite where [D_0 + Λ_0ᵀA_lΛ_0/σ²]_l and S have the inertia of D."""
        f = self.D.lead
        root = self._root(f)
        negative = int((self.sign[f.effects] < 0).sum()) * f.n_levels + int((signs < 0).sum())
        blocks = root.T @ (self.D.own[0] / self.sigma2) @ root + np.diag(self.sign[f.effects])
        values, vectors = np.linalg.eigh(self.S)
        found = int((np.linalg.eigvalsh(blocks) < 0).sum()) + int((values < 0).sum())
        if found != negative or not np.abs(values).min(initial=1.0) > 0:
            return False
        self.logdet += float(np.log(np.abs(values)).sum())
        self.S = (vectors / values) @ vectors.T
        self.weak = list(self.D.dense)
        return True

    def solve(self, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `State`."""
        D, f, c, q0 = self.D, self.D.lead, self.D.crosses[0], self.D.lead.q
        rhs = np.zeros((D.q1, C.shape[1]))
        down(c.ptr, c.idx, self.B, blockwise(self.W, f.part(C)), rhs)
        for g in D.dense:
            part = g.part(rhs, q0)
            part[:] = self._root(g).T @ g.part(C) - part
        rhs /= self.sigma2
        z = self._inner(rhs)
        left = np.zeros_like(f.part(C))
        up(c.ptr, c.idx, self.B, z, left)
        left = f.part(C) - left
        H, U = np.empty_like(C), np.empty_like(C)
        f.part(H)[:] = blockwise(self.K, left)
        f.part(U)[:] = blockwise(self.W, left)
        for g in D.dense:
            part = g.part(z, q0)
            g.part(U)[:] = self._root(g) @ part
            if g not in self.weak:
                g.part(H)[:] = self.inverse[g.block].T @ part
        if self.weak:
            rest = (C - D.times(U)) / self.sigma2
            for g in self.weak:
                g.part(H)[:] = g.part(rest)
        return H, U

    def _inner(self, rhs: np.ndarray) -> np.ndarray:
        """S⁻¹·rhs."""
        if self.indefinite:
            return self.S @ rhs
        return np.ascontiguousarray(dpotrs(self.S.T, rhs, lower=0)[0])

    def release(self) -> None:
        """See `State`."""
        if self.S.nbytes <= SPARE:
            _spare[:] = [self.S]

    def finish(self) -> None:
        """See `State`: the blocks of weak factors by solutions with S, then S⁻¹ in the place of S."""
        self.weak_sums = {f: self._weak_sum(k, f) for k, f in enumerate(self.D.factors) if f in self.weak}
        if not self.indefinite:
            dpotri(self.S.T, lower=0, overwrite_c=1)
        c = self.D.crosses[0]
        self.X, self.XB = gather(c.ptr, c.idx, self.B, self.S)

    def _weak_sum(self, k: int, f: Factor) -> np.ndarray:
        """Σ_l [G − GΛS⁻¹ΛᵀG]_ll of a dense factor."""
        D, s, q0 = self.D, self.sigma2, self.D.lead.q
        c, low, high = D.crosses[0], f.at - q0, f.at - q0 + f.q
        raw = np.zeros((D.q1, f.q))  # columns of G
        scatter_columns(c.ptr, c.idx, c.val, self.W / s, low, high, raw)
        mine = np.arange(f.q).reshape(f.n_levels, f.r)
        raw[low + mine[:, :, None], mine[:, None, :]] += D.own[k] / s
        for cross in D.crosses[1:]:
            g = cross.row
            entry = g.at - q0 + cross.level[:, None] * g.r + np.arange(g.r)  # (nnz, r): the columns of the row's level
            if g is f:
                raw[cross.idx[:, None], entry - low] += cross.val / s
            met = (cross.idx >= low) & (cross.idx < high)
            raw[entry[met], cross.idx[met][:, None] - low] += cross.val[met] / s
        scaled = np.empty_like(raw)  # ΛᵀG
        for g in D.dense:
            g.part(scaled, q0)[:] = self._root(g).T @ g.part(raw, q0)
        if self.indefinite:
            left, right = scaled, self.S @ scaled
        else:
            left = right = dtrtrs(self.S.T, scaled, lower=0, trans=1)[0]
        blocks = (D.q1, f.n_levels, f.r)
        own = raw[low + mine[:, :, None], mine[:, None, :]].sum(0)
        return own - np.einsum("ina,inb->ab", left.reshape(blocks), right.reshape(blocks))

    def sums(self) -> np.ndarray:
        """See `State`."""
        D, f = self.D, self.D.lead
        out = np.zeros((D.n_effects,) * 2)
        own = blockwise(self.K, D.own[0] - blockwise(self.XB, self.K.transpose(0, 2, 1)))
        out[f.block] = own.sum(0)
        for g in D.dense:
            at = g.block
            if g in self.weak:
                out[at] = self.weak_sums[g]
            else:
                M = self.inverse[at]
                out[at] = M.T @ (g.n_levels * np.eye(g.r) - self._own_inverse(g).sum(0)) @ M
        return (out + out.T) / 2

    def _own_inverse(self, g: Factor) -> np.ndarray:
        """Blocks of S⁻¹ of each level of a dense factor with itself (N, r, r)."""
        out = np.empty((g.n_levels, g.r, g.r))
        first = g.at - self.D.lead.q + np.arange(g.n_levels) * g.r
        for a in range(g.r):
            for b in range(a + 1):
                out[:, a, b] = out[:, b, a] = self.S[first + a, first + b]
        return out

    def covariances(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """See `State`: Λ S⁻¹ Λᵀ between dense levels, −W_l A_l1 ΛS⁻¹Λᵀ to the leading one, σ²W_l + W_l(·)W_l in it."""
        D, W = self.D, self.W
        own = [self.sigma2 * W + W @ self.XB @ W]
        for g in D.dense:
            own.append(self._root(g) @ self._own_inverse(g) @ self._root(g).T)
        crosses = []
        for c in D.crosses:
            if c.row is D.lead:
                val = -np.einsum("pab,pb->pa", W[c.level], self.X)
            else:
                val = pick(c.ptr, c.idx, c.row.r, c.row.at - D.lead.q, self.S) @ self._root(c.row).T
            crosses.append(times_blocks(c.idx, np.ascontiguousarray(val), D.base, D.effect, self.root.T.copy()))
        return own, crosses

    def squares(self, HX: np.ndarray) -> np.ndarray:
        """See `State`: by the columns of H, some at a time; q solutions with S."""
        D = self.D
        E = np.zeros((D.n_effects,) * 4)
        for k, g in enumerate(D.factors):
            step = max(1, CHUNK // g.r)
            for level in range(0, g.n_levels, step):
                n = min(step, g.n_levels - level)
                columns = slice(g.at + level * g.r, g.at + (level + n) * g.r)
                H = self.solve(D.matrix[:, columns].toarray())[0] - HX @ HX[columns].T
                for f in D.factors[k:]:
                    h = f.part(H).reshape(f.n_levels, f.r, n, g.r)
                    flat = h.transpose(1, 3, 0, 2).reshape(f.r * g.r, -1)
                    part = (flat @ flat.T).reshape(f.r, g.r, f.r, g.r).transpose(0, 2, 1, 3)
                    E[np.ix_(f.effects, f.effects, g.effects, g.effects)] += part
                    if f is not g:
                        E[np.ix_(g.effects, g.effects, f.effects, f.effects)] += part.transpose(2, 3, 0, 1)
        return E


def zeros(size: int) -> np.ndarray:
    """0 (size, size): the matrix given back last, if it is as large."""
    try:
        S = _spare.pop()
    except IndexError:
        S = None
    if S is None or len(S) != size:
        return np.zeros((size, size))
    S.fill(0.0)
    return S


def signed_root(Omega: np.ndarray, D: CrossedDesign) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Λ, Λ⁻¹, D) (R, R), (R, R), (R,) of Ω = ΛDΛᵀ, factor by factor; rows of Λ⁻¹ are 0 where Λ has no rank.

    Effects are brought to one scale first: an eigenvalue is 0 relative to what their variances are.
    """
    R = len(Omega)
    root, inverse, sign = np.zeros((R, R)), np.zeros((R, R)), np.ones(R)
    for f in D.factors:
        at = f.block
        block = Omega[at]
        if f.r == 1:
            scale = np.sqrt(np.abs(block))
            root[at], sign[f.effects] = scale, np.where(block[0] < 0, -1.0, 1.0)
            inverse[at] = 1.0 / scale if block[0, 0] else 0.0
            continue
        size = np.sqrt(np.abs(np.diag(block)))
        size[size == 0] = 1.0
        values, vectors = np.linalg.eigh(block / np.outer(size, size))
        values[np.abs(values) <= 1e-14 * len(size)] = 0.0
        scale = np.sqrt(np.abs(values))
        root[at] = size[:, None] * vectors * scale
        inverse[at] = (vectors * np.divide(1.0, scale, where=scale > 0, out=np.zeros_like(scale))).T / size
        sign[f.effects] = np.where(values < 0, -1.0, 1.0)
    return root, inverse, sign


def outer_at(D: CrossedDesign, B: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """BBᵀ (B (q, k)) at the non-zeros of ZᵀZ."""
    own, crosses = [], []
    dense = np.ascontiguousarray(B[D.lead.q :])
    for f in D.factors:
        b = f.part(B)
        own.append(b @ b.transpose(0, 2, 1))
    for c in D.crosses:
        val = np.zeros_like(c.val)
        add_outer(c.ptr, c.idx, c.row.part(B), dense, val)
        crosses.append(val)
    return own, crosses


def contraction(D: CrossedDesign, own: Sequence[np.ndarray], crosses: Sequence[np.ndarray]) -> np.ndarray:
    """T (R, R, R, R), T[a,b,c,d] = Σ_lm A_la,mc·X_lb,md, A = ZᵀZ and X given at its non-zeros."""
    T = np.zeros((D.n_effects,) * 4)
    for f, A, x in zip(D.factors, D.own, own, strict=True):
        T[np.ix_(*(f.effects,) * 4)] = np.einsum("lac,lbd->abcd", A, x)
    for c, x in zip(D.crosses, crosses, strict=True):
        contract(c.idx, c.val, x, D.base, D.effect, c.row.effects, T)
    return T
