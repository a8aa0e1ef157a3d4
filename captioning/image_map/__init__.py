"""Features as a landscape: near on the map is meant to be near in feature space, and how often it is, is measured.

Pictures → features (`embed`) → neighbours (`nearest`) → positions (`project`, `place`, `refit`) → how far the map can
be believed (`quality`) → groups and their names (`clusters`, `name_clusters`) → documents (`MapPoints` and what
takes it). `session` does all of it in order. Arrays only; umap and scikit-learn are imported when first needed.
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
from captioning.image_map.features import Embedded, embed
from captioning.image_map.grouping import clusters, content_words, name_clusters
from captioning.image_map.measures import LayoutQuality, MapQuality, quality
from captioning.image_map.neighbours import nearest
from captioning.image_map.options import MapOptions
from captioning.image_map.projection import Projection, place, project, refit, warm_up
from captioning.image_map.session import ImageMap, draw, find_out, grow, lay_out, lay_out_anew, make_map
from captioning.image_map.thumbnails import thumbnail

__all__ = [
    "Embedded",
    "ImageMap",
    "LayoutQuality",
    "MapOptions",
    "MapPoints",
    "MapQuality",
    "Projection",
    "clusters",
    "content_words",
    "draw",
    "draw_map",
    "embed",
    "find_out",
    "grow",
    "lay_out",
    "lay_out_anew",
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
    "thumbnail",
    "warm_up",
    "write_pictures",
]
