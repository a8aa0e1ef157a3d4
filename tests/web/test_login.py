"""Signing in with Hugging Face: who comes in, by what, and where that cannot work."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from captioning.core.errors import OptionsError
from captioning.core.settings import Settings
from captioning.web.login import LoginGate, check_login, read_names, signed_in_as
from tests.conftest import FakeLoader
from tests.page_server import serve

ON_A_SPACE = {"SPACE_ID": "someone/captions", "OAUTH_CLIENT_ID": "7"}


def session_of(name: str, seconds: float = 60) -> dict[str, Any]:
    return {"oauth_info": {"userinfo": {"preferred_username": name}, "expires_at": time.time() + seconds}}


def ask(path: str, session: dict[str, Any] | None, names: str = "", method: str = "POST") -> tuple[int, str]:
    """Status and body of what the gate, or the server behind it, answers."""
    sent: list[Any] = []

    async def server(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "path": path, "method": method} | ({} if session is None else {"session": session})
    asyncio.run(LoginGate(server, read_names(names))(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize(
    "path", ["/config", "/gradio_api/call/caption", "/gradio_api/queue/join", "/gradio_api/upload", "/file=x", "/LOGIN"]
)
@pytest.mark.parametrize("session", [None, {}, {"oauth_info": None}, session_of(""), session_of("ada", -1)])
def test_nothing_is_answered_to_who_did_not_sign_in(path: str, session: dict[str, Any] | None) -> None:
    status, body = ask(path, session)
    assert status == 401
    assert "Sign in with Hugging Face" in json.loads(body)["detail"]


def test_the_page_shows_the_way_in() -> None:
    status, body = ask("/", None, method="GET")
    assert status == 200
    assert 'href="/login/huggingface"' in body
    assert "inside" not in body
    assert ask("/login/huggingface", None, method="GET") == (200, "inside")


def test_only_permitted_names_come_in_whatever_their_case() -> None:
    assert ask("/config", session_of("Ada"), "ada, grace") == (200, "inside")
    assert ask("/config", session_of("anybody")) == (200, "inside")
    status, body = ask("/config", session_of("mallory"), "ada, grace")
    assert status == 403
    assert "mallory may not come in" in json.loads(body)["detail"]


def test_a_name_is_shown_as_text() -> None:
    status, body = ask("/", session_of("<script>alert(1)</script>"), "ada", method="GET")
    assert status == 200
    assert "<script>" not in body


@pytest.mark.parametrize(
    ("environment", "says"),
    [({}, "on a Space only"), ({"SPACE_ID": "someone/captions"}, "hf_oauth: true")],
)
def test_where_nobody_can_sign_in_the_door_stays_shut(environment: dict[str, str], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        check_login(Settings(login="huggingface"), environment)
    assert check_login(Settings(), environment) is False


def test_who_signed_in_is_read_from_the_cookie_alone() -> None:
    assert signed_in_as(session_of("ada")) == "ada"
    assert signed_in_as({"oauth_info": {"userinfo": {"preferred_username": 7}}}) is None
    assert signed_in_as({"userinfo": {"preferred_username": "ada"}}) is None


def test_gradios_own_sign_in_opens_the_door(monkeypatch: pytest.MonkeyPatch, change_settings: Any) -> None:
    pytest.importorskip("authlib")
    signer = pytest.importorskip("itsdangerous").TimestampSigner
    from gradio import oauth

    for variable, value in ON_A_SPACE.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(oauth, "get_space", lambda: ON_A_SPACE["SPACE_ID"])
    for constant in ("CLIENT_ID", "CLIENT_SECRET", "SCOPES"):
        monkeypatch.setattr(oauth, f"OAUTH_{constant}", constant.lower())
    monkeypatch.setattr(oauth, "OPENID_PROVIDER_URL", "http://127.0.0.1:9")
    change_settings(login="huggingface", login_names="ada")
    key = hashlib.sha256(b"client_secret-v4").hexdigest()

    def status(path: str, name: str | None, body: bytes | None = None) -> int:
        cookie = signer(key).sign(base64.b64encode(json.dumps(session_of(name or "")).encode())).decode()
        headers = {"Content-Type": "application/json"} | ({"Cookie": f"session={cookie}"} if name else {})
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{address}{path}", body, headers), timeout=60
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    with serve(FakeLoader()) as served:
        address = served.rstrip("/")
        call = b'{"data": ["embedded"]}'
        people: list[tuple[str | None, int]] = [(None, 401), ("mallory", 403), ("ada", 200)]
        for name, expected in people:
            assert status("/config", name) == expected
            assert status("/gradio_api/call/model_info", name, call) == expected
        forged = urllib.request.Request(f"{address}/config", headers={"Cookie": "session=eyJhIjoxfQ==.x.y"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(forged, timeout=60)
