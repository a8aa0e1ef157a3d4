from __future__ import annotations

from dataclasses import replace

import pytest

from captioning.captions.words import caption_note, join_bytes, typed_prompt
from captioning.core.types import Caption, DecodingOptions


def caption(prompt: str, tokens: list[str], written: int = 0) -> Caption:
    count = len(tokens)
    zeros = (0.0,) * count
    return Caption(
        "m", "", "i", prompt, DecodingOptions(), "", tuple(range(count)), tuple(tokens), count - written, zeros,
        ((),) * count, 0.1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "tokens", "typed", "unknown"),
    [
        ("A Photo of", ["a", " photo", " of"], ("A", " Photo", " of"), ()),
        ("A Café 😀 in", ["a", " cafe", " [UNK]", " in"], ("A", " Café", " 😀", " in"), ("😀",)),
        ("a dog 😀", ["a", " dog"], ("a", " dog"), ("😀",)),
        ("dog😀", ["[UNK]"], ("dog😀",), ("dog😀",)),
        ("a 😀", ["a", " \\xf0\\x9f", "\\x98", "\\x80"], ("a", " 😀", "", ""), ()),
        ("ﬁsh", ["fish"], ("ﬁsh",), ()),
        ("", [], (), ()),
    ],
)
def test_a_prompt_is_shown_as_typed_and_signs_that_are_not_known_are_named(
    prompt: str, tokens: list[str], typed: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    assert typed_prompt(caption(prompt, tokens)) == (typed, unknown)


def test_a_model_that_writes_nothing_is_told() -> None:
    assert caption_note(caption("a dog", ["a", " dog"])) == "the model added nothing to the prompt"
    assert caption_note(caption("", [])) == "the model wrote nothing"
    assert caption_note(replace(caption("a", ["a", " dog"], written=1))) == ""


def test_bytes_that_make_no_character_stay_as_they_are() -> None:
    assert join_bytes(["\\xf0", " dog"]) == ("\\xf0", " dog")
