from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from captioning.core.errors import ImageError
from captioning.core.settings import Settings
from captioning.media.images import ImageSource, open_image

RED, GREEN = (255, 0, 0), (0, 255, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_the_same_pixels_have_the_same_id_whatever_they_came_from(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), RED)
    path = tmp_path / "red.png"
    image.save(path)
    sources: list[ImageSource] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    assert len({open_image(source).image_id for source in sources}) == 1
    assert open_image(path).name == "red.png"


def test_pictures_of_other_pixels_or_shape_have_other_ids() -> None:
    pictures = [Image.new("RGB", size, colour) for size in ((30, 20), (20, 30)) for colour in (RED, GREEN)]
    assert len({open_image(picture).image_id for picture in pictures}) == 4


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (40, 20), RED)
    image.paste(GREEN, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    upright = open_image(encoded(image, "JPEG", exif=exif, quality=95)).image
    assert upright.size == (20, 40)
    top, bottom = upright.getpixel((10, 5)), upright.getpixel((10, 35))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[1] > 200 > 60 > top[0]
    assert bottom[0] > 200 > 60 > bottom[1]


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", RED),
        (Image.new("P", (8, 8), 0), "PNG", (0, 0, 0)),
        (Image.new("L", (8, 8), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("I;16", (8, 8), 65535), "PNG", (255, 255, 255)),
        (Image.new("I;16", (8, 8), 32896), "TIFF", (128, 128, 128)),
        (Image.new("F", (8, 8), 0.5), "TIFF", (128, 128, 128)),
        (Image.new("RGBA", (8, 8), (*RED, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, int, int]) -> None:
    picture = open_image(encoded(image, kind))
    assert picture.image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(picture.image)[4, 4], expected, atol=2)


def test_transparent_palette_is_put_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0] * 256)
    picture = open_image(encoded(image, "PNG", transparency=0))
    assert picture.image.getpixel((4, 4)) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_taken_and_noted() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, GREEN)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    picture = open_image(data)
    assert picture.image.getpixel((8, 8)) == RED
    assert "frames" in picture.note
    assert not open_image(encoded(frames[0])).note


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG"])
@pytest.mark.parametrize(("count", "says"), [(40, "40"), (301, "more than 300")])
def test_frames_are_counted_as_far_as_a_note_tells_them(form: str, count: int, says: str) -> None:
    frames = [Image.new("RGB", (4, 4), (number % 256, number // 256, 255)) for number in range(count)]
    options = {} if form == "TIFF" else {"duration": 50}
    picture = open_image(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert picture.note == f"first of {says} frames"


def test_an_animation_of_very_many_frames_is_not_walked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoded(Image.new("RGB", (1, 1), RED), "GIF")
    start = first.index(b",")
    seek, steps = GifImageFile._seek, 0

    def counted(image: GifImageFile, *args: Any, **options: Any) -> None:
        nonlocal steps
        steps += 1
        seek(image, *args, **options)

    monkeypatch.setattr(GifImageFile, "_seek", counted)
    picture = open_image(first[:start] + first[start:-1] * 3_000 + b";")
    assert picture.note == "first of more than 300 frames"
    assert picture.image.getpixel((0, 0)) == RED
    assert steps < 310


@pytest.mark.parametrize(
    "values",
    [
        np.full((6, 5, 3), 200, np.uint8),
        np.full((6, 5, 1), 200, np.uint8),
        np.full((6, 5), 200 * 257, np.uint16),
        np.full((6, 5, 3), 200 / 255, np.float32),
    ],
    ids=["8 bit", "one channel", "16 bit", "float"],
)
def test_arrays_of_every_kind_give_the_same_picture(values: NDArray[Any]) -> None:
    picture = open_image(values)
    assert picture.image.size == (5, 6)
    assert picture.image.getpixel((0, 0)) == (200, 200, 200)


def test_boolean_array_is_black_and_white() -> None:
    assert open_image(np.ones((3, 3), np.bool_)).image.getpixel((0, 0)) == (255, 255, 255)


GOOD_PNG = encoded(Image.effect_noise((200, 200), 80).convert("RGB"))
GOOD_JPEG = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello, I am text", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
        (GOOD_PNG[: len(GOOD_PNG) // 2], "cut off"),
        (GOOD_JPEG[: len(GOOD_JPEG) // 2], "cut off"),
        (GOOD_PNG[:40], "cut off"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "p"),
        (b"GIF89a" + b"\xff" * 50, "p"),
    ],
)
def test_bad_bytes_are_refused_with_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(data, "holiday.png")
    message = str(caught.value)
    assert says in message
    assert "holiday.png" in message
    assert "\n" not in message


def test_damaged_bytes_never_let_a_decoder_error_escape() -> None:
    generator = np.random.default_rng(0)
    for good in (
        GOOD_PNG,
        GOOD_JPEG,
        encoded(Image.new("RGB", (64, 64)), "TIFF"),
        encoded(Image.new("P", (64, 64)), "GIF"),
    ):
        for _ in range(60):
            damaged = bytearray(good)
            for place in generator.integers(0, len(damaged), 12):
                damaged[place] = int(generator.integers(256))
            with contextlib.suppress(ImageError):  # our own words are right; anything else fails the test
                open_image(bytes(damaged))


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.media.images.get_settings", lambda: Settings(max_image_pixels=10_000))
    with pytest.raises(ImageError, match=r"0\.01 megapixels"):
        open_image(encoded(Image.new("1", (200, 200))))
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(np.zeros((200, 200), np.uint8))


def test_a_file_beyond_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.media.images.get_settings", lambda: Settings(max_upload_bytes=1000))
    with pytest.raises(ImageError, match="choose a picture file under"):
        open_image(GOOD_PNG)


def test_a_limit_above_pillows_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr("captioning.media.images._PILLOWS_LIMIT", 100)
    data = encoded(Image.new("L", (200, 200)))
    assert open_image(data).image.size == (200, 200)
    monkeypatch.setattr("captioning.media.images.get_settings", lambda: Settings(max_image_pixels=39_999))
    with pytest.raises(ImageError, match="too many pixels; make it smaller"):
        open_image(data)


def test_pillow_bomb_limit_is_put_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr("captioning.media.images._PILLOWS_LIMIT", 100)
    monkeypatch.setattr("captioning.media.images.get_settings", lambda: Settings(max_image_pixels=10_000))
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(encoded(Image.new("L", (200, 200))))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 7), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.full((4, 4), 3.0), "outside"),
        (np.full((4, 4), np.nan), "outside"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), np.int16), "int16 values; give unsigned 8 or 16-bit integers"),
    ],
)
def test_unusable_arrays_are_refused(values: NDArray[Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        open_image(values)


def test_missing_file_and_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no file gone\.jpg"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)


@pytest.mark.parametrize(("name", "says"), [("x" * 300 + ".png", "cannot be read"), ("a\0b.png", "There is no file")])
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        open_image(tmp_path / name)


def test_a_folder_that_may_not_be_looked_into_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png cannot be read \(Permission denied\)"):
        open_image(tmp_path / "locked" / "a.png")


def test_a_name_that_is_no_utf8_is_shown_as_valid_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(GOOD_PNG)
    assert open_image(path).name == "caf\ufffd.png"


def test_picture_of_no_size_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        open_image(Image.new("RGB", (0, 5)))
