"""Folders for pictures that are unpacked or cut out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class Scratch:
    """A folder for unpacked and cut-out pictures that goes when nothing refers to it any more."""

    def __init__(self, parent: str) -> None:
        Path(parent).mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="map-", dir=parent))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
