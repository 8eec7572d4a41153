"""Power-scaling sensitivity: how much the posterior moves when the prior or the likelihood is raised to a power near 1.

    p_α(θ | y) ∝ p(y | θ) p(θ)^α    or    p(y | θ)^α p(θ),

reached from the draws by Pareto-smoothed importance weights; the measure is the rate of the cumulative Jensen–Shannon
distance in log₂ α (Kallioinen, Paananen, Bürkner & Vehtari 2024, Statistics and Computing 34, 57), by ArviZ. Above 0.05
the posterior of that parameter is sensitive; to prior and likelihood at once, they disagree; to the prior alone, the
data say little of it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.build import safe
from vcbench.bayes.priors import Beta, Flat
from vcbench.bayes.twin import Twin
from vcbench.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SENSITIVE = 0.05
ALPHAS = (0.99, 1.01)


def psense(draws: "xr.DataTree", twin: Twin, y: Any = None) -> "pd.DataFrame":
    """One row for each θ and β: its sensitivity to each part of the prior, to all of it, to the likelihood, in words.

    draws: of `sample` or `approximate` with this twin; y: the response where it was another than the twin's. Columns:
    one for each variance's or structure's prior (`total` for a split, `correlations of …` for LKJ, `β`), `prior`,
    `likelihood`, `diagnosis`. Flat priors are left out: raised to a power they stay what they are. Raises ModelError
    for draws of another model.
    """
    import arviz as az
    import pandas as pd

    data = with_logs(draws, twin, y)
    names = [safe(n) for n in twin.theta_names] + (["beta"] if twin.source.n_fixed else [])
    parts = [str(v) for v in data["log_prior"].data_vars]
    columns: dict[str, Any] = {}
    for part in parts:
        columns[part] = _flat(az.psense(data, var_names=names, group="prior", alphas=ALPHAS, group_var_names=part))
    if parts:
        columns["prior"] = _flat(az.psense(data, var_names=names, group="prior", alphas=ALPHAS))
    columns["likelihood"] = _flat(az.psense(data, var_names=names, group="likelihood", alphas=ALPHAS))
    frame = pd.DataFrame(columns)
    frame["diagnosis"] = [_words(row.get("prior", 0.0), row["likelihood"]) for _, row in frame.iterrows()]
    return frame


def with_logs(draws: "xr.DataTree", twin: Twin, y: Any = None) -> "xr.DataTree":
    """The draws with groups `log_prior`, a variable for each part, and `log_likelihood`, ℓ of the whole response.

    Effects are integrated out, and under "reml" β: the likelihood is ℓ_REML(θ) or ℓ_ML(β, θ), whatever the form.
    """
    import xarray as xr

    posterior = draws["posterior"].to_dataset()
    missing = [n for n in twin.theta_names if safe(n) not in posterior]
    if missing:
        raise ModelError(f"the draws have no `{missing[0]}`: they are of another model than this twin.")
    over = ("chain", "draw")
    coords = {k: posterior[k] for k in over}
    logs = {k: (over, v) for k, v in _log_priors(posterior, twin).items()}
    shape = tuple(posterior.sizes[k] for k in over)
    values = _loglik(posterior, twin, y).reshape(shape)
    return xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "log_prior": xr.Dataset(logs, coords=coords),
            "log_likelihood": xr.Dataset({"y": (over, values)}, coords=coords),
        }
    )


def _log_priors(posterior: "xr.Dataset", twin: Twin) -> dict[str, np.ndarray]:
    """log p of each part of the prior at the draws (chains, draws), in the scale in which it is stated."""
    priors = twin.priors
    out: dict[str, np.ndarray] = {}
    for name, prior in priors.sd.items():
        if not isinstance(prior, Flat):
            out[safe(name)] = np.asarray(prior.logpdf(np.asarray(posterior[twin.free[name]])))
    if priors.split is not None:
        variances = np.stack([np.asarray(posterior[safe(n)]) for n in priors.split.names], axis=-1)
        out["total"] = priors.split.logpdf_free(variances)
    for item in twin.coordinates.items:
        if item.axis.kind == "sd":
            continue
        x = np.asarray(posterior[twin.free["shape", item.name]])
        if item.axis.kind == "partial":
            assert item.axis.lkj is not None
            b = priors.lkj[item.owner].shape(*item.axis.lkj)
            label = f"correlations of {safe(item.owner)}"
            out[label] = out.get(label, np.zeros(x.shape)) + Beta(b, b).logpdf(x)
        else:
            out[safe(item.name)] = np.asarray(priors.shape[item.name].logpdf(x))
    if priors.beta is not None:
        beta = np.asarray(posterior["beta"])
        z = (beta - priors.beta.mean) / priors.beta.scale
        out["β"] = -0.5 * (z**2).sum(axis=-1)
    return out


def _loglik(posterior: "xr.Dataset", twin: Twin, y: Any) -> np.ndarray:
    """ℓ at every draw."""
    source = twin.source if y is None else twin.source.replace(y=y)
    reduced = twin.reduced if y is None else twin.reduced.bind(
        source.y if source.offset is None else source.y - source.offset
    )  # fmt: skip
    theta = np.stack([np.asarray(posterior[safe(n)]) for n in twin.theta_names], axis=-1).reshape(-1, source.n_theta)
    if twin.criterion == "reml" or not source.n_fixed:
        return reduced.loglik(theta, twin.criterion)
    beta = np.asarray(posterior["beta"]).reshape(-1, source.n_fixed)
    return np.array([reduced.loglik(t[None], "ml", b)[0] for t, b in zip(theta, beta, strict=True)])


def _flat(found: "xr.Dataset") -> dict[str, float]:
    """{parameter: value}, coefficients by their own names."""
    out: dict[str, float] = {}
    for name, values in found.data_vars.items():
        if values.ndim:
            out |= {str(k): float(v) for k, v in zip(values["fixed"].values, values.values, strict=True)}
        else:
            out[str(name)] = float(values)
    return out


def _words(prior: float, likelihood: float) -> str:
    if prior < SENSITIVE:
        return ""
    if likelihood < SENSITIVE:
        return "the prior decides: the data say little"
    return "prior and data both matter: they may disagree"
