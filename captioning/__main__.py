"""The command line, `python -m captioning …`; `--json` prints one JSON document and nothing else."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import CaptioningError, OptionsError
from captioning.image_map.options import MapOptions
from captioning.prompts import DEFAULT_PROMPT
from captioning.types import DecodingOptions, plain_dict

if TYPE_CHECKING:
    from captioning.attention_files import Sight
    from captioning.cache import SharedCaptioner
    from captioning.contract import Captioner
    from captioning.image_map import ImageMap
    from captioning.models.hub import DownloadProgress
    from captioning.models.summarizer import Summary
    from captioning.types import Caption
    from captioning.video import Clip

_DEFAULTS = DecodingOptions()
_MAP_DEFAULTS = MapOptions()
_MAP_HELP = {
    "n_neighbors": "neighbours of a picture that count: few show small groups, many the whole",
    "min_dist": "how close points may come, 0 to 1",
    "seed": "the same seed gives the same map",
}
_OPTION_HELP = {
    "max_new_tokens": "longest continuation, in tokens",
    "num_beams": "beams searched; 1 is greedy",
    "temperature": "0 is greedy, 1 samples from the model's own distribution",
    "top_k": "sample among this many likeliest tokens; 0 is all",
    "top_p": "sample among the likeliest tokens of this total probability",
    "repetition_penalty": "above 1 makes words that were used less likely",
    "length_penalty": "above 0 favours longer captions in beam search",
    "num_captions": "captions for each prompt",
    "seed": "of sampling; the same seed gives the same captions",
}


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


_TRAINING_HELP: dict[str, tuple[Callable[[str], Any], str]] = {
    "passes": (int, "passes over the photographs; a run can be resumed with more"),
    "batch_size": (int, "photographs a step"),
    "captions_per_photo": (int, "captions drawn for a photograph each time it is seen"),
    "captioned_repeats": (int, "times a pass that a photograph with human captions is seen"),
    "learning_rate": (float, "of the plateau between warm-up and fall"),
    "weight_decay": (float, "pull of weights towards 0"),
    "label_smoothing": (float, "share of a target spread over all words"),
    "contrastive_weight": (float, "of the loss that pulls pictures to their words"),
    "opening_rate": (float, "share of captions that follow a given opening"),
    "augmentation": (float, "strength of random changes to pictures; 0 is none"),
    "average_decay": (float, "memory of the average of weights"),
    "warmup_steps": (int, "steps until the learning rate is reached"),
    "cooldown": (float, "share of the run in which it falls to 0"),
    "vocab_size": (int, "tokens of a new tokenizer"),
    "max_tokens": (int, "longest caption that is learnt"),
    "checkpoint_steps": (int, "steps between checkpoints"),
    "seed": (int, "of everything random"),
}
_SHAPE_HELP: dict[str, tuple[Callable[[str], Any], str]] = {
    "image_size": (int, "pixels along a side, a multiple of 12"),
    "widths": (_whole_numbers, "channels of each stage, such as 64,128,256"),
    "depths": (_whole_numbers, "blocks of each stage, such as 1,2,4"),
    "hidden_size": (int, "width of the decoder"),
    "num_heads": (int, "heads of each attention"),
    "num_layers": (int, "layers of the decoder"),
    "ffn_size": (int, "width of its feed-forward nets"),
    "dropout": (float, "share of values dropped in training"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all went well, 1 when something failed, 2 for a wrong command line."""
    options = _make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except CaptioningError as error:
        print(f"captioning: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("captioning: stopped", file=sys.stderr)
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioning", description="See what an image-captioning model sees."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    caption = commands.add_parser("caption", help="caption pictures")
    caption.add_argument("images", nargs="+", metavar="IMAGE")
    _add_prompts(caption)
    _add_model(caption)
    _add_decoding(caption)
    _add_json(caption)
    caption.set_defaults(run=_caption)

    video = commands.add_parser("video", help="caption clips by the average of their frames")
    video.add_argument("clips", nargs="+", metavar="CLIP")
    video.add_argument("--frames", type=int, default=16, help="frames, evenly spaced (default: 16)")
    video.add_argument("--start", type=float, metavar="SECONDS", help="begin here (default: the clip's start)")
    video.add_argument("--end", type=float, metavar="SECONDS", help="end here (default: the clip's end)")
    video.add_argument("--srt", type=Path, help="also caption every frame of one clip, and write subtitles here")
    video.add_argument(
        "--summary", metavar="MODEL", help="also caption every frame, and sum up by this text encoder-decoder"
    )
    _add_prompts(video)
    _add_model(video)
    _add_decoding(video)
    _add_json(video)
    video.set_defaults(run=_video)

    attention = commands.add_parser("attention", help="show where a model looked for each word of a caption")
    attention.add_argument("image", metavar="IMAGE")
    attention.add_argument("--prompt", metavar="TEXT", help=f"start of the caption (default: {DEFAULT_PROMPT!r})")
    attention.add_argument("--text", help="this caption, after the prompt, in place of the model's own")
    attention.add_argument("--method", help="attention, attention_clean, gradient_attention, relevance (default: best)")
    attention.add_argument("--layer", type=_layer, metavar="N", help="from 0 on, or mean (default: what measured best)")
    attention.add_argument("--head", type=_head, metavar="N", help="from 0 on, or mean or max")
    where = attention.add_mutually_exclusive_group()
    where.add_argument("--word", help="only this word, wherever it stands")
    where.add_argument("--position", type=int, metavar="N", help="only the token at this position, from 0 on")
    attention.add_argument("--out", type=Path, metavar="DIR", help="write pictures, GIF, numbers and a page here")
    attention.add_argument("--scale", choices=("shared", "per_map", "minimum"), default="shared")
    attention.add_argument("--colour-map", default="magma", help="magma, viridis, red-cyan or jet")
    attention.add_argument("--opacity", type=float, default=0.6, help="of the map, 0 to 1 (default: 0.6)")
    attention.add_argument("--patches", action="store_true", help="draw patches as they are, not blended")
    _add_model(attention)
    _add_decoding(attention)
    _add_json(attention)
    attention.set_defaults(run=_attention)

    image_map = commands.add_parser("map", help="lay a collection out so that pictures that look alike lie together")
    image_map.add_argument("collection", type=Path, metavar="FOLDER|ZIP|CSV")
    for name in ("n_neighbors", "min_dist", "seed"):
        default = getattr(_MAP_DEFAULTS, name)
        flag = f"--{name.replace('_', '-')}"
        image_map.add_argument(
            flag, type=type(default), default=default, help=f"{_MAP_HELP[name]} (default: {default})"
        )
    image_map.add_argument("--method", default=_MAP_DEFAULTS.method, help="umap or pca (default: umap)")
    image_map.add_argument(
        "--captions", action=argparse.BooleanOptionalAction, default=True, help="caption every picture (default: yes)"
    )
    image_map.add_argument(
        "--out", type=Path, metavar="DIR", help="also write map.csv, map.json, map.png and features.npz here"
    )
    _add_model(image_map)
    _add_json(image_map)
    image_map.set_defaults(run=_map)

    models = commands.add_parser("models", help="list the models, or look inside one")
    models.set_defaults(run=_list_models)
    _add_json(models)
    inside = models.add_subparsers(metavar="info ID")
    info = inside.add_parser("info", help="what is inside a model")
    info.add_argument("model")
    _add_json(info)
    info.set_defaults(run=_model_info)

    train = commands.add_parser("train", help="fit a captioner to photographs, from scratch, on CLIP, or further")
    train.add_argument("data", type=Path, metavar="DATA", help="folder with captions.tsv and the photographs")
    train.add_argument(
        "--out", type=Path, required=True, help="folder for the model; an unfinished run there is resumed"
    )
    train.add_argument("--limit", type=int, help="use only this many photographs, for a trial")
    train.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")
    begin = train.add_mutually_exclusive_group()
    begin.add_argument(
        "--encoder",
        default="convolutional",
        metavar="KIND",
        help="what looks at pictures in a new captioner: convolutional, or the frozen image encoder of clip or "
        "clip:NAME_OR_FOLDER (default: convolutional)",
    )
    begin.add_argument("--from", dest="start_from", metavar="MODEL", help="train this model further instead")
    train.add_argument(
        "--log", action="append", default=[], metavar="NAME", help="also log to tensorboard, wandb or trackio"
    )
    for name, (kind, text) in _TRAINING_HELP.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, (kind, text) in _SHAPE_HELP.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"of a new captioner: {text}")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="measure a captioner on photographs")
    what = evaluate.add_subparsers(title="measures", required=True, metavar="MEASURE")
    captions = what.add_parser("captions", help="BLEU, CIDEr, token accuracy, naming of kinds, diversity")
    captions.add_argument("data", type=Path, metavar="DATA")
    captions.add_argument("--split", default="dev")
    captions.add_argument("--limit", type=int, help="use only this many photographs")
    captions.add_argument("--num-beams", type=int, default=1)
    _add_model(captions)
    _add_json(captions)
    captions.set_defaults(run=_evaluate_captions)

    faithfulness = what.add_parser("faithfulness", help="whether attention maps beat random order, on nouns")
    faithfulness.add_argument("data", type=Path, metavar="DATA")
    faithfulness.add_argument("--split", default="dev")
    faithfulness.add_argument("--limit", type=int, default=200, help="photographs, evenly spread (default: 200)")
    faithfulness.add_argument("--seed", type=int, default=0, help="of the random orders")
    faithfulness.add_argument("--methods", nargs="+", metavar="METHOD", help="only these (default: all)")
    faithfulness.add_argument("--views", choices=("layers", "heads"), help="also every layer, or head, of attention")
    faithfulness.add_argument("--steps", type=int, default=16, help="steps in which patches go (default: 16)")
    faithfulness.add_argument("--fill", choices=("mean", "blur"), default="mean", help="what hidden patches show")
    _add_model(faithfulness)
    _add_json(faithfulness)
    faithfulness.set_defaults(run=_evaluate_faithfulness)

    precision = what.add_parser("precision", help="whether captions are those of float32 by torch")
    precision.add_argument("data", type=Path, metavar="DATA")
    precision.add_argument("--split", default="dev")
    precision.add_argument("--limit", type=int, default=200, help="photographs, evenly spread (default: 200)")
    _add_model(precision)
    _add_json(precision)
    precision.set_defaults(run=_evaluate_precision)

    features = what.add_parser("features", help="kinds told by the ten nearest training photographs")
    features.add_argument("data", type=Path, metavar="DATA")
    features.add_argument("--split", default="dev")
    features.add_argument("--limit", type=int, help="use only this many photographs of each split")
    _add_model(features)
    _add_json(features)
    features.set_defaults(run=_evaluate_features)

    votes = what.add_parser("map", help="kinds told by the ten nearest, in feature space and on the map")
    votes.add_argument("data", type=Path, metavar="DATA")
    votes.add_argument("--split", default="dev")
    votes.add_argument("--limit", type=int, help="use only this many photographs of each split")
    votes.add_argument("--seed", type=int, default=0, help="of the map")
    _add_model(votes)
    _add_json(votes)
    votes.set_defaults(run=_evaluate_map)

    bench = commands.add_parser("bench", help="measure speed as a ratio to the plain way")
    bench.add_argument("--case", action="append", dest="cases", metavar="NAME", help="only this case; may be repeated")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions, and of all cases only a few")
    bench.add_argument("--out", type=Path, help="also write the table to this file")
    _add_json(bench)
    bench.set_defaults(run=_bench)

    deploy = commands.add_parser("deploy", help="bring a Hugging Face Space to what a Spacefile says")
    deploy.add_argument("--file", type=Path, default=Path("Spacefile"), help="the description (default: Spacefile)")
    deploy.add_argument("--dry-run", action="store_true", help="only show what would change")
    deploy.add_argument("--renew-secrets", action="store_true", help="also set again the secrets that are there")
    _add_json(deploy)
    deploy.set_defaults(run=_deploy)
    return parser


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt",
        dest="prompts",
        action="append",
        metavar="TEXT",
        help=f'start of the caption; may be repeated; "" is none (default: "{DEFAULT_PROMPT}")',
    )


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    for name, text in _OPTION_HELP.items():
        default = getattr(_DEFAULTS, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"{text} (default: {default})")


