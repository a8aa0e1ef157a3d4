"""The editable list of prompt variants; the empty one asks for a caption without a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from captioning.captions.prompts import DEFAULT_PROMPTS, check_prompts
from captioning.core.errors import PromptError
from captioning.core.types import ModelSpec
from captioning.ui.parts import make_part


def make_prompt_list(elem_id: str, defaults: Sequence[str] = DEFAULT_PROMPTS) -> gr.HTML:
    """The list with the default prompts; raises `captions_wanted` where Enter is pressed in one."""
    return make_part("common/prompt_list", prompts_value(defaults, defaults=defaults), elem_id)


def prompts_value(
    prompts: Sequence[str], refusal: str = "", defaults: Sequence[str] = DEFAULT_PROMPTS
) -> dict[str, Any]:
    """What the list shows; a `refusal` says in a sentence why the model takes no prompt, and locks the list."""
    return {"prompts": list(prompts), "defaults": list(defaults), "refusal": refusal}


def describe_prompts(spec: ModelSpec, value: object, defaults: Sequence[str] = DEFAULT_PROMPTS) -> dict[str, Any]:
    """The list with what was typed, locked where the model takes no prompt."""
    refusal = "" if spec.capabilities.supports_prompt else f"{spec.title} takes no prompt; it captions as it likes."
    try:
        typed = typed_prompts(value)
    except PromptError:
        typed = []
    return prompts_value(typed, refusal, defaults)


def typed_prompts(value: object) -> list[str]:
    """The prompts as typed, unchecked. Raises `PromptError` where the value is not what the list sends."""
    prompts = value.get("prompts") if isinstance(value, dict) else None
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise PromptError("The prompts did not arrive; reload the page.")
    return prompts


def read_prompts(value: object) -> list[str]:
    """The prompts of the list, checked. Raises `PromptError` for none, too many, or one too long."""
    return check_prompts(typed_prompts(value))
