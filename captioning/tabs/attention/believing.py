"""Whether the map of a word can be believed: measured for the word in view, step by step, each result as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from captioning.attention.faithfulness import (
    BLOCKS,
    FaithfulnessCurves,
    FaithfulnessResult,
    ablate_blocks,
    expected_encodings,
    head_importance,
    measure_map,
    measure_orders,
    rank_correlation,
)
from captioning.attention.hiding import STEPS, rank_patches
from captioning.attention.views import AttentionView, Maps, map_tokens, methods_for
from captioning.captions.words import word_groups, word_text
from captioning.core.cancellation import Job
from captioning.core.errors import PromptError
from captioning.core.types import Caption, ModelSpec
from captioning.models import get_family, list_models
from captioning.serving.loading import LoadCaptioner
from captioning.tabs.attention.findings import Findings
from captioning.tabs.attention.looking import Seen, Sight, Step, heat_of, look_again, read_view
from captioning.ui.clip_parts import PanelState
from captioning.ui.page import Page
from captioning.ui.parts import make_part
from captioning.web.jobs import Done, Failed, Halted, Progress, Runs

_ABOUT = (
    "Patches are hidden and shown in the order of the map, and the word’s log-probability tells whether they mattered."
)
_ACTION = "Measure the word in view"
_UNTRAINED = "untrained:"
_Tell = Callable[[int, int], None]
ShowLook = Callable[[gr.Request, Seen, dict[str, Any]], dict[Any, Any]]
"""The update of the page that shows a look with everything that was found of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is known of a word's map so far; `drops` [rows, columns] and `importance` [layers, heads] in nats.

    `heat` and `untrained` are the map [patches] and that of an untrained net, on a `grid` where patches form one.
    """

    word: str
    positions: tuple[int, ...]
    title: str
    belief: FaithfulnessResult | None = None
    correlation: float | None = None
    drops: NDArray[np.float32] | None = None
    others: tuple[tuple[str, FaithfulnessCurves, float], ...] = ()
    heat: Maps | None = None
    untrained: Maps | None = None
    grid: tuple[int, int] | None = None
    importance: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class BeliefStep:
    """How far measuring has come, what it found so far, and in words what all of it takes."""

    step: Step
    found: Measured
    cost: str


class BeliefPanel:
    """The panel and what it does."""

    def __init__(self, page: Page, seen: gr.State, explorer: gr.HTML, findings: Findings, show_look: ShowLook) -> None:
        self._page, self._seen, self._explorer, self._findings = page, seen, explorer, findings
        self._show_look = show_look
        self._runs = Runs()
        self.part = make_part("attention/belief", self.idle_value(), "cs-belief")

    def connect(self, shown: gr.State) -> None:
        """Hang the handlers on the panel's own events."""
        page = self._page
        self.part.panel_wanted(
            self._measure,
            [self._seen, shown],
            [self.part, self._explorer],
            **page.model_event(),
        )
        self.part.panel_stopped(self._runs.stop, None, None, **page.event(queue=False))

    def idle_value(self) -> dict[str, Any]:
        """The panel where there is no caption."""
        return belief_value(PanelState())

    def ready_value(self, seen: Seen, sight: Sight) -> dict[str, Any]:
        """The panel where a caption is looked at, with the time that measuring a word of it takes."""
        return belief_value(PanelState(ready=True), cost=estimate(sight))

    def supersede(self, request: gr.Request) -> None:
        """End what runs, silently."""
        self._runs.supersede(request)

    async def _measure(
        self, request: gr.Request, event: gr.EventData, seen: Seen | None, shown: dict[str, Any] | None
    ) -> AsyncIterator[dict[Any, Any]]:
        """Measure the word in view, and show each result as it comes."""
        found: Measured | None = None
        cost = ""

        def work(job: Job[BeliefStep]) -> tuple[Measured, str]:
            if seen is None or shown is None:
                raise PromptError("There is no caption yet; look at a picture first.")
            return measure_word(self._page.load, self._findings.known(request, seen), getattr(event, "view", None), job)

        yield {self.part: belief_value(PanelState("busy", ready=seen is not None, doing="Getting ready…"))}
        async for state in self._runs.follow(request, work):
            match state:
                case Progress(update) if update is not None:
                    step, found, cost = update.step, update.found, update.cost
                    panel = PanelState("busy", ready=True, doing=f"{step.doing}…", fraction=step.fraction)
                    yield {self.part: belief_value(panel, found, cost)}
                case Done((found, cost)):
                    assert seen is not None
                    assert shown is not None
                    importance = {} if found.importance is None else {found.positions: found.importance}
                    self._findings.add(request, seen, importance=importance)
                    panel = PanelState("done", ready=True)
                    yield {self.part: belief_value(panel, found, cost)} | self._show_look(request, seen, shown)
                case Halted():
                    yield {self.part: belief_value(PanelState("stopped", ready=True), found, cost)}
                case Failed(sentence):
                    panel = PanelState("failed", ready=seen is not None, message=sentence)
                    yield {self.part: belief_value(panel, found, cost)}


