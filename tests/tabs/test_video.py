"""What the Video tab does behind the page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from captioning.captions.export import clip_to_json
from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError, Stopped, VideoError
from captioning.core.types import DecodingOptions
from captioning.tabs.video.asked import Asked
from captioning.tabs.video.frames import FrameStore
from captioning.tabs.video.tab import follow_panel
from captioning.tabs.video.work import (
    caption_clip,
    caption_frames,
    compare_counts,
    describe_film,
    list_captions,
    look_across,
    sum_up,
)
from captioning.ui.clip_input import list_clips
from captioning.ui.clip_parts import PanelState, counts_value, summary_value, timeline_value, word_value
from captioning.web.jobs import Runs
from tests.clips import make_clip, spoil
from tests.conftest import FakeLoader
from tests.tiny_models import write_tiny_summarizer


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(str(make_clip(tmp_path / "clip.mp4")), "auto", ("a video of", ""), DecodingOptions(), 4)


def make_job() -> Job[Any]:
    return Job(threading.Event())


def test_a_clip_is_captioned_from_the_average_of_its_frames(fake_loader: FakeLoader, asked: Asked) -> None:
    result = caption_clip(FrameStore(), fake_loader, asked, make_job())
    assert [caption.prompt for caption in result.step.captions] == ["a video of", ""]
    assert result.step.captions[0].image_id.count("+") == 3
    assert result.heading == "clip.mp4 · the average of 4 frames · Fake captioner"
    assert result.status.encoded_images == 4
    film = describe_film(result.clip)
    assert [frame["time"] for frame in film["frames"]] == ["0:00.3", "0:01.1", "0:01.8", "0:02.6"]
    assert film["facts"] == "4 frames of 3.0 s · 96×64"


def test_going_back_to_an_earlier_number_of_frames_reads_and_encodes_nothing(
    fake_loader: FakeLoader, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FrameStore()
    for count in (4, 8):
        caption_clip(store, fake_loader, _with(asked, count=count), make_job())
    encoded = fake_loader.fakes["embedded"].encoded
    monkeypatch.setattr("captioning.tabs.video.frames.read_frames", None)
    caption_clip(store, fake_loader, asked, make_job())
    assert fake_loader.fakes["embedded"].encoded == encoded


def test_a_still_clip_is_encoded_once_and_says_so(fake_loader: FakeLoader, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "still.mp4", numbers=[5] * 40, gop=1)
    result = caption_clip(FrameStore(), fake_loader, _with_clip(clip), make_job())
    assert fake_loader.fakes["embedded"].encoded <= 2
    assert "nothing moves" in describe_film(result.clip)["facts"]


def test_frames_that_cannot_be_decoded_are_told(fake_loader: FakeLoader, tmp_path: Path) -> None:
    clip = spoil(make_clip(tmp_path / "spoilt.mp4", gop=1), [13, 14, 15, 16])
    result = caption_clip(FrameStore(), fake_loader, _with_clip(clip), make_job())
    assert "could not be decoded" in describe_film(result.clip)["facts"]


def test_captions_at_more_and_more_frames_end_where_the_clip_ends(fake_loader: FakeLoader, asked: Asked) -> None:
    rows = compare_counts(FrameStore(), fake_loader, asked, make_job())
    assert [count for count, _ in rows] == [1, 2, 4, 8, 16]
    value = counts_value(PanelState("done", ready=True), rows)
    assert not any(new for _, new in value["rows"][0]["words"])
    assert any(new for row in value["rows"][1:] for _, new in row["words"])


def test_captions_at_more_and_more_frames_end_where_the_settings_do(
    fake_loader: FakeLoader, asked: Asked, change_settings: Callable[..., None]
) -> None:
    change_settings(video_frames=8)
    rows = compare_counts(FrameStore(), fake_loader, asked, make_job())
    assert [count for count, _ in rows] == [1, 2, 4, 8]


def test_a_timeline_captions_every_frame_and_is_exported(fake_loader: FakeLoader, asked: Asked) -> None:
    line = caption_frames(FrameStore(), fake_loader, asked, make_job())
    assert len(line.captions) == 4
    assert line.segments[0].start == 0
    assert line.segments[-1].end == pytest.approx(3.0)
    value = timeline_value(PanelState("done"), line.shown, line.averaged[0].text)
    assert len(value["segments"]) == len(line.segments)
    document = json.loads(clip_to_json(list_captions(asked, line.clip, line.averaged, line)))
    assert [c["prompt"] for c in document["captions"]] == ["a video of", ""]
    assert [frame["index"] for frame in document["frames"]] == [3, 11, 18, 26]
    assert len(document["timeline"]) == len(line.segments)


def test_a_word_is_looked_for_on_every_frame(fake_loader: FakeLoader, asked: Asked) -> None:
    words, frames = look_across(FrameStore(), fake_loader, 3, asked, make_job())
    assert [word.text for word in words[:3]] == ["a", "video", "of"]
    value = word_value(PanelState("done"), words, 3, frames)
    assert len(value["frames"]) == 4
    assert {"map", "grid", "region", "contribution", "src", "time"} == set(value["frames"][0])
    with pytest.raises(OptionsError, match="no such word"):
        look_across(FrameStore(), fake_loader, 99, asked, make_job())


def test_a_model_that_takes_no_prompt_writes_without_one(fake_loader: FakeLoader, asked: Asked) -> None:
    result = caption_clip(FrameStore(), fake_loader, _with(asked, model_id="wordless"), make_job())
    assert list(result.step.prompts) == [""]


def test_a_run_that_nobody_waits_for_ends(fake_loader: FakeLoader, asked: Asked) -> None:
    stop = threading.Event()
    stop.set()
    for work in (caption_clip, compare_counts, caption_frames):
        with pytest.raises(Stopped):
            work(FrameStore(), fake_loader, asked, Job(stop))
    assert not fake_loader.fakes or fake_loader.fakes["embedded"].encoded == 0


def test_a_panel_without_a_clip_says_what_to_do() -> None:
    async def collect() -> list[PanelState]:
        def work(_: Asked, __: Job[Any]) -> None:
            raise AssertionError

        request: Any = SimpleNamespace(session_hash="me")
        return [state async for state, _ in follow_panel(Runs(), request, work, None)]

    state = asyncio.run(collect())[-1]
    assert (state.phase, state.ready) == ("failed", False)
    assert "There is no clip yet" in state.message


def test_a_clip_that_is_gone_is_one_sentence(fake_loader: FakeLoader, asked: Asked) -> None:
    Path(asked.path).unlink()
    with pytest.raises(VideoError, match="choose it again"):
        caption_clip(FrameStore(), fake_loader, asked, make_job())


def test_sample_clips_are_real_and_described() -> None:
    assert "world.mp4" in [clip.name for clip in list_clips()]
    assert all(clip.path.is_file() and clip.alt for clip in list_clips())


def _with(asked: Asked, **changes: Any) -> Asked:
    from dataclasses import replace

    return replace(asked, **changes)


def _with_clip(path: Path) -> Asked:
    return Asked(str(path), "auto", ("a video of",), DecodingOptions(), 16)


def test_the_captions_of_all_frames_are_summed_up_by_a_text_model(
    fake_loader: FakeLoader, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_summarizer(tmp_path / "bert2bert", positions=400)
    steps: list[str] = []
    job = make_job()
    monkeypatch.setattr(job, "show", lambda step: steps.append(step.doing))
    summary = sum_up(FrameStore(), fake_loader, str(folder), asked, job)
    assert summary.text
    assert steps == [*(f"Captioning frame {n} of 4" for n in range(1, 5)), "Summing up"]
    shown = summary_value(PanelState("done", ready=True), summary)
    assert (shown["text"], shown["note"]) == (summary.text, "by bert2bert")


def test_a_summary_without_a_model_says_which_to_name(fake_loader: FakeLoader, asked: Asked) -> None:
    with pytest.raises(OptionsError, match="bert2bert_cnn_daily_mail"):
        sum_up(FrameStore(), fake_loader, "", asked, make_job())