def _read_decoding(options: argparse.Namespace) -> DecodingOptions:
    return DecodingOptions(**{name: getattr(options, name) for name in _OPTION_HELP})


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="registry name, folder or hub name (default: auto)")
    parser.add_argument("--device", help="cpu, cuda, … (default: auto)")
    parser.add_argument("--precision", help="float32, bfloat16 or float16 (default: what suits the device)")


def _add_json(parser: argparse.ArgumentParser) -> None:
    # Left alone where the flag is missing, so that `models --json info ID` and `models info ID --json` both work.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def _wants_json(options: argparse.Namespace) -> bool:
    return getattr(options, "json", False)


def _load(options: argparse.Namespace) -> SharedCaptioner:
    from captioning.cache import load_captioner
    from captioning.settings import get_settings

    model = options.model or get_settings().model
    captioner = load_captioner(model, options.device, options.precision, report=_report_download)
    status = captioner.status()
    where = f"{status.title} on {status.device} in {status.precision} by {status.engine}"
    print(f"{where} {status.reason}".rstrip(), file=sys.stderr)
    return captioner


def _report_download(progress: DownloadProgress) -> None:
    """The download itself shows a bar on the terminal; nothing to add."""


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _caption(options: argparse.Namespace) -> int:
    from captioning.export import caption_record
    from captioning.images import open_image
    from captioning.prompts import check_prompts

    decoding = _read_decoding(options)
    prompts = check_prompts([DEFAULT_PROMPT] if options.prompts is None else options.prompts)
    captioner = _load(options)
    records: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    for name in options.images:
        try:
            picture = open_image(name)
            (features,) = captioner.encode([picture])
            captions = captioner.decode(features, prompts, decoding)
        except CaptioningError as error:
            errors.append({"image": name, "error": str(error)})
            print(f"captioning: {error}", file=sys.stderr)
            continue
        records += [caption_record(caption, name) for caption in captions]
        if not _wants_json(options):
            note = f" ({picture.note})" if picture.note else ""
            print(f"{name}{note}")
            for caption in captions:
                sure = "" if caption.mean_log_prob is None else f"  [{caption.mean_log_prob:.2f}]"
                print(f"  {caption.text}{sure}")
    if _wants_json(options):
        _print_json(
            {
                "model": captioner.spec.model_id,
                "revision": captioner.spec.revision,
                "options": plain_dict(decoding),
                "captions": records,
                "errors": errors,
            }
        )
    return 1 if errors else 0


