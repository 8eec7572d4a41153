"""vcbench: variance components and linear mixed models, said once, fitted by every method, compared honestly.

The names below are the public surface; each is loaded when first used, so that importing vcbench loads neither PyMC
nor a plot library (nor Numba).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Model": "vcbench.model.model:Model",
    "Component": "vcbench.model.component:Component",
    "covariance": "vcbench.model.covariance",
    "residual": "vcbench.model.residual",
    "Fit": "vcbench.fitted:Fit",
    "fit": "vcbench.fit",
    "fit_many": "vcbench.fit:fit_many",
    "compare": "vcbench.fit:compare",
    "lrt": "vcbench.inference.likelihood_ratio:lrt",
    "heritability": "vcbench.genetics.heritability:heritability",
    "genetic_correlation": "vcbench.genetics.correlation:genetic_correlation",
    "METHODS": "vcbench.methods:METHODS",
    "Status": "vcbench.status:Status",
    "VcbenchError": "vcbench.errors:VcbenchError",
    "errors": "vcbench.errors",
    "bayes": "vcbench.bayes",
    "genetics": "vcbench.genetics",
    "Study": "vcbench.study.study:Study",
    "measures": "vcbench.study.measures:measures",
    "measures_table": "vcbench.study.tables:measures_table",
    "replicates_for": "vcbench.study.replicates:replicates_for",
    "load_card": "vcbench.cards:load_card",
}

__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:
    from vcbench import bayes as bayes
    from vcbench import errors as errors
    from vcbench import fit as fit
    from vcbench import genetics as genetics
    from vcbench.cards import load_card as load_card
    from vcbench.fit import compare as compare
    from vcbench.fit import fit_many as fit_many
    from vcbench.fitted import Fit as Fit
    from vcbench.genetics.correlation import genetic_correlation as genetic_correlation
    from vcbench.genetics.heritability import heritability as heritability
    from vcbench.inference.likelihood_ratio import lrt as lrt
    from vcbench.methods import METHODS as METHODS
    from vcbench.model import covariance as covariance
    from vcbench.model import residual as residual
    from vcbench.model.component import Component as Component
    from vcbench.model.model import Model as Model
    from vcbench.status import Status as Status
    from vcbench.study.measures import measures as measures
    from vcbench.study.replicates import replicates_for as replicates_for
    from vcbench.study.study import Study as Study
    from vcbench.study.tables import measures_table as measures_table


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vcbench' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
