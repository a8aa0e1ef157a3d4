"""Looking at a caption: whose it is, where its model looked, and the maps that take longer; runs in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captioning.attention.drawing import COLOUR_MAPS, MODES
from captioning.attention.page_value import explorer_value, identify, pack_importance, pack_maps
from captioning.attention.views import (
    METHODS,
    SCALES,
    TRACED,
    AttentionView,
    Maps,
    check_method,
    default_view,
    map_tokens,
    methods_for,
)
from captioning.captions.prompts import check_prompts
from captioning.captions.words import word_groups, word_text
from captioning.core.cancellation import Job
from captioning.core.errors import CapabilityError, FeaturesError, OptionsError, PromptError
from captioning.core.settings import get_settings
from captioning.core.types import (
    Caption,
    CaptionerStatus,
    CaptionTrace,
    DecodingOptions,
    ImageFeatures,
    ModelSpec,
    Picture,
)
from captioning.media.images import open_image
from captioning.serving.loading import LoadCaptioner, name_in_use
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.ui.parts import next_serial

_NO_VIEW = "That is no view of this caption; look at the picture again."
Positions = tuple[int, ...]
"""The positions of the tokens of a word."""
WORDS_A_STEP = 4
"""How many words' maps are computed between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants to look at: a `caption`, or a `text` they typed, or whatever the model writes.

    `saved_from` names the picture of a caption that comes from a file. `view` and `paint` say how it shall open:
    `None` is what measured best; `word` is the word to begin with, or its place, from 1.
    """

    path: str
    model_id: str
    prompt: str
    text: str = ""
    caption: Caption | None = None
    saved_from: str | None = None
    view: AttentionView | None = None
    paint: Mapping[str, Any] = field(default_factory=dict)
    word: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A caption whose attention is on the page; everything large is with the captioner, which remembers it.

    `maps` holds [tokens, patches] of methods beyond raw attention, `importance` [layers, heads] of words, by their
    positions; `Findings` adds what is found later. `paint` is how the view opens, beside which map it shows.
    """

    path: str
    model_id: str
    caption: Caption
    view: AttentionView
    look_id: str
    maps: Mapping[str, Maps] = field(default_factory=dict)
    importance: Mapping[Positions, Maps] = field(default_factory=dict)
    paint: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """How far work has come; `total` 0 where nobody knows."""

    doing: str
    done: int = 0
    total: int = 0

    @property
    def fraction(self) -> float | None:
        """The share that is done."""
        return self.done / self.total if self.total else None


Tell = Callable[[Step], None]
"""Hears how far work has come; raises `Stopped`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A caption's picture, model and trace, as they are needed together."""

    captioner: SharedCaptioner
    picture: Picture
    features: ImageFeatures
    trace: CaptionTrace

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.captioner.spec


def look_at(load: LoadCaptioner, asked: Asked, job: Job[Step]) -> tuple[Seen, Sight, CaptionerStatus]:
    """The caption that was asked for, with its attention.

    Raises `CapabilityError` for a model with no attention to show, `PromptError` for an empty caption and
    `FeaturesError` for one of another model or picture.
    """
    captioner = load(asked.model_id, report=lambda _: job.check())
    spec = captioner.spec
    if spec.capabilities.attention_kind is None:
        raise CapabilityError(f"{spec.title} has no attention to its picture that could be read; choose another model.")
    job.show(Step("Looking at the picture"))
    picture = open_image(asked.path)
    _check_saved(asked, spec, picture)
    (features,) = captioner.encode([picture])
    caption = _caption(captioner, features, asked, job)
    _check_caption(caption, spec, picture)
    job.show(Step("Reading where it looked"))
    sight = Sight(captioner, picture, features, captioner.trace(features, caption))
    view = default_view(spec) if asked.view is None else check_view(asked.view, sight.trace, spec)
    paint = {**_begin_at(caption, asked.word), **asked.paint}
    maps = {} if view.method in TRACED else {view.method: compute_maps(sight, view.method, job.show)}
    name, look_id = name_in_use(asked.model_id, spec), _identify(asked, sight)
    seen = Seen(asked.path, name, caption, view, look_id, maps, paint=paint)
    return seen, sight, captioner.status()


