"""`map`: a collection laid out so that pictures that look alike lie together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.commands.shared import (
    ProgressLine,
    Subparsers,
    add_json,
    add_model,
    add_options,
    load,
    make_folder,
    print_json,
    read_options,
    wants_json,
)
from captioning.core.whole_files import write_whole
from captioning.image_map.options import MapOptions

if TYPE_CHECKING:
    from captioning.image_map import ImageMap


_COLLECTION_HELP = "a folder, a zip or tar, a table of paths (CSV, TSV, JSON lines, Parquet), a clip or a picture"


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    image_map = commands.add_parser("map", help="lay a collection out so that pictures that look alike lie together")
    image_map.add_argument("collection", type=Path, metavar="COLLECTION", help=_COLLECTION_HELP)
    add_options(image_map, MapOptions)
    image_map.add_argument(
        "--captions", action=argparse.BooleanOptionalAction, default=True, help="caption every picture (default: yes)"
    )
    image_map.add_argument(
        "--out", type=Path, metavar="DIR", help="also write map.html, map.csv, map.json, map.png and features.npz here"
    )
    add_model(image_map)
    add_json(image_map)
    image_map.set_defaults(run=_map)


def _map(options: argparse.Namespace) -> int:
    import tempfile

    from captioning.image_map import make_map
    from captioning.image_map.formats import FORMATS, SavedMap
    from captioning.media.opening import open_any

    layout = read_options(options, MapOptions)
    if options.out:
        make_folder(options.out)
    captioner = load(options)
    with tempfile.TemporaryDirectory() as unpacked:
        collection = open_any(options.collection, Path(unpacked))
        made = make_map(captioner, collection, layout, options.captions, ProgressLine().show)
        for one in made.failed:
            print(f"captioning: {one.name}: {one.reason}", file=sys.stderr)
        if made.others:
            print(f"captioning: {made.others}", file=sys.stderr)
        about = {"model": captioner.spec.model_id, "revision": captioner.spec.revision}
        saved = SavedMap(made, captioner.spec.title, about)
        for known in FORMATS if options.out else ():
            if known.name != "zip":  # the pictures are there already
                write_whole(options.out / known.file, known.make(saved))
    if wants_json(options):
        print_json(saved.document())
    else:
        _print_map(made)
    return 1 if made.failed else 0


def _print_map(made: ImageMap) -> None:
    groups = len(set(made.points.clusters.tolist()) - {-1})
    pictures = len(made.points.images)
    what = "1 picture" if pictures == 1 else f"{pictures} pictures"
    where = "1 group" if groups == 1 else f"{groups} groups"
    print(f"{what} in {where}, laid out by {made.projection.method}")
    if made.projection.note:
        print(made.projection.note)
    for number, name in enumerate(made.points.cluster_names):
        print(f"  {int((made.points.clusters == number).sum()):6} {name}")
    if made.quality:
        shown = {"this map": made.quality, "PCA": made.quality.pca, "random": made.quality.random}
        for name, found in shown.items():
            print(f"  {name:10} trustworthiness {found.trustworthiness:.3f}, recall {found.neighbour_recall:.3f}")
