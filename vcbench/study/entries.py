"""The `[[methods]]` of a study: their keys, their names in the registry, criteria, options, and what they are asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vcbench.errors import MethodError, VcbenchError, did_you_mean
from vcbench.methods import Method
from vcbench.study import asked
from vcbench.study.complaints import ALIASES, Problem, explain_errors, shown, unknown_key
from vcbench.study.conditions import Condition
from vcbench.study.locate import Path
from vcbench.study.mutants import MUTANTS
from vcbench.study.said import ModelTable
from vcbench.study.seeds import canonical_json, method_stream

Criterion = Literal["ml", "reml"]
Text = Annotated[str, Field(min_length=1)]
OWN_OPTIONS = ("seed", "trace")  # a study gives these itself
METHOD_KEYS = ("name", "label", "criterion", "replicates", "data", "mutant", "interval", "test", "model")
INSIDE = {**asked.KEYS, "model": tuple(ModelTable.model_fields)}
TRAIT_METHODS = {  # for conditions of several traits: see `study.trait_methods`
    method.name: method
    for method in (
        Method("heritability", "traits", ("reml", "ml"), options={}, description="h² of each trait by itself"),
        Method(
            "correlation-moments", "traits", ("none",), options={"jackknife": int},
            description="correlations of all pairs by moments; SE by sandwich, or `jackknife=` over SNP blocks",
        ),
        Method("correlation-reml", "traits", ("reml",), options={}, description="correlations of each pair by REML"),
    )
}  # fmt: skip

IDENTITIES = Method(
    "identities", "identities", ("ml",), options={"of": str, "steps": int},
    description="what must hold exactly of an EM (`of=`) and its model, on every data set: see `study.identities`",
)  # fmt: skip
OWN_METHODS = {**TRAIT_METHODS, IDENTITIES.name: IDENTITIES}


class MethodTable(BaseModel):
    """A `[[methods]]` entry without its options; `interval` and `test`: see `study.asked`; `model`: `study.said`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text
    label: Text | None = None
    criterion: Criterion | None = None
    replicates: Annotated[int, Field(ge=1)] | None = None
    data: list[Text] | Text | None = None
    mutant: Text | None = None
    interval: asked.Interval = None
    test: asked.Test = None
    model: ModelTable | None = None


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
    interval: asked.IntervalTable | None = None
    test: asked.TestTable | None = None
    derive: tuple[str, ...] = ()
    mutant: str | None = None
    model: ModelTable | None = None

    @property
    def asks(self) -> dict[str, Any]:
        """`interval`, `test` and `model` as the specification gives them, where it does."""
        return {name: table.given for name in INSIDE if (table := getattr(self, name)) is not None}

    @property
    def stream(self) -> int:
        """The stream of what the method draws: its label's, but for bootstrap intervals that differ in `type` alone,
        which are read off the same refits."""
        if self.interval is None or self.interval.kind != "bootstrap":
            return method_stream(self.label)
        fitted = [] if self.model is None else [self.model.given]
        return method_stream(canonical_json([self.name, self.criterion, dict(self.options), self.interval.n, *fitted]))

    @property
    def long(self) -> bool:
        """True for a posterior or another program: seconds a fit, and each fit on its own."""
        return self.kind not in ("solver", "moments")

    def runs_on(self, condition: Condition) -> bool:
        """True unless the entry is kept to other data."""
        return self.data is None or condition.entry in self.data


def check_entries(entries: Any, default: Any) -> tuple[list[MethodEntry], list[Problem]]:
    """The entries of `methods`, names or tables, and everything that is wrong with them."""
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
        table, problems = None, []
        for one in error.errors():
            inside = one["loc"][0] if len(one["loc"]) > 1 else ""
            problems += explain_errors([one], path, INSIDE.get(str(inside), METHOD_KEYS))
    name, known = entry.get("name"), registered_methods()
    if not isinstance(name, str) or name not in known:
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
    if method.kind == "bayes" and "priors" in options:
        problems += _check_priors(options["priors"], (*path, "priors"))
    if table is None:
        return None, problems
    if table.criterion is not None:
        try:
            check_method(table.name, table.criterion)
        except VcbenchError as error:
            problems.append(Problem((*path, "criterion"), str(error)))
    criterion = table.criterion or _default_criterion(method.criteria, default)
    problems += _check_asked(table, method.kind, criterion, path)
    problems += check_mutant_of(table.mutant, (*path, "mutant"))
    data = (table.data,) if isinstance(table.data, str) else None if table.data is None else tuple(table.data)
    label = table.label or table.name
    made = MethodEntry(
        label, table.name, criterion, options, table.replicates, data, method.kind, table.interval, table.test,
        model=table.model,
    )  # fmt: skip
    return replace(made, mutant=table.mutant), problems


def _check_priors(priors: Any, path: Path) -> list[Problem]:
    """Families that there are not; whether the model has what they are given for is seen with the data."""
    from vcbench.bayes.prior_choice import read_families

    try:
        read_families(priors)
    except VcbenchError as error:
        return [Problem(path, str(error))]
    return []


def check_mutant_of(mutant: str | None, path: Path, whole: bool = False) -> list[Problem]:
    """A mutant that there is not, or one of the `whole` study in an entry of `methods`."""
    if mutant is None:
        return []
    if mutant not in MUTANTS:
        text = f"unknown mutant `{mutant}`.{did_you_mean(mutant, MUTANTS)}"
        return [Problem(path, text, f"one of: {', '.join(MUTANTS)}")]
    if MUTANTS[mutant].whole and not whole:
        text = f"mutant `{mutant}` breaks the study around its methods: no single one of them can have it"
        return [Problem(path, text, f'say it at the study\'s level:  mutant = "{mutant}"')]
    return []


def _check_asked(table: MethodTable, kind: str, criterion: str | None, path: Path) -> list[Problem]:
    """Intervals and tests that the method cannot give."""
    problems = []
    wanted, test = table.interval, table.test
    if wanted is not None and kind == "bayes" and wanted.kind != "posterior":
        text = f'`{table.name}` is a posterior, with limits of its own: it has no "{wanted.kind}" interval'
        problems.append(Problem((*path, "interval"), text))
    if wanted is not None and kind == "traits" and wanted.kind not in ("wald", "profile"):
        text = f'`{table.name}` has "wald" and "profile" intervals, not "{wanted.kind}"'
        problems.append(Problem((*path, "interval"), text))
    by_moments = kind != "solver" and not (kind == "traits" and criterion in ("ml", "reml"))
    if wanted is not None and by_moments and wanted.kind == "profile":
        text = f"`{table.name}` maximises no likelihood, so that there is no profile of one"
        problems.append(Problem((*path, "interval"), text))
    if test is not None and (kind != "solver" or criterion not in ("ml", "reml")):
        text = f"`{table.name}` maximises no likelihood, so that there is no ratio of two to test"
        problems.append(Problem((*path, "test"), text, "take a solver, such as `ai`, under ml or reml"))
    return problems


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


def registered_methods() -> Mapping[str, Any]:
    """The registry and the methods of studies alone: name → `criteria`, `kind` and `options` (name → type)."""
    from vcbench.methods import METHODS

    return {**METHODS, **OWN_METHODS}


def check_method(name: str, criterion: str) -> None:
    """MethodError unless the method exists under the criterion."""
    from vcbench import methods

    if name not in OWN_METHODS:
        methods.check_method(name, criterion)
    elif criterion not in (has := OWN_METHODS[name].criteria):
        raise MethodError(f"method `{name}` exists under {' and '.join(has)} only; `{criterion}` was asked for.")
