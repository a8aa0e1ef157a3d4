"""Entries of an archive of any kind: which are taken, where they go, and how much may come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.collection import FailedImage, has_picture_suffix, is_clutter

_CHUNK_BYTES = 2**20


@dataclass(slots=True)
class Chosen:
    """The entries that are unpacked with their names, those that are left out and why, and the names of the others."""

    wanted: list[tuple[Any, str]] = field(default_factory=list)
    failed: list[FailedImage] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def consider(
        self, entry: object, name: str, num_bytes: int, *, is_link: bool = False, is_locked: bool = False
    ) -> bool:
        """Sort an entry that is no folder into one of the lists; whether it is wanted."""
        if is_clutter(name):
            return False
        reason = _refusal(name, num_bytes, is_link, is_locked)
        if reason:
            self.failed.append(FailedImage(name, reason))
        elif not has_picture_suffix(name):
            self.others.append(name)
        else:
            self.wanted.append((entry, name))
            return True
        return False


def _refusal(name: str, num_bytes: int, is_link: bool, is_locked: bool) -> str:
    name = name.replace("\\", "/")
    if name.startswith("/") or ".." in PurePosixPath(name).parts or (len(name) > 1 and name[1] == ":"):
        return "Its name leads out of the archive."
    if is_link:
        return "It is a link, not a picture."
    if not has_picture_suffix(name):
        return ""
    if is_locked:
        return "It is locked with a password."
    limit = get_settings().max_upload_bytes
    if num_bytes > limit:
        return f"It has {num_bytes / 2**20:,.0f} MB; a picture may have {limit / 2**20:,.0f} MB."
    return ""


def check_entries(count: int, title: str) -> None:
    """Raise `DataError` beyond the files that an archive may list."""
    limit = get_settings().zip_files
    if count > limit:
        raise DataError(f"{title} lists {count:,} files; the limit is {limit:,} (CAPTIONSCOPE_ZIP_FILES). Split it.")


def too_many_bytes(unpacked: int, title: str) -> str:
    """Return the sentence about an archive that unpacks to so many bytes, beyond the limit."""
    limit = get_settings().zip_bytes
    return (
        f"{title} unpacks to {unpacked / 2**20:,.0f} MB; the limit is {limit / 2**20:,.0f} MB "
        "(CAPTIONSCOPE_ZIP_BYTES). Split it, or make the pictures smaller."
    )


def numbered(into: Path, number: int, name: str) -> Path:
    """Where an entry lies when it is unpacked: no entry chooses its place."""
    return into / f"{number:05d}{PurePosixPath(name).suffix.lower()}"


def copy_packed(packed: IO[bytes], place: Path, num_bytes: int) -> None:
    """Write an entry to a new file. Raises `ValueError` where it is larger than was said, and what reading raises."""
    left = num_bytes
    with place.open("xb") as file:
        while chunk := packed.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise ValueError("larger than its directory says")
            file.write(chunk)
