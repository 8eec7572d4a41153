"""Random models for Hypothesis: `problems()` draws well-posed variance-component problems of every structure.

    @given(problems())                       # any structure
    @given(problems(kinds=GROUPED))          # one kernel's
    problem = draw_problem("crossed", 5, 4, seed=17)   # one by hand, as the falsifying example prints it

A `Problem` has a model (n ≤ 60, y drawn from the model at `truth`, whose first component is sometimes 0 or singular),
a θ strictly inside the parameter space and a β. Sizes are drawn by Hypothesis, so that they shrink; numbers come from
`seed`. Well-posed: tr(M V_i M V_j) has full rank (the parameters are told apart under REML too), and ℓ is bounded as
σ² → 0: either at least 4 directions of y lie outside [X Z], or Z reaches all of them (K of full rank, p ≥ n), and then
the residual variance may have its maximum at 0: that is a boundary, not an ill-posed problem.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from oracle import derivatives, pairs

import vcbench as vc
from vcbench.model.pedigree import Pedigree

ONE_WAY = ("one-way", "one-way-unbalanced")
SLOPES = ("slope-un", "slope-diag", "slope-blocks", "slope-only", "slope-two-terms")
GROUPED = ONE_WAY + SLOPES
SPECTRAL = ("K", "K-centred", "K-incidence", "Z-wide", "Z-narrow")
CROSSED = ("crossed", "nested", "crossed-slopes", "crossed-shared")
SEVERAL = ("two-Z", *CROSSED, "group-and-K")
KINDS = GROUPED + SPECTRAL + SEVERAL
RELATED = ("pedigree", "pedigree-slope", "pedigree-maternal")
# levels with a sparse precision, some of them without records: for kernels
COLUMNS = ("columns-diag", "columns-un")  # Ω over the columns of Z: one draw of b. For kernels; no solver likes them


@dataclass(frozen=True)
class Problem:
    """A model, a θ strictly inside its parameter space, a β, and the θ at which its y was drawn."""

    kind: str
    arguments: dict = field(repr=False)
    model: vc.Model = field(repr=False)
    theta: np.ndarray = field(repr=False)
    beta: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        return "draw_problem(" + ", ".join(f"{k}={v!r}" for k, v in self.arguments.items()) + ")"

    @property
    def kernels(self) -> tuple[str, ...]:
        """Kernels that answer for this structure, the oracle first."""
        special = {
            "grouped": self.kind in GROUPED,
            "spectral": self.kind in (*SPECTRAL, *ONE_WAY, "slope-only", "pedigree"),
            "sparse": all(c.K is None for c in self.model.components),
            "low_rank": sum(c.n_columns for c in self.model.components) < self.model.n_obs,
            "crossed": self.kind in CROSSED,
        }
        return ("dense", *(name for name, fits in special.items() if fits))

    def draw_y(self, rng: np.random.Generator, n_responses: int | None = None, theta: np.ndarray | None = None):
        """Responses of the same design at `theta` (default: the truth): (n,) or (n, n_responses)."""
        m = self.model
        V = np.tensordot(self.truth if theta is None else theta, derivatives(m.components, m.n_obs), axes=1)
        mean = m.X @ self.beta + (0.0 if m.offset is None else m.offset)
        L = np.linalg.cholesky(V)
        if n_responses is None:
            return mean + L @ rng.standard_normal(m.n_obs)
        return mean[:, None] + L @ rng.standard_normal((m.n_obs, n_responses))


def problems(kinds: tuple[str, ...] = KINDS, zero: bool | None = None) -> st.SearchStrategy[Problem]:
    """Well-posed problems of the given kinds. zero: the first component's true Ω is 0 or singular (None: sometimes)."""
    return st.builds(
        draw_problem,
        kind=st.sampled_from(kinds),
        n_groups=st.integers(4, 9),
        per_group=st.integers(3, 6),
        n_covariates=st.integers(0, 2),
        offset=st.booleans(),
        zero=st.booleans() if zero is None else st.just(zero),
        log10_scale=st.sampled_from([0, -3, 3]),
        seed=st.integers(0, 2**32 - 1),
    ).filter(is_well_posed)


