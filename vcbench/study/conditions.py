"""The grid: the product of the listed settings within a `[[data]]` entry, the union across entries."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ValidationError

from vcbench.cards import load_card
from vcbench.errors import CardError, VcbenchError, did_you_mean
from vcbench.study.by_formula import ByFormula
from vcbench.study.complaints import Problem, explain_errors, unknown_key
from vcbench.study.generators import GENERATORS, FromCard, Generator, OneWay, RandomSlope
from vcbench.study.locate import Path
from vcbench.study.said import ModelTable, said_by_card
from vcbench.study.seeds import ConditionKey, canonical_json, condition_key

ENTRY_KEYS = ("name", "generator", "real", "card", "replicates", "about")  # of an entry, beside its settings


@dataclass(frozen=True, slots=True)
class Condition:
    """One cell of the grid: a generator with its settings, or a card's real data.

    `settings` are those the specification gives, which is what `key`, and with it every seed, depends on. `replicates`
    is the entry's cap on the study's number, `about` what it says of itself.
    """

    id: str
    entry: str
    generator: Generator | None
    card: str | None
    settings: Mapping[str, Any]
    factors: Mapping[str, Any]
    replicates: int | None = None
    about: str | None = None

    @property
    def parameters(self) -> list[str] | None:
        """The parameters of the data's own model, where they are known without drawing: of the generator `model`."""
        if not isinstance(self.generator, ByFormula):
            return None
        try:
            _, model = self.generator.sketch()
        except VcbenchError:
            return None
        return [*model.theta_names, *(model.X_names or ())]

    @property
    def real(self) -> bool:
        """True for a card's own data, which have no truth and one replicate."""
        return self.generator is None

    @property
    def loses_rows(self) -> bool:
        """True where rows of the data are lost after they are drawn."""
        return getattr(self.generator, "missing", None) is not None

    @property
    def several_traits(self) -> bool:
        """True for data of several traits."""
        return self.generator is not None and self.generator.several_traits

    def cannot_fit(self, model: ModelTable) -> str:
        """Why the data cannot be fitted by that model in the place of their own; "" where they can."""
        try:
            if isinstance(self.generator, ByFormula):
                said, drawn = self.generator.sketch()
            elif isinstance(self.generator, OneWay | RandomSlope):
                made = self.generator.build(np.random.default_rng(0))
                assert made.said is not None
                said, drawn = made.said, made.model
            else:
                card = self.card or getattr(self.generator, "card", None)
                found = None if card is None else said_by_card(load_card(card))
                if found is None:
                    return "their model is not said by a formula. Take data of a card or of the generator `model`"
                said, drawn = found, found.model()
            said.otherwise(model, drawn)
        except CardError:
            return ""  # a card whose data are absent is skipped when it runs
        except VcbenchError as error:
            return str(error)
        return ""

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
    axes: Mapping[str, Any]
    replicates: int | None = None
    about: str | None = None


def expand_entry(entry: Mapping[str, Any], path: Path) -> tuple[list[Cell], list[Problem]]:
    """The cells of one `[[data]]` entry, and everything that is wrong with it."""
    entry = dict(entry)
    name = entry.pop("name", None)
    problems = [] if name is None or (isinstance(name, str) and name) else [_text(path, "name", name)]
    about = entry.pop("about", None)
    problems += [] if about is None or (isinstance(about, str) and about) else [_text(path, "about", about)]
    real = entry.pop("real", False)
    if not isinstance(real, bool):
        problems.append(Problem((*path, "real"), "`real` must be true or false"))
    if real:
        cells, more = _real_cells(entry, path, name)
        return [replace(cell, about=about) for cell in cells], problems + more
    wanted = entry.pop("generator", None)
    if wanted is None and "card" in entry:
        wanted = "from_card"
    if wanted is None:
        note = f"generators: {', '.join(GENERATORS)}; a card's real data need  real = true"
        return [], [*problems, Problem(path, "the entry has neither a `generator` nor a `card`", note, at_key=True)]
    if not isinstance(wanted, str) or wanted not in GENERATORS:
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
    return [replace(cell, replicates=replicates, about=about) for cell in cells], problems + more


