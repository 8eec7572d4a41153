"""Model cards: a data set, the model said of it, and the answers published for it, in one TOML file.

A card is `models/<noun>.toml`; its hand-written PyMC model stands beside it as `models/<noun>.py`. Cards are found in
the folder `models` of the working directory, then of the checkout, then in the package's own copy, so that a card can
be named without a checkout. `[variant.<word>]` tables change single entries of a card and are named `noun:word`; one
that names another source of data says its `[data]` whole.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from vcbench.errors import CardError, did_you_mean
from vcbench.model.model import Model
from vcbench.model.relationship import Known, pedigree
from vcbench.published import Published, Table

SOURCES = ("file", "shared", "generator")
PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent


class DataSource(Table):
    """Where a card's data come from: `file` (beside the card), `shared` (not shipped) or `generator` (simulated).

    `columns` adds columns by expressions in the others (`week2 = "week ** 2"`) and `rows` keeps those where an
    expression holds (`"gender == 'Male'"`), both as pandas evaluates them. `settings` and `seed` belong to a generator.
    """

    file: str | None = None
    shared: str | None = None
    generator: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    columns: dict[str, str] = Field(default_factory=dict)
    rows: str | None = None
    citation: str

    @model_validator(mode="after")
    def _one_source(self) -> "DataSource":
        _check_one(self, SOURCES)
        return self


class PedigreeSource(Table):
    """The pedigree of a grouping factor's levels: `file` or `shared`, and its columns of animals, sires and dams."""

    file: str | None = None
    shared: str | None = None
    id: str = "id"
    sire: str = "sire"
    dam: str = "dam"

    @model_validator(mode="after")
    def _one_source(self) -> "PedigreeSource":
        _check_one(self, SOURCES[:2])
        return self


def _check_one(source: Table, keys: Sequence[str]) -> None:
    named = [key for key in keys if getattr(source, key) is not None]
    if len(named) != 1:
        listed = f"{', '.join(f'`{key}`' for key in keys[:-1])} and `{keys[-1]}`"
        raise ValueError(f"exactly one of {listed} is needed, not {len(named)}")


class Card(Table):
    """A model card, whole and frozen. `model()` builds its Model, `data()` reads its data frame."""

    name: str
    path: Path
    variants: tuple[str, ...] = ()
    title: str
    description: str
    data_source: DataSource = Field(alias="data")
    formula: str | list[str] | None = None  # a list: one a trait
    criterion: Literal["ml", "reml"] | None = None
    residual: str | None = None
    cov: dict[str, str] = Field(default_factory=dict)
    pedigree: dict[str, PedigreeSource] = Field(default_factory=dict)  # by grouping factor: its levels are animals
    priors: dict[str, Any] | str | None = None  # as `vcbench.bayes` takes them: a family, or one a parameter
    published: list[Published] = Field(default_factory=list)

    @model_validator(mode="after")
    def _formula_or_generator(self) -> "Card":
        if (self.formula is None) == (self.data_source.generator is None):
            raise ValueError("a card has either a `formula` or a `data.generator`, which brings its own design")
        if twice := set(self.cov) & set(self.pedigree):
            raise ValueError(f"`{min(twice)}` has both a `cov` and a `pedigree`; a pedigree is its covariance")
        return self

    @property
    def simulated(self) -> bool:
        """True where a generator draws the data."""
        return self.data_source.generator is not None

    @property
    def truth(self) -> dict[str, float]:
        """The parameters the data were drawn with, by name; empty for real data."""
        return self._generated()[1] if self.simulated else {}

    def data(self) -> pd.DataFrame:
        """The card's data frame, its added columns made and its rows chosen.

        Raises CardError where the card is simulated (it has a `model()`, no frame) or its shared file is absent.
        """
        source = self.data_source
        if self.simulated:
            raise CardError(
                f"card `{self.name}` is simulated by the generator `{source.generator}` and has no data frame."
                " Use its model()."
            )
        frame = pd.read_csv(self.data_path())
        return prepare(frame, source.columns, source.rows, f"{self.path.name}: an expression in [data]")

    def data_path(self) -> Path:
        """The file the data are read from. Raises CardError if it is absent, saying how to provide it."""
        source = self.data_source
        return self._path(source.file, source.shared, source.citation)

    def model(self) -> Model:
        """The card's Model. Raises CardError, DataError, FormulaError or ModelError."""
        if self.simulated:
            return self._generated()[0]
        assert self.formula is not None
        said: dict[str, Any] = {"cov": {**self.cov, **self.relationships()}, "name": self.name}
        if self.residual is not None:
            said["residual"] = self.residual
        if isinstance(self.formula, str):
            return Model.from_formula(self.formula, self.data(), **said)
        from vcbench.genetics import multi_trait  # the lazy door of a card of several traits

        return multi_trait(self.formula, self.data(), **said)

    def relationships(self) -> dict[str, Known]:
        """The covariance of each grouping factor that has a pedigree. Raises CardError where its file is absent."""
        out = {}
        for group, source in self.pedigree.items():
            frame = pd.read_csv(self._path(source.file, source.shared, self.data_source.citation), dtype=str)
            out[group] = pedigree(frame, id=source.id, sire=source.sire, dam=source.dam)
        return out

    def _path(self, file: str | None, shared: str | None, citation: str) -> Path:
        if file is not None:
            path = self.path.parent / "data" / file
            if path.is_file():
                return path
            raise CardError(f"card `{self.name}` reads `data/{file}` beside {self.path.name}, which is absent.")
        assert shared is not None
        folders = list(_shared_folders())
        for folder in folders:
            if (folder / shared).is_file():
                return folder / shared
        raise CardError(
            f"card `{self.name}` reads the shared file `{shared}`, which vcbench does not ship"
            f" ({citation}). Put it in a folder and name that folder in the environment variable VCBENCH_DATA."
            f" Looked in {' and '.join(str(folder) for folder in folders) or 'no folder'}."
        )

    def _generated(self) -> tuple[Model, dict[str, float]]:
        from vcbench.study import generators  # the lazy door of a simulated card

        source = self.data_source
        assert source.generator is not None
        return generators.draw_card(source.generator, source.settings, source.seed)


