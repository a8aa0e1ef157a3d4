"""What the Attention tab works out, with a captioner that needs no model."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.attention.drawing import Brush
from captioning.attention.files import look, write_files
from captioning.attention.formats import Paint
from captioning.attention.page_value import (
    explorer_html,
    explorer_value,
    first_word,
    pack_weights,
    picture_file,
    share_maps,
)
from captioning.attention.views import AttentionView, view_maps
from captioning.core.cancellation import Job
from captioning.core.errors import CapabilityError, FeaturesError, ImageError, OptionsError, PromptError, Stopped
from captioning.core.settings import Settings
from captioning.core.types import Capabilities, CaptionTrace, PatchLayout
from captioning.tabs.attention.asking import ask_again
from captioning.tabs.attention.believing import belief_value, measure_word, same_word, untrained_twin
from captioning.tabs.attention.keeping import read_saved_view, render_file
from captioning.tabs.attention.looking import Asked, Seen, Sight, is_large, look_again, look_at, read_view
from captioning.ui.clip_parts import PanelState
from tests.conftest import FAKE_SPEC, FakeLoader

VIEW: dict[str, Any] = {
    "positions": [3],
    "method": "attention",
    "layer": None,
    "head": "mean",
    "scaling": "shared",
    "colours": "magma",
    "opacity": 0.6,
    "smooth": True,
    "merged": False,
    "mode": "overlay",
}


def make_job() -> Job[Any]:
    return Job(threading.Event())


@pytest.fixture
def explaining_loader(monkeypatch: pytest.MonkeyPatch) -> FakeLoader:
    """Loads a fake captioner that also explains."""
    spec = replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("gradient_attention", "relevance")))
    monkeypatch.setattr("tests.conftest._fake_spec", lambda name: replace(spec, model_id=name))
    return FakeLoader()


@pytest.fixture
def asked(photo: Path) -> Asked:
    return Asked(str(photo), "auto", "a photography of")


@pytest.fixture
def seen(fake_loader: FakeLoader, asked: Asked) -> Seen:
    return look_at(fake_loader, asked, make_job())[0]


@pytest.fixture
def sight(fake_loader: FakeLoader, seen: Seen) -> Sight:
    return look_again(fake_loader, seen, lambda _: None)


# ---- looking ----


@pytest.mark.parametrize(("word", "chosen"), [("Of", 2), ("2", 1), (" a ", 0)])
def test_looking_begins_at_the_word_or_the_place_that_was_named(
    fake_loader: FakeLoader, asked: Asked, word: str, chosen: int
) -> None:
    seen, _, _ = look_at(fake_loader, replace(asked, word=word), make_job())
    assert seen.paint == {"chosen": chosen}


@pytest.mark.parametrize("word", ["", "zebra", "0", "99", "-1", "<b>"])
def test_a_word_that_is_not_in_the_caption_changes_nothing(fake_loader: FakeLoader, asked: Asked, word: str) -> None:
    seen, _, _ = look_at(fake_loader, replace(asked, word=word), make_job())
    assert seen.paint == {}


def test_a_caption_is_written_typed_or_carried_over(fake_loader: FakeLoader, asked: Asked) -> None:
    written, _, status = look_at(fake_loader, asked, make_job())
    assert written.caption.prompt == "a photography of"
    assert written.caption.num_prompt_tokens == 3
    assert status.encoded_images == 1
    typed, _, _ = look_at(fake_loader, replace(asked, text="two small trees"), make_job())
    assert typed.caption.text == "a photography of two small trees"
    assert typed.look_id != written.look_id
    carried, _, _ = look_at(fake_loader, replace(asked, caption=written.caption), make_job())
    assert carried.look_id == written.look_id


def test_a_model_in_a_folder_is_asked_again_by_the_name_it_was_asked_for(asked: Asked) -> None:
    class FolderLoader(FakeLoader):
        """A folder's model is called by its whole path, and shared by the name that was written."""

        names: list[str]

        def __call__(self, model_id: str = "auto", **options: Any) -> Any:
            self.names.append(model_id)
            captioner = super().__call__("embedded", **options)
            self.fakes["embedded"].spec = replace(FAKE_SPEC, model_id="/srv/models/mine")
            return captioner

    loader = FolderLoader()
    loader.names = []
    seen, _, _ = look_at(loader, replace(asked, model_id="./mine"), make_job())
    look_again(loader, seen, lambda _: None)
    ask_again(loader, seen, "hidden", 0.25, VIEW, make_job())
    assert set(loader.names) == {"./mine"}
    by_default, _, _ = look_at(loader, asked, make_job())
    assert by_default.model_id == "/srv/models/mine", "what `auto` stood for, whatever it stands for then"