def _video(options: argparse.Namespace) -> int:
    from captioning.prompts import check_prompts
    from captioning.video import describe_duration

    if options.srt and len(options.clips) > 1:
        raise OptionsError("--srt writes the subtitles of one clip; give one clip.")
    decoding = _read_decoding(options)
    prompts = check_prompts([DEFAULT_PROMPT] if options.prompts is None else options.prompts)
    captioner = _load(options)
    document: dict[str, Any] = {
        "model": captioner.spec.model_id,
        "revision": captioner.spec.revision,
        "options": plain_dict(decoding),
        "captions": [],
        "frames": [],
        "clips": [],
        "errors": [],
    }
    for name in options.clips:
        try:
            clip, captions, summary = _caption_clip(options, captioner, name, prompts, decoding)
        except CaptioningError as error:
            document["errors"].append({"image": name, "error": str(error)})
            print(f"captioning: {error}", file=sys.stderr)
            continue
        _add_clip(document, name, clip, captions, summary)
        if not _wants_json(options):
            times = ", ".join(describe_duration(frame.seconds) for frame in clip.frames)
            print(f"{name} ({len(clip.frames)} frames: {times})")
            for caption in captions:
                print(f"  {caption.text}")
            if summary is not None:
                print(f"  in short, by {summary.model}: {summary.text}")
    if _wants_json(options):
        _print_json(document)
    return 1 if document["errors"] else 0


