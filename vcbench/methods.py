"""The method registry: every estimator by name, whatever room it lives in.

Solvers and moments are called directly; the Bayesian methods are doors that load PyMC when opened. Third parties add
methods through the entry-point group `vcbench.methods` (each entry loads to a `Method`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from vcbench.errors import MethodError, did_you_mean

ALIASES = {  # other programs' spellings
    "aireml": "ai",
    "ai-reml": "ai",
    "average-information": "ai",
    "reml": "auto",
    "ml": "auto",
    "pxem": "px-em",
    "mom": "moments",
    "he": "moments",
    "haseman-elston": "moments",
    "minque0": "moments",
    "mivque0": "moments",
    "minque(0)": "moments",
    "minque1": "minque",
    "mivque": "minque",
    "i-minque": "minque",
    "aov": "anova",
    "henderson3": "anova",
    "sums-of-squares": "anova",
    "newton-raphson": "newton",
    "nr": "newton",
    "fisher-scoring": "fisher",
    "scoring": "fisher",
    "l-bfgs": "lbfgs",
    "bfgs": "lbfgs",
    "mcmc": "nuts",
    "hmc": "nuts",
    "bayes": "nuts",
    "vb": "advi",
    "vi": "advi",
    "variational": "advi",
    "map": "laplace",
    "grid": "quadrature",
    "emreml": "em-reml",
    "em2": "em-simplified",
    "henderson": "em-henderson",
    "rhe": "moments-randomised",
    "rhe-mc": "moments-randomised",
    "genie": "moments-randomised",
    "bolt": "ai-stochastic",
    "bolt-reml": "ai-stochastic",
    "lasso": "scaled-lasso",
}

STREAMED = {"annotations": object, "workers": int}  # where genotypes are streamed

SOLVER_OPTIONS = {
    "max_iter": int, "tol": float, "start": object, "kernel": str, "trace": bool, "seed": int, "n_starts": int,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Method:
    """An estimator: kind "solver" | "moments" | "stochastic" | "lasso" | "bayes" | "peer", the criteria it exists under
    (the default first), its options.

    load: for methods outside the solvers, "module:function" of `f(model, criterion, Y, options, seed) -> list[dict]`.
    """

    name: str
    kind: str
    criteria: tuple[str, ...]
    monotone: bool = False
    options: Mapping[str, type] = field(default_factory=lambda: dict(SOLVER_OPTIONS))
    description: str = ""
    load: str | None = None

    def door(self) -> Callable[..., list[dict[str, Any]]]:
        """The function behind `load`."""
        assert self.load is not None
        module, _, name = self.load.partition(":")
        return getattr(import_module(module), name)


PEERS = tuple(  # other programs; one that is not there says so when asked
    Method(name, "peer", criteria, False, {**options, "seed": int}, description, f"vcbench.peers.{load}")
    for name, criteria, options, description, load in (
        ("lme4", ("reml", "ml"), {"optimizer": str, "timeout": float}, "R's lme4: lmer", "lme4:fit_lme4"),
        ("nlme", ("reml", "ml"), {"optimizer": str, "timeout": float}, "R's nlme: lme and gls", "nlme:fit_nlme"),
        ("statsmodels", ("reml", "ml"), {"optimizer": object}, "statsmodels' MixedLM", "statsmodels:fit_statsmodels"),
        ("gemma", ("reml",), {"timeout": float}, "GEMMA's null model, one relationship matrix", "gemma:fit_gemma"),
        ("glmm", ("reml", "ml"), {}, "glmm, in Rust", "rust:fit_glmm"),
        ("mixedlm", ("reml", "ml"), {}, "mixedlm's lmer, in Rust", "rust:fit_mixedlm"),
    )
)


class Registry(Mapping[str, Method]):
    """Methods by name; filled when first looked at, so that importing vcbench loads no solver."""

    def __init__(self) -> None:
        self._known: dict[str, Method] = {}

    def _load(self) -> dict[str, Method]:
        if not self._known:
            from vcbench.solvers.registry import ACCELERATIONS, SOLVERS

            for s in SOLVERS.values():
                criteria = tuple(c for c in ("reml", "ml") if c in s.code)
                options = SOLVER_OPTIONS | ({"base": str} if s.name in ACCELERATIONS else {})
                self._known[s.name] = Method(s.name, "solver", criteria, s.monotone, options, s.description)
            self._known["moments"] = Method(
                "moments",
                "moments",
                ("none",),
                options={"kernel": str, "seed": int},
                description="method of moments (HE regression), raw estimates with sandwich SEs",
            )
            self._known["minque"] = Method(
                "minque",
                "moments",
                ("reml",),
                options={"prior": object, "max_iter": int, "tol": float, "kernel": str, "seed": int},
                description="MINQUE at `prior=` 0 (moments), 1, values by name, or iterated to a fixed point; raw",
            )
            self._known["anova"] = Method(
                "anova",
                "moments",
                ("none",),
                options={"type": int, "kernel": str, "seed": int},
                description="ANOVA estimators from sums of squares of `type=` 1, 2 or 3, raw, with their table",
            )
            self._known["moments-randomised"] = Method(
                "moments-randomised",
                "stochastic",
                ("none",),
                options={"vectors": int, "seed": int, **STREAMED, "blocks": int, "dask": bool, "size": int},
                load="vcbench.genetics.stochastic_methods:fit_moments_randomised",
                description="method of moments with traces by `vectors=` random probes, streamed from SNPs; raw",
            )
            self._known["ai-stochastic"] = Method(
                "ai-stochastic",
                "stochastic",
                ("reml",),
                options={"vectors": int, "seed": int, **STREAMED, "tol": float, "cg_tol": float, "max_iter": int},
                load="vcbench.genetics.stochastic_methods:fit_ai_stochastic",
                description="AI-REML with traces by random probes and conjugate gradients, no matrix is factorised",
            )
            self._known["scaled-lasso"] = Method(
                "scaled-lasso",
                "lasso",
                ("none",),
                options={"lambda0": float, "tol": float, "max_iter": int, "memory": float, "seed": int},
                load="vcbench.genetics.scaled_lasso:fit_scaled_lasso",
                description="noise level by the scaled lasso (Sun & Zhang 2012), for signals that are few",
            )
            sampler = {
                "draws": int,
                "tune": int,
                "chains": int,
                "estimate": str,
                "seed": int,
                "priors": object,
                "target_accept": float,
                "cores": int,
            }
            self._known["nuts"] = Method(
                "nuts",
                "bayes",
                ("reml", "ml"),
                options=sampler,
                load="vcbench.bayes.methods:fit_nuts",
                description="posterior by NUTS on the PyMC twin",
            )
            self._known["quadrature"] = Method(
                "quadrature",
                "bayes",
                ("reml", "ml"),
                options={"estimate": str, "seed": int, "priors": object},
                load="vcbench.bayes.methods:fit_quadrature",
                description="exact posterior, up to three variance parameters",
            )
            approximate = {"draws": int, "estimate": str, "seed": int, "priors": object}
            for name, own, words in (
                ("laplace", {}, "posterior by a Gaussian at its mode, log and logit scale"),
                ("pathfinder", {"paths": int}, "posterior by the best Gaussians on the way to its mode, reweighted"),
                ("advi", {"max_draws": int}, "posterior by the nearest Gaussian with independent coordinates"),
            ):
                self._known[name] = Method(
                    name, "bayes", ("reml", "ml"), options={**approximate, **own},
                    load=f"vcbench.bayes.methods:fit_{name}", description=words,
                )  # fmt: skip
            self._known |= {peer.name: peer for peer in PEERS}
            self._known |= _third_party(self._known)
        return self._known

    def __getitem__(self, name: str) -> Method:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def _third_party(ours: Mapping[str, Method]) -> dict[str, Method]:
    """The methods of other packages. One that does not load, is no Method or takes a name of ours is left out with a
    warning that names it: a broken package does not take the others away."""
    found: dict[str, Method] = {}
    for entry in entry_points(group="vcbench.methods"):
        try:
            method, why = entry.load(), ""
        except Exception as error:
            method, why = None, f"does not load: {type(error).__name__}: {error}"
        if not why and not isinstance(method, Method):
            why = f"is a {type(method).__name__}, not a vcbench.methods.Method"
        elif not why and method.name in {**ours, **found}:
            taken = "vcbench's own" if method.name in ours else "another package"
            why = f"has the name of a method of {taken}, `{method.name}`"
        if why:
            package = entry.dist.name if entry.dist is not None else "a package"
            warnings.warn(f"{package}: its method `{entry.name} = {entry.value}` {why}. It is left out.", stacklevel=4)
        else:
            found[method.name] = method
    return found


METHODS = Registry()


def check_method(name: str, criterion: str | None = None) -> Method:
    """The method of that name. MethodError if there is none, or not under the criterion."""
    if name not in METHODS:
        raise MethodError(
            f"unknown method `{name}`. Choose from {', '.join(METHODS)}.{did_you_mean(name, METHODS, ALIASES)}"
        )
    method = METHODS[name]
    if criterion is not None and criterion not in method.criteria:
        if criterion not in ("ml", "reml", "none"):
            raise MethodError(
                f'unknown criterion `{criterion}`. Choose "ml" or "reml".{did_you_mean(criterion, ("ml", "reml"))}'
            )
        has = " and ".join(method.criteria)
        why = "is no likelihood method and takes no criterion" if has == "none" else f"exists under {has} only"
        raise MethodError(f"method `{name}` {why}; `{criterion}` was asked for.")
    return method


def check_options(method: Method, options: Mapping[str, Any]) -> None:
    """MethodError for an option that the method does not have, or a value that makes no sense."""
    for key, value in options.items():
        if key not in method.options:
            raise MethodError(
                f"method `{method.name}` has no option `{key}`. It has "
                f"{', '.join(method.options)}.{did_you_mean(key, method.options)}"
            )
        if key in ("max_iter", "draws", "tune", "chains", "n_starts") and value is not None and not _is_count(value):
            raise MethodError(f"`{key}` is {value!r}; it must be a whole number, 0 or more.")
        if key == "tol" and not (isinstance(value, int | float) and value > 0):
            raise MethodError(f"`tol` is {value!r}; it must be a positive number of standard errors.")


def _is_count(value: Any) -> bool:
    """A whole number, 0 or more, of whatever type."""
    try:
        return int(value) == value and value >= 0
    except (TypeError, ValueError, OverflowError):
        return False