def draw_problem(
    kind: str,
    n_groups: int = 6,
    per_group: int = 4,
    n_covariates: int = 1,
    offset: bool = False,
    zero: bool = False,
    log10_scale: int = 0,
    seed: int = 0,
) -> Problem:
    """One problem; the same arguments give the same numbers. y is of the size 10^log10_scale."""
    arguments = dict(locals())
    rng = np.random.default_rng(seed)
    components, n = _components(kind, n_groups, per_group, rng)
    X = np.column_stack([np.ones(n), *(rng.normal(3.0 * j, 1.0, n) for j in range(n_covariates))])
    scale = 10.0**log10_scale
    truth = _theta(components, rng, singular=zero) * scale**2
    theta = _theta(components, rng) * scale**2
    beta = rng.normal(0.0, 2.0 * scale, X.shape[1])
    shift = rng.normal(0.0, scale, n) if offset else None
    V = np.tensordot(truth, derivatives(components, n), axes=1)
    y = X @ beta + (0.0 if shift is None else shift) + np.linalg.cholesky(V) @ rng.standard_normal(n)
    return Problem(kind, arguments, vc.Model(y, X, components, offset=shift), theta, beta, truth)


def is_well_posed(problem: Problem) -> bool:
    """Parameters identified under REML, and ℓ bounded as σ² → 0."""
    m = problem.model
    Q = np.linalg.qr(m.X)[0]
    V = derivatives(m.components, m.n_obs)
    V = V - np.einsum("ab,cb,jcd->jad", Q, Q, V)
    V = V - np.einsum("jab,bc,dc->jad", V, Q, Q)
    S = np.einsum("iab,jab->ij", V, V)
    size = np.sqrt(np.diag(S))
    if size.min() == 0 or np.linalg.eigvalsh(S / np.outer(size, size))[0] < 1e-3:
        return False
    V = np.tensordot(problem.theta[:-1], derivatives(m.components, m.n_obs)[:-1], axes=1) / problem.theta[-1]
    reach = np.linalg.matrix_rank(V, tol=1e-8)
    return bool(reach == m.n_obs or m.n_obs - np.linalg.matrix_rank(np.hstack([m.X, V]), tol=1e-8) >= 4)