def _real_cells(entry: dict[str, Any], path: Path, name: str | None) -> tuple[list[Cell], list[Problem]]:
    cards = entry.pop("card", None)
    problems = [unknown_key((*path, key), ("name", "card", "real", "about")) for key in entry]
    listed = cards if isinstance(cards, list) else [cards]
    if cards is None or not listed:
        return [], [*problems, Problem(path, "`real = true` needs a `card`, whose data are then fitted", at_key=True)]
    cells = []
    for i, card in enumerate(listed):
        at = (*path, "card", i) if isinstance(cards, list) else (*path, "card")
        wrong = _card_problem(card, at)
        problems += wrong
        if not wrong:
            cells.append(Cell(name if name and len(listed) == 1 else card, card, None, {"card": card}, {}))
    return cells, problems


def _card_problem(card: Any, path: Path) -> list[Problem]:
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
    problems = [unknown_key((*path, key), (*fields, *ENTRY_KEYS)) for key in entry if key not in fields]
    axes: dict[Path, list[Any]] = {}
    for key, value in entry.items():
        if key in fields:
            axes |= _axes(value, fields[key].annotation, (key,))
    for where, values in axes.items():
        if not values:
            problems.append(Problem((*path, *where), f"`{where[-1]}` is an empty list: name at least one value"))
    if table is FromCard and isinstance(entry.get("card"), str):
        problems += _card_problem(entry["card"], (*path, "card"))
    if problems:
        axes = {where: values[:1] for where, values in axes.items()}
    names = _axis_names(list(axes))
    cells = []
    for chosen in product(*(list(enumerate(values)) for values in axes.values())):
        index = dict(zip(axes, (i for i, _ in chosen), strict=True))
        given = {key: value for key, value in entry.items() if key in fields}
        for where, (_, value) in zip(axes, chosen, strict=True):
            given = _put(given, where, value)
        try:
            made = table(**{key: given[key] for key in fields if key in given})
        except ValidationError as error:
            for one in error.errors():
                found = explain_errors([one], path, _known_at(table, one["loc"]))
                problems += [_at_item(problem, path, index) for problem in found]
            continue
        wrong = _check_model(made, path)
        problems += wrong
        if wrong:
            continue
        settings = {key: value for key, value in made.model_dump(exclude_unset=True).items() if key in given}
        levels = {
            names[where]: _level_at(settings, where, value) for where, (_, value) in zip(axes, chosen, strict=True)
        }
        cells.append(Cell(label, None, made, settings, levels))
    return cells, problems


