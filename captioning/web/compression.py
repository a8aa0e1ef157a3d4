"""Compression of the page itself; Gradio compresses the files that it serves, and streams stay as they are."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware

from captioning.web.guard import App, Receive, Scope, Send


class CompressedPage:
    """ASGI middleware that compresses the page's HTML, which holds the description of every component."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._compressed = GZipMiddleware(app, minimum_size=10_000, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compress the answer to a request for the page, and hand every other request on."""
        is_page = scope["type"] == "http" and scope["path"] in ("", "/")
        await (self._compressed if is_page else self._app)(scope, receive, send)
