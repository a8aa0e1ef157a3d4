"""What only training reads off a picture's embedding: the words that belong to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioning.image_map import content_words
from captioning.training.data import Photo

_MIN_PHOTOS = 10
"""Photographs that must have a word, or there is nothing to learn about it."""


class ContrastiveHead(nn.Module):
    """Pulls a picture's embedding to that of its words, and pictures of one kind together.

    CLIP's symmetric loss (Radford et al. 2021) with several positives a row (Khosla et al. 2020). The text
    side is a bag of word embeddings.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, image_embeds: Tensor, words: Tensor, word_mask: Tensor, groups: Tensor) -> Tensor:
        """The loss of `image_embeds [N, hidden]` and `words [N, T, hidden]`; equal `groups [N]` are positives."""
        bag = (words * word_mask[..., None]).sum(dim=1) / word_mask.sum(dim=1, keepdim=True).clamp(min=1)
        text_embeds = F.normalize(self.text(bag).float(), dim=-1)
        logits = image_embeds @ text_embeds.T * self.log_scale.clamp(max=math.log(100)).exp()
        targets = (groups[:, None] == groups[None, :]).float()
        targets = targets / targets.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class TargetWords:
    """What is to be told of each photograph: the name of its kind, or the content words of its captions.

    `names` are the words, a kind's whole name among them. Words that fewer than ten photographs have are left out.
    """

    def __init__(self, photos: Sequence[Photo]) -> None:
        counts = [_count_words(photo) for photo in photos]
        spread = Counter(word for words in counts for word in words)
        kinds = {photo.class_name for photo in photos if photo.class_name}
        self.names = tuple(sorted(word for word, n in spread.items() if n >= _MIN_PHOTOS or word in kinds))
        numbers = {name: number for number, name in enumerate(self.names)}
        self._counts = [{numbers[word]: n for word, n in words.items() if word in numbers} for words in counts]

    def shares(self, places: Tensor) -> Tensor:
        """How much each word counts for the photographs at `places [N]`: `[N, words]`, a row sums to 1."""
        shares = torch.zeros(len(places), len(self.names))
        for row, place in enumerate(places.tolist()):
            words = self._counts[place]
            shares[row, list(words)] = torch.tensor(list(words.values()), dtype=torch.float32)
        return shares / shares.sum(dim=1, keepdim=True).clamp(min=1)


def _count_words(photo: Photo) -> Counter[str]:
    """How many of a photograph's captions have each content word; of one with a kind, its name."""
    if not photo.captions:
        return Counter({photo.class_name: 1})
    return Counter(word for caption in photo.captions for word in content_words(caption))


class WordHead(nn.Module):
    """Tells which words belong to a picture, by the cosine of its embedding to a vector of each.

    Softmax cross-entropy with several words a picture (Joulin et al. 2016), so that whatever an embedding says of a
    thing is said in one direction.
    """

    def __init__(self, hidden_size: int, num_words: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(num_words, hidden_size) * hidden_size**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def score(self, image_embeds: Tensor) -> Tensor:
        """Logits `[N, words]` of unit `image_embeds [N, hidden]`."""
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        return image_embeds.float() @ F.normalize(self.vectors, dim=-1).T * scale

    def forward(self, image_embeds: Tensor, shares: Tensor, label_smoothing: float) -> Tensor:
        """The loss against `shares [N, words]`."""
        return F.cross_entropy(self.score(image_embeds), shares, label_smoothing=label_smoothing)
