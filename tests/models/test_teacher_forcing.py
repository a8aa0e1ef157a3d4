"""A typed caption at every position, a text in tokens, and the shapes on the way, held against tiny models."""

from __future__ import annotations

import numpy as np
import pytest

from captioning.core.errors import PromptError
from captioning.models.captioner import NetworkCaptioner
from tests.tiny_models import drawing

FAMILIES = ("blip", "patch_captioner", "vision_encoder_decoder-vit-gpt2", "git")


@pytest.fixture(params=FAMILIES)
def captioner(request: pytest.FixtureRequest, tiny_captioners: dict[str, NetworkCaptioner]) -> NetworkCaptioner:
    return tiny_captioners[request.param]


def test_every_position_agrees_with_the_scored_caption(captioner: NetworkCaptioner) -> None:
    (features,) = captioner.encode([drawing(0)])
    caption = captioner.caption_from_text(features, "a photo of", "the woman in the park")
    forced = captioner.teacher_force(features, "a photo of", "the woman in the park")
    assert tuple(token.token_id for token in forced.labels[:-1]) == caption.token_ids
    assert forced.inputs[1:] == forced.labels[:-1]
    assert forced.labels[-1] == captioner.end_token
    assert forced.num_prompt_tokens == caption.num_prompt_tokens
    assert np.allclose(forced.log_probs[:-1], caption.log_probs, atol=1e-4)
    assert all(
        choices[0].log_prob >= lp - 1e-5 for choices, lp in zip(forced.alternatives, forced.log_probs, strict=True)
    )


def test_a_caption_that_is_empty_or_too_long_is_refused(captioner: NetworkCaptioner) -> None:
    (features,) = captioner.encode([drawing(0)])
    with pytest.raises(PromptError, match="empty"):
        captioner.teacher_force(features, " ", "")
    with pytest.raises(PromptError, match=r"has room for .* “dog dog .*…” takes 100[01]"):
        captioner.teacher_force(features, "", "dog " * 1000)


def test_a_text_becomes_the_tokens_of_its_caption(captioner: NetworkCaptioner) -> None:
    (features,) = captioner.encode([drawing(0)])
    caption = captioner.caption_from_text(features, "", "the woman in the park")
    tokens = captioner.tokenize("the woman in the park")
    assert tuple(token.token_id for token in tokens) == caption.token_ids
    assert tuple(token.token for token in tokens) == caption.tokens
    assert captioner.tokenize("") == ()


def test_what_goes_into_attention_fits_its_weights(captioner: NetworkCaptioner) -> None:
    info = captioner.info()
    shapes = dict(info.shapes)
    kind = info.spec.capabilities.attention_kind
    batch, _, length, seen = shapes[f"{kind}_attentions"]
    assert shapes["query"][:2] == (length, batch)
    assert shapes["query"][2] == 32  # the width of every tiny decoder
    assert shapes["key"] == shapes["value"] == (seen, batch, shapes["encoder_hidden_states"][-1])
    assert np.prod(shapes["patches"]) <= np.prod(shapes["pixel_values"])
    assert captioner.num_bytes == 4 * info.parameters
