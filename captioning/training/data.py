"""Photographs with captions or class names, held decoded in memory; the words and the pictures a step is fed.

A data folder holds `captions.tsv` (columns `image, split, class_name, caption`, tab-separated, one row a
caption) and the pictures, as plain files or inside `.tar` files.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from captioning.errors import DataError
from captioning.models.families.patch_captioner import END, PAD, START, special_id

TABLE_NAME = "captions.tsv"
# Openings that a person may hand to a captioner; captions are taught to go on from them.
OPENINGS = (
    "a photography of",
    "a photo of",
    "a picture of",
    "an image of",
    "a video of",
    "this is",
    "there is",
    "here we see",
)


def plain_words(text: str) -> str:
    """Lower-cased words of `text` without punctuation, one space apart: what BLEU and CIDEr compare."""
    return " ".join(re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower().replace(" '", "'")))


def with_article(noun: str) -> str:
    """`noun` after its indefinite article: "an anchor", "a euphonium"."""
    vowel = noun[0] in "aeiou" and not noun.startswith(("eu", "uni"))
    return f"{'an' if vowel else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph: people's captions, or else the name of the kind of object it shows."""

    name: str
    split: str
    class_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photographs of one split and their pixels `[photos, 3, side, side]`, 8 bits a value."""

    photos: tuple[Photo, ...]
    pixels: NDArray[np.uint8]


def read_table(folder: Path) -> tuple[Photo, ...]:
    """Read `captions.tsv` of a data folder. Raises `DataError` where it is missing or malformed."""
    path = folder / TABLE_NAME
    if not path.is_file():
        raise DataError(f"{folder} holds no {TABLE_NAME}; give the folder of photographs that has one.")
    rows: dict[str, tuple[str, str, list[str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if reader.fieldnames != ["image", "split", "class_name", "caption"]:
            raise DataError(f"{path} must start with the columns image, split, class_name, caption (tab-separated).")
        for row in reader:
            _, _, captions = rows.setdefault(row["image"], (row["split"], row["class_name"] or "", []))
            if row["caption"]:
                captions.append(row["caption"])
    return tuple(Photo(name, split, kind, tuple(captions)) for name, (split, kind, captions) in rows.items())


def class_names(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Every kind of object that any photograph is labelled with, sorted."""
    return tuple(sorted({photo.class_name for photo in photos if photo.class_name}))


def read_nouns(data: PhotoSet | None = None) -> frozenset[str]:
    """Things that can be pointed at: a list of common nouns, and the one-word class names of `data`."""
    listed = (Path(__file__).parent / "nouns.txt").read_text(encoding="utf-8").split()
    kinds = class_names(data.photos) if data else ()
    return frozenset(listed) | {kind for kind in kinds if " " not in kind}


