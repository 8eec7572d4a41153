"""A new study as TOML, with comments that say what can be changed: what `vcbench study new` writes."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from vcbench.errors import SpecError, VcbenchError
from vcbench.study.by_formula import ByFormula
from vcbench.study.conditions import expand_entry, first_values
from vcbench.study.entries import check_entries
from vcbench.study.generators import GENERATORS

QUESTION = (
    "How far are the estimates from the truth, how often do the intervals hold it, and what does each method cost?"
)
SEED, REPLICATES = 20261122, 500


@dataclass(frozen=True, slots=True)
class Draft:
    """What a study says: `data` is its entry; `replicates`, or `precision`, the error of coverage to reach."""

    title: str
    question: str
    data: Mapping[str, Any]
    methods: Sequence[str]
    replicates: int | None = REPLICATES
    precision: float | None = None
    estimands: Mapping[str, str] = field(default_factory=dict)
    seed: int = SEED


def render(draft: Draft, schema: str | None = None) -> str:
    """The TOML. `schema`: the path that an editor finds the JSON Schema at."""
    import tomlkit

    doc = tomlkit.document()
    if schema is not None:
        doc.add(tomlkit.comment(f":schema {schema}"))
        doc.add(tomlkit.nl())
    doc.add("title", draft.title)  # type: ignore[arg-type]
    doc.add("question", draft.question)  # type: ignore[arg-type]
    doc.add(tomlkit.comment('aims = ["…"], mechanisms = ["…"]: sentences for the report\'s methods section'))
    doc.add(tomlkit.nl())
    doc.add(tomlkit.comment("Every draw follows from the seed: the same seed, the same rows."))
    doc.add("seed", draft.seed)  # type: ignore[arg-type]
    if draft.replicates is not None:
        error = 100 * (0.05 * 0.95 / draft.replicates) ** 0.5
        doc.add(
            tomlkit.comment(f"Data sets a condition. The Monte Carlo error of a coverage of 95 % is {error:.1f} %.")
        )
        doc.add("replicates", draft.replicates)  # type: ignore[arg-type]
    else:
        doc.add(tomlkit.comment("The run goes on until the Monte Carlo errors of [precision] are reached, or n_max."))
        doc.add("n_max", _most(draft.precision))  # type: ignore[arg-type]
    doc.add(tomlkit.comment('Of methods that have both: "reml" or "ml".'))
    doc.add("criterion", "reml")  # type: ignore[arg-type]
    doc.add("reference", draft.methods[0])  # type: ignore[arg-type]
    if draft.precision is not None:
        doc.add("precision", _inline({"coverage": draft.precision}))
    if draft.estimands:
        doc.add(tomlkit.nl())
        doc.add(tomlkit.comment("What the study judges, a sentence each."))
        table = tomlkit.table()
        for name, sentence in draft.estimands.items():
            table.add(name, sentence)
        doc.add("estimands", table)
    doc.add(tomlkit.nl())
    entry = tomlkit.table()
    entry.comment("a list of values is a factor of the grid: every combination is a condition")
    for key, value in draft.data.items():
        entry.add(key, _inline(value) if isinstance(value, Mapping) else value)
    entry.add(tomlkit.nl())
    entry.add(
        tomlkit.comment('Options of a method stand beside its name, as  max_iter = 500  or  interval = "profile".')
    )
    rows = tomlkit.aot()
    rows.append(entry)
    doc.add("data", rows)
    entries = tomlkit.aot()
    for name in draft.methods:
        one = tomlkit.table()
        one.add("name", name)
        entries.append(one)
    doc.add("methods", entries)
    return tomlkit.dumps(doc).rstrip("\n") + "\n"


def _inline(value: Mapping[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    for key, inside in value.items():
        table.append(key, _inline(inside) if isinstance(inside, Mapping) else inside)
    return table


def _most(mcse: float | None) -> int:
    """Twice the replicates that coverage of 95 % takes for such an error: p(1 − p)/MCSE²."""
    return 2 * int(np.ceil(0.05 * 0.95 / (mcse or 0.005) ** 2))


def file_name(title: str) -> str:
    """A file's name from a title: its words, lower case."""
    words = re.findall(r"[a-z0-9]+", title.lower())
    return ("_".join(words)[:48].rstrip("_") or "study") + ".toml"


