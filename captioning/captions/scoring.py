"""Typed captions as a decoder meets them in training: rows of one length, padded and masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captioning.core.types import TeacherForcing

IGNORED_LABEL = -100
"""The label of a padded position; torch's cross-entropy leaves it out."""


def mean_log_prob(forcing: TeacherForcing) -> float:
    """Return the mean log-probability in nats of the labels after the prompt, the end token among them."""
    scored = forcing.log_probs[forcing.num_prompt_tokens :]
    return sum(scored) / len(scored)


def padded_rows(forcings: Sequence[TeacherForcing]) -> list[list[dict[str, Any]]]:
    """Return the positions of each caption, all padded to the length of the longest.

    `label` is the token to be predicted, `input` the one before it, `likeliest` the token that the model prefers
    there, and log-probabilities are in nats. `mask` is 1 at the caption's own positions and 0 at padded ones, whose
    inputs repeat the end token and whose labels are ignored.
    """
    length = max((len(forcing.labels) for forcing in forcings), default=0)
    return [_positions(forcing) + _padding(forcing, length - len(forcing.labels)) for forcing in forcings]


def _positions(forcing: TeacherForcing) -> list[dict[str, Any]]:
    rows = zip(forcing.inputs, forcing.labels, forcing.log_probs, forcing.alternatives, strict=True)
    return [
        {
            "input": source.token,
            "input_id": source.token_id,
            "label": label.token,
            "label_id": label.token_id,
            "log_prob": log_prob,
            "likeliest": choices[0].token,
            "likeliest_id": choices[0].token_id,
            "likeliest_log_prob": choices[0].log_prob,
            "mask": 1,
        }
        for source, label, log_prob, choices in rows
    ]


def _padding(forcing: TeacherForcing, count: int) -> list[dict[str, Any]]:
    end = forcing.labels[-1]
    row = {"input": end.token, "input_id": end.token_id, "label": "", "label_id": IGNORED_LABEL, "log_prob": None}
    nothing = {"likeliest": "", "likeliest_id": None, "likeliest_log_prob": None, "mask": 0}
    return [row | nothing for _ in range(count)]
