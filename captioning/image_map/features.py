"""Features of a collection's pictures, encoded in batches; single pictures may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captioning.core.contract import Captioner
from captioning.core.errors import AcceleratorError, CaptioningError, Stopped
from captioning.core.types import Picture
from captioning.image_map.neighbours import unit_rows
from captioning.media.collection import FailedImage, NamedImage
from captioning.media.images import open_image

OnImage = Callable[[int, int, str], None]
"""Receives the number of finished pictures, the total, and the name of the next; raise `Stopped` in it to stop."""
_BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class PictureEmbeddings:
    """The features of a collection's pictures.

    `embeds [kept, hidden]` have unit length. `image_ids [kept]` are hashes of pixels. `kept [kept]` are indices into
    the collection. `failed` holds the other pictures, with reasons.
    """

    embeds: NDArray[np.float32]
    image_ids: tuple[str, ...]
    kept: tuple[int, ...]
    failed: tuple[FailedImage, ...]


def embed(
    captioner: Captioner, images: Sequence[NamedImage], batch: int | None = None, on_image: OnImage | None = None
) -> PictureEmbeddings:
    """Return the `image_embeds` of every picture; those that cannot be read or encoded are listed with a reason.

    `batch` pictures are held decoded at a time. The default is one on a processor, where batches are no faster, else
    eight. Identical pictures are encoded once. Raises whatever `on_image` raises.
    """
    batch = batch or (1 if captioner.device == "cpu" else _BATCH)
    gathered = _EncodingQueue(captioner)
    for number, image in enumerate(images):
        if on_image is not None:
            on_image(number, len(images), image.name)
        gathered.read(number, image)
        if len(gathered.waiting) >= batch:
            gathered.encode_waiting()
    gathered.encode_waiting()
    if on_image is not None and images:
        on_image(len(images), len(images), images[-1].name)
    return gathered.finish(images)


class _EncodingQueue:
    """A queue of pictures to encode, and the features so far."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.waiting: dict[str, Picture] = {}
        self._ids: dict[int, str] = {}
        self._embeds: dict[str, NDArray[np.float32]] = {}
        self._reasons: dict[int, str] = {}
        self._refused: dict[str, str] = {}

    def read(self, number: int, image: NamedImage) -> None:
        """Open one picture, and queue it unless an identical one was encoded."""
        try:
            picture = open_image(image.path, image.name)
        except CaptioningError as error:
            self._reasons[number] = FailedImage.of_error(image.name, error).reason
            return
        self._ids[number] = picture.image_id
        if picture.image_id not in self._embeds and picture.image_id not in self._refused:
            self.waiting[picture.image_id] = picture

    def encode_waiting(self) -> None:
        """Encode the queued pictures together; where that fails, one by one, to find the picture that causes it."""
        pictures = list(self.waiting.values())
        self.waiting = {}
        try:
            self._encode(pictures)
        except (AcceleratorError, Stopped):
            raise  # no picture is the cause
        except (CaptioningError, RuntimeError, ValueError) as error:
            if len(pictures) == 1:
                self._refused[pictures[0].image_id] = f"The model cannot use it ({error})."
                return
            for picture in pictures:
                self.waiting = {picture.image_id: picture}
                self.encode_waiting()

    def _encode(self, pictures: list[Picture]) -> None:
        for features in self._captioner.encode(pictures) if pictures else ():
            values = np.asarray(features.image_embeds.float(), np.float32)
            if np.isfinite(values).all():
                self._embeds[features.image_id] = values
            else:
                self._refused[features.image_id] = "The model's features of it are not finite numbers."

    def finish(self, images: Sequence[NamedImage]) -> PictureEmbeddings:
        """Return all results in the order of the collection."""
        reasons = self._reasons | {n: self._refused[i] for n, i in self._ids.items() if i in self._refused}
        kept = [number for number, image_id in self._ids.items() if image_id in self._embeds]
        rows = [self._embeds[self._ids[number]] for number in kept]
        return PictureEmbeddings(
            embeds=unit_rows(np.stack(rows)) if rows else np.empty((0, 0), np.float32),
            image_ids=tuple(self._ids[number] for number in kept),
            kept=tuple(kept),
            failed=tuple(FailedImage(images[number].name, reason) for number, reason in sorted(reasons.items())),
        )
