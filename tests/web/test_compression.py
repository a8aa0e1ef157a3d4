"""The page travels compressed, and nothing else changes."""

from __future__ import annotations

import httpx

from tests.conftest import FakeLoader
from tests.page_server import serve


def test_the_page_travels_compressed_and_is_small() -> None:
    with serve(FakeLoader()) as address, httpx.stream("GET", address) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        sent = b"".join(answer.iter_raw())
    assert len(sent) < 100_000


def test_a_client_that_asks_for_plain_text_gets_it() -> None:
    with serve(FakeLoader()) as address:
        answer = httpx.get(address, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert "window.gradio_config" in answer.text
