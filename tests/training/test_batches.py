from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from captioning.models.families.patch_captioner import END, START, special_id
from captioning.training.batches import Batch, CaptionDrawer, StepSampler, load_batches
from captioning.training.data import NAME_OPENINGS, Photo, make_tokenizer, read_table
from captioning.training.options import TrainingOptions

OPTIONS = TrainingOptions(passes=2, batch_size=5, captions_per_photo=2)


class Spelling:
    """A tokenizer with the interface of a network."""

    def __init__(self, photos: tuple[Photo, ...]) -> None:
        self.tokenizer = make_tokenizer(photos)
        self.start_ids = (special_id(self.tokenizer, START),)
        self.end_id = special_id(self.tokenizer, END)

    def text_to_ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)


@pytest.fixture
def photos(data_folder: Path) -> tuple[Photo, ...]:
    return read_table(data_folder)


def test_drawn_openings_are_given_and_not_learnt(photos: tuple[Photo, ...]) -> None:
    words = Spelling(photos)
    generator = np.random.default_rng(0)
    always = CaptionDrawer(words, opening_rate=1.0, max_tokens=40)
    opening, rest = always.text(photos[0], generator)
    assert opening
    assert rest
    input_ids, labels = always.batch(photos[:8], generator)
    for row_ids, row_labels in zip(input_ids, labels, strict=True):
        learnt = row_labels != -100
        assert not learnt[0]
        assert row_labels[learnt][-1] == words.end_id
        # what is learnt at a place is what stands at the next one
        places = learnt.nonzero()[:-1, 0]
        assert torch.equal(row_labels[places], row_ids[places + 1])


def test_no_caption_ends_where_its_opening_does(photos: tuple[Photo, ...]) -> None:
    always = CaptionDrawer(Spelling(photos), opening_rate=1.0, max_tokens=40)
    generator = np.random.default_rng(0)
    short = Photo("a.jpg", "train", "anchor", ())
    drawn = [always.text(photo, generator) for photo in (short, photos[0]) for _ in range(60)]
    assert all(rest for _, rest in drawn)
    assert any(opening.startswith("the ") for opening, _ in drawn)


def test_classes_that_an_encoder_sees_are_taught_after_an_opening(photos: tuple[Photo, ...]) -> None:
    drawer = CaptionDrawer(Spelling(photos), 0.3, 40, {photos[0].name: "orange"}, name_rate=0.5)
    generator = np.random.default_rng(0)
    drawn = [drawer.text(photos[0], generator) for _ in range(200)]
    named = [opening for opening, words in drawn if words == "an orange"]
    assert 60 < len(named) < 140
    assert set(named) == set(NAME_OPENINGS)
    assert not any(words == "an orange" for _, words in (drawer.text(photos[2], generator) for _ in range(50)))


def test_without_openings_everything_is_learnt_from_the_first_word(photos: tuple[Photo, ...]) -> None:
    never = CaptionDrawer(Spelling(photos), opening_rate=0.0, max_tokens=40)
    _, labels = never.batch(photos, np.random.default_rng(0))
    assert (labels[:, 0] != -100).all()


def test_captions_are_cut_at_their_longest(photos: tuple[Photo, ...]) -> None:
    short = CaptionDrawer(Spelling(photos), opening_rate=0.0, max_tokens=2)
    input_ids, labels = short.batch(photos, np.random.default_rng(0))
    assert input_ids.shape[1] == labels.shape[1] == 2


def test_one_of_a_photographs_captions_is_drawn_each_time_it_is_seen(photos: tuple[Photo, ...]) -> None:
    words = Spelling(photos)
    options = TrainingOptions(passes=40, batch_size=1, captions_per_photo=1, captioned_repeats=1, opening_rate=0.0)
    drawn = {words.tokenizer.decode(batch.input_ids[0].tolist()) for batch in load_batches(photos[:1], words, options)}
    assert {text.strip() for text in drawn} == {"a red field", "the red wall"}


def test_a_pass_sees_captioned_photographs_twice_and_the_others_once(photos: tuple[Photo, ...]) -> None:
    sampler = StepSampler(photos, TrainingOptions(passes=1, batch_size=1))
    seen = [place for step in sampler for _, place in step]
    assert {place: seen.count(place) for place in set(seen)} == {
        place: 2 if photo.captions else 1 for place, photo in enumerate(photos)
    }


def test_folders_are_seen_as_often_as_repeats_says(photos: tuple[Photo, ...]) -> None:
    options = TrainingOptions(passes=40, batch_size=1, repeats="kinds=0.5,people=3")
    seen = [place for step in StepSampler(photos, options) for _, place in step]
    times = np.bincount(seen, minlength=len(photos)) / 40
    described = np.array([bool(photo.captions) for photo in photos])
    assert (times[described] == 3).all()
    assert times[~described].sum() == 0.5 * (~described).sum()
    assert 0.2 < times[~described].min() < times[~described].max() < 0.8


def test_a_run_that_has_done_more_than_is_asked_for_is_fed_nothing(photos: tuple[Photo, ...]) -> None:
    sampler = StepSampler(photos, TrainingOptions(passes=1, batch_size=5), first=100)
    assert (len(sampler), list(sampler)) == (0, [])


def test_a_resumed_run_is_fed_what_the_first_would_have_been(photos: tuple[Photo, ...]) -> None:
    words = Spelling(photos)
    whole: list[Batch] = list(load_batches(photos, words, OPTIONS))
    assert [batch.step for batch in whole] == list(range(2 * (54 // 5)))
    assert whole[0].input_ids.shape[0] == 2 * len(whole[0].places)
    for first, later in zip(load_batches(photos, words, OPTIONS, 13), whole[13:], strict=True):
        assert torch.equal(first.places, later.places)
        assert torch.equal(first.input_ids, later.input_ids)
        assert torch.equal(first.labels, later.labels)
        assert first.seed == later.seed
