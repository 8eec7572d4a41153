"""The parts of a study put together: checked to be of one study, whole, and not at odds; then copied by shards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcbench.errors import StoreError
from vcbench.study.record import describe
from vcbench.study.replay import read_stored_spec
from vcbench.study.seeds import method_stream
from vcbench.study.sharding import SHARDS, Part, owner_of, planned
from vcbench.study.shards import ROWS, TRACES, Shard, list_shards, superseded
from vcbench.study.spec import Spec
from vcbench.study.store import RUN, copy_shard, open_store, read_run, read_shard

TIMES = ("seconds", "cpu_seconds")
LISTED = 8  # missing pieces that a message names


@dataclass(frozen=True, slots=True)
class Collected:
    """Where the rows are now, how many parts they came from, and on how many processors those ran."""

    folder: Path
    parts: int
    fits: int
    processors: tuple[str, ...]


def collect(folders: Sequence[Path | str], out: Path | str | None = None) -> Collected:
    """Put the parts in `folders` together in `out`: run folders, and folders that hold `shards/`.

    `out` is the folder given where there is one, else runs/<study>. Raises StoreError, before anything is written, for
    parts of different specifications, for what is missing (named, with the part that makes it) and for replicates that
    two parts have made with different results (times apart). What is collected already stays; doing it again is safe.
    """
    given = [Path(folder) for folder in folders]
    parts = find_parts(given)
    runs = {part: read_run(part) for part in parts}
    spec, first = read_stored_spec(parts[0]), runs[parts[0]]
    for where, run in runs.items():
        if run.get("spec_hash") != spec.spec_hash:
            raise StoreError(
                f"`{where}` holds results of another specification than `{parts[0]}`: its hash is"
                f" {run.get('spec_hash')}, not {spec.spec_hash}. Collect the parts of one study."
            )
    found = _found(parts)
    sizes = _sizes(spec, runs.values())
    _check_whole(spec, sizes, found, runs)
    target = Path(out) if out is not None else given[0] if len(given) == 1 else Path("runs") / str(first["study"])
    with open_store(target, spec) as held:
        for shard, source in found.items():
            for part in (TRACES, ROWS):  # rows last: what has rows has its trace
                if source != target and (source / part / shard.name).is_file():
                    copy_shard(source / part / shard.name, target / part / shard.name)
        total = sum(planned(spec, sizes).values())
        times = {name: [str(run[name]) for run in runs.values() if run.get(name)] for name in ("started", "finished")}
        about = describe(spec, str(first["study"])) | {"provenance": first["provenance"]}
        warnings = {text: n for run in runs.values() for text, n in (run.get("warnings") or {}).items()}
        finished = max(times["finished"], default=None)
        held.note(**about, n_planned=total, started=min(times["started"]), finished=finished, warnings=warnings)
    processors = sorted({str(run.get("provenance", {}).get("processor", "")) for run in runs.values()})
    return Collected(target, len(parts), total, tuple(processors))


def find_parts(folders: Iterable[Path]) -> list[Path]:
    """The run folders in what is given. Raises StoreError for a folder that neither is one nor holds any."""
    found: list[Path] = []
    for folder in folders:
        inside = sorted(run.parent for run in (folder / SHARDS).glob(f"*/{RUN}"))
        if not inside and not (folder / RUN).is_file():
            raise StoreError(f"`{folder}` is no run folder and holds none in {SHARDS}/. Name the --out of the shards.")
        found += ([folder] if (folder / RUN).is_file() else []) + inside
    return list(dict.fromkeys(found))


def _found(parts: Sequence[Path]) -> dict[Shard, Path]:
    """Every shard that is to be read, with the first folder that has it. StoreError where two folders disagree."""
    found: dict[Shard, Path] = {}
    for part in parts:
        for shard in list_shards(part):
            if shard not in found:
                found[shard] = part
                read_shard(part / ROWS / shard.name, ["replicate"])  # a broken one is named now
            elif difference := _difference(found[shard] / ROWS / shard.name, part / ROWS / shard.name):
                raise StoreError(
                    f"`{found[shard] / ROWS / shard.name}` and `{part / ROWS / shard.name}` hold the same replicates,"
                    f" but their {difference} differs. Their machines or versions do: keep one of them."
                )
    for shard in superseded(found):
        del found[shard]
    return found


def _difference(one: Path, two: Path) -> str:
    """The first column, times apart, in which two shards differ; "" where there is none."""
    a, b = read_shard(one), read_shard(two)
    if a.schema.names != b.schema.names or a.num_rows != b.num_rows:
        return "shape"
    return next((name for name in a.schema.names if name not in TIMES and not a[name].equals(b[name])), "")


def _sizes(spec: Spec, runs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The replicates of each condition that the parts were to make: the most that any says."""
    most = {c.id: 1 for c in spec.conditions}
    for run in runs:
        said = run.get("shard", {}).get("replicates", {})
        most = {id: max(n, said.get(id, 0)) for id, n in most.items()}
    return most


def _check_whole(
    spec: Spec, sizes: Mapping[str, int], found: Iterable[Shard], runs: Mapping[Path, Mapping[str, Any]]
) -> None:
    """Raise StoreError naming what is missing, and the commands that make it."""
    have: dict[tuple[str, int], set[int]] = {}
    for shard in found:
        have.setdefault((shard.condition, shard.method), set()).update(shard.replicates)
    labels = {method_stream(m.label): m.label for m in spec.methods}
    of = max((run["shard"]["of"] for run in runs.values() if "shard" in run), default=1)
    missing, parts = [], set[Part]()
    for (condition, stream), n in planned(spec, sizes).items():
        gone = sorted(set(range(n)) - have.get((condition, stream), set()))
        if gone:
            label = labels[stream]
            missing.append(f"condition {condition}, {label}: {_ranges(gone)}")
            parts |= {owner_of(spec, sizes, of, condition, label, r) for r in gone}
    if not missing:
        return
    more = [f"and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    said = sorted(parts, key=lambda part: part.index)
    lines = "\n  ".join([*missing[:LISTED], *more])
    names, several = ", ".join(f"{part.index}/{part.of}" for part in said), len(said) > 1
    raise StoreError(
        f"replicates are missing:\n  {lines}\nThey are made by shard{'s' if several else ''} {names}: run"
        f" {'them' if several else 'it'} (again) with --shard and the same --out and --reps, then collect."
    )


def _ranges(numbers: Sequence[int]) -> str:
    """0–9, 20–29."""
    out, first = [], numbers[0]
    for here, following in zip(numbers, [*numbers[1:], None], strict=True):
        if following != here + 1:
            out.append(f"{first}–{here}" if here > first else f"{first}")
            first = following or 0
    return "replicates " + ", ".join(out[:LISTED]) + (", …" if len(out) > LISTED else "")


def shard_lines(folder: Path) -> list[str]:
    """How far each part in a study's folder is; empty where it holds none."""
    runs = [(part, read_run(part)) for part in sorted((folder / SHARDS).glob("*")) if (part / RUN).is_file()]
    lines, there = [], dict[int, set[int]]()
    for part, run in runs:
        shard = run["shard"]
        there.setdefault(shard["of"], set()).add(shard["index"])
        done = sum(len(one.replicates) for one in list_shards(part))
        lines.append(f" shard {shard['index']}/{shard['of']}  {done} of {run['n_planned']} fits")
    for of, indices in there.items():
        if absent := sorted(set(range(1, of + 1)) - indices):
            lines.append(f" of {of} shards, not begun: {', '.join(map(str, absent))}")
    return lines
