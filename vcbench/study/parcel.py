"""What a worker needs beside its tasks: sent once a worker, kept by it, and built there.

A study travels as the text of its specification and a calibration as its plan, packed into bytes that a digest names.
A run's first tasks carry the bytes, later ones the name alone; a process that does not know it (one that has joined,
or that took the place of a dead one) says so and gets its task again with the bytes. Nothing compiled travels.
"""

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import vcbench
from vcbench.errors import ClusterError
from vcbench.study.spec import Spec, read_spec

KEPT = 4


@dataclass(frozen=True, slots=True)
class Text:
    """A specification in its own words; `open` reads them again, as this version does."""

    text: str
    name: str
    spec_hash: str
    version: str

    def open(self) -> Spec:
        """The Spec. Raises ClusterError where this process reads it otherwise than the one that sent it."""
        if vcbench.__version__ != self.version:
            raise ClusterError(
                f"a worker has vcbench {vcbench.__version__}, the run {self.version}: their rows could differ. Install"
                " the same version everywhere."
            )
        spec = read_spec(self.text, self.name)
        if spec.spec_hash != self.spec_hash:
            raise ClusterError(
                f"a worker reads {self.name} with the hash {spec.spec_hash}, the run with {self.spec_hash}: their"
                " cards, methods or versions of vcbench differ. Install the same ones everywhere."
            )
        return spec


@dataclass(frozen=True, slots=True)
class Parcel:
    """A Spec or a Plan as bytes, under their digest."""

    key: str
    content: bytes

    @classmethod
    def of(cls, spec: Any) -> "Parcel":
        """The parcel of a Spec, or of anything that can be pickled."""
        known = isinstance(spec, Spec)
        what = Text(spec.text, spec.name, spec.spec_hash, vcbench.__version__) if known else spec
        content = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
        return cls(blake2b(content, digest_size=16).hexdigest(), content)


_opened: dict[str, Any] = {}
_alone = threading.Lock()  # a process does one task at a time, however many threads its executor has: its clock is one


def run_parcel(run: Callable[[Any, str, Any], Any], key: str, content: bytes | None, stem: str, task: Any) -> Any:
    """run(spec, stem, task) with what the parcel holds; None where the bytes are needed and did not come."""
    with _alone:
        if key not in _opened:
            if content is None:
                return None
            while len(_opened) >= KEPT:
                _opened.pop(next(iter(_opened)))
            what = pickle.loads(content)
            _opened[key] = what.open() if isinstance(what, Text) else what
        return run(_opened[key], stem, task)
