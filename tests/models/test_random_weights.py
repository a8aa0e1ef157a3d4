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


def test_an_unknown_untrained_name_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="blip-base"):
        blip.untrained("blip-huge", CPU, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), [("blip-base", 223_971_644), ("blip-large", 446_290_492)])
def test_untrained_models_have_the_full_shape(name: str, parameters: int) -> None:
    spec = hub.resolve_spec(f"untrained:{name}")
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))
    info = captioner.info()
    assert info.parameters == parameters
    assert "made up" in str(info.tokenizer["origin"])
    shapes = dict(info.shapes)
    assert shapes["encoder_hidden_states"] == (1, 577, 768 if name == "blip-base" else 1024)
    assert shapes["logits"][-1] == 30_524
    (features,) = captioner.encode([drawing(0)])
    captions = captioner.decode(features, ["", "a photo of"], DecodingOptions(max_new_tokens=4))
    trace = captioner.trace(features, captions[1])
    assert trace.image_attentions.shape[::3] == (12, 576)
    assert trace.image_attentions.shape[1] == 12


@pytest.mark.network
@pytest.mark.parametrize("name", ["base", "large"])
def test_the_pinned_revision_has_what_it_should(name: str) -> None:
    from captioning.models.sources.download import choose_files, list_files

    spec = get_spec(f"Salesforce/blip-image-captioning-{name}")
    assert spec.repo_id is not None
    commit, files, _ = list_files(spec.repo_id, spec.revision)
    wanted = choose_files(files, blip.FAMILY.files, spec.repo_id, allow_pickle=False)
    assert commit == spec.revision
    assert sum(file.num_bytes for file in wanted) == pytest.approx(spec.download_bytes, rel=0.05)
