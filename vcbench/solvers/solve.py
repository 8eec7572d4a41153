"""One method on one kernel: start, climb, ending."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.kernels.blocks import BlockKernel
from vcbench.solvers import codes
from vcbench.solvers.registry import SOLVERS, Solver, find_solver
from vcbench.solvers.start import even_point, inside, other_points, starting_point
from vcbench.status import Status

TOL = 1e-6
LARGE = 250  # rows of a block from which an EM step costs too much to begin with
EM_FIRST = 40  # steps of px-em before AI, where AI alone ran a structure to an edge of its range
FAR = 0.5  # of the way to the limit of φ: a correlation beyond tanh 4 = 0.9993
MEMORY = ("score", "expected", "average", "moments")


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Where a solver ended. theta natural; rank: the rank of each cone of Ω, residual last; trace rows (ℓ, θ, γ,
    seconds)."""

    theta: np.ndarray
    gamma: np.ndarray
    loglik: float
    status: Status
    message: str
    n_iter: int
    n_eval: int
    n_check: int
    seconds: float
    cpu_seconds: float
    check_seconds: float
    distance: float
    rank: np.ndarray
    trace: np.ndarray = field(repr=False)


def solve(
    kernel: Any,
    method: str = "ai",
    criterion: str = "reml",
    *,
    start: str | Mapping[str, float] | np.ndarray = "auto",
    tol: float = TOL,
    max_iter: int | None = None,
    trace: bool = True,
    base: str | None = None,
    compiled: bool | None = None,
    n_starts: int = 1,
    seed: int | None = None,
) -> Solution:
    """Run a solver of `registry.SOLVERS` on a kernel. base: the EM map under `squarem` and `daarem`.

    n_starts: also from so many less one points drawn around the start (`seed`); the best ℓ is kept, iterations and
    evaluations are counted together. `auto` on a model with structures adds starts by itself (EM steps first) where
    its first ended unconverged, on the boundary or with a correlation at the edge of its range.
    compiled: None uses the compiled loop where the kernel is block diagonal; False runs the same loop in Python.
    """
    solver = find_solver(method, criterion, base)
    max_iter = solver.max_iter if max_iter is None else max_iter
    _check_structure(kernel, solver, solver.code[criterion])
    _warm(kernel, compiled)
    wall, cpu = time.perf_counter(), time.process_time()
    point = starting_point(kernel, start)
    gamma = starting_gamma(kernel, start)
    natural, kernel = kernel, climbing(kernel)
    out = _run(kernel, solver, solver.code[criterion], criterion, point, gamma, tol, max_iter, trace, compiled)
    if method == "auto" and out[3] in (2, 5):
        out = _rescue(kernel, criterion, out, tol, trace, compiled)
    others = other_points(kernel.layout, point, n_starts - 1, np.random.default_rng(0 if seed is None else seed))
    if method == "auto" and n_starts == 1 and _is_doubtful(kernel, out):
        others = [even_point(kernel.layout, point)]
        if getattr(kernel.inner, "largest", 0) <= LARGE:
            drawn = other_points(kernel.layout, point, 2, np.random.default_rng(0))
            others = _by_em(kernel, criterion, [point, *others, *drawn])
    for other in others:
        new = _run(kernel, solver, solver.code[criterion], criterion, other, gamma, tol, max_iter, trace, compiled)
        best = new if new[2] > out[2] + 1e-9 * (1.0 + abs(out[2])) else out
        out = (*best[:4], out[4] + new[4], out[5] + new[5], out[6] + new[6], out[7] + new[7], *best[8:])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return _solution(natural, solver, criterion, out, wall, cpu)


def climbing(kernel: Any) -> Any:
    """What the solvers climb on: the kernel, or its view in working coordinates where its model has structures."""
    return getattr(kernel, "view", kernel)


def _check_structure(kernel: Any, solver: Solver, code: int) -> None:
    """MethodError for an EM that needs Ω free and R = σ²I on a model with structures, before any work."""
    if hasattr(kernel, "view") and code % codes.SQUAREM in (codes.SIMPLIFIED, codes.PX_FULL, codes.HENDERSON):
        raise MethodError(
            f"method `{solver.name}` is defined for unstructured Ω and R = σ²I; this model has structures, weights or "
            "tied terms. Use em, px-em, px-em-component or ecme."
        )


def _by_em(kernel: Any, criterion: str, points: list[np.ndarray]) -> list[np.ndarray]:
    """Each point after some steps of px-em, which no far step leads astray."""
    em = SOLVERS["px-em"]
    zero = np.zeros(len(kernel.beta0))
    runs = [_run(kernel, em, em.code[criterion], criterion, p, zero, TOL, EM_FIRST, False, None) for p in points]
    return [out[0] * kernel.layout.scale for out in runs if np.isfinite(out[2]) and out[0][-1] > 0]