def _caption_clip(
    options: argparse.Namespace, captioner: SharedCaptioner, name: str, prompts: list[str], decoding: DecodingOptions
) -> tuple[Clip, list[Caption], Summary | None]:
    """A clip's frames, its captions, and where it was asked for what a text model makes of the frames' captions."""
    from captioning.clip import encode_frames, frame_side, merge_segments
    from captioning.export import segments_to_srt
    from captioning.models.summarizer import summarize
    from captioning.types import ImageFeatures
    from captioning.video import sample_clip

    clip = sample_clip(name, options.frames, options.start, options.end, max_side=frame_side(captioner))
    if clip.skipped:
        print(f"{name}: {clip.skipped} frames cannot be decoded and are left out", file=sys.stderr)
    features = encode_frames(captioner, clip.frames)
    captions = captioner.decode(ImageFeatures.mean(features), prompts, decoding)
    if not (options.srt or options.summary):
        return clip, captions, None
    singly = [captioner.decode(one, prompts[:1], decoding)[0] for one in features]
    if options.srt:
        segments = merge_segments(clip.frames, singly, clip.start, clip.end)
        options.srt.write_text(segments_to_srt(segments), encoding="utf-8")
    summary = summarize(options.summary, [caption.text for caption in singly]) if options.summary else None
    return clip, captions, summary