def _begin_at(caption: Caption, word: str) -> dict[str, int]:
    """The position of a word that is given by itself, or by its place, from 1; nothing where there is no such word."""
    groups = word_groups(caption)
    wanted = word.strip().casefold()
    for place, group in enumerate(groups, 1):
        if wanted and wanted in (word_text(caption, group).casefold(), str(place)):
            return {"chosen": group[0]}
    return {}


def look_again(load: LoadCaptioner, seen: Seen, check: Any) -> Sight:
    """What belongs to a caption that was looked at before; most of it is remembered."""
    captioner = load(seen.model_id, report=check)
    picture = open_image(seen.path)
    (features,) = captioner.encode([picture])
    return Sight(captioner, picture, features, captioner.trace(features, seen.caption))


def describe_look(seen: Seen, sight: Sight, on_demand: bool = False) -> dict[str, Any]:
    """What the explorer shows, except the picture and the weights; `on_demand` has those fetched layer by layer."""
    return explorer_value(
        sight.trace,
        sight.spec,
        sight.picture,
        seen.view,
        paint=seen.paint,
        maps=seen.maps,
        importance=seen.importance,
        on_demand=on_demand,
        look_id=seen.look_id,
    )


def add_found(look: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """What the explorer shows, with everything that was found since it was described."""
    maps = {name: pack_maps(several) for name, several in seen.maps.items()}
    return look | {"maps": maps, "importance": pack_importance(seen.importance)}


def compute_maps(sight: Sight, method: str, tell: Tell) -> Maps:
    """Maps [tokens, patches] of a method for every token, a few at a time where each costs a pass of its own.

    Raises `CapabilityError` for a method that the model does not offer.
    """
    check_method(sight.spec, method)
    title, caption = next(known.title for known in METHODS if known.name == method), sight.trace.caption
    total = len(caption.token_ids)
    parts = []
    for start in range(0, total, WORDS_A_STEP):
        tell(Step(f"{title}: word {start + 1} of {total}", start, total))
        positions = range(start, min(start + WORDS_A_STEP, total))
        parts.append(map_tokens(sight.captioner, sight.picture, caption, method, positions=positions))
    return np.concatenate(parts)


def computed_maps(sight: Sight, seen: Seen, method: str, tell: Tell) -> Maps | None:
    """Maps of a method that a trace does not have, made where they were not before; `None` for one that it has."""
    if method in TRACED:
        return None
    return seen.maps[method] if method in seen.maps else compute_maps(sight, method, tell)


def heat_of(sight: Sight, seen: Seen, view: AttentionView, positions: Sequence[int], tell: Tell) -> Maps:
    """The map [patches] that a view shows of the tokens at `positions` together, unscaled."""
    computed = computed_maps(sight, seen, view.method, tell)
    if computed is None:
        computed = map_tokens(sight.captioner, sight.picture, seen.caption, view.method, view.layer, view.head)
    heat: Maps = computed[list(positions)].mean(axis=0)
    return heat


def is_large(trace: CaptionTrace) -> bool:
    """Whether the attention is fetched by layer rather than at once: a byte a weight beyond the setting."""
    return trace.image_attentions.size > get_settings().attention_bytes


def _caption(captioner: SharedCaptioner, features: ImageFeatures, asked: Asked, job: Job[Step]) -> Caption:
    if asked.caption is not None:
        return asked.caption if asked.saved_from is None else _as_written(captioner, features, asked.caption)
    prompts = captioner.spec.capabilities.supports_prompt
    (prompt,) = check_prompts([asked.prompt if prompts else ""])
    text = asked.text.strip()
    if text:
        limit = get_settings().max_prompt_characters
        if len(text) > limit:
            raise PromptError(f"A caption of {len(text):,} characters is too long; keep it under {limit}.")
        return captioner.caption_from_text(features, prompt, text)
    job.show(Step("Writing a caption"))
    return captioner.decode(features, [prompt], DecodingOptions(), lambda _: job.check())[0]


def _as_written(captioner: SharedCaptioner, features: ImageFeatures, saved: Caption) -> Caption:
    """A caption from a file, if its tokens are those of its text, else the text in tokens of the model's own.

    Numbers from a file never reach a model unseen: one that has no such token would read beyond its tables.
    """
    prompt = saved.prompt if captioner.spec.capabilities.supports_prompt else ""
    text = "".join(saved.tokens[saved.num_prompt_tokens :]).strip()
    known = captioner.caption_from_text(features, prompt, text)
    return saved if saved.token_ids == known.token_ids else known


def _check_saved(asked: Asked, spec: ModelSpec, picture: Picture) -> None:
    """Raise `FeaturesError` where a caption from a file meets another model or picture than its own."""
    if asked.caption is None or asked.saved_from is None:
        return
    _check_model(asked.caption, spec)
    if asked.caption.image_id != picture.image_id:
        raise FeaturesError(
            f"This view was saved from {asked.saved_from[:100]}, and {picture.name} is another picture; choose "
            "the one it was saved from, then open the file again."
        )


def _check_caption(caption: Caption, spec: ModelSpec, picture: Picture) -> None:
    if not caption.token_ids:
        raise PromptError(
            "The caption is empty, so there is no word to look for; type a caption, or write one with a prompt."
        )
    _check_model(caption, spec)
    if caption.image_id != picture.image_id:
        raise FeaturesError(
            f"This caption belongs to another picture than {picture.name}; choose its picture, or write a new caption."
        )


def _check_model(caption: Caption, spec: ModelSpec) -> None:
    if caption.model_id != spec.model_id:
        raise FeaturesError(
            f"This caption was written by {caption.model_id[:100]}, and {spec.title} is in use; choose that model, or "
            "write a caption with this one."
        )


def _identify(asked: Asked, sight: Sight) -> str:
    """A name for what is on the page. Whoever asks for a view of their own gets it opened anew."""
    return identify(sight.trace) + (f"-{next_serial()}" if asked.view is not None else "")


def read_view(
    value: Any, trace: CaptionTrace, spec: ModelSpec
) -> tuple[AttentionView, tuple[int, ...], dict[str, Any]]:
    """Which map the page shows, of which positions, and how it is painted.

    Raises `OptionsError` for what the page would not send.
    """
    if not isinstance(value, dict):
        raise OptionsError(_NO_VIEW)
    positions = value.get("positions")
    tokens = len(trace.caption.token_ids)
    if not isinstance(positions, list) or not positions or not all(_is_within(at, tokens) for at in positions):
        raise OptionsError(_NO_VIEW)
    view = AttentionView(value.get("method", ""), value.get("layer"), value.get("head", ""))
    return check_view(view, trace, spec), tuple(positions), read_paint(value)


def check_view(view: AttentionView, trace: CaptionTrace, spec: ModelSpec) -> AttentionView:
    """The view, if the caption and the model have such a map. Raises `OptionsError`."""
    layers, heads = trace.image_attentions.shape[:2]
    fits = (
        view.method in {method.name for method in methods_for(spec)}
        and (view.layer is None or _is_within(view.layer, layers))
        and (view.head in ("mean", "max") or _is_within(view.head, heads))
    )
    if not fits:
        raise OptionsError(_NO_VIEW)
    return view


def read_paint(value: Mapping[str, Any]) -> dict[str, Any]:
    """How maps are painted, of what a page or a file says. Raises `OptionsError`."""
    opacity = value.get("opacity")
    fits = (
        value.get("scaling") in SCALES
        and value.get("mode") in MODES
        and value.get("colours") in COLOUR_MAPS
        and isinstance(value.get("smooth"), bool)
        and isinstance(value.get("merged"), bool)
        and isinstance(opacity, int | float)
        and not isinstance(opacity, bool)
        and 0 <= opacity <= 1
    )
    if not fits:
        raise OptionsError(_NO_VIEW)
    return {name: value[name] for name in ("scaling", "mode", "colours", "opacity", "smooth", "merged")}


def _is_within(number: Any, count: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < count
