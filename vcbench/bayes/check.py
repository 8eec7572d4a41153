"""Where a point estimate lies in a posterior."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from vcbench.bayes.build import safe
from vcbench.bayes.posterior import Posterior
from vcbench.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd


def check(fit: Any, posterior: Any, level: float = 0.95) -> "pd.DataFrame":
    """One row a parameter: where the estimate of `fit` lies in `posterior`, and how the intervals agree.

    posterior: a `Posterior` of `quadrature` or a DataTree of `sample`. quantile: P(parameter ≤ estimate | y); z: the
    distance to the posterior mean in posterior SDs; overlap: the length of the intersection of both intervals over that
    of their union, the fit's being estimate ± z·SE with variances cut at 0 (NaN at a boundary, where there is no SE).
    Raises ModelError where fit and posterior are not of the same parameters.
    """
    import pandas as pd

    tail = 0.5 * (1 - level)
    reach = float(norm.ppf(1 - tail))
    theta, beta = fit.theta, fit.beta
    estimate = pd.concat([theta, beta])
    se = pd.concat([fit.theta_se, fit.beta_se])
    variances = {name for name in theta.index if ":cov" not in name}
    rows = {}
    for name, value in estimate.items():
        mean, sd, lower, upper, below = _place(posterior, str(name), float(value), tail)
        low, high = value - reach * se[name], value + reach * se[name]
        if name in variances:
            low = max(low, 0.0)
        both = max(0.0, min(high, upper) - max(low, lower))
        rows[name] = {
            "estimate": value,
            "se": se[name],
            "posterior_mean": mean,
            "posterior_sd": sd,
            "lower": lower,
            "upper": upper,
            "quantile": below,
            "z": (value - mean) / sd,
            "overlap": both / (max(high, upper) - min(low, lower)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _place(posterior: Any, name: str, value: float, tail: float) -> tuple[float, float, float, float, float]:
    """(mean, sd, lower, upper, P(parameter ≤ value))."""
    if isinstance(posterior, Posterior):
        names = [*posterior.theta_names, *posterior.beta_names]
        if name not in names:
            raise ModelError(f"the posterior has no `{name}`; it has {', '.join(names)}.")
        at = names.index(name)
        mean = np.concatenate([posterior.theta_mean, posterior.beta_mean])[at]
        sd = np.concatenate([posterior.theta_sd, np.sqrt(np.diag(posterior.beta_cov))])[at]
        lower, upper = posterior.quantile(name, [tail, 1 - tail])
        return float(mean), float(sd), float(lower), float(upper), float(posterior.cdf(name, value))
    data = posterior["posterior"]
    if safe(name) in data:
        draws = np.asarray(data[safe(name)]).ravel()
    elif "beta" in data and name in [str(x) for x in data["fixed"].values]:
        draws = np.asarray(data["beta"].sel(fixed=name)).ravel()
    else:
        raise ModelError(f"the posterior has no `{name}`; it has {', '.join(str(x) for x in data.data_vars)}.")
    lower, upper = np.quantile(draws, [tail, 1 - tail])
    below = float((draws < value).mean() + 0.5 * (draws == value).mean())
    return float(draws.mean()), float(draws.std(ddof=1)), float(lower), float(upper), below
