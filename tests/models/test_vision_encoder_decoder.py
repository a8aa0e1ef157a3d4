"""Vision encoder-decoders: grids, projections and files as the hub has them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioning.core.errors import CaptioningError, ModelFilesError, UnknownModelError
from captioning.core.types import DecodingOptions, ModelSpec, Picture
from captioning.models import get_spec
from captioning.models.captioner import NetworkCaptioner
from captioning.models.families import vision_encoder_decoder as family
from captioning.models.families.vision_encoder_decoder import VisionEncoderDecoderNetwork
from captioning.models.sources import hub
from tests.fake_hub import FakeHub
from tests.models.conftest import open_tiny
from tests.models.test_hub import edit_json, edit_weights
from tests.tiny_models import (
    drawing,
    tiny_byte_level,
    tiny_encoder,
    write_pixel_files,
    write_tiny_encoder_decoder,
    write_tokenizer_files,
)

CPU = torch.device("cpu")
KINDS = ("vit-gpt2", "deit-bert", "swin-gpt2", "clip-gpt2")
GREEDY = DecodingOptions(max_new_tokens=8)


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of ViT with GPT-2 that a test may spoil."""
    return Path(shutil.copytree(tiny_folders["vision_encoder_decoder-vit-gpt2"], tmp_path / "spoiled"))


def network_of(captioner: NetworkCaptioner) -> VisionEncoderDecoderNetwork:
    assert isinstance(captioner._network, VisionEncoderDecoderNetwork)
    return captioner._network


def log_probs(captioner: NetworkCaptioner, picture: Picture) -> Any:
    (features,) = captioner.encode([picture])
    return captioner.caption_from_text(features, "", "a dog in the park").log_probs


# Registered models


def test_registered_models_are_pinned_to_a_commit() -> None:
    for name in ("nlpconnect/vit-gpt2-image-captioning", "ydshieh/vit-gpt2-coco-en"):
        spec = get_spec(name)
        assert spec.family == "vision_encoder_decoder"
        assert spec.revision is not None
        assert len(spec.revision) == 40
        assert spec.download_bytes == 982_000_000


def test_a_pinned_revision_may_have_pickled_weights_and_they_are_read_as_tensors_only(
    fake_hub: FakeHub, folder: Path
) -> None:
    from safetensors.torch import load_file

    expected = log_probs(open_tiny(folder), drawing(0))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    spec = get_spec("ydshieh/vit-gpt2-coco-en")
    assert spec.repo_id is not None
    fake_hub.add(spec.repo_id, folder, commit=spec.revision)
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))
    assert log_probs(captioner, drawing(0)) == pytest.approx(expected, abs=1e-5)
    fake_hub.add("somebody/copy", folder)
    with pytest.raises(ModelFilesError, match="safe format"):
        hub.resolve_spec("somebody/copy")


# Grids


@pytest.mark.parametrize(
    ("vision", "image_size", "prefix", "grid"),
    [
        ("vit", [24, 40], 1, (3, 5)),
        ("vit", [40, 33], 1, (5, 4)),
        ("deit", [16, 48], 2, (2, 6)),
        ("clip", 40, 1, (5, 5)),
        ("swin", [48, 32], 0, (6, 4)),
        ("swin", [36, 26], 0, (5, 4)),
    ],
)
def test_grid_and_prefix_are_read_from_the_configuration(
    vision: str, image_size: Any, prefix: int, grid: tuple[int, int], tmp_path: Path
) -> None:
    captioner = open_tiny(write_tiny_encoder_decoder(tmp_path / vision, vision, image_size=image_size))
    (features,) = captioner.encode([drawing(0)])
    assert features.layout.grid == grid
    assert features.num_prefix_tokens == prefix
    assert features.encoder_hidden_states.shape == (prefix + grid[0] * grid[1], 32)
    caption = captioner.caption_from_text(features, "", "a dog")
    assert captioner.trace(features, caption).image_attentions.shape[-1] == grid[0] * grid[1]


