"""Every limit and default in one place, read once from the environment (`CAPTIONSCOPE_` and the field's name)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, get_type_hints

from captioning.errors import OptionsError

PREFIX = "CAPTIONSCOPE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and defaults. What a field means stands beside it; `describe` lists them all."""

    model: Annotated[str, "the model that answers first: a registry name, a folder, a hub name, or auto"] = "auto"
    device: Annotated[str, "where models run: cpu, cuda, … or auto"] = "auto"
    precision: Annotated[str, "float32, bfloat16, float16, or auto for what suits the device"] = "auto"
    engine: Annotated[str, "torch, openvino, or auto for openvino with large models on a processor"] = "auto"
    cache_bytes: Annotated[int, "memory for features, captions and traces of each model, in bytes"] = 512 * 2**20
    model_bytes: Annotated[
        int, "memory for the weights of all models, in bytes; the one not used for longest leaves"
    ] = 8 * 2**30
    max_image_pixels: Annotated[int, "pixels of a picture, and of a frame of a clip"] = 50_000_000
    video_bytes: Annotated[int, "size of a clip, in bytes"] = 500 * 2**20
    video_minutes: Annotated[int, "length of a clip, in minutes"] = 60
    video_frames: Annotated[int, "frames sampled from a clip"] = 64
    max_upload_bytes: Annotated[int, "size of a picture file, in bytes"] = 50 * 2**20
    max_request_bytes: Annotated[int, "size of a request that is no upload, in bytes"] = 4 * 2**20
    max_prompts: Annotated[int, "prompts of one request"] = 32
    attention_bytes: Annotated[
        int, "attention that travels to the page at once, in bytes; larger ones come layer by layer"
    ] = 16 * 2**20
    max_prompt_characters: Annotated[int, "length of a prompt, in characters"] = 300
    map_images: Annotated[int, "pictures of one map"] = 10_000
    zip_bytes: Annotated[int, "size of a zip file when unpacked, in bytes"] = 2 * 2**30
    zip_files: Annotated[int, "files in a zip file"] = 50_000
    zip_ratio: Annotated[int, "how many times its size a large zip file may unpack to"] = 200
    local_folders: Annotated[
        str, "whether the page opens folders of this machine: yes, no, or auto for only where nobody else reaches it"
    ] = "auto"
    model_events: Annotated[int, "events of the page and endpoints that may ask models at once"] = 8
    password: Annotated[str, "what visitors must know to come in; empty lets everybody in"] = ""
    queue_size: Annotated[int, "events that may wait; beyond them the answer is 503"] = 32
    job_seconds: Annotated[int, "the longest that one job may take, in seconds"] = 1800
    visitor_jobs: Annotated[int, "jobs that one visitor may have under way at once"] = 6

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Settings with every `CAPTIONSCOPE_…` variable applied. Raises `OptionsError` for unknown or bad ones."""
        known = {f.name: type(f.default) for f in fields(cls)}
        values: dict[str, str | int] = {}
        for variable, text in environment.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in known:
                raise OptionsError(f"There is no setting {variable}; choose from {', '.join(sorted(known))}.")
            if known[name] is str:
                values[name] = text
            elif text.isdecimal():
                values[name] = int(text)
            else:
                raise OptionsError(f"{variable} must be a whole number, not {text!r}.")
        return cls(**values)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Every setting on two lines: its variable and value, and what it means."""
        hints = get_type_hints(type(self), include_extras=True)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["password"] = "(set, and not shown)" if self.password else ""
        rows = [(name, value, hints[name].__metadata__[0]) for name, value in values.items()]
        return "\n".join(f"{PREFIX}{name.upper()}={value}\n    {meaning}" for name, value, meaning in rows)


@cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings.from_environment(os.environ)
