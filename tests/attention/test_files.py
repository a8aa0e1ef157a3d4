"""The folder of files that the command line writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.attention.drawing import Brush
from captioning.attention.export import trace_from_json
from captioning.attention.files import choose_view, find_positions, look, write_files
from captioning.attention.formats import FORMATS, Paint, Scene
from captioning.attention.page_value import first_word
from captioning.attention.views import TRACED, AttentionView, Scale
from captioning.core.errors import OptionsError
from captioning.core.types import Capabilities, Caption, DecodingOptions, Picture
from tests.conftest import FAKE_SPEC, FakeCaptioner

SPEC = replace(
    FAKE_SPEC, model_id="unmeasured", capabilities=Capabilities(explanation_methods=("gradient_attention", "relevance"))
)


def write(prompt: str = "the dog and the") -> tuple[FakeCaptioner, Picture, Caption]:
    captioner = FakeCaptioner(SPEC)
    picture = Picture(Image.new("RGB", (90, 60), (90, 120, 60)), "one", "meadow.jpg")
    (features,) = captioner.encode([picture])
    return captioner, picture, captioner.decode(features, [prompt], DecodingOptions())[0]


def see(view: AttentionView, paint: Paint | None = None, prompt: str = "the dog and the") -> Scene:
    captioner, picture, caption = write(prompt)
    return look(captioner, picture, caption, view, paint)


def opened(folder: Path) -> Any:
    """Return the explorer's page value from a folder."""
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    return json.loads(page.split('id="cs-data">')[1].split("</script>")[0])["look"]


@pytest.mark.parametrize("method", ["attention", "attention_clean", "relevance"])
def test_every_token_has_its_picture_and_every_file_opens(tmp_path: Path, method: str) -> None:
    scene = see(AttentionView(method))
    files = write_files(scene, tmp_path / "new" / "folder")
    names = [file.name for file in files]
    tokens = scene.trace.caption.tokens
    assert names[:4] == ["00-the.png", "01-dog.png", "02-and.png", "03-the.png"]
    assert names[len(tokens) :] == ["grid.png", "walk.gif", "trace.npz", "trace.json", "explorer.html"]
    for file in files[: len(tokens)]:
        with Image.open(file) as image:
            assert image.size == (90, 60)
    with Image.open(files[len(tokens) + 1]) as walk:
        assert walk.n_frames == len(tokens)  # type: ignore[attr-defined]
    saved = trace_from_json((tmp_path / "new" / "folder" / "trace.json").read_text(encoding="utf-8"))
    assert saved.trace.caption == scene.trace.caption
    assert saved.view == AttentionView(method)
    with np.load(tmp_path / "new" / "folder" / "trace.npz") as numbers:
        np.testing.assert_array_equal(numbers[f"map_{method}"], scene.maps(method).reshape(len(tokens), 4, 4))
    assert opened(tmp_path / "new" / "folder")["view"]["method"] == method


def test_only_what_was_asked_for_is_drawn(tmp_path: Path) -> None:
    paint = Paint("minimum", Brush(0.4, "viridis", smooth=False))
    files = write_files(replace(see(AttentionView("relevance"), paint), positions=(1,)), tmp_path)
    assert [file.name for file in files if file.suffix == ".png"] == ["01-dog.png", "grid.png"]


@pytest.mark.parametrize("method", ["attention_clean", "relevance"])
def test_the_page_and_the_saved_view_open_on_what_the_pictures_show(tmp_path: Path, method: str) -> None:
    scene = see(AttentionView(method), Paint("minimum", Brush(0.4, "viridis", smooth=False)))
    write_files(replace(scene, positions=(1,)), tmp_path)
    shown = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["shown"]
    assert (shown["chosen"], shown["scaling"], shown["colours"], shown["opacity"]) == (1, "minimum", "viridis", 0.4)
    look = opened(tmp_path)
    assert look["view"] == {"method": method, "layer": None, "head": "mean", **shown}
    assert set(look["maps"]) == {method} - set(TRACED)
    write_files(scene, tmp_path)
    assert opened(tmp_path)["view"]["chosen"] == first_word(scene.trace.caption)


