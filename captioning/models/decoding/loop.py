"""Writing captions token by token: greedy, sampled or by beam search, any number of rows in one batch.

A loop of our own, because `transformers.generate` refuses to stream with beams, draws the samples of a whole
batch from one generator, and keeps neither the model's own log-probabilities nor its alternatives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captioning.core.types import NUM_ALTERNATIVES, DecodingOptions, PatchLayout
from captioning.models.decoding.processors import Processor, WholeWords, make_filters, make_processors, process
from captioning.models.network import Decoder


@dataclass(slots=True)
class WrittenRow:
    """One row as far as it is written; statistics cover prompt and continuation, start tokens left out."""

    token_ids: list[int]
    log_probs: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    done: bool = False

    def copy(self) -> WrittenRow:
        """The row as it stands, safe from later steps."""
        return WrittenRow(list(self.token_ids), list(self.log_probs), list(self.alternatives), self.done)


OnStep = Callable[[Sequence[WrittenRow]], None]


def row_seed(seed: int, prefix: Sequence[int], number: int) -> int:
    """A seed of a row's own, so that its neighbours in a batch change nothing."""
    text = f"{seed}:{','.join(map(str, prefix))}:{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def write_captions(
    decoder: Decoder,
    states: Tensor,
    layout: PatchLayout,
    prefixes: Sequence[Sequence[int]],
    options: DecodingOptions,
    on_step: OnStep | None = None,
    whole_words: WholeWords | None = None,
) -> list[WrittenRow]:
    """Continue every prefix of token ids, `num_captions` times each, prefix by prefix.

    `states [prefixes, prefix + patches, hidden]` is what each prefix sees of its picture. Log-probabilities are the
    model's own, whatever processors do to the scores.
    """
    processors = make_processors(options, whole_words)
    search = _search_beams if options.num_beams > 1 else _write_rows
    return search(decoder, states, layout, prefixes, options, on_step, processors)


def score_rows(
    decoder: Decoder, states: Tensor, layout: PatchLayout, token_ids: Sequence[Sequence[int]]
) -> list[WrittenRow]:
    """The model's log-probability and alternatives for every token of finished rows: one teacher-forced pass."""
    rows = [WrittenRow(list(ids), done=True) for ids in token_ids]
    input_ids, mask = _left_pad(decoder, token_ids, states.device)
    logits = decoder.step(input_ids, mask, decoder.start(states, layout))
    _record_prefixes(rows, logits)
    return rows


