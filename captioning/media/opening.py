"""Whatever holds pictures → a collection, by its kind."""

from __future__ import annotations

import zipfile
from pathlib import Path

from captioning.core.errors import DataError
from captioning.media.clip_frames import OnStep
from captioning.media.collection import Collection, NamedImage, exists, open_folder
from captioning.media.packed import is_packed, open_packed
from captioning.media.table_rows import LONE_TABLE_SUFFIXES
from captioning.media.tables import add_labels, open_table


def open_any(path: Path, into: Path, on_step: OnStep = lambda *_: None) -> Collection:
    """What `path` is, by its kind: a folder, an archive or a clip, a table, or one picture.

    What has to be unpacked goes below `into`. For what a person names on their own machine: a table may then point
    anywhere. Raises `DataError` and `VideoError`.
    """
    if not exists(path):
        raise DataError(f"There is no {path}; give a folder, a zip, a table, a clip or a picture.")
    if path.is_dir():
        return add_labels(open_folder(path), path)
    if path.suffix.lower() in LONE_TABLE_SUFFIXES:
        return open_table(path, path.parent, anywhere=True, into=into)
    if is_packed(path.name) or zipfile.is_zipfile(path):
        return open_packed(path, path.name, into, on_step)
    return Collection((NamedImage(path.name, path),))
