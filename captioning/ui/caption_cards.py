"""Captions as cards: what `assets/common/caption_cards.js` draws, of captions that are written or being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from captioning.captions.words import caption_note, join_bytes, typed_prompt
from captioning.core.types import Caption
from captioning.ui.parts import make_part, next_serial

SCRIPT = "common/caption_cards"
"""The page script that draws the cards."""
Phase = Literal["idle", "busy", "done", "stopped", "failed"]
HINT = "Choose a picture, and its captions are written here: drop one, paste one, use the webcam, or click a sample."


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run has come: what is being done, for which prompts, and the captions as far as they are written.

    `captions` go prompt by prompt, `num_captions` for each.
    """

    doing: str
    prompts: Sequence[str] = ()
    num_captions: int = 1
    captions: Sequence[Caption] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """Another way on from a word of a caption: from `position` it goes on with `chosen` `instead` of what was there.

    `caption` is what is written so far, `None` before the first word; `error` is the sentence where that failed.
    """

    position: int
    chosen: str
    instead: str
    caption: Caption | None = None
    writing: bool = False
    error: str = ""


Branches = Mapping[int, Sequence[Branch]]
"""The branches of captions, by the place of the caption in its step."""


def make_caption_cards(elem_id: str) -> gr.HTML:
    """The cards, empty; raises `stop_wanted` where Stop is clicked.

    `branch_wanted`, `branch_dropped` and `attention_wanted` come with the place of the `caption`, that of the `branch`
    (-1 for the caption itself), and the first with the `position` of the word and the `choice` among its alternatives.
    """
    return make_part(SCRIPT, cards_value("idle", message=HINT), elem_id)


def cards_value(
    phase: Phase,
    step: Step | None = None,
    *,
    message: str = "",
    heading: str = "",
    seconds: float = 0.0,
    branches: Branches | None = None,
    end_token: str | None = None,
    can_look: bool = False,
) -> dict[str, Any]:
    """What the cards show. Alternatives come with the finished captions only: they are most of the bytes.

    With `end_token`, the text of the token that ends a caption, alternatives can be chosen. `can_look` offers to
    open captions in the Attention tab.
    """
    step = step or Step("")
    captions = [caption_json(caption, complete=phase == "done") for caption in step.captions]
    for place, several in (branches or {}).items():
        captions[place]["branches"] = [_branch_json(branch) for branch in several]
    each = step.num_captions
    return {
        "serial": next_serial(),
        "phase": phase,
        "doing": step.doing,
        "seconds": round(seconds, 2),
        "message": message,
        "heading": heading,
        "end_token": end_token,
        "can_look": can_look,
        "cards": [
            {"prompt": prompt, "captions": captions[number * each : (number + 1) * each]}
            for number, prompt in enumerate(step.prompts)
        ],
    }


def caption_json(caption: Caption, complete: bool = True) -> dict[str, Any]:
    """One caption: each token with its log-probability in nats, and if complete its likeliest alternatives."""
    mean = caption.mean_log_prob
    value: dict[str, Any] = {
        "text": caption.text,
        "tokens": [
            [token, round(lp, 3)] for token, lp in zip(join_bytes(caption.tokens), caption.log_probs, strict=True)
        ],
        "typed": list(typed_prompt(caption)[0]),
        "num_prompt_tokens": caption.num_prompt_tokens,
        "mean_log_prob": None if mean is None else round(mean, 3),
        "seconds": round(caption.seconds, 2),
    }
    if complete:
        value["note"] = caption_note(caption)
        value["alternatives"] = [
            [[choice.token, round(choice.log_prob, 3)] for choice in choices] for choices in caption.alternatives
        ]
    return value


def _branch_json(branch: Branch) -> dict[str, Any]:
    """A branch, with its caption as far as it is written."""
    value: dict[str, Any] = {
        "position": branch.position,
        "chosen": branch.chosen,
        "instead": branch.instead,
        "writing": branch.writing,
        "error": branch.error,
        "caption": None,
    }
    if branch.caption is not None:
        value["caption"] = caption_json(branch.caption, complete=not branch.writing)
    return value
