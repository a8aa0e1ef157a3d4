"""The pointing game, played by fake captioners that attend to bright patches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.__main__ import main
from captioning.attention.hiding import centre_heat
from captioning.attention.views import pixel_boxes
from captioning.core.errors import CapabilityError
from captioning.core.types import Capabilities, Caption, CaptionTrace, ImageFeatures, ModelInput, PatchLayout, Picture
from captioning.media.images import open_image
from captioning.training.pointing import (
    PointingPicture,
    Target,
    centres_inside,
    evaluate_pointing,
    mask_cover,
    mass_inside,
    pointing_share,
    pointing_table,
)
from tests.conftest import FAKE_SPEC, FakeCaptioner

METHODS = ("gradient_attention", "input_gradient")
SPEC = replace(FAKE_SPEC, model_id="unmeasured", capabilities=Capabilities(explanation_methods=METHODS))
SIDE = 64


class LooksAtTheBright(FakeCaptioner):
    """A captioner with 4 × 4 patches. Only gradients and one head find the brightest one."""

    layout = PatchLayout.from_grid(4, 4)

    def preprocess(self, image: Picture) -> ModelInput:
        return replace(super().preprocess(image), layout=self.layout)

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.bright = [self.see(image) for image in images]
        return [replace(features, layout=self.layout) for features in super().encode(images)]

    def see(self, image: Picture) -> NDArray[np.float32]:
        """Return the brightness of each patch."""
        pixels = np.asarray(image.image, np.float32).mean(axis=-1)
        boxes = pixel_boxes(self.layout, *pixels.shape)
        return np.array([pixels[top:bottom, left:right].mean() for left, top, right, bottom in boxes], np.float32)

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        dark = 255 - self.bright[0]
        weights = np.tile(dark / dark.sum() / 2, (2, 3, len(caption.token_ids), 1)).astype(np.float32)
        weights[1, 2] = self.bright[0] / (1 + self.bright[0].sum()) / 5
        prefix = np.full(weights.shape[:3], 0.5, np.float32)
        return CaptionTrace(caption, weights, prefix, "cross", features.layout)

    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        heat = self.see(image) if method == "gradient_attention" else np.zeros(16, np.float32)
        return np.tile(heat, (len(positions), 1))


def show(captioner: FakeCaptioner, place: int, photograph: str = "") -> PointingPicture:
    """Return a dark picture whose object, a bright square, fills one of 4 × 4 cells."""
    mask = np.zeros((SIDE, SIDE), np.bool_)
    row, column = divmod(place, 4)
    mask[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = True
    picture = open_image(Image.fromarray(np.where(mask, 250, 20).astype(np.uint8)))
    (features,) = captioner.encode([picture])
    caption = captioner.caption_from_text(features, "a photo of", "a lamp")
    return PointingPicture(photograph or str(place), picture, caption, (Target((4,), mask),))


def test_the_map_that_knows_points_and_the_others_do_not() -> None:
    captioner = LooksAtTheBright(SPEC)
    heard: list[tuple[str, int, int]] = []
    pictures = [show(captioner, place) for place in range(16)]
    figures = evaluate_pointing(captioner, pictures, 16, report=lambda *step: heard.append(step))
    assert (figures["cases"], figures["photographs"], figures["chance"]) == (16, 16, 1 / 16)
    methods = figures["methods"]
    assert next(iter(methods)) == "gradient_attention"
    assert methods["gradient_attention"]["pointing"] == (1, 1, 1)
    mean, low, high = methods["gradient_attention"]["mass"]
    assert low == pytest.approx(mean) == pytest.approx(high) == pytest.approx(250 / (250 + 15 * 20))
    assert methods["attention"]["pointing"] == (0, 0, 0)
    # The empty map of this method is a flat one, and the centre is four patches that are hottest alike.
    assert methods["input_gradient"]["pointing"][0] == methods["input_gradient"]["mass"][0] == 1 / 16
    assert figures["centre"]["pointing"][0] == pytest.approx(1 / 16)
    assert set(figures["centre"]) == {"pointing", "mass"}
    mean, low, high = methods["gradient_attention"]["over_centre"]
    assert mean == pytest.approx(15 / 16)
    assert 0.8 < low < mean < high <= 1
    assert heard[-1] == ("pointing on", 16, 16)
    table = pointing_table(figures).splitlines()
    assert table[0].startswith("16 objects on 16 photographs")
    assert table[2].split()[:2] == ["gradient_attention", "1.000"]
    assert [line.split()[0] for line in table[-2:]] == ["centre", "chance"]


def test_heads_and_layers_are_measured_when_asked_for() -> None:
    captioner = LooksAtTheBright(SPEC)
    pictures = [show(captioner, place) for place in (0, 6)]
    by_head = evaluate_pointing(captioner, pictures, 2, ["attention"], "heads")["methods"]
    assert len(by_head) == 2 * 3 + 2
    assert by_head["attention, layer 1, head 2"]["pointing"][0] == 1
    assert by_head["attention, layer 1, head 1"]["pointing"][0] == 0
    by_layer = evaluate_pointing(captioner, pictures, 2, ["attention"], "layers")["methods"]
    assert {"attention", "attention, layer 0, head mean", "attention, layer 1, head max"} <= set(by_layer)
    with pytest.raises(CapabilityError, match="choose from attention, attention_clean, gradient_attention"):
        evaluate_pointing(captioner, pictures, 2, ["relevance"])


def test_pictures_of_one_photograph_are_drawn_together() -> None:
    captioner = LooksAtTheBright(SPEC)
    # The centre's four patches are hottest alike, so that it hits by a quarter on one picture and not on the other.
    apart, alike = (
        evaluate_pointing(captioner, [show(captioner, 0, one), show(captioner, 5, other)], 2)
        for one, other in (("a", "b"), ("a", "a"))
    )
    assert (apart["photographs"], alike["photographs"], alike["cases"]) == (2, 1, 2)
    assert apart["centre"]["pointing"] == (0.125, 0, 0.25)
    assert alike["centre"]["pointing"] == (0.125, 0.125, 0.125)


def test_objects_that_the_model_cannot_see_are_left_out() -> None:
    class SeesTheLeftHalf(LooksAtTheBright):
        layout = PatchLayout(PatchLayout.from_grid(4, 4).boxes * (0.5, 1, 0.5, 1), (4, 4))

    captioner = SeesTheLeftHalf(SPEC)
    figures = evaluate_pointing(captioner, [show(captioner, place) for place in (0, 1, 2, 3)], 4)
    assert figures["cases"] == 2
    assert figures["methods"]["gradient_attention"]["pointing"][0] == 1
    nothing = evaluate_pointing(captioner, [show(captioner, 3)], 1)
    assert nothing == {"cases": 0, "photographs": 0, "chance": None, "centre": {}, "methods": {}}
    assert pointing_table(nothing).startswith("0 objects")


@pytest.mark.parametrize("shape", [(6, 9), (7, 5), (1, 1)])
def test_cover_and_centres_equal_those_of_a_finer_grid(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.4
    boxes = PatchLayout.from_grid(4, 3).boxes * (0.8, 0.5, 0.8, 0.5) + (0.1, 0.25, 0.1, 0.25)  # a crop
    layout = PatchLayout(np.vstack((boxes, (0, 0, 1, 1), (1, 0.2, 1, 0.4))))  # a whole view, and padding
    fine = np.kron(mask, np.ones((120 // shape[0] * 4, 120 // shape[1] * 4), np.bool_))
    height, width = fine.shape
    cover, inside = mask_cover(mask, layout), centres_inside(mask, layout)
    for place, (left, top, right, bottom) in enumerate(layout.boxes[:-1]):
        part = fine[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        assert cover[place] == pytest.approx(part.mean(), abs=0.02)
        assert inside[place] == fine[int((top + bottom) / 2 * height), int((left + right) / 2 * width)]
    assert (cover[-1], inside[-1]) == (0, False)


def test_a_mask_of_any_resolution_covers_the_same() -> None:
    mask = np.zeros((3, 3), np.bool_)
    mask[0, 2] = True
    layout = PatchLayout.from_grid(4, 4)
    cover = mask_cover(mask, layout)
    np.testing.assert_allclose(cover, mask_cover(np.kron(mask, np.ones((40, 50), np.bool_)), layout), atol=1e-9)
    assert cover.sum() / 16 == pytest.approx(1 / 9)
    assert np.flatnonzero(cover).tolist() == [2, 3, 6, 7]
    assert np.flatnonzero(centres_inside(mask, layout)).tolist() == [3]


def test_equal_patches_share_and_an_empty_map_is_flat() -> None:
    on_object = np.array([True, False, False, False])
    assert pointing_share(np.array([3, 3, 1, 0], np.float32), on_object) == 0.5
    assert pointing_share(np.zeros(4, np.float32), on_object) == 0.25
    cover = np.array([1, 0.5, 0, 0])
    assert mass_inside(np.array([2, 2, 4, 0], np.float32), cover) == pytest.approx(3 / 8)
    assert mass_inside(np.zeros(4, np.float32), cover) == pytest.approx(1.5 / 4)
    assert pointing_share(centre_heat(PatchLayout.from_grid(5, 5)), np.arange(25) == 12) == 1


def test_the_command_measures_the_embedded_captioner_on_scenes(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "pointing", str(data_folder), "--scenes", "4", "--model", "embedded"]
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["model"], figures["split"], figures["scenes"], figures["cases"]) == ("embedded", "dev", 4, 4)
    assert figures["chance"] == pytest.approx(1 / 9)
    assert {"attention", "attention_clean", "gradient_attention", "relevance", "input_gradient"} == set(
        figures["methods"]
    )
    for measured in figures["methods"].values():
        assert set(measured) == {"pointing", "mass", "over_centre"}
        assert all(low <= mean <= high for mean, low, high in measured.values())
    assert main([*command, "--methods", "input_gradient", "--views", "layers"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("embedded in float32, split dev\n4 objects on 4 photographs")
    assert "attention, layer" not in table
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == figures


def test_wrong_requests_get_one_sentence_each(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "pointing", str(data_folder)]
    for more, sentence in (
        (["--scenes", "0"], "0 scenes measure nothing; give 1 or more."),
        (["--limit", "5"], "give the number of scenes by --scenes."),
        (["--methods", "magic"], "has no maps by 'magic'; choose from attention"),
        (["--split", "test"], "has no photograph of split 'test'"),
        (["--masks", "nowhere.json"], "nowhere.json cannot be read"),
    ):
        assert main([*command, *more]) == 1
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--scenes", "3", "--masks", "some.json"])
