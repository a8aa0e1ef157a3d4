"""`pair:VISION+TEXT`: a trained image encoder and a trained text decoder whose cross-attention nobody trained.

A lesson: both halves are good, and what they write together is nonsense.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError, UnknownModelError
from captioning.core.types import ModelSpec
from captioning.models.families.vision_encoder_decoder import (
    CAPABILITIES,
    DECODERS,
    FAMILY_NAME,
    VisionEncoderDecoderNetwork,
    check_sizes,
)
from captioning.models.pixels import PixelRecipe
from captioning.models.pretrained import check_loading, read_pretrained
from captioning.models.sources import hub
from captioning.models.sources.download import DownloadProgress, Report
from captioning.models.sources.parts import IMAGE_ENCODERS, ModelPart, fetch_part, find_part, load_image_encoder
from captioning.models.sources.source import ModelSource
from captioning.models.tokens import is_wordpiece, read_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

PREFIX = "pair:"
_UNTRAINED = re.compile(r"\.(crossattention|ln_cross_attn)\.")
_ORIGIN = "the text decoder's own; nobody trained it together with the image encoder"


def resolve_pair(model_id: str) -> ModelSpec:
    """The spec of `pair:VISION+TEXT`, each a folder or a hub name.

    Raises `UnknownModelError` for a name that is no pair, `ModelFilesError` for halves of the wrong kind, and
    `HubError`.
    """
    vision, text = _find_halves(model_id)
    return ModelSpec(
        model_id=model_id,
        family=FAMILY_NAME,
        title=f"{vision.name} + {text.name}, never trained together",
        license="as the pages of both models say",
        capabilities=CAPABILITIES,
        revision="+".join(half.revision or "folder" for half in (vision, text)),
        download_bytes=vision.download_bytes + text.download_bytes,
        summary=(
            "A lesson, not a captioner: it talks nonsense. Each half was trained well, but alone; the cross-attention "
            "that joins them is random, so the words never learned where to look or what the image features mean."
        ),
    )


def open_pair(
    spec: ModelSpec, device: torch.device, dtype: torch.dtype, report: Report | None = None
) -> VisionEncoderDecoderNetwork:
    """Fetch both halves and join them by cross-attention with random weights, always the same ones."""
    import torch

    vision, text = _find_halves(spec.model_id)
    folders = _fetch_halves((vision, text), report)
    pixels = PixelRecipe.read(folders[0])
    tokenizer = read_tokenizer(folders[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _join(load_image_encoder(vision, folders[0], dtype), _load_decoder(text, folders[1], dtype))
    start, end = _special_ids(tokenizer, module.config.decoder, text.name)
    module.generation_config.decoder_start_token_id, module.generation_config.eos_token_id = start, end
    check_sizes(module.config.encoder, module.config.decoder, pixels, tokenizer, f"{vision.name} + {text.name}")
    return VisionEncoderDecoderNetwork(module.to(device, dtype).eval(), tokenizer, pixels, _ORIGIN)


def _find_halves(model_id: str) -> tuple[ModelPart, ModelPart]:
    vision, text = (find_part(name) for name in _split(model_id))
    if vision.config.get("model_type") not in IMAGE_ENCODERS:
        raise ModelFilesError(
            f"{vision.name} cannot be the half that looks ({vision.described}); choose an image encoder of one of "
            f"these kinds: {', '.join(IMAGE_ENCODERS)}."
        )
    if text.config.get("model_type") not in DECODERS:
        raise ModelFilesError(
            f"{text.name} cannot be the half that writes ({text.described}); choose a text model of one of these "
            f"kinds: {', '.join(DECODERS)}."
        )
    return vision, text


def _split(model_id: str) -> tuple[str, str]:
    """The names on both sides of a plus; where there are several, the first that leaves two possible names."""
    pair = model_id.removeprefix(PREFIX)
    pluses = [place for place, character in enumerate(pair) if character == "+"]
    for place in pluses:
        vision, text = pair[:place], pair[place + 1 :]
        if all(hub.existing_folder(name) or hub.is_hub_name(name) for name in (vision, text)):
            return vision, text
    if not pluses:
        raise UnknownModelError(
            f"{model_id[:100]!r} is no pair; write {PREFIX}VISION+TEXT with a folder or a hub name for each half."
        )
    vision, _, text = pair.partition("+")
    return vision, text


def _fetch_halves(halves: tuple[ModelPart, ModelPart], report: Report | None) -> list[Path]:
    """Download what is missing of both, as one piece of progress."""
    total = sum(half.download_bytes for half in halves)
    folders: list[Path] = []
    before = 0
    for half in halves:

        def relay(progress: DownloadProgress, before: int = before) -> None:
            assert report is not None
            report(DownloadProgress(before + progress.done_bytes, total))

        folders.append(fetch_part(half, relay if report is not None else None))
        before += half.download_bytes
    return folders


def _load_decoder(part: ModelPart, folder: Path, dtype: torch.dtype) -> Any:
    """The text decoder, every weight from its files but those of the cross-attention, which it never had."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.is_decoder = config.add_cross_attention = True
    module, info = read_pretrained(AutoModelForCausalLM, folder, dtype, config=config)
    missing = [key for key in info["missing_keys"] if not _UNTRAINED.search(key)]
    check_loading({**info, "missing_keys": missing, "unexpected_keys": ()}, part.name)
    return module


def _join(encoder: Any, decoder: Any) -> Any:
    from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel
    from transformers.utils import logging

    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder.config, decoder.config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return VisionEncoderDecoderModel(encoder=encoder, decoder=decoder, config=config)
    finally:
        logging.set_verbosity(verbosity)


def _special_ids(tokenizer: Tokenizer, config: Any, name: str) -> tuple[int, int]:
    """The tokens that a text decoder of this kind starts and ends with."""
    start, end = config.bos_token_id, config.eos_token_id
    if is_wordpiece(tokenizer):
        start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if not isinstance(start, int) or not isinstance(end, int):
        raise ModelFilesError(f"{name} does not say which tokens start and end a text; choose another text model.")
    return start, end


SOURCE = ModelSource(resolve_pair, open_pair)
