"""Every limit and default in one place, read once from the environment (`CAPTIONSCOPE_` and the field's name)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal

from captioning.core.errors import OptionsError
from captioning.core.options import parameters

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
    max_rows: Annotated[int, "captions, or beams, that one request writes side by side"] = 128
    attention_bytes: Annotated[
        int, "attention that travels to the page at once, in bytes; larger ones come layer by layer"
    ] = 16 * 2**20
    max_prompt_characters: Annotated[int, "length of a prompt, in characters"] = 300
    map_images: Annotated[int, "pictures of one map"] = 10_000
    zip_bytes: Annotated[int, "size of a zip file when unpacked, in bytes"] = 2 * 2**30
    zip_files: Annotated[int, "files in a zip file"] = 50_000
    zip_ratio: Annotated[int, "how many times its size a large zip file may unpack to"] = 200
    local_folders: Annotated[
        Literal["auto", "on", "off"],
        "whether the page opens folders of this machine: on, off, or auto for whoever sits at it",
    ] = "auto"
    visitor_models: Annotated[
        str,
        "models that may be named on the page and over HTTP: any, listed for those that the menu lists, names with "
        "commas between them, or auto for any to whoever sits at this machine and listed to others",
    ] = "auto"
    visitor_model_bytes: Annotated[
        int, "the largest download among the listed models that visitors may choose, in bytes"
    ] = 2 * 2**30
    private_cache: Annotated[
        Literal["off", "on"],
        "on computes everything anew for each visitor, so that speed tells nobody what others handed in",
    ] = "off"
    file_seconds: Annotated[int, "how long files of visitors stay on this machine, in seconds"] = 6 * 3600
    model_events: Annotated[int, "events of the page and endpoints that may ask models at once"] = 8
    password: Annotated[str, "what visitors must know to come in; empty lets everybody in"] = ""
    login: Annotated[
        Literal["none", "huggingface"], "huggingface lets in who signed in there; only on a Space with hf_oauth"
    ] = "none"
    login_names: Annotated[
        str, "Hugging Face names that may come in, with commas between them; empty for everybody who signed in"
    ] = ""
    hosts: Annotated[
        str,
        "names under which the server is reached, with commas between them; *.example.org stands for many; IP "
        "addresses, names without a dot and this machine's own need not be listed",
    ] = ""
    origins: Annotated[
        str, "other sites whose pages may embed this one and send it requests, as https://example.org, with commas"
    ] = ""
    queue_size: Annotated[int, "events that may wait; beyond them the answer is 503"] = 32
    sessions: Annotated[
        int, "pages and clients that are remembered, at 0.4 MB each; whoever was away longest starts anew"
    ] = 300
    job_seconds: Annotated[int, "the longest that one job may take, in seconds"] = 1800
    visitor_jobs: Annotated[int, "jobs that one visitor may have under way at once"] = 6

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read settings from every `CAPTIONSCOPE_…` variable. Raises `OptionsError` for unknown or bad ones."""
        known = {parameter.name: parameter for parameter in parameters(cls)}
        values: dict[str, Any] = {}
        for variable, text in environment.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in known:
                raise OptionsError(f"There is no setting {variable}; choose from {', '.join(sorted(known))}.")
            # No limit is below 0.
            values[name] = replace(known[name], name=variable, option=replace(known[name].option, low=0)).read(text)
        return cls(**values)

    def describe(self) -> str:
        """Every setting on two lines: its variable and value, and what it means."""
        values = {parameter: getattr(self, parameter.name) for parameter in parameters(type(self))}
        lines = []
        for parameter, value in values.items():
            shown = "(set, and not shown)" if parameter.name == "password" and value else value
            lines += [f"{PREFIX}{parameter.name.upper()}={shown}", f"    {parameter.option.help}"]
        return "\n".join(lines)


@cache
def get_settings() -> Settings:
    """Return the settings of this process."""
    return Settings.from_environment(os.environ)
