"""Collections as maps."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.bench.result import BenchCase, BenchResult, alone, beside, seconds_of, take_turns
from captioning.bench.setup import Setup, new_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIZES, _MOST_ENCODED, _MOST_ENCODED_QUICK = (0, 1, 2, 3, 9, 10, 200, 2_000, 10_000), 2_000, 200
_PLAIN_SIZE = 10


def _map(_: Setup, repetitions: int) -> list[BenchResult]:
    """Collections of every size: files to features with the embedded captioner, features to positions."""
    from captioning.cache import load_uncached
    from captioning.collection import NamedImage
    from captioning.image_map import embed

    captioner = load_uncached("embedded")
    most = _MOST_ENCODED_QUICK if repetitions < 3 else _MOST_ENCODED
    results = []
    with tempfile.TemporaryDirectory() as folder:
        images = [NamedImage(path.name, path) for path in _write_pictures(Path(folder), most)]
        embeds = embed(captioner, images).embeds
        for size in (size for size in _SIZES if size <= most):
            times = [seconds_of(partial(embed, captioner, images[:size])) for _ in range(_turns(size, repetitions))]
            what = f"{size:,} files to features, embedded, {captioner.device}, {captioner.precision}"
            results.append(alone("map", times, what))
    return results + _map_positions(embeds, repetitions)


def _map_positions(embeds: NDArray[np.float32], repetitions: int) -> list[BenchResult]:
    """Known features to positions; of what the model says of noise, repeated and spread a little."""
    from captioning.image_map import project

    many = np.random.default_rng(0).normal(0, 0.05, (max(_SIZES), embeds.shape[1])).astype(np.float32)
    many += np.resize(embeds, many.shape)
    project(many[:64])  # compiles
    results = []
    for size in _SIZES:
        known, turns = many[:size], _turns(size, repetitions)
        what = f"{size:,} known features to positions"
        if size < _PLAIN_SIZE:
            times = [seconds_of(partial(project, known)) for _ in range(turns)]
            results.append(alone("map", times, f"{what}, {project(known).method}"))
        else:
            both = take_turns(partial(project, known), partial(_plain_umap, known), turns)
            results.append(beside("map", *both, None, f"{what}; the reference is umap-learn's own search and start"))
    return results


def _turns(size: int, repetitions: int) -> int:
    """Work that takes long needs no repeating to be told from noise."""
    return repetitions if size <= 200 else 1


def _write_pictures(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.jpg")
        new_picture(number).image.resize((320, 240)).save(paths[-1], quality=85)
    return paths


def _plain_umap(embeds: NDArray[np.float32]) -> None:
    """As umap-learn's documentation shows it, with its own search for neighbours."""
    import warnings

    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and a small map few neighbours
        umap.UMAP(metric="cosine", random_state=0).fit_transform(embeds)


CASES = (BenchCase("map", "a collection laid out as a map", _map),)
