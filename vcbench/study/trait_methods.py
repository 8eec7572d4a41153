"""Methods for conditions of several traits: `vc.heritability` and `vc.genetic_correlation`, replicate by replicate.

    heritability           REML of each trait on its own; limits of h² by its standard error, or by profile in [0, 1]
    correlation-moments    moments of all pairs; SE by sandwich and delta method, or `jackknife` over so many SNP blocks
    correlation-reml       REML of each pair; limits by standard error, or of ρ_g by profile in [−1, 1]

The decomposition is that of the design: what a fit is charged for is what a further phenotype costs.
"""

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vcbench.genetics.correlation import genetic_correlation
from vcbench.genetics.heritability import heritability
from vcbench.genetics.pairs import Pair
from vcbench.status import Status
from vcbench.study.entries import MethodEntry
from vcbench.study.rows import BlockFit
from vcbench.study.traits import Traits

NAN = float("nan")
GRAVE = list(Status)  # from CONVERGED on, the graver the later


@dataclass(frozen=True, slots=True)
class Answer:
    """One quantity of one replicate."""

    estimate: float
    se: float
    lower: float
    upper: float


def fit_traits(traits: Traits, Y: np.ndarray, method: MethodEntry, level: float) -> tuple[BlockFit, Counter[str]]:
    """The fits of Y (n, k, R) by a method of `entries.TRAIT_METHODS`, and the warnings raised, by text.

    A parameter that a replicate has no estimate of is null, and the message says why. An exception ends that replicate
    FAILED.
    """
    names = tuple(n for n, (what, _, _) in traits.parameters.items() if what == "h2" or method.name != "heritability")
    parts, warned = [], Counter[str]()
    for r in range(Y.shape[2]):
        wall, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fit = _one(traits, Y[:, :, r], method, level)
            except Exception as error:
                fit = BlockFit.empty(names, 1, Status.FAILED, f"{type(error).__name__}: {error}")
        fit.seconds[0], fit.cpu_seconds[0] = time.perf_counter() - wall, time.process_time() - cpu
        warned.update(f"{w.category.__name__}: {w.message}" for w in caught)
        parts.append(fit)
    return BlockFit.joined(parts), warned


def _one(traits: Traits, Y: np.ndarray, method: MethodEntry, level: float) -> BlockFit:
    """One replicate."""
    profile = method.interval is not None and method.interval.kind == "profile"
    read = _by_trait if method.name == "heritability" else _by_pair
    answers, fits = read(traits, Y, method, level, profile)
    names = tuple(answers)
    asked = range(len(names)) if method.interval is None else method.interval.places(names)
    table = np.array([[a.estimate, a.se, a.lower, a.upper] for a in answers.values()])
    table[[j for j in range(len(names)) if j not in asked], 2:] = NAN
    worst = max((status for status, _, _ in fits), key=GRAVE.index)
    said = dict.fromkeys(message for _, message, _ in fits if message)
    one = np.ones(1)
    estimate, se, lower, upper = table.T[:, None, :]
    return BlockFit(
        names, estimate, se, lower, upper, np.full_like(estimate, NAN), NAN * one, sum(n for _, _, n in fits) * one,
        NAN * one, NAN * one, NAN * one, [worst], ["; ".join(said)], "profile" if profile else "wald", level,
    )  # fmt: skip


Ending = tuple[Status, str, int]


def _by_trait(
    traits: Traits, Y: np.ndarray, method: MethodEntry, level: float, profile: bool
) -> tuple[dict[str, Answer], list[Ending]]:
    """h² of each trait by itself."""
    found = heritability(Y, traits.matrix, method="ai", criterion=method.criterion, level=level)
    answers = {}
    for name, (what, j, _) in traits.parameters.items():
        if what == "h2":
            limits = found[j].limits.get("h2", (NAN, NAN)) if profile else None
            answers[name] = _answer(found[j].h2, found[j].se("h2"), level, limits)
    return answers, [(t.status, t.message if not t.status.ok else "", t.n_iter) for t in found]


def _by_pair(
    traits: Traits, Y: np.ndarray, method: MethodEntry, level: float, profile: bool
) -> tuple[dict[str, Answer], list[Ending]]:
    """ρ_g and ρ_e of every pair; h² of each trait from the first pair that it is in."""
    way = method.name.removeprefix("correlation-")
    blocks = int(method.options.get("jackknife") or 0)
    how: Mapping[str, Any] = {"jackknife": blocks} if way == "moments" else {"profile": profile}
    found = genetic_correlation(Y, traits.matrix, method=way, level=level, **how)
    at = {(found.names.index(p.first), found.names.index(p.second)): p for p in found}
    answers = {}
    for name, (what, a, b) in traits.parameters.items():
        pair, quantity = at.get((a, b)), what
        if what == "h2":
            (i, _), pair = next(item for item in at.items() if a in item[0])
            quantity = "h2_first" if i == a else "h2_second"
        assert pair is not None
        limits = (pair.limits or (NAN, NAN)) if profile and what == "rho_g" else (NAN, NAN) if profile else None
        se = pair.se(quantity, "jackknife" if blocks else None)
        answers[name] = _answer(pair.value(quantity), se, level, limits)
    return answers, [(p.status, _why(p), p.n_iter) for p in found]


def _why(pair: Pair) -> str:
    """Why a pair has no correlation, or no standard error of it; "" where it has both."""
    if np.isfinite(pair.value("rho_g")) and np.isfinite(pair.value("rho_e")):
        return pair.message if pair.jackknife is not None or not pair.status.ok else ""
    zero = [
        f"{what} of {'the first' if j in (0, 3) else 'the second'} trait"
        for what, places in (("V(G)", (0, 2)), ("V(e)", (3, 5)))
        for j in places
        if not pair.theta[j] > 0
    ]
    verb = "is" if len(zero) == 1 else "are"
    said = "0" if pair.status is Status.AT_BOUNDARY else "not positive"
    return f"no correlation: {' and '.join(zero)} {verb} {said}"


def _answer(value: float, se: float, level: float, limits: tuple[float, float] | None) -> Answer:
    """With these limits, or ± z·SE."""
    if limits is None:
        half = NormalDist().inv_cdf((1 + level) / 2) * se
        limits = value - half, value + half
    return Answer(value, se, *limits)
