"""A network's plain verbs compiled by OpenVINO, which reaches more of a processor than torch does.

Three graphs are compiled when a model is loaded: what looks, what makes a picture's keys and values, and what writes
one step. The step keeps the words' keys and values inside (`ReadValue` and `Assign` in OpenVINO's terms), in the order
of rows that it is told, so that nothing but a token a row goes in and nothing but logits come out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from captioning.core.errors import ModelError
from captioning.models.decoding.engine import Engine, text_layers, torch_engine
from captioning.models.decoding.text_decoder import PictureDecoder, TextCache
from captioning.models.decoding.text_layers import TextLayers, added_mask

if TYPE_CHECKING:
    from captioning.models.network import Network

NAME = "openvino"
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_LARGEST_ERROR = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Relative error beside torch, by precision, above which a compiled network is not used."""
_EXAMPLE_ROWS, _EXAMPLE_LENGTH, _EXAMPLE_PAST = 3, 4, 2  # all different, so that no size is taken for another


def open_engine(network: Network, dtype: torch.dtype, pixel_values: Tensor) -> Engine:
    """Compile a network on the processor; `pixel_values [1, …]` is a picture as it receives them.

    Raises `ModelError` for a network, a precision or a machine that OpenVINO does not serve, and for one whose results
    differ from torch's by more than rounding.
    """
    if dtype not in _HINTS:
        raise ModelError(f"it computes in float32 or bfloat16, not in {dtype}")
    try:
        return _open(_in_float32(network), dtype, pixel_values.float())
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError("the package openvino is not installed") from error
    except Exception as error:  # the converter and the compiler raise whatever comes to them
        from captioning.core.errors import first_line

        raise ModelError(f"it cannot take this network ({first_line(error)})") from error


def _in_float32(network: Network) -> Network:
    """The network itself, or for another precision a copy to convert from: what is computed in is said by a hint."""
    from copy import deepcopy

    if all(parameter.dtype == torch.float32 for parameter in network.module.parameters()):
        return network
    copied = deepcopy(network)
    copied.module.float()
    return copied


