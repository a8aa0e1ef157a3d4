"""A table of paths and labels → the pictures that it names; every guard on tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.collection import (
    Collection,
    FailedImage,
    NamedImage,
    check_count,
    folder_of,
    has_picture_suffix,
    really,
)

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_PATH_COLUMNS = ("path", "image", "image_path", "imagepath", "file", "filepath", "file_path", "filename", "file_name")
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "kind", "target")
_SEPARATORS = (",", ";", "\t", "|")
_ROWS_PER_PICTURE = 2
"""A table may list more than is there, but every row is looked for: so many rows for each picture of a map."""


def open_csv(path: Path, root: Path, anywhere: bool = False) -> Collection:
    """A table of pictures: a column of paths counted from `root`, and where there is one a column of labels.

    Commas, semicolons, tabs and bars separate; a first line may name the columns (`path`, `image`, `file`, … and
    `label`, `class`, …). Paths may lead out of `root` only where `anywhere` allows it. What is missing is listed.
    Raises `DataError` where it is no such table, or none of its pictures is there.
    """
    rows = _read_rows(path)
    if not rows:
        raise DataError(f"{path.name} is empty; write a column of paths, and one of labels if there are any.")
    path_column, label_column, first = _find_columns(rows[0], path.name)
    limit = _ROWS_PER_PICTURE * get_settings().map_images
    if len(rows) - first > limit:
        raise DataError(
            f"{path.name} lists {len(rows) - first:,} rows; the limit is {limit:,} ({_ROWS_PER_PICTURE} × "
            "CAPTIONSCOPE_MAP_IMAGES). Split it."
        )
    root = really(root)
    images: list[NamedImage] = []
    failed: list[FailedImage] = []
    for row in rows[first:]:
        name = row[path_column].strip() if path_column < len(row) else ""
        if not name:
            continue
        label = row[label_column].strip() if label_column is not None and label_column < len(row) else ""
        place = _locate(name, root, anywhere)
        if isinstance(place, str):
            failed.append(FailedImage(name, place))
        else:
            images.append(NamedImage(name, place, label, folder_of(name)))
            check_count(len(images), f"{path.name} holds")
    if not images:
        if not failed:
            raise DataError(f"{path.name} names no pictures; write a column of paths.")
        raise DataError(
            f"None of the {len(failed)} pictures that {path.name} names can be used, the first is {failed[0].name} "
            f"({failed[0].reason.rstrip('.').lower()}); paths count from {'its folder' if anywhere else 'the top'}."
        )
    return Collection(tuple(images), tuple(failed))


def _read_rows(path: Path) -> list[list[str]]:
    limit = get_settings().max_upload_bytes
    try:
        if path.stat().st_size > limit:
            raise DataError(f"{path.name} has more than {limit / 2**20:,.0f} MB; that is no table of pictures.")
        text = _decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror or 'input error'}).") from error
    if "\0" in text:
        raise DataError(f"{path.name} is no text; save the table as CSV.")
    head = next(_filled_lines(text), "")
    separator = max(_SEPARATORS, key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{path.name} is no table that can be read ({error}); save it as CSV.") from error
    return [row for row in rows if any(cell.strip() for cell in row)]


def _filled_lines(text: str) -> Iterator[str]:
    return (line for line in io.StringIO(text) if line.strip())


def _decode(data: bytes) -> str:
    """Text as spreadsheets write it: UTF-8 or UTF-16 with their marks, or the Western code page of Windows."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _find_columns(head: Sequence[str], title: str) -> tuple[int, int | None, int]:
    """The columns of paths and labels, and in which row the pictures begin (0 where no line names the columns)."""
    names = [cell.strip().lower() for cell in head]
    for known in _PATH_COLUMNS:
        if known in names:
            label = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
            return names.index(known), label, 1
    for column, cell in enumerate(head):
        if has_picture_suffix(cell.strip()):
            return column, next((c for c in range(len(head)) if c != column), None), 0
    raise DataError(f"{title} has no column of pictures; call it path (or image, file, filename) in the first line.")


def _locate(name: str, root: Path, anywhere: bool) -> Path | str:
    """The file that a table means, counted from the real folder `root`, or why it cannot be had."""
    try:
        place = root / name
        if "\\" in name and not place.exists():
            place = root / name.replace("\\", "/")
        if not anywhere and not really(place).is_relative_to(root):
            return "Its path leads outside."
        return place if place.is_file() else "There is no such file."
    except (OSError, ValueError):  # a name that is too long, or that no file system takes
        return "There is no such file."