def load_photos(
    folder: Path,
    split: str,
    side: int = 160,
    limit: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> PhotoSet:
    """Decode one split of a data folder at `side` pixels; `report` hears (done, total).

    `limit` keeps that many photographs, evenly spread over the table. Raises `DataError` where a picture of
    the table is not there or not a picture.
    """
    photos = [photo for photo in read_table(folder) if photo.split == split]
    if not photos:
        raise DataError(f"{folder / TABLE_NAME} has no photograph of split {split!r}.")
    if limit is not None and limit < len(photos):
        photos = [photos[i * len(photos) // limit] for i in range(limit)]
    place = {photo.name: number for number, photo in enumerate(photos)}
    pixels = np.empty((len(photos), 3, side, side), np.uint8)
    done: set[str] = set()
    for name, data in _read_files(folder, place):
        try:
            with Image.open(io.BytesIO(data)) as image:
                rgb = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        except (OSError, ValueError) as error:
            raise DataError(f"{name} in {folder} is not a readable picture.") from error
        pixels[place[name]] = np.asarray(rgb).transpose(2, 0, 1)
        done.add(name)
        if report and len(done) % 500 == 0:
            report(len(done), len(photos))
    missing = [photo.name for photo in photos if photo.name not in done]
    if missing:
        raise DataError(f"{len(missing)} photographs of the table are not in {folder}, the first is {missing[0]}.")
    return PhotoSet(tuple(photos), pixels)


def _read_files(folder: Path, names: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """The bytes of every named picture, from plain files first and from tar files for the rest."""
    in_tars = set(names)
    for name in names:
        path = folder / name
        if path.is_file():
            in_tars.discard(name)
            yield name, path.read_bytes()
    for tar_path in sorted(folder.glob("*.tar")) if in_tars else ():
        with tarfile.open(tar_path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name in in_tars else None
                if file is not None:
                    yield member.name, file.read()


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A lower-casing byte-pair tokenizer that can spell any text (Sennrich et al. 2016, on bytes)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def training_texts(photos: Sequence[Photo]) -> list[str]:
    """Everything a captioner fitted to `photos` may have to say."""
    texts = [plain_words(caption) for photo in photos for caption in photo.captions]
    texts += [
        f"{opening} {with_article(photo.class_name)}" for photo in photos if photo.class_name for opening in OPENINGS
    ]
    return texts


class CaptionDrawer:
    """Draws captions to teach: a human one or a sentence round a class name, at times after an opening."""

    def __init__(self, tokenizer: Tokenizer, opening_rate: float, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.opening_rate = opening_rate
        self.max_tokens = max_tokens
        self.pad, self.bos, self.eos = (special_id(tokenizer, token) for token in (PAD, START, END))

    def text(self, photo: Photo, generator: np.random.Generator) -> tuple[str, str]:
        """An opening (often empty) that is given, and the words to be learnt after it."""
        if photo.captions:
            words = plain_words(photo.captions[generator.integers(len(photo.captions))])
        else:
            words = with_article(photo.class_name)
            if generator.random() < 0.7:
                words = f"a photo of {words}"
        if generator.random() >= self.opening_rate:
            return "", words
        if generator.random() < 0.4 and words.startswith(("a ", "an ", "two ")) and " " in words:
            # "a woman walks" also teaches how to go on after "the woman".
            _first, second, *rest = words.split(" ")
            return f"the {second}", " ".join(rest)
        return OPENINGS[generator.integers(len(OPENINGS))], words.removeprefix("a photo of ")

    def batch(self, photos: Sequence[Photo], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One drawn caption a photo: `input_ids [N, T]`, and `labels [N, T]` that are -100 where nothing is learnt."""
        rows: list[tuple[list[int], int]] = []
        for photo in photos:
            opening, words = self.text(photo, generator)
            given = self.tokenizer.encode(opening).ids if opening else []
            ids = given + (self.tokenizer.encode(words).ids if words else []) + [self.eos]
            rows.append(([self.bos, *ids][: self.max_tokens + 1], len(given)))
        length = max(len(ids) for ids, _ in rows) - 1
        input_ids = torch.full((len(rows), length), self.pad)
        labels = torch.full((len(rows), length), -100)
        for row, (ids, given_count) in enumerate(rows):
            input_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            labels[row, given_count : len(ids) - 1] = torch.tensor(ids[1 + given_count :])
        return input_ids, labels


def augment(pixels: Tensor, side: int, patch_size: int, generator: torch.Generator) -> Tensor:
    """Randomly crop, flip, recolour and partly hide pictures.

    `pixels [N, 3, H, W]` are 8-bit; returns `[N, 3, side, side]` in 0…1. Hidden patches take the picture's
    mean colour, so that a picture with patches deleted is nothing new to the captioner.
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(pixels.device)

    images = pixels.float() / 255
    scale = uniform(0.4, 1.0).sqrt()
    stretch = uniform(-0.15, 0.15).exp()
    width, height = (scale * stretch).clamp(max=1.0), (scale / stretch).clamp(max=1.0)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=pixels.device)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - mean) * uniform(0.7, 1.3, 1, 1, 1) + mean * uniform(0.7, 1.3, 1, 1, 1)
    saturation = torch.where(uniform(0, 1, 1, 1, 1) < 0.1, 0.0, uniform(0.6, 1.4, 1, 1, 1))
    images = (images - grey) * saturation + grey

    cells = side // patch_size
    share = torch.where(uniform(0, 1, 1, 1, 1) < 0.25, uniform(0, 0.5, 1, 1, 1), 0.0)
    hidden = F.interpolate((uniform(0, 1, 1, cells, cells) < share).float(), size=side).bool()
    colour = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(hidden, colour, images).clamp(0, 1)
