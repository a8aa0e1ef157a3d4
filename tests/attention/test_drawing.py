"""Maps as pictures: synthetic maps whose result is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from captioning.attention.drawing import (
    COLOUR_MAPS,
    Brush,
    colour_table,
    hide_hottest,
    overlay,
    shrink,
    to_png,
    token_grid,
    walk_gif,
    weight_picture,
)
from captioning.core.errors import OptionsError
from captioning.core.types import PatchLayout, Picture

GREY = 100


def grey_picture(width: int, height: int) -> Picture:
    return Picture(Image.new("RGB", (width, height), (GREY,) * 3), "grey", "grey.png")


def one_hot(layout: PatchLayout, patch: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    heat = np.zeros(len(layout.boxes), np.float32)
    heat[patch] = 1
    return heat


@pytest.mark.parametrize(("width", "height"), [(300, 120), (90, 200), (97, 61)])
def test_a_single_hot_patch_lights_exactly_its_place(width: int, height: int) -> None:
    layout = PatchLayout.from_grid(3, 5)
    picture = grey_picture(width, height)
    for patch in (0, 7, 14):
        pixels = np.asarray(overlay(picture, one_hot(layout, patch), layout, Brush(0.5, smooth=False)), int)
        left, top, right, bottom = np.rint(layout.boxes[patch] * (width, height, width, height)).astype(int)
        hot, cold = (np.rint(GREY / 2 + colour_table()[level] / 2.0) for level in (255, 0))
        expected = np.tile(cold, (height, width, 1))
        expected[top:bottom, left:right] = hot
        assert np.abs(pixels - expected).max() <= 1


def test_the_place_stays_when_the_picture_is_made_smaller() -> None:
    layout = PatchLayout.from_grid(3, 5)
    large = grey_picture(2000, 900)
    small = shrink(large)
    assert small.image.size == (1024, 461)
    pixels = np.asarray(overlay(small, one_hot(layout, 7), layout, Brush(smooth=False)), int).sum(axis=-1)
    rows, columns = np.nonzero(pixels > pixels.min())
    assert (rows.min(), rows.max() + 1) == (154, 307)
    assert (columns.min(), columns.max() + 1) == (410, 614)
    assert shrink(small) is small


def test_a_smooth_patch_is_brightest_at_its_centre_and_gone_at_its_neighbours() -> None:
    layout = PatchLayout.from_grid(3, 5)
    pixels = np.asarray(overlay(grey_picture(300, 120), one_hot(layout, 7), layout, Brush(1.0)), int).sum(axis=-1)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert (abs(row - 60) <= 1, abs(column - 150) <= 1) == (True, True)
    assert pixels[60, 90] <= pixels.min() + 30
    assert pixels[20, 150] <= pixels.min() + 30


def test_what_the_model_does_not_see_stays_as_it_is() -> None:
    layout = PatchLayout(np.array([[0.25, 0, 0.5, 1], [0.5, 0, 0.75, 1]]), (1, 2))
    for smooth in (True, False):
        pixels = np.asarray(
            overlay(grey_picture(80, 40), np.array([1, 0], np.float32), layout, Brush(1.0, smooth=smooth))
        )
        assert (pixels[:, :20] == GREY).all()
        assert (pixels[:, 60:] == GREY).all()
        assert (pixels[:, 25] == colour_table()[255]).all()
        assert (pixels[:, 55] == colour_table()[0]).all()


def test_opacity_is_of_the_map() -> None:
    layout = PatchLayout.from_grid(2, 2)
    picture = grey_picture(20, 10)
    assert (np.asarray(overlay(picture, one_hot(layout, 1), layout, Brush(0.0))) == GREY).all()
    assert (
        np.asarray(overlay(picture, one_hot(layout, 1), layout, Brush(1.0, smooth=False)))[2, 15] == colour_table()[255]
    ).all()


def test_the_weighted_picture_keeps_what_is_hot_and_loses_what_is_cold() -> None:
    layout = PatchLayout.from_grid(2, 2)
    pixels = np.asarray(weight_picture(grey_picture(20, 10), one_hot(layout, 1), layout, smooth=False).image)
    assert (pixels[:5, 10:] == GREY).all()
    assert not pixels[5:].any()
    assert not pixels[:, :10].any()


def test_the_hottest_patches_are_hidden() -> None:
    layout = PatchLayout.from_grid(2, 2)
    values = np.zeros((10, 20, 3), np.uint8)
    values[:5, 10:] = 200
    picture = Picture(Image.fromarray(values), "x")
    heat = np.array([0.1, 0.6, 0.2, 0.1], np.float32)
    assert (np.asarray(hide_hottest(picture, heat, layout, 0.25).image)[:5, 10:] == 50).all()
    assert (np.asarray(hide_hottest(picture, heat, layout, 0).image) == values).all()
    assert (np.asarray(hide_hottest(picture, heat, layout, 1).image) == 50).all()
    with pytest.raises(OptionsError, match="between 0 and 1"):
        hide_hottest(picture, heat, layout, 1.5)


def test_the_grid_shows_every_token_under_its_label() -> None:
    layout = PatchLayout.from_grid(2, 2)
    labels = [f"word{n}" for n in range(8)]
    sheet = token_grid(grey_picture(400, 200), np.eye(8, 4, dtype=np.float32), labels, layout, columns=3)
    assert sheet.width > 3 * 200
    assert sheet.height > 3 * 112
    assert np.asarray(sheet).std() > 10
    long_label = token_grid(grey_picture(40, 40), np.ones((1, 4), np.float32), ["antidisestablishment" * 5], layout)
    assert long_label.width < 300


def test_the_walk_shows_every_token_for_its_time() -> None:
    layout = PatchLayout.from_grid(2, 2)
    maps = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], np.float32)
    with Image.open(io.BytesIO(walk_gif(grey_picture(60, 40), maps, ["a", "dog", "runs"], layout))) as walk:
        assert walk.format == "GIF"
        assert walk.n_frames == 3  # type: ignore[attr-defined]
        frames = []
        for number in range(3):
            walk.seek(number)
            assert walk.info["duration"] == 800
            frames.append(np.asarray(walk.convert("RGB")))
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 100
    with pytest.raises(OptionsError, match="no token"):
        walk_gif(grey_picture(60, 40), maps[:0], [], layout)


def test_colour_maps_are_256_colours_and_the_even_ones_grow_brighter() -> None:
    assert COLOUR_MAPS[0] == "magma"
    for name in COLOUR_MAPS:
        assert colour_table(name).shape == (256, 3)
    for name in ("magma", "viridis"):
        brightness = colour_table(name) @ np.array([0.2126, 0.7152, 0.0722])
        assert (np.diff(brightness) > -0.5).all()
    assert colour_table("red-cyan")[[0, 255]].tolist() == [[0, 255, 255], [255, 0, 0]]
    with pytest.raises(OptionsError, match="choose from magma"):
        colour_table("plaid")


def test_png_is_what_was_drawn() -> None:
    picture = grey_picture(7, 5).image
    with Image.open(io.BytesIO(to_png(picture))) as image:
        assert (image.format, image.size) == ("PNG", (7, 5))
        assert (np.asarray(image) == GREY).all()
