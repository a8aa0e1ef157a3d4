"""`train`: a captioner fitted to photographs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioning.commands.shared import Subparsers, print_progress
from captioning.training.options import FURTHER, ON_CLIP, ON_PACKAGE, SCRATCH, StartOptions


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


_TRAINING_HELP: dict[str, tuple[Callable[[str], Any], str]] = {
    "passes": (int, "passes over the photographs; a run can be resumed with more"),
    "batch_size": (int, "photographs a step"),
    "captions_per_photo": (int, "captions drawn for a photograph each time it is seen"),
    "captioned_repeats": (int, "times a pass that a photograph with human captions is seen"),
    "repeats": (str, "the same of the photographs in folders of DATA, such as coco=6,caltech101=0.5"),
    "learning_rate": (float, "of the plateau between warm-up and fall"),
    "weight_decay": (float, "pull of weights towards 0"),
    "label_smoothing": (float, "share of a target spread over all words"),
    "caption_weight": (float, "of the loss of the next token; 0 leaves the decoder as it is"),
    "contrastive_weight": (float, "of the loss that pulls pictures to their words"),
    "word_weight": (float, "of the loss of telling the words of a picture from its embedding"),
    "reward_weight": (float, "of the self-critical loss, which rewards drawn captions by CIDEr-D; 0 is none"),
    "specificity": (float, "how much fitting other photographs too costs a caption"),
    "samples": (int, "captions drawn for a photograph to be rewarded"),
    "opening_rate": (float, "share of captions that follow a given opening"),
    "name_rate": (float, "share of captions that are the class an encoder's classifier sees, after an opening"),
    "augmentation": (float, "strength of random changes to pictures; 0 is none"),
    "scene_rate": (float, "share of changed class photographs that lie small over a photograph with captions"),
    "mix": (float, "share of batches whose pictures get a part of one another"),
    "training_size": (int, "pixels along a side at which pictures are seen in training; 0 is the size of the model"),
    "views": (int, "changed looks at a picture that a frozen encoder keeps; 0 looks anew every time"),
    "average_decay": (float, "memory of the average of weights"),
    "warmup_steps": (int, "steps until the learning rate is reached"),
    "cooldown": (float, "share of the run in which it falls to 0"),
    "vocab_size": (int, "tokens of a new tokenizer"),
    "max_tokens": (int, "longest caption that is learnt"),
    "checkpoint_steps": (int, "steps between checkpoints"),
    "seed": (int, "of everything random"),
}
_SHAPE_HELP: dict[str, tuple[Callable[[str], Any], str]] = {
    "image_size": (int, "pixels along a side, a multiple of 12"),
    "widths": (_whole_numbers, "channels of each stage, such as 64,128,256"),
    "depths": (_whole_numbers, "blocks of each stage, such as 1,2,4"),
    "hidden_size": (int, "width of the decoder"),
    "num_heads": (int, "heads of each attention"),
    "num_layers": (int, "layers of the decoder"),
    "ffn_size": (int, "width of its feed-forward nets"),
    "dropout": (float, "share of values dropped in training"),
}


def _default(name: str) -> str:
    """Return the default of an option, which depends on what a run begins with."""
    recipes = {"on efficientnet-lite2": ON_PACKAGE, "on CLIP": ON_CLIP, "with --from": FURTHER}
    usual = getattr(SCRATCH, name)
    others = {start: getattr(recipe, name) for start, recipe in recipes.items()}
    return ", ".join([f"default: {usual}", *(f"{start} {value}" for start, value in others.items() if value != usual)])


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    train = commands.add_parser("train", help="fit a captioner to photographs, from scratch, on CLIP, or further")
    train.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="folders with captions.tsv and the photographs; one that two of them name is that of the first",
    )
    train.add_argument(
        "--out", type=Path, required=True, help="folder for the model; an unfinished run there is resumed"
    )
    train.add_argument("--limit", type=int, help="use only this many photographs, for a trial")
    train.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")
    begin = train.add_mutually_exclusive_group()
    begin.add_argument(
        "--encoder",
        default="convolutional",
        metavar="KIND",
        help="what encodes pictures in a new captioner: convolutional, or frozen efficientnet-lite2, clip or "
        "clip:NAME_OR_FOLDER (default: convolutional)",
    )
    begin.add_argument("--from", dest="start_from", metavar="MODEL", help="train this model further instead")
    train.add_argument(
        "--log", action="append", default=[], metavar="NAME", help="also log to tensorboard, wandb or trackio"
    )
    train.add_argument(
        "--features",
        type=Path,
        metavar="FOLDER",
        help="keep there what a frozen encoder gives, for other runs (default: in --out until the run ends)",
    )
    for name, (kind, text) in _TRAINING_HELP.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{text} ({_default(name)})")
    train.add_argument(
        "--freeze-encoder", action="store_true", default=None, help="train the decoder alone; image features stay"
    )
    for name, (kind, text) in _SHAPE_HELP.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"of a new captioner: {text}")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from captioning.training.run import train

    def given(names: Iterable[str]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(options, name)) is not None}

    beginning = StartOptions(options.encoder, options.start_from, given(_SHAPE_HELP))
    training = replace(beginning.recipe, **given((*_TRAINING_HELP, "freeze_encoder")))
    train(
        options.data,
        options.out,
        beginning,
        training,
        print_progress,
        limit=options.limit,
        logs=options.log,
        device=options.device,
        features=options.features,
    )
    return 0
