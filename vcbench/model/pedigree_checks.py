"""What cannot be in a pedigree: animals twice, their own ancestors, of two sexes; each error names the animal."""

from collections.abc import Sequence

import numpy as np

from vcbench.errors import DataError

UNKNOWN = {"", "0", "NA", "nan", "None", "<NA>"}


def rows_of(own: Sequence[str]) -> dict[str, int]:
    """The row of each animal. DataError for one without an id, or with two rows."""
    where: dict[str, int] = {}
    for row, label in enumerate(own):
        if label in UNKNOWN:
            raise DataError(f"pedigree: the animal in row {row} has no id.")
        if label in where:
            raise DataError(f"pedigree: animal `{label}` has two rows ({where[label]} and {row}). Keep one.")
        where[label] = row
    return where


def check_parents(
    own: Sequence[str], father: Sequence[str], mother: Sequence[str], where: dict[str, int], group: dict[str, int]
) -> None:
    """DataError for an animal that is its own parent, and for a group that is an animal or has no children."""
    for what, labels in (("sire", father), ("dam", mother)):
        for row, (child, parent) in enumerate(zip(own, labels, strict=True)):
            if child == parent:
                raise DataError(f"pedigree: animal `{child}` is its own {what} (row {row}). Correct or remove the row.")
    seen = {*father, *mother}
    for label in group:
        if label in UNKNOWN or label in where:
            what = "means an unknown parent" if label in UNKNOWN else f"is the animal of row {where[label]}"
            raise DataError(f"pedigree: group `{label}` {what}. Give the group a label of its own.")
        if label not in seen:
            raise DataError(f"pedigree: group `{label}` is nobody's parent. Leave it out of `groups`.")


def check_roles(parents: np.ndarray, ids: Sequence[str]) -> None:
    """DataError for an animal that is the sire of one and the dam of another."""
    sires, dams = (np.unique(p[p >= 0]) for p in parents.T)
    both = np.intersect1d(sires, dams)
    if len(both):
        j = int(both[0])
        children = [ids[int(np.flatnonzero(p == j)[0])] for p in parents.T]
        raise DataError(
            f"pedigree: animal `{ids[j]}` is the sire of `{children[0]}` and the dam of `{children[1]}` ({len(both)} "
            "such). Correct it, or pass hermaphrodite=True where one individual can be both."
        )


def check_sexes(parents: np.ndarray, ids: Sequence[str], sexes: Sequence[str], name: str) -> None:
    """DataError unless sires are of one sex and dams of the other, whichever value that is."""
    known = np.array([*sexes, *[""] * (len(ids) - len(sexes))], object)
    values = sorted({v for v in sexes if v not in UNKNOWN})
    if len(values) > 2:
        raise DataError(f"pedigree: `{name}` has the values {', '.join(values[:5])}; it must have two, or be missing.")
    values = [*values, "", ""][:2]
    own = [np.unique(column[column >= 0]) for column in parents.T]
    fits = [
        sum(int((known[at] == v).sum()) for at, v in zip(own, pair, strict=True)) for pair in (values, values[::-1])
    ]
    usual = values if fits[0] >= fits[1] else values[::-1]
    for at, role, value in zip(own, ("sire", "dam"), usual, strict=True):
        odd = [j for j in at if known[j] not in UNKNOWN and known[j] != value]
        if odd:
            raise DataError(
                f"pedigree: animal `{ids[odd[0]]}` has {name} `{known[odd[0]]}` but is a {role}"
                + (f"; {role}s are `{value}` ({len(odd)} such)" if value else "")
                + ". Correct its sex or its role."
            )


def generations(parents: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """An order with parents first, the given one where it is so already. DataError names a loop."""
    from vcbench.model.pedigree_core import parents_first

    if (parents < np.arange(len(parents))[:, None]).all():
        return np.arange(len(parents))
    order, n_sorted = parents_first(parents)
    if n_sorted == len(parents):
        return order
    left = np.ones(len(parents), bool)
    left[order[:n_sorted]] = False
    path = [int(np.flatnonzero(left)[0])]
    while True:  # among what is left every animal has a parent that is left too
        step = next(int(j) for j in parents[path[-1]] if j >= 0 and left[j])
        if step in path:
            loop = [*path[path.index(step) :], step]
            raise DataError(
                "pedigree: a loop of descent, no animal can be its own ancestor: "
                + " is a child of ".join(f"`{ids[j]}`" for j in loop)
                + "."
            )
        path.append(step)
