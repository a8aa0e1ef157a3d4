"""Requests of other sites: no page elsewhere may make a visitor's browser use this server.

Browsers say by `Sec-Fetch-Site` and `Origin` which page sends a request, and no script can change that; programs such
as curl send neither. A site that points its own name at this machine (DNS rebinding) has the right origin but a
strange `Host`, so hosts are checked too.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from captioning.core.errors import OptionsError
from captioning.core.settings import get_settings
from captioning.web.guard import App, Message, Receive, Scope, Send, header, refuse

_OUTSIDE_DNS = ("*.local", "*.localhost")
"""Names that no site on the internet can own; those without a dot are others."""
_RELAYED = ("*.hf.space", "*.gradio.live")
"""Names of Spaces and of shared links, which belong to Hugging Face and Gradio."""
_HARMLESS_METHODS = ("GET", "HEAD", "OPTIONS")
_FRAMED_BY = ("'self'", "https://huggingface.co", "https://*.huggingface.co")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Names under which this server answers, as patterns such as `*.example.org`, and origins that may send requests.

    IP addresses need no name here: a page cannot point one that it does not own at another machine.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def has_host(self, host: str) -> bool:
        """Return whether the server answers under a `Host` header; without one no browser asks."""
        name = _host_name(host)
        if name is None:
            return False
        if "." not in name or _is_ip_address(name):
            return True
        return any(fnmatchcase(name, pattern) for pattern in (*_OUTSIDE_DNS, *_RELAYED, *self.hosts))

    def has_sender(self, site: str, origin: str, host: str) -> bool:
        """Return whether the headers `Sec-Fetch-Site`, `Origin` and `Host` say that a page of this server sends."""
        if origin in self.origins:
            return True
        if site:
            return site in ("same-origin", "none")
        return not origin or (origin != "null" and _place(urlsplit(origin).netloc) == _place(host))


def read_addresses(
    hosts: str | None = None,
    origins: str | None = None,
    root_path: str | None = None,
    listens_on: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Addresses:
    """Return the addresses of this server. Texts have commas between names; without them the settings hold.

    A root path that is a whole address, this machine's own name and the name it listens on count too. On a Space every
    name does, since only the hub's proxy reaches it. Raises `OptionsError` for what is no host or no origin.
    """
    settings = get_settings()
    names = {_read_host(text) for text in _listed(settings.hosts if hosts is None else hosts)}
    senders = {_read_origin(text) for text in _listed(settings.origins if origins is None else origins)}
    root_path = root_path or environment.get("GRADIO_ROOT_PATH", "")
    if "://" in root_path:
        address = urlsplit(root_path)
        senders.add(f"{address.scheme}://{address.netloc}".lower())
        names.add(_read_host(address.netloc))
    names |= {name.lower() for name in (listens_on, socket.gethostname()) if name}
    if "SPACE_ID" in environment:
        names.add("*")
    return Addresses(frozenset(names), frozenset(senders))


class OriginGuard:
    """ASGI middleware that refuses requests of other sites and under strange names, and says who may embed the page."""

    def __init__(self, app: App, addresses: Addresses) -> None:
        self._app = app
        self._addresses = addresses
        policy = " ".join(("frame-ancestors", *_FRAMED_BY, *sorted(addresses.origins)))
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"content-security-policy", policy.encode("latin-1")),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and hand it on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        objection = self._objection(scope)
        if objection is None:
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refuse(send_with_headers, 403, objection)

    def _objection(self, scope: Scope) -> str | None:
        host = header(scope, b"host")
        if not self._addresses.has_host(host):
            return (
                f"This server does not answer under the name {json.dumps(host[:100])}. "
                "Whoever runs it can add the name with --hosts or CAPTIONSCOPE_HOSTS."
            )
        if scope["type"] == "http" and scope["method"] in _HARMLESS_METHODS:
            return None
        if not self._addresses.has_sender(header(scope, b"sec-fetch-site"), header(scope, b"origin"), host):
            return (
                "Pages of other sites may not send requests to this server. Open its own page instead; "
                "whoever runs it can allow a site with --origins or CAPTIONSCOPE_ORIGINS."
            )
        return None


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _read_host(text: str) -> str:
    name = None if "/" in text else _host_name(text)
    if not name:
        raise OptionsError(f"{text!r} is no host; write a name alone, such as captions.example.org.")
    return name


def _read_origin(text: str) -> str:
    address = urlsplit(text.rstrip("/"))
    if address.scheme not in ("http", "https") or not address.netloc or address.path or address.query:
        raise OptionsError(f"{text!r} is no origin; write it with its scheme, such as https://example.org.")
    return f"{address.scheme}://{address.netloc}".lower()


def _host_name(host: str) -> str | None:
    """Return the name in a `Host` header, without its port and in lower case; `None` where there is no sense in it."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return None


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _place(host: str) -> str:
    """Return host and port, without a port that browsers leave out."""
    return host.lower().removesuffix(":80").removesuffix(":443")
