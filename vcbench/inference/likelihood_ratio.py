"""Likelihood-ratio tests of nested models, with the null distribution that their difference calls for.

LRT = 2(ℓ_1 − ℓ_0). Parameters that lie inside their range under the null give χ²; variances that it puts at 0 give a
mixture of χ² (`cones`); one variance beside σ² has an exact distribution in finite samples (`exact_null`); anything may
be simulated: responses drawn from the smaller fit, both models fitted to each.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.inference.bootstrap import refit_options
from vcbench.inference.cones import DRAWS, ChiBarSquare, ProjectedCone, boundary_null
from vcbench.inference.exact_null import ExactNull, is_single_variance
from vcbench.inference.nesting import Extension, extension
from vcbench.inference.simulation import simulate
from vcbench.model.model import Model
from vcbench.numbers import fixed, p_clause, significant

METHODS = ("auto", "chi2", "mixture", "exact", "bootstrap")
FEW_LEVELS = 50  # below, `auto` prefers the exact distribution to its limit (MATH §6)
LARGEST = 1000  # rows or effects, the fewer of both, up to which `auto` asks for eigenvalues
N_SIM = {"exact": 10_000, "bootstrap": 1000, "mixture": DRAWS}  # draws where `n_sim` is None
UNASKED = 200  # of a bootstrap that "auto" chose, where refits do not run in the compiled loop
MOST_REFITTED = 5000  # rows of a model that "auto" refits there
ROUNDING = 1e-9  # of 1 + |ℓ|: differences of ℓ that are none


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """A likelihood-ratio test.

    statistic: 2(ℓ_1 − ℓ_0); df: parameters that the larger model has more; p: P(LRT ≥ statistic) under the null.
    null: its distribution in words, `weights` those of χ² with `weights_df` degrees of freedom where it is a mixture.
    method: "chi2", "mixture", "exact" or "bootstrap"; n_sim simulated draws behind p (0: none), mcse the Monte Carlo
    standard error that they leave; n_failed refits left out of them. tested: parameters that the smaller model lacks.
    """

    statistic: float
    df: int
    p: float
    null: str = ""
    method: str = "chi2"
    weights: tuple[float, ...] = ()
    weights_df: tuple[int, ...] = ()
    n_sim: int = 0
    n_failed: int = 0
    mcse: float = 0.0
    criterion: str = ""
    tested: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = ", ".join(self.tested) if self.tested else f"{self.df} parameters"
        lines = [
            f"Likelihood-ratio test ({self.criterion.upper()}) of {what}",
            f"LRT {fixed(self.statistic, 3)} on {self.df} df, {p_clause(self.p)}   null: {self.null} ({self.method})",
        ]
        if self.n_sim:
            error = f", Monte Carlo standard error of p {significant(self.mcse, 2)}" if self.mcse else ""
            lines.append(f"{self.n_sim} draws{error}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapNull:
    """Statistics of responses drawn from the smaller fit, sorted; `failed` refits by status are not among them."""

    draws: np.ndarray = field(repr=False)
    failed: dict[str, int]
    slack: float  # differences that are rounding

    @property
    def text(self) -> str:
        """The distribution in words."""
        return "drawn from the smaller fit"

    def p_value(self, statistic: float) -> float:
        """(1 + #{LRT* ≥ LRT})/(1 + B)."""
        above = len(self.draws) - int(np.searchsorted(self.draws, statistic - self.slack, side="left"))
        return (1 + above) / (1 + len(self.draws))

    def mcse(self, statistic: float) -> float:
        """Its Monte Carlo standard error."""
        p = self.p_value(statistic)
        return float(np.sqrt(p * (1 - p) / len(self.draws)))


Null = ChiBarSquare | ProjectedCone | ExactNull | BootstrapNull


def lrt(fit0: Any, fit1: Any, method: str = "auto", n_sim: int | None = None, seed: int | None = 0) -> LikelihoodRatio:
    """Likelihood-ratio test of a smaller model in a larger one, fitted to the same data by the same criterion.

    method:

    - "chi2": χ² with the difference of the numbers of parameters: right where the null puts nothing on a boundary,
      conservative where it does (a note says so).
    - "mixture": the large-sample distribution: χ² again, or a mixture of χ²: ½χ²_0 + ½χ²_1 for one variance,
      ½χ²_q + ½χ²_{q+1} for one more effect in an unstructured Ω of q, weights from the expected information at the
      null for several. Asymptotic in the number of levels. Blocks of two effects and more are projected on at random.
    - "exact": the finite-sample distribution for one variance beside σ²; under ML columns of X may go with it.
    - "bootstrap": `n_sim` responses drawn from the smaller fit, both models fitted to each by their own methods.
    - "auto": "exact" for one variance beside σ² where its levels number fewer than 50 or it belongs to a matrix K or Z,
      "bootstrap" where the smaller model is itself at a boundary that matters or a parameter is not identified under
      the null (but for models whose refits would take minutes), else "mixture".

    n_sim: draws (10,000 exact; 1000 bootstrap, 200 where "auto" chose it for refits outside the compiled loop; 20,000
    directions of a cone). seed: the same gives the same p.
    Raises ModelError for different data or criteria, for models that are not nested, and under REML for another X (of
    the same space too: ℓ_REML depends on its coding by ½ log|XᵀX|); MethodError for a method that does not apply.
    """
    if method not in METHODS:
        raise MethodError(
            f"unknown method `{method}` of a test. Choose from {', '.join(METHODS)}.{did_you_mean(method, METHODS)}"
        )
    if fit0.n_parameters > fit1.n_parameters:
        fit0, fit1 = fit1, fit0
    model0, model1 = check_comparable(fit0, fit1)
    df = fit1.n_parameters - fit0.n_parameters
    if df == 0:
        raise ModelError(f"both models have {fit0.n_parameters} parameters: neither is nested in the other.")
    added = extension(model0, fit0.theta_values, model1, fit1.theta_values)
    notes = _endings(fit0, fit1)
    compiled = method != "auto" or _is_compiled(fit0, fit1)
    chosen = _choose(added, model0, model1, compiled) if method == "auto" else method
    draws = N_SIM.get(chosen, 0) if n_sim is None else n_sim
    if n_sim is None and chosen == "bootstrap" and not compiled:
        draws = UNASKED
    if chosen == "exact":
        _check_exact(added, model0, model1)
        null: Null = ExactNull.of(model1, fit0.criterion, added.n_fixed, draws, seed)
    elif chosen == "bootstrap":
        null = bootstrap_null(fit0, fit1, draws, seed)
    elif chosen == "mixture":
        null = mixture_null(added, model1, fit1, draws, seed)
        notes += _asymptotic_notes(added, model1)
    else:
        null = ChiBarSquare((1.0,), (df,))
        if added.irregular:
            notes.append(f'{added.irregular}: p by χ² does not hold; take method="bootstrap"')
        elif added.sizes:
            notes.append('a parameter lies on the boundary under the null: p by χ² is too large; take method="mixture"')
    if chosen == "bootstrap" and method == "auto":
        why = added.irregular or f"the smaller model is at its own boundary ({', '.join(added.on_edge)})"
        notes.append(f"{why}: no mixture of χ² holds, so the null is simulated")
    return _result(fit0, fit1, df, null, chosen, notes)


def _result(fit0: Any, fit1: Any, df: int, null: Null, chosen: str, notes: list[str]) -> LikelihoodRatio:
    statistic = 2.0 * (fit1.loglik - fit0.loglik)
    slack = ROUNDING * (1.0 + abs(fit1.loglik))
    if statistic < -100 * slack:
        notes.append(
            f"ℓ of the larger model is {significant(-statistic / 2)} below the smaller one's: it has not reached its "
            "maximum. Fit it again by another method or from other starts"
        )
    at = 0.0 if statistic < slack else statistic
    mixed = isinstance(null, ChiBarSquare) and len(null.df) > 1
    n_sim = 0
    if isinstance(null, BootstrapNull | ExactNull):
        n_sim = len(null.draws)
    elif isinstance(null, ProjectedCone):
        n_sim = len(null.share)
    failed = sum(null.failed.values()) if isinstance(null, BootstrapNull) else 0
    if failed:
        counts = ", ".join(f"{n} {status}" for status, n in null.failed.items())  # type: ignore[union-attr]
        notes.append(f"{failed} of {failed + n_sim} refits failed ({counts}) and are left out")
    known = {*fit0.facts.theta_names, *fit0.facts.beta_names}
    return LikelihoodRatio(
        statistic,
        df,
        1.0 if at == 0.0 else null.p_value(at),
        null.text,
        "chi2" if chosen == "mixture" and isinstance(null, ChiBarSquare) and not mixed else chosen,
        null.weights if mixed else (),  # type: ignore[union-attr]
        null.df if mixed else (),  # type: ignore[union-attr]
        n_sim,
        failed,
        0.0 if at == 0.0 else null.mcse(at),
        fit0.criterion,
        tuple(n for n in (*fit1.facts.beta_names, *fit1.facts.theta_names) if n not in known),
        tuple(notes),
    )


def check_comparable(fit0: Any, fit1: Any) -> tuple[Model, Model]:
    """The models of two fits, smaller first. ModelError unless they maximise one criterion on the same data."""
    if fit0.is_moments or fit1.is_moments:
        raise ModelError(
            f"a fit by `{fit0.method}` and one by `{fit1.method}`: estimates by moments maximise no likelihood. "
            "Fit both by ML, or both by REML."
        )
    for fit in (fit0, fit1):
        if fit.limits is not None:
            raise ModelError(
                f"a fit by `{fit.method}` is a posterior, which maximises no likelihood. Fit both by ML, or both by "
                "REML."
            )
    if fit0.criterion != fit1.criterion or fit0.criterion == "none":
        raise ModelError(
            f"the fits have criteria `{fit0.criterion}` and `{fit1.criterion}`. Fit both by ML, or both by REML."
        )
    m0, m1 = fit0.model, fit1.model
    if m0 is None or m1 is None:
        raise ModelError("the test needs both models' data; a fit read from JSON has none. Fit again.")
    if len(m0.y) != len(m1.y) or not np.array_equal(m0.y, m1.y):
        raise ModelError(
            f"the fits are of different data ({m0.n_obs} and {m1.n_obs} observations). Fit both to the same rows."
        )
    o0, o1 = (np.zeros(m.n_obs) if m.offset is None else m.offset for m in (m0, m1))
    if not np.array_equal(o0, o1):
        raise ModelError("the fits are of different data: their offsets differ. Fit both with the same offset.")
    for fit in (fit0, fit1):
        if not np.isfinite(fit.loglik) or not fit.is_estimate:
            raise ModelError(f"a fit ended {fit.status} and has no maximum to compare. Fit it by another method.")
    if fit0.criterion == "reml" and not _same_columns(m0.X, m1.X):
        raise ModelError(
            "REML likelihoods of different fixed effects are not comparable, nor those of one space in another coding "
            '(they differ by ½ log|XᵀX|). Fit both with criterion="ml", or with the same X.'
        )
    return m0, m1


def _same_columns(X0: Any, X1: Any) -> bool:
    return X0.shape == X1.shape and bool(np.allclose(X0, X1, rtol=1e-12, atol=0))


def _endings(fit0: Any, fit1: Any) -> list[str]:
    """Fits that are no maximum."""
    pairs = (("smaller", fit0), ("larger", fit1))
    return [
        f"the {which} model's fit ended {fit.status}: ℓ is not its maximum" for which, fit in pairs if not fit.status.ok
    ]


def _is_compiled(fit0: Any, fit1: Any) -> bool:
    """Whether responses of both models are fitted in one compiled loop."""
    from vcbench.kernels import build
    from vcbench.kernels.blocks import BlockKernel

    fits = [fit for fit in (fit0, fit1) if fit.model.components or not fit.model.noise.is_plain]
    return all(isinstance(build(fit.model, fit.kernel or "auto"), BlockKernel) for fit in fits)


def _choose(added: Extension, model0: Model, model1: Model, compiled: bool) -> str:
    """What "auto" means."""
    if added.irregular or (added.on_edge and (added.n_free or added.sizes)):
        return "bootstrap" if compiled or model1.n_obs <= MOST_REFITTED else "mixture"
    if added.sizes == (1,) and added.n_free == 0 and not model0.components and is_single_variance(model1):
        grouped = [len(c.levels) for c in model1.components if c.is_grouped]
        q = sum(c.n_columns for c in model1.components)
        many = len(grouped) == len(model1.components) and min(grouped) >= FEW_LEVELS
        if not many and min(q, model1.n_obs) <= LARGEST:
            return "exact"
    return "mixture"


def _check_exact(added: Extension, model0: Model, model1: Model) -> None:
    single = is_single_variance(model1) and not model0.components and added.sizes == (1,)
    if not single or not model0.noise.is_plain:
        raise MethodError(
            "the exact null distribution is known for one variance beside σ², tested against independent residuals; "
            f"the larger model has {', '.join(model1.theta_names)}, the smaller {', '.join(model0.theta_names)}. Use "
            'method="bootstrap".'
        )


def mixture_null(
    added: Extension, model1: Model, fit1: Any, n_sim: int = DRAWS, seed: int | None = 0
) -> ChiBarSquare | ProjectedCone:
    """The limit in large samples: χ², or the mixture over the cone of what is on the boundary under the null."""
    if added.irregular:
        raise MethodError(f'{added.irregular}: no mixture of χ² holds. Use method="bootstrap".')
    Sigma = None if added.n_boundary < 2 else added.C @ _asymptotic_covariance(added, model1, fit1) @ added.C.T
    return boundary_null(added.sizes, Sigma, added.free, n_sim, seed)


def _asymptotic_covariance(added: Extension, model1: Model, fit1: Any) -> np.ndarray:
    """Inverse information of the larger model at the null, in its coordinates w: expected, or average where that would
    be dear."""
    from vcbench.kernels import build

    kernel: Any = build(model1, fit1.kernel or "auto")
    view = getattr(kernel, "view", kernel)
    what = getattr(view, "stop_information", "expected")
    at = view.evaluate(added.w, (what,), fit1.criterion)
    if not np.isfinite(at.loglik):
        raise MethodError('the larger model cannot be evaluated at the null. Use method="bootstrap".')
    information = getattr(at, what)
    size = np.sqrt(np.diag(information))
    return np.linalg.inv(information / np.outer(size, size)) / np.outer(size, size)


def _asymptotic_notes(added: Extension, model1: Model) -> list[str]:
    notes = []
    if added.on_edge and (added.n_free or added.sizes):
        notes.append(
            f"the smaller model is at its own boundary ({', '.join(added.on_edge)}): the mixture takes it as inside "
            'and is not valid there; take method="bootstrap"'
        )
    if added.sizes and any(c.is_plain and not c.is_grouped for c in model1.components):
        notes.append("the mixture takes observations as many independent groups; a matrix K or Z may not be such")
    return notes


def bootstrap_null(fit0: Any, fit1: Any, n_sim: int = 1000, seed: int | None = 0) -> BootstrapNull:
    """2(ℓ_1* − ℓ_0*) of responses drawn from the smaller fit, both models fitted as they were.

    Raises MethodError for a number of draws below 20, and where fewer than 20 of them could be fitted by both.
    """
    from vcbench.fit import fit_many

    if not (isinstance(n_sim, int | np.integer) and n_sim >= 20):
        raise MethodError(f"`n_sim` is {n_sim!r}; it must be a whole number of draws, 20 or more.")
    options = [refit_options(fit, {}) for fit in (fit0, fit1)]
    Y = simulate(fit0.model, fit0.theta_values, fit0.beta_values, int(n_sim), seed)
    large = fit_many(fit1.model, Y, fit1.method, fit1.criterion, **options[1])
    ended = list(large.status)
    if not fit0.model.components and fit0.model.noise.is_plain:
        ll0 = least_squares_loglik(fit0.model, Y, fit0.criterion)
    else:
        small = fit_many(fit0.model, Y, fit0.method, fit0.criterion, **options[0])
        ll0 = small.loglik
        ended = [b if a.ok else a for a, b in zip(small.status, large.status, strict=True)]
    ok = np.array([s.ok for s in ended])
    failed = {str(s): n for s, n in Counter(s for s in ended if not s.ok).items()}
    if ok.sum() < 20:
        raise MethodError(f"only {int(ok.sum())} of {n_sim} drawn responses could be fitted by both models ({failed}).")
    draws = np.sort(np.maximum(2.0 * (large.loglik - ll0)[ok], 0.0))
    return BootstrapNull(draws, failed, ROUNDING * (1.0 + abs(fit1.loglik)))


def least_squares_loglik(model: Model, Y: np.ndarray, criterion: str) -> np.ndarray:
    """ℓ (m,) of a model without random components at its maximum, for responses Y (n, m); known weights allowed.

    ℓ_ML = −½[n log(2πS/n) + n] + ½Σ log w, S the weighted residual sum of squares; ℓ_REML with n−d for n, less
    ½ log|XᵀWX|.
    """
    w = np.ones(model.n_obs) if model.noise.weights is None else model.noise.weights
    root = np.sqrt(w)[:, None]
    Q, T = np.linalg.qr(np.asarray(model.X) * root)
    Z = (Y if model.offset is None else Y - model.offset[:, None]) * root
    S = ((Z - Q @ (Q.T @ Z)) ** 2).sum(axis=0)
    m = model.n_obs - (model.n_fixed if criterion == "reml" else 0)
    loglik = -0.5 * m * (np.log(2 * np.pi * S / m) + 1.0) + 0.5 * np.log(w).sum()
    return loglik - (np.log(np.abs(np.diag(T))).sum() if criterion == "reml" else 0.0)