def estimate(sight: Sight) -> str:
    """What measuring one word takes, in words."""
    pictures, heads = count_work(sight)
    seconds = sight.captioner.status().encode_seconds
    if seconds is None:
        return f"{pictures} changed pictures and {heads} silenced heads"
    # A pass of the decoder over a finished caption costs about a quarter of looking at a picture.
    total = seconds * (pictures + heads / 4)
    time = f"{total:.0f} s" if total < 90 else f"{total / 60:.0f} min"
    return f"about {time} ({pictures} changed pictures, {heads} silenced heads)"


def count_work(sight: Sight) -> tuple[int, int]:
    """How many pictures measuring a word looks at, and how many heads it silences."""
    others = len(methods_for(sight.spec)) - 1
    rows, columns = sight.trace.layout.grid or (BLOCKS, BLOCKS)
    blocks = min(rows, BLOCKS) * min(columns, BLOCKS)
    layers, heads = sight.trace.image_attentions.shape[:2]
    return expected_encodings() + blocks + 2 * (STEPS - 1) * others, layers * heads


def measure_word(load: LoadCaptioner, seen: Seen, view: Any, job: Job[BeliefStep]) -> tuple[Measured, str]:
    """Everything that says whether the map in view can be believed, and what it cost; runs in a worker."""
    sight = look_again(load, seen, lambda _: job.check())
    chosen, positions, _ = read_view(view, sight.trace, sight.spec)
    captioner, picture, caption, layout = (
        sight.captioner.without_memory(),
        sight.picture,
        seen.caption,
        sight.trace.layout,
    )
    pictures, heads = count_work(sight)
    total, before, cost = pictures + heads, 0, estimate(sight)
    title = next(method.title for method in methods_for(sight.spec) if method.name == chosen.method)
    found = Measured(word_text(caption, positions), positions, title)

    def telling(doing: str) -> _Tell:
        job.show(BeliefStep(Step(doing, before, total), found, cost))
        return lambda done, _: job.show(BeliefStep(Step(doing, before + done, total), found, cost))

    def telling_maps(step: Step) -> None:
        job.show(BeliefStep(replace(step, done=before, total=total), found, cost))

    heat = heat_of(sight, seen, chosen, positions, telling_maps)
    belief = measure_map(captioner, picture, caption, positions, heat, on_step=telling("Hiding and showing patches"))
    found, before = replace(found, belief=belief), expected_encodings()
    drops = ablate_blocks(captioner, picture, caption, positions, on_step=telling("Hiding one block at a time"))
    found = replace(found, drops=drops, correlation=rank_correlation(heat, drops, layout))
    before += drops.size
    for method in methods_for(sight.spec):
        if method.name == chosen.method:
            continue
        tell = telling(f"Comparing with {method.title.lower()}")
        other = heat_of(sight, seen, AttentionView(method.name), positions, telling_maps)
        (curves,) = measure_orders(captioner, picture, caption, positions, [rank_patches(other)], on_step=tell)
        row = (method.title, curves, rank_correlation(other, drops, layout))
        found, before = replace(found, others=(*found.others, row)), before + 2 * (STEPS - 1)
    telling("Asking an untrained net of the same shape")
    untrained, note = untrained_map(load, sight, seen, chosen, positions, job)
    found = replace(found, heat=heat, untrained=untrained, grid=layout.grid, notes=(note,) if note else ())
    importance = head_importance(
        captioner, sight.features, caption, positions, on_step=telling("Silencing one head at a time")
    )
    return replace(found, importance=importance), estimate(sight)


def untrained_twin(spec: ModelSpec) -> str | None:
    """The name of a net of the same shape with random weights, where there is one: only registered shapes are known."""
    if (spec.model_id, spec.family) not in {(known.model_id, known.family) for known in list_models()}:
        return None
    parts = set(re.split(r"[-/]", spec.model_id))
    for name in get_family(spec.family).untrained_names:
        if set(name.split("-")) <= parts:
            return f"{_UNTRAINED}{name}"
    return None


