"""The same work for `gradio_client`, without the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.utils import get_upload_folder, is_in_or_equal

from captioning.errors import ImageError, PromptError
from captioning.export import captions_document
from captioning.images import open_image
from captioning.prompts import DEFAULT_PROMPT, check_prompts
from captioning.types import DecodingOptions
from captioning.ui.messages import explain
from captioning.ui.page import MODEL_QUEUE, LoadCaptioner
from captioning.ui.worker import Job, finish

_DEFAULTS = DecodingOptions()


def add_endpoints(load: LoadCaptioner) -> None:
    """Add `/caption` to the page that is being built."""

    async def caption(
        image: dict,  # type: ignore[type-arg]  # a bare type, because clients are told it as JSON
        prompts: list[str] = [DEFAULT_PROMPT],  # noqa: B006  # read, never changed; clients are told it as the default
        model: str = "auto",
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

        try:
            return await finish(work)
        except Exception as error:
            raise gr.Error(explain(error), print_exception=False) from error

    api(caption, api_name="caption", **MODEL_QUEUE)


def _caption(
    load: LoadCaptioner, image: object, prompts: object, model: object, options: DecodingOptions, job: Job[None]
) -> dict[str, Any]:
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise PromptError("prompts must be a list of texts.")
    checked = check_prompts(prompts)
    path, name = _uploaded_file(image)
    picture = open_image(path, name)
    captioner = load(str(model), report=lambda _: job.check())
    job.check()
    (features,) = captioner.encode([picture])
    captions = captioner.decode(features, checked, options, on_token=lambda _: job.check())
    named = [(name, caption) for caption in captions]
    return captions_document(named, captioner.spec.model_id, captioner.spec.revision, options)


def _uploaded_file(image: object) -> tuple[str, str]:
    """Path and name of an uploaded file; no other file of the server is ever opened. Raises `ImageError`."""
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(image, dict) or not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
        raise ImageError("There is no picture; hand one in as image=handle_file('photo.jpg').")
    name = image.get("orig_name")
    return path, name if isinstance(name, str) and name else Path(path).name
