"""What a person hands in → a collection of pictures: files, folders, archives, tables, clips, samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.clip_frames import OnStep
from captioning.media.collection import Collection
from captioning.media.opening import open_any
from captioning.media.scratch import Scratch
from captioning.media.uploads import SentFile, clean_name, gather_files
from captioning.tabs.image_map.samples import find_samples
from captioning.web.visitor import sits_here

_FOLDERS_REFUSED = (
    "Folders are read only where the page and the server are on the same machine; upload the files instead, or "
    "set CAPTIONSCOPE_LOCAL_FOLDERS=on."
)


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
        raise DataError("Type the path of a folder with pictures, of a table, an archive or a clip.")
    return Source("folder", folder=folder.strip().strip('"'))


def gather(source: Source, scratch: Scratch, on_step: OnStep) -> Collection:
    """All pictures of a source by name; what cannot be used is told by name and reason, and the rest goes on."""
    if source.kind == "samples":
        return find_samples(source.samples).gather(scratch, on_step)
    if source.kind == "folder":
        return open_any(Path(source.folder).expanduser(), scratch.path, on_step)
    return gather_files(source.files, scratch, on_step)
