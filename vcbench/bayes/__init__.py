"""PyMC twins of a model, their posteriors by NUTS and by exact quadrature, and checks of a fit against them.

Loading this room loads neither PyMC nor nutpie nor ArviZ: they come with the first twin.
"""

from vcbench.bayes.check import check
from vcbench.bayes.posterior import Posterior
from vcbench.bayes.prior_choice import defaults
from vcbench.bayes.priors import LKJ, PC, Flat, HalfNormal, HalfT, Normal, Priors
from vcbench.bayes.quadrature import quadrature
from vcbench.bayes.sampling import diagnose, sample
from vcbench.bayes.twin import Twin, twin

__all__ = [
    "LKJ",
    "PC",
    "Flat",
    "HalfNormal",
    "HalfT",
    "Normal",
    "Posterior",
    "Priors",
    "Twin",
    "check",
    "defaults",
    "diagnose",
    "quadrature",
    "sample",
    "twin",
]
