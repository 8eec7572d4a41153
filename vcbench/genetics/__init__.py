"""Alleles and pedigrees: PLINK files, relationship matrices, heritability and genetic correlation from markers;
pedigree models of several traits, and of pedigree and markers in one step.

    P = vc.genetics.Pedigree.of(frame)                                       id, sire, dam in any order
    cov = {"animal": vc.covariance.pedigree(P)}
    vc.Model.from_formula("y ~ sex + (1 | animal)", data, cov=cov)                      animal model
    vc.Model.from_formula("y ~ sex + (1 | animal) + (1 | animal)", data, cov=cov)       and permanent environment
    vc.Model.from_formula("y ~ sex + (1 | animal) + (1 | dam)", data,                   direct and maternal effects, and
                          cov={"animal": vc.covariance.pedigree(P, maternal="dam")})    the dam's environment
    vc.genetics.multi_trait(["y ~ sex + (1 | animal)", "z ~ sex + (1 | animal)"], data, cov=cov)
    cov = {"animal": vc.genetics.single_step(P, G)}                                     H in the place of A

Nothing is imported here: each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_LAZY = {
    "GRM": "vcbench.genetics.relationship",
    "Genotypes": "vcbench.genetics.genotypes",
    "Pedigree": "vcbench.model.pedigree",
    "SingleStep": "vcbench.genetics.one_step",
    "multi_trait": "vcbench.genetics.several_traits",
    "principal_components": "vcbench.genetics.components",
    "relationship_matrix": "vcbench.genetics.relationship",
    "simulate_genotypes": "vcbench.genetics.simulate",
    "simulate_phenotypes": "vcbench.genetics.simulate_phenotypes",
    "single_step": "vcbench.genetics.one_step",
}

if TYPE_CHECKING:
    from vcbench.genetics.components import principal_components as principal_components
    from vcbench.genetics.genotypes import Genotypes as Genotypes
    from vcbench.genetics.one_step import SingleStep as SingleStep
    from vcbench.genetics.one_step import single_step as single_step
    from vcbench.genetics.relationship import GRM as GRM
    from vcbench.genetics.relationship import relationship_matrix as relationship_matrix
    from vcbench.genetics.several_traits import multi_trait as multi_trait
    from vcbench.genetics.simulate import simulate_genotypes as simulate_genotypes
    from vcbench.genetics.simulate_phenotypes import simulate_phenotypes as simulate_phenotypes
    from vcbench.model.pedigree import Pedigree as Pedigree


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vcbench.genetics' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
