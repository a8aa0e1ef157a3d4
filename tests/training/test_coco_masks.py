"""Masks of COCO's format, and the nouns of captions that name its categories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.__main__ import main
from captioning.core.contract import OnToken, Prefix
from captioning.core.errors import DataError, OptionsError
from captioning.core.types import Caption, DecodingOptions, ImageFeatures
from captioning.media.images import open_image
from captioning.training.coco_masks import check_reader, draw_mask, match_nouns, read_outlines, show_outlined
from tests.conftest import FAKE_SPEC, FakeCaptioner

HEIGHT, WIDTH = 6, 8
POLYGON = [[1, 2, 5, 2, 5, 6, 1, 6]]
BOX = (slice(2, 6), slice(1, 5))


def runs() -> dict[str, Any]:
    """Return the mask as run lengths down the columns, which begin with pixels outside."""
    return {"size": [HEIGHT, WIDTH], "counts": [8, 4, 2, 4, 2, 4, 2, 4, 18]}


def mask() -> Any:
    result = np.zeros((HEIGHT, WIDTH), np.bool_)
    result[BOX] = True
    return result


class Says(FakeCaptioner):
    """A captioner that writes the same sentence for every picture."""

    sentence = "two men , a dog and hot dogs near the traffic lights"

    def decode(
        self,
        features: ImageFeatures,
        prefixes: Sequence[Prefix],
        options: DecodingOptions,
        on_token: OnToken | None = None,
    ) -> list[Caption]:
        return [self.caption_from_text(features, "", self.sentence) for _ in prefixes]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write annotations of two persons, a dog and a traffic light on two pictures, and of a missing third picture."""
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 3)]
    for number in (1, 2):
        Image.fromarray(np.where(mask(), 255, 30).astype(np.uint8)).resize((80, 60)).save(tmp_path / f"{number}.png")
    categories = [
        {"id": n, "name": name}
        for n, name in ((1, "person"), (10, "traffic light"), (18, "dog"), (58, "hot dog"), (90, "toothbrush"))
    ]
    outlines = [(1, 1, POLYGON), (1, 1, {"size": [HEIGHT, WIDTH], "counts": [0, 1, 47]}), (1, 18, runs())]
    outlines += [(2, 10, POLYGON), (3, 1, POLYGON)]
    annotations = [
        {"id": n, "image_id": image, "category_id": kind, "segmentation": outline, "bbox": [1, 2, 4, 4], "iscrowd": 0}
        for n, (image, kind, outline) in enumerate(outlines)
    ]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_polygons_and_both_kinds_of_runs_draw_the_same_mask() -> None:
    from pycocotools import mask as masks

    packed = masks.encode(np.asfortranarray(mask().astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    for outline in (POLYGON, runs(), packed):
        np.testing.assert_array_equal(draw_mask([outline], HEIGHT, WIDTH), mask())
    assert draw_mask([], HEIGHT, WIDTH).sum() == 0
    assert draw_mask([[[0, 0, 8, 6]], []], HEIGHT, WIDTH).sum() == 0, "two corners enclose nothing"
    corner = {"size": [HEIGHT, WIDTH], "counts": [0, 1, 47]}
    both = draw_mask([POLYGON, corner], HEIGHT, WIDTH)
    assert both.sum() == mask().sum() + 1
    assert both[0, 0]


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [3, 3], "counts": [9]},
        {"size": [HEIGHT, WIDTH], "counts": [5]},
        {"size": [HEIGHT, WIDTH], "counts": [-1, 49]},
        {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": "9999999999999999"},
        {"size": [HEIGHT, WIDTH], "counts": 10**12},
        {"counts": [48]},
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a", "b", "c", "d", "e", "f"]],
        [[float("nan")] * 6],
        7,
        None,
    ],
)
def test_a_broken_outline_is_one_clear_error(outline: Any) -> None:
    with pytest.raises(DataError, match=r"outline .* download the annotations again"):
        draw_mask([outline], HEIGHT, WIDTH)


