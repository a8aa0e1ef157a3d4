"""The tabs, in the order they are shown. A new tab is one file here, with a `TAB`, and one name in `TABS`."""

from __future__ import annotations

from captioning.tabs.caption import TAB as CAPTION
from captioning.ui.tab import Tab

TABS: tuple[Tab, ...] = (CAPTION,)
