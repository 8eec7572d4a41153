"""`lme4`: R's lmer, by its own steps, on a batch of responses in one process.

Terms are lme4's own; Z and K components take the place of a term's Zᵀ. Standard errors of the variances, which lme4
does not give, are the inverse of half the Hessian of its own −2ℓ in the variances and covariances, by central
differences: NaN for a variance at 0, and for all where a vector-valued term is singular. They are not in its seconds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vcbench.model.model import Model
from vcbench.peers.design import Design, refuse
from vcbench.peers.rscript import find_rscript, run_r


def fit_lme4(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """lmer. Options: optimizer ("nloptwrap", "bobyqa", "Nelder_Mead"), timeout in seconds.

    Raises MethodError for a model without random terms, and for what `Design.of` refuses.
    """
    find_rscript("lme4")
    design = Design.of(model, "lme4", weights=True)
    if not design.terms:
        refuse("lme4", "it needs a random term")
    matrices: dict[str, np.ndarray] = {}
    for k, term in enumerate(design.terms, 1):
        matrices[f"A{k}"] = term.A
        if term.codes is not None:
            matrices[f"g{k}"] = term.codes
    if design.weights is not None:
        matrices["w"] = design.weights
    info = {"n_terms": len(design.terms), "starts": " ".join(str(term.places[0]) for term in design.terms)}
    if options.get("optimizer") is not None:
        info["optimizer"] = options["optimizer"]
    return run_r("lme4", design, criterion, design.response(model, Y), info, matrices, options.get("timeout"))
