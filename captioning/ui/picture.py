"""Pictures that go in: the input every tab uses, and real sample photographs one click away."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from gradio.processing_utils import save_file_to_cache
from PIL import Image, ImageOps

from captioning.core.errors import ImageError
from captioning.ui.parts import make_part

SAMPLES_ADDRESS = "page-samples"
"""Where a server has the small pictures of samples, relative to its root."""
_THUMBNAIL_PIXELS = 144


def _keep_file(_: gr.Image, payload: ImageData | None) -> str | None:
    """The file as it came: `open_image` guards it, and no decoder runs before."""
    return None if payload is None else payload.path


def _is_drawn_as(_: gr.Image) -> str:
    return "image"


# A subclass, because Gradio makes components anew when it updates them. Not written as a class, because Gradio's
# metaclass would put a stub beside this file, which type checkers then read in its place.
PictureInput: type[gr.Image] = type.__new__(
    type(gr.Image),
    "PictureInput",
    (gr.Image,),
    {"__module__": __name__, "preprocess": _keep_file, "get_block_name": _is_drawn_as},
)


def make_picture_input(**options: Any) -> gr.Image:
    """Upload, drop, clipboard and webcam in one input, whose value is a file."""
    return PictureInput(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard", "webcam"],
        buttons=["fullscreen"],
        **options,
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """A photograph that an installed package brings along, and the words for who cannot see it."""

    name: str
    alt: str
    path: Path


@cache
def list_samples() -> tuple[Sample, ...]:
    """Those sample photographs that are on this machine."""
    return tuple(sample for sample in _known_samples() if sample.path.is_file())


def _known_samples() -> list[Sample]:
    gradio_images = Path(gr.__file__).parent / "media_assets" / "images"
    samples = [
        Sample("cheetah.jpg", "A cheetah runs across dry grass", gradio_images / "cheetah.jpg"),
        Sample("lion.jpg", "A lion rests on a rock", gradio_images / "lion.jpg"),
        Sample("tower.jpg", "A lit iron tower at night", gradio_images / "tower.jpg"),
        Sample("cheetah1.jpg", "The face of a cheetah", gradio_images / "cheetah1.jpg"),
    ]
    sklearn = find_spec("sklearn")
    if sklearn is not None and sklearn.origin is not None:
        pictures = Path(sklearn.origin).parent / "datasets" / "images"
        samples += [
            Sample("china.jpg", "A pagoda above a lake", pictures / "china.jpg"),
            Sample("flower.jpg", "An orange flower", pictures / "flower.jpg"),
        ]
    return samples


def make_sample_strip(elem_id: str) -> gr.HTML:
    """Small pictures to click; raises the event `sample_chosen`, which `chosen_sample` understands."""
    return make_part("common/samples", describe_samples(list_samples(), "Sample photographs"), elem_id)


def describe_samples(samples: Sequence[Sample], group: str) -> list[dict[str, str]]:
    """Return what `assets/common/samples.js` draws; the server has the small pictures at their addresses."""
    return [
        {"name": one.name, "alt": one.alt, "thumbnail": f"{SAMPLES_ADDRESS}/{one.name}", "group": group}
        for one in samples
    ]


def chosen_sample(event: gr.EventData, cache_folder: str) -> str:
    """The file of the sample that was clicked, copied to where the page may read it. Raises `ImageError`."""
    name = getattr(event, "name", None)
    for sample in list_samples():
        if sample.name == name:
            return str(save_file_to_cache(sample.path, cache_folder))
    raise ImageError("There is no such sample; choose one of those shown.")


@cache
def picture_thumbnail(path: Path) -> bytes:
    """Return a small square JPEG of a sample."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * _THUMBNAIL_PIXELS, 2 * _THUMBNAIL_PIXELS))
        small = ImageOps.fit(image.convert("RGB"), (_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
