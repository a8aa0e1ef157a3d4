"""Captions as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

from captioning.export import CSV_COLUMNS, caption_record, captions_to_csv, captions_to_json
from captioning.types import Caption, DecodingOptions, ImageFeatures
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
    assert list(record) == ["image", "prompt", "text", "tokens", "token_ids", "log_probs", "seconds"]
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
