"""Where the page's scripts, its style and the embedded captioner lie."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def read_style() -> str:
    """Return the style sheet of the page."""
    return (ASSETS / "style.css").read_text(encoding="utf-8")
