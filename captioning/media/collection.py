"""Many pictures at once: files or a folder → named pictures, and why the others are left out.

Nothing is decoded here: whether a file really is a picture, `images.open_image` says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.images import shown_name

FOLDER_TABLES = ("captions.tsv", "metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that lie beside the pictures that they tell of: those of training here, and those of image folders."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A file that may be a picture. `name` is what the person calls it; `label` and `folder` may be empty.

    Names become valid text, which those of files need not be; `path` stays as it is.
    """

    name: str
    path: Path
    label: str = ""
    folder: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", shown_name(self.name))
        object.__setattr__(self, "folder", shown_name(self.folder))


@dataclass(frozen=True, slots=True)
class FailedImage:
    """A file that was left out, and why, in words for people."""

    name: str
    reason: str

    @classmethod
    def of_error(cls, name: str, error: Exception) -> FailedImage:
        """What an error says of the file, whose name stands beside it and is not said twice."""
        sentence = str(error)
        return cls(name, f"It{sentence.removeprefix(name)}" if sentence.startswith(f"{name} ") else sentence)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", shown_name(self.name))


@dataclass(frozen=True, slots=True)
class OtherFiles:
    """How many files were passed over because no picture has such a name, by kind, such as `HEIC` or `TXT`."""

    kinds: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of_names(cls, names: Iterable[str]) -> OtherFiles:
        """Count files by the end of their names; the commonest kind comes first."""
        counted = Counter(PurePosixPath(name).suffix[1:].upper() or _NO_SUFFIX for name in names)
        return cls(tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))

    def __add__(self, more: OtherFiles) -> OtherFiles:
        counted = Counter(dict(self.kinds)) + Counter(dict(more.kinds))
        return OtherFiles(tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))

    def __len__(self) -> int:
        return sum(count for _, count in self.kinds)

    def __str__(self) -> str:
        """Say how many were left out, of which kinds; empty where there are none."""
        if not self.kinds:
            return ""
        files = "1 file is no picture" if len(self) == 1 else f"{len(self):,} files are no pictures"
        listed = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds)
        return f"Left out: {files} that can be read here ({listed})."


_NO_SUFFIX = "without a suffix"
NO_OTHERS = OtherFiles()


@dataclass(frozen=True, slots=True)
class Collection:
    """Pictures in order, the files that cannot be used though they may be pictures, and the number of other files."""

    images: tuple[NamedImage, ...]
    failed: tuple[FailedImage, ...] = ()
    others: OtherFiles = NO_OTHERS

    def __add__(self, more: Collection) -> Collection:
        return Collection(self.images + more.images, self.failed + more.failed, self.others + more.others)


def open_files(paths: Sequence[Path], names: Sequence[str] | None = None) -> Collection:
    """Single files, under `names` where they are given; hidden ones and those of no picture's suffix are left out.

    Raises `DataError` for more than a map holds.
    """
    images, failed = [], []
    for path, name in zip(paths, names or [path.name for path in paths], strict=True):
        if is_clutter(name):
            continue
        if not has_picture_suffix(name) and not has_picture_suffix(path.name):
            failed.append(FailedImage(name, "It is no picture."))
        else:
            images.append(NamedImage(name, path, folder=folder_of(name)))
            check_count(len(images), "These are")
    return Collection(tuple(images), tuple(failed))


def open_folder(path: Path) -> Collection:
    """All pictures in a folder and below, by name; hidden files are passed over, links that lead outside are listed.

    Raises `DataError` where it is no folder, holds no picture, or more than a map holds.
    """
    if not exists(path) or not path.is_dir():
        raise DataError(f"There is no folder {path}; check its path.")
    root = path.resolve()
    title = path.name or root.name or str(root)  # `.` and `/` have no name of their own
    images: list[NamedImage] = []
    failed: list[FailedImage] = []

    def refuse(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix() if error.filename else title
        failed.append(FailedImage(name, f"It cannot be read ({error.strerror or 'input error'})."))

    others: list[str] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        failed += [
            FailedImage((here / name).relative_to(root).as_posix(), "It is a link that leads out of the folder.")
            for name in folders
            if leads_outside(here / name, root)
        ]
        for name in sorted(files):
            relative = (here / name).relative_to(root)
            if is_clutter(name) or name in FOLDER_TABLES:
                continue
            if not has_picture_suffix(name):
                others.append(name)
            elif leads_outside(here / name, root):
                failed.append(FailedImage(relative.as_posix(), "It is a link that leads out of the folder."))
            elif not (here / name).is_file():
                failed.append(FailedImage(relative.as_posix(), "It is no file that can be read."))
            else:
                images.append(NamedImage(relative.as_posix(), here / name, folder=folder_of(relative.as_posix())))
                check_count(len(images), f"{title} holds")
    if not images and not failed:
        raise DataError(f"{title} holds no pictures{besides(others)}; choose a folder that does.")
    return Collection(tuple(images), tuple(failed), OtherFiles.of_names(others))


def is_clutter(name: str) -> bool:
    """Hidden files and folders, what archivers of macOS and Windows leave behind, and what has no name at all."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[-1].lower() in ("thumbs.db", "desktop.ini"):
        return True
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)


@cache
def _picture_suffixes() -> frozenset[str]:
    from PIL import Image

    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return frozenset(readable - {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".hdf", ".h5", ".grib", ".bufr"})


def has_picture_suffix(name: str) -> bool:
    """Whether a name ends as pictures do."""
    return PurePosixPath(name).suffix.lower() in _picture_suffixes()


def folder_of(name: str) -> str:
    """The folder in a name, empty where there is none."""
    parent = PurePosixPath(name.replace("\\", "/")).parent.as_posix()
    return "" if parent in (".", "/") else parent


def leads_outside(path: Path, root: Path) -> bool:
    """Whether a link leads out of the folder that was named."""
    return path.is_symlink() and not really(path).is_relative_to(root)


def exists(path: Path) -> bool:
    """Whether there is anything; under a name that no file can have there is nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def really(path: Path) -> Path:
    """Where a path leads; one that leads in a circle, which `Path.resolve` refuses, stays in it."""
    return Path(os.path.realpath(path))


def besides(others: Sequence[str]) -> str:
    """Return how many other files there are, of which kinds, for a sentence in which no picture was found."""
    if not others:
        return ""
    listed = ", ".join(f"{count:,} {kind}" for kind, count in OtherFiles.of_names(others).kinds)
    return f" (only {len(others):,} other file{'s' if len(others) > 1 else ''}: {listed})"


def check_count(count: int, title: str) -> None:
    """Raise `DataError` beyond the pictures that a map takes."""
    limit = get_settings().map_images
    if count > limit:
        raise DataError(f"{title} more than {limit:,} pictures; choose fewer, or raise CAPTIONSCOPE_MAP_IMAGES.")
