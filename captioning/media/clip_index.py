"""What is in a clip: when each of its frames is shown, read without decoding; every guard on clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageSequence

from captioning.core.errors import CaptioningError, ImageError, VideoError
from captioning.core.settings import get_settings
from captioning.media.display import PLAIN, Display, display_of
from captioning.media.images import open_undecoded, shown_name
from captioning.media.kinds import HEAD_BYTES, kind_of, refuse_as_clip, refuse_missing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


OnFrame = Callable[[int, int], None]
"""Hears how many frames are read, and of how many: 0 while the file is being looked through. Raise `Stopped` from it
to stop; the file is then closed."""
_FORMATS = (
    # Containers alone: no playlists, which would make the decoder open other files or ask the network, and no text.
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,nut,mxf,obu,h264,hevc,m4v,"
    "mp3,wav,flac,aac"
)
_EXACT_FORMATS = ("mov", "matroska", "avi")
"""Containers with a table of where each frame lies; in others decord lands somewhere near and miscounts."""
_CHECK_EVERY = 500
"""Packets between two looks at whether somebody wants to stop."""
_LONGEST_GROUP = 1000
"""Frames from one key frame to the next, up to which decord, which cannot be stopped on the way, may be used."""
_MOST_FRAMES_PER_SECOND = 60
"""Of a clip as long as the settings allow; shorter ones may have more."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipIndex:
    """What a clip is made of: when each frame is shown, and how large it is when upright.

    `seconds [frames]` and `duration` count from the container's start, as players show times; pictures may begin
    later than sound. `pts [frames]` are the same times as the file writes them, and `None` where it writes none.
    `keys` are those of `pts` at which decoding can begin. `size` is width and height in pixels. `exact` says that a
    reader which counts frames can go to any of them. `stream` counts streams of pictures, `display` says how frames
    are shown, `reader` who can read them.
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
    stream: int = 0
    display: Display = PLAIN

    def __len__(self) -> int:
        return len(self.seconds)


def index_clip(path: str | os.PathLike[str], name: str | None = None, on_frame: OnFrame | None = None) -> ClipIndex:
    """When each frame of a clip is shown, read without decoding. Raises `VideoError` for what cannot be used."""
    name = name or shown_name(Path(path).name)
    source = Path(path).absolute()  # to FFmpeg, whatever stands before the colon of 12:30.mp4 is a protocol
    head = _read_head(source, os.fspath(path), name)
    kind = kind_of(head)
    if kind is not None and kind.sort in ("picture", "other"):
        raise VideoError(refuse_as_clip(name, kind))
    if (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[:8] == b"\x89PNG\r\n\x1a\n":
        return _index_pictures(source, name, on_frame)
    with open_container(source, name, head) as container:
        return _index_container(container, source, name, on_frame)


def _read_head(source: Path, given: str, name: str) -> bytes:
    """The first bytes of a file that is within the limits."""
    try:
        size = source.stat().st_size
    except (OSError, ValueError) as error:  # no file system takes a name with a NUL in it
        raise VideoError(refuse_missing(given, name)) from error
    if source.is_dir():
        raise VideoError(f"{name} is a folder; give a video file.")
    if size == 0:
        raise VideoError(f"{name} is empty (0 bytes); choose another file.")
    limit = get_settings().video_bytes
    if size > limit:
        raise VideoError(f"{name} is too large ({size / 2**20:,.0f} MB); keep it under {limit / 2**20:,.0f} MB.")
    try:
        with source.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise VideoError(f"{name} cannot be read ({error.strerror or 'input error'}).") from error


def open_container(source: Path, name: str, head: bytes) -> InputContainer:
    """Open a clip by PyAV; `head` holds its first bytes. Raises `VideoError` for what is none."""
    import av

    try:
        return av.open(str(source), options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(refuse_as_clip(name, kind_of(head))) from error


def _index_container(container: InputContainer, source: Path, name: str, on_frame: OnFrame | None) -> ClipIndex:
    number = find_film(container, name)
    stream = container.streams.video[number]
    codec = stream.codec_context
    _check_pixels(codec.width, codec.height, name)
    if container.duration is not None:
        _check_minutes(container.duration / 1e6, name)
    times, lasts, keys, stored = _read_times(container, stream, name, on_frame)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    # A trimmed clip lists fewer frames than were filmed, and stores more than it shows. Fragments declare nothing.
    listed = len(stream.index_entries) if stream.frames and container.format.name.startswith("mov") else 0
    if stored < listed:
        have, whole = stored / rate, listed / rate
        raise VideoError(f"{name} is cut off after about {have:.1f} of {whole:.1f} s; save or upload it again.")
    display = _read_display(container, stream)
    size = _upright_size(stream, display)
    # AVI writes no times: with frames out of order, only decoding tells which is which.
    ordered = not (container.format.name == "avi" and codec.name in ("h264", "hevc"))
    if None in times or not ordered:
        duration = len(times) / rate
        _check_minutes(duration, name)
        return ClipIndex(source, name, size, np.arange(len(times)) / rate, duration, stream=number, display=display)
    pts, first = np.unique(np.array(times, np.int64), return_index=True)
    unit = float(stream.time_base or Fraction(1, 1000))
    shown = (pts - pts[0]) * unit + _find_lead(container, stream)
    usual = float(np.median(np.diff(shown))) if len(pts) > 1 else 1 / rate
    duration = float(shown[-1]) + (lasts[int(first[-1])] * unit or usual)
    _check_minutes(duration, name)
    enter = np.unique(np.array(keys or times[:1], np.int64))
    longest = int(np.diff([0, *np.searchsorted(pts, enter), len(pts)]).max())
    exact = container.format.name.startswith(_EXACT_FORMATS) and longest <= _LONGEST_GROUP and not _overlap(times, keys)
    return ClipIndex(source, name, size, shown, duration, pts, enter, exact, stream=number, display=display)


def _find_lead(container: InputContainer, stream: VideoStream) -> float:
    """Return how many seconds after the file's start its pictures begin; 0 where what it says makes no sense."""
    if container.start_time is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    lead = float(stream.start_time * stream.time_base) - container.start_time / 1e6
    return lead if 0 < lead < get_settings().video_minutes * 60 else 0.0


