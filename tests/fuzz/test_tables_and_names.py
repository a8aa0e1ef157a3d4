"""Tables and archives as programs of many makers write them: every picture is found under its name, or a sentence."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.core.errors import DataError
from captioning.media.opening import open_any

tally: Counter[str] = Counter()

LANGUAGES = {
    "utf-8": ["Bär.png", "写真.png", "ночь 1.png", "a, b; c.png", "it's #1.png"],
    "cp932": ["写真夏休み.png", "東京タワー.png", "桜と表.png", "運動会2019.png"],
    "gbk": ["照片一.png", "全家福.png", "春天的花.png", "新建文件夹.png"],
    "cp949": ["사진 하나.png", "우리 강아지.png", "여행.png", "고양이와 나.png"],
    "cp1251": ["Собака.png", "Москва ночью.png", "море.png", "наша дача.png"],
    "cp866": ["Собака.png", "Москва ночью.png", "море.png", "наша дача.png"],
    "cp1252": ["Bär.png", "café.png", "Übung.png", "señor.png"],
    "cp437": ["Bär.png", "café.png", "Übung.png", "señor.png"],
}
HEADS = [
    ("path", "label"), ("Image Path ", " Label"), ("img", "class"), ("file_name", "category"), ("SourceFile", "kind"),
    ("IMAGE", "Class Name"), ("imagePath", "species"), ("Bild", "label"), ("画像", "label"),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _told() -> Iterator[None]:
    yield
    print(f"\n{tally['tried']} tried, {tally['refused']} refused with a sentence, {tally['wrong']} wrong")


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, "PNG")
    return file.getvalue()


def found_names(path: Path, into: Path, expected: dict[str, str]) -> None:
    """Open and compare names and labels."""
    tally["tried"] += 1
    try:
        found = open_any(path, into)
    except DataError as error:
        tally["refused"] += 1
        assert str(error).endswith(".")
        raise AssertionError(f"a sound file was refused: {error}") from error
    named = {image.name: image.label for image in found.images}
    tally["wrong"] += named != expected
    assert named == expected
    assert found.failed == ()


@given(st.data())
def test_a_table_is_read_whatever_its_encoding_separator_and_header(data: Any) -> None:
    language = data.draw(st.sampled_from(["utf-8", "cp932", "gbk", "cp949", "cp1251", "cp1252"]))
    marked = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"] if language == "utf-8" else []
    encoding = data.draw(st.sampled_from([*marked, language, language]))
    names = data.draw(st.lists(st.sampled_from(LANGUAGES[language]), min_size=2, unique=True))
    labels = [data.draw(st.sampled_from(["cat", "dog", "two words"])) for _ in names]
    kind = data.draw(st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".json"]))
    head = data.draw(st.sampled_from([head for head in HEADS if language == "utf-8" or head[0].isascii()]))
    rows = list(zip(names, labels, strict=True))
    if kind in (".jsonl", ".json"):
        objects = [dict(zip((head[0].strip(), head[1].strip()), row, strict=True)) for row in rows]
        lines = [json.dumps(one, ensure_ascii=False) for one in objects]
        text = "\n".join(lines) if kind == ".jsonl" else f"[{', '.join(lines)}]"
        if encoding == "utf-16-le":
            encoding = "utf-8"
    else:
        separator = "\t" if kind == ".tsv" else data.draw(st.sampled_from([",", ";", "\t", "|"]))
        file = io.StringIO()
        writer = csv.writer(file, delimiter=separator, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
        writer.writerows([head, *rows])
        stated = data.draw(st.booleans()) and separator != "\t"
        text = f"sep={separator}\n{file.getvalue()}" if stated else file.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).write_bytes(picture())
        path = Path(folder) / f"table{kind}"
        path.write_bytes(text.encode(encoding))
        found_names(path, Path(folder), dict(rows))


@given(st.data())
def test_an_archive_keeps_the_names_of_its_pictures_whatever_its_encoding(data: Any) -> None:
    encoding = data.draw(st.sampled_from(list(LANGUAGES)))
    names = data.draw(st.lists(st.sampled_from(LANGUAGES[encoding]), min_size=2, unique=True))
    folder = data.draw(st.sampled_from(["", "pictures/"]))
    names = [folder + name for name in names]
    kind = data.draw(st.sampled_from([".zip", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]))
    apart = encoding == "utf-8" and data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as place:
        path, into = Path(place) / f"pictures{kind}", Path(place) / "into"
        into.mkdir()
        stored = [(unicodedata.normalize("NFD", name) if apart else name).encode(encoding) for name in names]
        if kind == ".zip":
            write_zip(path, stored)
        else:
            write_tar(path, [name.decode("utf-8", "surrogateescape") for name in stored])
        found_names(path, into, dict.fromkeys(names, ""))


def write_zip(path: Path, names: list[bytes]) -> None:
    """A zip with names as they are, not marked as UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(len(names)):
            archive.writestr(stand_in(number, len(names[number])), picture())
    data = path.read_bytes()
    for number, name in enumerate(names):
        data = data.replace(stand_in(number, len(name)).encode(), name)
    path.write_bytes(data)


def stand_in(number: int, length: int) -> str:
    return chr(65 + number) * length


def write_tar(path: Path, names: list[str]) -> None:
    mode: Any = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            about = tarfile.TarInfo(name)
            about.size = len(picture())
            archive.addfile(about, io.BytesIO(picture()))
