"""The models by name, from what the files of `families` declare."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from captioning.core.errors import UnknownModelError
from captioning.core.types import ModelSpec
from captioning.models import families
from captioning.models.family import ModelFamily


@cache
def list_families() -> tuple[ModelFamily, ...]:
    """Every family that a file of `families` declares as `FAMILY`, by name; loads no framework."""
    names = sorted(module.name for module in pkgutil.iter_modules(families.__path__))
    found: list[ModelFamily] = [import_module(f"{families.__name__}.{name}").FAMILY for name in names]
    return tuple(found)


def get_family(name: str) -> ModelFamily:
    """The family of that name. Raises `UnknownModelError`."""
    for family in list_families():
        if family.name == name:
            return family
    raise UnknownModelError(
        f"There is no model family {name!r}; choose from {', '.join(f.name for f in list_families())}."
    )


def list_models() -> tuple[ModelSpec, ...]:
    """Every model that can be asked for by name, the embedded one first."""
    specs = [spec for family in list_families() for spec in family.specs]
    return tuple(sorted(specs, key=lambda spec: (spec.download_bytes, spec.model_id)))


def get_spec(model_id: str) -> ModelSpec:
    """The registered model of that name. Raises `UnknownModelError`."""
    for spec in list_models():
        if spec.model_id == model_id:
            return spec
    raise UnknownModelError(
        f"There is no model {model_id!r}; choose from {', '.join(s.model_id for s in list_models())}, "
        "a folder, or a hub name."
    )


def title_of(model_id: str) -> str:
    """A registered model's title; any other model, before it is loaded, is called by its name."""
    return next((spec.title for spec in list_models() if spec.model_id == model_id), model_id)