def test_a_caption_of_another_picture_or_model_is_refused(fake_loader: FakeLoader, asked: Asked, seen: Seen) -> None:
    other_picture = replace(seen.caption, image_id="another")
    with pytest.raises(FeaturesError, match="another picture than"):
        look_at(fake_loader, replace(asked, caption=other_picture), make_job())
    other_model = replace(seen.caption, model_id="nobody/else")
    with pytest.raises(FeaturesError, match="written by nobody/else"):
        look_at(fake_loader, replace(asked, caption=other_model), make_job())


def test_an_empty_caption_is_refused(fake_loader: FakeLoader, asked: Asked, seen: Seen) -> None:
    empty = replace(seen.caption, token_ids=(), tokens=(), log_probs=(), alternatives=(), num_prompt_tokens=0)
    with pytest.raises(PromptError, match="caption is empty"):
        look_at(fake_loader, replace(asked, caption=empty), make_job())
    with pytest.raises(PromptError, match="too long"):
        look_at(fake_loader, replace(asked, text="word " * 100), make_job())


def test_a_model_without_attention_says_so(fake_loader: FakeLoader, asked: Asked) -> None:
    fake_loader("embedded")
    blind = replace(FAKE_SPEC, capabilities=Capabilities(attention_kind=None))
    fake_loader.fakes["embedded"].spec = blind
    with pytest.raises(CapabilityError, match="no attention to its picture"):
        look_at(fake_loader, asked, make_job())


def test_a_look_that_nobody_waits_for_ends(fake_loader: FakeLoader, asked: Asked) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        look_at(fake_loader, asked, Job(stop))


@pytest.mark.parametrize(
    "broken",
    [
        {"positions": []},
        {"positions": [99]},
        {"positions": ["<b>"]},
        {"positions": None},
        {"method": "magic"},
        {"layer": 2},
        {"layer": "0"},
        {"head": 3},
        {"head": "strongest"},
        {"head": True},
    ],
)
def test_a_view_that_the_page_would_not_send_is_refused(sight: Sight, broken: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match="no view of this caption"):
        read_view({**VIEW, **broken}, sight.trace, sight.spec)


def test_a_view_is_read(sight: Sight) -> None:
    view, positions, paint = read_view({**VIEW, "layer": 1, "head": 2}, sight.trace, sight.spec)
    assert (view.method, view.layer, view.head, positions) == ("attention", 1, 2, (3,))
    assert paint["colours"] == "magma"
    nothings: tuple[Any, ...] = (None, [], "view", {})
    for nothing in nothings:
        with pytest.raises(OptionsError):
            read_view(nothing, sight.trace, sight.spec)


# ---- what travels ----


