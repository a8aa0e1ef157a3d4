"""A zip → the pictures in it, unpacked under numbers; every guard on archives."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.collection import (
    Collection,
    FailedImage,
    NamedImage,
    OtherFiles,
    besides,
    check_count,
    folder_of,
)
from captioning.media.entries import Chosen, check_entries, copy_packed, numbered, too_many_bytes
from captioning.media.legacy_text import decode_names

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_DIRECTORY_BYTES_PER_FILE = 400
"""More than a file's entry in an archive's directory takes with any sensible name."""
_ZIP64_LOCATOR_BYTES = 20
_ZIP64_RECORDS_BYTES = 56 + _ZIP64_LOCATOR_BYTES
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError, EOFError)
"""What reading a damaged entry of an archive raises."""


def open_zip(path: Path, into: Path, name: str | None = None) -> Collection:
    """Unpack the pictures of an archive into the folder `into`, under numbers, so that no entry chooses its place.

    Left out and listed are links, locked entries, names that lead outside, and what is larger than a picture may be.
    Raises `DataError` where it is no zip, holds no picture, or would unpack beyond the limits.
    """
    title = name or path.name
    try:
        _check_directory(path, title)
        with zipfile.ZipFile(path) as archive:
            return _unpack(archive, into, title)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise DataError(f"{title} is damaged or no zip that can be read; pack it again.") from error
    except OSError as error:
        raise DataError(f"{title} cannot be unpacked ({error.strerror or 'input error'}).") from error


def _check_directory(path: Path, title: str) -> None:
    """Refuse an archive that lists too many files before the list is read, which itself takes memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # Its last records, which may be followed by a comment of 64 KB.
        start = file.seek(max(0, size - 65_557 - _ZIP64_RECORDS_BYTES))
        tail = file.read()
        place = tail.rfind(b"PK\5\6")
        if place < 0 or place + 22 > len(tail):
            raise DataError(f"{title} is damaged or no zip that can be read; pack it again.")
        listed = _zip64_directory_bytes(file, tail[:place], start + place)
    if listed is None:
        listed = int.from_bytes(tail[place + 12 : place + 16], "little")
    limit = get_settings().zip_files
    if listed > limit * _DIRECTORY_BYTES_PER_FILE:
        raise DataError(f"{title} lists more than {limit:,} files; split it, or raise CAPTIONSCOPE_ZIP_FILES.")


def _zip64_directory_bytes(file: IO[bytes], before: bytes, end: int) -> int | None:
    """What the records of a large archive say that its directory takes, or `None` where there are none.

    `before` is what stands before the old record at `end`. `zipfile` believes them whatever the old record says, and
    looks for the one with the size right before its locator or, in newer versions, where the locator points: the
    larger of the two counts.
    """
    locator = before[-_ZIP64_LOCATOR_BYTES:]
    if len(locator) < _ZIP64_LOCATOR_BYTES or not locator.startswith(b"PK\6\7"):
        return None
    sizes = []
    for place in (end - _ZIP64_RECORDS_BYTES, int.from_bytes(locator[8:16], "little")):
        if 0 <= place < end:
            file.seek(place)
            record = file.read(_ZIP64_RECORDS_BYTES - _ZIP64_LOCATOR_BYTES)
            if record.startswith(b"PK\6\6"):
                sizes.append(int.from_bytes(record[40:48], "little"))
    return max(sizes, default=None)


def _unpack(archive: zipfile.ZipFile, into: Path, title: str) -> Collection:
    entries = archive.infolist()
    names = _names_of(entries)
    check_entries(len(entries), title)
    chosen = Chosen()
    for entry, name in zip(entries, names, strict=True):
        if not name.endswith(("/", "\\")):
            chosen.consider(
                entry,
                name,
                entry.file_size,
                is_link=stat.S_ISLNK(entry.external_attr >> 16),
                is_locked=bool(entry.flag_bits & 1),
            )
    _check_sizes([entry for entry, _ in chosen.wanted], title)
    if not chosen.wanted and not chosen.failed:
        raise DataError(f"{title} holds no pictures{besides(chosen.others)}; pack some, or choose another.")
    images: list[NamedImage] = []
    for number, (entry, name) in enumerate(chosen.wanted):
        place = numbered(into, number, name)
        try:
            with archive.open(entry) as packed:
                copy_packed(packed, place, entry.file_size)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, and not that of the entry, of which bz2 says it the same way
            place.unlink(missing_ok=True)
            chosen.failed.append(FailedImage(name, f"It is damaged inside the archive ({error})."))
            continue
        images.append(NamedImage(name, place, folder=folder_of(name)))
    return Collection(tuple(images), tuple(chosen.failed), OtherFiles.of_names(chosen.others))


def _names_of(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of entries; those that are not marked as UTF-8 are all of one encoding, which is not told."""
    unmarked = [place for place, entry in enumerate(entries) if not entry.flag_bits & _UTF8_FLAG]
    decoded = decode_names([_name_bytes(entries[place]) for place in unmarked])
    names = [entry.filename for entry in entries]
    for place, name in zip(unmarked, decoded, strict=True):
        names[place] = name
    return names


def _name_bytes(entry: zipfile.ZipInfo) -> bytes:
    """A name as it is stored, or as UTF-8 where the entry says that beside it (Info-ZIP's Unicode path)."""
    stored = entry.orig_filename.encode("cp437").split(b"\0", 1)[0]
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field = extra[4 : 4 + size]
        if kind == _UNICODE_PATH and field[:1] == b"\1" and field[1:5] == zlib.crc32(stored).to_bytes(4, "little"):
            return field[5:]
        extra = extra[4 + size :]
    return stored


def _check_sizes(chosen: Sequence[zipfile.ZipInfo], title: str) -> None:
    """Refuse before anything is written. The directory cannot understate a size: reading stops there."""
    settings = get_settings()
    check_count(len(chosen), f"{title} holds")
    unpacked = sum(entry.file_size for entry in chosen)
    if unpacked > settings.zip_bytes:
        raise DataError(too_many_bytes(unpacked, title))
    packed = sum(entry.compress_size for entry in chosen)
    # What is no larger than one picture may be is harmless, however well a drawing packs.
    if unpacked > settings.max_upload_bytes and unpacked > settings.zip_ratio * packed:
        raise DataError(
            f"{title} unpacks to {unpacked / max(1, packed):,.0f} times its size; pictures never do more than "
            f"{settings.zip_ratio} times (CAPTIONSCOPE_ZIP_RATIO). Pack them again."
        )
