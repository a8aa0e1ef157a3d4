"""Tokenizers from a model's files, and one token as text."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioning.models.tokens import common_length, describe_kind, make_wordpiece, read_tokenizer, token_text
from tests.tiny_models import blip_words, tiny_byte_level, write_tokenizer_files

TEXTS = ("", "a photo of", "The Woman's dogs, running!", "zebra-crossings (3)  in the park. ", "ünïcode 猫")
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "gpt2": tiny_byte_level,
    "bert": lambda: make_wordpiece(blip_words()),
}


@pytest.mark.parametrize(
    ("one", "other", "common"), [([1, 2, 3], [1, 2, 4], 2), ([1, 2, 3], [1, 2], 2), ([], [1], 0), ([1], [1, 5], 1)]
)
def test_what_two_texts_begin_with_in_common_is_no_longer_than_the_shorter(
    one: list[int], other: list[int], common: int
) -> None:
    assert common_length(one, other) == common


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_either_kind_of_files_gives_the_tokens_of_the_librarys_own_tokenizer(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer_files(tmp_path / "all", TOKENIZERS[kind]())
    shutil.copytree(tmp_path / "all", tmp_path / "old")
    (tmp_path / "old" / "tokenizer.json").unlink()
    expected = AutoTokenizer.from_pretrained(tmp_path / "all")
    for folder in ("all", "old"):
        tokenizer = read_tokenizer(tmp_path / folder)
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert ids == expected(text, add_special_tokens=False)["input_ids"]


def test_a_special_token_that_a_person_types_is_text(tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path, tiny_byte_level())
    tokenizer = read_tokenizer(tmp_path)
    end = tokenizer.token_to_id("<|endoftext|>")
    assert end is not None
    assert end not in tokenizer.encode("a dog <|endoftext|> a cat").ids
    assert token_text(tokenizer, end) == "<|endoftext|>"


def test_byte_level_tokens_keep_their_spaces_and_show_broken_characters() -> None:
    tokenizer = tiny_byte_level()
    ids = tokenizer.encode("a photo of 猫, ü").ids
    texts = [token_text(tokenizer, token) for token in ids]
    assert texts[:3] == ["a", " photo", " of"]
    assert "\\xe7" in "".join(texts)
    assert "".join(texts).encode("latin-1").decode("unicode_escape").encode("latin-1").decode() == "a photo of 猫, ü"
    assert token_text(tokenizer, 99_999) == "[99999]"


def test_the_kind_is_told_with_what_it_does_to_capitals() -> None:
    assert describe_kind(tiny_byte_level()) == "byte-pair encoding"
    assert describe_kind(make_wordpiece(blip_words())) == "WordPiece, lower-cased"
    assert describe_kind(make_wordpiece(blip_words(), lowercase=False)) == "WordPiece"