def test_the_weights_travel_with_scales_shares_and_the_mean_of_layers(sight: Sight) -> None:
    trace = sight.trace
    layers, heads, tokens, patches = trace.image_attentions.shape
    data = pack_weights(trace)
    rows = (layers + 1) * heads * tokens
    assert len(data) == rows * (12 + patches)
    numbers = np.frombuffer(data, "<f4", 3 * rows).reshape(3, layers + 1, heads, tokens)
    levels = np.frombuffer(data, np.uint8, offset=12 * rows).reshape(layers + 1, heads, tokens, patches)
    whole = np.concatenate((trace.image_attentions, trace.image_attentions.mean(axis=0, keepdims=True)))
    assert np.abs(levels * numbers[0][..., None] - whole).max() <= whole.max() / 255
    np.testing.assert_allclose(numbers[1], whole.sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(numbers[1] + numbers[2], 1, atol=1e-5)
    assert struct.unpack("<f", data[:4])[0] == numbers[0, 0, 0, 0]


def test_a_look_says_what_there_is_and_survives_json(sight: Sight, seen: Seen) -> None:
    look = explorer_value(
        sight.trace, sight.spec, sight.picture, seen.view, importance={(3,): np.ones((2, 3), np.float32)}
    )
    assert json.loads(json.dumps(look)) == look
    assert (look["layers"], look["heads"], look["patches"], look["prefix"]) == (2, 3, 16, 1)
    assert (look["grid"], look["region"]) == ([4, 4], [0, 0, 1, 1])
    assert [token for token, _ in look["tokens"]] == list(seen.caption.tokens)
    offered = {method["name"]: method["off"] for method in look["methods"]}
    assert offered["attention"] == ""
    assert offered["relevance"] == "not offered by this model"
    assert "was not measured for this model" in look["heading"]
    assert set(look["importance"]) == {"3"}


def test_it_opens_on_the_first_word_that_names_something(seen: Seen) -> None:
    caption = replace(
        seen.caption, tokens=("a", " photo", " of", " a", " dog", " runs", " the", " tall", " grass", " near")
    )
    assert first_word(caption) == 4
    assert first_word(replace(caption, tokens=("a",) * 10)) == 3
    assert first_word(replace(caption, num_prompt_tokens=10)) == 9


def test_maps_for_files_are_scaled_as_the_page_scales_them(sight: Sight) -> None:
    trace, view = sight.trace, AttentionView()
    shared = share_maps(view_maps(trace, view))
    assert shared.min() >= 0
    assert shared.max() == 1
    mean = trace.image_attentions.mean(axis=(0, 1))
    np.testing.assert_allclose(shared, np.minimum(mean / np.quantile(mean, 0.985), 1), rtol=1e-5)
    each = share_maps(view_maps(trace, view, "per_map"), "per_map")
    assert each.min(axis=1).tolist() == [0.0] * len(each)
    assert each.max(axis=1).tolist() == [1.0] * len(each)
    above = share_maps(view_maps(trace, view, "minimum"), "minimum")
    recipe = (trace.image_attentions - trace.image_attentions.min(axis=2, keepdims=True)).mean(axis=(0, 1))
    np.testing.assert_allclose(above, np.minimum(recipe / np.quantile(recipe, 0.985), 1), atol=1e-5)


def test_what_is_too_large_is_fetched_by_layer(sight: Sight, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_large(sight.trace)
    monkeypatch.setattr("captioning.tabs.attention.looking.get_settings", lambda: Settings(attention_bytes=10))
    assert is_large(sight.trace)


# ---- files ----


@pytest.mark.parametrize(
    ("kind", "start", "name"),
    [
        ("png", b"\x89PNG", "photo-map.png"),
        ("grid", b"\x89PNG", "photo-grid.png"),
        ("gif", b"GIF8", "photo-walk.gif"),
        ("npz", b"PK", "photo-trace.npz"),
        ("json", b"{", "photo-trace.json"),
        ("html", b"<!DOCTYPE html>", "photo-explorer.html"),
    ],
)
def test_a_view_is_saved(fake_loader: FakeLoader, seen: Seen, kind: str, start: bytes, name: str) -> None:
    file_name, data = render_file(fake_loader, seen, kind, VIEW, make_job().show)
    assert data.startswith(start)
    assert file_name == name


def test_a_file_that_is_not_offered_or_a_view_that_is_none_is_refused(fake_loader: FakeLoader, seen: Seen) -> None:
    with pytest.raises(OptionsError, match="choose from png"):
        render_file(fake_loader, seen, "exe", VIEW, make_job().show)
    with pytest.raises(OptionsError, match="no view of this caption"):
        render_file(fake_loader, seen, "png", {**VIEW, "opacity": 7}, make_job().show)


def test_a_saved_view_is_opened_again(fake_loader: FakeLoader, seen: Seen, photo: Path, tmp_path: Path) -> None:
    view = {**VIEW, "layer": 1, "head": 2, "colours": "jet", "scaling": "per_map"}
    _, data = render_file(fake_loader, seen, "json", view, make_job().show)
    saved = tmp_path / "view.json"
    saved.write_bytes(data)
    again, sight, _ = look_at(fake_loader, read_saved_view(str(saved), str(photo), "auto"), make_job())
    assert again.caption == seen.caption
    assert (again.view.layer, again.view.head) == (1, 2)
    look = explorer_value(sight.trace, sight.spec, sight.picture, again.view, paint=again.paint)
    assert (look["view"]["chosen"], look["view"]["colours"], look["view"]["scaling"]) == (3, "jet", "per_map")
    assert again.look_id != seen.look_id, "it opens anew"


@pytest.mark.parametrize("text", ["", "a hat on a dog"])
def test_a_saved_view_without_its_picture_says_which_one_and_what_to_do(
    fake_loader: FakeLoader, asked: Asked, tmp_path: Path, text: str
) -> None:
    seen, _, _ = look_at(fake_loader, replace(asked, text=text), make_job())
    _, data = render_file(fake_loader, seen, "json", VIEW, make_job().show)
    saved, other = tmp_path / "view.json", tmp_path / "other.png"
    saved.write_bytes(data)
    Image.new("RGB", (50, 40), "teal").save(other)
    with pytest.raises(ImageError, match=r"saved from photo\.png.* choose that picture first, then open"):
        read_saved_view(str(saved), None, "auto")
    encoded = fake_loader.fakes["embedded"].encoded
    with pytest.raises(FeaturesError, match=r"saved from photo\.png, and other\.png is another picture; choose"):
        look_at(fake_loader, read_saved_view(str(saved), str(other), "auto"), make_job())
    assert fake_loader.fakes["embedded"].encoded == encoded, "nothing is looked at in vain"
    again, _, _ = look_at(fake_loader, read_saved_view(str(saved), seen.path, "auto"), make_job())
    assert again.caption == seen.caption


def test_a_saved_view_whose_tokens_are_not_its_text_s_is_not_opened_on_another_picture(
    fake_loader: FakeLoader, seen: Seen, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (50, 40), "teal").save(other)
    beyond = replace(seen.caption, token_ids=tuple(9_999_999 for _ in seen.caption.token_ids))
    with pytest.raises(FeaturesError, match="another picture"):
        look_at(fake_loader, Asked(str(other), "auto", "", caption=beyond, saved_from="photo.png"), make_job())


def test_what_the_command_line_saved_is_opened_too(
    fake_loader: FakeLoader, sight: Sight, seen: Seen, photo: Path, tmp_path: Path
) -> None:
    paint = Paint(brush=Brush(colour_map="viridis"))
    traced = look(sight.captioner, sight.picture, seen.caption, AttentionView(layer=1), paint)
    write_files(replace(traced, positions=(4, 5)), tmp_path / "out")
    asked = read_saved_view(str(tmp_path / "out" / "trace.json"), str(photo), "auto")
    again, _, _ = look_at(fake_loader, asked, make_job())
    assert again.view.layer == 1
    assert (again.paint["chosen"], again.paint["colours"]) == (4, "viridis")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {},
        lambda d: {**d, "kind": "other"},
        lambda d: {**d, "view": {"method": "attention", "layer": 99, "head": "mean"}},
        lambda d: {**d, "view": {"method": "attention", "layer": [1], "head": "mean"}},
        lambda d: {**d, "shown": {**d["shown"], "colours": "${alert(1)}"}},
        lambda d: {**d, "shown": {**d["shown"], "chosen": "3"}},
        lambda d: {**d, "caption": {**d["caption"], "model": "evil/model"}},
        lambda d: {**d, "caption": {**d["caption"], "image_id": "0"}},
        lambda d: {**d, "caption": {**d["caption"], "tokens": ["x"]}},
    ],
)
def test_a_hostile_or_foreign_saved_view_is_one_sentence(
    fake_loader: FakeLoader, seen: Seen, photo: Path, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    _, data = render_file(fake_loader, seen, "json", VIEW, make_job().show)
    saved = tmp_path / "view.json"
    saved.write_text(json.dumps(change(json.loads(data))))
    with pytest.raises((OptionsError, FeaturesError)):
        look_at(fake_loader, read_saved_view(str(saved), str(photo), "auto"), make_job())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_json_is_one_sentence(photo: Path, tmp_path: Path, content: bytes) -> None:
    saved = tmp_path / "view.json"
    saved.write_bytes(content)
    with pytest.raises(OptionsError, match="no saved view"):
        read_saved_view(str(saved), str(photo), "auto")
    with pytest.raises(OptionsError, match="no file"):
        read_saved_view(None, str(photo), "auto")


def test_token_numbers_from_a_file_never_reach_the_model(fake_loader: FakeLoader, asked: Asked, seen: Seen) -> None:
    beyond = replace(seen.caption, token_ids=(10**9,) * len(seen.caption.token_ids))
    again, _, _ = look_at(fake_loader, replace(asked, caption=beyond, saved_from="photo.png"), make_job())
    assert again.caption.token_ids == seen.caption.token_ids


def test_the_one_file_explorer_holds_everything_and_runs_nothing_else(sight: Sight, seen: Seen) -> None:
    hostile = replace(seen.caption, tokens=("</script><script>alert(1)</script>", *seen.caption.tokens[1:]))
    trace = replace(sight.trace, caption=hostile)
    look = explorer_value(trace, sight.spec, sight.picture, seen.view)
    page = explorer_html(look, picture_file(sight.picture), pack_weights(trace))
    assert "default-src 'none'" in page
    assert page.count("</script>") == 3, "the caption's own does not end the data"
    assert "alert(1)</script>" not in page
    assert "src=" not in page.split("<script type")[0]
    data = json.loads(page.split('id="cs-data">')[1].split("</script>")[0])
    assert data["look"]["tokens"][0][0] == hostile.tokens[0]
    off = {method["name"]: method["off"] for method in data["look"]["methods"]}
    assert off["attention"] == off["attention_clean"] == ""


# ---- more maps, belief, asking again ----


def test_other_methods_are_computed_for_every_word_with_progress(explaining_loader: FakeLoader, asked: Asked) -> None:
    from captioning.tabs.attention.looking import compute_maps

    seen, sight, _ = look_at(explaining_loader, asked, make_job())
    told: list[str] = []
    maps = compute_maps(sight, "relevance", lambda step: told.append(step.doing))
    assert maps.shape == (len(seen.caption.token_ids), 16)
    assert told[0].startswith("Relevance: word 1 of")
    assert len(told) == -(-len(maps) // 4)
    with pytest.raises(CapabilityError):
        compute_maps(sight, "magic", lambda _: None)


def test_a_word_is_measured_and_everything_is_told(explaining_loader: FakeLoader, asked: Asked) -> None:
    seen, _, _ = look_at(explaining_loader, asked, make_job())
    found, cost = measure_word(explaining_loader, seen, VIEW, make_job())
    assert found.word == seen.caption.tokens[3].strip()
    assert found.belief is not None
    assert [title for title, _, _ in found.others][-1] == "Relevance"
    assert found.importance is not None
    assert found.importance.shape == (2, 3)
    assert "silenced heads" in cost
    value = belief_value(PanelState("done", ready=True), found, cost)
    assert json.loads(json.dumps(value)) == value
    result = value["result"]
    assert [row["title"] for row in result["rows"] if row["chosen"]] == [f"{found.title} (measured)"]
    assert [row["title"] for row in result["rows"]][-2:] == ["centre blob", "random orders, mean"]
    assert len(result["curves"]["deletion"]["map"]) == 17
    assert "no untrained net" in result["notes"][0]


def test_a_word_of_two_tokens_is_measured_by_both(explaining_loader: FakeLoader, asked: Asked) -> None:
    seen, sight, _ = look_at(explaining_loader, asked, make_job())
    found, _ = measure_word(explaining_loader, seen, {**VIEW, "positions": [3, 4], "merged": True}, make_job())
    assert found.word == "".join(seen.caption.tokens[3:5]).strip()
    assert found.belief is not None
    whole = sight.captioner.score([sight.features], seen.caption)[0]
    assert found.belief.curves.deletion[0] == pytest.approx(whole[3] + whole[4])
    assert set(
        explorer_value(
            sight.trace, sight.spec, sight.picture, seen.view, importance={found.positions: np.ones((2, 3), np.float32)}
        )["importance"]
    ) == {"3,4"}


def test_measuring_keeps_no_changed_picture(fake_loader: FakeLoader, seen: Seen) -> None:
    before = fake_loader("embedded").status().cached_images
    measure_word(fake_loader, seen, VIEW, make_job())
    assert fake_loader("embedded").status().cached_images == before


def test_measuring_stops_when_nobody_waits(fake_loader: FakeLoader, seen: Seen) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        measure_word(fake_loader, seen, VIEW, Job(stop))


def test_an_untrained_twin_is_found_by_name() -> None:
    from captioning.models import get_spec

    names = ("embedded", "Salesforce/blip-image-captioning-base", "Salesforce/blip-image-captioning-large")
    twins = [untrained_twin(get_spec(name)) for name in names]
    assert twins == ["untrained:embedded", "untrained:blip-base", "untrained:blip-large"]


def test_a_word_is_found_again_in_another_tokenization(seen: Seen) -> None:
    caption = replace(
        seen.caption, tokens=("a", " dog", " runs", " near", " the", " tall", " grass", " by", " two", " x")
    )
    pieces = replace(seen.caption, tokens=("a", " d", "og", " ru", "ns", " near", " the", " tall", " grass", " by"))
    assert same_word(caption, pieces, (1,)) == (1, 2)
    assert same_word(pieces, caption, (4,)) == (2,)


@pytest.mark.parametrize(("how", "words"), [("weighted", "weighted by the map of"), ("hidden", "hottest 25% of")])
def test_a_changed_picture_is_asked_about_again(fake_loader: FakeLoader, seen: Seen, how: str, words: str) -> None:
    again = ask_again(fake_loader, seen, how, 0.25, VIEW, make_job())
    assert words in again.how
    assert again.before == seen.caption.text
    assert again.after.startswith("a photography of")
    assert again.picture.image_id != seen.caption.image_id


@pytest.mark.parametrize(("how", "share"), [("eaten", 0.25), ("hidden", 0), ("hidden", 1), ("hidden", "half")])
def test_a_change_that_is_not_offered_is_refused(fake_loader: FakeLoader, seen: Seen, how: str, share: Any) -> None:
    with pytest.raises(OptionsError):
        ask_again(fake_loader, seen, how, share, VIEW, make_job())


def test_patches_that_form_no_grid_travel_as_boxes(sight: Sight, seen: Seen) -> None:
    boxes = np.concatenate((sight.trace.layout.boxes[:8], sight.trace.layout.boxes[:8]))
    tiles = CaptionTrace(
        seen.caption, sight.trace.image_attentions, sight.trace.prefix_attentions, "self", PatchLayout(boxes)
    )
    look = explorer_value(tiles, sight.spec, sight.picture, seen.view)
    assert look["grid"] is None
    assert len(look["boxes"]) == 16
    assert look["region"] == [0, 0, 1, 0.5]
