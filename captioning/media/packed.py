"""Files that hold several pictures each: archives and clips → their pictures, by the kind that their names say."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from captioning.core.errors import DataError
from captioning.media.archives import open_zip
from captioning.media.clip_frames import CLIP_SUFFIXES, OnStep, read_clip
from captioning.media.collection import Collection
from captioning.media.tars import is_tar, open_tar

_OTHER_ARCHIVES = frozenset({".7z", ".rar", ".zst", ".lz4", ".cab", ".iso", ".dmg"})


def is_clip(name: str) -> bool:
    """Whether a name ends as those of clips do."""
    return PurePosixPath(name).suffix.lower() in CLIP_SUFFIXES


def is_packed(name: str) -> bool:
    """Whether a name ends as those of archives and clips do."""
    return is_clip(name) or is_tar(name) or PurePosixPath(name).suffix.lower() in {".zip", *_OTHER_ARCHIVES}


def open_packed(path: Path, name: str, into: Path, on_step: OnStep = lambda *_: None) -> Collection:
    """Unpack an archive, or cut frames out of a clip, into a new folder below `into`.

    Raises `DataError` and `VideoError`.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _OTHER_ARCHIVES:
        raise DataError(f"{name} is an archive of a kind that is not unpacked here ({suffix[1:]}); pack it as a zip.")
    folder = into / f"packed-{len(list(into.iterdir()))}"
    folder.mkdir()
    if is_clip(name):
        return read_clip(path, name, folder, on_step)
    if is_tar(name) and not zipfile.is_zipfile(path):
        return open_tar(path, folder, name)
    return open_zip(path, folder, name)
