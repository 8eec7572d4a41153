"""`vcbench schema` and `vcbench study new`: what helps to write a study."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

SCHEMA = "schema.json"


def schema(
    *,
    own: Annotated[
        bool, Parameter(negative="", show_default=False, help="Without the methods of other packages, as published.")
    ] = False,
) -> int:
    """Print the JSON Schema of a study's TOML, for editors: the first line  #:schema schema.json  names it."""
    from vcbench.study.schema import schema_text

    print(schema_text(third_party=not own), end="")
    return 0


def new(
    path: Annotated[Path | None, Parameter(help="The file to write. Default: from the title, in simulations/.")] = None,
    /,
    *,
    title: Annotated[str | None, Parameter(help="What the study is about.")] = None,
    question: Annotated[str | None, Parameter(help="The one question it answers.")] = None,
    generator: Annotated[str | None, Parameter(help="What draws the data: a generator's name.")] = None,
    card: Annotated[str | None, Parameter(help="Draw on the design of a model card, at its REML estimates.")] = None,
    data: Annotated[str | None, Parameter(help="Draw on the rows of a data set or CSV file; needs --formula.")] = None,
    formula: Annotated[
        str | None, Parameter(help="The model, in lme4's grammar: with --generator model or --data.")
    ] = None,
    residual: Annotated[str | None, Parameter(help="Its residual structure, as ar1(time, group=subject).")] = None,
    settings: Annotated[
        str | None, Parameter(name="--set", help="Settings and factors: 'n_groups = 6, 30; icc = 0, 0.1, 0.5'.")
    ] = None,
    methods: Annotated[str | None, Parameter(help="Methods, parted by commas.")] = None,
    estimands: Annotated[str | None, Parameter(help="Parameters that the study judges, parted by commas.")] = None,
    replicates: Annotated[int | None, Parameter(help="Data sets drawn for each condition.")] = None,
    precision: Annotated[
        float | None, Parameter(help="Instead: go on until the Monte Carlo error of coverage is this, as 0.005.")
    ] = None,
    seed: Annotated[int | None, Parameter(help="The study's seed.")] = None,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Ask nothing: take the defaults.")] = False,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False, help="Write over a file there is.")] = False,
) -> int:
    """Ask for a study and write it as TOML, ready to be checked and run.

    What a flag says is not asked for. Nothing is run, and no file is written over unless told.
    """
    from vcbench.errors import SpecError
    from vcbench.study import draft as drafts
    from vcbench.study.spec import read_spec

    sources = {"generator": generator, "card": card, "data": data}
    said = [f"--{key}" for key, value in sources.items() if value is not None]
    if len(said) > 1 and said != ["--generator", "--data"]:
        raise SpecError(f"{' and '.join(said)} each say what draws the data: keep one of them.")
    if replicates is not None and precision is not None:
        raise SpecError("--replicates and --precision each say when the study ends: keep one of them.")
    if not yes and not sys.stdin.isatty():
        raise SpecError(
            "`study new` asks questions, and there is no terminal. Pass --yes with what differs from its defaults."
        )
    if path is not None:
        path = path if path.suffix == ".toml" else path.with_name(path.name + ".toml")
        _check_free(path, overwrite)
    asker = _Asker(None if yes else Console(stderr=True))
    title = asker.text("Title", title, "Which method estimates these variance components best?",
                       "What the study is about, in a line.")  # fmt: skip
    question = asker.text("Question", question, drafts.QUESTION, "The one question that it answers.")
    entry = asker.data(sources, formula, residual, settings)
    names = asker.methods(methods, drafts.usual_methods(entry))
    chosen = asker.estimands(estimands, drafts.parameters_of(entry))
    replicates, precision = asker.size(replicates, precision)
    draft = drafts.Draft(title, question, entry, names, replicates, precision, chosen,
                         drafts.SEED if seed is None else seed)  # fmt: skip
    if path is None:
        folder = Path("simulations") if Path("simulations").is_dir() else Path()
        path = asker.path(folder / drafts.file_name(title), overwrite)
    text = drafts.render(draft, SCHEMA if (path.parent / SCHEMA).is_file() else None)
    spec = read_spec(text, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if overwrite else "x", encoding="utf-8") as file:
        file.write(text)
    _say_next(path, spec)
    return 0


