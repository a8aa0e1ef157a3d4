"""The same work for `gradio_client`, without the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradio.events import api
from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.attention.files import choose_view
from captioning.attention.page_value import trace_document
from captioning.captions.clip_captions import encode_frames, frame_side
from captioning.captions.export import captions_document, frame_records
from captioning.captions.model_report import info_document
from captioning.captions.prompts import DEFAULT_PROMPT, check_prompts
from captioning.core.cancellation import Job
from captioning.core.errors import ImageError, PromptError, VideoError
from captioning.core.types import DecodingOptions, ImageFeatures
from captioning.media.images import open_image
from captioning.media.video import DEFAULT_FRAMES, sample_clip
from captioning.serving.loading import LoadCaptioner
from captioning.ui.page import MODEL_QUEUE
from captioning.web.jobs import answer

_DEFAULTS = DecodingOptions()


def add_endpoints(load: LoadCaptioner, first_model: str) -> None:
    """Add `/caption`, `/caption_video`, `/trace` and `/model_info` to the page that is being built.

    `first_model` answers whoever names none, as on the page.
    """

    async def caption(
        image: dict,  # type: ignore[type-arg]  # a bare type, because clients are told it as JSON
        prompts: list[str] = [DEFAULT_PROMPT],  # noqa: B006  # read, never changed; clients are told it as the default
        model: str = first_model,
        max_new_tokens: int = _DEFAULTS.max_new_tokens,
        num_beams: int = _DEFAULTS.num_beams,
        temperature: float = _DEFAULTS.temperature,
        top_k: int = _DEFAULTS.top_k,
        top_p: float = _DEFAULTS.top_p,
        repetition_penalty: float = _DEFAULTS.repetition_penalty,
        length_penalty: float = _DEFAULTS.length_penalty,
        num_captions: int = _DEFAULTS.num_captions,
        seed: int = _DEFAULTS.seed,
    ) -> dict[str, Any]:
        """Caption a picture: `image` by `handle_file`, one caption or more for every prompt, "" for no prompt."""

        def work(job: Job[None]) -> dict[str, Any]:
            options = DecodingOptions(
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                length_penalty=length_penalty,
                num_captions=num_captions,
                seed=seed,
            )
            return _caption(load, image, prompts, model, options, job)

        return await answer(work)

    async def caption_video(
        video: dict,  # type: ignore[type-arg]  # as above
        frames: int = DEFAULT_FRAMES,
        prompts: list[str] = [DEFAULT_PROMPT],  # noqa: B006  # as above
        start: float | None = None,
        end: float | None = None,
        model: str = first_model,
        max_new_tokens: int = _DEFAULTS.max_new_tokens,
        num_beams: int = _DEFAULTS.num_beams,
        temperature: float = _DEFAULTS.temperature,
        top_k: int = _DEFAULTS.top_k,
        top_p: float = _DEFAULTS.top_p,
        repetition_penalty: float = _DEFAULTS.repetition_penalty,
        length_penalty: float = _DEFAULTS.length_penalty,
        num_captions: int = _DEFAULTS.num_captions,
        seed: int = _DEFAULTS.seed,
    ) -> dict[str, Any]:
        """Caption a clip by the average of evenly spaced frames: `video` by `handle_file`, times in seconds."""

        def work(job: Job[None]) -> dict[str, Any]:
            options = DecodingOptions(
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                length_penalty=length_penalty,
                num_captions=num_captions,
                seed=seed,
            )
            return _caption_video(load, video, prompts, model, (frames, start, end), options, job)

        return await answer(work)

    async def trace(
        image: dict,  # type: ignore[type-arg]  # as above
        prompt: str = DEFAULT_PROMPT,
        text: str = "",
        model: str = first_model,
        method: str | None = None,
        layer: int | str | None = None,
        head: int | str | None = None,
    ) -> dict[str, Any]:
        """Where the model looks for each token of a caption: one it writes, or `text` that goes on from the prompt.

        `layer` and `head` count from 0 or are "mean", `head` also "max". Without any of the three it is the view that
        measured best for the model.
        """

        def work(job: Job[None]) -> dict[str, Any]:
            return _trace(load, image, (prompt, text), model, (method, layer, head), job)

        return await answer(work)

    async def model_info(model: str = first_model) -> dict[str, Any]:
        """What is inside a model: parameters, arrays, layer types, parts with their memory, shapes, tokenizer."""

        def work(job: Job[None]) -> dict[str, Any]:
            captioner = load(str(model), report=lambda _: job.check())
            job.check()
            return info_document(captioner.info())

        return await answer(work)

    api(caption, api_name="caption", **MODEL_QUEUE)
    api(caption_video, api_name="caption_video", **MODEL_QUEUE)
    api(trace, api_name="trace", **MODEL_QUEUE)
    api(model_info, api_name="model_info", **MODEL_QUEUE)


def _caption(
    load: LoadCaptioner, image: object, prompts: object, model: object, options: DecodingOptions, job: Job[None]
) -> dict[str, Any]:
    checked = _listed_prompts(prompts)
    path, name = _uploaded_file(image)
    picture = open_image(path, name)
    captioner = load(str(model), report=lambda _: job.check())
    job.check()
    (features,) = captioner.encode([picture])
    captions = captioner.decode(features, checked, options, on_token=lambda _: job.check())
    named = [(name, caption) for caption in captions]
    return captions_document(named, captioner.spec.model_id, captioner.spec.revision, options)


def _caption_video(
    load: LoadCaptioner,
    video: object,
    prompts: object,
    model: object,
    sampling: tuple[int, float | None, float | None],
    options: DecodingOptions,
    job: Job[None],
) -> dict[str, Any]:
    def check(*_: object) -> None:
        job.check()

    checked = _listed_prompts(prompts)
    try:
        path, name = _uploaded_file(video)
    except ImageError as error:
        raise VideoError("There is no clip; hand one in as video=handle_file('clip.mp4').") from error
    captioner = load(str(model), report=check)
    clip = sample_clip(path, *sampling, max_side=frame_side(captioner), name=name, on_frame=check)
    features = encode_frames(captioner, clip.frames, on_step=check)
    captions = captioner.decode(ImageFeatures.mean(features), checked, options, on_token=check)
    named = [(name, caption) for caption in captions]
    document = captions_document(named, captioner.spec.model_id, captioner.spec.revision, options)
    return document | {
        "frames": frame_records(clip.frames),
        "seconds": clip.index.duration,
        "skipped": clip.skipped,
    }


def _trace(
    load: LoadCaptioner,
    image: object,
    words: tuple[object, object],
    model: object,
    view: tuple[object, object, object],
    job: Job[None],
) -> dict[str, Any]:
    path, name = _uploaded_file(image)
    picture = open_image(path, name)
    captioner = load(str(model), report=lambda _: job.check())
    (features,) = captioner.encode([picture])
    (prompt,) = _listed_prompts([words[0]])
    (text,) = _listed_prompts([words[1]])
    if text:
        caption = captioner.caption_from_text(features, prompt, text)
    else:
        (caption,) = captioner.decode(features, [prompt], _DEFAULTS, on_token=lambda _: job.check())
    if not caption.token_ids:
        raise PromptError("The caption is empty, so there is no word to look for; hand in a text or a prompt.")
    method, layer, head = view
    chosen = choose_view(
        captioner.spec, None if method is None else str(method), _number_or_word(layer), _number_or_word(head)
    )
    return trace_document(captioner, picture, caption, chosen.method, chosen.layer, chosen.head, check=job.check)


def _number_or_word(value: object) -> int | str | None:
    """A layer or a head as it was meant: clients may send a number as text."""
    if value is None:
        return None
    text = str(value)[:40]
    return int(text) if text.isdecimal() and len(text) < 6 else text


def _listed_prompts(prompts: object) -> list[str]:
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise PromptError("prompts must be a list of texts.")
    return check_prompts(prompts)


def _uploaded_file(image: object) -> tuple[str, str]:
    """Path and name of an uploaded file; no other file of the server is ever opened. Raises `ImageError`."""
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(image, dict) or not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise ImageError("There is no picture; hand one in as image=handle_file('photo.jpg').")
    name = image.get("orig_name")
    return path, name if isinstance(name, str) and name else Path(path).name
