"""What is told of a clip's frames and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from captioning.captions.clip_captions import (
    Segment,
    attend_frames,
    encode_frames,
    find_repeats,
    frame_side,
    mark_changes,
    measure_contributions,
    merge_segments,
    split_words,
)
from captioning.captions.export import segment_records, segments_to_srt
from captioning.core.errors import Stopped
from captioning.core.types import Caption, DecodingOptions, ImageFeatures, PatchLayout, VideoFrame
from captioning.media.images import open_image
from tests.conftest import FakeCaptioner


def make_frames(colours: Sequence[int], step: float = 1.0) -> list[VideoFrame]:
    return [
        VideoFrame(number, (number + 0.5) * step, open_image(Image.new("RGB", (40, 30), (colour, 90, 90))))
        for number, colour in enumerate(colours)
    ]


def make_caption(text: str) -> Caption:
    captioner = FakeCaptioner()
    (features,) = captioner.encode([make_frames([0])[0].image])
    return replace(captioner.decode(features, [""], DecodingOptions())[0], text=text)


def test_equal_neighbours_become_one_segment_and_reach_half_way() -> None:
    captions = [make_caption(text) for text in ("a dog", "a dog", "a cat", "a dog")]
    segments = merge_segments(make_frames([0] * 4), captions, 0.0, 4.0)
    assert segments == (
        Segment(0.0, 2.0, "a dog", (0, 1)),
        Segment(2.0, 3.0, "a cat", (2,)),
        Segment(3.0, 4.0, "a dog", (3,)),
    )
    assert merge_segments(make_frames([0])[:1], captions[:1], 0.0, 9.0) == (Segment(0.0, 9.0, "a dog", (0,)),)


def test_words_that_were_not_there_before_are_marked() -> None:
    assert mark_changes(None, "a dog") == (("a", False), ("dog", False))
    assert mark_changes("a dog runs", "a brown dog sits") == (
        ("a", False),
        ("brown", True),
        ("dog", False),
        ("sits", True),
    )


def test_frames_that_differ_little_from_the_last_other_one_are_repeats() -> None:
    assert find_repeats(make_frames([10, 10, 11, 80, 80])) == (False, True, True, False, True)
    slow = find_repeats(make_frames(range(0, 200, 2)))
    assert 5 < slow.count(False) < 50, "a slow change is no standstill"
    still = np.zeros((96, 96, 3), np.uint8)
    moved = still.copy()
    moved[:6, :6] = 255
    pair = [VideoFrame(n, float(n), open_image(pixels)) for n, pixels in enumerate((still, moved))]
    assert find_repeats(pair) == (False, False), "something small moves"


def test_words_hold_the_positions_of_their_tokens() -> None:
    caption = replace(
        make_caption(""),
        tokens=("a", " video", " of", " dra", "gon", "flies", ","),
        token_ids=(1,) * 7,
        log_probs=(0.0,) * 7,
        alternatives=((),) * 7,
        num_prompt_tokens=3,
    )
    words = split_words(caption)
    assert [(word.text, word.positions) for word in words[2:]] == [("of", (2,)), ("dragonflies,", (3, 4, 5, 6))]
    assert [word.is_prompt for word in words] == [True, True, True, False]


class _Summing(FakeCaptioner):
    """Scores a token by the mean of the features it is given."""

    def score(
        self, features: Sequence[ImageFeatures], caption: Caption, head_mask: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        values = [float(f.encoder_hidden_states.mean()) for f in features]
        return np.tile(np.array(values, np.float32)[:, None], (1, len(caption.token_ids)))


def _features(value: float) -> ImageFeatures:
    states, embeds = torch.full((5, 4), value), torch.full((4,), 0.5)
    return ImageFeatures("embedded", str(value), states, embeds, PatchLayout.from_grid(2, 2), 1)


def test_a_frames_contribution_is_what_leaving_it_out_takes_away() -> None:
    caption = make_caption("a dog")
    features = [_features(v) for v in (1.0, 2.0, 6.0)]
    added = measure_contributions(_Summing(), features, caption)
    assert added.shape == (3, len(caption.token_ids))
    assert added[:, 0] == pytest.approx([3 - 4, 3 - 3.5, 3 - 1.5])
    assert measure_contributions(_Summing(), features[:1], caption).tolist() == [[0.0] * len(caption.token_ids)]


def test_equal_frames_contribute_nothing() -> None:
    added = measure_contributions(_Summing(), [_features(2.0)] * 12, make_caption("a dog"))
    assert np.abs(added).max() == 0


def test_frames_are_encoded_in_order_and_stop_between() -> None:
    captioner = FakeCaptioner()
    frames = make_frames([1, 2, 3])
    told: list[tuple[int, int]] = []
    features = encode_frames(captioner, frames, lambda done, total: told.append((done, total)))
    assert [f.image_id for f in features] == [frame.image.image_id for frame in frames]
    assert told == [(0, 3), (1, 3), (2, 3)]

    def stop(done: int, _: int) -> None:
        if done == 1:
            raise Stopped("Stopped.")

    with pytest.raises(Stopped):
        encode_frames(captioner, frames, stop)
    assert captioner.encoded == 4


def test_attention_of_every_frame_has_every_token_and_patch() -> None:
    captioner = FakeCaptioner()
    features = encode_frames(captioner, make_frames([1, 2]))
    caption = captioner.decode(features[0], ["a"], DecodingOptions())[0]
    maps = attend_frames(captioner, features, caption)
    assert maps.shape == (2, len(caption.token_ids), len(features[0].layout.boxes))


def test_frames_are_as_large_as_the_model_needs() -> None:
    assert frame_side(FakeCaptioner()) == 320


def test_subtitles_hold_times_and_nothing_that_breaks_them() -> None:
    segments = [
        Segment(0.0, 1.5, "a dog\n\n2\n--> runs", (0,)),
        Segment(1.5, 2.0, " ", (1,)),
        Segment(2.0, 3661.0005, "end", (2,)),
    ]
    assert segments_to_srt(segments) == (
        "1\n00:00:00,000 --> 00:00:01,500\na dog 2 → runs\n\n2\n00:00:02,000 --> 01:01:01,000\nend\n"
    )
    assert segment_records(segments[:1], make_frames([0]))[0]["frames"] == [0]
    assert math.isclose(segment_records(segments, make_frames([0, 0, 0]))[2]["end"], 3661.0005)
