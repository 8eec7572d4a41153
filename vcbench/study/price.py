"""What a study will cost, before it runs: fits by method and a rough time, from the sizes of its designs."""

import math
from dataclasses import dataclass

import numpy as np

from vcbench.errors import VcbenchError
from vcbench.study.by_formula import ByFormula
from vcbench.study.conditions import Condition
from vcbench.study.entries import MethodEntry
from vcbench.study.generators import FromCard, OneWay, RandomSlope, Snp, SnpTraits, VarianceComponents
from vcbench.study.spec import Spec

# Iterations a fit takes as a rule: second-order methods a handful, EMs hundreds to thousands.
ITERATIONS = {
    "em": 800, "em-simplified": 800, "em-reml": 800, "em-henderson": 800, "ecme": 800, "px-em": 100,
    "px-em-component": 80, "px-em-full": 60, "squarem": 150, "daarem": 50, "moments": 1, "minque": 2, "anova": 1,
}  # fmt: skip
SECOND_ORDER = 8
POSTERIOR = {  # once a condition and process (compiling), then each fit
    "nuts": (15.0, 0.3), "quadrature": (0.1, 0.01),
    "laplace": (15.0, 0.05), "pathfinder": (15.0, 0.1), "advi": (15.0, 0.1),
}  # fmt: skip
PEERS = {  # roughly, of a small model: R's start once a condition, though it is once a block
    "lme4": (1.0, 0.04), "nlme": (0.5, 0.04), "statsmodels": (2.0, 0.08), "gemma": (0.0, 0.1), "glmm": (0.1, 0.001),
    "mixedlm": (0.5, 0.006),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """One method's part of a study: fits planned and seconds of one processor, roughly."""

    method: MethodEntry
    fits: int
    seconds: float


def price_study(spec: Spec, reps: int | None = None) -> list[Price]:
    """The price of each method; a factor of 3 either way is meant by "roughly"."""
    prices = []
    for method in spec.methods:
        fits, seconds = 0, 0.0
        for condition in spec.conditions:
            n = spec.replicates(condition, method, reps)
            fits += n
            once, each = seconds_per_fit(condition, method)
            seconds += (once if n else 0.0) + n * each
        prices.append(Price(method, fits, seconds))
    return prices


def seconds_per_fit(condition: Condition, method: MethodEntry) -> tuple[float, float]:
    """(once, each): seconds before the first fit of a condition, and of every fit."""
    if method.name in POSTERIOR:
        return POSTERIOR[method.name]
    if method.name in PEERS:
        return PEERS[method.name]
    if isinstance(condition.generator, SnpTraits):
        return _of_traits(condition.generator, method)
    step, design = _sizes(condition)
    steps = ITERATIONS.get(method.name, SECOND_ORDER)
    limit = method.options.get("max_iter")
    fit = 3e-5 + step * min(steps, limit if isinstance(limit, int) else steps)
    return design, fit + _seconds_asked(method, fit)


def expected_replicates(spec: Spec) -> int | None:
    """The replicates that the precision targets of coverage take if it is as claimed, C(1 − C)/MCSE², in whole blocks;
    None without such a target. What other targets take depends on a spread that is not known before."""
    level, block = spec.table.level, spec.table.block_size
    errors = [target.mcse for target in spec.table.precision.values() if target.measure in ("coverage", "be_coverage")]
    if not errors:
        return None
    needed = round(level * (1 - level) / min(errors) ** 2, 6)  # 0.95 · 0.05/0.005² is 1900, and a little more in floats
    return block * math.ceil(max(spec.table.first, needed) / block)


def _of_model(made: ByFormula) -> tuple[float, float]:
    """Of a formula: by its structure. A residual structure costs m³ for units of m rows; of several factors those but
    the largest are taken apart densely; relatives are a sparse matrix."""
    try:
        _, model = made.sketch()
    except VcbenchError:
        return 1e-5, 1e-3  # its data are absent: it will be skipped
    n = model.n_obs
    if model.is_structured and not model.noise.is_plain:
        m = int(np.bincount(model.noise.units).max())
        return 4e-4 + 5e-7 * n + 4e-8 * m**3, 1e-3 + 1e-6 * n
    sizes = sorted((c.n_columns for c in model.components), reverse=True) or [1]
    related = any(c.relation is not None for c in model.components)
    return (3e-6 if related else 2e-7) * sizes[0] + 1e-6 + 2e-8 * sum(sizes[1:]) ** 3, 1e-3 + 1e-6 * n


def _of_traits(made: SnpTraits, method: MethodEntry) -> tuple[float, float]:
    """Of several traits: the matrix and its decomposition, then every replicate."""
    n, k = made.n, made.k
    pairs, square = k * (k - 1) / 2, (n / 1000) ** 2
    design = 2e-8 * n * made.p + 0.2 * (n / 1000) ** 3 + 3e-4 * square * made.p / 1000
    if method.name == "heritability":
        return design, k * (0.01 + 0.005 * square)
    if method.name == "correlation-moments":
        blocks = int(method.options.get("jackknife") or 0)
        return design, 0.003 + 0.001 * pairs + 0.01 * square * (1 + 2 * blocks)
    return design, pairs * (0.02 + 0.02 * n / 1000 + 0.005 * square)


def _seconds_asked(method: MethodEntry, fit: float) -> float:
    """Seconds of an interval or a test beside each fit, `fit` being those of one."""
    seconds = 0.0
    if method.interval is not None:
        refits = method.interval.n * fit * (3 if method.interval.type == "bca" else 1)
        of = {"profile": 1e-3 + 30 * fit, "bootstrap": refits, "posterior": POSTERIOR["quadrature"][1]}
        seconds += of.get(method.interval.kind, 0.0)
    if method.test is not None:
        draws = (method.test.draws or 0) if method.test.kind == "bootstrap" else 0
        seconds += 1e-3 + draws * fit
    return seconds


def _sizes(condition: Condition) -> tuple[float, float]:
    """Seconds of one iteration, and of the design, by the kernel the generator's structure gets."""
    made = condition.generator
    if isinstance(made, ByFormula):
        return _of_model(made)
    several = isinstance(made, VarianceComponents) and (made.n_components if made.q_over_n else len(made.q)) > 1
    if isinstance(made, VarianceComponents) and several:
        cube = (made.n / 100) ** 3
        return 1e-3 + 1e-3 * cube, 1e-3 * cube
    if isinstance(made, Snp | VarianceComponents):
        return 2e-8 * made.n, 2e-3 * (made.n / 100) ** 3
    groups = made.n_groups if isinstance(made, OneWay | RandomSlope) else 50
    return 1e-6 + 2e-7 * groups, 0.05 if made is None or isinstance(made, FromCard) else 1e-3