def _check_free(path: Path, overwrite: bool) -> Path:
    from vcbench.errors import SpecError

    if path.exists() and not overwrite:
        raise SpecError(f"`{path}` is there already. Name another file, or pass --overwrite.")
    return path


def _say_next(path: Path, spec: Any) -> None:
    from vcbench.numbers import count, seconds
    from vcbench.study.price import price_study

    prices = price_study(spec)
    fits, cost = sum(price.fits for price in prices), sum(price.seconds for price in prices)
    print(f"wrote {path}")
    print(f"{len(spec.conditions)} conditions · {count(fits)} fits · roughly {seconds(cost)} of one processor", end="")
    most = price_study(spec, spec.table.n_max)
    print(f", {count(sum(p.fits for p in most))} fits at most" if spec.table.open_ended else "")
    print(f"\nvcbench study check {path}\nvcbench study run {path}")


class _Asker:
    """Answers: from flags, else from the terminal (`console`), else defaults."""

    def __init__(self, console: Console | None) -> None:
        self.console = console

    def _one(self, what: str, flag: str | None, default: str, read: Any, hint: str = "") -> Any:
        from vcbench.cli.asking import ask

        if flag is not None or self.console is None:
            return read(default if flag is None else flag)
        return ask(self.console, what, default, read, hint)

    def text(self, what: str, flag: str | None, default: str, hint: str) -> str:
        from vcbench.cli.asking import needed

        return self._one(what, flag, default, needed, hint)

    def data(
        self, sources: Mapping[str, str | None], formula: str | None, residual: str | None, settings: str | None
    ) -> dict[str, Any]:
        """The `[[data]]` entry."""
        from vcbench.cards import find_cards
        from vcbench.cli.asking import listed
        from vcbench.study.draft import check_data, generator_names, read_values

        entry: dict[str, Any] = {key: value for key, value in sources.items() if value is not None}
        if not entry:

            def source(text: str) -> dict[str, Any]:
                key, colon, name = (part.strip() for part in text.partition(":"))
                found = {key: name} if colon and key in ("card", "data") else {"generator": text.strip()}
                if "generator" in found and found["generator"] not in generator_names():
                    raise ValueError(f"`{text}` is no generator. Say card:NAME or data:NAME for those.")
                if "card" in found:
                    check_data(found)
                return found

            hint = f"Generators: {listed(generator_names())}. Or card:NAME ({listed(find_cards())}), or data:NAME."
            entry = self._one("What draws the data", None, "one_way", source, hint)
        if "data" in entry:
            entry = {"generator": "model", **entry}
        if entry.get("generator") == "model":
            return self._model(entry, formula, residual, settings)

        def varied(text: str) -> dict[str, Any]:
            made = {**entry, **read_values(text)}
            check_data(made)
            return made

        default = "n_groups = 6, 30; icc = 0.0, 0.1, 0.5" if entry.get("generator") == "one_way" else ""
        hint = "Settings, and factors as lists:  n_groups = 6, 30; icc = 0.0, 0.5 .  Nothing takes the defaults."
        return self._one("Settings and factors", settings, default, varied, _settings_hint(entry, hint))

    def _model(
        self, entry: dict[str, Any], formula: str | None, residual: str | None, settings: str | None
    ) -> dict[str, Any]:
        """An entry of the generator `model`: its design or data, formula, residual and θ."""
        from vcbench.errors import SpecError
        from vcbench.study.draft import check_data, read_values, start_of

        given = read_values(settings or "")
        of_data = "data" in entry

        def design(text: str) -> dict[str, Any]:
            return read_values(f"design = {{ {text} }}")["design"]

        if not of_data:
            said = given.pop("design", None)
            hint = "Columns of the design: subject = 20, time = { count = 5 }. Lists of numbers of levels are factors."
            default = "subject = 20, time = { count = 5 }"
            entry = {**entry, "design": said or self._one("Design", None, default, design, hint)}
        if of_data and formula is None and self.console is None:
            raise SpecError("--data needs a --formula, such as  'Reaction ~ Days + (Days | Subject)'.")

        def whole(text: str) -> dict[str, Any]:
            made = {**entry, "formula": text} | ({"residual": residual} if residual else {}) | given
            if of_data:
                made.setdefault("truth", "reml")
                check_data(made)
                return made
            begin = start_of(made)
            made["theta"] = {**begin, **made.get("theta", {})}
            check_data(made)
            return made

        hint = "The model in lme4's grammar."
        made = self._one("Formula", formula, "y ~ time + (1 | subject)", whole, hint)
        if self.console is None or of_data:
            return made
        theta = dict(made["theta"])
        for name in [name for name in theta if name not in given.get("theta", {})]:

            def value(text: str, name: str = name) -> Any:
                found = read_values(f"x = {text}")["x"]
                check_data({**made, "theta": {**theta, name: found}})
                return found

            theta[name] = self._one(f"True {name}".replace("[", r"\["), None, f"{theta[name]:g}", value)
        return {**made, "theta": theta}

    def methods(self, flag: str | None, usual: tuple[str, ...]) -> list[str]:
        """Names of methods."""
        from vcbench.cli.asking import listed, words
        from vcbench.study.draft import check_methods
        from vcbench.study.entries import registered_methods

        def read(text: str) -> list[str]:
            names = words(text)
            check_methods(names)
            return names

        hint = f"Of: {listed(sorted(registered_methods()))}. The first is what others are compared with."
        return self._one("Methods", flag, ", ".join(usual), read, hint)

    def estimands(self, flag: str | None, known: list[str]) -> dict[str, str]:
        """Sentences by parameter; none for all."""
        from vcbench.cli.asking import listed
        from vcbench.errors import SpecError, did_you_mean
        from vcbench.study.draft import sentence

        def read(text: str) -> dict[str, str]:
            names = [] if text.strip() in ("", "all") else [name.strip() for name in _outside(text)]
            for name in names:
                if known and name not in known:
                    raise SpecError(f"`{name}` is no parameter of these data: {', '.join(known)}."
                                    f"{did_you_mean(name, known)}")  # fmt: skip
            return {name: sentence(name) for name in names}

        hint = f"Parameters that the study judges: {listed(known)}." if known else "Parameters that the study judges."
        return self._one("Estimands", flag, "all", read, hint)

    def size(self, replicates: int | None, precision: float | None) -> tuple[int | None, float | None]:
        """Replicates, or the Monte Carlo error of coverage to reach."""
        from vcbench.study.draft import REPLICATES

        def read(text: str) -> tuple[int | None, float | None]:
            number = float(text)
            if 0 < number < 0.5:
                return None, number
            if number < 1 or number != int(number):
                raise ValueError("Say a whole number of replicates, or the error of coverage to reach, such as 0.005.")
            return int(number), None

        flag = (
            None if replicates is None and precision is None else f"{precision if replicates is None else replicates}"
        )
        hint = "A number of replicates, or a Monte Carlo error of coverage to reach, such as 0.005."
        return self._one("Replicates", flag, f"{REPLICATES}", read, hint)

    def path(self, default: Path, overwrite: bool) -> Path:
        """Where the file goes."""

        def read(text: str) -> Path:
            path = Path(text)
            return _check_free(path if path.suffix == ".toml" else path.with_name(path.name + ".toml"), overwrite)

        return self._one("File", None, str(default), read)


def _outside(text: str) -> list[str]:
    """Parts between commas that stand outside parentheses: names such as subject:cov((Intercept),time) hold some."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def _settings_hint(entry: Mapping[str, Any], hint: str) -> str:
    from vcbench.cli.asking import listed
    from vcbench.study.generators import GENERATORS

    table = GENERATORS[str(entry.get("generator", "from_card"))]
    return f"{hint}\nOf: {listed(name for name in table.model_fields if name != 'card')}."