def _add_clip(
    document: dict[str, Any], name: str, clip: Clip, captions: list[Caption], summary: Summary | None
) -> None:
    """Put a clip into the document; `frames` are those of the first one, `clips` tells of each."""
    from captioning.export import caption_record, frame_records

    frames = frame_records(clip.frames)
    document["captions"] += [caption_record(caption, name) for caption in captions]
    document["frames"] = document["frames"] or frames
    document["clips"].append(
        {
            "image": name,
            "seconds": clip.index.duration,
            "frames": frames,
            "skipped": clip.skipped,
            "reader": clip.backend,
        }
        | ({} if summary is None else {"summary": summary._asdict()})
    )


def _layer(text: str) -> int | str:
    """A layer's number, or "mean"."""
    return text if text == "mean" else int(text)


def _head(text: str) -> int | str:
    """A head's number, or "mean" or "max"."""
    return text if text in ("mean", "max") else int(text)


def _attention(options: argparse.Namespace) -> int:
    from captioning.attention_files import Paint, choose_view, find_positions, look, write_files
    from captioning.images import open_image
    from captioning.prompts import check_prompts

    paint = Paint(options.scale, options.opacity, options.colour_map, not options.patches)
    decoding = _read_decoding(options)
    prompt = options.prompt if options.prompt is not None else "" if options.text else DEFAULT_PROMPT
    check_prompts([prompt])
    picture = open_image(options.image)
    captioner = _load(options)
    view = choose_view(captioner.spec, options.method, options.layer, options.head)
    (features,) = captioner.encode([picture])
    if options.text:
        caption = captioner.caption_from_text(features, prompt, options.text)
    else:
        caption = captioner.decode(features, [prompt], decoding)[0]
    sight = look(captioner, picture, caption, view, find_positions(caption, options.word, options.position))
    files = write_files(sight, paint, options.out) if options.out else []
    if _wants_json(options):
        from captioning.explorer import trace_document

        document = trace_document(captioner, picture, caption, view.method, view.layer, view.head)
        _print_json(document | {"measured": view.measured, "files": [str(file) for file in files]})
    else:
        _print_sight(sight)
        print(*(f"wrote {file}" for file in files), sep="\n")
    return 0


