"""Tokenizers of word pieces and of bytes, from a model's own files; and texts as a network reads and writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.core.errors import ModelFilesError
from captioning.models.files import name_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NO_SPACE_BEFORE = frozenset(".,!?")
_BLANK = "\u2581"
"""What SentencePiece writes for a blank (Kudo & Richardson 2018)."""
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class TokenizerAdapter:
    """The half of a network that turns texts into tokens and back, by the model's own tokenizer.

    Each token becomes text once: captions repeat their words and alternatives, and streaming repeats captions.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        start_ids: tuple[int, ...],
        end_id: int,
        *,
        lead: str = "",
        extra_tokens: Sequence[str] = (),
        origin: str = "",
    ) -> None:
        """Set the tokens that start and end every caption, and what is unusual about the model.

        `lead` is the character that stands before every caption; its tokens are left out. `extra_tokens` are tokens
        that the model has beyond its tokenizer's; `origin` says where the words come from if not from the model.
        """
        self.tokenizer = tokenizer
        self.start_ids = start_ids
        self.end_id = end_id
        self._extra_tokens = tuple(extra_tokens)
        self._origin = origin
        # A text is split as it would be behind the lead.
        self._lead = lead if not lead or lead.isspace() else f"{lead} "
        self._num_lead_ids = len(tokenizer.encode(lead, add_special_tokens=False).ids) if lead else 0
        self._texts: dict[int, str] = {}

    def text_to_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, without start and end tokens; blanks at its ends are dropped.

        To GPT-2 a space belongs to the word that follows. A prompt that ended with an end token would be finished.
        """
        stripped = text.strip()
        if not stripped:
            return []
        return list(self.tokenizer.encode(self._lead + stripped, add_special_tokens=False).ids[self._num_lead_ids :])

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def token_text(self, token_id: int) -> str:
        """Return one token as text; it begins with a space where it begins a word, perhaps from the second on."""
        text = self._texts.get(token_id)
        if text is None:
            extra = token_id - self.tokenizer.get_vocab_size() if self._extra_tokens else -1
            is_extra = 0 <= extra < len(self._extra_tokens)
            text = self._extra_tokens[extra] if is_extra else token_text(self.tokenizer, token_id)
            self._texts[token_id] = text
        return text

    def describe_tokenizer(self) -> Mapping[str, str | int]:
        """Return name, size and special tokens of the vocabulary, and its origin if it is not the model's own."""
        described: dict[str, str | int] = {
            "type": describe_kind(self.tokenizer),
            "vocabulary": self.tokenizer.get_vocab_size(),
            "start token": self.token_text(self.start_ids[0]),
            "end token": self.token_text(self.end_id),
        }
        return described | ({"origin": self._origin} if self._origin else {})


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `tokenizer.json`, `vocab.json` and `merges.txt`, or `vocab.txt`. Raises `ModelFilesError`."""
    from tokenizers import Tokenizer

    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "merges.txt").is_file():
            tokenizer = _read_byte_level(folder)
        else:
            words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
            tokenizer = make_wordpiece(words, lowercase=_lowercases(folder))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFilesError(
            f"{name_of(folder)} has no readable tokenizer.json or vocab.txt; copy the whole model again."
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # "[SEP]" that a person typed is text, not the end of the caption.
    tokenizer.encode_special_tokens = True
    return tokenizer


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def make_wordpiece(words: Sequence[str], max_word_characters: int = 100, lowercase: bool = True) -> Tokenizer:
    """A WordPiece tokenizer (Schuster & Nakajima 2012) whose ids are the places in `words`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(words)}
    unknown = "[UNK]"
    model = models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=max_word_characters)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>")
    tokenizer.add_special_tokens([word for word in special if word in vocabulary])
    tokenizer.encode_special_tokens = True
    return tokenizer


def make_byte_level(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """A byte-pair tokenizer over bytes (Sennrich et al. 2016, Radford et al. 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(dict(vocabulary), list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([word for word in ("<|endoftext|>",) if word in vocabulary])
    return tokenizer


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    r"""One token as text; it begins with a space where it begins a word, at the latest from the second word on.

    Bytes that are no whole character are written as `\xe7`, and a number beyond the vocabulary as `[50300]`.
    """
    piece = tokenizer.id_to_token(token_id)
    if piece is None:
        return f"[{token_id}]"
    if not is_wordpiece(tokenizer):
        if tokenizer.token_to_id(_BLANK) is not None:
            return _sentence_piece_text(piece)
        characters = _byte_characters()
        if any(character not in characters for character in piece):
            return str(piece)
        return bytes(characters[character] for character in piece).decode("utf-8", "backslashreplace")
    if piece.startswith("##"):
        return str(piece[2:])
    is_special = len(piece) > 2 and piece[0] + piece[-1] in ("[]", "<>")
    return piece if is_special or piece in _NO_SPACE_BEFORE else f" {piece}"


def _sentence_piece_text(piece: str) -> str:
    """A piece as SentencePiece writes it: a mark for the blank, and bytes by number where letters are missing."""
    if _BYTE.fullmatch(piece):
        return bytes.fromhex(piece[3:5]).decode("utf-8", "backslashreplace")
    return piece.replace(_BLANK, " ")


def is_wordpiece(tokenizer: Tokenizer) -> bool:
    """Whether the tokens are pieces of words; else they are bytes joined in pairs."""
    from tokenizers import models

    return isinstance(tokenizer.model, models.WordPiece)


def describe_kind(tokenizer: Tokenizer) -> str:
    """The kind of a tokenizer in words."""
    lowers = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"
    return ("WordPiece" if is_wordpiece(tokenizer) else "byte-pair encoding") + (", lower-cased" if lowers else "")


def _read_byte_level(folder: Path) -> Tokenizer:
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return make_byte_level(vocabulary, [(left, right) for left, right in pairs])


def _lowercases(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    return not path.is_file() or bool(json.loads(path.read_text(encoding="utf-8")).get("do_lower_case", True))


@cache
def _byte_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for; unprintable ones have stand-ins."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
