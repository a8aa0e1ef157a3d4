"""What a clip's captions tell: segments, words that come and go with the number of frames, and what each frame adds.

Works on frames, features and captions of any captioner; knows neither the page nor a framework.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.captions.words import word_groups, word_text
from captioning.core.contract import Captioner
from captioning.core.types import Caption, ImageFeatures, VideoFrame
from captioning.media.images import open_image

OnStep = Callable[[int, int], None]
"""Hears how many steps are done, and of how many. Raise `Stopped` from it to stop."""

FRAME_COUNTS = (1, 2, 4, 8, 16, 32)
"""At how many frames a clip is captioned to see how many it takes."""
_REPEAT_MEAN, _REPEAT_MOST = 2.0, 24.0
"""Frames whose small copies differ by less than this on average and anywhere, of 255, look alike to everybody."""
_SMALL_SIDE = 32
_BATCH = 8
_SMALLEST_SIDE, _LARGEST_SIDE = 320, 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a clip, from `start` to `end` in seconds, whose sampled frames all have the caption `text`.

    `frames` are the places of those frames among the sampled ones.
    """

    start: float
    end: float
    text: str
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption and the positions of its tokens; `is_prompt` says that a person typed it."""

    text: str
    positions: tuple[int, ...]
    is_prompt: bool


def frame_side(captioner: Captioner) -> int:
    """Return the longer side in pixels that frames need: enough for a wide frame to fill the captioner's input."""
    pixels = captioner.preprocess(open_image(Image.new("RGB", (64, 64)))).pixel_values
    return min(max(2 * max(pixels.shape[-2:]), _SMALLEST_SIDE), _LARGEST_SIDE)


def encode_frames(
    captioner: Captioner, frames: Sequence[VideoFrame], on_step: OnStep | None = None
) -> list[ImageFeatures]:
    """One `ImageFeatures` a frame, in the batches that are fastest: one by one on a processor, several elsewhere."""
    batch = 1 if captioner.device == "cpu" else _BATCH
    made: list[ImageFeatures] = []
    while len(made) < len(frames):
        if on_step is not None:
            on_step(len(made), len(frames))
        made += captioner.encode([frame.image for frame in frames[len(made) : len(made) + batch]])
    return made


def find_repeats(frames: Sequence[VideoFrame]) -> tuple[bool, ...]:
    """Return for each frame whether it differs little from the last frame that was no repeat."""
    repeats: list[bool] = []
    last: NDArray[np.float32] | None = None
    for frame in frames:
        small = frame.image.image.resize((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32)
        change = np.abs(pixels - last) if last is not None else None
        repeats.append(change is not None and bool(change.mean() < _REPEAT_MEAN and change.max() < _REPEAT_MOST))
        last = last if repeats[-1] else pixels
    return tuple(repeats)


def merge_segments(
    frames: Sequence[VideoFrame], captions: Sequence[Caption], start: float, end: float
) -> tuple[Segment, ...]:
    """Cut a clip from `start` to `end` into segments; neighbouring frames with equal captions share one.

    A segment reaches to the middle between its last frame and the next one.
    """
    seconds = [frame.seconds for frame in frames]
    edges = [start, *((a + b) / 2 for a, b in itertools.pairwise(seconds)), end]
    segments: list[Segment] = []
    for place, caption in enumerate(captions):
        if segments and segments[-1].text == caption.text:
            before = segments.pop()
            segments.append(Segment(before.start, edges[place + 1], caption.text, (*before.frames, place)))
        else:
            segments.append(Segment(edges[place], edges[place + 1], caption.text, (place,)))
    return tuple(segments)


def mark_changes(before: str | None, after: str) -> tuple[tuple[str, bool], ...]:
    """Return the words of `after`, each with whether `before` lacks it; without `before` no word is new."""
    words = after.split()
    if before is None:
        return tuple((word, False) for word in words)
    new = [True] * len(words)
    for block in difflib.SequenceMatcher(None, before.split(), words, autojunk=False).get_matching_blocks():
        new[block.b : block.b + block.size] = [False] * block.size
    return tuple(zip(words, new, strict=True))


def split_words(caption: Caption) -> tuple[Word, ...]:
    """Return a caption's words with the positions of their tokens."""
    return tuple(
        Word(word_text(caption, group), group, group[0] < caption.num_prompt_tokens) for group in word_groups(caption)
    )


def measure_contributions(
    captioner: Captioner, features: Sequence[ImageFeatures], caption: Caption, on_step: OnStep | None = None
) -> NDArray[np.float32]:
    """Return what each frame adds to the log-probability of each token, in nats `[frames, tokens]`.

    `features [frames]` are those whose mean the caption was written for. One frame alone adds nothing to itself.
    """
    count = len(features)
    if count < 2:
        return np.zeros((count, len(caption.token_ids)), np.float32)
    whole = captioner.score([ImageFeatures.mean(features)], caption)
    rows: list[NDArray[np.float32]] = []
    for start in range(0, count, _BATCH):
        if on_step is not None:
            on_step(start, count)
        # The same frame may stand in the clip several times: leave out one place, not all of its kind.
        without = [
            ImageFeatures.mean([f for place, f in enumerate(features) if place != left_out])
            for left_out in range(start, min(start + _BATCH, count))
        ]
        rows.append(captioner.score(without, caption))
    return np.asarray(whole - np.concatenate(rows), np.float32)


def attend_frames(
    captioner: Captioner, features: Sequence[ImageFeatures], caption: Caption, on_step: OnStep | None = None
) -> NDArray[np.float32]:
    """Return the map of each frame alone for each token of a clip's caption, `[frames, tokens, patches]`.

    The mean over layers and heads. Raises `CapabilityError` where the architecture has no attention to show.
    """
    maps = []
    for place, frame in enumerate(features):
        if on_step is not None:
            on_step(place, len(features))
        maps.append(captioner.trace(frame, caption).image_attentions.mean(axis=(0, 1), dtype=np.float32))
    return np.stack(maps)
