"""One summary of many captions, by a text encoder-decoder such as bert2bert."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from captioning.core.errors import ModelFilesError, PromptError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_SUMMARY_TOKENS = 60
NUM_BEAMS = 4
_loading = threading.Lock()


class Summary(NamedTuple):
    """A summary and who wrote it; `left_out` captions at the end did not fit into the model."""

    text: str
    model: str
    left_out: int = 0


def summarize(model_id: str, captions: Sequence[str], check: Callable[[], None] = lambda: None) -> Summary:
    """What an `EncoderDecoderModel` in a folder or of a hub name makes of captions in their order.

    Captions that repeat the one before are read once. `check` is called after every token and raises to stop. Raises
    `PromptError` without captions, `UnknownModelError`, `ModelFilesError` for what is no text encoder-decoder, and
    `HubError`. As in Rothe, Narayan, Severyn 2020, "Leveraging pre-trained checkpoints for sequence generation tasks".
    """
    import torch
    from transformers import StoppingCriteriaList

    def never_stop(input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    sentences = [text for text, _ in itertools.groupby(text.strip() for text in captions) if text]
    if not sentences:
        raise PromptError("There are no captions to sum up; caption every frame first.")
    # Two who ask for the same model must not load it twice.
    with _loading:
        module, tokenizer, name = _load(model_id)
    ids, left_out = _read(sentences, module, tokenizer)
    input_ids = torch.tensor([ids], device=next(module.parameters()).device)
    with torch.inference_mode():
        written = module.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=min(MAX_SUMMARY_TOKENS, _positions(module.config.decoder) - 1),
            num_beams=NUM_BEAMS,
            stopping_criteria=StoppingCriteriaList([never_stop]),
        )[0].tolist()
    return Summary(tokenizer.decode(written, skip_special_tokens=True).strip(), name, left_out)


def _read(sentences: Sequence[str], module: Any, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Token ids of as many whole captions as fit, and how many do not."""
    start, end = _limits(tokenizer, module.config.encoder)
    room = _positions(module.config.encoder) - 2
    ids: list[int] = []
    for number, sentence in enumerate(sentences):
        new = tokenizer.encode(f"{sentence}.", add_special_tokens=False).ids
        if len(ids) + len(new) > room and number:
            return [start, *ids, end], len(sentences) - number
        ids += new
    return [start, *ids[:room], end], 0


def _positions(config: Any) -> int:
    positions: int = getattr(config, "max_position_embeddings", 512)
    return positions


def _limits(tokenizer: Tokenizer, config: Any) -> tuple[int, int]:
    """The tokens that a text of one side of the model begins and ends with. Raises `ModelFilesError`."""
    from captioning.models.tokens import is_wordpiece

    start, end = config.bos_token_id, config.eos_token_id
    if is_wordpiece(tokenizer):
        start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if not isinstance(start, int) or not isinstance(end, int):
        raise ModelFilesError("The model does not say which tokens start and end a text; choose another one.")
    return start, end


@lru_cache(maxsize=1)
def _load(model_id: str) -> tuple[Any, Tokenizer, str]:
    """The model, its tokenizer and its name."""
    from transformers import EncoderDecoderModel

    from captioning.core import runtime
    from captioning.core.settings import get_settings
    from captioning.models.pretrained import load_pretrained
    from captioning.models.sources.parts import fetch_part, find_part
    from captioning.models.tokens import read_tokenizer

    part = find_part(model_id)
    if part.config.get("model_type") != "encoder-decoder":
        raise ModelFilesError(
            f"{part.name} is no text encoder-decoder ({part.described}); choose a model whose config.json says "
            "EncoderDecoderModel, such as patrickvonplaten/bert2bert_cnn_daily_mail."
        )
    folder = fetch_part(part)
    tokenizer = read_tokenizer(folder)
    device = runtime.choose_device(get_settings().device)
    dtype = runtime.choose_precision(device, get_settings().precision)
    module = load_pretrained(EncoderDecoderModel, folder, dtype)
    start, end = _limits(tokenizer, module.config.decoder)
    settings = module.generation_config
    settings.decoder_start_token_id = module.config.decoder_start_token_id or start
    settings.eos_token_id = module.config.eos_token_id or end
    settings.pad_token_id = module.config.pad_token_id if module.config.pad_token_id is not None else end
    # A model's own habits for long articles (shortest length, n-grams never repeated) do not suit a clip.
    settings.min_length, settings.max_length = 0, None
    return module.to(device).eval().requires_grad_(False), tokenizer, part.name
