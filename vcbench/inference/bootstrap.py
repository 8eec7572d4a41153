"""The parametric bootstrap: responses drawn from the fitted model, fitted again as it was, and what the refits say.

θ* of B responses y* ~ N(Xβ̂, V(θ̂)). A refit that failed is a row as any other, counted by its status and left out of
the intervals, which say on how many refits they stand; an estimate on the boundary is valid. With q_α the (B+1)α-th
ordered value of g* = g(θ*, β*), ĝ = g(θ̂, β̂), z_α = Φ⁻¹(α):

    percentile  [q_α, q_{1−α}]                 basic  [2ĝ − q_{1−α}, 2ĝ − q_α]
    BCa         [q_{α₁}, q_{α₂}],  α₁ = Φ(z₀ + (z₀ + z_α)/(1 − a(z₀ + z_α))),  α₂ with z_{1−α}
                z₀ = Φ⁻¹(#{g* < ĝ}/B),   a = skewness(s*)/6

s* is the score of the responses in the least favourable direction, ∇_θgᵀ I⁻¹ ∂ℓ(θ̂; y*)/∂θ + ∇_βgᵀ(β̃(y*) − β̂), I the
expected information (the average for large sparse models) and β̃ the GLS estimate at θ̂: no refit is needed, and a = 0
for functions of β alone. B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171-185; T. J. DiCiccio &
B. Efron, "Bootstrap confidence intervals", Statist. Sci. 11 (1996) 189-228.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.quantities import Quantity, quantity_of
from vcbench.inference.variances import check_scale, rows_of
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("percentile", "basic", "bca")
DRAWS, SEED = 1000, 0  # the defaults: the same call gives the same intervals


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """B refits of `fit`: theta (B, p), beta (B, d), loglik (B,), one status a refit. The responses are those of
    `fit.simulate(B, seed)`."""

    fit: Any = field(repr=False)
    theta: np.ndarray = field(repr=False)
    beta: np.ndarray = field(repr=False)
    loglik: np.ndarray = field(repr=False)
    statuses: tuple[Status, ...] = field(repr=False)
    seed: int
    cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def valid(self) -> np.ndarray:
        """(B,) True for the refits that reached their answer, on the boundary or inside."""
        return np.array([s.ok for s in self.statuses])

    @property
    def n_valid(self) -> int:
        """How many refits the intervals stand on."""
        return int(self.valid.sum())

    @property
    def n_failed(self) -> dict[str, int]:
        """Failed refits by status."""
        return {str(s): n for s, n in Counter(s for s in self.statuses if not s.ok).items()}

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a refit: θ, β, loglik, status."""
        import pandas as pd

        out = pd.DataFrame(self.theta, columns=list(self.fit.facts.theta_names))
        out[list(self.fit.facts.beta_names)] = self.beta
        return out.assign(loglik=self.loglik, status=[str(s) for s in self.statuses])

    def values(self, quantity: Any) -> np.ndarray:
        """g* (B,) of a quantity; NaN where the refit failed or g does not exist."""
        q = quantity_of(self.fit.facts, quantity)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            g = np.array(np.broadcast_to(np.real(q.of.at(np.vstack([self.theta.T, self.beta.T]))), len(self)), float)
        g[~self.valid] = math.nan
        return g

    def se(self) -> "pd.Series":
        """Standard deviation of the refits' θ and β, by name."""
        import pandas as pd

        names = [*self.fit.facts.theta_names, *self.fit.facts.beta_names]
        both = np.hstack([self.theta, self.beta])[self.valid]
        return pd.Series(both.std(axis=0, ddof=1), index=names, name="se")

    def interval(self, quantity: Any, kind: str = "percentile", level: float = 0.95) -> "pd.Series":
        """A quantity's estimate, bias and se over the refits, lower, upper, and the number n of refits behind them.

        quantity: a name of θ or β, its SD or correlation, an expression ("h2 = animal / total") or a function, as
        `quantities.quantity_of` reads it. kind: "percentile", "basic" or "bca". `attrs["note"]` says what was left out
        or changed. MethodError for an unknown kind or quantity, and where fewer than 20 refits are left.
        """
        import pandas as pd

        from vcbench.inference.intervals import check_level

        check_level(level)
        if kind not in KINDS:
            raise MethodError(
                f"unknown bootstrap interval `{kind}`. Choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
            )
        if kind == "bca" and self.fit.is_moments:
            raise MethodError(
                "BCa takes its acceleration from the score of a likelihood, which estimates by moments do not have. "
                'Use "percentile" or "basic".'
            )
        q = quantity_of(self.fit.facts, quantity)
        estimate, all_values = q.value(self.fit.theta_values, self.fit.beta_values), self.values(q)
        g = np.sort(all_values[~np.isnan(all_values)])
        if len(g) < 20:
            raise MethodError(
                f"`{q.name}` exists in {len(g)} of {len(self)} refits ({self._ends()}); an interval needs 20 or more."
            )
        notes = self._notes(len(g))
        low, high = (1 - level) / 2, (1 + level) / 2
        if kind == "bca":
            low, high, note = self._bca(q, estimate, g, low, high)
            notes += [note] * bool(note)
        if (len(g) + 1) * min(low, 1 - high) < 1:
            notes.append(f"a limit is the most extreme of {len(g)} refits: take more")
        lower, upper = np.quantile(g, [low, high], method="weibull")
        if kind == "basic":
            lower, upper, cut = _within(q, 2 * estimate - upper, 2 * estimate - lower)
            notes += ["cut off at the end of its range"] * cut
        out = pd.Series(
            {"estimate": estimate, "bias": g.mean() - estimate, "se": g.std(ddof=1), "lower": lower, "upper": upper,
             "n": len(g)}, name=q.name,
        )  # fmt: skip
        out.attrs.update(kind=kind, level=level, note="; ".join(notes))
        return out

    def table(
        self,
        parameters: "str | Sequence[Any] | None" = None,
        kind: str = "percentile",
        level: float = 0.95,
        scale: str = "var",
    ) -> "pd.DataFrame":
        """`interval` of many quantities, one a row (None: θ on the scale "var" or "sd", then β); `attrs["notes"]`."""
        import pandas as pd

        check_scale(scale, ("var", "sd"))
        facts = self.fit.facts
        if parameters is None:
            parameters = [r.name for r in rows_of(facts.theta_names, facts.is_variance, scale)] + list(facts.beta_names)
        rows = [self.interval(q, kind, level) for q in ([parameters] if isinstance(parameters, str) else parameters)]
        frame = pd.DataFrame(rows, index=[r.name for r in rows]).astype({"n": int})
        notes = {str(r.name): r.attrs["note"] for r in rows if r.attrs["note"]}
        frame.attrs.update(level=level, kind=f"bootstrap, {kind}", notes=notes, text=self.heading)
        return frame

    @property
    def heading(self) -> str:
        """How many refits there are, and how they ended."""
        fit = self.fit
        how = fit.method if fit.criterion == "none" else f"{fit.method}, {fit.criterion.upper()}"
        drawn = f"{len(self)} responses drawn at the estimate, seed {self.seed}"
        return f"Parametric bootstrap ({how}): {drawn}; {self._ends()}"

    def __str__(self) -> str:
        return f"{self.heading}\n{self.table().to_string()}"

    def _ends(self) -> str:
        edge = sum(s is Status.AT_BOUNDARY for s in self.statuses)
        failed = ", ".join(f"{n} {status}" for status, n in self.n_failed.items())
        ends = f"{self.n_valid} refits valid" + (f", {edge} of them at the boundary" if edge else "")
        return ends + (f"; {len(self) - self.n_valid} failed ({failed})" if failed else "; none failed")

    def _notes(self, used: int) -> list[str]:
        out = []
        if self.n_valid < len(self):
            failed = ", ".join(f"{n} {status}" for status, n in self.n_failed.items())
            out.append(f"{len(self) - self.n_valid} of {len(self)} refits failed ({failed}) and are left out")
        if used < self.n_valid:
            out.append(f"not defined in {self.n_valid - used} refits, which are left out")
        return out

    def _bca(self, q: Quantity, estimate: float, g: np.ndarray, low: float, high: float) -> tuple[float, float, str]:
        """Levels of the BCa limits; the percentile's where the correction does not exist."""
        from scipy.special import ndtr, ndtri

        share = (g < estimate).mean()
        a = self.acceleration(q)
        if math.isnan(a) or not 0 < share < 1:
            return low, high, "on the boundary, where BCa is not defined: these are percentile limits"
        z0 = float(ndtri(share))
        shifted = z0 + ndtri([low, high])
        if (1 - a * shifted <= 0).any():
            return low, high, f"BCa breaks down (acceleration {a:.2f}): these are percentile limits"
        lower, upper = ndtr(z0 + shifted / (1 - a * shifted))
        return float(lower), float(upper), ""

    def acceleration(self, quantity: Any) -> float:
        """a of BCa; NaN where the quantity has no derivative or hangs on a parameter at the boundary."""
        q = quantity_of(self.fit.facts, quantity)
        p = len(self.fit.theta_values)
        gradient = np.asarray(q.jet(self.fit.theta_values, self.fit.beta_values)[1])
        if not gradient[:p].any():
            return 0.0
        cov = self.fit.theta_cov(self._information())
        free = np.isfinite(np.diag(cov))
        if not np.isfinite(gradient).all() or gradient[:p][~free].any():
            return math.nan
        scores, beta = self._scores()
        s = scores[:, free] @ (cov[np.ix_(free, free)] @ gradient[:p][free]) + beta @ gradient[p:]
        s = s - s.mean()
        return float((s**3).mean() / (s**2).mean() ** 1.5 / 6)

    def _information(self) -> str:
        """The information behind the direction: expected, or average for a kernel to which that would be dear."""
        from vcbench.kernels import build

        kernel = build(self.fit.model, self.fit.kernel)
        return "average" if getattr(kernel, "standard_information", "") == "average" else "expected"

    def _scores(self) -> tuple[np.ndarray, np.ndarray]:
        """(∂ℓ(θ̂; y*)/∂θ (B, p), β̃(y*) − β̂ (B, d)) of the drawn responses."""
        if "scores" not in self.cache:
            from vcbench.kernels import build

            fit = self.fit
            kernel = build(fit.model, fit.kernel)
            found = [
                kernel.bind(y).evaluate(fit.theta_values, ("score",), fit.criterion)
                for y in fit.simulate(len(self), self.seed).T
            ]
            self.cache["scores"] = (
                np.array([at.score for at in found]),
                np.array([at.beta for at in found]) - fit.beta_values,
            )
        return self.cache["scores"]


