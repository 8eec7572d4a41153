"""The published JSON Schema: current, right about every study there is, and never stricter than the reader."""

import copy
import random
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomlkit

from vcbench.errors import SpecError
from vcbench.study.schema import schema_text, study_schema
from vcbench.study.spec import read_spec

CHECKOUT = Path(__file__).resolve().parents[2]
STUDIES = sorted((CHECKOUT / "simulations").glob("**/*.toml"))
VALIDATOR = jsonschema.Draft7Validator(study_schema())
MODEL = """title = "T"
question = "Q?"
seed = 1
replicates = 4
derive = ["icc = subject / total"]
answer = "{b}"
precision = { coverage = 0.01, bias = { mcse = 0.1, method = "ai" } }
methods = [
    "ai",
    { name = "ai", label = "iid", model = { residual = "iid" }, data = "model", interval = "profile" },
    { name = "px-em", max_iter = 50, tol = 1, interval = { kind = "wald", symmetric_on = "log" } },
]

[[data]]
generator = "model"
about = "Growth."
design = { subject = [12, 20], time = { count = [3, 4] }, arm = { levels = ["A", "B"], of = "subject" } }
formula = "y ~ time + arm + (1 | subject)"
residual = ["ar1(time, group=subject)", "cs(group=subject)"]
theta = { "subject:var((Intercept))" = 1, "residual:var" = 2.0, "residual:rho" = [0.0, 0.6] }
effects = ["normal", "t(5)"]
missing = { kind = "mcar", share = [0.1, 0.2] }

[[data]]
card = "random_slope"
theta = { "residual:var" = [600.0, 700.0] }

[[data]]
card = ["one_way", "one_way:boundary"]
real = true

[[data]]
generator = "variance_components"
q = [[3, 4], [30, 40]]
n = 20

[figures]
b = { measure = "bias", where = { "residual:rho" = [0.0, 0.6] } }
"""


def _errors(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_schema__is_a_schema_and_the_published_one_is_current() -> None:
    jsonschema.Draft7Validator.check_schema(study_schema())
    published = (CHECKOUT / "simulations" / "schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run  vcbench schema --own > simulations/schema.json"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_schema__accepts_every_committed_study(path: Path) -> None:
    assert _errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed = 1", 'seed = "1"'),
        ("seed = 1\n", ""),
        ("replicates = 4", "replicate = 4"),
        ("replicates = 4", "replicates = 0"),
        ('"Q?"', '""'),
        ("coverage = 0.01", "coverage = 0"),
        ("coverage = 0.01", 'coverage = { mcse = 0.1, methods = "ai" }'),
        ("max_iter = 50", "maxiter = 50"),
        ("max_iter = 50", 'max_iter = "many"'),
        ('"px-em"', '"pxem"'),
        ('interval = "profile"', 'interval = "profiled"'),
        ('model = { residual = "iid" }', 'model = { residuals = "iid" }'),
        ('generator = "model"', 'generator = "modell"'),
        ("count = [3, 4]", "count = [3, 0]"),
        ("count = [3, 4]", "cuont = [3, 4]"),
        ("subject = [12, 20]", "subject = [12, 0.5]"),
        ('theta = { "subject:var((Intercept))" = 1,', 'theta = { "subject:var((Intercept))" = "1",'),
        ('"t(5)"', '"t5"'),
        ('kind = "mcar"', 'kind = "mnar"'),
        ("share = [0.1, 0.2]", "share = [0.1, 1.2]"),
        ("share = [0.1, 0.2]", "share = []"),
        ("real = true", "real = 1"),
        ("n = 20", "n = 2"),
        ("q = [[3, 4], [30, 40]]", "q = [[3, 4], [30, 0]]"),
        ('measure = "bias"', 'measure = "bais"'),
    ],
)
def test_schema__finds_planted_errors_as_the_reader_does(old: str, new: str) -> None:
    assert old in MODEL
    text = MODEL.replace(old, new, 1)
    assert _errors(text)
    with pytest.raises(SpecError):
        read_spec(text, "s.toml")


VALUES: tuple[Any, ...] = (
    0,
    -1,
    3,
    0.5,
    1e9,
    "",
    "ai",
    "normal",
    True,
    [],
    [1],
    [0.5, 2.0],
    ["a"],
    [[1]],
    {},
    {"x": 1},
)
KEYS = ("seed", "name", "data", "x", "share", "model", "n")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inside in items for place in [(*path, key), *_places(inside, (*path, key))]]


def _mutated(raw: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The study with one thing changed: a value, a key left out, renamed or added."""
    out = copy.deepcopy(raw)
    *path, last = rng.choice(_places(out))
    holder = out
    for key in path:
        holder = holder[key]
    action = rng.choice(("value", "value", "drop", "rename", "add"))
    if action == "value" or not isinstance(holder, dict):
        holder[last] = rng.choice(VALUES)
    elif action == "drop":
        del holder[last]
    elif action == "rename":
        holder[rng.choice(KEYS)] = holder.pop(last)
    else:
        holder[rng.choice(KEYS)] = rng.choice(VALUES)
    return out


def _reads(text: str) -> bool:
    try:
        read_spec(text, "s.toml")
    except SpecError:
        return False
    return True


def _check_mutants(text: str, seed: int, n: int) -> tuple[int, int]:
    """Counts of those the schema refuses and accepts; AssertionError for one that it alone refuses."""
    raw, rng = tomllib.loads(text), random.Random(seed)
    refused = 0
    for _ in range(n):
        mutant = _mutated(raw, rng)
        errors = [error.message for error in VALIDATOR.iter_errors(mutant)]
        refused += bool(errors)
        if errors:
            said = tomlkit.dumps(mutant)
            assert not _reads(said), f"the schema alone refuses, {errors[0]:.300}:\n{said}"
    return refused, n - refused


def test_schema__refuses_nothing_that_the_reader_accepts() -> None:
    """60 changes of a study that uses everything, from a fixed seed: the reader refuses what the schema refuses."""
    refused, accepted = _check_mutants(MODEL, 20261122, 60)
    assert refused > 30
    assert accepted > 6


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_schema__refuses_nothing_that_the_reader_accepts_of_any_study(path: Path) -> None:
    refused, _ = _check_mutants(path.read_text(encoding="utf-8"), 7, 100)
    assert refused > 20


def test_schema__accepts_what_the_reader_accepts() -> None:
    read_spec(MODEL, "s.toml")
    assert _errors(MODEL) == []
