"""The attention explorer in Chromium: the time until another word, layer or head is painted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from captioning.bench.browser import WAIT_FOR_PAINT, open_chromium, open_document
from captioning.bench.result import BenchCase, BenchResult, result_without_reference
from captioning.bench.setup import Setup, new_picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

READY = ".cs-strip-token.is-active"
_LAYERS, _HEADS, _TOKENS, _SIDE = 12, 12, 25, 24
_MOVES = 11
_MOVE = f"""async ([kinds, count]) => {{
  {WAIT_FOR_PAINT}
  const strip = document.querySelector('.cs-strip');
  const head = document.querySelector('[aria-label=Head]');
  const canvas = document.querySelector('.cs-stage-heat');
  const press = (key) => strip.dispatchEvent(new KeyboardEvent('keydown', {{ key, bubbles: true }}));
  const pick = (index) => {{ head.selectedIndex = index; head.dispatchEvent(new Event('change')); }};
  const moves = {{ words: () => press('ArrowRight'), layers: () => press('ArrowUp'), heads: (n) => pick(2 + n) }};
  const times = {{}};
  for (const kind of kinds) {{
    press('Home');
    times[kind] = [];
    for (let n = 0; n < count; n += 1) {{
      await drawn();
      const started = performance.now();
      moves[kind](n);
      await drawn();
      canvas.getContext('2d').getImageData(0, 0, 1, 1); // reading a pixel waits until the canvas is drawn
      times[kind].push(performance.now() - started);
    }}
  }}
  return times;
}}"""


def _explorer(_: Setup, repetitions: int) -> Iterator[BenchResult]:
    size = f"{_LAYERS} layers × {_HEADS} heads × {_TOKENS} tokens × {_SIDE**2} patches"
    with open_chromium() as browser, open_document(browser, large_explorer(), READY) as (page, _seconds):
        several = [time_moves(page) for _ in range(1 + repetitions)][1:]  # the first turn compiles the script
    for kind in several[0]:
        times = [time for found in several for time in found[kind]]
        yield result_without_reference(
            "explorer", times, f"between {kind}, {size}, until the next frame is painted", "ms"
        )


def time_moves(page: Page) -> dict[str, list[float]]:
    """Return the milliseconds from a key press to the painted frame, for words, layers and heads of the explorer."""
    times: dict[str, list[float]] = page.evaluate(_MOVE, [["words", "layers", "heads"], _MOVES])
    return times


def large_explorer() -> str:
    """Return the explorer as one HTML file, as large as BLIP base makes it, with noise as attention."""
    from captioning.attention.page_value import explorer_html, explorer_value, pack_weights, picture_file
    from captioning.attention.views import AttentionView
    from captioning.core.types import Capabilities, Caption, CaptionTrace, DecodingOptions, ModelSpec, PatchLayout

    picture, spec = new_picture(0), ModelSpec("noise", "noise", "Noise", "none", Capabilities())
    words = tuple(f" word{number}" for number in range(_TOKENS))
    caption = Caption(
        model_id=spec.model_id,
        revision="",
        image_id=picture.image_id,
        prompt="",
        options=DecodingOptions(),
        text="".join(words).strip(),
        token_ids=tuple(range(_TOKENS)),
        tokens=words,
        num_prompt_tokens=0,
        log_probs=(-1.0,) * _TOKENS,
        alternatives=((),) * _TOKENS,
        seconds=0.0,
    )
    weights = np.random.default_rng(0).random((_LAYERS, _HEADS, _TOKENS, _SIDE**2), np.float32)
    weights /= np.float32(_SIDE**2)
    prefix = np.zeros(weights.shape[:3], np.float32)
    trace = CaptionTrace(caption, weights, prefix, "cross", PatchLayout.from_grid(_SIDE, _SIDE))
    return explorer_html(
        explorer_value(trace, spec, picture, AttentionView()), picture_file(picture), pack_weights(trace)
    )


CASES = (BenchCase("explorer", "moving in the attention explorer, in Chromium", _explorer),)
