"""The command line, `python -m captioning …`; `--json` prints one JSON document and nothing else."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.errors import CaptioningError, OptionsError
from captioning.prompts import DEFAULT_PROMPT
from captioning.types import DecodingOptions, plain_dict

if TYPE_CHECKING:
    from captioning.cache import SharedCaptioner
    from captioning.contract import Captioner
    from captioning.models.hub import DownloadProgress
    from captioning.types import Caption
    from captioning.video import Clip

_DEFAULTS = DecodingOptions()
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
    _add_prompts(video)
    _add_model(video)
    _add_decoding(video)
    _add_json(video)
    video.set_defaults(run=_video)

    models = commands.add_parser("models", help="list the models, or look inside one")
    models.set_defaults(run=_list_models)
    _add_json(models)
    inside = models.add_subparsers(metavar="info ID")
    info = inside.add_parser("info", help="what is inside a model")
    info.add_argument("model")
    _add_json(info)
    info.set_defaults(run=_model_info)

    train = commands.add_parser("train", help="fit a patch_captioner to photographs")
    train.add_argument("data", type=Path, metavar="DATA", help="folder with captions.tsv and the photographs")
    train.add_argument(
        "--out", type=Path, required=True, help="folder for the model; an unfinished run there is resumed"
    )
    train.add_argument("--passes", type=int, help="passes over the photographs")
    train.add_argument("--seed", type=int)
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--batch-size", type=int)
    train.add_argument("--limit", type=int, help="use only this many photographs, for a trial")
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
    _add_model(faithfulness)
    _add_json(faithfulness)
    faithfulness.set_defaults(run=_evaluate_faithfulness)

    features = what.add_parser("features", help="kinds told by the ten nearest training photographs")
    features.add_argument("data", type=Path, metavar="DATA")
    features.add_argument("--split", default="dev")
    features.add_argument("--limit", type=int, help="use only this many photographs of each split")
    _add_model(features)
    _add_json(features)
    features.set_defaults(run=_evaluate_features)

    bench = commands.add_parser("bench", help="measure speed as a ratio to the plain way")
    bench.add_argument("--case", action="append", dest="cases", metavar="NAME", help="only this case; may be repeated")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions")
    bench.add_argument("--out", type=Path, help="also write the table to this file")
    _add_json(bench)
    bench.set_defaults(run=_bench)
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
    print(f"{status.title} on {status.device} in {status.precision} {status.reason}".rstrip(), file=sys.stderr)
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
            clip, captions = _caption_clip(options, captioner, name, prompts, decoding)
        except CaptioningError as error:
            document["errors"].append({"image": name, "error": str(error)})
            print(f"captioning: {error}", file=sys.stderr)
            continue
        _add_clip(document, name, clip, captions)
        if not _wants_json(options):
            times = ", ".join(describe_duration(frame.seconds) for frame in clip.frames)
            print(f"{name} ({len(clip.frames)} frames: {times})")
            for caption in captions:
                print(f"  {caption.text}")
    if _wants_json(options):
        _print_json(document)
    return 1 if document["errors"] else 0


def _caption_clip(
    options: argparse.Namespace, captioner: SharedCaptioner, name: str, prompts: list[str], decoding: DecodingOptions
) -> tuple[Clip, list[Caption]]:
    from captioning.clip import encode_frames, frame_side, merge_segments
    from captioning.export import segments_to_srt
    from captioning.types import ImageFeatures
    from captioning.video import sample_clip

    clip = sample_clip(name, options.frames, options.start, options.end, max_side=frame_side(captioner))
    if clip.skipped:
        print(f"{name}: {clip.skipped} frames cannot be decoded and are left out", file=sys.stderr)
    features = encode_frames(captioner, clip.frames)
    captions = captioner.decode(ImageFeatures.mean(features), prompts, decoding)
    if options.srt:
        singly = [captioner.decode(one, prompts[:1], decoding)[0] for one in features]
        segments = merge_segments(clip.frames, singly, clip.start, clip.end)
        options.srt.write_text(segments_to_srt(segments), encoding="utf-8")
    return clip, captions


def _add_clip(document: dict[str, Any], name: str, clip: Clip, captions: list[Caption]) -> None:
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
    )


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
    from captioning.training.fit import TrainingOptions
    from captioning.training.run import train

    given = {name: getattr(options, name) for name in ("passes", "seed", "learning_rate", "batch_size")}
    training = TrainingOptions(**{name: value for name, value in given.items() if value is not None})
    train(options.data, options.out, training, _print_progress, options.limit)
    return 0


def _evaluate_captions(options: argparse.Namespace) -> int:
    from captioning.prompts import DEFAULT_PROMPTS
    from captioning.training.data import class_names, load_photos, read_table
    from captioning.training.metrics import evaluate_captions, evaluate_prompts

    kinds = class_names(read_table(options.data))
    data = load_photos(options.data, options.split, limit=options.limit)
    captioner = _load(options)
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

    train, dev = (load_photos(options.data, split, limit=options.limit) for split in ("train", options.split))
    captioner = _load(options)
    figures: dict[str, Any] = {"neighbour_vote": evaluate_embeddings(captioner, train, dev)}
    figures["neighbour_vote_pixels"] = evaluate_pixels(train, dev)
    if captioner.spec.model_id == "embedded":
        untrained = load_captioner("untrained:embedded", options.device, options.precision)
        figures["neighbour_vote_untrained"] = evaluate_embeddings(untrained, train, dev)
    _print_figures(options, captioner, figures)
    return 0


def _evaluate_faithfulness(options: argparse.Namespace) -> int:
    from captioning.cache import load_uncached
    from captioning.training.data import load_photos, read_nouns
    from captioning.training.metrics import evaluate_faithfulness

    data = load_photos(options.data, options.split, limit=options.limit)
    captioner = load_uncached(options.model or "embedded", options.device, options.precision or "float32")
    figures = evaluate_faithfulness(captioner, data, read_nouns(data), seed=options.seed, report=_ProgressLine().show)
    _print_figures(options, captioner, figures)
    return 0


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
    results = run_cases(options.cases or list(CASES), quick=options.quick, report=_print_progress)
    table = as_table(results)
    if options.out:
        options.out.write_text(table, encoding="utf-8")
    if _wants_json(options):
        _print_json([plain_dict(result) for result in results])
    else:
        print(table)
    return 0


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _ProgressLine:
    """One line on the terminal that says what is done and how long the rest will take."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = 0.0

    def show(self, what: str, done: int, total: int) -> None:
        """Show the state at most twice a second; ends the line when all is done."""
        now = time.monotonic()
        if now - self._shown < 0.5 and done < total:
            return
        self._shown = now
        left = (now - self._started) / done * (total - done)
        end = "\n" if done == total else ""
        print(f"\r{what} {done}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
