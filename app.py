"""Build the dashboard as `demo`, and launch it when run: `python app.py --help` lists the flags."""

from __future__ import annotations

import sys

from captioning.core.errors import CaptioningError
from captioning.core.settings import get_settings
from captioning.launch import launch, loader, read_flags
from captioning.page import build_demo

_flags = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
if _flags.show_settings:
    print(get_settings().describe())
    sys.exit()
try:
    demo = build_demo(loader(_flags), _flags.model)
except CaptioningError as error:
    sys.exit(f"captionscope: {error}")

if __name__ == "__main__":
    launch(demo, _flags)
