"""The captioner that ships: small enough, offline, and seeing something in real photographs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gradio
import numpy as np
import pytest

from captioning import DecodingOptions, load_captioner, open_image
from captioning.captions.prompts import DEFAULT_PROMPTS
from captioning.core.errors import PromptError
from captioning.core.types import Caption, ImageFeatures
from captioning.models.files import embedded_folder
from captioning.serving.shared_captioner import SharedCaptioner

ROOT = Path(__file__).parents[1]
CONFIG = json.loads((embedded_folder() / "config.json").read_text(encoding="utf-8"))
ANIMALS = {"animal", "cat", "cheetah", "cougar", "dog", "leopard", "lion", "tiger"}
SAMPLES = Path(gradio.__file__).parent / "media_assets" / "images"
GREEDY = DecodingOptions()


@pytest.fixture(scope="module")
def embedded() -> SharedCaptioner:
    return load_captioner("embedded", precision="float32")


@pytest.fixture(scope="module")
def cheetah(embedded: SharedCaptioner) -> ImageFeatures:
    return embedded.encode([open_image(SAMPLES / "cheetah.jpg")])[0]


def test_it_is_small_and_whole() -> None:
    names = {path.name: path.stat().st_size for path in embedded_folder().iterdir()}
    assert set(names) == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert sum(names.values()) <= 22_000_000


def test_its_card_gives_figures_terms_and_the_command_that_reproduces_them() -> None:
    card = (embedded_folder() / "README.md").read_text(encoding="utf-8")
    for part in ("CIDEr", "BLEU-4", "evaluate captions DATA --model embedded --split dev", "research and education"):
        assert part in card


@pytest.fixture(scope="module")
def captions(embedded: SharedCaptioner) -> list[Caption]:
    """Captions of a cheetah, another one, a lion and a tower."""
    pictures = [open_image(SAMPLES / name) for name in ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")]
    return [embedded.decode(features, [""], GREEDY)[0] for features in embedded.encode(pictures)]


def test_it_tells_photographs_apart(captions: list[Caption]) -> None:
    assert len({caption.text for caption in captions}) >= 3
    *animals, tower = (bool(ANIMALS & set(caption.text.split())) for caption in captions)
    assert sum(animals) >= 2
    assert not tower


def test_its_captions_are_phrases_made_of_their_tokens(captions: list[Caption]) -> None:
    for caption in captions:
        words = caption.text.split()
        assert len(words) >= 2
        assert not any(one == two == three for one, two, three in zip(words, words[1:], words[2:], strict=False))
        assert "".join(caption.tokens).strip() == caption.text
        assert len(caption.token_ids) < GREEDY.max_new_tokens, "it ends by itself"


def test_every_default_prompt_is_continued(embedded: SharedCaptioner, cheetah: ImageFeatures) -> None:
    for prompt, caption in zip(DEFAULT_PROMPTS, embedded.decode(cheetah, DEFAULT_PROMPTS, GREEDY), strict=True):
        assert caption.text.startswith(prompt)
        assert len(caption.token_ids) > caption.num_prompt_tokens
        assert max(caption.log_probs) <= 0


def test_five_captions_in_one_batch_are_those_written_one_by_one(
    embedded: SharedCaptioner, cheetah: ImageFeatures
) -> None:
    together = embedded.decode(cheetah, ["a dog", "two", "a man in a red shirt"], GREEDY)
    alone = [load_alone().decode(cheetah, [c.prompt], GREEDY)[0] for c in together]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def load_alone() -> SharedCaptioner:
    return SharedCaptioner(load_captioner("embedded", precision="float32")._captioner)


def test_its_trace_shares_out_all_attention_over_the_grid(embedded: SharedCaptioner, cheetah: ImageFeatures) -> None:
    (caption,) = embedded.decode(cheetah, [""], GREEDY)
    trace = embedded.trace(cheetah, caption)
    layers, heads, tokens, patches = trace.image_attentions.shape
    assert trace.layout.grid is not None
    assert trace.layout.grid[0] >= 12
    assert (layers, heads) == (CONFIG["num_layers"], CONFIG["num_heads"])
    assert (tokens, patches) == (len(caption.token_ids), trace.layout.grid[0] * trace.layout.grid[1])
    assert layers >= 2
    np.testing.assert_allclose(trace.image_attentions.sum(axis=-1), 1, atol=1e-4)


def test_a_special_token_that_is_typed_stays_text(embedded: SharedCaptioner, cheetah: ImageFeatures) -> None:
    (caption,) = embedded.decode(cheetah, ["a <eos> dog"], GREEDY)
    assert caption.text.startswith("a <eos> dog")


def test_a_prompt_beyond_its_room_names_the_cure(embedded: SharedCaptioner, cheetah: ImageFeatures) -> None:
    with pytest.raises(PromptError, match="shorten it or lower max_new_tokens"):
        embedded.decode(cheetah, ["dog " * CONFIG["max_positions"]], GREEDY)


def test_the_command_line_captions_a_photograph_with_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "captioning", "caption", str(SAMPLES / "cheetah.jpg"), "--model", "embedded"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--prompt", "", "--prompt", "a photo of", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    document = json.loads(done.stdout)
    assert [c["prompt"] for c in document["captions"]] == ["", "a photo of"]
    assert all(len(c["tokens"]) == len(c["log_probs"]) > 0 for c in document["captions"])


@pytest.mark.parametrize("options", [GREEDY, DecodingOptions(num_beams=3), DecodingOptions(temperature=1.0)])
def test_the_last_word_of_a_prompt_stays_as_it_was_typed(
    embedded: SharedCaptioner, cheetah: ImageFeatures, options: DecodingOptions
) -> None:
    prompts = ["the weather today", "my grandmother", "a photo of"]
    for prompt, caption in zip(prompts, embedded.decode(cheetah, prompts, options), strict=True):
        assert not caption.text.removeprefix(prompt)[:1].isalnum()
        assert "".join(caption.tokens).strip() == caption.text, "no token that starts or fills a sequence is written"


def test_tokens_that_were_chosen_may_be_followed_by_the_end_and_typed_words_not(
    embedded: SharedCaptioner, cheetah: ImageFeatures
) -> None:
    end = embedded.end_token.token_id
    for typed in embedded.decode(cheetah, ["the weather today", "the flowers", "a photo of"], GREEDY):
        place = typed.num_prompt_tokens
        (chosen,) = embedded.decode(cheetah, [typed.token_ids[:place]], GREEDY)
        likeliest = typed.alternatives[place][0]
        assert [*chosen.token_ids, end][place] == likeliest.token_id
        if typed.token_ids[place] != likeliest.token_id:
            assert likeliest.token_id == end
