from __future__ import annotations

import errno
import json
import os
import stat
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.core.errors import DataError
from captioning.core.settings import Settings
from captioning.image_map import write_pictures
from captioning.media import archives, collection, entries, table_rows, tables, tars
from captioning.media.archives import open_zip
from captioning.media.collection import Collection, NamedImage, open_files, open_folder
from captioning.media.images import open_image
from captioning.media.opening import open_any
from captioning.media.samples import digit_collection, sample_collection
from captioning.media.tables import open_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "holiday"
    for name in ("b.png", "a.jpg", "dogs/rex.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(path)
    return root


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Settings(map_images=2, zip_bytes=20_000, zip_files=5, zip_ratio=10, max_upload_bytes=8_000)
    for module in (archives, collection, entries, table_rows, tables, tars):
        monkeypatch.setattr(module, "get_settings", lambda: small)


def make_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def png(tmp_path: Path) -> bytes:
    path = tmp_path / "made.png"
    Image.new("RGB", (4, 3), "blue").save(path)
    return path.read_bytes()


def names_of(found: Collection) -> list[str]:
    return [image.name for image in found.images]


def reasons(found: Collection) -> dict[str, str]:
    return {one.name: one.reason for one in found.failed}


def test_a_folder_gives_its_pictures_by_name_with_the_folders_they_lie_in(folder: Path) -> None:
    found = open_folder(folder)
    assert names_of(found) == ["a.jpg", "b.png", "dogs/rex.png"]
    assert [image.folder for image in found.images] == ["", "", "dogs"]
    assert found.failed == ()
    assert all(open_image(image.path).image.size == (4, 3) for image in found.images)


def test_hidden_files_what_archivers_leave_and_other_kinds_of_files_are_passed_over(folder: Path) -> None:
    for name in (".hidden.png", "__MACOSX/a.png", ".git/b.png", "Thumbs.db", "notes.txt"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = open_folder(folder)
    assert names_of(found) == ["a.jpg", "b.png", "dogs/rex.png"]
    assert found.failed == ()


def test_links_that_lead_out_of_a_folder_are_listed_and_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    Image.new("RGB", (2, 2)).save(secret / "key.png")
    (folder / "link.png").symlink_to(secret / "key.png")
    (folder / "away").symlink_to(secret)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "fine.png").symlink_to(folder / "b.png")
    found = open_folder(folder)
    assert names_of(found) == ["a.jpg", "b.png", "fine.png", "dogs/rex.png"]
    assert set(reasons(found)) == {"away", "link.png", "gone.png"}
    assert "out of the folder" in reasons(found)["away"]
    assert "out of the folder" in reasons(found)["link.png"]


def test_a_link_to_itself_is_listed(folder: Path) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    found = open_folder(folder)
    assert names_of(found) == ["a.jpg", "b.png", "dogs/rex.png"]
    assert reasons(found) == {"loop.png": "It is no file that can be read."}
    table = folder / "table.csv"
    table.write_text("path\nloop.png\nb.png\n")
    assert reasons(open_table(table, folder)) == {"loop.png": "There is no such file."}


def test_names_that_are_no_utf8_are_shown_as_valid_text_and_their_files_are_found(folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/h\xf6he"))
    (folder / "dogs").rename(odd)
    (odd / "gone.png").symlink_to(folder / "nowhere.png")
    found = open_folder(folder)
    assert names_of(found) == ["a.jpg", "b.png", "h\ufffdhe/rex.png"]
    assert [image.folder for image in found.images] == ["", "", "h\ufffdhe"]
    assert list(reasons(found)) == ["h\ufffdhe/gone.png"]
    assert all(open_image(image.path, image.name).image.size == (4, 3) for image in found.images)
    assert json.dumps([names_of(found), reasons(found)], ensure_ascii=False).encode()
    assert write_pictures(found.images, folder.parent / "out.zip") == ()


def test_a_path_that_no_file_can_have_is_one_sentence(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="There is no"):
            open_any(tmp_path / name, tmp_path)
        with pytest.raises(DataError, match="There is no folder"):
            open_folder(tmp_path / name)


@pytest.mark.usefixtures("limits")
def test_a_table_of_far_more_rows_than_a_map_holds_is_refused_before_its_files_are_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "table.csv"
    path.write_text("path\n" + "b.png\n" + "gone.png\n" * 3)
    assert names_of(open_table(path, folder)) == ["b.png"]
    monkeypatch.setattr(tables, "_locate", None)
    path.write_text("path\n" + "gone.png\n" * 5)
    with pytest.raises(DataError, match=r"table\.csv lists 5 rows; the limit is 4.*CAPTIONSCOPE_MAP_IMAGES"):
        open_table(path, folder)


@pytest.mark.parametrize("inside", [[], ["notes.txt"]])
def test_a_folder_without_pictures_says_so(tmp_path: Path, inside: list[str]) -> None:
    for name in inside:
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="holds no pictures"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        open_folder(tmp_path / "missing")


def test_the_folder_that_one_is_in_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "holiday"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(DataError, match=r"^holiday holds no pictures"):
        open_any(Path(), tmp_path)


@pytest.mark.usefixtures("limits")
def test_more_pictures_than_a_map_holds_are_refused_with_the_limit_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holiday holds more than 2 pictures.*CAPTIONSCOPE_MAP_IMAGES"):
        open_folder(folder)
    with pytest.raises(DataError, match="more than 2 pictures"):
        open_files([folder / "a.jpg"] * 3)
    with pytest.raises(DataError, match="more than 2 pictures"):
        open_zip(make_zip(tmp_path / "x.zip", {f"{n}.png": b"x" for n in range(3)}), tmp_path)


def test_files_keep_the_names_they_are_given_and_other_kinds_are_listed(folder: Path) -> None:
    found = open_files([folder / "a.jpg", folder / "b.png", folder / "b.png"], ["x/one.jpg", "notes.doc", ".hidden"])
    assert found.images == (
        NamedImage("x/one.jpg", folder / "a.jpg", folder="x"),
        NamedImage("notes.doc", folder / "b.png"),
    )
    assert reasons(open_files([folder / "song.mp3"])) == {"song.mp3": "It is no picture."}


def test_a_zip_is_unpacked_under_numbers_and_its_pictures_keep_their_names(tmp_path: Path) -> None:
    data = png(tmp_path)
    path = make_zip(
        tmp_path / "p.zip", {"dogs/rex.png": data, "readme.txt": b"hi", "__MACOSX/._rex.png": b"x", "cat.PNG": data}
    )
    into = tmp_path / "into"
    into.mkdir()
    found = open_zip(path, into)
    assert names_of(found) == ["dogs/rex.png", "cat.PNG"]
    assert [image.folder for image in found.images] == ["dogs", ""]
    assert sorted(p.name for p in into.iterdir()) == ["00000.png", "00001.png"]
    assert open_image(found.images[0].path).image.size == (4, 3)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_a_zip_never_writes_outside_and_lists_names_that_lead_there(tmp_path: Path, name: str) -> None:
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    path = make_zip(tmp_path / "p.zip", {name: png(tmp_path), "good.png": png(tmp_path)})
    found = open_zip(path, into)
    assert names_of(found) == ["good.png"]
    assert [one.reason for one in found.failed] == ["Its name leads out of the archive."]
    new = {p for p in set(tmp_path.rglob("*")) - before if p.is_file()} - {path, tmp_path / "made.png"}
    assert new == {into / "00000.png"}


def test_links_and_locked_entries_of_a_zip_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("locked.png", b"secret")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.rindex(header) + offset] |= 1  # the flag that says encrypted, on the last entry
    path.write_bytes(data)
    found = open_zip(path, tmp_path)
    assert names_of(found) == []
    assert reasons(found) == {"link.png": "It is a link, not a picture.", "locked.png": "It is locked with a password."}


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    ("entries", "compression", "says"),
    [
        ({"a.png": b"\0" * 7_900, "b.png": b"\0" * 7_900}, zipfile.ZIP_DEFLATED, "CAPTIONSCOPE_ZIP_RATIO"),
        ({f"{n}.txt": b"x" for n in range(9)}, zipfile.ZIP_STORED, "9 files.*CAPTIONSCOPE_ZIP_FILES"),
    ],
)
def test_a_zip_bomb_is_refused_before_anything_is_written_and_the_limit_is_named(
    tmp_path: Path, entries: dict[str, bytes], compression: int, says: str
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(DataError, match=says):
        open_zip(make_zip(tmp_path / "bomb.zip", entries, compression), into)
    assert list(into.iterdir()) == []


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "get_settings", lambda: Settings(zip_bytes=10_000))
    with pytest.raises(DataError, match="CAPTIONSCOPE_ZIP_BYTES"):
        open_zip(make_zip(tmp_path / "p.zip", {"a.png": b"x" * 6_000, "b.png": b"x" * 6_000}), tmp_path)


