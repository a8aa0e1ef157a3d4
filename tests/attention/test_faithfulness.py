from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.attention.faithfulness import (
    ablate_blocks,
    expected_encodings,
    head_importance,
    measure_map,
    measure_orders,
    rank_correlation,
)
from captioning.attention.hiding import centre_heat, deletion_masks, hide_patches, insertion_masks, score_hidden
from captioning.core.errors import ImageError, OptionsError, Stopped
from captioning.core.types import Caption, DecodingOptions, ImageFeatures, ModelInput, PatchLayout, Picture
from captioning.media.images import open_image
from tests.conftest import FakeCaptioner

LAYOUT = PatchLayout.from_grid(4, 4)


class SeesOnePatch(FakeCaptioner):
    """A captioner whose log-probability is higher the more of the bright patch in row 1, column 2 is visible."""

    def preprocess(self, image: Picture) -> ModelInput:
        return ModelInput(super().preprocess(image).pixel_values, LAYOUT)

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.bright = [np.asarray(image.image)[12, 24].mean() / 255 for image in images]
        return super().encode(images)

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
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
    best, worst = measure_orders(captioner, picture, caption, [0], [np.array([6, *others]), np.array([*others, 6])])
    assert best.deletion_area < worst.deletion_area - 1
    assert best.insertion_area > worst.insertion_area + 1
    for curves in (best, worst):
        assert curves.deletion[0] == curves.insertion[-1]  # the whole picture
        assert curves.deletion[-1] == curves.insertion[0]  # nothing of it
        assert len(curves.deletion) == len(curves.insertion) == 17


def written(captioner: FakeCaptioner, picture: Picture) -> Caption:
    return captioner.decode(captioner.encode([picture])[0], [""], DecodingOptions())[0]


def one_hot(patch: int, count: int = 16) -> NDArray[np.float32]:
    heat = np.zeros(count, np.float32)
    heat[patch] = 1
    return heat


class SeesFourPatches(SeesOnePatch):
    """A captioner whose four middle patches raise the log-probability equally."""

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        features = super().encode(images)
        self.bright = [4 * np.asarray(image.image)[8:24, 10:30].mean() / 255 for image in images]
        return features

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        return np.array([np.full(len(caption.token_ids), bright - 4.1) for bright in self.bright], np.float32)


def four_patches() -> Picture:
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[8:24, 10:30] = 255
    return open_image(Image.fromarray(pixels))


def test_the_map_that_finds_what_matters_beats_random_and_says_so() -> None:
    captioner, picture = SeesFourPatches(), four_patches()
    caption = written(captioner, picture)
    heat = one_hot(5) + one_hot(6) + one_hot(9) + one_hot(10)
    belief = measure_map(captioner, picture, caption, [2], heat, seeds=8)
    assert belief.word == caption.tokens[2].strip()
    assert belief.beats_random
    assert belief.interval[0] < belief.gain < belief.interval[1]
    assert belief.gain == pytest.approx((belief.deletion_gain + belief.insertion_gain) / 2)
    chance = np.mean([curves.deletion_area for curves in belief.random])
    assert belief.deletion_gain == pytest.approx(chance - belief.curves.deletion_area)
    assert belief.insertion_gain == pytest.approx(belief.curves.insertion_area - chance)
    assert "beats random order" in belief.sentence
    assert caption.tokens[2].strip() in belief.sentence


def test_the_map_that_hides_what_matters_last_is_worse_than_random_and_says_so() -> None:
    captioner, picture = SeesFourPatches(), four_patches()
    heat = -(one_hot(5) + one_hot(6) + one_hot(9) + one_hot(10))
    belief = measure_map(captioner, picture, written(captioner, picture), [2], heat, seeds=8)
    assert belief.gain < 0
    assert not belief.beats_random
    assert "worse than random" in belief.sentence


def test_a_word_of_several_tokens_is_measured_by_the_sum_of_their_log_probabilities() -> None:
    captioner, picture = SeesFourPatches(), four_patches()
    caption = written(captioner, picture)
    heat = one_hot(5) + one_hot(6) + one_hot(9) + one_hot(10)
    one, both = (measure_map(captioner, picture, caption, at, heat, seeds=4) for at in ([2], [2, 3]))
    assert both.word == "".join(caption.tokens[2:4]).strip()
    np.testing.assert_allclose(both.curves.deletion, 2 * one.curves.deletion, rtol=1e-6)
    assert both.gain == pytest.approx(2 * one.gain)
    single, double = (ablate_blocks(captioner, picture, caption, at, blocks=2) for at in ([2], [2, 3]))
    np.testing.assert_allclose(double, 2 * single, rtol=1e-5)
    (curves,) = measure_orders(captioner, picture, caption, [2, 3], [np.arange(16)])
    assert curves.deletion[0] == pytest.approx(2 * -0.1, abs=1e-5), "with everything in sight a token has -0.1"