@pytest.mark.parametrize("vision", ["vit", "deit", "clip", "swin"])
def test_a_state_stands_for_the_patch_in_its_box(vision: str, tmp_path: Path) -> None:
    """Before any attention, what changes within a box changes one state: no row and column are mistaken."""
    size: Any = 40 if vision == "clip" else [40, 24]
    captioner = open_tiny(write_tiny_encoder_decoder(tmp_path / vision, vision, image_size=size))
    network = network_of(captioner)
    blank = drawing(0, (480, 800))
    layout = captioner.preprocess(blank).layout
    assert layout.grid is not None
    for place in (1, layout.grid[1], len(layout.boxes) - 1):
        left, top, right, bottom = (layout.boxes[place].reshape(2, 2) * (480, 800)).ravel().round().astype(int)
        changed = blank.image.copy()
        changed.paste((255, 0, 255), (left, top, right, bottom))
        pixels = [captioner.preprocess(p).pixel_values[None] for p in (blank, Picture(changed, "changed"))]
        difference = _patch_states(network, pixels[1]) - _patch_states(network, pixels[0])
        assert difference.abs().sum(dim=-1).argmax().item() == place


def _patch_states(network: VisionEncoderDecoderNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """What a picture is before its patches see each other, averaged over each, `[patches, channels]`."""
    stem: Any = network.module.get_submodule("encoder.embeddings")
    stem = stem.patch_embedding if hasattr(stem, "patch_embedding") else stem.patch_embeddings.projection
    with torch.inference_mode():
        grid = stem(pixels)
    merged = grid.shape[-1] // network.grid.columns
    return torch.nn.functional.avg_pool2d(grid, merged)[0].flatten(1).T


@pytest.mark.parametrize(("vision", "text"), [("deit", "bert"), ("clip", "gpt2")])
def test_the_boxes_undo_the_crop(vision: str, text: str, tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner = tiny_captioners[f"vision_encoder_decoder-{vision}-{text}"]
    (features,) = captioner.encode([drawing(0, (300, 100))])
    boxes = features.layout.boxes
    if vision == "clip":
        assert boxes[:, [0, 2]].min() == pytest.approx(1 / 3)
        assert boxes[:, [0, 2]].max() == pytest.approx(2 / 3)
        assert boxes[:, [1, 3]].min() == pytest.approx(0)
    else:
        assert boxes[:, :2].min(axis=0) == pytest.approx([2 / 37, 2 / 37])
        assert boxes[:, 2:].max(axis=0) == pytest.approx([34 / 37, 34 / 37])
    upright = captioner.encode([drawing(0, (100, 300))])[0].layout.boxes
    assert not np.allclose(upright, boxes) or vision == "deit"


# The halves


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_together_equal_the_whole_forward_pass(
    kind: str, tiny_captioners: dict[str, NetworkCaptioner]
) -> None:
    captioner = tiny_captioners[f"vision_encoder_decoder-{kind}"]
    network = network_of(captioner)
    pixels = captioner.preprocess(drawing(0)).pixel_values[None]
    (features,) = captioner.encode([drawing(0)])
    caption = captioner.caption_from_text(features, "", "the woman in the park")
    ids = torch.tensor([[*network.start_ids, *caption.token_ids]])
    with torch.inference_mode():
        whole = network.module(pixel_values=pixels, decoder_input_ids=ids, output_attentions=True)
    expected = whole.logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    np.testing.assert_allclose(caption.log_probs, expected, atol=1e-4)
    trace = captioner.trace(features, caption)
    weights = torch.stack(whole.cross_attentions)[:, 0, :, :-1].numpy()
    prefix = features.num_prefix_tokens
    np.testing.assert_allclose(trace.image_attentions, weights[..., prefix:], atol=1e-5)
    np.testing.assert_allclose(trace.prefix_attentions, weights[..., :prefix].sum(-1), atol=1e-5)


def test_the_embedding_is_the_mean_patch_before_it_is_projected(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner = tiny_captioners["vision_encoder_decoder-vit-gpt2"]
    network = network_of(captioner)
    assert hasattr(network.module, "enc_to_dec_proj")
    (features,) = captioner.encode([drawing(0)])
    with torch.inference_mode():
        states = network.module.get_submodule("encoder")(
            captioner.preprocess(drawing(0)).pixel_values[None]
        ).last_hidden_state[0]
    mean = states[1:].mean(dim=0)
    torch.testing.assert_close(features.image_embeds, mean / mean.norm())
    assert features.encoder_hidden_states.shape[1] == 32 != states.shape[1]


def test_a_blank_after_the_prompt_changes_nothing(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner = tiny_captioners["vision_encoder_decoder-vit-gpt2"]
    (features,) = captioner.encode([drawing(0)])
    one, other = captioner.decode(features, ["a photo of", " a photo of  "], GREEDY)
    assert one.token_ids == other.token_ids
    assert one.tokens[:3] == ("a", " photo", " of")


# Files


def test_start_and_end_come_from_whichever_configuration_names_them(folder: Path) -> None:
    expected = network_of(open_tiny(folder))
    end = tiny_byte_level().token_to_id("<|endoftext|>")
    assert (expected.start_ids, expected.end_id) == ((end,), end)
    (folder / "generation_config.json").unlink()
    plain = network_of(open_tiny(folder))
    assert (plain.start_ids, plain.end_id) == ((end,), end)
    generation = {"decoder_start_token_id": 5, "eos_token_id": [7, 8]}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    other = network_of(open_tiny(folder))
    assert (other.start_ids, other.end_id) == ((5,), 7)


def test_a_model_that_names_no_end_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").unlink()

    def forget(values: dict[str, Any]) -> None:
        for part in (values, values["decoder"]):
            part.update(dict.fromkeys(("bos_token_id", "eos_token_id", "decoder_start_token_id")))

    edit_json(folder / "config.json", forget)
    with pytest.raises(ModelFilesError, match="decoder_start_token_id is; add it"):
        open_tiny(folder)


def test_what_old_files_hold_beside_the_weights_does_no_harm(folder: Path) -> None:
    expected = log_probs(open_tiny(folder), drawing(0))

    def age(weights: dict[str, torch.Tensor]) -> None:
        for layer in range(2):
            for attention in ("attn", "crossattention"):
                name = f"decoder.transformer.h.{layer}.{attention}"
                weights[f"{name}.bias"] = torch.ones(1, 1, 40, 40, dtype=torch.uint8)
                weights[f"{name}.masked_bias"] = torch.tensor(-1e4)
        # The converter that made the hub's safe files kept one name of weights that two layers share.
        weights["decoder.lm_head.weight"] = weights.pop("decoder.transformer.wte.weight")

    edit_weights(folder, age)
    assert log_probs(open_tiny(folder), drawing(0)) == pytest.approx(expected, abs=1e-6)


def test_a_layer_that_captions_do_without_is_left_out_where_the_files_lack_it(folder: Path) -> None:
    with_pooler = open_tiny(folder).info().parameters
    expected = log_probs(open_tiny(folder), drawing(0))
    edit_weights(folder, lambda w: [w.pop(name) for name in list(w) if "pooler" in name])
    captioner = open_tiny(folder)
    assert captioner.info().parameters == with_pooler - 24 * 24 - 24
    assert log_probs(captioner, drawing(0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop("decoder.transformer.h.1.crossattention.q_attn.weight"),
        lambda w: w.pop("enc_to_dec_proj.bias"),
        lambda w: w.update({"encoder.another": torch.zeros(3)}),
        lambda w: w.update({"encoder.embeddings.cls_token": torch.zeros(1, 1, 25)}),
    ],
    ids=["missing", "no projection", "left over", "another shape"],
)
def test_weights_that_do_not_fit_are_refused(change: Any, folder: Path) -> None:
    edit_weights(folder, change)
    with pytest.raises(ModelFilesError, match=r"do not fit config\.json"):
        open_tiny(folder)


def test_files_of_different_models_are_refused(folder: Path) -> None:
    write_pixel_files(folder, "vit", [32, 48])
    with pytest.raises(ModelFilesError, match="32 × 48 pixels"):
        open_tiny(folder)
    write_pixel_files(folder, "vit", 32)
    tokenizer = tiny_byte_level()
    tokenizer.add_tokens(["猫"])
    write_tokenizer_files(folder, tokenizer)
    with pytest.raises(ModelFilesError, match="copy both from one model"):
        open_tiny(folder)
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFilesError, match="tokenizer"):
        open_tiny(folder)


# What is refused


def write_stranger(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    return folder


def text_only(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = tiny_byte_level().get_vocab_size()
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=40, vocab_size=size)
    config.bos_token_id = config.eos_token_id = size - 1
    write_tokenizer_files(folder, tiny_byte_level())
    return write_stranger(folder, GPT2LMHeadModel(config))


def clip_without_a_decoder(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

    text = CLIPTextConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=60
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=tiny_encoder("clip").to_dict(), projection_dim=8)
    write_stranger(folder, CLIPModel(config))
    write_pixel_files(folder, "clip", 32)
    return folder


def vit_alone(folder: Path) -> Path:
    from transformers import ViTModel

    write_stranger(folder, ViTModel(tiny_encoder("vit"), add_pooling_layer=False))
    write_pixel_files(folder, "vit", 32)
    return folder


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (text_only, r"knows only text and sees no pictures \(GPT2LMHeadModel\)"),
        (clip_without_a_decoder, r"compares pictures with texts and has no decoder that writes \(CLIPModel\)"),
        (vit_alone, r"looks at pictures but has no decoder that writes \(ViTModel\)"),
    ],
)
def test_what_cannot_caption_is_refused_with_the_reason_and_the_choices(
    write: Any, reason: str, tmp_path: Path, fake_hub: FakeHub
) -> None:
    folder = write(tmp_path / "stranger")
    fake_hub.add("somebody/stranger", folder)
    for name in (str(folder), "somebody/stranger"):
        with pytest.raises(CaptioningError, match=f"stranger {reason}; choose .*vision_encoder_decoder") as caught:
            hub.resolve_spec(name)
        assert "\n" not in str(caught.value)
    assert not any("model.safetensors" in path for method, path, _ in fake_hub.requests if method == "GET")


@pytest.mark.parametrize(
    ("half", "change", "reason"),
    [
        ("encoder", {"model_type": "donut-swin"}, "looks with .*donut-swin.*choose one with vit, deit"),
        ("decoder", {"model_type": "trocr"}, "writes with .*trocr.*choose one with gpt2, bert"),
        ("decoder", {"add_cross_attention": False}, "no cross-attention"),
    ],
)
def test_halves_of_another_kind_are_refused_by_name(
    half: str, change: dict[str, Any], reason: str, folder: Path, fake_hub: FakeHub
) -> None:
    edit_json(folder / "config.json", lambda v: v[half].update(change))
    fake_hub.add("somebody/other", folder)
    for name in (str(folder), "somebody/other"):
        with pytest.raises(ModelFilesError, match=reason):
            hub.resolve_spec(name)


# Untrained


def test_an_unknown_untrained_name_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="vit-gpt2"):
        family.untrained("vit-gpt3", CPU, torch.float32)


@pytest.mark.slow
def test_the_untrained_model_has_the_full_shape() -> None:
    spec = hub.resolve_spec("untrained:vit-gpt2")
    assert "untrained" in spec.title
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))
    info = captioner.info()
    assert info.parameters == 239_195_904
    assert "made up" in str(info.tokenizer["origin"])
    assert info.tokenizer["end token"] == "<|endoftext|>"
    assert info.tokenizer["vocabulary"] == 50_257
    shapes = dict(info.shapes)
    assert shapes["encoder_hidden_states"] == (1, 197, 768)
    assert shapes["cross_attentions"] == (1, 12, 5, 197)
    (features,) = captioner.encode([drawing(0)])
    captions = captioner.decode(features, ["", "a photo of"], DecodingOptions(max_new_tokens=4))
    assert captioner.trace(features, captions[1]).image_attentions.shape[::3] == (12, 196)


