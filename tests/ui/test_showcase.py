"""What is tried before an audience comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from captioning.errors import DataError, HubError, OptionsError
from captioning.ui import showcase
from captioning.ui.showcase import check_port, check_samples, prepare
from tests.conftest import FakeLoader


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is listened on as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_each_step_is_said_and_the_last_sentence_is_that_all_is_ready(
    fake_loader: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[bool] = []
    monkeypatch.setattr(showcase, "warm_up", lambda: warmed.append(True))
    port = free_port()
    lines = list(prepare(fake_loader, "auto", "127.0.0.1", port))
    assert lines[0] == f"Port {port} is free."
    assert lines[2].startswith("Fake captioner captions")
    assert lines[-1] == "Ready: the network can go."
    assert warmed
    assert fake_loader.fakes["embedded"].encoded == 1


def test_a_taken_port_is_said_before_anything_is_loaded(fake_loader: FakeLoader, port: int) -> None:
    with pytest.raises(OptionsError, match=f"port {port} is taken; choose another with --port"):
        check_port("127.0.0.1", port)
    with pytest.raises(OptionsError):
        list(prepare(fake_loader, "auto", "127.0.0.1", port))
    assert not fake_loader.loaded


def test_a_missing_sample_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showcase, "list_clips", lambda: ())
    with pytest.raises(DataError, match=r"world\.mp4"):
        check_samples()


def test_a_model_that_is_not_here_ends_the_preparations(
    fake_loader: FakeLoader, broken_hub: HubError, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_loader.blip_error = broken_hub
    with pytest.raises(HubError):
        list(prepare(fake_loader, FakeLoader.BLIP, "127.0.0.1", free_port()))
