"""`caption`: captions of pictures."""

from __future__ import annotations

import argparse
from typing import Any

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.commands.shared import (
    Subparsers,
    add_decoding,
    add_json,
    add_model,
    add_prompts,
    expand_names,
    load,
    print_json,
    read_decoding,
    report_failure,
    wants_json,
)
from captioning.core.errors import CaptioningError
from captioning.core.types import plain_dict


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    caption = commands.add_parser("caption", help="caption pictures")
    caption.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a picture, a folder of pictures, or a pattern such as 'in/*.jpg'"
    )
    add_prompts(caption)
    add_model(caption)
    add_decoding(caption)
    add_json(caption)
    caption.set_defaults(run=_caption)


def _caption(options: argparse.Namespace) -> int:
    from captioning.captions.export import caption_record
    from captioning.captions.prompts import check_prompts
    from captioning.captions.words import caption_note
    from captioning.media.images import open_image
    from captioning.media.named_files import find_pictures

    decoding = read_decoding(options)
    prompts = check_prompts([DEFAULT_PROMPT] if options.prompts is None else options.prompts)
    captioner = load(options)
    records: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    notes: list[dict[str, str]] = []
    for name in expand_names(options.images, find_pictures, errors):
        try:
            picture = open_image(name)
            (features,) = captioner.encode([picture])
            captions = captioner.decode(features, prompts, decoding)
        except CaptioningError as error:
            report_failure(name, error, errors)
            continue
        if picture.note:
            notes.append({"image": name, "note": picture.note})
        records += [caption_record(caption, name) for caption in captions]
        if not wants_json(options):
            note = f" ({picture.note})" if picture.note else ""
            print(f"{name}{note}")
            for caption in captions:
                sure = "" if caption.mean_log_prob is None else f"  [{caption.mean_log_prob:.2f}]"
                print(f"  {caption.text}{sure}")
                if told := caption_note(caption):
                    print(f"    ({told})")
    if wants_json(options):
        print_json(
            {
                "model": captioner.spec.model_id,
                "revision": captioner.spec.revision,
                "options": plain_dict(decoding),
                "captions": records,
                "notes": notes,
                "errors": errors,
            }
        )
    return 1 if errors else 0
