"""The tabs, in the order they are shown. A new tab is one file here, with a `TAB`, and one name in `TABS`."""

from __future__ import annotations

from captioning.tabs.attention import TAB as ATTENTION
from captioning.tabs.caption import TAB as CAPTION
from captioning.tabs.image_map import TAB as MAP
from captioning.tabs.model import TAB as MODEL
from captioning.tabs.video import TAB as VIDEO
from captioning.ui.tab import Tab

TABS: tuple[Tab, ...] = (CAPTION, VIDEO, ATTENTION, MAP, MODEL)
