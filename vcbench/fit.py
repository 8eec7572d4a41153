"""`fit`, `fit_many`, `compare`: any model, any method.

This module is callable: `vc.fit(model)` is `vcbench.fit.fit(model)`, for a package has one attribute of a name and
the room and its main function share theirs.
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import DataError, MethodError, ModelError, VcbenchError
from vcbench.fitted import Facts, Fit
from vcbench.methods import METHODS, Method, check_method, check_options
from vcbench.model.model import Model, as_response
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METHODS", "Comparison", "Fit", "FitMany", "check_method", "compare", "fit", "fit_many"]

AGREEMENT = 1e-6


def fit(model: Model, method: str = "auto", criterion: str | None = None, **options: Any) -> Fit:
    """Fit a model by a method of `vcbench.fit.METHODS`.

    criterion: "ml" or "reml"; None is REML where the method has it, else the only one it has. Options of the
    solvers: max_iter,
    tol (distance to the optimum in standard errors), start ("auto", "unit" or a mapping by parameter name), kernel
    ("auto", or one of `vcbench.kernels.KERNELS`), trace; base, the EM map under `squarem` and `daarem`. Of
    the moment methods: prior (minque) 0, 1, "iterated" or values by parameter name; type (anova) 1, 2 or 3.

    Raises MethodError for a method, criterion or option that does not exist, ModelError for a kernel that does not
    fit. What the data did is the result's `status`.
    """
    known, criterion = _resolve(model, method, criterion, options)
    if known.kind == "solver":
        return _fit_solver(model, known, criterion, options)
    if known.kind == "moments":
        return _fit_moments(model, known, options)
    return _fit_door(model, known, criterion, model.y[:, None], options, None)[0]


def _resolve(model: Any, method: str, criterion: str | None, options: Mapping[str, Any]) -> tuple[Method, str]:
    if not isinstance(model, Model):
        raise ModelError(f"the first argument is {type(model).__name__}; it must be a vcbench.Model.")
    known = check_method(method, criterion)
    check_options(known, options)
    return known, criterion or known.criteria[0]


def _fit_solver(model: Model, known: Method, criterion: str, options: Mapping[str, Any]) -> Fit:
    from vcbench.kernels import build
    from vcbench.solvers.solve import solve

    options = dict(options)
    kernel: Any = build(model, options.pop("kernel", "auto"))
    s = solve(kernel, known.name, criterion, **options)
    basis, beta0 = kernel.basis, kernel.beta0
    rows = s.trace
    if len(rows):
        p, d = len(s.theta), len(beta0)
        rows[:, 1 + p : 1 + p + d] = beta0 + rows[:, 1 + p : 1 + p + d] @ np.linalg.inv(basis.T).T
    return Fit(
        model,
        Facts.of(model),
        known.name,
        criterion,
        s.theta,
        basis.beta(s.gamma, beta0),
        s.loglik,
        s.status,
        s.message,
        s.n_iter,
        s.n_eval,
        s.n_check,
        s.seconds,
        s.cpu_seconds,
        s.check_seconds,
        kernel.name,
        s.rank,
        rows,
    )


def _fit_moments(model: Model, known: Method, options: Mapping[str, Any]) -> Fit:
    """Moment estimates, raw; ℓ_REML and β̂ there where V is positive definite."""
    from vcbench.kernels import build
    from vcbench.solvers.anova import Anova
    from vcbench.solvers.geometry import full_ranks
    from vcbench.solvers.moments import Estimate, check_linear, minque, moment_covariance, no_prior

    check_linear(model, known.name)
    kernel: Any = build(model, options.get("kernel", "auto"))
    wall, cpu = time.perf_counter(), time.process_time()
    extra: dict[str, Any] = {}
    if known.name == "anova":
        table = Anova.of(model, options.get("type", 1))
        ss = table.sums_of_squares(model.y if model.offset is None else model.y - model.offset)
        found = Estimate(table.estimate(ss), no_prior(kernel))
        extra = {"type": table.type, "anova": table.table(ss)}
    else:
        own = {k: v for k, v in options.items() if k in ("prior", "tol", "max_iter") and v is not None}
        found = minque(kernel, **own)
    theta = found.theta
    at = kernel.evaluate(theta, ("loglik",), "reml")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if known.name == "anova":
        cov = table.covariance(theta)
    elif found.status is Status.SINGULAR_V:
        cov = np.full((len(theta), len(theta)), np.nan)
    else:
        cov = moment_covariance(kernel, theta, found.prior, found.information)
    valid = math.isfinite(at.loglik)
    negative = [n for n, v in zip(model.theta_names, theta, strict=True) if v < 0 and ":cov" not in n]
    note = f"negative estimate of {', '.join(f'`{n}`' for n in negative)}, reported raw" if negative else ""
    return Fit(
        model,
        Facts.of(model),
        known.name,
        known.criteria[0],
        theta,
        at.beta if valid else np.full(model.n_fixed, np.nan),
        at.loglik if valid else math.nan,
        found.status,
        found.message or note,
        found.n_iter,
        found.n_eval,
        0,
        wall,
        cpu,
        0.0,
        kernel.name,
        full_ranks(kernel.layout.cone_ptr) if valid else None,
        None,
        None,
        extra,
        cache={"default": cov},
    )


def _fit_door(
    model: Model, known: Method, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any
) -> list[Fit]:
    """Fits by a method behind a door (Bayesian, peers): one dict a response becomes one Fit."""
    options = dict(options)
    if seed is None and "seed" in options:
        given = options.pop("seed")
        seed = None if given is None else np.random.SeedSequence(given).spawn(Y.shape[1])
    options.pop("seed", None)
    p, d = model.n_theta, model.n_fixed
    out = []
    for j, row in enumerate(known.door()(model, criterion, Y, options, seed)):
        get = lambda key, size, row=row: np.asarray(row.get(key, np.full(size, np.nan)), float)  # noqa: E731
        sides = ("theta_lower", "theta_upper", "beta_lower", "beta_upper")
        limits = {k: get(k, p if k.startswith("theta") else d) for k in sides}
        own = model if Y.shape[1] == 1 and Y[:, 0] is model.y else model.replace(y=Y[:, j])
        cov = np.asarray(row.get("theta_cov", np.diag(get("theta_se", p) ** 2)), float)
        inside = known.kind == "peer" and criterion != "none" and Status(row["status"]) is Status.CONVERGED
        out.append(
            Fit(
                own,
                Facts.of(model),
                known.name,
                criterion,
                get("theta", p),
                get("beta", d),
                float(row.get("loglik", math.nan)),
                Status(row["status"]),
                row.get("message", ""),
                int(row.get("n_iter", 0)),
                int(row.get("n_eval", 0)),
                0,
                float(row.get("seconds", math.nan)),
                float(row.get("cpu_seconds", math.nan)),
                0.0,
                "auto",
                _full_rank(model) if inside else None,
                None,
                limits if any(k in row for k in sides) else None,
                row.get("extra", {}),
                {"default": cov, "beta": np.asarray(row.get("beta_cov", np.diag(get("beta_se", d) ** 2)))},
            )
        )
    return out


def _full_rank(model: Model) -> np.ndarray:
    """The rank of every Ω of a maximum inside the parameter space, another program's: what is said of a maximum of ours
    may be said of it."""
    from vcbench.kernels import build
    from vcbench.solvers.geometry import full_ranks

    kernel: Any = build(model)
    return full_ranks(kernel.layout.cone_ptr)


@dataclass(frozen=True, slots=True, eq=False)
class FitMany:
    """Many responses of one design: arrays with one row a response; `many[i]` is a Fit.

    theta, theta_se (R, p); beta, beta_se (R, d); loglik, n_iter, n_eval, seconds, cpu_seconds (R,); status, message
    lists.
    """

    model: Model
    Y: np.ndarray = field(repr=False)
    method: str
    criterion: str
    theta: np.ndarray
    theta_se: np.ndarray
    beta: np.ndarray
    beta_se: np.ndarray
    loglik: np.ndarray
    status: list[Status]
    message: list[str]
    n_iter: np.ndarray
    n_eval: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    lower: np.ndarray | None = field(default=None, repr=False)  # (R, p + d) where the method has limits of its own
    upper: np.ndarray | None = field(default=None, repr=False)
    rank: np.ndarray | None = field(default=None, repr=False)
    fits: list[Fit] | None = field(default=None, repr=False)
    kernel: str = "auto"

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, i: int) -> Fit:
        if self.fits is not None:
            return self.fits[i]
        i = range(len(self))[i]
        rank = None if self.rank is None else self.rank[i]
        return Fit(
            self.model.replace(y=self.Y[:, i]),
            Facts.of(self.model),
            self.method,
            self.criterion,
            self.theta[i],
            self.beta[i],
            float(self.loglik[i]),
            self.status[i],
            self.message[i],
            int(self.n_iter[i]),
            int(self.n_eval[i]),
            0,
            float(self.seconds[i]),
            float(self.cpu_seconds[i]),
            0.0,
            self.kernel,
            rank,
        )

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    @property
    def frame(self) -> "pd.DataFrame":
        """Estimates of θ and β, log-likelihood and status, one row a response."""
        import pandas as pd

        out = pd.DataFrame(self.theta, columns=list(self.model.theta_names))
        out[list(self.model.X_names)] = self.beta  # type: ignore[arg-type]
        return out.assign(loglik=self.loglik, status=[str(s) for s in self.status], n_iter=self.n_iter)

    @classmethod
    def of(cls, model: Model, Y: np.ndarray, method: str, criterion: str, fits: Sequence[Fit]) -> "FitMany":
        """From fits made one by one."""
        stack = lambda f: np.array([f(x) for x in fits])  # noqa: E731
        lower = upper = None
        if fits and fits[0].limits is not None:
            lower = stack(lambda x: np.concatenate([x.limits["theta_lower"], x.limits["beta_lower"]]))
            upper = stack(lambda x: np.concatenate([x.limits["theta_upper"], x.limits["beta_upper"]]))
        with np.errstate(invalid="ignore"):
            theta_se = stack(lambda x: np.sqrt(np.diag(x.theta_cov())))
            beta_se = stack(lambda x: np.sqrt(np.diag(x.beta_cov())))
        return cls(
            model,
            Y,
            method,
            criterion,
            stack(lambda x: x.theta_values),
            theta_se,
            stack(lambda x: x.beta_values),
            beta_se,
            stack(lambda x: x.loglik),
            [x.status for x in fits],
            [x.message for x in fits],
            stack(lambda x: x.n_iter),
            stack(lambda x: x.n_eval),
            stack(lambda x: x.seconds),
            stack(lambda x: x.cpu_seconds),
            lower,
            upper,
            None,
            list(fits),
        )


def fit_many(
    model: Model,
    Y: Any,
    method: str = "auto",
    criterion: str | None = None,
    *,
    seed: Any = None,
    trace: bool = False,
    **options: Any,
) -> FitMany:
    """Fit many responses of one design: Y (n_obs, R), one column a response. The design is reduced once.

    Solvers on block-diagonal kernels run start to standard errors in one compiled loop. `trace=True` keeps every path
    (`many[i].trace`). seed: one SeedSequence a response for methods that draw.
    Raises what `fit` raises, and DataError for a Y of another shape or with a column that is not finite or is constant.
    """
    known, criterion = _resolve(model, method, criterion, options)
    Y = np.asarray(Y, float)
    if Y.ndim != 2 or len(Y) != model.n_obs:
        raise DataError(f"Y has shape {Y.shape}; it must be ({model.n_obs}, R): one column a response.")
    if not np.isfinite(Y).all() or (np.ptp(Y, axis=0) == 0).any():
        for j in range(Y.shape[1]):
            try:
                as_response(Y[:, j])
            except DataError as error:
                raise DataError(f"column {j} of Y: {error}") from None
    if known.kind == "solver" and not trace and method != "lbfgs" and options.get("n_starts", 1) == 1:
        from vcbench.kernels import build
        from vcbench.kernels.blocks import BlockKernel

        kernel = build(model, options.get("kernel", "auto"))
        if isinstance(kernel, BlockKernel):
            return _fit_blocks(model, kernel, known, criterion, Y, options)
    if known.kind in ("solver", "moments"):
        extra = {"trace": trace} if known.kind == "solver" else {}
        fits = [
            fit(model.replace(y=Y[:, j]), method, None if criterion == "none" else criterion, **{**options, **extra})
            for j in range(Y.shape[1])
        ]
    else:
        fits = _fit_door(model, known, criterion, Y, options, seed)
    return FitMany.of(model, Y, method, criterion, fits)


def _fit_blocks(
    model: Model, kernel: Any, known: Method, criterion: str, Y: np.ndarray, options: Mapping[str, Any]
) -> FitMany:
    from vcbench.inference.batch import climb_many
    from vcbench.solvers.registry import find_solver
    from vcbench.solvers.solve import TOL, ending_of
    from vcbench.solvers.start import starting_theta

    solver = find_solver(known.name, criterion, options.get("base"))
    b, lay = kernel.blocks, kernel.layout
    Y0 = Y if model.offset is None else Y - model.offset[:, None]
    yb, t, tau2, beta0 = b.reduce(Y0)
    n, d = b.n_obs, b.X.shape[2]
    sd = np.sqrt(((yb**2).sum((1, 2)) + (t**2).sum(1) + tau2) / (n - d))
    scales = lay.scale * (sd[:, None] / b.sd) ** 2
    start = options.get("start", "auto")
    auto = isinstance(start, str) and start == "auto"
    if isinstance(start, Mapping) and any(name in start for name in model.X_names):  # type: ignore[union-attr]
        raise MethodError(
            "`start` of many responses names variance parameters only; every response starts from its own OLS β."
        )
    if auto:
        starts = np.ones_like(scales)
    elif isinstance(start, Mapping):  # what it does not name starts from each response's own moments
        starts = np.array([starting_theta(kernel.bind(y), start) for y in Y.T]).reshape(scales.shape)
    else:
        starts = np.tile(starting_theta(kernel, start), (len(scales), 1))
    max_iter = options.get("max_iter")
    cpu = time.process_time()
    out = climb_many(
        b.R,
        b.X,
        yb,
        b.TX,
        t,
        tau2,
        b.n_within,
        b.n_obs,
        lay.q,
        lay.pa,
        lay.pb,
        lay.fa,
        lay.fb,
        lay.feature_component,
        lay.cone_ptr,
        lay.cone_effects,
        scales,
        np.linalg.inv(b.basis.T),
        starts,
        auto,
        solver.code[criterion],
        criterion == "reml",
        solver.owns_beta and criterion == "ml",
        solver.monotone,
        float(options.get("tol", TOL)),
        int(solver.max_iter if max_iter is None else max_iter),
        *kernel.work,
    )
    theta, gamma, loglik, ending, counts, seconds, distance, ranks, se, beta_se = out
    del cpu
    if criterion == "reml":
        loglik = loglik - 0.5 * b.basis.logdet
    beta = beta0 + gamma @ np.linalg.inv(b.basis.T).T
    ends = [ending_of(int(e), float(x), int(i), solver) for e, x, i in zip(ending, distance, counts[:, 0], strict=True)]
    many = FitMany(
        model,
        Y,
        known.name,
        criterion,
        theta,
        se,
        beta,
        beta_se,
        loglik,
        [e[0] for e in ends],
        [e[1] for e in ends],
        counts[:, 0],
        counts[:, 1],
        seconds[:, 0],
        seconds[:, 0].copy(),
        None,
        None,
        ranks,
        None,
        kernel.name,
    )
    if known.name == "auto":
        for i in np.flatnonzero((ending == 2) | (ending == 5)):  # where AI could not ascend, as `fit` does
            one = fit(model.replace(y=Y[:, i]), "auto", criterion, **options)
            if one.status.ok:
                many.theta[i], many.beta[i], many.loglik[i], many.status[i] = (
                    one.theta_values,
                    one.beta_values,
                    one.loglik,
                    one.status,
                )
                many.message[i], many.n_iter[i], many.n_eval[i] = one.message, one.n_iter, one.n_eval
                many.theta_se[i], many.beta_se[i], many.rank[i] = one.theta_se, one.beta_se, one.rank  # type: ignore[index]
                many.seconds[i], many.cpu_seconds[i] = one.seconds, one.cpu_seconds
    return many


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Several methods on the same data: the fits by label, and how far they disagree."""

    fits: dict[str, Fit]
    errors: dict[str, str] = field(default_factory=dict)
    tol: float = AGREEMENT

    @property
    def table(self) -> "pd.DataFrame":
        """One row a method: method, criterion, status, loglik, deficit (to the best of its criterion), n_iter,
        seconds, then estimate and se of each parameter."""
        import pandas as pd

        rows = []
        for label, f in self.fits.items():
            best = max(
                (
                    g.loglik
                    for g in self.fits.values()
                    if g.criterion == f.criterion and g.is_moments == f.is_moments and math.isfinite(g.loglik)
                ),
                default=math.nan,
            )
            row = {
                "method": label,
                "criterion": f.criterion,
                "status": str(f.status),
                "loglik": f.loglik,
                "deficit": best - f.loglik,
                "n_iter": f.n_iter,
                "n_eval": f.n_eval,
                "seconds": f.seconds,
            }
            names = [*f.facts.theta_names, *f.facts.beta_names]
            ses = np.concatenate([f.theta_se.to_numpy(), f.beta_se.to_numpy()])
            for name, value, se in zip(names, np.concatenate([f.theta_values, f.beta_values]), ses, strict=True):
                row[name], row[f"{name} se"] = value, se
            rows.append(row)
        return pd.DataFrame(rows)

    def settled(self, criterion: str) -> dict[str, Fit]:
        """Likelihood methods of one criterion that ended at their optimum: the ones that must agree."""
        return {
            k: f
            for k, f in self.fits.items()
            if f.criterion == criterion and f.status.ok and METHODS[f.method].kind == "solver"
        }

    def max_difference(self, criterion: str) -> float:
        """Largest difference of θ and β between settled methods: relative, or against the SE where that is larger."""
        fits = list(self.settled(criterion).values())
        if len(fits) < 2:
            return 0.0
        values = np.array([np.concatenate([f.theta_values, f.beta_values]) for f in fits])
        se = np.nan_to_num(np.concatenate([fits[0].theta_se.to_numpy(), fits[0].beta_se.to_numpy()]))
        size = np.maximum(np.maximum(np.abs(values).max(axis=0), se), 1e-300)
        spread = np.ptp(values, axis=0) / size
        variances = np.array([*fits[0].facts.is_variance, *[False] * len(fits[0].beta_values)])
        total = values[0][variances].sum()
        tiny = variances & (values.max(axis=0) < 1e-6 * total)  # on the boundary by one method, 1e-9 by another
        return float(np.where(tiny, np.ptp(values, axis=0) / total, spread).max())

    @property
    def agree(self) -> bool:
        """True if, under each criterion, all settled methods agree to `tol` and none is better than another."""
        for criterion in ("reml", "ml"):
            fits = self.settled(criterion)
            if not fits:
                continue
            logliks = [f.loglik for f in fits.values()]
            if self.max_difference(criterion) > self.tol or max(logliks) - min(logliks) > 1e-7 * (
                1 + abs(max(logliks))
            ):
                return False
        return True

    def __str__(self) -> str:
        from vcbench.compared import comparison_text

        return comparison_text(self)

    @property
    def verdict(self) -> str:
        """AGREE or DISAGREE, and by how much."""
        parts = []
        for criterion in ("reml", "ml"):
            fits, n = (
                self.settled(criterion),
                sum(f.criterion == criterion and METHODS[f.method].kind == "solver" for f in self.fits.values()),
            )
            if n:
                parts.append(
                    f"{len(fits)} of {n} {criterion.upper()} methods reach the same maximum "
                    f"(largest relative difference {self.max_difference(criterion):.0e})"
                )
        return (
            ("AGREE  " if self.agree else "DISAGREE  ")
            + "; ".join(parts or ["no likelihood method was asked for"])
            + "."
        )


