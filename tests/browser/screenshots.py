"""Take the pictures of all tabs in docs/screenshots, light and dark: `python -m tests.browser.screenshots [folder]`.

They show the embedded captioner and the samples that docs/credits.md names, in the browser that the tests use.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.bench.browser import open_chromium
from captioning.serving.loading import LoadCaptioner, load_captioner
from tests.page_server import serve

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
MOST_BYTES = 250_000

DRAWN = {
    "caption": '#cs-captions [data-phase="done"]',
    "video": '#cs-clip-captions [data-phase="done"]',
    "attention": "#cs-explorer .cs-strip-token.is-active",
    "map": "#cs-map .cs-map-thumbnail",
    "model": ".cs-steps",
}
"""What is there when a tab has shown its sample, by tab."""
LINKS = {
    "caption": "sample=cheetah1.jpg",
    "video": "sample=world.mp4",
    "attention": "sample=cheetah1.jpg",
    "map": "sample=photographs",
    "model": "",
}
"""What the link to a tab names beside it."""
CHOOSE_LONGEST_WORD = """() => [...document.querySelectorAll('.cs-strip-token:not(.is-prompt)')]
    .reduce((longest, word) => (word.textContent.length > longest.textContent.length ? word : longest)).click()"""
"""Shows a word of the caption that is likely to say something, whatever the caption is."""


def take(page: Any, tab: str, address: str) -> bytes:
    """One tab as PNG."""
    page.goto(f"{address.rstrip('/')}/?tab={tab}&{LINKS[tab]}")
    page.wait_for_selector('.cs-status[data-state="ready"]')
    page.wait_for_selector(DRAWN[tab])
    if tab == "attention":
        page.evaluate(CHOOSE_LONGEST_WORD)
    page.wait_for_timeout(1500)  # what is drawn is still moving to its place
    page.mouse.move(0, 0)
    return bytes(page.screenshot(animations="disabled"))


def save(shot: bytes, path: Path) -> int:
    """The size in bytes of the picture as it was written: a PNG of as many colours as the limit allows."""
    with Image.open(io.BytesIO(shot)) as image:
        whole = image.convert("RGB")
    for colours in (256, 128, 64):
        whole.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            return path.stat().st_size
    raise ValueError(f"{path.name} has more than {MOST_BYTES:,} bytes.")


def main(folder: Path, load: LoadCaptioner) -> None:
    """All tabs in both themes."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_chromium() as browser, serve(load) as address:
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1280, "height": 960}, color_scheme=theme)
            page.emulate_media(reduced_motion="reduce")
            page.set_default_timeout(60_000)
            for tab in LINKS:
                target = folder / f"{tab}-{theme}.png"
                print(f"{target} {save(take(page, tab, address), target):,} bytes", flush=True)


def load_embedded(model_id: str = "embedded", *, report: Any = None) -> Any:
    """Whatever is asked for, the captioner that is on every machine, so that the pictures come out the same."""
    del model_id
    return load_captioner("embedded", report=report)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, load_embedded)
