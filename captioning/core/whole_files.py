"""Files that are whole or not there: however a program ends while it writes, nobody takes half a file for one."""

from __future__ import annotations

import glob
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

SUFFIX = ".partial"
"""Ends the names of files that are being written. What a killed program left behind goes with the next writing."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Open a place beside `path` to write to: it becomes `path` when the block ends, and goes where the block fails.

    Each writer has its own; of several at once, the one that ends last wins.
    """
    _remove_leftovers(path)
    held = _claim(path)
    partial = Path(held.name)
    try:
        yield partial
        partial.replace(path)
    finally:
        held.close()
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file at once; text is UTF-8."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _claim(path: Path) -> IO[bytes]:
    """Open a new file beside `path`, held by a lock that ends with the process."""
    while True:
        try:
            file = path.with_name(f"{path.name}.{secrets.token_hex(4)}{SUFFIX}").open("xb")
        except OSError as error:
            error.filename = str(path)  # the one that somebody asked for
            raise
        with suppress(OSError):  # some file systems have no locks; leftovers then stay
            _lock(file, wait=True)
        if sys.platform == "win32":
            file.close()  # what is open there can be neither renamed nor removed, so that leftovers stay
        if Path(file.name).exists():
            return file
        file.close()  # somebody took it for a leftover before it was locked


def _remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left that are no more; others hold theirs."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{SUFFIX}"):
        with suppress(OSError), left.open("rb") as file:
            _lock(file, wait=False)
            left.unlink()


def _lock(file: IO[bytes], wait: bool) -> None:
    """Lock a file. Raises `OSError` where that cannot be done, or not at once."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
