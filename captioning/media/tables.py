"""A table of paths and labels → the pictures that it names; every guard on tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.collection import (
    FOLDER_TABLES,
    Collection,
    FailedImage,
    NamedImage,
    check_count,
    folder_of,
    has_picture_suffix,
    really,
)
from captioning.media.table_rows import Cell, Row, find_column, plain_title, read_rows

PATH_COLUMNS = (
    "path", "imagepath", "imgpath", "picturepath", "photopath", "filepath", "fullpath", "sourcefile", "image", "img",
    "picture", "photo", "imagefile", "imgfile", "file", "filename", "imagename", "imgname", "imagefilename", "name",
    "images", "pictures", "files", "paths", "uri", "location",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "classname", "category", "categoryname", "kind", "species", "target", "tag",
)  # fmt: skip
_CHECKED_ROWS = 50
_ROWS_PER_PICTURE = 2
"""A table may list more than is there, but every row is looked for: so many rows for each picture of a map."""
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}
"""What files of pictures begin with."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a table has its paths and its labels, and in which row its pictures begin."""

    path: int
    label: int | None
    first_row: int


def open_table(
    path: Path, root: Path, anywhere: bool = False, *, into: Path | None = None, below: str = "", title: str = ""
) -> Collection:
    """A table of pictures: a column of paths counted from `root`, and where there is one a column of labels.

    A first line may name the columns (`path`, `Image Path`, `file_name`, … and `label`, `class`, …). Paths may lead out
    of `root` only where `anywhere` allows it; with `below` they are looked for in that folder of `root` first. Pictures
    that the table itself holds are written to the folder `into`. What is missing is listed. Raises `DataError` where it
    is no such table, or none of its pictures is there.
    """
    title = title or path.name
    rows = read_rows(path, title)
    columns = _find_columns(rows, title)
    _check_length(len(rows) - columns.first_row, title)
    root = really(root)
    images: list[NamedImage] = []
    failed: list[FailedImage] = []
    for number, (cell, label) in enumerate(_pairs(rows, columns)):
        if isinstance(cell, bytes):
            images.append(_write_picture(cell, number, label, into, title))
            check_count(len(images), f"{title} holds")
            continue
        place = _locate(cell, [root / below, root] if below else [root], root, anywhere)
        if isinstance(place, str):
            failed.append(FailedImage(cell, place))
        else:
            images.append(NamedImage(cell, place, label, folder_of(cell)))
            check_count(len(images), f"{title} holds")
    if not images:
        if not failed:
            raise DataError(f"{title} names no pictures; write a column of paths.")
        raise DataError(
            f"None of the {len(failed)} pictures that {title} names can be used, the first is {failed[0].name} "
            f"({failed[0].reason.rstrip('.').lower()}); paths count from {'its folder' if anywhere else 'the top'}."
        )
    return Collection(tuple(images), tuple(failed))


def add_labels(collection: Collection, root: Path) -> Collection:
    """Give pictures of a folder the labels that its table says, where one of `FOLDER_TABLES` lies in it or below.

    Raises `DataError` for such a table that cannot be read.
    """
    labels: dict[str, str] = {}
    for folder in sorted({"", *(image.folder for image in collection.images)}):
        for name in FOLDER_TABLES:
            if (root / folder / name).is_file():
                labels |= _read_labels(root / folder / name, folder)
    if not labels:
        return collection
    named = [replace(image, label=labels.get(_plain(image.name), image.label)) for image in collection.images]
    return replace(collection, images=tuple(named))


def _read_labels(path: Path, folder: str) -> Mapping[str, str]:
    rows = read_rows(path, quotes=path.suffix != ".tsv")
    columns = _find_columns(rows, path.name)
    if columns.label is None:
        return {}
    pairs = [(cell, label) for cell, label in _pairs(rows, columns) if isinstance(cell, str)]
    return {_plain(f"{folder}/{cell}" if folder else cell): label for cell, label in pairs}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def _check_length(count: int, title: str) -> None:
    limit = _ROWS_PER_PICTURE * get_settings().map_images
    if count > limit:
        raise DataError(
            f"{title} lists {count:,} rows; the limit is {limit:,} ({_ROWS_PER_PICTURE} × CAPTIONSCOPE_MAP_IMAGES). "
            "Split it."
        )


