"""Measures of maps on photographs, with a fake captioner that depends on one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from captioning.core.errors import CapabilityError, OptionsError
from captioning.core.types import Capabilities, Caption, CaptionTrace, DecodingOptions, ImageFeatures, Picture
from captioning.training.data import Photo, PhotoSet
from captioning.training.map_quality import evaluate_faithfulness, faithfulness_table, find_nouns
from tests.conftest import FAKE_SPEC, FakeCaptioner

SPOT = (slice(8, 24), slice(8, 24))  # the four patches in the middle of 32 pixels
SPEC = replace(FAKE_SPEC, model_id="unmeasured", capabilities=Capabilities(explanation_methods=("gradient_attention",)))
NOUNS = frozenset({"dog", "grass", "trees"})


class SeesTheMiddle(FakeCaptioner):
    """A captioner whose words depend on the brightness of the middle, which only gradients and one head show."""

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.bright = [np.asarray(image.image)[SPOT].mean() / 255 for image in images]
        return super().encode(images)

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        return np.array([np.full(len(caption.token_ids), 3 * bright - 4) for bright in self.bright], np.float32)

    def trace(
        self, features: ImageFeatures, caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> CaptionTrace:
        weights = np.tile((1 - middle()) / np.float32(12), (2, 3, len(caption.token_ids), 1))
        weights[1, 2] = middle() / 4
        return CaptionTrace(caption, weights, np.zeros(weights.shape[:3], np.float32), "cross", features.layout)

    def explain(self, image: Picture, caption: Caption, positions: Sequence[int], method: str) -> NDArray[np.float32]:
        return np.tile(middle(), (len(positions), 1))


def middle() -> NDArray[np.float32]:
    heat = np.zeros(16, np.float32)
    heat[[5, 6, 9, 10]] = 1
    return heat


@pytest.fixture
def photos() -> PhotoSet:
    pixels = np.random.default_rng(0).integers(0, 60, (12, 3, 32, 32), np.uint8)
    pixels[(..., *SPOT)] = 255
    return PhotoSet(tuple(Photo(f"{n}.jpg", "train", "", ("a dog",)) for n in range(12)), pixels)


def test_the_method_that_knows_wins_and_the_one_that_does_not_loses(photos: PhotoSet) -> None:
    heard: list[tuple[str, int, int]] = []
    figures = evaluate_faithfulness(SeesTheMiddle(SPEC), photos, NOUNS, report=lambda *step: heard.append(step))
    assert figures["nouns"] >= figures["photographs"] > 3
    assert figures["random_area"] < -1
    methods = figures["methods"]
    assert next(iter(methods)) in ("gradient_attention", "centre")
    for name in ("deletion", "insertion", "gain"):
        mean, low, high = methods["gradient_attention"][name]
        assert 0.2 < low <= mean <= high
        mean, low, high = methods["attention"][name]
        assert low <= mean <= high < -0.2
    assert methods["gradient_attention"]["gain"][0] == pytest.approx(
        sum(methods["gradient_attention"][name][0] for name in ("deletion", "insertion")) / 2
    )
    assert heard[-1] == ("hiding patches of", 12, 12)
    table = faithfulness_table(figures)
    assert "gradient_attention" in table.splitlines()[2] or "centre" in table.splitlines()[2]


def test_layers_and_heads_are_compared_when_asked_for(photos: PhotoSet) -> None:
    few = PhotoSet(photos.photos[:4], photos.pixels[:4])
    captioner = SeesTheMiddle(SPEC)
    by_head = evaluate_faithfulness(captioner, few, NOUNS, ["attention"], "heads", steps=4)["methods"]
    assert len(by_head) == 2 * 3 + 3  # with the mean, the maximum, and the centre
    own = {name: measured for name, measured in by_head.items() if name not in ("centre",)}
    assert own["attention, layer 1, head 2"]["gain"][0] == max(measured["gain"][0] for measured in own.values())
    assert own["attention, layer 1, head 1"]["gain"][0] < 0 < own["attention, layer 1, head 2"]["gain"][0]
    by_layer = evaluate_faithfulness(captioner, few, NOUNS, ["attention"], "layers", steps=4)["methods"]
    assert {"attention", "attention, all layers, head max", "attention, layer 1, head max"} <= set(by_layer)


def test_the_same_seed_gives_the_same_figures(photos: PhotoSet) -> None:
    few = PhotoSet(photos.photos[:3], photos.pixels[:3])
    one, again, other = (evaluate_faithfulness(SeesTheMiddle(SPEC), few, NOUNS, steps=4, seed=s) for s in (0, 0, 1))
    assert one == again
    assert one["random_area"] != other["random_area"]


def test_photographs_without_a_noun_are_left_out(photos: PhotoSet) -> None:
    figures = evaluate_faithfulness(SeesTheMiddle(SPEC), photos, frozenset({"zebra"}))
    assert (figures["nouns"], figures["photographs"], figures["methods"]) == (0, 0, {})
    assert "0 nouns" in faithfulness_table(figures)


def test_an_unknown_method_is_refused_with_the_choices(photos: PhotoSet) -> None:
    with pytest.raises(CapabilityError, match="choose from attention, attention_clean, gradient_attention"):
        evaluate_faithfulness(SeesTheMiddle(SPEC), photos, NOUNS, ["relevance"])


@pytest.mark.parametrize("steps", [0, -2])
def test_patches_that_go_in_no_step_are_refused(photos: PhotoSet, steps: int) -> None:
    with pytest.raises(OptionsError, match=f"cannot go in {steps} steps; give 1 or more"):
        evaluate_faithfulness(SeesTheMiddle(SPEC), photos, NOUNS, steps=steps)


def test_nouns_are_found_with_all_their_tokens_and_not_in_the_prompt() -> None:
    tokens = ("a", " dog", " near", " tr", "ees", " and", " dog", "s")
    count = len(tokens)
    caption = Caption(
        "m", "", "i", "a dog", DecodingOptions(), "".join(tokens), tuple(range(count)), tokens, 2, (-1.0,) * count,
        ((),) * count, 0.0,
    )  # fmt: skip
    assert find_nouns(caption, NOUNS) == [(3, 4)]