def test_a_random_map_rarely_beats_random() -> None:
    captioner, picture = SeesFourPatches(), four_patches()
    caption = written(captioner, picture)
    maps = np.random.default_rng(1).random((40, 16)).astype(np.float32)
    beliefs = [measure_map(captioner, picture, caption, [0], heat, seeds=5) for heat in maps]
    assert sum(belief.beats_random for belief in beliefs) <= 4
    assert all("cannot be told" in b.sentence for b in beliefs if b.interval[0] <= 0 <= b.interval[1])


def test_measuring_looks_at_as_many_pictures_as_it_said_and_stops_when_asked() -> None:
    captioner, picture = SeesOnePatch(), bright_patch()
    caption = written(captioner, picture)
    captioner.encoded = 0
    heard: list[tuple[int, int]] = []
    measure_map(captioner, picture, caption, [0], one_hot(6), 4, 3, on_step=lambda *step: heard.append(step))
    assert captioner.encoded == heard[-1][0] == heard[-1][1] <= expected_encodings(4, 3)
    assert captioner.encoded > expected_encodings(4, 3) - 6  # masks may meet by chance
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)

    def stop(done: int, total: int) -> None:
        raise Stopped("enough")

    captioner.encoded = 0
    with pytest.raises(Stopped):
        measure_map(captioner, picture, caption, [0], one_hot(6), on_step=stop)
    assert captioner.encoded <= 8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"steps": 17}, "2 to 16 steps"),
        ({"steps": 1}, "2 to 16 steps"),
        ({"seeds": 1}, "2 to 16 seeds"),
        ({"positions": [7]}, "choose from 0 to 6"),
        ({"positions": []}, "no word to measure"),
        ({"fill": "stars"}, "mean, blur"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, Any], says: str) -> None:
    captioner, picture = SeesOnePatch(), bright_patch()
    asked: dict[str, Any] = {"positions": [0], "heat": one_hot(6)} | arguments
    with pytest.raises(OptionsError, match=says):
        measure_map(captioner, picture, written(captioner, picture), **asked)


def test_the_same_mask_is_looked_at_once() -> None:
    captioner, picture = SeesOnePatch(), bright_patch()
    caption = written(captioner, picture)
    captioner.encoded = 0
    masks = np.zeros((6, 16), np.bool_)
    masks[1::2, 6] = True
    scores = score_hidden(captioner, picture, caption, masks)
    assert captioner.encoded == 2
    assert (scores[::2] == scores[0]).all()
    assert (scores[1::2] < scores[0]).all()


def test_blurred_patches_keep_their_colours_and_lose_their_shapes() -> None:
    picture = bright_patch()
    covered = np.asarray(hide_patches(picture, LAYOUT, np.ones(16, np.bool_), "blur").image)
    assert 0 < covered[12, 24, 0] < 255
    assert covered.std() < np.asarray(picture.image).std()


def test_a_large_picture_is_measured_at_a_smaller_size() -> None:
    seen: list[tuple[int, int]] = []

    class Watches(FakeCaptioner):
        def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
            seen.extend(image.image.size for image in images)
            return super().encode(images)

    captioner = Watches()
    picture = open_image(Image.new("RGB", (3000, 1500)))
    score_hidden(captioner, picture, written(captioner, picture), np.zeros((1, 16), np.bool_))
    assert seen[-1] == (768, 384)


class LooksClosely(FakeCaptioner):
    """A captioner that divides every picture into 24 × 24 patches, and records the pictures."""

    def preprocess(self, image: Picture) -> ModelInput:
        return ModelInput(super().preprocess(image).pixel_values, PatchLayout.from_grid(24, 24))

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.shown = [image.image for image in images]
        return super().encode(images)


