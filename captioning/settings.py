"""Every limit and default in one place, read once from the environment (`CAPTIONSCOPE_` and the field's name)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

from captioning.errors import OptionsError

PREFIX = "CAPTIONSCOPE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and defaults; sizes in bytes, times in seconds."""

    model: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    cache_bytes: int = 512 * 2**20
    model_bytes: int = 8 * 2**30
    max_image_pixels: int = 50_000_000
    video_bytes: int = 500 * 2**20
    video_minutes: int = 60
    video_frames: int = 64
    max_upload_bytes: int = 50 * 2**20
    max_request_bytes: int = 4 * 2**20
    max_prompts: int = 32
    attention_bytes: int = 16 * 2**20
    max_prompt_characters: int = 300
    model_events: int = 8
    queue_size: int = 32
    job_seconds: int = 1800
    visitor_jobs: int = 6

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


@cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings.from_environment(os.environ)