# A fresh pair


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("halves")
    return {
        "vit": vit_alone(root / "vit"),
        "clip": clip_without_a_decoder(root / "clip"),
        "gpt2": text_only(root / "gpt2"),
        "bert": masked_bert(root / "bert"),
    }


def masked_bert(folder: Path) -> Path:
    from transformers import BertConfig, BertForMaskedLM

    from captioning.models.tokens import make_wordpiece
    from tests.tiny_models import blip_words

    tokenizer = make_wordpiece(blip_words())
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=40, **shape)
    write_tokenizer_files(folder, tokenizer)
    return write_stranger(folder, BertForMaskedLM(config))


@pytest.mark.parametrize(("vision", "text", "width"), [("vit", "gpt2", 32), ("clip", "bert", 24)])
def test_a_fresh_pair_writes_nonsense_that_is_always_the_same_and_says_why(
    vision: str, text: str, width: int, halves: dict[str, Path]
) -> None:
    name = f"pair:{halves[vision]}+{halves[text]}"
    spec = hub.resolve_spec(name)
    assert (spec.model_id, spec.family) == (name, "vision_encoder_decoder")
    assert "never trained together" in spec.title
    assert "nonsense" in spec.summary
    assert "cross-attention" in spec.summary
    one, other = (NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32)) for _ in range(2))
    (features,) = one.encode([drawing(0)])
    assert features.encoder_hidden_states.shape == (17, width)
    captions = [c.decode(features, ["", "a photo of"], GREEDY) for c in (one, other)]
    assert [c.token_ids for c in captions[0]] == [c.token_ids for c in captions[1]]
    trace = one.trace(features, captions[0][1])
    np.testing.assert_allclose(trace.image_attentions.sum(-1) + trace.prefix_attentions, 1, atol=1e-5)
    assert one.precision == "float32"
    assert "nobody trained it together" in str(one.info().tokenizer["origin"])


