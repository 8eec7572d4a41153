"""A study's TOML: read, checked as a whole, and frozen. Every problem is said at once, at its line and column."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vcbench.errors import VcbenchError, did_you_mean
from vcbench.study.complaints import ALIASES, Problem, explain_errors, raise_problems, shown, unknown_key
from vcbench.study.conditions import Condition, expand_entry, number_conditions
from vcbench.study.locate import Path, Place, Span, locate
from vcbench.study.measures import MEASURES
from vcbench.study.seeds import digest

Criterion = Literal["ml", "reml"]
Text = Annotated[str, Field(min_length=1)]
OWN_OPTIONS = ("seed", "trace")  # a study gives these itself
METHOD_KEYS = ("name", "label", "criterion", "replicates", "data")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Check(_Table):
    """One acceptance check: `measure` of `method` for `parameter` (all of them where not named) near `target`.

    FAIL where |value − target| > tolerance + z·MCSE, PASS where |value − target| + z·MCSE ≤ tolerance, else
    INCONCLUSIVE; z is that of `alarm` divided by the number of checks.
    """

    measure: Literal[MEASURES]  # type: ignore[valid-type]
    tolerance: Annotated[float, Field(ge=0)]
    target: float | None = None
    method: str | list[str] | None = None
    parameter: str | list[str] | None = None
    data: str | list[str] | None = None


class MethodTable(_Table):
    """A `[[methods]]` entry without its options."""

    name: Text
    label: Text | None = None
    criterion: Criterion | None = None
    replicates: Annotated[int, Field(ge=1)] | None = None
    data: list[Text] | Text | None = None


class StudyTable(_Table):
    """The keys of a study; `data` and `methods` are checked entry by entry.

    `block_size` replicates are fitted together: it belongs to the study, because the last bits depend on it.
    `criterion` is that of the methods that have it, unless they say otherwise. `trace` keeps the path of replicate 0.
    `reference` is the method that paired measures compare with; `alarm` the chance of a false FAIL, shared by all
    checks.

    A `[[data]]` entry has `card` and `real = true`; or a `generator` (or a `card`) with its settings, of which every
    one given as a list of values is an axis of the grid. A `[[methods]]` entry has a `name` and that method's
    options.
    """

    title: Text
    question: Text
    seed: Annotated[int, Field(ge=0)]
    replicates: Annotated[int, Field(ge=1)]
    data: Annotated[list[Any], Field(min_length=1)]
    methods: Annotated[list[Any], Field(min_length=1)]
    aims: list[Text] = []
    block_size: Annotated[int, Field(ge=1)] = 250
    criterion: Criterion | None = None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    trace: bool = True
    measures: list[Literal[MEASURES]] = []  # type: ignore[valid-type]
    reference: str | None = None
    alarm: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    acceptance: list[Check] = []


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method of the study, as it is run: `criterion` is resolved, None where the method has none."""

    label: str
    name: str
    criterion: str | None
    options: Mapping[str, Any]
    replicates: int | None
    data: tuple[str, ...] | None
    kind: str

    @property
    def long(self) -> bool:
        """True for a posterior or another program: seconds a fit, and each fit on its own."""
        return self.kind not in ("solver", "moments")

    def runs_on(self, condition: Condition) -> bool:
        """True unless the entry is kept to other data."""
        return self.data is None or condition.entry in self.data


@dataclass(frozen=True, slots=True)
class Spec:
    """A study as specified. `spec_hash` identifies what determines its rows, but for how many replicates there are."""

    name: str
    text: str
    table: StudyTable
    conditions: tuple[Condition, ...]
    methods: tuple[MethodEntry, ...]
    spec_hash: str

    def replicates(self, condition: Condition, method: MethodEntry, reps: int | None = None) -> int:
        """How many replicates of a condition a method is run on."""
        if not method.runs_on(condition):
            return 0
        planned = 1 if condition.real else (reps or self.table.replicates)
        return min(planned, *(cap for cap in (condition.replicates, method.replicates) if cap is not None), planned)


