"""Synthetic scenes whose object lies in a known place: a photograph in one cell of a grid over another photograph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.core.contract import Captioner
from captioning.core.errors import DataError, ImageError, OptionsError
from captioning.media.images import open_image
from captioning.training.data import TABLE_NAME, Photo, choose_photos, plain_words, read_files, with_article
from captioning.training.pointing import PointingPicture, Target
from captioning.training.things import things_named

NUM_SCENES = 250
SCENE_SIDE = 384
"""Pixels along a scene's side. Scenes are the same for every model, whatever its input size."""
GRID = 3
_CELL_SIDE = SCENE_SIDE // GRID

Pixels = NDArray[np.uint8]
"""A photograph `[side, side, 3]`, squeezed to a square."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A class photograph, `thing`, in one cell of a grid over `background`; cells count row by row."""

    thing: Photo
    background: Photo
    cell: int


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Scenes and the pixels of their photographs, by name: things at cell size, backgrounds at scene size."""

    scenes: tuple[Scene, ...]
    things: dict[str, Pixels]
    backgrounds: dict[str, Pixels]

    def draw(self, scene: Scene) -> Pixels:
        """Return a scene's pixels."""
        pixels = self.backgrounds[scene.background.name].copy()
        pixels[_cell_of(scene)] = self.things[scene.thing.name]
        return pixels


def plan_scenes(photos: Sequence[Photo], count: int, seed: int = 0) -> tuple[Scene, ...]:
    """Choose photographs and cells for `count` scenes; the same seed and photographs choose the same.

    The background is the first that can be found: a photograph with captions that name none of the things in the class
    name; one whose captions do not contain the class name; or a photograph of another class, by the same two rules. A
    photograph is used again only once no unused one fits. Raises `DataError` where no photograph fits.
    """
    things = [photo for photo in photos if photo.class_name]
    if not things:
        raise DataError(
            "Scenes need photographs with a class_name, and this split has none; choose another split or folder."
        )
    rng = np.random.default_rng(seed)
    drawn_things = _Deck(things, rng)
    captioned = _Deck([photo for photo in photos if photo.captions], rng)
    others = _Deck(things, rng)
    said = {photo.name: things_named(" ".join((*photo.captions, photo.class_name))) for photo in photos}
    return tuple(_plan_scene(drawn_things.draw(), captioned, others, said, rng) for _ in range(count))


def _plan_scene(
    thing: Photo | None, captioned: _Deck, others: _Deck, said: dict[str, set[str]], rng: np.random.Generator
) -> Scene:
    assert thing is not None
    cell = int(rng.integers(GRID * GRID))
    named = things_named(thing.class_name) - {"a", "an", "of", "the"}
    name = f" {plain_words(thing.class_name)} "

    def differs(photo: Photo) -> bool:
        return not named & said[photo.name]

    def says_other(photo: Photo) -> bool:
        told = (f" {plain_words(text)} " for text in photo.captions)
        return photo.class_name != thing.class_name and not any(name in text for text in told)

    tries = ((deck, fits) for deck in (captioned, others) for fits in (differs, says_other))
    background = next((photo for deck, fits in tries if (photo := deck.draw(fits))), None)
    if background is None:
        raise DataError(
            f"No photograph of this split can lie behind {with_article(thing.class_name)}, because all show one; add "
            "photographs of other classes, or with captions of other things."
        )
    return Scene(thing, background, cell)


class _Deck:
    """A shuffled deck of photographs, shuffled anew once no photograph left in it fits."""

    def __init__(self, photos: Sequence[Photo], rng: np.random.Generator) -> None:
        self._photos = photos
        self._rng = rng
        self._left: list[Photo] = []

    def draw(self, fits: Callable[[Photo], bool] = lambda _: True) -> Photo | None:
        """Take the next photograph that fits, or return `None` where none does."""
        found = self._take(fits)
        if found is None:
            self._left = [self._photos[place] for place in self._rng.permutation(len(self._photos))]
            found = self._take(fits)
        return found

    def _take(self, fits: Callable[[Photo], bool]) -> Photo | None:
        place = next((place for place, photo in enumerate(self._left) if fits(photo)), None)
        return None if place is None else self._left.pop(place)


def load_scenes(folders: Path | Sequence[Path], split: str, count: int = NUM_SCENES, seed: int = 0) -> SceneSet:
    """Plan scenes of a split of data folders and read their photographs.

    Raises `OptionsError` for fewer than one scene, and `DataError` where photographs for them are missing.
    """
    if count < 1:
        raise OptionsError(f"{count} scenes measure nothing; give 1 or more.")
    scenes = plan_scenes(choose_photos(folders, split), count, seed)
    things = {scene.thing.name for scene in scenes}
    backgrounds = {scene.background.name for scene in scenes}
    small: dict[str, Pixels] = {}
    large: dict[str, Pixels] = {}
    left = things | backgrounds
    for folder in [folders] if isinstance(folders, Path) else folders:
        for name, data in read_files(folder, sorted(left)):
            try:
                image = open_image(data, name).image
            except ImageError as error:
                raise DataError(f"{name} in {folder} is not a readable picture.") from error
            if name in things:
                small[name] = _squeeze(image, _CELL_SIDE)
            if name in backgrounds:
                large[name] = _squeeze(image, SCENE_SIDE)
            left.discard(name)
    if left:
        raise DataError(f"{len(left)} photographs that {TABLE_NAME} names are missing: first {min(left)}.")
    return SceneSet(scenes, small, large)


def _squeeze(image: Image.Image, side: int) -> Pixels:
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def _cell_of(scene: Scene) -> tuple[slice, slice]:
    row, column = divmod(scene.cell, GRID)
    return slice(row * _CELL_SIDE, (row + 1) * _CELL_SIDE), slice(column * _CELL_SIDE, (column + 1) * _CELL_SIDE)


def show_scenes(captioner: Captioner, scenes: SceneSet) -> Iterator[PointingPicture]:
    """Yield each scene with the caption "a photo of a …" and its class's words as the target."""
    for scene in scenes.scenes:
        picture = open_image(Image.fromarray(scenes.draw(scene)), scene.thing.name)
        (features,) = captioner.encode([picture])
        article, _, name = with_article(scene.thing.class_name).partition(" ")
        caption = captioner.caption_from_text(features, f"a photo of {article}", name)
        mask = np.zeros((SCENE_SIDE, SCENE_SIDE), np.bool_)
        mask[_cell_of(scene)] = True
        word = tuple(range(caption.num_prompt_tokens, len(caption.token_ids)))
        yield PointingPicture(scene.thing.name, picture, caption, (Target(word, mask),) if word else ())
