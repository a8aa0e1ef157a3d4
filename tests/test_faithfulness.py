from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.faithfulness import hide_patches, measure_orders
from captioning.images import open_image
from captioning.types import Caption, DecodingOptions, ImageFeatures, ModelInput, PatchLayout, Picture
from tests.conftest import FakeCaptioner

LAYOUT = PatchLayout.from_grid(4, 4)


class SeesOnePatch(FakeCaptioner):
    """Is sure of its words as far as the bright patch in row 1, column 2 can be seen."""

    def preprocess(self, image: Picture) -> ModelInput:
        return ModelInput(super().preprocess(image).pixel_values, LAYOUT)

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.bright = [np.asarray(image.image)[12, 24].mean() / 255 for image in images]
        return super().encode(images)

    def score(self, features: Sequence[ImageFeatures], caption: Caption) -> NDArray[np.float32]:
        rows = [np.full(len(caption.token_ids), np.log(bright + 0.01)) for bright in self.bright]
        return np.array(rows, np.float32)


def bright_patch() -> Picture:
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[8:16, 20:30] = 255
    return open_image(Image.fromarray(pixels))


def test_hidden_patches_take_the_mean_colour_and_others_stay() -> None:
    picture = bright_patch()
    hidden = np.zeros(16, np.bool_)
    hidden[6] = True  # row 1, column 2
    covered = np.asarray(hide_patches(picture, LAYOUT, hidden).image)
    assert np.ptp(covered[8:16, 20:30]) == 0
    assert covered[10, 25, 0] == round(255 / 16)
    assert (covered[:8] == 0).all()


def test_the_order_that_starts_with_what_matters_has_low_deletion_and_high_insertion() -> None:
    captioner = SeesOnePatch()
    picture = bright_patch()
    (features,) = captioner.encode([picture])
    (caption,) = captioner.decode(features, [""], DecodingOptions())
    others = [n for n in range(16) if n != 6]
    best, worst = measure_orders(captioner, picture, caption, 0, [np.array([6, *others]), np.array([*others, 6])])
    assert best.deletion_area < worst.deletion_area - 1
    assert best.insertion_area > worst.insertion_area + 1
    for curves in (best, worst):
        assert curves.deletion[0] == curves.insertion[-1]  # the whole picture
        assert curves.deletion[-1] == curves.insertion[0]  # nothing of it
        assert len(curves.deletion) == len(curves.insertion) == 17
