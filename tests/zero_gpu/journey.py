"""Every verb of a captioner, run as on a Space with ZeroGPU; prints what came of it as JSON."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from captioning.core import runtime
from captioning.core.contract import DecodingRequest
from captioning.core.errors import CaptioningError, Stopped
from captioning.core.types import Caption, DecodingOptions, Picture
from captioning.serving.loading import load_uncached

PROMPTS = ["a photo of", ""]
VERBS = (
    "encode",
    "decode",
    "caption_from_text",
    "teacher_force",
    "trace",
    "explain",
    "score",
    "info",
    "decode_together",
)


def make_picture() -> Picture:
    """A picture with something in it, the same every time."""
    from PIL import Image

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return Picture(small.resize((320, 240)), "journey")


def run() -> dict[str, Any]:
    """Go through everything and tell of it."""
    import spaces

    captioner = load_uncached("embedded")
    picture = make_picture()
    answers: dict[str, Any] = {"process": os.getpid(), "workers": {}}

    def called(verb: str, *args: Any) -> Any:
        before = len(spaces.calls)
        result = getattr(captioner, verb)(*args)
        answers["workers"][verb] = [process for process, _ in spaces.calls[before:]]
        return result

    heard: list[list[str]] = []
    (features,) = called("encode", [picture])
    captions = called("decode", features, PROMPTS, DecodingOptions(), lambda c: heard.append([x.text for x in c]))
    trace = called("trace", features, captions[0])
    called("caption_from_text", features, "", "a dog")
    called("teacher_force", features, "", "a dog")
    called("explain", picture, captions[0], [0], captioner.spec.capabilities.explanation_methods[0])
    scores = called("score", [features], captions[0])
    called("info")
    requests = [DecodingRequest(features, [prompt]) for prompt in ("one", "the " * 300, "two")]
    together = called("decode_together", requests, DecodingOptions())
    answers |= {
        "captions": [caption.text for caption in captions],
        "embeds": features.image_embeds.tolist(),
        "attention": trace.image_attentions.mean(axis=(0, 1, 2)).tolist(),
        "scores": scores[0].tolist(),
        "heard": heard,
        "together": [type(outcome).__name__ for outcome in together],
    }
    answers |= _stop(picture)
    answers["expected_error"] = _error(lambda: captioner.decode(features, ["the " * 300], DecodingOptions()))
    # Of a wrong shape, which no guard expects: a fault as programs have them.
    mask = np.ones((1, 7), np.float32)
    answers["fault"] = _error(lambda: captioner.trace(features, captions[0], mask))
    spaces.refusal = RuntimeError()
    spaces.refusal.message = "Your quota is used up. "
    answers["refused"] = _error(lambda: captioner.decode(features, ["another"], DecodingOptions()))
    spaces.refusal = None
    return answers | _load_later(picture) | _devices()


def _stop(picture: Picture) -> dict[str, Any]:
    import spaces

    rambler = load_uncached("untrained:embedded")  # which does not end by itself
    (features,) = rambler.encode([picture])
    rambler.decode(features, [""], DecodingOptions(max_new_tokens=60), lambda captions: None)
    whole, heard = spaces.sent[-1], 0

    def stop(captions: Sequence[Caption]) -> None:
        nonlocal heard
        heard += 1
        if heard == 2:
            raise Stopped("Stopped.")

    try:
        rambler.decode(features, ["a"], DecodingOptions(max_new_tokens=60), stop)
    except Stopped:
        return {"steps_heard": heard, "steps_sent": spaces.sent[-1], "steps_whole": whole}
    raise AssertionError("the caption was written to its end")


def _error(work: Callable[[], object]) -> tuple[str, str]:
    try:
        work()
    except CaptioningError as error:
        return type(error).__name__, str(error)
    raise AssertionError("nothing was raised")


def _load_later(picture: Picture) -> dict[str, Any]:
    import spaces

    answers: dict[str, Any] = {}

    def work() -> None:
        later = load_uncached("untrained:embedded")
        (features,) = later.encode([picture])
        answers["later_model"] = features.model_id
        answers["later_worker"] = spaces.calls[-1][0]
        answers["reference"] = weakref.ref(later)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    reference = answers.pop("reference")
    for _ in range(50):
        gc.collect()
        if reference() is None:
            break
        time.sleep(0.05)
    return answers | {"freed": reference() is None}


def _devices() -> dict[str, Any]:
    import torch

    cuda = torch.device("cuda")
    waits = {"main": runtime.waiting_device(cuda).type}
    thread = threading.Thread(target=lambda: waits.update(other=runtime.waiting_device(cuda).type))
    thread.start()
    thread.join()
    devices = {"captioners": runtime.choose_device(may_be_lent=True).type, "others": runtime.choose_device().type}
    return {"waits": waits, "auto": devices}


if __name__ == "__main__":
    json.dump(run(), sys.stdout)
