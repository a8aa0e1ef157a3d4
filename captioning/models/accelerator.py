"""Running a captioner's verbs where the accelerator is: in this process, or in one that ZeroGPU lends a GPU.

On ZeroGPU, `spaces.GPU` forks a process when a function is called, lets it have a GPU for so many seconds, and hands
arguments and results across by pickle. So each captioner gets a function of its own, which the fork inherits together
with the weights; only names, pictures, CPU tensors and captions cross. What a verb says while it works crosses as the
items of a generator, and so does what it raises: `spaces` itself hands over no more of an exception than its name.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import wraps
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from captioning.core import runtime
from captioning.core.contract import Captioner, DecodingRequest
from captioning.core.errors import AcceleratorError, CaptioningError, Stopped
from captioning.core.types import Caption, DecodingOptions

Method = TypeVar("Method", bound=Callable[..., Any])
Report = tuple[str, Any]
"""`("said", what the listener shall hear)`, and at the end `("done", result)` or `("failed", exception)`."""
Work = Callable[[int, str, dict[str, Any], bool], Iterator[Report]]

LISTENER = "on_token"
"""The argument that is called while a verb works; it stays here and hears from there."""
_JOIN_SECONDS = 10
_START_SECONDS = 15  # taking the weights of a large model there
_WORK_SECONDS: Mapping[str, Callable[..., float]] = {
    "encode": lambda images: len(images) / 2,
    "decode": lambda features, prefixes, options: (
        options.max_new_tokens / 10 + len(prefixes) * options.num_captions / 4
    ),
    "explain": lambda image, caption, positions, method: len(positions) / 2,
    "score": lambda features, caption, head_mask=None: len(features) / 4,
}

_in_worker = False
_works: weakref.WeakKeyDictionary[Movable, Work] = weakref.WeakKeyDictionary()


class Movable(Protocol):
    """What has weights that can be taken to the accelerator."""

    def gather(self) -> None:
        """Take all weights to where they run."""
        ...


def on_accelerator(method: Method) -> Method:
    """Let a method of a captioner run where the accelerator is; without ZeroGPU it is left as it is."""
    if not runtime.ON_ZERO_GPU:
        return method
    parameters = inspect.signature(method)

    @wraps(method)
    def call(captioner: Movable, *args: Any, **kwargs: Any) -> Any:
        if _in_worker:
            return method(captioner, *args, **kwargs)
        arguments = parameters.bind(captioner, *args, **kwargs).arguments
        arguments.pop(next(iter(arguments)))  # the captioner itself never crosses
        listener = arguments.pop(LISTENER, None)
        work = _works.get(captioner) or lend_to(captioner)
        seconds = expected_seconds(method.__name__, arguments)
        return _listen(work(seconds, method.__name__, arguments, listener is not None), listener)

    return call  # type: ignore[return-value]


def one_by_one(method: Method) -> Method:
    """Let `decode_together` of a captioner decode each request by itself on ZeroGPU, else leave it as it is.

    There a GPU is lent to one visitor, out of that visitor's time, and requests made together may be several people's.
    """
    if not runtime.ON_ZERO_GPU:
        return method

    @wraps(method)
    def call(captioner: Captioner, requests: Sequence[DecodingRequest], options: DecodingOptions) -> Any:
        def decode(request: DecodingRequest) -> list[Caption] | Exception:
            try:
                captions = captioner.decode(request.features, request.prefixes, options, request.on_token)
                if request.on_done is not None:
                    request.on_done(captions)
            except Exception as error:  # a request that fails or is stopped leaves the others alone
                return error
            return captions

        return [decode(request) for request in requests]

    return call  # type: ignore[return-value]


def expected_seconds(verb: str, arguments: Mapping[str, Any]) -> int:
    """How long a verb may have a GPU, generously; who asks for less gets one sooner."""
    work = _WORK_SECONDS.get(verb)
    return _START_SECONDS + (0 if work is None else round(work(**arguments)))


def lend_to(captioner: Movable) -> Work:
    """The function of a captioner that works on a lent GPU; the first must be there before the page is launched."""
    import spaces

    # `spaces` keeps every function for good, and must not keep the weights with it.
    reference = weakref.ref(captioner)

    def work(seconds: int, verb: str, arguments: dict[str, Any], listens: bool) -> Iterator[Report]:
        global _in_worker
        _in_worker = True
        lent = reference()
        assert lent is not None  # whoever called holds it
        return (yield from _work(lent, verb, arguments, listens))

    _works[captioner] = decorated = spaces.GPU(work, duration=lambda seconds, *_: seconds)
    return decorated  # type: ignore[no-any-return]


def _work(captioner: Movable, verb: str, arguments: dict[str, Any], listens: bool) -> Iterator[Report]:
    """Run a verb in a thread, and yield what it has to say; closing the generator stops it at its next word."""
    import torch

    torch.set_num_threads(1)  # OpenMP's threads did not come along through the fork
    captioner.gather()
    said: SimpleQueue[Report] = SimpleQueue()
    stopped = threading.Event()

    def say(words: Any) -> None:
        if stopped.is_set():
            raise Stopped("Stopped.")
        said.put(("said", words))

    def target() -> None:
        try:
            said.put(("done", getattr(captioner, verb)(**arguments, **({LISTENER: say} if listens else {}))))
        except BaseException as error:
            said.put(("failed", error))

    thread = threading.Thread(target=target, name="captionscope-accelerator", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = said.get()
            if kind == "failed" and not isinstance(value, CaptioningError):
                raise value  # a fault of ours, which belongs into the log; it may not survive pickling
            yield kind, value
            if kind != "said":
                return
    finally:
        stopped.set()
        thread.join(_JOIN_SECONDS)


def _listen(reports: Iterator[Report], listener: Callable[[Any], None] | None) -> Any:
    """Tell the listener what comes, and return the result. Raises what the verb raised, and `AcceleratorError`."""
    result: Any = None
    with closing(reports):  # type: ignore[type-var]
        while True:
            try:
                kind, value = next(reports)
            except StopIteration:
                return result
            except Exception as error:  # `spaces` has no class of its own for these
                raise AcceleratorError(_explain(error)) from error
            if kind == "failed":
                raise value
            if kind == "done":
                result = value
            elif listener is not None:
                listener(value)


def _explain(error: Exception) -> str:
    said = str(getattr(error, "message", "") or type(error).__name__).strip().rstrip(".")
    return f"The shared GPU did not do this work ({said}); try again later, or open Captionscope on a machine of yours."
