"""The same work for `gradio_client`, without the page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.attention.files import choose_view
from captioning.attention.page_value import trace_document
from captioning.captions.clip_captions import encode_frames, frame_side
from captioning.captions.export import captions_document, frame_records
from captioning.captions.model_report import info_document
from captioning.captions.prompts import DEFAULT_PROMPT, check_prompts
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, PromptError
from captioning.core.options import Option, Parameter, make, parameters
from captioning.core.settings import get_settings
from captioning.core.types import DecodingOptions, ImageFeatures
from captioning.media.images import open_image
from captioning.media.video import DEFAULT_FRAMES, sample_clip
from captioning.serving.loading import LoadCaptioner
from captioning.web.api import NOT_UPLOADED, add_endpoint, model_parameter

_DEFAULTS = DecodingOptions()
FILE_EXAMPLE = {"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}}
IMAGE = Parameter("image", dict, None, Option("the picture: handle_file('photo.jpg')", example=FILE_EXAMPLE), True)
VIDEO = Parameter(
    "video",
    dict,
    None,
    Option("the clip: handle_file('clip.mp4')", example=FILE_EXAMPLE | {"path": "clip.mp4", "url": "clip.mp4"}),
    True,
)
PROMPTS = Parameter(
    "prompts", list[str], [DEFAULT_PROMPT], Option('starts of captions, one caption or more for each; "" for none')
)
FRAMES = Parameter(
    "frames", int, DEFAULT_FRAMES, Option("frames, evenly spaced", low=1, high=get_settings().video_frames)
)
START = Parameter("start", float, None, Option("where the part to caption begins, in seconds", low=0))
END = Parameter("end", float, None, Option("where the part to caption ends, in seconds", low=0))
DECODING = parameters(DecodingOptions)
_VIEW = (
    Parameter("prompt", str, DEFAULT_PROMPT, Option('start of the caption; "" for none')),
    Parameter("text", str, "", Option("a caption to explain, after the prompt; empty for the model's own")),
)
_LAYERS = (
    Parameter(
        "method", str, None, Option("attention, attention_clean, gradient_attention, relevance or input_gradient")
    ),
    Parameter("layer", int | str, None, Option('number of the layer, from 0, or "mean"')),
    Parameter("head", int | str, None, Option('number of the head, from 0, or "mean" or "max"')),
)


def add_endpoints(load: LoadCaptioner, first_model: str) -> None:
    """Add `/caption`, `/caption_video`, `/trace` and `/model_info` to the page that is being built.

    `first_model` answers a request that names no model, as on the page.
    """
    model = model_parameter(first_model)
    add_endpoint(
        "caption",
        "Caption a picture. In one request: curl -F image=@photo.jpg -F 'prompt=a photo of' ADDRESS/caption",
        (IMAGE, PROMPTS, model, *DECODING),
        partial(_caption, load),
    )
    add_endpoint(
        "caption_video",
        "Caption a clip by the average of evenly spaced frames. In one request: curl -F video=@clip.mp4 "
        "-F frames=8 ADDRESS/caption_video",
        (VIDEO, FRAMES, PROMPTS, START, END, model, *DECODING),
        partial(_caption_video, load),
    )
    add_endpoint(
        "trace",
        "Show where the model looks for each token of a caption. Without method, layer and head it is the view that "
        "measured best for the model.",
        (IMAGE, *_VIEW, model, *_LAYERS),
        partial(_trace, load),
    )
    add_endpoint(
        "model_info",
        "Show what is inside a model: parameters, arrays, layer types, parts with their memory, shapes, tokenizer.",
        (model,),
        partial(_model_info, load),
    )


def _caption(load: LoadCaptioner, given: Mapping[str, Any], job: Job[Any]) -> dict[str, Any]:
    options = make(DecodingOptions, given)
    prompts = check_prompts(given["prompts"])
    path, name = _uploaded_file(given["image"], "picture", IMAGE)
    picture = open_image(path, name)
    captioner = load(given["model"], report=lambda _: job.check())
    job.check()
    (features,) = captioner.encode([picture])
    captions = captioner.decode(features, prompts, options, on_token=lambda _: job.check())
    named = [(name, caption) for caption in captions]
    return captions_document(named, captioner.spec.model_id, captioner.spec.revision, options, picture.note)


def _caption_video(load: LoadCaptioner, given: Mapping[str, Any], job: Job[Any]) -> dict[str, Any]:
    def check(*_: object) -> None:
        job.check()

    options = make(DecodingOptions, given)
    prompts = check_prompts(given["prompts"])
    path, name = _uploaded_file(given["video"], "clip", VIDEO)
    captioner = load(given["model"], report=check)
    sampling = (given["frames"], given["start"], given["end"])
    clip = sample_clip(path, *sampling, max_side=frame_side(captioner), name=name, on_frame=check)
    features = encode_frames(captioner, clip.frames, on_step=check)
    captions = captioner.decode(ImageFeatures.mean(features), prompts, options, on_token=check)
    named = [(name, caption) for caption in captions]
    document = captions_document(named, captioner.spec.model_id, captioner.spec.revision, options, clip.note)
    return document | {
        "frames": frame_records(clip.frames),
        "seconds": clip.index.duration,
        "skipped": clip.skipped,
    }


def _model_info(load: LoadCaptioner, given: Mapping[str, Any], job: Job[Any]) -> dict[str, Any]:
    captioner = load(given["model"], report=lambda _: job.check())
    job.check()
    return info_document(captioner.info())


def _trace(load: LoadCaptioner, given: Mapping[str, Any], job: Job[Any]) -> dict[str, Any]:
    path, name = _uploaded_file(given["image"], "picture", IMAGE)
    picture = open_image(path, name)
    captioner = load(given["model"], report=lambda _: job.check())
    (features,) = captioner.encode([picture])
    (prompt,) = check_prompts([given["prompt"]])
    (text,) = check_prompts([given["text"]])
    if text:
        caption = captioner.caption_from_text(features, prompt, text)
    else:
        (caption,) = captioner.decode(features, [prompt], _DEFAULTS, on_token=lambda _: job.check())
    if not caption.token_ids:
        raise PromptError("The caption is empty, so there is no word to look for; hand in a text or a prompt.")
    chosen = choose_view(
        captioner.spec, given["method"], _number_or_word(given["layer"]), _number_or_word(given["head"])
    )
    return trace_document(captioner, picture, caption, chosen.method, chosen.layer, chosen.head, check=job.check)


def _number_or_word(value: object) -> int | str | None:
    """Return a layer or a head as it was meant: clients may send a number as text."""
    if value is None:
        return None
    text = str(value)[:40]
    return int(text) if text.isdecimal() and len(text) < 6 else text


def _uploaded_file(value: object, what: str, parameter: Parameter) -> tuple[str, str]:
    """Return path and name of an uploaded file; no other file of the server is ever opened. Raises `ImageError`."""
    path = value.get("path") if isinstance(value, dict) else None
    address = value.get("url") if isinstance(value, dict) else value
    if path is None and isinstance(address, str) and address.startswith("data:"):
        raise ImageError(NOT_UPLOADED)
    if not isinstance(value, dict) or not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        example = parameter.option.example["path"]
        raise ImageError(f"There is no {what}; hand one in as {parameter.name}=handle_file('{example}').")
    name = value.get("orig_name")
    return path, name if isinstance(name, str) and name else Path(path).name
