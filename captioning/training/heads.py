"""Heads on a picture's embedding that only training uses."""

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
"""Photographs that must have a word before it is learnt."""


class ContrastiveHead(nn.Module):
    """A contrastive head: it pulls a picture's embedding towards that of its words, and pictures of one class together.

    The loss is CLIP's symmetric one (Radford et al. 2021) with several positives a row (Khosla et al. 2020). The text
    side is a bag of word embeddings.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, image_embeds: Tensor, words: Tensor, word_mask: Tensor, groups: Tensor) -> Tensor:
        """Return the loss of `image_embeds [N, hidden]` and `words [N, T, hidden]`.

        `word_mask [N, T]` is 1 for words that count. Rows with the same number in `groups [N]` are positives of each
        other.
        """
        bag = (words * word_mask[..., None]).sum(dim=1) / word_mask.sum(dim=1, keepdim=True).clamp(min=1)
        text_embeds = F.normalize(self.text(bag).float(), dim=-1)
        logits = image_embeds @ text_embeds.T * self.log_scale.clamp(max=math.log(100)).exp()
        targets = (groups[:, None] == groups[None, :]).float()
        targets = targets / targets.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class TargetWords:
    """The words to predict for each photograph: its class name, or the content words of its captions.

    `names` are the words; a class name is one of them as a whole. Words of fewer than ten photographs are left out.
    """

    def __init__(self, photos: Sequence[Photo]) -> None:
        counts = [_count_words(photo) for photo in photos]
        spread = Counter(word for words in counts for word in words)
        kinds = {photo.class_name for photo in photos if photo.class_name}
        self.names = tuple(sorted(word for word, n in spread.items() if n >= _MIN_PHOTOS or word in kinds))
        numbers = {name: number for number, name in enumerate(self.names)}
        self._counts = [{numbers[word]: n for word, n in words.items() if word in numbers} for words in counts]

    def shares(self, places: Tensor) -> Tensor:
        """Return the weight of each word for the photographs at `places [N]`: `[N, words]`, each row summing to 1."""
        shares = torch.zeros(len(places), len(self.names))
        for row, place in enumerate(places.tolist()):
            words = self._counts[place]
            shares[row, list(words)] = torch.tensor(list(words.values()), dtype=torch.float32)
        return shares / shares.sum(dim=1, keepdim=True).clamp(min=1)


def _count_words(photo: Photo) -> Counter[str]:
    """Count the captions of a photograph that have each content word; without captions, its class name counts once."""
    if not photo.captions:
        return Counter({photo.class_name: 1})
    return Counter(word for caption in photo.captions for word in content_words(caption))


class WordHead(nn.Module):
    """A head that predicts the words of a picture, by the cosine of its embedding to a vector of each word.

    The loss is softmax cross-entropy with several words a picture (Joulin et al. 2016). A thing is therefore expressed
    in one direction of the embedding.
    """

    def __init__(self, hidden_size: int, num_words: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(num_words, hidden_size) * hidden_size**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def score(self, image_embeds: Tensor) -> Tensor:
        """Return logits `[N, words]` of unit `image_embeds [N, hidden]`."""
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        return image_embeds.float() @ F.normalize(self.vectors, dim=-1).T * scale

    def forward(self, image_embeds: Tensor, shares: Tensor, label_smoothing: float) -> Tensor:
        """Return the loss against `shares [N, words]`."""
        return F.cross_entropy(self.score(image_embeds), shares, label_smoothing=label_smoothing)
