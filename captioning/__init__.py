"""See what an image-captioning model sees.

>>> from captioning import load_captioner, open_image, DecodingOptions
>>> captioner = load_captioner("embedded")
>>> (features,) = captioner.encode([open_image("photo.jpg")])
>>> captioner.decode(features, ["a photography of"], DecodingOptions())[0].text
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captioning.core import runtime as runtime  # sets threads and switches before anything heavy is imported

if TYPE_CHECKING:
    from captioning.core.types import DecodingOptions as DecodingOptions
    from captioning.media.images import open_image as open_image
    from captioning.media.video import sample_frames as sample_frames
    from captioning.models import list_models as list_models
    from captioning.serving.loading import load_captioner as load_captioner

__version__ = "0.1.0"

_HOMES = {
    "load_captioner": "captioning.serving.loading",
    "list_models": "captioning.models",
    "DecodingOptions": "captioning.core.types",
    "open_image": "captioning.media.images",
    "sample_frames": "captioning.media.video",
}
__all__ = ["DecodingOptions", "list_models", "load_captioner", "open_image", "sample_frames"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
