"""A data folder of drawings with the layout of the training photographs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


def _rows() -> list[tuple[str, str, str, str, tuple[int, int, int]]]:
    rows = []
    for number in range(18):
        colour = list(COLOURS)[number % 3]
        split = "dev" if number >= 12 else "train"
        rows.append((f"people/{number}.jpg", split, "", f"A {colour} field .", COLOURS[colour]))
        rows.append((f"people/{number}.jpg", split, "", f"the {colour} wall", COLOURS[colour]))
        rows.append((f"kinds/{number}.jpg", split, f"{colour} anchor", "", COLOURS[colour]))
    return rows


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Return a folder of drawings that a test may change."""
    return write_data(tmp_path / "data")


def write_data(folder: Path) -> Path:
    """Write 12 training and 6 dev pictures with captions, and as many with class names, half of them in a tar."""
    folder.mkdir()
    lines = ["image\tsplit\tclass_name\tcaption"]
    written: set[str] = set()
    with tarfile.open(folder / "photos-0.tar", "w") as tar:
        for name, split, kind, caption, colour in _rows():
            lines.append(f"{name}\t{split}\t{kind}\t{caption}")
            if name in written:
                continue
            written.add(name)
            buffer = io.BytesIO()
            picture = Image.new("RGB", (40, 40), colour)
            if kind:  # or nothing would tell a kind from a field
                picture.paste((0, 0, 0), (0, 0, 40, 20))
            picture.save(buffer, "JPEG")
            if name.startswith("kinds"):
                member = tarfile.TarInfo(name)
                member.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(member, buffer)
            else:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(buffer.getvalue())
    (folder / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