def test_both_halves_of_a_pair_keep_their_own_weights(halves: dict[str, Path]) -> None:
    from transformers import GPT2LMHeadModel, ViTModel

    spec = hub.resolve_spec(f"pair:{halves['vit']}+{halves['gpt2']}")
    network = hub.open_network(spec, CPU, torch.float32)
    assert isinstance(network, VisionEncoderDecoderNetwork)
    vision = ViTModel.from_pretrained(halves["vit"], add_pooling_layer=False).state_dict()
    text = GPT2LMHeadModel.from_pretrained(halves["gpt2"]).state_dict()
    for name, value in vision.items():
        assert torch.equal(network.module.get_submodule("encoder").state_dict()[name], value), name
    for name, value in text.items():
        assert torch.equal(network.module.get_submodule("decoder").state_dict()[name], value), name
    assert (
        hub.open_network(spec, CPU, torch.bfloat16).module.state_dict()["enc_to_dec_proj.bias"].dtype == torch.bfloat16
    )


def test_a_pair_comes_from_the_hub_as_one_download(halves: dict[str, Path], fake_hub: FakeHub) -> None:
    fake_hub.add("looks/vit", halves["vit"])
    fake_hub.add("writes/gpt2", halves["gpt2"])
    spec = hub.resolve_spec("pair:looks/vit+writes/gpt2")
    assert spec.title.startswith("looks/vit + writes/gpt2")
    assert spec.revision is not None
    assert len(spec.revision) == 81
    heard: list[hub.DownloadProgress] = []
    hub.open_network(spec, CPU, torch.float32, heard.append)
    done = [progress.done_bytes for progress in heard]
    assert done == sorted(done)
    assert {progress.total_bytes for progress in heard} == {spec.download_bytes}
    assert done[-1] == spec.download_bytes
    fake_hub.close()
    again = hub.resolve_spec("pair:looks/vit+writes/gpt2")
    assert (again.revision, again.download_bytes) == (spec.revision, 0)
    hub.open_network(again, CPU, torch.float32)


