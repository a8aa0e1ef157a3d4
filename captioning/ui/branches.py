"""The captions and branches that a session looks at, and which alternative was clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from captioning.core.errors import PromptError
from captioning.core.types import Caption, TokenAlternative
from captioning.ui.caption_cards import Branch, Step, cards_value

MOST_BRANCHES = 4
"""Of one caption; the oldest makes room."""
_GONE = "That word is gone; caption the picture again, and click it then."


@dataclass(frozen=True, slots=True)
class Written:
    """The captions that a session looks at, how they came about, and their branches by the place of the caption."""

    path: str
    model_id: str
    step: Step
    heading: str
    seconds: float
    end_token: str | None
    branches: Mapping[int, tuple[Branch, ...]] = field(default_factory=dict)

    def value(self) -> dict[str, Any]:
        """What the cards show of it."""
        return cards_value(
            "done",
            self.step,
            heading=self.heading,
            seconds=self.seconds,
            branches=self.branches,
            end_token=self.end_token,
            can_look=True,
        )

    def caption_at(self, place: int, number: int) -> Caption | None:
        """The caption at `place`, or where `number` is not -1 its branch of that number; `None` where none is."""
        if not 0 <= place < len(self.step.captions):
            return None
        if number < 0:
            return self.step.captions[place]
        several = self.branches.get(place, ())
        return several[number].caption if number < len(several) else None

    def captions(self) -> list[Caption]:
        """All captions, each followed by its branches."""
        found: list[Caption] = []
        for place, caption in enumerate(self.step.captions):
            found.append(caption)
            found += [branch.caption for branch in self.branches.get(place, ()) if branch.caption is not None]
        return found

    def with_branches(self, place: int, branches: Sequence[Branch]) -> Written:
        """The same with other branches of the caption at `place`; only the newest few stay."""
        return replace(self, branches={**self.branches, place: tuple(branches)[-MOST_BRANCHES:]})

    def without(self, place: int, number: int) -> Written:
        """The same without one branch."""
        several = self.branches.get(place, ())
        return self.with_branches(place, [b for n, b in enumerate(several) if n != number])


@dataclass(frozen=True, slots=True)
class Choice:
    """An alternative that was clicked: the place of its caption, the caption it belongs to, its position and word."""

    place: int
    caption: Caption
    position: int
    alternative: TokenAlternative

    def start(self) -> Branch:
        """The branch before its first word."""
        return Branch(self.position, self.alternative.token, instead=self.caption.tokens[self.position], writing=True)


def read_choice(written: Written | None, event: gr.EventData) -> Choice:
    """The alternative that was clicked. Raises `PromptError` for one that is not, or no longer, there."""
    place, number, position, choice = (_whole(event, name) for name in ("caption", "branch", "position", "choice"))
    caption = None if written is None else written.caption_at(place, number)
    if caption is None or not 0 <= position < len(caption.alternatives):
        raise PromptError(_GONE)
    choices = caption.alternatives[position]
    if not 0 <= choice < len(choices):
        raise PromptError(_GONE)
    return Choice(place, caption, position, choices[choice])


def read_branch(event: gr.EventData) -> tuple[int, int]:
    """The place of a caption and the number of its branch. Raises `PromptError` for what the page would not send."""
    return _whole(event, "caption"), _whole(event, "branch")


def _whole(event: gr.EventData, name: str) -> int:
    number = getattr(event, name, None)
    if isinstance(number, bool) or not isinstance(number, int):
        raise PromptError(_GONE)
    return number
