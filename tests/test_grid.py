"""The grid: every solver on every kernel, structure and criterion: a cell runs, or is refused for a reason given here.

A cell that runs climbs (ℓ never falls for a method said to be monotone), ends nowhere above the best ℓ known for its
structure, and at it where it says that it converged. A cell that is refused is refused by an error that says why,
before any work; `reason` is the table of those words.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import VcbenchError
from vcbench.kernels import KERNELS
from vcbench.methods import METHODS
from vcbench.solvers.registry import SOLVERS

COV, RES = vc.covariance, vc.residual
EM_STEPS = 6  # of a first-order method: the claim is ascent, and where it ends is claimed of what converges
LIMIT = 60


@dataclass(frozen=True)
class Case:
    """One structure: its formula, what is special about it, the kernels that can hold it."""

    formula: str = "y ~ x + (1 | g)"
    cov: tuple = ()
    residual: str | None = None
    equal: tuple = ()
    kernels: tuple[str, ...] = ("dense", "grouped", "low_rank", "sparse")
    K: bool = False

    @property
    def structured(self) -> bool:
        return bool(self.equal) or self.residual is not None or any(not c.is_linear for _, c in self.cov)


ALONE = ("dense", "grouped")  # residual structures
WITH_EFFECTS = (*ALONE, "sparse")  # and random effects
ONE = ("dense", "grouped", "low_rank", "sparse")  # effects of one factor
APART = ("crossed", "dense", "low_rank", "sparse")  # of several
T = "(0 + t | g)"
CASES = {
    # random effects, R = σ²I
    "scalar": Case(kernels=(*ONE, "spectral")),
    "un": Case("y ~ x + (x | g)"),
    "diag": Case("y ~ x + (x || g)"),
    "crossed": Case("y ~ x + (1 | g) + (1 | h)", kernels=APART),
    "crossed-un": Case("y ~ x + (x | g) + (1 | h)", kernels=APART),
    "known": Case(K=True, kernels=("dense", "spectral", "low_rank")),
    "cs": Case(f"y ~ x + {T}", (("g", COV.cs()),)),
    "ar1": Case(f"y ~ x + {T} + (1 | h)", (("g", COV.ar1()),), kernels=APART),
    "toeplitz": Case(f"y ~ x + {T}", (("g", COV.toeplitz()),)),
    "kron": Case(f"y ~ x + {T}", (("g", COV.kron(COV.un(), COV.cs())),)),
    "pattern": Case(
        f"y ~ x + {T}",
        (("g", COV.pattern([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])),),
    ),
    "fixed": Case("y ~ x + (1 | g) + (1 | h)", (("h", COV.fixed(0.5)),), kernels=APART),
    "equal": Case("y ~ x + (1 | g) + (1 | h)", equal=(("g", "h"),), kernels=APART),
    # residual structures
    "weights": Case(residual="weights(w)", kernels=(*ONE, "spectral")),
    "r-cs": Case("y ~ x", residual="cs(group=g)", kernels=ALONE),
    "r-csh": Case("y ~ x", residual="csh(t, group=g)", kernels=ALONE),
    "r-un": Case("y ~ x", residual="un(t, group=u)", kernels=ALONE),
    "r-un_cor": Case("y ~ x", residual="un_cor(t, group=u)", kernels=ALONE),
    "r-toeplitz": Case("y ~ x + (1 | g)", residual="toeplitz(t, group=u)", kernels=WITH_EFFECTS),
    "r-toeplitz_h": Case("y ~ x", residual="toeplitz_h(t, group=u)", kernels=ALONE),
    "r-banded": Case("y ~ x + (1 | g)", residual="banded(2, t, group=u)", kernels=WITH_EFFECTS),
    "r-ar1": Case("y ~ x + (1 | g)", residual="ar1(t, group=u)", kernels=WITH_EFFECTS),
    "r-ar1h": Case("y ~ x", residual="ar1h(t, group=u)", kernels=ALONE),
    "r-arma11": Case("y ~ x", residual="arma11(t, group=u)", kernels=ALONE),
    "r-ma": Case("y ~ x + (1 | g) + (1 | h)", residual="ma(1, t, group=u)", kernels=WITH_EFFECTS),
    "r-ante1": Case("y ~ x", residual="ante1(t, group=u)", kernels=ALONE),
    "r-exponential": Case("y ~ x", residual="exponential(x, group=g)", kernels=ALONE),
    "r-gaussian": Case("y ~ x", residual="gaussian(x, group=g)", kernels=ALONE),
    "r-by": Case("y ~ x + (1 | g)", residual="by(h)", kernels=WITH_EFFECTS),
    "r-by-ar1": Case("y ~ x", residual="by(s, ar1(t, group=u), separate=True)", kernels=ALONE),
    "r-nugget": Case("y ~ x", residual="ar1(i) + nugget", kernels=ALONE),
    "r-product": Case("y ~ x", residual="ar1(t) * cs(u)", kernels=ALONE),
}  # fmt: skip
HOLDS_ALL = ("em-simplified", "px-em-full", "em-henderson")  # maps that need Ω free and R = σ²I


@cache
def model(name: str) -> vc.Model:
    """The case's model: 10 groups of 4 occasions twice, some rows lost; y has effects of g, h and of the occasion."""
    case = CASES[name]
    rng = np.random.default_rng(20261121)
    rows = [(f"g{i}", f"t{t}", f"g{i}r{r}", "ab"[i % 2]) for i in range(10) for r in range(2) for t in range(1, 5)]
    d = pd.DataFrame(rows, columns=["g", "t", "u", "s"])
    n = len(d)
    d["x"], d["w"], d["h"] = rng.normal(size=n), rng.uniform(0.5, 2.0, n), rng.choice(["h1", "h2", "h3", "h4", "h5"], n)
    d["i"] = np.arange(n)

    def effect(column: str, size: float) -> pd.Series:
        return d[column].map({v: rng.normal(0.0, size) for v in sorted(set(d[column]))})

    d["gt"] = d.g + d.t
    d["y"] = 3.0 + d.x + effect("g", 0.9) * (1 + 0.7 * d.x) + effect("h", 0.8) + effect("gt", 0.8) + effect("u", 0.6)
    d["y"] = d.y + rng.normal(0.0, 1.0, n)
    d = d[rng.random(n) < 0.9].reset_index(drop=True)
    if case.K:
        W = rng.normal(size=(len(d), 20))
        y = d.y + W @ rng.normal(0.0, 0.2, 20)
        return vc.Model(y, np.column_stack([np.ones(len(d)), d.x]), [vc.Component(K=W @ W.T / 20, name="a")])
    return vc.Model.from_formula(case.formula, d, cov=dict(case.cov), residual=case.residual, equal=case.equal)