@torch.no_grad()
def compile_function(
    function: Callable[[Tensor], Tensor], given: Tensor, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Compile a function of one float32 tensor `[rows, …]` like `given`; products run in `dtype`, float32 comes out."""
    compiled, _ = _Compiler(dtype).compile(lambda x: (function(x),), given.float(), torch.float32, (torch.float32,))
    return lambda values: compiled(values)[0]


@torch.no_grad()
def _open(network: Network, dtype: torch.dtype, pixel_values: Tensor) -> Engine:
    layers = text_layers(network)
    if layers is None:
        raise ModelError("its family declares no layers to convert")
    compiler = _Compiler(dtype)
    look, (states, _) = compiler.compile(network.encode, pixel_values, torch.float32, (dtype, torch.float32))
    project, pictures = compiler.compile(
        lambda x: tuple(layers.project(x)), states, dtype, [dtype] * 2 * len(layers.layers)
    )
    step = compiler.compile_step(layers, pictures, network.start_ids[0])
    decoder = OpenVinoDecoder(layers.num_heads, project, step)

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        found_states, embeds = look(pixels)
        return found_states, embeds

    engine = Engine(
        name=NAME,
        encode=encode,
        start=decoder.start,
        step=decoder.step,
        select=decoder.select,
        start_ids=network.start_ids,
        end_id=network.end_id,
        num_bytes=compiler.num_bytes,
    )
    _check(engine, torch_engine(network), pixel_values, states, _LARGEST_ERROR[dtype])
    return engine


def _check(engine: Engine, exact: Engine, pixel_values: Tensor, states: Tensor, largest_error: float) -> None:
    """Raise `ModelError` unless both engines say nearly the same of a picture and of the first word about it."""
    ids = torch.tensor([engine.start_ids])
    found = [engine.encode(pixel_values)[0].float()]
    wanted = [states]
    for one, written in ((engine, found), (exact, wanted)):
        written.append(one.step(ids, torch.ones_like(ids), one.start(states, None)))
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]
    if not max(errors) <= largest_error:  # so that what is not a number counts as wrong
        raise ModelError(f"its results differ from torch's by {max(errors):.1%}")


class OpenVinoDecoder(PictureDecoder):
    """A decoder whose layers are compiled; nothing of the network they were made of stays."""

    def __init__(self, num_heads: int, project: _Compiled, step: Any) -> None:
        super().__init__()
        self._num_heads = num_heads
        self._compiled_project = project
        self._compiled_step = step

    def project(self, states: Tensor) -> Sequence[Tensor]:
        """Keys and values of pictures, in the precision that the step computes in."""
        return self._compiled_project(states)

    def first_words(self, num_rows: int) -> _Words:
        """A request of its own, whose states hold no word."""
        return _Words(self._compiled_step.create_infer_request(), num_rows, self._num_heads)

    def run(self, input_ids: Tensor, positions: Tensor, mask: Tensor, cache: TextCache) -> Tensor:
        """One step of all rows."""
        logits: Tensor = cache.words.step(input_ids, positions, mask, cache.pictures)
        return logits

    def select_words(self, words: _Words, rows: Tensor) -> _Words:
        """The same request, which takes its rows in another order at the next step."""
        words.rows = words.rows[rows]
        return words


class _Words:
    """A request with the words that a batch of rows has so far, and the order in which to take the rows next."""

    def __init__(self, request: Any, num_rows: int, num_heads: int) -> None:
        self.rows = torch.arange(num_rows)
        self._request = request
        self._num_heads = num_heads
        self._given: Sequence[Tensor] = ()
        self._pictures: Sequence[Tensor] = ()

    def step(self, input_ids: Tensor, positions: Tensor, mask: Tensor, pictures: Sequence[Tensor]) -> Tensor:
        import openvino

        if pictures is not self._given:
            self._given = pictures
            if not self._pictures:
                shape = (len(self.rows), self._num_heads, 0, pictures[1].shape[-1])
                for state in self._request.query_state():
                    state.state = openvino.Tensor(np.zeros(shape, np.float32))
            # Shared, not copied: `_pictures` keeps the memory alive as long as the request may read it.
            self._pictures = [one.contiguous() for one in pictures]
            for number, one in enumerate(self._pictures):
                self._request.set_tensor(_picture_name(number), _share(one))
        given = {"input_ids": input_ids, "positions": positions, "mask": mask.float(), "rows": self.rows}
        found = self._request.infer({name: value.numpy() for name, value in given.items()}, share_outputs=False)
        self.rows = torch.arange(len(input_ids))
        return torch.from_numpy(found[0])


class _Compiled:
    """A compiled function of one tensor; whatever number of rows goes in comes out."""

    def __init__(self, model: Any, dtype: torch.dtype, outputs: Sequence[tuple[torch.Size, torch.dtype]]) -> None:
        self._model = model
        self._dtype = dtype
        self._outputs = outputs

    def __call__(self, given: Tensor) -> list[Tensor]:
        """Outputs of their own memory, `[rows, …]` as the input."""
        request = self._model.create_infer_request()
        given = given.to(self._dtype).contiguous()
        found = [torch.empty(len(given), *shape[1:], dtype=dtype) for shape, dtype in self._outputs]
        request.set_input_tensor(0, _share(given))
        for number, one in enumerate(found):
            request.set_output_tensor(number, _share(one))
        request.infer()
        return found


def _share(values: Tensor) -> Any:
    """The same memory as OpenVINO has it; numpy, which stands between, knows no bfloat16."""
    import openvino

    if values.dtype == torch.bfloat16:
        return openvino.Tensor(values.view(torch.int16).numpy(), openvino.Shape(values.shape), openvino.Type.bf16)
    return openvino.Tensor(values.numpy(), shared_memory=True)


def _picture_name(number: int) -> str:
    return f"picture_{number}"


class _Traced(nn.Module):
    """A function as torch's tracer wants it; what it gave while it was traced is kept."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.function = function
        self.found: tuple[Tensor, ...] = ()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.found = self.function(*inputs)
        return self.found


class _Compiler:
    """Functions of tensors → compiled models, with every size left open that is not a weight's."""

    def __init__(self, dtype: torch.dtype) -> None:
        import openvino

        self.num_bytes = 0
        self._dtype = dtype
        self._types = {torch.float32: openvino.Type.f32, torch.bfloat16: openvino.Type.bf16}
        self._core = openvino.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": _HINTS[dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }

    def compile(
        self,
        function: Callable[[Tensor], tuple[Tensor, ...]],
        given: Tensor,
        dtype: torch.dtype,
        output_dtypes: Sequence[torch.dtype],
    ) -> tuple[_Compiled, tuple[Tensor, ...]]:
        """The function, which takes and gives tensors of these types, and what torch made of `given`."""
        from openvino.preprocess import PrePostProcessor

        model, found = self._convert(function, (given,))
        borders = PrePostProcessor(model)
        borders.input().tensor().set_element_type(self._types[dtype])
        for number, output_dtype in enumerate(output_dtypes):
            borders.output(number).tensor().set_element_type(self._types[output_dtype])
        shapes = [x.shape for x in found]
        compiled = _Compiled(self._finish(borders.build()), dtype, list(zip(shapes, output_dtypes, strict=True)))
        return compiled, found

    def compile_step(self, layers: TextLayers, pictures: Sequence[Tensor], token_id: int) -> Any:
        """`TextLayers.run` with the words kept inside; its inputs have the names of its arguments."""
        from openvino.passes import MakeStateful, Manager
        from openvino.preprocess import PrePostProcessor

        count = len(pictures)

        def step(input_ids: Tensor, positions: Tensor, mask: Tensor, rows: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
            past = [x.index_select(0, rows) for x in kept[:count]]
            logits, grown = layers.run(input_ids, positions, mask, past, kept[count:])
            return (logits, *grown)

        ids = torch.full((_EXAMPLE_ROWS, _EXAMPLE_LENGTH), token_id)
        seen = torch.ones(_EXAMPLE_ROWS, _EXAMPLE_PAST + _EXAMPLE_LENGTH, dtype=torch.long)
        head_dim = pictures[1].shape[-1]
        past = [torch.zeros(_EXAMPLE_ROWS, layers.num_heads, _EXAMPLE_PAST, head_dim)] * count
        example = (
            ids,
            torch.zeros_like(ids),
            added_mask(seen, _EXAMPLE_LENGTH, torch.float32),
            torch.arange(_EXAMPLE_ROWS),
            *(x.clone() for x in past),
            *pictures,
        )
        model, _ = self._convert(step, example)
        names = ["input_ids", "positions", "mask", "rows", *(f"past_{n}" for n in range(count))]
        names += [_picture_name(number) for number in range(count)]
        for given, name in zip(model.inputs, names, strict=True):
            given.get_tensor().set_names({name})
        for number, output in enumerate(model.outputs):
            output.get_tensor().set_names({f"grown_{number - 1}" if number else "logits"})
        passes = Manager()
        passes.register_pass(MakeStateful({f"past_{number}": f"grown_{number}" for number in range(count)}))
        passes.run_passes(model)
        borders = PrePostProcessor(model)
        for number in range(count):
            borders.input(_picture_name(number)).tensor().set_element_type(self._types[self._dtype])
        return self._finish(borders.build())

    def _convert(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
    ) -> tuple[Any, tuple[Tensor, ...]]:
        # The frontend itself, and not `openvino.convert_model`, which reports its use to others.
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        traced = _Traced(function).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that tracing turns into numbers; the tests vary them
            script = torch.jit.trace(traced, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = TorchScriptPythonDecoder(script, shared_memory=True)  # lives as long as it is read
        model = frontend.convert(frontend.load(graph))
        return model, traced.found

    def _finish(self, model: Any) -> Any:
        for operation in model.get_ops():
            if operation.get_type_name() == "Constant":
                self.num_bytes += int(np.prod(operation.get_output_shape(0))) * self._dtype.itemsize
        return self._core.compile_model(model, "CPU", self._options)
