"""Whatever bytes come as a clip: frames at rising times, or a sentence."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from captioning.core.errors import VideoError
from captioning.media.video import sample_frames
from tests.clips import make_clip
from tests.fuzz.damage import damaged


def whole_files() -> list[bytes]:
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for name, codec in (("a.mp4", "libx264"), ("b.avi", "mpeg4"), ("c.mkv", "mpeg4"), ("d.gif", "gif")):
            format_ = {"pix_fmt": "rgb8"} if codec == "gif" else {}
            files.append(make_clip(Path(folder) / name, codec, range(8), **format_).read_bytes())  # type: ignore[arg-type]
    return files


def check(data: bytes, count: int, path: Path) -> None:
    path.write_bytes(data)
    try:
        frames = sample_frames(path, count)
    except VideoError as error:
        assert str(error)
        assert str(path.parent) not in str(error)
    else:
        assert frames
        assert all(a.seconds < b.seconds for a, b in itertools.pairwise(frames))
    assert [file.name for file in path.parent.iterdir()] == [path.name], "something was left behind"


@given(data=damaged(whole_files()), count=st.integers(1, 8))
def test_a_damaged_clip_gives_frames_or_a_sentence(data: bytes, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(data, count, Path(folder) / "hostile.mp4")


@given(st.binary(max_size=400))
def test_any_bytes_give_frames_or_a_sentence(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(data, 2, Path(folder) / "hostile.mp4")
