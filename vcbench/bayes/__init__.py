"""PyMC twins of a model, their posteriors by NUTS and by exact quadrature, and checks of a fit against them.

Loading this room loads neither PyMC nor nutpie nor ArviZ: they come with the first twin.
"""

from vcbench.bayes.approximation import approximate
from vcbench.bayes.calibration import sbc
from vcbench.bayes.check import check
from vcbench.bayes.effects import random_effects
from vcbench.bayes.posterior import Posterior
from vcbench.bayes.prior_choice import defaults
from vcbench.bayes.prior_draws import prior_predictive
from vcbench.bayes.priors import LKJ, PC, Beta, Flat, HalfNormal, HalfT, InverseGamma, Normal, Priors
from vcbench.bayes.quadrature import quadrature
from vcbench.bayes.sampling import diagnose, sample
from vcbench.bayes.sensitivity import psense
from vcbench.bayes.split import Split
from vcbench.bayes.storage import load, save
from vcbench.bayes.twin import Twin, twin

__all__ = [
    "LKJ",
    "PC",
    "Beta",
    "Flat",
    "HalfNormal",
    "HalfT",
    "InverseGamma",
    "Normal",
    "Posterior",
    "Priors",
    "Split",
    "Twin",
    "approximate",
    "check",
    "defaults",
    "diagnose",
    "load",
    "prior_predictive",
    "psense",
    "quadrature",
    "random_effects",
    "sample",
    "save",
    "sbc",
    "twin",
]
