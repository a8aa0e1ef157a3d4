"""What a clip was captioned with."""

from __future__ import annotations

from dataclasses import dataclass

from captioning.captions.clip_captions import (
    Word,
)
from captioning.core.types import DecodingOptions
from captioning.media.video import DEFAULT_FRAMES


@dataclass(frozen=True, slots=True)
class Asked:
    """What a clip was captioned with, and the words of its first caption; the panels go on from it."""

    path: str
    model_id: str
    prompts: tuple[str, ...]
    options: DecodingOptions
    count: int = DEFAULT_FRAMES
    start: float | None = None
    end: float | None = None
    words: tuple[Word, ...] = ()
