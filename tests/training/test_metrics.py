from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioning.attention.faithfulness import paired_bootstrap
from captioning.core.errors import OptionsError, PromptError
from captioning.core.types import Caption, ImageFeatures
from captioning.training.data import Photo, PhotoSet, load_photos
from captioning.training.metrics import (
    check_scorer,
    evaluate_captions,
    evaluate_pixels,
    known_words,
    named_kind,
    neighbour_vote,
    pixel_vectors,
    repeats_a_phrase,
    repeats_a_word,
    score_captions,
)
from tests.conftest import FakeCaptioner

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


def test_neighbours_vote_by_angle_and_ties_go_to_the_nearer() -> None:
    train = np.array([[1, 0], [10, 1], [0, 1], [1, 9]], np.float32)
    kinds = ["flat", "flat", "steep", "steep"]
    dev = np.array([[5, 0.2], [0.1, 7]], np.float32)
    assert neighbour_vote(train, kinds, dev, ["flat", "steep"], k=2) == 1.0
    assert neighbour_vote(train, kinds, dev, ["steep", "steep"], k=2) == 0.5
    assert neighbour_vote(train, kinds, dev, ["flat", "steep"], k=4) == 1.0


def test_pixels_tell_kinds_that_differ_in_colour(data_folder: Path) -> None:
    train, dev = (load_photos(data_folder, split, side=40) for split in ("train", "dev"))
    assert evaluate_pixels(train, dev, side=20) == 1.0
    assert evaluate_pixels(train, dev, side=32) == 1.0


@pytest.mark.parametrize("side", [8, 7, 3])
def test_pixels_are_averaged_over_equal_areas(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24), np.uint8)
    photos = tuple(Photo(name, "dev", "thing", ()) for name in "ab")
    vectors = pixel_vectors(PhotoSet(photos, pixels), side)
    fine = pixels.repeat(side, axis=2).repeat(side, axis=3).astype(np.float32)
    flat = fine.reshape(2, 3, side, 24, side, 24).mean(axis=(3, 5)).reshape(2, -1)
    np.testing.assert_allclose(vectors, flat - flat.mean(axis=1, keepdims=True), atol=1e-2)
    np.testing.assert_allclose(vectors.mean(axis=1), 0, atol=1e-3)


class Forgetful(FakeCaptioner):
    """A captioner that reads at most twenty words."""

    def caption_from_text(self, features: ImageFeatures, prompt: str, text: str) -> Caption:
        if not 0 < len(text.split()) <= 20:
            raise PromptError("no room, or no word")
        return super().caption_from_text(features, prompt, text)


def test_a_caption_without_room_or_words_counts_in_scores_and_not_in_guesses(data_folder: Path) -> None:
    data = load_photos(data_folder, "dev", side=40)
    captioner = Forgetful()
    long = tuple(replace(photo, captions=("word " * 1000, "...")) if photo.captions else photo for photo in data.photos)
    figures = evaluate_captions(captioner, PhotoSet(long, data.pixels), ["red anchor"])
    assert "token_accuracy" not in figures
    assert figures["captioned"] == 6
    usual = evaluate_captions(captioner, data, ["red anchor"])
    assert 0 <= usual["token_accuracy"] <= 1


def test_what_scores_captions_is_asked_for_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_scorer()
    monkeypatch.setattr("captioning.training.metrics.find_spec", lambda name: None)
    with pytest.raises(OptionsError, match=r"pip install -r requirements-dev\.txt"):
        check_scorer()


def test_bootstrap_interval_holds_the_mean_and_widens_with_grouping() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0.3, 1, 40), 10)
    mean, low, high = paired_bootstrap(values, list(range(400)))
    assert low < mean < high
    _, grouped_low, grouped_high = paired_bootstrap(values, [n // 10 for n in range(400)])
    assert grouped_high - grouped_low > 2 * (high - low)


@pytest.mark.parametrize(
    ("caption", "repeats"),
    [
        ("a blue and blue and blue shirt", True),
        ("a man and a man in a boat", True),
        ("a man in a red shirt and a man in a blue shirt", True),
        ("the dog the dog", True),
        ("a man in a red shirt and a woman in a blue one", False),
        ("a dog and another dog", False),
        ("two dogs and two cats", False),
        ("a band and a bandana", False),
        ("", False),
    ],
)
def test_phrases_that_come_twice_are_found(caption: str, repeats: bool) -> None:
    assert repeats_a_phrase(caption) is repeats


def test_words_of_photographs_are_those_of_captions_and_names() -> None:
    photos = [Photo("a.jpg", "train", "", ("A man 's hat .",)), Photo("b.jpg", "train", "Totem Pole", ())]
    assert known_words(photos) == {"a", "man's", "hat", "totem", "pole"}
