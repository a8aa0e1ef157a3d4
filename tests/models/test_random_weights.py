"""Models that nobody trained: words that spell anything, and weights that are always the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captioning.models import tokens
from captioning.models.random_weights import build_random, made_up_words
from tests.tiny_models import write_tiny_blip

CPU = torch.device("cpu")


def test_the_made_up_vocabulary_spells_any_ascii_word() -> None:
    words = made_up_words()
    assert len(words) == len(set(words)) == 30_522
    tokenizer = tokens.make_wordpiece(words, max_word_characters=1000)
    printable = "".join(chr(code) for code in range(32, 127))
    for text in (printable, "the quick brown fox jumps over a lazy dog", "x" * 500, "Qxzwv 1234567890"):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        assert "[UNK]" not in encoding.tokens
        assert "".join(encoding.tokens).replace("##", "") == text.lower().replace(" ", "").replace("##", "")


def test_random_weights_are_always_the_same_ones(tmp_path: Path) -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration

    write_tiny_blip(tmp_path / "shape")
    config = BlipConfig.from_pretrained(tmp_path / "shape")
    config._attn_implementation = "eager"
    one, other = (build_random(BlipForConditionalGeneration, config, CPU, torch.float32) for _ in range(2))
    for (name, value), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(value, same), name
        assert torch.isfinite(value).all()
        if value.ndim > 1:
            assert value.std().item() == pytest.approx(0.02, rel=0.3), name
    assert one.text_decoder.bert.embeddings.position_ids.flatten().tolist() == list(range(40))
    decoder = one.text_decoder
    assert decoder.cls.predictions.decoder.weight is decoder.bert.embeddings.word_embeddings.weight
