"""Measures of captions and embeddings on photographs with known captions or classes, for any captioner."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.core.contract import Captioner
from captioning.core.errors import OptionsError, PromptError
from captioning.core.types import Caption, DecodingOptions, ImageFeatures
from captioning.image_map import nearest
from captioning.media.images import open_image
from captioning.training.data import Photo, PhotoSet, ReportProgress, plain_words


def check_scorer() -> None:
    """Raise `OptionsError` where pycocoevalcap, which scores captions, is not installed."""
    if find_spec("pycocoevalcap") is None:
        raise OptionsError(
            "Captions are scored by the package pycocoevalcap, which is not installed; "
            "`pip install -r requirements-dev.txt` brings it."
        )


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return BLEU-1…4 and CIDEr-D of one caption a picture against its references, computed by pycocoevalcap.

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
    """Return the longest of `kinds` that a caption holds as whole words, or `None`."""
    words = f" {plain_words(caption)} "
    return max((kind for kind in kinds if f" {plain_words(kind)} " in words), key=len, default=None)


def repeats_a_word(caption: str) -> bool:
    """Return whether a word comes three times in a row."""
    return re.search(r"\b(\w+)( \1){2}\b", plain_words(caption)) is not None


def repeats_a_phrase(caption: str) -> bool:
    """Return whether a phrase follows itself, with or without "and" between, or three words in a row come twice."""
    words = plain_words(caption)
    if re.search(r"(?:^| )(\S+(?: \S+)*)(?: and)? \1(?: |$)", words):
        return True
    split = words.split()
    triples = list(zip(split, split[1:], split[2:], strict=False))
    return len(set(triples)) < len(triples)


def known_words(photos: Iterable[Photo]) -> frozenset[str]:
    """Return every word of the captions and class names of photographs."""
    texts = (text for photo in photos for text in (photo.class_name, *photo.captions))
    return frozenset(word for text in texts for word in plain_words(text).split())


def encode_photos(captioner: Captioner, data: PhotoSet, batch_size: int = 32) -> Iterator[tuple[Photo, ImageFeatures]]:
    """Yield every photograph with its features, in order."""
    for start in range(0, len(data.photos), batch_size):
        pixels = data.pixels[start : start + batch_size].transpose(0, 2, 3, 1)
        pictures = [open_image(Image.fromarray(np.ascontiguousarray(values))) for values in pixels]
        yield from zip(data.photos[start : start + batch_size], captioner.encode(pictures), strict=True)


def evaluate_captions(
    captioner: Captioner,
    data: PhotoSet,
    kinds: Sequence[str],
    options: DecodingOptions | None = None,
    report: ReportProgress | None = None,
    vocabulary: Collection[str] | None = None,
) -> dict[str, Any]:
    """Measure captions written without a prompt.

    BLEU, CIDEr and `distinct_captions`, the share of distinct captions, are of photographs with human captions.
    `token_accuracy` is the share of tokens of the human captions that are the most probable after the tokens before,
    over captions that fit into the model. `class_naming` is the share of class photographs whose class is the longest
    of `kinds` in the caption. `unknown_words` is the share of captions with a word outside `vocabulary`, where that is
    given.
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
            hits = [
                hit for reference in photo.captions for hit in _token_hits(captioner, features, plain_words(reference))
            ]
            right, total = right + sum(hits), total + len(hits)
        elif photo.class_name:
            named.append(named_kind(text, kinds) == photo.class_name)
        if report:
            report("captioning", number, len(data.photos))
    result: dict[str, Any] = {"photographs": len(data.photos), "captioned": len(captions), "classified": len(named)}
    if captions:
        result |= score_captions(captions, references)
        if total:
            result["token_accuracy"] = right / total
        result["distinct_captions"] = len(set(captions)) / len(captions)
    if named:
        result["class_naming"] = sum(named) / len(named)
    result["repeated_words"] = sum(map(repeats_a_word, written_all)) / len(written_all)
    result["repeated_phrases"] = sum(map(repeats_a_phrase, written_all)) / len(written_all)
    if vocabulary is not None:
        known = frozenset(vocabulary)
        result["unknown_words"] = sum(not known.issuperset(plain_words(text).split()) for text in written_all) / len(
            written_all
        )
    return result


def _token_hits(captioner: Captioner, features: ImageFeatures, text: str) -> list[bool]:
    """Return for each token of a text whether it is the most probable one after the tokens before it.

    The list is empty where the text does not fit into the model.
    """
    try:
        known = captioner.caption_from_text(features, "", text)
    except PromptError:  # too long for the model, or without a word
        return []
    return [choices[0].token_id == i for choices, i in zip(known.alternatives, known.token_ids, strict=True)]


def evaluate_kinds(
    captioner: Captioner, data: PhotoSet, predict: Callable[[torch.Tensor], Sequence[str]]
) -> dict[str, Any]:
    """Return `kinds_told`: the share of class photographs whose class is predicted from the embedding.

    `predict` returns the predicted classes of embeddings `[N, hidden]`.
    """
    chosen, kinds = _class_photos(data)
    if not kinds:
        return {}
    embeds = torch.stack([features.image_embeds for _, features in encode_photos(captioner, chosen)])
    return {"kinds_told": float(np.mean(list(map(operator.eq, predict(embeds), kinds))))}


