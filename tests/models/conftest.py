"""Tiny captioners of every family, made once; and a hub that lives on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from captioning.models.captioner import NetworkCaptioner
from captioning.models.sources import hub
from tests.fake_hub import FakeHub
from tests.tiny_language_models import write_tiny_git, write_tiny_image_text_to_text
from tests.tiny_models import write_tiny_blip, write_tiny_encoder_decoder, write_tiny_patch_captioner

WRITERS: dict[str, Callable[[Path], Path]] = {
    "blip": write_tiny_blip,
    "patch_captioner": partial(write_tiny_patch_captioner, seed=2, end_scale=2.5),
    "patch_captioner-clip": partial(write_tiny_patch_captioner, seed=3, clip=True),
    "vision_encoder_decoder-vit-gpt2": partial(write_tiny_encoder_decoder, vision="vit", seed=1, end=2.0),
    "vision_encoder_decoder-deit-bert": partial(
        write_tiny_encoder_decoder, vision="deit", text="bert", seed=3, end=2.0
    ),
    "vision_encoder_decoder-swin-gpt2": partial(write_tiny_encoder_decoder, vision="swin", seed=11, end=2.5),
    "vision_encoder_decoder-clip-gpt2": partial(write_tiny_encoder_decoder, vision="clip", seed=6, end=2.5),
    "git": write_tiny_git,
    "image_text_to_text-llava": partial(write_tiny_image_text_to_text, kind="llava"),
    "image_text_to_text-paligemma": partial(write_tiny_image_text_to_text, kind="paligemma", seed=3, end_scale=1.6),
    "image_text_to_text-smolvlm": partial(write_tiny_image_text_to_text, kind="smolvlm"),
    "image_text_to_text-idefics3": partial(write_tiny_image_text_to_text, kind="idefics3", seed=1),
    "image_text_to_text-qwen2_5_vl": partial(write_tiny_image_text_to_text, kind="qwen2_5_vl", seed=1, end_scale=1.3),
}
"""What writes a tiny model, by its family and, where a family has several, what follows a dash."""


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """On tiny tensors a second thread only waits; on a busy machine it makes the tests twenty times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model folder of each family; not to be changed."""
    root = tmp_path_factory.mktemp("tiny")
    return {family: write(root / family) for family, write in WRITERS.items()}


def open_tiny(folder: Path) -> NetworkCaptioner:
    """The captioner of a folder, on the CPU in full precision."""
    spec = hub.resolve_spec(str(folder))
    return NetworkCaptioner(spec, hub.open_network(spec, torch.device("cpu"), torch.float32))


@pytest.fixture(scope="session")
def tiny_captioners(tiny_folders: dict[str, Path]) -> dict[str, NetworkCaptioner]:
    return {family: open_tiny(folder) for family, folder in tiny_folders.items()}


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with nothing on it yet, that the hub's client talks to; the cache is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("captioning.models.sources.download._RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setitem(os.environ, "NO_PROXY", "127.0.0.1,localhost")
    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
