"""How good a captioner is on photographs with known captions or kinds; any captioner, through the contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from captioning.contract import Captioner
from captioning.images import open_image
from captioning.training.data import Photo, PhotoSet, plain_words
from captioning.types import DecodingOptions, ImageFeatures

Report = Callable[[str, int, int], None]
"""Hears (what is being done, done, total)."""


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1…4 and CIDEr-D of one caption a picture against its references, as pycocoevalcap computes them.

    Words are lower-cased and without punctuation. Papineni et al. 2002; Vedantam et al. 2015.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    written = {number: [plain_words(caption)] for number, caption in enumerate(captions)}
    known = {number: [plain_words(text) for text in texts] for number, texts in enumerate(references)}
    bleu = Bleu(4).compute_score(known, written, verbose=0)[0]
    cider = float(Cider().compute_score(known, written)[0])
    return {"cider": cider} | {f"bleu_{n + 1}": float(value) for n, value in enumerate(bleu)}


def named_kind(caption: str, kinds: Sequence[str]) -> str | None:
    """The longest of `kinds` that stands in a caption as whole words, or `None`."""
    words = f" {plain_words(caption)} "
    return max((kind for kind in kinds if f" {plain_words(kind)} " in words), key=len, default=None)


def repeats_a_word(caption: str) -> bool:
    """Whether a word stands three times in a row."""
    return re.search(r"\b(\w+)( \1){2}\b", plain_words(caption)) is not None


def encode_photos(captioner: Captioner, data: PhotoSet, batch_size: int = 32) -> Iterator[tuple[Photo, ImageFeatures]]:
    """Every photograph with its features, in order."""
    for start in range(0, len(data.photos), batch_size):
        pixels = data.pixels[start : start + batch_size].transpose(0, 2, 3, 1)
        pictures = [open_image(Image.fromarray(np.ascontiguousarray(values))) for values in pixels]
        yield from zip(data.photos[start : start + batch_size], captioner.encode(pictures), strict=True)


def evaluate_captions(
    captioner: Captioner,
    data: PhotoSet,
    kinds: Sequence[str],
    options: DecodingOptions | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Measure captions written without a prompt.

    BLEU, CIDEr and the share of distinct captions are of the photographs with human captions;
    `token_accuracy` is how often the likeliest token is the human's, given the human's words before it;
    `class_naming` is the share of class photographs whose kind is the longest of `kinds` in the caption.
    """
    options = options or DecodingOptions()
    captions: list[str] = []
    references: list[tuple[str, ...]] = []
    named: list[bool] = []
    right = total = 0
    written_all: list[str] = []
    for number, (photo, features) in enumerate(encode_photos(captioner, data), start=1):
        text = captioner.decode(features, [""], options)[0].text
        written_all.append(text)
        if photo.captions:
            captions.append(text)
            references.append(photo.captions)
            for reference in photo.captions:
                known = captioner.caption_from_text(features, "", plain_words(reference))
                hits = [
                    choices[0].token_id == i for choices, i in zip(known.alternatives, known.token_ids, strict=True)
                ]
                right, total = right + sum(hits), total + len(hits)
        elif photo.class_name:
            named.append(named_kind(text, kinds) == photo.class_name)
        if report:
            report("captioning", number, len(data.photos))
    result: dict[str, Any] = {"photographs": len(data.photos), "captioned": len(captions), "classified": len(named)}
    if captions:
        result |= score_captions(captions, references)
        result["token_accuracy"] = right / total
        result["distinct_captions"] = len(set(captions)) / len(captions)
    if named:
        result["class_naming"] = sum(named) / len(named)
    result["repeated_words"] = sum(map(repeats_a_word, written_all)) / len(written_all)
    return result
