"""Every architecture with random weights: at full size, always the same, and saying so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioning.core.errors import UnknownModelError
from captioning.core.types import DecodingOptions
from captioning.models import list_families
from captioning.models.captioner import NetworkCaptioner
from captioning.models.sources import hub
from captioning.models.sources.untrained import untrained_ids
from tests.tiny_models import drawing

CPU = torch.device("cpu")
PARAMETERS = {"git-base": 176_619_066, "patch-captioner-clip": 113_109_248}
WORD_VECTOR = {"patch-captioner-clip": 512}
"""Elements of a word vector, by the name of a model that has the embedded captioner's tokenizer.

Its word vectors are not among its `PARAMETERS`: their number follows from the tokenizer's vocabulary.
"""


def open_untrained(model_id: str) -> NetworkCaptioner:
    spec = hub.resolve_spec(model_id)
    return NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))


def test_every_family_has_one() -> None:
    assert all(family.untrained_names for family in list_families())


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(UnknownModelError, match=r"choose from .*untrained:git-base"):
        hub.resolve_spec("untrained:nothing")


@pytest.mark.slow
@pytest.mark.parametrize("model_id", untrained_ids())
def test_it_captions_with_the_whole_shape_and_never_changes(model_id: str) -> None:
    captioner = open_untrained(model_id)
    (features,) = captioner.encode([drawing(0)])
    (caption,) = captioner.decode(features, ["a dog"], DecodingOptions(max_new_tokens=3))
    assert len(caption.token_ids) > caption.num_prompt_tokens
    assert np.isfinite(caption.log_probs).all()
    trace = captioner.trace(features, caption)
    assert trace.image_attentions.shape[-1] == len(features.layout.boxes)
    name = model_id.removeprefix("untrained:")
    info = captioner.info()
    if name in PARAMETERS:
        assert info.parameters == PARAMETERS[name] + WORD_VECTOR.get(name, 0) * int(info.tokenizer["vocabulary"])
    again = open_untrained(model_id)
    (same,) = again.encode([drawing(0)])
    torch.testing.assert_close(same.encoder_hidden_states, features.encoder_hidden_states)
