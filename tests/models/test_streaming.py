"""Captions that are heard of at every step cost the tokenizer little: what is known is not decoded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import Any

import pytest

from captioning.core.types import Caption, DecodingOptions
from captioning.models.captioner import NetworkCaptioner
from tests.tiny_models import drawing

FAMILIES = ("blip", "patch_captioner", "vision_encoder_decoder-vit-gpt2", "git", "image_text_to_text-smolvlm")
PROMPTS = ("", "a photo of", "the woman", "dog", "a small red car")
OPTIONS = DecodingOptions(max_new_tokens=20, temperature=1.5, top_k=0, seed=3)


class CountingTokenizer:
    """A tokenizer that counts which of its methods are called."""

    def __init__(self, tokenizer: Any) -> None:
        self.calls: Counter[str] = Counter()
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tokenizer, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return found(*args, **kwargs)

        return call


@pytest.mark.parametrize("family", FAMILIES)
def test_five_streamed_captions_decode_each_token_once(
    tiny_captioners: dict[str, NetworkCaptioner], family: str
) -> None:
    known = tiny_captioners[family]
    network: Any = copy(known._network)
    network.tokenizer = tokenizer = CountingTokenizer(network.tokenizer)
    network._texts = {}
    captioner = NetworkCaptioner(known.spec, network)
    (features,) = captioner.encode([drawing(0)])
    if family == "patch_captioner":
        network.not_first()  # asks for every token, once in a network's life
    tokenizer.calls.clear()
    heard: list[Sequence[Caption]] = []
    captions = captioner.decode(features, PROMPTS, OPTIONS, heard.append)
    assert len(heard) == OPTIONS.max_new_tokens
    tokens = sum(len(caption.token_ids) for caption in captions)
    distinct = {
        *(token for caption in captions for token in caption.token_ids),
        *(choice.token_id for caption in captions for position in caption.alternatives for choice in position),
    }
    assert tokenizer.calls["encode"] <= len(PROMPTS)
    assert tokenizer.calls["decode"] <= tokens
    assert tokenizer.calls["id_to_token"] <= len(distinct)
    assert sum(tokenizer.calls.values()) < 1_000


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_heard_last_is_the_caption_and_what_was_heard_before_stays(
    tiny_captioners: dict[str, NetworkCaptioner], family: str
) -> None:
    captioner = tiny_captioners[family]
    (features,) = captioner.encode([drawing(0)])
    heard: list[Sequence[Caption]] = []
    captions = captioner.decode(features, PROMPTS, OPTIONS, heard.append)
    assert [one.text for one in heard[-1]] == [one.text for one in captions]
    for step in heard:
        for caption, whole in zip(step, captions, strict=True):
            count = len(caption.token_ids)
            assert caption.text == captioner._network.ids_to_text(caption.token_ids)
            assert caption.tokens == whole.tokens[:count]
            assert caption.alternatives == whole.alternatives[:count]