def first_values(table: type[Generator], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry's settings with the first value in the place of each axis."""
    given = {key: value for key, value in entry.items() if key in table.model_fields}
    for key, value in entry.items():
        for where, values in _axes(value, table.model_fields[key].annotation, (key,)).items() if key in given else ():
            given = _put(given, where, values[0])
    return given


def _check_model(made: Generator, path: Path) -> list[Problem]:
    """What is only seen when the model is built: names in its truth, columns, structures that do not fit the rows."""
    if isinstance(made, FromCard) and (made.theta or made.beta):
        with suppress(VcbenchError):  # a card whose data are absent is skipped when it runs
            try:
                made.check_names()
            except ValueError as error:
                return [_placed(path, error, made)]
    if isinstance(made, ByFormula):
        try:
            made.check()
        except CardError:
            return []  # data that are absent: skipped when it runs
        except VcbenchError as error:
            return [_placed(path, error, made)]
    return []


def _placed(path: Path, error: Exception, made: Generator) -> Problem:
    """A problem of a model at the setting that its message begins with, or names in it; of the formula where it is no
    setting's."""
    found = re.match(r"`(\w+)`(?: names `([^`]+)`)?", str(error))
    given = made.model_dump(exclude_unset=True)
    key = found[1] if found and found[1] in type(made).model_fields else "formula"
    quoted = re.findall(r"`([^`]+)`", str(error))
    if key == "formula" and quoted and quoted[0] not in given.get(key, "") and quoted[0] in given.get("residual", ""):
        key = "residual"
    if key not in given:
        return Problem(path, f"`data[{path[-1]}]`: {error}", at_key=True)
    name = found[2] if found and isinstance(given[key], dict) and found[2] in given[key] else None
    return Problem((*path, key) if name is None else (*path, key, name), f"`data[{path[-1]}]`: {error}", at_key=True)


def _axes(value: Any, annotation: Any, where: Path) -> dict[Path, list[Any]]:
    """The places of a setting, and of the tables in it, at which a list stands for several values."""
    if not isinstance(value, dict):
        return {where: list(value)} if _depth(value) > _allowed_depth(annotation) else {}
    found: dict[Path, list[Any]] = {}
    for key, inside in value.items():
        found |= _axes(inside, _inside(annotation, key), (*where, key))
    return found


def _inside(annotation: Any, key: str) -> Any:
    """The annotation of a table's entry."""
    model = _model_in(annotation)
    if model is not None:
        return model.model_fields[key].annotation if key in model.model_fields else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return next((found for part in get_args(annotation) if (found := _inside(part, key)) is not None), None)


def _model_in(annotation: Any) -> Any:
    """The table that an annotation is of, where it is one; `Annotated` is looked through."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _axis_names(places: list[Path]) -> dict[Path, str]:
    """What the factor of each axis is called: its setting, or the keys below it, with the setting where two agree."""
    short = {where: ".".join(str(part) for part in where[1:] or where) for where in places}
    names = list(short.values())
    return {
        where: name if names.count(name) == 1 and name != "data" else ".".join(str(part) for part in where)
        for where, name in short.items()
    }


def _put(table: Mapping[str, Any], where: Path, value: Any) -> dict[str, Any]:
    """The table with the value at a place."""
    key, *rest = where
    return {**table, str(key): _put(table[str(key)], tuple(rest), value) if rest else value}


def _level_at(settings: Any, where: Path, given: Any) -> Any:
    """A value of an axis as the generator read it; as it is given where it is short for a table."""
    for key in where:
        settings = settings[key]
    return given if isinstance(settings, dict) else settings


def _known_at(table: type[Generator], where: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand where an error is."""
    annotation: Any = table
    for key in where[:-1]:
        annotation = _inside(annotation, str(key))
    return [*_model_in(annotation).model_fields] if _model_in(annotation) else []


def _at_item(problem: Problem, base: Path, index: Mapping[Path, int]) -> Problem:
    """The problem of one combination, moved to the items of the lists that made it."""
    rest = problem.path[len(base) :]
    for where, item in index.items():
        if rest[: len(where)] == where:
            name = f"{where[-1]}[{item}]"
            text = problem.text.replace(f"{where[-1]}`", f"{name}`", 1)
            return Problem((*base, *where, item, *rest[len(where) :]), text, problem.note)
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
        has = {**cell.settings, **cell.axes} if cell.generator else {}
        factors |= {name: _level(has[name]) for name in varying if name in has}
        condition = Condition(
            f"{i:0{width}d}", cell.entry, cell.generator, cell.card, cell.settings, factors, cell.replicates, cell.about
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
            found = [settings.get(name) for settings in alike]
            tables = any(isinstance(value, dict) for value in found)  # the entry's name stands for those, or an axis
            if not tables and len({canonical_json(value) for value in found}) > 1:
                names.setdefault(name)
    return list(names)


def _level(value: Any) -> Any:
    return canonical_json(value) if isinstance(value, list | dict) else value


def _name_of(generator: Generator) -> str:
    return next(name for name, table in GENERATORS.items() if table is type(generator))
