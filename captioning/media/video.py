"""A clip → evenly spaced frames with their times, or one clear sentence.

The times of all frames are read first, without decoding anything; then only what the wanted frames need is decoded.
PyAV does so, decord is tried where PyAV decodes nothing, and Pillow reads animated WebP and PNG. Nothing is written
anywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from captioning.core.errors import CaptioningError, ImageError, VideoError
from captioning.core.settings import get_settings
from captioning.core.types import VideoFrame
from captioning.media.images import open_image, open_undecoded, shown_name

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame as DecodedFrame
    from av.video.stream import VideoStream

Backend = Literal["auto", "decord", "pyav", "pillow"]
OnFrame = Callable[[int, int], None]
"""Hears how many frames are read, and of how many: 0 while the file is being looked through. Raise `Stopped` from it
to stop; the file is then closed."""

DEFAULT_FRAMES = 16
_FORMATS = (
    # Containers alone: no playlists, which would make the decoder open other files or ask the network, and no text.
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,nut,mxf,obu,h264,hevc,m4v,"
    "mp3,wav,flac,aac"
)
_MAGIC = re.compile(rb"....(ftyp|moov|mdat|free|wide)|RIFF|\x1aE\xdf\xa3|GIF8|FLV|OggS|0&\xb2u|\0\0\1|ID3", re.DOTALL)
_EXACT_FORMATS = ("mov", "matroska", "avi")
"""Containers with a table of where each frame lies; in others decord lands somewhere near and miscounts."""
_CHECK_EVERY = 500
"""Packets between two looks at whether somebody wants to stop."""
_ENTER_EARLIER_SECONDS = 2
_LONGEST_GROUP = 1000
"""Frames from one key frame to the next, up to which decord, which cannot be stopped on the way, may be used."""
_MOST_FRAMES_PER_SECOND = 60
"""Of a clip as long as the settings allow; shorter ones may have more."""
_GENTLE_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "vp9", "msmpeg4v3")
"""Whose decoders leave out frames that no other frame needs when they are told to."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipIndex:
    """What a clip is made of: when each frame is shown, and how large it is when upright.

    `seconds [frames]` count from the first frame; `pts [frames]` are the same times as the file writes them, and
    `None` where it writes none. `keys` are those of `pts` at which decoding can begin. `size` is width and height in
    pixels. `exact` says that a reader which counts frames can go to any of them. `reader` says who can read it.
    """

    path: Path
    name: str
    size: tuple[int, int]
    seconds: NDArray[np.float64]
    duration: float
    pts: NDArray[np.int64] | None = None
    keys: NDArray[np.int64] | None = None
    exact: bool = False
    reader: Literal["video", "pillow"] = "video"

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames sampled from `start` to `end` of a clip, in seconds.

    `skipped` counts frames that were wanted and could not be decoded; `backend` says who decoded.
    """

    index: ClipIndex
    start: float
    end: float
    frames: tuple[VideoFrame, ...]
    skipped: int
    backend: str


def sample_frames(
    path: str | os.PathLike[str],
    count: int = DEFAULT_FRAMES,
    start: float | None = None,
    end: float | None = None,
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    on_frame: OnFrame | None = None,
) -> tuple[VideoFrame, ...]:
    """The frames shown at the middles of `count` equal segments between `start` and `end`, in seconds.

    One frame is the one in the middle. A clip of fewer frames gives each of them once. Frames come upright, their
    longer side at most `max_side` pixels. Raises `VideoError` for what is no clip, is damaged, or is beyond the limits.
    """
    return sample_clip(path, count, start, end, max_side=max_side, backend=backend, on_frame=on_frame).frames


def sample_clip(
    path: str | os.PathLike[str],
    count: int = DEFAULT_FRAMES,
    start: float | None = None,
    end: float | None = None,
    *,
    max_side: int | None = None,
    backend: Backend = "auto",
    name: str | None = None,
    on_frame: OnFrame | None = None,
) -> Clip:
    """Like `sample_frames`, together with what was found out about the clip."""
    index = index_clip(path, name, on_frame)
    begin, finish = check_range(index, start, end)
    wanted = choose_frames(index, count, begin, finish)
    frames, used = read_frames(index, wanted, max_side=max_side, backend=backend, on_frame=on_frame)
    return Clip(index, begin, finish, frames, len(wanted) - len(frames), used)


def check_range(index: ClipIndex, start: float | None, end: float | None) -> tuple[float, float]:
    """Begin and end in seconds, within the clip. Raises `VideoError` where nothing lies between them."""
    begin = 0.0 if start is None else float(start)
    finish = index.duration if end is None else min(float(end), index.duration)
    if not (np.isfinite(begin) and np.isfinite(finish)) or begin < 0:
        raise VideoError("Start and end must be times in seconds, from 0 on.")
    if begin >= index.duration:
        raise VideoError(f"{index.name} is {index.duration:.2f} s long; start before that, not at {begin:g} s.")
    if finish <= begin:
        raise VideoError(f"The end ({finish:g} s) must come after the start ({begin:g} s).")
    return begin, finish


def choose_frames(index: ClipIndex, count: int, start: float, end: float) -> list[int]:
    """Numbers of the frames shown at the middles of `count` equal segments, each once, in order.

    Raises `VideoError` where `count` is out of range.
    """
    most = get_settings().video_frames
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise VideoError(f"The number of frames must be a whole number between 1 and {most}, not {count!r}.")
    times = start + (np.arange(count) + 0.5) * ((end - start) / count)
    # Half a microsecond: times that are equal on paper differ in their last bits.
    shown = np.searchsorted(index.seconds, times + 5e-7, side="right") - 1
    return sorted({int(number) for number in shown.clip(0, len(index) - 1)})


# ---- what is in the file ----


def index_clip(path: str | os.PathLike[str], name: str | None = None, on_frame: OnFrame | None = None) -> ClipIndex:
    """When each frame of a clip is shown, read without decoding. Raises `VideoError` for what cannot be used."""
    name = name or shown_name(Path(path).name)
    source = Path(path).absolute()  # to FFmpeg, whatever stands before the colon of 12:30.mp4 is a protocol
    head = _read_head(source, name)
    if (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[:8] == b"\x89PNG\r\n\x1a\n":
        return _index_pictures(source, name, on_frame)
    with _open_container(source, name, head) as container:
        return _index_container(container, source, name, on_frame)


def _read_head(source: Path, name: str) -> bytes:
    """The first bytes of a file that is within the limits."""
    try:
        size = source.stat().st_size
    except (OSError, ValueError) as error:  # no file system takes a name with a NUL in it
        raise VideoError(f"There is no file {name}; check its name.") from error
    if source.is_dir():
        raise VideoError(f"{name} is a folder; give a video file.")
    if size == 0:
        raise VideoError(f"{name} is empty (0 bytes); choose another file.")
    limit = get_settings().video_bytes
    if size > limit:
        raise VideoError(f"{name} is too large ({size / 2**20:,.0f} MB); keep it under {limit / 2**20:,.0f} MB.")
    try:
        with source.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise VideoError(f"{name} cannot be read ({error.strerror or 'input error'}).") from error


def _open_container(source: Path, name: str, head: bytes) -> InputContainer:
    import av

    try:
        return av.open(str(source), options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if _MAGIC.match(head):
            raise VideoError(f"{name} is damaged or cut off and cannot be opened; save or upload it again.") from error
        raise VideoError(
            f"{name} is not a video in a format that can be read (MP4, MOV, WebM, MKV, AVI, GIF and others)."
        ) from error


def _index_container(container: InputContainer, source: Path, name: str, on_frame: OnFrame | None) -> ClipIndex:
    stream = _video_stream(container, name)
    codec = stream.codec_context
    _check_pixels(codec.width, codec.height, name)
    if container.duration is not None:
        _check_minutes(container.duration / 1e6, name)
    times, lasts, keys, stored = _read_times(container, name, on_frame)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    # A trimmed clip lists fewer frames than were filmed, and stores more than it shows. Fragments declare nothing.
    listed = len(stream.index_entries) if stream.frames and container.format.name.startswith("mov") else 0
    if stored < listed:
        have, whole = stored / rate, listed / rate
        raise VideoError(f"{name} is cut off after about {have:.1f} of {whole:.1f} s; save or upload it again.")
    size = _upright_size(container, stream)
    # AVI writes no times: with frames out of order, only decoding tells which is which.
    ordered = not (container.format.name == "avi" and codec.name in ("h264", "hevc"))
    if None in times or not ordered:
        duration = len(times) / rate
        _check_minutes(duration, name)
        return ClipIndex(source, name, size, np.arange(len(times)) / rate, duration)
    pts, first = np.unique(np.array(times, np.int64), return_index=True)
    unit = float(stream.time_base or Fraction(1, 1000))
    shown = (pts - pts[0]) * unit
    usual = float(np.median(np.diff(shown))) if len(pts) > 1 else 1 / rate
    duration = float(shown[-1]) + (lasts[int(first[-1])] * unit or usual)
    _check_minutes(duration, name)
    enter = np.unique(np.array(keys or times[:1], np.int64))
    longest = int(np.diff([0, *np.searchsorted(pts, enter), len(pts)]).max())
    exact = container.format.name.startswith(_EXACT_FORMATS) and longest <= _LONGEST_GROUP and not _overlap(times, keys)
    return ClipIndex(source, name, size, shown, duration, pts, enter, exact)


def _overlap(times: Sequence[int | None], keys: Sequence[int]) -> bool:
    """Whether a frame that is stored behind a key frame is shown before it; decord then miscounts."""
    known, last = set(keys), None
    for time in times:
        if time in known:
            last = time
        elif last is not None and time is not None and time < last:
            return True
    return False


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream of moving pictures; a cover is none. Raises `VideoError` where there is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and "attached_pic" not in str(stream.disposition):
            return stream
    if container.streams.audio:
        raise VideoError(f"{name} holds only sound; choose a clip with a moving picture.")
    raise VideoError(f"{name} holds no video, or is cut off before it; choose another file, or upload it again.")


def _read_times(
    container: InputContainer, name: str, on_frame: OnFrame | None
) -> tuple[list[int | None], list[int], list[int], int]:
    """Time and duration of every frame as the file writes them, in the file's order, and the times of key frames.

    The last is how many frames the file stores: some are there only because those that are shown need them.
    """
    times: list[int | None] = []
    lasts: list[int] = []
    keys: list[int] = []
    stored = 0
    for number, packet in enumerate(_packets(container, name)):
        if on_frame is not None and number % _CHECK_EVERY == 0:
            on_frame(0, 0)
        if not packet.size:
            continue
        stored += 1
        _check_frames(stored, name)
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
        if not packet.is_discard:
            times.append(packet.pts)
            lasts.append(packet.duration or 0)
    if not times:
        raise VideoError(f"{name} holds no frames; it may be cut off. Save or upload it again.")
    return times, lasts, keys, stored


def _packets(container: InputContainer, name: str) -> Iterator[Packet[Any]]:
    """The packets of the clip's pictures, as far as they can be read."""
    import av

    packets = container.demux(_video_stream(container, name))
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return  # cut off: what came before is there
        if packet is None:
            return
        yield packet


