"""What is tried before an audience comes."""

from __future__ import annotations

import pytest

from captioning.core.errors import DataError, HubError
from captioning.web import showcase
from captioning.web.showcase import check_samples, prepare
from tests.conftest import FakeLoader


def test_each_step_is_said_and_the_last_sentence_is_that_all_is_ready(
    fake_loader: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[bool] = []
    monkeypatch.setattr(showcase, "warm_up", lambda: warmed.append(True))
    lines = list(prepare(fake_loader, "auto"))
    assert lines[1].startswith("Fake captioner captions")
    assert lines[-1] == "Ready: the network can go."
    assert warmed
    assert fake_loader.fakes["embedded"].encoded == 1


def test_a_missing_sample_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showcase, "list_clips", lambda: ())
    with pytest.raises(DataError, match=r"world\.mp4"):
        check_samples()


def test_a_model_that_is_not_here_ends_the_preparations(
    fake_loader: FakeLoader, broken_hub: HubError, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_loader.blip_error = broken_hub
    with pytest.raises(HubError):
        list(prepare(fake_loader, FakeLoader.BLIP))
