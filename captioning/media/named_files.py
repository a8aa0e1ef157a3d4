"""What a person names on a command line → files: a file, all that fit in a folder, or all that a pattern matches."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from captioning.core.errors import DataError
from captioning.media.clip_frames import CLIP_SUFFIXES
from captioning.media.collection import exists, has_picture_suffix, is_clutter
from captioning.media.kinds import HEAD_BYTES, Kind, kind_of

_MOST_SUFFIXES = 6


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """Files in order, and a note on those beside them that are left out; empty where there are none."""

    files: tuple[str, ...]
    note: str = ""


def find_pictures(name: str) -> NamedFiles:
    """Return the pictures that a name stands for. Raises `DataError` where a folder or a pattern has none."""
    return _find(name, "pictures", _may_be_picture)


def find_clips(name: str) -> NamedFiles:
    """Return the clips that a name stands for. Raises `DataError` where a folder or a pattern has none."""
    return _find(name, "clips", _may_be_clip)


def _find(name: str, what: str, is_wanted: Callable[[str], bool]) -> NamedFiles:
    path = Path(name)
    if exists(path) and path.is_dir():
        files, others = _sort_files(_walk(name), is_wanted)
        if not files:
            raise DataError(f"{name} holds no {what}{f' ({others})' if others else ''}; choose a folder that does.")
    elif not exists(path) and glob.has_magic(name):
        matches = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())  # noqa: PTH207  # of any root
        files, others = _sort_files(matches, is_wanted)
        if not files:
            raise DataError(f"No {what} match {name}{f' ({others})' if others else ''}; check the pattern.")
    else:
        return NamedFiles((name,))
    return NamedFiles(files, f"{name}: {others}" if others else "")


def _walk(folder: str) -> Iterator[str]:
    """Yield all files in a folder and below, by name."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        yield from (os.path.normpath(Path(here) / name) for name in sorted(files))


def _sort_files(paths: Iterable[str], is_wanted: Callable[[str], bool]) -> tuple[tuple[str, ...], str]:
    """Return wanted files, and in words how many others there are and of which kinds; hidden ones do not count."""
    files, others = [], Counter[str]()
    for path in paths:
        if is_clutter(Path(path).name):
            continue
        if is_wanted(path):
            files.append(path)
        else:
            others[Path(path).suffix.lower() or "no suffix"] += 1
    count = others.total()
    kinds = ", ".join(f"{number} {suffix}" for suffix, number in others.most_common(_MOST_SUFFIXES))
    more = ", …" if len(others) > _MOST_SUFFIXES else ""
    plural = "s" if count > 1 else ""
    return tuple(files), f"{count} other file{plural} left out: {kinds}{more}" if count else ""


def _may_be_picture(path: str) -> bool:
    kind = _kind_of_file(path)
    if kind is None:
        return has_picture_suffix(path)
    return kind.sort in ("picture", "moving") or (kind.sort != "clip" and has_picture_suffix(path))


def _may_be_clip(path: str) -> bool:
    kind = _kind_of_file(path)
    suffix = Path(path).suffix.lower()
    return suffix in CLIP_SUFFIXES or suffix == ".gif" or (kind is not None and kind.sort == "clip")


def _kind_of_file(path: str) -> Kind | None:
    """Return what a file is; `None` also where it cannot be read, which opening it then says."""
    try:
        with Path(path).open("rb") as file:
            return kind_of(file.read(HEAD_BYTES))
    except OSError:
        return None
