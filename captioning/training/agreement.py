"""Whether a captioner says in one precision, by one engine, what it says in float32 by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from captioning.core.contract import Captioner
from captioning.core.types import DecodingOptions
from captioning.models.tokens import common_length
from captioning.training.data import PhotoSet
from captioning.training.metrics import encode_photos

Report = Callable[[str, int, int], None]


def evaluate_agreement(
    captioner: Captioner,
    exact: Captioner,
    data: PhotoSet,
    options: DecodingOptions | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Compare captions written without a prompt, photograph by photograph.

    `same_captions` is the share that agrees word for word, `same_tokens` that of tokens before the first that differs
    among those of the exact ones, `log_prob_difference` the mean absolute difference, in nats, of how sure both are
    of the exact captions, and `embedding_cosine` the mean cosine of the image embeddings.
    """
    options = options or DecodingOptions()
    same: list[bool] = []
    kept = total = 0
    differences: list[float] = []
    cosines: list[float] = []
    pairs = zip(encode_photos(captioner, data), encode_photos(exact, data), strict=True)
    for number, ((_, features), (_, exact_features)) in enumerate(pairs, start=1):
        (mine,) = captioner.decode(features, [""], options)
        (wanted,) = exact.decode(exact_features, [""], options)
        same.append(mine.token_ids == wanted.token_ids)
        total += len(wanted.token_ids)
        kept += common_length(mine.token_ids, wanted.token_ids)
        if wanted.token_ids:
            scores = captioner.score([features], wanted)[0]
            differences.append(float(np.abs(scores - np.array(wanted.log_probs, np.float32)).mean()))
        cosines.append(float(features.image_embeds.float() @ exact_features.image_embeds.float()))
        if report:
            report("comparing", number, len(data.photos))
    return {
        "photographs": len(same),
        "engine": captioner.engine,
        "same_captions": sum(same) / len(same),
        "same_tokens": kept / total if total else 1.0,
        "log_prob_difference": float(np.mean(differences)) if differences else 0.0,
        "embedding_cosine": float(np.mean(cosines)),
    }
