"""Problems of a study's TOML, said all at once, in file order, each at its place."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vcbench.errors import SpecError, did_you_mean
from vcbench.study.locate import Path, Place, Span, nearest

ALIASES = {
    **dict.fromkeys(("ai-reml", "aireml", "reml", "average-information"), "ai"),
    **dict.fromkeys(("newton-raphson", "nr", "nr-reml"), "newton"),
    **dict.fromkeys(("fisher-scoring", "scoring", "fs"), "fisher"),
    **dict.fromkeys(("mom", "he", "haseman-elston", "method-of-moments"), "moments"),
    **dict.fromkeys(("mivque", "minque1", "i-minque"), "minque"),
    **dict.fromkeys(("aov", "henderson3"), "anova"),
    **dict.fromkeys(("bfgs", "l-bfgs", "l-bfgs-b", "quasi-newton"), "lbfgs"),
    **dict.fromkeys(("pxem", "px", "parameter-expanded-em"), "px-em"),
    **dict.fromkeys(("reml-em", "emreml"), "em-reml"),
    **dict.fromkeys(("mcmc", "hmc", "pymc", "bayes", "posterior", "stan"), "nuts"),
    **dict.fromkeys(("grid", "integration"), "quadrature"),
    **dict.fromkeys(("maxiter", "maxit", "max-it", "iterations", "n-iter"), "max_iter"),
    **dict.fromkeys(("tolerance", "eps", "epsilon"), "tol"),
    **dict.fromkeys(("reps", "n-reps", "nsim", "n-sim", "simulations", "repetitions"), "replicates"),
    **dict.fromkeys(("random-seed", "rng", "random-state"), "seed"),
    **dict.fromkeys(("method", "estimators", "solvers"), "methods"),
    **dict.fromkeys(("datasets", "dataset", "scenarios", "conditions", "grid"), "data"),
    **dict.fromkeys(("model", "models"), "card"),
    **dict.fromkeys(("initial", "init", "start-values"), "start"),
    **dict.fromkeys(("groups", "n-subjects", "subjects", "clusters"), "n_groups"),
    **dict.fromkeys(("n-per-group", "per-group", "cluster-size"), "group_size"),
    **dict.fromkeys(("residual", "sigma2-residual", "error-variance"), "sigma2_e"),
    **dict.fromkeys(("confidence", "conf-level", "alpha"), "level"),
    **dict.fromkeys(("objective", "likelihood"), "criterion"),
}
NEEDED = {
    "title": 'say what the study is about, e.g.  title = "Does EM find the maximum?"',
    "question": 'one question the study answers, e.g.  question = "Which method is least biased?"',
    "seed": "every study needs a whole-number seed, e.g.  seed = 20261121",
    "replicates": "how many data sets to draw a condition, e.g.  replicates = 500",
    "data": "add an entry  [[data]]  with a `card` (and `real = true`) or a `generator`",
    "methods": 'add an entry  [[methods]]  with a name, or  methods = ["ai", "em"]',
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at `path`: with its key (`at_key`), its value, or that it is `absent`. `note` says what to do."""

    path: Path
    text: str
    note: str = ""
    at_key: bool = False
    absent: bool = False

    def span(self, places: dict[Path, Place]) -> Span:
        place = nearest(places, self.path)
        return place.key if self.at_key or self.absent else place.value


class ProblemsError(SpecError):
    """A SpecError that keeps its problems: `problems` as (line, column, text)."""

    def __init__(self, message: str, problems: tuple[tuple[int, int, str], ...]) -> None:
        super().__init__(message)
        self.problems = problems


