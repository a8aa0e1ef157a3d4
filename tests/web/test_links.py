"""What the page's address may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioning.tabs import TABS
from captioning.ui.clip_input import list_clips
from captioning.ui.picture import list_samples
from captioning.web.links import TOUR, Link, linked_file, read_link, tour_links

TAB_IDS = [tab.tab_id for tab in TABS]


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ({"tab": "attention", "sample": "lion.jpg", "word": "dog"}, Link("attention", "lion.jpg", "dog")),
        ({"tab": "map"}, Link("map")),
        ({"sample": "lion.jpg"}, Link("caption", "lion.jpg")),
        ({"tab": "nowhere", "sample": "lion.jpg"}, None),
        ({"__theme": "dark", "word": "dog"}, None),
        ({}, None),
    ],
)
def test_a_link_opens_a_known_tab_and_anything_else_opens_the_page_as_ever(
    query: dict[str, str], link: Link | None
) -> None:
    assert read_link(query, TAB_IDS) == link


def test_a_sample_is_taken_by_name_only_and_by_the_tab_it_is_meant_for(tmp_path: Path) -> None:
    samples, cache = list_samples(), str(tmp_path)
    taken = linked_file(Link("caption", samples[0].name), "caption", samples, cache)
    assert taken is not None
    assert Path(taken).read_bytes() == samples[0].path.read_bytes()
    assert Path(taken).is_relative_to(tmp_path)
    assert linked_file(Link("caption", samples[0].name), "video", samples, cache) is None
    for name in ("", "nobody.jpg", "../" + samples[0].name, str(samples[0].path)):
        assert linked_file(Link("caption", name), "caption", samples, cache) is None
    assert linked_file(None, "caption", samples, cache) is None


def test_the_tour_shows_every_tab_with_samples_that_are_there() -> None:
    known = {sample.name for sample in (*list_samples(), *list_clips())} | {"photographs"}
    assert [stop["tab"] for stop in TOUR] == TAB_IDS
    assert {stop["sample"] for stop in TOUR} <= known
    assert tour_links("http://here:1/")[0].startswith("http://here:1/?tab=caption&sample=")
