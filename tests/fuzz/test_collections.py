"""Whatever bytes come as an archive or a table: pictures of theirs, or a sentence, and nothing outside their folder."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.core.errors import DataError
from captioning.media.archives import open_zip
from captioning.media.collection import Collection
from captioning.media.tables import open_table
from tests.fuzz.damage import damaged

NAMES = ["a.png", "kinds/cat.png", "../outside.png", "/etc/passwd.png", "C:\\b.png", "notes.txt", ".hid.png", "é.png"]
TABLES = [
    b"path,label\na.png,cat\nkinds/b.png,dog\nmissing.png,dog\n",
    "file;class\r\na.png;cat\r\n../../etc/passwd;dog\r\n".encode("utf-16"),
    "a.png\tcat\nkinds/b.png\t\n".encode("latin-1"),
    b'"image","label"\n"a.png","a ""quoted"", label"\n',
]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, "PNG")
    return file.getvalue()


def archive(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        for name in NAMES:
            packed.writestr(name, picture())
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    return file.getvalue()


@contextmanager
def rooms() -> Iterator[tuple[Path, Path]]:
    """The file that is handed in, and the folder beside it that may be written to."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "into"
        into.mkdir()
        yield Path(folder) / "hostile", into
        assert {path.name for path in Path(folder).iterdir()} <= {"hostile", "into"}, "something lies outside"


def check(found: Collection, inside: Path) -> None:
    for image in found.images:
        assert image.path.resolve().is_relative_to(inside.resolve())
        assert not image.path.is_symlink()
    assert all(failed.reason.endswith(".") for failed in found.failed)


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@given(damaged([archive(method) for method in METHODS]))
def test_a_damaged_archive_gives_pictures_inside_or_a_sentence(data: bytes) -> None:
    with rooms() as (path, into):
        path.write_bytes(data)
        try:
            check(open_zip(path, into, "hostile.zip"), into)
        except DataError as error:
            assert str(error).endswith(".")
            assert str(path.parent) not in str(error)


@given(damaged(TABLES) | st.binary(max_size=300))
def test_any_table_gives_pictures_inside_or_a_sentence(data: bytes) -> None:
    with rooms() as (path, into):
        (into / "kinds").mkdir()
        for name in ("a.png", "kinds/b.png"):
            (into / name).write_bytes(picture())
        path.write_bytes(data)
        try:
            check(open_table(path, into), into)
        except DataError as error:
            assert str(error).endswith(".")
            assert str(path.parent) not in str(error)
