"""PyMC twins of a model, their posteriors by NUTS and by exact quadrature, and checks of a fit against them.

Loading this room loads neither PyMC nor nutpie nor ArviZ: they come with the first twin.
"""

from vcbench.bayes.prior_choice import defaults
from vcbench.bayes.priors import LKJ, PC, Flat, HalfNormal, HalfT, Normal, Priors
from vcbench.bayes.twin import Twin, twin

__all__ = ["LKJ", "PC", "Flat", "HalfNormal", "HalfT", "Normal", "Priors", "Twin", "defaults", "twin"]
