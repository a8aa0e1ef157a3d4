"""An animated picture becomes a clip for the player, frame for frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.core.errors import Stopped, VideoError
from captioning.media.animation import animation_to_mp4
from captioning.media.clip_index import index_clip
from captioning.media.video import sample_frames
from tests.clips import paint, read_number


@pytest.fixture(params=["gif", "webp", "png"])
def animation(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Forty frames that stay 100 ms, the first one longer."""
    frames = [Image.fromarray(paint(number)) for number in range(40)]
    path = tmp_path / f"moving.{request.param}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[300, *[100] * 39], lossless=True)
    return path


def test_every_frame_is_there_at_its_time(animation: Path, tmp_path: Path) -> None:
    out = tmp_path / "moving.mp4"
    animation_to_mp4(animation, out)
    before, after = index_clip(animation), index_clip(out)
    assert np.allclose(after.seconds, before.seconds, atol=2e-3)
    assert [read_number(frame.image.image) for frame in sample_frames(out, 40)][-3:] == [37, 38, 39]


def test_sides_that_are_odd_become_even(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (51, 37), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(tmp_path / "odd.gif", save_all=True, append_images=frames[1:], duration=100)
    animation_to_mp4(tmp_path / "odd.gif", tmp_path / "odd.mp4")
    assert index_clip(tmp_path / "odd.mp4").size == (50, 36)


def test_names_with_colons_are_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = [Image.fromarray(paint(number)) for number in range(2)]
    frames[0].save("12:30.gif", save_all=True, append_images=frames[1:], duration=100)
    animation_to_mp4("12:30.gif", Path("12:31.mp4"))
    assert len(index_clip("12:31.mp4")) == 2


def test_a_picture_that_does_not_move_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "still.png")
    with pytest.raises(VideoError, match="does not move"):
        animation_to_mp4(tmp_path / "still.png", tmp_path / "still.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["still.png"]


def test_stopping_leaves_nothing(animation: Path, tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        animation_to_mp4(animation, tmp_path / "out.mp4", stop)
    assert [path.name for path in tmp_path.iterdir()] == [animation.name]
