"""Whatever holds pictures → a collection, by its kind."""

from __future__ import annotations

import zipfile
from pathlib import Path

from captioning.core.errors import DataError
from captioning.media.archives import open_zip
from captioning.media.collection import (
    Collection,
    exists,
    open_files,
    open_folder,
)
from captioning.media.tables import TABLE_SUFFIXES, open_csv


def open_any(path: Path, into: Path) -> Collection:
    """What `path` is, by its kind: a folder, a zip that is unpacked below `into`, a table, or one picture.

    For what a person names on their own machine: a table may then point anywhere. Raises `DataError`.
    """
    if not exists(path):
        raise DataError(f"There is no {path}; give a folder, a zip, a CSV or a picture.")
    if path.is_dir():
        return open_folder(path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return open_csv(path, path.parent, anywhere=True)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return open_zip(path, into)
    return open_files([path])
