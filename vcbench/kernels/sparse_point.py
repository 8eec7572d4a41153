"""Kernel `sparse` at one θ: solutions by M's factor, and what M⁻¹ at M's entries gives (formulas: `sparse`)."""

from dataclasses import dataclass, field, replace

import numpy as np

from vcbench.kernels.blocks import Layout
from vcbench.kernels.protocol import Moments
from vcbench.kernels.sparse_core import contract, covariances, selected_inverse, solve_factored
from vcbench.kernels.sparse_design import SparseDesign
from vcbench.kernels.sparse_residual import Blocks, Independent, check_memory
from vcbench.kernels.traces import both, pair_traces


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Λ per component, R, ZᵀR⁻¹Z = B/scale, and the panels of M's factor; `with_inverse` adds the sums over M⁻¹."""

    design: SparseDesign
    layout: Layout
    Omegas: list[np.ndarray]
    roots: list[np.ndarray]
    R: Independent | Blocks
    B: np.ndarray = field(repr=False)
    scale: float
    panels: np.ndarray = field(repr=False)
    inverse: np.ndarray | None = field(default=None, repr=False)  # M⁻¹ as M's lower entries
    T: list[np.ndarray] = field(default_factory=list, repr=False)  # [tr(A Z_aᵀV⁻¹Z_b)] (r, r) per component
    PZ: list[np.ndarray] = field(default_factory=list, repr=False)  # [tr(P (M⁻¹)_ce)] (r, r) per component
    F: np.ndarray | None = field(default=None, repr=False)  # [tr(Z_aᵀZ_c Cov(u)_be)] over features

    def solve(self, x: np.ndarray) -> np.ndarray:
        """ŵ = M⁻¹ΛᵀZᵀR⁻¹x (q, m) for x (n, m); A ΛᵀZᵀV⁻¹x is the same."""
        return self._inverse_times(self.design.Zt @ self.R.solve(x))

    def _inverse_times(self, ZtRx: np.ndarray) -> np.ndarray:
        d = self.design
        half = d.times_roots(ZtRx, [root.T for root in self.roots])
        permuted = np.ascontiguousarray(half[d.order])
        solve_factored(self.panels, d.fronts.tables, permuted)
        half[d.order] = permuted
        return half

    def spread(self, w: np.ndarray) -> np.ndarray:
        """ZΛw (n, m)."""
        return self.design.Z @ self.design.times_roots(w, self.roots)

    def unscaled(self, w: np.ndarray) -> np.ndarray:
        """A ZᵀV⁻¹x from ŵ: Λ⁻ᵀŵ."""
        return self.design.times_roots(w, self.roots, inverse=True)

    def with_inverse(self, with_F: bool) -> "Point":
        """The same point with its selected inverse worked out and summed."""
        d = self.design
        inverse = selected_inverse(self.panels, d.fronts.tables, d.fronts.stack)[d.fronts.entry]
        offset = np.concatenate([[0], np.cumsum(d.size**2)])
        F = np.zeros((offset[-1], offset[-1]) if with_F else (0, 0))
        tables = (*d.pairs.tables(self.B), d.pairs.same, d.size, stacked(self.roots))
        R, PZ = contract(*tables, inverse, offset[:-1], with_F, F)  # type: ignore[call-arg]
        T, parts = [], []
        for k, (root, r) in enumerate(zip(self.roots, d.size, strict=True)):
            product = np.linalg.solve(root.T, R[k, :r, :r]) / self.scale
            T.append((product + product.T) / 2)
            parts.append((PZ[k, :r, :r] + PZ[k, :r, :r].T) / 2)
        return replace(self, T=T, PZ=parts, F=F if with_F else None, inverse=inverse)

    def covariances(self) -> np.ndarray:
        """Cov(u | y, β) = ΛM⁻¹Λᵀ where M has entries, laid out as `Pairs.B`."""
        pairs, out = self.design.pairs, np.empty(len(self.B))
        tables = (pairs.k, pairs.m, pairs.ptr, pairs.where, self.design.size, stacked(self.roots))
        covariances(*tables, self.inverse, out)  # type: ignore[call-arg]
        return out

    def diagonal_blocks(self) -> list[np.ndarray]:
        """M⁻¹ within each level, (levels, r, r) per component."""
        d, pairs = self.design, self.design.pairs
        inverse = selected_inverse(self.panels, d.fronts.tables, d.fronts.stack)[d.fronts.entry]
        out = []
        for k, r in enumerate(d.size):
            own = np.flatnonzero(pairs.same & (pairs.k == k))  # in the order of the levels
            c, e = np.tril_indices(r)
            block = np.empty((len(own), r, r))
            block[:, c, e] = inverse[pairs.where[pairs.ptr[own, None] + c * r + e]]
            block[:, e, c] = block[:, c, e]
            out.append(block)
        return out

    @property
    def trace(self) -> float:
        """tr(V⁻¹) = (n − q + tr(P M⁻¹))/σ² where R = σ²I."""
        return (self.design.Z.shape[0] - self.design.q + sum(np.trace(p) for p in self.PZ)) / self.scale

    def score(self, g: np.ndarray, wr: np.ndarray, U: np.ndarray, wQ: np.ndarray, M) -> tuple[np.ndarray, np.ndarray]:
        """−½[tr(T V_j) − gᵀV_j g], g = V⁻¹r, and `R.residue`; T = V⁻¹, or P where M = (QᵀV⁻¹Q)⁻¹ is given, U = V⁻¹Q."""
        d, out = self.design, []
        h, f = d.Zt @ g[:, None], self.unscaled(wr[:, None])
        H, AH = d.Zt @ U, self.unscaled(wQ)
        for k, T in enumerate(self.T):
            left, right = d.by_effect(k, h)[..., 0], d.by_effect(k, f)[..., 0]
            value = T - left.T @ right
            if M is not None:
                value = value - np.einsum("iad,ibd->ab", d.by_effect(k, H) @ M, d.by_effect(k, AH))
            out.append(value)
        G = self.R.residue(self, g, U[:, :0] if M is None else U @ np.linalg.cholesky(M))
        return np.concatenate([-0.5 * self._of_pairs(out), self.R.score(G)]), G

    def _of_pairs(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The entries (a, b) of the parameters, twice where a ≠ b: a symmetric function of V_j's two terms."""
        out, lay = [], self.layout
        first = np.concatenate([[0], np.cumsum(self.design.size)])
        for a, b in zip(lay.pa, lay.pb, strict=True):
            k = int(np.searchsorted(first, a, side="right")) - 1
            block = blocks[k]
            x, z = a - first[k], b - first[k]
            out.append(block[x, z] if a == b else block[x, z] + block[z, x])
        return np.array(out)

    def average(self, g: np.ndarray, wr: np.ndarray, U: np.ndarray, M) -> np.ndarray:
        """½ w_iᵀ P w_j, w_j = V_j g; V⁻¹ in the place of P where M is None."""
        d, lay = self.design, self.layout
        f = self.unscaled(wr[:, None])
        x = np.zeros((d.q, len(lay.pa)))
        for j, pair in enumerate(zip(lay.pa, lay.pb, strict=True)):
            for a, b in both(*pair):
                x[self.rows(a), j] = f[self.rows(b), 0]
        work = np.column_stack([d.Z @ x, self.R.derivatives(g)])
        w = self.solve(work)
        E = work - self.spread(w)
        out = E.T @ self.R.solve(E) + w.T @ (d.P @ w)
        if M is not None:
            XVw = U.T @ work
            out -= XVw.T @ M @ XVw
        return 0.5 * out

    def rows(self, a: int) -> slice:
        """Where effect a of all components stacked is among the q."""
        d = self.design
        k = int(np.searchsorted(np.cumsum(d.size), a, side="right"))
        return slice(d.start[k] + a - int(d.size[:k].sum()), d.start[k + 1], d.size[k])

    def expected(self, U: np.ndarray, wQ: np.ndarray, M) -> np.ndarray:
        """½ tr(T V_i T V_j), exact, from G = A ZᵀTZ (q, q) in full; the residual's by σ²T² = T − T ZΩAZᵀ T. With blocks
        of residuals from T itself (`Blocks.expected`).

        Raises ModelError where G is too large.
        """
        d, lay, p = self.design, self.layout, len(self.layout.scale)
        if isinstance(self.R, Blocks):
            return self.R.expected(self, U, wQ, M)
        check_memory(5 * d.q**2, d.q)
        G = self.unscaled(self._inverse_times((d.Zt @ d.Z).toarray() / self.scale))
        trace = self.trace
        if M is not None:
            G -= self.unscaled(wQ) @ M @ (d.Zt @ U).T
            trace -= float(np.vdot(U @ M, U))
        squared = (G - G @ d.times_roots(G, [root @ root.T for root in self.roots])) / self.scale  # A ZᵀT²Z
        at = [self.rows(a) for a in range(int(d.size.sum()))]
        out = np.empty((p, p))
        out[:-1, :-1] = pair_traces(G, at, lay.pa, lay.pb)
        rest = trace
        for j, pair in enumerate(zip(lay.pa, lay.pb, strict=True)):
            out[j, -1] = out[-1, j] = sum(np.trace(squared[at[b], at[a]]) for a, b in both(*pair))
        for k, root in enumerate(self.roots):
            first = int(d.size[:k].sum())
            Omega = root @ root.T
            for a in range(d.size[k]):
                for b in range(d.size[k]):
                    rest -= Omega[a, b] * np.trace(squared[at[first + b], at[first + a]])
        out[-1, -1] = rest / self.scale
        return 0.5 * out

    def moments(self, r: np.ndarray, y: np.ndarray, Q: np.ndarray, wr: np.ndarray, wQ: np.ndarray, M, logdet: float):
        """`protocol.Moments`: Cov(u) = ΛM⁻¹Λᵀ, and where β is integrated K M Kᵀ more, K = ΛM⁻¹ΛᵀZᵀQ/σ²."""
        d, lay = self.design, self.layout
        assert self.F is not None
        u = d.times_roots(wr[:, None], self.roots)
        E0, half = float(r @ r), np.zeros((0, 0))
        if M is not None:
            half = np.linalg.cholesky(M)
            u = np.hstack([u, d.times_roots(wQ @ half, self.roots)])
            E0 += float(np.trace(M))
        W = np.empty((len(y), len(lay.fa), u.shape[1]))
        for j, (a, b) in enumerate(zip(lay.fa, lay.fb, strict=True)):
            x = np.zeros_like(u)
            x[self.rows(a)] = u[self.rows(b)]
            W[:, j] = d.Z @ x
        f = W[..., 0].T @ r
        if M is not None:
            f = f + np.einsum("njt,nt->j", W[..., 1:], Q @ half)
        F = self.F + np.einsum("njt,nkt->jk", W, W, optimize=True)
        S = np.zeros((len(lay.q), len(lay.q)))
        Pu = d.P @ u
        for k, (Omega, root) in enumerate(zip(self.Omegas, self.roots, strict=True)):
            first = int(d.size[:k].sum())
            at = slice(first, first + d.size[k])
            S[at, at] = np.einsum("iat,ibt->ab", d.by_effect(k, u), d.by_effect(k, Pu)) + root @ self.PZ[k] @ root.T
            S[at, at] += (lay.q[at] - d.levels[k])[:, None] * Omega
        features = np.column_stack([lay.fa, lay.fb])
        return Moments(features, F, W[..., 0].T @ y, Q.T @ W[..., 0], S, float(y @ y), f, E0, float(logdet))


def stacked(roots: list[np.ndarray]) -> np.ndarray:
    """Λ of all components (K, r, r), r the largest."""
    top = max(len(root) for root in roots)
    out = np.zeros((len(roots), top, top))
    for k, root in enumerate(roots):
        out[k, : len(root), : len(root)] = root
    return out
