"""The parts of the page that need no browser to be checked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from captioning.core.assets import ASSETS
from captioning.core.errors import ImageError, OptionsError, PromptError
from captioning.core.messages import UNEXPECTED, explain
from captioning.core.types import CaptionerStatus, DecodingOptions
from captioning.ui.decoding import NAMES, read_options
from captioning.ui.picture import chosen_sample, list_samples
from captioning.ui.prompt_list import read_prompts
from captioning.ui.status import status_value
from captioning.web.guard import Message, RequestGuard, names_address

VALUES: dict[str, Any] = {
    "max_new_tokens": 12,
    "num_captions": 3,
    "num_beams": 4,
    "length_penalty": 0.5,
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 0.9,
    "repetition_penalty": 1.2,
    "seed": 9,
}


def test_only_what_applies_to_the_method_becomes_an_option() -> None:
    values = [VALUES[name] for name in NAMES]
    assert read_options("greedy", *values) == DecodingOptions(max_new_tokens=12, repetition_penalty=1.2)
    assert read_options("beams", *values) == DecodingOptions(
        max_new_tokens=12, num_beams=4, num_captions=3, length_penalty=0.5, repetition_penalty=1.2
    )
    assert read_options("sampling", *values) == DecodingOptions(
        max_new_tokens=12, num_captions=3, temperature=0.8, top_k=0, top_p=0.9, repetition_penalty=1.2, seed=9
    )


def test_what_a_control_cannot_hold_is_one_sentence() -> None:
    values = [VALUES[name] for name in NAMES]
    with pytest.raises(OptionsError, match="choose from"):
        read_options("guessing", *values)
    with pytest.raises(OptionsError, match="seed must be a whole number"):
        read_options("sampling", *[None if name == "seed" else VALUES[name] for name in NAMES])


@pytest.mark.parametrize("value", [None, "", [], {"prompts": "a"}, {"prompts": [1]}, {"prompts": [None]}])
def test_a_prompt_list_that_the_page_would_not_send_is_one_sentence(value: object) -> None:
    with pytest.raises(PromptError):
        read_prompts(value)


def test_expected_errors_are_told_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    assert explain(PromptError("There is no prompt.")) == "There is no prompt."
    assert explain(RuntimeError("/home/somebody/secret")) == UNEXPECTED
    assert "/home/somebody/secret" in caplog.text


def test_the_status_line_says_what_is_known() -> None:
    fresh = status_value(CaptionerStatus("embedded", "Embedded", "cpu", "float32", reason="auto: nothing else is here"))
    assert [item["text"] for item in fresh["items"]] == ["Embedded", "cpu · float32", "0 pictures cached"]
    assert fresh["reason"] == "auto: nothing else is here"
    used = status_value(
        CaptionerStatus("m", "M", "cpu", "bfloat16", 1, 10, 1, encode_seconds=0.224, tokens_per_second=31.4)
    )
    assert [item["text"] for item in used["items"]][2:] == ["1 picture cached", "encode 0.22 s", "31 tokens/s"]
    assert used["serial"] > fresh["serial"]


def test_samples_are_real_photographs_that_are_here() -> None:
    samples = list_samples()
    assert "cheetah.jpg" in [sample.name for sample in samples]
    assert all(sample.path.is_file() and sample.alt for sample in samples)


def test_a_sample_that_is_not_offered_is_refused(tmp_path: Any) -> None:
    import gradio as gr

    with pytest.raises(ImageError, match="no such sample"):
        chosen_sample(gr.EventData(None, {"name": "../../etc/passwd"}), str(tmp_path))


@pytest.mark.parametrize("path", sorted(ASSETS.rglob("*.js")), ids=lambda path: path.stem)
def test_scripts_put_text_in_as_text_and_contact_nobody(path: Any) -> None:
    script = path.read_text(encoding="utf-8")
    script = script.replace("http://www.w3.org/2000/svg", "")  # a name of SVG, no address
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "http"):
        assert forbidden not in script


@pytest.mark.parametrize(
    ("payload", "refused"),
    [
        ({"data": [{"path": "http://192.0.2.1/a.jpg"}]}, True),
        ({"data": [[{"deep": {"path": "ftp://192.0.2.1/a"}}]]}, True),
        ({"data": [{"path": "/tmp/upload/a.jpg", "url": "http://127.0.0.1/file=a.jpg"}]}, False),
        ({"data": ["look at http://example.org"]}, False),
        ({"data": [{"path": 7}]}, False),
    ],
)
def test_payloads_that_would_make_the_server_fetch_are_recognised(payload: object, refused: bool) -> None:
    assert names_address(json.dumps(payload).encode()) is refused


def test_an_address_hidden_by_json_escapes_is_recognised() -> None:
    assert names_address(rb'{"p\u0061th": "http\u003a//192.0.2.1/a"}')
    assert not names_address(b"no json")


def test_bodies_beyond_the_limit_do_not_reach_the_app() -> None:
    assert send_through_guard([b"x" * 60, b"x" * 60]) == (413, 0)
    assert send_through_guard([b"[1]"]) == (200, 3)
    assert send_through_guard([b"x" * 60] * 2, content_type=b"multipart/form-data; boundary=b") == (200, 120)


def send_through_guard(pieces: list[bytes], content_type: bytes = b"application/json") -> tuple[int, int]:
    """Status of the answer, and how many bytes the app behind a limit of 100 read."""
    statuses: list[int] = []
    read = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        more = True
        while more:
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    guard = RequestGuard(app, max_upload_bytes=1000, max_request_bytes=100)
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type)]}
    asyncio.run(guard(scope, receive, send))
    return statuses[0], read
