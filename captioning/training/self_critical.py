"""Self-critical training: captions that the network draws are made likelier the better they match people's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioning.core.types import PatchLayout
from captioning.models.decoding.engine import torch_engine
from captioning.models.network import Decoder, TrainableNetwork
from captioning.training.data import Photo, plain_words
from captioning.training.metrics import repeats_a_phrase

_ORDERS = 4  # words of the longest n-gram
_OTHERS = 8  # photographs that a caption is not to fit; scoring all of a batch takes longer than learning from it
_SIGMA = 6.0  # how forgiving CIDEr-D is of another length, in words
REPETITION_COST = 1.0
"""How much CIDEr-D a caption loses that says a phrase twice; most captions win between 0 and 2."""
TEMPERATURE = 0.6
"""What captions are drawn at: label smoothing leaves every word a share, which few whole sentences would escape."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in plain words, the weights of its n-grams by their order, their norms, and its length in word pairs."""

    words: str
    weights: tuple[Mapping[str, float], ...]
    norms: tuple[float, ...]
    pairs: int


class CiderReward:
    """CIDEr-D of captions against those that people gave a photograph (Vedantam et al. 2015).

    What `score_captions` computes, a caption at a time; an n-gram is the rarer the fewer of `photos` have it.
    `specificity` times its mean against the captions of other photographs of a batch, the next few, is taken off, so
    that what fits everything wins little; and `REPETITION_COST` of a caption that says a phrase twice.
    """

    def __init__(self, photos: Sequence[Photo], specificity: float = 0.0) -> None:
        self._specificity = specificity
        self._references = [[plain_words(text) for text in photo.captions] for photo in photos]
        described = [texts for texts in self._references if texts]
        self._log_count = math.log(max(len(described), 1))
        self._counts: Counter[str] = Counter()
        for texts in described:
            self._counts.update({gram for text in texts for grams in _count_grams(text) for gram in grams})

    def score(self, captions: Sequence[Sequence[str]], places: Sequence[int]) -> list[list[float]]:
        """The reward of each of the captions of each photograph; those at `places` have captions of people."""
        references = [[self._weigh(text) for text in self._references[place]] for place in places]
        return [
            [self._score(self._weigh(plain_words(text)), references, number) for text in texts]
            for number, texts in enumerate(captions)
        ]

    def _score(self, text: _Text, references: Sequence[Sequence[_Text]], own: int) -> float:
        score = _cider(text, references[own])
        if self._specificity and len(references) > 1:
            following = [*references[own + 1 :], *references[:own]][:_OTHERS]
            others = [_cider(text, texts) for texts in following]
            score -= self._specificity * sum(others) / len(others)
        return score - REPETITION_COST * repeats_a_phrase(text.words)

    def _weigh(self, text: str) -> _Text:
        counts = _count_grams(text)
        weights = tuple(
            {gram: count * (self._log_count - math.log(max(1, self._counts[gram]))) for gram, count in grams.items()}
            for grams in counts
        )
        norms = tuple(math.sqrt(sum(weight * weight for weight in grams.values())) for grams in weights)
        return _Text(text, weights, norms, counts[1].total())


def _count_grams(text: str) -> list[Counter[str]]:
    """How often a text has each n-gram, by its order."""
    words = text.split()
    return [
        Counter(" ".join(words[first : first + order]) for first in range(len(words) - order + 1))
        for order in range(1, _ORDERS + 1)
    ]


def _cider(text: _Text, references: Sequence[_Text]) -> float:
    return 10 * sum(_similarity(text, reference) for reference in references) / len(references)


def _similarity(text: _Text, reference: _Text) -> float:
    """Mean cosine over the orders, where repeating a word wins nothing and another length costs."""
    total = 0.0
    for mine, theirs, norm, other in zip(text.weights, reference.weights, text.norms, reference.norms, strict=True):
        if norm and other:
            shared = mine.keys() & theirs.keys()
            total += sum(min(mine[gram], theirs[gram]) * theirs[gram] for gram in shared) / (norm * other)
    return total / _ORDERS * math.exp(-((text.pairs - reference.pairs) ** 2) / (2 * _SIGMA**2))


@torch.no_grad()
def draw_captions(
    decoder: Decoder,
    states: Tensor,
    layout: PatchLayout,
    count: int,
    max_tokens: int,
    generator: torch.Generator,
    opening_ids: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Draw `count` captions for each of `states [N, prefix + patches, hidden]`, from the decoder's sharpened odds.

    All go on from the start tokens and `opening_ids`. Returns token ids `[N · count, start + opening + T]`, and how
    many tokens of each were drawn `[N · count]`, the end included.
    """
    rows = torch.arange(len(states), device=states.device).repeat_interleave(count)
    cache = decoder.select(decoder.start(states, layout), rows)
    new = ids = torch.tensor([[*decoder.start_ids, *opening_ids]] * len(rows), device=states.device)
    mask = torch.ones_like(ids)
    lengths = torch.zeros_like(rows)
    writing = torch.ones_like(rows, dtype=torch.bool)
    for _ in range(max_tokens):
        probabilities = (decoder.step(new, mask, cache)[:, -1].float() / TEMPERATURE).softmax(dim=-1)
        # Drawn on the processor: a seed then means the same on every device.
        new = torch.multinomial(probabilities.cpu(), 1, generator=generator).to(states.device)
        ids, mask = torch.cat((ids, new), dim=1), torch.cat((mask, torch.ones_like(new)), dim=1)
        lengths += writing
        writing &= new[:, 0] != decoder.end_id
        if not writing.any():
            break
    return ids, lengths


def self_critical_loss(
    network: TrainableNetwork,
    states: Tensor,
    layout: PatchLayout,
    places: Sequence[int],
    reward: CiderReward,
    count: int,
    max_tokens: int,
    seed: int,
    opening: str = "",
) -> tuple[Tensor, float]:
    """A loss that makes drawn captions likelier where they beat the others of their photograph, and their mean reward.

    REINFORCE (Williams 1992) on CIDEr-D as in Rennie et al. 2017, where the baseline is the mean reward of the
    photograph's other captions (Luo 2020). `count` captions are drawn, without dropout, and learnt from with it; what
    counts of them is what follows `opening`.
    `states [N, prefix + patches, hidden]` are of the photographs at `places`, which have captions.
    """
    training = network.module.training
    network.module.eval()
    generator = torch.Generator().manual_seed(seed)
    opening_ids = network.text_to_ids(opening) if opening else []
    ids, lengths = draw_captions(torch_engine(network), states, layout, count, max_tokens, generator, opening_ids)
    network.module.train(training)
    start = len(network.start_ids) + len(opening_ids)
    texts = [network.ids_to_text(row[start : start + n]) for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
    drawn = [texts[first : first + count] for first in range(0, len(texts), count)]
    rewards = torch.tensor(reward.score(drawn, places), device=states.device)
    advantages = (rewards - rewards.mean(dim=1, keepdim=True)) * count / (count - 1)
    rows = torch.arange(len(states), device=states.device).repeat_interleave(count)
    cache = network.select(network.start(states, layout), rows)
    logits = network.step(ids[:, :-1], torch.ones_like(ids[:, :-1]), cache)[:, start - 1 :]
    log_probs = (logits.float() / TEMPERATURE).log_softmax(dim=-1).gather(2, ids[:, start:, None])[..., 0]
    own = torch.arange(log_probs.shape[1], device=states.device) < lengths[:, None]
    loss = -(advantages.flatten()[:, None] * log_probs * own).sum() / own.sum()
    return loss, float(rewards.mean())