@cache
def best(name: str, criterion: str) -> float:
    """The highest ℓ of four starts of `auto`."""
    return vc.fit(model(name), "auto", criterion, n_starts=4).loglik


def reason(method: str, kernel: str, name: str, criterion: str) -> str | None:
    """Why the cell is not allowed, in words that its error must hold; None where it is."""
    case = CASES[name]
    if criterion not in METHODS[method].criteria:
        return "exists under .* only|is no likelihood method"
    if METHODS[method].kind == "moments" and case.structured and name != "weights":
        return "linear"
    if kernel not in case.kernels:
        if case.residual is not None and name != "weights" and kernel not in ("grouped", "dense"):
            return "needs a random component" if kernel == "sparse" else "takes independent residuals"
        return {
            "grouped": "needs components that all share one grouping factor",
            "spectral": "needs one component with one variance",
            "crossed": "needs more than one grouping factor|needs components that are all grouped",
            "sparse": "needs the inverse of a relationship matrix",
        }[kernel]
    if method in HOLDS_ALL and case.structured:
        return "is defined for unstructured Ω"
    return None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", [*SOLVERS, "minque"])
def test_grid__runs_or_says_why_not(method, name):
    first_order = method in SOLVERS and min(SOLVERS[method].code.values()) % 100 < 10
    ran = 0
    for kernel in KERNELS:
        for criterion in ("ml", "reml"):
            why = reason(method, kernel, name, criterion)
            options = {"kernel": kernel}
            if method in SOLVERS:
                options["max_iter"] = EM_STEPS if first_order else LIMIT
            if why is not None:
                with pytest.raises(VcbenchError, match=why):
                    vc.fit(model(name), method, criterion, **options)
                continue
            ran += 1
            fit = vc.fit(model(name), method, criterion, **options)
            top = best(name, criterion)
            assert fit.kernel == kernel
            if method not in SOLVERS:
                assert np.isfinite(fit.theta_values).all()
                continue
            path = fit.trace["loglik"].to_numpy()
            if METHODS[method].monotone:
                assert (np.diff(path) >= -1e-9 * (1.0 + np.abs(path[1:]))).all()
            assert fit.loglik <= top + 1e-6 * (1.0 + abs(top)), "above the best known"
            assert str(fit.status) not in ("FAILED", "SINGULAR_V")
            if fit.status.ok:
                assert fit.loglik == pytest.approx(top, abs=1e-6 * (1.0 + abs(top)))
    assert ran or method in (*HOLDS_ALL, "minque")
