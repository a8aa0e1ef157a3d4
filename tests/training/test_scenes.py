"""Scenes made of two photographs, whose object lies in a known cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captioning.attention.hiding import centre_heat
from captioning.core.errors import DataError, OptionsError
from captioning.core.types import PatchLayout
from captioning.training.data import Photo
from captioning.training.pointing import centres_inside, pointing_share
from captioning.training.scenes import GRID, SCENE_SIDE, load_scenes, plan_scenes, show_scenes
from captioning.training.things import singular, things_named, usual_name
from tests.conftest import FakeCaptioner

KINDS = [Photo(f"kinds/{n}.jpg", "dev", ("lamp", "car", "face of a person")[n % 3], ()) for n in range(30)]
PEOPLE = [
    Photo(f"people/{n}.jpg", "dev", "", (("Two cars .", "a street"), ("A man .",), ("a lake",))[n % 3])
    for n in range(30)
]


def test_the_same_seed_plans_the_same_scenes() -> None:
    photos = [*KINDS, *PEOPLE]
    assert plan_scenes(photos, 50, 3) == plan_scenes(photos, 50, 3)
    assert plan_scenes(photos, 50, 3) != plan_scenes(photos, 50, 4)
    assert plan_scenes(photos, 90)[:50] == plan_scenes(photos, 50)


def test_every_cell_is_as_likely_and_photographs_take_turns() -> None:
    scenes = plan_scenes([*KINDS, *PEOPLE], 900)
    cells = np.bincount([scene.cell for scene in scenes], minlength=GRID * GRID)
    assert len(cells) == GRID * GRID
    assert cells.min() > 70
    assert len({scene.thing.name for scene in scenes[:30]}) == 30
    assert len({scene.background.name for scene in plan_scenes([*KINDS, *PEOPLE], 15)}) == 15


def test_nothing_of_the_kind_lies_behind_a_thing() -> None:
    for scene in plan_scenes([*KINDS, *PEOPLE], 60):
        assert scene.background.captions
        assert (scene.thing.class_name, scene.background.captions[0]) not in (
            ("car", "Two cars ."),
            ("face of a person", "A man ."),
        )


def test_without_captions_another_class_lies_behind() -> None:
    for scene in plan_scenes(KINDS, 60):
        assert scene.background.class_name != scene.thing.class_name
    near = [Photo("a", "dev", "red anchor", ()), Photo("b", "dev", "", ("red field, an anchor",))]
    assert {scene.background.name for scene in plan_scenes(near, 3)} == {"b"}  # it does not hold the name as a whole


def test_photographs_that_make_no_scene_are_refused() -> None:
    with pytest.raises(DataError, match="none; choose another split or folder"):
        plan_scenes(PEOPLE, 5)
    with pytest.raises(DataError, match="behind a lamp, because all show one; add photographs"):
        plan_scenes(KINDS[:1], 5)


def test_the_thing_lies_in_its_cell_and_its_words_are_looked_at(data_folder: Path) -> None:
    scenes = load_scenes(data_folder, "dev", 12)
    assert scenes.scenes == load_scenes(data_folder, "dev", 12).scenes
    for scene, shown in zip(scenes.scenes, show_scenes(FakeCaptioner(), scenes), strict=True):
        assert shown.photograph == scene.thing.name
        (target,) = shown.targets
        article = "an" if scene.thing.class_name[0] in "aeiou" else "a"
        assert shown.caption.text == f"a photo of {article} {scene.thing.class_name}"
        assert [shown.caption.tokens[place].strip() for place in target.word] == scene.thing.class_name.split()
        assert target.mask.mean() == 1 / 9
        pixels, plain = np.asarray(shown.picture.image), scenes.backgrounds[scene.background.name]
        assert pixels.shape == (SCENE_SIDE, SCENE_SIDE, 3)
        np.testing.assert_array_equal(pixels[~target.mask], plain[~target.mask])
        np.testing.assert_array_equal(
            pixels[target.mask].reshape(128, 128, 3), scenes.things[scene.thing.name], strict=True
        )
        rows, columns = np.nonzero(target.mask)
        assert divmod(scene.cell, GRID) == (rows.min() // 128, columns.min() // 128)


def test_the_centre_hits_one_cell_of_nine() -> None:
    layout = PatchLayout.from_grid(14, 14)
    masks = np.eye(9, dtype=np.bool_).reshape(9, 3, 3)
    hits = [pointing_share(centre_heat(layout), centres_inside(mask, layout)) for mask in masks]
    assert hits == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_photographs_that_are_missing_or_broken_are_named(data_folder: Path) -> None:
    with pytest.raises(OptionsError, match="0 scenes"):
        load_scenes(data_folder, "dev", 0)
    for number in range(12, 18):
        (data_folder / "people" / f"{number}.jpg").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"people/1\d.jpg in .* is not a readable picture"):
        load_scenes(data_folder, "dev", 6)
    for number in range(12, 18):
        (data_folder / "people" / f"{number}.jpg").unlink()
    with pytest.raises(DataError, match="names are missing: first people/1"):
        load_scenes(data_folder, "dev", 6)


def test_plurals_and_synonyms_name_the_same_thing() -> None:
    words = {"dogs": "dog", "buses": "bus", "glass": "glass", "benches": "bench", "puppies": "puppy", "ties": "tie"}
    assert {word: singular(word) for word in words} == words
    assert {usual_name(word) for word in ("women", "boy", "people", "kids")} == {"person"}
    assert things_named("The man's bikes, near 2 planes!") == {"the", "person", "bicycle", "near", "2", "airplane"}
