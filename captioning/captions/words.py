"""Words of a caption, which may be several tokens each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from captioning.core.types import Caption


def word_groups(caption: Caption) -> tuple[tuple[int, ...], ...]:
    """The token positions of each word, in order: a word goes on until a token begins with a space.

    What the model writes begins a word of its own, also where the prompt ended within one.
    """
    firsts = (0, caption.num_prompt_tokens)
    starts = [n for n, token in enumerate(caption.tokens) if n in firsts or token.startswith(" ")]
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise([*starts, len(caption.tokens)]))


def word_text(caption: Caption, group: Sequence[int]) -> str:
    """The word that tokens at these positions spell."""
    return "".join(caption.tokens[position] for position in group).strip()
