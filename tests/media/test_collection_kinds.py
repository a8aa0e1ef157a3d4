"""Kinds of files that people hand in: tables, archives and clips of many makers, and what is said of the rest."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioning.core.errors import DataError
from captioning.core.settings import Settings
from captioning.media import collection, entries, tables, tars
from captioning.media.collection import Collection, OtherFiles
from captioning.media.legacy_text import decode_names, decode_text
from captioning.media.opening import open_any
from captioning.media.scratch import Scratch
from captioning.media.uploads import SentFile, gather_files
from tests.clips import make_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("phone/a.png", "phone/b.png", "phone/more/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png())
    return tmp_path / "phone"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "blue").save(file, "PNG")
    return file.getvalue()


def names_of(found: Collection) -> list[str]:
    return [image.name for image in found.images]


def labels_of(found: Collection) -> dict[str, str]:
    return {image.name: image.label for image in found.images}


def make_tar(path: Path, members: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def test_other_files_of_a_folder_are_counted_by_kind(folder: Path, tmp_path: Path) -> None:
    for name in ("1.HEIC", "2.heic", "raw.CR2", "notes.txt", "README", ".hidden", "more/clip.mp4"):
        (folder / name).write_bytes(b"x")
    found = open_any(folder, tmp_path)
    assert len(found.images) == 3
    assert str(found.others) == (
        "Left out: 6 files are no pictures that can be read here (2 HEIC, 1 CR2, 1 MP4, 1 TXT, 1 without a suffix)."
    )
    assert not OtherFiles()
    assert str(OtherFiles.of_names(["a.svg"])) == "Left out: 1 file is no picture that can be read here (1 SVG)."


def test_other_files_of_archives_are_counted_alike(folder: Path, tmp_path: Path) -> None:
    members = {"a.png": png(), "b.heic": b"x", "c.HEIC": b"x", "d.txt": b"x", "__MACOSX/._a.png": b"x"}
    found = open_any(make_tar(tmp_path / "p.tgz", members), tmp_path)
    assert names_of(found) == ["a.png"]
    assert found.others == OtherFiles((("HEIC", 2), ("TXT", 1)))
    sent = [SentFile(tmp_path / "p.tgz", "p.tgz")] * 2
    assert gather_files(sent, Scratch(str(tmp_path)), lambda *_: None).others.kinds == (("HEIC", 4), ("TXT", 2))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_never_writes_outside_and_lists_links_and_names_that_lead_there(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "p.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in ("good/a.png", "../evil.png", "/etc/evil.png"):
            about = tarfile.TarInfo(name)
            about.size = len(png())
            archive.addfile(about, io.BytesIO(png()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    into = tmp_path / "into"
    into.mkdir()
    found = open_any(path, into)
    assert names_of(found) == ["good/a.png"]
    assert {one.name for one in found.failed} == {"../evil.png", "/etc/evil.png", "link.png"}
    assert [file.name for file in into.rglob("*.png")] == ["00000.png"]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.png": b"\0" * 400_000}, "CAPTIONSCOPE_ZIP_RATIO"),
        ({f"{n}.txt": b"x" for n in range(9)}, "6 files.*CAPTIONSCOPE_ZIP_FILES"),
        ({f"{n}.png": b"x" for n in range(3)}, "more than 2 pictures"),
        ({"a.txt": b"x"}, "holds no pictures .only 1 other file: 1 TXT"),
    ],
)
def test_a_tar_beyond_the_limits_is_refused_with_the_limit_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], says: str
) -> None:
    small = Settings(map_images=2, zip_bytes=2_000_000, zip_files=5, zip_ratio=10, max_upload_bytes=8_000)
    for module in (collection, entries, tars):
        monkeypatch.setattr(module, "get_settings", lambda: small)
    with pytest.raises(DataError, match=says):
        open_any(make_tar(tmp_path / "bomb.tar.gz", members), tmp_path)


def test_a_tar_that_is_cut_off_gives_what_precedes(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar", {f"{n}.png": png() for n in range(4)}, "w")
    path.write_bytes(path.read_bytes()[: 1024 * 2 + 512 + 20])
    found = open_any(path, tmp_path)
    assert names_of(found) == ["0.png", "1.png"]
    assert "cut off" in found.failed[0].reason
    path.write_bytes(b"no tar at all")
    with pytest.raises(DataError, match=r"p\.tar is damaged"):
        open_any(path, tmp_path)


def test_an_archive_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.7z").write_bytes(b"7z\xbc\xaf'\x1c")
    with pytest.raises(DataError, match=r"p\.7z is an archive of a kind that is not unpacked here \(7z\)"):
        open_any(tmp_path / "p.7z", tmp_path)


def test_a_clip_gives_its_frames(tmp_path: Path) -> None:
    found = open_any(make_clip(tmp_path / "clip.mp4"), tmp_path)
    assert len(found.images) > 5
    assert names_of(found)[0].startswith("clip.mp4 0:0")


def test_a_folder_takes_labels_from_the_table_of_an_image_folder(folder: Path, tmp_path: Path) -> None:
    lines = [{"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": 3}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "more" / "metadata.csv").write_text("file_name,category\nc.png,dog\n")
    found = open_any(folder, tmp_path)
    assert labels_of(found) == {"a.png": "cat", "b.png": "3", "more/c.png": "dog"}
    assert not found.others


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("SourceFile,FileName,Directory\nmore/c.png,c.png,more\n", ["more/c.png"]),
        ("id;Bild\n1;a.png\n2;b.png\n", ["a.png", "b.png"]),
        ("path\na.png\na.png\nb.png\n", ["a.png", "b.png"]),
        ("path\nhttps://example.org/a.png\nb.png\n", ["b.png"]),
    ],
)
def test_columns_are_found_by_their_names_and_by_what_they_hold(
    folder: Path, tmp_path: Path, content: str, names: list[str]
) -> None:
    (folder / "table.csv").write_text(content)
    found = open_any(folder / "table.csv", tmp_path)
    assert names_of(found) == names
    assert all("nothing is fetched" in one.reason for one in found.failed)


def test_names_whose_accents_are_stored_apart_are_found(folder: Path, tmp_path: Path) -> None:
    (folder / "cafe\u0301.png").write_bytes(png())
    (folder / "table.csv").write_text("path\ncaf\u00e9.png\n", encoding="utf-8")
    assert len(open_any(folder / "table.csv", tmp_path).images) == 1


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": ', '"x"', "[" * 100_000, '{"path": 3}'])
def test_json_that_names_no_pictures_is_one_sentence(tmp_path: Path, text: str) -> None:
    for suffix in (".json", ".jsonl"):
        (tmp_path / f"table{suffix}").write_text(text)
        with pytest.raises(DataError, match=r"^(table|None of)"):
            open_any(tmp_path / f"table{suffix}", tmp_path)


def test_a_coco_file_names_its_pictures(folder: Path, tmp_path: Path) -> None:
    about = {"info": {}, "licenses": [], "images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 3}]}
    (folder / "instances.json").write_text(json.dumps(about))
    assert names_of(open_any(folder / "instances.json", tmp_path)) == ["a.png"]


def test_parquet_without_its_package_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install pyarrow.*the extra `data`"):
        open_any(tmp_path / "p.parquet", tmp_path)


def test_parquet_names_pictures_or_holds_them(folder: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"file_name": ["a.png", "b.png"], "label": [1, 2]}), folder / "p.parquet")
    assert labels_of(open_any(folder / "p.parquet", tmp_path)) == {"a.png": "1", "b.png": "2"}
    held = [{"bytes": png(), "path": "x.png"}, {"bytes": png(), "path": "y.png"}]
    parquet.write_table(pyarrow.table({"image": held, "label": ["cat", "dog"]}), tmp_path / "q.parquet")
    into = tmp_path / "into"
    into.mkdir()
    found = open_any(tmp_path / "q.parquet", into)
    assert [image.label for image in found.images] == ["cat", "dog"]
    assert all(image.path.read_bytes() == png() for image in found.images)
    (tmp_path / "q.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"q\.parquet is damaged"):
        open_any(tmp_path / "q.parquet", tmp_path)


def test_an_uploaded_table_counts_paths_from_its_own_folder_too(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(png())
    (tmp_path / "2").write_text("path,label\nb.png,cat\n")
    sent = [SentFile(tmp_path / "1", "trip/b.png"), SentFile(tmp_path / "2", "trip/table.csv")]
    found = gather_files(sent, Scratch(str(tmp_path)), lambda *_: None)
    assert labels_of(found) == {"b.png": "cat"}


def test_a_table_that_names_no_pictures_does_not_hide_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(png())
    (tmp_path / "2").write_text("weight,height\n1,2\n")
    sent = [SentFile(tmp_path / "1", "trip/b.png"), SentFile(tmp_path / "2", "trip/sizes.csv")]
    found = gather_files(sent, Scratch(str(tmp_path)), lambda *_: None)
    assert names_of(found) == ["trip/b.png"]
    assert [one.name for one in found.failed] == ["trip/sizes.csv"]


def test_a_text_with_a_few_bad_bytes_stays_utf8() -> None:
    text = "ночь, море, дача\n" * 20
    assert decode_text(text.encode() + b"\xff.png\n") == f"{text}\ufffd.png\n"


def test_names_of_two_encodings_in_one_archive_are_read_one_by_one() -> None:
    assert decode_names(["写真.jpg".encode("cp932"), "Bär.jpg".encode()]) == ["写真.jpg", "Bär.jpg"]
    assert decode_names([b"plain.jpg"]) == ["plain.jpg"]


def test_the_rows_that_a_table_may_have_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "get_settings", lambda: Settings(map_images=1))
    (folder / "t.jsonl").write_text('{"path": "a.png"}\n' * 3)
    with pytest.raises(DataError, match="lists 3 rows; the limit is 2"):
        open_any(folder / "t.jsonl", folder)