def test_halves_that_cannot_be_joined_are_refused_by_name(halves: dict[str, Path], fake_hub: FakeHub) -> None:
    with pytest.raises(ModelFilesError, match=r"gpt2 cannot be the half that looks \(GPT2LMHeadModel\); choose .*clip"):
        hub.resolve_spec(f"pair:{halves['gpt2']}+{halves['vit']}")
    with pytest.raises(ModelFilesError, match=r"clip cannot be the half that writes \(CLIPModel\); choose .*bert"):
        hub.resolve_spec(f"pair:{halves['vit']}+{halves['clip']}")
    with pytest.raises(UnknownModelError, match=r"VISION\+TEXT"):
        hub.resolve_spec("pair:one-name-only")
    with pytest.raises(UnknownModelError, match="no model 'nothing'"):
        hub.resolve_spec(f"pair:nothing+{halves['gpt2']}")
    assert fake_hub.requests == []


def test_a_half_whose_weights_are_not_all_there_is_refused(halves: dict[str, Path], tmp_path: Path) -> None:
    torn = Path(shutil.copytree(halves["gpt2"], tmp_path / "torn"))
    edit_weights(torn, lambda w: w.pop("transformer.h.1.mlp.c_fc.weight"))
    spec = hub.resolve_spec(f"pair:{halves['vit']}+{torn}")
    with pytest.raises(ModelFilesError, match="torn: the weights do not fit"):
        hub.open_network(spec, CPU, torch.float32)


# The hub itself


@pytest.mark.network
@pytest.mark.parametrize("spec", family.FAMILY.specs, ids=lambda spec: spec.title)
def test_the_pinned_revision_has_what_it_should(spec: ModelSpec) -> None:
    from captioning.models.sources.download import choose_files, list_files

    assert spec.repo_id is not None
    commit, files, _ = list_files(spec.repo_id, spec.revision)
    wanted = choose_files(files, family.FAMILY.files, spec.repo_id, allow_pickle=True)
    assert commit == spec.revision
    assert sum(file.num_bytes for file in wanted) == pytest.approx(spec.download_bytes, rel=0.05)
