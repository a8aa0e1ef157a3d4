"""How models are asked for: by name, and shared by all who ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from captioning.core import runtime
from captioning.core.contract import BatchCaptioner
from captioning.core.settings import get_settings
from captioning.core.types import ModelSpec
from captioning.serving.loaded_models import ModelShelf
from captioning.serving.memory import SingleFlight
from captioning.serving.shared_captioner import SharedCaptioner

if TYPE_CHECKING:
    from captioning.models.sources.hub import DownloadProgress

OFFERED_MODEL = "Salesforce/blip-image-captioning-base"
"""What `auto` prefers where it is at hand, and what the page offers where it is not."""


class LoadCaptioner(Protocol):
    """The type of `captioning.load_captioner`; tests hand in their own."""

    def __call__(
        self, model_id: str = ..., *, report: Callable[[DownloadProgress], None] | None = ...
    ) -> SharedCaptioner:
        """Return the shared captioner of a model; `report` receives the progress of a download."""
        ...


def name_in_use(asked: str, spec: ModelSpec) -> str:
    """Return the name under which `load` returns a model that was requested as `asked`.

    It is what `auto` stood for, and any other name as it was written: by that the model is shared, and permitted.
    """
    return spec.model_id if asked == "auto" else asked


_shelf = ModelShelf(get_settings().model_bytes)
_loading = SingleFlight()


def choose_model() -> tuple[str, str]:
    """Return the model that `auto` means here, and why: BLIP base if the local cache has it, else `embedded`."""
    from captioning.models import get_spec
    from captioning.models.sources import hub

    blip = get_spec(OFFERED_MODEL)
    if hub.find_local(blip) is not None:
        return blip.model_id, f"auto: {blip.title} is on this machine"
    return "embedded", f"auto: {blip.title} is not on this machine, and nothing is downloaded unasked"


def load_captioner(
    model_id: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    report: Callable[[DownloadProgress], None] | None = None,
) -> SharedCaptioner:
    """Return the shared captioner of a model: a registry name, a folder, a hub name, or `auto`.

    Everyone who asks for the same model, device and precision gets the same one, and waits for it if somebody
    else loads it already; only who asked for `auto` is told why it is that one. `report` hears the progress of a
    download. Raises `UnknownModelError`, `ModelFilesError` or `HubError`, and `OptionsError` for a device or precision
    that is not to be had; models loaded before stay.
    """
    from captioning.models.files import plain_name

    settings = get_settings()
    reason, model_id = "", plain_name(model_id)
    if model_id == "auto":
        model_id, reason = choose_model()
    key = (model_id, device or settings.device, precision or settings.precision)

    def load() -> SharedCaptioner:
        known = _shelf.get(key)  # somebody may have finished loading it since
        if known is not None:
            return known
        captioner = SharedCaptioner(load_uncached(*key, report, _shelf.make_room), shelf=_shelf)
        _shelf.put(key, captioner)
        return captioner

    captioner = _shelf.get(key) or _loading.run(key, load)
    return captioner.chosen_because(reason) if reason else captioner


def load_uncached(
    model_id: str,
    device: str | None = None,
    precision: str | None = None,
    report: Callable[[DownloadProgress], None] | None = None,
    make_room: Callable[[int], None] | None = None,
    engine: str | None = None,
) -> BatchCaptioner:
    """Return a captioner of its own without a cache, to measure many pictures that are seen once.

    `make_room` hears how many bytes its weights take, as far as its files tell, before they are read.
    """
    from captioning.models.accelerator import lend_to
    from captioning.models.captioner import NetworkCaptioner
    from captioning.models.decoding.choosing import choose_engine
    from captioning.models.sources import hub

    settings = get_settings()
    spec = hub.resolve_spec(model_id)
    chosen_device = runtime.choose_device(device or settings.device, may_be_lent=True)
    dtype = runtime.choose_precision(chosen_device, precision or settings.precision)
    network = hub.open_network(spec, runtime.waiting_device(chosen_device), dtype, report, make_room)
    spec = hub.with_commit(spec)  # which the first download found out
    if not runtime.ON_ZERO_GPU:
        return NetworkCaptioner(spec, network, engine=choose_engine(network, engine or settings.engine))
    captioner = NetworkCaptioner(spec, network, chosen_device)
    lend_to(captioner)
    return captioner
