from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from captioning.models.captioner import NetworkCaptioner
from captioning.models.sources import hub
from captioning.training.agreement import evaluate_agreement
from captioning.training.data import load_photos
from tests.tiny_models import write_tiny_patch_captioner


def open_captioner(folder: Path, dtype: torch.dtype = torch.float32) -> NetworkCaptioner:
    spec = hub.resolve_spec(str(folder))
    return NetworkCaptioner(spec, hub.open_network(spec, torch.device("cpu"), dtype))


def test_a_captioner_agrees_with_itself_and_less_with_a_rounded_or_changed_one(
    tmp_path: Path, data_folder: Path
) -> None:
    exact = open_captioner(write_tiny_patch_captioner(tmp_path / "model"))
    data = load_photos(data_folder, "dev", 32)
    itself = evaluate_agreement(exact, exact, data)
    assert itself["same_captions"] == itself["same_tokens"] == 1
    assert itself["log_prob_difference"] == pytest.approx(0, abs=1e-4)
    assert itself["embedding_cosine"] == pytest.approx(1, abs=1e-4)
    rounded = evaluate_agreement(open_captioner(tmp_path / "model", torch.bfloat16), exact, data)
    assert 1e-4 < rounded["log_prob_difference"] < 0.5
    assert rounded["embedding_cosine"] == pytest.approx(1, abs=1e-2)
    changed = open_captioner(tmp_path / "model")
    with torch.no_grad():
        for parameter in changed._network.module.parameters():
            noise = np.random.default_rng(0).normal(0, 0.3, parameter.shape).astype(np.float32)
            parameter.add_(torch.from_numpy(noise))
    worse = evaluate_agreement(changed, exact, data)
    assert worse["log_prob_difference"] > 4 * rounded["log_prob_difference"]
    assert worse["same_captions"] < 1
