"""What a person hands in → a collection of pictures: files, folders, archives, tables, clips, samples."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.core.errors import CaptioningError, DataError
from captioning.core.settings import get_settings
from captioning.media.collection import (
    TABLE_SUFFIXES,
    Collection,
    FailedImage,
    NamedImage,
    open_csv,
    open_files,
    open_folder,
    open_zip,
)
from captioning.tabs.image_map.clips import CLIP_SUFFIXES, OnStep, read_clip
from captioning.tabs.image_map.samples import find_samples
from captioning.tabs.image_map.view import Scratch
from captioning.web.visitor import sits_here

_FOLDERS_REFUSED = (
    "Folders are read only where the page and the server are on the same machine; upload the files instead, or "
    "set CAPTIONSCOPE_LOCAL_FOLDERS=on."
)


@dataclass(frozen=True, slots=True)
class SentFile:
    """An uploaded file and the name, with folders, that it has on the sender's machine."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from; `kind` says which of the other fields tells."""

    kind: str
    files: tuple[SentFile, ...] = ()
    folder: str = ""
    samples: str = ""


def read_source(event: gr.EventData, request: gr.Request) -> Source:
    """What the page says was handed in. Raises `DataError` where it may not be read, or is nothing."""
    kind = getattr(event, "kind", None)
    if kind == "files":
        return Source("files", files=read_sent_files(event))
    if kind == "folder":
        return folder_source(getattr(event, "folder", None), request)
    if kind == "samples":
        return Source(kind, samples=find_samples(getattr(event, "samples", None)).name)
    raise DataError("Nothing was chosen; choose pictures, a folder, a zip, a CSV or a clip.")


def read_sent_files(event: gr.EventData) -> tuple[SentFile, ...]:
    """The files that the page says were uploaded. Raises `DataError` for any other file of this machine."""
    files = getattr(event, "files", None)
    if not isinstance(files, list) or not files:
        raise DataError("No files arrived; choose pictures, a folder, a zip, a CSV or a clip.")
    return tuple(read_file_record(file, "name") for file in files)


def read_file_record(record: object, name_field: str) -> SentFile:
    """An uploaded file as a page or a client describes it. Raises `DataError` for any other file of this machine."""
    path, name = (record.get("path"), record.get(name_field)) if isinstance(record, dict) else (None, None)
    if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise DataError("Those files did not arrive; choose them again.")
    return SentFile(Path(path), (clean_name(name) if isinstance(name, str) else "") or Path(path).name)


def clean_name(name: str) -> str:
    """A name as a relative path with forward slashes that leads nowhere else."""
    parts = PurePosixPath(name.replace("\\", "/").replace("\0", "")).parts
    return "/".join(part for part in parts if part not in ("/", "..", "."))


def may_read_folders(request: gr.Request) -> bool:
    """Whether this person may name a folder of the server's machine: by a setting, or because they sit at it."""
    allowed = get_settings().local_folders
    if allowed != "auto":
        return allowed == "on"
    return sits_here(request)


def folder_source(folder: object, request: gr.Request) -> Source:
    """A folder that was typed. Raises `DataError` where it may not be read, or nothing was typed."""
    if not may_read_folders(request):
        raise DataError(_FOLDERS_REFUSED)
    if not isinstance(folder, str) or not folder.strip():
        raise DataError("Type the path of a folder with pictures.")
    return Source("folder", folder=folder.strip())


def gather(source: Source, scratch: Scratch, on_step: OnStep) -> Collection:
    """All pictures of a source by name; what cannot be used is told by name and reason, and the rest goes on."""
    if source.kind == "samples":
        return find_samples(source.samples).gather(scratch, on_step)
    if source.kind == "folder":
        return open_folder(Path(source.folder).expanduser())
    return gather_files(source.files, scratch, on_step)


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
