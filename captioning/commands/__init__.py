"""The commands, in the order in which help lists them. A new command is one file here and one name in `COMMANDS`."""

from __future__ import annotations

from captioning.commands import (
    attention,
    bench,
    blend,
    caption,
    compare,
    deploy,
    evaluate,
    image_map,
    models,
    score,
    tokenize,
    train,
    video,
)

COMMANDS = (
    caption, video, attention, score, tokenize, compare, image_map, models, train, blend, evaluate, bench, deploy,
)  # fmt: skip