def _find_columns(rows: Sequence[Row], title: str) -> _Columns:
    """The columns of paths and labels, by their names or, where those say nothing, by what the cells look like."""
    if not rows:
        raise DataError(f"{title} is empty; write a column of paths, and one of labels if there are any.")
    head, width = rows[0], max(len(row) for row in rows[: _CHECKED_ROWS + 1])
    likely = [column for column in range(width) if _holds_paths(rows, column)]
    names = [plain_title(cell) for cell in head]
    known = [names.index(name) for name in PATH_COLUMNS if name in names]
    column = next((place for place in known if place in likely), next(iter((*likely, *known)), None))
    if column is None:
        raise DataError(f"{title} has no column of pictures; call it path (or image, file) in the first line.")
    if column < len(head) and _looks_like_path(head[column]):  # no line names the columns
        return _Columns(column, next((c for c in range(width) if c != column), None), 0)
    return _Columns(column, find_column(head, LABEL_COLUMNS), 1)


def _holds_paths(rows: Sequence[Row], column: int) -> bool:
    cells = [row[column] for row in rows[: _CHECKED_ROWS + 1] if column < len(row) and row[column]]
    return 2 * sum(map(_looks_like_path, cells)) >= max(1, len(cells) - 1) and any(map(_looks_like_path, cells))


def _looks_like_path(cell: Cell) -> bool:
    return isinstance(cell, bytes) or has_picture_suffix(cell.strip())


def _pairs(rows: Sequence[Row], columns: _Columns) -> Iterator[tuple[Cell, str]]:
    """The picture and the label of each row that has a picture, and of several rows of one picture the first."""
    known: set[Cell] = {""}
    for row in rows[columns.first_row :]:
        cell = row[columns.path] if columns.path < len(row) else ""
        label = row[columns.label] if columns.label is not None and columns.label < len(row) else ""
        cell = cell.strip() if isinstance(cell, str) else cell
        if cell not in known:
            known |= {cell} if isinstance(cell, str) else set()
            yield cell, label.strip() if isinstance(label, str) else ""


def _write_picture(data: bytes, number: int, label: str, into: Path | None, title: str) -> NamedImage:
    if into is None:
        raise DataError(f"{title} holds the pictures themselves; open it by itself, not together with other files.")
    place = into / f"row-{number:05d}{_SUFFIXES.get(data[:2], '.img')}"
    place.write_bytes(data)
    return NamedImage(f"{Path(title).stem}-{number:05d}{place.suffix}", place, label)


def _locate(name: str, bases: Sequence[Path], root: Path, anywhere: bool) -> Path | str:
    """The file that a table means, counted from the real folders `bases`, or why it cannot be had."""
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        return "It is an address, and nothing is fetched; download it first."
    reason = "There is no such file."
    for base in bases:
        for spelling in dict.fromkeys(_spellings(name)):
            found = _look(base / spelling, None if anywhere else root)
            if isinstance(found, Path):
                return found
            reason = found or reason
    return reason


def _look(place: Path, root: Path | None) -> Path | str:
    """The file at a place, or why it is not given; empty where there is none."""
    try:
        # Said before whether there is such a file, which nobody else may learn.
        if root is not None and not really(place).is_relative_to(root):
            return "Its path leads outside."
        return place if place.is_file() else ""
    except (OSError, ValueError):  # a name that is too long, or that no file system takes
        return ""


def _spellings(name: str) -> Iterator[str]:
    """A name as it stands, as systems with other slashes write it, and with letters and accents joined or apart."""
    for written in (name, name.replace("\\", "/")):
        yield written
        yield unicodedata.normalize("NFC", written)
        yield unicodedata.normalize("NFD", written)
