"""The first directory of a TIFF file, which is also what EXIF data consists of: numbered tags and their values."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value, by type."""
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
_ASCII = 2
_MOST_ENTRIES = 4096

ORIENTATION = 0x0112
PROFILE = 0x8773


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: its type and number of values, their bytes, and the 12 bytes that stand in the directory."""

    tag: int
    kind: int
    count: int
    value: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory: byte order as `struct` writes it, its place in the file, and those tags that can be read."""

    order: str
    place: int
    entries: tuple[Entry, ...]
    following: bytes

    def value(self, tag: int) -> bytes:
        """Return the bytes of a tag's values; none where it is missing."""
        return next((entry.value for entry in self.entries if entry.tag == tag), b"")

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return a tag's whole numbers; none where it is missing or holds something else."""
        for entry in self.entries:
            if entry.tag != tag:
                continue
            if entry.kind == _ASCII:
                text = entry.value.strip(b"\0 ")
                return (int(text),) if text.isdigit() and len(text) < 9 else ()
            if entry.kind in _WHOLE_NUMBERS:
                count = len(entry.value) // _SIZES[entry.kind]
                form = f"{self.order}{count}{_WHOLE_NUMBERS[entry.kind]}"
                return struct.unpack(form, entry.value[: struct.calcsize(form)])
        return ()

    def number(self, tag: int, default: int = 0) -> int:
        """Return a tag's first whole number."""
        return next(iter(self.numbers(tag)), default)


def read_directory(data: bytes) -> Directory | None:
    """Read the first directory; a tag that points out of the file is left out. `None` where there is no TIFF head."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return None
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    if place + 2 > len(data):
        return Directory(order, place, (), b"")
    (count,) = struct.unpack_from(f"{order}H", data, place)
    entries = []
    for number in range(min(count, _MOST_ENTRIES)):
        raw = data[place + 2 + 12 * number :][:12]
        if len(raw) < 12:
            break
        tag, kind, values = struct.unpack_from(f"{order}HHI", raw)
        size = _SIZES.get(kind, 1) * values
        start = 0 if size <= 4 else struct.unpack_from(f"{order}I", raw, 8)[0]
        value = raw[8 : 8 + size] if size <= 4 else data[start : start + size]
        if len(value) == size:
            entries.append(Entry(tag, kind, values, value, raw))
    following = data[place + 2 + 12 * count :][:4]
    return Directory(order, place, tuple(entries), following)


def keep_entries(data: bytes, directory: Directory, tags: frozenset[int]) -> bytes:
    """Return a TIFF file whose first directory holds only these tags, at the same place."""
    kept = [entry.raw for entry in directory.entries if entry.tag in tags]
    head = struct.pack(f"{directory.order}H", len(kept)) + b"".join(kept) + directory.following.ljust(4, b"\0")
    return data[: directory.place] + head + data[directory.place + len(head) :]
