"""Branches of a caption: continuing it from a token that the model might have written instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captioning.core.cancellation import Job
from captioning.core.types import Caption, CaptionerStatus, TokenAlternative
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner


def write_branch(
    load: LoadCaptioner,
    path: str,
    model_id: str,
    old: Caption,
    position: int,
    alternative: TokenAlternative,
    job: Job[Caption],
) -> tuple[Caption, CaptionerStatus]:
    """Continue a caption of the picture at `path` from an alternative token; return it and the model's status.

    Token ids and options are those of the old caption, and the new one may become as long. What was the prompt stays
    the prompt. Runs in a worker.
    """
    captioner = load(model_id, report=lambda _: job.check())
    num_prompt_tokens = min(old.num_prompt_tokens, position)
    if alternative.token_id == captioner.end_token.token_id:
        return _ended(old, position, num_prompt_tokens), captioner.status()
    (features,) = captioner.encode([open_image(path)])
    prefix = (*old.token_ids[:position], alternative.token_id)
    room = max(1, old.options.max_new_tokens - (position + 1 - num_prompt_tokens))
    options = replace(old.options, num_captions=1, max_new_tokens=room)

    # A changed word of the prompt shortens the prompt.
    prompt = old.prompt if position >= old.num_prompt_tokens else "".join(old.tokens[:position]).strip()

    def as_branch(caption: Caption) -> Caption:
        return replace(caption, prompt=prompt, num_prompt_tokens=num_prompt_tokens)

    def on_token(captions: Sequence[Caption]) -> None:
        job.check()
        if captions:
            job.show(as_branch(captions[0]))

    (caption,) = captioner.decode(features, [prefix], options, on_token)
    return as_branch(caption), captioner.status()


def _ended(old: Caption, position: int, num_prompt_tokens: int) -> Caption:
    """Return the caption as it is if it ends before `position`."""
    return replace(
        old,
        text="".join(old.tokens[:position]).strip(),
        token_ids=old.token_ids[:position],
        tokens=old.tokens[:position],
        log_probs=old.log_probs[:position],
        alternatives=old.alternatives[:position],
        num_prompt_tokens=num_prompt_tokens,
        seconds=0.0,
    )
