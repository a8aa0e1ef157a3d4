"""The start: from `python app.py` to a page, and from the page to the first caption."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from captioning.bench.result import BenchCase, BenchResult, result_without_reference
from captioning.bench.setup import PROMPTS, Setup
from captioning.core.errors import CaptioningError

_ROOT = Path(__file__).resolve().parents[3]
_TIMEOUT_SECONDS = 120.0


def _start(setup: Setup, repetitions: int) -> list[BenchResult]:
    ready: list[float] = []
    first: list[float] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        setup.new_picture().image.save(path)
        _measure(path)  # brings the files into the system's cache
        for _ in range(min(repetitions, 3)):
            page, caption = _measure(path)
            ready.append(page)
            first.append(caption)
    return [
        result_without_reference("cold_start", ready, "until the page answers"),
        result_without_reference("cold_start", first, "from then until the first caption of the embedded captioner"),
    ]


def _measure(picture: Path) -> tuple[float, float]:
    """Return the seconds until the page answers, and from then until a caption comes back."""
    from gradio_client import Client, handle_file

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _server(port) as started:
        _wait_for_page(f"http://127.0.0.1:{port}/", started)
        page = time.perf_counter()
        client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        client.predict(handle_file(picture), [PROMPTS[0]], api_name="/caption")
        return page - started, time.perf_counter() - page


@contextmanager
def _server(port: int) -> Iterator[float]:
    environment = os.environ | {"CAPTIONSCOPE_MODEL": "embedded", "CAPTIONSCOPE_DEVICE": "cpu"}
    command = [sys.executable, "app.py", "--port", str(port)]
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603  # a fixed command
        command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        process.terminate()
        process.wait()


def _wait_for_page(address: str, started: float) -> None:
    while time.perf_counter() - started < _TIMEOUT_SECONDS:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=5):  # noqa: S310
            return
        time.sleep(0.02)
    raise CaptioningError(f"No page after {_TIMEOUT_SECONDS:.0f} s; start app.py by hand and see what it says.")


CASES = (BenchCase("cold_start", "the page from a cold start", _start),)