def _check_pixels(width: int, height: int, name: str) -> None:
    limit = get_settings().max_image_pixels
    if not width or not height:
        raise VideoError(f"{name} does not say how large its frames are; it may be damaged. Save or upload it again.")
    if width * height > limit:
        raise VideoError(f"{name} has {width}×{height} pixels a frame; keep it under {limit / 1e6:g} megapixels.")


def _check_frames(count: int, name: str) -> None:
    """Refuse more frames than the longest clip has at so many a second: each of them takes memory."""
    most = get_settings().video_minutes * 60 * _MOST_FRAMES_PER_SECOND
    if count > most:
        raise VideoError(f"{name} has more than {most:,} frames; shorten it, or save it with fewer a second.")


def _check_minutes(seconds: float, name: str) -> None:
    limit = get_settings().video_minutes
    if seconds > 60 * limit:
        raise VideoError(f"{name} is {seconds / 60:.0f} minutes long; keep it under {limit}.")


def _upright_size(container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    """Width and height as shown: pixels made square, turned as the first frame that can be decoded says."""
    import av

    width, height = stream.codec_context.width, stream.codec_context.height
    if stream.sample_aspect_ratio:
        width = max(1, round(width * float(stream.sample_aspect_ratio)))
    with suppress(av.error.FFmpegError):
        container.seek(0, backward=True)
    for number, packet in enumerate(_packets(container, "")):
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                return (height, width) if round(frame.rotation / 90) % 2 else (width, height)
        if number > _CHECK_EVERY:
            break
    return width, height


def _index_pictures(source: Path, name: str, on_frame: OnFrame | None) -> ClipIndex:
    """An animation that Pillow reads; each frame says how long it stays."""
    stays: list[float] = []
    duration = 0.0
    minutes = get_settings().video_minutes
    try:
        with open_undecoded(source, name) as image:
            for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
                if on_frame is not None:
                    on_frame(0, 0)
                frame.load()  # before that, WebP does not know how long the frame stays
                stays.append(max(float(frame.info.get("duration", 0)), 10.0) / 1000)
                duration += stays[-1]
                if duration > minutes * 60:
                    raise VideoError(f"{name} is more than {minutes} minutes long; keep it under {minutes}.")
                _check_frames(number, name)
            size = image.size
    except ImageError as error:  # too many pixels
        raise VideoError(str(error)) from error
    except CaptioningError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise VideoError(f"{name} is damaged or cut off and cannot be decoded; save or upload it again.") from error
    if len(stays) < 2:
        raise VideoError(f"{name} is a picture that does not move; open it as a picture.")
    shown = np.cumsum([0.0, *stays[:-1]])
    return ClipIndex(source, name, size, shown, duration, reader="pillow")


# ---- the frames themselves ----


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
    with _open_container(index.path, index.name, b"") as container:
        _video_stream(container, index.name).thread_type = "AUTO"
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

    stream = _video_stream(container, index.name)
    # Files without a table of places are entered somewhere near; some time before is then early enough.
    for place in (key, key - round(_ENTER_EARLIER_SECONDS / (stream.time_base or 1))):
        with suppress(av.error.FFmpegError):
            container.seek(place, stream=stream, backward=True)
            stream.codec_context.flush_buffers()
            packets = _packets(container, index.name)
            first = next((p for p in packets if p.pts is not None), None)
            if first is not None and first.pts is not None and first.pts <= key:
                yield first
                yield from packets
                return
    with _open_container(index.path, index.name, b"") as again:
        yield from _packets(again, index.name)


def _read_in_order(
    index: ClipIndex, numbers: Sequence[int], shape: tuple[int, int], beat: Beat
) -> Iterator[tuple[int, Pixels]]:
    """Frames of a file without times: decode one after the other and count."""
    import av

    wanted = set(numbers)
    with _open_container(index.path, index.name, b"") as container:
        _video_stream(container, index.name).thread_type = "AUTO"
        number = 0
        for packet in _packets(container, index.name):
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


def describe_duration(seconds: float) -> str:
    """A time within a clip, as minutes and seconds: `0:07.5`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
