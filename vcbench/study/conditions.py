"""The grid: the product of the listed settings within a `[[data]]` entry, the union across entries."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from vcbench.errors import VcbenchError, did_you_mean
from vcbench.study.complaints import Problem, explain_errors, unknown_key
from vcbench.study.generators import GENERATORS, FromCard, Generator
from vcbench.study.locate import Path
from vcbench.study.seeds import ConditionKey, canonical_json, condition_key


@dataclass(frozen=True, slots=True)
class Condition:
    """One cell of the grid: a generator with its settings, or a card's real data.

    `settings` are those the specification gives, which is what `key`, and with it every seed, depends on. `replicates`
    is the entry's cap on the study's number.
    """

    id: str
    entry: str
    generator: Generator | None
    card: str | None
    settings: Mapping[str, Any]
    factors: Mapping[str, Any]
    replicates: int | None = None

    @property
    def real(self) -> bool:
        """True for a card's own data, which have no truth and one replicate."""
        return self.generator is None

    @property
    def several_traits(self) -> bool:
        """True for data of several traits."""
        return self.generator is not None and self.generator.several_traits

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the data of the condition, as JSON."""
        if self.generator is None:
            return {"card": self.card, "real": True}
        return {"generator": _name_of(self.generator), **self.settings}

    @property
    def key(self) -> ConditionKey:
        """Two uint32, the condition's part of every seed."""
        return condition_key(self.identity)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of an entry's settings, before conditions are numbered."""

    entry: str
    card: str | None
    generator: Generator | None
    settings: Mapping[str, Any]
    axes: tuple[str, ...]
    replicates: int | None = None


def expand_entry(entry: Mapping[str, Any], path: Path) -> tuple[list[Cell], list[Problem]]:
    """The cells of one `[[data]]` entry, and everything that is wrong with it."""
    entry = dict(entry)
    name = entry.pop("name", None)
    problems = [] if name is None or (isinstance(name, str) and name) else [_text(path, "name", name)]
    real = entry.pop("real", False)
    if not isinstance(real, bool):
        problems.append(Problem((*path, "real"), "`real` must be true or false"))
    if real:
        cells, more = _real_cells(entry, path, name)
        return cells, problems + more
    wanted = entry.pop("generator", None)
    if wanted is None and "card" in entry:
        wanted = "from_card"
    if wanted is None:
        note = f"generators: {', '.join(GENERATORS)}; a card's real data need  real = true"
        return [], [*problems, Problem(path, "the entry has neither a `generator` nor a `card`", note, at_key=True)]
    if wanted not in GENERATORS:
        hint = did_you_mean(str(wanted), GENERATORS)
        text = f"unknown generator `{wanted}`. Choose from {', '.join(GENERATORS)}.{hint}"
        return [], [*problems, Problem((*path, "generator"), text)]
    replicates = entry.pop("replicates", None)
    if replicates is not None and (not isinstance(replicates, int) or isinstance(replicates, bool) or replicates < 1):
        problems.append(
            Problem((*path, "replicates"), f"`replicates` must be a whole number of at least 1, not {replicates}")
        )
    label = name or (entry["card"] if wanted == "from_card" and isinstance(entry.get("card"), str) else wanted)
    cells, more = _generated_cells(GENERATORS[wanted], entry, path, str(label))
    return [replace(cell, replicates=replicates) for cell in cells], problems + more


def _real_cells(entry: dict[str, Any], path: Path, name: str | None) -> tuple[list[Cell], list[Problem]]:
    cards = entry.pop("card", None)
    problems = [unknown_key((*path, key), ("name", "card", "real")) for key in entry]
    listed = cards if isinstance(cards, list) else [cards]
    if cards is None or not listed:
        return [], [*problems, Problem(path, "`real = true` needs a `card`, whose data are then fitted", at_key=True)]
    cells = []
    for i, card in enumerate(listed):
        at = (*path, "card", i) if isinstance(cards, list) else (*path, "card")
        wrong = _card_problem(card, at)
        problems += wrong
        if not wrong:
            cells.append(Cell(name if name and len(listed) == 1 else card, card, None, {"card": card}, ()))
    return cells, problems


def _card_problem(card: Any, path: Path) -> list[Problem]:
    from vcbench.cards import load_card

    if not isinstance(card, str):
        return [_text(path[:-1], str(path[-1]), card)]
    try:
        load_card(card)
    except VcbenchError as error:
        return [Problem(path, str(error))]
    return []


def _text(path: Path, key: str, value: Any) -> Problem:
    return Problem((*path, key), f"`{key}` must be a text that is not empty, not {value!r}")


