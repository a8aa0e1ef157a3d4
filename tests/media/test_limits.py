"""Every limit of the settings, exceeded by a real client: one clear sentence or the right status, and it goes on."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from captioning.core.settings import Settings, get_settings
from captioning.page import build_demo
from captioning.serving.shared_captioner import SharedCaptioner
from tests.clips import make_clip
from tests.conftest import FakeDownload, FakeLoader
from tests.page_server import serve, serve_demo

SMALL = {
    "max_image_pixels": 10_000,
    "max_upload_bytes": 100_000,
    "max_request_bytes": 20_000,
    "max_prompts": 3,
    "max_rows": 6,
    "max_prompt_characters": 20,
    "video_bytes": 400_000,
    "video_minutes": 1,
    "video_frames": 4,
    "map_images": 3,
    "zip_bytes": 150_000,
    "zip_files": 5,
    "zip_ratio": 20,
}
ELSEWHERE = {
    "visitor_model_bytes": "larger ones are not listed: tests/ui/test_visitor.py",
    "cache_bytes": "what was not used for longest leaves: tests/test_cache.py",
    "model_bytes": "the model that was not used for longest leaves: tests/test_cache.py",
    "attention_bytes": "more of it travels layer by layer: tests/tabs/test_attention.py",
    "file_seconds": "what is older is deleted: tests/ui/test_temporary.py",
}
BELOW = {"model_events", "queue_size", "sessions", "job_seconds", "visitor_jobs"}


def test_every_number_among_the_settings_is_a_limit_that_is_tried() -> None:
    numbers = {field.name for field in fields(Settings) if isinstance(field.default, int)}
    assert numbers == SMALL.keys() | ELSEWHERE.keys() | BELOW


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A dashboard with small limits."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setenv(f"CAPTIONSCOPE_{name.upper()}", str(value))
        get_settings.cache_clear()
        with serve(FakeLoader()) as served:
            yield served
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def picture(folder: Path, side: int = 40, kind: str = "png") -> Path:
    path = folder / f"{side}.{kind}"
    Image.effect_noise((side, side), 80).convert("RGB").save(path)
    return path


def archive(folder: Path, entries: int, side: int, packing: int = zipfile.ZIP_STORED) -> Path:
    """A zip of flat bitmaps, three bytes a pixel."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "BMP")
    path = folder / "pictures.zip"
    with zipfile.ZipFile(path, "w", packing) as packed:
        for number in range(entries):
            packed.writestr(f"{number}.bmp", file.getvalue())
    return path


def caption(path: Path, **options: object) -> dict[str, Any]:
    return {"image": handle_file(path), "api_name": "/caption", **options}


def clip(path: Path, **options: object) -> dict[str, Any]:
    return {"video": handle_file(path), "api_name": "/caption_video", "frames": 1, **options}


def image_map(*paths: Path) -> dict[str, Any]:
    return {
        "images": [handle_file(path) for path in paths],
        "method": "pca",
        "captions": False,
        "api_name": "/image_map",
    }


Request = Callable[[Path], dict[str, Any]]
REFUSED: list[tuple[str, Request, str]] = [
    ("max_image_pixels", lambda f: caption(picture(f, 120)), "smaller than 0.01 megapixels"),
    ("max_upload_bytes", lambda f: caption(picture(f, 190, "bmp")), "choose a picture file under 0 MB"),
    ("max_prompts", lambda f: caption(picture(f), prompts=list("abcd")), "4 prompts are too many at once"),
    ("max_rows", lambda f: caption(picture(f), prompts=["a", "b"], num_beams=4), "at most 6 are written side by side"),
    ("max_prompt_characters", lambda f: caption(picture(f), prompts=["x" * 21]), "21 characters is too long"),
    (
        "video_minutes",
        lambda f: clip(make_clip(f / "long.mp4", numbers=range(3), times=(0, 40, 80))),
        "minutes? long; keep it under 1",
    ),
    ("video_frames", lambda f: clip(make_clip(f / "clip.mp4"), frames=5), "between 1 and 4, not 5"),
    ("map_images", lambda f: image_map(*(picture(f, side) for side in (20, 21, 22, 23))), "more than 3 pictures"),
    ("zip_bytes", lambda f: image_map(archive(f, 3, 141)), "CAPTIONSCOPE_ZIP_BYTES"),
    ("zip_files", lambda f: image_map(archive(f, 6, 8)), "lists 6 files; the limit is 5"),
    ("zip_ratio", lambda f: image_map(archive(f, 2, 141, zipfile.ZIP_DEFLATED)), "CAPTIONSCOPE_ZIP_RATIO"),
]


