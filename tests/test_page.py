"""What stands at the door of the page."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

import app
from captioning import page
from captioning.core.settings import Settings
from tests.conftest import FakeLoader
from tests.page_server import serve

PASSWORD = "pass wörd"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A dashboard with a password."""
    monkeypatch.setattr(page, "get_settings", lambda: Settings(password=PASSWORD))
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
    options = page.launch_options()
    quiet = ("show_error", "run_history", "enable_monitoring", "share", "pwa")
    assert {name: options[name] for name in quiet} == dict.fromkeys(quiet, False)
    assert options["auth"] is None
    assert "allowed_paths" not in options
    assert app.demo.analytics_enabled is False