def evaluate_prompts(
    captioner: Captioner, data: PhotoSet, prompts: Sequence[str], limit: int = 200, report: ReportProgress | None = None
) -> dict[str, Any]:
    """Measure whether captions continue a prompt, on photographs with human captions.

    `continued` is, for each prompt, the share of at most `limit` photographs where words follow it.
    `continuation_cider` is CIDEr-D of the words that follow `DEFAULT_PROMPT`, on all photographs.
    """
    described = [number for number, photo in enumerate(data.photos) if photo.captions]
    chosen = PhotoSet(tuple(data.photos[n] for n in described), data.pixels[described])
    others = [prompt for prompt in prompts if prompt and prompt != DEFAULT_PROMPT]
    continued = dict.fromkeys(others, 0)
    continuations: list[str] = []
    for number, (_, features) in enumerate(encode_photos(captioner, chosen), start=1):
        chosen_prompts = [DEFAULT_PROMPT, *others] if number <= limit else [DEFAULT_PROMPT]
        first, *rest = captioner.decode(features, chosen_prompts, DecodingOptions())
        continuations.append(_continuation(first))
        for prompt, caption in zip(others, rest, strict=False):
            continued[prompt] += bool(plain_words(_continuation(caption)))
        if report:
            report("continuing prompts on", number, len(described))
    scores = score_captions(continuations, [photo.captions for photo in chosen.photos])
    count = min(limit, len(described))
    return {
        "continuation_cider": scores["cider"],
        "continued": {prompt: hits / count for prompt, hits in continued.items()},
    }


def _continuation(caption: Caption) -> str:
    return "".join(caption.tokens[caption.num_prompt_tokens :])


def neighbour_vote(
    train: NDArray[np.float32],
    train_kinds: Sequence[str],
    dev: NDArray[np.float32],
    dev_kinds: Sequence[str],
    k: int = 10,
) -> float:
    """Return the share of `dev [M, D]` whose class is that of most of their `k` nearest `train [N, D]` by cosine.

    A tie goes to the class whose neighbours are nearer.
    """
    indices, similarities = nearest(train, k, dev)
    voted = vote(indices, similarities, train_kinds)
    return float(np.mean(list(map(operator.eq, voted, dev_kinds))))


def vote(neighbours: NDArray[np.int64], closeness: NDArray[np.floating], kinds: Sequence[str]) -> list[str]:
    """Return the class of most `neighbours [M, k]`, which are indices into `kinds`.

    A tie goes to the class of greater summed `closeness [M, k]`.
    """
    winners = []
    for row, near in zip(neighbours, closeness, strict=True):
        votes: dict[str, tuple[int, float]] = {}
        for place, close in zip(row, near, strict=True):
            count, total = votes.get(kinds[place], (0, 0.0))
            votes[kinds[place]] = (count + 1, total + float(close))
        winners.append(max(votes, key=lambda name: votes[name]))
    return winners


def evaluate_embeddings(captioner: Captioner, train: PhotoSet, dev: PhotoSet) -> float:
    """Return `neighbour_vote` of a captioner's `image_embeds` on the class photographs of two splits."""
    (train_embeds, train_kinds), (dev_embeds, dev_kinds) = (_embed_kinds(captioner, data) for data in (train, dev))
    return neighbour_vote(train_embeds, train_kinds, dev_embeds, dev_kinds)


def evaluate_pixels(train: PhotoSet, dev: PhotoSet, side: int = 32) -> float:
    """Return `neighbour_vote` of raw pixels on the class photographs of two splits: the baseline of colours alone."""
    (train, train_kinds), (dev, dev_kinds) = (_class_photos(data) for data in (train, dev))
    return neighbour_vote(pixel_vectors(train, side), train_kinds, pixel_vectors(dev, side), dev_kinds)


def pixel_vectors(data: PhotoSet, side: int = 32) -> NDArray[np.float32]:
    """Return every photograph's pixels averaged to `side` × `side`, minus their mean, `[N, 3 · side · side]`."""
    shares = _averaging_weights(data.pixels.shape[-1], side)
    flat = np.stack([(shares @ pixels @ shares.T).ravel() for pixels in data.pixels])
    return np.asarray(flat - flat.mean(axis=1, keepdims=True), np.float32)


def _averaging_weights(old: int, new: int) -> NDArray[np.float32]:
    """Return weights `[new, old]` that average a line of `old` pixels over `new` equal parts."""
    edges = np.linspace(0, old, new + 1)
    starts = np.arange(old)
    overlap = np.minimum(starts + 1, edges[1:, None]) - np.maximum(starts, edges[:-1, None])
    return (overlap.clip(min=0) * new / old).astype(np.float32)


def _class_photos(data: PhotoSet) -> tuple[PhotoSet, list[str]]:
    """Return the photographs with a class, and their classes."""
    places = [n for n, photo in enumerate(data.photos) if photo.class_name]
    photos = tuple(data.photos[n] for n in places)
    return PhotoSet(photos, data.pixels[places]), [photo.class_name for photo in photos]


def _embed_kinds(captioner: Captioner, data: PhotoSet) -> tuple[NDArray[np.float32], list[str]]:
    chosen, kinds = _class_photos(data)
    return np.stack([features.image_embeds.numpy() for _, features in encode_photos(captioner, chosen)]), kinds
