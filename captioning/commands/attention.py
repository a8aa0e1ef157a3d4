"""`attention`: where a model looked for each word of a caption."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.attention.drawing import COLOUR_MAPS, Brush
from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.commands.shared import (
    Subparsers,
    add_decoding,
    add_json,
    add_model,
    load,
    make_folder,
    print_json,
    read_decoding,
    wants_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from captioning.attention.views import AttentionView, Maps
    from captioning.core.types import CaptionTrace

_BRUSH = Brush()
_METHOD_HELP = (
    "attention, attention_clean, gradient_attention, relevance or input_gradient "
    "(default: what measured best for the model)"
)
_SCALE_HELP = (
    "shared: one scale for all words (the default); per_map: each map by itself; minimum: above what all words share"
)


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    attention = commands.add_parser("attention", help="show where a model looked for each word of a caption")
    attention.add_argument("image", metavar="IMAGE")
    attention.add_argument("--prompt", metavar="TEXT", help=f"start of the caption (default: {DEFAULT_PROMPT!r})")
    attention.add_argument("--text", help="this caption, after the prompt, in place of the model's own")
    attention.add_argument("--method", help=_METHOD_HELP)
    attention.add_argument("--layer", type=_layer, metavar="N", help="from 0 on, or mean (default: as the method)")
    attention.add_argument("--head", type=_head, metavar="N", help="from 0 on, or mean or max (default: as the method)")
    where = attention.add_mutually_exclusive_group()
    where.add_argument("--word", help="only this word, wherever it stands")
    where.add_argument("--position", type=int, metavar="N", help="only the token at this position, from 0 on")
    attention.add_argument("--out", type=Path, metavar="DIR", help="write pictures, GIF, numbers and a page here")
    attention.add_argument("--scale", choices=("shared", "per_map", "minimum"), default="shared", help=_SCALE_HELP)
    attention.add_argument(
        "--colour-map",
        default=_BRUSH.colour_map,
        metavar="NAME",
        help=f"{', '.join(COLOUR_MAPS)} (default: {_BRUSH.colour_map})",
    )
    opacity = _BRUSH.opacity
    attention.add_argument(
        "--opacity", type=float, default=opacity, metavar="SHARE", help=f"of the map, 0 to 1 (default: {opacity})"
    )
    attention.add_argument("--patches", action="store_true", help="draw patches as they are, not blended")
    add_model(attention)
    add_decoding(attention)
    add_json(attention)
    attention.set_defaults(run=_attention)


def _layer(text: str) -> int | str:
    """Read a layer's number, or "mean"."""
    return _number_or(text, "mean")


def _head(text: str) -> int | str:
    """Read a head's number, or "mean" or "max"."""
    return _number_or(text, "mean", "max")


def _number_or(text: str, *words: str) -> int | str:
    if text in words:
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"give a number from 0 on, or {' or '.join(words)}, not {text!r}.")
    return int(text)


def _attention(options: argparse.Namespace) -> int:
    from captioning.attention.files import choose_view, find_positions, look, write_files
    from captioning.attention.formats import Paint
    from captioning.attention.views import map_tokens
    from captioning.captions.prompts import check_prompts
    from captioning.media.images import open_image

    paint = Paint(options.scale, Brush(options.opacity, options.colour_map, not options.patches))
    decoding = read_decoding(options)
    prompt = options.prompt if options.prompt is not None else "" if options.text else DEFAULT_PROMPT
    check_prompts([prompt])
    picture = open_image(options.image)
    if options.out is not None:
        make_folder(options.out)
    captioner = load(options)
    view = choose_view(captioner.spec, options.method, options.layer, options.head)
    (features,) = captioner.encode([picture])
    if options.text:
        caption = captioner.caption_from_text(features, prompt, options.text)
    else:
        caption = captioner.decode(features, [prompt], decoding)[0]
    if picture.note:
        print(f"captioning: {picture.title}", file=sys.stderr)
    positions = find_positions(caption, options.word, options.position)
    files: list[Path] = []
    if options.out is not None:
        files = write_files(replace(look(captioner, picture, caption, view, paint), positions=positions), options.out)
    if wants_json(options):
        from captioning.attention.page_value import trace_document

        document = trace_document(captioner, picture, caption, view.method, view.layer, view.head, options.scale)
        print_json(document | {"measured": view.measured, "files": [str(file) for file in files]})
    else:
        if paint.scale == "minimum":
            maps = look(captioner, picture, caption, view, paint).maps(view.method)[list(positions)]
        else:  # what other words look at changes nothing, and may cost a pass a word
            maps = map_tokens(captioner, picture, caption, view.method, view.layer, view.head, positions)
        _print_maps(captioner.trace(features, caption), view, positions, maps)
        for file in files:
            print(f"wrote {file}")
    return 0


def _print_maps(trace: CaptionTrace, view: AttentionView, positions: Sequence[int], maps: Maps) -> None:
    """Print a line for each token: its probability, the map's entropy, and the share of attention on the picture."""
    from captioning.attention.views import TRACED, entropy, image_share

    caption, traced = trace.caption, view.method in TRACED
    layer = "all layers" if view.layer is None else f"layer {view.layer} (from 0)"
    head = f"head {view.head}" + ("" if isinstance(view.head, str) else " (from 0)")
    chosen = f"{view.method}, {layer}, {head}" if traced else view.method
    print(f"{caption.text}  [{chosen}; {'best on training photographs' if view.measured else 'not measured'}]")
    shares = image_share(trace, view.layer, view.head) if traced else None
    for position, bits in zip(positions, entropy(maps), strict=True):
        token, log_prob = caption.tokens[position].strip(), caption.log_probs[position]
        share = "" if shares is None else f", {shares[position]:4.0%} on the picture"
        print(f"  {position:3} {token:18} {log_prob:7.2f} nats, {bits:4.1f} bits{share}")
