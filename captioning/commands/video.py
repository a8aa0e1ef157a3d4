"""`video`: captions of clips."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.commands.shared import (
    Subparsers,
    add_decoding,
    add_json,
    add_model,
    add_prompts,
    expand_names,
    load,
    make_folder,
    print_json,
    read_decoding,
    report_failure,
    wants_json,
)
from captioning.core.errors import CaptioningError, OptionsError
from captioning.core.types import DecodingOptions, plain_dict
from captioning.core.whole_files import write_whole

if TYPE_CHECKING:
    from captioning.core.types import Caption
    from captioning.media.video import Clip
    from captioning.models.helpers.summarizer import Summary
    from captioning.serving.shared_captioner import SharedCaptioner


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    video = commands.add_parser("video", help="caption clips by the average of their frames")
    video.add_argument(
        "clips", nargs="+", metavar="CLIP", help="a clip, a folder of clips, or a pattern such as 'in/*.mp4'"
    )
    video.add_argument("--frames", type=int, default=16, help="frames, evenly spaced (default: 16)")
    video.add_argument(
        "--start", type=_time, metavar="TIME", help="begin here, in seconds or as 1:23 (default: the clip's start)"
    )
    video.add_argument(
        "--end", type=_time, metavar="TIME", help="end here, in seconds or as 1:23 (default: the clip's end)"
    )
    video.add_argument("--srt", type=Path, help="also caption every frame of one clip, and write subtitles here")
    video.add_argument(
        "--summary", metavar="MODEL", help="also caption every frame, and sum up by this text encoder-decoder"
    )
    add_prompts(video)
    add_model(video)
    add_decoding(video)
    add_json(video)
    video.set_defaults(run=_video)


def _time(text: str) -> float:
    """Read a time within a clip, in seconds."""
    from captioning.media.video import read_time

    try:
        return read_time(text, "The time")
    except CaptioningError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _video(options: argparse.Namespace) -> int:
    from captioning.captions.prompts import check_prompts
    from captioning.captions.words import caption_note
    from captioning.media.named_files import find_clips
    from captioning.media.video import describe_duration

    errors: list[dict[str, str]] = []
    clips = expand_names(options.clips, find_clips, errors)
    if options.srt and len(clips) > 1:
        raise OptionsError("--srt writes the subtitles of one clip; give one clip.")
    decoding = read_decoding(options)
    prompts = check_prompts([DEFAULT_PROMPT] if options.prompts is None else options.prompts)
    if options.srt:
        make_folder(options.srt.parent)
    captioner = load(options)
    document: dict[str, Any] = {
        "model": captioner.spec.model_id,
        "revision": captioner.spec.revision,
        "options": plain_dict(decoding),
        "captions": [],
        "frames": [],
        "clips": [],
        "notes": [],
        "errors": errors,
    }
    for name in clips:
        try:
            clip, captions, summary = _caption_clip(options, captioner, name, prompts, decoding)
        except CaptioningError as error:
            report_failure(name, error, errors)
            continue
        _add_clip(document, name, clip, captions, summary)
        if not wants_json(options):
            times = ", ".join(describe_duration(frame.seconds) for frame in clip.frames)
            note = f"; {clip.note}" if clip.note else ""
            print(f"{name} ({len(clip.frames)} frames: {times}{note})")
            for caption in captions:
                print(f"  {caption.text}")
                if told := caption_note(caption):
                    print(f"    ({told})")
            if summary is not None:
                print(f"  in short, by {summary.model}: {summary.text}")
    if wants_json(options):
        print_json(document)
    return 1 if errors else 0


def _caption_clip(
    options: argparse.Namespace, captioner: SharedCaptioner, name: str, prompts: list[str], decoding: DecodingOptions
) -> tuple[Clip, list[Caption], Summary | None]:
    """Return a clip's frames, its captions and, if wanted, a text model's summary of the frames' captions."""
    from captioning.captions.clip_captions import encode_frames, frame_side, merge_segments
    from captioning.captions.export import segments_to_srt
    from captioning.core.types import ImageFeatures
    from captioning.media.video import sample_clip
    from captioning.models.helpers.summarizer import summarize

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
        write_whole(options.srt, segments_to_srt(segments))
    summary = summarize(options.summary, [caption.text for caption in singly]) if options.summary else None
    return clip, captions, summary


def _add_clip(
    document: dict[str, Any], name: str, clip: Clip, captions: list[Caption], summary: Summary | None
) -> None:
    """Put a clip into the document; `frames` are those of the first one, `clips` tells of each."""
    from captioning.captions.export import caption_record, frame_records

    frames = frame_records(clip.frames)
    document["captions"] += [caption_record(caption, name) for caption in captions]
    document["frames"] = document["frames"] or frames
    if clip.note:
        document["notes"].append({"image": name, "note": clip.note})
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
