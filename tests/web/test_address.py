"""Where the page can be served, and what is said where it cannot."""

from __future__ import annotations

import errno
import re
import socket
from argparse import ArgumentTypeError
from collections.abc import Iterator

import pytest

from captioning.core.errors import OptionsError
from captioning.web.address import check_address, read_host, read_root_path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is listened on as long as the test runs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_that_is_free_is_free_until_it_is_taken(taken: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    check_address("127.0.0.1", free)
    check_address("localhost", free)
    with pytest.raises(OptionsError, match=f"port {taken} is taken; choose another with --port"):
        check_address("127.0.0.1", taken)


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "a" * 300, "nowhere.invalid"])
def test_an_address_of_another_machine_or_of_none_is_named(host: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"no address {host}; choose 127.0.0.1")):
        check_address(host, 7860)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 10**9])
def test_a_port_that_cannot_be_is_named(port: int) -> None:
    with pytest.raises(OptionsError, match=f"no port {port}; choose one up to 65535"):
        check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.EACCES, "kept for the system; choose one from 1024 on"), (errno.ENETDOWN, "cannot be listened on")],
)
def test_what_the_system_forbids_is_told_from_a_taken_port(
    number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: socket.socket, place: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(OptionsError, match=sentence):
        check_address("127.0.0.1", 80)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    asked = ("::1", "[::]", "0.0.0.0", "localhost")
    assert [read_host(text) for text in asked] == ["[::1]", "[::]", "0.0.0.0", "localhost"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("captions", "/captions"),
        ("/captions/", "/captions"),
        ("", ""),
        ("/", ""),
        ("https://a.org/x", "https://a.org/x"),
    ],
)
def test_a_root_path_gets_its_slash(given: str, path: str) -> None:
    assert read_root_path(given) == path


def test_a_root_path_of_another_scheme_is_refused() -> None:
    for given in ("ftp://a.org", "file:///x", "http://"):
        with pytest.raises(ArgumentTypeError, match="is no path; give one such as /captions"):
            read_root_path(given)
