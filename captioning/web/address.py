"""Whether the page can be served where it is asked for, said before anything is loaded."""

from __future__ import annotations

import errno
import os
import socket
from argparse import ArgumentTypeError

from captioning.core.errors import OptionsError

LARGEST_PORT = 65_535


def read_host(text: str) -> str:
    """Return an address as servers and links write it: IPv6 in brackets."""
    return f"[{text}]" if ":" in text and not text.startswith("[") else text


def read_root_path(text: str) -> str:
    """Read the path under which a proxy serves the page, and add its slash, or a whole address of the web.

    Raises `argparse.ArgumentTypeError` for any other address.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme.lower() not in ("http", "https") or not rest.strip("/"):
            raise ArgumentTypeError(f"{text} is no path; give one such as /captions, or an address with https://")
        return text.rstrip("/")
    return f"/{text.strip('/')}" if text.strip("/") else ""


def check_address(host: str, port: int) -> None:
    """Raise `OptionsError` where nothing can listen on a port of an address, with the reason and its cure."""
    if not 0 < port <= LARGEST_PORT:
        raise OptionsError(f"there is no port {port}; choose one up to {LARGEST_PORT} with --port.")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise OptionsError(_no_address(host)) from error
    family, *_, place = found[0]
    with socket.socket(family) as probe:
        if os.name == "posix":  # elsewhere it would let two listen on one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            raise OptionsError(_sentence(error, host, port)) from error


def _sentence(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken; choose another with --port."
    if error.errno == errno.EACCES:
        return f"port {port} is kept for the system; choose one from 1024 on with --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return _no_address(host)
    return f"port {port} of {host} cannot be listened on ({error.strerror}); choose others with --host and --port."


def _no_address(host: str) -> str:
    return f"this machine has no address {host}; choose 127.0.0.1 (itself alone) or 0.0.0.0 (its network) with --host."
