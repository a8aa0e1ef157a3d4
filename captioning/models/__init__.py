"""The models: one file (or package) a family, found by looking into this folder."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from captioning.errors import UnknownModelError
from captioning.models.family import ModelFamily
from captioning.types import ModelSpec

_NOT_FAMILIES = frozenset(
    {
        "base", "classifier", "cross_attention", "decoding", "download", "family", "fresh_pair", "hub", "parts",
        "pixels", "self_attention", "tokens", "untrained",
    }
)  # fmt: skip


@cache
def list_families() -> tuple[ModelFamily, ...]:
    """Every family that a file of this folder declares as `FAMILY`, by name; loads no framework."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_FAMILIES]
    families: list[ModelFamily] = [import_module(f"{__name__}.{name}").FAMILY for name in sorted(names)]
    return tuple(families)


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
