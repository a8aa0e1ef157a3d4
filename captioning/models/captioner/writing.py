"""Requests for captions written in one batch: each caller hears of its own, and may stop or fail alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate

import torch
from torch import Tensor

from captioning.core.contract import DecodingRequest, Prefix
from captioning.core.errors import CaptioningError
from captioning.core.types import Caption, DecodingOptions, ImageFeatures
from captioning.models.captioner.texts import GrowingCaption, Texts
from captioning.models.decoding.loop import OnStep, WrittenRow, write_captions
from captioning.models.decoding.processors import WholeWords
from captioning.models.network import Decoder, KeepsWordsWhole

StatesOf = Callable[[Sequence[ImageFeatures]], Tensor]


def write_requests(
    texts: Texts,
    decoder: Decoder,
    states_of: StatesOf,
    requests: Sequence[DecodingRequest],
    options: DecodingOptions,
) -> list[list[Caption] | Exception]:
    """Return the captions of each request, or what it raises, all written in one batch."""
    batch = [_Writing(texts, request, options, states_of) for request in requests]
    going = [writing for writing in batch if writing.error is None and writing.prefix_ids]
    rows: Sequence[WrittenRow] = ()
    if going:
        parts = [states_of([w.request.features]).expand(len(w.prefix_ids), -1, -1) for w in going]
        states = parts[0] if len(parts) == 1 else torch.cat(parts)
        prefixes = [ids for writing in going for ids in writing.prefix_ids]
        typed = [prefix for writing in going for prefix in writing.request.prefixes]
        whole_words = _keep_words_whole(texts, typed, prefixes, states.device)
        heard = any(w.request.on_token or w.request.on_done for w in going)
        layout = going[0].request.features.layout
        with suppress(_NobodyListens):
            on_step = _tell(going) if heard else None
            rows = write_captions(decoder, states, layout, prefixes, options, on_step, whole_words)
    for writing, own in zip(going, _shares(going, rows), strict=True):
        if writing.error is None:
            writing.captions = writing.make_captions(own)
    return [writing.captions if writing.error is None else writing.error for writing in batch]


def _keep_words_whole(
    texts: Texts, prefixes: Sequence[Prefix], prefix_ids: Sequence[Sequence[int]], device: torch.device
) -> WholeWords | None:
    """Return the processor that a network with a small vocabulary needs, or `None`.

    People type the last word of a prompt whole; a prefix given as tokens may end with a part of a word.
    """
    network = texts.network
    if not isinstance(network, KeepsWordsWhole):
        return None
    ends_in_word = [isinstance(prefix, str) and prefix.rstrip()[-1:].isalnum() for prefix in prefixes]
    width = len(texts.network.start_ids) + max(map(len, prefix_ids))
    return WholeWords(network, ends_in_word, width, device)


class _Writing:
    """A request while it is written, and what ended it early."""

    def __init__(self, texts: Texts, request: DecodingRequest, options: DecodingOptions, states_of: StatesOf) -> None:
        self.request = request
        self.options = options
        self.captions: list[Caption] = []
        self.error: Exception | None = None
        self.prefix_ids: list[list[int]] = []
        self._growing: list[GrowingCaption] = []
        self._started = time.perf_counter()
        self._finished_after: dict[int, float] = {}
        self._told = False
        try:
            states_of([request.features])
            self.prefix_ids = [texts.prefix_ids(prefix, options.max_new_tokens) for prefix in request.prefixes]
        except CaptioningError as error:
            self.error = error
            return
        for prefix, ids in zip(request.prefixes, self.prefix_ids, strict=True):
            text = prefix if isinstance(prefix, str) else texts.network.ids_to_text(ids)
            self._growing += [
                GrowingCaption(texts, request.features, (text, len(ids)), options) for _ in range(options.num_captions)
            ]

    def make_captions(self, rows: Sequence[WrittenRow]) -> list[Caption]:
        """Return the request's captions, as far as its rows are written."""
        elapsed = time.perf_counter() - self._started
        return [
            growing.read(row, self._finished_after.setdefault(number, elapsed) if row.done else elapsed)
            for number, (growing, row) in enumerate(zip(self._growing, rows, strict=False))
        ]

    def tell(self, rows: Sequence[WrittenRow]) -> None:
        """Let the caller hear how far it is; if that raises, its rows end here and its neighbours go on."""
        if self.error is not None or self._told:
            return
        try:
            if self.request.on_token:
                self.request.on_token(self.make_captions(rows))
        except Exception as error:  # whatever a caller raises to stop, it shall have back
            self.error = error
            for row in rows:
                row.done = True
            return
        if self.request.on_done and rows and all(row.done for row in rows):
            self._told = True
            self.request.on_done(self.make_captions(rows))


class _NobodyListens(Exception):  # noqa: N818  # no error: what is left need not be written
    """Every caller of a batch has stopped."""


def _tell(batch: Sequence[_Writing]) -> OnStep:
    def on_step(rows: Sequence[WrittenRow]) -> None:
        for writing, own in zip(batch, _shares(batch, rows), strict=True):
            writing.tell(own)
        if all(writing.error is not None for writing in batch):
            raise _NobodyListens

    return on_step


def _shares(batch: Sequence[_Writing], rows: Sequence[WrittenRow]) -> list[Sequence[WrittenRow]]:
    """The rows of each; none while beams are searched."""
    counts = [len(writing.prefix_ids) * writing.options.num_captions for writing in batch]
    ends = list(accumulate(counts))
    return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]
