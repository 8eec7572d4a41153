"""One error tree. Every message says what is wrong (with its name and value), what was expected, and what to do."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class VcbenchError(Exception):
    """Wrong use, found before any work. The command line turns it into exit code 2."""


class ModelError(VcbenchError):
    """The model cannot be built as said: shapes, components, covariance structures."""


class DataError(VcbenchError):
    """The data cannot be used: non-finite values, unknown columns, empty groups."""


class FormulaError(VcbenchError):
    """The formula cannot be read."""


class MethodError(VcbenchError):
    """Unknown method or option, or a method that does not exist under the criterion asked for."""


class SpecError(VcbenchError):
    """A study specification with problems; all of them are listed."""


class StoreError(VcbenchError):
    """A results folder that cannot be read or belongs to another study."""


class RunStopped(VcbenchError):  # noqa: N818 - an ending, not a mistake
    """A run that cannot go on: a full disk, workers that are gone. What it finished stays in its folder, and the same
    command continues. The command line turns it into exit code 130."""


class ClusterError(VcbenchError):
    """Workers that cannot be reached, or that are not fit for a run."""


class ProgramError(VcbenchError):
    """Another program that is needed is not here, or did not do its work."""


class CardError(VcbenchError):
    """A model card that is missing or malformed."""


def did_you_mean(word: str, choices: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """` Did you mean `x`?` for the nearest choice, or an empty string.

    `aliases` maps other programs' spellings to ours; they are looked up before spelling distance is.
    """
    choices, word = list(choices), str(word)
    folded = word.lower().replace("_", "-")
    if aliases and folded in aliases:
        return f" Did you mean `{aliases[folded]}`?"
    near = get_close_matches(word, choices, n=1, cutoff=0.6) or get_close_matches(folded, choices, n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""
