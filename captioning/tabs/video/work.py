"""The work behind the Video tab, in threads of its own: captions of a clip, and what its frames add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gradio.processing_utils import save_file_to_cache

from captioning.captions.clip_captions import (
    FRAME_COUNTS,
    Segment,
    Word,
    attend_frames,
    encode_frames,
    find_repeats,
    measure_contributions,
    merge_segments,
    split_words,
)
from captioning.captions.export import ClipCaptions, frame_records, segment_records
from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError
from captioning.core.settings import get_settings
from captioning.core.types import Caption, CaptionerStatus, ImageFeatures
from captioning.media.animation import animation_to_mp4
from captioning.media.video import Clip
from captioning.models.helpers.summarizer import Summary, summarize
from captioning.serving.loading import LoadCaptioner
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.tabs.video.asked import Asked
from captioning.tabs.video.frames import FrameStore
from captioning.ui.caption_cards import Step
from captioning.ui.clip_parts import (
    WordAcross,
    describe_across,
    describe_repeats,
    describe_segments,
    film_value,
)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class ClipStep:
    """How far captioning a clip has come; `film` is what the filmstrip shows from now on, if that changes."""

    step: Step
    film: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Captioned:
    """A clip captioned by the average of its frames; `film` is what the filmstrip shows of it."""

    clip: Clip
    film: dict[str, Any]
    step: Step
    heading: str
    status: CaptionerStatus


@dataclass(frozen=True, slots=True)
class PanelStep(Generic[Found]):
    """How far a panel's work has come, and what it found so far."""

    doing: str
    done: int
    total: int
    found: Found | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A caption for each frame of a clip, merged into segments, and those of the averaged frames.

    `shown` is what the panel shows of the segments.
    """

    clip: Clip
    averaged: Sequence[Caption]
    captions: Sequence[Caption]
    segments: Sequence[Segment]
    shown: Sequence[dict[str, Any]]


def caption_clip(store: FrameStore, load: LoadCaptioner, asked: Asked, job: Job[ClipStep]) -> Captioned:
    """All captions of a clip, with a heading that says by whom, and the model's status.

    A model that takes no prompt writes without one.
    """
    captioner = load(asked.model_id, report=lambda _: job.check())
    prompts, each = usable_prompts(captioner, asked), asked.options.num_captions

    def reading(done: int, total: int) -> None:
        doing = f"Reading frame {min(done + 1, total)} of {total}" if total else "Looking through the clip"
        job.show(ClipStep(Step(doing, prompts, each)))

    clip = store.sample(asked, captioner, reading)
    film = describe_film(clip)

    def encoding(done: int, total: int) -> None:
        job.show(ClipStep(Step(f"Looking at frame {done + 1} of {total}", prompts, each), film))

    features = ImageFeatures.mean(encode_frames(captioner, clip.frames, encoding))
    job.show(ClipStep(Step("Writing", prompts, each), film))
    steps = 0

    def on_token(captions: Sequence[Caption]) -> None:
        nonlocal steps
        steps += 1
        doing = "Writing" if captions else f"Comparing {asked.options.num_beams} beams, word {steps}"
        job.show(ClipStep(Step(doing, prompts, each, captions), film))

    captions = captioner.decode(features, prompts, asked.options, on_token)
    frames = "1 frame" if len(clip.frames) == 1 else f"the average of {len(clip.frames)} frames"
    heading = f"{clip.index.name} · {frames} · {captioner.spec.title}"
    return Captioned(clip, film, Step("", prompts, each, captions), heading, captioner.status())


def convert_animation(path: str, cache_folder: str, job: Job[Step]) -> str:
    """An animated picture as a clip in the folder that the page reads from."""
    out = Path(path).with_suffix(".mp4")

    def tell(done: int, total: int) -> None:
        job.show(Step(f"Turning it into a clip, frame {done} of {total}" if total else "Looking through the picture"))

    animation_to_mp4(path, out, tell)
    return str(save_file_to_cache(out, cache_folder))


def usable_prompts(captioner: SharedCaptioner, asked: Asked) -> list[str]:
    """The prompts, or none where the model takes none."""
    return list(asked.prompts) if captioner.spec.capabilities.supports_prompt else [""]


def compare_counts(
    store: FrameStore, load: LoadCaptioner, asked: Asked, job: Job[PanelStep[list[tuple[int, str]]]]
) -> list[tuple[int, str]]:
    """The caption of the first prompt at 1, 2, 4, 8, 16 and 32 frames, as far as clip and settings have so many."""
    captioner = load(asked.model_id, report=lambda _: job.check())
    prompt = usable_prompts(captioner, asked)[0]
    rows: list[tuple[int, str]] = []
    counts = [count for count in FRAME_COUNTS if count <= get_settings().video_frames]
    total = sum(counts)
    before = 0
    for count in counts:

        def tell(done: int, _: int, count: int = count, before: int = before) -> None:
            doing = "Looking at 1 frame" if count == 1 else f"Looking at {count} frames"
            job.show(PanelStep(doing, before + done, total, list(rows)))

        clip = store.sample(asked, captioner, lambda *_: job.check(), count)
        if len(clip.frames) + clip.skipped < count:
            break
        features = ImageFeatures.mean(encode_frames(captioner, clip.frames, tell))
        caption = captioner.decode(features, [prompt], asked.options, lambda _: job.check())[0]
        rows.append((count, caption.text))
        before += count
    return rows


def caption_frames(store: FrameStore, load: LoadCaptioner, asked: Asked, job: Job[PanelStep[Timeline]]) -> Timeline:
    """A caption for each frame by itself, for the first prompt, merged into segments."""
    captioner = load(asked.model_id, report=lambda _: job.check())
    prompts = usable_prompts(captioner, asked)
    clip = store.sample(asked, captioner, lambda *_: job.check())
    features = encode_frames(captioner, clip.frames, lambda *_: job.check())
    averaged = captioner.decode(ImageFeatures.mean(features), prompts, asked.options, lambda _: job.check())
    captions: list[Caption] = []
    total = len(clip.frames)
    for place, frame in enumerate(features):
        line = _timeline(clip, averaged, captions) if captions else None
        job.show(PanelStep(f"Captioning frame {place + 1} of {total}", place, total, line))
        captions += captioner.decode(frame, prompts[:1], asked.options, lambda _: job.check())[:1]
    return _timeline(clip, averaged, captions)


def sum_up(
    store: FrameStore, load: LoadCaptioner, model_id: str, asked: Asked, job: Job[PanelStep[Summary]]
) -> Summary:
    """What the text model makes of the captions of all frames; those written before are not written again."""
    if not model_id:
        raise OptionsError(
            "Name a text encoder-decoder: a folder, or a hub name like patrickvonplaten/bert2bert_cnn_daily_mail."
        )
    captioner = load(asked.model_id, report=lambda _: job.check())
    prompts = usable_prompts(captioner, asked)[:1]
    clip = store.sample(asked, captioner, lambda *_: job.check())
    features = encode_frames(captioner, clip.frames, lambda *_: job.check())
    captions: list[str] = []
    total = len(features)
    for place, frame in enumerate(features):
        job.show(PanelStep(f"Captioning frame {place + 1} of {total}", place, total))
        captions.append(captioner.decode(frame, prompts, asked.options, lambda _: job.check())[0].text)
    job.show(PanelStep("Summing up", 0, 0))
    return summarize(model_id, captions, job.check)


def _timeline(clip: Clip, averaged: Sequence[Caption], captions: Sequence[Caption]) -> Timeline:
    """The timeline as far as frames are captioned."""
    frames = clip.frames[: len(captions)]
    done = len(frames) == len(clip.frames)
    end = clip.end if done else (frames[-1].seconds + clip.frames[len(frames)].seconds) / 2
    segments = merge_segments(frames, captions, clip.start, end)
    return Timeline(clip, averaged, tuple(captions), segments, describe_segments(segments, frames))


def look_across(
    store: FrameStore,
    load: LoadCaptioner,
    number: int,
    asked: Asked,
    job: Job[PanelStep[tuple[Sequence[Word], Sequence[dict[str, Any]]]]],
) -> tuple[Sequence[Word], Sequence[dict[str, Any]]]:
    """The words of the first caption; for one where every frame is looked at for it, and what each adds to it."""
    captioner = load(asked.model_id, report=lambda _: job.check())
    clip = store.sample(asked, captioner, lambda *_: job.check())
    features = encode_frames(captioner, clip.frames, lambda *_: job.check())
    prompts = usable_prompts(captioner, asked)
    caption = captioner.decode(ImageFeatures.mean(features), prompts, asked.options, lambda _: job.check())[0]
    words = split_words(caption)
    if not isinstance(number, int) or not 0 <= number < len(words):
        raise OptionsError("There is no such word; choose one of those shown.")
    positions = list(words[number].positions)
    total = 2 * len(features)

    def attending(done: int, _: int) -> None:
        job.show(PanelStep(f"Looking at frame {done + 1} of {len(features)}", done, total, (words, ())))

    def leaving_out(done: int, _: int) -> None:
        job.show(PanelStep("Leaving frames out", len(features) + done, total, (words, ())))

    maps = attend_frames(captioner, features, caption, attending)[:, positions].mean(axis=1)
    added = measure_contributions(captioner, features, caption, leaving_out)[:, positions].sum(axis=1)
    return words, describe_across(WordAcross(clip.frames, features[0].layout, maps, added))


def describe_film(clip: Clip) -> dict[str, Any]:
    """What the filmstrip shows of a clip."""
    repeats = find_repeats(clip.frames)
    width, height = clip.index.size
    frames = "1 frame" if len(clip.frames) == 1 else f"{len(clip.frames)} frames"
    facts = [f"{frames} of {clip.end - clip.start:.1f} s", f"{width}×{height}", describe_repeats(repeats)]
    if clip.skipped:
        facts.append(f"{clip.skipped} could not be decoded")
    facts.append(clip.note)
    return film_value(clip.frames, repeats, " · ".join(fact for fact in facts if fact))


def list_captions(asked: Asked, clip: Clip, captions: Sequence[Caption], line: Timeline | None = None) -> ClipCaptions:
    """Return the captions of a clip, and if known its timeline, as files take them."""
    segments = None if line is None else line.segments
    return ClipCaptions(
        clip.index.name,
        captions,
        asked.options,
        frame_records(clip.frames),
        clip.index.duration,
        clip.skipped,
        segments,
        segment_records(segments or (), clip.frames),
        clip.note,
    )