def _is_doubtful(kernel: Any, out: tuple) -> bool:
    """True where a φ ended far out, or the climb not at an interior maximum: another start may do better."""
    if not hasattr(kernel, "maps") or len(out[0]) == kernel.maps.n_linear + 1:
        return False
    return out[3] != 0 or kernel.maps.at_edge(out[0], FAR)


@cache
def _loaded(compiled: bool) -> list[bool]:
    return [False]


def _warm(kernel: Any, compiled: bool | None) -> None:
    """Load the compiled code before the clock starts, once a process: what a method costs is not what Numba costs."""
    use = isinstance(kernel, BlockKernel) if compiled is None else compiled
    if not _loaded(use)[0]:
        _loaded(use)[0] = True
        point = starting_point(kernel, "auto")
        _run(
            climbing(kernel),
            SOLVERS["ai"],
            codes.AI,
            "reml",
            point,
            np.zeros(len(kernel.beta0)),
            1.0,
            0,
            True,
            compiled,
        )


def starting_gamma(kernel: Any, start: Any) -> np.ndarray:
    """γ at the start: 0 (OLS), unless the mapping names fixed effects."""
    beta = kernel.beta0.copy()
    if isinstance(start, Mapping):
        for j, name in enumerate(kernel.model.X_names):
            if name in start:
                beta[j] = float(start[name])
    return kernel.basis.gamma(beta, kernel.beta0)


def _run(kernel, solver: Solver, code, criterion, theta, gamma, tol, max_iter, trace, compiled, rank=None) -> tuple:
    if code == codes.LBFGS:
        from vcbench.solvers.quasi_newton import climb_lbfgs

        return climb_lbfgs(kernel, criterion, theta, tol, max_iter, rank)
    from vcbench.solvers.run import climb

    lay = kernel.layout
    owns = solver.owns_beta and criterion == "ml"
    use = isinstance(kernel, BlockKernel) if compiled is None else compiled
    loop, data = (climb, kernel.answers) if use else (climb.py_func, answers(kernel))
    return loop(
        data,
        code,
        criterion == "reml",
        owns,
        solver.monotone,
        theta / lay.scale,
        gamma,
        float(tol),
        int(max_iter),
        trace,
        lay.pa,
        lay.pb,
        lay.fa,
        lay.fb,
        lay.feature_component,
        lay.cone_ptr,
        lay.cone_effects,
        lay.q,
        lay.scale,
        lay.n_obs,
    )


def _rescue(kernel, criterion, out, tol, trace, compiled) -> tuple:
    """Where AI could not ascend: L-BFGS from its point and on its face, then PX-EM-full and AI from just inside."""
    lay = kernel.layout
    n_iter, n_eval, rows = out[4], out[5], [out[10]]
    em = ("px-em", 100) if hasattr(kernel, "maps") else ("px-em-full", 500)
    for name, max_iter in (("lbfgs", 200), em, ("ai", 200)):
        solver = SOLVERS[name]
        x = out[0] if name == "lbfgs" else inside(out[0], lay)
        new = _run(
            kernel,
            solver,
            solver.code[criterion],
            criterion,
            x * lay.scale,
            out[1],
            tol,
            max_iter,
            trace,
            compiled,
            out[8],
        )
        n_iter, n_eval = n_iter + new[4], n_eval + new[5]
        rows.append(new[10][1:])
        if new[2] >= out[2] - 1e-9 * (1 + abs(out[2])):
            out = new
        if new[3] in (0, 1):
            break
    return (*out[:4], n_iter, n_eval, *out[6:10], np.vstack(rows))


