"""A seed for every (condition, replicate, stream), whatever runs, wherever and in what order.

    SeedSequence(study seed, spawn_key=(k0, k1, replicate, stream)),  (k0, k1) = BLAKE2b-64 of the condition's
    canonical JSON

Stream 0 is the data's; each method has one by its label. Nothing depends on the position of a condition or a method in
the study, nor on Python's salted `hash`.
"""

import hashlib
import json
from typing import Any

import numpy as np

DATA = 0
DESIGN = 2**32 - 1  # in the place of the replicate: the design of a condition, shared by its replicates

ConditionKey = tuple[int, int]


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: keys sorted, no spaces, shortest floats. ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, size: int = 10) -> str:
    """BLAKE2b of the canonical JSON, `size` bytes as hexadecimal digits."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=size).hexdigest()


def condition_key(condition: Any) -> ConditionKey:
    """Two uint32 from what defines a condition's data."""
    text = digest(condition, 8)
    return int(text[:8], 16), int(text[8:], 16)


def method_stream(label: str) -> int:
    """A method's stream, a uint32 that is never the data's."""
    return int(digest(["method", label], 4), 16) or 1


def seed_sequence(seed: int, key: ConditionKey, replicate: int, stream: int = DATA) -> np.random.SeedSequence:
    """The seed of one stream of one replicate."""
    return np.random.SeedSequence(seed, spawn_key=(*key, replicate, stream))


def generator(seed: int, key: ConditionKey, replicate: int, stream: int = DATA) -> np.random.Generator:
    """A fresh Generator on that seed."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, key, replicate, stream)))


def seed_text(key: ConditionKey, replicate: int) -> str:
    """The rows' `seed_key`: condition key and replicate, from which every stream follows."""
    return f"{key[0]:08x}{key[1]:08x}/{replicate}"
