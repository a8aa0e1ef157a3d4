"""Image maps: features laid out in two dimensions, so that similar pictures lie close together.

Pictures → features (`embed`) → neighbours (`nearest`) → positions (`project`, `place`, `refit`) → measures of the map
(`quality`) → groups and their names (`clusters`, `name_clusters`) → exports (`MapPoints` and the functions that take
it). `session` runs these steps in order. This room works on arrays only; umap and scikit-learn are imported on first
use.
"""

from __future__ import annotations

from captioning.image_map.drawing import draw_map
from captioning.image_map.export import (
    MapPoints,
    map_document,
    map_to_csv,
    map_to_npz,
    quality_record,
    write_pictures,
)
from captioning.image_map.features import PictureEmbeddings, embed
from captioning.image_map.grouping import clusters, content_words, name_clusters
from captioning.image_map.measures import LayoutQuality, MapQuality, quality
from captioning.image_map.neighbours import nearest
from captioning.image_map.options import MapOptions
from captioning.image_map.projection import Projection, place, project, refit, warm_up
from captioning.image_map.session import (
    ImageMap,
    add_pictures,
    annotate_map,
    lay_out,
    lay_out_collection,
    make_map,
    refit_map,
)
from captioning.image_map.thumbnails import thumbnail

__all__ = [
    "ImageMap",
    "LayoutQuality",
    "MapOptions",
    "MapPoints",
    "MapQuality",
    "PictureEmbeddings",
    "Projection",
    "add_pictures",
    "annotate_map",
    "clusters",
    "content_words",
    "draw_map",
    "embed",
    "lay_out",
    "lay_out_collection",
    "make_map",
    "map_document",
    "map_to_csv",
    "map_to_npz",
    "name_clusters",
    "nearest",
    "place",
    "project",
    "quality",
    "quality_record",
    "refit",
    "refit_map",
    "thumbnail",
    "warm_up",
    "write_pictures",
]
