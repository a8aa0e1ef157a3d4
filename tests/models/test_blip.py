"""BLIP: its pixels, tokens and parts are those of the library's own classes, and its files are checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import DecodingOptions
from captioning.models import get_spec
from captioning.models.captioner import NetworkCaptioner
from captioning.models.families import blip
from captioning.models.families.blip import BlipNetwork
from captioning.models.sources import hub
from tests.tiny_models import drawing

CPU = torch.device("cpu")
TEXTS = ("", "a photo of", "A PHOTO of the Woman's dog, running!", "zebra-crossings (3) in the park.", "ünïcode 猫")


@pytest.fixture(scope="module")
def network(tiny_captioners: dict[str, NetworkCaptioner]) -> BlipNetwork:
    network = tiny_captioners["blip"]._network
    assert isinstance(network, BlipNetwork)
    return network


def layers_of(network: BlipNetwork) -> list[Any]:
    module: Any = network.module
    return list(module.text_decoder.bert.encoder.layer)


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_folders["blip"], tmp_path / "spoiled"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_listing_models_imports_no_framework() -> None:
    code = (
        "import sys; from captioning.models import list_models; list_models();"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'huggingface_hub') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_registered_models_are_pinned_to_a_commit() -> None:
    for name in ("base", "large"):
        spec = get_spec(f"Salesforce/blip-image-captioning-{name}")
        assert spec.revision is not None
        assert len(spec.revision) == 40
        assert spec.license == "BSD-3-Clause"


@pytest.mark.parametrize("size", [(60, 44), (20, 80), (32, 32), (500, 333)])
def test_pixels_equal_the_librarys_own_processor(
    network: BlipNetwork, tiny_folders: Any, size: tuple[int, int]
) -> None:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    picture = drawing(3, size)
    processor = BlipImageProcessorPil.from_pretrained(tiny_folders["blip"])
    expected = processor(images=picture.image, return_tensors="np")["pixel_values"][0]
    model_input = network.preprocess(picture)
    np.testing.assert_allclose(model_input.pixel_values.numpy(), expected, atol=1e-5)
    assert model_input.layout.grid == (4, 4)


def test_tokens_equal_the_librarys_own_tokenizer(network: BlipNetwork, tiny_folders: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["blip"])
    for text in TEXTS:
        ids = network.text_to_ids(text)
        assert [2, *ids, 3] == tokenizer(text)["input_ids"]
        assert network.ids_to_text(ids) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_special_token_that_a_person_types_is_text(network: BlipNetwork) -> None:
    ids = network.text_to_ids("a dog [SEP] [PAD]")
    assert network.end_id not in ids
    assert 0 not in ids


def test_a_token_begins_with_a_space_where_it_begins_a_word(network: BlipNetwork) -> None:
    tokens = [network.token_text(token) for token in network.text_to_ids("dogs walking, now")]
    assert tokens[:2] == [" dog", "s"]
    assert "," in tokens
    assert network.token_text(network.end_id) == "[SEP]"
    assert network.token_text(network.start_ids[0]) == "[DEC]"
    assert network.token_text(network.start_ids[0] + 1) == "[ENC]"


def test_a_vocabulary_file_alone_makes_the_same_tokenizer(network: BlipNetwork, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    other = blip.load(folder, CPU, torch.float32)
    for text in TEXTS:
        assert other.text_to_ids(text) == network.text_to_ids(text)


def test_each_part_works_alone(network: BlipNetwork) -> None:
    pixels = network.preprocess(drawing(0)).pixel_values[None]
    with torch.inference_mode():
        module: Any = network.module
        states = module.vision_model(pixels).last_hidden_state
        ids = torch.tensor([[network.start_ids[0], 100, 98]])
        apart = module.text_decoder(ids, encoder_hidden_states=states).logits
        whole = module(pixel_values=pixels, input_ids=ids).logits
    torch.testing.assert_close(apart, whole)


def test_the_embedding_is_the_mean_patch(network: BlipNetwork) -> None:
    with torch.inference_mode():
        states, embeds = network.encode(network.preprocess(drawing(0)).pixel_values[None])
    mean = states[0, 1:].mean(dim=0)
    torch.testing.assert_close(embeds[0], mean / mean.norm())


def test_keys_of_the_picture_are_computed_once(network: BlipNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    (layer, *_) = layers_of(network)
    sizes: list[int] = []
    hook = layer.crossattention.self.key.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    with torch.inference_mode():
        states, _ = network.encode(network.preprocess(drawing(0)).pixel_values[None])
        cache = network.start(states.expand(5, -1, -1))
        for length in (1, 2):
            ids = torch.full((5, 1), 100)
            network.step(ids, torch.ones(5, length, dtype=torch.long), cache)
    hook.remove()
    assert sizes == [1]


def test_rows_of_different_pictures_stay_with_theirs(network: BlipNetwork) -> None:
    pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(3)])
    with torch.inference_mode():
        states, _ = network.encode(pixels)
        chosen = torch.tensor([2, 2, 0, 1])
        cache = network.select(network.start(states), chosen)
        ids = torch.full((4, 1), network.start_ids[0])
        logits = network.step(ids, torch.ones_like(ids), cache)
        expected = network.step(ids, torch.ones_like(ids), network.start(states[chosen]))
    torch.testing.assert_close(logits, expected)
    assert (logits[0] - logits[2]).abs().max() > 1e-3


def test_hooks_are_gone_after_a_masked_trace(network: BlipNetwork) -> None:
    states = torch.randn(1, 17, 24)
    ids = torch.tensor([[network.start_ids[0], 100]])
    with torch.inference_mode():
        network.attend(ids, states, torch.zeros(2, 4))
    dense = [layer.crossattention.output.dense for layer in layers_of(network)]
    assert not any(layer._forward_pre_hooks for layer in dense)


def test_masking_all_heads_equals_a_picture_that_says_nothing(network: BlipNetwork) -> None:
    pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(2)])
    ids = torch.full((2, 3), network.start_ids[0])
    mask = torch.ones(2, 4)
    mask[0] = 0
    dense = layers_of(network)[1].crossattention.self.query
    seen: list[torch.Tensor] = []
    hook = dense.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        states, _ = network.encode(pixels)
        network.attend(ids, states, mask)
        network.attend(ids, states, None)
    hook.remove()
    torch.testing.assert_close(seen[0][0], seen[0][1])  # nothing of the pictures reached the second layer
    assert (seen[1][0] - seen[1][1]).abs().max() > 1e-3


def test_processor_config_serves_where_the_older_file_is_missing(folder: Path, network: BlipNetwork) -> None:
    older = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelFilesError, match=r"no preprocessor_config\.json"):
        blip.load(folder, CPU, torch.float32)
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": older}), encoding="utf-8")
    assert blip.load(folder, CPU, torch.float32).pixels == network.pixels


def test_files_of_different_models_are_refused(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(size={"height": 48, "width": 48}))
    with pytest.raises(ModelFilesError, match="48 × 48 pixels"):
        blip.load(folder, CPU, torch.float32)
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(size={"height": 32, "width": 48}))
    with pytest.raises(ModelFilesError, match="32 × 48 pixels"):
        blip.load(folder, CPU, torch.float32)
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(size=32, image_mean=None))
    with pytest.raises(ModelFilesError, match="image_mean"):
        blip.load(folder, CPU, torch.float32)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(folder: Path) -> None:
    from captioning.models.random_weights import made_up_words
    from captioning.models.tokens import make_wordpiece

    make_wordpiece(made_up_words(9000)).save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match="copy both from one model"):
        blip.load(folder, CPU, torch.float32)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFilesError, match="tokenizer"):
        blip.load(folder, CPU, torch.float32)


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
