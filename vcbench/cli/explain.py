"""`vcbench explain`: a paragraph for each status and error code."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files

from vcbench.errors import VcbenchError, did_you_mean


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a code means and what to do about it."""

    code: str
    names: tuple[str, ...]
    title: str
    text: str
    todo: str


def explanations() -> dict[str, Explanation]:
    """All explanations by code."""
    raw = tomllib.loads((files("vcbench.cli") / "codes.toml").read_text(encoding="utf-8"))
    return {
        code: Explanation(code, tuple(item["names"]), item["title"], _flow(item["text"]), _flow(item["todo"]))
        for code, item in raw.items()
    }


def explanation(word: str) -> Explanation:
    """The explanation of a code (`VC-BOUNDARY`), a status (`AT_BOUNDARY`) or an error (`DataError`), in any case.

    Raises VcbenchError for an unknown word, naming the nearest.
    """
    known = explanations()
    spelled = {_fold(name): item for item in known.values() for name in (item.code, *item.names)}
    spelled |= {_fold(code.removeprefix("VC-")): item for code, item in known.items()}
    found = spelled.get(_fold(word))
    if found is None:
        near = did_you_mean(word.upper(), [*known, *(name for item in known.values() for name in item.names)])
        raise VcbenchError(f"unknown code `{word}`. Choose from {', '.join(known)}.{near}")
    return found


def code_of(name: str) -> str:
    """The code of a status or an exception by its name: `AT_BOUNDARY` is VC-BOUNDARY."""
    return explanation(name).code


def _flow(text: str) -> str:
    return " ".join(text.split())


def _fold(word: str) -> str:
    return word.strip().lower().replace("_", "-")
