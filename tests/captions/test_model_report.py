from __future__ import annotations

import csv
import io
import json
import math

import pytest

from captioning.captions.model_report import ARRAY_COLUMNS, array_bytes, arrays_to_csv, info_document, memory_by_part
from captioning.core.types import ModelInfo, ParameterArray
from tests.conftest import FAKE_SPEC, FakeCaptioner


def info_of(**shapes: tuple[int, ...]) -> ModelInfo:
    """A model of arrays whose names have two underscores for a dot."""
    arrays = tuple(
        ParameterArray(name.replace("__", "."), shape, "bfloat16", math.prod(shape)) for name, shape in shapes.items()
    )
    return ModelInfo(FAKE_SPEC, sum(a.elements for a in arrays), arrays, {}, {}, (), "cpu", "bfloat16")


def roles(info: ModelInfo) -> list[tuple[str, str]]:
    return [(part.name, part.role) for part in memory_by_part(info)]


def test_parts_are_named_by_what_they_do_largest_first() -> None:
    info = info_of(
        encoder__weight=(40, 10), encoder__bias=(10,), decoder__weight=(90, 10), enc_to_dec_proj__weight=(2, 2)
    )
    assert roles(info) == [
        ("decoder", "text decoder"),
        ("encoder", "image encoder"),
        ("enc_to_dec_proj", "from picture to words"),
    ]
    assert [part.num_bytes for part in memory_by_part(info)] == [1800, 820, 8]
    assert [part.arrays for part in memory_by_part(info)] == [1, 2, 1]


def test_a_name_around_everything_is_opened() -> None:
    info = info_of(
        model__vision_tower__w=(50,), model__language_model__w=(200,), model__projector__w=(5,), lm_head__w=(3,)
    )
    assert {name for name, _ in roles(info)} == {
        "model.vision_tower",
        "model.language_model",
        "model.projector",
        "lm_head",
    }


@pytest.mark.parametrize("shapes", [{}, {"weight": (3, 3)}, {"a__b__c": (5,)}])
def test_odd_models_have_parts_too(shapes: dict[str, tuple[int, ...]]) -> None:
    info = info_of(**shapes)
    assert sum(part.elements for part in memory_by_part(info)) == info.parameters


def test_the_document_is_json_and_adds_up() -> None:
    document = json.loads(json.dumps(info_document(FakeCaptioner().info())))
    assert {"parameters", "arrays", "layer_types", "shapes", "parts", "tokenizer", "spec"} <= set(document)
    assert document["parameters"] == sum(a["elements"] for a in document["arrays"])
    assert document["parameters"] == sum(p["elements"] for p in document["parts"])
    assert document["shapes"]["query"] == [5, 1, 8]


def test_the_table_has_one_row_an_array() -> None:
    info = FakeCaptioner().info()
    rows = list(csv.DictReader(io.StringIO(arrays_to_csv([info, info]))))
    assert len(rows) == 2 * len(info.arrays)
    assert tuple(rows[0]) == ARRAY_COLUMNS
    assert (rows[0]["name"], rows[0]["shape"]) == ("encoder.weight", "64×48")
    assert int(rows[0]["bytes"]) == array_bytes(info.arrays[0]) == 64 * 48 * 4
