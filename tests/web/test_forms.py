"""One form, one answer, by the same doors as everything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import httpx
import pytest
from fastapi.testclient import TestClient
from gradio_client import Client, handle_file

from captioning import page
from captioning.core.messages import UNEXPECTED
from captioning.core.settings import Settings
from captioning.page import build_demo, launch_options
from captioning.web import visitor
from captioning.web.forms import read_events
from tests.clips import make_clip
from tests.conftest import FakeLoader
from tests.page_server import serve


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeLoader()) as served:
        yield served


def send(address: str, name: str, fields: dict[str, Any], **files: Path) -> tuple[int, dict[str, Any]]:
    """Status and document that a form is answered with."""
    parts: list[Any] = [(field, (path.name, path.read_bytes())) for field, path in files.items()]
    for field, value in fields.items():
        parts += [(field, (None, text)) for text in ([value] if isinstance(value, str) else value)]
    reply = httpx.post(f"{address}{name}", files=parts, timeout=60)
    return reply.status_code, reply.json()


def test_a_form_is_answered_as_the_endpoint_answers(address: str, photo: Path) -> None:
    fields = {"prompt": ["a photo of", ""], "max_new_tokens": "3", "temperature": "1", "seed": "5"}
    status, document = send(address, "caption", fields, image=photo)
    assert status == 200
    asked = Client(address, verbose=False).predict(
        image=handle_file(photo),
        prompts=["a photo of", ""],
        max_new_tokens=3,
        temperature=1.0,
        seed=5,
        api_name="/caption",
    )
    for captions in (document["captions"], asked["captions"]):
        for caption in captions:
            caption.pop("seconds")
    assert document == asked


def test_a_form_with_a_file_alone_has_all_defaults(address: str, photo: Path) -> None:
    status, document = send(address, "caption", {}, image=photo)
    assert (status, [c["prompt"] for c in document["captions"]]) == (200, ["a photography of"])
    assert (document["captions"][0]["image"], document["model"]) == ("photo.png", "embedded")


def test_a_clip_may_come_as_a_form_too(address: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    status, document = send(address, "caption_video", {"frames": "2", "end": "2.0"}, video=clip)
    assert (status, document["frames"]) == (200, [{"index": 5, "seconds": 0.5}, {"index": 15, "seconds": 1.5}])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_new_tokens": "many"}, "max_new_tokens must be a whole number, not 'many'."),
        ({"top_p": "7"}, "top_p must be between 0.0 and 1.0, not 7.0."),
        ({"prompts": "a dog"}, "There is no field prompts; choose from image, model, max_new_tokens"),
        ({"model": "no-such-model"}, "There is no model 'no-such-model'"),
        ({"num_beams": "2", "temperature": "1"}, "set num_beams to 1 or temperature to 0"),
    ],
)
def test_a_wrong_field_is_one_sentence(address: str, photo: Path, fields: dict[str, Any], sentence: str) -> None:
    status, document = send(address, "caption", fields, image=photo)
    assert status == 400
    assert sentence in document["detail"]


def test_a_form_without_a_picture_says_how_to_send_one(address: str, tmp_path: Path) -> None:
    for fields in ({}, {"image": "photo.jpg"}):
        status, document = send(address, "caption", {"prompt": "a dog", **fields})
        assert (status, document["detail"]) == (
            400,
            "There is no file in image; send one with curl -F image=@photo.jpg.",
        )
    (tmp_path / "notes.txt").write_text("no picture")
    status, document = send(address, "caption", {}, image=tmp_path / "notes.txt")
    assert status == 400
    assert "notes.txt" in document["detail"]


def test_the_doors_before_the_page_stand_before_forms_too(
    address: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"image": photo.read_bytes()}
    for headers in ({"origin": "https://elsewhere.example"}, {"host": "elsewhere.example"}):
        assert httpx.post(f"{address}caption", files=files, headers=headers).status_code == 403
    monkeypatch.setattr(visitor, "get_settings", lambda: Settings(visitor_models="embedded"))
    status, document = send(address, "caption", {"model": "wordless"}, image=photo)
    assert status == 400
    assert "Visitors of this page choose from embedded" in document["detail"]


def test_a_form_needs_the_password(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "get_settings", lambda: Settings(password="sesame"))
    with serve(FakeLoader()) as address:
        status, document = send(address, "caption", {}, image=photo)
        assert (status, document) == (401, {"detail": "Not authenticated"})
        with httpx.Client() as client:
            client.post(f"{address}login", data={"username": "any", "password": "sesame"})
            reply = client.post(f"{address}caption", files={"image": ("photo.png", photo.read_bytes())}, timeout=60)
        assert reply.json()["captions"]


def test_a_mounted_page_takes_forms(photo: Path) -> None:
    options = launch_options()["app_kwargs"]
    app = gr.mount_gradio_app(fastapi.FastAPI(), build_demo(FakeLoader()), "/see", app_kwargs=options, show_error=False)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        reply = client.post("/see/caption", files={"image": ("photo.png", photo.read_bytes())})
    assert reply.json()["captions"]


def test_a_fault_of_the_server_is_told_as_one() -> None:
    assert read_events('event: error\ndata: {"error": null}\n\n').status_code == 500
    assert UNEXPECTED.encode() in read_events("event: error\ndata: null\n\n").body
