"""The document on HTTP: what it prints runs, and its table is what the options say of themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from captioning.core.options import parameters
from captioning.core.types import DecodingOptions
from tests.conftest import FakeLoader
from tests.page_server import serve

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PRINTED = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeLoader()) as served:
        yield served.rstrip("/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "photo.jpg")
    return tmp_path


def snippet(language: str, address: str) -> str:
    """The document's only example in a language, for the server of the test."""
    found: str
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert PRINTED in found
    return found.replace(PRINTED, address)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs_as_printed(address: str, folder: Path) -> None:
    lines = run([sys.executable, "-c", snippet("python", address)], folder).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("a photo of")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_example_runs_as_printed(address: str, folder: Path) -> None:
    document = json.loads(run(["bash", "-c", snippet("bash", address).replace("curl", "curl -s")], folder))
    assert [caption["prompt"] for caption in document["captions"]] == ["a photo of", ""]
    assert document["options"]["num_beams"] == 4


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_javascript_example_runs_as_printed(address: str, folder: Path) -> None:
    (folder / "photo.mjs").write_text(snippet("javascript", address), encoding="utf-8")
    document = json.loads(run(["node", "photo.mjs"], folder))
    assert document["captions"][0]["text"].startswith("a photo of")


def test_the_table_of_options_is_what_they_say_of_themselves() -> None:
    table = "\n".join(f"| `{parameter.name}` | {parameter.meaning} |" for parameter in parameters(DecodingOptions))
    assert table in TEXT
