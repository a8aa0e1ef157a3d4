"""A comparison of a captioner in one precision and engine with the same model in float32 by torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from captioning.core.contract import Captioner
from captioning.core.types import DecodingOptions
from captioning.models.tokens import common_length
from captioning.training.data import PhotoSet, ReportProgress
from captioning.training.metrics import encode_photos


def evaluate_agreement(
    captioner: Captioner,
    exact: Captioner,
    data: PhotoSet,
    options: DecodingOptions | None = None,
    report: ReportProgress | None = None,
) -> dict[str, Any]:
    """Compare captions written without a prompt, photograph by photograph.

    `same_captions` is the share of captions with the same tokens. `same_tokens` is the share of the exact captions'
    tokens before the first difference. `log_prob_difference` is the mean absolute difference of log-probability, in
    nats, of the exact captions' tokens. `embedding_cosine` is the mean cosine of the image embeddings.
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
