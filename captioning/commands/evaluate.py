"""`evaluate`: a captioner measured on photographs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.commands.shared import (
    ProgressLine,
    Subparsers,
    add_json,
    add_model,
    load,
    print_figures,
    print_progress,
    wants_json,
)
from captioning.core.errors import OptionsError
from captioning.core.types import DecodingOptions

if TYPE_CHECKING:
    from captioning.core.contract import Captioner


_EVENLY = "photographs, evenly spread (default: 200)"


def add(commands: Subparsers) -> None:
    """Add the command, its measures and their flags."""
    evaluate = commands.add_parser("evaluate", help="measure a captioner on photographs")
    what = evaluate.add_subparsers(title="measures", required=True, metavar="MEASURE")
    captions = _add_measure(
        what, "captions", "BLEU, CIDEr, token accuracy, naming of kinds, diversity", _evaluate_captions
    )
    captions.add_argument("--limit", type=int, help="use only this many photographs")
    captions.add_argument("--num-beams", type=int, default=1, help="beams searched; 1 is greedy (default: 1)")

    text = "whether attention maps beat random order, on nouns"
    faithfulness = _add_measure(
        what, "faithfulness", text, _evaluate_faithfulness, model="embedded", precision="float32"
    )
    faithfulness.add_argument("--limit", type=int, default=200, help=_EVENLY)
    faithfulness.add_argument("--seed", type=int, default=0, help="of the random orders")
    _add_views(faithfulness)
    faithfulness.add_argument("--steps", type=int, default=16, help="steps in which patches go (default: 16)")
    faithfulness.add_argument("--fill", choices=("mean", "blur"), default="mean", help="what hidden patches show")

    text = "whether attention maps point at the object that a word names"
    pointing = _add_measure(what, "pointing", text, _evaluate_pointing, model="embedded", precision="float32")
    where = pointing.add_mutually_exclusive_group()
    text = "scenes made of two photographs of DATA each (default: 250)"
    where.add_argument("--scenes", type=int, metavar="N", help=text)
    text = "COCO instances file with masks of the pictures in the folder DATA, instead of scenes"
    where.add_argument("--masks", type=Path, metavar="COCO.json", help=text)
    pointing.add_argument("--limit", type=int, help="with --masks, use only this many photographs, evenly spread")
    pointing.add_argument("--seed", type=int, default=0, help="of the scenes")
    _add_views(pointing)

    text = "whether captions are those of float32 by torch"
    precision = _add_measure(what, "precision", text, _evaluate_precision, model="embedded")
    precision.add_argument("--limit", type=int, default=200, help=_EVENLY)

    features = _add_measure(what, "features", "kinds told by the ten nearest training photographs", _evaluate_features)
    features.add_argument("--limit", type=int, help="use only this many photographs of each split")

    votes = _add_measure(what, "map", "kinds told by the ten nearest, in feature space and on the map", _evaluate_map)
    votes.add_argument("--limit", type=int, help="use only this many photographs of each split")
    votes.add_argument("--seed", type=int, default=0, help="of the map")


def _add_measure(
    what: Subparsers, name: str, text: str, run: Callable[[argparse.Namespace], int], **defaults: str
) -> argparse.ArgumentParser:
    """Add a measure with the flags that all measures have; `defaults` are those of `add_model`."""
    measure = what.add_parser(name, help=text)
    measure.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="folders with captions.tsv and the photographs"
    )
    measure.add_argument("--split", default="dev", help="of the photographs in DATA (default: dev)")
    add_model(measure, **defaults)
    add_json(measure)
    measure.set_defaults(run=run)
    return measure


def _add_views(measure: argparse.ArgumentParser) -> None:
    """Add the flags that choose among attention maps."""
    measure.add_argument("--methods", nargs="+", metavar="METHOD", help="only these (default: all)")
    measure.add_argument("--views", choices=("layers", "heads"), help="also every layer, or head, of attention")


def _evaluate_captions(options: argparse.Namespace) -> int:
    from captioning.captions.prompts import DEFAULT_PROMPTS
    from captioning.training.data import class_names, load_photos, read_table
    from captioning.training.metrics import check_scorer, evaluate_captions, evaluate_prompts, known_words

    check_scorer()
    photos = read_table(options.data)
    kinds = class_names([photo for photo in photos if photo.split == options.split])
    learnt = known_words(photo for photo in photos if photo.split == "train")
    captioner = load(options)
    data = load_photos(options.data, options.split, _side_for(captioner, options.data), options.limit)
    decoding = DecodingOptions(num_beams=options.num_beams)
    figures = evaluate_captions(captioner, data, kinds, decoding, ProgressLine().show, learnt)
    if captioner.spec.capabilities.supports_prompt and figures["captioned"]:
        figures |= evaluate_prompts(captioner, data, DEFAULT_PROMPTS, report=ProgressLine().show)
    print_figures(options, captioner, figures)
    return 0


def _evaluate_faithfulness(options: argparse.Namespace) -> int:
    from captioning.serving.loading import load_uncached
    from captioning.training.data import load_photos, read_nouns
    from captioning.training.map_quality import evaluate_faithfulness, faithfulness_table

    captioner = load_uncached(options.model, options.device, options.precision)
    data = load_photos(options.data, options.split, _side_for(captioner, options.data), options.limit)
    figures = evaluate_faithfulness(
        captioner,
        data,
        read_nouns(data),
        methods=options.methods,
        more_views=options.views,
        steps=options.steps,
        fill=options.fill,
        seed=options.seed,
        report=ProgressLine().show,
    )
    if wants_json(options):
        print_figures(options, captioner, figures)
    else:
        print(f"{captioner.spec.model_id} in {captioner.precision}, split {options.split}")
        print(faithfulness_table(figures))
    return 0


def _evaluate_pointing(options: argparse.Namespace) -> int:
    from captioning.serving.loading import load_uncached
    from captioning.training.coco_masks import check_reader, read_outlines, show_outlined
    from captioning.training.pointing import evaluate_pointing, pointing_table
    from captioning.training.scenes import NUM_SCENES, load_scenes, show_scenes

    captioner = load_uncached(options.model, options.device, options.precision)
    about: dict[str, Any]
    if options.masks is None:
        if options.limit is not None:
            raise OptionsError("--limit chooses among pictures with --masks; give the number of scenes by --scenes.")
        count = NUM_SCENES if options.scenes is None else options.scenes
        scenes = load_scenes(options.data, options.split, count, options.seed)
        pictures, total = show_scenes(captioner, scenes), len(scenes.scenes)
        about = {"scenes": total}
    else:
        check_reader()
        outlined = read_outlines(options.masks, options.data, options.limit)
        if outlined.num_missing:
            print_progress(f"Left out, as DATA lacks them: {outlined.num_missing} pictures of {options.masks.name}")
        pictures, total = show_outlined(captioner, outlined), len(outlined.pictures)
        about = {"split": None, "masks": str(options.masks)}
    figures = evaluate_pointing(
        captioner, pictures, total, methods=options.methods, more_views=options.views, report=ProgressLine().show
    )
    if wants_json(options):
        print_figures(options, captioner, {**about, **figures})
    else:
        source = f"split {options.split}" if options.masks is None else str(options.masks)
        print(f"{captioner.spec.model_id} in {captioner.precision}, {source}")
        print(pointing_table(figures))
    return 0


def _evaluate_precision(options: argparse.Namespace) -> int:
    from captioning.serving.loading import load_uncached
    from captioning.training.agreement import evaluate_agreement
    from captioning.training.data import load_photos

    captioner = load_uncached(options.model, options.device, options.precision)
    exact = load_uncached(options.model, options.device, "float32", engine="torch")
    data = load_photos(options.data, options.split, _side_for(captioner, options.data), options.limit)
    print_figures(options, captioner, evaluate_agreement(captioner, exact, data, report=ProgressLine().show))
    return 0


def _evaluate_features(options: argparse.Namespace) -> int:
    from captioning.serving.loading import load_captioner
    from captioning.training.data import load_photos
    from captioning.training.metrics import evaluate_embeddings, evaluate_pixels

    captioner = load(options)
    side = _side_for(captioner, options.data)
    train, dev = (load_photos(options.data, split, side, options.limit) for split in ("train", options.split))
    figures: dict[str, Any] = {"neighbour_vote": evaluate_embeddings(captioner, train, dev)}
    figures["neighbour_vote_pixels"] = evaluate_pixels(train, dev)
    if captioner.spec.model_id == "embedded":
        untrained = load_captioner("untrained:embedded", options.device, options.precision)
        figures["neighbour_vote_untrained"] = evaluate_embeddings(untrained, train, dev)
    print_figures(options, captioner, figures)
    return 0


def _evaluate_map(options: argparse.Namespace) -> int:
    from captioning.image_map import MapOptions
    from captioning.serving.loading import load_captioner
    from captioning.training.data import load_photos
    from captioning.training.map_votes import KINDS, evaluate_map

    captioner: Captioner = load(options)
    side = _side_for(captioner, options.data)
    train, dev = (
        load_photos(options.data, split, side, options.limit, kinds=KINDS) for split in ("train", options.split)
    )
    captioners = {"captioner": captioner}
    if captioner.spec.model_id == "embedded":
        captioners["untrained"] = load_captioner("untrained:embedded", options.device, options.precision)
    layout = MapOptions(seed=options.seed)
    print_figures(options, captioner, evaluate_map(captioners, train, dev, layout, report=ProgressLine().show))
    return 0


def _side_for(captioner: Captioner, folders: Sequence[Path]) -> int:
    """Return the side in pixels at which photographs are read to measure a captioner."""
    from PIL import Image

    from captioning.core.types import Picture
    from captioning.training.data import evaluation_side

    blank = Picture(Image.new("RGB", (64, 64)), "blank")
    return evaluation_side(captioner.preprocess(blank).pixel_values.shape[-2:], folders)
