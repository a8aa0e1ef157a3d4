"""What stands around the picture: one fixed instruction, as a model's own chat template puts it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import ModelFilesError
from captioning.models.tokens import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

INSTRUCTION = "Describe this picture in one short sentence."
TASK = "caption en"
"""What PaliGemma learned to answer with a caption; it was not trained on instructions."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything before the caption: `text`, with `image_token` once where the picture goes.

    `tokenizer` knows special tokens by their names, unlike the one that reads what people type.
    """

    text: str
    image_token: str
    instruction: str
    tokenizer: Tokenizer
    add_special_tokens: bool

    def ids(self, placeholder: str) -> list[int]:
        """The prompt's tokens, with `placeholder` for the picture."""
        text = self.text.replace(self.image_token, placeholder)
        return list(self.tokenizer.encode(text, add_special_tokens=self.add_special_tokens).ids)


def read_prompt(folder: Path, config: Any, name: str) -> Prompt:
    """The prompt of a model folder. Raises `ModelFilesError` where it does not say how to ask the model."""
    tokenizer = read_tokenizer(folder)
    tokenizer.encode_special_tokens = False
    image_token = tokenizer.id_to_token(config.image_token_id)
    tokens = _special_tokens(folder)
    begin = tokens.get("bos_token", "")
    if config.model_type == "paligemma":
        text, instruction = f"{image_token}{begin}{TASK}\n", TASK
    else:
        text, instruction = _render(_read_template(folder, name), tokens, name), INSTRUCTION
    if image_token is None or text.count(image_token) != 1:
        raise ModelFilesError(
            f"{name}: the chat template and the tokenizer do not agree on what stands for a picture; copy both from "
            "one model."
        )
    return Prompt(text, image_token, instruction, tokenizer, add_special_tokens=not begin or begin not in text)


def _render(template: str, tokens: dict[str, str], name: str) -> str:
    """The instruction, after a picture, up to where the answer begins; the template runs in a sandbox."""
    from transformers.utils.chat_template_utils import render_jinja_template

    question = [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
    try:
        (texts, _) = render_jinja_template(
            conversations=[[{"role": "user", "content": question}]],
            chat_template=template,
            add_generation_prompt=True,
            **tokens,
        )
    except Exception as error:  # a template may raise anything
        raise ModelFilesError(f"{name}: its chat template cannot be used ({error}); choose another model.") from error
    return str(texts[0])


def _read_template(folder: Path, name: str) -> str:
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    for file in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = _read(folder / file).get("chat_template")
        if isinstance(template, str):
            return template
    raise ModelFilesError(
        f"{name} has no chat template, so nobody knows how to ask it; choose a model tuned on instructions."
    )


def _special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that a template may ask for, by role."""
    values = _read(folder / "special_tokens_map.json") | _read(folder / "tokenizer_config.json")
    tokens = {role: values.get(role) for role in ("bos_token", "eos_token", "unk_token", "pad_token")}
    plain = {role: token["content"] if isinstance(token, dict) else token for role, token in tokens.items()}
    return {role: token for role, token in plain.items() if isinstance(token, str)}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
