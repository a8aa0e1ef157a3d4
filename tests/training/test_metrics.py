from __future__ import annotations

import pytest

from captioning.training.metrics import named_kind, repeats_a_word, score_captions

REFERENCES = [("A dog runs .", "a brown dog is running"), ("Two men sit", "men on a bench"), ("a red car", "one car")]


def test_a_human_caption_scores_full_bleu_and_a_wrong_one_none() -> None:
    right = score_captions(["a brown dog is running!", "Men on a bench", "A red car."], REFERENCES)
    wrong = score_captions(["zzz yyy"] * 3, REFERENCES)
    assert right["bleu_1"] == pytest.approx(1.0)
    assert right["cider"] > 1.0
    assert wrong["cider"] == 0
    assert wrong["bleu_4"] < 1e-6


def test_the_longest_kind_that_stands_as_whole_words_counts() -> None:
    kinds = ["person", "face of a person", "cup", "car"]
    assert named_kind("a photo of a face of a person", kinds) == "face of a person"
    assert named_kind("a person in a scarf", kinds) == "person"
    assert named_kind("a cupboard and a cart", kinds) is None


def test_three_equal_words_in_a_row_are_noticed() -> None:
    assert repeats_a_word("a dog dog dog runs")
    assert not repeats_a_word("a dog dog runs a dog")
