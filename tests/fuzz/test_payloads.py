"""Whatever JSON comes to the server: an answer or a refusal, no traceback, and it goes on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.captions.prompts import check_prompts
from captioning.core.errors import PromptError
from captioning.core.settings import Settings
from tests.conftest import FakeLoader
from tests.page_server import serve

ENDPOINTS = ["caption", "caption_video", "model_info", "trace", "image_map"]
ROUTES = [f"call/{name}" for name in ENDPOINTS] + ["queue/join", "run/predict", "component_server", "upload", "cancel"]

_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
    | st.sampled_from(["auto", "embedded", "/etc/passwd", "../../etc/passwd", "${7*7}", "<img src=x onerror=alert(1)>"])
)  # fmt: skip
_files = st.fixed_dictionaries(
    {
        "path": st.sampled_from(
            ["/etc/passwd", "/", "", "http://127.0.0.1:1/x", "file:///etc/passwd", "data:,x", "\0"]
        ),
        "meta": st.just({"_type": "gradio.FileData"}),
    },
    optional={"url": st.text(max_size=20), "orig_name": st.text(max_size=20), "size": st.integers()},
)
_values: st.SearchStrategy[Any] = st.recursive(
    _leaves | _files,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
_payloads = st.fixed_dictionaries(
    {"data": st.lists(_values, max_size=16) | _values},
    optional={
        "fn_index": st.integers(-5, 60) | _values,
        "session_hash": st.text(max_size=20) | _values,
        "event_data": _values,
        "trigger_id": st.integers() | _values,
        "component_id": st.integers(0, 80),
        "fn_name": st.text(max_size=20),
    },
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeLoader()) as served:
        yield served


def post(address: str, route: str, body: bytes, content_type: str = "application/json") -> tuple[int, str]:
    request = urllib.request.Request(  # the address is our own
        f"{address.rstrip('/')}/gradio_api/{route}", body, {"Content-Type": content_type}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(100_000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(100_000).decode(errors="replace")


def check(address: str, route: str, body: bytes, content_type: str = "application/json") -> None:
    status, text = post(address, route, body, content_type)
    assert "Traceback" not in text
    assert "root:x:" not in text
    assert str(Path(__file__).parents[2]) not in text, "a path of the server is told"
    if status == 200 and "event_id" in text and route.startswith("call/"):
        event = json.loads(text)["event_id"]
        with urllib.request.urlopen(f"{address.rstrip('/')}/gradio_api/{route}/{event}", timeout=30) as answer:
            told = answer.read(200_000).decode(errors="replace")
        assert "Traceback" not in told
        assert "root:x:" not in told
    with urllib.request.urlopen(f"{address.rstrip('/')}/theme.css", timeout=20) as answer:
        assert answer.status == 200


@given(route=st.sampled_from(ROUTES), payload=_payloads)
def test_any_payload_is_answered_or_refused_and_the_server_goes_on(address: str, route: str, payload: Any) -> None:
    check(address, route, json.dumps(payload).encode())


@given(
    route=st.sampled_from(ROUTES),
    body=st.binary(max_size=300),
    content_type=st.sampled_from(
        ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain"]
    ),
)
def test_any_body_is_answered_or_refused(address: str, route: str, body: bytes, content_type: str) -> None:
    check(address, route, body, content_type)


@given(st.lists(st.text(max_size=400), max_size=40))
def test_any_prompts_are_cleaned_or_refused(prompts: list[str]) -> None:
    settings = Settings()
    try:
        cleaned = check_prompts(prompts)
    except PromptError as error:
        assert str(error).endswith(".")
    else:
        assert 1 <= len(cleaned) <= settings.max_prompts
        assert len(set(cleaned)) == len(cleaned)
        assert all(len(prompt) <= settings.max_prompt_characters for prompt in cleaned)
