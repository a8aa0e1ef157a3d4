"""The model card of a trained captioner: what it was trained on, how good it is, how to check that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioning.models.sources import hub
from captioning.training.data import DataFolders, Photo, class_names
from captioning.training.start import Start

TERMS_FILES = ("TERMS.md", "TERMS.txt", "LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")
"""Where a data folder may say what its photographs may be used for."""
_MOST_TERMS = 2_000
_FIGURES = {
    "cider": "CIDEr-D",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "token_accuracy": "share of tokens predicted, given the words before",
    "distinct_captions": "distinct captions over photographs",
    "class_naming": "kinds of objects named in the caption",
    "repeated_words": "captions with a word three times in a row",
    "repeated_phrases": "captions with a phrase twice",
    "unknown_words": "captions with a word that no training photograph has",
}


def write_card(
    start: Start,
    name: str,
    command: str,
    photos: Sequence[Photo],
    figures: Mapping[str, Any] | None,
    terms: Mapping[str, str],
) -> str:
    """Return a README.md with the head that the hub reads; without `figures` it says that nothing was measured yet.

    `command` is what made the model, and `terms` are those of the photographs by folder, as `read_terms` gives them.
    """
    described = sum(bool(photo.captions) for photo in photos)
    kinds = class_names(photos)
    height, width = start.pixels.shape
    base = start.base_model if start.base_model is not None and hub.is_hub_name(start.base_model) else None
    weights = (
        "The weights that it began with have terms of their own, which hold for these too."
        if start.base_model is not None
        else "Nothing was borrowed: every weight was learnt from these photographs."
    )
    return f"""---
license: other
license_name: {"as-stated-below" if all(terms.values()) else "fill-in"}
pipeline_tag: image-to-text
tags: [image-captioning]
{f"base_model: {base}" + chr(10) if base else ""}---
# {name}

{start.summary}

## Trained on
{len(photos):,} photographs: {described:,} with human captions, {len(photos) - described:,} with the name of one of
{len(kinds)} kinds of objects, put into short sentences. Pictures of {width}×{height} pixels, the sides squeezed to fit.
By `{command}`

## Terms
The photographs' terms hold for what was learnt from them.

{_list_terms(terms)}

{weights} The photographs belong to their authors and are no part of this folder.

## Good for, bad at
Good for what its photographs show often: scenes like those that people captioned, and with class photographs single
objects seen plainly. Bad at text, counting, colours of small things, and anything rare: it then names something it
knows. It has learnt the biases of its photographs, such as who is called a man or a woman. Do not use it to
describe people to those who would act on it.

## Measured
{_measured(name, figures)}"""


def read_terms(folders: DataFolders) -> dict[str, str]:
    """Return the terms that each data folder states for its photographs, by its name; empty where it states none."""
    terms = {}
    for folder in [folders] if isinstance(folders, Path) else folders:
        files = (folder / name for name in TERMS_FILES)
        stated = next((file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()), "")
        terms[folder.resolve().name] = stated.strip()[:_MOST_TERMS]
    return terms


def _list_terms(terms: Mapping[str, str]) -> str:
    blank = f"**fill in** (its terms; a file {TERMS_FILES[0]} in that folder is copied here)"
    return "\n".join(f"- `{name}`: {stated or blank}" for name, stated in terms.items())


def _measured(name: str, figures: Mapping[str, Any] | None) -> str:
    if figures is None or "captioned" not in figures:
        return "Its captions were not measured yet.\n"
    rows = "\n".join(f"| {title} | {figures[key]:.4f} |" for key, title in _FIGURES.items() if key in figures)
    return (
        f"On the dev split ({figures['captioned']} photographs with human captions for BLEU, CIDEr, tokens and "
        f"diversity; {figures['classified']} class photographs for naming), greedy, without a prompt:\n\n"
        f"| measure | value |\n|---|---|\n{rows}\n\n"
        f"`python -m captioning evaluate captions DATA --model {name} --split dev --precision float32 --json`\n"
    )
