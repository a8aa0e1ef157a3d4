"""Files that the page hands to the browser."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from captioning.core.errors import OptionsError
from captioning.core.formats import Format, describe_formats, find_format
from captioning.web.saving import SaveStep, Saving

REQUEST: Any = SimpleNamespace(session_hash="one")
FORMATS: tuple[Format[str], ...] = (
    Format("txt", "TXT", "notes.txt", "notes", str.encode),
    Format("loud", "Loud", "loud.txt", "loud notes", lambda text: text.upper().encode()),
)


def save(saving: Saving, kind: str, *values: Any) -> list[dict[str, Any]]:
    async def follow() -> list[dict[str, Any]]:
        event: Any = SimpleNamespace(kind=kind)
        return [update[saving.part] async for update in saving.save(REQUEST, event, *values)]

    return asyncio.run(follow())


def make_saving() -> Saving:
    def make_file(_: Any, event: Any, job: Any, text: str | None) -> tuple[str, bytes]:
        assert threading.current_thread() is not threading.main_thread()
        if text is None:
            raise OptionsError("There is nothing to save yet.")
        job.show(SaveStep("Writing", 0.5))
        chosen = find_format(FORMATS, event.kind)
        return chosen.name_for("today"), chosen.make(text)

    with gr.Blocks():
        return Saving("notes", make_file, FORMATS)


def test_a_click_saves_what_is_there_under_a_name_that_says_what_it_is() -> None:
    first, *_, last = save(make_saving(), "loud", "hello")
    assert (first["phase"], first["file"]) == ("busy", None)
    assert (last["phase"], last["name"], last["doing"]) == ("done", "today-loud.txt", "Saved today-loud.txt")
    assert Path(last["file"]["path"]).read_bytes() == b"HELLO"
    assert last["formats"] == describe_formats(FORMATS)


@pytest.mark.parametrize(("kind", "text", "told"), [("txt", None, "nothing to save"), ("exe", "x", "from txt, loud")])
def test_what_cannot_be_saved_is_a_sentence_and_no_file(kind: str, text: str | None, told: str) -> None:
    last = save(make_saving(), kind, text)[-1]
    assert (last["phase"], last["file"]) == ("failed", None)
    assert told in last["message"]
