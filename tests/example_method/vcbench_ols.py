"""A method of one's own: least squares, as if every variance but the residual's were 0."""

import numpy as np

from vcbench.methods import Method
from vcbench.status import Status


def fit(model, criterion, Y, options, seed):
    """One dict a response (column of Y): what is left out is unknown, or 0 for counts. ddof: what n is reduced by."""
    inverse, lost = np.linalg.pinv(model.X), options.get("ddof", model.n_fixed)
    for y in Y.T:
        beta = inverse @ y
        theta = np.zeros(model.n_theta)  # natural units, in the order of model.theta_names, residual last
        theta[-1] = np.sum((y - model.X @ beta) ** 2) / (model.n_obs - lost)
        yield {"theta": theta, "beta": beta, "beta_cov": theta[-1] * inverse @ inverse.T, "status": Status.CONVERGED}


OLS = Method("ols", "peer", ("none",), options={"ddof": int, "seed": int}, description="least squares",
             load="vcbench_ols:fit")  # fmt: skip
