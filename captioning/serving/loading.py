"""How models are asked for: by name, shared by all who ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from captioning.core.types import ModelSpec

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress
    from captioning.serving.cache import SharedCaptioner


class LoadCaptioner(Protocol):
    """What `captioning.load_captioner` does; tests hand in their own."""

    def __call__(
        self, model_id: str = ..., *, report: Callable[[DownloadProgress], None] | None = ...
    ) -> SharedCaptioner:
        """The shared captioner of a model; `report` hears the progress of a download."""
        ...


def name_in_use(asked: str, spec: ModelSpec) -> str:
    """The name by which `load` gives a model again that was asked for as `asked`.

    It is what `auto` stood for, and any other name as it was written: by that the model is shared, and permitted.
    """
    return spec.model_id if asked == "auto" else asked
