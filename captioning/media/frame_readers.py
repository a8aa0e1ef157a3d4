"""The frames of a clip themselves: only what the wanted ones need is decoded.

PyAV does so, decord is tried where PyAV decodes nothing, and Pillow reads animated WebP and PNG. Nothing is written
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioning.core.errors import CaptioningError, VideoError
from captioning.core.types import VideoFrame
from captioning.media.images import open_image, open_undecoded

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame as DecodedFrame

from captioning.media.clip_index import ClipIndex, OnFrame, open_container, read_packets, video_stream

Backend = Literal["auto", "decord", "pyav", "pillow"]
_ENTER_EARLIER_SECONDS = 2
_GENTLE_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "vp9", "msmpeg4v3")
"""Whose decoders leave out frames that no other frame needs when they are told to."""


def read_frames(
    index: ClipIndex,
    numbers: Iterable[int],
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    on_frame: OnFrame | None = None,
) -> tuple[tuple[VideoFrame, ...], str]:
    """The frames of these numbers that can be decoded, in order, and who decoded them.

    Raises `VideoError` where none can be, or where the backend that was asked for cannot read the clip.
    """
    wanted = sorted(set(numbers))
    shape = fit_size(index.size, max_side)
    if index.reader == "pillow":
        choices: list[str] = ["pillow"]
    else:
        choices = ["pyav", "decord"] if backend == "auto" else [backend]
    problem = ""
    for choice in choices:
        try:
            frames = _collect(index, _READERS[choice], wanted, shape, on_frame)
        except _CannotReadError as error:
            problem = problem or f"{index.name} cannot be read by {choice} ({error})."
            continue
        if frames:
            return frames, choice
        problem = problem or f"No frame of {index.name} can be decoded; save or upload it again."
    raise VideoError(problem)


def fit_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Width and height with the longer side at most `max_side`; never enlarged."""
    factor = 1.0 if max_side is None else min(1.0, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


Pixels = NDArray[np.uint8]
Beat = Callable[[], None]
"""Called now and then while a reader works; raises where it is to stop."""
Reader = Callable[[ClipIndex, Sequence[int], tuple[int, int], Beat], Iterator[tuple[int, Pixels]]]


class _CannotReadError(Exception):
    """This reader cannot, another one may."""


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
    try:
        import decord
    except (ImportError, OSError) as error:
        raise _CannotReadError("decord is not installed") from error
    if index.pts is None:
        raise _CannotReadError("the file writes no times")
    if not index.exact:
        raise _CannotReadError("it would miscount")
    decord.logging.set_level(decord.logging.QUIET)
    reader = None
    try:
        reader = decord.VideoReader(str(index.path), width=shape[0], height=shape[1])
        if len(reader) != len(index):
            raise _CannotReadError(f"it counts {len(reader)} frames of {len(index)}")
        shown = np.asarray(reader.get_frame_timestamp(list(range(len(reader)))))[:, 0]
        if not np.allclose(shown - shown[0], index.seconds, atol=2e-3):
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


def _read_with_pyav(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Frames by PyAV: go to the key frame before each, and decode only what it needs."""
    if index.pts is None or index.keys is None:
        yield from _read_in_order(index, numbers, shape, beat)
        return
    by_pts = {int(index.pts[number]): number for number in numbers}
    group_of = np.searchsorted(index.keys, list(by_pts), side="right") - 1
    groups: dict[int, list[int]] = {}
    for pts, group in zip(by_pts, group_of, strict=True):
        groups.setdefault(max(int(group), 0), []).append(pts)
    with open_container(index.path, index.name, b"") as container:
        video_stream(container, index.name).thread_type = "AUTO"
        for group, targets in groups.items():
            for frame in _decode_group(container, index, int(index.keys[group]), targets, beat):
                assert frame.pts is not None
                yield by_pts[frame.pts], _to_pixels(frame, shape)


def _decode_group(
    container: InputContainer, index: ClipIndex, key: int, targets: Sequence[int], beat: Beat
) -> Iterator[DecodedFrame]:
    """Decode from a key frame on until the last target is there; frames that cannot be decoded are left out."""
    import av

    missing = set(targets)
    for packet in _packets_from(container, index, key):
        beat()
        codec = packet.stream.codec_context
        if codec.name in _GENTLE_CODECS:
            needed = packet.pts is None or packet.pts in missing
            codec.skip_frame = "DEFAULT" if needed else "NONREF"
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if frame.pts in missing and not frame.is_corrupt:
                yield frame
            # Frames come in the order of their times: what was to come before this one will not come.
            missing = {pts for pts in missing if frame.pts is None or pts > frame.pts}
        if not missing:
            return


def _packets_from(container: InputContainer, index: ClipIndex, key: int) -> Iterator[Packet[Any]]:
    """Packets from a key frame on, or from the start where the file cannot be entered there."""
    import av

    stream = video_stream(container, index.name)
    # Files without a table of places are entered somewhere near; some time before is then early enough.
    for place in (key, key - round(_ENTER_EARLIER_SECONDS / (stream.time_base or 1))):
        with suppress(av.error.FFmpegError):
            container.seek(place, stream=stream, backward=True)
            stream.codec_context.flush_buffers()
            packets = read_packets(container, index.name)
            first = next((p for p in packets if p.pts is not None), None)
            if first is not None and first.pts is not None and first.pts <= key:
                yield first
                yield from packets
                return
    with open_container(index.path, index.name, b"") as again:
        yield from read_packets(again, index.name)


def _read_in_order(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Frames of a file without times: decode one after the other and count."""
    import av

    wanted = set(numbers)
    with open_container(index.path, index.name, b"") as container:
        video_stream(container, index.name).thread_type = "AUTO"
        number = 0
        for packet in read_packets(container, index.name):
            beat()
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                number += 1
                continue
            for frame in frames:
                if number in wanted and not frame.is_corrupt:
                    yield number, _to_pixels(frame, shape)
                number += 1
            if number > max(wanted):
                return


def _to_pixels(frame: DecodedFrame, shape: tuple[int, int]) -> Pixels:
    """A decoded frame upright, `[height, width, 3]`."""
    turns = round(frame.rotation / 90) % 4
    width, height = shape if turns % 2 == 0 else shape[::-1]
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))


def _read_with_pillow(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    with open_undecoded(index.path, index.name) as image:
        for number in numbers:
            beat()
            try:
                image.seek(number)
                frame = image.convert("RGBA")
            except (OSError, EOFError, SyntaxError, ValueError):
                continue
            flat = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame).convert("RGB")
            yield number, np.asarray(flat.resize(shape, Image.Resampling.BOX, reducing_gap=2.0))


_READERS: dict[str, Reader] = {"decord": _read_with_decord, "pyav": _read_with_pyav, "pillow": _read_with_pillow}
