"""Blocks made in other threads while earlier ones are used."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor


def ahead[T](make: Callable[[int], T], count: int, workers: int = 1) -> Iterator[T]:
    """make(0), make(1), … make(count − 1) in order, each of `workers` threads one block ahead of the reader.

    make(k + workers) begins when the reader asks for block k, not before: it may use again what block k − 1 lay in
    (one worker). An error of `make` is raised where its block is asked for.
    """
    with ThreadPoolExecutor(workers) as pool:
        coming = deque(pool.submit(make, k) for k in range(min(workers, count)))
        for k in range(count):
            block = coming.popleft().result()
            if k + workers < count:
                coming.append(pool.submit(make, k + workers))
            yield block
