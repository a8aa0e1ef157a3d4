"""Recipes for pixels: each equals the library's own image processor, and boxes find their way back to the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.core.errors import ModelFilesError
from captioning.core.types import PatchLayout
from captioning.models.pixels import PixelRecipe, Region, check_shape, lay_patches
from tests.tiny_models import MEAN, STD, drawing

SIZES = [(60, 44), (20, 80), (32, 32), (333, 501), (9, 31)]
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
OWN = {"image_mean": list(MEAN), "image_std": list(STD)}
CONFIGS: dict[str, dict[str, Any]] = {
    "ViT, a number": {"size": 32, "resample": 2, **HALF},
    "ViT, bicubic, not square": {"size": {"height": 24, "width": 40}, "resample": 3, **OWN},
    "ViT, values as they are": {"size": 32, "resample": 2, "do_rescale": False, "do_normalize": False},
    "ViT, not normalised": {"size": 32, "resample": 0, "do_normalize": False, "rescale_factor": 1 / 127.5},
    "DeiT, a number and a crop": {"size": 37, "crop_size": 32, "do_center_crop": True, **HALF},
    "DeiT, crop unsaid": {"size": {"height": 48, "width": 40}, "crop_size": {"height": 33, "width": 32}, **HALF},
    "CLIP, numbers": {"size": 32, "crop_size": 32, "do_center_crop": True, **OWN},
    "CLIP, named sizes": {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, **OWN},
    "CLIP, crop beyond the picture": {"size": {"shortest_edge": 21}, "crop_size": 40, **OWN},
    "CLIP, crop alone": {"do_resize": False, "size": 1, "crop_size": 33, "do_center_crop": True, **OWN},
}


def processor_of(config: str) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return {"ViT": ViTImageProcessorPil, "DeiT": DeiTImageProcessorPil, "CLIP": CLIPImageProcessorPil}[
        config.split(",")[0]
    ]


def recipe_of(name: str) -> PixelRecipe:
    return PixelRecipe.from_config({"feature_extractor_type": f"{name.split(',')[0]}FeatureExtractor", **CONFIGS[name]})


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_equal_the_librarys_own_processor(name: str) -> None:
    processor = processor_of(name)(**CONFIGS[name])
    for size in SIZES:
        picture = drawing(3, size)
        expected = processor(images=picture.image, return_tensors="np")["pixel_values"][0]
        values, _ = recipe_of(name).apply(picture.image)
        np.testing.assert_allclose(values, expected, atol=2e-5)
        assert values.dtype == np.float32
        assert values.shape == (3, *recipe_of(name).shape)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 9000)])
def test_of_a_thin_picture_only_what_is_kept_is_made_larger(size: tuple[int, int]) -> None:
    code = f"""
import resource
from PIL import Image
from captioning.models.pixels import PixelRecipe
picture = Image.linear_gradient("L").resize({size}).convert("RGB")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
values, _ = PixelRecipe(size=224, crop=(224, 224)).apply(picture)
assert values.shape == (3, 224, 224)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50


