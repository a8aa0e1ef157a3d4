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
    from captioning.cache import SharedCaptioner

NEW_TOKENS = 20
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
    return _Setup(SharedCaptioner(NetworkCaptioner(spec, network)), plain, measure_machine(dtype))


def _five_prompts(setup: _Setup, repetitions: int) -> BenchResult:
    options = DecodingOptions(max_new_tokens=NEW_TOKENS)

    def ours() -> None:
        (features,) = setup.captioner.encode([setup.new_picture()])
        captions = setup.captioner.decode(features, PROMPTS, options)
        _check_count(min(len(c.token_ids) - c.num_prompt_tokens for c in captions))

    def reference() -> None:
        picture = setup.new_picture()
        _check_count(min(setup.plain.caption(picture, prompt) for prompt in PROMPTS))

    module = setup.plain.model
    patches = (module.config.vision_config.image_size // module.config.vision_config.patch_size) ** 2 + 1
    vision = sum(p.numel() for p in module.vision_model.parameters())
    hidden, layers = module.config.vision_config.hidden_size, module.config.vision_config.num_hidden_layers
    flops = 2 * vision * patches + layers * 4 * patches**2 * hidden
    step_bytes = sum(p.numel() for p in module.text_decoder.parameters()) * _element_size(setup.limit.precision)
    limit = setup.limit.seconds(flops, NEW_TOKENS * step_bytes)
    return _result("five_prompts", *take_turns(ours, reference, repetitions), limit, setup)


def _element_size(precision: str) -> int:
    return 4 if precision == "float32" else 2


def _check_count(written: int) -> None:
    if written != NEW_TOKENS:
        raise CaptioningError(f"A row ended after {written} of {NEW_TOKENS} tokens; the two sides did different work.")


def _result(case: str, ours: list[float], reference: list[float], limit: float, setup: _Setup) -> BenchResult:
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
        setting=f"{setup.captioner.device}, {setup.captioner.precision}",
    )


CASES: dict[str, tuple[str, Callable[[_Setup, int], BenchResult]]] = {
    "five_prompts": ("five prompts on a new picture, BLIP base size", _five_prompts),
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