@pytest.mark.parametrize(("setting", "request_of", "sentence"), REFUSED, ids=[setting for setting, *_ in REFUSED])
def test_what_is_beyond_a_limit_is_refused_in_one_sentence(
    client: Client, tmp_path: Path, setting: str, request_of: Request, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence) as error:
        client.predict(**request_of(tmp_path))
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert client.predict(**caption(picture(tmp_path)))["captions"]


def test_an_upload_beyond_what_any_file_may_have_is_413(address: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="clip.mp4"\r\n\r\n'
    for size in (SMALL["video_bytes"] + 1, SMALL["video_bytes"] + 2 * 2**20):  # refused by Gradio, and before it
        status, said = post(
            f"{address}gradio_api/upload", body + b"x" * size + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
        )
        assert status == 413
        assert "\n" not in said
        assert said


def test_a_request_beyond_its_size_is_413(address: str) -> None:
    status, said = post(f"{address}gradio_api/call/caption", json.dumps({"data": ["x" * 20_000]}).encode())
    assert status == 413
    assert "too large; keep it under" in said


def test_every_small_limit_is_tried_here() -> None:
    by_status = {"video_bytes", "max_request_bytes"}
    assert {setting for setting, *_ in REFUSED} | by_status == SMALL.keys()


# ---- time, and work at once ----


class WaitingLoader(FakeLoader):
    """Loads `wordless` for as long as nobody opens it."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.waiting = 0

    def __call__(self, model_id: str = "auto", *, report: Callable[[Any], None] | None = None) -> SharedCaptioner:
        if model_id == "wordless":
            self.waiting += 1
            try:
                while not self.opened.wait(0.05):
                    if report is not None:
                        report(FakeDownload(0, 1))
            finally:
                self.waiting -= 1
        return super().__call__(model_id, report=report)


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_beyond_its_time_is_stopped(change_settings: Callable[..., None]) -> None:
    change_settings(job_seconds=1)
    loader = WaitingLoader()
    with serve(loader) as address:
        client = Client(address, verbose=False)
        with pytest.raises(AppError, match="This took longer than 1 s"):
            client.predict(model="wordless", api_name="/model_info")
        wait_for(lambda: loader.waiting == 0)
        assert client.predict(model="embedded", api_name="/model_info")


def test_one_visitor_does_not_take_all_places(change_settings: Callable[..., None]) -> None:
    change_settings(visitor_jobs=1)
    loader = WaitingLoader()
    with serve(loader) as address:
        client = Client(address, verbose=False)
        first = client.submit(model="wordless", api_name="/model_info")
        wait_for(lambda: loader.waiting == 1)
        with pytest.raises(AppError, match="wait for it, or stop it"):
            client.predict(model="embedded", api_name="/model_info")
        assert Client(address, verbose=False).predict(model="embedded", api_name="/model_info")
        loader.opened.set()
        assert first.result(timeout=60)


def test_beyond_those_who_work_and_wait_the_answer_is_503(change_settings: Callable[..., None]) -> None:
    change_settings(queue_size=1)
    at_once = get_settings().model_events
    loader = WaitingLoader()
    with serve(loader) as address:
        url, body = f"{address}gradio_api/call/model_info", b'{"data": ["wordless"]}'
        for number in range(at_once):
            assert post(url, body)[0] == 200
            wait_for(lambda number=number: loader.waiting == number + 1)  # type: ignore[misc]
        assert post(url, body)[0] == 200
        time.sleep(0.3)
        assert loader.waiting == at_once  # the last one waits for its turn
        status, said = post(url, body)
        assert status == 503
        assert "full" in said.lower()
        loader.opened.set()
        wait_for(lambda: loader.waiting == 0)
        assert Client(address, verbose=False).predict(model="embedded", api_name="/model_info")


def test_only_so_many_sessions_are_remembered_and_new_ones_are_served(change_settings: Callable[..., None]) -> None:
    change_settings(sessions=2)
    demo = build_demo(FakeLoader(), "auto")
    with serve_demo(demo) as address:
        for _ in range(4):
            assert Client(address, verbose=False).predict(model="embedded", api_name="/model_info")
    assert len(demo.state_holder.session_data) == 2


def test_everything_that_asks_a_model_shares_one_number_of_places() -> None:
    functions = {fn.api_name: fn for fn in app.demo.fns.values() if fn.concurrency_id == "model"}
    assert {fn.concurrency_limit for fn in functions.values()} == {get_settings().model_events}
    assert {"caption", "caption_video", "trace", "image_map", "model_info"} <= functions.keys()


def post(url: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