def read_values(text: str) -> dict[str, Any]:
    """Settings from text, as `n_groups = 6, 30; icc = 0, 0.1` or TOML's `design = { g = 10 }`. SpecError where it is
    neither."""
    out: dict[str, Any] = {}
    for part in (p.strip() for p in text.split(";")):
        if not part:
            continue
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals or not key or not value:
            raise SpecError(f"`{part}` must be a setting and its values, such as  n_groups = 6, 30.")
        items = value if value[0] in "[{\"'" else f"[{value}]" if "," in value else value
        try:
            out[key.strip("\"'")] = tomllib.loads(f"x = {items}")["x"]
        except tomllib.TOMLDecodeError:
            raise SpecError(f"`{value}` of `{key}` is no value of TOML. Texts stand in quotes.") from None
    return out


def check_data(entry: Mapping[str, Any]) -> None:
    """SpecError with everything that is wrong with a `[[data]]` entry."""
    _, problems = expand_entry(entry, ("data", 0))
    if problems:
        raise SpecError("; ".join(problem.text + (f" {problem.note}" if problem.note else "") for problem in problems))


def usual_methods(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Methods to begin with: a likelihood and a moment method where both are defined."""
    if entry.get("generator") == "snp_traits":
        return "correlation-moments", "correlation-reml"
    return ("ai", "lbfgs") if entry.get("residual") else ("ai", "moments")


def check_methods(names: Sequence[str]) -> None:
    """SpecError with everything that is wrong with names of methods."""
    _, problems = check_entries(list(names), "reml")
    if problems or not names:
        raise SpecError("; ".join(problem.text for problem in problems) or "name at least one method")


def start_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Values to begin with for every θ that a `[[data]]` entry of the generator `model` does not give: 1 for variances
    and ranges, 0 for covariances, 0.3 for correlations."""
    shape = first_values(ByFormula, {key: value for key, value in entry.items() if key not in ("theta", "beta")})
    try:
        _, model = ByFormula(**shape).sketch()
    except ValidationError:
        check_data(entry)  # says it better
        raise
    given = entry.get("theta", {})
    names = zip(model.theta_names, model.working.is_variance, strict=True)
    return {name: _usual(name, is_variance) for name, is_variance in names if name not in given}


def _usual(name: str, is_variance: bool) -> float:
    if is_variance or "range" in name:
        return 1.0
    return 0.0 if ":cov(" in name else 0.3


def parameters_of(entry: Mapping[str, Any]) -> list[str]:
    """The parameters of an entry's first condition; none where its data are absent."""
    cells, _ = expand_entry(entry, ("data", 0))
    try:
        made = cells[0].generator if cells else None
        return [] if made is None else list(made.build(np.random.default_rng(0)).truth)
    except VcbenchError:
        return []


def sentence(name: str) -> str:
    """What an estimand is, from its name."""
    of, _, what = name.partition(":")
    if not what:
        return f"The fixed effect {name}." if name in ("(Intercept)",) or name.isidentifier() else f"{name}."
    kinds = (
        ("var", "variance"),
        ("cov", "covariance"),
        ("rho", "correlation"),
        ("range", "range"),
        ("nugget", "nugget"),
    )
    kind = next((word for start, word in kinds if what.startswith(start)), what)
    inside = re.search(r"\((.*)\)", what)
    of_what = f", {inside[1]}" if inside and inside[1] != "(Intercept)" else ""
    return f"The {kind} of {'the residuals' if of == 'residual' else of}{of_what}."


def generator_names() -> list[str]:
    """Generators that a new study may take."""
    return [name for name in GENERATORS if name not in ("from_card",)]
