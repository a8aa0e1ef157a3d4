"""Frames by PyAV: go to the key frame before each, and decode only what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.media.clip_index import ClipIndex, open_container, read_packets
from captioning.media.display import Pixels, show_frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame as DecodedFrame
    from av.video.stream import VideoStream

Beat = Callable[[], None]
"""Called now and then while a reader works; raises where it is to stop."""
_ENTER_EARLIER_SECONDS = 2
_GENTLE_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "vp9", "msmpeg4v3")
"""Whose decoders leave out frames that no other frame needs when they are told to."""
_MOST_DAMAGED = 1 / 2
"""Share of damaged packets above which a decoder is only strict about how the file was made."""


def read_with_pyav(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Yield the frames of these numbers that can be decoded."""
    if index.pts is None or index.keys is None:
        yield from _read_in_order(index, numbers, shape, beat)
        return
    by_pts = {int(index.pts[number]): number for number in numbers}
    group_of = np.searchsorted(index.keys, list(by_pts), side="right") - 1
    groups: dict[int, list[int]] = {}
    for pts, group in zip(by_pts, group_of, strict=True):
        groups.setdefault(max(int(group), 0), []).append(pts)
    with open_container(index.path, index.name, b"") as container:
        _prepare(container, index, strict=True)
        for group, targets in groups.items():
            key = int(index.keys[group])
            try:
                frames = list(_decode_group(container, index, key, targets, beat))
            except _DamagedError:
                frames = _decode_damaged(index, key, targets, beat)
            for frame in frames:
                assert frame.pts is not None
                yield by_pts[frame.pts], show_frame(frame, shape)


_MOST_DELAYED = 16
"""Frames that a decoder may hold back until it has seen later packets."""


class _DamagedError(Exception):
    """Data that a strict decoder refuses."""


def _prepare(container: InputContainer, index: ClipIndex, strict: bool, threads: bool = True) -> VideoStream:
    """Set up the decoder of the clip's stream; a strict one raises where another would paint over what is missing."""
    stream = container.streams.video[index.stream]
    codec = stream.codec_context
    codec.thread_type = "AUTO" if threads else "NONE"
    if not threads:
        codec.thread_count = 1
    if strict:
        codec.options = {"err_detect": "explode"}
    return stream


def _decode_damaged(index: ClipIndex, key: int, targets: Sequence[int], beat: Beat) -> list[DecodedFrame]:
    """Decode a group with damaged packets: once to find them, once for the frames that are none of them.

    One thread, for others tell of an error some packets late.
    """
    import av

    damaged: set[int] = set()
    count = beyond = 0
    last = max(targets)
    with open_container(index.path, index.name, b"") as container:
        _prepare(container, index, strict=True, threads=False)
        for packet in _packets_from(container, index, key):
            beat()
            count += 1
            try:
                packet.decode()
                broken = packet.is_corrupt
            except av.error.FFmpegError:
                broken = True
            if broken and packet.pts is not None:
                damaged.add(packet.pts)
            beyond += packet.pts is not None and packet.pts > last
            if beyond > _MOST_DELAYED:
                break
    if len(damaged) > count * _MOST_DAMAGED:
        damaged = set()
    with open_container(index.path, index.name, b"") as container:
        _prepare(container, index, strict=False, threads=False)
        return list(_decode_group(container, index, key, targets, beat, frozenset(damaged)))


def _decode_group(
    container: InputContainer,
    index: ClipIndex,
    key: int,
    targets: Sequence[int],
    beat: Beat,
    damaged: frozenset[int] | None = None,
) -> Iterator[DecodedFrame]:
    """Decode from a key frame on until the last target is there; frames that cannot be decoded are left out.

    Raises `_DamagedError` for damaged data, unless it is known which packets are `damaged`. Those are not decoded: an
    error would take along frames that were waiting for their turn.
    """
    import av

    missing, last, beyond = set(targets), max(targets), 0
    for packet in _packets_from(container, index, key):
        beat()
        if damaged and packet.pts in damaged:
            missing.discard(packet.pts)
            continue
        codec = packet.stream.codec_context
        if codec.name in _GENTLE_CODECS:
            needed = packet.pts is None or packet.pts in missing
            codec.skip_frame = "DEFAULT" if needed else "NONREF"
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if damaged is not None:
                continue
            raise _DamagedError from error
        if packet.is_corrupt and damaged is None:
            raise _DamagedError
        for frame in frames:
            if frame.pts in missing and not frame.is_corrupt:
                yield frame
            if damaged is None:
                # Frames come in the order of their times: what was to come before this one will not come.
                missing = {pts for pts in missing if frame.pts is None or pts > frame.pts}
            elif frame.pts is not None:
                missing.discard(frame.pts)
        beyond += packet.pts is not None and packet.pts > last
        if not missing or (damaged is not None and beyond > _MOST_DELAYED):
            return


def _packets_from(container: InputContainer, index: ClipIndex, key: int) -> Iterator[Packet[Any]]:
    """Packets from a key frame on, or from the start where the file cannot be entered there."""
    import av

    stream = container.streams.video[index.stream]
    # Files without a table of places are entered somewhere near; some time before is then early enough.
    for place in (key, key - round(_ENTER_EARLIER_SECONDS / (stream.time_base or 1))):
        with suppress(av.error.FFmpegError):
            container.seek(place, stream=stream, backward=True)
            stream.codec_context.flush_buffers()
            packets = read_packets(container, stream)
            first = next((p for p in packets if p.pts is not None), None)
            if first is not None and first.pts is not None and first.pts <= key:
                yield first
                yield from packets
                return
    with open_container(index.path, index.name, b"") as again:
        yield from read_packets(again, again.streams.video[index.stream])


def _read_in_order(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Frames of a file without times: decode one after the other and count."""
    import av

    wanted = set(numbers)
    with open_container(index.path, index.name, b"") as container:
        stream = _prepare(container, index, strict=False)
        number = 0
        for packet in read_packets(container, stream):
            beat()
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                number += 1
                continue
            for frame in frames:
                if number in wanted and not frame.is_corrupt:
                    yield number, show_frame(frame, shape)
                number += 1
            if number > max(wanted):
                return