def bootstrap(fit: Any, n: int = DRAWS, seed: int | None = SEED, **options: Any) -> Bootstrap:
    """See `Fit.bootstrap`."""
    from vcbench.fit import fit_many
    from vcbench.inference.simulation import simulate

    model = fit._need_model("bootstrap()")
    options = refit_options(fit, options)
    if not fit.is_estimate:
        raise MethodError(
            f"the fit ended {fit.status}: there is no estimate to draw from. Fit by another method first."
        )
    if not (isinstance(n, int | np.integer) and n >= 20):
        raise MethodError(f"`n` is {n!r}; it must be a whole number of refits, 20 or more.")
    seed = int(np.random.SeedSequence().entropy % 2**63) if seed is None else int(seed)  # type: ignore[operator]
    Y = simulate(model, fit.theta_values, fit.beta_values, int(n), seed)
    many = fit_many(model, Y, fit.method, None if fit.criterion == "none" else fit.criterion, **options)
    return Bootstrap(fit, many.theta, many.beta, many.loglik, tuple(many.status), seed)


def refit_options(fit: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options with which the model is fitted again: the fit's kernel, and what is given. MethodError for a method that
    is not refitted."""
    if fit.limits is not None:  # a posterior, or another program's
        raise MethodError(
            f"a fit by `{fit.method}` is not refitted. Fit by a likelihood or moment method, such as `auto`, first."
        )
    return {"kernel": fit.kernel, **options} if fit.kernel not in ("", "auto") else options


def bootstrap_table(
    fit: Any,
    parameters: "list[str] | None",
    scale: str,
    level: float,
    n: int = DRAWS,
    type: str = "percentile",
    seed: int | None = SEED,
) -> "pd.DataFrame":
    """What `fit.confint("bootstrap")` gives: lower, upper by name. Refits of one n and seed are kept with the fit."""
    key = f"bootstrap:{n}:{seed}"
    if key not in fit.cache or seed is None:
        fit.cache[key] = bootstrap(fit, n, seed)
    table = fit.cache[key].table(parameters, type, level, scale)
    out = table[["lower", "upper"]]
    out.attrs.update(table.attrs)
    return out


def _within(q: Quantity, lower: float, upper: float) -> tuple[float, float, bool]:
    """Limits of a variance, SD or correlation no further than its range, and whether one was moved."""
    least, most = {"variance": (0.0, math.inf), "sd": (0.0, math.inf), "correlation": (-1.0, 1.0)}.get(
        q.kind, (-math.inf, math.inf)
    )
    return max(lower, least), min(upper, most), bool(lower < least or upper > most)