def _print_sight(sight: Sight) -> None:
    """A line a token: how sure the model was, how spread out the map is, how much of it is on the picture."""
    from captioning.attention import TRACED, entropy, image_share

    view, caption = sight.view, sight.trace.caption
    where = "all layers" if view.layer is None else f"layer {view.layer}"
    chosen = f"{view.method}, {where}, head {view.head}" if view.method in TRACED else view.method
    print(f"{caption.text}  [{chosen}; {'best on training photographs' if view.measured else 'not measured'}]")
    shares = image_share(sight.trace, view.layer, view.head) if view.method in TRACED else None
    for position, bits in zip(sight.positions, entropy(sight.maps), strict=True):
        token, log_prob = caption.tokens[position].strip(), caption.log_probs[position]
        share = "" if shares is None else f", {shares[position]:4.0%} on the picture"
        print(f"  {position:3} {token:18} {log_prob:7.2f} nats, {bits:4.1f} bits{share}")


def _map(options: argparse.Namespace) -> int:
    import tempfile

    from captioning.collection import open_any
    from captioning.image_map import MapOptions, make_map, map_document

    layout = MapOptions(options.n_neighbors, options.min_dist, options.seed, options.method)
    captioner = _load(options)
    with tempfile.TemporaryDirectory() as unpacked:
        collection = open_any(options.collection, Path(unpacked))
        made = make_map(captioner, collection, layout, options.captions, _ProgressLine().show)
        for one in made.failed:
            print(f"captioning: {one.name}: {one.reason}", file=sys.stderr)
        about = {
            "model": captioner.spec.model_id,
            "revision": captioner.spec.revision,
            "options": plain_dict(layout),
            "method": made.projection.method,
            "note": made.projection.note,
        }
        document = map_document(made.points, made.quality, made.failed, about)
        if options.out:
            _write_map(options.out, made, document)
    if _wants_json(options):
        _print_json(document)
    else:
        _print_map(made)
    return 1 if made.failed else 0


def _write_map(folder: Path, made: ImageMap, document: dict[str, Any]) -> None:
    from captioning.image_map import draw_map, map_to_csv, map_to_npz

    folder.mkdir(parents=True, exist_ok=True)
    points = made.points
    (folder / "map.csv").write_text(map_to_csv(points), encoding="utf-8")
    (folder / "map.json").write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
    (folder / "features.npz").write_bytes(map_to_npz(points))
    draw_map(points.images, points.positions, points.clusters).save(folder / "map.png")


def _print_map(made: ImageMap) -> None:
    groups = len(set(made.points.clusters.tolist()) - {-1})
    print(f"{len(made.points.images)} pictures in {groups} groups, laid out by {made.projection.method}")
    if made.projection.note:
        print(made.projection.note)
    for number, name in enumerate(made.points.cluster_names):
        print(f"  {int((made.points.clusters == number).sum()):6} {name}")
    if made.quality:
        shown = {"this map": made.quality, "PCA": made.quality.pca, "random": made.quality.random}
        for name, found in shown.items():
            print(f"  {name:10} trustworthiness {found.trustworthiness:.3f}, recall {found.neighbour_recall:.3f}")


def _list_models(options: argparse.Namespace) -> int:
    from captioning.models import list_families, list_models

    rows = [plain_dict(spec) | {"capabilities": plain_dict(spec.capabilities)} for spec in list_models()]
    if _wants_json(options):
        _print_json(rows)
        return 0
    for row in rows:
        size = (
            f"{row['download_bytes'] / 1e6:,.0f} MB to download" if row["download_bytes"] else "ships with the program"
        )
        print(f"{row['model_id']:45} {row['family']:20} {size}")
    untrained = [f"untrained:{name}" for family in list_families() for name in family.untrained_names]
    print(f"Also: any folder or hub name of these families, and {', '.join(untrained)}.")
    return 0


