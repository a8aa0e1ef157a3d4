"""What every captioner promises, held against tiny models of every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captioning.core.contract import Prefix
from captioning.core.errors import CapabilityError, FeaturesError, OptionsError, PromptError, Stopped
from captioning.core.types import Capabilities, Caption, DecodingOptions, ImageFeatures, Picture
from captioning.models.captioner import NetworkCaptioner
from captioning.models.families.blip import BlipNetwork
from captioning.models.families.git import GitNetwork
from captioning.models.families.image_text_to_text.network import ImageTextNetwork
from captioning.models.families.patch_captioner import PatchCaptionerNetwork
from captioning.models.families.vision_encoder_decoder import VisionEncoderDecoderNetwork
from captioning.models.network import KeepsWordsWhole
from tests.tiny_language_models import library_inputs
from tests.tiny_models import drawing

FAMILIES = (
    "blip",
    "patch_captioner",
    "patch_captioner-clip",
    "vision_encoder_decoder-vit-gpt2",
    "vision_encoder_decoder-deit-bert",
    "vision_encoder_decoder-swin-gpt2",
    "vision_encoder_decoder-clip-gpt2",
    "git",
    "image_text_to_text-llava",
    "image_text_to_text-paligemma",
    "image_text_to_text-smolvlm",
    "image_text_to_text-idefics3",
    "image_text_to_text-qwen2_5_vl",
)
EXPLANATIONS = ("gradient_attention", "relevance", "input_gradient")
PROMPTS = ("", "a photo of", "the woman", "dog", "a small red car in the street and")
GREEDY = DecodingOptions(max_new_tokens=16)
BEAMS = DecodingOptions(max_new_tokens=16, num_beams=3)
SAMPLED = DecodingOptions(max_new_tokens=12, temperature=1.3, top_k=20, top_p=0.95, seed=7)
MODES = {
    "greedy": GREEDY,
    "greedy, no repeats": replace(GREEDY, repetition_penalty=1.7),
    "beams": BEAMS,
    "beams, long": replace(BEAMS, length_penalty=2.5),
    "beams, short": replace(BEAMS, length_penalty=-1.0),
    "beams, no repeats": replace(BEAMS, repetition_penalty=1.7),
    "beams, short, no repeats": replace(BEAMS, length_penalty=-1.0, repetition_penalty=1.3),
}
EVERY_MODE = [pytest.param(mode, marks=() if mode in ("greedy", "beams") else pytest.mark.slow) for mode in MODES]


@pytest.fixture(params=FAMILIES)
def captioner(request: pytest.FixtureRequest, tiny_captioners: dict[str, NetworkCaptioner]) -> NetworkCaptioner:
    return tiny_captioners[request.param]


@pytest.fixture
def features(captioner: NetworkCaptioner) -> ImageFeatures:
    return captioner.encode([drawing(0)])[0]


def written(caption: Caption) -> tuple[int, ...]:
    return caption.token_ids[caption.num_prompt_tokens :]


def same_caption(one: Caption, other: Caption) -> bool:
    return one.token_ids == other.token_ids and np.allclose(one.log_probs, other.log_probs, atol=1e-4)


def test_tiny_models_give_the_tests_something_to_tell_apart(captioner: NetworkCaptioner) -> None:
    captions = [c for f in captioner.encode([drawing(0), drawing(1)]) for c in captioner.decode(f, PROMPTS, GREEDY)]
    lengths = [len(written(caption)) for caption in captions]
    assert min(lengths) > 0
    assert len(set(lengths)) > 2, "captions should end at different times"
    assert GREEDY.max_new_tokens in lengths
    assert len({written(caption) for caption in captions}) > len(captions) / 2
    assert max(len(set(written(caption))) for caption in captions) > 3


def test_pictures_encoded_together_equal_pictures_encoded_alone(captioner: NetworkCaptioner) -> None:
    pictures = [drawing(0), drawing(1, (20, 80)), drawing(2)]
    for picture, together in zip(pictures, captioner.encode(pictures), strict=True):
        (alone,) = captioner.encode([picture])
        torch.testing.assert_close(together.encoder_hidden_states, alone.encoder_hidden_states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.image_embeds, alone.image_embeds, atol=1e-5, rtol=1e-5)
        assert together.image_id == picture.image_id
        assert together.image_embeds.norm().item() == pytest.approx(1, abs=1e-5)


def test_encoding_nothing_gives_nothing(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    assert captioner.encode([]) == []
    assert captioner.decode(features, [], GREEDY) == []


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_prompts_of_mixed_length_in_one_batch_equal_each_alone(
    captioner: NetworkCaptioner, features: ImageFeatures, mode: str
) -> None:
    for caption, prompt in zip(captioner.decode(features, PROMPTS, MODES[mode]), PROMPTS, strict=True):
        (alone,) = captioner.decode(features, [prompt], MODES[mode])
        assert same_caption(caption, alone)
        assert caption.prompt == prompt


def free_to_go_on(captioner: NetworkCaptioner, prompts: Sequence[str]) -> Sequence[Prefix]:
    """The prompts, as tokens for networks that would begin a new word after a text."""
    network = captioner._network
    return [network.text_to_ids(prompt) for prompt in prompts] if isinstance(network, KeepsWordsWhole) else prompts


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("family", ["patch_captioner", "patch_captioner-clip"])
def test_a_typed_prompt_keeps_its_last_word_whole_and_chosen_tokens_may_end_within_a_word(
    tiny_captioners: dict[str, NetworkCaptioner], family: str, mode: str
) -> None:
    captioner = tiny_captioners[family]
    assert isinstance(captioner._network, KeepsWordsWhole)
    tails, lengthened = captioner._network.not_first(), 0
    prompts = ["dog", "the woman", "a photo of", "a small red car", "park", "two"]
    for seed in range(3):
        (features,) = captioner.encode([drawing(seed)])
        for caption in captioner.decode(features, prompts, MODES[mode]):
            assert not any(tails[list(written(caption)[:1])])
        for caption in captioner.decode(features, free_to_go_on(captioner, prompts), MODES[mode]):
            lengthened += bool(any(tails[list(written(caption)[:1])]))
    assert lengthened > 0, "the tiny model lengthens no word, so nothing was tried"


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_split_encode_and_decode_equal_the_whole_the_plain_way(captioner: NetworkCaptioner, mode: str) -> None:
    plain = PLAIN_WAYS[type(captioner._network)]
    for seed in range(3):
        picture = drawing(seed)
        (features,) = captioner.encode([picture])
        captions = captioner.decode(features, free_to_go_on(captioner, PROMPTS), MODES[mode])
        for prompt, caption in zip(PROMPTS, captions, strict=True):
            prompt_ids = captioner._network.text_to_ids(prompt)
            assert list(written(caption)) == plain(captioner._network, picture, prompt_ids, MODES[mode]), prompt


def generate_with_transformers(
    network: Any, picture: Picture, prompt_ids: list[int], options: DecodingOptions
) -> list[int]:
    """The whole model's own `generate`; a prompt goes in as its processor makes it, between [CLS] and [SEP]."""
    return _generate(network, picture, {"input_ids": [2, *prompt_ids, 3]}, len(prompt_ids), options)