@pytest.mark.usefixtures("limits")
def test_an_entry_larger_than_a_picture_may_be_is_listed_and_the_rest_is_unpacked(tmp_path: Path) -> None:
    found = open_zip(make_zip(tmp_path / "p.zip", {"big.png": b"x" * 9_000, "small.png": png(tmp_path)}), tmp_path)
    assert names_of(found) == ["small.png"]
    assert "a picture may have" in reasons(found)["big.png"]


def test_an_archive_whose_list_is_too_long_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "get_settings", lambda: Settings(zip_files=3))
    path = make_zip(tmp_path / "p.zip", {f"{n}{'x' * 200}.png": b"" for n in range(9)})

    def refuse(*_: object) -> None:
        raise AssertionError("the list was read")

    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", refuse)
    with pytest.raises(DataError, match="lists more than 3 files"):
        open_zip(path, tmp_path)


def make_large_zip(path: Path, entries: dict[str, bytes], claimed: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with the records of a large one, whose old record claims a directory of so many bytes."""
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
        make_zip(path, entries)
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\5\6")
    assert data[end - 20 : end - 16] == b"PK\6\7"
    data[end + 12 : end + 16] = claimed.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("comment", [b"", b"seen on the way"])
def test_an_archive_in_the_large_format_cannot_hide_how_long_its_list_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comment: bytes
) -> None:
    monkeypatch.setattr(archives, "get_settings", lambda: Settings(zip_files=3))
    path = make_large_zip(tmp_path / "p.zip", {f"{n}{'x' * 200}.png": b"" for n in range(9)}, 0, monkeypatch)
    path.write_bytes(path.read_bytes()[:-2] + len(comment).to_bytes(2, "little") + comment)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 9
    with pytest.raises(DataError, match="lists more than 3 files"):
        open_zip(path, tmp_path)


@pytest.mark.usefixtures("limits")
def test_an_archive_in_the_large_format_is_judged_by_its_list_and_not_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_large_zip(tmp_path / "p.zip", {"a.png": b"x" * 5_000}, 0xFFFFFFFF, monkeypatch)
    assert names_of(open_zip(path, tmp_path)) == ["a.png"]


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\5\6" + b"\0" * 10, b"PK\3\4 cut off"])
def test_what_is_no_zip_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"p\.zip is damaged"):
        open_zip(path, tmp_path)


def test_an_archive_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "p.zip", {"a.png": b"x"})

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"p\.zip cannot be unpacked \(Permission denied\)"):
        open_zip(path, tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_entry_is_listed_and_the_rest_goes_on(tmp_path: Path, method: int) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 4)
        archive.writestr("b.png", png(tmp_path))
    data = bytearray(path.read_bytes())
    data[60:80] = b"\x55" * 20  # inside what is packed of the first
    path.write_bytes(data)
    found = open_zip(path, tmp_path)
    assert names_of(found) == ["b.png"]
    assert "damaged" in reasons(found)["a.png"]
    assert not (tmp_path / "00000.png").exists()


def test_an_entry_without_a_name_is_passed_over(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"nameless": b"", "b.png": png(tmp_path)})
    path.write_bytes(path.read_bytes().replace(b"nameless", b"\0ameless"))
    assert names_of(open_zip(path, tmp_path)) == ["b.png"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("head", [["image", "label"], ["nr", "Path", "Class"], None])
def test_tables_as_spreadsheets_write_them(folder: Path, separator: str, encoding: str, head: list[str] | None) -> None:
    start = ["1"] if head and head[0] == "nr" else []
    rows = [*([head] if head else []), [*start, "b.png", "Bär"], [*start, "dogs/rex.png", "dog"]]
    path = folder / "table.csv"
    path.write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    found = open_table(path, folder)
    assert [(i.name, i.label, i.folder) for i in found.images] == [
        ("b.png", "Bär", ""),
        ("dogs/rex.png", "dog", "dogs"),
    ]


def test_a_table_lists_what_is_missing_or_leads_outside_and_takes_the_rest(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    Image.new("RGB", (2, 2)).save(outside)
    path = folder / "table.csv"
    path.write_text(f"path\nb.png\nnowhere.png\n../outside.png\n{outside}\n\ndogs\\rex.png\n{'x' * 5000}.png\n")
    found = open_table(path, folder)
    assert names_of(found) == ["b.png", "dogs\\rex.png"]
    assert reasons(found)["nowhere.png"] == "There is no such file."
    assert reasons(found)["../outside.png"] == reasons(found)[str(outside)] == "Its path leads outside."
    assert names_of(open_table(path, folder, anywhere=True)) == [
        "b.png",
        "../outside.png",
        str(outside),
        "dogs\\rex.png",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"path\n", "names no pictures"),
        (b"path,label\na.png,dog\nb.png,cat\n", r"None of the 2 pictures that table\.csv names can be used, the first"),
        (b"weight,height\n1,2\n", "has no column of pictures; call it path"),
        (b"path\n\0\0", "is no text"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        open_table(path, tmp_path)


def test_anything_is_opened_by_what_it_is(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("holiday/b.png\n")
    archive = make_zip(tmp_path / "p.zip", {"z.png": png(tmp_path)})
    assert names_of(open_any(folder, tmp_path)) == ["a.jpg", "b.png", "dogs/rex.png"]
    assert names_of(open_any(table, tmp_path)) == ["holiday/b.png"]
    assert names_of(open_any(archive, tmp_path)) == ["z.png"]
    assert names_of(open_any(folder / "b.png", tmp_path)) == ["b.png"]
    with pytest.raises(DataError, match="There is no"):
        open_any(tmp_path / "missing", tmp_path)


def test_the_samples_are_real_pictures_on_this_machine() -> None:
    found = sample_collection()
    assert {"china.jpg", "flower.jpg"} <= set(names_of(found))
    assert all(min(open_image(image.path).image.size) > 100 for image in found.images)


def test_the_sample_digits_are_pictures_of_every_kind_evenly(tmp_path: Path) -> None:
    found = digit_collection(tmp_path)
    assert len(found.images) == 300
    kinds = Counter(image.label for image in found.images)
    assert set(kinds) == set("0123456789")
    assert min(kinds.values()) > 20
    pictures = [open_image(image.path) for image in found.images]
    assert len({picture.image_id for picture in pictures}) == 300
    pixels = np.asarray(pictures[0].image)
    assert np.median(pixels) > 200, "dark ink on light paper"
    assert pixels.min() < 50
