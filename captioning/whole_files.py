"""Files that are whole or not there: however a program ends while it writes, nobody takes half a file for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".partial"
"""Ends the names of files that are being written. One that a killed program left behind is overwritten next time."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to: it becomes `path` when the block ends, and goes where the block fails."""
    partial = path.with_name(path.name + SUFFIX)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file at once; text is UTF-8."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
