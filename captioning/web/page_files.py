"""The routes that hand out the page's own files: its scripts, small pictures of its samples, and nothing else."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from captioning.core.page_scripts import read_scripts, scripts_address
from captioning.ui.clip_input import clip_thumbnail, list_clips
from captioning.ui.picture import SAMPLES_ADDRESS, list_samples, picture_thumbnail

_FOR_A_DAY = "public, max-age=86400"
_FOR_A_YEAR = "public, max-age=31536000, immutable"
"""For addresses that change with the content."""


def page_routes() -> list[Route]:
    """Return the routes, for the server that the page runs in."""
    return [
        Route(f"/{scripts_address()}/{{name:path}}", _send_script),
        Route(f"/{SAMPLES_ADDRESS}/{{name}}", _send_sample),
    ]


def _send_script(request: Request) -> Response:
    text = read_scripts().get(request.path_params["name"])
    if text is None:
        return PlainTextResponse("There is no such script.", 404)
    return Response(text, headers={"Cache-Control": _FOR_A_YEAR}, media_type="text/javascript")


def _send_sample(request: Request) -> Response:
    """Send the small picture of a sample photograph or clip."""
    name = request.path_params["name"]
    for samples, make in ((list_samples(), picture_thumbnail), (list_clips(), clip_thumbnail)):
        for sample in samples:
            if sample.name == name:
                return Response(make(sample.path), headers={"Cache-Control": _FOR_A_DAY}, media_type="image/jpeg")
    return PlainTextResponse("There is no such sample.", 404)
