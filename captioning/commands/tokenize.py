"""`tokenize`: the tokens that a model's tokenizer makes of a text."""

from __future__ import annotations

import argparse

from captioning.commands.shared import Subparsers, add_json, add_model, load, print_json, wants_json


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    tokenize = commands.add_parser("tokenize", help="split a text into a model's tokens")
    tokenize.add_argument("text", metavar="TEXT")
    add_model(tokenize)
    add_json(tokenize)
    tokenize.set_defaults(run=_tokenize)


def _tokenize(options: argparse.Namespace) -> int:
    captioner = load(options)
    tokens = captioner.tokenize(options.text)
    if wants_json(options):
        rows = [token._asdict() for token in tokens]
        print_json({"model": captioner.spec.model_id, "text": options.text, "tokens": rows})
        return 0
    for token in tokens:
        print(f"{token.token_id:7}  {token.token}")
    return 0