@pytest.mark.parametrize("size", [(16, 16), (768, 23), (5, 300), (3000, 40), (64, 48)])
def test_every_patch_of_a_small_or_thin_picture_can_be_hidden(size: tuple[int, int]) -> None:
    captioner = LooksClosely()
    picture = open_image(Image.effect_noise(size, 90))
    caption = written(captioner, picture)
    for place in (0, 23, 300, 575):
        score_hidden(captioner, picture, caption, np.arange(576)[None] == [[-1], [place]])
        whole, hidden = (np.asarray(image) for image in captioner.shown)
        changed = (whole != hidden).any(axis=2)
        assert changed.any(axis=0).sum() >= 2
        assert changed.any(axis=1).sum() >= 2
    ratio = captioner.shown[0].width / captioner.shown[0].height
    assert ratio == pytest.approx(size[0] / size[1], rel=0.05)


def test_a_picture_too_thin_for_its_patches_is_refused() -> None:
    captioner = LooksClosely()
    picture = open_image(Image.new("RGB", (20_000, 1)))
    with pytest.raises(ImageError, match="too thin"):
        score_hidden(captioner, picture, written(captioner, picture), np.zeros((1, 576), np.bool_))


def test_patches_that_hold_nothing_but_padding_make_no_picture_larger() -> None:
    class Pads(LooksClosely):
        def preprocess(self, image: Picture) -> ModelInput:
            boxes = PatchLayout.from_grid(4, 4).boxes.copy()
            boxes[:4, 3] = 0  # the first row lies above the picture
            boxes[4, 2] = 1e-6  # of this one hardly anything is left
            return ModelInput(super().preprocess(image).pixel_values, PatchLayout(boxes, (4, 4)))

    captioner, picture = Pads(), bright_patch()
    score_hidden(captioner, picture, written(captioner, picture), np.zeros((1, 16), np.bool_))
    assert captioner.shown[0].size == picture.image.size


def test_masks_go_from_nothing_to_everything_and_back() -> None:
    order = np.array([2, 0, 1, 3])
    assert deletion_masks(order, 4).sum(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert deletion_masks(order, 4)[1].tolist() == [False, False, True, False]
    assert (insertion_masks(order, 4) == ~deletion_masks(order, 4)).all()
    reverse = deletion_masks(order[::-1], 4)
    assert (insertion_masks(order, 4) == reverse[::-1]).all()  # what the random orders rely on


def test_the_centre_comes_first_from_the_centre() -> None:
    heat = centre_heat(PatchLayout.from_grid(3, 5))
    assert heat.argmax() == 7
    assert heat.min() == 0
    assert heat[0] == pytest.approx(heat[14])


def test_hiding_block_by_block_finds_the_one_that_matters() -> None:
    captioner, picture = SeesOnePatch(), bright_patch()
    caption = written(captioner, picture)
    drops = ablate_blocks(captioner, picture, caption, [0], blocks=2)
    assert drops.shape == (2, 2)
    assert drops[0, 1] > 1
    assert np.abs(np.delete(drops.ravel(), 1)).max() < 1e-6
    assert ablate_blocks(captioner, picture, caption, [0]).shape == (4, 4)  # no more blocks than patches
    with pytest.raises(OptionsError, match="1 to 6 blocks"):
        ablate_blocks(captioner, picture, caption, [0], blocks=7)


def test_rank_correlation_is_that_of_ranks() -> None:
    layout = PatchLayout.from_grid(2, 2)
    drops = np.array([[0.1, 0.2], [0.3, 9.0]], np.float32)
    assert rank_correlation(np.array([1, 2, 3, 4], np.float32), drops, layout) == pytest.approx(1)
    assert rank_correlation(np.array([4, 3, 2, 1], np.float32), drops, layout) == pytest.approx(-1)
    assert rank_correlation(np.ones(4, np.float32), drops, layout) == 0
    # Ties share their rank: ranks 0.5, 0.5, 2, 3 against 0, 1, 2, 3.
    assert rank_correlation(np.array([1, 1, 3, 4], np.float32), drops, layout) == pytest.approx(0.9486833)


def test_a_head_matters_as_much_as_its_silence_costs() -> None:
    class OneHead(FakeCaptioner):
        def score(
            self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
        ) -> NDArray[np.float32]:
            loss = 0.0 if head_mask is None else 3 * (1 - head_mask[1, 2]) + (1 - head_mask[0, 0])
            return np.full((len(features), len(caption.token_ids)), -1 - loss, np.float32)

    captioner = OneHead()
    (features,) = captioner.encode([bright_patch()])
    (caption,) = captioner.decode(features, [""], DecodingOptions())
    heard: list[tuple[int, int]] = []
    drops = head_importance(captioner, features, caption, [0], lambda *step: heard.append(step))
    assert drops.tolist() == [[1, 0, 0], [0, 0, 3]]
    assert heard == [(n, 6) for n in range(1, 7)]
