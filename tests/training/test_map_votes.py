from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from captioning.core.errors import DataError
from captioning.core.types import ImageFeatures, Picture
from captioning.training.data import load_photos
from captioning.training.map_votes import evaluate_map, turn_grey, vote_on_features_and_map
from captioning.training.metrics import vote
from tests.conftest import FakeCaptioner, fake_tensor


class GreyCaptioner(FakeCaptioner):
    """A captioner whose features are the brightness of a picture's lower half."""

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        made = super().encode(images)
        angles = [float(np.asarray(image.image)[32:].mean()) / 255 for image in images]
        return [
            ImageFeatures(
                one.model_id,
                one.image_id,
                one.encoder_hidden_states,
                fake_tensor(np.array([np.cos(angle), np.sin(angle)], np.float32)),
                one.layout,
                1,
            )
            for one, angle in zip(made, angles, strict=True)
        ]


def test_most_neighbours_win_and_a_tie_goes_to_the_nearer_ones() -> None:
    neighbours, closeness = np.array([[0, 1, 2], [0, 2, 3]]), np.array([[0.1, 0.1, 0.9], [0.9, 0.5, 0.1]])
    assert vote(neighbours, closeness, ["cat", "cat", "dog", "emu"]) == ["cat", "cat"]


def test_grey_photographs_keep_their_brightness_and_lose_their_colour(data_folder: Path) -> None:
    data = load_photos(data_folder, "train", side=32)
    grey = turn_grey(data).pixels
    assert (grey[:, 0] == grey[:, 1]).all()
    assert (grey[:, 0] == grey[:, 2]).all()
    expected = data.pixels.transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[:, 0], expected, atol=0.51)


def test_a_photograph_does_not_vote_for_itself() -> None:
    generator = np.random.default_rng(0)
    embeds = generator.normal(size=(60, 8)).astype(np.float32)
    kinds = generator.permutation(["a", "b"] * 30).tolist()
    positions = generator.normal(size=(60, 2)).astype(np.float32)
    votes = vote_on_features_and_map(embeds, positions, kinds, embeds, kinds, k=1)
    assert votes["features_dev"].accuracy() == 1
    assert votes["map_dev"].accuracy() == 1
    assert votes["features_train"].accuracy() < 0.8
    assert votes["map_train"].accuracy() < 0.8


def test_kinds_are_told_for_each_captioner_and_for_pixels(data_folder: Path) -> None:
    kinds = ["red anchor", "green anchor", "blue anchor"]
    train, dev = (load_photos(data_folder, split, side=64, kinds=kinds) for split in ("train", "dev"))
    assert {photo.class_name for photo in train.photos} == set(kinds)
    figures = evaluate_map({"model": GreyCaptioner()}, train, dev, k=3)
    assert (figures["train"], figures["dev"]) == (12, 6)
    assert set(figures) == {"train", "dev", "k", "model", "pixels"}
    assert figures["model"]["features_dev"] == figures["model"]["features_dev_balanced"] == 1
    assert 0 <= figures["pixels"]["map_dev"] <= 1
    with pytest.raises(DataError, match="of the kinds zebra"):
        load_photos(data_folder, "dev", kinds=["zebra"])
