"""How the page is opened: what is refused before, and what is made ready meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import app
from captioning import launch
from captioning.core.errors import UnknownModelError
from captioning.serving.loading import LoadCaptioner


@pytest.mark.parametrize(("flag", "name"), [("--precision", "float8"), ("--device", "tpu9")])
def test_a_machine_that_is_not_here_is_refused_before_the_page_opens(
    flag: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "check_address", lambda *_: None)
    monkeypatch.setattr(app.demo, "launch", lambda **_: pytest.fail("the page was opened"))
    with pytest.raises(SystemExit, match=name):
        launch.launch(app.demo, launch.read_flags([flag, name]))


class _Busy:
    """A captioner that has encoded one picture more each time it is asked, until it rests."""

    def __init__(self, pictures: int) -> None:
        self.looks = 0
        self._pictures = pictures

    def status(self) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(encoded_images=min(self.looks, self._pictures))


def test_maps_are_compiled_only_when_no_new_picture_came_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = _Busy(pictures=9)
    looks: list[int] = []
    monkeypatch.setattr(launch, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(launch, "warm_up_maps", lambda: looks.append(captioner.looks))
    launch._get_ready(cast("LoadCaptioner", lambda model: captioner), "embedded")
    assert looks
    assert looks[0] > 9


def test_maps_are_compiled_where_the_first_model_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: str) -> None:
        raise UnknownModelError("There is no such model.")

    compiled: list[bool] = []
    monkeypatch.setattr(launch, "warm_up_maps", lambda: compiled.append(True))
    launch._get_ready(cast("LoadCaptioner", refuse), "nosuch")
    assert compiled == [True]
    assert "There is no such model." in capsys.readouterr().err


_WATCH = """
import pathlib
read, found = pathlib.Path.read_text, []
def watch(path, *args, **kwargs):
    found.append(path.suffix in (".py", ".pyi") and "gradio" in path.parts)
    return read(path, *args, **kwargs)
pathlib.Path.read_text = watch
import captioning.launch
print(any(found))
"""


def test_the_page_is_imported_without_parsing_gradios_sources() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", _WATCH], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