def answers(kernel: Any):
    """A kernel as the callable that `climb.py_func` asks: the tuple of `block_core.evaluate_blocks`.

    The last evaluation is remembered: what was answered at a state is not worked out again. Where the kernel's
    `stop_information` is "average", a check of the stop rule (bit CHECK) finds that in the place of the expected.
    """
    from vcbench.solvers.run import CHECK

    p, d = len(kernel.layout.scale), len(kernel.beta0)
    zero_p, zero_pp, zero_d = np.zeros(p), np.zeros((p, p)), np.zeros(d)
    none = np.zeros((0, 0))
    cheap = getattr(kernel, "stop_information", "expected") == "average"
    last: list[Any] = [None, None]  # (the state, its evaluation)

    def evaluate(theta, gamma, reml, need):
        here = (reml, theta.tobytes(), None if gamma is None else gamma.tobytes())
        known = last[1] if last[0] == here else None
        have = {} if known is None else {name: getattr(known, name) for name in MEMORY}
        lacking = [name for name in need if have.get(name) is None]
        if known is not None and (not lacking or not np.isfinite(known.loglik)):
            return known
        at = kernel.evaluate(theta, tuple(lacking), "reml" if reml else "ml", gamma=gamma)
        at = replace(at, **{k: v for k, v in have.items() if v is not None and getattr(at, k) is None})
        last[:] = here, at
        return at

    state: dict[str, Any] = {}
    structured = hasattr(kernel, "maps")

    def ask(theta, gamma, profile, reml, want):
        state.update(profile=profile, reml=reml)
        by_average = cheap and want & CHECK
        if by_average:
            want = want & ~2 | 4
        need = [name for bit, name in ((1, "score"), (2, "expected"), (4, "average"), (8, "moments")) if want & bit]
        at = evaluate(theta, None if profile else gamma, reml, need)
        expected = at.average if by_average else at.expected
        average = at.average
        if at.curvature is not None and average is not None and want & 6 == 6:
            average = average + 0.5 * at.curvature  # so that 2·average − expected is the observed information
        m = None if structured else at.moments
        part = (
            (none, zero_d, none, none, zero_d, 0.0, 0.0) if m is None else (m.F, m.Wty, m.XtW, m.S, m.f, m.E0, m.logdet)
        )
        loglik = at.loglik + (0.5 * kernel.basis.logdet if reml else 0.0)
        return (
            np.isfinite(at.loglik),
            loglik,
            at.gamma,
            at.QtVinvQ,
            zero_d if at.score_gamma is None else at.score_gamma,
            zero_p if at.score is None else at.score,
            zero_pp if expected is None else expected,
            zero_pp if average is None else average,
            *part,
            0.0 if m is None else m.yty,
        )

    if structured:
        from vcbench.solvers.gem import m_step

        scale = kernel.layout.scale

        def em_move(code, reml, x, gamma, rank):
            w = x * scale
            known = evaluate(w, None if state["profile"] else gamma, reml, ["score", "moments"])
            w, gamma = m_step(kernel, code, reml, w, gamma, state["profile"], rank, known.moments)
            return w / scale, gamma

        def score_move(x, rank):
            criterion = state["reml"]
            return em_move(codes.BY_SCORE, criterion, x, zero_d, rank)[0]

        ask.em_move, ask.score_move = em_move, score_move  # type: ignore[attr-defined]
    if getattr(kernel, "resumes", False):
        return lambda *state: _Late(ask, state)
    return ask


class _Late:
    """The answers at a state: ℓ, and the rest once it is looked at. A step that is refused costs no more than ℓ."""

    __slots__ = ("ask", "known", "state")

    def __init__(self, ask, state: tuple) -> None:
        self.ask, self.known = ask, ask(*state[:-1], 0)
        self.state: tuple | None = state

    def __getitem__(self, item: int):
        if item > 2 and self.state is not None:
            self.known, self.state = self.ask(*self.state), None
        return self.known[item]


def _solution(kernel, solver: Solver, criterion: str, out: tuple, wall: float, cpu: float) -> Solution:
    x, gamma, ll, ending, n_iter, n_eval, n_check, check_seconds, rank, distance, trace = out[:11]
    status, message = ending_of(ending, distance, n_iter, solver)
    if criterion == "reml":  # the loop works with QᵀV⁻¹Q; the convention is XᵀV⁻¹X
        ll -= 0.5 * kernel.basis.logdet
        trace[:, 0] -= 0.5 * kernel.basis.logdet
    point = x * kernel.layout.scale
    if hasattr(kernel, "view"):
        work = kernel.view.maps
        if status is Status.CONVERGED and work.at_edge(point):
            status, message = Status.AT_BOUNDARY, "a parameter of a structure lies at the edge of its range"
        point = work.theta(work.inside(point))
        for row in trace:
            row[1 : 1 + len(point)] = work.theta(work.inside(row[1 : 1 + len(point)]))
    return Solution(
        point,
        gamma,
        ll,
        status,
        message,
        n_iter,
        n_eval,
        n_check,
        max(wall - check_seconds, 0.0),
        max(cpu - check_seconds, 0.0),
        check_seconds,
        distance,
        rank,
        trace,
    )


def ending_of(ending: int, distance: float, n_iter: int, solver: Solver) -> tuple[Status, str]:
    """Status and message of an ending of `run.climb`."""
    match ending:
        case 0:
            return Status.CONVERGED, ""
        case 1:
            return Status.AT_BOUNDARY, "the maximum lies on the edge of the parameter space"
        case 2:
            return (
                Status.MAX_ITER,
                f"stopped at {n_iter} iterations, "
                + (
                    f"{distance:.2g} standard errors from a stationary point"
                    if np.isfinite(distance)
                    else "too early to say how far from a stationary point"
                ),
            )
        case 3:
            return Status.SINGULAR_V, "V(θ) is not positive definite"
        case 4:
            return Status.FAILED, f"the log-likelihood of the monotone method {solver.name} fell"
        case 5:
            return Status.FAILED, f"no step ascends, {distance:.2g} standard errors from a stationary point"
    return Status.FAILED, "the update of the residual variance is not positive"
