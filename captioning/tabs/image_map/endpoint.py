"""The map without the page, for `gradio_client`."""

from __future__ import annotations

from typing import Any

from gradio.events import api
from gradio.utils import get_upload_folder

from captioning.core.cancellation import Job
from captioning.core.errors import DataError
from captioning.image_map import MapOptions
from captioning.image_map.formats import SavedMap
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.image_map.intake import Source, read_file_record
from captioning.tabs.image_map.work import draw, find_out
from captioning.ui.page import MODEL_QUEUE
from captioning.web.jobs import answer

_DEFAULTS = MapOptions()


def add_map_endpoint(load: LoadCaptioner, first_model: str) -> None:
    """Add `/image_map` to the page that is being built; `first_model` answers whoever names none."""

    async def image_map(
        images: list,  # type: ignore[type-arg]  # a bare type, because clients are told it as JSON
        model: str = first_model,
        method: str = _DEFAULTS.method,
        n_neighbors: int = _DEFAULTS.n_neighbors,
        min_dist: float = _DEFAULTS.min_dist,
        seed: int = _DEFAULTS.seed,
        captions: bool = True,
    ) -> dict[str, Any]:
        """Lay pictures out by what the model sees: `images` are `handle_file`s of pictures, zips, CSVs or clips.

        `method` is umap or pca. Each point has its place, its cluster and, where `captions` is true, a caption.
        """

        def work(job: Job[Any]) -> dict[str, Any]:
            options = MapOptions(n_neighbors, min_dist, seed, method)  # type: ignore[arg-type]  # it checks itself
            if not isinstance(images, list) or not images:
                raise DataError("There are no pictures; hand them in as images=[handle_file('photo.jpg'), …].")
            source = Source("files", files=tuple(read_file_record(image, "orig_name") for image in images))
            drawn = draw(load, source, str(model), options, get_upload_folder(), job)
            view = find_out(load, drawn, job, captions=captions)
            return SavedMap(view, view.title, {"model": view.model_id}).document()

        return await answer(work)

    api(image_map, api_name="image_map", **MODEL_QUEUE)
