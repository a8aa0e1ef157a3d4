"""Captions and attention as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import numpy as np
import pytest

from captioning.attention.export import trace_from_json, trace_to_json, trace_to_npz
from captioning.attention.views import AttentionView, select, view_maps
from captioning.captions.export import CSV_COLUMNS, caption_record, captions_to_csv, captions_to_json
from captioning.core.errors import OptionsError
from captioning.core.types import Caption, CaptionTrace, DecodingOptions, ImageFeatures
from tests.conftest import FakeCaptioner

FeaturesOf = Callable[[FakeCaptioner, str], ImageFeatures]
OPTIONS = DecodingOptions(temperature=0.7, seed=11, num_captions=2)


def write(features_of: FeaturesOf, *prompts: str) -> list[tuple[str, Caption]]:
    captioner = FakeCaptioner()
    captions = captioner.decode(features_of(captioner, "one"), prompts, OPTIONS)
    return [("dog.jpg", caption) for caption in captions]


def test_a_record_has_the_documented_fields_and_survives_json(features_of: FeaturesOf) -> None:
    name, caption = write(features_of, "a photo of")[0]
    record = caption_record(caption, name)
    assert list(record) == ["image", "prompt", "text", "tokens", "token_ids", "log_probs", "seconds", "note"]
    assert json.loads(json.dumps(record)) == record


def test_json_carries_model_revision_options_seed_and_prompt(features_of: FeaturesOf) -> None:
    document = json.loads(captions_to_json(write(features_of, "the “sky”", "")))
    assert (document["model"], document["revision"]) == ("embedded", "7")
    assert (document["options"]["seed"], document["options"]["temperature"]) == (11, 0.7)
    assert [c["prompt"] for c in document["captions"]] == ["the “sky”"] * 2 + [""] * 2
    assert len(document["captions"][0]["alternatives"][0]) == 5


def test_csv_has_one_row_a_caption_with_everything_that_made_it(features_of: FeaturesOf) -> None:
    rows = list(csv.DictReader(io.StringIO(captions_to_csv(write(features_of, 'a, "b"\nc')))))
    assert len(rows) == 2
    assert tuple(rows[0]) == CSV_COLUMNS
    assert (rows[0]["prompt"], rows[0]["seed"], rows[0]["model"], rows[0]["revision"]) == (
        'a, "b"\nc',
        "11",
        "embedded",
        "7",
    )


def test_csv_holds_nothing_that_a_spreadsheet_runs(features_of: FeaturesOf) -> None:
    rows = list(csv.DictReader(io.StringIO(captions_to_csv(write(features_of, "=1+1")))))
    assert rows[0]["prompt"] == "'=1+1"
    assert rows[0]["text"].startswith("'=1+1")


def test_no_captions_are_an_empty_document() -> None:
    assert json.loads(captions_to_json([])) == {"captions": [], "errors": []}


def make_trace(features_of: FeaturesOf) -> CaptionTrace:
    captioner = FakeCaptioner()
    features = features_of(captioner, "one")
    (caption,) = captioner.decode(features, ["a photo of"], DecodingOptions(seed=3))
    return captioner.trace(features, caption)


def test_npz_holds_the_numbers_and_how_they_came_about(features_of: FeaturesOf) -> None:
    trace = make_trace(features_of)
    maps = select(trace)
    with np.load(io.BytesIO(trace_to_npz(trace, "dog.jpg", {"attention": maps})), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["attentions"][..., 1:], trace.image_attentions)
        np.testing.assert_array_equal(file["attentions"][..., 0], trace.prefix_attentions)
        np.testing.assert_array_equal(file["map_attention"], maps.reshape(len(maps), 4, 4))
        assert file["tokens"].tolist() == list(trace.caption.tokens)
        assert file["token_ids"].tolist() == list(trace.caption.token_ids)
        about = json.loads(str(file["about"]))
    assert (about["model"], about["revision"], about["image"], about["grid"]) == ("embedded", "7", "dog.jpg", [4, 4])
    assert about["prompt"] == "a photo of"
    assert about["options"]["seed"] == 3


def test_json_reopens_the_exact_view(features_of: FeaturesOf) -> None:
    trace = make_trace(features_of)
    view, shown = AttentionView("attention", 1, "max"), {"position": 4, "colours": "jet", "opacity": 0.3}
    text = trace_to_json(trace, "dog.jpg", view, view_maps(trace, view), shown)
    np.testing.assert_allclose(np.array(json.loads(text)["maps"]).reshape(-1, 16), view_maps(trace, view), rtol=1e-5)
    saved = trace_from_json(text)
    assert saved.trace.caption == trace.caption
    assert saved.view == view
    assert saved.shown == shown
    assert saved.image == "dog.jpg"
    assert saved.trace.layout.grid == trace.layout.grid
    np.testing.assert_allclose(saved.trace.layout.boxes, trace.layout.boxes, atol=1e-8)
    np.testing.assert_allclose(saved.trace.image_attentions, trace.image_attentions, rtol=5e-4, atol=1e-7)
    np.testing.assert_allclose(saved.trace.prefix_attentions, trace.prefix_attentions, rtol=5e-4, atol=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "something else"},
        {"caption": {}},
        {"shape": [1, 1, 1, 1]},
        {"shape": [4]},
        {"attentions": "*"},
        {"attentions": ""},
        {"grid": [3, 4]},
        {"boxes": [[0, 0, 1]]},
        {"attention": "none"},
        {"view": 5},
        {"shown": 7},
    ],
)
def test_a_file_that_is_no_saved_view_is_refused(features_of: FeaturesOf, change: dict[str, object]) -> None:
    trace = make_trace(features_of)
    document = json.loads(trace_to_json(trace, "dog.jpg", AttentionView(), view_maps(trace, AttentionView())))
    with pytest.raises(OptionsError, match="no saved view"):
        trace_from_json(json.dumps(document | change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000, '{"kind": NaN}'])
def test_nonsense_is_no_saved_view(text: str) -> None:
    with pytest.raises(OptionsError, match="no saved view"):
        trace_from_json(text)