def _generated_cells(
    table: type[Generator], entry: Mapping[str, Any], path: Path, label: str
) -> tuple[list[Cell], list[Problem]]:
    """The product of the settings that are lists of values, each combination checked by the generator's own table."""
    fields = table.model_fields
    problems = [
        unknown_key((*path, key), (*fields, "name", "generator", "real", "card", "replicates"))
        for key in entry
        if key not in fields
    ]
    axes: dict[str, list[Any]] = {}
    for key, value in entry.items():
        if key in fields and _depth(value) > _allowed_depth(fields[key].annotation):
            axes[key] = list(value)
            if not value:
                problems.append(Problem((*path, key), f"`{key}` is an empty list: name at least one value"))
    if table is FromCard and isinstance(entry.get("card"), str):
        problems += _card_problem(entry["card"], (*path, "card"))
    if problems:
        axes = {key: values[:1] for key, values in axes.items()}
    fixed = {key: value for key, value in entry.items() if key in fields and key not in axes}
    cells = []
    for chosen in product(*(list(enumerate(values)) for values in axes.values())):
        index = dict(zip(axes, (i for i, _ in chosen), strict=True))
        given = {**fixed, **dict(zip(axes, (value for _, value in chosen), strict=True))}
        try:
            made = table(**{key: given[key] for key in fields if key in given})
        except ValidationError as error:
            problems += [_at_item(problem, path, index) for problem in explain_errors(error.errors(), path, fields)]
            continue
        if isinstance(made, FromCard) and (made.theta or made.beta):
            with suppress(VcbenchError):  # a card whose data are absent is skipped when it runs
                try:
                    made.check_names()
                except ValueError as error:
                    problems.append(Problem(path, f"`data[{path[-1]}]`: {error}", at_key=True))
                    continue
        settings = {key: value for key, value in made.model_dump().items() if key in given}
        cells.append(Cell(label, None, made, settings, tuple(axes)))
    return cells, problems


def _at_item(problem: Problem, base: Path, index: Mapping[str, int]) -> Problem:
    """The problem of one combination, moved to the items of the lists that made it."""
    rest = problem.path[len(base) :]
    if rest and rest[0] in index:
        item = index[str(rest[0])]
        name = f"{'.'.join(str(part) for part in rest[:1])}[{item}]"
        text = problem.text.replace(f"{rest[0]}`", f"{name}`", 1)
        return Problem((*base, rest[0], item, *rest[1:]), text, problem.note)
    return problem


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else int(isinstance(value, list))


def _allowed_depth(annotation: Any) -> int:
    """How many lists deep one value of a setting is: 0 for `int`, 1 for `list[float] | None`."""
    if get_origin(annotation) is list:
        return 1 + _allowed_depth(get_args(annotation)[0])
    return max((_allowed_depth(part) for part in get_args(annotation) if get_origin(annotation) is not None), default=0)


def number_conditions(cells: list[tuple[Path, Cell]]) -> tuple[list[Condition], list[Problem]]:
    """Conditions "000", "001", … in order, with their factors; a problem for data that come twice."""
    problems, conditions = [], []
    seen: dict[str, Path] = {}
    varying = _varying([cell for _, cell in cells])
    width = max(3, len(str(len(cells) - 1)))
    for i, (path, cell) in enumerate(cells):
        factors: dict[str, Any] = {"data": cell.entry}
        factors |= {name: _level(cell.settings[name]) for name in varying if name in cell.settings and cell.generator}
        condition = Condition(
            f"{i:0{width}d}", cell.entry, cell.generator, cell.card, cell.settings, factors, cell.replicates
        )
        text = canonical_json(condition.identity)
        if text in seen:
            problems.append(Problem(path, f"the condition {text} comes twice: in {seen[text]} and here", at_key=True))
        seen[text] = path
        conditions.append(condition)
    return conditions, problems


def _varying(cells: list[Cell]) -> list[str]:
    """The settings that are factors: listed as axes, or different between entries of one generator."""
    names: dict[str, None] = {}
    for cell in cells:
        names |= dict.fromkeys(cell.axes)
    for kind in dict.fromkeys(type(cell.generator) for cell in cells if cell.generator is not None):
        alike = [cell.settings for cell in cells if type(cell.generator) is kind]
        for name in kind.model_fields:
            if len({canonical_json(settings.get(name)) for settings in alike}) > 1:
                names.setdefault(name)
    return list(names)


def _level(value: Any) -> Any:
    return canonical_json(value) if isinstance(value, list | dict) else value


def _name_of(generator: Generator) -> str:
    return next(name for name, table in GENERATORS.items() if table is type(generator))