@pytest.mark.parametrize("method", ["attention", "relevance"])
@pytest.mark.parametrize("scale", ["shared", "minimum"])
def test_a_word_alone_is_drawn_on_the_scale_of_all_words(tmp_path: Path, method: str, scale: Scale) -> None:
    scene = see(AttentionView(method), Paint(scale))
    write_files(scene, tmp_path / "all")
    write_files(replace(scene, positions=(1,)), tmp_path / "one")
    assert (tmp_path / "one" / "01-dog.png").read_bytes() == (tmp_path / "all" / "01-dog.png").read_bytes()
    with np.load(tmp_path / "one" / "trace.npz") as numbers:
        np.testing.assert_array_equal(numbers[f"map_{method}"], scene.maps(method).reshape(-1, 4, 4))


@pytest.mark.parametrize("method", ["attention", "relevance"])
def test_what_all_words_share_is_taken_off_in_numbers_as_in_pictures(tmp_path: Path, method: str) -> None:
    write_files(see(AttentionView(method), Paint("minimum")), tmp_path)
    saved = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["maps"]
    with np.load(tmp_path / "trace.npz") as numbers:
        np.testing.assert_allclose(numbers[f"map_{method}"], saved, rtol=1e-4, atol=1e-7)
    raw = see(AttentionView(method)).maps(method)
    if method == "relevance":
        np.testing.assert_allclose(np.reshape(saved, raw.shape), raw - raw.min(axis=0), rtol=1e-4, atol=1e-7)
    else:
        assert np.sum(saved) < raw.sum()


def test_pictures_of_an_earlier_caption_do_not_stay_and_other_files_do(tmp_path: Path) -> None:
    write_files(see(AttentionView(), prompt="a cat"), tmp_path)
    (tmp_path / "07-holiday.png").write_bytes(b"not ours")
    files = write_files(replace(see(AttentionView()), positions=(0,)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*(file.name for file in files), "07-holiday.png"}
    assert "01-cat.png" not in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["grid", "gif"])
def test_a_map_alone_is_alone_also_beside_others(name: str) -> None:
    known = next(known for known in FORMATS if known.name == name)
    alone = see(AttentionView(), Paint(brush=Brush(mode="map")))
    other = replace(alone, picture=Picture(Image.new("RGB", (90, 60), "red"), "two", "red.jpg"))
    assert known.make(alone) == known.make(other), "nothing of the picture shows"
    over = replace(alone, paint=Paint())
    assert known.make(over) != known.make(replace(other, paint=Paint()))


def test_a_word_is_found_wherever_it_stands_and_a_missing_one_is_refused_with_the_words() -> None:
    caption = write()[2]
    assert find_positions(caption, "The ", None)[:2] == (0, 3)
    assert find_positions(caption, None, 2) == (2,)
    assert find_positions(caption, None, None) == tuple(range(len(caption.token_ids)))
    with pytest.raises(OptionsError, match="no word 'cat'; choose from the, dog, and"):
        find_positions(caption, "cat", None)
    with pytest.raises(OptionsError, match="no token at position 99"):
        find_positions(caption, None, 99)


def test_a_view_is_what_was_asked_for_and_otherwise_what_measured_best() -> None:
    assert choose_view(SPEC, None, None, None) == AttentionView()
    assert choose_view(SPEC, "relevance", None, None) == AttentionView("relevance")
    assert choose_view(SPEC, None, 1, None) == AttentionView("attention", 1, "mean")
    assert choose_view(SPEC, "attention_clean", "mean", 3) == AttentionView("attention_clean", None, 3)
    for method, layer, head in (("relevance", 1, None), ("attention", "top", None), ("attention", 0, "median")):
        with pytest.raises(OptionsError):
            choose_view(SPEC, method, layer, head)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(OptionsError, match="between 0 and 1"):
        Brush(opacity=2)
