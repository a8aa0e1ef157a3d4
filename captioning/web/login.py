"""Signing in with Hugging Face: what stands before the server where only people with an account may come in.

Gradio keeps who signed in as in a signed cookie, and asks Hugging Face only on a Space. Elsewhere it makes everybody
the owner of the machine, which is no door at all; so there this one refuses to open.
"""

from __future__ import annotations

import html
import json
import math
import os
import time
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

from captioning.core.errors import OptionsError
from captioning.core.settings import Settings
from captioning.web.guard import App, Receive, Scope, Send

_SIGN_IN = "/login/huggingface"
_OPEN = frozenset({_SIGN_IN, "/login/callback", "/logout", "/favicon.ico", "/gradio_api/startup-events"})
"""What those who are not in may ask: the way in and out, the icon, and what Gradio asks itself when it starts."""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Captionscope</title><style>
:root {{ color-scheme: light dark; font: 1.1rem/1.5 system-ui, sans-serif; }}
main {{ max-width: 30rem; margin: 20vh auto 0; padding: 0 1rem; }}
</style><main><h1>Captionscope</h1><p>{sentence}</p><p><a href="{link}" target="_blank">{words}</a></p></main></html>
"""


def check_login(settings: Settings, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether visitors have to sign in. Raises `OptionsError` where they have to and cannot."""
    if settings.login == "none":
        return False
    if "SPACE_ID" not in environment:
        raise OptionsError(
            "Signing in with Hugging Face works on a Space only; leave CAPTIONSCOPE_LOGIN out, and set a password."
        )
    if "OAUTH_CLIENT_ID" not in environment:
        raise OptionsError("Nobody can sign in on this Space yet; write `hf_oauth: true` into the head of README.md.")
    if find_spec("authlib") is None or find_spec("itsdangerous") is None:
        raise OptionsError("Signing in needs two more packages; install `gradio[oauth]`.")
    return True


def read_names(text: str) -> frozenset[str]:
    """Names with commas between them; upper and lower case are the same to Hugging Face."""
    return frozenset(name.strip().casefold() for name in text.split(",") if name.strip())


class LoginGate:
    """ASGI middleware that lets in who signed in under one of `names`, or under any where there are none.

    Whoever opens the page without is shown the way in; everything else, endpoints and files included, is 401 or 403.
    """

    def __init__(self, app: App, names: Collection[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on, or refuse it."""
        if scope["type"] == "lifespan" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        name = signed_in_as(scope.get("session"))
        if name is not None and (not self._names or name.casefold() in self._names):
            await self._app(scope, receive, send)
        elif name is None:
            await _refuse(scope, send, 401, "Sign in with Hugging Face first.", _SIGN_IN, "Sign in")
        else:
            sentence = f"{name} may not come in here; ask whoever runs this, or sign in under another name."
            await _refuse(scope, send, 403, sentence, "/logout", "Sign out")


def signed_in_as(session: Any) -> str | None:
    """Return the Hugging Face name in a session's cookie; `None` without one, or where the sign-in is too old."""
    info = session.get("oauth_info") if isinstance(session, dict) else None
    if not isinstance(info, dict) or (info.get("expires_at") or math.inf) < time.time():
        return None
    name = info.get("userinfo", {}).get("preferred_username")
    return name if isinstance(name, str) and name else None


async def _refuse(scope: Scope, send: Send, status: int, sentence: str, link: str, words: str) -> None:
    """Return a page for a browser, and a document for every other client."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    kind, body = "application/json", json.dumps({"detail": sentence})
    if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
        # The hub takes a Space whose page is no success for one that does not run.
        status, kind = 200, "text/html; charset=utf-8"
        body = _PAGE.format(sentence=html.escape(sentence), link=link, words=words)
    about = {"content-type": kind, "content-length": str(len(body.encode())), "cache-control": "no-store"}
    headers = [(key.encode(), value.encode()) for key, value in about.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body.encode()})
