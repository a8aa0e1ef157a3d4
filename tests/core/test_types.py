from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from captioning.core.errors import FeaturesError, OptionsError
from captioning.core.types import Caption, CaptionTrace, DecodingOptions, ImageFeatures, PatchLayout


def features(values: torch.Tensor, model_id: str = "m", image_id: str = "i") -> ImageFeatures:
    embeds = torch.nn.functional.normalize(values.mean(0), dim=-1)
    return ImageFeatures(model_id, image_id, values, embeds, PatchLayout.from_grid(2, 3), 1)


def caption(tokens: int = 2, prompt: int = 1) -> Caption:
    return Caption(
        "m", "r", "i", "a", DecodingOptions(), "a b", tuple(range(tokens)), ("a",) * tokens, prompt,
        tuple(-float(n) for n in range(tokens)), ((),) * tokens, 0.1,
    )  # fmt: skip


def test_grid_layout_covers_the_picture_row_by_row() -> None:
    layout = PatchLayout.from_grid(2, 3)
    np.testing.assert_allclose(layout.boxes[0], [0, 0, 1 / 3, 1 / 2])
    np.testing.assert_allclose(layout.boxes[1], [1 / 3, 0, 2 / 3, 1 / 2])
    np.testing.assert_allclose(layout.boxes[-1], [2 / 3, 1 / 2, 1, 1])
    areas = (layout.boxes[:, 2] - layout.boxes[:, 0]) * (layout.boxes[:, 3] - layout.boxes[:, 1])
    assert areas.sum() == pytest.approx(1)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DecodingOptions().seed = 3  # type: ignore[misc]


def test_features_must_fit_their_layout() -> None:
    with pytest.raises(ValueError, match=r"\[7, hidden\]"):
        features(torch.zeros(6, 4))


def test_mean_of_frames_averages_states_and_keeps_embeds_at_unit_length() -> None:
    frames = [features(torch.full((7, 4), float(n)) + torch.arange(4.0), image_id=str(n)) for n in (1, 3)]
    mean = ImageFeatures.mean(frames)
    torch.testing.assert_close(mean.encoder_hidden_states, torch.full((7, 4), 2.0) + torch.arange(4.0))
    assert mean.image_embeds.norm().item() == pytest.approx(1)
    assert mean.image_id == "1+3"


def test_mean_of_one_frame_is_that_frame() -> None:
    only = features(torch.ones(7, 4))
    assert ImageFeatures.mean([only]) is only


def test_features_of_two_models_or_none_cannot_be_averaged() -> None:
    with pytest.raises(FeaturesError, match="one model"):
        ImageFeatures.mean([features(torch.ones(7, 4)), features(torch.ones(7, 4), model_id="other")])
    with pytest.raises(FeaturesError, match="at least one"):
        ImageFeatures.mean([])


def test_frames_cut_into_other_tiles_cannot_be_averaged() -> None:
    tiled = [
        replace(features(torch.ones(7, 4)), layout=PatchLayout(PatchLayout.from_grid(*tiles).boxes))
        for tiles in ((2, 3), (3, 2))
    ]
    with pytest.raises(FeaturesError, match="one layout"):
        ImageFeatures.mean(tiled)
    assert len(ImageFeatures.mean(tiled[:1] * 2).layout.boxes) == 6


@pytest.mark.parametrize(
    "values",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 5.5},
        {"num_beams": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_k": -1},
        {"repetition_penalty": 0.5},
        {"num_captions": 99},
        {"seed": True},
        {"seed": "3"},
    ],
)
def test_options_outside_their_range_are_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(OptionsError, match=next(iter(values))):
        DecodingOptions(**values)  # type: ignore[arg-type]


def test_contradicting_options_name_the_cure() -> None:
    with pytest.raises(OptionsError, match="set num_beams to 1 or temperature to 0"):
        DecodingOptions(num_beams=3, temperature=1.0)
    with pytest.raises(OptionsError, match="raise num_beams or set a temperature"):
        DecodingOptions(num_captions=3)
    assert DecodingOptions(num_captions=3, num_beams=3).num_captions == 3


def test_mean_log_prob_leaves_the_prompt_out() -> None:
    assert caption(tokens=3, prompt=1).mean_log_prob == pytest.approx(-1.5)
    assert caption(tokens=2, prompt=2).mean_log_prob is None


def test_caption_fields_must_agree_in_length() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        dataclasses.replace(caption(), tokens=("a",))
    with pytest.raises(ValueError, match="num_prompt_tokens"):
        dataclasses.replace(caption(), num_prompt_tokens=5)


def test_trace_must_fit_its_caption_and_layout() -> None:
    layout = PatchLayout.from_grid(2, 3)
    CaptionTrace(caption(), np.zeros((1, 2, 2, 6), np.float32), np.zeros((1, 2, 2), np.float32), "cross", layout)
    with pytest.raises(ValueError, match="image_attentions"):
        CaptionTrace(caption(), np.zeros((1, 2, 3, 6), np.float32), np.zeros((1, 2, 3), np.float32), "cross", layout)
