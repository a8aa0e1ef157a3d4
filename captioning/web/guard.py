"""What stands before the server: requests that are too large, or that would make it fetch something, go no further."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FORM_BYTES = 2**20
"""What a form adds to the files in it, measured generously."""
_PATIENCE = 4
"""How many times the limit is read, and thrown away, before a client is cut off."""


class RequestGuard:
    """ASGI middleware that refuses bodies beyond a limit and payloads that name an address instead of a file.

    Uploads may take `max_upload_bytes`, everything else `max_request_bytes`.
    """

    def __init__(self, app: App, max_upload_bytes: int, max_request_bytes: int) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes
        self._max_request_bytes = max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and hand it on, or refuse it."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        if header(scope, b"content-type").startswith("multipart/form-data"):
            await self._pass_counted(scope, receive, send, self._max_upload_bytes + _FORM_BYTES)
        else:
            await self._pass_checked(scope, receive, send, self._max_request_bytes)

    async def _pass_counted(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Hand an upload on piece by piece, and cut it off where it exceeds the limit."""
        if _declared_length(scope) > limit:
            await _discard(receive, _PATIENCE * limit)
            await refuse(send, 413, _too_large(limit))
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                return {"type": "http.disconnect"}
            return message

        await self._app(scope, count, send)

    async def _pass_checked(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Read a small body whole, look at it, and hand it on."""
        if _declared_length(scope) > limit:
            await _discard(receive, _PATIENCE * limit)
            await refuse(send, 413, _too_large(limit))
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                if more:
                    await _discard(receive, _PATIENCE * limit)
                await refuse(send, 413, _too_large(limit))
                return
        if names_address(body):
            await refuse(send, 400, "Addresses are not fetched; upload the file itself.")
            return
        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def names_address(body: bytes) -> bool:
    """Return whether a JSON payload has a file whose path is an address: the server would fetch it without a limit."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False  # not JSON: whoever parses it refuses it
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            path = item.get("path")
            if isinstance(path, str) and "://" in path:
                return True
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return False


def header(scope: Scope, name: bytes) -> str:
    """Return a request's header, empty where there is none."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return values[0].decode("latin-1") if values else ""


def _declared_length(scope: Scope) -> int:
    text = header(scope, b"content-length")
    return int(text) if text.isdecimal() else 0


def _too_large(limit: int) -> str:
    return f"That is too large; keep it under {limit / 2**20:.0f} MB."


async def _discard(receive: Receive, limit: int) -> None:
    """Read on without keeping anything: a client that is cut off while it sends never reads the answer."""
    more = True
    while more and limit > 0:
        message = await receive()
        limit -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def refuse(send: Send, status: int, sentence: str) -> None:
    """Answer a request with a status and a sentence."""
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