def test_nouns_name_categories_in_plurals_synonyms_and_by_their_last_word() -> None:
    captioner = FakeCaptioner()
    ids = {"person": {1}, "traffic light": {10}, "dog": {18}, "hot dog": {58}, "sport ball": {37}, "cell phone": {77}}
    categories = {name: frozenset(one) for name, one in ids.items()}
    (features,) = captioner.encode([open_image(Image.new("RGB", (8, 8)))])

    def found(text: str, prompt: str = "") -> list[tuple[str, int]]:
        caption = captioner.caption_from_text(features, prompt, text)
        return [
            (" ".join(caption.tokens[place].strip() for place in word), min(numbers))
            for word, numbers in match_nouns(caption, categories)
        ]

    assert found("two men , a dog and hot dogs near the traffic lights") == [
        ("men", 1), ("dog", 18), ("hot dogs", 58), ("traffic lights", 10)
    ]  # fmt: skip
    assert found("a light on a cellphone, balls and a woman's phone.") == [
        ("light", 10), ("cellphone,", 77), ("balls", 37), ("woman's", 1), ("phone.", 77)
    ]  # fmt: skip
    assert found("sees it", prompt="a man") == [], "words of the prompt are not the model's own"
    assert found("hot traffic") == []


def test_a_file_names_pictures_that_are_there_and_their_outlines(file: Path) -> None:
    outlined = read_outlines(file, file.parent)
    assert [picture.path.name for picture in outlined.pictures] == ["1.png", "2.png"]
    assert outlined.num_missing == 1
    assert outlined.categories["traffic light"] == {10}
    first, second = show_outlined(Says(), outlined)
    # The men are a person of two instances; no hot dog is outlined, and no traffic light in the first picture.
    assert [[first.caption.tokens[place].strip() for place in target.word] for target in first.targets] == [
        ["men"], ["dog"]
    ]  # fmt: skip
    assert [int(target.mask.sum()) for target in first.targets] == [17, 16]
    assert [target.mask.shape for target in second.targets] == [(HEIGHT, WIDTH)]
    assert len(second.targets[0].word) == 2
    assert [
        picture.path.name for picture in read_outlines(file, [file.parent / "other", file.parent], limit=1).pictures
    ] == ["1.png"]


def test_files_that_are_no_instances_are_refused_with_the_cure(file: Path, tmp_path: Path) -> None:
    whole = json.loads(file.read_text())
    bad = tmp_path / "bad.json"

    def refused(value: Any, sentence: str) -> None:
        bad.write_text(value if isinstance(value, str) else json.dumps(value))
        with pytest.raises(DataError, match=sentence):
            read_outlines(bad, [tmp_path])

    refused("{", "is no JSON; give a COCO instances file")
    refused([], "has no list of images and none of annotations and none of categories")
    refused(whole | {"categories": 3}, "has no list of categories; give a COCO instances file")
    refused(whole | {"images": [{"id": 1}]}, "is damaged: .*file_name.*; download the annotations again")
    refused(whole | {"images": [{**whole["images"][0], "height": 0}]}, "is damaged: .*a picture of 8 × 0 pixels")
    refused(whole | {"annotations": [{"image_id": 1, "category_id": 1}]}, "boxes without outlines")
    refused(whole | {"images": whole["images"][2:]}, "No picture that bad.json names is in .*; give the folder")
    with pytest.raises(DataError, match="cannot be read"):
        read_outlines(tmp_path / "none.json", [tmp_path])
    with pytest.raises(OptionsError, match="give 1 or more"):
        read_outlines(file, [tmp_path], limit=0)


def test_a_missing_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_reader()
    monkeypatch.setattr("captioning.training.coco_masks.find_spec", lambda _: None)
    with pytest.raises(OptionsError, match="pycocotools, which is not installed; `pip install"):
        check_reader()


def test_the_command_measures_masks(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Says(replace(FAKE_SPEC, model_id="fake"))
    monkeypatch.setattr("captioning.serving.loading.load_uncached", lambda *_: fake)
    command = ["evaluate", "pointing", str(file.parent), "--masks", str(file)]
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert "DATA lacks them: 1 pictures of instances.json" in err
    assert (figures["masks"], figures["split"], figures["cases"], figures["photographs"]) == (str(file), None, 3, 2)
    assert figures["chance"] == pytest.approx((17 + 16 + 16) / 3 / 48)
    assert set(figures["methods"]) == {"attention", "attention_clean"}
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"fake in float32, {file}\n3 objects on 2 photographs")
