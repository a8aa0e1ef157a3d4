"""Pixels of any depth, stored in any range of 16 bits: what is in them can be seen, and a note says so."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.media.images import open_image

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)


@given(
    low=st.integers(0, 60_000),
    span=st.integers(16, 16_000),
    kind=st.sampled_from(("PNG", "TIFF")),
    hot=st.booleans(),
)
def test_a_narrow_range_of_grey_is_stretched(low: int, span: int, kind: str, hot: bool) -> None:
    low = min(low, 65_535 - span)
    values = np.rint(low + RAMP * span).astype(np.uint16)
    if hot:
        values[20, 30], values[21, 31] = 0, 65_535
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    picture = open_image(file.getvalue())
    seen = np.asarray(picture.image, float)[..., 0]
    error = np.abs(seen - 255 * RAMP)
    assert np.median(error) < 255 / span + 3
    assert picture.note.startswith("stretched from ")


@given(top=st.integers(20_000, 65_535))
def test_a_wide_range_of_grey_is_left_alone(top: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.rint(RAMP * top).astype(np.uint16)).save(file, "PNG")
    picture = open_image(file.getvalue())
    assert picture.note == ""
    np.testing.assert_allclose(np.asarray(picture.image)[..., 0], RAMP * top / 257, atol=1)


@given(bits=st.integers(9, 14), alpha=st.booleans())
def test_colours_of_few_bits_in_sixteen_are_stretched_without_steps(bits: int, alpha: bool) -> None:
    import av

    values = np.rint(np.stack((RAMP, RAMP[::-1], RAMP[:, ::-1], np.ones_like(RAMP)), -1) * (2**bits - 1))
    values[..., 3] = 65_535
    pixels = np.ascontiguousarray(values[..., : 4 if alpha else 3].astype(np.uint16))
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba64le" if alpha else "rgb48le")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "rgba64be" if alpha else "rgb48be", 1  # type: ignore[assignment]
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()])
    picture = open_image(data)
    assert picture.note.startswith("stretched from ")
    seen = np.asarray(picture.image, float)[..., 0]
    assert np.abs(seen - 255 * RAMP).mean() < 2
    assert len(np.unique(seen)) > 200
