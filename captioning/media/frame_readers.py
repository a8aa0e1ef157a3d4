"""The frames of a clip themselves: only what the wanted ones need is decoded.

PyAV does so, decord is tried where PyAV decodes nothing, and Pillow reads animated WebP and PNG. Nothing is written
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from captioning.core.errors import CaptioningError, VideoError
from captioning.core.types import VideoFrame
from captioning.media.clip_index import ClipIndex, OnFrame
from captioning.media.display import Pixels
from captioning.media.images import open_image, open_undecoded
from captioning.media.pyav_reader import Beat, read_with_pyav

Backend = Literal["auto", "decord", "pyav", "pillow"]


@dataclass(frozen=True, slots=True, eq=False)
class ReadFrames:
    """Frames that could be decoded, in order, who decoded them, and a note where it is not who was asked."""

    frames: tuple[VideoFrame, ...]
    backend: str
    note: str = ""


def read_frames(
    index: ClipIndex,
    numbers: Iterable[int],
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    on_frame: OnFrame | None = None,
) -> ReadFrames:
    """Return the frames of these numbers that can be decoded.

    A backend that cannot be loaded on this machine is replaced by PyAV. Raises `VideoError` where no frame can be
    decoded, or where the backend that was asked for cannot read the clip.
    """
    wanted = sorted(set(numbers))
    shape = fit_size(index.size, max_side)
    if index.reader == "pillow":
        choices: list[str] = ["pillow"]
    else:
        choices = ["pyav", "decord"] if backend == "auto" else [backend]
    problem = note = ""
    for choice in choices:
        try:
            frames = _collect(index, _READERS[choice], wanted, shape, on_frame)
        except _CannotLoadError as error:
            note = f"read by PyAV: {error}"
            if choice == backend:
                choices.append("pyav")
            continue
        except _CannotReadError as error:
            problem = problem or f"{index.name} cannot be read by {choice} ({error})."
            continue
        if frames:
            return ReadFrames(frames, choice, note)
        problem = problem or f"No frame of {index.name} can be decoded; save or upload it again."
    raise VideoError(problem)


def fit_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Width and height with the longer side at most `max_side`; never enlarged."""
    factor = 1.0 if max_side is None else min(1.0, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


Reader = Callable[[ClipIndex, Sequence[int], tuple[int, int], Beat], Iterator[tuple[int, Pixels]]]


class _CannotReadError(Exception):
    """This reader cannot, another one may."""


class _CannotLoadError(Exception):
    """This reader is not on this machine, or does not start on it."""


def _collect(
    index: ClipIndex, reader: Reader, wanted: Sequence[int], shape: tuple[int, int], on_frame: OnFrame | None
) -> tuple[VideoFrame, ...]:
    frames: list[VideoFrame] = []

    def beat() -> None:
        if on_frame is not None:
            on_frame(len(frames), len(wanted))

    pixels = reader(index, wanted, shape, beat)
    try:
        beat()
        for number, values in pixels:
            seconds = float(index.seconds[number])
            frames.append(VideoFrame(number, seconds, open_image(values, f"{index.name} at {seconds:.2f} s")))
            beat()
    finally:
        pixels.close()  # type: ignore[attr-defined]  # a generator: closes the file at once, also where one stops
    return tuple(frames)


def _read_with_decord(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Frames by decord, which counts them; it is trusted only where its times agree with ours."""
    decord = _load_decord()
    if index.pts is None:
        raise _CannotReadError("the file writes no times")
    if not index.display.is_plain:
        raise _CannotReadError("it shows frames as they are stored")
    if not index.exact:
        raise _CannotReadError("it would miscount")
    decord.logging.set_level(decord.logging.QUIET)
    reader = None
    try:
        reader = decord.VideoReader(str(index.path), width=shape[0], height=shape[1])
        if len(reader) != len(index):
            raise _CannotReadError(f"it counts {len(reader)} frames of {len(index)}")
        shown = np.asarray(reader.get_frame_timestamp(list(range(len(reader)))))[:, 0]
        if not np.allclose(shown - shown[0], index.seconds - index.seconds[0], atol=2e-3):
            raise _CannotReadError("it reads other times")
        for number in numbers:
            values = reader[number].asnumpy()
            if values.shape != (shape[1], shape[0], 3):
                raise _CannotReadError("it garbles frames of this size")
            yield number, values
    except (GeneratorExit, CaptioningError, _CannotReadError):
        raise
    except Exception as error:  # decord raises its own kinds, without a common base
        raise _CannotReadError(type(error).__name__) from error
    finally:
        del reader  # closes the file


def _load_decord() -> Any:
    """Return the decord package. Raises `_CannotLoadError` with whatever keeps it from being imported."""
    try:
        import decord
    except ModuleNotFoundError as error:
        raise _CannotLoadError("decord is not installed") from error
    except Exception as error:  # its libraries fail in their own ways: missing symbols, wrong drivers
        raise _CannotLoadError(f"decord cannot be loaded ({type(error).__name__})") from error
    return decord


def _read_with_pillow(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    with open_undecoded(index.path.read_bytes(), index.name).image as image:
        for number in numbers:
            beat()
            try:
                image.seek(number)
                frame = image.convert("RGBA")
            except (OSError, EOFError, SyntaxError, ValueError):
                continue
            flat = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame).convert("RGB")
            yield number, np.asarray(flat.resize(shape, Image.Resampling.BOX, reducing_gap=2.0))


_READERS: dict[str, Reader] = {"decord": _read_with_decord, "pyav": read_with_pyav, "pillow": _read_with_pillow}
