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
from captioning.attention.files import Paint, Sight, choose_view, find_positions, look, write_files
from captioning.attention.page_value import first_word
from captioning.attention.views import TRACED, Scale, View
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


def see(view: View) -> Sight:
    captioner, picture, caption = write()
    return look(captioner, picture, caption, view)


def write_all(sight: Sight, paint: Paint, folder: Path) -> list[Path]:
    return write_files(sight, paint, folder, range(len(sight.trace.caption.token_ids)))


def opened(folder: Path) -> Any:
    """What the explorer in a folder shows."""
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    return json.loads(page.split('id="cs-data">')[1].split("</script>")[0])["look"]


@pytest.mark.parametrize("method", ["attention", "attention_clean", "relevance"])
def test_every_token_has_its_picture_and_every_file_opens(tmp_path: Path, method: str) -> None:
    sight = see(View(method))
    files = write_all(sight, Paint(), tmp_path / "new" / "folder")
    names = [file.name for file in files]
    tokens = sight.trace.caption.tokens
    assert names[:4] == ["00-the.png", "01-dog.png", "02-and.png", "03-the.png"]
    assert names[len(tokens) :] == ["grid.png", "walk.gif", "trace.npz", "trace.json", "explorer.html"]
    for file in files[: len(tokens)]:
        with Image.open(file) as image:
            assert image.size == (90, 60)
    with Image.open(files[len(tokens) + 1]) as walk:
        assert walk.n_frames == len(tokens)  # type: ignore[attr-defined]
    saved = trace_from_json((tmp_path / "new" / "folder" / "trace.json").read_text(encoding="utf-8"))
    assert saved.trace.caption == sight.trace.caption
    assert saved.view == View(method)
    with np.load(tmp_path / "new" / "folder" / "trace.npz") as numbers:
        np.testing.assert_array_equal(numbers[f"map_{method}"], sight.maps)
    assert opened(tmp_path / "new" / "folder")["view"]["method"] == method


def test_only_what_was_asked_for_is_drawn(tmp_path: Path) -> None:
    paint = Paint("minimum", Brush(0.4, "viridis", smooth=False))
    files = write_files(see(View("relevance")), paint, tmp_path, (1,))
    assert [file.name for file in files if file.suffix == ".png"] == ["01-dog.png", "grid.png"]


@pytest.mark.parametrize("method", ["attention_clean", "relevance"])
def test_the_page_and_the_saved_view_open_on_what_the_pictures_show(tmp_path: Path, method: str) -> None:
    sight = see(View(method))
    write_files(sight, Paint("minimum", Brush(0.4, "viridis", smooth=False)), tmp_path, (1,))
    shown = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["shown"]
    assert (shown["chosen"], shown["scaling"], shown["colours"], shown["opacity"]) == (1, "minimum", "viridis", 0.4)
    look = opened(tmp_path)
    assert look["view"] == {"method": method, "layer": None, "head": "mean", **shown}
    assert set(look["maps"]) == {method} - set(TRACED)
    write_all(sight, Paint(), tmp_path)
    assert opened(tmp_path)["view"]["chosen"] == first_word(sight.trace.caption)


@pytest.mark.parametrize("method", ["attention", "relevance"])
@pytest.mark.parametrize("scale", ["shared", "minimum"])
def test_a_word_alone_is_drawn_on_the_scale_of_all_words(tmp_path: Path, method: str, scale: Scale) -> None:
    sight = see(View(method))
    write_all(sight, Paint(scale), tmp_path / "all")
    write_files(sight, Paint(scale), tmp_path / "one", (1,))
    assert (tmp_path / "one" / "01-dog.png").read_bytes() == (tmp_path / "all" / "01-dog.png").read_bytes()
    with np.load(tmp_path / "one" / "trace.npz") as numbers:
        np.testing.assert_array_equal(numbers[f"map_{method}"], sight.maps)


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
    assert choose_view(SPEC, None, None, None) == View()
    assert choose_view(SPEC, "relevance", None, None) == View("relevance")
    assert choose_view(SPEC, None, 1, None) == View("attention", 1, "mean")
    assert choose_view(SPEC, "attention_clean", "mean", 3) == View("attention_clean", None, 3)
    for method, layer, head in (("relevance", 1, None), ("attention", "top", None), ("attention", 0, "median")):
        with pytest.raises(OptionsError):
            choose_view(SPEC, method, layer, head)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(OptionsError, match="between 0 and 1"):
        Brush(opacity=2)