def prepare(frame: pd.DataFrame, columns: Mapping[str, str], rows: str | None, where: str) -> pd.DataFrame:
    """The frame with `columns` added by expressions and those `rows` kept where one holds. Raises CardError, with
    `where` naming what cannot be evaluated."""
    try:
        for column, expression in columns.items():
            frame[column] = frame.eval(expression, engine="python")
        if rows is not None:
            frame = frame.query(rows, engine="python").reset_index(drop=True)
    except (NameError, SyntaxError, ValueError, TypeError, KeyError) as error:
        raise CardError(
            f"{where} cannot be evaluated: {error}. The data have the columns {', '.join(map(str, frame.columns))}."
        ) from error
    return frame


def load_card(name: str | os.PathLike[str]) -> Card:
    """The card of that name (`rat_weight`, `rat_weight:sex`) or path (`models/rat_weight.toml`, with `:sex` too).

    Raises CardError for an unknown name or variant, naming the nearest, and for a malformed card, naming each key.
    """
    stem, _, variant = str(name).partition(":")
    path = Path(stem)
    if path.suffix != ".toml":
        cards = find_cards()
        if stem not in cards:
            raise CardError(f"unknown card `{stem}`. Choose from {', '.join(cards)}.{did_you_mean(stem, cards)}")
        path = cards[stem]
    elif not path.is_file():
        raise CardError(f"there is no card file {path}. Name a card ({', '.join(find_cards())}) or an existing file.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CardError(f"{path} is not valid TOML: {error}.") from error
    variants = raw.pop("variant", {})
    if variant:
        if variant not in variants:
            known = ", ".join(f"`{path.stem}:{word}`" for word in variants) or "none"
            raise CardError(
                f"card `{path.stem}` has no variant `{variant}`. It has {known}.{did_you_mean(variant, variants)}"
            )
        raw.pop("published", None)
        if any(
            key in variants[variant].get("data", {}) for key in SOURCES
        ):  # columns and rows were those of other data
            raw.pop("data", None)
        raw = _merge(raw, variants[variant])
    full = path.stem + (f":{variant}" if variant else "")
    try:
        return Card(**raw, name=full, path=path, variants=tuple(f"{path.stem}:{word}" for word in variants))
    except ValidationError as error:
        raise CardError(_problems(path, error)) from error
    except TypeError as error:  # a card that sets `name`, `path` or `variants` itself
        raise CardError(f"{path}: {error}. The keys `name`, `path` and `variants` are taken from the file.") from error


def find_cards() -> dict[str, Path]:
    """All cards by name, those of the working directory before the checkout's before the package's."""
    found: dict[str, Path] = {}
    for folder in _card_folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def data_folders() -> list[Path]:
    """Where data are looked for, the first before the others: beside the cards, then those that are not shipped."""
    return [*(folder / "data" for folder in _card_folders()), *_shared_folders()]


def _card_folders() -> Iterator[Path]:
    yield Path("models")
    if (CHECKOUT / "pyproject.toml").is_file():
        yield CHECKOUT / "models"
    yield PACKAGE / "_content" / "models"


def _shared_folders() -> Iterator[Path]:
    if named := os.environ.get("VCBENCH_DATA"):
        yield Path(named)
    if (CHECKOUT / "pyproject.toml").is_file():
        yield CHECKOUT.parent / "shared" / "data"


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `change`; tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _problems(path: Path, error: ValidationError) -> str:
    """Every problem of a card on a line of its own, with the key's full name."""
    known = {"data": set(DataSource.model_fields), "published": set(Published.model_fields)}
    known["pedigree"] = set(PedigreeSource.model_fields)
    known[""] = (set(Card.model_fields) | {"data", "variant"}) - {"name", "path", "variants", "data_source"}
    lines = []
    for problem in error.errors():
        where = [str(part) for part in problem["loc"]]
        key = ".".join(where) or "card"
        if problem["type"] == "extra_forbidden":
            table = where[0] if len(where) > 1 else ""
            lines.append(f"unknown key `{key}`.{did_you_mean(where[-1], known.get(table, ()))}")
        elif problem["type"] == "missing":
            lines.append(f"`{key}` is missing.")
        else:
            message = re.sub(r"^Value error, ", "", problem["msg"])
            lines.append(f"`{key}`: {message[0].lower() + message[1:]}, not {problem['input']!r:.60}.")
    count = f"{len(lines)} problem" + ("s" if len(lines) > 1 else "")
    return f"{path} has {count}:\n" + "\n".join(f"  {line}" for line in lines)
