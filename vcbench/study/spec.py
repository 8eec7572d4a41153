"""A study's TOML: read, checked as a whole, and frozen. Every problem is said at once, at its line and column."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from vcbench.errors import did_you_mean
from vcbench.study.checks import About, Check, MutantRuns, Table, Target, Targets
from vcbench.study.complaints import ALIASES, NEEDED, Problem, explain_errors, raise_problems, shown
from vcbench.study.conditions import Condition, expand_entry, number_conditions
from vcbench.study.entries import Criterion, MethodEntry, Text, check_entries, check_mutant_of
from vcbench.study.locate import Path, Place, Span, locate
from vcbench.study.measures import MEASURES
from vcbench.study.seeds import digest

PLACEHOLDER = r"\{(\w+)\}"


def _named(said: str) -> str:
    name, equals, expression = said.partition("=")
    if not equals or not name.strip().isidentifier() or not expression.strip():
        raise ValueError(f"must be a name, `=` and an expression, such as `h2 = snp / total`, not `{said}`")
    return said


Derived = Annotated[str, AfterValidator(_named)]


class StudyTable(Table):
    """The keys of a study; `data` and `methods` are checked entry by entry.

    Words: `aims`, `mechanisms` (of what the data are drawn by; a `[[data]]` entry may say `about` itself) and
    `estimands`, a sentence by parameter or derived function. They are the report's, with what is worked out from the
    settings (`ademp`).

    `block_size` replicates are fitted together: it belongs to the study, because the last bits depend on it.
    `criterion` is that of the methods that have it, unless they say otherwise. `trace` keeps the path of replicate 0.
    `derive` names functions of the parameters, as `fit.derive` takes them, which get rows of their own ("h2 = snp /
    total"). `reference` is the method that paired measures compare with; `alarm` the chance of a false FAIL, shared by
    all checks.

    `rule = "fixed"` judges the replicates there are, once; "sequential" looks after every block, by confidence
    sequences, and the run goes on until every check has passed or failed, or `n_max` replicates. `[precision]` names
    Monte Carlo errors to reach (`coverage = 0.005`, or a table with `mcse`, `method`, `parameter`, `data`, `where`):
    `replicates` may then be left out, and the run goes on until they hold, or `n_max`. None of these determines a row.

    `answer` is the report's first paragraph, in which `{name}` stands for the measure that `figures` says
    under that name: one value with its Monte Carlo error, or the range over the conditions it speaks of.

    `mutant` makes the study deliberately wrong (`study.mutants`), in every method that it concerns, or in what is
    around them; in a `[[methods]]` entry, that method alone. `[mutants]` asks for runs of the study with
    each mutant and without any (`study.mutant_runs`).

    A `[[data]]` entry has `card` and `real = true`; or a `generator` (or a `card`) with its settings, of which every
    one given as a list of values, at any depth of its tables, is an axis of the grid. A `[[methods]]` entry has a
    `name` and that method's options, may ask for an `interval` or a `test`, and may fit another `model` than the
    data's own.
    """

    title: Text
    question: Text
    seed: Annotated[int, Field(ge=0)]
    replicates: Annotated[int, Field(ge=1)] | None = None
    data: Annotated[list[Any], Field(min_length=1)]
    methods: Annotated[list[Any], Field(min_length=1)]
    aims: list[Text] = Field(default_factory=list)
    mechanisms: list[Text] = Field(default_factory=list)
    estimands: dict[str, Text] = Field(default_factory=dict)
    block_size: Annotated[int, Field(ge=1)] = 250
    criterion: Criterion | None = None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    trace: bool = True
    derive: list[Derived] = Field(default_factory=list)
    measures: list[Literal[MEASURES]] = Field(default_factory=list)  # type: ignore[valid-type]
    reference: str | None = None
    alarm: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    acceptance: list[Check] = Field(default_factory=list)
    rule: Literal["fixed", "sequential"] = "fixed"
    n_max: Annotated[int, Field(ge=1)] = 2000
    precision: Targets = Field(default_factory=dict)
    answer: Text | None = None
    figures: dict[str, About] = Field(default_factory=dict)
    mutant: Text | None = None
    mutants: MutantRuns | None = None

    @property
    def open_ended(self) -> bool:
        """True where a run looks at what it has and may go on."""
        return bool(self.precision) or self.rule == "sequential"

    @property
    def first(self) -> int:
        """The replicates before a run first looks at what it has."""
        return self.replicates or min(self.block_size, self.n_max)


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
        planned = 1 if condition.real else (reps or self.table.first)
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
    methods, more = check_entries(raw.get("methods"), raw.get("criterion"))
    problems += more
    conditions, more = _check_data(raw.get("data"))
    problems += more
    problems += _check_names(table, raw, conditions, methods)
    problems += [] if table is None else check_mutant_of(table.mutant, ("mutant",), whole=True)
    problems += _check_traits(raw, conditions, methods)
    problems += _check_models(raw, conditions, methods)
    raise_problems(problems, filename, text, places)
    assert table is not None
    entries = tuple(replace(m, derive=() if m.kind == "traits" else tuple(table.derive)) for m in methods)
    return Spec(filename, text, table, tuple(conditions), entries, _hash(table, conditions, entries))


def reseeded(spec: Spec, seed: int) -> Spec:
    """The Spec with another seed, in its text too."""
    value = locate(spec.text)["seed",].value
    lines = spec.text.split("\n")
    line, at = lines[value.line - 1], value.column - 1
    lines[value.line - 1] = f"{line[:at]}{seed}{line[at + value.length :]}"
    return read_spec("\n".join(lines), spec.name)


def _syntax_place(message: str, text: str) -> Place:
    found = re.search(r"at line (\d+), column (\d+)", message)
    lines = text.split("\n")
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    span = Span(line, column, 1)
    return Place(span, span)


def _check_table(raw: Mapping[str, Any]) -> tuple[StudyTable | None, list[Problem]]:
    problems = []
    if "replicates" not in raw and not raw.get("precision") and raw.get("rule") != "sequential":
        problems.append(Problem(("replicates",), "`replicates` is missing", NEEDED["replicates"], absent=True))
    try:
        return StudyTable(**raw), problems
    except ValidationError as error:
        for one in error.errors():
            tables: dict[str, type[Table]] = {
                "acceptance": Check, "figures": About, "precision": Target, "mutants": MutantRuns,
            }  # fmt: skip
            inside = tables.get(str(one["loc"][0]), StudyTable) if len(one["loc"]) > 1 else StudyTable
            problems += explain_errors([one], (), inside.model_fields)
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


def _check_names(
    table: StudyTable | None, raw: Mapping[str, Any], conditions: Sequence[Condition], methods: Sequence[MethodEntry]
) -> list[Problem]:
    """Names of methods and data that other keys refer to."""
    labels = [method.label for method in methods]
    entries = list(dict.fromkeys(condition.entry for condition in conditions))
    refers: list[tuple[Path, Any, list[str], str]] = [(("reference",), raw.get("reference"), labels, "method")]
    for i, entry in enumerate(_method_entries(raw)):
        if isinstance(entry, dict):
            refers.append((("methods", i, "data"), entry.get("data"), entries, "data entry"))
    said: list[tuple[Path, About]] = []
    if table is not None:
        said += [(("acceptance", i), check) for i, check in enumerate(table.acceptance)]
        said += [(("figures", name), about) for name, about in table.figures.items()]
        said += [(("precision", name), about) for name, about in table.precision.items()]
    problems = [] if table is None else [*_check_answer(table), *_check_rule(table)]
    problems += [] if table is None else _check_estimands(table, conditions)
    for at, about in said:
        refers.append(((*at, "method"), about.method, labels, "method"))
        refers.append(((*at, "data"), about.data, entries, "data entry"))
        problems += _check_where(about, (*at, "where"), conditions)
    for path, names, known, what in refers:
        for j, name in enumerate(names if isinstance(names, list | tuple) else [names]):
            if isinstance(name, str) and name not in known:
                at = path if isinstance(names, str) else (*path, j)
                hint = did_you_mean(name, known, ALIASES if what == "method" else None)
                text = f"`{path[-1]}` names `{name}`, which is no {what} of this study.{hint}"
                problems.append(Problem(at, text, f"one of: {', '.join(known)}" if known else ""))
    return problems


def _method_entries(raw: Mapping[str, Any]) -> list[Any]:
    """The entries of `methods`, of whatever type; none where it is no list."""
    entries = raw.get("methods")
    return entries if isinstance(entries, list) else []


def _check_traits(
    raw: Mapping[str, Any], conditions: Sequence[Condition], methods: Sequence[MethodEntry]
) -> list[Problem]:
    """Methods of several traits on data of one, and the other way round."""
    problems = []
    labels = [e.get("label") or e.get("name") if isinstance(e, dict) else e for e in _method_entries(raw)]
    for method in methods:
        several = method.kind == "traits"
        wrong = [c.entry for c in conditions if method.runs_on(c) and c.several_traits != several]
        if wrong:
            needs = "several traits, such as the generator `snp_traits` draws" if several else "one response"
            text = f"`{method.label}` is a method for {needs}; `{wrong[0]}` is not"
            note = 'keep the method to its data, e.g.  data = "…", or give these data a method of their own'
            problems.append(Problem(("methods", labels.index(method.label)), text, note, at_key=True))
    return problems


def _check_models(
    raw: Mapping[str, Any], conditions: Sequence[Condition], methods: Sequence[MethodEntry]
) -> list[Problem]:
    """Models that cannot be fitted to the data they are said for."""
    problems = []
    labels = [e.get("label") or e.get("name") if isinstance(e, dict) else e for e in _method_entries(raw)]
    for method in methods:
        if method.model is None:
            continue
        entries = {c.entry: c for c in reversed(conditions) if method.runs_on(c)}
        for entry, condition in reversed(entries.items()):
            why = condition.cannot_fit(method.model)
            if why:
                text = f"`model` of `{method.label}` on the data `{entry}`: {why}"
                problems.append(Problem(("methods", labels.index(method.label), "model"), text))
                break
    return problems


def _check_estimands(table: StudyTable, conditions: Sequence[Condition]) -> list[Problem]:
    """Estimands that no data have, where all parameters are known without drawing."""
    known = [said.partition("=")[0].strip() for said in table.derive]
    for condition in conditions:
        names = condition.parameters
        if names is None:
            return []
        known += names
    problems = []
    for name in table.estimands:
        if name not in known:
            text = f"`estimands` names `{name}`, which no data of this study have.{did_you_mean(name, known)}"
            listed = f"one of: {', '.join(dict.fromkeys(known))}"
            problems.append(Problem(("estimands", name), text, listed, at_key=True))
    return problems


def _check_answer(table: StudyTable) -> list[Problem]:
    """Placeholders without a figure, and figures without a placeholder."""
    asked = re.findall(PLACEHOLDER, table.answer or "")
    problems = []
    for name in dict.fromkeys(asked):
        if name not in table.figures:
            text = f"`answer` names the figure `{name}`, which is not there.{did_you_mean(name, table.figures)}"
            problems.append(
                Problem(("answer",), text, f'say it in a table  [figures]  as  {name} = {{ measure = "…" }}')
            )
    for name in table.figures:
        if name not in asked:
            problems.append(Problem(("figures", name), f"the figure `{name}` is not in `answer`", at_key=True))
    return problems


def _check_rule(table: StudyTable) -> list[Problem]:
    """More replicates than the most, and shares of the alarm budget that exceed it."""
    problems = []
    if table.open_ended and (table.replicates or 0) > table.n_max:
        text = f"`n_max` is {table.n_max}, below the {table.replicates} `replicates` that are run in any case"
        problems.append(Problem(("n_max",), text, "n_max is the most that are run"))
    shares = [check.share for check in table.acceptance if check.share is not None]
    rest = len(shares) < len(table.acceptance)
    if shares and (sum(shares) > 1 + 1e-9 or (rest and sum(shares) > 1 - 1e-9)):
        text = f"the shares of the alarm budget sum to {sum(shares):g}"
        note = "leave something for the checks without a `share`" if rest else "they may sum to 1 at most"
        last = max(i for i, check in enumerate(table.acceptance) if check.share is not None)
        problems.append(Problem(("acceptance", last, "share"), text, note))
    return problems


def _check_where(check: About, path: Path, conditions: Sequence[Condition]) -> list[Problem]:
    """Factors and levels that no condition has."""
    problems = []
    for factor, values in check.where.items():
        known = list(dict.fromkeys(name for c in conditions for name in c.factors))
        if factor not in known:
            text = f"`where` names `{factor}`, which is no factor of this study.{did_you_mean(factor, known)}"
            problems.append(Problem((*path, factor), text, f"one of: {', '.join(known)}", at_key=True))
            continue
        levels = list(dict.fromkeys(c.factors[factor] for c in conditions if factor in c.factors))
        for value in values if isinstance(values, list) else [values]:
            if value not in levels:
                text = f"`where` asks for {factor} = {shown(value)}, which no condition has"
                problems.append(Problem((*path, factor), text, f"one of: {', '.join(map(str, levels))}"))
    return problems


def _hash(table: StudyTable, conditions: Sequence[Condition], methods: Sequence[MethodEntry]) -> str:
    """BLAKE2b of what determines the rows."""
    derived: dict[str, Any] = {"derive": table.derive} if table.derive else {}
    derived |= {"mutant": table.mutant} if table.mutant else {}
    return digest(derived | {
        "seed": table.seed,
        "block_size": table.block_size,
        "level": table.level,
        "conditions": [[condition.entry, condition.identity] for condition in conditions],
        "methods": [
            [method.label, method.name, method.criterion, dict(method.options), method.data]
            + ([method.asks] if method.asks else [])
            + ([{"mutant": method.mutant}] if method.mutant else [])
            for method in methods
        ],
    })  # fmt: skip
