"""Many pictures at once: files, a folder, an archive or a table → named pictures, and why the others are left out.

Nothing is decoded here: whether a file really is a picture, `images.open_image` says. Every guard on what holds
pictures lives here.
"""

from __future__ import annotations

import csv
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.images import shown_name

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_PATH_COLUMNS = ("path", "image", "image_path", "imagepath", "file", "filepath", "file_path", "filename", "file_name")
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "kind", "target")
_SEPARATORS = (",", ";", "\t", "|")
_ROWS_PER_PICTURE = 2
"""A table may list more than is there, but every row is looked for: so many rows for each picture of a map."""
_CHUNK_BYTES = 2**20
_DIGIT_SIDE = 160
_DIRECTORY_BYTES_PER_FILE = 400
"""More than a file's entry in an archive's directory takes with any sensible name."""
_ZIP64_LOCATOR_BYTES = 20
_ZIP64_RECORDS_BYTES = 56 + _ZIP64_LOCATOR_BYTES
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError, EOFError)
"""What reading a damaged entry of an archive raises."""


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
class Collection:
    """Pictures in order, and the files that were left out."""

    images: tuple[NamedImage, ...]
    failed: tuple[FailedImage, ...] = ()


def open_any(path: Path, into: Path) -> Collection:
    """What `path` is, by its kind: a folder, a zip that is unpacked below `into`, a table, or one picture.

    For what a person names on their own machine: a table may then point anywhere. Raises `DataError`.
    """
    if not _exists(path):
        raise DataError(f"There is no {path}; give a folder, a zip, a CSV or a picture.")
    if path.is_dir():
        return open_folder(path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return open_csv(path, path.parent, anywhere=True)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return open_zip(path, into)
    return open_files([path])


def open_files(paths: Sequence[Path], names: Sequence[str] | None = None) -> Collection:
    """Single files, under `names` where they are given; hidden ones and those of no picture's suffix are left out.

    Raises `DataError` for more than a map holds.
    """
    images, failed = [], []
    for path, name in zip(paths, names or [path.name for path in paths], strict=True):
        if _is_clutter(name):
            continue
        if not _has_picture_suffix(name) and not _has_picture_suffix(path.name):
            failed.append(FailedImage(name, "It is no picture."))
        else:
            images.append(NamedImage(name, path, folder=_folder_of(name)))
            _check_count(len(images), "These are")
    return Collection(tuple(images), tuple(failed))


def open_folder(path: Path) -> Collection:
    """All pictures in a folder and below, by name; hidden files are passed over, links that lead outside are listed.

    Raises `DataError` where it is no folder, holds no picture, or more than a map holds.
    """
    if not _exists(path) or not path.is_dir():
        raise DataError(f"There is no folder {path}; check its path.")
    root = path.resolve()
    title = path.name or root.name or str(root)  # `.` and `/` have no name of their own
    images: list[NamedImage] = []
    failed: list[FailedImage] = []

    def refuse(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix() if error.filename else title
        failed.append(FailedImage(name, f"It cannot be read ({error.strerror or 'input error'})."))

    others = 0
    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        failed += [
            FailedImage((here / name).relative_to(root).as_posix(), "It is a link that leads out of the folder.")
            for name in folders
            if _leads_outside(here / name, root)
        ]
        for name in sorted(files):
            relative = (here / name).relative_to(root)
            if _is_clutter(name):
                continue
            if not _has_picture_suffix(name):
                others += 1
            elif _leads_outside(here / name, root):
                failed.append(FailedImage(relative.as_posix(), "It is a link that leads out of the folder."))
            elif not (here / name).is_file():
                failed.append(FailedImage(relative.as_posix(), "It is no file that can be read."))
            else:
                images.append(NamedImage(relative.as_posix(), here / name, folder=_folder_of(relative.as_posix())))
                _check_count(len(images), f"{title} holds")
    if not images and not failed:
        raise DataError(f"{title} holds no pictures{_besides(others)}; choose a folder that does.")
    return Collection(tuple(images), tuple(failed))


def open_zip(path: Path, into: Path, name: str | None = None) -> Collection:
    """Unpack the pictures of an archive into the folder `into`, under numbers, so that no entry chooses its place.

    Left out and listed are links, locked entries, names that lead outside, and what is larger than a picture may be.
    Raises `DataError` where it is no zip, holds no picture, or would unpack beyond the limits.
    """
    title = name or path.name
    try:
        _check_directory(path, title)
        with zipfile.ZipFile(path) as archive:
            return _unpack(archive, into, title)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise DataError(f"{title} is damaged or no zip that can be read; pack it again.") from error
    except OSError as error:
        raise DataError(f"{title} cannot be unpacked ({error.strerror or 'input error'}).") from error


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
    root = _really(root)
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
            images.append(NamedImage(name, place, label, _folder_of(name)))
            _check_count(len(images), f"{path.name} holds")
    if not images:
        if not failed:
            raise DataError(f"{path.name} names no pictures; write a column of paths.")
        raise DataError(
            f"None of the {len(failed)} pictures that {path.name} names can be used, the first is {failed[0].name} "
            f"({failed[0].reason.rstrip('.').lower()}); paths count from {'its folder' if anywhere else 'the top'}."
        )
    return Collection(tuple(images), tuple(failed))


@cache
def sample_collection() -> Collection:
    """Real photographs that installed packages bring along; those that are on this machine."""
    images = []
    for package, folder, files in (
        ("gradio", "media_assets/images", ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")),
        ("gradio", "test_data", ("cheetah2.jpg",)),
        ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ):
        # Looked for, not imported: the package may be heavy, or missing.
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            home = Path(spec.origin).parent / folder
            images += [NamedImage(file, home / file, folder=package) for file in files if (home / file).is_file()]
    return Collection(tuple(images))


def digit_collection(into: Path, count: int = 300) -> Collection:
    """Handwritten digits of scikit-learn, evenly taken, with their labels: 8 × 8 greys drawn larger below `into`.

    So many that UMAP has neighbours to go by, of kinds that anybody can check (Alpaydin and Kaynak 1998, CC BY 4.0).
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = into / "digits"
    folder.mkdir(exist_ok=True)
    images = []
    for place in np.linspace(0, len(digits.images), count, endpoint=False).astype(int).tolist():
        ink, label = digits.images[place] / 16, str(digits.target[place])
        path = folder / f"{place:04d}.png"
        paper = Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8))
        paper.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC).save(path)
        images.append(NamedImage(f"digit-{label}-{place:04d}.png", path, label))
    return Collection(tuple(images))


# ---- names ----


def _is_clutter(name: str) -> bool:
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


def _has_picture_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _picture_suffixes()


def _folder_of(name: str) -> str:
    parent = PurePosixPath(name.replace("\\", "/")).parent.as_posix()
    return "" if parent in (".", "/") else parent


def _leads_outside(path: Path, root: Path) -> bool:
    return path.is_symlink() and not _really(path).is_relative_to(root)


def _exists(path: Path) -> bool:
    """Whether there is anything; under a name that no file can have there is nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _really(path: Path) -> Path:
    """Where a path leads; one that leads in a circle, which `Path.resolve` refuses, stays in it."""
    return Path(os.path.realpath(path))


def _besides(others: int) -> str:
    return f" (only {others} other file{'s' if others > 1 else ''})" if others else ""


def _check_count(count: int, title: str) -> None:
    limit = get_settings().map_images
    if count > limit:
        raise DataError(f"{title} more than {limit:,} pictures; choose fewer, or raise CAPTIONSCOPE_MAP_IMAGES.")


# ---- archives ----


def _check_directory(path: Path, title: str) -> None:
    """Refuse an archive that lists too many files before the list is read, which itself takes memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # Its last records, which may be followed by a comment of 64 KB.
        start = file.seek(max(0, size - 65_557 - _ZIP64_RECORDS_BYTES))
        tail = file.read()
        place = tail.rfind(b"PK\5\6")
        if place < 0 or place + 22 > len(tail):
            raise DataError(f"{title} is damaged or no zip that can be read; pack it again.")
        listed = _zip64_directory_bytes(file, tail[:place], start + place)
    if listed is None:
        listed = int.from_bytes(tail[place + 12 : place + 16], "little")
    limit = get_settings().zip_files
    if listed > limit * _DIRECTORY_BYTES_PER_FILE:
        raise DataError(f"{title} lists more than {limit:,} files; split it, or raise CAPTIONSCOPE_ZIP_FILES.")


def _zip64_directory_bytes(file: IO[bytes], before: bytes, end: int) -> int | None:
    """What the records of a large archive say that its directory takes, or `None` where there are none.

    `before` is what stands before the old record at `end`. `zipfile` believes them whatever the old record says, and
    looks for the one with the size right before its locator or, in newer versions, where the locator points: the
    larger of the two counts.
    """
    locator = before[-_ZIP64_LOCATOR_BYTES:]
    if len(locator) < _ZIP64_LOCATOR_BYTES or not locator.startswith(b"PK\6\7"):
        return None
    sizes = []
    for place in (end - _ZIP64_RECORDS_BYTES, int.from_bytes(locator[8:16], "little")):
        if 0 <= place < end:
            file.seek(place)
            record = file.read(_ZIP64_RECORDS_BYTES - _ZIP64_LOCATOR_BYTES)
            if record.startswith(b"PK\6\6"):
                sizes.append(int.from_bytes(record[40:48], "little"))
    return max(sizes, default=None)


def _unpack(archive: zipfile.ZipFile, into: Path, title: str) -> Collection:
    failed: list[FailedImage] = []
    chosen: list[zipfile.ZipInfo] = []
    others = 0
    for entry in archive.infolist():
        if _is_clutter(entry.filename) or entry.is_dir():
            continue
        reason = _refusal(entry)
        if reason:
            failed.append(FailedImage(entry.filename, reason))
        elif not _has_picture_suffix(entry.filename):
            others += 1
        else:
            chosen.append(entry)
    _check_sizes(archive, chosen, title)
    if not chosen and not failed:
        raise DataError(f"{title} holds no pictures{_besides(others)}; pack some, or choose another.")
    images: list[NamedImage] = []
    for number, entry in enumerate(chosen):
        place = into / f"{number:05d}{PurePosixPath(entry.filename).suffix.lower()}"
        try:
            with archive.open(entry) as packed:
                _copy(packed, place, entry.file_size)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, and not that of the entry, of which bz2 says it the same way
            place.unlink(missing_ok=True)
            failed.append(FailedImage(entry.filename, f"It is damaged inside the archive ({error})."))
            continue
        images.append(NamedImage(entry.filename, place, folder=_folder_of(entry.filename)))
    return Collection(tuple(images), tuple(failed))


def _refusal(entry: zipfile.ZipInfo) -> str:
    name = entry.filename.replace("\\", "/")
    if name.startswith("/") or ".." in PurePosixPath(name).parts or (len(name) > 1 and name[1] == ":"):
        return "Its name leads out of the archive."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "It is a link, not a picture."
    if not _has_picture_suffix(name):
        return ""
    if entry.flag_bits & 1:
        return "It is locked with a password."
    limit = get_settings().max_upload_bytes
    if entry.file_size > limit:
        return f"It has {entry.file_size / 2**20:,.0f} MB; a picture may have {limit / 2**20:,.0f} MB."
    return ""


def _check_sizes(archive: zipfile.ZipFile, chosen: Sequence[zipfile.ZipInfo], title: str) -> None:
    """Refuse before anything is written. The directory cannot understate a size: reading stops there."""
    settings = get_settings()
    count = len(archive.infolist())
    if count > settings.zip_files:
        raise DataError(
            f"{title} lists {count:,} files; the limit is {settings.zip_files:,} (CAPTIONSCOPE_ZIP_FILES). Split it."
        )
    _check_count(len(chosen), f"{title} holds")
    unpacked = sum(entry.file_size for entry in chosen)
    if unpacked > settings.zip_bytes:
        raise DataError(
            f"{title} unpacks to {unpacked / 2**20:,.0f} MB; the limit is {settings.zip_bytes / 2**20:,.0f} MB "
            "(CAPTIONSCOPE_ZIP_BYTES). Split it, or make the pictures smaller."
        )
    packed = sum(entry.compress_size for entry in chosen)
    # What is no larger than one picture may be is harmless, however well a drawing packs.
    if unpacked > settings.max_upload_bytes and unpacked > settings.zip_ratio * packed:
        raise DataError(
            f"{title} unpacks to {unpacked / max(1, packed):,.0f} times its size; pictures never do more than "
            f"{settings.zip_ratio} times (CAPTIONSCOPE_ZIP_RATIO). Pack them again."
        )


def _copy(packed: IO[bytes], place: Path, size: int) -> None:
    left = size
    with place.open("xb") as file:
        while chunk := packed.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("larger than its directory says")
            file.write(chunk)


# ---- tables ----


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
        if _has_picture_suffix(cell.strip()):
            return column, next((c for c in range(len(head)) if c != column), None), 0
    raise DataError(f"{title} has no column of pictures; call it path (or image, file, filename) in the first line.")


def _locate(name: str, root: Path, anywhere: bool) -> Path | str:
    """The file that a table means, counted from the real folder `root`, or why it cannot be had."""
    try:
        place = root / name
        if "\\" in name and not place.exists():
            place = root / name.replace("\\", "/")
        if not anywhere and not _really(place).is_relative_to(root):
            return "Its path leads outside."
        return place if place.is_file() else "There is no such file."
    except (OSError, ValueError):  # a name that is too long, or that no file system takes
        return "There is no such file."
