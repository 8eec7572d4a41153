"""Where point estimates lie in a posterior, and whether likelihood and posterior tell one story.

For each fit and parameter: the posterior quantile of the estimate, P(parameter ≤ estimate | y), and its z; how far
both intervals overlap. For each fit by a likelihood: its distance from the maximum of that likelihood in the
posterior (REML is the mode with β integrated out under flat priors, ML the joint mode; both exact), and its SE
against the inverse observed information there, which in the same scale is the Laplace precision. SE and posterior SD
are compared on the scale where a posterior is nearest to normal: log for variances, Fisher's z for correlations, β as
it is. Posterior predictive checks of variance ratios say whether the model itself could have given y.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from vcbench import numbers as num
from vcbench.bayes.places import Exact, Places, places_of
from vcbench.bayes.predictive import Predictive, predictive_checks
from vcbench.errors import MethodError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-3  # of a posterior SD: one maximum, as near as the stop rule of slow methods asks
APIECE, ALIKE = 6, 2e-3  # fits with a line each; differences that are none, in posterior intervals
HALF = 0.5  # of the union of two intervals
SAME_SE = 1e-3  # relative: observed information by two ways, one of them by differences
FAR = 0.025  # posterior quantiles of an estimate beyond which it lies outside the 95 % interval
SCALES: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {  # (forward, d forward/d value)
    "log": (np.log, lambda x: 1 / x),
    "atanh": (np.arctanh, lambda x: 1 / (1 - x * x)),
    "identity": (lambda x: x, lambda x: 1.0),
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Check:
    """Fits against a posterior. frame: one row a fit and parameter; predictive: one row a variance ratio.

    Columns of frame: fit, method, criterion, parameter, estimate, se, fit_lower, fit_upper (the fit's interval),
    posterior_mean, posterior_sd, posterior_median, lower, upper (equal-tailed), quantile, z, overlap (length of the
    intersection of both intervals over that of their union), mode (of the likelihood that the fit maximises),
    mode_distance (in posterior SDs), observed_se (by the observed information at that mode), scale, se_scaled,
    posterior_sd_scaled.
    """

    frame: "pd.DataFrame"
    predictive: tuple[Predictive, ...]
    fits: Mapping[str, Any] = field(repr=False)
    places: Places = field(repr=False)
    level: float = 0.95
    interval: str = "wald"

    def __repr__(self) -> str:
        return self.summary()

    @property
    def groups(self) -> dict[str, str]:
        """{a fit: the label of it and of all that give its numbers}; where fits are few, each stands for itself."""
        labels = list(self.fits)
        if len(labels) <= APIECE:
            return {label: label for label in labels}
        frame = self.frame
        unit = (frame["upper"] - frame["lower"]).to_numpy(float)
        key = np.column_stack([frame[c].to_numpy(float) / unit for c in ("estimate", "fit_lower", "fit_upper")])
        key = np.nan_to_num(key, nan=-9.0)
        rows = {label: key[(frame["fit"] == label).to_numpy()] for label in labels}
        groups: list[list[str]] = []
        for label in labels:
            like = self.fits[label].criterion
            same = (
                g
                for g in groups
                if self.fits[g[0]].criterion == like and np.abs(rows[g[0]] - rows[label]).max() < ALIKE
            )
            group = next(same, None)
            if group is None:
                groups.append([label])
            else:
                group.append(label)
        names = {"reml": "REML", "ml": "ML"}
        return {
            g[0]: g[0] if len(g) == 1 else f"{names.get(self.fits[g[0]].criterion, g[0])}, {len(g)} methods"
            for g in groups
        }

    @property
    def verdict(self) -> str:
        """The first line of the summary."""
        return self._verdict()[0]

    def summary(self) -> str:
        """The verdict, one line a fit and parameter, and the predictive checks."""
        from vcbench.summary import columns

        what = "exact posterior (quadrature)" if self.places.kind == "exact" else "posterior draws"
        share = f"{100 * self.level:g} %"
        rows = []
        order = {name: i for i, name in enumerate(dict.fromkeys(self.frame["parameter"]))}
        groups = self.groups
        shown = self.frame[self.frame["fit"].isin(list(groups))]
        for r in sorted(shown.itertuples(), key=lambda r: order[r.parameter]):
            rows.append(
                [
                    r.parameter,
                    groups[r.fit],
                    num.with_se(r.estimate, r.se),
                    num.fixed(r.quantile, 3),
                    num.fixed(r.z, 2),
                    num.percent(r.overlap, 0) if math.isfinite(r.overlap) else num.ABSENT,
                    _distance(r.mode_distance),
                    num.fixed(r.se_scaled / r.posterior_sd_scaled, 2),
                ]
            )
        header = ["parameter", "fit", "estimate (SE)", "quantile", "z", "overlap", "from mode", "SE/SD"]
        lines = [
            *self._verdict(),
            "",
            f"Point estimates in the {what}, {share} intervals ({self.interval} of the fits)",
        ]
        lines += columns(header, rows, left=(0, 1))
        lines += ["", "Posterior"]
        own = self.frame.drop_duplicates("parameter")
        table = [
            [
                r.parameter,
                num.estimate(r.posterior_mean, r.posterior_sd),
                num.estimate(r.posterior_sd, r.posterior_sd),
                num.estimate(r.posterior_median, r.posterior_sd),
                num.interval(r.lower, r.upper, r.posterior_sd),
            ]
            for r in own.itertuples()
        ]
        lines += columns(["parameter", "mean", "SD", "median", f"{share} interval"], table, left=(0,))
        if self.predictive:
            lines += ["", "Posterior predictive checks: T of y among T of replicated data"]
            table = [
                [c.statistic, num.significant(c.observed, 4), num.significant(c.median, 4),
                 f"[{num.significant(c.lower, 3)}, {num.significant(c.upper, 3)}]", num.plus_minus(c.p, c.mcse)]
                for c in self.predictive
            ]  # fmt: skip
            lines += columns(["variance ratio T", "of y", "replicated", "95 %", "P(T_rep ≥ T)"], table, left=(0,))
        lines += [
            "",
            "quantile: share of the posterior below the estimate. from mode: distance from the maximum of the",
            "fit's own likelihood in this posterior, in posterior SDs. SE/SD: both on the log scale for",
            "variances, Fisher's z for correlations.",
        ]
        return "\n".join(lines)

    def plot(self, parameters: Sequence[str] | None = None) -> Any:
        """An Altair chart: for each parameter its posterior, the likelihood profile and every estimate on one axis."""
        from vcbench.report.diagnostics.altair_chart import chart_of
        from vcbench.report.theme import config

        return chart_of({**self.spec(parameters), "config": config()})

    def spec(self, parameters: Sequence[str] | None = None) -> dict[str, Any]:
        """The same as a Vega-Lite dictionary."""
        from vcbench.report.diagnostics.in_posterior import in_posterior

        known = list(dict.fromkeys(self.frame["parameter"]))
        for name in parameters or ():
            if name not in known:
                raise MethodError(f"no parameter `{name}`. Choose from {', '.join(known)}.{did_you_mean(name, known)}")
        return in_posterior(self, list(parameters or known))

    def _verdict(self) -> list[str]:
        f, share = self.frame, f"{100 * self.level:g} %"
        lines: list[str] = []
        likelihood = f[f["mode"].notna()]
        if len(likelihood):
            off = likelihood[likelihood["mode_distance"] > SAME]
            names = list(dict.fromkeys(likelihood["fit"]))
            if off.empty:
                worst = num.significant(max(float(likelihood["mode_distance"].max()), 1e-12), 1)
                whose = "their" if len(names) > 1 else "its"
                lines.append(
                    f"AGREE     {num.listing(names)}: at the maximum of {whose} likelihood in the posterior, to "
                    f"{worst} posterior SD."
                )
            else:
                row = off.loc[off["mode_distance"].idxmax()]
                far, top = num.significant(row["mode_distance"], 2), num.estimate(row["mode"], row["posterior_sd"])
                lines.append(
                    f"DISAGREE  {row['fit']}: {row['parameter']} is {far} posterior SD from the maximum of its "
                    f"likelihood, {top}."
                )
            both = likelihood.dropna(subset=["se", "observed_se"])
            if len(both):
                ratio = both["se"] / both["observed_se"] - 1
                at = ratio.abs().idxmax()
                lines.append(
                    "          Standard errors are those of the observed information."
                    if abs(ratio[at]) < SAME_SE
                    else f"          The SE of {both.loc[at, 'parameter']} by {both.loc[at, 'fit']} is "
                    f"{num.times(1 + ratio[at])} that of the observed information."
                )
        edge = f[(f["estimate"] <= 0) & (f["quantile"] == 0)]
        outside = f[(f["quantile"] < (1 - self.level) / 2) | (f["quantile"] > (1 + self.level) / 2)].drop(edge.index)
        if outside.empty:
            every = "Every estimate" if edge.empty else "Every other estimate"
            lines.append(f"{'' if lines else 'INSIDE':10}{every} lies inside its {share} posterior interval.")
        else:
            said = [f"{r.fit} for {r.parameter} ({num.significant(r.quantile, 2)})" for r in outside.itertuples()]
            lead = "" if lines else "OUTSIDE"
            lines.append(f"{lead:10}Outside the {share} posterior interval (quantile): {num.listing(said, 4)}.")
        for name in dict.fromkeys(edge["parameter"]):
            who = edge[edge["parameter"] == name]
            median = num.estimate(who["posterior_median"].iloc[0], who["posterior_sd"].iloc[0])
            lines.append(
                f"          {name} is 0 or less by {num.listing(list(who['fit']))}: below the whole posterior, whose "
                f"median is {median}."
            )
        groups = self.groups
        narrow = f[(f["overlap"] < HALF) & f["fit"].isin(list(groups))]
        for name in dict.fromkeys(narrow["parameter"]):
            who = narrow[narrow["parameter"] == name]
            said = [f"{groups[r.fit]} {num.percent(r.overlap, 0)}" for r in who.itertuples()]
            lines.append(f"          Intervals of {name} overlap by less than half: {num.listing(said)}.")
        odd = [c for c in self.predictive if min(c.p, 1 - c.p) + 2 * c.mcse < FAR]
        if odd:
            said = [f"{c.statistic} (p = {num.plus_minus(c.p, c.mcse)})" for c in odd]
            lines.append(f"          The model does not reproduce {num.listing(said)} of y.")
        elif self.predictive:
            lines.append("          The model reproduces the variance ratios of y.")
        return [row for line in lines for row in wrap(line, 100, subsequent_indent=" " * 10)]


def check(
    fit: Any,
    posterior: Any,
    level: float = 0.95,
    interval: str = "wald",
    predictive: int = 400,
    seed: Any = 0,
) -> Check:
    """Point estimates against a posterior: `.frame`, `.summary()`, `.plot()`.

    fit: a Fit, a list of fits, or a mapping of labels to fits, all of one model. posterior: a `Posterior` of
    `quadrature` or a DataTree of `sample`. interval: of the fits, "wald" (estimate ± z·SE, variances cut at 0; absent
    at a boundary) or "profile"; a Bayesian method has its own. predictive: replicates of the predictive checks, 0 for
    none; seed: theirs.

    Raises ModelError where fit and posterior are not of the same parameters, MethodError for an unknown interval.
    """
    import pandas as pd

    if interval not in ("wald", "profile"):
        hint = did_you_mean(interval, ("wald", "profile"))
        raise MethodError(f"unknown interval `{interval}`. Choose wald or profile.{hint}")
    fits = _labelled(fit)
    first = next(iter(fits.values()))
    theta_names, beta_names = tuple(first.facts.theta_names), tuple(first.facts.beta_names)
    for label, other in fits.items():
        if tuple(other.facts.theta_names) != theta_names:
            names = ", ".join(other.facts.theta_names)
            raise MethodError(f"`{label}` is a fit of other parameters than the first: {names}.")
    places = places_of(posterior, theta_names, beta_names)
    tail = 0.5 * (1 - level)
    about = {name: _about(places, name, tail) for name in (*theta_names, *beta_names)}
    modes: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for label, one in fits.items():
        rows += _rows(label, one, places, about, modes, level, interval)
    model = first.model
    checks: tuple[Predictive, ...] = ()
    if predictive and model is not None:
        checks = predictive_checks(model, places, predictive, np.random.default_rng(seed))
    return Check(pd.DataFrame(rows), checks, fits, places, level, interval)


def _labelled(fit: Any) -> dict[str, Any]:
    if isinstance(fit, Mapping):
        return dict(fit)
    fits = list(fit) if isinstance(fit, list | tuple) else [fit]
    out: dict[str, Any] = {}
    for one in fits:
        label = one.method
        if label in out:
            label = f"{one.method} {one.criterion}"
        while label in out:
            label += "'"
        out[label] = one
    return out


def _about(places: Places, name: str, tail: float) -> dict[str, float]:
    mean, sd = places.mean_sd(name)
    lower, median, upper = (float(x) for x in places.quantile(name, np.array([tail, 0.5, 1 - tail])))
    return {
        "posterior_mean": mean, "posterior_sd": sd, "posterior_median": median, "lower": lower, "upper": upper,
    }  # fmt: skip


def _rows(
    label: str, fit: Any, places: Places, about: Mapping[str, Any], modes: dict[str, Any], level: float, interval: str
) -> list[dict[str, Any]]:
    theta_names = tuple(fit.facts.theta_names)
    estimate = {**fit.theta.to_dict(), **fit.beta.to_dict()}
    se = {**fit.theta_se.to_dict(), **fit.beta_se.to_dict()}
    limits = _limits(fit, estimate, se, level, interval)
    mode, cov = _mode(fit, places, modes)
    out = []
    for name, value in estimate.items():
        own = about[str(name)]
        low, high = limits[name]
        scale = _scale(fit, str(name), float(value))
        forward, slope = SCALES[scale]
        is_theta = name in theta_names
        at = mode.get(name, math.nan)
        j = theta_names.index(name) if is_theta else -1
        edge = is_theta and scale == "log" and not value > 0
        unit = own["posterior_sd"] if math.isfinite(own["posterior_sd"]) else own["upper"] - own["lower"]
        out.append(
            {
                "fit": label,
                "method": fit.method,
                "criterion": fit.criterion,
                "parameter": str(name),
                "estimate": float(value),
                "se": float(se[name]),
                "fit_lower": low,
                "fit_upper": high,
                **own,
                "quantile": places.cdf(str(name), float(value)),
                "z": (float(value) - own["posterior_mean"]) / own["posterior_sd"],
                "overlap": _overlap(low, high, own["lower"], own["upper"]),
                "mode": at,
                "mode_distance": abs(float(value) - at) / unit,
                "observed_se": math.sqrt(cov[j, j]) if is_theta and cov is not None and cov[j, j] >= 0 else math.nan,
                "scale": scale,
                "se_scaled": math.nan if edge else float(se[name]) * slope(float(value)),
                "posterior_sd_scaled": places.sd_of(str(name), forward),
            }
        )
    return out


def _mode(fit: Any, places: Places, modes: dict[str, Any]) -> tuple[dict[str, float], np.ndarray | None]:
    """The maximum of the fit's own likelihood in the posterior; nothing for moments, posteriors and draws."""
    if not isinstance(places, Exact) or fit.criterion not in ("reml", "ml") or fit.is_moments or fit.limits is not None:
        return {}, None
    if fit.criterion not in modes:
        theta, cov = places.posterior.likelihood_mode(fit.criterion)
        beta = dict(zip(places.posterior.beta_names, places.posterior.beta_at(theta.to_numpy()), strict=True))
        modes[fit.criterion] = {**theta.to_dict(), **beta}, cov
    return modes[fit.criterion]


def _limits(
    fit: Any, estimate: Mapping[str, float], se: Mapping[str, float], level: float, interval: str
) -> dict[str, tuple[float, float]]:
    own = fit.limits
    if own is not None and level == 0.95:  # a Bayesian method's
        lower = np.concatenate([own["theta_lower"], own["beta_lower"]])
        upper = np.concatenate([own["theta_upper"], own["beta_upper"]])
        return {n: (float(a), float(b)) for n, a, b in zip(estimate, lower, upper, strict=True)}
    if interval == "profile" and not fit.is_moments and fit.criterion in ("reml", "ml"):
        table = fit.confint("profile", level, list(estimate))
        return {n: (float(a), float(b)) for n, a, b in zip(estimate, table["lower"], table["upper"], strict=True)}
    reach = float(norm.ppf(0.5 + level / 2))
    variances = {n for n, v in zip(fit.facts.theta_names, fit.facts.is_variance, strict=True) if v}
    out = {}
    for name, value in estimate.items():
        low, high = value - reach * se[name], value + reach * se[name]
        out[name] = (max(low, 0.0) if name in variances else low, high)
    return out


def _overlap(low: float, high: float, lower: float, upper: float) -> float:
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan
    return max(0.0, min(high, upper) - max(low, lower)) / (max(high, upper) - min(low, lower))


def _scale(fit: Any, name: str, value: float) -> str:
    names = fit.facts.theta_names
    if name not in names:
        return "identity"
    if fit.facts.is_variance[names.index(name)] or name.split(":")[-1].startswith("range"):
        return "log"
    own = name.split(":")[-1]
    return "identity" if own.startswith("cov") or not abs(value) < 1 else "atanh"


def _distance(value: float) -> str:
    if not math.isfinite(value):
        return num.ABSENT
    return "0" if value < 1e-9 else num.significant(value, 1)


def to_dicts(checks: Sequence[Predictive]) -> list[dict[str, Any]]:
    """Predictive checks as plain values."""
    return [asdict(c) for c in checks]
