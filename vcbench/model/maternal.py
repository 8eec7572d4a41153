"""Direct and maternal genetic effects of one pedigree: y = … + a_i + m_dam(i) + e, (a, m) ~ N(0, Ω ⊗ A).

A record meets the direct effect of its own animal and the maternal effect of its animal's dam. An unknown dam has a
maternal effect too: she is a phantom, a founder of her own, and where the pedigree does not know the dam either, the
animal's parent there. A between the animals that are known stays what it is.
"""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack

from vcbench.errors import ModelError
from vcbench.model.component import Component
from vcbench.model.covariance import un
from vcbench.model.fixed_frame import Column
from vcbench.model.pedigree import UNKNOWN
from vcbench.model.relationship import Known, Relationship

EFFECTS = ("direct", "maternal")


def maternal_component(term: Any, known: Known, dams: Column) -> Component:
    """The component of a formula's term `(1 | animal)` under `pedigree(P, maternal=…)`; dams: a label for each row.

    Ω (2, 2) by `known.within`, default unstructured: var(direct), cov(direct,maternal), var(maternal). Raises
    ModelError for a term with other effects than an intercept, DataError for an animal or dam the pedigree lacks.
    """
    P = known.pedigree
    assert P is not None
    if term.effects != ("(Intercept)",):
        raise ModelError(
            f"`{term.group}`: maternal effects go with (1 | {term.group}); this term has {', '.join(term.effects)}."
        )
    animal = P.positions(term.levels, term.group)[term.codes]
    labels = labels_of(dams)
    named = np.array([label not in UNKNOWN for label in labels])
    dam = np.full(len(labels), -1)
    dam[named] = P.positions([label for label, has in zip(labels, named, strict=True) if has], dams.name)
    full, moved, phantom = P.with_phantom_dams(animal[~named])
    n, m = len(labels), len(full)
    dam = np.where(named, moved[dam], 0)
    dam[~named] = phantom
    one, rows = np.ones(n), np.arange(n + 1)
    Z = hstack([csr_matrix((one, at, rows), shape=(n, m)) for at in (moved[animal], dam)], format="csr")
    relation = Relationship.of_pedigree(full, term.group)
    return Component(
        Z, name=term.group, cov=Known("pedigree", lambda _: relation, known.within or un()), columns=EFFECTS
    )


def labels_of(column: Column) -> list[str]:
    """A column as text, "" where it is missing."""
    factor = column.as_factor()
    levels = np.array([*factor.levels, ""], object)
    return levels[factor.values].tolist()
