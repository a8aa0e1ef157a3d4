"""What a step is fed: which photographs, and the captions drawn for them, tokenised as the batch is put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from captioning.models.tokens import common_length
from captioning.training.data import NAME_OPENINGS, OPENINGS, Photo, plain_words, with_article
from captioning.training.options import TrainingOptions


class Words(Protocol):
    """What of a `Network` says how captions are spelled."""

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The tokens that every sequence starts with."""
        ...

    @property
    def end_id(self) -> int:
        """The token that ends a caption."""
        ...

    def text_to_ids(self, text: str) -> list[int]:
        """The tokens of a text, without start and end tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Photographs and captions of one step.

    `places [N]` are those of the photographs, in the order of their captions: `input_ids [N · captions, T]`, and
    `labels` of the same shape that are -100 where nothing is learnt. `seed` is for whatever else the step draws.
    """

    step: int
    places: Tensor
    input_ids: Tensor
    labels: Tensor
    seed: int


class CaptionDrawer:
    """Draws captions to teach: a human one or the name of a class, at times after an opening.

    A share `name_rate` of the captions of a photograph in `names`, by its name, is that class after an opening.
    """

    def __init__(
        self,
        words: Words,
        opening_rate: float,
        max_tokens: int,
        names: Mapping[str, str] | None = None,
        name_rate: float = 0.0,
    ) -> None:
        self.words = words
        self.opening_rate = opening_rate
        self.max_tokens = max_tokens
        self._names = names or {}
        self._name_rate = name_rate

    def text(self, photo: Photo, generator: np.random.Generator) -> tuple[str, str]:
        """An opening (often empty) that is given, and the words to be learnt after it."""
        if self._name_rate and photo.name in self._names and generator.random() < self._name_rate:
            return NAME_OPENINGS[generator.integers(len(NAME_OPENINGS))], with_article(self._names[photo.name])
        if photo.captions:
            words = plain_words(photo.captions[generator.integers(len(photo.captions))])
        else:
            words = with_article(photo.class_name)
        if generator.random() >= self.opening_rate:
            return "", words
        if generator.random() < 0.4 and words.startswith(("a ", "an ", "two ")) and words.count(" ") > 1:
            # "a woman walks" also teaches how to go on after "the woman"; nothing teaches to end there.
            _first, second, *rest = words.split(" ")
            return f"the {second}", " ".join(rest)
        return OPENINGS[generator.integers(len(OPENINGS))], words

    def batch(self, photos: Sequence[Photo], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One drawn caption a photo: `input_ids [N, T]`, and `labels [N, T]` that are -100 where nothing is learnt."""
        rows = [self._row(*self.text(photo, generator)) for photo in photos]
        length = max(len(ids) for ids, _ in rows) - 1
        input_ids = torch.full((len(rows), length), self.words.end_id)
        labels = torch.full((len(rows), length), -100)
        for row, (ids, given) in enumerate(rows):
            input_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            labels[row, given : len(ids) - 1] = torch.tensor(ids[given + 1 :])
        return input_ids, labels

    def _row(self, opening: str, words: str) -> tuple[list[int], int]:
        """A whole sequence, and the place of the last token that is given."""
        start = self.words.start_ids
        ids = self.words.text_to_ids(f"{opening} {words}".strip())
        given = self.words.text_to_ids(opening) if opening else []
        # Where the text splits differently after the opening, the opening ends with what both have in common.
        known = len(start) - 1 + common_length(given, ids)
        return [*start, *ids, self.words.end_id][: self.max_tokens + 1], known


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The photographs of every step of a run from `first` on, as (step, place).

    Everything random follows from (seed, step), so that a resumed run draws what the first would have.
    """

    def __init__(self, photos: Sequence[Photo], options: TrainingOptions, first: int = 0) -> None:
        of_folder = options.folder_repeats()
        usual = [options.captioned_repeats if photo.captions else 1 for photo in photos]
        folders = [photo.name.partition("/")[0] for photo in photos]
        self._times = np.array([of_folder.get(name, times) for name, times in zip(folders, usual, strict=True)], float)
        self._options = options
        self._first = first

    @property
    def steps_per_pass(self) -> int:
        """Whole batches in one pass over the photographs."""
        return max(1, int(self._times.sum()) // self._options.batch_size)

    def __len__(self) -> int:
        return max(0, self.steps_per_pass * self._options.passes - self._first)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self._options.batch_size
        order = np.arange(0)
        for step in range(self._first, self._first + len(self)):
            number, place = divmod(step, self.steps_per_pass)
            if place == 0 or step == self._first:
                order = self._order(np.random.default_rng((self._options.seed, number)))
            yield [(step, int(chosen)) for chosen in order[place * size : (place + 1) * size]]

    def _order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw the photographs of one pass: as often as each is seen, a rest below 1 by systematic sampling."""
        places = generator.permutation(len(self._times))
        ends = np.floor(self._times[places].cumsum() + generator.random())
        return generator.permutation(np.repeat(places, np.diff(ends, prepend=0.0).astype(int)))


class _StepPhotos(Dataset[tuple[int, int, Photo]]):
    """Photographs by (step, place)."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = photos

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, int, Photo]:
        step, place = index
        return step, place, self._photos[place]


class _Collator:
    """Draws and tokenises the captions of a step."""

    def __init__(self, drawer: CaptionDrawer, options: TrainingOptions) -> None:
        self._drawer = drawer
        self._options = options

    def __call__(self, items: list[tuple[int, int, Photo]]) -> Batch:
        step = items[0][0]
        draw = np.random.default_rng((self._options.seed, 1, step))
        photos = [photo for _, _, photo in items for _ in range(self._options.captions_per_photo)]
        input_ids, labels = self._drawer.batch(photos, draw)
        places = torch.tensor([place for _, place, _ in items])
        return Batch(step, places, input_ids, labels, int(draw.integers(2**62)))


def load_batches(
    photos: Sequence[Photo],
    words: Words,
    options: TrainingOptions,
    first: int = 0,
    names: Mapping[str, str] | None = None,
) -> DataLoader[Any]:
    """The batches of a run from step `first` on; pictures stay where they are and are not part of them.

    `names` holds the class that an encoder's classifier gives a photograph, by the photograph's name.
    No worker processes: a batch of captions is tokenised in two thousandths of a second.
    """
    drawer = CaptionDrawer(words, options.opening_rate, options.max_tokens, names, options.name_rate)
    sampler = StepSampler(photos, options, first)
    return DataLoader(_StepPhotos(photos), batch_sampler=sampler, collate_fn=_Collator(drawer, options))
