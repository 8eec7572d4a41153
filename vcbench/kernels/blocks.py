"""The reduced form shared by `grouped` and `spectral`: constant size per block, exact, and all that a twin needs.

`grouped`: block i is a level; A_i = Q_i R_i (thin QR). `spectral`: block i is an eigenvector u_i of K (or a left
singular vector of Z), r = 1, R_i = √d_i. In both, the rows rotated by Q_i see the random effects and the rest do not.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from vcbench.errors import ModelError
from vcbench.kernels.protocol import Basis, Evaluation, Moments
from vcbench.model.component import Component
from vcbench.model.eigenvectors import Eigenvectors
from vcbench.model.model import Model

NEGLIGIBLE = 1e-10  # of the largest eigenvalue: below it an eigenvector sees no random effect but rounding


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How θ sits in the stacked Ω (r, r) of all components: pairs, features, cones, divisors, natural scale.

    A cone is a set of effects whose block of Ω must be positive semi-definite; the residual variance is the last.
    """

    pa: np.ndarray
    pb: np.ndarray
    fa: np.ndarray
    fb: np.ndarray
    feature_component: np.ndarray
    cone_ptr: np.ndarray
    cone_effects: np.ndarray
    q: np.ndarray
    scale: np.ndarray
    n_obs: int

    @classmethod
    def of(cls, model: Model, size: list[np.ndarray], y_scale: float) -> "Layout":
        """`size`: per component, the mean over rows of each effect's squared row norm (a unit for Ω_aa σ²-free)."""
        pa, pb, fa, fb, fc, ptr, effects, q, s = [], [], [], [], [], [0], [], [], []
        at = 0
        for k, c in enumerate(model.components):
            for a, b in c.index:
                pa.append(at + a)
                pb.append(at + b)
            for block in c.partition:
                effects += [at + a for a in block]
                ptr.append(len(effects))
            for a in range(c.n_effects):
                for b in range(c.n_effects):
                    fa.append(at + a)
                    fb.append(at + b)
                    fc.append(k)
            q += [float(c.n_levels)] * c.n_effects
            s += [float(np.sqrt(x)) for x in size[k]]
            at += c.n_effects
        scale = [y_scale**2 / (s[a] * s[b]) for a, b in zip(pa, pb, strict=True)] + [y_scale**2]
        i64 = lambda x: np.asarray(x, np.int64)  # noqa: E731
        return cls(
            i64(pa),
            i64(pb),
            i64(fa),
            i64(fb),
            i64(fc),
            i64(ptr),
            i64(effects),
            np.asarray(q, float),
            np.asarray(scale, float),
            model.n_obs,
        )

    def with_scale(self, y_scale_ratio: float) -> "Layout":
        """The same layout for a response `y_scale_ratio` times as large."""
        return replace(self, scale=self.scale * y_scale_ratio**2)


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Sufficient statistics of a block-diagonal model, split into design and response.

    R (B, r, r), X (B, r, d), y (B, r): the rotated rows of A, of the orthonormal basis of X, and of y less its OLS fit.
    TX (w, d), t (w,), tau2: the rows that see no random effect, reduced to TXᵀTX and their sum of squares.
    n_within = n − B·r counts those rows (negative where a level has fewer than r rows: padding rows add log σ² each).
    For the twin, `within` (d+1, d+1) is the cross-product [X y] of those rows, X first.
    """

    R: np.ndarray
    X: np.ndarray
    TX: np.ndarray
    n_within: int
    n_obs: int
    n_levels: int
    basis: Basis
    rotation: "Rotation" = field(repr=False)
    y: np.ndarray
    t: np.ndarray
    tau2: float
    beta0: np.ndarray
    sd: float

    @property
    def within(self) -> np.ndarray:
        """[X y]ᵀ[X y] over the rows that see no random effect."""
        A = np.column_stack([self.TX, self.t])
        out = A.T @ A
        out[-1, -1] += self.tau2
        return out

    @property
    def klass(self) -> np.ndarray:
        """(B,) index of the distinct R_i of each block: blocks that share a design."""
        flat = np.round(self.R.reshape(len(self.R), -1), 12)
        return np.unique(flat, axis=0, return_inverse=True)[1].ravel()

    def reduce(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(y (R, B, r), t (R, w), tau2 (R,), beta0 (R, d)) of responses Y (n, R)."""
        beta0 = self.basis.ols(Y)
        Y0 = self.basis.residual(Y)
        y, rest = self.rotation.apply(Y0)
        t = self.rotation.Qw.T @ rest
        rest = rest - self.rotation.Qw @ t
        tau2 = (rest**2).sum(0) if self.rotation.n_outside(self.n_obs) > len(t) else np.zeros(Y.shape[1])
        return np.ascontiguousarray(np.moveaxis(y, 2, 0)), t.T.copy(), tau2, beta0.T.copy()

    def bind(self, y: np.ndarray) -> "Blocks":
        """The same design with the response y (n,)."""
        yb, t, tau2, beta0 = self.reduce(y[:, None])
        return replace(self, y=yb[0], t=t[0], tau2=float(tau2[0]), beta0=beta0[0], sd=_residual_sd(self.basis, y))


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """The orthogonal rows Q_i of every block, in stacks of equal group size, and the basis Qw of X outside them."""

    stacks: list[tuple[np.ndarray, np.ndarray, np.ndarray | Eigenvectors]]  # (block ids, rows (b, m), Q (b, m, r))
    n_blocks: int
    r: int
    Qw: np.ndarray

    def n_outside(self, n: int) -> int:
        """Rows of n that see no random effect: those that no Q_i takes."""
        return n - sum(len(ids) * (1 if Q.ndim == 2 else min(Q.shape[1], self.r)) for ids, _, Q in self.stacks)

    def apply(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Q_iᵀY_i (B, r, R), and Y less its part in the blocks (n, R)."""
        out = np.zeros((self.n_blocks, self.r, Y.shape[1]))
        rest = Y.copy()
        for ids, rows, Q in self.stacks:
            if isinstance(Q, Eigenvectors) or Q.ndim == 2:  # spectral: one stack, Q (n, B)
                part = Q.T @ Y
                out[ids, 0] = part
                rest -= Q @ part
                continue
            Yi = Y[rows]
            part = np.matmul(Q.transpose(0, 2, 1), Yi)
            out[ids] = part
            rest[rows] -= np.matmul(Q, part)
        return out, rest


def grouped(model: Model) -> Blocks:
    """Blocks of a model whose components all share one grouping factor. Raises ModelError otherwise."""
    codes = shared_groups(model)
    if codes is None:
        raise ModelError('kernel `grouped` needs components that all share one grouping factor. Use `kernel="dense"`.')
    A = np.column_stack([np.asarray(c.Z) for c in model.components])
    r = A.shape[1]
    B = int(codes.max()) + 1
    order = np.argsort(codes, kind="stable")
    size = np.bincount(codes, minlength=B)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    R = np.zeros((B, r, r))
    stacks = []
    for m in np.unique(size):
        ids = np.flatnonzero(size == m)
        rows = order[start[ids][:, None] + np.arange(m)]
        Q, Ri = np.linalg.qr(A[rows])
        k = Q.shape[2]  # min(m, r)
        R[ids, :k] = Ri
        if k < r:
            Q = np.concatenate([Q, np.zeros((len(ids), m, r - k))], axis=2)
        stacks.append((ids, rows, np.ascontiguousarray(Q)))
    return _finish(model, R, stacks, B, r, len(model.components[0].levels))


def spectral(model: Model) -> Blocks:
    """Blocks of a model with one variance multiplying K or ZZᵀ: eigenvectors, or singular vectors when q < n.

    Raises ModelError for any other model.
    """
    if len(model.components) != 1 or model.components[0].n_effects != 1:
        raise ModelError('kernel `spectral` needs one component with one variance. Use `kernel="dense"`.')
    c = model.components[0]
    vectors, d = _eigen(c)
    keep = d > NEGLIGIBLE * d.max()
    if not keep.all():
        vectors = vectors.last(int(keep.sum())) if isinstance(vectors, Eigenvectors) else vectors[:, keep]
        d = d[keep]
    if isinstance(vectors, np.ndarray):
        vectors = np.ascontiguousarray(vectors)
    R = np.sqrt(d)[:, None, None]
    return _finish(model, R, [(np.arange(len(d)), np.empty(0, int), vectors)], len(d), 1, c.n_levels)


def _eigen(c: Component) -> tuple[np.ndarray | Eigenvectors, np.ndarray]:
    """Eigenvectors and eigenvalues of V_k, from the smaller side."""
    if c.relation is not None and c.Z is None:
        values, vectors = c.relation.eigen
        return vectors, values
    (Z,) = c.factors()
    if Z.shape[1] < Z.shape[0]:
        u, s, _ = np.linalg.svd(Z, full_matrices=False)
        return u, s**2
    values, vectors = np.linalg.eigh(Z @ Z.T)
    return vectors, np.maximum(values, 0.0)


def _finish(model: Model, R: np.ndarray, stacks: list, B: int, r: int, n_levels: int) -> Blocks:
    assert model.X is not None
    n = model.n_obs
    basis = Basis.of(model.X)
    rotation = Rotation(stacks, B, r, np.zeros((n, 0)))
    X, rest = rotation.apply(basis.Q)
    u, s, vt = np.linalg.svd(rest, full_matrices=False)
    keep = s > 1e-12
    rotation = replace(rotation, Qw=np.ascontiguousarray(u[:, keep]))
    TX = np.ascontiguousarray(s[keep, None] * vt[keep])
    y = model.y if model.offset is None else model.y - model.offset
    empty = Blocks(
        np.ascontiguousarray(R),
        np.ascontiguousarray(X),
        TX,
        n - B * r,
        n,
        n_levels,
        basis,
        rotation,
        np.zeros((B, r)),
        np.zeros(len(TX)),
        0.0,
        np.zeros(model.n_fixed),
        1.0,
    )
    return empty.bind(y)


def _residual_sd(basis: Basis, y: np.ndarray) -> float:
    """OLS residual SD: the unit in which variances are of order one."""
    n, d = basis.Q.shape
    r = basis.residual(y)
    return float(np.sqrt((r @ r) / (n - d))) or 1.0


def shared_groups(model: Model) -> np.ndarray | None:
    """Codes (n,) of the grouping factor that all components share, or None."""
    if not model.components or not all(c.is_grouped for c in model.components):
        return None
    first = model.components[0].codes
    assert first is not None
    return (
        first if all(c.codes is first or np.array_equal(np.asarray(c.codes), first) for c in model.components) else None
    )


@dataclass(frozen=True, slots=True, eq=False)
class BlockKernel:
    """The kernel on `Blocks`: each evaluation costs O(B r² (r + d)), independent of n."""

    name: str
    model: Model
    blocks: Blocks
    layout: Layout
    work: tuple[np.ndarray, ...] = field(repr=False)
    rows: np.ndarray = field(repr=False)  # `block_rows.design_rows`

    @classmethod
    def build(cls, model: Model, name: str) -> "BlockKernel":
        """Reduce the model's design; `name` is "grouped" or "spectral"."""
        blocks = grouped(model) if name == "grouped" else spectral(model)
        per_effect = np.einsum("bij,bij->j", blocks.R, blocks.R) / model.n_obs
        size, at = [], 0
        for c in model.components:
            size.append(per_effect[at : at + c.n_effects])
            at += c.n_effects
        rows = design_rows(blocks.R, blocks.X, blocks.y)
        return cls(name, model, blocks, Layout.of(model, size, blocks.sd), work_space(blocks), rows)

    def bind(self, y: np.ndarray) -> "BlockKernel":
        """The same design with another response."""
        model = self.model.replace(y=y)
        blocks = self.blocks.bind(model.y if model.offset is None else model.y - model.offset)
        layout = self.layout.with_scale(blocks.sd / self.blocks.sd)
        rows = self.rows.copy()
        rows[-blocks.y.shape[1] :] = blocks.y.T
        return BlockKernel(self.name, model, blocks, layout, self.work, rows)

    @property
    def basis(self) -> Basis:
        """The orthonormal basis of X."""
        return self.blocks.basis

    @property
    def beta0(self) -> np.ndarray:
        """β_OLS, where γ = 0."""
        return self.blocks.beta0

    def evaluate(
        self,
        theta: np.ndarray,
        need: tuple[str, ...] = ("loglik",),
        criterion: str = "reml",
        beta: np.ndarray | None = None,
        gamma: np.ndarray | None = None,
    ) -> Evaluation:
        """See `protocol.Kernel`."""
        from vcbench.kernels.block_core import AVERAGE, EXPECTED, MOMENTS, SCORE
        from vcbench.kernels.block_rows import evaluate_blocks

        b, lay = self.blocks, self.layout
        theta = np.asarray(theta, float)
        if beta is not None:
            gamma = b.basis.gamma(beta, b.beta0)
        if gamma is not None:  # there is nothing left to integrate: ℓ_ML(β, θ)
            criterion = "ml"
        want = (
            SCORE * ("score" in need)
            | EXPECTED * ("expected" in need or "observed" in need)
            | AVERAGE * ("average" in need or "observed" in need)
            | MOMENTS * ("moments" in need)
        )
        reml = criterion == "reml"
        out = evaluate_blocks(
            self.rows,
            b.TX,
            b.t,
            b.tau2,
            b.n_within,
            b.n_obs,
            lay.q,
            theta,
            np.zeros(b.X.shape[2]) if gamma is None else np.asarray(gamma, float),
            gamma is None,
            reml,
            want,
            lay.pa,
            lay.pb,
            lay.fa,
            lay.fb,
            *self.work,
        )
        return package(out, theta, criterion, want, b.basis, b.beta0, gamma is not None, lay)

    def blup(self, theta: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        """û of each component at (θ, β): (levels, r), or (q,) for Z and (n,) for K; û = G Zᵀ V⁻¹(y − Xβ)."""
        b, lay = self.blocks, self.layout
        r = b.R.shape[1]
        gamma = b.basis.gamma(beta, b.beta0)
        Omega = np.zeros((r, r))
        Omega[lay.pa, lay.pb] = Omega[lay.pb, lay.pa] = theta[:-1]
        W = b.R @ Omega @ b.R.transpose(0, 2, 1) + theta[-1] * np.eye(r)
        g = np.linalg.solve(W, (b.y - b.X @ gamma)[..., None])  # W⁻¹r̃
        h = (b.R.transpose(0, 2, 1) @ g)[..., 0] @ Omega  # Ω RᵀW⁻¹r̃
        if self.name == "grouped":
            ends = np.cumsum([c.n_effects for c in self.model.components])[:-1]
            return list(np.split(h, ends, axis=1))
        (c,) = self.model.components
        _, _, vectors = b.rotation.stacks[0]
        if c.relation is not None and c.Z is None:
            return [vectors @ (b.R[:, 0, 0] * h[:, 0])]
        (Z,) = c.factors()
        w = Z.T @ (vectors @ g[:, 0, 0]) * theta[0]  # σ²Zᵀ V⁻¹r: Z lies in the span of the blocks
        return [c.effects_of(w[:, None])]

    @property
    def answers(self) -> tuple:
        """What `solvers.run.climb` is compiled over."""
        b, lay = self.blocks, self.layout
        return (
            self.rows,
            b.TX,
            b.t,
            b.tau2,
            b.n_within,
            b.n_obs,
            lay.q,
            lay.pa,
            lay.pb,
            lay.fa,
            lay.fb,
            *self.work,
        )


def package(out, theta, criterion, want, basis, beta0, given, lay) -> Evaluation:
    """An Evaluation from what `evaluate_blocks` returns."""
    ok, loglik, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet, yty = out
    if criterion == "reml":
        loglik -= 0.5 * basis.logdet
    if not ok:
        return Evaluation(theta, criterion, -np.inf, gamma, basis.beta(gamma, beta0))
    return Evaluation(
        theta,
        criterion,
        float(loglik),
        gamma,
        basis.beta(gamma, beta0),
        A,
        score_gamma if given else None,
        score if want & 7 else None,
        expected if want & 2 else None,
        average if want & 4 else None,
        Moments(np.column_stack([lay.fa, lay.fb]), F, Wty, XtW, S, yty, f, E0, logdet) if want & 8 else None,
    )


def work_space(b: Blocks) -> tuple[np.ndarray, ...]:
    """Scratch rows for `evaluate_blocks`; not shared between threads."""
    B, r, d = b.X.shape
    return (np.empty((2 * r * (r + 1) + 2 * r * r + 4 * d * r + 4 * r, B)),)


def design_rows(R: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """R (B, r, r), X (B, r, d) and y (B, r) as rows (r·r + d·r + r, B), in this order; X a column after another."""
    B = len(y)
    return np.ascontiguousarray(np.hstack([R.reshape(B, -1), X.transpose(0, 2, 1).reshape(B, -1), y]).T)
