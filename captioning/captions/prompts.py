"""The prompt variants a caption is written for."""

from __future__ import annotations

from collections.abc import Sequence

from captioning.core.errors import PromptError
from captioning.core.settings import get_settings

DEFAULT_PROMPT = "a photography of"
DEFAULT_PROMPTS = (DEFAULT_PROMPT, "the woman", "the weather today", "the park is", "the flowers", "")
VIDEO_PROMPTS = ("a video of", DEFAULT_PROMPT, "")


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """Return the prompts, stripped and without repeats. Raises `PromptError` for none, too many, or one too long."""
    settings = get_settings()
    if not prompts:
        raise PromptError("There is no prompt; add one, or an empty one for a caption without a prompt.")
    if len(prompts) > settings.max_prompts:
        raise PromptError(f"{len(prompts)} prompts are too many at once; keep at most {settings.max_prompts}.")
    stripped = [prompt.strip() for prompt in prompts]
    for prompt in stripped:
        if len(prompt) > settings.max_prompt_characters:
            raise PromptError(
                f"A prompt of {len(prompt):,} characters is too long; keep it under {settings.max_prompt_characters}."
            )
    return list(dict.fromkeys(stripped))
