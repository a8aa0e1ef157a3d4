"""Visitors of a server on this machine: each asks for one thing after another, waits, or leaves in the middle."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

_PATIENCE_SECONDS = 120
_OPTIONS = [25, 1, 0.0, 10, 1.0, 1.0, 1.0, 1, 0]
"""Decoding options in the order of the endpoints."""


@dataclass(slots=True)
class Outcome:
    """What became of all requests; `lost` are those without any answer, `strange` those with one nobody expects."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Figures for people."""
        times = np.array(self.seconds or [0.0])
        return dict(self.counts) | {
            "median_seconds": round(float(np.median(times)), 2),
            "slowest_seconds": round(float(times.max()), 2),
            "lost": len(self.lost),
            "strange": len(self.strange),
        }


def make_picture(rng: random.Random, side: int = 160) -> bytes:
    """A JPEG that was never seen before."""
    colours = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


async def visit(address: str, clip: bytes, seconds: float, seed: int, outcome: Outcome) -> None:
    """One visitor, for so many seconds."""
    rng = random.Random(seed)
    limits = httpx.Timeout(_PATIENCE_SECONDS)
    async with httpx.AsyncClient(base_url=f"{address.rstrip('/')}/gradio_api/", timeout=limits) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            kind = rng.choices(
                ["caption", "known", "trace", "caption_video", "image_map", "model_info", "leave", "upload"],
                [8, 4, 3, 2, 1, 1, 3, 2],
            )[0]
            started = time.monotonic()
            try:
                result = await _ask(client, kind, clip, rng)
            except httpx.HTTPError as error:
                outcome.lost.append(f"{kind}: {type(error).__name__} {error}")
                continue
            except UnexpectedAnswerError as error:
                outcome.strange.append(f"{kind}: {error}")
                continue
            outcome.counts[result] += 1
            outcome.seconds.append(time.monotonic() - started)
            if result == "refused: queue is full":
                await asyncio.sleep(rng.uniform(0.2, 1.0))


class UnexpectedAnswerError(Exception):
    """Neither a result nor a clear refusal."""


async def _ask(client: httpx.AsyncClient, kind: str, clip: bytes, rng: random.Random) -> str:
    if kind == "model_info":
        return await _call(client, kind, ["embedded"])
    if kind == "caption_video":
        file = await _upload(client, "clip.mp4", clip)
        return await _call(client, kind, [file, 3, [""], None, None, "embedded", *_OPTIONS])
    pictures = [
        make_picture(rng if kind != "known" else random.Random(7)) for _ in range(3 if kind == "image_map" else 1)
    ]
    files = [await _upload(client, f"{n}.jpg", picture) for n, picture in enumerate(pictures)]
    if kind == "upload":
        return "uploaded"
    if kind == "image_map":
        return await _call(client, kind, [files, "embedded", "umap", 15, 0.1, 0, True])
    if kind == "trace":
        return await _call(client, kind, [files[0], "", "", "embedded", "attention", None, "mean"])
    data = [files[0], ["", "a photo of"], "embedded", *_OPTIONS]
    return await _call(client, "caption", data, leave=kind == "leave")


async def _upload(client: httpx.AsyncClient, name: str, data: bytes) -> dict[str, Any]:
    answer = await client.post("upload", files={"files": (name, data)})
    if answer.status_code != 200:
        raise UnexpectedAnswerError(f"upload: {answer.status_code} {answer.text[:200]}")
    return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}


async def _call(client: httpx.AsyncClient, name: str, data: list[Any], leave: bool = False) -> str:
    answer = await client.post(f"call/{name}", json={"data": data})
    if answer.status_code == 503:
        return "refused: queue is full"
    if answer.status_code != 200:
        raise UnexpectedAnswerError(f"{answer.status_code} {answer.text[:200]}")
    event, told = "", ""
    async with client.stream("GET", f"call/{name}/{answer.json()['event_id']}") as stream:
        if leave:
            return "left"
        async for line in stream.aiter_lines():
            if line.startswith("event:"):
                event = line.removeprefix("event:").strip()
            elif line.startswith("data:") and event in ("complete", "error"):
                told = line.removeprefix("data:").strip()
                break
    if event == "complete":
        json.loads(told)
        return "answered"
    if event == "error" and told not in ("", "null"):
        return f"refused: {json.loads(told)}"
    raise UnexpectedAnswerError(f"{event or 'nothing'} {told[:200]}")