def raise_problems(found: Iterable[Problem], name: str, text: str, places: dict[Path, Place]) -> None:
    """Raise ProblemsError if there are any, each with file:line:column, its source line and what to do."""
    unique = {(p.path, p.text): p for p in found}.values()
    ordered = sorted(unique, key=lambda p: (p.span(places).line, p.span(places).column))
    if not ordered:
        return
    lines = text.replace("\r\n", "\n").split("\n")
    count = f"{len(ordered)} problem{'s' if len(ordered) > 1 else ''}"
    wide = max(len(f"{name}:{p.span(places).line}:{p.span(places).column}") for p in ordered)
    blocks = []
    for problem in ordered:
        span = problem.span(places)
        where = f"{name}:{span.line}:{span.column}".ljust(wide)
        block = [f"  {where}  {problem.text}"]
        if not problem.absent:
            number = f"{span.line:>4}"
            block.append(f"{number} │ {lines[span.line - 1]}")
            block.append(f"     │ {' ' * (span.column - 1)}{'^' * span.length}")
        if problem.note:
            block.append(f"  {' ' * wide}  {problem.note}")
        blocks.append("\n".join(block))
    message = f"{name} has {count}\n\n" + "\n".join(blocks) + "\n\nNothing was run."
    at = tuple((p.span(places).line, p.span(places).column, p.text) for p in ordered)
    raise ProblemsError(message, at)


def explain_errors(errors: Iterable[Any], path: Path, known: Iterable[str] = ()) -> list[Problem]:
    """Problems in our words from pydantic's errors, located below `path`; `known` are the keys allowed there."""
    return [_explain(error, path, list(known)) for error in errors]


def unknown_key(path: Path, known: Iterable[str], inside: str = "") -> Problem:
    """An unknown key, with the nearest known one."""
    known = list(known)
    hint = did_you_mean(str(path[-1]), known, ALIASES)
    if hint and hint.split("`")[1] not in known:
        hint = did_you_mean(str(path[-1]), known)
    text = f"unknown key `{path[-1]}`{f' in {inside}' if inside else ''}.{hint}"
    return Problem(path, text, "" if hint else f"one of: {', '.join(known)}", at_key=True)


def _explain(error: Any, base: Path, known: list[str]) -> Problem:
    path = (*base, *error["loc"])
    name = dotted(path) or "the study"
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return Problem(path, f"`{path[-1]}` is missing", NEEDED.get(str(path[-1]), ""), absent=True)
    if kind == "extra_forbidden":
        return unknown_key(path, known, dotted(path[:-1]))
    if kind == "value_error":
        said = error["msg"].removeprefix("Value error, ")
        return Problem(
            path, f"{name} {said}" if said.startswith("must") else f"{name}: {said}", at_key=not error["loc"]
        )
    wanted = {
        "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
        "string_type": "a text", "bool_type": "true or false", "list_type": "a list", "dict_type": "a table",
        "model_type": "a table", "finite_number": "a finite number",
    }.get(kind)  # fmt: skip
    if kind == "literal_error":
        words = [word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(",")]
        hint = did_you_mean(value, words, ALIASES) if isinstance(value, str) else ""
        if len(words) > 6:
            return Problem(
                path, f"{name} is unknown: {shown(value)}.{hint}", "" if hint else f"one of: {', '.join(words)}"
            )
        return Problem(path, f"{name} must be one of {', '.join(words)}, not {shown(value)}.{hint}")
    if kind in BOUNDS:
        phrase, key = BOUNDS[kind]
        return Problem(path, f"{name} must be {phrase} {context[key]:g}, not {shown(value)}")
    if kind in ("too_short", "too_long"):
        word, key = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        return Problem(path, f"{name} must have {word} {context[key]} items, not {context['actual_length']}")
    if kind == "string_too_short":
        return Problem(path, f"{name} must not be empty")
    if wanted is None:
        return Problem(path, f"{name}: {error['msg']}, not {shown(value)}")
    return Problem(path, f"{name} must be {wanted}, not {shown(value)}")


BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}


def dotted(path: Path) -> str:
    """A path as people write it: `data[0].n_groups[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"`{text}`" if text else ""


def shown(value: Any) -> str:
    """A value as a message names it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'the text "{value}"'
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else f"{value}"
