"""The resources that cases share: models, created when a case first needs them, and new pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.bench.machine import MachineLimit, measure_machine
from captioning.core import runtime
from captioning.core.errors import CaptioningError
from captioning.core.types import DecodingOptions, Picture
from captioning.media.images import open_image

if TYPE_CHECKING:
    from captioning.core.contract import BatchCaptioner, Captioner
    from captioning.serving.shared_captioner import SharedCaptioner

NEW_TOKENS = 20
PROMPTS = ("a photography of", "the woman", "the weather today", "the park is", "the flowers")
OPTIONS = DecodingOptions(max_new_tokens=NEW_TOKENS)
_UNTRAINED = "untrained:blip-base"


def new_picture(number: int) -> Picture:
    """Return a picture of smoothed noise, a different one for every `number`, so that no cache holds it."""
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    return open_image(noise.repeat(20, axis=0).repeat(20, axis=1))


def check_token_count(written: int) -> None:
    """Raise `CaptioningError` unless a row has `NEW_TOKENS` tokens, as both sides must write."""
    if written != NEW_TOKENS:
        raise CaptioningError(f"A row ended after {written} of {NEW_TOKENS} tokens; the two sides did different work.")


class PlainBlip:
    """BLIP base as its documentation shows it: float32, one `generate` a prompt, the picture encoded each time."""

    def __init__(self, module: Any, text_to_ids: Callable[[str], list[int]]) -> None:
        from transformers import BlipImageProcessor

        self.model = module
        self.processor = BlipImageProcessor(size={"height": 384, "width": 384})
        self.text_to_ids = text_to_ids

    def encode(self, picture: Picture) -> None:
        """Run the vision encoder on one picture."""
        import torch

        pixels = self.processor(picture.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            self.model.vision_model(pixel_values=pixels)

    def caption(self, picture: Picture, prompt: str, num_beams: int = 1) -> int:
        """Write one caption and return the number of new tokens."""
        import torch

        config = self.model.config.text_config
        # As the model's own processor: start token, words, end token. `generate` drops the end token.
        ids = torch.tensor([[config.bos_token_id, *self.text_to_ids(prompt), config.sep_token_id]])
        pixels = self.processor(picture.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            written = self.model.generate(
                pixel_values=pixels,
                input_ids=ids,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                num_beams=num_beams,
                do_sample=False,
            )
        return int(written.shape[1] - (ids.shape[1] - 1))

    @property
    def encode_flops(self) -> float:
        """Return the floating-point operations that the vision encoder needs for one picture."""
        config = self.model.config.vision_config
        patches = (config.image_size // config.patch_size) ** 2 + 1
        vision = sum(p.numel() for p in self.model.vision_model.parameters())
        return float(2 * vision * patches + config.num_hidden_layers * 4 * patches**2 * config.hidden_size)

    def step_bytes(self, item_bytes: int) -> float:
        """Return the bytes of weights that a decode step reads."""
        return float(sum(p.numel() for p in self.model.text_decoder.parameters()) * item_bytes)


class Setup:
    """The models and pictures that cases share, each created once."""

    def __init__(self) -> None:
        self._picture_number = 0

    def new_picture(self) -> Picture:
        """Return the next new picture."""
        self._picture_number += 1
        return new_picture(self._picture_number)

    @cached_property
    def uncached(self) -> BatchCaptioner:
        """Return BLIP base on the processor without a cache, in the precision and by the engine that `auto` chooses."""
        from captioning.serving.loading import load_uncached

        return load_uncached(_UNTRAINED, "cpu")

    @cached_property
    def captioner(self) -> SharedCaptioner:
        """Return the same model behind the shared cache and queue, as tabs use it."""
        from captioning.serving.shared_captioner import SharedCaptioner

        return SharedCaptioner(self.uncached)

    @cached_property
    def embedded(self) -> SharedCaptioner:
        """Return the embedded captioner behind the shared cache and queue, as tabs use it."""
        from captioning.serving.loading import load_uncached
        from captioning.serving.shared_captioner import SharedCaptioner

        return SharedCaptioner(load_uncached("embedded", "cpu"))

    @cached_property
    def plain(self) -> PlainBlip:
        """Return the reference, with weights of its own."""
        import torch

        from captioning.models.sources import hub

        network: Any = hub.open_network(hub.resolve_spec(_UNTRAINED), torch.device("cpu"), torch.float32)
        return PlainBlip(network.module.eval(), network.text_to_ids)

    @cached_property
    def limit(self) -> MachineLimit:
        """Return the machine's limit in the precision of the captioner."""
        import torch

        return measure_machine(runtime.choose_precision(torch.device("cpu")))

    def describe(self, captioner: Captioner, note: str = "") -> str:
        """Return a captioner's device, precision and engine, followed by the note."""
        return ", ".join(filter(None, (captioner.device, captioner.precision, captioner.engine, note)))
