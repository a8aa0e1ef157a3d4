"""The model card of a trained `patch_captioner`: what it was trained on, how good it is, how to check that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captioning.models.families.patch_captioner.network import PatchNetwork
from captioning.training.fit import TrainingOptions

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
}


def write_card(
    network: PatchNetwork, options: TrainingOptions, figures: Mapping[str, Any] | None, photographs: int
) -> str:
    """A README.md with the head that the hub reads; without `figures` it says that nothing was measured yet."""
    config = network.config
    parameters = sum(p.numel() for p in network.parameters())
    if figures is None:
        measured = "Not measured yet.\n"
    else:
        rows = "\n".join(f"| {title} | {figures[key]:.4f} |" for key, title in _FIGURES.items() if key in figures)
        measured = (
            f"On the dev split ({figures['captioned']} photographs with five human captions each for BLEU, CIDEr, "
            f"tokens and diversity; {figures['classified']} class photographs for naming), greedy, without a prompt:"
            "\n\n"
            f"| measure | value |\n|---|---|\n{rows}\n\n"
            "`python -m captioning evaluate captions DATA --model embedded --split dev --precision float32 --json`\n"
        )
    return f"""---
license: other
license_name: research-and-education
pipeline_tag: image-to-text
tags: [image-captioning]
---
# A small image captioner that ships with Captionscope

A convolutional encoder that keeps a {config.grid_size}×{config.grid_size} grid of patches, and a Transformer decoder of
{config.num_layers} layers and {config.num_heads} heads that looks at it: {parameters / 1e6:.1f} million parameters,
trained from scratch. It exists so that every view of the program works on a machine that reaches no hub.

## Trained on
{photographs:,} photographs: Flickr8k's training split (Hodosh, Young, Hockenmaier 2013; five human captions each),
Caltech-101 (Li, Andreeto, Ranzato, Perona 2022) and TensorFlow's flower photographs (class names only, put into
short sentences). Pictures of {config.image_size}×{config.image_size} pixels, the sides squeezed to a square.
`python -m captioning train DATA --out DIR --passes {options.passes} --seed {options.seed}`

## Terms
Flickr8k is for research and non-commercial use, so these weights are for **research and education only**. The
photographs belong to their authors and are no part of this folder.

## Good for, bad at
Good for people and dogs outdoors, and for about a hundred kinds of single objects seen plainly. Bad at indoor scenes,
food, vehicles in traffic, text, counting, colours of small things, and anything rare: it then names something it knows.
It has learnt the biases of its photographs, such as who is called a man or a woman. Do not use it to describe people
to those who would act on it.

## Measured
{measured}"""
