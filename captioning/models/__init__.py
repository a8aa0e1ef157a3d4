"""Captioning models: encoders, decoders, and where they come from."""

from __future__ import annotations

from captioning.models.catalogue import get_family as get_family
from captioning.models.catalogue import get_spec as get_spec
from captioning.models.catalogue import list_families as list_families
from captioning.models.catalogue import list_models as list_models
from captioning.models.catalogue import title_of as title_of
