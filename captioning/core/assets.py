"""The page's scripts and styles, read from `assets/`: for the page itself, and for files that hold a part of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@cache
def read_script(*names: str) -> str:
    """Page scripts with the helpers that all of them use, as the text of one function's body.

    The scripts see each other's names; what they need of the page comes as `element`, `props`, `watch`, `trigger`.
    """
    helpers, *scripts = (_read(f"{name}.js") for name in ("common/page", *names))
    # In a block of its own, so that a script may use a helper's name for something else.
    return f"(() => {{\n{helpers}\n{{\n{''.join(scripts)}\n}}\n}})();"


def read_style() -> str:
    """The style sheet of the page."""
    return _read("style.css")


def _read(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
