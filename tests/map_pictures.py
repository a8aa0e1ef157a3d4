"""Pictures for maps, and a captioner whose features tell their colours apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioning.core.types import ImageFeatures, PatchLayout, Picture
from captioning.serving.shared_captioner import SharedCaptioner
from tests.conftest import FakeCaptioner, FakeLoader, fake_tensor

COLOURS = {"red": (210, 50, 40), "green": (40, 170, 70), "blue": (50, 80, 210)}


class ColourCaptioner(FakeCaptioner):
    """A fake whose features are small copies of the pictures, so that like colours lie together."""

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        made = super().encode(images)
        return [_see(features, picture) for features, picture in zip(made, images, strict=True)]


def _see(features: ImageFeatures, picture: Picture) -> ImageFeatures:
    small = np.asarray(picture.image.resize((4, 4)), np.float32).ravel() - 127.5
    embeds = fake_tensor((small / np.linalg.norm(small)).astype(np.float32))
    states: Any = fake_tensor(np.ones((17, 4), np.float32))
    return ImageFeatures(features.model_id, picture.image_id, states, embeds, PatchLayout.from_grid(4, 4), 1)


class ColourLoader(FakeLoader):
    """Loads one colour captioner, whatever is asked for by the names of `FakeLoader`."""

    def __call__(self, model_id: str = "auto", **options: Any) -> SharedCaptioner:
        if "embedded" not in self.loaded:
            self.fakes["embedded"] = fake = ColourCaptioner(delay=self.delay, encode_delay=self.encode_delay)
            fake.step_gate, fake.picture_gate = self.step_gate, self.picture_gate
            self.loaded["embedded"] = SharedCaptioner(fake).chosen_because("a fake")
        return super().__call__(model_id, **options)


def make_picture(path: Path, colour: str, seed: int = 0) -> Path:
    """A picture of one colour with some noise."""
    noise = np.random.default_rng(seed).integers(-30, 30, (24, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def make_folder(folder: Path, each: int = 6) -> Path:
    """A folder of pictures in folders by colour, `each` of a kind."""
    for kind, colour in enumerate(COLOURS):
        for number in range(each):
            make_picture(folder / colour / f"{colour}-{number}.png", colour, 100 * kind + number)
    return folder
