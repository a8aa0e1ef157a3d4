"""What the Model tab does behind the page."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from captioning.core.cancellation import Job
from captioning.core.errors import PromptError
from captioning.core.types import Picture
from captioning.tabs.model.net import look_inside, net_value
from captioning.tabs.model.patches import cut_up, label_picture, labels_value, received_picture
from captioning.tabs.model.words import WordSection, force, forcing_value, read_tokens
from captioning.ui.page import Page
from tests.conftest import FakeCaptioner, FakeLoader, fake_tensor
from tests.tiny_models import write_tiny_classifier


def make_job() -> Job[Any]:
    return Job(threading.Event())


def test_a_panel_says_everything_that_adds_up(fake_loader: FakeLoader) -> None:
    infos = look_inside(fake_loader, ["embedded", "wordless"], make_job())
    one, other = net_value("done", infos)["models"]
    assert (one["title"], other["title"]) == ("Fake captioner", "Wordless captioner")
    assert one["parameters"] == sum(row[3] for row in one["arrays"]) == sum(p["elements"] for p in one["parts"])
    assert ["Prompt", "takes none"] in [list(fact) for fact in other["facts"]]
    assert [step["title"] for step in one["steps"]][:3] == ["pixels", "patches", "features"]
    assert next(step for step in one["steps"] if step["title"] == "query")["axes"] == "L, N, E"


def test_the_patch_view_shows_the_colours_that_the_model_receives(fake_loader: FakeLoader, photo: Path) -> None:
    value, image = cut_up(fake_loader, str(photo), "auto", make_job())
    assert (value["columns"], len(value["cells"]), value["prefix"], image.size) == (4, 16, 1, (32, 32))
    with Image.open(photo) as original:
        expected = np.asarray(original.convert("RGB").resize((32, 32)))
    assert np.abs(np.asarray(image).astype(int) - expected.astype(int)).max() <= 1


def test_padding_is_shown_as_what_it_is() -> None:
    class Padding(FakeCaptioner):
        def preprocess(self, image: Picture) -> Any:
            received = super().preprocess(image)
            pixels = np.asarray(received.pixel_values).copy()
            pixels[:, :4] = -2.0  # black, as this recipe normalises it
            return type(received)(fake_tensor(pixels), received.layout)

    shown = received_picture(Padding(), Picture(Image.new("RGB", (64, 48), (200, 100, 50)), "p"))
    assert shown is not None
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[20, 20].tolist() == [200, 100, 50]


def test_a_picture_that_comes_in_tiles_is_shown_whole(fake_loader: FakeLoader, photo: Path) -> None:
    class Tiled(FakeCaptioner):
        def preprocess(self, image: Picture) -> Any:
            received = super().preprocess(image)
            layout = type(received.layout)(received.layout.boxes)
            return type(received)(fake_tensor(np.asarray(received.pixel_values)[None]), layout)

    fake_loader("auto")
    fake_loader.loaded["embedded"]._captioner = Tiled()
    value, image = cut_up(fake_loader, str(photo), "auto", make_job())
    assert (value["columns"], len(value["cells"]), image.size) == (0, 16, (64, 48))


def test_any_text_becomes_tokens(fake_loader: FakeLoader) -> None:
    value = read_tokens(fake_loader, "auto", "a <b>dog</b> 狗", make_job())
    assert [token for _, token in value["tokens"]] == ["a", " <b>dog</b>", " 狗"]
    assert read_tokens(fake_loader, "auto", "", make_job())["tokens"] == []
    with pytest.raises(PromptError, match="too long"):
        read_tokens(fake_loader, "auto", "x" * 10_000, make_job())


def test_a_text_that_was_typed_on_leaves_its_place_to_the_newer_one(fake_loader: FakeLoader) -> None:
    may_come = threading.Event()

    def load(model_id: str = "auto", **options: Any) -> Any:
        assert may_come.wait(30)
        return fake_loader(model_id, **options)

    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Model"):
        states = [gr.State(None) for _ in range(4)]
        section = WordSection(Page(load, states[0], states[1], gr.HTML(), states[2], states[3], tabs))
    request: Any = SimpleNamespace(session_hash="me")
    told: list[dict[str, Any]] = []

    async def follow(text: str) -> None:
        told.extend([update[section.tokens] async for update in section._tokenize(request, "auto", text)])

    async def journey() -> None:
        typing = []
        for text in ("a", "a dog", "a dog runs"):
            typing.append(asyncio.create_task(follow(text)))
            await asyncio.sleep(0.1)
        await asyncio.wait(typing[:2], timeout=5)
        assert [task.done() for task in typing] == [True, True, False], "nobody waits for what was typed before"
        may_come.set()
        await typing[2]

    asyncio.run(journey())
    assert [value["characters"] for value in told if value["title"]] == [len("a dog runs")]


def test_a_typed_caption_stands_beside_what_the_model_would_say(fake_loader: FakeLoader, photo: Path) -> None:
    forcing, heading = force(fake_loader, str(photo), "auto", "the sky", "is blue", make_job())
    rows = forcing_value("done", forcing, heading)["rows"]
    assert [row["input"].strip() for row in rows] == ["<start>", "the", "sky", "is", "blue"]
    assert [row["label"].strip() for row in rows] == ["the", "sky", "is", "blue", "<end>"]
    assert all(row["guess_log_prob"] >= row["log_prob"] for row in rows)
    assert forcing.num_prompt_tokens == 2
    with pytest.raises(PromptError, match="empty"):
        force(fake_loader, str(photo), "auto", "", "", make_job())


def test_a_classifier_in_a_folder_labels_the_picture(photo: Path, tmp_path: Path) -> None:
    folder = write_tiny_classifier(tmp_path / "labels", ("cat", "dog", "bird"))
    value = labels_value("done", label_picture(str(photo), str(folder), make_job()))
    assert {label for label, _ in value["labels"]} == {"cat", "dog", "bird"}
    shares = [share for _, share in value["labels"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.01)
