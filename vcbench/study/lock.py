"""One runner a folder: a lock of the operating system, which ends with its process however that ends.

The file says who holds it (`<pid> <host>`), for the message to a second runner. What a dead process left there says
nothing: the lock itself is free. On a file system without locks (some of clusters) what it says is all there is: a
process of this host that is gone has left a stale lock; one of another host cannot be asked.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vcbench.errors import StoreError

LOCK = "lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock. Raises StoreError, naming the holder, while another process does."""
    path = folder / LOCK
    with path.open("a+") as file:
        file.seek(0)
        if not _take(file):
            file.seek(0)
            pid, _, host = file.read().strip().partition(" ")
            by = f"process {pid or 'unknown'}" + (f" on {host}" if host else "")
            gone = "" if host in ("", socket.gethostname()) else f" If that host is gone, remove `{path}`."
            raise StoreError(f"`{folder}` is being run by {by}. Wait for it, or give another folder with --out.{gone}")
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


def _take(file: IO[str]) -> bool:
    """Take the lock; False while another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS and not _held(file.read())
    return True


def _held(said: str) -> bool:
    """True unless the process that a lock names is known to be gone."""
    pid, _, host = said.strip().partition(" ")
    if not pid.isdigit():
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
