"""Which shards a run folder has: their names say what they hold, so that a listing is an index.

    <condition>-<key>-<method>-<first>-<last>.parquet      replicates first … last of one condition and method

A shard whose replicates all lie in another of the same condition and method has been superseded: a run that was topped
up within a block fitted the whole block again (`plan`). It is not read, and the next runner removes it.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROWS, TRACES = "rows", "traces"
NAME = re.compile(
    r"^(?P<condition>\d+)-(?P<key>[0-9a-f]{16})-(?P<method>[0-9a-f]{8})-(?P<first>\d+)-(?P<last>\d+)\.parquet$"
)


@dataclass(frozen=True, slots=True)
class Shard:
    """Replicates `first` … `last` of a condition (its id and the key of its seeds) and a method (its stream)."""

    condition: str
    key: str
    method: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.condition}-{self.key}-{self.method:08x}-{self.first:06d}-{self.last:06d}.parquet"

    @property
    def replicates(self) -> range:
        """The replicates it holds."""
        return range(self.first, self.last + 1)

    @property
    def of(self) -> tuple[str, str, int]:
        """What tells the shards of one condition and method from others."""
        return self.condition, self.key, self.method


def parse_name(name: str) -> Shard | None:
    """The shard that a file's name says; None for any other file, half-written ones among them."""
    said = NAME.match(name)
    if said is None:
        return None
    return Shard(said["condition"], said["key"], int(said["method"], 16), int(said["first"]), int(said["last"]))


def list_shards(folder: Path | str, part: str = ROWS) -> list[Shard]:
    """The shards of a run folder that are to be read, by name."""
    found = _listed(Path(folder) / part)
    gone = set(superseded(found))
    return [shard for shard in found if shard not in gone]


def superseded(shards: Iterable[Shard]) -> list[Shard]:
    """Those whose replicates all lie in another of the same condition and method."""
    groups: dict[tuple[str, str, int], list[Shard]] = defaultdict(list)
    for shard in shards:
        groups[shard.of].append(shard)
    gone = []
    for group in groups.values():
        reach = -1
        for shard in sorted(group, key=lambda shard: (shard.first, -shard.last)):
            if shard.last <= reach:
                gone.append(shard)
            reach = max(reach, shard.last)
    return gone


def sweep(folder: Path) -> None:
    """Remove what was superseded and what was left half-written; for the one who holds the folder's lock."""
    for part in (ROWS, TRACES):
        for leftover in (folder / part).glob("*.tmp"):
            leftover.unlink()
        for shard in superseded(_listed(folder / part)):
            (folder / part / shard.name).unlink()


def _listed(folder: Path) -> list[Shard]:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [shard for shard in map(parse_name, names) if shard is not None]