@pytest.mark.parametrize("size", [(1000, 750), (751, 1000), (401, 3000), (90, 61)])
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_what_is_kept_is_what_resizing_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], resample: Image.Resampling
) -> None:
    monkeypatch.setattr("captioning.models.pixels._MOST_PIXELS", 0)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    values, region = PixelRecipe(size=160, crop=(160, 144), resample=int(resample), scale=1.0).apply(image)
    width, height = (160 * side // min(size) for side in size)
    left, top = (width - 144) // 2, (height - 160) // 2
    whole = np.asarray(image.resize((width, height), resample), np.float32)
    difference = np.abs(values - whole[top : top + 160, left : left + 144].transpose(2, 0, 1))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert region == (left / width, top / height, (left + 144) / width, (top + 160) / height)


def test_padding_stays_about_a_thin_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, picture = PixelRecipe(size=20, crop=(40, 60), scale=1.0), drawing(3, (30, 21)).image
    whole, region = recipe.apply(picture)
    monkeypatch.setattr("captioning.models.pixels._MOST_PIXELS", 0)
    part, same = recipe.apply(picture)
    np.testing.assert_allclose(part, whole, atol=1)
    assert same == region
    assert part[:, :10].max() == part[:, :, :15].max() == 0


@pytest.mark.parametrize("name", ["ViT, a number", "DeiT, a number and a crop", "CLIP, numbers", "CLIP, named sizes"])
@pytest.mark.parametrize("size", [(320, 320), (480, 300), (250, 640)])
def test_what_lies_in_a_box_is_what_the_patch_sees(name: str, size: tuple[int, int]) -> None:
    recipe = recipe_of(name)
    blank = Image.new("RGB", size)
    dark, region = recipe.apply(blank)
    layout = lay_patches((4, 4), (8, 8), recipe.shape, region)
    assert layout.boxes.min() >= 0
    assert layout.boxes.max() <= 1
    for place in (0, 3, 6, 12, 15):
        left, top, right, bottom = (layout.boxes[place].reshape(2, 2) * size).ravel().round().astype(int)
        lit = blank.copy()
        lit.paste((255, 255, 255), (left, top, right, bottom))
        change = np.abs(recipe.apply(lit)[0] - dark).sum(axis=0)
        patches = change.reshape(4, 8, 4, 8).sum(axis=(1, 3)).ravel()
        assert patches.argmax() == place
        assert patches[place] > 0.85 * patches.sum()


def test_a_crop_leaves_the_borders_out() -> None:
    _, region = recipe_of("CLIP, numbers").apply(Image.new("RGB", (200, 100)))
    assert region == pytest.approx((0.25, 0, 0.75, 1))
    layout = lay_patches((4, 4), (8, 8), (32, 32), region)
    assert layout.boxes[0] == pytest.approx([0.25, 0, 0.375, 0.25])


def test_padding_is_no_part_of_the_picture() -> None:
    layout = lay_patches((1, 3), (10, 10), (10, 30), Region(-0.5, 0, 1.5, 1))
    np.testing.assert_allclose(layout.boxes[:, [0, 2]], [[0, 1 / 6], [1 / 6, 5 / 6], [5 / 6, 1]], atol=1e-9)
    outside = lay_patches((1, 4), (10, 10), (10, 40), Region(-0.5, 0, 1.5, 1))
    widths = outside.boxes[:, 2] - outside.boxes[:, 0]
    assert widths == pytest.approx([0, 0.5, 0.5, 0])


def test_patches_that_cover_a_picture_are_its_plain_grid() -> None:
    laid, plain = lay_patches((3, 5), (8, 8), (24, 40), Region()), PatchLayout.from_grid(3, 5)
    np.testing.assert_allclose(laid.boxes, plain.boxes)
    assert laid.grid == plain.grid


def test_patches_may_leave_a_rest_or_reach_beyond() -> None:
    rest = lay_patches((2, 2), (15, 15), (32, 32), Region())
    assert rest.boxes[-1] == pytest.approx([15 / 32, 15 / 32, 30 / 32, 30 / 32])
    beyond = lay_patches((3, 3), (15, 15), (32, 32), Region())
    assert beyond.boxes[-1] == pytest.approx([30 / 32, 30 / 32, 1, 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": {"longest_edge": 40}}, "longest_edge"),
        ({"size": {"shortest_edge": 40}}, "every shape"),
        ({"do_resize": False}, "every shape"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"image_mean": None}, "image_mean"),
        ({"image_std": [1.0]}, "image_std"),
        ({"size": None}, "None"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    config = {"image_processor_type": "ViTImageProcessor", **CONFIGS["ViT, a number"], **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelFilesError, match=reason):
        PixelRecipe.read(tmp_path)


def test_pictures_of_another_size_than_the_model_wants_are_refused() -> None:
    with pytest.raises(ModelFilesError, match=r"32 × 32 pixels and config\.json wants 24 × 40"):
        check_shape(recipe_of("ViT, a number"), (24, 40), "tiny")
