"""A pytest plugin: studies and model cards as tests.

    pytest --vcbench simulations/ models/

Every `[[acceptance]]` check of a study is an item for each condition and method it speaks of, and every published fit
of a card is one. A study runs when the first of its items does, with the seed in its file, into a folder of pytest's
cache whose name holds the study's hash and that of vcbench's source and of the versions of packages that add methods:
rows of other code are never judged. FAIL fails; INCONCLUSIVE is an expected failure, or a failure with
`--vcbench-inconclusive fail`; a card whose data are absent is skipped.

Nothing here is imported before pytest is asked for `--vcbench`, but for pytest itself.
"""

import contextlib
import os
import tempfile
import tomllib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vcbench.cards import Card
    from vcbench.published import Published
    from vcbench.study.acceptance import Verdict
    from vcbench.study.study import Study

OF_STUDY, OF_CARD = {"methods", "acceptance", "question"}, {"formula", "published", "description"}
FOLDER = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vcbench", "studies and model cards of vcbench")
    group.addoption("--vcbench", action="store_true", help="collect studies and model cards (*.toml) as tests")
    group.addoption(
        "--vcbench-inconclusive", choices=("xfail", "fail"), default="xfail",
        help="what a check is that has too few replicates to tell (default: xfail)",
    )  # fmt: skip
    group.addoption("--vcbench-cache", metavar="DIR", help="where studies run (default: in pytest's cache)")
    group.addoption("--vcbench-fresh", action="store_true", help="run every study anew, whatever is in the cache")
    group.addoption(
        "--vcbench-workers", type=int, default=1, metavar="N", help="processes a study runs on (default: 1, this one)"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "pytest.Collector | None":
    if not parent.config.getoption("--vcbench") or file_path.suffix != ".toml":
        return None
    try:
        keys = set(tomllib.loads(file_path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        keys = OF_STUDY  # which says what is wrong with it
    if keys & OF_STUDY:
        return StudyFile.from_parent(parent, path=file_path)
    return CardFile.from_parent(parent, path=file_path) if "data" in keys and keys & OF_CARD else None


class CheckFailed(Exception):  # noqa: N818 - what pytest shows is the word alone
    """What did not hold, in words."""


class _File(pytest.File):
    def repr_failure(self, excinfo: Any, *args: Any, **kwargs: Any) -> Any:
        return _words(excinfo) or super().repr_failure(excinfo)


class _Item(pytest.Item):
    def repr_failure(self, excinfo: Any, *args: Any, **kwargs: Any) -> Any:
        return _words(excinfo) or super().repr_failure(excinfo)


def _words(excinfo: Any) -> str:
    """The message alone where it says all: no traceback through pytest."""
    from vcbench.errors import VcbenchError

    return str(excinfo.value) if isinstance(excinfo.value, CheckFailed | VcbenchError) else ""


def _distinct(name: str, met: Counter[str]) -> str:
    """The name, numbered from the second time on."""
    met[name] += 1
    return name if met[name] == 1 else f"{name} #{met[name]}"


class StudyFile(_File):
    """A study: its checks are items."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._verdicts: list[Verdict] | None = None

    def collect(self) -> Iterable["CheckItem"]:
        from vcbench.study.locate import locate
        from vcbench.study.study import Study

        study = Study.from_toml(self.path)
        places = locate(study.spec.text)
        met: Counter[str] = Counter()
        for i, check in enumerate(study.spec.table.acceptance):
            named = [check.method] if isinstance(check.method, str) else check.method
            said = [check.parameter] if isinstance(check.parameter, str) else check.parameter or []
            line = places["acceptance", i, "measure"].key.line
            for condition in study.spec.conditions:
                if not check.speaks_of(condition):
                    continue
                factors = " ".join(f"{name}={level}" for name, level in condition.factors.items() if name != "data")
                where = " ".join(filter(None, (condition.entry, factors)))
                for method in study.spec.methods:
                    if not method.runs_on(condition) or (named is not None and method.label not in named):
                        continue
                    name = f"{check.measure}[{', '.join([method.label, *said, where])}]"
                    yield CheckItem.from_parent(
                        self, name=_distinct(name, met), check=i, condition=condition.id, method=method.label, line=line
                    )

    def verdicts(self) -> list["Verdict"]:
        """The verdicts on the study's run, which is made, or continued, at the first call."""
        if self._verdicts is None:
            from vcbench.study.study import Study

            study = Study.from_toml(self.path)
            folder = _cache(self.config) / f"{study.stem}-{_key(study, self.config)}"
            with _held(folder.with_suffix(".lock")):
                n = self.config.getoption("--vcbench-workers")
                run = study.run(folder, workers=n, progress="none", report=False)
            self._verdicts = study.check(run)
        return self._verdicts


class CheckItem(_Item):
    """One acceptance check on one condition and method, for every parameter it speaks of."""

    def __init__(self, *, check: int, condition: str, method: str, line: int, **options: Any) -> None:
        super().__init__(**options)
        self.where, self.line = (check, condition, method), line

    def runtest(self) -> None:
        assert isinstance(self.parent, StudyFile)
        found = [v for v in self.parent.verdicts() if (v.check, v.condition, v.method) == self.where]
        if not found:
            pytest.skip("the check's parameters are not estimated here")
        short = {word: [f"{v.parameter}: {v.detail}" for v in found if v.verdict == word] for word in WORST_FIRST}
        if short["FAIL"]:
            raise CheckFailed("FAIL  " + "\n      ".join(short["FAIL"] + short["INCONCLUSIVE"]))
        if short["INCONCLUSIVE"]:
            text = "INCONCLUSIVE  " + "\n              ".join(short["INCONCLUSIVE"])
            if self.config.getoption("--vcbench-inconclusive") == "fail":
                raise CheckFailed(text)
            pytest.xfail(text)
        self.add_report_section("call", "vcbench", "\n".join(f"{v.parameter}: {v.detail}" for v in found))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line - 1, self.name


WORST_FIRST = ("FAIL", "INCONCLUSIVE")


class CardFile(_File):
    """A model card and its variants: their published fits are items."""

    def collect(self) -> Iterable["CardItem"]:
        from vcbench.study.verdicts import card_and_variants, published_label

        met: Counter[str] = Counter()
        for card in card_and_variants(str(self.path)):
            for entry in card.published:
                name = _distinct(f"{card.name}[{published_label(entry)}]", met)
                yield CardItem.from_parent(self, name=name, card=card, entry=entry)


class CardItem(_Item):
    """The published numbers of one fit, to their printed digits."""

    def __init__(self, *, card: "Card", entry: "Published", **options: Any) -> None:
        super().__init__(**options)
        self.card, self.entry = card, entry

    def runtest(self) -> None:
        from vcbench.study.verdicts import published_verdict

        found = published_verdict(self.card, self.entry)
        if found["verdict"] == "SKIPPED":
            pytest.skip(found["detail"])
        if found["verdict"] != "PASS":
            raise CheckFailed(f"{found['verdict']}  {found['check']}: {found['detail']}")

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


def _cache(config: pytest.Config) -> Path:
    """The folder that runs are in, made."""
    if FOLDER not in config.stash:
        if named := config.getoption("--vcbench-cache"):
            folder = Path(named)
        elif getattr(config, "cache", None) is not None:
            folder = config.cache.mkdir("vcbench")  # type: ignore[union-attr]
        else:
            aside = tempfile.TemporaryDirectory(prefix="vcbench-")
            config.add_cleanup(aside.cleanup)
            folder = Path(aside.name)
        folder.mkdir(parents=True, exist_ok=True)
        config.stash[FOLDER] = folder
    return config.stash[FOLDER]


SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex  # of all workers of one call


def _key(study: "Study", config: pytest.Config) -> str:
    """What the rows of a study depend on: its specification and the code that makes them."""
    from hashlib import blake2b
    from importlib.metadata import entry_points

    import vcbench

    state = blake2b(study.spec.spec_hash.encode(), digest_size=8)
    package = Path(vcbench.__file__).parent
    for file in sorted(package.rglob("*.py")):
        state.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    for entry in sorted(entry_points(group="vcbench.methods"), key=lambda entry: entry.name):
        version = entry.dist.version if entry.dist is not None else ""
        state.update(f"{entry.name} {entry.value} {version}\n".encode())
    if config.getoption("--vcbench-fresh"):
        state.update(SESSION.encode())
    return state.hexdigest()


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that other workers of this test run wait for."""
    with path.open("a+") as file:
        try:
            import fcntl
        except ImportError:  # Windows, whose call gives up after ten seconds
            import msvcrt

            while True:
                with contextlib.suppress(OSError):
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                    break
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
