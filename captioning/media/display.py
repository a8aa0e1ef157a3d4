"""A decoded frame as players show it: turned and mirrored, one field where it is interlaced, HDR as SDR."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame as DecodedFrame

Pixels = NDArray[np.uint8]
Light = NDArray[np.float32]
_PQ, _HLG, _BT2020 = 16, 18, 9
"""What H.273 calls the two transfer functions of HDR, and the primaries and matrix of BT.2020."""
_REFERENCE_WHITE = 203.0
"""Light of a white sheet in HDR, in candela a square metre (BT.2408); it becomes the white of SDR."""
_KNEE = 0.6
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


@dataclass(frozen=True, slots=True)
class Display:
    """What turns stored frames into shown ones: rows and columns swapped, then mirrored left to right, top to bottom.

    `interlaced` frames hold two fields; `hdr` ones more light than a screen of SDR shows.
    """

    swapped: bool = False
    mirrored: bool = False
    flipped: bool = False
    interlaced: bool = False
    hdr: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether frames are shown as they are stored."""
        return self == PLAIN

    @property
    def note(self) -> str:
        """A few words on what changes the pixels; none where nothing does."""
        notes = []
        if self.hdr:
            notes.append("HDR, tone-mapped to SDR")
        if self.interlaced:
            notes.append("interlaced, one field of each frame")
        return "; ".join(notes)


PLAIN = Display()


def display_of(frame: DecodedFrame) -> Display:
    """Return how a frame is to be shown, from its display matrix and flags."""
    swapped, mirrored, flipped = _read_matrix(frame)
    hdr = int(frame.color_trc) in (_PQ, _HLG)
    return Display(swapped, mirrored, flipped, frame.interlaced_frame, hdr)


def _read_matrix(frame: DecodedFrame) -> tuple[bool, bool, bool]:
    """Return the display matrix as swapped, mirrored, flipped; what lies between goes to the nearest of the eight."""
    known: Any = frame.side_data  # described as a dictionary, by which nothing can be looked up
    data = next((data for data in known if data.type.name == "DISPLAYMATRIX"), None)
    if data is None or data.buffer_size < 36:
        return False, False, False
    # Rows (a b u), (c d v): x becomes a·x + c·y, and y becomes b·x + d·y, with y downwards.
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(memoryview(data))[:36])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def show_frame(frame: DecodedFrame, shape: tuple[int, int]) -> Pixels:
    """Return a decoded frame as it is shown, `[height, width, 3]`; `shape` is its width and height then."""
    display = display_of(frame)
    width, height = shape[::-1] if display.swapped else shape
    if display.interlaced:
        frame = _first_field(frame)
    if display.hdr:
        deep = frame.reformat(
            width=width, height=height, format="rgb48le", src_colorspace=_matrix_of(frame), interpolation="AREA"
        )
        pixels: Pixels = _tone_map(deep.to_ndarray().astype(np.float32) / np.float32(65535), frame)
    else:
        plain = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        pixels = plain.to_ndarray().astype(np.uint8, copy=False)
    if display.swapped:
        pixels = pixels.transpose(1, 0, 2)
    if display.mirrored:
        pixels = pixels[:, ::-1]
    if display.flipped:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _first_field(frame: DecodedFrame) -> DecodedFrame:
    """Return every second line of a frame: all its lines that were filmed at one time."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    field, sink = graph.add("field", "top"), graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    source.push(frame)
    half = cast("DecodedFrame", sink.pull())
    half.colorspace, half.color_range = frame.colorspace, frame.color_range
    return half


def _matrix_of(frame: DecodedFrame) -> int | None:
    """Return the matrix by which the frame's colours were coded, as FFmpeg's scaler counts; `None` where it knows."""
    from av.video.reformatter import Colorspace

    return int(Colorspace.BT2020) if int(frame.colorspace) in (2, _BT2020, 10) else None


def _tone_map(signal: Light, frame: DecodedFrame) -> Pixels:
    """Return HDR signals `[height, width, 3]` from 0 to 1 as SDR pixels: white stays white, light above it is bent."""
    light = _decode_pq(signal) if int(frame.color_trc) == _PQ else _decode_hlg(signal)
    if int(frame.color_primaries) in (2, _BT2020):
        light = light @ _TO_BT709.T
    light = light.clip(0, None)
    top = light.max(axis=2, keepdims=True)
    bent = np.where(top <= _KNEE, top, _KNEE + (1 - _KNEE) * (1 - np.exp(-(top - _KNEE) / (1 - _KNEE))))
    linear = (light * (bent / np.maximum(top, 1e-6))).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cast("Pixels", np.rint(encoded * 255).astype(np.uint8))


def _decode_pq(signal: Light) -> Light:
    """Return light of signals in PQ (SMPTE ST 2084), 1 being reference white."""
    powered = np.power(signal, 32 / 2523)
    light = np.maximum(powered - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * powered)
    return (10000 / _REFERENCE_WHITE * np.power(light, 8192 / 1305)).astype(np.float32)


def _decode_hlg(signal: Light) -> Light:
    """Return light of signals in HLG (ARIB STD-B67) on a screen of 1,000 cd/m², 1 being reference white."""
    bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    scene = np.where(signal <= 0.5, signal**2 / 3, bright)
    weights = np.array([0.2627, 0.6780, 0.0593], np.float32)
    luminance = np.maximum(scene @ weights, 1e-6)[..., None]
    return (1000 / _REFERENCE_WHITE * scene * luminance**0.2).astype(np.float32)
