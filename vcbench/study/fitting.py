"""One method on a block of responses: whatever happens, every replicate ends as a row."""

import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError
from vcbench.fit import FitMany, fit_many
from vcbench.model.model import Model
from vcbench.status import Status
from vcbench.study.component_tests import test_component
from vcbench.study.derived import with_derived
from vcbench.study.entries import MethodEntry
from vcbench.study.limits import limits_of
from vcbench.study.rows import BlockFit
from vcbench.study.traits import Traits

BAYES_LEVEL = 0.95  # the posterior's limits are 95 % equal-tailed, whatever the study's level
TRACE_POINTS = 400
LOST = (Status.FAILED, Status.TIMEOUT, Status.SKIPPED, Status.SINGULAR_V)


@dataclass(frozen=True, slots=True)
class Streams:
    """The seeds of one method on a block, one a replicate and one for the design that they share.

    `kept` is what one method of a task worked out and the next, asking for the same draws, need not.
    """

    each: tuple[np.random.SeedSequence, ...]
    design: np.random.SeedSequence
    kept: dict[Any, Any] = field(default_factory=dict)

    def at(self, j: int) -> "Streams":
        """Those of one replicate."""
        return replace(self, each=(self.each[j],))


def fit_block(
    model: Model | Traits, Y: np.ndarray, method: MethodEntry, level: float, streams: Streams | None = None
) -> tuple[BlockFit, np.ndarray | None, Counter[str]]:
    """The fits of Y (n, R), or (n, k, R) of several traits, the path of a single response's fit (else None), and the
    warnings raised, by text.

    Without `streams` nothing is drawn, and no more is done than fitting. A method that does not apply to the model
    (MethodError, ModelError) ends SKIPPED; any other exception ends FAILED, for the responses that raise it alone: a
    block that breaks is fitted again one response at a time.
    """
    if isinstance(model, Traits):
        from vcbench.study.trait_methods import fit_traits

        found, warned = fit_traits(model, Y, method, level)
        return found, None, warned
    if method.kind == "identities":
        from vcbench.study.identities import check_identities

        return check_identities(model, Y, method), None, Counter()
    names = (*model.theta_names, *(model.X_names or ()))
    options: dict[str, Any] = dict(method.options)
    if method.kind == "solver":
        options["trace"] = Y.shape[1] == 1
    if streams is not None and method.long:
        options["seed"] = list(streams.each)
    criterion = None if method.criterion == "none" else method.criterion
    warned = Counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            many = fit_many(model, Y, method.name, criterion, **options)
            fit = _block(many, names, method, level)
            if streams is not None:
                fit = _answered(fit, many, method, level, streams)
            fit = with_derived(fit, many, method, level)
        warned.update(f"{w.category.__name__}: {w.message}" for w in caught)
    except (MethodError, ModelError) as error:
        return BlockFit.empty(names, Y.shape[1], Status.SKIPPED, str(error)), None, warned
    except Exception as error:
        if Y.shape[1] == 1:
            return BlockFit.empty(names, 1, Status.FAILED, f"{type(error).__name__}: {error}"), None, warned
        alone = [fit_block(model, Y[:, [j]], method, level, streams and streams.at(j)) for j in range(Y.shape[1])]
        for _, _, more in alone:
            warned.update(more)
        return BlockFit.joined([fit for fit, _, _ in alone]), None, warned
    path = many[0].trace_rows if method.kind == "solver" and Y.shape[1] == 1 else None
    return fit, path, warned


def _answered(fit: BlockFit, many: FitMany, method: MethodEntry, level: float, streams: Streams) -> BlockFit:
    """The block with the intervals and p-values that its method entry asks for."""
    if method.interval is not None:
        found = limits_of(method.interval, many, level, method.options, streams.each, streams.kept)
        fit = found.on(fit, method.interval, BAYES_LEVEL if method.interval.kind == "posterior" else level)
    elif method.test is not None:
        fit = replace(fit, lower=np.full_like(fit.lower, np.nan), upper=np.full_like(fit.upper, np.nan), interval=None)
    if method.test is not None:
        fit = test_component(method.test, many, fit, method.options, streams.each, streams.design)
    return fit


def _block(many: FitMany, names: tuple[str, ...], method: MethodEntry, level: float) -> BlockFit:
    """A FitMany as a BlockFit: Wald limits on the natural scale where the method has none of its own.

    An ending without an estimate keeps no number of it, so that nothing half-finished is averaged.
    """
    estimate = np.hstack([many.theta, many.beta]).astype(float)
    se = np.hstack([many.theta_se, many.beta_se]).astype(float)
    lost = np.array([status in LOST and method.kind != "moments" for status in many.status])  # raw moments stand
    estimate[lost], se[lost] = np.nan, np.nan
    own = many.lower is not None and many.upper is not None
    if own:
        lower, upper = np.array(many.lower, float), np.array(many.upper, float)
        lower[lost], upper[lost] = np.nan, np.nan
    else:
        z = NormalDist().inv_cdf((1 + level) / 2)
        lower, upper = estimate - z * se, estimate + z * se
    loglik = np.where(lost, np.nan, many.loglik)
    extra = [fit.extra for fit in many.fits] if many.fits else []
    return BlockFit(
        names, estimate, se, lower, upper, np.full_like(estimate, np.nan), loglik,
        np.asarray(many.n_iter, float), np.asarray(many.n_eval, float),
        np.asarray(many.seconds, float), np.asarray(many.cpu_seconds, float),
        list(many.status), list(many.message), "eti" if own else "wald", BAYES_LEVEL if own else level, extra,
    )  # fmt: skip


def thin(n: int, points: int = TRACE_POINTS) -> np.ndarray:
    """At most `points` of the iterations 0 … n − 1: every one at first, then ever wider apart, the last always."""
    if n <= points:
        return np.arange(n)
    steps = np.unique(np.round(np.geomspace(1, n, points)).astype(int)) - 1
    return np.unique(np.concatenate([np.arange(points - len(steps)), steps]))
