"""A made-up study of any size in the layout of a run folder, without a loop over its rows."""

from pathlib import Path

import numpy as np
import pandas as pd
from report.synthetic import SPEC_HASH, write_folder

METHODS = ("ai", "newton", "fisher", "em", "em-reml", "px-em", "ecme", "lbfgs", "moments", "squarem")
PARAMETERS = ("group:var((Intercept))", "residual:var")


def write_large(folder: Path, *, groups: int = 5, shares: int = 10, replicates: int = 1000) -> Path:
    """`groups` × `shares` conditions, ten methods, two parameters: 20 · groups · shares · replicates rows."""
    rng = np.random.default_rng(11)
    conditions = [(q, rho) for q in np.arange(1, groups + 1) * 6 for rho in np.round(np.linspace(0, 0.9, shares), 2)]
    parts = []
    for place, (q, rho) in enumerate(conditions):
        truth = np.array([rho, 1 - rho])
        base = truth + np.array([0.5, 0.2]) / np.sqrt(q) * rng.standard_normal((replicates, 2))
        for m, method in enumerate(METHODS):
            estimate = (base + 0.02 * m / q * rng.standard_normal((replicates, 2))).ravel()
            se = np.tile(np.array([0.5, 0.2]) / np.sqrt(q), replicates) * rng.uniform(0.9, 1.1, 2 * replicates)
            failed = np.repeat(rng.random(replicates) < 0.002 * m, 2)
            n_iter = np.repeat(rng.poisson(5 * (1 + 3 * m)), 1) * np.ones(2 * replicates)
            parts.append(
                pd.DataFrame(
                    {
                        "study": "large", "spec_hash": SPEC_HASH, "condition": f"{place:03d}",
                        "factor_n_groups": int(q), "factor_icc": float(rho),
                        "replicate": np.repeat(np.arange(replicates), 2), "method": method,
                        "criterion": "none" if method == "moments" else "reml",
                        "parameter": np.tile(PARAMETERS, replicates), "truth": np.tile(truth, replicates),
                        "estimate": np.where(failed, np.nan, estimate), "se": np.where(failed, np.nan, se),
                        "lower": np.where(failed, np.nan, estimate - 1.96 * se),
                        "upper": np.where(failed, np.nan, estimate + 1.96 * se), "interval": "wald", "level": 0.95,
                        "loglik": np.where(failed, np.nan, -100.0 - 0.001 * m),
                        "status": np.where(failed, "MAX_ITER", "CONVERGED"), "code": "",
                        "message": np.where(failed, "stopped after 1000 iterations", ""), "n_iter": n_iter,
                        "n_eval": n_iter + 1, "seconds": 1e-4 * n_iter, "cpu_seconds": 1e-4 * n_iter, "seed_key": "x",
                    }
                )
            )  # fmt: skip
    run = {
        "study": "large", "title": "A large study", "question": "How large may a study be?", "spec_hash": SPEC_HASH,
        "version": "0.1.0", "seed": 1, "parameters": list(PARAMETERS), "finished": "2026-11-21T08:41:12Z",
        "methods": [{"label": m, "name": m, "criterion": "reml", "options": {}} for m in METHODS],
    }  # fmt: skip
    return write_folder(folder, pd.concat(parts, ignore_index=True), pd.DataFrame(), run, 'title = "A large study"\n')