def _overlap(times: Sequence[int | None], keys: Sequence[int]) -> bool:
    """Whether a frame that is stored behind a key frame is shown before it; decord then miscounts."""
    known, last = set(keys), None
    for time in times:
        if time in known:
            last = time
        elif last is not None and time is not None and time < last:
            return True
    return False


def find_film(container: InputContainer, name: str) -> int:
    """Return which stream of pictures is the film: no cover, thumbnail or picture of one frame beside others.

    Raises `VideoError` where there is none.
    """
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    found = [
        number
        for number, stream in enumerate(container.streams.video)
        if stream.codec_context is not None and not stream.disposition & still
    ]
    if len(found) > 1:
        return _first_that_moves(container, found)
    if found:
        return found[0]
    if container.streams.audio:
        raise VideoError(f"{name} holds only sound; choose a clip with a moving picture.")
    raise VideoError(f"{name} holds no video, or is cut off before it; choose another file, or upload it again.")


def _first_that_moves(container: InputContainer, found: Sequence[int]) -> int:
    """Return the first of these streams with more than one frame; the first where all have one."""
    import av

    counts = dict.fromkeys(found, 0)
    streams = [container.streams.video[number] for number in found]
    numbers = {stream.index: number for stream, number in zip(streams, found, strict=True)}
    with suppress(av.error.FFmpegError):
        for packet in container.demux(streams):
            if packet.size:
                counts[numbers[packet.stream.index]] += 1
            if counts[found[0]] > 1:
                break
    with suppress(av.error.FFmpegError):
        container.seek(0, backward=True)
    return next((number for number in found if counts[number] > 1), found[0])


def _read_times(
    container: InputContainer, stream: VideoStream, name: str, on_frame: OnFrame | None
) -> tuple[list[int | None], list[int], list[int], int]:
    """Time and duration of every frame as the file writes them, in the file's order, and the times of key frames.

    The last is how many frames the file stores: some are there only because those that are shown need them.
    """
    times: list[int | None] = []
    lasts: list[int] = []
    keys: list[int] = []
    stored = 0
    for number, packet in enumerate(read_packets(container, stream)):
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


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[Any]]:
    """The packets of a stream, as far as they can be read."""
    import av

    packets = container.demux(stream)
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


def _upright_size(stream: VideoStream, display: Display) -> tuple[int, int]:
    """Width and height as shown: pixels made square, turned as the first frame is."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if stream.sample_aspect_ratio:
        width = max(1, round(width * float(stream.sample_aspect_ratio)))
    return (height, width) if display.swapped else (width, height)


def _read_display(container: InputContainer, stream: VideoStream) -> Display:
    """Return how the first frame that can be decoded is to be shown."""
    import av

    with suppress(av.error.FFmpegError):
        container.seek(0, backward=True)
    for number, packet in enumerate(read_packets(container, stream)):
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                return display_of(frame)
        if number > _CHECK_EVERY:
            break
    return Display()


def _index_pictures(source: Path, name: str, on_frame: OnFrame | None) -> ClipIndex:
    """An animation that Pillow reads; each frame says how long it stays."""
    stays: list[float] = []
    duration = 0.0
    minutes = get_settings().video_minutes
    try:
        with open_undecoded(source.read_bytes(), name).image as image:
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
        raise VideoError(
            f"{name} is a picture that does not move; caption it on the Caption tab or by the command caption."
        )
    shown = np.cumsum([0.0, *stays[:-1]])
    return ClipIndex(source, name, size, shown, duration, reader="pillow")
