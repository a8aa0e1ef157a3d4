"""Photographs with captions or class names, held decoded in memory, and a tokenizer made from them.

Functions take one data folder or several. Where two folders name the same picture, extension aside, the first counts. A
data folder holds `captions.tsv` (columns `image, split, class_name, caption`, tab-separated, one row a caption) or the
table of an image folder with such columns, and the pictures, as plain files or inside `.tar` files.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from captioning.captions.prompts import DEFAULT_PROMPTS
from captioning.core.errors import DataError, ImageError, OptionsError
from captioning.media.collection import FOLDER_TABLES
from captioning.media.images import open_image
from captioning.media.table_rows import find_column, read_rows
from captioning.media.tables import LABEL_COLUMNS, PATH_COLUMNS
from captioning.models.families.patch_captioner import END, PAD, START

TABLE_NAME = FOLDER_TABLES[0]
_COLUMNS = (PATH_COLUMNS, ("split", "subset", "partition"), LABEL_COLUMNS, ("caption", "text", "sentence", "captions"))
"""Under which names a table may have the image, its split, its class and a caption."""
DataFolders = Path | Sequence[Path]
ReportProgress = Callable[[str, int, int], None]
"""Receives (activity, done, total)."""
_RARE = 3  # a word that fewer captions have is spelled in bytes
_WORD = r" ?[\p{L}\p{N}]+(?:['-][\p{L}\p{N}]+)*| ?[^\s\p{L}\p{N}]+|\s+"
# Openings that people may give as prompts; captions are taught to continue them.
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
NAME_OPENINGS = ("a photo of", "a picture of", "an image of", "this is", "there is")
"""Openings that a name alone may follow."""


def plain_words(text: str) -> str:
    """Return the lower-cased words of `text` in any script, one space apart.

    Punctuation is dropped. BLEU and CIDEr compare these words.
    """
    return " ".join(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower().replace(" '", "'")))


def with_article(noun: str) -> str:
    """Return `noun` after its indefinite article: "an anchor", "a euphonium"."""
    vowel = noun[0] in "aeiou" and not noun.startswith(("eu", "uni"))
    return f"{'an' if vowel else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with human captions, or else with the name of its class."""

    name: str
    split: str
    class_name: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """The photographs of one split and their pixels `[photos, 3, side, side]`, 8 bits a value."""

    photos: tuple[Photo, ...]
    pixels: NDArray[np.uint8]


def read_table(folders: DataFolders) -> tuple[Photo, ...]:
    """Read `captions.tsv` of every data folder. Raises `DataError` where one is missing or malformed."""
    return tuple(photo for photos in _read_tables(folders).values() for photo in photos)


def _read_tables(folders: DataFolders) -> dict[Path, list[Photo]]:
    """Return the photographs of each folder that no earlier folder has."""
    tables: dict[Path, list[Photo]] = {}
    known: set[str] = set()
    for folder in [folders] if isinstance(folders, Path) else folders:
        photos = [photo for photo in _read_one_table(folder) if _without_extension(photo.name) not in known]
        known.update(_without_extension(photo.name) for photo in photos)
        tables[folder] = photos
    return tables


