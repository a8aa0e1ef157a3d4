"""Self-critical training: the network draws captions, and those that score above the others become likelier."""

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

_MAX_ORDER = 4  # words of the longest n-gram
_NUM_OTHERS = 8  # other photographs that a caption is scored against; all of a batch would take too long
_SIGMA = 6.0  # standard deviation of CIDEr-D's length penalty, in words
REPETITION_COST = 1.0
"""CIDEr-D that a caption loses for saying a phrase twice; most captions score between 0 and 2."""
TEMPERATURE = 0.6
"""The temperature at which captions are drawn.

Label smoothing leaves every word some probability. At temperature 1, few whole captions would be free of odd words.
"""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in plain words, the weights of its n-grams by order, their norms, and its number of word pairs."""

    words: str
    weights: tuple[Mapping[str, float], ...]
    norms: tuple[float, ...]
    pairs: int


class CiderReward:
    """A reward for captions: CIDEr-D against the human captions of a photograph (Vedantam et al. 2015).

    An n-gram weighs more the fewer of `photos` have it, as in `score_captions`. Two amounts are subtracted. The first
    is `specificity` times the mean CIDEr-D against the captions of the next few photographs of the batch, so that a
    caption that fits everything scores low. The second is `REPETITION_COST` for a caption that says a phrase twice.
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
        """Return the reward of every caption of each photograph; the photographs at `places` have human captions."""
        references = [[self._weigh(text) for text in self._references[place]] for place in places]
        return [
            [self._score(self._weigh(plain_words(text)), references, number) for text in texts]
            for number, texts in enumerate(captions)
        ]

    def _score(self, text: _Text, references: Sequence[Sequence[_Text]], own: int) -> float:
        score = _cider(text, references[own])
        if self._specificity and len(references) > 1:
            following = [*references[own + 1 :], *references[:own]][:_NUM_OTHERS]
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
    """Count each n-gram of a text, by order."""
    words = text.split()
    return [
        Counter(" ".join(words[first : first + order]) for first in range(len(words) - order + 1))
        for order in range(1, _MAX_ORDER + 1)
    ]


def _cider(text: _Text, references: Sequence[_Text]) -> float:
    return 10 * sum(_similarity(text, reference) for reference in references) / len(references)


def _similarity(text: _Text, reference: _Text) -> float:
    """Return the mean cosine over the orders; repeating a word gains nothing, and another length costs."""
    total = 0.0
    for mine, theirs, norm, other in zip(text.weights, reference.weights, text.norms, reference.norms, strict=True):
        if norm and other:
            shared = mine.keys() & theirs.keys()
            total += sum(min(mine[gram], theirs[gram]) * theirs[gram] for gram in shared) / (norm * other)
    return total / _MAX_ORDER * math.exp(-((text.pairs - reference.pairs) ** 2) / (2 * _SIGMA**2))


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
    """Draw `count` captions for each of `states [N, prefix + patches, hidden]` at `TEMPERATURE`.

    All continue the start tokens and `opening_ids`. Returns token ids `[N · count, start + opening + T]`, and the
    number of drawn tokens of each, including the end `[N · count]`.
    """
    rows = torch.arange(len(states), device=states.device).repeat_interleave(count)
    cache = decoder.select(decoder.start(states, layout), rows)
    new = ids = torch.tensor([[*decoder.start_ids, *opening_ids]] * len(rows), device=states.device)
    mask = torch.ones_like(ids)
    lengths = torch.zeros_like(rows)
    writing = torch.ones_like(rows, dtype=torch.bool)
    for _ in range(max_tokens):
        probabilities = (decoder.step(new, mask, cache)[:, -1].float() / TEMPERATURE).softmax(dim=-1)
        # Drawn on the processor, so that a seed gives the same captions on every device.
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
    """Return a loss that makes drawn captions likelier where they beat the others of their photograph.

    Also returns the mean reward. REINFORCE (Williams 1992) on CIDEr-D as in Rennie et al. 2017. The baseline is the
    mean reward of the photograph's other captions (Luo 2020). `count` captions are drawn without dropout and learnt
    with it. Only the words after `opening` are rewarded. `states [N, prefix + patches, hidden]` are of the photographs
    at `places`, which have captions.
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
