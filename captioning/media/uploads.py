"""Uploaded files → a collection of pictures: what archives hold, tables name and clips show among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from captioning.core.errors import CaptioningError
from captioning.media.clip_frames import OnStep
from captioning.media.collection import Collection, FailedImage, NamedImage, folder_of, open_files
from captioning.media.packed import is_packed, open_packed
from captioning.media.scratch import Scratch
from captioning.media.table_rows import TABLE_SUFFIXES
from captioning.media.tables import open_table


@dataclass(frozen=True, slots=True)
class SentFile:
    """An uploaded file and the name, with folders, that it has on the sender's machine."""

    path: Path
    name: str


def clean_name(name: str) -> str:
    """A name as a relative path with forward slashes that leads nowhere else."""
    parts = PurePosixPath(name.replace("\\", "/").replace("\0", "")).parts
    return "/".join(part for part in parts if part not in ("/", "..", "."))


def gather_files(files: Sequence[SentFile], scratch: Scratch, on_step: OnStep) -> Collection:
    """Pictures among uploaded files, in their archives, named by their tables, and cut out of their clips.

    Where a table can be used, only the pictures that tables name.
    """
    tables = [file for file in files if PurePosixPath(file.name).suffix.lower() in TABLE_SUFFIXES]
    packed = [file for file in files if is_packed(file.name)]
    rest = [file for file in files if file not in (*tables, *packed)]
    parts = []
    for number, file in enumerate(packed):
        on_step(number, len(packed), file.name)
        parts.append(_try(file, partial(open_packed, file.path, file.name, scratch.path, on_step)))
    if rest:
        parts.append(open_files([file.path for file in rest], [file.name for file in rest]))
    found = merge_collections(parts)
    if not tables:
        return found
    root = lay_out(found.images, scratch)
    listed = merge_collections([_try(table, partial(_open_table, table, root, scratch)) for table in tables])
    if not listed.images:
        return found + listed
    return replace(found, images=()) + listed


def _open_table(table: SentFile, root: Path, scratch: Scratch) -> Collection:
    into = scratch.path / f"table-{len(list(scratch.path.iterdir()))}"
    into.mkdir()
    return open_table(table.path, root, into=into, below=folder_of(clean_name(table.name)), title=table.name)


def lay_out(images: Sequence[NamedImage], scratch: Scratch) -> Path:
    """A folder in which uploaded pictures lie under the names they had, so that a table's paths find them."""
    root = scratch.path / "named"
    root.mkdir(exist_ok=True)
    for image in images:
        place = root / clean_name(image.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            _link(image.path, place)
    return root


def _link(path: Path, place: Path) -> None:
    """The same file under another name; a copy where the two lie on different disks."""
    try:
        place.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, place)


def merge_collections(parts: Sequence[Collection]) -> Collection:
    """One after the other."""
    return sum(parts, start=Collection(()))


def _try(file: SentFile, read: Callable[[], Collection]) -> Collection:
    try:
        return read()
    except CaptioningError as error:
        return Collection((), (FailedImage.of_error(file.name, error),))