def generate_with_encoder_decoder(
    network: Any, picture: Picture, prompt_ids: list[int], options: DecodingOptions
) -> list[int]:
    """The whole model's own `generate`; a prompt goes in as the decoder's first tokens."""
    ids = [network.module.generation_config.decoder_start_token_id, *prompt_ids]
    return _generate(network, picture, {"decoder_input_ids": ids}, len(prompt_ids), options)


def generate_with_git(network: Any, picture: Picture, prompt_ids: list[int], options: DecodingOptions) -> list[int]:
    """The whole model's own `generate`; a prompt goes in behind [CLS]."""
    return _generate(network, picture, {"input_ids": [2, *prompt_ids]}, len(prompt_ids), options)


def generate_with_language_model(
    network: Any, picture: Picture, prompt_ids: list[int], options: DecodingOptions
) -> list[int]:
    """The whole model's own `generate`, on what its own processor makes; repeating the question costs nothing."""
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    inputs = library_inputs(network, picture, prompt_ids)
    num_before = inputs["input_ids"].shape[1]
    ignored = num_before - len(prompt_ids) - 1
    penalty = RepetitionPenaltyLogitsProcessor(options.repetition_penalty, prompt_ignore_length=ignored)
    output = network.module.generate(
        **inputs,
        max_new_tokens=options.max_new_tokens,
        logits_processor=LogitsProcessorList([penalty]),
        **_search_arguments(options),
    )
    ids: list[int] = output[0, num_before:].tolist()
    ends = [place for place, token in enumerate(ids) if token in network._end_ids]
    return ids[: ends[0]] if ends else ids


