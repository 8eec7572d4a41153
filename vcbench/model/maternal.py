"""Direct and maternal genetic effects of one pedigree: y = … + a_i + m_dam(i) + e, (a, m) ~ N(0, Ω ⊗ A).

A record meets the direct effect of its own animal and the maternal effect of its animal's dam. An unknown dam has a
maternal effect too: she is a phantom, a founder of her own, and where the pedigree does not know the dam either, the
animal's parent there. A between the animals that are known stays what it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack

from vcbench.errors import ModelError
from vcbench.model.component import Component
from vcbench.model.covariance import un
from vcbench.model.fixed_frame import Column
from vcbench.model.pedigree import Pedigree
from vcbench.model.pedigree_checks import UNKNOWN
from vcbench.model.relationship import Known, Relationship

EFFECTS = ("direct", "maternal")


def maternal_component(term: Any, known: Known, dams: Column) -> Component:
    """The component of a formula's term `(1 | animal)` under `pedigree(P, maternal=…)`; dams: a label for each row.

    Ω (2, 2) by `known.within`, default unstructured: var(direct), cov(direct,maternal), var(maternal). Raises
    ModelError for a term with other effects than an intercept, DataError for an animal or dam the pedigree lacks.
    """
    assert known.pedigree is not None
    check_intercept(term)
    animals = known.pedigree.positions(term.levels, term.group)[term.codes]
    full, Z = incidences(known.pedigree, animals, labels_of(dams), dams.name)
    relation = Relationship.of_pedigree(full, term.group)
    cov = Known("pedigree", lambda _: relation, known.within or un())
    return Component(hstack(Z, format="csr"), name=term.group, cov=cov, columns=EFFECTS)


def check_intercept(term: Any) -> None:
    """ModelError for a term with other effects than an intercept."""
    if term.effects != ("(Intercept)",):
        raise ModelError(
            f"`{term.group}`: maternal effects go with (1 | {term.group}); this term has {', '.join(term.effects)}."
        )


def incidences(
    P: Pedigree, animals: np.ndarray, dams: Sequence[str], name: str
) -> tuple[Pedigree, tuple[csr_matrix, csr_matrix]]:
    """(the pedigree with phantom dams, (Z_direct, Z_maternal) (n, m)) of records of animals (n,), positions in P, and
    their dams' labels; `name` is the dams' column."""
    known = np.array([label not in UNKNOWN for label in dams], bool)
    full, moved, phantom = P.with_phantom_dams(animals[~known])
    dam = np.empty(len(dams), np.int64)
    dam[known] = moved[P.positions([label for label, has in zip(dams, known, strict=True) if has], name)]
    dam[~known] = phantom
    one, rows, shape = np.ones(len(dams)), np.arange(len(dams) + 1), (len(dams), len(full))
    return full, (csr_matrix((one, moved[animals], rows), shape=shape), csr_matrix((one, dam, rows), shape=shape))


def labels_of(column: Column) -> list[str]:
    """A column as text, "" where it is missing."""
    factor = column.as_factor()
    levels = np.array([*factor.levels, ""], object)
    return levels[factor.values].tolist()
