"""Captioners on ZeroGPU, in a process of its own with a stand-in for `spaces` that really forks and pickles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioning.core.contract import Captioner
from captioning.core.types import DecodingOptions
from captioning.models.accelerator import expected_seconds, on_accelerator
from captioning.models.captioner import NetworkCaptioner
from captioning.serving.loading import load_uncached
from tests.zero_gpu.journey import PROMPTS, VERBS, make_picture

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def journey() -> dict[str, Any]:
    """What a Space with ZeroGPU answers to every verb."""
    environment = {
        **os.environ,
        "SPACES_ZERO_GPU": "true",
        "CAPTIONSCOPE_DEVICE": "cpu",
        "CAPTIONSCOPE_PRECISION": "float32",
        "PYTHONPATH": f"{ROOT / 'tests' / 'zero_gpu'}{os.pathsep}{ROOT}",
    }
    command = [sys.executable, "-m", "tests.zero_gpu.journey"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_uncached("embedded", "cpu", "float32")


def test_without_zero_gpu_a_verb_is_left_as_it_is() -> None:
    def verb() -> None:
        pass

    assert on_accelerator(verb) is verb
    assert "spaces" not in sys.modules


def test_every_verb_works_in_a_process_that_was_forked_for_it(journey: dict[str, Any]) -> None:
    assert set(journey["workers"]) == set(VERBS)
    for verb, workers in journey["workers"].items():
        assert len(workers) == (3 if verb == "decode_together" else 1), verb
        assert journey["process"] not in workers, verb


def test_every_verb_of_the_contract_that_needs_the_network_is_tried() -> None:
    light = {"preprocess", "tokenize", "gather", "spec", "device", "precision", "num_bytes", "end_token", "engine"}
    public = {name for name in vars(NetworkCaptioner) if not name.startswith("_")}
    assert public - light == set(VERBS)


def test_the_answers_are_those_of_an_ordinary_machine(journey: dict[str, Any], captioner: Captioner) -> None:
    picture = make_picture()
    (features,) = captioner.encode([picture])
    captions = captioner.decode(features, PROMPTS, DecodingOptions())
    assert journey["captions"] == [caption.text for caption in captions]
    np.testing.assert_allclose(journey["embeds"], features.image_embeds.numpy(), rtol=1e-4, atol=1e-4)
    attention = captioner.trace(features, captions[0]).image_attentions
    np.testing.assert_allclose(journey["attention"], attention.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(journey["scores"], captioner.score([features], captions[0])[0], atol=1e-3)


def test_what_is_written_arrives_while_it_is_written(journey: dict[str, Any]) -> None:
    heard = journey["heard"]
    assert len(heard) > 2
    assert heard[-1] == journey["captions"]
    assert all(len(before[0]) <= len(after[0]) for before, after in pairwise(heard))


def test_requests_that_are_made_together_are_lent_a_gpu_each_and_fail_by_themselves(journey: dict[str, Any]) -> None:
    assert journey["together"] == ["list", "PromptError", "list"]


def test_stopping_here_stops_the_work_there(journey: dict[str, Any]) -> None:
    assert journey["steps_heard"] == 2
    assert journey["steps_sent"] < journey["steps_whole"] // 2


def test_an_expected_error_crosses_with_its_sentence_and_a_fault_does_not(journey: dict[str, Any]) -> None:
    kind, sentence = journey["expected_error"]
    assert kind == "PromptError"
    assert "shorten it or lower max_new_tokens" in sentence
    kind, sentence = journey["fault"]
    assert kind == "AcceleratorError"
    assert "RuntimeError" in sentence


def test_a_gpu_that_is_not_to_be_had_is_told_in_one_sentence(journey: dict[str, Any]) -> None:
    kind, sentence = journey["refused"]
    assert kind == "AcceleratorError"
    assert sentence.count("quota is used up") == 1
    assert "try again later" in sentence


def test_a_model_that_is_loaded_later_in_another_thread_works_too(journey: dict[str, Any]) -> None:
    assert journey["later_model"]
    assert journey["later_worker"] != journey["process"]


def test_a_dropped_captioner_is_freed(journey: dict[str, Any]) -> None:
    assert journey["freed"] is True


def test_weights_wait_on_the_processor_unless_the_main_thread_loads_them(journey: dict[str, Any]) -> None:
    assert journey["waits"] == {"main": "cuda", "other": "cpu"}
    assert journey["auto"] == {"captioners": "cuda", "others": "cpu"}


def test_longer_work_asks_for_more_time_and_a_short_one_for_little() -> None:
    short = expected_seconds("decode", {"features": None, "prefixes": ["a"], "options": DecodingOptions()})
    options = DecodingOptions(max_new_tokens=200)
    long = expected_seconds("decode", {"features": None, "prefixes": ["a"] * 8, "options": options})
    assert short < long < 60
    assert expected_seconds("encode", {"images": [None] * 64}) > expected_seconds("encode", {"images": [None]})
    assert expected_seconds("info", {}) < 20