def untrained_map(
    load: LoadCaptioner, sight: Sight, seen: Seen, view: AttentionView, positions: Sequence[int], job: Job[BeliefStep]
) -> tuple[Maps | None, str]:
    """The same map [patches] from an untrained net of the same shape, or a sentence why there is none.

    Its tokens may be others: it is the map of the same word.
    """
    name = untrained_twin(sight.spec)
    if name is None:
        return None, f"There is no untrained net of the shape of {sight.spec.title} to compare with."
    captioner = load(name, report=lambda _: job.check())
    (features,) = captioner.encode([sight.picture])
    generated = "".join(seen.caption.tokens[seen.caption.num_prompt_tokens :]).strip()
    caption = captioner.caption_from_text(features, seen.caption.prompt, generated)
    same = same_word(seen.caption, caption, positions)
    maps = map_tokens(captioner, sight.picture, caption, view.method, view.layer, view.head, same)
    heat: Maps = maps.mean(axis=0)
    if heat.shape != sight.trace.layout.boxes.shape[:1]:
        return None, f"{captioner.spec.title} cuts the picture up differently."
    return heat, ""


def same_word(caption: Caption, other: Caption, positions: Sequence[int]) -> tuple[int, ...]:
    """The positions in another tokenization of the same text of the word that holds `positions`."""
    groups, others = word_groups(caption), word_groups(other)
    number = next(n for n, group in enumerate(groups) if positions[0] in group)
    return others[min(number, len(others) - 1)]


def belief_value(state: PanelState, found: Measured | None = None, cost: str = "") -> dict[str, Any]:
    """What `assets/attention/belief.js` draws."""
    value = state.as_value(_ACTION, _ABOUT)
    return value | {"estimate": cost, "result": None if found is None else _result_json(found)}


def _result_json(found: Measured) -> dict[str, Any]:
    belief = found.belief
    if belief is None:
        return {"sentence": "", "beats": False, "curves": None, "rows": [], "maps": [], "notes": []}
    return {
        "sentence": belief.sentence,
        "beats": belief.beats_random,
        "curves": {
            kind: {
                "map": _numbers(getattr(belief.curves, kind)),
                "centre": _numbers(getattr(belief.centre, kind)),
                **_band(np.stack([getattr(curves, kind) for curves in belief.random])),
            }
            for kind in ("deletion", "insertion")
        },
        "rows": _rows(found, belief),
        "maps": _small_maps(found),
        "notes": list(found.notes),
    }


def _band(curves: NDArray[np.float32]) -> dict[str, list[float]]:
    """Mean and limits of random curves [seeds, steps + 1]: most lie within two deviations; no probability exceeds 1."""
    mean, spread = curves.mean(axis=0), 2 * curves.std(axis=0, ddof=1)
    high = np.minimum(mean + spread, 0)
    return {"random": _numbers(mean), "low": _numbers(mean - spread), "high": _numbers(high)}


def _rows(found: Measured, belief: FaithfulnessResult) -> list[dict[str, Any]]:
    """The map, the other methods, and the controls, by their areas."""

    def row(
        title: str, several: Sequence[FaithfulnessCurves], correlation: float | None = None, chosen: bool = False
    ) -> dict[str, Any]:
        return {
            "title": title,
            "deletion": round(float(np.mean([one.deletion_area for one in several])), 3),
            "insertion": round(float(np.mean([one.insertion_area for one in several])), 3),
            "correlation": None if correlation is None else round(correlation, 3),
            "chosen": chosen,
        }

    return [
        row(f"{found.title} (measured)", [belief.curves], found.correlation, chosen=True),
        *(row(title, [curves], correlation) for title, curves, correlation in found.others),
        row("centre blob", [belief.centre]),
        row("random orders, mean", belief.random),
    ]


def _small_maps(found: Measured) -> list[dict[str, Any]]:
    """Ablation, the untrained net's map, and the heads, each as a small picture."""
    maps = []
    if found.drops is not None:
        agrees = "" if found.correlation is None else f"; rank correlation with the map {found.correlation:.2f}"
        about = f"how much “{found.word}” loses without each block{agrees}"
        maps.append(_small_map("Ablation", found.drops, about))
    if found.untrained is not None and found.heat is not None and found.grid is not None:
        alike = float(np.corrcoef(found.heat, found.untrained)[0, 1])
        about = f"the same map from a net that never learned; correlation with this one {alike:.2f}"
        maps.append(_small_map("Untrained net", found.untrained.reshape(found.grid), about))
    if found.importance is not None:
        layer, head = np.unravel_index(int(found.importance.argmax()), found.importance.shape)
        drop = float(found.importance.max())
        about = f"layers × heads; “{found.word}” loses most without layer {layer + 1}, head {head + 1}: {drop:.3g} nats"
        maps.append(_small_map("Heads that matter", found.importance, about))
    return maps


def _small_map(title: str, cells: NDArray[np.float32], about: str) -> dict[str, Any]:
    return {"title": title, "grid": list(cells.shape), "cells": _numbers(cells.ravel()), "about": about}


def _numbers(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 4) for value in values]
