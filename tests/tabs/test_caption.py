"""What the Caption tab does behind the page."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, Stopped
from captioning.core.types import DecodingOptions
from captioning.tabs import TABS
from captioning.tabs.caption import CaptionTab, write_captions
from captioning.ui.branches import MOST_BRANCHES, Written
from captioning.ui.caption_cards import Step, cards_value
from captioning.ui.page import Page
from tests.conftest import FakeLoader

ROOT = Path(__file__).parents[2]


def make_job() -> Job[Step]:
    return Job(threading.Event())


def test_captions_come_prompt_by_prompt_with_a_heading_and_the_models_status(
    fake_loader: FakeLoader, photo: Path
) -> None:
    options = DecodingOptions(temperature=1.0, num_captions=2)
    written, status = write_captions(fake_loader, str(photo), "auto", ["", "the sky"], options, make_job())
    assert [caption.prompt for caption in written.step.captions] == ["", "", "the sky", "the sky"]
    assert written.heading == "photo.png · Fake captioner"
    assert status.encoded_images == 1


def test_a_picture_seen_before_is_not_encoded_again(fake_loader: FakeLoader, photo: Path) -> None:
    for prompt in ("a", "b"):
        write_captions(fake_loader, str(photo), "auto", [prompt], DecodingOptions(), make_job())
    assert fake_loader.fakes["embedded"].encoded == 1


def test_a_model_that_takes_no_prompt_writes_without_one(fake_loader: FakeLoader, photo: Path) -> None:
    written, _ = write_captions(fake_loader, str(photo), "wordless", ["a", "b"], DecodingOptions(), make_job())
    assert list(written.step.prompts) == [""]
    assert len(written.step.captions) == 1
    assert written.end_token is None


def test_what_is_no_picture_raises_before_anything_is_shown_or_loaded(fake_loader: FakeLoader, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"text")
    job = make_job()
    with pytest.raises(ImageError):
        write_captions(fake_loader, str(broken), "auto", ["a"], DecodingOptions(), job)
    assert job.take() is None
    assert not fake_loader.fakes


def test_a_run_that_nobody_waits_for_ends(fake_loader: FakeLoader, photo: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        write_captions(fake_loader, str(photo), "auto", ["a"], DecodingOptions(), Job(stop))


def test_cards_carry_alternatives_only_when_done(fake_loader: FakeLoader, photo: Path) -> None:
    written, _ = write_captions(fake_loader, str(photo), "auto", ["the sky", ""], DecodingOptions(), make_job())
    busy, done = cards_value("busy", written.step), cards_value("done", written.step)
    assert [card["prompt"] for card in done["cards"]] == ["the sky", ""]
    (caption,) = done["cards"][0]["captions"]
    assert caption["num_prompt_tokens"] == 2
    assert len(caption["alternatives"]) == len(caption["tokens"])
    assert "alternatives" not in busy["cards"][0]["captions"][0]
    assert busy["serial"] < done["serial"]


def test_cards_of_a_run_without_captions_yet_show_the_prompts() -> None:
    value = cards_value("busy", Step("Looking at the picture", ["a", "b"], 2))
    assert value["cards"] == [{"prompt": "a", "captions": []}, {"prompt": "b", "captions": []}]


def test_while_one_branch_too_many_is_written_the_session_holds_the_branches_that_the_page_shows(
    fake_loader: FakeLoader, photo: Path
) -> None:
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Caption"):
        states = [gr.State(None) for _ in range(4)]
        tab = CaptionTab(Page(fake_loader, states[0], states[1], gr.HTML(), states[2], states[3], tabs))
    written, _ = write_captions(fake_loader, str(photo), "auto", ["the sky"], DecodingOptions(), make_job())
    request: Any = SimpleNamespace(session_hash="me")

    async def branch_again(written: Written, position: int) -> list[dict[Any, Any]]:
        event: Any = SimpleNamespace(caption=0, branch=-1, position=position, choice=1)
        return [update async for update in tab._branch(request, event, written)]

    for position in range(2, 2 + MOST_BRANCHES):
        written = asyncio.run(branch_again(written, position))[-1][tab.written]
    first, *_ = asyncio.run(branch_again(written, 2 + MOST_BRANCHES))
    shown = first[tab.cards]["cards"][0]["captions"][0]["branches"]
    assert [branch["position"] for branch in shown] == [3, 4, 5, 6]
    for number, branch in enumerate(shown[:-1]):
        caption = first[tab.written].caption_at(0, number)
        assert caption.text == branch["caption"]["text"]
    assert first[tab.written].caption_at(0, len(shown) - 1) is None, "it is not written yet"


def test_tabs_have_titles_and_ids_of_their_own() -> None:
    assert len({tab.tab_id for tab in TABS}) == len({tab.title for tab in TABS}) == len(TABS)


def test_the_page_is_built_without_loading_a_framework() -> None:
    code = "import sys, app; assert app.demo; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr
