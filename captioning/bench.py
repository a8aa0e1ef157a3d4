"""Speed, always as a ratio: ours and the plain way in turn within one run, on the same machine in the same minute.

Models are full-size with random weights, because content does not change the work. The plain way is the loop
that a competent person writes with transformers: float32, one `generate` a prompt.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.errors import CaptioningError
from captioning.images import open_image
from captioning.types import DecodingOptions, Picture

if TYPE_CHECKING:
    from pathlib import Path

    from captioning.cache import SharedCaptioner
    from captioning.contract import Captioner

NEW_TOKENS = 20
NUM_FRAMES, CLIP_SECONDS = 16, 60
PROMPTS = ("a photography of", "the woman", "the weather today", "the park is", "the flowers")
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One measured case: medians over the repetitions, in `unit`; `spread` is half the range of ours.

    `reference` is the plain way, `ratio` how many times ours goes into it, and `limit` what the machine's
    own matrix rate and memory bandwidth, measured in the same run, would allow.
    """

    case: str
    value: float
    unit: str
    reference: float
    limit: float | None
    ratio: float
    spread: float
    reference_spread: float
    repetitions: int
    setting: str


@dataclass(frozen=True, slots=True)
class MachineLimit:
    """What the machine can do at most: floating-point operations and bytes a second, in the named precision."""

    flops_per_second: float
    bytes_per_second: float
    precision: str

    def seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for products of `flops` followed by reading `num_bytes` of weights."""
        return flops / self.flops_per_second + num_bytes / self.bytes_per_second


def measure_machine(dtype: Any) -> MachineLimit:
    """The best of several large matrix products, and of several passes over more memory than the caches hold."""
    import torch

    side = 2048
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    product = _best(lambda: a @ b, 8)
    # A matrix times a vector reads every weight once and does next to nothing with it: a decode step's pattern.
    weights = torch.randn(8192, 8192).to(dtype)
    vector = torch.randn(8192, 1).to(dtype)
    reading = _best(lambda: weights @ vector, 8)
    size = weights.numel() * weights.element_size()
    return MachineLimit(2 * side**3 / product, size / reading, str(dtype).removeprefix("torch."))


def _best(work: Callable[[], object], repetitions: int) -> float:
    work()
    return min(_time(work) for _ in range(repetitions))


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def take_turns(
    ours: Callable[[], object], reference: Callable[[], object], repetitions: int
) -> tuple[list[float], list[float]]:
    """Seconds of each, alternating, after one unmeasured turn: what disturbs one disturbs the other as well."""
    ours(), reference()
    pairs = [(_time(ours), _time(reference)) for _ in range(repetitions)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _new_picture(number: int) -> Picture:
    """A picture that nobody has seen: smoothed noise, a different one for every number."""
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    return open_image(noise.repeat(20, axis=0).repeat(20, axis=1))


class _PlainBlip:
    """BLIP base as its documentation shows it: one `generate` a prompt, float32, the picture encoded each time."""

    def __init__(self, module: Any, text_to_ids: Callable[[str], list[int]]) -> None:
        import copy

        import torch
        from transformers import BlipImageProcessor

        self.model = copy.deepcopy(module).to(torch.float32).eval()
        self.processor = BlipImageProcessor(size={"height": 384, "width": 384})
        self.text_to_ids = text_to_ids

    def encode(self, picture: Picture) -> None:
        """Run the vision encoder on one picture."""
        import torch

        pixels = self.processor(picture.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            self.model.vision_model(pixel_values=pixels)

    def caption(self, picture: Picture, prompt: str) -> int:
        """Write one caption and return how many tokens are new."""
        import torch

        config = self.model.config.text_config
        # Like the model's own processor: start token, words, end token, of which `generate` drops the last.
        ids = torch.tensor([[config.bos_token_id, *self.text_to_ids(prompt), config.sep_token_id]])
        pixels = self.processor(picture.image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            written = self.model.generate(
                pixel_values=pixels,
                input_ids=ids,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
            )
        return int(written.shape[1] - (ids.shape[1] - 1))


@dataclass(slots=True)
class _Setup:
    """What every case starts from, made once."""

    captioner: SharedCaptioner
    uncached: Captioner
    plain: _PlainBlip
    limit: MachineLimit
    picture_number: int = 0

    def new_picture(self) -> Picture:
        """The next picture that nobody has seen."""
        self.picture_number += 1
        return _new_picture(self.picture_number)


def _make_setup() -> _Setup:
    import torch

    from captioning import runtime
    from captioning.cache import SharedCaptioner
    from captioning.models import hub
    from captioning.models.base import NetworkCaptioner

    spec = hub.resolve_spec("untrained:blip-base")
    device = torch.device("cpu")
    dtype = runtime.choose_precision(device)
    network = hub.open_network(spec, device, dtype)
    plain = _PlainBlip(network.module, network.text_to_ids)
    captioner = NetworkCaptioner(spec, network)
    return _Setup(SharedCaptioner(captioner), captioner, plain, measure_machine(dtype))


def _five_prompts(setup: _Setup, repetitions: int) -> BenchResult:
    options = DecodingOptions(max_new_tokens=NEW_TOKENS)

    def ours() -> None:
        (features,) = setup.captioner.encode([setup.new_picture()])
        captions = setup.captioner.decode(features, PROMPTS, options)
        _check_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        picture = setup.new_picture()
        _check_count(min(setup.plain.caption(picture, prompt) for prompt in PROMPTS))

    flops = _encode_flops(setup.plain.model)
    step_bytes = sum(p.numel() for p in setup.plain.model.text_decoder.parameters()) * _element_size(
        setup.limit.precision
    )
    limit = setup.limit.seconds(flops, NEW_TOKENS * step_bytes)
    return _result("five_prompts", *take_turns(ours, reference, repetitions), limit, setup)


def _encode_flops(module: Any) -> float:
    """Floating-point operations of the vision encoder on one picture."""
    config = module.config.vision_config
    patches = (config.image_size // config.patch_size) ** 2 + 1
    vision = sum(p.numel() for p in module.vision_model.parameters())
    return float(2 * vision * patches + config.num_hidden_layers * 4 * patches**2 * config.hidden_size)


def _element_size(precision: str) -> int:
    return 4 if precision == "float32" else 2


def _check_count(written: int) -> None:
    if written != NEW_TOKENS:
        raise CaptioningError(f"A row ended after {written} of {NEW_TOKENS} tokens; the two sides did different work.")


def _result(
    case: str, ours: list[float], reference: list[float], limit: float, setup: _Setup, note: str = ""
) -> BenchResult:
    value, plain = statistics.median(ours), statistics.median(reference)
    return BenchResult(
        case=case,
        value=value,
        unit="s",
        reference=plain,
        limit=limit,
        ratio=plain / value,
        spread=(max(ours) - min(ours)) / 2,
        reference_spread=(max(reference) - min(reference)) / 2,
        repetitions=len(ours),
        setting=", ".join(filter(None, (setup.captioner.device, setup.captioner.precision, note))),
    )


def _frames_16(setup: _Setup, repetitions: int) -> BenchResult:
    """Sixteen frames of a clip: ours against decoding the whole clip and encoding one frame after the other."""
    import tempfile
    from pathlib import Path

    from captioning.clip import encode_frames, frame_side
    from captioning.video import sample_clip

    ours_parts: list[tuple[float, float]] = []
    plain_parts: list[tuple[float, float]] = []
    side = frame_side(setup.captioner)

    def ours() -> None:
        started = time.perf_counter()
        frames = sample_clip(path, NUM_FRAMES, max_side=side).frames
        decoded = time.perf_counter()
        # The captioner of one's own, without its cache: the same frames are new every time.
        encode_frames(setup.uncached, frames)
        ours_parts.append((decoded - started, time.perf_counter() - decoded))

    def reference() -> None:
        started = time.perf_counter()
        pictures = _decode_all(path, NUM_FRAMES)
        decoded = time.perf_counter()
        for picture in pictures:
            setup.plain.encode(picture)
        plain_parts.append((decoded - started, time.perf_counter() - decoded))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write_clip(path)
        times = take_turns(ours, reference, repetitions)
    parts = [[statistics.median(part) for part in zip(*found[1:], strict=True)] for found in (ours_parts, plain_parts)]
    limit = setup.limit.seconds(NUM_FRAMES * _encode_flops(setup.plain.model), 0)
    (decode, encode), (plain_decode, plain_encode) = parts
    note = f"decode {decode:.2f} s, plain {plain_decode:.2f} s; encode {encode:.2f} s, plain {plain_encode:.2f} s"
    return _result("frames_16", *times, limit, setup, note)


def _write_clip(path: Path) -> None:
    """A minute of 720p at 30 frames a second, as cameras write it: a picture that drifts, with noise on it."""
    import av

    noise = np.random.default_rng(0).integers(0, 256, (45, 160, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    grain = np.random.default_rng(1).integers(0, 12, (8, 720, 1280, 1), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(CLIP_SECONDS * 30):
            left = number * 2 % 1280
            pixels = noise[:, left : left + 1280] // 2 + grain[number % len(grain)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def _decode_all(path: Path, count: int) -> list[Picture]:
    """The plain way: decode every frame, then take evenly spaced ones."""
    import av

    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        wanted = {int((place + 0.5) * total / count) for place in range(count)}
        pixels = [
            f.to_ndarray(format="rgb24") for number, f in enumerate(container.decode(video=0)) if number in wanted
        ]
    return [open_image(values) for values in pixels]


CASES: dict[str, tuple[str, Callable[[_Setup, int], BenchResult]]] = {
    "five_prompts": ("five prompts on a new picture, BLIP base size", _five_prompts),
    "frames_16": ("16 frames of a 60 s clip of 720p, decoded and encoded, BLIP base size", _frames_16),
}


def run_cases(names: Sequence[str], quick: bool, report: Report) -> list[BenchResult]:
    """Measure the named cases in turn; `quick` repeats each twice, otherwise seven times."""
    report("making a full-size BLIP base with random weights, measuring the machine")
    setup = _make_setup()
    results = []
    for name in names:
        title, run = CASES[name]
        report(f"{name}: {title}")
        results.append(run(setup, 2 if quick else 7))
        report(f"{name}: {results[-1].ratio:.1f}×")
    return results


def _table_row(result: BenchResult) -> str:
    ours = f"{result.value:.2f} ± {result.spread:.2f} {result.unit}"
    plain = f"{result.reference:.2f} ± {result.reference_spread:.2f} {result.unit}"
    limit = "–" if result.limit is None else f"{result.limit:.2f} {result.unit}"
    return f"| {CASES[result.case][0]} | {ours} | {plain} | **{result.ratio:.1f}×** | {limit} | {result.setting} |"


def as_table(results: Sequence[BenchResult]) -> str:
    """The results as a Markdown page."""
    import platform

    import torch
    import transformers

    rows = "\n".join(_table_row(result) for result in results)
    return f"""# Speed

Written by `make bench`. Every row was measured in one run, ours and the plain way in turn, medians ± half the range.
The plain way is transformers' own `generate`, float32, one prompt after the other. The machine's limit is what its
matrix rate and memory bandwidth, measured in the same run, would allow for the same work.

| case | ours | plain | ratio | limit | setting |
|---|---|---|---|---|---|
{rows}

{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},
transformers {transformers.__version__}, Python {platform.python_version()}.
"""
