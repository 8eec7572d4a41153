"""A fit: what a method found, and what may be said of it. Series and frames are made when asked for."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from vcbench.inference.bootstrap import Bootstrap
    from vcbench.inference.fixed_tests import Contrast
    from vcbench.inference.influence import Influence
    from vcbench.inference.likelihood_ratio import LikelihoodRatio

CODES = {
    Status.CONVERGED: "VC-CONVERGED",
    Status.AT_BOUNDARY: "VC-BOUNDARY",
    Status.MAX_ITER: "VC-MAX-ITER",
    Status.SINGULAR_V: "VC-SINGULAR-V",
    Status.FAILED: "VC-FAILED",
    Status.TIMEOUT: "VC-TIMEOUT",
    Status.SKIPPED: "VC-SKIPPED",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a result must know of its model when the data are gone."""

    formula: str | None
    n_obs: int
    n_dropped: int
    beta_names: tuple[str, ...]
    theta_names: tuple[str, ...]
    is_variance: tuple[bool, ...]
    groups: tuple[tuple[str, str], ...]  # component, what it is

    @classmethod
    def of(cls, model: Model) -> "Facts":
        """The facts of a model."""
        variance = model.working.is_variance
        groups = []
        for c in model.components:
            if c.is_grouped:
                what = f"{len(c.levels)} levels"
            elif c.relation is not None:
                what = f"{'K' if c.K is not None else 'A'}, {c.relation.m} × {c.relation.m}, rank {c.relation.rank}"
            else:
                what = f"Z, {c.Z.shape[1]} columns"  # type: ignore[union-attr]
            groups.append((c.name, what))
        return cls(
            model.formula,
            model.n_obs,
            model.n_dropped,
            tuple(model.X_names or ()),
            model.theta_names,
            tuple(variance),
            tuple(groups),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The result of one method on one model.

    theta: variance parameters in natural units, residual last; beta: fixed effects in the order of X's columns, at the
    method's own last step. loglik: ℓ_ML(β, θ) or ℓ_REML(θ) with all constants, by `criterion`; ℓ_REML for moments
    ("none";
    NaN where V is not positive definite). status: how it ended; code: the same for `vcbench explain`. n_iter steps,
    n_eval evaluations of its own; the stop rule's evaluations are counted in n_check and timed in check_seconds, not in
    seconds.
    """

    model: Model | None
    facts: Facts
    method: str
    criterion: str
    theta_values: np.ndarray
    beta_values: np.ndarray
    loglik: float
    status: Status
    message: str = ""
    n_iter: int = 0
    n_eval: int = 0
    n_check: int = 0
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    check_seconds: float = 0.0
    kernel: str = ""
    rank: np.ndarray | None = None
    trace_rows: np.ndarray | None = field(default=None, repr=False)
    limits: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cache: dict[str, Any] = field(default_factory=dict, repr=False)

    # --- estimates ---
    @property
    def code(self) -> str:
        """The ending's code, for `vcbench explain`."""
        return CODES[self.status]

    @property
    def beta(self) -> "pd.Series":
        """Fixed effects (d,), named."""
        import pandas as pd

        return pd.Series(self.beta_values, index=list(self.facts.beta_names), name="beta")

    @property
    def theta(self) -> "pd.Series":
        """Variance parameters (p,), natural units, named, residual last."""
        import pandas as pd

        return pd.Series(self.theta_values, index=list(self.facts.theta_names), name="theta")

    def theta_cov(self, cov_type: str | None = None) -> np.ndarray:
        """Cov(θ̂) (p, p): the inverse observed (default), expected or average information, free parameters only;
        sandwich for moments, posterior covariance for a posterior. NaN for a parameter on the boundary."""
        key = cov_type or "default"
        if key not in self.cache:
            if self.model is None:
                raise MethodError(
                    f"this fit was read from JSON and holds its default standard errors only, not `{cov_type}`."
                )
            from vcbench.inference.standard_errors import theta_covariance
            from vcbench.kernels import build

            if self.is_moments or self.limits is not None or not self.is_estimate:
                p = len(self.theta_values)
                self.cache[key] = self.cache.get("default", np.full((p, p), np.nan))
            else:
                criterion = "reml" if self.criterion == "none" else self.criterion
                kernel = build(self.model, self.kernel)
                rank = self.rank
                assert rank is not None
                cov, used = theta_covariance(kernel, self.theta_values, criterion, rank, cov_type)
                self.cache[key] = cov
                self.cache[f"{key}:used"] = used
        return self.cache[key]

    @property
    def is_moments(self) -> bool:
        """True for estimates by moments: raw, and maximising no likelihood whatever the criterion is called."""
        from vcbench.methods import METHODS

        known = METHODS.get(self.method)
        return known is not None and (known.kind == "moments" or known.criteria == ("none",))

    @property
    def is_estimate(self) -> bool:
        """True where θ is finite and V(θ) was positive definite."""
        return bool(np.isfinite(self.theta_values).all() and self.rank is not None and np.isfinite(self.loglik))

    @property
    def theta_se(self) -> "pd.Series":
        """Standard errors of θ̂, natural units; NaN on the boundary."""
        import pandas as pd

        with np.errstate(invalid="ignore"):
            return pd.Series(np.sqrt(np.diag(self.theta_cov())), index=list(self.facts.theta_names), name="se")

    def beta_cov(self) -> np.ndarray:
        """Cov(β̂) = (XᵀV̂⁻¹X)⁻¹ (d, d)."""
        if "beta" not in self.cache:
            assert self.model is not None
            from vcbench.kernels import build

            d = len(self.beta_values)
            self.cache["beta"] = np.full((d, d), np.nan)
            if self.is_estimate:
                kernel = build(self.model, self.kernel)
                at = kernel.evaluate(self.theta_values, ("loglik",), "ml")
                if at.QtVinvQ is not None:
                    Ti = np.linalg.inv(kernel.basis.T)  # type: ignore[attr-defined]
                    self.cache["beta"] = Ti @ np.linalg.inv(at.QtVinvQ) @ Ti.T
        return self.cache["beta"]

    @property
    def beta_se(self) -> "pd.Series":
        """Standard errors of β̂."""
        import pandas as pd

        return pd.Series(np.sqrt(np.diag(self.beta_cov())), index=list(self.facts.beta_names), name="se")

    def fixef(self) -> "pd.Series":
        """β̂, as lme4's `fixef`."""
        return self.beta

    def _need_model(self, what: str) -> Model:
        if self.model is None:
            raise MethodError(f"{what} needs the data; this fit was read from JSON. Fit the model again.")
        return self.model

    def ranef(self) -> "dict[str, pd.DataFrame]":
        """BLUPs û = G Zᵀ V⁻¹(y − Xβ̂) by component: one row a level (column of Z, row of K), one column an effect."""
        import pandas as pd

        from vcbench.kernels import build

        model = self._need_model("ranef()")
        kernel = build(model, self.kernel or "auto")
        out = {}
        for c, u in zip(model.components, kernel.blup(self.theta_values, self.beta_values), strict=True):  # type: ignore[attr-defined]
            index = list(c.levels) if len(c.levels) == len(u) else list(range(len(u)))
            out[c.name] = pd.DataFrame(u.reshape(len(index), -1), index=index, columns=list(c.effects))
        return out

    def ranef_se(self) -> "dict[str, pd.DataFrame]":
        """Standard errors of prediction √Var(û − u) by component, as `ranef` lays them out; β̂ is estimated, θ taken as
        known. ModelError where a variance is negative (raw moment estimates)."""
        from vcbench.inference.blups import ranef_se

        return ranef_se(self)

    def reliability(self) -> "dict[str, pd.DataFrame]":
        """r² = 1 − Var(û − u)/Var(u) by component, as `ranef` lays them out; Var(u) of an inbred animal is (1 + F)σ_a².
        NaN where Var(u) is 0."""
        from vcbench.inference.blups import reliability

        return reliability(self)

    def condvar(self, beta: str = "known") -> dict[str, np.ndarray]:
        """Covariance (levels, r, r) of the effects of each level, by component: Cov(u | y) with β "known", as lme4's
        `ranef(condVar=TRUE)`, or Cov(û − u) with β "estimated", whose diagonal is the square of `ranef_se`."""
        from vcbench.inference.blups import covariances

        return covariances(self, beta)

    def blup(self, level: float = 0.95, component: str | None = None) -> "pd.DataFrame":
        """BLUPs, one row an effect of a level: component, level, effect, estimate, se = √Var(û − u), lower, upper,
        reliability."""
        from vcbench.inference.blups import blup

        return blup(self, level, component)

    def predict(
        self,
        new: Any = None,
        *,
        random: bool | str | Sequence[str] = True,
        interval: str | None = None,
        level: float = 0.95,
    ) -> "np.ndarray | pd.DataFrame":
        """Xβ̂ + Zû (+ offset) (m,) at the data, or at new rows; with `interval` a frame: fit, se, lower, upper.

        new: a data frame for a model from a formula (the response is not needed); for a model from arrays
        `{"X": (m, d), "Z": {component: (Z, group)}}`, or Z alone for a component without groups, and "offset",
        "weights". random: all random effects, none, or the components named. A level that was not in the data has
        û = 0, its expectation; one of a relationship matrix needs no record, only its row there.

        interval "confidence": the error of xᵀβ̂ + zᵀû as a prediction of xᵀβ + zᵀu over the chosen components, β
        estimated and θ known; zᵀΩz where the level is not met. "prediction": of a new observation too. It adds its
        residual variance (σ²/w with known weights, its level's own where they differ; independent of the residuals
        observed, also where those are correlated), and zᵀΩz of components left out, as of levels not met.
        Normal quantiles: the uncertainty of θ̂ is not in them.
        """
        from vcbench.inference.prediction import predict

        return predict(self, new, random, interval, level)

    def fitted_values(self, random: bool = True) -> np.ndarray:
        """Xβ̂ + Zû (n,), or Xβ̂, with the offset."""
        return self.predict(random=random)  # type: ignore[return-value]

    def residuals(self, kind: str = "conditional") -> np.ndarray:
        """Residuals (n,): "conditional" ê = y − Xβ̂ − Zû, "marginal" y − Xβ̂; ê over its model SD ("pearson") or each
        over its own SD ("standardized"; "standardized-marginal" for y − Xβ̂); uncorrelated, through R's Cholesky factor
        ("normalized", as nlme's) or V's ("scaled", of y − Xβ̂: for QQ plots). Formulas: `vcbench.inference.residuals`.
        """
        from vcbench.inference.residuals import residuals

        return residuals(self, kind)

    def leverage(self, random: bool = True) -> np.ndarray:
        """∂ŷ_i/∂y_i (n,) of Xβ̂ + Zû, or of Xβ̂; the sum is the effective number of parameters. θ as known."""
        from vcbench.inference.residuals import leverage

        return leverage(self, random)

    def influence(self, by: Any = None) -> "Influence":
        """What the estimates owe to each row (`by` None), each level of a component, or each value of n labels.

        Of the result: `frame` (Cook's distance, MDFFITS, COVRATIO, COVTRACE), `beta` and `dfbetas`, exact at the θ of
        this fit and without refits; `theta`, one step; `ranef(label)`; `refit()`, the fits without each group.
        """
        from vcbench.inference.influence import influence

        return influence(self, by)

    # --- fit statistics ---
    @property
    def n_parameters(self) -> int:
        """m = d + p."""
        return len(self.beta_values) + len(self.theta_values)

    @property
    def aic(self) -> float:
        """−2ℓ + 2m."""
        return -2.0 * self.loglik + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """−2ℓ + m log n (lme4's n)."""
        return -2.0 * self.loglik + self.n_parameters * math.log(self.facts.n_obs)

    @property
    def converged(self) -> bool:
        """True for CONVERGED and AT_BOUNDARY."""
        return self.status.ok

    # --- tables ---
    def varcomp(
        self, scale: str = "var", level: float = 0.95, cov_type: str | None = None, interval: str = "auto"
    ) -> "pd.DataFrame":
        """Variance parameters: component, parameter, estimate, se, lower, upper.

        scale "var": variances and covariances. "sd": standard deviations and correlations. "cor": correlations alone.
        SEs by the delta method from the information `cov_type`: "observed" (default), "expected" or "average"; the
        sandwich for moments. interval: "auto" gives Wald limits on that scale, a posterior its own; on the boundary,
        where there is neither, those of the profile likelihood. "wald", "profile", "bootstrap", "posterior": that
        kind throughout. `attrs["notes"]` says by parameter why a limit is of another kind, or missing.
        """
        from vcbench.inference.variances import varcomp

        return varcomp(self, scale, level, cov_type, interval)

    def derive(
        self,
        expression: "str | Callable",
        interval: "str | Sequence[str]" = "delta",
        level: float = 0.95,
        **options: Any,
    ) -> "pd.Series | pd.DataFrame":
        """A function of θ and β, e.g. `fit.derive("h2 = animal / total")`: estimate, se, lower, upper.

        expression: arithmetic on names: parameters (in backquotes: `` `Subject:var(Days)` ``), components with one
        variance, `residual`, `total` (the sum of the variances), fixed effects; or a Python function of a mapping of
        parameter names to values. interval: "delta" (default), "profile" or "bootstrap" (`n`, `type`, `seed`); several,
        or "all", give a frame of one row each.
        """
        from vcbench.inference.functions import derive

        return derive(self, expression, interval, level, **options)

    def confint(
        self,
        kind: str = "wald",
        level: float = 0.95,
        parameters: "str | Sequence[str] | None" = None,
        scale: str = "var",
        **options: Any,
    ) -> "pd.DataFrame":
        """Intervals of θ and β: lower, upper by parameter name; `attrs["notes"]` explains what is missing or cut off.

        parameters: names, None for all. scale "var": variances and covariances; "sd": standard deviations and
        correlations. kind:

        - "wald": θ̂ ± z·se. `symmetric_on` "var", "sd" or "log" is where the interval is symmetric (default: the scale
          it is given on; of correlations "log" is atanh); `cov_type` as in `varcomp`. Absent on the boundary.
        - "profile": where the profile of −2ℓ lies within χ²_1 of its minimum. `criterion` "ml" or "reml" (default: the
          fit's); fixed effects are profiled under ML.
        - "bootstrap": of `n` refits to responses drawn from the fit; `type` "percentile", "basic" or "bca"; `seed`.
        - "posterior": of a fit by a Bayesian method its own; of another, that of the model's twin under default priors.
        """
        from vcbench.inference.intervals import confint

        return confint(self, kind, level, parameters, scale, **options)

    def profile(
        self, parameters: "str | Sequence[str] | None" = None, scale: str = "sd", criterion: str | None = None
    ) -> "pd.DataFrame":
        """Profile likelihoods as one long frame: parameter, value, zeta = ±√(2(ℓ̂ − ℓ_p)), loglik = ℓ_p(value).

        parameters: names, or expressions such as "h2 = animal / total"; None for all. ζ runs from about −4 to 4, or to
        the edge of a parameter's range. Fixed effects are profiled under ML, θ under `criterion` (default: the fit's).
        """
        from vcbench.inference.profile import profile_frame

        return profile_frame(self, parameters, scale, criterion)

    # --- tests of fixed effects ---
    def test_fixed(self, df: str = "satterthwaite", level: float = 0.95, cov_type: str | None = None) -> "pd.DataFrame":
        """t tests of the fixed effects, one row each: estimate, se, df, t, p, lower, upper; `attrs["notes"]`.

        df: "satterthwaite", with Cov(θ̂) by `cov_type` as in `varcomp`; "kenward-roger" (or "kr"; with its adjusted
        standard errors, REML only); "residual", n − d; "inf", the normal distribution. MethodError for a posterior,
        and where the method asked for is not defined.
        """
        from vcbench.inference.fixed_tests import coefficients

        return coefficients(self, df, level, cov_type)

    def contrast(
        self, L: Any, df: str = "satterthwaite", level: float = 0.95, cov_type: str | None = None
    ) -> "Contrast":
        """The test of linear hypotheses about β: a table of rows (t) and the joint F.

        L: coefficients (d,) or (q, d); a mapping by name, `{"nitro0.4": 1, "nitro0.2": -1}`; text, `"nitro0.4 -
        nitro0.2"`, `"a = 2 * b"`, `"Days = 10"`; or a list of such rows. df as in `test_fixed`. MethodError for
        unknown names, text that is not linear, and hypotheses that contradict each other.
        """
        from vcbench.inference.fixed_tests import contrast

        return contrast(self, L, df, level, cov_type)

    def anova(self, type: int | str = 3, df: str = "satterthwaite", cov_type: str | None = None) -> "pd.DataFrame":
        """F tests of the terms of the fixed part: F, numerator_df, denominator_df, p by term; `attrs["notes"]`.

        type: 1 (sequential), 2 (each term adjusted for all that do not contain it) or 3 (SAS's), whatever the coding
        of factors; "I", "II", "III" too. Of a model from arrays every column is a term. df as in `test_fixed`.
        """
        from vcbench.inference.fixed_tests import anova

        return anova(self, type, df, cov_type)

    # --- tests of random terms ---
    def test_component(
        self, component: str, term: str | None = None, method: str = "auto", n_sim: int | None = None, seed: int = 0
    ) -> "LikelihoodRatio":
        """The likelihood-ratio test of this fit against its model without a random term, fitted the same way.

        component: its name, or "residual" for the residual structure against independent residuals; term: one term
        within it, as `Days` of (Days | Subject). method, n_sim, seed: `vc.lrt`. MethodError for unknown names.
        """
        from vcbench.inference.random_tests import component_test

        return component_test(self, component, term, method, n_sim, seed)

    def ranova(self, method: str = "auto", n_sim: int | None = None, seed: int = 0) -> "pd.DataFrame":
        """Each random term tested by leaving it out: n_parameters, loglik and aic of the smaller model, statistic, df,
        p, null (the distribution in words), method; `attrs["notes"]` by term.

        (x | g) is reduced to (1 | g), (1 | g) is left out, as lmerTest's `ranova` does; the null distributions are
        those of `vc.lrt(method)`, not χ².
        """
        from vcbench.inference.random_tests import ranova

        return ranova(self, method, n_sim, seed)

    # --- drawn again ---
    def simulate(self, n: int = 1, seed: Any = None) -> np.ndarray:
        """n responses drawn from the fitted model at (θ̂, β̂), random effects drawn anew: (n_obs, n).

        seed: what `numpy.random.default_rng` takes. DataError where the estimate is no covariance, as a negative
        variance by moments.
        """
        from vcbench.inference.simulation import simulate

        return simulate(self._need_model("simulate()"), self.theta_values, self.beta_values, n, seed)

    def bootstrap(self, n: int = 1000, seed: int | None = 0, **options: Any) -> "Bootstrap":
        """Parametric bootstrap: the model refitted to n responses of `simulate(n, seed)`, by this fit's method,
        criterion and kernel; `options` are those of the method (`max_iter`, `start`, …).

        Of the result: `theta`, `beta`, `statuses`, `n_failed`; `interval(quantity, kind="percentile" | "basic" |
        "bca")` of parameters and of functions of them; `table()`, `se()`, `frame`. seed None draws one, kept in
        `seed`. MethodError for a Bayesian fit, and where there is no estimate.
        """
        from vcbench.inference.bootstrap import bootstrap

        return bootstrap(self, n, seed, **options)

    def tidy(self) -> "pd.DataFrame":
        """All estimates, one row a parameter: kind, parameter, estimate, se, lower, upper."""
        import pandas as pd

        ci = self.confint("wald" if self.limits is None else "posterior")
        return pd.DataFrame(
            {
                "kind": ["variance"] * len(self.theta_values) + ["fixed"] * len(self.beta_values),
                "parameter": [*self.facts.theta_names, *self.facts.beta_names],
                "estimate": np.concatenate([self.theta_values, self.beta_values]),
                "se": np.concatenate([self.theta_se.to_numpy(), self.beta_se.to_numpy()]),
                "lower": ci["lower"].to_numpy(),
                "upper": ci["upper"].to_numpy(),
            }
        )

    @property
    def trace(self) -> "pd.DataFrame":
        """The path: iteration, loglik, one column a parameter (θ, then β), seconds."""
        import pandas as pd

        columns = ["loglik", *self.facts.theta_names, *self.facts.beta_names, "seconds"]
        rows = np.zeros((0, len(columns))) if self.trace_rows is None else self.trace_rows
        frame = pd.DataFrame(rows, columns=columns)
        frame.insert(0, "iteration", np.arange(len(rows)))
        return frame

    # --- text and pictures ---
    def summary(self) -> str:
        """The fit on a page of text."""
        from vcbench.summary import summarise

        return summarise(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        at = ", ".join(f"{n} = {v:.6g}" for n, v in zip(self.facts.theta_names, self.theta_values, strict=True))
        return f"Fit({self.method}, {self.criterion}, {self.status}, loglik = {self.loglik:.6f}: {at})"

    def explain(self) -> str:
        """How the fit ended and what to do about it, and which kernel answered."""
        from vcbench.summary import folded, verdict

        lines = verdict(self)
        if self.model is not None:
            lines += ["", *self.model.explain().splitlines()]
        return "\n".join(folded(lines))

    def plot(self, kind: str = "trace", **options: Any) -> Any:
        """A picture of the fit as an Altair chart (`chart.save`, or `vcbench.report.plots.save` as SVG or PNG).

        - "trace" ("convergence"): ℓ and its distance to the best against iteration.
        - "ranef" ("caterpillar"): BLUPs ± 1.96 √PEV, levels sorted. `level`, `component`.
        - "profile": ζ and |ζ| of each parameter with the limits of 50 to 99 % intervals. `parameters`, `criterion`,
          `view` "both", "zeta" or "absolute".
        - "contour": ℓ over two parameters, the others at their maximum, with likelihood regions and the path of the fit
          or of `methods`. `x`, `y` (names), `methods`, `start`.
        - "residuals": against fitted values, their size, normal quantiles, by group; "qq": quantiles alone. `level`.
        - "acf": autocorrelation of normalized residuals by lag. "variogram": semivariance by distance. `level`.
        - "influence": Cook's distance and DFBETAS of each group. `by`.

        Bands are of data sets drawn from the fit. MethodError for an unknown kind or option, and, with what to do, for
        a kind that does not apply.
        """
        from importlib import import_module

        diagnostics = import_module("vcbench.report.diagnostics")  # a lazy door: pictures are loaded when one is drawn
        return diagnostics.chart(self, kind, **options)

    def plots(self) -> dict[str, Any]:
        """All pictures of `plot` that apply, by kind. Some are drawn only where they are asked for by name: "qq", which
        "residuals" holds, "variogram" where lags are equal, "profile" and "contour" of large models."""
        from importlib import import_module

        return import_module("vcbench.report.diagnostics").charts(self)

    def to_markdown(self) -> str:
        """Both tables as Markdown."""
        from vcbench.summary import markdown

        return markdown(self)

    def to_latex(self) -> str:
        """Both tables as LaTeX (booktabs)."""
        from vcbench.summary import latex

        return latex(self)

    def _repr_html_(self) -> str:
        from vcbench.summary import html

        return html(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the data, as plain values; the schema is named in it."""
        from vcbench.stored import fit_to_dict

        return fit_to_dict(self)

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as JSON; numbers round-trip exactly."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Fit":
        """The fit that `to_json` wrote, without its data: all but ranef, predict and other information matrices."""
        from vcbench.stored import fit_from_json

        return fit_from_json(text)
