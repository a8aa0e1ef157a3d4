"""What every tab receives: the models, the session's choices, and the parts that all tabs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from captioning.core.settings import get_settings
from captioning.serving.loading import LoadCaptioner

if TYPE_CHECKING:
    from captioning.core.types import Caption


@dataclass(frozen=True, slots=True)
class CarriedCaption:
    """A caption that one tab hands to another: the file of its picture, its model as `load` takes it, and itself.

    `serial` differs each time, so that carrying the same caption again is news.
    """

    path: str
    model_id: str
    caption: Caption
    serial: int


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard. Handlers take `model_id` and `picture` as inputs and name `status` among their outputs.

    `model_id` holds the name of the session's model, or `auto` until the first is ready. `picture` holds the file
    of the picture in hand, or `None`: whatever was last captioned, sampled or clicked, which the next tab opens on.
    `carried` holds the `CarriedCaption` that was last opened in another tab, or `None`; `gr.update(selected=id)`
    of `tabs` goes to a tab. `link` holds the `Link` that the page was opened by, or `None`.
    """

    load: LoadCaptioner
    model_id: gr.State
    picture: gr.State
    status: gr.HTML
    carried: gr.State
    link: gr.State
    tabs: gr.Tabs

    @staticmethod
    def event(**options: Any) -> dict[str, Any]:
        """Options of an event that only the page itself raises; progress is ours to show."""
        return {"api_visibility": "private", "show_progress": "hidden", **options}

    @classmethod
    def model_event(cls, **options: Any) -> dict[str, Any]:
        """Options of an event that asks a model: all of them share one limit, and the captioner takes turns."""
        return cls.event(trigger_mode="multiple", **MODEL_QUEUE, **options)

    @classmethod
    def work_event(cls, **options: Any) -> dict[str, Any]:
        """Options of an event that computes for long without a model: several at once, and none waits for a model."""
        return cls.event(trigger_mode="multiple", **WORK_QUEUE, **options)


MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": get_settings().model_events}
"""What every event that asks a model has in common, endpoints included."""
WORK_QUEUE: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": get_settings().model_events}
"""What events have in common that compute for long without a model."""