def _left_pad(decoder: Decoder, rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows after their start tokens, padded with these on the left: on the right, padding would come between words."""
    sequences = [[*decoder.start_ids, *row] for row in rows]
    width = max(map(len, sequences))
    input_ids = torch.full((len(rows), width), decoder.start_ids[0])
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, sequence in enumerate(sequences):
        input_ids[number, width - len(sequence) :] = torch.tensor(sequence)
        mask[number, width - len(sequence) :] = 1
    return input_ids.to(device), mask.to(device)


def _record_prefixes(rows: Sequence[WrittenRow], logits: Tensor) -> None:
    """Enter the statistics of tokens already in each row; position t-1 of `[rows, width, vocab]` predicts token t."""
    width = logits.shape[1]
    for number, row in enumerate(rows):  # one at a time: all of them may be larger than the model
        length = len(row.token_ids)
        if not length:
            continue
        log_probs = logits[number, width - 1 - length : width - 1].float().log_softmax(dim=-1)
        best, best_ids = log_probs.topk(min(NUM_ALTERNATIVES, log_probs.shape[-1]), dim=-1)
        ids = torch.tensor(row.token_ids, device=logits.device)
        row.log_probs += log_probs.gather(1, ids[:, None])[:, 0].tolist()
        row.alternatives += [
            list(zip(i, p, strict=True)) for i, p in zip(best_ids.tolist(), best.tolist(), strict=True)
        ]


def _draw(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row, each with a generator of its own."""
    probabilities = scores.softmax(dim=-1)
    draws = [torch.multinomial(row, 1, generator=g) for row, g in zip(probabilities, generators, strict=True)]
    return torch.cat(draws)


def _write_rows(
    decoder: Decoder,
    states: Tensor,
    layout: PatchLayout,
    prefixes: Sequence[Sequence[int]],
    options: DecodingOptions,
    on_step: OnStep | None,
    processors: Sequence[Processor],
) -> list[WrittenRow]:
    count = options.num_captions
    generators = [
        torch.Generator().manual_seed(row_seed(options.seed, prefix, number))
        for prefix in prefixes
        for number in range(count)
    ]
    read = [WrittenRow(list(prefix)) for prefix in prefixes]
    filters = make_filters(options) if options.temperature > 0 else []
    cache, logits, history, mask = _read_prefixes(decoder, states, layout, prefixes, count)
    _record_prefixes(read, logits)
    logits = logits[:, -1].float().repeat_interleave(count, dim=0)
    rows = [row.copy() for row in read for _ in range(count)]
    for number in range(options.max_new_tokens):
        log_probs = logits.log_softmax(dim=-1)
        scores = process(processors, history, logits)
        if filters:
            chosen = _draw(process(filters, history, scores.cpu()), generators).to(states.device)
        else:
            chosen = scores.argmax(dim=-1)
        _record_step(rows, chosen, log_probs, decoder.end_id)
        if on_step:
            on_step(rows)
        if number + 1 == options.max_new_tokens or all(row.done for row in rows):
            break
        history = torch.cat((history, chosen[:, None]), dim=1)
        mask = torch.cat((mask, mask.new_ones(len(rows), 1)), dim=1)
        logits = decoder.step(chosen[:, None], mask, cache).float()[:, -1]
    return rows


def _read_prefixes(
    decoder: Decoder, states: Tensor, layout: PatchLayout, prefixes: Sequence[Sequence[int]], copies: int
) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Read every prefix once.

    Returns the cache of so many copies of each, logits `[prefixes, width, vocab]`, and the copies' tokens and mask.
    """
    input_ids, mask = _left_pad(decoder, prefixes, states.device)
    cache = decoder.start(states, layout)
    logits = decoder.step(input_ids, mask, cache)
    if copies > 1:
        places = torch.arange(len(prefixes), device=states.device).repeat_interleave(copies)
        cache, input_ids, mask = decoder.select(cache, places), input_ids[places], mask[places]
    return cache, logits, input_ids, mask


def _record_step(rows: Sequence[WrittenRow], chosen: Tensor, log_probs: Tensor, end_id: int) -> None:
    best, best_ids = log_probs.topk(min(NUM_ALTERNATIVES, log_probs.shape[-1]), dim=-1)
    chosen_log_probs = log_probs.gather(1, chosen[:, None])[:, 0].tolist()
    columns = (chosen.tolist(), chosen_log_probs, best_ids.tolist(), best.tolist())
    for row, token_id, log_prob, ids, values in zip(rows, *columns, strict=True):
        if row.done or token_id == end_id:
            row.done = True
            continue
        row.token_ids.append(token_id)
        row.log_probs.append(log_prob)
        row.alternatives.append(list(zip(ids, values, strict=True)))


@dataclass(slots=True)
class _BeamSearch:
    """The beams of one prefix: running ones with their summed log-probabilities, and the best finished ones."""

    prefix: list[int]
    num_beams: int
    length_penalty: float
    running: list[tuple[float, list[int]]]
    finished: list[tuple[float, list[int]]] = field(default_factory=list)
    done: bool = False

    def advance(self, candidates: list[tuple[float, int, int]], end_id: int, last_step: bool) -> list[int]:
        """Take the best `(score, beam, token)`, best first, and return which beam each new one grew from."""
        grown: list[tuple[float, list[int], int]] = []
        length = len(self.running[0][1]) + 1
        for rank, (score, beam, token) in enumerate(candidates):
            ids = self.running[beam][1]
            ended = token == end_id
            if (ended or last_step) and rank < self.num_beams and not self.done:
                self.finished.append((score / length**self.length_penalty, ids if ended else [*ids, token]))
            if not ended and len(grown) < self.num_beams:
                grown.append((score, [*ids, token], beam))
        self.finished = sorted(self.finished, key=lambda f: f[0], reverse=True)[: self.num_beams]
        self.running = [(score, ids) for score, ids, _ in grown]
        if len(self.finished) == self.num_beams:
            # Over when the best running beam, as long as it is now, does not beat the worst finished one. Sums only
            # fall, so with a length_penalty up to 0 it never will; above 0 a longer caption still might, which is not
            # waited for, as transformers does not (`early_stopping=False`).
            self.done = self.done or self.running[0][0] / length**self.length_penalty <= self.finished[-1][0]
        return [beam for _, _, beam in grown]


def _search_beams(
    decoder: Decoder,
    states: Tensor,
    layout: PatchLayout,
    prefixes: Sequence[Sequence[int]],
    options: DecodingOptions,
    on_step: OnStep | None,
    processors: Sequence[Processor],
) -> list[WrittenRow]:
    beams = options.num_beams
    device = states.device
    cache, logits, history, mask = _read_prefixes(decoder, states, layout, prefixes, beams)
    logits = logits[:, -1].float().repeat_interleave(beams, dim=0)
    # All beams of a prefix start equal, so only the first may count at the first step.
    start: list[tuple[float, list[int]]] = [(0.0 if beam == 0 else -1e9, []) for beam in range(beams)]
    searches = [_BeamSearch(list(p), beams, options.length_penalty, list(start)) for p in prefixes]
    for number in range(options.max_new_tokens):
        log_probs = process(processors, history, logits.log_softmax(dim=-1))
        sums = torch.tensor([score for s in searches for score, _ in s.running], device=device)
        totals = (log_probs + sums[:, None]).view(len(searches), -1)
        scores, places = totals.topk(2 * beams, dim=-1)
        vocab = log_probs.shape[-1]
        parents: list[int] = []
        last_step = number + 1 == options.max_new_tokens
        for index, search in enumerate(searches):
            candidates = [
                (score, place // vocab, place % vocab)
                for score, place in zip(scores[index].tolist(), places[index].tolist(), strict=True)
            ]
            parents += [index * beams + beam for beam in search.advance(candidates, decoder.end_id, last_step)]
        if on_step:
            on_step(())
        if last_step or all(search.done for search in searches):
            break
        rows = torch.tensor(parents, device=device)
        cache = decoder.select(cache, rows)
        mask = torch.cat((mask[rows], mask.new_ones(len(rows), 1)), dim=1)
        newest = torch.tensor([[ids[-1]] for s in searches for _, ids in s.running], device=device)
        history = torch.cat((history[rows], newest), dim=1)
        logits = decoder.step(newest, mask, cache).float()[:, -1]
    best = [[*s.prefix, *ids] for s in searches for _, ids in s.finished[: options.num_captions]]
    return score_rows(decoder, states.repeat_interleave(options.num_captions, dim=0), layout, best)
