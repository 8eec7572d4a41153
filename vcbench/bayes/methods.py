"""Posteriors as methods like any other: many responses of one design in, one row of results each out.

`quadrature` is exact, `nuts` samples the twin, `laplace`, `pathfinder` and `advi` approximate it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.bayes.build import safe
from vcbench.bayes.by_kernel import TwinLikelihood
from vcbench.bayes.posterior import Posterior
from vcbench.bayes.prior_choice import resolve
from vcbench.bayes.quadrature import check_model, integrate
from vcbench.bayes.twin import Twin, twin
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.model import Model
from vcbench.status import Status

LEVEL = (0.025, 0.5, 0.975)


def fit_quadrature(
    model: Model,
    criterion: str,
    Y: np.ndarray,
    options: Mapping[str, Any],
    seed: Sequence[np.random.SeedSequence] | None = None,
) -> list[dict[str, Any]]:
    """The exact posterior of each column of Y (n, R): estimate, SD, 95 % equal-tailed limits, log evidence.

    options: `estimate` "median" (default), "mean" or "mode" (the joint mode of the density in the priors' own scales),
    `priors`. Nothing is drawn: `seed` is not used. Raises what `quadrature` raises for the model; a response whose
    posterior turns out improper is a row with status FAILED.
    """
    estimate = _estimate(options, ("median", "mean", "mode"))
    priors = options.get("priors")
    reduced = check_model(model, priors, criterion)
    return [_one_exact(model.replace(y=Y[:, j]), reduced, criterion, estimate, priors) for j in range(Y.shape[1])]


def _one_exact(model: Model, reduced: TwinLikelihood, criterion: str, estimate: str, priors: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    own = reduced.bind(model.y if model.offset is None else model.y - model.offset)
    try:
        post = integrate(own, model, priors, criterion)
    except ModelError as error:
        return {"status": Status.FAILED, "message": str(error), "n_iter": 0, "n_eval": 0, **_clock(wall, cpu)}
    names, coefficients = post.theta_names, post.beta_names
    theta_q = np.array([post.quantile(n, LEVEL) for n in names])
    beta_q = np.array([post.quantile(n, LEVEL) for n in coefficients]).reshape(-1, 3)
    theta, beta = _choose(post, estimate, theta_q, beta_q)
    status = post.status
    if estimate == "mode" and status is Status.CONVERGED and (theta == 0).any():
        status = Status.AT_BOUNDARY
    return {
        "theta": theta,
        "theta_se": post.theta_sd,
        "theta_cov": post.theta_cov,
        "theta_lower": theta_q[:, 0],
        "theta_upper": theta_q[:, 2],
        "beta": beta,
        "beta_se": np.sqrt(np.diag(post.beta_cov)),
        "beta_cov": post.beta_cov,
        "beta_lower": beta_q[:, 0],
        "beta_upper": beta_q[:, 2],
        "loglik": _loglik(own, theta, beta, criterion),
        "status": status,
        "message": post.message,
        "n_iter": post.n_doublings,
        "n_eval": post.n_points,
        "extra": {
            "log_evidence": post.log_evidence,
            "grid_error": post.error,
            "edge_mass": post.edge,
            "priors": resolve(model, priors).explain(),
        },
        **_clock(wall, cpu),
    }


def _choose(post: Posterior, estimate: str, theta_q: np.ndarray, beta_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if estimate == "mean":
        return post.theta_mean, post.beta_mean
    if estimate == "mode":
        theta = post.mode().to_numpy()
        return theta, post.beta_at(theta)
    return theta_q[:, 1], beta_q[:, 1]


def fit_nuts(
    model: Model,
    criterion: str,
    Y: np.ndarray,
    options: Mapping[str, Any],
    seed: Sequence[np.random.SeedSequence] | None = None,
) -> list[dict[str, Any]]:
    """The posterior of each column of Y (n, R) by NUTS on one twin, compiled once.

    options: `estimate` "median" (default) or "mean", `draws`, `tune`, `chains`, `target_accept`, `cores` (default 1: a
    study runs on processes), `priors`. seed: one SeedSequence a response. `seconds` leaves out the compilation, which
    `extra["compile_seconds"]` reports. A response whose chains miss a gate is FAILED with the reason; its numbers stay.
    """
    from vcbench.bayes.sampling import compile_twin, sample

    estimate = _estimate(options, ("median", "mean"))
    wall = time.perf_counter()
    made = twin(model, options.get("priors"), criterion)
    compile_twin(made)
    compiling = time.perf_counter() - wall
    settings = {k: options[k] for k in ("draws", "tune", "chains", "target_accept") if options.get(k) is not None}
    settings["cores"] = options.get("cores") or 1
    out = []
    for j in range(Y.shape[1]):
        wall, cpu = time.perf_counter(), time.process_time()
        draws = sample(made, seed=None if seed is None else seed[j], y=Y[:, j], **settings)
        row = _one_sampled(made, draws, Y[:, j], estimate)
        row["extra"] |= {"compile_seconds": compiling if j == 0 else 0.0, "priors": _said(made, Y[:, j])}
        out.append({**row, **_clock(wall, cpu)})
    return out


def fit_laplace(model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None) -> list:
    """`fit_approximate` by the Laplace approximation (`bayes.laplace`)."""
    return fit_approximate("laplace", model, criterion, Y, options, seed)


def fit_pathfinder(model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None) -> list:
    """`fit_approximate` by pathfinder (`bayes.pathfinder`); option `paths`."""
    return fit_approximate("pathfinder", model, criterion, Y, options, seed)


def fit_advi(model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None) -> list:
    """`fit_approximate` by mean-field variational inference (`bayes.advi`); option `max_draws`."""
    return fit_approximate("advi", model, criterion, Y, options, seed)


def fit_approximate(
    method: str,
    model: Model,
    criterion: str,
    Y: np.ndarray,
    options: Mapping[str, Any],
    seed: Sequence[np.random.SeedSequence] | None = None,
) -> list[dict[str, Any]]:
    """An approximate posterior of each column of Y (n, R), on the density that NUTS compiles, once.

    options: `estimate` "median" (default) or "mean", `draws` (default 4000), `priors`, and the method's own. The status
    says whether the approximation was found; how near it is to the posterior is k̂ in `extra["khat"]`, in the message
    where it is above 0.7 (`bayes.approximation`).
    """
    from vcbench.bayes.approximation import approximate
    from vcbench.bayes.unconstrained import Unconstrained

    estimate = _estimate(options, ("median", "mean"))
    wall = time.perf_counter()
    made = twin(model, options.get("priors"), criterion)
    density = Unconstrained.of(made)
    density.draws(density.centre[None], np.random.default_rng(0))  # what is called from Python is compiled when called
    density(density.centre)
    compiling = time.perf_counter() - wall
    settings = {k: options[k] for k in ("draws", "paths", "max_draws") if options.get(k) is not None}
    out = []
    for j in range(Y.shape[1]):
        wall, cpu = time.perf_counter(), time.process_time()
        found = approximate(made, method, seed=None if seed is None else seed[j], y=Y[:, j], **settings)
        facts = dict(found.attrs)
        row: dict[str, Any] = {"extra": {}}
        if "posterior" in found:
            row = _moments(made, found, Y[:, j], estimate)
        row["status"], row["message"] = Status(facts.pop("status")), facts.pop("message")
        row["n_iter"], row["n_eval"] = facts.pop("n_iter"), facts.pop("n_eval")
        own = {k: v for k, v in facts.items() if k not in ("criterion", "method")}
        row["extra"] |= own | {"compile_seconds": compiling if j == 0 else 0.0, "priors": _said(made, Y[:, j])}
        out.append({**row, **_clock(wall, cpu)})
    return out


def _one_sampled(made: Twin, draws: Any, y: np.ndarray, estimate: str) -> dict[str, Any]:
    from vcbench.bayes.sampling import diagnose

    verdict = diagnose(draws, made)
    stats = draws["sample_stats"]
    frame = verdict.frame
    return _moments(made, draws, y, estimate) | {
        "status": verdict.status,
        "message": verdict.message,
        "n_iter": draws["posterior"].sizes["chain"] * draws["posterior"].sizes["draw"],
        "n_eval": int(stats["n_steps"].sum()) if "n_steps" in stats else 0,
        "extra": {
            "rhat": frame["rhat"].max(),
            "ess_bulk": frame["ess_bulk"].min(),
            "ess_tail": frame["ess_tail"].min(),
            "divergences": verdict.divergences,
            "bfmi": verdict.bfmi,
            "by_parameter": {safe(str(k)): v for k, v in frame.to_dict("index").items()},
        },
    }


def _moments(made: Twin, draws: Any, y: np.ndarray, estimate: str) -> dict[str, Any]:
    """Estimates, SDs, covariances and limits of θ and β from draws, ℓ at the estimate."""
    from vcbench.bayes.sampling import theta_draws

    model, d = made.source, made.source.n_fixed
    theta = theta_draws(draws, made).reshape(-1, model.n_theta)
    posterior = draws["posterior"]
    beta = np.asarray(posterior["beta"]).reshape(-1, d) if d else np.zeros((len(theta), 0))
    theta_q, beta_q = np.quantile(theta, LEVEL, axis=0), np.quantile(beta, LEVEL, axis=0)
    at = (theta.mean(axis=0), beta.mean(axis=0)) if estimate == "mean" else (theta_q[1], beta_q[1])
    own = made.reduced.bind(y if model.offset is None else y - model.offset)
    return {
        "theta": at[0],
        "theta_se": theta.std(axis=0, ddof=1),
        "theta_cov": np.atleast_2d(np.cov(theta.T)),
        "theta_lower": theta_q[0],
        "theta_upper": theta_q[2],
        "beta": at[1],
        "beta_se": beta.std(axis=0, ddof=1),
        "beta_cov": np.atleast_2d(np.cov(beta.T)) if d else np.zeros((0, 0)),
        "beta_lower": beta_q[0],
        "beta_upper": beta_q[2],
        "loglik": _loglik(own, at[0], at[1], made.criterion),
        "extra": {},
    }


def _said(made: Twin, y: np.ndarray) -> str:
    """The priors in words; scales that follow sd(y) are those of y."""
    return resolve(made.source.replace(y=y), made.said).explain()


def _estimate(options: Mapping[str, Any], known: tuple[str, ...]) -> str:
    estimate = options.get("estimate") or "median"
    if estimate not in known:
        raise MethodError(
            f"unknown `estimate` {estimate!r}. Choose {', '.join(known)}.{did_you_mean(str(estimate), known)}"
        )
    return estimate


def _loglik(reduced: TwinLikelihood, theta: np.ndarray, beta: np.ndarray, criterion: str) -> float:
    """ℓ at the estimate, so that the methods' logs can be compared."""
    return float(reduced.loglik(theta, criterion, beta if criterion == "ml" else None)[0])


def _clock(wall: float, cpu: float) -> dict[str, float]:
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
