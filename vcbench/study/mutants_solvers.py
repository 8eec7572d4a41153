"""Mutants of a solver's step: the loop is run in Python for the method concerned, and one of its formulas is wrong."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from vcbench.fit import FitMany, fit
from vcbench.solvers import codes, run, solve

Steps = Callable[..., Any]


@contextmanager
def stepping(method: str, criterion: str, **changed: Callable[[Steps, Any], Steps]) -> Iterator[None]:
    """While open, fits of this process by `method` under `criterion` run interpreted, with functions of `solvers.run`
    exchanged: `changed` maps the name of one to (its own, the kernel of the fit) → what takes its place."""
    kernels: list[Any] = []
    own_run: Any = solve._run
    own: dict[str, Any] = {name: getattr(run, name) for name in changed}

    def climb(kernel: Any, solver: Any, code: int, asked: str, *more: Any) -> tuple:
        if solver.name != method or asked != criterion:
            return own_run(kernel, solver, code, asked, *more)
        kernels.append(kernel)
        try:
            return own_run(kernel, solver, code, asked, *more[:5], False, *more[6:])
        finally:
            kernels.pop()

    def exchanged(name: str) -> Steps:
        def step(*arguments: Any) -> Any:
            if not kernels:
                return own[name](*arguments)
            return changed[name](own[name], kernels[-1])(*arguments)

        return step

    from vcbench.study import fitting

    own_many: Any = fitting.fit_many

    def fit_many(model: Any, Y: np.ndarray, name: str, asked: str | None = None, **options: Any) -> FitMany:
        if name != method or asked != criterion:
            return own_many(model, Y, name, asked, **options)
        options.pop("seed", None)
        fits = [fit(model.replace(y=Y[:, j]), name, asked, **options) for j in range(Y.shape[1])]
        return FitMany.of(model, Y, name, criterion, fits)

    with (
        mock.patch.object(solve, "_run", climb),
        mock.patch.object(fitting, "fit_many", fit_many),
        mock.patch.dict(vars(run), {name: exchanged(name) for name in changed}),
    ):
        yield


def _m20(own: Steps, kernel: Any) -> Steps:
    """σ_e² = yᵀ(y − Xβ′ − Zμ)/n, as if E⟨y − Xβ̂ − Zu, Zu⟩ were 0 on the way: `em-simplified` under EM's name."""
    return lambda code, *more: own(codes.SIMPLIFIED if code == codes.EM else code, *more)


def _m21(own: Steps, kernel: Any) -> Steps:
    """σ_e² = (yᵀy − b̂ᵀXᵀy − ûᵀZᵀy)/N − rank X: the parentheses of N − rank X are missing."""
    n, d = kernel.model.n_obs, kernel.model.n_fixed

    def step(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        theta, gamma = own(*arguments)
        theta = theta.copy()
        theta[-1] = theta[-1] * (n - d) / n - d
        return theta, gamma

    return step


def _m22(own: Steps, kernel: Any) -> Steps:
    """θ − f/f′ with the information, which is minus the expected Hessian, for f′."""
    return lambda *arguments: -own(*arguments)


SOLVERS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "M20": partial(stepping, "em", "ml", em_step=_m20),
    "M21": partial(stepping, "em-henderson", "reml", em_step=_m21),
    "M22": partial(stepping, "fisher", "reml", second_order_direction=_m22),
}