def _generate(
    network: Any, picture: Picture, prompt: dict[str, list[int]], num_prompt_tokens: int, options: DecodingOptions
) -> list[int]:
    output = network.module.generate(
        pixel_values=network.preprocess(picture).pixel_values[None],
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=options.repetition_penalty,
        **{name: torch.tensor([ids]) for name, ids in prompt.items()},
        **_search_arguments(options),
    )
    ids: list[int] = output[0, 1 + num_prompt_tokens :].tolist()
    return ids[: ids.index(network.end_id)] if network.end_id in ids else ids


def _search_arguments(options: DecodingOptions) -> dict[str, Any]:
    beams = {"length_penalty": options.length_penalty} if options.num_beams > 1 else {}
    return {"num_beams": options.num_beams, "do_sample": False, **beams}


def generate_naively(network: Any, picture: Picture, prompt_ids: list[int], options: DecodingOptions) -> list[int]:
    """Run the whole of every sequence again for every token: no cache, no padding, no batch.

    Tokens that are only read are left out, as by the captioner.
    """
    pixels = network.preprocess(picture).pixel_values[None]

    def log_probs(ids: list[int]) -> Tensor:
        states = network.module.image_encoder(pixels)[0]
        patches = network.module.text_decoder.project_patches(states)
        scores: Tensor = network.module.text_decoder(torch.tensor([ids]), patches)[0][0, -1]
        if options.num_beams > 1:
            scores = scores.log_softmax(dim=-1)
        for token in set(ids):
            value = scores[token]
            scores[token] = value * options.repetition_penalty if value < 0 else value / options.repetition_penalty
        scores = scores if options.num_beams > 1 else scores.log_softmax(dim=-1)
        scores = scores.masked_fill(network.never_written(), float("-inf"))
        scores[list(network.not_after(ids[len(network.start_ids) :]))] = float("-inf")
        return scores

    with torch.inference_mode():
        return _search(log_probs, [*network.start_ids, *prompt_ids], network.end_id, options)


def _search(
    log_probs: Callable[[list[int]], Tensor], start: list[int], end_id: int, options: DecodingOptions
) -> list[int]:
    """Beam search written down as simply as it goes; with one beam it is greedy."""
    running: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for step in range(1, options.max_new_tokens + 1):
        grown = [
            (score + value, ids, token)
            for score, ids in running
            for token, value in enumerate(log_probs([*start, *ids]).tolist())
        ]
        grown.sort(key=lambda candidate: -candidate[0])
        for score, ids, token in grown[: options.num_beams]:
            if token == end_id or step == options.max_new_tokens:
                finished.append((score / step**options.length_penalty, ids if token == end_id else [*ids, token]))
        finished = sorted(finished, key=lambda f: -f[0])[: options.num_beams]
        running = [(score, [*ids, token]) for score, ids, token in grown if token != end_id][: options.num_beams]
        if len(finished) == options.num_beams and running[0][0] / step**options.length_penalty <= finished[-1][0]:
            break
    return finished[0][1]


PLAIN_WAYS: dict[type, Callable[[Any, Picture, list[int], DecodingOptions], list[int]]] = {
    BlipNetwork: generate_with_transformers,
    PatchCaptionerNetwork: generate_naively,
    VisionEncoderDecoderNetwork: generate_with_encoder_decoder,
    GitNetwork: generate_with_git,
    ImageTextNetwork: generate_with_language_model,
}


@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_trace_equals_attention_read_step_by_step(
    captioner: NetworkCaptioner, features: ImageFeatures, prompt: str
) -> None:
    (caption,) = captioner.decode(features, [prompt], GREEDY)
    trace = captioner.trace(features, caption)
    network, states = captioner._network, features.encoder_hidden_states[None]
    ids = [*network.start_ids, *caption.token_ids]
    for place in range(len(caption.token_ids)):
        # What is written so far, and nothing of what follows, decides the next token.
        with torch.inference_mode():
            given = torch.tensor([ids[: place + 1]])
            step = network.attend(given, states, None, features.layout)[:, 0, :, -1].numpy()
        prefix = features.num_prefix_tokens
        np.testing.assert_allclose(trace.image_attentions[:, :, place], step[..., prefix:], atol=1e-5)
        np.testing.assert_allclose(trace.prefix_attentions[:, :, place], step[..., :prefix].sum(-1), atol=1e-5)
    assert trace.image_attentions.std(axis=-1).max() > 0.01, "flat maps would hide mistakes"


