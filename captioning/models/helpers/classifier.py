"""A picture classifier beside the caption: what a model that knows only names calls the same picture."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from captioning.core.errors import ModelError, ModelFilesError, OptionsError
from captioning.core.types import Picture
from captioning.models.pixels import PixelRecipe, check_shape

if TYPE_CHECKING:
    import torch

_CLASSES = ("ForImageClassification", "ForImageClassificationWithTeacher")
_loading = threading.Lock()


class LabelProbability(NamedTuple):
    """A label that a classifier knows, and its probability from 0 to 1."""

    label: str
    probability: float


def classify(model_id: str, picture: Picture, top: int = 5) -> tuple[LabelProbability, ...]:
    """The likeliest labels of a picture, best first, by a classifier in a folder or of a hub name.

    A classifier of one label a picture shares 1 among all of its labels; one of many labels judges each alone.
    Raises `OptionsError`, `UnknownModelError`, `ModelFilesError` for what is no classifier, and `HubError`.
    """
    import torch

    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise OptionsError(f"top must be a whole number from 1 on, not {top!r}.")
    # Two who ask for the same model must not load it twice.
    with _loading:
        module, pixels = _load(model_id)
    parameter = next(module.parameters())
    values = torch.from_numpy(pixels.apply(picture.image)[0])[None].to(parameter.device, parameter.dtype)
    with torch.inference_mode():
        logits = module(values).logits[0].float()
    several = module.config.problem_type == "multi_label_classification"
    probabilities = logits.sigmoid() if several else logits.softmax(dim=-1)
    best, places = probabilities.topk(min(top, len(probabilities)))
    labels = module.config.id2label
    return tuple(
        LabelProbability(str(labels.get(place, place)), probability)
        for place, probability in zip(places.tolist(), best.tolist(), strict=True)
    )


@lru_cache(maxsize=2)
def _load(model_id: str) -> tuple[Any, PixelRecipe]:
    """The classifier, and how it wants its pictures."""
    from transformers import AutoModelForImageClassification

    from captioning.core import runtime
    from captioning.core.settings import get_settings
    from captioning.models.sources.parts import fetch_part, find_part

    part = find_part(model_id)
    if not any(name.endswith(_CLASSES) for name in part.config.get("architectures") or ()):
        raise ModelFilesError(
            f"{part.name} is no picture classifier ({part.described}); choose a model whose config.json names a class "
            f"that ends with {_CLASSES[0]}, such as google/vit-base-patch16-224."
        )
    folder = fetch_part(part)
    pixels = PixelRecipe.read(folder)
    device = runtime.choose_device(get_settings().device)
    dtype = runtime.choose_precision(device, get_settings().precision)
    module = _open(AutoModelForImageClassification, folder, dtype, part.name)
    size = getattr(module.config, "image_size", None)
    if size is not None and module.config.model_type != "swin":
        check_shape(pixels, (size, size) if isinstance(size, int) else (size[0], size[1]), part.name)
    return module.to(device).eval().requires_grad_(False), pixels


def _open(model_class: Any, folder: Any, dtype: torch.dtype, name: str) -> Any:
    from captioning.models.pretrained import load_pretrained

    try:
        return load_pretrained(model_class, folder, dtype)
    except MemoryError as error:
        raise ModelError(f"{name} does not fit into memory; choose a smaller classifier.") from error
