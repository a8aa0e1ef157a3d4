"""The batches of a run: photographs of each step, and captions drawn and tokenised for them."""

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


class CaptionTokenizer(Protocol):
    """The tokenizer part of a `Network`."""

    @property
    def start_ids(self) -> tuple[int, ...]:
        """Return the tokens that every sequence starts with."""
        ...

    @property
    def end_id(self) -> int:
        """Return the token that ends a caption."""
        ...

    def text_to_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, without start and end tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """The photographs and captions of one step.

    `places [N]` are indices of photographs. Captions are in the same order: `input_ids [N · captions, T]`, and `labels`
    of the same shape, which are -100 where no loss is taken. `seed` is for the other random choices of the step.
    """

    step: int
    places: Tensor
    input_ids: Tensor
    labels: Tensor
    seed: int


class CaptionDrawer:
    """A source of captions to learn: a random human caption or the class name, sometimes after an opening.

    `names` holds class names by the names of photographs. A share `name_rate` of these photographs' captions is that
    class name after an opening.
    """

    def __init__(
        self,
        tokenizer: CaptionTokenizer,
        opening_rate: float,
        max_tokens: int,
        names: Mapping[str, str] | None = None,
        name_rate: float = 0.0,
    ) -> None:
        self.tokenizer = tokenizer
        self.opening_rate = opening_rate
        self.max_tokens = max_tokens
        self._names = names or {}
        self._name_rate = name_rate

    def text(self, photo: Photo, generator: np.random.Generator) -> tuple[str, str]:
        """Return an opening (often empty), which is given, and the words to learn after it."""
        if self._name_rate and photo.name in self._names and generator.random() < self._name_rate:
            return NAME_OPENINGS[generator.integers(len(NAME_OPENINGS))], with_article(self._names[photo.name])
        if photo.captions:
            words = plain_words(photo.captions[generator.integers(len(photo.captions))])
        else:
            words = with_article(photo.class_name)
        if generator.random() >= self.opening_rate:
            return "", words
        if generator.random() < 0.4 and words.startswith(("a ", "an ", "two ")) and words.count(" ") > 1:
            # "a woman walks" also teaches to continue "the woman". No caption teaches to end there.
            _first, second, *rest = words.split(" ")
            return f"the {second}", " ".join(rest)
        return OPENINGS[generator.integers(len(OPENINGS))], words

    def batch(self, photos: Sequence[Photo], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw one caption for each photograph.

        Returns `input_ids [N, T]` and `labels [N, T]`, which are -100 where no loss is taken.
        """
        rows = [self._row(*self.text(photo, generator)) for photo in photos]
        length = max(len(ids) for ids, _ in rows) - 1
        input_ids = torch.full((len(rows), length), self.tokenizer.end_id)
        labels = torch.full((len(rows), length), -100)
        for row, (ids, given) in enumerate(rows):
            input_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            labels[row, given : len(ids) - 1] = torch.tensor(ids[given + 1 :])
        return input_ids, labels

    def _row(self, opening: str, words: str) -> tuple[list[int], int]:
        """Return a whole token sequence, and the index of its last given token."""
        start = self.tokenizer.start_ids
        ids = self.tokenizer.text_to_ids(f"{opening} {words}".strip())
        given = self.tokenizer.text_to_ids(opening) if opening else []
        # The whole text may split into other tokens than the opening alone: only the common prefix is given.
        known = len(start) - 1 + common_length(given, ids)
        return [*start, *ids, self.tokenizer.end_id][: self.max_tokens + 1], known


class StepSampler(Sampler[list[tuple[int, int]]]):
    """A sampler of the photographs of every step of a run from `first` on, as (step, index).

    Everything random follows from (seed, step), so that a resumed run draws the same.
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
        """Return the number of whole batches in one pass over the photographs."""
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
        """Draw the order of one pass: each photograph as often as it repeats, fractions by systematic sampling."""
        places = generator.permutation(len(self._times))
        ends = np.floor(self._times[places].cumsum() + generator.random())
        return generator.permutation(np.repeat(places, np.diff(ends, prepend=0.0).astype(int)))


class _StepPhotos(Dataset[tuple[int, int, Photo]]):
    """A dataset of photographs, indexed by (step, index)."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = photos

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, int, Photo]:
        step, place = index
        return step, place, self._photos[place]


class _Collator:
    """A collator that draws and tokenises the captions of a step."""

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
    tokenizer: CaptionTokenizer,
    options: TrainingOptions,
    first: int = 0,
    names: Mapping[str, str] | None = None,
) -> DataLoader[Any]:
    """Return the batches of a run from step `first` on, without pictures: a batch holds indices of photographs.

    `names` holds the class that an encoder's classifier gives a photograph, by the photograph's name. There are no
    worker processes, because a batch of captions is tokenised in two milliseconds.
    """
    drawer = CaptionDrawer(tokenizer, options.opening_rate, options.max_tokens, names, options.name_rate)
    sampler = StepSampler(photos, options, first)
    return DataLoader(_StepPhotos(photos), batch_sampler=sampler, collate_fn=_Collator(drawer, options))
