"""The place of the truth in what a method says of it, for three kinds of method.

    sampled   r = #{draws < truth} + Unif{0, …, #ties},  PIT = (r + U)/(L + 1), draws thinned to their effective number
    exact     P(quantity ≤ truth | y) of the posterior; by independent draws for functions of several parameters
    normal    Φ((g(truth) − g(estimate))/se(g)) of an estimate with its covariance matrix, g on a chosen scale

PIT is uniform for a method that is right, at every L. Draws that hang together count less than their number, and their
ranks lie too often at the ends: they are thinned first. Chains that miss a gate (R̂, ESS, divergences, E-BFMI) are run
once more, four times as long: which of them do depends on the data, and the rest alone would be a selection. A fit that
misses again keeps its row and its reason, and takes no part in the tests.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from vcbench.errors import VcbenchError
from vcbench.fitted import Facts
from vcbench.inference.variances import rows_of
from vcbench.status import Status
from vcbench.study.sbc_draw import Truth
from vcbench.study.sbc_mutants import Setting, build_setting
from vcbench.study.sbc_plan import Judged, Plan
from vcbench.study.sbc_quantities import Likelihood, Ranked, ranked

MOST_DRAWS = 400  # draws ranked: PIT is uniform at any number, and more of them cost more than they show
DRAWS = {"draws": 1000, "tune": 500, "chains": 4}  # of nuts, unless said
SAMPLED = ("nuts", "pathfinder", "laplace", "advi")
EXACT = ("quadrature",)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """One replicate by one method: values, ranks and PITs by quantity (Q,), and how the fit ended.

    n_draws: L, 0 where nothing is drawn. ess: the least of all parameters. runs: how often chains were run.
    """

    names: tuple[str, ...]
    truth: np.ndarray
    pit: np.ndarray
    rank: np.ndarray
    n_draws: int
    status: Status
    message: str
    ess: float = math.nan
    rhat: float = math.nan
    divergences: int = 0
    runs: int = 1
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def place(draws: np.ndarray, truth: float, rng: np.random.Generator) -> tuple[float, float]:
    """(rank, PIT) of `truth` among `draws` (L,): ties are split at random, and so is the cell of the rank."""
    below, ties = int((draws < truth).sum()), int((draws == truth).sum())
    rank = below + (int(rng.integers(0, ties + 1)) if ties else 0)
    return float(rank), float((rank + rng.random()) / (len(draws) + 1))


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A method on a plan, with what is built once: the twin, the reduced design, the kernel of ℓ."""

    plan: Plan
    judged: Judged
    setting: Setting
    quantities: tuple[Ranked, ...]
    likelihood: Likelihood
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, plan: Plan, judged: Judged) -> "Judge":
        """The judge of a method. Raises what the method raises of the model."""
        return cls(plan, judged, build_setting(plan, judged.mutant), ranked(plan), Likelihood.of(plan.model))

    def place_all(
        self, truths: Sequence[Truth], seeds: Sequence[np.random.SeedSequence], rngs: Sequence[np.random.Generator]
    ) -> list[Placed]:
        """A block of replicates: `seeds` for what the method draws, `rngs` for ties and cells."""
        if self.judged.kind == "normal":
            return self._normal(truths)
        one = self._exact if self.judged.kind == "exact" else self._sampled
        out = []
        for truth, seed, rng in zip(truths, seeds, rngs, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                placed = one(truth, seed, rng)
            except VcbenchError as error:
                placed = self._lost(str(error))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            out.append(replace(placed, seconds=spent[0], cpu_seconds=spent[1]))
        return out

    # --- draws ---

    def _sampled(self, truth: Truth, seed: np.random.SeedSequence, rng: np.random.Generator) -> Placed:
        if self.judged.name != "nuts":
            from vcbench.bayes.approximation import approximate

            own = self.setting.response(truth.y)
            tree = approximate(self._twin(), self.judged.name, seed=seed, y=own, **self.judged.options)
            if "posterior" not in tree:
                return self._lost(str(tree.attrs.get("message", "no approximation was found")))
            theta, beta = draws_of(tree, self._twin())
            placed = self._placed(truth, *_thinned(theta, beta, math.inf), rng)
            return replace(placed, status=_status(tree), message=str(tree.attrs.get("message", "")))
        options = DRAWS | {"cores": 1} | dict(self.judged.options)
        first, second = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(2)
        tree, runs = self._chains(truth, first, options), 1
        if not _status(tree).ok:
            longer = {key: 4 * options[key] for key in ("draws", "tune")}
            tree, runs = self._chains(truth, second, options | longer), 2
        theta, beta = draws_of(tree, self._twin())
        ess = tree.attrs["ess"]
        return replace(
            self._placed(truth, *_thinned(theta, beta, ess), rng),
            status=_status(tree),
            message=str(tree.attrs["message"]),
            ess=ess,
            rhat=tree.attrs["rhat"],
            divergences=int(tree["sample_stats"]["diverging"].sum()),
            runs=runs,
        )

    def _chains(self, truth: Truth, seed: np.random.SeedSequence, options: dict[str, Any]) -> Any:
        from vcbench.bayes.sampling import sample

        return sample(self._twin(), y=self.setting.response(truth.y), seed=seed, **options)

    def _twin(self) -> Any:
        if "twin" not in self.kept:
            self.kept["twin"] = self.setting.twin(self.judged.criterion)
        return self.kept["twin"]

    # --- the exact posterior ---

    def _exact(self, truth: Truth, seed: np.random.SeedSequence, rng: np.random.Generator) -> Placed:
        from vcbench.bayes.exact_draws import exact_draws

        posterior = self.setting.quadrature(truth.y, self.judged.criterion)
        theta, beta = exact_draws(posterior, MOST_DRAWS, np.random.default_rng(seed))
        placed = self._placed(truth, theta, beta, rng)
        for i, q in enumerate(self.quantities):
            if q.kind in ("theta", "beta"):
                placed.pit[i], placed.rank[i] = float(np.ravel(posterior.cdf(q.name, placed.truth[i]))[0]), np.nan
        return replace(placed, status=posterior.status, message=posterior.message)

    def _placed(self, truth: Truth, theta: np.ndarray, beta: np.ndarray, rng: np.random.Generator) -> Placed:
        """The truth among draws θ (L, p), β (L, d), quantity by quantity."""
        loglik = self.likelihood.rows(truth.y)
        true, pit, rank = np.empty((3, len(self.quantities)))
        for i, q in enumerate(self.quantities):
            true[i] = q.values(truth.theta[None], truth.beta[None], loglik)[0]
            rank[i], pit[i] = place(q.values(theta, beta, loglik), true[i], rng)
        return Placed(self._names(), true, pit, rank, len(theta), Status.CONVERGED, "")

    def _lost(self, why: str) -> Placed:
        truth, pit, rank = np.full((3, len(self.quantities)), np.nan)
        return Placed(self._names(), truth, pit, rank, 0, Status.FAILED, why)

    def _names(self) -> tuple[str, ...]:
        return tuple(q.name for q in self.quantities)

    # --- normal approximations ---

    def _normal(self, truths: Sequence[Truth]) -> list[Placed]:
        from vcbench.fit import fit_many

        Y = np.column_stack([self.setting.response(t.y) for t in truths])
        criterion = None if self.judged.criterion == "none" else self.judged.criterion
        many = fit_many(self.setting.model, Y, self.judged.name, criterion, **self.judged.options)
        out = []
        for j, truth in enumerate(truths):
            names, true, pit = self._scaled(many[j], truth)
            status = many.status[j]
            out.append(
                Placed(
                    names,
                    true,
                    pit,
                    np.full(len(names), np.nan),
                    0,
                    status,
                    many.message[j],
                    seconds=float(many.seconds[j]),
                    cpu_seconds=float(many.cpu_seconds[j]),
                )
            )
        return out

    def _scaled(self, fit: Any, truth: Truth) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """PITs by quantity and scale; NaN where the estimate has no SE there, as on the boundary."""
        from vcbench.inference.functions import delta

        names, true, pit = [], [], []
        for q, forward, name in self._on_scales(fit.facts):
            estimate, se = delta(fit, q) if fit.is_estimate else (math.nan, math.nan)
            value = q.value(truth.theta, truth.beta)
            with np.errstate(divide="ignore", invalid="ignore"):
                z = (forward(value) - forward(estimate)) / (se * _slope(forward, estimate)) if se > 0 else math.nan
            names.append(name)
            true.append(value)
            pit.append(float(ndtr(z)))
        return tuple(names), np.array(true), np.array(pit)

    def _on_scales(self, facts: Facts) -> list[tuple[Any, Callable, str]]:
        """(quantity, transformation, name) of every quantity on every scale that it has."""
        if "scales" in self.kept:
            return self.kept["scales"]
        from vcbench.inference.quantities import quantity_of

        variance = {r.name: r.kind for r in rows_of(facts.theta_names, facts.is_variance)}
        out: list[tuple[Any, Callable, str]] = []
        for q in self.quantities:
            if q.kind == "loglik":
                continue
            own = q.quantity if q.quantity is not None else quantity_of(facts, q.name)
            kind = variance.get(q.name, own.kind)
            positive = kind == "variance" or q.name == "total variance"
            known: dict[str, tuple[Callable, str]] = {"var": (_identity, "")}
            if positive:
                known = {"var": (_identity, " (var)"), "sd": (np.sqrt, " (sd)"), "log": (np.log, " (log)")}
            elif kind == "correlation":
                known["log"] = np.arctanh, " (Fisher z)"
            wanted = [scale for scale in self.judged.scales if scale in known] or ["var"]
            out += [(own, known[scale][0], q.name + known[scale][1]) for scale in wanted]
        self.kept["scales"] = out
        return out


def _identity(x: Any) -> Any:
    return x


def _slope(f: Callable, x: float) -> float:
    """f′(x) of the scales."""
    if f is np.sqrt:
        return 0.5 / math.sqrt(x) if x > 0 else math.nan
    if f is np.log:
        return 1 / x if x > 0 else math.nan
    if f is np.arctanh:
        return 1 / (1 - x**2) if abs(x) < 1 else math.nan
    return 1.0


def _status(tree: Any) -> Status:
    return Status[tree.attrs["status"]] if "status" in tree.attrs else Status.CONVERGED


def _thinned(theta: np.ndarray, beta: np.ndarray, ess: float) -> tuple[np.ndarray, np.ndarray]:
    """Every k-th draw of each chain, as many as are worth so much, MOST_DRAWS at most: θ (L, p), β (L, d)."""
    n = theta.shape[0] * theta.shape[1]
    step = math.ceil(n / max(1.0, min(ess, MOST_DRAWS)))
    return theta[:, ::step].reshape(-1, theta.shape[-1]), beta[:, ::step].reshape(-1, beta.shape[-1])


def draws_of(tree: Any, twin: Any) -> tuple[np.ndarray, np.ndarray]:
    """θ (chains, draws, p) and β (chains, draws, d) of a posterior."""
    from vcbench.bayes.sampling import theta_draws

    theta = theta_draws(tree, twin)
    d = twin.source.n_fixed
    beta = np.asarray(tree["posterior"]["beta"]) if d else np.zeros((*theta.shape[:2], 0))
    return theta, beta
