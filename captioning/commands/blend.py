"""`blend`: the weights of models that grew from one, summed."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioning.commands.shared import Subparsers


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    if not name:
        raise ValueError(text)
    return name, float(share)


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    blend = commands.add_parser("blend", help="sum the weights of models that grew from one")
    blend.add_argument("out", type=Path, metavar="OUT", help="folder for the new model")
    blend.add_argument(
        "parts", type=_part, nargs="+", metavar="MODEL=SHARE", help="a model and its share, such as trained=0.5"
    )
    blend.set_defaults(run=_blend)


def _blend(options: argparse.Namespace) -> int:
    from captioning.training.blend import blend

    blend(dict(options.parts), options.out)
    return 0