def compare(
    model: Model,
    methods: Sequence[str] = ("ai", "newton", "fisher", "px-em", "em", "moments"),
    criterion: str | None = None,
    *,
    tol: float = AGREEMENT,
    **options: Any,
) -> Comparison:
    """Fit the same data by several methods. Options go to the methods that have them; one that no method has is an
    error.

    A method without the criterion asked for runs under its own if it is no likelihood method, and is an error
    otherwise.
    """
    known = {name: check_method(name) for name in methods}
    if not known:
        raise MethodError(f"no method to compare. Choose some of {', '.join(METHODS)}.")
    for key in options:
        if not any(key in m.options for m in known.values()):
            check_options(next(iter(known.values())), {key: options[key]})
    plan = []
    for name, m in known.items():
        wanted = None if m.criteria == ("none",) else criterion
        check_method(name, wanted)
        own = {k: v for k, v in options.items() if k in m.options}
        check_options(m, own)
        plan.append((name, wanted, own))
    fits, errors = {}, {}
    for name, wanted, own in plan:
        try:
            fits[name] = fit(model, name, wanted, **own)
        except VcbenchError as error:
            errors[name] = str(error)
    if not fits:
        raise MethodError("; ".join(errors.values()))
    return Comparison(fits, errors, tol)


class _Room(ModuleType):
    """This module, called: `vc.fit(model)`."""

    __call__ = staticmethod(fit)


sys.modules[__name__].__class__ = _Room
