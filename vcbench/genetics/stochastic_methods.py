"""`moments-randomised` and `ai-stochastic` as methods like any other: a model and responses in, a row of results each.

A model's relationship matrices are there already; what probes save is traces of products of matrices, and the Cholesky
factor of V. For SNPs at any size use `vcbench.heritability` with genotypes, where nothing is n × n.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError
from vcbench.genetics.probed import moments_by_probes
from vcbench.genetics.products import MatrixProducts
from vcbench.genetics.randomised import VECTORS, draw_probes
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.stochastic import stochastic_reml
from vcbench.model.model import Model
from vcbench.solvers.moments import check_linear
from vcbench.status import Status

PROBES = 15  # of ai-stochastic
Seeds = Sequence[np.random.SeedSequence] | None


def products_of(model: Model, method: str) -> MatrixProducts:
    """K_k, or a factor of it, of every component, kept with the design. ModelError for more than variances of plain
    components with independent residuals."""
    check_linear(model, method)
    odd = [f"`{c.name}` has more" for c in model.components if c.n_effects != 1 or not (c.is_plain or c.is_grouped)]
    odd += ["the residuals have weights"] if model.noise.weights is not None else []
    odd += [] if model.components else ["there is none"]
    if odd:
        raise ModelError(f"method `{method}` is for components of one variance each and equal residuals: {odd[0]}.")
    kept = model.design.kernels
    if "products" not in kept:
        matrices, factors = [], []
        for c in model.components:
            whole = c.relation is not None and c.K is not None and c.Z is None and c.codes is None
            matrices.append(c.K if whole else c.incidence(0) if c.is_grouped else c.factors()[0])
            factors.append(not whole)
        names = tuple(c.name for c in model.components)
        kept["products"] = MatrixProducts(model.n_obs, names, tuple(matrices), tuple(factors))
    return kept["products"]


def check_vectors(vectors: Any) -> int:
    """B. MethodError unless it is a whole number of at least 2."""
    if not (isinstance(vectors, int | np.integer) and vectors >= 2):
        raise MethodError(f"`vectors` is {vectors!r}; at least 2 probes are needed to tell their error.")
    return int(vectors)


def fit_moments_randomised(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Seeds = None
) -> list[dict[str, Any]]:
    """Moment estimates with traces by probes. β̂ is by OLS; `extra` holds the Monte Carlo covariance of θ̂."""
    vectors, products = check_vectors(options.get("vectors", VECTORS)), products_of(model, "moments-randomised")
    assert model.X is not None
    side = Side.of(model.X, np.ones(model.n_obs, bool))
    inverse = np.linalg.pinv(model.X)
    KX = products.each(np.ascontiguousarray(inverse.T))
    rows = []
    for j, y in enumerate(Y.T):
        y = y if model.offset is None else y - model.offset
        wall, cpu = time.perf_counter(), time.process_time()
        Z = draw_probes(model.n_obs, vectors, 0 if seed is None else seed[j])
        found = moments_by_probes(products, y, side, Z)
        VX = np.tensordot(found.theta[:-1], KX, axes=1) + found.theta[-1] * inverse.T
        negative = [name for name, v in zip(model.theta_names, found.theta, strict=True) if v < 0]
        said = f"negative estimate of {', '.join(f'`{n}`' for n in negative)}, reported raw" if negative else ""
        rows.append(
            {
                "theta": found.theta, "theta_cov": found.sandwich, "beta": inverse @ y, "beta_cov": inverse @ VX,
                "status": Status.CONVERGED, "message": said, "n_iter": 1, "n_eval": 1,
                "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
                "extra": {"monte_carlo_cov": found.monte_carlo, "vectors": vectors},
            }
        )  # fmt: skip
    return rows


def fit_ai_stochastic(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Seeds = None
) -> list[dict[str, Any]]:
    """REML by stochastic average information; `extra` holds the Monte Carlo covariance of θ̂."""
    vectors, products = check_vectors(options.get("vectors", PROBES)), products_of(model, "ai-stochastic")
    own = {k: v for k, v in options.items() if k in ("tol", "cg_tol", "max_iter") and v is not None}
    assert model.X is not None
    rows = []
    for j, y in enumerate(Y.T):
        y = y if model.offset is None else y - model.offset
        wall, cpu = time.perf_counter(), time.process_time()
        (found,) = stochastic_reml(
            products, y[:, None], model.X, vectors=vectors, seed=0 if seed is None else seed[j], **own
        )
        rows.append(
            {
                "theta": found.theta, "theta_cov": found.covariance, "beta": found.beta,
                "beta_cov": found.beta_covariance, "status": found.status, "message": found.message,
                "n_iter": found.n_iter, "n_eval": found.n_iter + 1, "seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "extra": {"monte_carlo_cov": found.monte_carlo, "vectors": vectors, "distance": found.distance},
            }
        )  # fmt: skip
    return rows
