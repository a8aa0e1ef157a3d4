"""What the page's own files are, and what is none of them."""

from __future__ import annotations

import io
import re

import gradio as gr
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from captioning.core.page_scripts import read_scripts, scripts_address
from captioning.web.page_files import page_routes


@pytest.fixture(scope="module", params=["", "/here"])
def client(request: pytest.FixtureRequest) -> TestClient:
    """A page that is served by itself, or mounted in another application."""
    with gr.Blocks() as demo:
        gr.HTML()
    app = FastAPI()
    gr.mount_gradio_app(app, demo, path=request.param or "/", app_kwargs={"routes": page_routes()})
    return TestClient(app, base_url=f"http://testserver{request.param}")


def get(client: TestClient, path: str) -> tuple[int, bytes, str, str]:
    answer = client.get(f"{str(client.base_url).rstrip('/')}/{path}")
    return answer.status_code, answer.content, answer.headers["content-type"], answer.headers.get("cache-control", "")


def test_scripts_are_kept_by_browsers_for_long(client: TestClient) -> None:
    status, content, kind, kept = get(client, f"{scripts_address()}/common/dom.js")
    assert (status, content.decode()) == (200, read_scripts()["common/dom.js"])
    assert kind.startswith("text/javascript")
    assert "immutable" in kept
    assert re.fullmatch(r"page-scripts/[0-9a-f]{16}", scripts_address())


def test_samples_are_small_pictures(client: TestClient) -> None:
    for name, size in (("cheetah.jpg", (144, 144)), ("world.mp4", (192, 108))):
        status, content, kind, _ = get(client, f"page-samples/{name}")
        assert (status, kind) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(content)).size == size


@pytest.mark.parametrize(
    "path",
    [
        f"{scripts_address()}/style.css",
        f"{scripts_address()}/embedded/model.safetensors",
        f"{scripts_address()}/..%2fpyproject.toml",
        f"{scripts_address()}/common/../../pyproject.toml",
        "page-samples/..%2f..%2fpyproject.toml",
        "page-samples/other.jpg",
    ],
)
def test_nothing_else_is_reached(client: TestClient, path: str) -> None:
    assert get(client, path)[0] == 404
