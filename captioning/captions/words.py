"""Words of a caption, which may be several tokens each, as people typed and read them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

from captioning.core.types import Caption


def word_groups(caption: Caption) -> tuple[tuple[int, ...], ...]:
    """Return the token positions of each word, in order: a word ends where a token begins with a space.

    What the model writes begins a word of its own, also where the prompt ended within one.
    """
    firsts = (0, caption.num_prompt_tokens)
    starts = [n for n, token in enumerate(caption.tokens) if n in firsts or token.startswith(" ")]
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise([*starts, len(caption.tokens)]))


def word_text(caption: Caption, group: Sequence[int]) -> str:
    """Return the word that tokens at these positions spell."""
    return "".join(join_bytes([caption.tokens[position] for position in group])).strip()


def join_bytes(tokens: Sequence[str]) -> tuple[str, ...]:
    r"""Tokens with their bytes joined: of those that spell a character together (`\xf0`, …) the first shows it.

    The others are empty; bytes that make no character stay as they are.
    """
    joined, first, spelt = list(tokens), 0, b""
    for place, token in enumerate(tokens):
        if not _BYTE.search(token):
            spelt = b""
            continue
        first = first if spelt else place
        spelt += b"".join(
            bytes.fromhex(part[2:]) if _BYTE.fullmatch(part) else part.encode() for part in _BYTES.split(token)
        )
        whole = spelt.decode("utf-8", errors="replace")
        if "\ufffd" not in whole:
            joined[first : place + 1] = [whole, *[""] * (place - first)]
            spelt = b""
    return tuple(joined)


def typed_prompt(caption: Caption) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the prompt's tokens as the person typed them, and the signs that the tokenizer does not know.

    Tokenizers change letters, most often capitals, and put one token in the place of signs that they lack, or none.
    """
    tokens = join_bytes(caption.tokens[: caption.num_prompt_tokens])
    typed, prompt = list(tokens), caption.prompt
    folded = "".join(map(_fold, prompt))
    unknown: list[str] = []
    place, waiting = 0, None  # how far the prompt is read, and the token that stands for what comes next

    def skip(end: int) -> None:
        """Give what lies before `end` to the token that waits; without one, the tokenizer left it out."""
        skipped = prompt[place:end].strip()
        if skipped and (waiting is None or tokens[waiting].strip() in _UNKNOWN):
            unknown.append(skipped)
        if waiting is not None and skipped:
            typed[waiting] = f"{' ' * tokens[waiting].startswith(' ')}{skipped}"

    for number, token in enumerate(tokens):
        plain = "".join(map(_fold, token.strip()))
        found = folded.find(plain, place) if plain else place
        if found < 0:
            waiting = number if waiting is None else waiting
            continue
        skip(found)
        if plain:
            end = found + len(plain)
            typed[number] = f"{' ' * token.startswith(' ')}{prompt[found:end]}"
            place, waiting = end, None
    skip(len(prompt))
    return tuple(typed), tuple(unknown)


def caption_note(caption: Caption) -> str:
    """Return a remark on a caption for its reader; mostly empty."""
    _, unknown = typed_prompt(caption)
    notes = [f"the tokenizer does not know {', '.join(unknown)}"] if unknown else []
    if len(caption.token_ids) == caption.num_prompt_tokens:
        notes.append("the model added nothing to the prompt" if caption.prompt else "the model wrote nothing")
    return "; ".join(notes)


_UNKNOWN = ("[UNK]", "<unk>", "\ufffd")
"""What tokenizers write in the place of a sign that they lack."""
_BYTE = re.compile(r"\\x[0-9a-f]{2}")
_BYTES = re.compile(rf"({_BYTE.pattern})")


def _fold(character: str) -> str:
    """Return a character without case and accents, and never more than one."""
    return unicodedata.normalize("NFKD", character)[0].lower()[0]
