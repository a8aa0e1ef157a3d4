"""Make ready for a room with no network: everything that a tour needs is tried before anybody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator

from captioning.core.errors import DataError
from captioning.core.types import DecodingOptions
from captioning.image_map import warm_up
from captioning.media.images import open_image
from captioning.media.video import sample_frames
from captioning.serving.loading import LoadCaptioner
from captioning.ui.clip_input import list_clips
from captioning.ui.picture import list_samples
from captioning.web.links import TOUR, tour_links


def prepare(load: LoadCaptioner, model: str) -> Iterator[str]:
    """Check samples, model and map in turn, a sentence for each.

    Raises `DataError` where a sample of the tour is missing, and what loading a model raises.
    """
    check_samples()
    yield f"{len(list_samples())} photographs and {len(list_clips())} clips are here and can be read."
    started = time.perf_counter()
    captioner = load(model)
    (features,) = captioner.encode([open_image(list_samples()[0].path)])
    (caption,) = captioner.decode(features, [""], DecodingOptions())
    captioner.trace(features, caption)
    yield f"{captioner.spec.title} captions and shows its attention ({time.perf_counter() - started:.1f} s)."
    started = time.perf_counter()
    warm_up()
    yield f"Maps are compiled ({time.perf_counter() - started:.1f} s)."
    yield "Ready: the network can go."


def check_samples() -> None:
    """Raise `DataError` where a sample of the tour is missing, and `InputError` where one cannot be read."""
    there = {sample.name for sample in (*list_samples(), *list_clips())}
    files = {stop["sample"] for stop in TOUR if "." in stop["sample"]}
    if missing := sorted(files - there):
        raise DataError(f"The samples {', '.join(missing)} are missing; install the requirements anew.")
    for sample in list_samples():
        open_image(sample.path)
    for clip in list_clips():
        sample_frames(clip.path, 1)


def tour(address: str) -> str:
    """Return the tour's links, one a line, and how to present."""
    links = "\n".join(f"  {link}" for link in tour_links(address))
    return f"A tour:\n{links}\nAlt+P, or &present=1 in an address, shows it large; Page Down moves from tab to tab."
