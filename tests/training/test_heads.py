from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from captioning.training.data import Photo
from captioning.training.heads import ContrastiveHead, TargetWords, WordHead


def photos() -> list[Photo]:
    dogs = [Photo(f"{n}.jpg", "train", "", ("A brown dog runs .", "the dog on grass", "A dog")) for n in range(12)]
    return [*dogs, Photo("a.jpg", "train", "grand piano", ()), Photo("b.jpg", "train", "", ("A zebra .", "one zebra"))]


def test_words_that_say_something_and_are_common_are_told_and_kinds_by_their_whole_name() -> None:
    assert TargetWords(photos()).names == ("brown", "dog", "grand piano", "grass", "runs")


def test_a_word_counts_by_how_many_captions_have_it() -> None:
    words = TargetWords(photos())
    shares = words.shares(torch.tensor([0, 12, 13]))
    told = dict(zip(words.names, shares[0].tolist(), strict=True))
    assert told["dog"] == pytest.approx(3 / 6)
    assert told["brown"] == told["grass"] == told["runs"] == pytest.approx(1 / 6)
    assert shares[1].tolist() == [0, 0, 1, 0, 0]
    assert shares[2].sum() == 0  # nothing but a rare word


def test_the_loss_of_words_falls_as_an_embedding_turns_to_them() -> None:
    torch.manual_seed(0)
    head = WordHead(16, 5)
    toward, away = F.normalize(head.vectors[2:3], dim=-1), F.normalize(-head.vectors[2:3], dim=-1)
    shares = torch.eye(5)[2:3]
    assert head(toward, shares, 0.0) < head(away, shares, 0.0)
    assert head.score(toward).argmax() == 2


def test_the_contrastive_loss_is_lowest_where_pictures_lie_at_their_own_words() -> None:
    torch.manual_seed(0)
    head = ContrastiveHead(16)
    words, mask = torch.randn(4, 3, 16), torch.ones(4, 3)
    texts = F.normalize(head.text(words.mean(dim=1)), dim=-1)
    groups = torch.arange(4)
    assert head(texts, words, mask, groups) < head(texts.flip(0), words, mask, groups)
    # Pictures of one kind may lie at each other's words.
    assert head(texts.flip(0), words, mask, torch.zeros(4, dtype=torch.long)) < head(texts.flip(0), words, mask, groups)