def test_attention_rows_sum_to_one_with_the_prefix(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    for caption in captioner.decode(features, PROMPTS, GREEDY):
        trace = captioner.trace(features, caption)
        totals = trace.image_attentions.sum(-1) + trace.prefix_attentions
        assert trace.kind == captioner.spec.capabilities.attention_kind
        if trace.kind == "cross":
            np.testing.assert_allclose(totals, 1, atol=1e-5)
        else:  # the rest goes to words
            assert totals.min() >= 0
            assert totals.max() < 1


@pytest.mark.parametrize("options", [GREEDY, BEAMS, SAMPLED], ids=["greedy", "beams", "sampled"])
def test_score_equals_the_log_probs_of_decode(
    captioner: NetworkCaptioner, features: ImageFeatures, options: DecodingOptions
) -> None:
    (other,) = captioner.encode([drawing(9)])
    for caption in captioner.decode(features, PROMPTS, options):
        scores = captioner.score([features, other], caption)
        np.testing.assert_allclose(scores[0], caption.log_probs, atol=1e-4)
        np.testing.assert_allclose(scores[1], captioner.score([other], caption)[0], atol=1e-4)
        assert not np.allclose(scores[0], scores[1], atol=1e-3)


def test_a_typed_caption_is_scored_as_the_written_one(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    caption = captioner.caption_from_text(features, "a photo of", "the woman in the park")
    ids = captioner._network.text_to_ids("a photo of the woman in the park")
    assert list(caption.token_ids) == ids
    assert caption.num_prompt_tokens == len(captioner._network.text_to_ids("a photo of"))
    np.testing.assert_allclose(captioner.score([features], caption)[0], caption.log_probs, atol=1e-5)
    with pytest.raises(PromptError, match="empty"):
        captioner.caption_from_text(features, "", " ")


def test_head_mask_of_ones_changes_nothing_and_of_zeros_something(
    captioner: NetworkCaptioner, features: ImageFeatures
) -> None:
    (caption,) = captioner.decode(features, ["a photo of"], GREEDY)
    plain = captioner.trace(features, caption).image_attentions
    ones = np.ones(plain.shape[:2], np.float32)
    np.testing.assert_allclose(captioner.trace(features, caption, ones).image_attentions, plain, atol=1e-6)
    last_head = ones.copy()
    last_head[0, -1] = 0
    changed = captioner.trace(features, caption, last_head).image_attentions
    np.testing.assert_allclose(changed[0], plain[0], atol=1e-6)  # the first layer's maps come before its output
    assert np.abs(changed[1] - plain[1]).max() > 1e-3
    np.testing.assert_allclose(captioner.trace(features, caption).image_attentions, plain, atol=1e-6)


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_streaming_grows_the_captions_and_ends_with_the_result(
    captioner: NetworkCaptioner, features: ImageFeatures, options: DecodingOptions
) -> None:
    heard: list[list[Caption]] = []
    result = captioner.decode(features, PROMPTS, options, lambda captions: heard.append(list(captions)))
    assert len(heard) > 1
    for earlier, later in pairwise(heard):
        for before, after in zip(earlier, later, strict=True):
            assert after.token_ids[: len(before.token_ids)] == before.token_ids
    assert all(len(caption.token_ids) <= caption.num_prompt_tokens + 1 for caption in heard[0])
    assert [c.token_ids for c in heard[-1]] == [c.token_ids for c in result]
    assert [c.text for c in heard[-1]] == [c.text for c in result]


def test_beams_are_heard_of_at_every_step_and_show_nothing(
    captioner: NetworkCaptioner, features: ImageFeatures
) -> None:
    heard: list[Sequence[Caption]] = []
    captioner.decode(features, ["", "dog"], BEAMS, heard.append)
    assert heard
    assert not any(heard)


@pytest.mark.parametrize("options", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_a_stopped_captioner_works_afterwards(
    captioner: NetworkCaptioner, features: ImageFeatures, options: DecodingOptions
) -> None:
    before = captioner.decode(features, PROMPTS, options)
    calls = 0

    def stop(_: Sequence[Caption]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        captioner.decode(features, PROMPTS, options, stop)
    assert calls == 3
    after = captioner.decode(features, PROMPTS, options)
    assert all(same_caption(one, other) for one, other in zip(before, after, strict=True))


def test_the_same_seed_gives_the_same_captions_whoever_shares_the_batch(
    captioner: NetworkCaptioner, features: ImageFeatures
) -> None:
    together = captioner.decode(features, PROMPTS, SAMPLED)
    again = captioner.decode(features, list(reversed(PROMPTS)), SAMPLED)
    for caption, other in zip(together, reversed(again), strict=True):
        assert same_caption(caption, other)
        assert same_caption(caption, captioner.decode(features, [caption.prompt], SAMPLED)[0])
    other_seed = captioner.decode(features, PROMPTS, replace(SAMPLED, seed=8))
    assert any(one.token_ids != other.token_ids for one, other in zip(together, other_seed, strict=True))


def test_several_captions_come_prompt_by_prompt(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    prompts = ["dog", "the woman"]
    three = replace(SAMPLED, num_captions=3)
    sampled = captioner.decode(features, prompts, three)
    assert [caption.prompt for caption in sampled] == ["dog"] * 3 + ["the woman"] * 3
    assert len({caption.token_ids for caption in sampled}) > 2
    # The first of several is the one that is written when one is asked for.
    assert same_caption(sampled[3], captioner.decode(features, ["the woman"], SAMPLED)[0])
    beams = captioner.decode(features, prompts, replace(BEAMS, num_captions=3))
    assert [caption.prompt for caption in beams] == ["dog"] * 3 + ["the woman"] * 3
    assert len({caption.token_ids for caption in beams}) == 6
    assert same_caption(beams[3], captioner.decode(features, ["the woman"], BEAMS)[0])


def test_statistics_describe_every_token(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    for caption in captioner.decode(features, free_to_go_on(captioner, PROMPTS), GREEDY):
        assert all(log_prob <= 1e-6 for log_prob in caption.log_probs)
        for place, choices in enumerate(caption.alternatives):
            assert [c.log_prob for c in choices] == sorted((c.log_prob for c in choices), reverse=True)
            if place >= caption.num_prompt_tokens:
                assert choices[0].token_id == caption.token_ids[place]
                assert choices[0].log_prob == pytest.approx(caption.log_probs[place], abs=1e-5)


def test_features_and_captions_of_another_model_are_refused(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    blip, ours = (tiny_captioners[family] for family in ("blip", "patch_captioner"))
    (features,) = blip.encode([drawing(0)])
    (own,) = ours.encode([drawing(0)])
    (caption,) = blip.decode(features, [""], GREEDY)
    with pytest.raises(FeaturesError, match="encode the picture again"):
        ours.decode(features, [""], GREEDY)
    with pytest.raises(FeaturesError, match="write or type it again"):
        ours.trace(own, caption)
    with pytest.raises(FeaturesError):
        ours.score([own], caption)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_decoding_leaves_the_features_as_they_were(
    captioner: NetworkCaptioner, features: ImageFeatures, mode: str
) -> None:
    before = features.encoder_hidden_states.clone()
    captions = captioner.decode(features, PROMPTS, MODES[mode])
    captioner.trace(features, captions[-1])
    assert torch.equal(before, features.encoder_hidden_states)


def test_a_prefix_may_be_token_ids(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    (whole,) = captioner.decode(features, ["a photo of"], GREEDY)
    branch = whole.token_ids[: whole.num_prompt_tokens + 2]
    (continued,) = captioner.decode(features, [branch], replace(GREEDY, max_new_tokens=14))
    assert same_caption(whole, continued)
    assert continued.num_prompt_tokens == len(branch)
    (from_ids, from_text) = captioner.decode(features, [captioner._network.text_to_ids("dog"), "dog"], GREEDY)
    assert same_caption(from_ids, from_text) or isinstance(captioner._network, KeepsWordsWhole)
    assert from_ids.prompt == from_text.prompt == "dog"


def test_a_prompt_that_is_too_long_is_refused_with_the_room_there_is(
    captioner: NetworkCaptioner, features: ImageFeatures
) -> None:
    with pytest.raises(PromptError, match="room for 39 tokens"):
        captioner.decode(features, ["dog " * 60], GREEDY)
    with pytest.raises(PromptError, match="lower max_new_tokens"):
        captioner.decode(features, ["dog"], DecodingOptions(max_new_tokens=39))
    fits = captioner.decode(features, ["dog"], DecodingOptions(max_new_tokens=35))
    assert len(fits) == 1


def test_tokens_put_together_are_the_text(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    caption = captioner.caption_from_text(features, "a photo of", "the woman runs, walks and sits in the park.")
    assert "".join(caption.tokens).strip() == caption.text == "a photo of the woman runs, walks and sits in the park."
    # To GPT-2 a space belongs to the word that follows, so the first word has none.
    assert all(token.startswith(" ") for token in caption.tokens[1:4] if token.strip() in "photo of the")
    assert caption.tokens[0].strip() == "a"


def test_what_lies_inside_adds_up(captioner: NetworkCaptioner) -> None:
    info = captioner.info()
    module = captioner._network.module
    assert info.parameters == sum(p.numel() for p in module.parameters()) == sum(a.elements for a in info.arrays)
    assert sum(info.layer_types.values()) == sum(1 for m in module.modules() if not any(m.children()))
    shapes = dict(info.shapes)
    model_input = captioner.preprocess(Picture(Image.new("RGB", (64, 48)), "blank"))
    num_patches = len(model_input.layout.boxes)
    assert shapes["pixel_values"] == (1, *model_input.pixel_values.shape)
    prefix = captioner._network.num_prefix_tokens
    assert shapes["encoder_hidden_states"][1] == prefix + num_patches
    kind = captioner.spec.capabilities.attention_kind
    assert shapes[f"{kind}_attentions"] == (1, 4, 5, prefix + num_patches)
    assert info.precision == "float32"
    assert info.device == "cpu"
    assert isinstance(info.tokenizer["vocabulary"], int)


def test_what_the_architecture_does_not_allow_is_refused(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    ours = tiny_captioners["patch_captioner"]
    blind = replace(ours.spec, capabilities=Capabilities(supports_prompt=False, attention_kind=None))
    captioner = NetworkCaptioner(blind, ours._network)
    (features,) = captioner.encode([drawing(0)])
    (caption,) = captioner.decode(features, [""], GREEDY)
    with pytest.raises(CapabilityError, match="no attention"):
        captioner.trace(features, caption)
    with pytest.raises(CapabilityError, match="takes no prompt"):
        captioner.decode(features, ["dog"], GREEDY)


@pytest.mark.parametrize("method", EXPLANATIONS)
def test_an_explanation_has_a_map_for_each_position_asked_for(
    captioner: NetworkCaptioner, features: ImageFeatures, method: str
) -> None:
    picture = drawing(0)
    (caption,) = captioner.decode(features, ["a photo of"], GREEDY)
    assert method in captioner.spec.capabilities.explanation_methods
    last = len(caption.token_ids) - 1
    maps = captioner.explain(picture, caption, [0, last, 2], method)
    assert maps.shape == (3, len(features.layout.boxes))
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.std(axis=-1).max() > 0, "flat maps would hide mistakes"
    for place, position in enumerate([0, last, 2]):
        alone = captioner.explain(picture, caption, [position], method)
        np.testing.assert_allclose(maps[place], alone[0], rtol=1e-4, atol=1e-6 * float(maps.max()))
    assert captioner.explain(picture, caption, [], method).shape == (0, maps.shape[1])


@pytest.mark.parametrize("method", EXPLANATIONS)
def test_an_explanation_is_of_this_picture_and_of_what_stands_before_the_token(
    captioner: NetworkCaptioner, features: ImageFeatures, method: str
) -> None:
    caption = captioner.caption_from_text(features, "", "the woman walks in the park with a dog")
    shorter = captioner.caption_from_text(features, "", "the woman walks in the park")
    position = len(shorter.token_ids) - 1
    whole = captioner.explain(drawing(0), caption, [position], method)
    before = captioner.explain(drawing(0), shorter, [position], method)
    np.testing.assert_allclose(whole, before, rtol=1e-3, atol=1e-5 * float(whole.max()))
    other = captioner.explain(drawing(9), caption, [position], method)
    assert not np.allclose(whole, other, rtol=1e-3)


@pytest.mark.parametrize("method", EXPLANATIONS)
def test_explaining_leaves_the_model_as_it_was(
    captioner: NetworkCaptioner, features: ImageFeatures, method: str
) -> None:
    before = captioner.decode(features, PROMPTS, GREEDY)
    captioner.explain(drawing(0), before[1], [0], method)
    module = captioner._network.module
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in module.parameters())
    hooks = [len(part._forward_hooks) for part in module.modules()]  # transformers keeps some of its own
    captioner.explain(drawing(0), before[1], [0], method)
    assert [len(part._forward_hooks) for part in module.modules()] == hooks
    after = captioner.decode(captioner.encode([drawing(0)])[0], PROMPTS, GREEDY)
    assert all(same_caption(one, other) for one, other in zip(before, after, strict=True))


def test_what_cannot_be_explained_is_refused(captioner: NetworkCaptioner, features: ImageFeatures) -> None:
    (caption,) = captioner.decode(features, ["a photo of"], GREEDY)
    with pytest.raises(CapabilityError, match="choose from gradient_attention, relevance, input_gradient"):
        captioner.explain(drawing(0), caption, [0], "guess")
    with pytest.raises(OptionsError, match="choose from 0 to"):
        captioner.explain(drawing(0), caption, [len(caption.token_ids)], "relevance")
    with pytest.raises(FeaturesError, match="write or type it again"):
        captioner.explain(drawing(0), replace(caption, model_id="another"), [0], "relevance")
    empty = replace(caption, token_ids=(), tokens=(), log_probs=(), alternatives=(), num_prompt_tokens=0)
    with pytest.raises(PromptError, match="empty"):
        captioner.explain(drawing(0), empty, [], "relevance")


def test_a_model_that_shows_nothing_says_so(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    ours = tiny_captioners["patch_captioner"]
    captioner = NetworkCaptioner(replace(ours.spec, capabilities=Capabilities()), ours._network)
    (features,) = captioner.encode([drawing(0)])
    (caption,) = captioner.decode(features, [""], GREEDY)
    with pytest.raises(CapabilityError, match="none but its attention"):
        captioner.explain(drawing(0), caption, [0], "relevance")


def test_a_silenced_head_changes_scores_and_is_heard_again(
    captioner: NetworkCaptioner, features: ImageFeatures
) -> None:
    (caption,) = captioner.decode(features, ["a photo of"], GREEDY)
    ones = np.ones(captioner.trace(features, caption).image_attentions.shape[:2], np.float32)
    plain = captioner.score([features], caption)
    np.testing.assert_allclose(captioner.score([features], caption, ones), plain, atol=1e-5)
    for place in np.ndindex(*ones.shape):
        mask = ones.copy()
        mask[place] = 0
        assert np.abs(captioner.score([features], caption, mask) - plain).max() > 1e-4
    np.testing.assert_allclose(captioner.score([features], caption), plain, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_precision_writes_nearly_the_same(
    tiny_folders: dict[str, Any], tiny_captioners: dict[str, NetworkCaptioner], family: str
) -> None:
    from captioning.models.sources import hub

    spec = tiny_captioners[family].spec
    half = NetworkCaptioner(spec, hub.open_network(spec, torch.device("cpu"), torch.bfloat16))
    assert half.precision == "bfloat16"
    (features,) = half.encode([drawing(0)])
    (exact,) = tiny_captioners[family].encode([drawing(0)])
    captions = half.decode(features, PROMPTS, GREEDY)
    for caption in captions:
        scores = tiny_captioners[family].score([exact], caption)[0]
        np.testing.assert_allclose(scores, caption.log_probs, atol=1.0)
        rows, whole = half.trace(features, caption), tiny_captioners[family].trace(exact, caption)
        totals = [trace.image_attentions.sum(-1) + trace.prefix_attentions for trace in (rows, whole)]
        np.testing.assert_allclose(totals[0].mean(), totals[1].mean(), atol=0.02)
