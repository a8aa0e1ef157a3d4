"""`score`: how likely a model finds captions that a person typed, token by token."""

from __future__ import annotations

import argparse
from typing import Any

from captioning.commands.shared import Subparsers, add_json, add_model, load, print_json, wants_json


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    score = commands.add_parser("score", help="say how likely a model finds captions of a picture")
    score.add_argument("image", metavar="IMAGE")
    score.add_argument("captions", nargs="+", metavar="CAPTION")
    score.add_argument("--prompt", default="", metavar="TEXT", help="given start of every caption (default: none)")
    add_model(score)
    add_json(score)
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from captioning.captions.prompts import check_prompts
    from captioning.captions.scoring import mean_log_prob, padded_rows
    from captioning.media.images import open_image

    check_prompts([options.prompt, *options.captions])
    picture = open_image(options.image)
    captioner = load(options)
    (features,) = captioner.encode([picture])
    forcings = [captioner.teacher_force(features, options.prompt, text) for text in options.captions]
    documents = [
        {"text": text, "mean_log_prob": mean_log_prob(forcing), "positions": rows}
        for text, forcing, rows in zip(options.captions, forcings, padded_rows(forcings), strict=True)
    ]
    if wants_json(options):
        shape = [len(documents), len(documents[0]["positions"])]
        print_json(
            {
                "model": captioner.spec.model_id,
                "revision": captioner.spec.revision,
                "image": options.image,
                "prompt": options.prompt,
                "shape": shape,
                "captions": documents,
            }
        )
        return 0
    for document in documents:
        _print_table(document)
    return 0


def _print_table(document: dict[str, Any]) -> None:
    """Print a line a position: input, label, log-probability, and the token that the model prefers."""
    print(f"{document['text']}  [{document['mean_log_prob']:.2f}]")
    print(f"  {'input':16} {'label':16} {'log-prob':>8}  {'likeliest':16} {'log-prob':>8}  mask")
    for row in document["positions"]:
        scored = [row["log_prob"], row["likeliest_log_prob"]]
        label_text, likeliest_text = ("" if value is None else f"{value:.2f}" for value in scored)
        print(
            f"  {row['input']:16} {row['label'] or '(padding)':16} {label_text:>8}  "
            f"{row['likeliest']:16} {likeliest_text:>8}  {row['mask']}"
        )
