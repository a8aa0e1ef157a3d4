"""`compare`: captions of one picture by several models."""

from __future__ import annotations

import argparse
import threading

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.commands.shared import (
    Subparsers,
    add_decoding,
    add_json,
    add_prompts,
    print_json,
    read_decoding,
    wants_json,
)
from captioning.core.types import plain_dict


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    compare = commands.add_parser("compare", help="caption a picture by several models")
    compare.add_argument("image", metavar="IMAGE")
    compare.add_argument(
        "--model",
        dest="models",
        action="append",
        required=True,
        metavar="MODEL",
        help="registry name, folder or hub name; give two to four",
    )
    add_prompts(compare)
    add_decoding(compare)
    add_json(compare)
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from captioning.captions.comparison import Comparison, compare_models, read_models
    from captioning.captions.prompts import check_prompts
    from captioning.core.cancellation import Job
    from captioning.media.images import open_image
    from captioning.serving.loading import load_captioner

    decoding = read_decoding(options)
    prompts = check_prompts([DEFAULT_PROMPT] if options.prompts is None else options.prompts)
    models = read_models(options.models)
    open_image(options.image)  # a picture that cannot be read is refused before models load
    job: Job[Comparison] = Job(threading.Event())
    comparison, _ = compare_models(load_captioner, options.image, models[0], models, prompts, decoding, job)
    failed = any(column.state == "failed" for column in comparison.columns)
    if wants_json(options):
        columns = [
            {
                "model": column.model_id,
                "error": column.error or None,
                "captions": [
                    {"prompt": caption.prompt, "text": caption.text, "mean_log_prob": caption.mean_log_prob}
                    for caption in column.captions
                ],
            }
            for column in comparison.columns
        ]
        print_json({"image": options.image, "options": plain_dict(decoding), "models": columns})
        return int(failed)
    for column in comparison.columns:
        print(column.title)
        if column.error:
            print(f"  {column.error}")
        for caption in column.captions:
            sure = "" if caption.mean_log_prob is None else f"  [{caption.mean_log_prob:.2f}]"
            print(f"  {caption.text}{sure}")
    return int(failed)
