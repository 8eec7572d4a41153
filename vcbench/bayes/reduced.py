"""The reduced form of a model: sufficient statistics of constant size in which every twin and grid is evaluated.

After an orthogonal rotation the rows fall into blocks c with covariance W_c = Σ_j θ_j S_jc + σ²I, and rows that see no
random effect. With U_c the rotated rows of [Q y] (Q the orthonormal basis of X, y less its OLS fit; γ = T(β − β_OLS)),

    log|V| = Σ_c N_c log|W_c| + n_within log σ²,      G = [Q y]ᵀV⁻¹[Q y] = Σ_c Σ_i U_iᵀW_c⁻¹U_i + within/σ²,

and G (d+1, d+1) holds the rest of ℓ: with G = MMᵀ its Cholesky factor, log|QᵀV⁻¹Q| = 2 Σ_{j≤d} log M_jj and
yᵀPy = M_yy². Blocks that share a design share W_c, so that a balanced layout of any size is one block.

Two layouts. "small" blocks (r ≤ 4, one grouping factor or one relationship matrix; from `kernels.reduce`): matrices as
stacks of their lower triangles, and U only through its cross-products. Else U is kept: blocks of r > 4 effects, each
factorised; and for several factors or matrices one block, rotated into the column space of Z if Σq < n, else V itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench import kernels
from vcbench.bayes.gram import OfGram
from vcbench.errors import ModelError
from vcbench.kernels.protocol import Basis
from vcbench.model.model import Model

SMALL = 4  # largest block written out element by element
LIMIT = 500  # largest dense block: a Cholesky factor of more costs a sampler seconds a draw
SPECTRAL = 3000  # rows up to which an eigendecomposition takes seconds
CHUNK = 4_000_000  # numbers in flight when many θ are evaluated at once


def layout(model: Model) -> str:
    """The kernel whose blocks hold the sufficient statistics: as chosen for one fit, but one variance of related or
    crossed effects goes to its eigenbasis where that takes seconds, since a posterior asks thousands of times."""
    name = kernels.choose(model)[0]
    one = len(model.components) == 1 and model.components[0].n_effects == 1 and not model.is_structured
    return "spectral" if one and name != "grouped" and model.n_obs <= SPECTRAL else name


@dataclass(frozen=True, slots=True, eq=False)
class Reduced(OfGram):
    """Sufficient statistics of a model for one response.

    m: size of a block. S: ∂W/∂θ_j of all but the residual, (p−1, P, C) for small blocks with P = m(m+1)/2, else
    (p−1, C, m, m). count (C,): blocks that share each design. cross: the Σ UUᵀ of each design, (g, P, C) with
    g = (d+1)(d+2)/2 and off-diagonal pairs doubled; or U (C, m, d+1). within (g,): a lower triangle. T: X = QT.
    logdet_xx = log|XᵀX|.
    """

    m: int
    small: bool
    S: np.ndarray
    count: np.ndarray
    cross: np.ndarray
    within: np.ndarray
    n_within: int
    n_obs: int
    n_fixed: int
    T: np.ndarray
    beta0: np.ndarray
    logdet_xx: float
    sd_y: float
    rotate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(repr=False)
    log_weights: float = 0.0

    @classmethod
    def of(cls, model: Model) -> "Reduced":
        """The reduced form of a model that is linear in θ: rows times √weight, the S of tied components summed.

        Raises ModelError for the others, and where every form is too large.
        """
        why = cls.why_not(model)
        if why is not None:
            raise ModelError(f"no sufficient statistics of constant size hold the likelihood of a model with {why}.")
        name = layout(model)
        if name in ("grouped", "spectral"):
            kernel: Any = kernels.build(model, name)
            inner = kernel.view.inner if model.is_structured else kernel
            linear, blocks = inner.model, inner.blocks
            out = _small(linear, blocks) if blocks.R.shape[1] <= SMALL else _batched(linear, blocks)
        else:
            out = _large(model.relaxed() if model.is_structured else model)
        return _as_said(out, model) if model.is_structured else out

    @staticmethod
    def why_not(model: Model) -> str | None:
        """What keeps a model from being linear in θ, in words; None where it is."""
        if not model.noise.is_plain:
            return f"residual `{model.residual}`"
        odd = next((c for c in model.components if not c.cov.is_linear), None)  # type: ignore[union-attr]
        return None if odd is None else f"covariance `{odd.cov.kind}` of `{odd.name}`"  # type: ignore[union-attr]

    def bind(self, y: np.ndarray) -> "Reduced":
        """The same design with the response y (n,), offset already subtracted."""
        cross, within, beta0 = self.rotate(y)
        return replace(self, cross=cross, within=within, beta0=beta0, sd_y=float(np.std(y, ddof=1)))

    @property
    def n_theta(self) -> int:
        """p, the residual variance included."""
        return len(self.S) + 1

    @property
    def constant(self) -> float:
        """n log 2π − Σ log weight: what −2ℓ holds beside log|V| and the quadratic form of the weighted rows."""
        return self.n_obs * float(np.log(2 * np.pi)) - self.log_weights

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        pattern: tuple = tuple(map(tuple, self.S.any(axis=-1))) if self.small else (len(self.S), len(self.count) == 1)
        return self.m, self.small, self.n_fixed, pattern

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What the twin receives as `pm.Data`, by name; changes with the response or the design, never in rank."""
        return {
            "S": self.S,
            "count": self.count,
            "cross": self.cross,
            "within": self.within,
            "n_within": np.asarray(float(self.n_within)),
            "constant": np.asarray(self.constant),
            "logdet_xx": np.asarray(self.logdet_xx),
            "T": self.T,
            "T_inverse": np.linalg.inv(self.T),
            "beta_ols": self.beta0,
        }

    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log|V| (M,), G (M, d+1, d+1)) at the rows of theta (M, p); NaN where W is not positive definite."""
        theta = np.atleast_2d(np.asarray(theta, float))
        M, d1 = len(theta), self.n_fixed + 1
        sigma2 = theta[:, -1]
        logdet = self.n_within * np.log(sigma2)
        g = self.within / sigma2[:, None]
        step = max(1, CHUNK // max(1, self.S[0].size if len(self.S) else 1))
        for at in range(0, M if len(self.S) else 0, step):
            rows = slice(at, min(at + step, M))
            of_blocks, part = (self._small_rows if self.small else self._large_rows)(theta[rows])
            logdet[rows] += of_blocks
            g[rows] += part
        G = np.zeros((M, d1, d1))
        low = np.tril_indices(d1)
        G[:, low[0], low[1]] = g
        G[:, low[1], low[0]] = g
        return logdet, G

    def _small_rows(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = self.m
        pairs = lower_triangle(m)
        W = {}
        for q, (a, b) in enumerate(pairs):
            W[a, b] = theta[:, :-1] @ self.S[:, q]
            if a == b:
                W[a, b] += theta[:, -1:]
        with np.errstate(all="ignore"):
            logdet, inverse = invert(W, m, np.sqrt, np.log)
            g = sum(inverse[p] @ self.cross[:, q].T for q, p in enumerate(pairs))
            return logdet @ self.count, g

    def _large_rows(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logdet, g = np.zeros(len(theta)), np.zeros((len(theta), len(self.within)))
        low = np.tril_indices(self.n_fixed + 1)
        for i, t in enumerate(theta):
            W = np.tensordot(t[:-1], self.S, axes=1) + t[-1] * np.eye(self.m)
            try:
                L = np.linalg.cholesky(W)
            except np.linalg.LinAlgError:
                logdet[i] = g[i] = np.nan
                continue
            H = np.linalg.solve(L, self.cross)
            logdet[i] = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum()
            g[i] = np.einsum("cai,caj->ij", H, H)[low]
        return logdet, g


def _as_said(reduced: Reduced, model: Model) -> Reduced:
    """The reduced form of `model.relaxed()` as that of the model: tied components together, rows weighted."""
    S = np.zeros((model.n_theta - 1, *reduced.S.shape[1:]))
    for part in model.working.parts:
        S[part.linear] += reduced.S[part.pairs]
    weights, rotate = model.noise.weights, reduced.rotate
    if weights is None:
        return replace(reduced, S=S)
    half = np.sqrt(weights)
    return replace(reduced, S=S, rotate=lambda y: rotate(y * half), log_weights=float(np.log(weights).sum()))


def invert(W: Mapping[tuple[int, int], Any], m: int, sqrt: Callable, log: Callable) -> tuple[Any, dict]:
    """(log|W|, lower triangle of W⁻¹) of a symmetric W given by its lower triangle, written out element by element.

    The elements may be arrays or PyTensor expressions alike.
    """
    if m == 1:
        return log(W[0, 0]), {(0, 0): 1 / W[0, 0]}
    if m == 2:
        det = W[0, 0] * W[1, 1] - W[1, 0] * W[1, 0]
        return log(det), {(0, 0): W[1, 1] / det, (1, 0): -W[1, 0] / det, (1, 1): W[0, 0] / det}
    L = cholesky(W, m, sqrt)
    logdet = 2 * log(_product([L[j, j] for j in range(m)]))
    inv: dict[tuple[int, int], Any] = {}
    for j in range(m):
        inv[j, j] = 1 / L[j, j]
        for i in range(j + 1, m):
            inv[i, j] = -_total([L[i, k] * inv[k, j] for k in range(j, i)]) / L[i, i]
    return logdet, {
        (a, b): _total([inv[k, a] * inv[k, b] for k in range(a, m)]) for a in range(m) for b in range(a + 1)
    }


def cholesky(W: Mapping[tuple[int, int], Any], m: int, sqrt: Callable) -> dict[tuple[int, int], Any]:
    """The lower Cholesky factor of W (lower triangle), element by element."""
    L: dict[tuple[int, int], Any] = {}
    for j in range(m):
        for i in range(j, m):
            rest = W[i, j]
            for k in range(j):
                rest = rest - L[i, k] * L[j, k]
            L[i, j] = sqrt(rest) if i == j else rest / L[j, j]
    return L


def lower_triangle(m: int) -> list[tuple[int, int]]:
    """(row, column) of the lower triangle, row by row, as `np.tril_indices`."""
    return [(a, b) for a in range(m) for b in range(a + 1)]


def _product(items: list) -> Any:
    out = items[0]
    for item in items[1:]:
        out = out * item
    return out


def _total(items: list) -> Any:
    out = items[0]
    for item in items[1:]:
        out = out + item
    return out


def _small(model: Model, blocks: Any) -> Reduced:
    R, m = blocks.R, blocks.R.shape[1]
    klass = blocks.klass
    C, first = klass.max() + 1, np.unique(klass, return_index=True)[1]
    pairs = lower_triangle(m)
    lay = _positions(model)
    S = np.empty((len(lay), len(pairs), C))
    for j, (i, k) in enumerate(lay):
        for q, (a, b) in enumerate(pairs):
            S[j, q] = (R[:, a, i] * R[:, b, k] + (R[:, a, k] * R[:, b, i] if i != k else 0))[first]
    d = model.n_fixed
    low = lower_triangle(d + 1)

    def rotate(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bound = blocks.bind(y)
        U = np.concatenate([bound.X, bound.y[..., None]], axis=2)
        T = np.empty((len(low), len(pairs), C))
        for g, (i, k) in enumerate(low):
            for q, (a, b) in enumerate(pairs):
                product = U[:, a, i] * U[:, b, k] + (U[:, b, i] * U[:, a, k] if a != b else 0)
                T[g, q] = np.bincount(klass, product, C)
        return T, bound.within[np.tril_indices(d + 1)], bound.beta0

    count = np.bincount(klass, minlength=C).astype(float)
    return _bound(model, m, True, S, count, blocks.n_within, blocks.basis, rotate)


def _batched(model: Model, blocks: Any) -> Reduced:
    R = blocks.R

    def rotate(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bound = blocks.bind(y)
        U = np.concatenate([bound.X, bound.y[..., None]], axis=2)
        return U, bound.within[np.tril_indices(model.n_fixed + 1)], bound.beta0

    S = np.stack([_outer(R[:, :, a], R[:, :, b]) for a, b in _positions(model)])
    return _bound(model, R.shape[1], False, S, np.ones(len(R)), blocks.n_within, blocks.basis, rotate)


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """abᵀ, or abᵀ + baᵀ where b is not a, for stacks of vectors (B, r)."""
    product = a[:, :, None] * b[:, None, :]
    return product if np.array_equal(a, b) else product + product.transpose(0, 2, 1)


def _large(model: Model) -> Reduced:
    n, d = model.n_obs, model.n_fixed
    factors = [Z for c in model.components for Z in c.factors()]
    Z = np.hstack(factors) if factors else np.zeros((n, 0))
    turn = Z.shape[1] < n
    m = min(Z.shape[1], n)
    if m > LIMIT:
        raise ModelError(
            f"the twin of this model would factorise a dense {m} × {m} matrix at every step: its components share no "
            f"grouping factor, and their {Z.shape[1]} columns and n = {n} both exceed {LIMIT}. Fit it by a likelihood "
            "method, or reduce the components."
        )
    Q = np.linalg.qr(Z)[0] if turn else np.eye(n)
    rows = [Q.T @ F for F in factors]
    S = np.empty((len(_positions(model)), 1, m, m))
    for j, (a, b) in enumerate(_positions(model)):
        product = rows[a] @ rows[b].T
        S[j, 0] = product if a == b else product + product.T
    basis = Basis.of(model.X)  # type: ignore[arg-type]
    low = np.tril_indices(d + 1)

    def rotate(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        full = np.column_stack([basis.Q, y - basis.Q @ (basis.Q.T @ y)])
        U = Q.T @ full
        rest = full - Q @ U if turn else np.zeros_like(full)
        return U[None], (rest.T @ rest)[low], basis.ols(y)

    return _bound(model, m, False, S, np.ones(1), n - m, basis, rotate)


def _positions(model: Model) -> list[tuple[int, int]]:
    """(row, column) of each parameter in the stacked Ω of all components."""
    out, at = [], 0
    for c in model.components:
        out += [(at + a, at + b) for a, b in c.index]
        at += c.n_effects
    return out


def _bound(
    model: Model, m: int, small: bool, S: np.ndarray, count: np.ndarray, n_within: int, basis: Basis, rotate: Any
) -> Reduced:
    y = model.y if model.offset is None else model.y - model.offset
    d = model.n_fixed
    empty = Reduced(
        m, small, np.ascontiguousarray(S), count, np.empty(0), np.empty(0), n_within, model.n_obs, d, basis.T,
        np.zeros(d), basis.logdet, 1.0, rotate,
    )  # fmt: skip
    return empty.bind(y)