def _components(kind: str, n_groups: int, per_group: int, rng: np.random.Generator):
    """(components, n) of a kind."""
    sizes = np.full(n_groups, per_group)
    if kind not in ("one-way", "crossed", "nested"):
        sizes = np.maximum(1, sizes + rng.integers(-3, 4, n_groups))  # groups of one row are among them
        sizes[:2] = per_group + 1
    codes = rng.permutation(np.repeat(np.arange(n_groups), sizes))[:60]
    n = len(codes)
    labels = np.array([f"g{c}" for c in codes])
    one, x, w = np.ones(n), rng.normal(0.0, 1.5, n), rng.normal(0.0, 0.7, n)
    cov = vc.covariance
    match kind:
        case "one-way" | "one-way-unbalanced":
            return [vc.Component(one, name="g", group=labels)], n
        case "slope-un":
            return [vc.Component(np.column_stack([one, x]), name="g", group=labels)], n
        case "slope-diag":
            return [vc.Component(np.column_stack([one, x]), name="g", group=labels, cov=cov.diag())], n
        case "slope-blocks":
            structure = cov.blocks([[0, 2], [1]])
            return [vc.Component(np.column_stack([one, x, w]), name="g", group=labels, cov=structure)], n
        case "slope-only":
            return [vc.Component(x, name="g", group=labels, columns=["x"])], n
        case "slope-two-terms":
            return [
                vc.Component(one, name="g", group=labels),
                vc.Component(x, name="g.1", group=labels, columns=["x"]),
            ], n
        case "K" | "K-centred":
            W = rng.normal(size=(n, 3 * n))
            if kind == "K-centred":
                W = W[:, : n // 2] - W[:, : n // 2].mean(axis=0)
            return [vc.Component(K=W @ W.T / W.shape[1], name="a")], n
        case "K-incidence":
            W = rng.normal(size=(n_groups, 2 * n_groups))
            return [vc.Component(np.eye(n_groups)[codes], K=W @ W.T / W.shape[1], name="a")], n
        case "Z-wide" | "Z-narrow":
            p = n + 7 if kind == "Z-wide" else max(3, n // 3)
            return [vc.Component(rng.normal(size=(n, p)), name="z")], n
        case "two-Z":
            sizes = (max(3, n // 5), max(3, n // 3))
            return [vc.Component(rng.normal(size=(n, p)), name=f"z{k}") for k, p in enumerate(sizes)], n
        case "crossed":
            other = np.array([f"h{c}" for c in rng.permutation(np.arange(n) % per_group)])
            return [vc.Component(one, name="g", group=labels), vc.Component(one, name="h", group=other)], n
        case "nested":
            inner = np.array([f"{c}:{i % 2}" for i, c in enumerate(codes)])
            return [vc.Component(one, name="g:s", group=inner), vc.Component(one, name="g", group=labels)], n
        case "crossed-slopes":  # Ω (2, 2) within both factors
            other = np.array([f"h{c}" for c in rng.permutation(np.arange(n) % per_group)])
            return [
                vc.Component(np.column_stack([one, x]), name="g", group=labels),
                vc.Component(np.column_stack([one, w]), name="h", group=other, cov=cov.diag()),
            ], n
        case "crossed-shared":  # two terms of one factor, with a term of another between them
            other = np.array([f"h{c}" for c in rng.permutation(np.arange(n) % per_group)])
            return [
                vc.Component(one, name="g", group=labels),
                vc.Component(one, name="h", group=other),
                vc.Component(x, name="g.1", group=labels, columns=["x"]),
            ], n
        case "group-and-K":
            W = rng.normal(size=(n, n // 3))
            return [
                vc.Component(np.column_stack([one, x]), name="g", group=labels, cov=cov.diag()),
                vc.Component(K=W @ W.T / W.shape[1], name="a"),
            ], n
        case "pedigree" | "pedigree-slope" | "pedigree-maternal":
            m = n_groups + 4  # animals in generations of three, inbred ones among them
            parents = [sorted(rng.choice(max(i - 2, 1), 2)) if i > 2 else (-1, -1) for i in range(m)]
            frame = {
                "id": list(range(1, m + 1)),
                "sire": [s + 1 for s, _ in parents],
                "dam": [d + 1 for _, d in parents],
            }
            animal = codes + 4 + 1  # the last n_groups have records
            if kind == "pedigree-maternal":  # a row meets its animal's direct and its dam's maternal effect
                dam = np.array(frame["dam"])[animal - 1]
                Z = np.hstack([np.eye(m)[animal - 1], np.eye(m)[dam - 1]])
                A = Pedigree.of(frame).relationship()
                return [vc.Component(Z, name="a", precision=np.linalg.inv(A), columns=["direct", "maternal"])], n
            Z = one if kind == "pedigree" else np.column_stack([one, x])
            return [vc.Component(Z, name="a", group=animal, cov=cov.pedigree(frame))], n
        case "columns-diag" | "columns-un":
            structure = cov.diag() if kind == "columns-diag" else cov.un()
            return [vc.Component(rng.normal(size=(n, 2)), name="z", cov=structure)], n
    raise ValueError(kind)


def _theta(components, rng: np.random.Generator, singular: bool = False) -> np.ndarray:
    """θ at a random point inside, residual variance near 1; `singular` puts the first Ω at 0 or at a lower rank."""
    out = []
    for k, c in enumerate(components):
        r = len(c.effects)
        size = 1.0 if c.relation is not None or c.codes is not None else c.Z.shape[1] / r
        Omega = np.zeros((r, r))
        for block in c.partition:
            L = rng.normal(size=(len(block), len(block)))
            if singular and k == 0:
                L[:, 0 if rng.random() < 0.5 else slice(None)] = 0.0
                Omega[np.ix_(block, block)] = L @ L.T
            else:
                Omega[np.ix_(block, block)] = L @ L.T / len(block) + 0.1 * np.eye(len(block))
        Omega *= np.exp(rng.uniform(-1.5, 1.5)) / size
        out += [Omega[a, b] for a, b in pairs(c)]
    return np.array([*out, np.exp(rng.uniform(-1.0, 1.0))])
