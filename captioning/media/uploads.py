"""Uploaded files → a collection of pictures: what archives hold, tables name and clips show among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from captioning.core.errors import CaptioningError
from captioning.media.archives import open_zip
from captioning.media.clip_frames import CLIP_SUFFIXES, OnStep, read_clip
from captioning.media.collection import Collection, FailedImage, NamedImage, open_files
from captioning.media.scratch import Scratch
from captioning.media.tables import TABLE_SUFFIXES, open_csv


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
    """Pictures among uploaded files, in their archives, named by their tables, and cut out of their clips."""
    tables = [file for file in files if _suffix(file) in TABLE_SUFFIXES]
    archives = [file for file in files if _suffix(file) == ".zip"]
    clips = [file for file in files if _suffix(file) in CLIP_SUFFIXES]
    rest = [file for file in files if file not in (*tables, *archives, *clips)]
    parts = []
    for number, file in enumerate((*archives, *clips)):
        on_step(number, len(archives) + len(clips), file.name)
        parts.append(_try(file, lambda file=file: _open_packed(file, scratch, on_step)))  # type: ignore[misc]
    if tables:
        found = merge_collections([*parts, _as_collection(rest)])
        root = lay_out(found.images, scratch)
        listed = [_try(table, lambda table=table: open_csv(table.path, root)) for table in tables]  # type: ignore[misc]
        return merge_collections([Collection((), found.failed), *listed])
    return merge_collections([*parts, _as_collection(rest)])


def _open_packed(file: SentFile, scratch: Scratch, on_step: OnStep) -> Collection:
    if _suffix(file) == ".zip":
        into = scratch.path / f"zip-{len(list(scratch.path.iterdir()))}"
        into.mkdir()
        return open_zip(file.path, into, file.name)
    return read_clip(file.path, file.name, scratch, on_step)


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


def _as_collection(files: Sequence[SentFile]) -> Collection:
    if not files:
        return Collection((), ())
    return open_files([file.path for file in files], [file.name for file in files])


def merge_collections(parts: Sequence[Collection]) -> Collection:
    """One after the other."""
    return Collection(
        tuple(image for part in parts for image in part.images), tuple(one for part in parts for one in part.failed)
    )


def _try(file: SentFile, read: Callable[[], Collection]) -> Collection:
    try:
        return read()
    except CaptioningError as error:
        return Collection((), (FailedImage.of_error(file.name, error),))


def _suffix(file: SentFile) -> str:
    return Path(file.name).suffix.lower()
