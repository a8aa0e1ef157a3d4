"""A tar, compressed or not → the pictures in it, unpacked under numbers as from a zip; every guard on tars."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any

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

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_MOST_READ = 16 * 2**20
"""No sound archive makes its reader ask for more at once; a header that does would fill the memory."""
_DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, ValueError, EOFError, IndexError, OverflowError)


def is_tar(name: str) -> bool:
    """Whether a name ends as those of tars do."""
    return name.lower().endswith(TAR_SUFFIXES)


def open_tar(path: Path, into: Path, name: str | None = None) -> Collection:
    """Unpack the pictures of a tar into the folder `into`; the same is left out and refused as of a zip.

    Raises `DataError`.
    """
    title = name or path.name
    try:
        with path.open("rb") as packed:
            opener: Any = _OPENERS.get(packed.read(2))
            packed.seek(0)
            plain: IO[bytes] = packed if opener is None else opener(packed)
            with tarfile.open(fileobj=_Bounded(plain, path.stat().st_size, title), mode="r:") as archive:  # type: ignore[call-overload]
                return _unpack(archive, into, title)
    except _DAMAGED as error:
        raise DataError(f"{title} is damaged or no tar that can be read; pack it again.") from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so of damage
            raise DataError(f"{title} is damaged or no tar that can be read; pack it again.") from error
        raise DataError(f"{title} cannot be unpacked ({error.strerror or 'input error'}).") from error


class _Bounded:
    """An unpacked stream that ends with an error where more comes out than may."""

    def __init__(self, plain: IO[bytes], packed_bytes: int, title: str) -> None:
        self._plain, self._title = plain, title
        settings = get_settings()
        grown = max(settings.max_upload_bytes, settings.zip_ratio * packed_bytes)
        self._most = min(settings.zip_bytes, grown)
        self._by_ratio = grown < settings.zip_bytes

    def read(self, size: int = -1) -> bytes:
        """Read as files do."""
        if not 0 <= size <= _MOST_READ:
            raise ValueError("a header that asks for too much")
        self._check(self.tell() + size)
        return self._plain.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place, which unpacks everything before it."""
        if whence == 0:
            self._check(place)
        return self._plain.seek(place, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._plain.tell()

    def _check(self, place: int) -> None:
        if place <= self._most + tarfile.RECORDSIZE:
            return
        if self._by_ratio:
            ratio = get_settings().zip_ratio
            raise DataError(
                f"{self._title} unpacks to more than {ratio} times its size, which pictures never do "
                "(CAPTIONSCOPE_ZIP_RATIO). Pack them again."
            )
        raise DataError(too_many_bytes(place, self._title))


def _unpack(archive: tarfile.TarFile, into: Path, title: str) -> Collection:
    """Unpack what precedes damage, if there is any."""
    members, chosen = _list_members(archive, title), Chosen()
    names = decode_names([member.name.encode("utf-8", "surrogateescape") for member in members])
    for member, name in zip(members, names, strict=True):
        if not member.isdir():
            chosen.consider(member, name, member.size, is_link=not member.isreg())
    check_count(len(chosen.wanted), f"{title} holds")
    images: list[NamedImage] = []
    for number, (member, name) in enumerate(chosen.wanted):
        place, packed = numbered(into, number, name), archive.extractfile(member)
        assert packed is not None  # it is a file
        try:
            copy_packed(packed, place, member.size)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            place.unlink(missing_ok=True)
            chosen.failed.append(FailedImage(name, "The archive is damaged or cut off here."))
            break
        images.append(NamedImage(name, place, folder=folder_of(name)))
    if not images and not chosen.failed:
        raise DataError(f"{title} holds no pictures{besides(chosen.others)}; pack some, or choose another.")
    return Collection(tuple(images), tuple(chosen.failed), OtherFiles.of_names(chosen.others))


def _list_members(archive: tarfile.TarFile, title: str) -> list[tarfile.TarInfo]:
    """All entries, or those that precede damage. Raises `DataError` for too many, and where there is none."""
    members: list[tarfile.TarInfo] = []
    try:
        for member in archive:
            members.append(member)
            check_entries(len(members), title)
    except (*_DAMAGED, OSError) as error:
        if not members or (isinstance(error, OSError) and error.errno is not None):
            raise
    return members
