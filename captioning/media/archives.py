"""A zip → the pictures in it, unpacked under numbers; every guard on archives."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.collection import (
    Collection,
    FailedImage,
    NamedImage,
    besides,
    check_count,
    folder_of,
    has_picture_suffix,
    is_clutter,
)

_CHUNK_BYTES = 2**20
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
    failed: list[FailedImage] = []
    chosen: list[zipfile.ZipInfo] = []
    others = 0
    for entry in archive.infolist():
        if is_clutter(entry.filename) or entry.is_dir():
            continue
        reason = _refusal(entry)
        if reason:
            failed.append(FailedImage(entry.filename, reason))
        elif not has_picture_suffix(entry.filename):
            others += 1
        else:
            chosen.append(entry)
    _check_sizes(archive, chosen, title)
    if not chosen and not failed:
        raise DataError(f"{title} holds no pictures{besides(others)}; pack some, or choose another.")
    images: list[NamedImage] = []
    for number, entry in enumerate(chosen):
        place = into / f"{number:05d}{PurePosixPath(entry.filename).suffix.lower()}"
        try:
            with archive.open(entry) as packed:
                _copy(packed, place, entry.file_size)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, and not that of the entry, of which bz2 says it the same way
            place.unlink(missing_ok=True)
            failed.append(FailedImage(entry.filename, f"It is damaged inside the archive ({error})."))
            continue
        images.append(NamedImage(entry.filename, place, folder=folder_of(entry.filename)))
    return Collection(tuple(images), tuple(failed))


def _refusal(entry: zipfile.ZipInfo) -> str:
    name = entry.filename.replace("\\", "/")
    if name.startswith("/") or ".." in PurePosixPath(name).parts or (len(name) > 1 and name[1] == ":"):
        return "Its name leads out of the archive."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "It is a link, not a picture."
    if not has_picture_suffix(name):
        return ""
    if entry.flag_bits & 1:
        return "It is locked with a password."
    limit = get_settings().max_upload_bytes
    if entry.file_size > limit:
        return f"It has {entry.file_size / 2**20:,.0f} MB; a picture may have {limit / 2**20:,.0f} MB."
    return ""


def _check_sizes(archive: zipfile.ZipFile, chosen: Sequence[zipfile.ZipInfo], title: str) -> None:
    """Refuse before anything is written. The directory cannot understate a size: reading stops there."""
    settings = get_settings()
    count = len(archive.infolist())
    if count > settings.zip_files:
        raise DataError(
            f"{title} lists {count:,} files; the limit is {settings.zip_files:,} (CAPTIONSCOPE_ZIP_FILES). Split it."
        )
    check_count(len(chosen), f"{title} holds")
    unpacked = sum(entry.file_size for entry in chosen)
    if unpacked > settings.zip_bytes:
        raise DataError(
            f"{title} unpacks to {unpacked / 2**20:,.0f} MB; the limit is {settings.zip_bytes / 2**20:,.0f} MB "
            "(CAPTIONSCOPE_ZIP_BYTES). Split it, or make the pictures smaller."
        )
    packed = sum(entry.compress_size for entry in chosen)
    # What is no larger than one picture may be is harmless, however well a drawing packs.
    if unpacked > settings.max_upload_bytes and unpacked > settings.zip_ratio * packed:
        raise DataError(
            f"{title} unpacks to {unpacked / max(1, packed):,.0f} times its size; pictures never do more than "
            f"{settings.zip_ratio} times (CAPTIONSCOPE_ZIP_RATIO). Pack them again."
        )


def _copy(packed: IO[bytes], place: Path, size: int) -> None:
    left = size
    with place.open("xb") as file:
        while chunk := packed.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("larger than its directory says")
            file.write(chunk)


# ---- tables ----
