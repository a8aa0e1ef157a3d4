"""Image maps: files to features, features to positions, features to a painted map, and a click to the painted panel."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from captioning.bench.browser import WAIT_FOR_PAINT, open_chromium, open_document
from captioning.bench.result import BenchCase, BenchResult, result_with_reference, result_without_reference
from captioning.bench.setup import Setup
from captioning.bench.timing import seconds_of, take_turns

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page

    from captioning.image_map import ImageMap
    from captioning.media.collection import NamedImage

_SIZES, _MAX_QUICK_SIZE = (0, 1, 2, 3, 9, 10, 200, 2_000, 10_000), 200
_MIN_REFERENCE_SIZE = 10
_CLICKS = 8
_LARGE_SIDE, _LARGE_QUALITY = 720, 85
"""Pixels along the longer side, and JPEG quality, of a picture that is clicked."""
_CLICK = f"""async (number) => {{
  {WAIT_FOR_PAINT}
  const pictures = document.querySelectorAll('.cs-map-pictures img');
  const box = pictures[number % pictures.length].getBoundingClientRect();
  const place = {{ clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, button: 0, bubbles: true }};
  const stage = document.querySelector('.cs-map-stage');
  const large = document.querySelector('.cs-map-large');
  const isThere = () => large.getAttribute('src') && large.complete;
  await drawn();
  const started = performance.now();
  stage.dispatchEvent(new PointerEvent('pointerdown', place));
  stage.dispatchEvent(new PointerEvent('pointerup', place));
  do await drawn(); while (!isThere());
  return (performance.now() - started) / 1000;
}}"""


def _map(_: Setup, repetitions: int) -> Iterator[BenchResult]:
    """Measure collections of every size; a short run leaves out the large ones."""
    sizes = [size for size in _SIZES if repetitions >= 3 or size <= _MAX_QUICK_SIZE]
    with tempfile.TemporaryDirectory() as folder:
        images = _write_pictures(Path(folder), max(sizes))
        embeds = yield from _features(images, sizes, repetitions)
        yield from _positions(embeds, sizes, repetitions)
        with open_chromium() as browser:
            for size in sizes[1:]:  # a page draws no map of 0 pictures
                yield from _painted_map(browser, images[:size], embeds[:size], _repetitions_for(size, repetitions))


def _write_pictures(folder: Path, count: int) -> list[NamedImage]:
    """Write `count` different pictures: blocks of noise as JPEG of 320 × 240."""
    from PIL import Image

    from captioning.media.collection import NamedImage

    images = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(noise).resize((320, 240), Image.Resampling.NEAREST).save(path, quality=85)
        images.append(NamedImage(path.name, path))
    return images


def _features(
    images: Sequence[NamedImage], sizes: Sequence[int], repetitions: int
) -> Generator[BenchResult, None, NDArray[np.float32]]:
    """Measure files to features, and return the features `[images, hidden]`."""
    from captioning.image_map import embed
    from captioning.serving.loading import load_uncached

    captioner = load_uncached("embedded", "cpu")
    found = embed(captioner, images[:10])
    for size in sizes:
        times = []
        for _ in range(_repetitions_for(size, repetitions)):
            started = time.perf_counter()
            found = embed(captioner, images[:size])
            times.append(time.perf_counter() - started)
        what = f"{size:,} files (JPEG of noise, 320 × 240) to features"
        yield result_without_reference("map", times, f"{what}, embedded, {captioner.device}, {captioner.precision}")
    return found.embeds


def _positions(embeds: NDArray[np.float32], sizes: Sequence[int], repetitions: int) -> Iterator[BenchResult]:
    """Measure known features to positions."""
    from captioning.image_map import project, warm_up

    warm_up()
    for size in sizes:
        known, turns = embeds[:size], _repetitions_for(size, repetitions)
        what = f"{size:,} known features to positions"
        if size < _MIN_REFERENCE_SIZE:
            times = [seconds_of(partial(project, known)) for _ in range(turns)]
            yield result_without_reference("map", times, f"{what}, {project(known).method}")
        else:
            both = take_turns(partial(project, known), partial(_plain_umap, known), turns)
            yield result_with_reference(
                "map", *both, None, f"{what}; the reference is umap-learn's own search and start"
            )


def _painted_map(
    browser: Browser, images: Sequence[NamedImage], embeds: NDArray[np.float32], turns: int
) -> Iterator[BenchResult]:
    """Measure known features to a map painted in Chromium, and a click to the painted panel.

    The map is one file, so the time includes writing it and reading Plotly. A page that has shown a map before needs
    neither.
    """
    from captioning.image_map import lay_out

    parts: list[tuple[float, float, float, float]] = []
    clicks: list[float] = []
    answers = [_time_answer(images, embeds, number) for number in range(min(_CLICKS, len(images)))]
    for _ in range(turns):
        started = time.perf_counter()
        made = lay_out(images, embeds, [image.name for image in images])
        laid_out = time.perf_counter()
        document = _as_file(made)
        written = time.perf_counter()
        with open_document(browser, document, '.cs-map[data-map="drawn"]') as (page, opened):
            read: float = page.evaluate("performance.getEntriesByName('cs-start')[0].startTime / 1000")
            clicks += _click_pictures(page)
        parts.append((laid_out - started, written - laid_out, read, opened - read))
    count = "1 point" if len(images) == 1 else f"{len(images):,} points"
    layout, writing, reading, drawing = (median(part) for part in zip(*parts, strict=True))
    note = f"positions and groups {layout:.2f} s, drawing {drawing:.2f} s; writing its file {writing:.2f} s, reading it"
    note += f" with Plotly {reading:.2f} s"
    yield result_without_reference(
        "map", [sum(part) for part in parts], f"{count}: known features to the drawn map; {note}"
    )
    found = median(answers)
    note = f"{found * 1000:.0f} ms of it for neighbours and a picture, which the page asks the server for"
    yield result_without_reference(
        "map", [(found + click) * 1000 for click in clicks], f"{count}: click to panel; {note}", "ms"
    )


def _as_file(made: ImageMap) -> str:
    from captioning.image_map import thumbnail
    from captioning.image_map.page_value import map_to_html

    return map_to_html(made, "embedded", cache(thumbnail))


def _time_answer(images: Sequence[NamedImage], embeds: NDArray[np.float32], number: int) -> float:
    """Return the seconds that a server needs to find what the panel shows; the file already holds its answers."""
    from captioning.image_map import nearest, thumbnail
    from captioning.image_map.page_value import NUM_NEIGHBOURS

    started = time.perf_counter()
    nearest(embeds, NUM_NEIGHBOURS + 1, embeds[number : number + 1])
    thumbnail(images[number].path, _LARGE_SIDE, _LARGE_QUALITY)
    return time.perf_counter() - started


def _click_pictures(page: Page) -> list[float]:
    """Return the seconds from clicks on pictures of an open map until the panel is painted, without the first click."""
    page.wait_for_selector(".cs-map-pictures img")
    return [page.evaluate(_CLICK, number) for number in range(_CLICKS + 1)][1:]


def _repetitions_for(size: int, repetitions: int) -> int:
    """Return the number of repetitions: long work needs only one to stand out from noise."""
    return max(1, repetitions // 2) if size <= 200 else 1


def _plain_umap(embeds: NDArray[np.float32]) -> None:
    """Lay out features as umap-learn's documentation shows, with its own neighbour search."""
    import warnings

    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap-learn warns about one thread (a seed), and few neighbours (a small map)
        umap.UMAP(metric="cosine", random_state=0).fit_transform(embeds)


CASES = (BenchCase("map", "a collection laid out as a map", _map),)
