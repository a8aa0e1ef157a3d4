"""What stands at the door of the dashboard."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import app
from captioning.errors import UnknownModelError
from captioning.settings import Settings
from tests.conftest import FakeLoader
from tests.serving import serve

PASSWORD = "pass wörd"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A dashboard with a password."""
    monkeypatch.setattr(app, "get_settings", lambda: Settings(password=PASSWORD))
    with serve(FakeLoader()) as address:
        yield address.rstrip("/")


def status(request: urllib.request.Request | str) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def log_in(address: str, password: str) -> int:
    body = urllib.parse.urlencode({"username": "anybody", "password": password}).encode()
    return status(urllib.request.Request(f"{address}/login", body))


def test_without_the_password_nothing_can_be_asked(locked: str) -> None:
    assert status(f"{locked}/config") == 401
    body = b'{"data": ["embedded"]}'
    headers = {"Content-Type": "application/json"}
    assert status(urllib.request.Request(f"{locked}/gradio_api/call/model_info", body, headers)) == 401
    assert status(urllib.request.Request(f"{locked}/gradio_api/upload", b"", headers)) == 401


def test_the_password_opens_and_another_does_not(locked: str) -> None:
    assert log_in(locked, PASSWORD) == 200
    assert log_in(locked, "guessed") == 400
    assert log_in(locked, "") in (400, 422)


def test_nothing_records_or_shares_what_visitors_do() -> None:
    options = app.launch_options()
    quiet = ("show_error", "run_history", "enable_monitoring", "share", "pwa")
    assert {name: options[name] for name in quiet} == dict.fromkeys(quiet, False)
    assert options["auth"] is None
    assert "allowed_paths" not in options
    assert app.demo.analytics_enabled is False


@pytest.mark.parametrize(("flag", "name"), [("--precision", "float8"), ("--device", "tpu9")])
def test_a_machine_that_is_not_here_is_refused_before_the_page_opens(
    flag: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "check_address", lambda *_: None)
    monkeypatch.setattr(app.demo, "launch", lambda **_: pytest.fail("the page was opened"))
    with pytest.raises(SystemExit, match=name):
        app.launch(app.read_flags([flag, name]))


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
    monkeypatch.setattr(app, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(app, "_load", lambda model: captioner)
    monkeypatch.setattr(app, "warm_up_maps", lambda: looks.append(captioner.looks))
    app._get_ready("embedded")
    assert looks
    assert looks[0] > 9


def test_maps_are_compiled_where_the_first_model_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: str) -> None:
        raise UnknownModelError("There is no such model.")

    compiled: list[bool] = []
    monkeypatch.setattr(app, "_load", refuse)
    monkeypatch.setattr(app, "warm_up_maps", lambda: compiled.append(True))
    app._get_ready("nosuch")
    assert compiled == [True]
    assert "There is no such model." in capsys.readouterr().err
