"""Whatever text comes as a saved view: it is one that can be drawn, or there is a sentence."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from captioning.attention.export import trace_from_json, trace_to_json
from captioning.attention.views import AttentionView, view_maps
from captioning.core.errors import OptionsError
from captioning.core.types import DecodingOptions
from captioning.media.images import open_image
from captioning.tabs.attention.keeping import read_saved_view
from tests.conftest import FakeCaptioner
from tests.fuzz.damage import damaged


def saved_view() -> str:
    captioner = FakeCaptioner()
    (features,) = captioner.encode([open_image(np.zeros((8, 8, 3), np.uint8))])
    (caption,) = captioner.decode(features, ["a photo of"], DecodingOptions())
    trace, view = captioner.trace(features, caption), AttentionView("attention", 1, "max")
    return trace_to_json(trace, "dog.jpg", view, view_maps(trace, view), {"chosen": 1})


WHOLE = saved_view()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def check(text: str) -> None:
    try:
        saved = trace_from_json(text)
    except OptionsError as error:
        assert "no saved view" in str(error)
        return
    trace = saved.trace
    assert trace.image_attentions.shape[2] == len(trace.caption.tokens)
    assert trace.image_attentions.shape[3] == len(trace.layout.boxes)
    assert np.isfinite(trace.image_attentions).all()
    check_in_the_page(text)


def check_in_the_page(text: str) -> None:
    """What the page makes of the file is a request, or there is a sentence."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        file.write(text)
        file.flush()
        try:
            asked = read_saved_view(file.name, "dog.jpg", "embedded")
        except OptionsError as error:
            assert str(error).endswith(".")
        else:
            assert asked.saved_from is not None
            assert isinstance(asked.view, AttentionView)


@st.composite
def with_other_values(draw: st.DrawFn) -> str:
    """A saved view, some of whose values are others."""
    document = json.loads(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
                break
            place = inner
        place[key] = draw(VALUES)
        if not document:
            break
    return json.dumps(document)


@given(damaged([WHOLE.encode()]))
def test_a_damaged_file_is_a_view_or_a_sentence(data: bytes) -> None:
    check(data.decode("utf-8", "replace"))


@given(with_other_values())
def test_a_view_with_other_values_is_a_view_or_a_sentence(text: str) -> None:
    check(text)
