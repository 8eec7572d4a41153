"""Imports run one way, and `import vcbench` stays light."""

import ast
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

import vcbench

PACKAGE = Path(vcbench.__file__).parent

# A module may import, at its top, rooms of its own rank or below.
RANK = {
    "errors": 0,
    "status": 0,
    "numbers": 0,
    "model": 1,
    "kernels": 2,
    "solvers": 3,
    "inference": 4,
    "methods": 5,
    "fitted": 5,
    "summary": 5,
    "stored": 5,
    "account": 5,
    "compared": 5,
    "fit": 5,
    "published": 5,
    "cards": 6,
    "genetics": 7,
    "bayes": 7,
    "peers": 7,
    "study": 8,
    "report": 9,
    "cli": 10,
    "pytest_plugin": 10,
}
OF_THE_PACKAGE = ("", "__version__")  # `import vcbench` itself loads no room
ASIDE = {frozenset(pair) for pair in combinations(("genetics", "bayes", "peers"), 2)}  # of one rank: none knows another

# Imports inside a function that go up the line: each is a door that opens only when asked for.
LAZY_DOORS: dict[tuple[str, str], str] = {
    ("inference", "fit"): "a bootstrap, a refit and the posterior of a fit fit its model again",
    ("model", "kernels"): "Model.explain() asks the kernels which of them would answer, and why",
    ("study", "report"): "a finished run renders its report",
    ("bayes", "report"): "Check.plot() draws posterior, likelihood and estimates",
    ("bayes", "study"): "vc.bayes.sbc is a door to the calibration that studies run",
    ("cards", "study"): "a simulated card draws its data with a study generator",
    ("cards", "genetics"): "a card with a formula for each of several traits is stacked by multi_trait",
}

HEAVY = (
    "pymc",
    "pytensor",
    "nutpie",
    "arviz",
    "altair",
    "matplotlib",
    "numba",
    "formulaic",
    "pyarrow",
    "pydantic",
    "rich",
)


def room(module: str) -> str:
    """The room of `vcbench.<room>…`; "" for the package itself."""
    return [*module.split("."), ""][1]


def imports(path: Path) -> list[tuple[str, bool, int]]:
    """(module, at the top of the file, line) of every import of vcbench, but for TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Lambda)
        for child in ast.walk(node)
    }
    unread = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    package = ("vcbench", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *([node.module] if node.module else [])))
            names = [f"{base}.{alias.name}" if base == "vcbench" else base for alias in node.names]
        found += [(name, id(node) not in inside, node.lineno) for name in set(names) if name.split(".")[0] == "vcbench"]
    return found


def files() -> list[Path]:
    """Every module but the public surface, which may name every room: the last tests say what it may load."""
    ours = [path for path in sorted(PACKAGE.rglob("*.py")) if "_content" not in path.parts]
    return [path for path in ours if path != PACKAGE / "__init__.py"]


def owner(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def goes_up(importer: str, imported: str) -> bool:
    return RANK[imported] > RANK[importer] or frozenset({importer, imported}) in ASIDE


def test_imports__every_room_has_its_place():
    rooms = {owner(path) for path in files()}
    assert rooms <= set(RANK), f"give {sorted(rooms - set(RANK))} a rank"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports__at_the_top_of_a_module_run_one_way(path):
    wrong = [
        f"line {line}: {owner(path)} imports {module}"
        for module, top, line in imports(path)
        if top and room(module) not in OF_THE_PACKAGE
        if room(module) not in RANK or goes_up(owner(path), room(module))
    ]
    assert wrong == []


def test_imports__inside_functions_go_up_through_listed_doors_only():
    doors = {
        (owner(path), room(module))
        for path in files()
        for module, top, _ in imports(path)
        if not top and room(module) in RANK and goes_up(owner(path), room(module))
    }
    assert doors - set(LAZY_DOORS) == set(), "an unlisted door: say in LAZY_DOORS why it is needed"
    assert set(LAZY_DOORS) - doors == set(), "a listed door that nobody uses"


def test_imports__nothing_imports_the_command_line():
    assert [path for path in files() if owner(path) != "cli" for m, _, _ in imports(path) if room(m) == "cli"] == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_import_vcbench__loads_nothing_heavy():
    assert loaded_by("import vcbench") & set(HEAVY) == set()


def test_command_line__its_help_loads_no_numbers():
    assert loaded_by("import vcbench.cli.app") & {"numpy", "scipy", "pandas", "pymc", "numba", "altair"} == set()
