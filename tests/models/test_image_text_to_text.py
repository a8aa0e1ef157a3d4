"""Language models that see: what they read equals their own processors' work, and every token has its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.core.errors import FeaturesError, ImageError, ModelFilesError
from captioning.core.types import DecodingOptions, ImageFeatures, Picture
from captioning.models.captioner import NetworkCaptioner
from captioning.models.families import image_text_to_text
from captioning.models.families.image_text_to_text.network import ImageTextNetwork
from captioning.models.families.image_text_to_text.views import TiledLayout
from captioning.models.sources import hub
from tests.models.test_blip import edit_json
from tests.tiny_language_models import library_inputs
from tests.tiny_models import drawing

CPU = torch.device("cpu")
KINDS = ("llava", "paligemma", "smolvlm", "idefics3", "qwen2_5_vl")
SIZES = ((60, 44), (20, 80), (32, 32), (333, 500), (170, 33))
TEXTS = ("a photo of", "The woman's dog, running!", "zebra-crossings (3) in the park.", "ünïcode 猫")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def captioner(kind: str, tiny_captioners: dict[str, NetworkCaptioner]) -> NetworkCaptioner:
    return tiny_captioners[f"image_text_to_text-{kind}"]


@pytest.fixture
def network(captioner: NetworkCaptioner) -> ImageTextNetwork:
    assert isinstance(captioner._network, ImageTextNetwork)
    return captioner._network


@pytest.fixture
def folder(kind: str, tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_folders[f"image_text_to_text-{kind}"], tmp_path / "spoiled"))


def load(folder: Path) -> ImageTextNetwork:
    return image_text_to_text.load(folder, CPU, torch.float32)


def of(tiny_captioners: dict[str, NetworkCaptioner], kind: str) -> tuple[NetworkCaptioner, ImageTextNetwork]:
    captioner = tiny_captioners[f"image_text_to_text-{kind}"]
    assert isinstance(captioner._network, ImageTextNetwork)
    return captioner, captioner._network


# What goes in


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_prompt_equal_the_librarys_own_processor(network: ImageTextNetwork, size: tuple[int, int]) -> None:
    picture = drawing(3, size)
    expected = library_inputs(network, picture, [])
    model_input = network.preprocess(picture)
    assert network.prompt_ids(model_input.layout) == expected["input_ids"][0].tolist()
    pixels = model_input.pixel_values
    if "image_grid_thw" in expected:
        pixels, expected_pixels = network.view._flatten(pixels[None]), expected["pixel_values"]  # type: ignore[attr-defined]
    else:
        expected_pixels = expected["pixel_values"][0]
    torch.testing.assert_close(pixels, expected_pixels, atol=1e-5, rtol=1e-5)


def test_states_equal_the_librarys_own_features(network: ImageTextNetwork, kind: str) -> None:
    picture = drawing(4, (90, 50))
    inputs = library_inputs(network, picture, [])
    names = {"pixel_values", "image_grid_thw", "pixel_attention_mask"} & inputs.keys()
    with torch.inference_mode():
        expected = network._parts.get_image_features(**{name: inputs[name] for name in names}).pooler_output
        states, embeds = network.encode(network.preprocess(picture).pixel_values[None])
    torch.testing.assert_close(states[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(embeds[0], states[0].mean(dim=0) / states[0].mean(dim=0).norm())


def test_an_answer_goes_on_as_if_typed_behind_the_question(network: ImageTextNetwork) -> None:
    prompt = network.prompt
    for text in TEXTS:
        ids = network.text_to_ids(text)
        blank = "" if prompt.text[-1].isspace() else " "
        whole = prompt.tokenizer.encode(f"{prompt.text}{blank}{text}", add_special_tokens=False).ids
        assert whole[-len(ids) :] == ids
        assert network.ids_to_text(ids) == text
        assert "".join(map(network.token_text, ids)).strip() == text or not text.isascii()
    assert network.text_to_ids(" ") == []


def test_a_special_token_that_a_person_types_is_text(network: ImageTextNetwork) -> None:
    ids = network.text_to_ids(f"a dog {network.prompt.image_token} {network.token_text(network.end_id)}")
    assert network.end_id not in ids
    assert network._image_id not in ids


def test_the_instruction_can_be_read_in_the_description(network: ImageTextNetwork) -> None:
    described = network.describe_tokenizer()
    assert str(described["instruction"]) in network.prompt.text


# What comes out


@pytest.mark.parametrize("size", [(60, 44), (20, 80), (64, 32)])
def test_a_trace_equals_the_picture_columns_of_the_whole_sequence(
    captioner: NetworkCaptioner, network: ImageTextNetwork, size: tuple[int, int]
) -> None:
    picture = drawing(2, size)
    (features,) = captioner.encode([picture])
    caption = captioner.caption_from_text(features, "a photo of", "the woman in the park")
    trace = captioner.trace(features, caption)
    inputs = library_inputs(network, picture, caption.token_ids)
    with torch.inference_mode():
        output = network.module(**inputs, output_attentions=True)
    is_image = inputs["input_ids"][0] == network._image_id
    rows = torch.stack(output.attentions)[:, 0][..., -len(caption.token_ids) - 1 : -1, :]
    np.testing.assert_allclose(trace.image_attentions, rows[..., is_image], atol=1e-5)
    assert trace.prefix_attentions.max() == 0
    given = torch.tensor(caption.token_ids)[:, None]
    expected = output.logits[0, -len(given) - 1 : -1].log_softmax(dim=-1).gather(1, given)[:, 0]
    np.testing.assert_allclose(captioner.score([features], caption)[0], expected, atol=1e-4)


def test_pictures_of_different_shapes_are_encoded_and_scored_together(captioner: NetworkCaptioner) -> None:
    pictures = [drawing(0, (60, 44)), drawing(1, (20, 80)), drawing(2, (64, 30)), drawing(3, (60, 44))]
    together = captioner.encode(pictures)
    (caption,) = captioner.decode(together[0], ["dog"], DecodingOptions(max_new_tokens=6))
    scores = captioner.score(together, caption)
    for picture, features, score in zip(pictures, together, scores, strict=True):
        (alone,) = captioner.encode([picture])
        torch.testing.assert_close(features.encoder_hidden_states, alone.encoder_hidden_states, atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(score, captioner.score([alone], caption)[0], atol=1e-4)


def test_a_picture_is_read_once_for_all_that_follows(captioner: NetworkCaptioner, network: ImageTextNetwork) -> None:
    (features,) = captioner.encode([drawing(7)])
    lengths: list[int] = []
    hook = network.mixers[0].register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    for options in (DecodingOptions(max_new_tokens=3), DecodingOptions(max_new_tokens=3, num_beams=2)):
        captions = captioner.decode(features, ["", "the woman"], options)
    captioner.trace(features, captions[1])
    captioner.score([features], captions[1])
    hook.remove()
    prompt = len(network.prompt_ids(features.layout))
    assert lengths.count(prompt) == 1
    assert max(length for length in lengths if length != prompt) < 20


def test_a_masked_trace_is_not_remembered(captioner: NetworkCaptioner) -> None:
    (features,) = captioner.encode([drawing(0)])
    (caption,) = captioner.decode(features, ["dog"], DecodingOptions(max_new_tokens=5))
    plain = captioner.trace(features, caption).image_attentions
    captioner.trace(features, caption, np.zeros(plain.shape[:2], np.float32))
    np.testing.assert_array_equal(captioner.trace(features, caption).image_attentions, plain)


def test_the_mean_of_equal_frames_is_the_frame(captioner: NetworkCaptioner) -> None:
    (features,) = captioner.encode([drawing(0)])
    mean = ImageFeatures.mean([features, features])
    torch.testing.assert_close(mean.encoder_hidden_states, features.encoder_hidden_states)
    options = DecodingOptions(max_new_tokens=5)
    assert captioner.decode(mean, ["dog"], options)[0].text == captioner.decode(features, ["dog"], options)[0].text


def test_frames_of_different_shapes_have_no_mean(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner, _ = of(tiny_captioners, "smolvlm")
    with pytest.raises(FeaturesError, match="in one layout"):
        ImageFeatures.mean(captioner.encode([drawing(0, (60, 44)), drawing(1, (20, 80))]))


def test_whichever_end_token_comes_ends_the_caption(
    tiny_captioners: dict[str, NetworkCaptioner], tmp_path: Path
) -> None:
    _, one_end = of(tiny_captioners, "qwen2_5_vl")
    folder = Path(shutil.copytree(str(one_end.module.name_or_path), tmp_path / "two ends"))
    edit_json(folder / "generation_config.json", lambda v: v.update(eos_token_id=[v["eos_token_id"], 0]))
    network = load(folder)
    logits = torch.randn(2, 3, 400)
    folded = network._with_one_end(logits)
    ends = network._end_ids
    assert ends == [one_end.end_id, 0]
    before, after = logits.softmax(dim=-1), folded.softmax(dim=-1)
    torch.testing.assert_close(after[..., ends[0]], before[..., ends].sum(dim=-1))
    assert after[..., ends[1]].max() == 0
    others = [token for token in range(400) if token not in ends]
    torch.testing.assert_close(after[..., others], before[..., others])


# Where it lies


def hottest_box(captioner: NetworkCaptioner, size: tuple[int, int], spot: tuple[float, float]) -> list[float]:
    """The box whose state changes most where a bright spot appears."""
    width, height = size
    plain = Image.new("RGB", size, (90, 90, 90))
    lit = plain.copy()
    left, top = int(spot[0] * width), int(spot[1] * height)
    lit.paste((255, 230, 40), (left - 4, top - 4, left + 4, top + 4))
    before, after = captioner.encode([Picture(plain, "plain"), Picture(lit, "lit")])
    change = (after.encoder_hidden_states - before.encoder_hidden_states).norm(dim=-1)
    box: list[float] = before.layout.boxes[int(change.argmax())].tolist()
    return box


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (120, 120)])
def test_a_bright_spot_lights_the_box_where_it_lies(
    captioner: NetworkCaptioner, network: ImageTextNetwork, size: tuple[int, int]
) -> None:
    mixers = [m for name, m in network.module.named_modules() if _mixes_patches(name)]
    assert mixers
    hooks = [m.register_forward_hook(lambda _, __, output: _silence(output)) for m in mixers]
    try:
        for spot in ((0.56, 0.44), (0.31, 0.69), (0.44, 0.31), (0.69, 0.56)):
            left, top, right, bottom = hottest_box(captioner, size, spot)
            assert left - 0.04 <= spot[0] <= right + 0.04, spot
            assert top - 0.04 <= spot[1] <= bottom + 0.04, spot
    finally:
        for hook in hooks:
            hook.remove()


def _mixes_patches(name: str) -> bool:
    """Whether a module lets one patch hear of another: the attention of the image encoder."""
    is_vision = any(part in name for part in ("vision_tower", "vision_model", "visual"))
    return is_vision and name.endswith(("self_attn", ".attn"))


def _silence(output: Any) -> Any:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def test_tiles_go_row_by_row_and_the_whole_picture_comes_last(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    _, network = of(tiny_captioners, "smolvlm")
    model_input = network.preprocess(drawing(0, (300, 200)))
    layout = model_input.layout
    assert isinstance(layout, TiledLayout)
    rows, columns = layout.tiles
    assert (rows, columns) == (2, 3)
    assert model_input.pixel_values.shape == (7, 3, 16, 16)
    assert layout.grid is None
    assert len(layout.boxes) == 7 * 4
    np.testing.assert_allclose(layout.boxes[0], [0, 0, 1 / 6, 1 / 4])
    np.testing.assert_allclose(layout.boxes[3], [1 / 6, 1 / 4, 1 / 3, 1 / 2])
    np.testing.assert_allclose(layout.boxes[4], [1 / 3, 0, 1 / 2, 1 / 4])  # the tile to the right
    np.testing.assert_allclose(layout.boxes[12], [0, 1 / 2, 1 / 6, 3 / 4])  # the row below
    np.testing.assert_allclose(layout.boxes[-4:], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1],
                                                   [0.5, 0.5, 1, 1]])  # fmt: skip
    ids = torch.tensor(network.prompt_ids(layout))
    assert int((ids == network._image_id).sum()) == len(layout.boxes)


def test_a_picture_that_is_not_cut_is_a_grid(folder: Path, kind: str) -> None:
    if kind != "smolvlm":
        pytest.skip("others cut nothing")
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(do_image_splitting=False))
    network = load(folder)
    picture = drawing(0, (300, 200))
    model_input = network.preprocess(picture)
    assert model_input.layout.grid == (2, 2)
    assert model_input.pixel_values.shape == (1, 3, 16, 16)
    assert network.prompt_ids(model_input.layout) == library_inputs(network, picture, [])["input_ids"][0].tolist()


def test_a_black_tile_is_a_tile(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner, network = of(tiny_captioners, "smolvlm")
    pixels = network.preprocess(drawing(0)).pixel_values[None].clone()
    pixels[0, 1] = 0
    with torch.inference_mode():
        states, _ = network.encode(pixels)
    assert states.shape[1] == len(captioner.preprocess(drawing(0)).layout.boxes)


def test_merged_patches_keep_the_shape_of_the_picture(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    _, network = of(tiny_captioners, "qwen2_5_vl")
    wide, tall = (network.preprocess(drawing(0, size)) for size in ((200, 100), (100, 200)))
    assert wide.layout.grid == (4, 8)
    assert wide.pixel_values.shape == (3, 32, 64)
    assert tall.layout.grid == (8, 4)
    np.testing.assert_allclose(wide.layout.boxes[9], [1 / 8, 1 / 4, 1 / 4, 1 / 2])


def test_a_ribbon_is_refused_by_the_shape_that_it_has(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    captioner, _ = of(tiny_captioners, "qwen2_5_vl")
    with pytest.raises(ImageError, match="2000 × 5 pixels"):
        captioner.encode([drawing(0, (2000, 5))])


def test_the_crop_of_llava_loses_the_borders(tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    _, network = of(tiny_captioners, "llava")
    layout = network.preprocess(drawing(0, (200, 100))).layout
    assert layout.boxes[:, 0].min() == pytest.approx(0.25)
    assert layout.boxes[:, 2].max() == pytest.approx(0.75)
    assert layout.grid == (4, 4)


# Files


def test_files_of_different_models_are_refused(folder: Path, kind: str) -> None:
    changes: dict[str, Any] = {
        "llava": {"crop_size": {"height": 48, "width": 48}},
        "paligemma": {"size": {"height": 48, "width": 48}},
        "smolvlm": {"max_image_size": {"longest_edge": 24}},
        "idefics3": {"max_image_size": {"longest_edge": 24}},
        "qwen2_5_vl": {"merge_size": 4},
    }
    edit_json(folder / "preprocessor_config.json", lambda v: v.update(changes[kind]))
    with pytest.raises(ModelFilesError, match="copy both from one model"):
        load(folder)


def test_a_model_that_nobody_can_ask_is_refused(folder: Path, kind: str) -> None:
    if kind == "paligemma":
        assert not (folder / "chat_template.json").exists()
        return
    (folder / "chat_template.json").unlink()
    with pytest.raises(ModelFilesError, match="no chat template"):
        load(folder)


@pytest.mark.parametrize(
    ("template", "words"),
    [("{{ raise_exception('no') }}", "cannot be used"), ("Hello", "what stands for a picture"), ("{% if %}", "cannot")],
)
def test_a_broken_template_is_refused(tiny_folders: dict[str, Path], tmp_path: Path, template: str, words: str) -> None:
    folder = Path(shutil.copytree(tiny_folders["image_text_to_text-llava"], tmp_path / "spoiled"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ModelFilesError, match=words):
        load(folder)


def test_a_template_may_lie_in_any_of_its_files(folder: Path, kind: str, network: ImageTextNetwork) -> None:
    if kind == "paligemma":
        return
    values: dict[str, str] = {}
    edit_json(folder / "chat_template.json", values.update)
    (folder / "chat_template.json").unlink()
    edit_json(folder / "tokenizer_config.json", lambda v: v.update(values))
    assert load(folder).prompt.text == network.prompt.text


def test_a_picture_that_leaves_no_room_for_words_is_refused(folder: Path, kind: str) -> None:
    edit_json(folder / "config.json", lambda v: v["text_config"].update(max_position_embeddings=20))
    with pytest.raises(ModelFilesError, match="leaves none of its positions for a caption"):
        load(folder)


def test_layers_that_slide_past_the_picture_count_as_no_room(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["image_text_to_text-paligemma"], tmp_path / "spoiled"))
    edit_json(folder / "config.json", lambda v: v["text_config"].update(sliding_window=20))
    with pytest.raises(ModelFilesError, match="leaves none of its positions for a caption"):
        load(folder)


def test_a_llava_on_another_encoder_is_refused_by_its_name(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["image_text_to_text-llava"], tmp_path / "spoiled"))
    edit_json(folder / "config.json", lambda v: v.update(vision_feature_select_strategy="full"))
    with pytest.raises(ModelFilesError, match="clip_vision_model with the choice of features 'full'"):
        load(folder)


@pytest.mark.parametrize("name", ["gemma3", "llava_next", "internvl", "blip-2"])
def test_another_model_of_the_interface_is_refused_by_its_name(
    tiny_folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(tiny_folders["image_text_to_text-llava"], tmp_path / "spoiled"))
    edit_json(folder / "config.json", lambda v: v.update(model_type=name, architectures=[f"{name}Model"]))
    with pytest.raises(ModelFilesError, match=f"another kind \\({name}Model\\)"):
        hub.resolve_spec(str(folder))
