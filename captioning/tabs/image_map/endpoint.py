"""The map without the page, for `gradio_client`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gradio.utils import get_upload_folder

from captioning.core.cancellation import Job
from captioning.core.errors import DataError
from captioning.core.options import Option, Parameter, make, parameters
from captioning.image_map import MapOptions
from captioning.image_map.formats import SavedMap
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.image_map.intake import Source, read_file_record
from captioning.tabs.image_map.work import draw, find_out
from captioning.web.api import add_endpoint, model_parameter
from captioning.web.endpoints import FILE_EXAMPLE

_IMAGES = Parameter(
    "images",
    list,
    None,
    Option("pictures, zips, CSVs or clips: [handle_file('photo.jpg'), …]", example=[FILE_EXAMPLE]),
    required=True,
)
_CAPTIONS = Parameter("captions", bool, True, Option("whether every picture gets a caption"))


def add_map_endpoint(load: LoadCaptioner, first_model: str) -> None:
    """Add `/image_map` to the page that is being built; `first_model` answers a request that names no model."""
    options = {parameter.name: parameter for parameter in parameters(MapOptions)}
    method = options.pop("method")  # first here since the endpoint exists
    add_endpoint(
        "image_map",
        "Lay pictures out by what the model sees. Each point has its place, its cluster and, if asked for, a caption.",
        (_IMAGES, model_parameter(first_model), method, *options.values(), _CAPTIONS),
        partial(_image_map, load),
    )


def _image_map(load: LoadCaptioner, given: Mapping[str, Any], job: Job[Any]) -> dict[str, Any]:
    images, options = given["images"], make(MapOptions, given)
    if not isinstance(images, list) or not images:
        raise DataError("There are no pictures; hand them in as images=[handle_file('photo.jpg'), …].")
    source = Source("files", files=tuple(read_file_record(image, "orig_name") for image in images))
    drawn = draw(load, source, given["model"], options, get_upload_folder(), job)
    view = find_out(load, drawn, job, captions=given["captions"])
    return SavedMap(view, view.title, {"model": view.model_id, "revision": view.revision}).document()
