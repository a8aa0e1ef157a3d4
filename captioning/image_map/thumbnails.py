"""Small copies of pictures for pages."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from captioning.core.errors import ImageError
from captioning.media.images import open_undecoded


def thumbnail(path: Path, side: int = 128, quality: int = 78) -> str:
    """Return a JPEG of a picture that passed the guards before, its longer side `side` pixels, as a `data:` address.

    Returns an empty text where the file can no longer be read; a page then shows the picture's name alone.
    """
    try:
        small = _shrink(path, side)
    except (ImageError, OSError, ValueError, SyntaxError, TypeError):
        return ""
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shrink(path: Path, side: int) -> Image.Image:
    """Return a small upright copy, on white where the picture is transparent."""
    head = open_undecoded(path.read_bytes(), path.name)
    with head.image as image:
        image.draft("RGB", (2 * side, 2 * side))
        small, _ = head.render()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
