"""The page's navigation: sections gathered under the names a reader looks for, with places for live pictures."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcbench.report.page import Section


@dataclass(frozen=True, slots=True)
class Group:
    """An entry of the navigation. `live`: scripts draw into it, and fold its still sections away under `still`."""

    id: str
    short: str
    title: str
    sections: tuple["Section", ...]
    live: bool = False
    still: str = ""

    @property
    def lone(self) -> bool:
        """True where the group is one section, whose heading serves for both."""
        return len(self.sections) == 1 and self.sections[0].id == self.id


GROUPS: tuple[tuple[str, str, str, tuple[str, ...], bool, str], ...] = (
    ("scenarios", "Scenarios", "Every scenario", ("bias", "errors", "rejection", "conditions"), True,
     "Still pictures of bias, standard errors and tests, with their tables"),
    ("intervals", "Intervals", "Intervals", ("coverage",), True, "Still pictures of coverage, with their tables"),
    ("pairwise", "Methods pairwise", "Methods pairwise", ("agreement", "real"), True, ""),
    ("convergence", "Convergence", "", ("convergence",), True, "Still pictures, with their tables"),
    ("speed", "Speed", "", ("speed",), False, ""),
    ("failures", "Failures", "", ("failures",), True, ""),
    ("acceptance", "Acceptance", "", ("acceptance",), False, ""),
    ("dictionary", "Data dictionary", "", ("dictionary",), False, ""),
    ("ademp", "ADEMP", "", ("ademp",), False, ""),
    ("environment", "Environment", "", ("provenance",), False, ""),
)  # fmt: skip


def grouped(sections: Sequence["Section"], drawn: Collection[str] = ()) -> list[Group]:
    """The sections by group; a group none of whose sections has content is left out, unless scripts draw into it
    (`drawn`)."""
    by_id = {s.id: s for s in sections}
    out = []
    for id, short, title, members, live, still in GROUPS:
        here = tuple(by_id[m] for m in members if m in by_id)
        if here or id in drawn:
            out.append(Group(id, short, title or here[0].title, here, live, still if here else ""))
    return out