def _without_extension(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _read_one_table(folder: Path) -> tuple[Photo, ...]:
    path = next((folder / name for name in FOLDER_TABLES if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no {TABLE_NAME}; give the folder of photographs that has one.")
    head, *rows = read_rows(path, quotes=path.suffix != ".tsv", bounded=False) or [[]]
    columns = [find_column(head, names) for names in _COLUMNS]
    if None in columns[:2] or columns[2:] == [None, None]:
        raise DataError(
            f"{path} must start with the columns image, split, class_name, caption (tab-separated in {TABLE_NAME})."
        )
    photos: dict[str, tuple[str, str, list[str]]] = {}
    for number, row in enumerate(rows, 2):
        image, split, kind, caption = (
            str(row[column]) if column is not None and column < len(row) else "" for column in columns
        )
        if not image or not split or not (kind or caption):
            raise DataError(f"Line {number} of {path} lacks an image, its split, or both class_name and caption.")
        _, _, captions = photos.setdefault(image, (split, kind, []))
        if caption:
            captions.append(caption)
    return tuple(Photo(name, split, kind, tuple(captions)) for name, (split, kind, captions) in photos.items())


def fingerprint(photos: Sequence[Photo]) -> str:
    """Return a hash of the photographs' names, classes and captions in their order."""
    facts = json.dumps([(photo.name, photo.class_name, photo.captions) for photo in photos])
    return hashlib.sha256(facts.encode()).hexdigest()


def class_names(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Return every class name of the photographs, sorted."""
    return tuple(sorted({photo.class_name for photo in photos if photo.class_name}))


def read_nouns(data: PhotoSet | None = None) -> frozenset[str]:
    """Return nouns that a map can point at: a list of common nouns, and the one-word class names of `data`."""
    listed = (Path(__file__).parent / "nouns.txt").read_text(encoding="utf-8").split()
    kinds = class_names(data.photos) if data else ()
    return frozenset(listed) | {kind for kind in kinds if " " not in kind}


def choose_photos(
    folders: DataFolders, split: str, limit: int | None = None, kinds: Collection[str] | None = None
) -> tuple[Photo, ...]:
    """Return the photographs of one split.

    `limit` keeps that many, spread evenly over the table, and `kinds` only photographs of these classes. Raises
    `DataError` where there is none, and `OptionsError` for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise OptionsError(f"A limit of {limit} leaves no photographs; give 1 or more, or leave --limit out.")
    photos = tuple(
        photo for photo in read_table(folders) if photo.split == split and (kinds is None or photo.class_name in kinds)
    )
    if not photos:
        of_kinds = f" of the kinds {', '.join(kinds)}" if kinds is not None else ""
        raise DataError(f"{_names_of(folders)} has no photograph of split {split!r}{of_kinds}.")
    if limit is None or limit >= len(photos):
        return photos
    return tuple(photos[number * len(photos) // limit] for number in range(limit))


def _names_of(folders: DataFolders) -> str:
    tables = [folder / TABLE_NAME for folder in ([folders] if isinstance(folders, Path) else folders)]
    return " and ".join(map(str, tables))


def load_photos(
    folders: DataFolders,
    split: str,
    side: int = 160,
    limit: int | None = None,
    report: Callable[[int, int], None] | None = None,
    kinds: Collection[str] | None = None,
) -> PhotoSet:
    """Decode one split of data folders, squeezed to squares of `side` pixels.

    `report` receives (done, total). `limit` and `kinds` choose photographs as in `choose_photos`. Raises `DataError`
    where a picture of the table is missing or unreadable.
    """
    photos = choose_photos(folders, split, limit, kinds)
    place = {photo.name: number for number, photo in enumerate(photos)}
    pixels = np.empty((len(photos), 3, side, side), np.uint8)
    done: set[str] = set()
    for folder, table in _read_tables(folders).items():
        for name, data in read_files(folder, [photo.name for photo in table if photo.name in place]):
            try:
                rgb = open_image(data, name).image.resize((side, side), Image.Resampling.BICUBIC)
            except ImageError as error:
                raise DataError(f"{name} in {folder} is not a readable picture.") from error
            pixels[place[name]] = np.asarray(rgb).transpose(2, 0, 1)
            done.add(name)
            if report:
                report(len(done), len(photos))
    missing = [photo.name for photo in photos if photo.name not in done]
    if missing:
        raise DataError(f"{len(missing)} photographs that {_names_of(folders)} names are missing: first {missing[0]}.")
    return PhotoSet(photos, pixels)


def native_side(folders: DataFolders) -> int:
    """Return the pixels along the longer side of the largest of each folder's first pictures; 0 without pictures."""
    sides = [
        max(open_image(data, name).image.size)
        for folder, table in _read_tables(folders).items()
        for name, data in islice(read_files(folder, [photo.name for photo in table]), 1)
    ]
    return max(sides, default=0)


def read_files(folder: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of every named picture: first from plain files, then from tar files."""
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


def evaluation_side(shape: Sequence[int], folders: DataFolders) -> int:
    """Return the pixels along a side at which to measure a captioner that receives `shape` pixels.

    At least 160, and beyond that no more than the photographs have: pictures that are enlarged and then reduced would
    be blurred.
    """
    return max(160, min(max(shape), native_side(folders)))


def make_tokenizer(photos: Iterable[Photo], names: Iterable[str] = (), vocab_size: int = 100_000) -> Tokenizer:
    """Return a lower-casing tokenizer of whole words: those that captions of `photos` have at least three times.

    Every word of a class name, of `names` and of the prompts is a token as well. Other words are spelled in bytes.
    There are at most `vocab_size` tokens; the rarest words of captions are left out.
    """
    captions = Counter(word for photo in photos for text in photo.captions for word in plain_words(text).split())
    sure = {photo.class_name for photo in photos} | {*names, *OPENINGS, *DEFAULT_PROMPTS}
    words = sorted({word for text in sure for word in plain_words(text).split()})
    words += [word for word, count in captions.most_common() if count >= _RARE]
    bytes_of = {character: place for place, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 3)}
    vocabulary = {PAD: 0, START: 1, END: 2} | bytes_of
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for word in list(dict.fromkeys(words))[: max(0, vocab_size - len(vocabulary))]:
        ((piece, _),) = to_bytes.pre_tokenize_str(f" {word}")
        vocabulary[piece] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_WORD), "isolated"), to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, START, END])
    return tokenizer