def _model_info(options: argparse.Namespace) -> int:
    from captioning.cache import load_captioner
    from captioning.model_report import info_document

    info = load_captioner(options.model, report=_report_download).info()
    if _wants_json(options):
        _print_json(info_document(info))
        return 0
    print(
        f"{info.spec.title}: {info.parameters:,} parameters in {len(info.arrays)} arrays, "
        f"{info.precision} on {info.device}"
    )
    for kind, count in info.layer_types.items():
        print(f"  {count:4} {kind}")
    for step, shape in info.shapes:
        print(f"  {step:24} {list(shape)}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from captioning.training.options import Beginning
    from captioning.training.run import train

    def given(names: Iterable[str]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(options, name)) is not None}

    beginning = Beginning(options.encoder, options.start_from, given(_SHAPE_HELP))
    training = replace(beginning.recipe, **given(_TRAINING_HELP))
    train(
        options.data,
        options.out,
        beginning,
        training,
        _print_progress,
        limit=options.limit,
        logs=options.log,
        device=options.device,
    )
    return 0


def _evaluate_captions(options: argparse.Namespace) -> int:
    from captioning.prompts import DEFAULT_PROMPTS
    from captioning.training.data import class_names, load_photos, read_table
    from captioning.training.metrics import evaluate_captions, evaluate_prompts

    kinds = class_names(read_table(options.data))
    captioner = _load(options)
    data = load_photos(options.data, options.split, _side_for(captioner), options.limit)
    decoding = DecodingOptions(num_beams=options.num_beams)
    figures = evaluate_captions(captioner, data, kinds, decoding, report=_ProgressLine().show)
    if captioner.spec.capabilities.supports_prompt and figures["captioned"]:
        figures |= evaluate_prompts(captioner, data, DEFAULT_PROMPTS, report=_ProgressLine().show)
    _print_figures(options, captioner, figures)
    return 0


def _evaluate_features(options: argparse.Namespace) -> int:
    from captioning.cache import load_captioner
    from captioning.training.data import load_photos
    from captioning.training.metrics import evaluate_embeddings, evaluate_pixels

    captioner = _load(options)
    side = _side_for(captioner)
    train, dev = (load_photos(options.data, split, side, options.limit) for split in ("train", options.split))
    figures: dict[str, Any] = {"neighbour_vote": evaluate_embeddings(captioner, train, dev)}
    figures["neighbour_vote_pixels"] = evaluate_pixels(train, dev)
    if captioner.spec.model_id == "embedded":
        untrained = load_captioner("untrained:embedded", options.device, options.precision)
        figures["neighbour_vote_untrained"] = evaluate_embeddings(untrained, train, dev)
    _print_figures(options, captioner, figures)
    return 0


def _evaluate_precision(options: argparse.Namespace) -> int:
    from captioning.cache import load_uncached
    from captioning.training.agreement import evaluate_agreement
    from captioning.training.data import load_photos

    model = options.model or "embedded"
    captioner = load_uncached(model, options.device, options.precision)
    exact = load_uncached(model, options.device, "float32", engine="torch")
    data = load_photos(options.data, options.split, _side_for(captioner), options.limit)
    _print_figures(options, captioner, evaluate_agreement(captioner, exact, data, report=_ProgressLine().show))
    return 0