def read_spec(text: str, filename: str) -> Spec:
    """The Spec of a TOML text. Raises SpecError naming every problem with its line and column."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _syntax_place(str(error), text)
        what = re.sub(r" \(at .*\)$", "", str(error))
        raise_problems([Problem(("syntax",), f"not valid TOML: {what}")], filename, text, {("syntax",): place})
    places = locate(text)
    table, problems = _check_table(raw)
    methods, more = _check_methods(raw.get("methods"), raw.get("criterion"))
    problems += more
    conditions, more = _check_data(raw.get("data"))
    problems += more
    problems += _check_names(table, raw, conditions, methods)
    raise_problems(problems, filename, text, places)
    assert table is not None
    entries = tuple(methods)
    return Spec(filename, text, table, tuple(conditions), entries, _hash(table, conditions, entries))


def _syntax_place(message: str, text: str) -> Place:
    found = re.search(r"at line (\d+), column (\d+)", message)
    lines = text.split("\n")
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    span = Span(line, column, 1)
    return Place(span, span)


def _check_table(raw: Mapping[str, Any]) -> tuple[StudyTable | None, list[Problem]]:
    try:
        return StudyTable(**raw), []
    except ValidationError as error:
        problems = []
        for one in error.errors():
            inside = one["loc"][0] == "acceptance" and len(one["loc"]) > 1
            known = Check.model_fields if inside else StudyTable.model_fields
            problems += explain_errors([one], (), known)
        return None, problems


def _check_data(entries: Any) -> tuple[list[Condition], list[Problem]]:
    cells, problems = [], []
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        path: Path = ("data", i)
        if not isinstance(entry, dict):
            problems.append(Problem(path, f"`data[{i}]` must be a table, not {shown(entry)}"))
            continue
        made, wrong = expand_entry(entry, path)
        cells += [(path, cell) for cell in made]
        problems += wrong
    conditions, more = number_conditions(cells)
    return conditions, problems + more


def _check_methods(entries: Any, default: Any) -> tuple[list[MethodEntry], list[Problem]]:
    methods: list[MethodEntry] = []
    problems: list[Problem] = []
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        path: Path = ("methods", i)
        if isinstance(entry, str):
            entry, at_name = {"name": entry}, path
        elif isinstance(entry, dict):
            at_name = (*path, "name")
        else:
            problems.append(Problem(path, f"`methods[{i}]` must be a name or a table, not {shown(entry)}"))
            continue
        made, wrong = _check_method(entry, path, at_name, default)
        problems += wrong
        if made is not None:
            twin = [method for method in methods if method.label == made.label]
            if twin:
                note = f'give one of them a label, e.g.  label = "{made.label}, second"'
                problems.append(Problem(at_name, f"two methods are called `{made.label}`", note))
            methods.append(made)
    return methods, problems


def _check_method(
    entry: Mapping[str, Any], path: Path, at_name: Path, default: Any
) -> tuple[MethodEntry | None, list[Problem]]:
    """One `[[methods]]` entry: its keys, its name in the registry, its criterion and its options."""
    problems: list[Problem] = []
    table: MethodTable | None
    try:
        table = MethodTable(**{key: value for key, value in entry.items() if key in METHOD_KEYS})
    except ValidationError as error:
        table, problems = None, explain_errors(error.errors(), path, METHOD_KEYS)
    name, known = entry.get("name"), registered_methods()
    if name not in known:
        hint = did_you_mean(str(name), known, {k: v for k, v in ALIASES.items() if v in known})
        if isinstance(name, str) and name:
            problems.append(Problem(at_name, f"unknown method `{name}`.{hint}", f"one of: {', '.join(sorted(known))}"))
        return None, problems
    method = known[str(name)]
    options = {key: value for key, value in entry.items() if key not in METHOD_KEYS}
    known_options = [key for key in method.options if key not in OWN_OPTIONS]
    for key, value in options.items():
        if key not in known_options:
            problems.append(unknown_key((*path, key), (*METHOD_KEYS, *known_options), f"method `{name}`"))
        elif not _fits(value, method.options[key]):
            wanted = getattr(method.options[key], "__name__", str(method.options[key]))
            problems.append(Problem((*path, key), f"`{key}` of `{name}` must be {wanted}, not {shown(value)}"))
    if table is None:
        return None, problems
    if table.criterion is not None:
        try:
            check_method(table.name, table.criterion)
        except VcbenchError as error:
            problems.append(Problem((*path, "criterion"), str(error)))
    data = (table.data,) if isinstance(table.data, str) else None if table.data is None else tuple(table.data)
    criterion = table.criterion or _default_criterion(method.criteria, default)
    label = table.label or table.name
    return MethodEntry(label, table.name, criterion, options, table.replicates, data, method.kind), problems


def _default_criterion(criteria: Sequence[str], default: Any) -> str | None:
    """The study's criterion where the method has it; else REML where it has that; else the only one it has."""
    if default in criteria:
        return str(default)
    return "reml" if "reml" in criteria else (criteria[0] if criteria else None)


def _fits(value: Any, kind: Any) -> bool:
    """True where a TOML value can be an option of that type; types that are no class are left to the method."""
    if not isinstance(kind, type):
        return True
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _check_names(
    table: StudyTable | None, raw: Mapping[str, Any], conditions: Sequence[Condition], methods: Sequence[MethodEntry]
) -> list[Problem]:
    """Names of methods and data that other keys refer to."""
    labels = [method.label for method in methods]
    entries = list(dict.fromkeys(condition.entry for condition in conditions))
    refers: list[tuple[Path, Any, list[str], str]] = [(("reference",), raw.get("reference"), labels, "method")]
    for i, entry in enumerate(raw.get("methods", []) if isinstance(raw.get("methods"), list) else []):
        if isinstance(entry, dict):
            refers.append((("methods", i, "data"), entry.get("data"), entries, "data entry"))
    for i, check in enumerate(table.acceptance if table is not None else []):
        refers.append((("acceptance", i, "method"), check.method, labels, "method"))
        refers.append((("acceptance", i, "data"), check.data, entries, "data entry"))
    problems = []
    for path, names, known, what in refers:
        for j, name in enumerate([names] if isinstance(names, str) else names or []):
            if isinstance(name, str) and name not in known:
                at = path if isinstance(names, str) else (*path, j)
                hint = did_you_mean(name, known, ALIASES if what == "method" else None)
                text = f"`{path[-1]}` names `{name}`, which is no {what} of this study.{hint}"
                problems.append(Problem(at, text, f"one of: {', '.join(known)}" if known else ""))
    return problems


def _hash(table: StudyTable, conditions: Sequence[Condition], methods: Sequence[MethodEntry]) -> str:
    """BLAKE2b of what determines the rows."""
    return digest({
        "seed": table.seed,
        "block_size": table.block_size,
        "level": table.level,
        "conditions": [[condition.entry, condition.identity] for condition in conditions],
        "methods": [
            [method.label, method.name, method.criterion, dict(method.options), method.data] for method in methods
        ],
    })  # fmt: skip


def registered_methods() -> Mapping[str, Any]:
    """The method registry: name → entry with `criteria`, `kind` and `options` (name → type)."""
    from vcbench.methods import METHODS

    return METHODS


def check_method(name: str, criterion: str) -> None:
    """MethodError unless the method exists under the criterion."""
    from vcbench import methods

    methods.check_method(name, criterion)
