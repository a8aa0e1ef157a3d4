"""One form, one answer: `curl -F image=@photo.jpg -F prompt='a photo of' ADDRESS/caption`.

A form is carried out as a client would do it, by requests of the server to itself: upload, call, answer. So every
guard, the login, the visitors' limits and the queue are the same for both.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from captioning.core.errors import CaptioningError, OptionsError
from captioning.core.messages import UNEXPECTED
from captioning.core.options import Option, Parameter
from captioning.core.settings import get_settings
from captioning.web.api import model_parameter
from captioning.web.endpoints import DECODING, END, FRAMES, IMAGE, START, VIDEO

_PROMPT = Parameter("prompt", str, None, Option("start of a caption; may come more than once"))
_FORMS = {
    "caption": (IMAGE, (model_parameter("auto"), *DECODING)),
    "caption_video": (VIDEO, (FRAMES, START, END, model_parameter("auto"), *DECODING)),
}
"""What a form may hold besides prompts, for each endpoint that takes one: its file, and its other fields."""
_OWN_HEADERS = frozenset(
    {"content-type", "content-length", "transfer-encoding", "connection", "expect", "accept-encoding"}
)
"""Headers that describe the form itself; all others, such as cookies, are those of whoever asks."""


def form_routes() -> list[Route]:
    """Return the routes that take forms, for `app_kwargs` of the server."""
    return [Route(f"/{name}", partial(_answer, name), methods=["POST"]) for name in _FORMS]


async def _answer(name: str, request: Request) -> Response:
    async with _own_client(request) as client:
        # Before the form is read: only who may come in may fill the disk.
        reply = await client.get("/gradio_api/login_check")
        if reply.is_error:
            return _refusal(reply)
        most = get_settings().max_prompts + len(_FORMS[name][1])
        async with request.form(max_files=1, max_fields=most) as form:
            try:
                file, values = read_form(form, *_FORMS[name])
            except CaptioningError as error:
                return JSONResponse({"detail": str(error)}, 400)
            reply = await client.post("/gradio_api/upload", files={"files": (file.filename, file.file)})
        if reply.is_error:
            return _refusal(reply)
        sent = {"path": reply.json()[0], "orig_name": file.filename, "meta": {"_type": "gradio.FileData"}}
        values[_FORMS[name][0].name] = sent
        reply = await client.post(f"/gradio_api/call/v2/{name}", json=values)
        if reply.is_error:
            return _refusal(reply)
        return read_events((await client.get(f"/gradio_api/call/{name}/{reply.json()['event_id']}")).text)


@asynccontextmanager
async def _own_client(request: Request) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of this very server that asks in the name of a request's sender."""
    sender = (request.client.host, request.client.port) if request.client else ("", 0)
    headers = [(key, value) for key, value in request.headers.items() if key not in _OWN_HEADERS]
    transport = httpx.ASGITransport(request.app, client=sender)
    address = f"{request.url.scheme}://{request.url.netloc or 'localhost'}"
    async with httpx.AsyncClient(transport=transport, base_url=address, headers=headers) as client:
        yield client


def read_form(form: FormData, file: Parameter, fields: Sequence[Parameter]) -> tuple[UploadFile, dict[str, Any]]:
    """Return the file of a form and its other values by name. Raises `OptionsError` for what cannot be used."""
    known: Mapping[str, Parameter] = {parameter.name: parameter for parameter in (*fields, _PROMPT)}
    unknown = form.keys() - known.keys() - {file.name}
    if unknown:
        raise OptionsError(f"There is no field {min(unknown)}; choose from {file.name}, {', '.join(known)}.")
    sent = form.get(file.name)
    if not isinstance(sent, UploadFile):
        example = file.option.example["path"]
        raise OptionsError(f"There is no file in {file.name}; send one with curl -F {file.name}=@{example}.")
    texts = [(name, text) for name, text in form.multi_items() if name != file.name]
    if not all(isinstance(text, str) for _, text in texts):
        raise OptionsError(f"Only {file.name} is a file; every other field is a text.")
    values = {name: known[name].read(str(text)) for name, text in texts if name != _PROMPT.name}
    prompts = [text for name, text in texts if name == _PROMPT.name]
    return sent, values | ({"prompts": prompts} if prompts else {})


def read_events(text: str) -> Response:
    """Return the answer that the events of a call end with: its document, or a sentence."""
    kind, _, data = text.strip().rpartition("\n\n")[2].partition("\n")
    result = json.loads(data.removeprefix("data: ") or "null")
    if kind == "event: complete":
        return JSONResponse(result[0])
    sentence = (result or {}).get("error") or UNEXPECTED
    return JSONResponse({"detail": sentence}, 500 if sentence == UNEXPECTED else 400)


def _refusal(reply: httpx.Response) -> Response:
    """Return what a request on the way was refused with, as one sentence."""
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = reply.text
    if isinstance(detail, dict):
        detail = detail.get("error") or UNEXPECTED
    return JSONResponse({"detail": detail}, reply.status_code)