def _evaluate_map(options: argparse.Namespace) -> int:
    from captioning.cache import load_captioner
    from captioning.image_map import MapOptions
    from captioning.training.data import load_photos
    from captioning.training.map_votes import KINDS, evaluate_map

    captioner: Captioner = _load(options)
    side = _side_for(captioner)
    train, dev = (
        load_photos(options.data, split, side, options.limit, kinds=KINDS) for split in ("train", options.split)
    )
    captioners = {"model": captioner}
    if captioner.spec.model_id == "embedded":
        captioners["untrained"] = load_captioner("untrained:embedded", options.device, options.precision)
    layout = MapOptions(seed=options.seed)
    _print_figures(options, captioner, evaluate_map(captioners, train, dev, layout, report=_ProgressLine().show))
    return 0


def _evaluate_faithfulness(options: argparse.Namespace) -> int:
    from captioning.cache import load_uncached
    from captioning.training.data import load_photos, read_nouns
    from captioning.training.map_quality import evaluate_faithfulness, faithfulness_table

    captioner = load_uncached(options.model or "embedded", options.device, options.precision or "float32")
    data = load_photos(options.data, options.split, _side_for(captioner), options.limit)
    figures = evaluate_faithfulness(
        captioner,
        data,
        read_nouns(data),
        methods=options.methods,
        more_views=options.views,
        steps=options.steps,
        fill=options.fill,
        seed=options.seed,
        report=_ProgressLine().show,
    )
    if _wants_json(options):
        _print_figures(options, captioner, figures)
    else:
        print(f"{captioner.spec.model_id} in {captioner.precision}, split {options.split}")
        print(faithfulness_table(figures))
    return 0


def _side_for(captioner: Captioner) -> int:
    """The side in pixels at which photographs are read to measure a captioner."""
    from PIL import Image

    from captioning.training.data import evaluation_side
    from captioning.types import Picture

    blank = Picture(Image.new("RGB", (64, 64)), "blank")
    return evaluation_side(captioner.preprocess(blank).pixel_values.shape[-2:])


def _print_figures(options: argparse.Namespace, captioner: Captioner, figures: dict[str, Any]) -> None:
    result = {"model": captioner.spec.model_id, "precision": captioner.precision, "split": options.split, **figures}
    if _wants_json(options):
        _print_json(result)
        return
    for name, value in result.items():
        print(f"{name:25} {value:.4f}" if isinstance(value, float) else f"{name:25} {value}")


def _bench(options: argparse.Namespace) -> int:
    from captioning.bench import CASES, as_table, run_cases

    unknown = sorted(set(options.cases or ()) - set(CASES))
    if unknown:
        raise OptionsError(f"There is no case {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    results = run_cases(options.cases or [], quick=options.quick, report=_print_progress)
    table = as_table(results)
    if options.out:
        options.out.write_text(table, encoding="utf-8")
    if _wants_json(options):
        _print_json([plain_dict(result) for result in results])
    else:
        print(table)
    return 0


def _deploy(options: argparse.Namespace) -> int:
    import os

    from captioning.deploy.command import deploy

    done = deploy(
        options.file,
        os.environ,
        dry_run=options.dry_run,
        renew_secrets=options.renew_secrets,
        report=_print_progress,
    )
    if _wants_json(options):
        _print_json(done.as_document())
        return 0
    if not done.changes:
        print(f"Nothing to do: {done.url} is as {options.file} says.")
        return 0
    if options.dry_run:
        print("\n".join(map(str, done.changes)))
        print(f"{len(done.changes)} changes to {done.url}; nothing was changed.")
    else:
        print(f"{done.url} is now as {options.file} says; the hub builds it within minutes.")
    return 0


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _ProgressLine:
    """One line on the terminal that says what is done and how long the rest will take."""

    def __init__(self) -> None:
        self._what = ""
        self._started = self._shown = 0.0

    def show(self, what: str, done: int, total: int) -> None:
        """Show the state at most twice a second; ends the line when all is done."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._started, self._shown = what, now, 0.0
        if not done or (now - self._shown < 0.5 and done < total):
            return
        self._shown = now
        left = (now - self._started) / done * (total - done)
        end = "\n" if done == total else ""
        print(f"\r{what} {done}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
