"""Sample sets: pictures for a map that are on every machine, one click or one link away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from captioning.core.errors import DataError
from captioning.media.clip_frames import OnStep
from captioning.media.collection import Collection
from captioning.media.packed import open_packed
from captioning.media.samples import digit_collection, sample_collection
from captioning.media.scratch import Scratch
from captioning.ui.clip_input import list_clips


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Pictures to look at: its name in links, what its button says, and where they come from when they are wanted.

    `gather` may write pictures into the scratch folder.
    """

    name: str
    title: str
    gather: Callable[[Scratch, OnStep], Collection]


def _clip(scratch: Scratch, on_step: OnStep) -> Collection:
    clip = list_clips()[0]
    return open_packed(clip.path, clip.name, scratch.path, on_step)


SAMPLE_SETS = (
    SampleSet("photographs", "Sample photographs", lambda _scratch, _on_step: sample_collection()),
    SampleSet("digits", "300 handwritten digits", lambda scratch, _on_step: digit_collection(scratch.path)),
    SampleSet("clip", "Frames of a sample clip", _clip),
)


def find_samples(name: object) -> SampleSet:
    """The set of that name. Raises `DataError` where there is none."""
    found = next((known for known in SAMPLE_SETS if known.name == name), None)
    if found is None:
        raise DataError(f"There are no such samples; choose from {', '.join(known.name for known in SAMPLE_SETS)}.")
    return found
