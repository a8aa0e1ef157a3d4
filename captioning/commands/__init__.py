"""The commands, in the order in which help lists them. A new command is one file here and one name in `COMMANDS`."""

from __future__ import annotations

from captioning.commands import attention, bench, blend, caption, deploy, evaluate, image_map, models, train, video

COMMANDS = (caption, video, attention, image_map, models, train, blend, evaluate, bench, deploy)
