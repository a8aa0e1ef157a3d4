"""Who asks: whether they sit at this machine, which models they may name, and whether what they see is theirs alone.

One gate for all ways in: tabs, links, endpoints and the page's scripts get captioners from `for_visitors` alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any

from gradio.context import LocalContext

from captioning.core.errors import UnknownModelError
from captioning.core.settings import get_settings
from captioning.media.images import open_image
from captioning.media.samples import sample_collection
from captioning.models import list_models
from captioning.models.files import plain_name
from captioning.serving.loading import LoadCaptioner, name_in_use

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress
    from captioning.serving.shared_captioner import SharedCaptioner

_LOOPBACK = ("127.0.0.1", "::1")
_FORWARDED = frozenset({"x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host"})
_HARMLESS = "untrained:"
"""Names that begin so stand for shapes that the program knows: no file is opened and nothing is downloaded."""
_ASK = "whoever runs it can allow others (CAPTIONSCOPE_VISITOR_MODELS)"


def sits_here(request: Any) -> bool:
    """Return whether a request comes from a browser or program on this machine, and not through a proxy."""
    client = getattr(request, "client", None)
    headers = {name.lower() for name in request.headers} if client is not None and request.headers else set()
    return client is not None and client.host in _LOOPBACK and not headers & _FORWARDED


def current_request() -> Any:
    """Return the request of the event that is being handled, `None` outside of any; workers inherit it."""
    return LocalContext.request.get(None)


def current_session() -> str:
    """Return the session of the event that is being handled; empty where there is none."""
    return getattr(current_request(), "session_hash", None) or ""


def invites_names() -> bool:
    """Return whether the page offers folders and hub names to type: unless every caller counts as a visitor."""
    setting = get_settings().visitor_models
    return setting == "any" or (setting == "auto" and "SPACE_ID" not in os.environ)


def listed_models() -> list[str]:
    """Names that every visitor may choose: what the program lists and is not too large, or what the settings name."""
    settings = get_settings()
    if settings.visitor_models in ("any", "listed", "auto"):
        most = settings.visitor_model_bytes
        return [spec.model_id for spec in list_models() if spec.download_bytes <= most]
    return [name.strip() for name in settings.visitor_models.split(",") if name.strip()]


def offered_models() -> list[str]:
    """Names for the menus of who asks now; before anybody does, for those whom the page is most likely for."""
    may_have_all = invites_names() if current_request() is None else may_name_any_model()
    return [spec.model_id for spec in list_models()] if may_have_all else listed_models()


def may_name_any_model() -> bool:
    """Return whether the caller may name folders and models of the hub: by a setting, or from this machine."""
    setting = get_settings().visitor_models
    return setting == "any" or (setting == "auto" and sits_here(current_request()))


def check_captioner(model_id: str, everybodys: Collection[str]) -> None:
    """Raise `UnknownModelError` where who asks now may not name this captioner; some are everybody's."""
    if not (model_id.startswith(_HARMLESS) or model_id in everybodys):
        _check_name(model_id, listed_models())


def check_helper(model_id: str) -> None:
    """Raise `UnknownModelError` where who asks now may not name this classifier or text model; none is listed."""
    _check_name(model_id, [] if get_settings().visitor_models in ("listed", "auto") else listed_models())


def _check_name(model_id: str, choices: list[str]) -> None:
    if model_id in choices or may_name_any_model():
        return
    these = f"choose from {', '.join(choices)}" if choices else "have none to choose from here"
    raise UnknownModelError(f"Visitors of this page {these}; {_ASK}.")


def for_visitors(load: LoadCaptioner, first_model: str) -> LoadCaptioner:
    """`load` for whoever asks: only models that they may name and, by a setting, a memory of their own.

    `auto` and `first_model` are everybody's, and so is what `auto` stood for: a page asks for it by its own name.
    """
    everybodys = {"auto", first_model}

    def load_for_visitor(
        model_id: str = "auto", *, report: Callable[[DownloadProgress], None] | None = None
    ) -> SharedCaptioner:
        model_id = plain_name(model_id)
        check_captioner(model_id, everybodys)
        captioner = load(model_id, report=report)
        if model_id == "auto":
            everybodys.add(name_in_use(model_id, captioner.spec))
        if get_settings().private_cache == "off":
            return captioner
        # Who has no session finds nothing again, rather than what others left.
        return captioner.private_to(current_session() or secrets.token_urlsafe(), _sample_ids())

    return load_for_visitor


@cache
def _sample_ids() -> frozenset[str]:
    """Return the sample pictures, which every visitor may see."""
    return frozenset(open_image(image.path).image_id for image in sample_collection().images)
