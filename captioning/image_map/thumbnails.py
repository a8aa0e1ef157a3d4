"""Small copies of pictures, for pages."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, ImageOps


def thumbnail(path: Path, side: int = 128, quality: int = 78) -> str:
    """A JPEG of a picture that passed the guards before, its longer side `side` pixels, as a `data:` address.

    Empty where the file is gone or cannot be read any more: a page then shows its name alone.
    """
    try:
        small = _shrink(path, side)
    except (OSError, ValueError, SyntaxError, TypeError):
        return ""
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shrink(path: Path, side: int) -> Image.Image:
    """Upright, and on white where it lets something through."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * side, 2 * side))
        image.thumbnail((2 * side, 2 * side), Image.Resampling.BILINEAR)
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            layers = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
        small = upright.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
